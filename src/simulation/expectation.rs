//! What a configuration must lead to, computed naively: from the contract alone, in one pass, without any history.
//!
//! Owns the simulation's own idea of the rules. Must never call the agent's code, so that an error there is not repeated here.
//! Start reading at [`judge`].

mod nics;

use std::{
    collections::{BTreeMap, BTreeSet},
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
};

use models::proto::ligato::kvscheduler::ValueState;

use super::{
    configuration::{
        Arp, CREATED_NAME, CREATED_PLACE, Configuration, FOREIGN_NAME, FOREIGN_PLACE, Interface, Item, Kind, Route, arp_key, interface_key,
        is_nic, mac_text, route_key,
    },
    kernel::{Kernel, OWN},
};
use netns_kernel::{LinkState, NetnsId, PROTOCOL, Snapshot};

use self::nics::contradict;
pub use self::nics::{Nic, nics};

const PREFIX: &str = "/vnf-agent/vpp1/";
/// Ends the alias of `lo` where the agent made the namespace.
const CREATED: &str = "//netns";
/// Alias of a foreign link that takes a host name.
pub const SQUATTER: &str = "squatter";

/// A link; `None` where nothing was asked for.
#[derive(PartialEq, Debug)]
struct Link {
    mark: String,
    kind: &'static str,
    up: bool,
    mtu: Option<u32>,
    mac: Option<String>,
    master: Option<String>,
    table: Option<u32>,
    /// What else its kind has, as far as something was asked for.
    details: Vec<(u16, Vec<u8>)>,
    /// Of a port of a bridge: whether it is isolated.
    isolated: Option<bool>,
    group: u32,
}

/// What of the agent's is in a namespace.
#[derive(PartialEq, Default, Debug)]
struct Space {
    /// By host name.
    links: BTreeMap<String, Link>,
    addresses: BTreeSet<(String, IpAddr, u8)>,
    /// The primary address of each IPv4 subnet that has several addresses of one interface and no other.
    primary: BTreeSet<(String, IpAddr)>,
    neighbours: BTreeSet<(String, IpAddr, String)>,
    routes: BTreeSet<(String, String, Option<IpAddr>, u32, u8, u32)>,
}

/// By namespace; one that holds nothing of the agent's is missing.
type State = BTreeMap<NetnsId, Space>;

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
    /// CONFIGURED or PENDING: it is on an interface of which an earlier version may still apply.
    Either,
}

impl Verdict {
    /// Whether it is right to publish this state.
    pub fn admits(self, state: ValueState) -> bool {
        match self {
            Verdict::Configured => state == ValueState::Configured,
            Verdict::Pending => state == ValueState::Pending,
            Verdict::Invalid => state == ValueState::Invalid,
            Verdict::Blocked => state != ValueState::Configured,
            Verdict::Either => matches!(state, ValueState::Configured | ValueState::Pending),
        }
    }
}

/// What the world is like where the configuration does not decide.
pub struct Surroundings<'a> {
    /// Where a place is; `None`: nowhere.
    pub places: &'a [Option<NetnsId>],
    /// Names of interfaces whose host names are taken by others.
    pub blocked: &'a BTreeSet<&'static str>,
    /// Foreign links of the own namespace that are up.
    pub nics: BTreeMap<String, Nic>,
    /// What the agent says of each value. It counts only where the history decides which of several values applies.
    pub told: BTreeMap<String, ValueState>,
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
    interfaces: BTreeMap<&'static str, &'a Interface>,
    surroundings: &'a Surroundings<'a>,
    /// EXISTING interfaces that contradict another one on their link and are said to be INVALID. An earlier version may apply.
    refused: BTreeSet<&'static str>,
}

