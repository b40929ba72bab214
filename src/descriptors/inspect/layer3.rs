//! Reads back neighbours and routes, and reports orphans among them.
//!
//! All agents use the same protocol number, so an object that may belong to another agent is never treated as the agent's own.

use std::{net::IpAddr, rc::Rc};

use models::{
    address,
    key::{Key, RouteDestination, TypedKey},
};

use super::{
    super::{
        arp::up_key,
        observed::ObservedInterface,
        route::{TABLE_MAIN, effective_metric},
        value::{Applied, Arp, Route, Value, interface_key},
    },
    Inspection,
};
use netns_kernel::{AddressSpec, KernelOp, NeighbourState, PROTOCOL, RouteState};

/// Key prefix of ARP entries.
pub(super) const ARPS: &str = "config/linux/l3/v2/arp/";
/// Key prefix of routes.
pub(super) const ROUTES: &str = "config/linux/l3/v2/route/";

/// Desired or applied neighbours and routes of all interfaces on one link, sorted by their identity in the kernel.
///
/// Built once per inspection, so that the inspection time grows almost linearly with the number of routes and neighbours.
#[derive(Default)]
pub(super) struct OnLink<'a> {
    neighbours: Vec<(IpAddr, &'a Key, &'a Value)>,
    routes: Vec<(RouteIdentity, &'a Key, &'a Value)>,
}

/// Identity of a route in the kernel: table, network, prefix length and metric.
type RouteIdentity = (u32, IpAddr, u8, u32);

/// Returns the first value that has the given identity in the kernel. The values must be sorted by identity.
fn owner<'a, I: Ord>(values: &[(I, &'a Key, &'a Value)], identity: &I) -> Option<(&'a Key, &'a Value)> {
    let (found, key, value) = values.get(values.partition_point(|(other, ..)| other < identity))?;
    (found == identity).then_some((*key, *value))
}

