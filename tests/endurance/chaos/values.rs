//! Values that the chaos test puts: a random value for each key, chosen so that it contradicts no other value.
//!
//! Contains the catalogue of keys and the current desired values. See [`Catalogue`].

use std::collections::BTreeMap;

use testbed::{random::Random, values};

use super::places::{Kind as PlaceKind, Places};
use crate::support::config::{Arp, Interface, Kind, Reference, Route, interface_key};

/// A key under which the test puts values. The numbers in a slot determine the names and addresses in its values, so values of
/// different slots do not conflict.
#[derive(Clone, Copy, Debug)]
pub enum Slot {
    /// One end (0 or 1) of a veth pair.
    End {
        /// Number of the veth pair.
        pair: usize,
        /// Number of the end: 0 or 1.
        side: usize,
        /// Index (in `Places::all`) of the namespace in which this end usually is.
        home: usize,
    },
    /// A DUMMY interface.
    Dummy {
        /// Number of the DUMMY.
        number: usize,
        /// Index (in `Places::all`) of the namespace in which the DUMMY usually is.
        home: usize,
    },
    /// The link `lo` of a namespace.
    Loopback {
        /// Index of the namespace (in `Places::all`).
        home: usize,
    },
    /// A route whose interface is an end of a veth pair.
    Route {
        /// Number of the route.
        number: usize,
        /// Number of the veth pair.
        pair: usize,
        /// Number of the end: 0 or 1.
        side: usize,
    },
    /// An ARP entry whose interface is an end of a veth pair.
    Arp {
        /// Number of the entry.
        number: usize,
        /// Number of the veth pair.
        pair: usize,
        /// Number of the end: 0 or 1.
        side: usize,
    },
    /// A key whose value is always invalid.
    Garbage {
        /// Number of the key.
        number: usize,
    },
}

/// A valid or invalid value that the test puts under a key.
#[derive(Clone, PartialEq, Debug)]
pub enum Value {
    /// An interface.
    Interface(Interface),
    /// A route.
    Route(Route),
    /// An ARP entry.
    Arp(Arp),
    /// Invalid bytes, and the previous value. The kernel can still contain the objects of the previous value.
    Garbage(Vec<u8>, Option<Box<Value>>),
}

impl Value {
    /// Returns the bytes to put.
    pub fn bytes(&self) -> Vec<u8> {
        match self {
            Value::Garbage(bytes, _) => bytes.clone(),
            usable => usable.meaning("").json().to_string().into_bytes(),
        }
    }

    /// Converts the value to the type from which the expected state is computed. Invalid bytes become an unusable value
    /// under `key`.
    pub fn meaning(&self, key: &str) -> values::Value {
        match self {
            Value::Interface(interface) => values::Value::Interface(interface.clone()),
            Value::Route(route) => values::Value::Route(route.clone()),
            Value::Arp(arp) => values::Value::Arp(arp.clone()),
            Value::Garbage(..) => values::Value::Unusable(key.to_owned()),
        }
    }
}

/// The value that was put last under a key.
#[derive(Clone, Debug)]
pub struct Wanted {
    pub value: Value,
    /// Store revision at which the value was put.
    pub revision: i64,
}

/// All keys under which the test may put values, and the current desired values.
pub struct Catalogue {
    /// Every key under which the test may put a value.
    pub slots: Vec<Slot>,
    /// Desired values by key (after `config/`).
    pub wanted: BTreeMap<String, Wanted>,
}

fn end_name(pair: usize, side: usize) -> String {
    format!("p{pair}{}", ["a", "b"][side])
}

/// Returns an address in the subnet of a veth pair. `block` selects one of several separate address ranges.
fn address(block: usize, pair: usize, host: usize) -> String {
    format!("10.{}.{}.{host}", block + pair / 256, pair % 256)
}

/// Returns an IPv6 address in the subnet of a veth pair. The second group is the pair number plus 1, because iproute2 would omit
/// a zero.
fn address6(pair: usize, host: usize) -> String {
    format!("fd00:{:x}::{host}", pair + 1)
}

