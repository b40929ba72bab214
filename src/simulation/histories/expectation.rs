//! What a configuration must lead to, computed naively: from the contract alone, in one pass, without any history.
//!
//! Owns the test's own idea of the rules. Must never call the agent's code, so that an error there is not repeated here. Start
//! reading at [`expected`] and [`actual`].

use std::{
    collections::{BTreeMap, BTreeSet},
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
};

use super::configuration::{Arp, Configuration, Interface, Item, Kind, PLACES, Route, mac_text, netns_of};
use crate::{
    kernel::{LinkState, PROTOCOL, Snapshot},
    simulation::kernel::Kernel,
};

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
    links: BTreeMap<String, Link>,
    addresses: BTreeSet<(String, IpAddr, u8)>,
    neighbours: BTreeSet<(String, IpAddr, String)>,
    routes: BTreeSet<(String, String, Option<IpAddr>, u32, u8, u32)>,
}

/// By place; a place without a namespace is missing.
pub type State = BTreeMap<usize, Space>;

fn parse(text: &str) -> (IpAddr, u8) {
    let (address, length) = text.split_once('/').unwrap_or((text, ""));
    let address: IpAddr = address.parse().expect("an address");
    (address, length.parse().unwrap_or(if address.is_ipv4() { 32 } else { 128 }))
}

fn network((address, length): (IpAddr, u8)) -> (IpAddr, u8) {
    let cut = |bits: u32| u128::MAX.checked_shl(bits).unwrap_or(0);
    let address = match address {
        IpAddr::V4(address) => IpAddr::from(Ipv4Addr::from_bits(address.to_bits() & cut(32 - u32::from(length)) as u32)),
        IpAddr::V6(address) => IpAddr::from(Ipv6Addr::from_bits(address.to_bits() & cut(128 - u32::from(length)))),
    };
    (address, length)
}

fn covers(text: &str, gateway: IpAddr) -> bool {
    let (address, length) = parse(text);
    address.is_ipv4() == gateway.is_ipv4() && network((address, length)) == network((gateway, length))
}

struct Rules<'a> {
    interfaces: BTreeMap<&'a str, &'a Interface>,
    routes: Vec<&'a Route>,
}

