//! What users put into the simulated store: a few interfaces in six places, with neighbours and routes on them.
//!
//! Owns what values are drawn from. No two of them contradict each other, so that the end does not depend on the way to it.
//! Must never use a value of the agent: it speaks JSON. Start reading at [`item`].

use std::{collections::BTreeMap, fmt::Write};

use super::random::Random;

/// The own namespace; one that somebody else made; one that only the agent makes; that of a process; that of a container; and
/// the second one once more, by the path of its file.
pub const PLACES: usize = 6;
/// Place of the agent's own namespace.
pub const OWN_PLACE: usize = 0;
/// Place of the process.
pub const PROCESS_PLACE: usize = 3;
/// Place of the container.
pub const CONTAINER_PLACE: usize = 4;
/// Name of the namespace that somebody else made.
pub const FOREIGN_NAME: &str = "red";
/// Name of the namespace that the agent makes.
pub const CREATED_NAME: &str = "blue";
/// Path of a namespace file.
pub const FILE: &str = "/run/netns/red";
/// The process with a namespace of its own.
pub const PID: i32 = 100;
/// Label of the containers.
pub const LABEL: &str = "web";
/// The slot that keeps the process referred to, in worlds where its number is given away.
pub const KEEPER: usize = 5;
/// The slot that is sometimes put with a value that cannot be used.
pub const INVALID: usize = 7;

const INTERFACE_NAMES: [&str; 9] = ["w0a", "w0b", "w1a", "w1b", "d0", "d1", "v0", "d2", "l0"];
/// Interfaces in all.
pub const INTERFACES: usize = INTERFACE_NAMES.len();
/// The interfaces that routes and neighbours are on.
const CARRIERS: [usize; 2] = [0, 4];
/// Values in all: on each carrier two neighbours and three routes.
pub const SLOTS: usize = INTERFACES + 5 * CARRIERS.len();

/// Kind of an interface.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Kind {
    /// With the slot of the other end.
    Veth(usize),
    /// A dummy.
    Dummy,
    /// With its table.
    Vrf(u32),
    /// `lo`.
    Loopback,
}

/// An interface.
#[derive(Clone, PartialEq, Debug)]
pub struct Interface {
    /// Logical name.
    pub name: &'static str,
    /// Kind.
    pub kind: Kind,
    /// Where it is.
    pub place: usize,
    /// Host name.
    pub host: String,
    /// Whether it is to be up.
    pub enabled: bool,
    /// 0: the default.
    pub mtu: u32,
    /// Last byte of the MAC address.
    pub mac: Option<u8>,
    /// In the VRF of slot 6.
    pub vrf: bool,
    /// With their prefix lengths.
    pub addresses: Vec<String>,
}

/// A neighbour.
#[derive(Clone, PartialEq, Debug)]
pub struct Arp {
    /// Slot of the interface.
    pub interface: usize,
    /// Address.
    pub address: String,
    /// Last byte of its MAC address.
    pub mac: u8,
}

/// A route.
#[derive(Clone, PartialEq, Debug)]
pub struct Route {
    /// Slot of the interface.
    pub interface: usize,
    /// Destination.
    pub destination: String,
    /// Gateway.
    pub gateway: Option<String>,
    /// Scope, as the model names it.
    pub scope: &'static str,
    /// Metric.
    pub metric: u32,
}

/// A value.
#[derive(Clone, PartialEq, Debug)]
pub enum Item {
    /// An interface.
    Interface(Interface),
    /// A neighbour.
    Arp(Arp),
    /// A route.
    Route(Route),
    /// Something that cannot be used, under the key of an interface.
    Unusable(usize),
}

/// The values by slot.
pub type Configuration = BTreeMap<usize, Item>;

/// Slot of the VRF.
pub const VRF: usize = 6;

/// Name of an interface slot.
pub fn name(slot: usize) -> &'static str {
    INTERFACE_NAMES[slot]
}

/// A MAC address as text.
pub fn mac_text(last: u8) -> String {
    format!("02:00:00:00:00:{last:02x}")
}

impl Item {
    /// Key below the agent's `config/`.
    pub fn key(&self) -> String {
        match self {
            Item::Interface(Interface { name, .. }) => format!("linux/interfaces/v2/interface/{name}"),
            Item::Unusable(slot) => format!("linux/interfaces/v2/interface/{}", name(*slot)),
            Item::Arp(arp) => format!("linux/l3/v2/arp/{}/{}", name(arp.interface), arp.address),
            Item::Route(route) => format!("linux/l3/v2/route/{}/{}", route.destination, name(route.interface)),
        }
    }

