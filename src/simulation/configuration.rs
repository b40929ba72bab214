//! Random desired values for the simulated store: interfaces in six namespaces, with neighbours and routes on them.
//!
//! Two values conflict only if they are EXISTING interfaces on the same link or VLANs with the same id. Without conflicts, the
//! result does not depend on the order of changes. The values are written as JSON, without the agent's types.

use std::collections::BTreeMap;

use testbed::values::{self, Port, PortVlan, Reference, Value};
pub use testbed::values::{arp_key, interface_key, route_key};

use super::random::Random;

/// Number of places. A place is a number that stands for a namespace reference.
///
/// The first five places stand for different namespaces. The sixth also stands for the foreign namespace, but refers to it by the
/// path of the namespace file.
pub const PLACES: usize = 6;
/// Number that stands for the agent's own namespace.
pub const OWN_PLACE: usize = 0;
/// Number that stands for the foreign namespace.
pub const FOREIGN_PLACE: usize = 1;
/// Number that stands for the namespace that the agent creates.
pub const CREATED_PLACE: usize = 2;
/// Number that stands for the namespace of the process [`PID`].
pub const PROCESS_PLACE: usize = 3;
/// Number that stands for the namespace of the container with the label [`LABEL`].
pub const CONTAINER_PLACE: usize = 4;
/// Number that stands for the namespace file [`FILE`].
pub const FILE_PLACE: usize = 5;
/// Name of the foreign namespace.
pub const FOREIGN_NAME: &str = "red";
/// Name of the namespace that the agent creates.
pub const CREATED_NAME: &str = "blue";
/// Path of a namespace file that refers to the foreign namespace.
pub const FILE: &str = "/run/netns/red";
/// PID of the process that has its own namespace.
pub const PID: i32 = 100;
/// Foreign links in the agent's own namespace, for EXISTING interfaces.
pub const NICS: [&str; 3] = ["nic0", "nic1", TAP];
/// Foreign link that is a persistent TAP, which has no carrier until a program opens it.
pub const TAP: &str = "tap0";
/// Foreign VRF device in the agent's own namespace.
pub const TENANT: &str = "tenant0";
/// Name of the EXISTING interface for the foreign VRF device.
pub const TENANT_INTERFACE: &str = "t0";
/// Routing tables between which the foreign VRF device alternates.
pub const TENANT_TABLES: [u32; 2] = [30, 31];
/// Address that users add to a foreign link.
pub const NIC_ADDRESS: &str = "10.5.5.1/24";
/// Microservice label of the containers.
pub const LABEL: &str = "web";

/// Returns true if this link in the agent's own namespace is a foreign link for EXISTING interfaces.
pub fn is_nic(name: &str) -> bool {
    name == TENANT || NICS.contains(&name)
}

/// Values that a configuration can contain. Each value has a number, which is called its slot. The interfaces come first,
/// followed by two neighbours and three routes for each interface in `carriers`.
pub struct Inventory {
    /// Interface names. The first letter determines the kind: `w` for an end of a veth pair (two consecutive names form a pair),
    /// `d` for a dummy, `v` for a VRF, `l` for a `lo`, `b` for a bridge, `n` for a VLAN, `e` for an EXISTING link, and `t` for an
    /// EXISTING VRF device.
    pub names: &'static [&'static str],
    /// Indexes (in `names`) of the interfaces that can have neighbours and routes.
    pub carriers: &'static [usize],
    /// Interfaces that always stay in the same namespace. Each element contains the index in `names` and the number that stands
    /// for the namespace.
    pub settled: &'static [(usize, usize)],
    /// Indexes (in `names`) of the interfaces that are never in a VRF.
    pub without_vrf: &'static [usize],
}

/// Kind of an interface.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Kind {
    /// One end of a veth pair, with the name of the other end.
    Veth(&'static str),
    /// A dummy interface.
    Dummy,
    /// A VRF device with its routing table.
    Vrf(u32),
    /// The `lo` of the namespace.
    Loopback,
    /// A bridge.
    Bridge {
        /// True if the spanning tree protocol is on.
        stp: bool,
        /// Ageing time in seconds, or 0 if unset.
        ageing: u32,
        /// True if VLAN filtering is on.
        filtering: bool,
    },
    /// A VLAN.
    Vlan {
        /// Name of the parent interface.
        parent: &'static str,
        /// VLAN id.
        id: u16,
        /// True for loose binding: the VLAN can be up while its parent is down.
        loose: bool,
    },
    /// A foreign link in the agent's own namespace.
    Existing {
        /// True if users, and not the agent, add the addresses.
        link_only: bool,
    },
}