impl<'a, 's> Inspection<'a, 's> {
    /// Returns the neighbours and routes of all interfaces on a link, or `None` if the link is not managed.
    fn values_on(&mut self, index: u32) -> Option<Rc<OnLink<'a>>> {
        if let Some(known) = self.on_links.get(&index) {
            return Some(known.clone());
        }
        let link = self.observed.link(index).filter(|_| self.managed.contains_key(&index))?;
        let mut on = OnLink::default();
        let counts = |name: &&String| !self.missing.contains(*name) && !self.orphaned.contains(&index);
        for name in self.residents(index).iter().filter(counts) {
            let table = self.table_of(name, &link);
            for key in self.view.dependents(&up_key(name)) {
                let known = self.view.known(key);
                let Some(value) = known.desired.or(known.applied) else { continue };
                if let Some(arp) = value.arp() {
                    on.neighbours.extend(arp.address.map(|address| (address, key, value)));
                } else if let Some(route) = value.route() {
                    let identity = |to: AddressSpec| {
                        let network = address::network_of(to.address, to.prefix_len);
                        (table, network, to.prefix_len, effective_metric(network, route.metric))
                    };
                    on.routes.extend(route.destination.map(|to| (identity(to), key, value)));
                }
            }
        }
        // The sort must be stable, because `owner` returns the value that was added first if several values have the same
        // identity.
        on.neighbours.sort_by_key(|(address, ..)| *address);
        on.routes.sort_by_key(|(identity, ..)| *identity);
        let on = Rc::new(on);
        self.on_links.insert(index, on.clone());
        Some(on)
    }

    /// Returns whether this agent owns all objects on a link that have the agents' protocol number.
    ///
    /// The protocol number is not sufficient, because all agents use it. The link must also have this agent's alias, or be managed
    /// by this agent and have no alias of another agent.
    pub(super) fn is_ours(&self, index: u32) -> bool {
        let link = self.observed.link(index);
        match self.managed.contains_key(&index) {
            true => !link.is_some_and(|link| link.is_other_agents()),
            false => link.is_some_and(|link| link.mark_of_value().is_some()),
        }
    }

    /// Returns the first interface on a link, or `None` if the link is an orphan or not managed.
    fn first_on(&self, index: u32) -> Option<&str> {
        let first = self.residents(index).first().filter(|_| !self.orphaned.contains(&index));
        first.map(String::as_str)
    }

    /// Returns the key and the applied value of a neighbour whose desired value is now invalid.
    ///
    /// The neighbour was created for an earlier, valid value. It stays applied, and is deleted when the key is deleted.
    fn rejected_neighbour(&self, state: &NeighbourState) -> Option<(Key, Value)> {
        let (interface, ip_address) = (self.first_on(state.link)?.to_owned(), state.address.to_string());
        let arp = Arp {
            interface: interface.clone(),
            address: Some(state.address),
            text: ip_address.clone(),
            mac: state.mac,
        };
        let key = TypedKey::Arp { interface, ip_address }.to_key();
        self.view.rejected(&key).then(|| (key, Value::AppliedArp(Applied::unasked(arp))))
    }

    /// Returns the key and the applied value of a route whose desired value is now invalid, like [`Self::rejected_neighbour`].
    fn rejected_route(&self, state: &RouteState) -> Option<(Key, Value)> {
        let outgoing_interface = self.first_on(state.link)?.to_owned();
        let (address, prefix_len) = (state.route.destination, state.route.prefix_len);
        let route = Route {
            interface: outgoing_interface.clone(),
            destination: Some(AddressSpec { address, prefix_len }),
            destination_text: format!("{address}/{prefix_len}"),
            gateway: state.route.gateway,
            gateway_reference: None,
            scope: state.route.scope,
            metric: state.route.metric,
        };
        let destination = RouteDestination::Network { address, prefix_len };
        let key = TypedKey::Route {
            destination,
            outgoing_interface,
        };
        let key = key.to_key();
        self.view
            .rejected(&key)
            .then(|| (key, Value::AppliedRoute(Applied::unasked(route))))
    }

    /// Calls `key` with the name of each interface on a link. Returns whether one of the resulting keys has an applied or desired
    /// value, even an invalid one.
    fn has_known(&self, link: u32, key: impl Fn(String) -> TypedKey) -> bool {
        let mut keys = self.residents(link).iter().map(|name| key(name.clone()).to_key());
        keys.any(|key| self.is_known(&key))
    }

    /// Appends the keys of an interface's lost values to `unseen`: first the applied ARP entries, then the applied routes.
    pub(super) fn add_unseen_layer3(&self, interface: &str, unseen: &mut Vec<Key>) {
        let mut routes = Vec::new();
        for key in self.view.dependents(&up_key(interface)) {
            let of_kind = match key.as_str() {
                text if text.starts_with(ARPS) => &mut *unseen,
                text if text.starts_with(ROUTES) => &mut routes,
                _ => continue,
            };
            if !self.seen.contains(key) && self.view.applied(key).is_some() {
                of_kind.push(key.clone());
            }
        }
        unseen.extend(routes);
    }

    pub(super) fn neighbours(&mut self) {
        for state in self.snapshot.neighbours.iter().filter(|state| state.protocol == PROTOCOL) {
            let Some(link) = self.judged_link(state.link) else { continue };
            let on = self.values_on(state.link);
            let owner = on.and_then(|on| owner(&on.neighbours, &state.address));
            match owner {
                Some((key, value)) => {
                    let Some(arp) = value.arp() else { continue };
                    let known = self.view.known(key);
                    let applied = known.applied.and_then(Value::applied_arp);
                    // This check comes first and must be cheap, because usually nothing has changed.
                    let is_as_applied = applied.map(Applied::value) == Some(arp) && arp.mac == state.mac;
                    if !is_as_applied && !known.in_flight {
                        let found = Arp {
                            mac: state.mac,
                            ..arp.clone()
                        };
                        if applied.map(Applied::value) != Some(&found) {
                            let basis = value.desired_arp().map(|desired| Applied::of(desired, applied));
                            let found = basis.as_ref().or(applied).map(|basis| Value::AppliedArp(basis.found(found)));
                            self.findings.found.extend(found.map(|found| (key.clone(), found)));
                        }
                    }
                    self.seen.insert(key.clone());
                }
                None if !self.is_ours(state.link) => {}
                None => {
                    if let Some((key, value)) = self.rejected_neighbour(state) {
                        if !self.seen.contains(&key) {
                            self.note(key, value);
                        }
                        continue;
                    }
                    let removal = KernelOp::DeleteNeighbour {
                        netns: self.netns,
                        link: link.state.name.clone(),
                        guard: self.guard(&link),
                        address: state.address,
                    };
                    let ip_address = state.address.to_string();
                    let superseded = self.has_known(state.link, |interface| TypedKey::Arp {
                        interface,
                        ip_address: ip_address.clone(),
                    });
                    self.orphan_on(&link, &format!("neighbour/{}/{ip_address}", link.state.name), removal, superseded);
                }
            }
        }
    }

    /// Returns the link of a route or neighbour, unless the link may belong to an interface whose namespace is not open yet.
    fn judged_link(&self, index: u32) -> Option<ObservedInterface<'s>> {
        self.observed.link(index).filter(|_| !self.undecided.contains(&index))
    }

    /// Returns the routing table that a managed interface currently uses. The VRF membership of its link determines the table.
    ///
    /// A route in another table does not belong to the interface, because it cannot be deleted through the interface.
    fn table_of(&self, name: &str, link: &ObservedInterface<'s>) -> u32 {
        let key = interface_key(name);
        let known = self.view.applied(&key).or(self.view.desired(&key)).and_then(Value::interface);
        // Another program may have added the link of an EXISTING interface to any VRF. That VRF is considered only if the value
        // of the interface names it.
        let existing = known.filter(|interface| interface.is_existing());
        let counts = existing.is_none_or(|existing| existing.vrf.is_some() && self.vrf_of(link, existing.vrf.as_deref()) == existing.vrf);
        let device = self.vrf_device_of(link).filter(|_| counts);
        device.and_then(|device| device.state.vrf_table()).unwrap_or(TABLE_MAIN)
    }

    pub(super) fn routes(&mut self) {
        for state in &self.snapshot.routes {
            let Some(link) = self.judged_link(state.link) else { continue };
            let route = &state.route;
            let on = self.values_on(state.link);
            let metric = effective_metric(route.destination, route.metric);
            let identity = (route.table, route.destination, route.prefix_len, metric);
            let owner = on.and_then(|on| owner(&on.routes, &identity));
            match owner {
                Some((key, value)) => {
                    let Some(desired) = value.route() else { continue };
                    let scope = if route.destination.is_ipv4() { route.scope } else { desired.scope };
                    let gateway = if route.gateway.is_none() && desired.gateway.is_some_and(|gateway| gateway.is_unspecified()) {
                        desired.gateway
                    } else {
                        route.gateway
                    };
                    let known = self.view.known(key);
                    let applied = known.applied.and_then(Value::applied_route);
                    let is_as_applied =
                        (gateway, scope) == (desired.gateway, desired.scope) && applied.map(Applied::value) == Some(desired);
                    if !is_as_applied && !known.in_flight {
                        let found = Route {
                            gateway,
                            scope,
                            ..desired.clone()
                        };
                        if applied.map(Applied::value) != Some(&found) {
                            let basis = value.desired_route().map(|desired| Applied::of(desired, applied));
                            let found = basis.as_ref().or(applied).map(|basis| Value::AppliedRoute(basis.found(found)));
                            self.findings.found.extend(found.map(|found| (key.clone(), found)));
                        }
                    }
                    self.seen.insert(key.clone());
                }
                None if !self.is_ours(state.link) => {}
                None => {
                    if let Some((key, value)) = self.rejected_route(state) {
                        if !self.seen.contains(&key) {
                            self.note(key, value);
                        }
                        continue;
                    }
                    let what = format!(
                        "route/{}/{}/{}/{}/{}",
                        route.table, route.destination, route.prefix_len, route.metric, link.state.name
                    );
                    let removal = KernelOp::DeleteRoute {
                        netns: self.netns,
                        link: link.state.name.clone(),
                        guard: self.guard(&link),
                        route: route.clone(),
                    };
                    let destination = RouteDestination::Network {
                        address: route.destination,
                        prefix_len: route.prefix_len,
                    };
                    let superseded = self.has_known(state.link, |outgoing_interface| TypedKey::Route {
                        destination: destination.clone(),
                        outgoing_interface,
                    });
                    self.orphan_on(&link, &what, removal, superseded);
                }
            }
        }
    }
}