impl<'a> Rules<'a> {
    fn new(configuration: &'a Configuration, surroundings: &'a Surroundings<'a>) -> Self {
        let interfaces = configuration.values().filter_map(|item| match item {
            Item::Interface(interface) => Some((interface.name, interface)),
            _ => None,
        });
        let mut rules = Rules {
            configuration,
            interfaces: interfaces.collect(),
            surroundings,
            refused: BTreeSet::new(),
        };
        let is_invalid = |name: &str| surroundings.told.get(&interface_key(name)) == Some(&ValueState::Invalid);
        let refused = rules
            .conflicts()
            .into_iter()
            .map(|(one, _)| one.name)
            .filter(|name| is_invalid(name));
        rules.refused = refused.collect();
        rules
    }

    /// The EXISTING interfaces on a link.
    fn existing_on(&self, host: &str) -> impl Iterator<Item = &'a Interface> {
        let alive = self.interfaces.keys().filter_map(|name| self.alive(name));
        alive.filter(move |other| matches!(other.kind, Kind::Existing { .. }) && other.host == host)
    }

    /// Each EXISTING interface with each one that it contradicts on its link.
    fn conflicts(&self) -> Vec<(&'a Interface, &'a Interface)> {
        let links = self.surroundings.nics.keys();
        let pairs = links.flat_map(|host| {
            self.existing_on(host)
                .flat_map(|one| self.existing_on(host).map(move |other| (one, other)))
        });
        pairs.filter(|(one, other)| contradict(one, other)).collect()
    }

    /// Of the interfaces on a link as many apply as can at once.
    fn check_conflicts(&self) -> Result<(), String> {
        let conflicts = self.conflicts();
        let applies = |interface: &Interface| !self.refused.contains(interface.name);
        if let Some((one, other)) = conflicts.iter().find(|(one, other)| applies(one) && applies(other)) {
            return Err(format!("{} and {} contradict each other, and both apply", one.name, other.name));
        }
        let has_reason = |name: &&str| conflicts.iter().any(|(one, other)| one.name == *name && applies(other));
        match self.refused.iter().find(|name| !has_reason(name)) {
            Some(name) => Err(format!("{name} is INVALID, but contradicts nothing that applies")),
            None => Ok(()),
        }
    }

    /// Whether a link has an interface of which an earlier version may apply.
    fn has_refused(&self, host: &str) -> bool {
        self.existing_on(host).any(|interface| self.refused.contains(interface.name))
    }

    fn netns(&self, interface: &Interface) -> Option<NetnsId> {
        self.surroundings.places[interface.place]
    }

    /// What an interface needs of itself.
    fn possible(&self, name: &str) -> Option<&'a Interface> {
        let interface = *self.interfaces.get(name)?;
        if matches!(interface.kind, Kind::Existing { .. }) {
            return self.surroundings.nics.contains_key(&interface.host).then_some(interface);
        }
        (self.netns(interface).is_some() && !self.surroundings.blocked.contains(name)).then_some(interface)
    }

    fn alive(&self, name: &str) -> Option<&'a Interface> {
        let interface = self.possible(name)?;
        match interface.kind {
            Kind::Veth(peer) => self.possible(peer).map(|_| interface),
            Kind::Vlan { parent, loose, .. } => self
                .alive(parent)
                .filter(|parent| parent.enabled || loose || !interface.enabled)
                .map(|_| interface),
            Kind::Dummy | Kind::Vrf(_) | Kind::Loopback | Kind::Bridge { .. } | Kind::Existing { .. } => Some(interface),
        }
    }

    /// The bridge that an interface is really a port of: it takes only links of its own namespace.
    fn bridge_of(&self, interface: &Interface) -> Option<&'a Interface> {
        let bridge = self.alive(interface.bridge?.0)?;
        (self.netns(bridge) == self.netns(interface)).then_some(bridge)
    }

    /// The VRF that an interface is really in: it takes only links of its own namespace.
    fn vrf_of(&self, interface: &Interface) -> Option<&'a Interface> {
        let vrf = self.alive(interface.vrf?)?;
        (self.netns(vrf) == self.netns(interface)).then_some(vrf)
    }

    fn addresses(&self, interface: &'a Interface) -> &'a [String] {
        match interface.vrf.is_some() && self.vrf_of(interface).is_none() {
            true => &[],
            false if interface.kind == (Kind::Existing { link_only: true }) && !self.has_expected(interface) => &[],
            false if self.refused.contains(interface.name) => &[],
            false => &interface.addresses,
        }
    }

    /// Whether others have added the address that a link-only interface expects.
    fn has_expected(&self, interface: &Interface) -> bool {
        let there = self.surroundings.nics.get(&interface.host);
        there.is_some_and(|there| interface.addresses.iter().all(|address| there.foreign.contains(address)))
    }

    /// Whether the kernel has not come to an end with an address of an interface on a foreign link.
    fn has_tentative(&self, interface: &Interface) -> bool {
        let nic = self.surroundings.nics.get(&interface.host).filter(|_| interface.enabled);
        let is_existing = matches!(interface.kind, Kind::Existing { .. });
        is_existing && nic.is_some_and(|nic| nic.tentative.iter().any(|address| interface.addresses.contains(address)))
    }

    /// All addresses of a link: those of the interface, and on a foreign link those of other interfaces and of others.
    fn addresses_on_link(&self, interface: &'a Interface) -> Vec<&str> {
        let mut all: Vec<&str> = self.addresses(interface).iter().map(String::as_str).collect();
        if matches!(interface.kind, Kind::Existing { .. }) {
            let beside = self.existing_on(&interface.host);
            all.extend(beside.flat_map(|other| self.addresses(other)).map(String::as_str));
            if let Some(nic) = self.surroundings.nics.get(&interface.host) {
                all.extend(nic.foreign.iter().map(String::as_str));
                let marked = nic.marked.iter().filter(|_| self.has_refused(&interface.host));
                all.extend(marked.map(String::as_str));
            }
        }
        all
    }

    /// An interface that neighbours and routes can be on.
    fn usable(&self, name: &str) -> Option<&'a Interface> {
        self.alive(name)
            .filter(|interface| interface.enabled && !self.addresses_on_link(interface).is_empty())
    }

    fn reachable(&self, route: &Route, interface: &'a Interface) -> bool {
        let Some(gateway) = &route.gateway else { return true };
        let gateway: IpAddr = gateway.parse().expect("a gateway");
        let on_link = |item: &Item| match item {
            Item::Route(other) => other.interface == route.interface && other.scope == "LINK" && covers(&other.destination, gateway),
            _ => false,
        };
        let mut addresses = self.addresses_on_link(interface).into_iter();
        addresses.any(|address| covers(address, gateway)) || self.configuration.values().any(on_link)
    }

    fn link(&self, interface: &Interface) -> Link {
        let (mark, kind, table) = identity(interface);
        let default = match interface.kind {
            Kind::Veth(_) | Kind::Dummy => Some(1500),
            Kind::Loopback => Some(65536),
            Kind::Vrf(_) | Kind::Existing { .. } | Kind::Bridge { .. } | Kind::Vlan { .. } => None,
        };
        let master = self.vrf_of(interface).or(self.bridge_of(interface));
        Link {
            mark,
            kind,
            up: interface.enabled,
            mtu: if interface.mtu == 0 { default } else { Some(interface.mtu) },
            mac: interface.mac.map(mac_text),
            master: master.map(|master| master.host.clone()),
            details: details(interface),
            isolated: self.bridge_of(interface).and(interface.bridge).map(|(_, isolated)| isolated),
            table,
            group: 0,
        }
    }

    fn usable_route(&self, route: &Route) -> Option<&'a Interface> {
        match self.refused.get(route.interface) {
            Some(name) => self.applied_earlier(name, &route_key(&route.destination, name)),
            None => self.usable(route.interface).filter(|interface| self.reachable(route, interface)),
        }
    }

    /// The interface that a neighbour is on, if one is.
    fn usable_arp(&self, arp: &Arp) -> Option<&'a Interface> {
        match self.refused.get(arp.interface) {
            Some(name) => self.applied_earlier(name, &arp_key(name, &arp.address)),
            None => self.usable(arp.interface),
        }
    }

    /// What is on an interface of which an earlier version may apply is there if the agent says so.
    fn applied_earlier(&self, name: &str, key: &str) -> Option<&'a Interface> {
        let is_configured = self.surroundings.told.get(key) == Some(&ValueState::Configured);
        self.alive(name).filter(|_| is_configured)
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
        let table = self.vrf_of(interface).and_then(|vrf| match vrf.kind {
            Kind::Vrf(table) => Some(table),
            _ => self.surroundings.nics.get(&vrf.host)?.table,
        });
        let table = table.unwrap_or(254);
        space
            .routes
            .insert((interface.host.clone(), format!("{to}/{length}"), gateway, table, scope, metric));
    }

    fn verdict(&self, item: &Item) -> Verdict {
        let known = |found: bool| if found { Verdict::Configured } else { Verdict::Pending };
        match item {
            Item::Unusable(_) => Verdict::Invalid,
            Item::Arp(Arp { interface, .. }) | Item::Route(Route { interface, .. }) if self.refused.contains(interface) => Verdict::Either,
            Item::Arp(arp) => known(self.usable_arp(arp).is_some()),
            Item::Route(route) => known(self.usable_route(route).is_some()),
            Item::Interface(interface) => self.verdict_of_interface(interface),
        }
    }

    fn verdict_of_interface(&self, interface: &Interface) -> Verdict {
        let blocked = &self.surroundings.blocked;
        if blocked.contains(interface.name) && self.netns(interface).is_some() {
            return Verdict::Blocked;
        }
        if let Kind::Veth(peer) = interface.kind
            && blocked.contains(peer)
            && self.interfaces.contains_key(peer)
        {
            return Verdict::Blocked;
        }
        if self.alive(interface.name).is_none() {
            return Verdict::Pending;
        }
        if self.refused.contains(interface.name) {
            return Verdict::Invalid;
        }
        if interface.kind == (Kind::Existing { link_only: true }) && !self.has_expected(interface) || self.has_tentative(interface) {
            return Verdict::Pending;
        }
        let bridge = interface.bridge.map(|(bridge, _)| bridge);
        match interface.vrf.or(bridge) {
            // A master elsewhere is a mistake, a missing one may still come.
            Some(master) if self.vrf_of(interface).or(self.bridge_of(interface)).is_none() => match self.alive(master) {
                Some(_) => Verdict::Invalid,
                None => Verdict::Pending,
            },
            _ => Verdict::Configured,
        }
    }

    /// What a machine must look like in the end.
    fn state(&self) -> State {
        let mut state = State::new();
        let mut space_of = |interface: &Interface, fill: &mut dyn FnMut(&mut Space)| {
            if let Some(netns) = self.netns(interface) {
                fill(state.entry(netns).or_default());
            }
        };
        for item in self.configuration.values() {
            match item {
                Item::Interface(interface) => {
                    let Some(interface) = self.alive(interface.name) else { continue };
                    space_of(interface, &mut |space| {
                        let existing = matches!(interface.kind, Kind::Existing { .. });
                        if !existing {
                            space.links.insert(interface.host.clone(), self.link(interface));
                        }
                        if interface.kind == (Kind::Existing { link_only: true }) {
                            return;
                        }
                        let on_link = self
                            .addresses(interface)
                            .iter()
                            .map(|text| (interface.host.clone(), parse(text).0, parse(text).1));
                        space.addresses.extend(on_link);
                        if !existing {
                            let primary = primary(self.addresses(interface));
                            space.primary.extend(primary.map(|address| (interface.host.clone(), address)));
                        }
                    });
                }
                Item::Arp(arp) => {
                    let Some(interface) = self.usable_arp(arp) else { continue };
                    space_of(interface, &mut |space| {
                        space
                            .neighbours
                            .insert((interface.host.clone(), parse(&arp.address).0, mac_text(arp.mac)));
                    });
                }
                Item::Route(route) => {
                    let Some(interface) = self.usable_route(route) else { continue };
                    space_of(interface, &mut |space| self.route(route, interface, space));
                }
                Item::Unusable(_) => {}
            }
        }
        state.retain(|_, space| *space != Space::default());
        state
    }

    /// A namespace that the agent makes is there as long as a value names it, and no longer.
    fn check_namespaces(&self, kernel: &Kernel) -> Result<(), String> {
        let named = [FOREIGN_PLACE, CREATED_PLACE].map(|place| (place, self.surroundings.places[place]));
        let is_wanted = |place: usize| self.interfaces.values().any(|interface| interface.place == place);
        let is_taken = |place: usize| {
            kernel
                .dangling
                .contains(if place == FOREIGN_PLACE { FOREIGN_NAME } else { CREATED_NAME })
        };
        let mut missing = named.iter().filter(|(place, netns)| netns.is_none() && is_wanted(*place));
        if let Some((place, _)) = missing.find(|(place, _)| !is_taken(*place)) {
            return Err(format!("place {place} is wanted, and the agent has not made its namespace"));
        }
        let unusable = unusable(self.configuration);
        let stays = |snapshot: &Snapshot| snapshot.links.iter().any(|link| is_of_any(link, &unusable));
        let made = kernel
            .spaces
            .iter()
            .filter(|(_, snapshot)| is_made_by_agent(snapshot) && !stays(snapshot));
        let mut unwanted = made.filter(|(netns, _)| !named.iter().any(|(place, found)| *found == Some(**netns) && is_wanted(*place)));
        match unwanted.next() {
            Some((netns, _)) => Err(format!("the agent has made {netns}, which nobody wants any more")),
            None => Ok(()),
        }
    }
}