impl<'a> Rules<'a> {
    fn alive(&self, name: &str) -> Option<&'a Interface> {
        let interface = *self.interfaces.get(name)?;
        match &interface.kind {
            Kind::Veth(peer) => self.interfaces.contains_key(peer.as_str()).then_some(interface),
            _ => Some(interface),
        }
    }

    /// The VRF that an interface is really in: it takes only links of its own namespace.
    fn vrf_of(&self, interface: &Interface) -> Option<&'a Interface> {
        self.alive(interface.vrf.as_deref()?).filter(|vrf| vrf.place == interface.place)
    }

    fn addresses(&self, interface: &'a Interface) -> &'a [String] {
        match interface.vrf.is_some() && self.vrf_of(interface).is_none() {
            true => &[],
            false => &interface.addresses,
        }
    }

    /// An interface that neighbours and routes can be on.
    fn usable(&self, name: &str) -> Option<&'a Interface> {
        self.alive(name)
            .filter(|interface| interface.enabled && !self.addresses(interface).is_empty())
    }

    fn reachable(&self, route: &Route, interface: &'a Interface) -> bool {
        let Some(gateway) = &route.gateway else { return true };
        let gateway: IpAddr = gateway.parse().expect("a gateway");
        let mut links = self
            .routes
            .iter()
            .filter(|other| other.interface == route.interface && other.scope == "LINK");
        self.addresses(interface).iter().any(|address| covers(address, gateway)) || links.any(|other| covers(&other.destination, gateway))
    }

    fn table(&self, interface: &Interface) -> u32 {
        match self.vrf_of(interface).map(|vrf| &vrf.kind) {
            Some(Kind::Vrf(table)) => *table,
            _ => 254,
        }
    }

    fn link(&self, interface: &Interface) -> Link {
        let (mark, kind, default) = match &interface.kind {
            Kind::Veth(peer) => (format!("{}/{peer}", interface.name), "veth", Some(1500)),
            Kind::Dummy => (interface.name.clone(), "dummy", Some(1500)),
            Kind::Vrf(_) => (interface.name.clone(), "vrf", None),
            Kind::Loopback => (interface.name.clone(), "", Some(65536)),
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

    fn arp(&self, arp: &Arp, state: &mut State) {
        if let Some(interface) = self.usable(&arp.interface) {
            let space = state.entry(interface.place).or_default();
            space
                .neighbours
                .insert((interface.host.clone(), parse(&arp.address).0, mac_text(arp.mac)));
        }
    }

    fn route(&self, route: &Route, state: &mut State) {
        let Some(interface) = self.usable(&route.interface).filter(|interface| self.reachable(route, interface)) else {
            return;
        };
        let (to, length) = network(parse(&route.destination));
        let scope = match route.scope {
            _ if to.is_ipv6() => 0,
            "LINK" => 253,
            "HOST" => 254,
            _ => 0,
        };
        let metric = if to.is_ipv6() && route.metric == 0 { 1024 } else { route.metric };
        let gateway = route.gateway.as_ref().map(|gateway| gateway.parse().expect("a gateway"));
        let space = state.entry(interface.place).or_default();
        space.routes.insert((
            interface.host.clone(),
            format!("{to}/{length}"),
            gateway,
            self.table(interface),
            scope,
            metric,
        ));
    }
}

/// What a machine must look like in the end.
pub fn expected(configuration: &Configuration) -> State {
    let mut rules = Rules {
        interfaces: BTreeMap::new(),
        routes: Vec::new(),
    };
    for item in configuration.values() {
        match item {
            Item::Interface(interface) => drop(rules.interfaces.insert(&interface.name, interface)),
            Item::Route(route) => rules.routes.push(route),
            Item::Arp(_) => {}
        }
    }
    // The namespace that the agent makes is there as long as somebody names it; the others always.
    let mut state: State = [0, 1, 3].map(|place| (place, Space::default())).into();
    for item in configuration.values() {
        match item {
            Item::Interface(interface) => {
                let space = state.entry(interface.place).or_default();
                if rules.alive(&interface.name).is_some() {
                    space.links.insert(interface.host.clone(), rules.link(interface));
                    let on_link = rules
                        .addresses(interface)
                        .iter()
                        .map(|text| (interface.host.clone(), parse(text).0, parse(text).1));
                    space.addresses.extend(on_link);
                }
            }
            Item::Arp(arp) => rules.arp(arp, &mut state),
            Item::Route(route) => rules.route(route, &mut state),
        }
    }
    state
}

fn show_mac(mac: [u8; 6]) -> String {
    mac.map(|byte| format!("{byte:02x}")).join(":")
}

fn link_of(link: &LinkState, snapshot: &Snapshot, wanted: Option<&Link>) -> Link {
    let name_of = |index: u32| {
        snapshot
            .links
            .iter()
            .find(|other| other.index == index)
            .map(|other| other.name.clone())
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

/// Whether a link is neither the agent's nor something that the agent left half-done.
fn is_foreign(link: &LinkState) -> bool {
    let subject = link.alias.strip_prefix(PREFIX).map(|rest| rest.trim_end_matches("//netns"));
    link.name.starts_with("foreign") || (link.name == "lo" && subject.is_none_or(str::is_empty))
}

/// What of the agent's is on the machine, as far as `expected` has an opinion.
pub fn actual(kernel: &Kernel, expected: &State) -> State {
    let mut state = State::new();
    for (place, netns) in (0..PLACES).filter_map(|place| Some((place, netns_of(kernel, place)?))) {
        let snapshot = &kernel.spaces[&netns];
        let space = state.entry(place).or_default();
        for link in snapshot.links.iter().filter(|link| !is_foreign(link)) {
            let wanted = expected.get(&place).and_then(|space| space.links.get(&link.name));
            space.links.insert(link.name.clone(), link_of(link, snapshot, wanted));
        }
        let name_of = |index: u32| {
            snapshot
                .links
                .iter()
                .find(|link| link.index == index)
                .map(|link| link.name.clone())
                .expect("a link")
        };
        let of_agent = |link: u32, protocol: u8| protocol == PROTOCOL && !name_of(link).starts_with("foreign");
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
    }
    state
}
