//! Random configurations: twenty interfaces in four namespaces, with neighbours and routes on them.
//!
//! Owns what values a configuration is drawn from. No two of them contradict each other, so that the end does not depend on the
//! way to it. Must never use a value of the agent: it speaks JSON. Start reading at [`item`].

use std::collections::BTreeMap;

use proptest::prelude::*;
use serde_json::{Value as Json, json};

use super::world::Desired;
use crate::{
    kernel::NetnsId,
    simulation::kernel::{Kernel, OWN},
};

/// The own namespace, one that somebody made, one that only the agent makes, and that of a process.
pub const PLACES: usize = 4;
/// Name of the namespace that somebody else made.
pub const FOREIGN_NAME: &str = "red";
/// Name of the namespace that the agent makes.
pub const CREATED_NAME: &str = "blue";
/// The process with a namespace of its own.
pub const PID: i32 = 100;

const PAIRS: usize = 5;
const DUMMIES: usize = 4;
const VRFS: usize = 3;
/// Interfaces in all.
pub const INTERFACES: usize = 2 * PAIRS + DUMMIES + VRFS + 3;
/// The interfaces that routes and neighbours are on.
const CARRIERS: [usize; 5] = [0, 1, 4, 10, 12];
/// Values in all.
pub const SLOTS: usize = INTERFACES + 2 * CARRIERS.len() + 3 * CARRIERS.len();

#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Kind {
    Veth(String),
    Dummy,
    Vrf(u32),
    Loopback,
}

#[derive(Clone, Debug)]
pub struct Interface {
    pub name: String,
    pub kind: Kind,
    pub place: usize,
    pub host: String,
    pub enabled: bool,
    pub mtu: u32,
    pub mac: Option<u8>,
    pub vrf: Option<String>,
    pub addresses: Vec<String>,
}

#[derive(Clone, Debug)]
pub struct Arp {
    pub interface: String,
    pub address: String,
    pub mac: u8,
}

#[derive(Clone, Debug)]
pub struct Route {
    pub interface: String,
    pub destination: String,
    pub gateway: Option<String>,
    pub scope: &'static str,
    pub metric: u32,
}

#[derive(Clone, Debug)]
pub enum Item {
    Interface(Interface),
    Arp(Arp),
    Route(Route),
}

/// The values by slot.
pub type Configuration = BTreeMap<usize, Item>;

pub fn mac_text(last: u8) -> String {
    format!("02:00:00:00:00:{last:02x}")
}

/// Key of an interface.
pub fn interface_key(name: &str) -> String {
    format!("linux/interfaces/v2/interface/{name}")
}

impl Item {
    pub fn key(&self) -> String {
        match self {
            Item::Interface(interface) => interface_key(&interface.name),
            Item::Arp(arp) => format!("linux/l3/v2/arp/{}/{}", arp.interface, arp.address),
            Item::Route(route) => format!("linux/l3/v2/route/{}/{}", route.destination, route.interface),
        }
    }

    pub fn json(&self) -> Json {
        match self {
            Item::Interface(interface) => interface.json(),
            Item::Arp(arp) => json!({"interface": arp.interface, "ip_address": arp.address, "hw_address": mac_text(arp.mac)}),
            Item::Route(route) => {
                let gateway = route.gateway.clone().unwrap_or_default();
                json!({"outgoing_interface": route.interface, "dst_network": route.destination, "gw_addr": gateway,
                    "scope": route.scope, "metric": route.metric})
            }
        }
    }
}

impl Interface {
    fn json(&self) -> Json {
        let mut json = json!({"name": self.name, "host_if_name": self.host, "enabled": self.enabled, "mtu": self.mtu,
            "ip_addresses": self.addresses});
        match &self.kind {
            Kind::Veth(peer) => (json["type"], json["veth"]) = ("VETH".into(), json!({"peer_if_name": peer})),
            Kind::Vrf(table) => (json["type"], json["vrf_dev"]) = ("VRF_DEVICE".into(), json!({"routing_table": table})),
            Kind::Dummy => json["type"] = "DUMMY".into(),
            Kind::Loopback => json["type"] = "LOOPBACK".into(),
        }
        match self.place {
            0 => {}
            1 => json["namespace"] = json!({"type": "NSID", "reference": FOREIGN_NAME}),
            2 => json["namespace"] = json!({"type": "NSID", "reference": CREATED_NAME}),
            _ => json["namespace"] = json!({"type": "PID", "reference": PID.to_string()}),
        }
        if let Some(mac) = self.mac {
            json["phys_address"] = mac_text(mac).into();
        }
        if let Some(vrf) = &self.vrf {
            json["vrf_master_interface"] = vrf.clone().into();
        }
        json
    }
}

/// The machine before the agent comes.
pub fn machine() -> Kernel {
    let mut kernel = Kernel::new();
    kernel.add_named(FOREIGN_NAME);
    kernel.start_process(PID);
    kernel
}

/// The namespace of a place, if it exists.
pub fn netns_of(kernel: &Kernel, place: usize) -> Option<NetnsId> {
    match place {
        0 => Some(OWN),
        1 => kernel.names.get(FOREIGN_NAME).copied(),
        2 => kernel.names.get(CREATED_NAME).copied(),
        _ => kernel.processes.get(&PID).map(|process| process.netns),
    }
}

