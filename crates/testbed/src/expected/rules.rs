//! Implements the rules of the specification. The rules define the dependencies of each value, and the objects that exist when
//! these dependencies are met.

use std::net::IpAddr;

use super::{
    Expected, Link, RouteEntry, Space, Verdict,
    objects::{default_mtu, identity, settings},
    subnet::{covers, network, parse, primary},
};
use crate::values::{Arp, Interface, Kind, Route, Value};

/// Number of the main routing table (RT_TABLE_MAIN).
const MAIN_TABLE: u32 = 254;

/// Returns the parent and the VLAN id of an interface, or `None` if it is not a VLAN.
fn id_on(interface: &Interface) -> Option<(&str, u16)> {
    match &interface.kind {
        Kind::Vlan { parent, id, .. } => Some((parent, *id)),
        _ => None,
    }
}

/// Returns true if an interface is a bridge with VLAN filtering.
fn keeps_apart(interface: &Interface) -> bool {
    matches!(interface.kind, Kind::Bridge { filtering: true, .. })
}

/// Returns true if two EXISTING interfaces on the same link conflict with each other.
fn contradict(a: &Interface, b: &Interface) -> bool {
    let mtus = a.mtu != b.mtu && a.mtu != 0 && b.mtu != 0;
    let mac = |interface: &Interface| (!interface.link_only && !interface.mac.is_empty()).then(|| interface.mac.clone());
    let macs = mac(a).zip(mac(b)).is_some_and(|(a, b)| a != b);
    mtus || macs || a.enabled != b.enabled
}