/// A desired interface.
#[derive(Clone, PartialEq, Debug)]
pub struct Interface {
    /// Logical name, which is also in the key.
    pub name: &'static str,
    /// Kind of the interface, with the settings that are specific to the kind.
    pub kind: Kind,
    /// Number that stands for the namespace of the interface (see [`PLACES`]).
    pub place: usize,
    /// Name of the link in the kernel.
    pub host: String,
    /// True if the interface should be up.
    pub enabled: bool,
    /// MTU in bytes, or 0 for the default.
    pub mtu: u32,
    /// Last byte of the MAC address, or `None` if the value does not set it.
    pub mac: Option<u8>,
    /// Name of the VRF device that the interface belongs to.
    pub vrf: Option<&'static str>,
    /// Name of the bridge that the interface is a port of, and true if the port is isolated. `None` if the interface is not a
    /// bridge port.
    pub bridge: Option<(&'static str, bool)>,
    /// VLANs of the bridge port, or of the bridge itself.
    pub vlans: Vec<PortVlan>,
    /// Addresses with their prefix lengths.
    pub addresses: Vec<String>,
}

/// A desired neighbour.
#[derive(Clone, PartialEq, Debug)]
pub struct Arp {
    /// Name of the interface.
    pub interface: &'static str,
    /// IP address of the neighbour.
    pub address: String,
    /// Last byte of the neighbour's MAC address.
    pub mac: u8,
    /// True if the agent is allowed to adopt a foreign entry for the same address.
    pub adopt: bool,
}

/// A desired route.
#[derive(Clone, PartialEq, Debug)]
pub struct Route {
    /// Name of the outgoing interface.
    pub interface: &'static str,
    /// Destination network with its prefix length.
    pub destination: String,
    /// Address of the gateway; `None` for a route without a gateway.
    pub gateway: Option<String>,
    /// Name of the route's scope, as written in values, such as `LINK`.
    pub scope: &'static str,
    /// Metric, or 0 if unset.
    pub metric: u32,
    /// True if the agent is allowed to adopt a foreign route to the same destination.
    pub adopt: bool,
}

/// A desired value of any kind.
#[derive(Clone, PartialEq, Debug)]
pub enum Item {
    /// An interface.
    Interface(Interface),
    /// A neighbour.
    Arp(Arp),
    /// A route.
    Route(Route),
    /// An invalid value, stored under this key.
    Unusable(String),
}

/// Desired values by key.
pub type Configuration = BTreeMap<String, Item>;

/// Formats a MAC address that ends with this byte.
pub fn mac_text(last: u8) -> String {
    format!("02:00:00:00:00:{last:02x}")
}

/// Returns the namespace reference that a number stands for (see [`PLACES`]), in the form that values use.
pub fn reference(place: usize) -> Reference {
    match place {
        OWN_PLACE => Reference::Own,
        FOREIGN_PLACE => Reference::named(FOREIGN_NAME),
        CREATED_PLACE => Reference::named(CREATED_NAME),
        PROCESS_PLACE => Reference::Pid(PID),
        CONTAINER_PLACE => Reference::Microservice(LABEL.to_owned()),
        _ => Reference::File(FILE.to_owned()),
    }
}

impl Item {
    /// Returns the key of the value, relative to the agent's `config/` prefix.
    pub fn key(&self) -> String {
        match self {
            Item::Interface(Interface { name, .. }) => interface_key(name),
            Item::Unusable(key) => key.clone(),
            Item::Arp(arp) => arp_key(arp.interface, &arp.address),
            Item::Route(route) => route_key(&route.destination, route.interface),
        }
    }

    /// Converts the value to the test oracle's type.
    pub fn value(&self) -> Value {
        match self {
            Item::Interface(interface) => Value::Interface(interface.value()),
            Item::Unusable(key) => Value::Unusable(key.clone()),
            Item::Arp(arp) => Value::Arp(values::Arp {
                adopt: arp.adopt,
                ..values::Arp::new(arp.interface, &arp.address, &mac_text(arp.mac))
            }),
            Item::Route(route) => Value::Route(values::Route {
                scope: route.scope,
                metric: route.metric,
                adopt: route.adopt,
                ..values::Route::new(route.interface, &route.destination, route.gateway.as_deref().unwrap_or_default())
            }),
        }
    }

    /// Returns the value as JSON, which is the format of values in the store.
    pub fn json(&self) -> String {
        self.value().json().to_string()
    }
}

impl Interface {
    /// Creates an interface that is up, without other settings.
    pub fn plain(name: &'static str, kind: Kind, place: usize) -> Self {
        let host = if kind == Kind::Loopback { "lo" } else { name };
        Interface {
            name,
            kind,
            place,
            host: host.to_owned(),
            enabled: true,
            mtu: 0,
            mac: None,
            vrf: None,
            bridge: None,
            vlans: Vec::new(),
            addresses: Vec::new(),
        }
    }

