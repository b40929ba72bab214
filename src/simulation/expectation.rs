//! What a configuration must lead to, computed naively: from the contract alone, in one pass, without any history.
//!
//! Owns the simulation's own idea of the rules. Must never call the agent's code, so that an error there is not repeated here.
//! Start reading at [`expected`] and [`actual`].

use std::{
    collections::{BTreeMap, BTreeSet},
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
};

use super::{
    configuration::{Configuration, INVALID, Interface, Item, Kind, Route, VRF, mac_text, name},
    kernel::Kernel,
};
use crate::kernel::{LinkState, NetnsId, PROTOCOL, Snapshot};

const PREFIX: &str = "/vnf-agent/vpp1/";

/// A link; `None` where nothing was asked for.
#[derive(Clone, PartialEq, Debug)]
pub struct Link {
    mark: String,
    kind: &'static str,
    up: bool,
    mtu: Option<u32>,
    mac: Option<String>,
    master: Option<String>,
    table: Option<u32>,
    group: u32,
}

/// What of the agent's is in a namespace.
#[derive(Clone, PartialEq, Default, Debug)]
pub struct Space {
    /// By host name.
    pub links: BTreeMap<String, Link>,
    addresses: BTreeSet<(String, IpAddr, u8)>,
    neighbours: BTreeSet<(String, IpAddr, String)>,
    routes: BTreeSet<(String, String, Option<IpAddr>, u32, u8, u32)>,
}

/// By namespace; one that holds nothing of the agent's is missing.
pub type State = BTreeMap<NetnsId, Space>;

/// State of a value, as far as the contract says it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Verdict {
    /// CONFIGURED.
    Configured,
    /// PENDING.
    Pending,
    /// INVALID.
    Invalid,
    /// Anything but CONFIGURED: something foreign is in the way.
    Blocked,
}

/// What the world is like where the configuration does not decide.
pub struct Surroundings<'a> {
    /// Where a place is; `None`: nowhere.
    pub places: &'a [Option<NetnsId>],
    /// Slots of interfaces whose host names are taken by others.
    pub blocked: &'a BTreeSet<usize>,
}

fn parse(text: &str) -> (IpAddr, u8) {
    let (address, length) = text.split_once('/').unwrap_or((text, ""));
    let address: IpAddr = address.parse().expect("an address");
    (address, length.parse().unwrap_or(if address.is_ipv4() { 32 } else { 128 }))
}

fn network((address, length): (IpAddr, u8)) -> (IpAddr, u8) {
    let address = match address {
        IpAddr::V4(address) => {
            let mask = u32::MAX.checked_shl(32 - u32::from(length)).unwrap_or(0);
            IpAddr::from(Ipv4Addr::from_bits(address.to_bits() & mask))
        }
        IpAddr::V6(address) => {
            let mask = u128::MAX.checked_shl(128 - u32::from(length)).unwrap_or(0);
            IpAddr::from(Ipv6Addr::from_bits(address.to_bits() & mask))
        }
    };
    (address, length)
}

fn covers(text: &str, gateway: IpAddr) -> bool {
    let (address, length) = parse(text);
    address.is_ipv4() == gateway.is_ipv4() && network((address, length)) == network((gateway, length))
}

struct Rules<'a> {
    configuration: &'a Configuration,
    surroundings: &'a Surroundings<'a>,
}