/// Returns whether the agent made a namespace.
pub fn is_made_by_agent(snapshot: &Snapshot) -> bool {
    let mut links = snapshot.links.iter();
    links.any(|link| link.name == "lo" && link.alias.starts_with(PREFIX) && link.alias.ends_with(CREATED))
}

/// The first address of each IPv4 subnet with several.
fn primary(addresses: &[String]) -> impl Iterator<Item = IpAddr> {
    let mut subnets = BTreeMap::<(IpAddr, u8), Vec<IpAddr>>::new();
    for (address, length) in addresses.iter().map(|text| parse(text)).filter(|(address, _)| address.is_ipv4()) {
        subnets.entry(network((address, length))).or_default().push(address);
    }
    subnets.into_values().filter(|all| all.len() > 1).map(|all| all[0])
}

/// The routes that others have deleted are there again.
fn check_address_routes(kernel: &Kernel, expected: &State) -> Result<(), String> {
    for (netns, space) in &kernel.spaces {
        let Some(expected) = expected.get(netns) else { continue };
        for state in space.addresses.iter().filter(|state| state.protocol == PROTOCOL) {
            let name = space
                .links
                .iter()
                .find(|link| link.index == state.link)
                .map(|link| link.name.clone());
            let key = (name.unwrap_or_default(), state.address.address, state.address.prefix_len);
            let missing = kernel.missing_routes(*netns, state);
            if !missing.is_empty() && expected.addresses.contains(&key) {
                return Err(format!("{key:?} in {netns} lacks its routes {missing:?}"));
            }
        }
    }
    Ok(())
}