impl Slot {
    /// Returns the key of the slot, relative to the `config/` prefix.
    pub fn key(&self) -> String {
        match *self {
            Slot::End { pair, side, .. } => interface_key(&end_name(pair, side)),
            Slot::Dummy { number, .. } => interface_key(&format!("d{number}")),
            Slot::Loopback { home } => interface_key(&format!("lo{home}")),
            Slot::Route { number, pair, side } => route(number, pair, side).key(),
            Slot::Arp { number, pair, side } => arp(number, pair, side).key(),
            Slot::Garbage { number } => interface_key(&format!("garbage{number}")),
        }
    }

    /// Returns true if garbage may be put under this key, because no other value depends on the value of this key.
    pub fn is_leaf(&self) -> bool {
        matches!(self, Slot::Route { .. } | Slot::Arp { .. } | Slot::Garbage { .. })
    }

    /// Returns a random valid value. If `plain` is true, the interface is up, in its usual namespace, and has exactly its usual
    /// addresses.
    pub fn draw(&self, random: &mut Random, places: &Places, plain: bool) -> Value {
        let place = |random: &mut Random, home: usize| {
            let away = !plain && percent(random, 15);
            places.all[if away { random.below(places.all.len()) } else { home }].reference()
        };
        match *self {
            Slot::End { pair, side, home } => {
                let netns = place(random, home);
                Value::Interface(end(random, pair, side, netns, plain))
            }
            Slot::Dummy { number, home } => {
                let netns = place(random, home);
                let mut dummy = Interface::new(&format!("d{number}"), Kind::Dummy, netns);
                vary(random, &mut dummy, plain);
                dummy.addresses.push(format!("{}/32", address(100, number, 1)));
                Value::Interface(dummy)
            }
            Slot::Loopback { home } => {
                let mut loopback = Interface::new(&format!("lo{home}"), Kind::Loopback, places.all[home].reference());
                loopback.addresses.push(format!("{}/32", address(200, home, 1)));
                if !plain && percent(random, 50) {
                    loopback.addresses.push(format!("fd02:{home:x}::1/128"));
                }
                Value::Interface(loopback)
            }
            Slot::Route { number, pair, side } => {
                let mut route = route(number, pair, side);
                if !plain {
                    route.metric = *random.choose(&[0, 0, 5, 100]);
                }
                Value::Route(route)
            }
            Slot::Arp { number, pair, side } => {
                let mut arp = arp(number, pair, side);
                if !plain {
                    arp.mac = format!("02:bb:00:00:00:{:02x}", random.below(256));
                }
                Value::Arp(arp)
            }
            Slot::Garbage { .. } => Value::Garbage(garbage(random), None),
        }
    }
}

fn percent(random: &mut Random, percent: usize) -> bool {
    random.below(100) < percent
}

fn end(random: &mut Random, pair: usize, side: usize, netns: Reference, plain: bool) -> Interface {
    let (name, host) = (end_name(pair, side), side + 1);
    let mut end = Interface::veth(&name, &end_name(pair, 1 - side), netns).host_name(&format!("e{name}"));
    vary(random, &mut end, plain);
    if plain || percent(random, 90) {
        end.addresses.push(format!("{}/24", address(0, pair, host)));
    }
    if pair.is_multiple_of(3) && (plain || percent(random, 90)) {
        end.addresses.push(format!("{}/64", address6(pair, host)));
    }
    if !plain && percent(random, 30) {
        end.addresses.push(format!("{}/24", address(50, pair, host)));
    }
    if !plain && percent(random, 40) {
        end.mac = format!("02:{:02x}:{:02x}:{side:02x}:00:{:02x}", pair / 256, pair % 256, random.below(3));
    }
    end
}

/// Randomly changes the settings that all kinds of interfaces have, unless `plain` is true.
fn vary(random: &mut Random, interface: &mut Interface, plain: bool) {
    if plain {
        return;
    }
    if percent(random, 20) {
        interface.host_name = format!("x{}", interface.name);
    }
    interface.mtu = *random.choose(&[0, 0, 1400, 9000, 1280]);
    interface.enabled = percent(random, 90);
}