    /// Converts the interface to the test oracle's type.
    pub fn value(&self) -> values::Interface {
        let kind = match self.kind {
            Kind::Veth(peer) => values::Kind::Veth(peer.to_owned()),
            Kind::Dummy => values::Kind::Dummy,
            Kind::Vrf(table) => values::Kind::Vrf(table),
            Kind::Loopback => values::Kind::Loopback,
            Kind::Bridge { stp, ageing, filtering } => values::Kind::Bridge { stp, ageing, filtering },
            Kind::Vlan { parent, id, loose } => values::Kind::Vlan {
                parent: parent.to_owned(),
                id,
                loose,
            },
            Kind::Existing { .. } => values::Kind::Existing,
        };
        values::Interface {
            host_name: self.host.clone(),
            enabled: self.enabled,
            addresses: self.addresses.clone(),
            link_only: self.kind == Kind::Existing { link_only: true },
            detects_duplicates: true,
            mtu: self.mtu,
            mac: self.mac.map(mac_text).unwrap_or_default(),
            vrf: self.vrf.unwrap_or_default().to_owned(),
            port: self.bridge.map(|(bridge, isolated)| Port {
                bridge: bridge.to_owned(),
                isolated,
            }),
            vlans: self.vlans.clone(),
            ..values::Interface::new(self.name, kind, reference(self.place))
        }
    }
}

/// Generates a random EXISTING interface. Because there are only a few foreign links, two interfaces often refer to the same
/// link.
fn existing(name: &'static str, slot: usize, random: &mut Random) -> Interface {
    let link_only = random.percent(30);
    let pool = [
        format!("10.{slot}.0.1/24"),
        format!("10.{slot}.0.2/24"),
        format!("fd00:a{slot}::1/64"),
        "10.5.6.1/24".to_owned(),
        // The routes on all EXISTING interfaces can use a gateway in this subnet.
        format!("10.5.7.{slot}/24"),
    ];
    let mut chosen: Vec<String> = pool.into_iter().filter(|_| random.percent(40)).collect();
    if random.percent(30) {
        chosen.reverse();
    }
    // Most interfaces set no MTU and no MAC address. A few have settings that conflict with each other.
    let odd = random.below(16);
    Interface {
        mtu: match odd {
            0 => 1400,
            1 => 9000,
            _ => 0,
        },
        mac: [2, 3].contains(&odd).then_some(if odd == 2 { 250 } else { 251 }),
        enabled: odd != 4,
        addresses: if link_only { vec![NIC_ADDRESS.to_owned()] } else { chosen },
        host: random.pick(&[NICS[0], NICS[0], NICS[0], NICS[1], TAP, TAP]).to_owned(),
        ..Interface::plain(name, Kind::Existing { link_only }, OWN_PLACE)
    }
}

/// Generates the EXISTING interface that refers to the foreign VRF device, with random addresses.
fn tenant(name: &'static str, slot: usize, random: &mut Random) -> Interface {
    let pool = [format!("10.{slot}.0.1/24"), format!("10.{slot}.0.2/24")];
    Interface {
        addresses: pool.into_iter().filter(|_| random.percent(20)).collect(),
        host: TENANT.to_owned(),
        ..Interface::plain(name, Kind::Existing { link_only: false }, OWN_PLACE)
    }
}

/// Generates random VLANs for a bridge port or bridge. At most one of them is the PVID.
fn vlans(random: &mut Random) -> Vec<PortVlan> {
    let pvid = random.pick(&[0, 10, 20]);
    let vids = [10, 20, 30].into_iter().filter(|_| random.percent(40)).collect::<Vec<u16>>();
    let vlan = |vid| PortVlan {
        vid,
        pvid: vid == pvid,
        untagged: random.percent(50),
    };
    vids.into_iter().map(vlan).collect()
}

impl Inventory {
    /// Returns the number of interfaces.
    pub const fn interfaces(&self) -> usize {
        self.names.len()
    }

    /// Returns the number of values that a configuration can contain.
    pub const fn slots(&self) -> usize {
        self.names.len() + 5 * self.carriers.len()
    }

    fn vrfs(&self) -> Vec<&'static str> {
        self.names.iter().copied().filter(|name| name.starts_with('v')).collect()
    }

    /// Returns the key of the value with the number `slot`.
    pub fn key(&self, slot: usize) -> String {
        if slot < self.interfaces() {
            return interface_key(self.names[slot]);
        }
        // The seed does not matter, because the key of a value does not depend on random numbers.
        self.item(slot, &[OWN_PLACE], &mut Random::new(0)).key()
    }