/// Links on which the history has decided which interface applies: an agent that is started again may decide otherwise.
pub fn contested(configuration: &Configuration, surroundings: &Surroundings<'_>) -> BTreeSet<String> {
    let rules = Rules::new(configuration, surroundings);
    let conflicts = rules.conflicts();
    conflicts.into_iter().map(|(one, _)| one.host.clone()).collect()
}

/// Compares a machine with what it must look like in the end; answers what must be said of each value.
///
/// # Errors
/// A difference, in words.
pub fn judge(kernel: &Kernel, configuration: &Configuration, surroundings: &Surroundings<'_>) -> Result<BTreeMap<String, Verdict>, String> {
    let rules = Rules::new(configuration, surroundings);
    rules.check_namespaces(kernel)?;
    rules.check_conflicts()?;
    let expected = rules.state();
    let mut actual = actual(kernel, &expected, configuration);
    if let Some(space) = actual.get_mut(&OWN) {
        let is_expected = |address: &(String, IpAddr, u8)| expected.get(&OWN).is_some_and(|space| space.addresses.contains(address));
        space
            .addresses
            .retain(|address| is_expected(address) || !rules.has_refused(&address.0));
        if *space == Space::default() {
            actual.remove(&OWN);
        }
    }
    check_address_routes(kernel, &expected)?;
    let all: BTreeSet<&NetnsId> = expected.keys().chain(actual.keys()).collect();
    for netns in all {
        let (wanted, found) = (expected.get(netns), actual.get(netns));
        if wanted != found {
            return Err(format!("{netns} should be {wanted:#?}\nbut is {found:#?}"));
        }
    }
    Ok(configuration.iter().map(|(key, item)| (key.clone(), rules.verdict(item))).collect())
}