fn route(number: usize, pair: usize, side: usize) -> Route {
    let interface = end_name(pair, side);
    // Use an address that neither end has. Both ends may be in one namespace, and the kernel rejects a local address as a
    // gateway.
    let gateway_host = 9;
    match number % 5 {
        4 => Route::new(&interface, &format!("{}/24", address(150, number, 0)), ""),
        3 if pair.is_multiple_of(3) => Route::new(&interface, &format!("fd01:{:x}::/48", number + 1), &address6(pair, gateway_host)),
        _ => Route::new(
            &interface,
            &format!("{}/24", address(150, number, 0)),
            &address(0, pair, gateway_host),
        ),
    }
}

fn arp(number: usize, pair: usize, side: usize) -> Arp {
    let mac = format!("02:aa:00:00:{:02x}:{:02x}", number / 256, number % 256);
    Arp::new(&end_name(pair, side), &address(0, pair, 100 + number % 100), &mac)
}

/// Returns bytes that are not a valid value.
pub fn garbage(random: &mut Random) -> Vec<u8> {
    match random.below(6) {
        0 => b"{".to_vec(),
        1 => Vec::new(),
        2 => (0..40).map(|_| (random.bits() & 0xff) as u8 | 0x80).collect(),
        3 => br#"{"name":7,"type":"VETH"}"#.to_vec(),
        4 => br#"{"interface":"","no_such_member":true}"#.to_vec(),
        _ => vec![b'['; 4096],
    }
}

impl Catalogue {
    /// Creates a catalogue with one and a half veth pairs per namespace, one route per end, one ARP entry per pair, and a few
    /// dummies and loopbacks.
    pub fn make(random: &mut Random, places: &Places) -> Self {
        let count = places.all.len();
        let pairs = count + count / 2;
        let mut slots = Vec::new();
        for pair in 0..pairs {
            // Give each namespace except the agent's own at least one end.
            let first = 1 + pair % (count - 1);
            let second = (first + 1 + random.below(count - 1)) % count;
            for (side, home) in [(0, first), (1, second)] {
                slots.push(Slot::End { pair, side, home });
                slots.push(Slot::Route {
                    number: 2 * pair + side,
                    pair,
                    side,
                });
            }
            let (number, side) = (pair, random.below(2));
            slots.push(Slot::Arp { number, pair, side });
        }
        for number in 0..count / 10 {
            let home = random.below(count);
            slots.push(Slot::Dummy { number, home });
            slots.push(Slot::Garbage { number });
        }
        // Only one value may configure a given `lo`, so choose only namespaces with a single reference. Exclude the agent's own
        // namespace, because the store needs its `lo`.
        let has_lo = |kind: &PlaceKind| !matches!(kind, PlaceKind::Own | PlaceKind::File { .. });
        slots.extend(places.which(has_lo).into_iter().step_by(7).map(|home| Slot::Loopback { home }));
        Self {
            slots,
            wanted: BTreeMap::new(),
        }
    }

    /// Returns the interface that is currently desired under the key of this slot, or `None` if there is none.
    pub fn interface(&self, slot: &Slot) -> Option<&Interface> {
        match self.wanted.get(&slot.key()) {
            Some(Wanted {
                value: Value::Interface(interface),
                ..
            }) => Some(interface),
            _ => None,
        }
    }

    /// Gives an interface a different kernel name if another interface already has its kernel name.
    pub fn with_free_name(&self, slot: &Slot, value: Value) -> Value {
        let Value::Interface(mut interface) = value else { return value };
        let is_taken = |name: &String| {
            let others = self.slots.iter().filter(|other| other.key() != slot.key());
            others
                .filter_map(|other| self.interface(other))
                .any(|other| other.host_name == *name)
        };
        // Other interfaces never have all three of these names at once, so at least one of the names is free.
        if interface.kind != Kind::Loopback && is_taken(&interface.host_name) {
            let names = ["e", "x", "z"].map(|first| format!("{first}{}", &interface.name));
            interface.host_name = names.into_iter().find(|name| !is_taken(name)).unwrap_or(interface.host_name);
        }
        Value::Interface(interface)
    }

    /// Returns the slots whose interfaces are currently desired in this namespace.
    pub fn in_place(&self, reference: &Reference) -> Vec<Slot> {
        let is_there = |slot: &&Slot| self.interface(slot).is_some_and(|interface| interface.netns == *reference);
        self.slots.iter().filter(is_there).copied().collect()
    }
}