impl<'a> Rules<'a> {
    fn interface(&self, slot: usize) -> Option<&'a Interface> {
        match self.configuration.get(&slot) {
            Some(Item::Interface(interface)) => Some(interface),
            _ => None,
        }
    }

    fn netns(&self, interface: &Interface) -> Option<NetnsId> {
        self.surroundings.places[interface.place]
    }

    /// What an interface needs of itself.
    fn possible(&self, slot: usize) -> Option<&'a Interface> {
        self.interface(slot)
            .filter(|interface| self.netns(interface).is_some() && !self.surroundings.blocked.contains(&slot))
    }

    fn alive(&self, slot: usize) -> Option<&'a Interface> {
        let interface = self.possible(slot)?;
        match interface.kind {
            Kind::Veth(peer) => self.possible(peer).map(|_| interface),
            _ => Some(interface),
        }
    }

    /// The VRF that an interface is really in: it takes only links of its own namespace.
    fn vrf_of(&self, interface: &Interface) -> Option<&'a Interface> {
        let vrf = self.alive(VRF).filter(|_| interface.vrf)?;
        (self.netns(vrf) == self.netns(interface)).then_some(vrf)
    }

    fn addresses(&self, interface: &'a Interface) -> &'a [String] {
        match interface.vrf && self.vrf_of(interface).is_none() {
            true => &[],
            false => &interface.addresses,
        }
    }

    /// An interface that neighbours and routes can be on.
    fn usable(&self, slot: usize) -> Option<&'a Interface> {
        self.alive(slot)
            .filter(|interface| interface.enabled && !self.addresses(interface).is_empty())
    }

    fn reachable(&self, route: &Route, interface: &'a Interface) -> bool {
        let Some(gateway) = &route.gateway else { return true };
        let gateway: IpAddr = gateway.parse().expect("a gateway");
        let on_link = |item: &Item| match item {
            Item::Route(other) => other.interface == route.interface && other.scope == "LINK" && covers(&other.destination, gateway),
            _ => false,
        };
        self.addresses(interface).iter().any(|address| covers(address, gateway)) || self.configuration.values().any(on_link)
    }

    fn link(&self, interface: &Interface) -> Link {
        let (mark, kind, default) = match interface.kind {
            Kind::Veth(peer) => (format!("{}/{}", interface.name, name(peer)), "veth", Some(1500)),
            Kind::Dummy => (interface.name.to_owned(), "dummy", Some(1500)),
            Kind::Vrf(_) => (interface.name.to_owned(), "vrf", None),
            Kind::Loopback => (interface.name.to_owned(), "", Some(65536)),
        };
        Link {
            mark,
            kind,
            up: interface.enabled,
            mtu: if interface.mtu == 0 { default } else { Some(interface.mtu) },
            mac: interface.mac.map(mac_text),
            master: self.vrf_of(interface).map(|vrf| vrf.host.clone()),
            table: if let Kind::Vrf(table) = interface.kind { Some(table) } else { None },
            group: 0,
        }
    }

    fn usable_route(&self, route: &Route) -> Option<&'a Interface> {
        self.usable(route.interface).filter(|interface| self.reachable(route, interface))
    }

    fn route(&self, route: &Route, interface: &'a Interface, space: &mut Space) {
        let (to, length) = network(parse(&route.destination));
        let scope = match route.scope {
            _ if to.is_ipv6() => 0,
            "LINK" => 253,
            "HOST" => 254,
            _ => 0,
        };
        let metric = if to.is_ipv6() && route.metric == 0 { 1024 } else { route.metric };
        let gateway = route.gateway.as_ref().map(|gateway| gateway.parse().expect("a gateway"));
        let table = match self.vrf_of(interface).map(|vrf| &vrf.kind) {
            Some(Kind::Vrf(table)) => *table,
            _ => 254,
        };
        space
            .routes
            .insert((interface.host.clone(), format!("{to}/{length}"), gateway, table, scope, metric));
    }

    fn verdict(&self, slot: usize, item: &Item) -> Verdict {
        let known = |found: bool| if found { Verdict::Configured } else { Verdict::Pending };
        match item {
            Item::Unusable(_) => Verdict::Invalid,
            Item::Arp(arp) => known(self.usable(arp.interface).is_some()),
            Item::Route(route) => known(self.usable_route(route).is_some()),
            Item::Interface(interface) => {
                if self.surroundings.blocked.contains(&slot) && self.netns(interface).is_some() {
                    return Verdict::Blocked;
                }
                if let Kind::Veth(peer) = interface.kind
                    && self.surroundings.blocked.contains(&peer)
                    && self.interface(peer).is_some()
                {
                    return Verdict::Blocked;
                }
                if self.alive(slot).is_none() {
                    return Verdict::Pending;
                }
                if interface.vrf && self.vrf_of(interface).is_none() {
                    // A VRF elsewhere is a mistake, a missing one may still come.
                    return if self.alive(VRF).is_some() {
                        Verdict::Invalid
                    } else {
                        Verdict::Pending
                    };
                }
                Verdict::Configured
            }
        }
    }
}