fn show_mac(mac: [u8; 6]) -> String {
    mac.map(|byte| format!("{byte:02x}")).join(":")
}

fn link_of(link: &LinkState, snapshot: &Snapshot, wanted: Option<&Link>) -> Link {
    let name_of = |index: u32| {
        let mut links = snapshot.links.iter();
        links.find(|other| other.index == index).map(|other| other.name.clone())
    };
    let kinds = ["veth", "dummy", "vrf", "bridge", "vlan"];
    let details = wanted.map(|wanted| wanted.details.as_slice()).unwrap_or_default();
    let shown = |(number, _): &(u16, Vec<u8>)| (*number, link.attribute(*number).unwrap_or_default().to_vec());
    Link {
        mark: subject(link).unwrap_or(&link.alias).to_owned(),
        kind: kinds.into_iter().find(|kind| *kind == link.kind).unwrap_or_default(),
        up: link.up,
        mtu: wanted.is_none_or(|wanted| wanted.mtu.is_some()).then_some(link.mtu),
        mac: link.mac.filter(|_| wanted.is_none_or(|wanted| wanted.mac.is_some())).map(show_mac),
        master: link.master.and_then(name_of),
        table: link.vrf_table(),
        details: details.iter().map(shown).collect(),
        // IFLA_BRPORT_ISOLATED.
        isolated: link.port_attribute(33).map(|value| value == [1]),
        group: link.group,
    }
}