    /// The value as it is put.
    pub fn json(&self) -> String {
        match self {
            Item::Interface(interface) => interface.json(),
            Item::Unusable(slot) => format!(r#"{{"name":"{}","type":"DUMMY","mtu":"many"}}"#, name(*slot)),
            Item::Arp(arp) => format!(
                r#"{{"interface":"{}","ip_address":"{}","hw_address":"{}"}}"#,
                name(arp.interface),
                arp.address,
                mac_text(arp.mac)
            ),
            Item::Route(route) => format!(
                r#"{{"outgoing_interface":"{}","dst_network":"{}","gw_addr":"{}","scope":"{}","metric":{}}}"#,
                name(route.interface),
                route.destination,
                route.gateway.as_deref().unwrap_or_default(),
                route.scope,
                route.metric
            ),
        }
    }
}

impl Interface {
    fn json(&self) -> String {
        let mut json = format!(
            r#"{{"name":"{}","host_if_name":"{}","enabled":{},"mtu":{}"#,
            self.name, self.host, self.enabled, self.mtu
        );
        if !self.addresses.is_empty() {
            let _ = write!(json, r#","ip_addresses":["{}"]"#, self.addresses.join("\",\""));
        }
        let _ = match &self.kind {
            Kind::Veth(peer) => write!(json, r#","type":"VETH","veth":{{"peer_if_name":"{}"}}"#, name(*peer)),
            Kind::Vrf(table) => write!(json, r#","type":"VRF_DEVICE","vrf_dev":{{"routing_table":{table}}}"#),
            Kind::Dummy => write!(json, r#","type":"DUMMY""#),
            Kind::Loopback => write!(json, r#","type":"LOOPBACK""#),
        };
        let namespace = match self.place {
            0 => None,
            1 => Some(("NSID", FOREIGN_NAME)),
            2 => Some(("NSID", CREATED_NAME)),
            PROCESS_PLACE => Some(("PID", "100")),
            CONTAINER_PLACE => Some(("MICROSERVICE", LABEL)),
            _ => Some(("FD", FILE)),
        };
        if let Some((kind, reference)) = namespace {
            let _ = write!(json, r#","namespace":{{"type":"{kind}","reference":"{reference}"}}"#);
        }
        if let Some(mac) = self.mac {
            let _ = write!(json, r#","phys_address":"{}""#, mac_text(mac));
        }
        if self.vrf {
            let _ = write!(json, r#","vrf_master_interface":"{}""#, name(VRF));
        }
        json.push('}');
        json
    }
}

/// A value for a slot. `places` are those that interfaces are put into.
pub fn item(slot: usize, places: &[usize], random: &mut Random) -> Item {
    if slot < INTERFACES {
        return Item::Interface(interface(slot, places, random));
    }
    let (carrier, part) = (CARRIERS[(slot - INTERFACES) / 5], (slot - INTERFACES) % 5);
    match part {
        0 | 1 => Item::Arp(Arp {
            interface: carrier,
            address: if part == 0 {
                format!("10.{carrier}.0.50")
            } else {
                format!("fd00:a{carrier}::50")
            },
            mac: 200 + random.pick(&[0, 1, 2]),
        }),
        _ => Item::Route(route(carrier, part, random)),
    }
}

fn interface(slot: usize, places: &[usize], random: &mut Random) -> Interface {
    let name = name(slot);
    let kind = match name.as_bytes()[0] {
        b'w' => Kind::Veth(slot ^ 1),
        b'd' => Kind::Dummy,
        b'v' => Kind::Vrf(100),
        _ => Kind::Loopback,
    };
    let pool = [
        format!("10.{slot}.0.1/24"),
        format!("10.{slot}.0.2/24"),
        format!("10.{slot}.1.1/24"),
        format!("fd00:a{slot}::1/64"),
        format!("192.168.{slot}.1"),
    ];
    let plain = matches!(kind, Kind::Veth(_) | Kind::Dummy);
    let last = u8::try_from(16 * slot).unwrap_or(0);
    Interface {
        host: match kind {
            Kind::Loopback => "lo".to_owned(),
            _ => format!("{}{name}", random.pick(&["x", "y"])),
        },
        place: match kind {
            // One loopback in one place, so that none contradicts another.
            Kind::Loopback => 2,
            _ if slot == KEEPER => PROCESS_PLACE,
            // VRFs only where the namespace goes by one name: an open finding.
            _ => match random.pick(places) {
                5 if slot == VRF => 1,
                place => place,
            },
        },
        name,
        enabled: random.percent(80),
        mtu: random.pick(&[0, 0, 1400, 9000]),
        mac: (plain && random.percent(40)).then(|| last + random.pick(&[0, 1, 2])),
        vrf: plain && slot != INVALID && !places.contains(&5) && random.percent(25),
        addresses: pool.into_iter().filter(|_| random.percent(40)).take(3).collect(),
        kind,
    }
}

fn route(carrier: usize, part: usize, random: &mut Random) -> Route {
    let metric = random.pick(&[0, 0, 5, 1024]);
    let (destination, gateway, scope) = match part {
        2 => (format!("172.16.{carrier}.0/24"), None, random.pick(&["LINK", "HOST"])),
        3 => {
            let gateway = match random.below(3) {
                0 => format!("10.{carrier}.0.254"),
                1 => format!("10.{carrier}.1.254"),
                _ => format!("172.16.{carrier}.9"),
            };
            (format!("20.{carrier}.0.0/16"), Some(gateway), "GLOBAL")
        }
        _ => {
            let gateway = random.percent(40).then(|| format!("fd00:a{carrier}::fe"));
            let scope = if gateway.is_some() {
                "GLOBAL"
            } else {
                random.pick(&["LINK", "GLOBAL"])
            };
            (format!("fd01:a{carrier}::/48"), gateway, scope)
        }
    };
    Route {
        interface: carrier,
        destination,
        gateway,
        scope,
        metric,
    }
}