/// What a machine must look like in the end, and what is to be said of each value.
pub fn expected(configuration: &Configuration, surroundings: &Surroundings<'_>) -> (State, BTreeMap<usize, Verdict>) {
    let rules = Rules {
        configuration,
        surroundings,
    };
    let mut state = State::new();
    let mut space_of = |interface: &Interface, fill: &mut dyn FnMut(&mut Space)| {
        if let Some(netns) = rules.netns(interface) {
            fill(state.entry(netns).or_default());
        }
    };
    for (slot, item) in configuration {
        match item {
            Item::Interface(_) => {
                let Some(interface) = rules.alive(*slot) else { continue };
                space_of(interface, &mut |space| {
                    space.links.insert(interface.host.clone(), rules.link(interface));
                    let on_link = rules
                        .addresses(interface)
                        .iter()
                        .map(|text| (interface.host.clone(), parse(text).0, parse(text).1));
                    space.addresses.extend(on_link);
                });
            }
            Item::Arp(arp) => {
                let Some(interface) = rules.usable(arp.interface) else { continue };
                space_of(interface, &mut |space| {
                    space
                        .neighbours
                        .insert((interface.host.clone(), parse(&arp.address).0, mac_text(arp.mac)));
                });
            }
            Item::Route(route) => {
                let Some(interface) = rules.usable_route(route) else { continue };
                space_of(interface, &mut |space| rules.route(route, interface, space));
            }
            Item::Unusable(_) => {}
        }
    }
    let verdicts = configuration.iter().map(|(slot, item)| (*slot, rules.verdict(*slot, item)));
    let verdicts = verdicts.collect();
    (state, verdicts)
}

fn show_mac(mac: [u8; 6]) -> String {
    mac.map(|byte| format!("{byte:02x}")).join(":")
}

fn link_of(link: &LinkState, snapshot: &Snapshot, wanted: Option<&Link>) -> Link {
    let name_of = |index: u32| {
        let mut links = snapshot.links.iter();
        links.find(|other| other.index == index).map(|other| other.name.clone())
    };
    let kinds = ["veth", "dummy", "vrf"];
    Link {
        mark: link
            .alias
            .strip_prefix(PREFIX)
            .unwrap_or(&link.alias)
            .trim_end_matches("//netns")
            .to_owned(),
        kind: kinds.into_iter().find(|kind| *kind == link.kind).unwrap_or_default(),
        up: link.up,
        mtu: wanted.is_none_or(|wanted| wanted.mtu.is_some()).then_some(link.mtu),
        mac: link.mac.filter(|_| wanted.is_none_or(|wanted| wanted.mac.is_some())).map(show_mac),
        master: link.master.and_then(name_of),
        table: link.vrf_table,
        group: link.group,
    }
}

/// Whether a link is neither the agent's nor something that the agent left half-done. What an unusable value stands for may be
/// there or not: its last usable version stays.
fn is_ignored(link: &LinkState, unusable: bool) -> bool {
    let subject = link.alias.strip_prefix(PREFIX).map(|rest| rest.trim_end_matches("//netns"));
    let squatter = link.name.starts_with("foreign") || link.alias == "squatter";
    squatter || (link.name == "lo" && subject.is_none_or(str::is_empty)) || (unusable && subject == Some(name(INVALID)))
}

/// What of the agent's is on the machine, as far as `expected` has an opinion.
pub fn actual(kernel: &Kernel, expected: &State, configuration: &Configuration) -> State {
    let unusable = matches!(configuration.get(&INVALID), Some(Item::Unusable(_)));
    let mut state = State::new();
    for (netns, snapshot) in &kernel.spaces {
        let mut space = Space::default();
        let ignored: BTreeSet<u32> = snapshot
            .links
            .iter()
            .filter(|link| is_ignored(link, unusable))
            .map(|link| link.index)
            .collect();
        let name_of = |index: u32| {
            let mut links = snapshot.links.iter();
            links
                .find(|link| link.index == index)
                .map_or(String::new(), |link| link.name.clone())
        };
        for link in snapshot.links.iter().filter(|link| !ignored.contains(&link.index)) {
            let wanted = expected.get(netns).and_then(|space| space.links.get(&link.name));
            space.links.insert(link.name.clone(), link_of(link, snapshot, wanted));
        }
        let is_foreign = |link: u32| name_of(link).starts_with("foreign");
        let of_agent =
            |link: u32, protocol: u8| protocol == PROTOCOL && (!ignored.contains(&link) || name_of(link) == "lo") && !is_foreign(link);
        for state in snapshot.addresses.iter().filter(|state| of_agent(state.link, state.protocol)) {
            space
                .addresses
                .insert((name_of(state.link), state.address.address, state.address.prefix_len));
        }
        for state in snapshot.neighbours.iter().filter(|state| of_agent(state.link, state.protocol)) {
            space.neighbours.insert((name_of(state.link), state.address, show_mac(state.mac)));
        }
        for state in snapshot.routes.iter().filter(|state| of_agent(state.link, state.protocol)) {
            let route = &state.route;
            let to = format!("{}/{}", route.destination, route.prefix_len);
            space
                .routes
                .insert((name_of(state.link), to, route.gateway, route.table, route.scope, route.metric));
        }
        if space != Space::default() {
            state.insert(*netns, space);
        }
    }
    state
}