/// Interfaces whose values cannot be used. What they stand for may be there or not: the last usable version stays.
fn unusable(configuration: &Configuration) -> BTreeSet<&str> {
    let names = configuration.values().filter_map(|item| match item {
        Item::Unusable(key) => key.strip_prefix(&*interface_key("")),
        _ => None,
    });
    names.collect()
}

/// What the agent's mark on a link says that it is.
fn subject(link: &LinkState) -> Option<&str> {
    link.alias.strip_prefix(PREFIX).map(|rest| rest.trim_end_matches(CREATED))
}

/// Whether a link is what an interface asks for, but for what can be changed while it stays.
pub fn stands_for(link: &LinkState, interface: &Interface) -> bool {
    let (mark, kind, table) = identity(interface);
    let is_other_vlan = matches!(interface.kind, Kind::Vlan { id, .. } if link.attribute(1) != Some(&id.to_ne_bytes()));
    !is_other_vlan && subject(link) == Some(&*mark) && link.kind == kind && table.is_none_or(|table| link.vrf_table() == Some(table))
}

/// What a link cannot change while it stays: mark, kind and table; and the id of a VLAN.
fn identity(interface: &Interface) -> (String, &'static str, Option<u32>) {
    let name = interface.name.to_owned();
    match interface.kind {
        Kind::Veth(peer) => (format!("{name}/{peer}"), "veth", None),
        Kind::Dummy => (name, "dummy", None),
        Kind::Vrf(table) => (name, "vrf", Some(table)),
        Kind::Loopback => (name, "", None),
        // The agent remembers that it has set the ageing time.
        Kind::Bridge { ageing: 0, .. } => (name, "bridge", None),
        Kind::Bridge { .. } => (format!("{name}//set=100"), "bridge", None),
        Kind::Vlan { parent, .. } => (format!("{name}/{parent}"), "vlan", None),
        // It is not the agent's.
        Kind::Existing { .. } => (String::new(), "", None),
    }
}