fn name(slot: usize) -> String {
    match slot {
        _ if slot < 2 * PAIRS => format!("w{}{}", slot / 2, if slot.is_multiple_of(2) { "a" } else { "b" }),
        _ if slot < 2 * PAIRS + DUMMIES => format!("d{}", slot - 2 * PAIRS),
        _ if slot < 2 * PAIRS + DUMMIES + VRFS => format!("v{}", slot - 2 * PAIRS - DUMMIES),
        _ => format!("l{}", slot - 2 * PAIRS - DUMMIES - VRFS),
    }
}

/// A value of an interface slot.
fn interface(slot: usize) -> impl Strategy<Value = Item> {
    let pool = [
        format!("10.{slot}.0.1/24"),
        format!("10.{slot}.0.2/24"),
        format!("10.{slot}.1.1/24"),
        format!("fd00:a{slot}::1/64"),
        format!("192.168.{slot}.1"),
    ];
    let addresses = prop::sample::subsequence(pool.to_vec(), 0..=3);
    let vrf = prop::option::weighted(0.3, 0..VRFS);
    let mtu = prop::sample::select(vec![0u32, 0, 1400, 9000]);
    let mac = prop::option::weighted(0.4, 0..3u8);
    (0..PLACES, any::<bool>(), prop::bool::weighted(0.8), mtu, mac, vrf, addresses).prop_map(
        move |(place, variant, enabled, mtu, mac, vrf, addresses)| {
            let name = name(slot);
            let kind = match name.as_bytes()[0] {
                b'w' => Kind::Veth(self::name(slot ^ 1)),
                b'd' => Kind::Dummy,
                b'v' => Kind::Vrf(100 + slot as u32),
                _ => Kind::Loopback,
            };
            let plain = matches!(kind, Kind::Veth(_) | Kind::Dummy);
            Item::Interface(Interface {
                host: match kind {
                    Kind::Loopback => "lo".to_owned(),
                    _ => format!("{}{name}", if variant { "x" } else { "y" }),
                },
                // Few namespaces, so that members often meet their VRF; one loopback in each, so that none contradicts another.
                place: if kind == Kind::Loopback { slot % PLACES } else { place },
                name,
                kind,
                enabled,
                mtu,
                mac: mac.filter(|_| plain).map(|mac| 16 * slot as u8 / 2 + mac),
                vrf: vrf.filter(|_| plain).map(|vrf| self::name(2 * PAIRS + DUMMIES + vrf)),
                addresses,
            })
        },
    )
}

fn arp(number: usize) -> impl Strategy<Value = Item> {
    let slot = CARRIERS[number / 2];
    let address = if number.is_multiple_of(2) {
        format!("10.{slot}.0.50")
    } else {
        format!("fd00:a{slot}::50")
    };
    (0..3u8).prop_map(move |mac| {
        Item::Arp(Arp {
            interface: name(slot),
            address: address.clone(),
            mac: 200 + mac,
        })
    })
}

fn route(number: usize) -> impl Strategy<Value = Item> {
    let slot = CARRIERS[number / 3];
    let (destination, choices) = match number % 3 {
        0 => (format!("172.16.{slot}.0/24"), vec![(None, "LINK"), (None, "HOST")]),
        1 => {
            let gateways = [format!("10.{slot}.0.254"), format!("10.{slot}.1.254"), format!("172.16.{slot}.9")];
            (
                format!("20.{slot}.0.0/16"),
                gateways.into_iter().map(|gateway| (Some(gateway), "GLOBAL")).collect(),
            )
        }
        _ => (
            format!("fd01:a{slot}::/48"),
            vec![(Some(format!("fd00:a{slot}::fe")), "GLOBAL"), (None, "LINK"), (None, "GLOBAL")],
        ),
    };
    let metrics = vec![0u32, 0, 5, 1024];
    (prop::sample::select(choices), prop::sample::select(metrics)).prop_map(move |((gateway, scope), metric)| {
        Item::Route(Route {
            interface: name(slot),
            destination: destination.clone(),
            gateway,
            scope,
            metric,
        })
    })
}

/// A value for a slot.
pub fn item(slot: usize) -> BoxedStrategy<Item> {
    let arps = INTERFACES + 2 * CARRIERS.len();
    match slot {
        _ if slot < INTERFACES => interface(slot).boxed(),
        _ if slot < arps => arp(slot - INTERFACES).boxed(),
        _ => route(slot - arps).boxed(),
    }
}

/// A configuration in which about three of four slots are used.
pub fn configuration() -> impl Strategy<Value = Configuration> {
    let slots: Vec<_> = (0..SLOTS).map(|slot| prop::option::weighted(0.75, item(slot))).collect();
    slots.prop_map(|items| {
        items
            .into_iter()
            .enumerate()
            .filter_map(|(slot, item)| Some((slot, item?)))
            .collect()
    })
}

/// As the agent reads it from the store.
pub fn desired(configuration: &Configuration) -> Desired {
    configuration.values().map(|item| (item.key(), item.json())).collect()
}