impl<'a, N: Clone + Ord> Expected<'a, N> {
    /// Returns the EXISTING interfaces that use the foreign link with this kernel name.
    pub(super) fn existing_on(&self, host: &str) -> impl Iterator<Item = &'a Interface> {
        let alive = self.interfaces.keys().filter_map(|name| self.alive(name));
        alive.filter(move |other| other.is_existing() && other.host() == host)
    }

    /// Returns all ordered pairs of values that conflict: EXISTING interfaces on the same link, and VLANs with the same parent
    /// and id.
    pub(super) fn conflicts(&self) -> Vec<(&'a Interface, &'a Interface)> {
        let links = self.surroundings.nics.keys();
        let pairs = links.flat_map(|host| {
            self.existing_on(host)
                .flat_map(|one| self.existing_on(host).map(move |other| (one, other)))
        });
        let mut conflicts: Vec<_> = pairs.filter(|(one, other)| contradict(one, other)).collect();
        let vlans = || {
            self.interfaces
                .values()
                .filter(|interface| id_on(interface).is_some() && self.has_all(interface))
        };
        for one in vlans() {
            let others = vlans().filter(|other| other.name != one.name && id_on(other) == id_on(one));
            conflicts.extend(others.map(|other| (*one, *other)));
        }
        conflicts
    }

    fn is_refused(&self, name: &str) -> bool {
        self.refused.contains(name)
    }

    pub(super) fn netns(&self, interface: &Interface) -> Option<&'a N> {
        self.surroundings.places.get(&interface.netns)
    }

    fn is_lacking(&self, interface: &Interface) -> bool {
        self.surroundings.lacks.contains(identity(interface).kind)
    }

    /// Returns the interface if its link could exist, regardless of other values.
    fn possible(&self, name: &str) -> Option<&'a Interface> {
        let interface = *self.interfaces.get(name)?;
        if !interface.has_own_link() {
            return self.surroundings.nics.contains_key(interface.host()).then_some(interface);
        }
        let can_be_made = !self.surroundings.blocked.contains(name) && !self.is_lacking(interface);
        (self.netns(interface).is_some() && can_be_made).then_some(interface)
    }

    /// Returns the interface if its link exists.
    pub(super) fn alive(&self, name: &str) -> Option<&'a Interface> {
        let interface = self.possible(name)?;
        (self.has_all(interface) && !self.taken.contains(name)).then_some(interface)
    }

    /// Returns true if the interface's dependencies on other values are met.
    fn has_all(&self, interface: &Interface) -> bool {
        self.possible(&interface.name).is_some()
            && match &interface.kind {
                Kind::Veth(peer) => self.possible(peer).is_some(),
                Kind::Vlan { parent, loose, .. } => self
                    .alive(parent)
                    .is_some_and(|parent| parent.enabled || *loose || !interface.enabled),
                Kind::Dummy | Kind::Vrf(_) | Kind::Loopback | Kind::Bridge { .. } | Kind::Existing | Kind::Tap(_) => true,
            }
    }

    /// Returns the name of an interface's desired VRF device or bridge.
    fn master_name(interface: &'a Interface) -> Option<&'a str> {
        match (&*interface.vrf, &interface.port) {
            ("", port) => port.as_ref().map(|port| port.bridge.as_str()),
            (vrf, _) => Some(vrf),
        }
    }

    /// Returns the bridge or VRF device of an interface if it exists in the same namespace.
    fn master(&self, interface: &'a Interface) -> Option<&'a Interface> {
        let master = self.alive(Self::master_name(interface)?)?;
        (self.netns(master) == self.netns(interface)).then_some(master)
    }

    /// Returns the addresses that the agent adds to an interface.
    fn addresses(&self, interface: &'a Interface) -> &'a [String] {
        match !interface.vrf.is_empty() && self.master(interface).is_none() {
            true => &[],
            false if interface.link_only && !self.has_expected(interface) => &[],
            false if self.is_refused(&interface.name) => &[],
            false => &interface.addresses,
        }
    }

    /// Returns true if other programs have added the addresses for which a `link_only` interface waits.
    fn has_expected(&self, interface: &Interface) -> bool {
        let there = self.surroundings.nics.get(interface.host());
        there.is_some_and(|there| interface.addresses.iter().all(|address| there.foreign.contains(address)))
    }

    /// Returns true if the interface is EXISTING and duplicate address detection is in progress for one of its addresses.
    fn has_tentative(&self, interface: &Interface) -> bool {
        let nic = self.surroundings.nics.get(interface.host()).filter(|_| interface.enabled);
        interface.is_existing() && nic.is_some_and(|nic| nic.tentative.iter().any(|address| interface.addresses.contains(address)))
    }

    /// Returns all addresses of the interface's link. On a foreign link, this includes foreign addresses and the addresses of
    /// other interfaces.
    fn addresses_on_link(&self, interface: &'a Interface) -> Vec<&str> {
        let mut all: Vec<&str> = self.addresses(interface).iter().map(String::as_str).collect();
        if interface.is_existing() {
            let beside = self.existing_on(interface.host());
            all.extend(beside.flat_map(|other| self.addresses(other)).map(String::as_str));
            if let Some(nic) = self.surroundings.nics.get(interface.host()) {
                all.extend(nic.foreign.iter().map(String::as_str));
                let marked = nic.marked.iter().filter(|_| self.has_refused(interface.host()));
                all.extend(marked.map(String::as_str));
            }
        }
        all
    }

    /// Returns the interface if it is up and has an address, so that neighbours and routes can use it.
    fn usable(&self, name: &str) -> Option<&'a Interface> {
        self.alive(name)
            .filter(|interface| interface.enabled && !self.addresses_on_link(interface).is_empty())
    }

    fn reachable(&self, route: &Route, interface: &'a Interface) -> bool {
        if route.gateway.is_empty() {
            return true;
        }
        let gateway: IpAddr = route.gateway.parse().expect("a gateway");
        let on_link = |value: &Value| match value {
            Value::Route(other) => other.interface == route.interface && other.scope == "LINK" && covers(&other.destination, gateway),
            _ => false,
        };
        let mut addresses = self.addresses_on_link(interface).into_iter();
        addresses.any(|address| covers(address, gateway)) || self.values.iter().any(on_link)
    }

    /// Returns a route's interface if the route can be applied.
    pub(super) fn usable_route(&self, route: &Route) -> Option<&'a Interface> {
        match self.is_refused(&route.interface) {
            true => self.applied_earlier(&route.interface, &route.key()),
            false => self.usable(&route.interface).filter(|interface| self.reachable(route, interface)),
        }
    }

    /// Returns a neighbour's interface if the neighbour can be applied.
    pub(super) fn usable_arp(&self, arp: &Arp) -> Option<&'a Interface> {
        match self.is_refused(&arp.interface) {
            true => self.applied_earlier(&arp.interface, &arp.key()),
            false => self.usable(&arp.interface),
        }
    }

    /// Returns the interface if the agent has reported `key` as CONFIGURED. `key` identifies a value that depends on the
    /// interface.
    ///
    /// The value can be configured on an invalid interface, because an earlier version of the interface may still be applied.
    fn applied_earlier(&self, name: &str, key: &str) -> Option<&'a Interface> {
        let is_configured = self.surroundings.reported.get(key) == Some(&"CONFIGURED");
        self.alive(name).filter(|_| is_configured)
    }

    /// Returns the expected state of a value.
    pub(super) fn verdict(&self, value: &'a Value) -> Verdict {
        let known = |found: bool| if found { Verdict::Configured } else { Verdict::Pending };
        match value {
            Value::Unusable(_) => Verdict::Invalid,
            Value::Arp(Arp { interface, .. }) | Value::Route(Route { interface, .. }) if self.is_refused(interface) => Verdict::Either,
            Value::Arp(arp) => known(self.usable_arp(arp).is_some()),
            Value::Route(route) => known(self.usable_route(route).is_some()),
            Value::Interface(interface) => self.verdict_of_interface(interface),
        }
    }

    fn verdict_of_interface(&self, interface: &'a Interface) -> Verdict {
        let blocked = &self.surroundings.blocked;
        if self.netns(interface).is_some() && interface.has_own_link() {
            if blocked.contains(&interface.name) {
                return Verdict::Blocked;
            }
            if self.is_lacking(interface) {
                return Verdict::Refused;
            }
        }
        if let Kind::Veth(peer) = &interface.kind
            && blocked.contains(peer)
            && self.interfaces.contains_key(peer.as_str())
        {
            return Verdict::Blocked;
        }
        if self.is_refused(&interface.name) || self.taken.contains(interface.name.as_str()) {
            return Verdict::Invalid;
        }
        if self.alive(&interface.name).is_none() {
            return Verdict::Pending;
        }
        if interface.link_only && !self.has_expected(interface) || self.has_tentative(interface) {
            return Verdict::Pending;
        }
        match Self::master_name(interface) {
            // A bridge or VRF device in another namespace is an error, but a missing device may appear later.
            Some(master) if self.master(interface).is_none() => match self.alive(master) {
                Some(_) => Verdict::Invalid,
                None => Verdict::Pending,
            },
            _ => Verdict::Configured,
        }
    }

    /// Adds the expected objects of an interface whose link exists.
    pub(super) fn expect_interface(&self, interface: &'a Interface, space: &mut Space) {
        let host = interface.host();
        if interface.has_own_link() {
            space.links.insert(host.to_owned(), self.link(interface));
        }
        if interface.link_only {
            return;
        }
        let addresses = self.addresses(interface);
        let on_link = addresses.iter().map(|text| parse(text));
        space
            .addresses
            .extend(on_link.map(|(address, length)| (host.to_owned(), address, length)));
        if interface.has_own_link() {
            space.primary.extend(primary(addresses).map(|address| (host.to_owned(), address)));
        }
    }

    fn link(&self, interface: &'a Interface) -> Link {
        let master = self.master(interface);
        let port = interface.port.as_ref().filter(|_| interface.vrf.is_empty() && master.is_some());
        Link {
            mark: identity(interface).mark,
            kind: identity(interface).kind.to_owned(),
            up: interface.enabled,
            mtu: if interface.mtu == 0 {
                default_mtu(&interface.kind)
            } else {
                Some(interface.mtu)
            },
            mac: (!interface.mac.is_empty()).then(|| interface.mac.clone()),
            master: master.map(|master| master.host().to_owned()),
            settings: settings(interface),
            isolated: port.map(|port| port.isolated),
            // Do not check the VLANs of a port without VLAN filtering, because they depend on earlier settings of the bridge.
            vlans: keeps_apart(master.unwrap_or(interface)).then(|| interface.vlans.iter().copied().collect()),
            group: 0,
        }
    }

    /// Returns the route that the kernel is expected to have for a desired route on this interface.
    pub(super) fn route(&self, route: &Route, interface: &'a Interface) -> RouteEntry {
        let (to, length) = network(parse(&route.destination));
        let scope = match route.scope {
            _ if to.is_ipv6() => 0,
            "LINK" => 253,
            "HOST" => 254,
            _ => 0,
        };
        let vrf = self.master(interface).filter(|_| !interface.vrf.is_empty());
        let table = vrf.and_then(|vrf| match vrf.kind {
            Kind::Vrf(table) => Some(table),
            _ => self.surroundings.nics.get(vrf.host())?.table,
        });
        RouteEntry {
            link: interface.host().to_owned(),
            destination: format!("{to}/{length}"),
            gateway: (!route.gateway.is_empty()).then(|| route.gateway.parse().expect("a gateway")),
            table: table.unwrap_or(MAIN_TABLE),
            scope,
            metric: if to.is_ipv6() && route.metric == 0 { 1024 } else { route.metric },
        }
    }
}