/// Attributes of a kind: IFLA_BR_AGEING_TIME in hundredths of a second, IFLA_BR_STP_STATE, IFLA_VLAN_ID, IFLA_VLAN_FLAGS.
fn details(interface: &Interface) -> Vec<(u16, Vec<u8>)> {
    match interface.kind {
        Kind::Bridge { stp, ageing } => {
            let ageing = if ageing == 0 { 30_000 } else { 100 * ageing };
            vec![(4, ageing.to_ne_bytes().to_vec()), (5, u32::from(stp).to_ne_bytes().to_vec())]
        }
        Kind::Vlan { id, loose, .. } => {
            let flags = if loose { 5_u32 } else { 1 };
            vec![
                (1, id.to_ne_bytes().to_vec()),
                (2, [flags.to_ne_bytes(), u32::MAX.to_ne_bytes()].concat()),
            ]
        }
        Kind::Veth(_) | Kind::Dummy | Kind::Vrf(_) | Kind::Loopback | Kind::Existing { .. } => Vec::new(),
    }
}

fn is_of_any(link: &LinkState, names: &BTreeSet<&str>) -> bool {
    subject(link).is_some_and(|subject| names.contains(subject.split("//").next().unwrap_or_default()))
}

/// Whether a link is neither the agent's nor something that the agent left half-done.
fn is_foreign(link: &LinkState) -> bool {
    link.name.starts_with("foreign")
        || is_nic(&link.name)
        || link.alias == SQUATTER
        || (link.name == "lo" && subject(link).is_none_or(str::is_empty))
}

/// What of the agent's is on the machine, as far as `expected` has an opinion.
fn actual(kernel: &Kernel, expected: &State, configuration: &Configuration) -> State {
    let unusable = unusable(configuration);
    let mut state = State::new();
    for (netns, snapshot) in &kernel.spaces {
        let mut space = Space::default();
        let ignored: BTreeSet<u32> = snapshot
            .links
            .iter()
            .filter(|link| is_foreign(link) || is_of_any(link, &unusable))
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
        let of_agent =
            |link: u32, protocol: u8| protocol == PROTOCOL && (!ignored.contains(&link) || name_of(link) == "lo" || is_nic(&name_of(link)));
        for state in snapshot.addresses.iter().filter(|state| of_agent(state.link, state.protocol)) {
            space
                .addresses
                .insert((name_of(state.link), state.address.address, state.address.prefix_len));
        }
        // Only where there is something to choose, and nobody else has an address.
        for state in snapshot
            .addresses
            .iter()
            .filter(|state| of_agent(state.link, state.protocol) && !state.is_secondary())
        {
            let link = name_of(state.link);
            let subnet = network((state.address.address, state.address.prefix_len));
            let of_subnet = snapshot.addresses.iter().filter(|other| {
                let spec = other.address;
                other.link == state.link && spec.prefix_len == subnet.1 && network((spec.address, spec.prefix_len)) == subnet
            });
            if state.address.address.is_ipv4() && of_subnet.count() > 1 && !is_nic(&link) {
                space.primary.insert((link, state.address.address));
            }
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