    /// Generates a random version of the value with the number `slot`. The namespace of an interface is one of `places`,
    /// unless `settled` contains the interface.
    pub fn item(&self, slot: usize, places: &[usize], random: &mut Random) -> Item {
        if slot < self.interfaces() {
            return Item::Interface(self.interface(slot, places, random));
        }
        let (carrier, part) = (self.carriers[(slot - self.interfaces()) / 5], (slot - self.interfaces()) % 5);
        match part {
            0 | 1 => Item::Arp(Arp {
                interface: self.names[carrier],
                address: if part == 0 {
                    format!("10.{carrier}.0.50")
                } else {
                    format!("fd00:a{carrier}::50")
                },
                mac: 200 + random.pick(&[0, 1, 2]),
                // `adopt` is not random. Tampering replaces only entries with values that allow adoption, so a foreign entry
                // never blocks a value.
                adopt: part == 1,
            }),
            _ => Item::Route(self.route(carrier, part, random)),
        }
    }

    fn interface(&self, slot: usize, places: &[usize], random: &mut Random) -> Interface {
        let (name, vrfs) = (self.names[slot], self.vrfs());
        if name.starts_with('e') {
            return existing(name, slot, random);
        }
        if name.starts_with('t') {
            return tenant(name, slot, random);
        }
        let kind = match name.as_bytes()[0] {
            b'w' => Kind::Veth(self.names[slot ^ 1]),
            b'd' => Kind::Dummy,
            b'v' => Kind::Vrf((100..).zip(&vrfs).find(|(_, vrf)| **vrf == name).map_or(0, |(table, _)| table)),
            b'b' => Kind::Bridge {
                stp: random.percent(50),
                ageing: random.pick(&[0, 0, 60, 120]),
                filtering: random.percent(70),
            },
            b'n' => Kind::Vlan {
                parent: random.pick(&["w0a", "w1b", "d0"]),
                // Every VLAN can get the id 7, so that two VLANs sometimes conflict.
                id: random.pick(&[7, 10 * u16::try_from(slot).unwrap_or(0), 10 * u16::try_from(slot).unwrap_or(0) + 1]),
                loose: random.percent(50),
            },
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
        let in_vrf = plain && !self.without_vrf.contains(&slot) && !places.contains(&FILE_PLACE);
        let vrf = (in_vrf && random.percent(25)).then(|| random.pick(&vrfs));
        let bridges: Vec<&'static str> = self.names.iter().copied().filter(|name| name.starts_with('b')).collect();
        let last = u8::try_from(16 * slot).unwrap_or(0);
        let mut addresses: Vec<String> = pool.into_iter().filter(|_| random.percent(40)).take(3).collect();
        // The order matters: the first address of a subnet is its primary address.
        if random.percent(30) {
            addresses.reverse();
        }
        let bridge =
            (in_vrf && vrf.is_none() && !bridges.is_empty() && random.percent(25)).then(|| (random.pick(&bridges), random.percent(50)));
        let has_vlans = bridge.is_some() || matches!(kind, Kind::Bridge { .. });
        Interface {
            host: match kind {
                Kind::Loopback => "lo".to_owned(),
                _ => format!("{}{name}", random.pick(&["x", "y"])),
            },
            place: match self.settled.iter().find(|(settled, _)| *settled == slot) {
                Some((_, place)) => *place,
                None => match random.pick(places) {
                    // Open issue: VRF devices and bridges refer to the foreign namespace only by its name, and never by the path
                    // of its file.
                    FILE_PLACE if matches!(kind, Kind::Vrf(_) | Kind::Bridge { .. }) => FOREIGN_PLACE,
                    place => place,
                },
            },
            name,
            enabled: random.percent(80),
            mtu: match kind {
                // The MTU of a bridge depends on its ports, and the MTU of a VLAN depends on its parent.
                Kind::Bridge { .. } | Kind::Vlan { .. } => 0,
                _ => random.pick(&[0, 0, 1400, 9000]),
            },
            mac: (plain && random.percent(40)).then(|| last + random.pick(&[0, 1, 2])),
            vrf,
            bridge,
            vlans: if has_vlans { vlans(random) } else { Vec::new() },
            addresses,
            kind,
        }
    }

    fn route(&self, carrier: usize, part: usize, random: &mut Random) -> Route {
        let metric = random.pick(&[0, 0, 5, 1024]);
        // The gateway of a route on an EXISTING interface can be in the subnet of the address that users add, or in the subnet of
        // an address of another EXISTING interface.
        let of_link = if self.names[carrier].starts_with('e') {
            random.pick(&[None, None, Some("10.5.5.254"), Some("10.5.7.254")])
        } else {
            None
        };
        let (destination, gateway, scope) = match part {
            2 => (format!("172.16.{carrier}.0/24"), None, random.pick(&["LINK", "HOST"])),
            3 => {
                let gateway = match random.below(3) {
                    _ if let Some(gateway) = of_link => gateway.to_owned(),
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
            interface: self.names[carrier],
            destination,
            gateway,
            scope,
            metric,
            adopt: part == 2,
        }
    }
}
