//! Addresses, neighbours and routes in the simulated kernel, with the same checks and side effects as in Linux.

use std::net::IpAddr;

use models::address::{contains, network_of};

use super::{Asked, EEXIST, EINVAL, ENETDOWN, ENETUNREACH, ENODEV, Kernel, failure, foreign, refused};
use netns_kernel::{
    AddressDetection, AddressRoute, AddressSpec, AddressState, Failure, FailureKind, LinkState, NeighbourState, NetnsId, PROTOCOL, Reply,
    RouteSpec, RouteState, Snapshot, are_routes_read, routes_of_address,
};

/// IFA_F_SECONDARY, IFA_F_DADFAILED and IFA_F_TENTATIVE (linux/if_addr.h).
const SECONDARY: u32 = 0x01;
const DAD_FAILED: u32 = 0x08;
const TENTATIVE: u32 = 0x40;
/// IF_OPER_DOWN and IF_OPER_UP (linux/if.h).
const NO_CARRIER: u8 = 2;
const CARRIER: u8 = 6;
/// RT_SCOPE_LINK (linux/rtnetlink.h): the destination is reachable without a gateway.
const SCOPE_LINK: u8 = 253;

/// Returns the metric that the kernel stores for a route. For an IPv6 route, the kernel replaces 0 with 1024.
fn stored_metric(route: &RouteSpec) -> u32 {
    if route.destination.is_ipv6() && route.metric == 0 {
        1024
    } else {
        route.metric
    }
}

fn same_place(a: &RouteSpec, b: &RouteSpec) -> bool {
    (a.destination, a.prefix_len, a.table) == (b.destination, b.prefix_len, b.table)
}

fn adopted(protocol: Option<u8>, adopt: bool) -> Result<Reply, Failure> {
    match protocol {
        None | Some(PROTOCOL) => Ok(Reply::Done),
        Some(_) if adopt => Ok(Reply::Adopted),
        Some(protocol) => Err(foreign(format!("one of protocol {protocol} exists"))),
    }
}

fn subnet(spec: AddressSpec) -> (IpAddr, u8) {
    (network_of(spec.address, spec.prefix_len), spec.prefix_len)
}

/// Returns the routes that the kernel adds for an address.
fn routes_of(space: &Snapshot, state: &AddressState) -> Vec<AddressRoute> {
    let link_of = |index: u32| space.links.iter().find(|link| link.index == index);
    let Some(link) = link_of(state.link) else { return Vec::new() };
    let master = |link: &LinkState| link_of(link.master?)?.vrf_table();
    routes_of_address(link, state, link.vrf_table().or(master(link)))
}

impl Kernel {
    /// Returns the routes that the kernel added for addresses in a namespace, except for those that have since been deleted.
    pub fn routes_of_addresses(&self, netns: NetnsId) -> Vec<AddressRoute> {
        let Some(space) = self.spaces.get(&netns) else { return Vec::new() };
        let routes = space.addresses.iter().flat_map(|state| routes_of(space, state));
        routes.filter(|route| !self.missing.contains(&(netns, *route))).collect()
    }

    /// Returns the routes that the kernel adds for an address, including those that have since been deleted.
    pub fn routes_of(&self, netns: NetnsId, state: &AddressState) -> Vec<AddressRoute> {
        self.spaces.get(&netns).map(|space| routes_of(space, state)).unwrap_or_default()
    }

    /// Deletes all routes of a table on a link.
    pub fn delete_routes_of(&mut self, netns: NetnsId, index: u32, table: u32) {
        let routes = &mut self.space(netns).routes;
        routes.retain(|state| (state.link, state.route.table) != (index, table));
    }

    /// Returns the routes that the kernel added for an address and that have since been deleted.
    pub fn missing_routes(&self, netns: NetnsId, state: &AddressState) -> Vec<AddressRoute> {
        let Some(space) = self.spaces.get(&netns).filter(|_| !self.missing.is_empty()) else {
            return Vec::new();
        };
        let routes = routes_of(space, state).into_iter();
        routes.filter(|route| self.missing.contains(&(netns, *route))).collect()
    }

    /// Returns true if any route that the kernel added for an address has been deleted.
    pub fn lacks_address_routes(&self) -> bool {
        let mut spaces = self.spaces.iter();
        spaces.any(|(netns, space)| space.addresses.iter().any(|state| !self.missing_routes(*netns, state).is_empty()))
    }

    /// Returns the routes that the kernel added for addresses, limited to the address families that the agent would read from a
    /// real kernel.
    pub(super) fn read_address_routes(&self, netns: NetnsId) -> Vec<AddressRoute> {
        let Some(space) = self.spaces.get(&netns) else { return Vec::new() };
        let is_read = |ipv4: bool| {
            let mut addresses = space.addresses.iter().filter(|state| state.address.address.is_ipv4() == ipv4);
            addresses.any(are_routes_read)
        };
        let (ipv4, ipv6) = (is_read(true), is_read(false));
        let mut routes = self.routes_of_addresses(netns);
        routes.retain(|route| if route.destination.is_ipv4() { ipv4 } else { ipv6 });
        routes
    }

    /// Deletes routes that the kernel added for addresses. The kernel does not add them again by itself.
    pub fn delete_address_routes(&mut self, netns: NetnsId, routes: impl IntoIterator<Item = AddressRoute>) {
        self.missing.extend(routes.into_iter().map(|route| (netns, route)));
        self.changed(netns);
    }

    /// Restores the routes that the kernel added for an address and that have since been deleted.
    pub(super) fn restore_routes(&mut self, netns: NetnsId, link: &str, address: AddressSpec) {
        let Ok(found) = self.require(netns, link) else { return };
        let same = |state: &&AddressState| (state.link, state.address) == (found.index, address);
        let space = &self.spaces[&netns];
        let routes = space.addresses.iter().find(same).map(|state| routes_of(space, state));
        for route in routes.unwrap_or_default() {
            if self.missing.remove(&(netns, route)) {
                self.changed(netns);
            }
        }
    }

    /// Restores the routes that the kernel adds for the addresses on a link, as the kernel does when a link comes up.
    pub(super) fn restore_all_routes(&mut self, netns: NetnsId, index: u32) {
        self.missing.retain(|(of, route)| (*of, route.link) != (netns, index));
    }

    /// Performs [`KernelOp::MakePrimary`](netns_kernel::KernelOp::MakePrimary).
    pub(super) fn make_primary(&mut self, netns: NetnsId, link: &str, address: AddressSpec, others: &[AddressSpec]) -> Result<(), Failure> {
        let found = self.require(netns, link)?;
        let in_subnet = |state: &&AddressState| state.link == found.index && subnet(state.address) == subnet(address);
        let addresses = &self.spaces[&netns].addresses;
        let is_behind = addresses
            .iter()
            .filter(in_subnet)
            .any(|state| state.address == address && state.is_secondary());
        let is_ours = |state: &AddressState| state.protocol == PROTOCOL && (state.address == address || others.contains(&state.address));
        if !is_behind || !addresses.iter().filter(in_subnet).all(is_ours) {
            return Ok(());
        }
        self.side_effects = true;
        let moved = |state: &AddressState| state.link == found.index && others.contains(&state.address);
        let addresses = &mut self.space(netns).addresses;
        let before: Vec<AddressState> = addresses.extract_if(.., |state| moved(state)).collect();
        for state in addresses
            .iter_mut()
            .filter(|state| state.link == found.index && state.address == address)
        {
            state.flags &= !SECONDARY;
        }
        self.restore_routes(netns, link, address);
        for other in others.iter().filter(|other| before.iter().any(|state| state.address == **other)) {
            self.add_address(netns, link, *other, PROTOCOL)?;
        }
        Ok(())
    }

    pub(super) fn flush_layer3(&mut self, netns: NetnsId, index: u32) {
        let space = self.space(netns);
        space.routes.retain(|route| route.link != index);
        space.neighbours.retain(|entry| entry.link != index);
    }

    pub(super) fn flush_ipv6(&mut self, netns: NetnsId, index: u32) {
        let space = self.space(netns);
        space
            .addresses
            .retain(|address| address.link != index || address.address.address.is_ipv4());
        space
            .routes
            .retain(|state| state.link != index || state.route.destination.is_ipv4());
    }

    /// Performs [`KernelOp::AddAddress`](netns_kernel::KernelOp::AddAddress).
    pub(super) fn add_agents_address(
        &mut self,
        netns: NetnsId,
        link: &str,
        address: AddressSpec,
        detection: AddressDetection,
        shared: bool,
    ) -> Result<(), Failure> {
        let before = self.address_protocol(netns, link, address);
        if !shared || before.is_none() {
            self.add_address(netns, link, address, PROTOCOL)?;
        }
        if !shared || before == Some(PROTOCOL) {
            self.restore_routes(netns, link, address);
        }
        if before.is_none() && detection != AddressDetection::Off {
            self.begin_detection(netns, link, address)?;
        }
        Ok(())
    }

    /// Adds an address, or sets the protocol of an existing one. The first IPv4 address of a subnet is its primary address.
    pub fn add_address(&mut self, netns: NetnsId, name: &str, address: AddressSpec, protocol: u8) -> Result<(), Failure> {
        let link = self.require(netns, name)?.index;
        let addresses = &mut self.space(netns).addresses;
        if let Some(found) = addresses.iter_mut().find(|state| (state.link, state.address) == (link, address)) {
            found.protocol = protocol;
            return Ok(());
        }
        let is_before = |state: &AddressState| state.link == link && subnet(state.address) == subnet(address);
        let is_secondary = address.address.is_ipv4() && addresses.iter().any(is_before);
        addresses.push(AddressState {
            link,
            address,
            protocol,
            scope: 0,
            flags: if is_secondary { SECONDARY } else { 0 },
        });
        self.restore_routes(netns, name, address);
        Ok(())
    }

    /// Begins duplicate address detection for an IPv6 address if links of this kind perform it. The address stays tentative while
    /// the link has no carrier.
    pub(super) fn begin_detection(&mut self, netns: NetnsId, link: &str, address: AddressSpec) -> Result<(), Failure> {
        let found = self.require(netns, link)?;
        if ["veth", "tun"].contains(&&*found.kind) && address.address.is_ipv6() {
            self.mark_address((netns, found.index, address), TENTATIVE);
            if found.oper_state != NO_CARRIER {
                self.asking.push((netns, found.index, address));
            }
        }
        Ok(())
    }

    /// Sets the carrier of a link. When the carrier appears, duplicate address detection begins for tentative addresses.
    pub fn set_carrier(&mut self, netns: NetnsId, index: u32, carrier: bool) {
        let link = self.link_mut(netns, index);
        let had_carrier = link.oper_state != NO_CARRIER;
        link.oper_state = if carrier { CARRIER } else { NO_CARRIER };
        if carrier && !had_carrier {
            let addresses = self.spaces[&netns].addresses.iter();
            let tentative = addresses.filter(|state| state.link == index && state.flags & TENTATIVE != 0);
            self.asking.extend(tentative.map(|state| (netns, index, state.address)));
        }
    }

    /// Returns true if a link has a tentative address.
    pub fn has_tentative_address(&self, netns: NetnsId, link: &str) -> bool {
        let Some(index) = self.link(netns, link).map(|link| link.index) else {
            return false;
        };
        let mut addresses = self.spaces.get(&netns).into_iter().flat_map(|space| &space.addresses);
        addresses.any(|state| state.link == index && state.flags & TENTATIVE != 0)
    }

    /// Ends duplicate address detection for an address. If the link has no carrier any more, the address stays tentative.
    pub fn end_detection(&mut self, of: Asked, duplicate: bool) {
        let links = self.spaces.get(&of.0).map(|space| space.links.as_slice()).unwrap_or_default();
        if links.iter().any(|link| link.index == of.1 && link.oper_state == NO_CARRIER) {
            return;
        }
        self.mark_address(of, if duplicate { TENTATIVE | DAD_FAILED } else { 0 });
    }

    fn mark_address(&mut self, (netns, index, address): Asked, flags: u32) {
        let same = |state: &&mut AddressState| (state.link, state.address) == (index, address);
        if self.spaces.contains_key(&netns)
            && let Some(state) = self.space(netns).addresses.iter_mut().find(same)
        {
            state.flags = flags;
        }
    }

    /// Checks that an address of a link is neither tentative nor a duplicate.
    pub(super) fn confirm_address(&mut self, netns: NetnsId, link: &str, address: AddressSpec) -> Result<(), Failure> {
        let index = self.require(netns, link)?.index;
        let mut addresses = self.spaces.get(&netns).into_iter().flat_map(|space| &space.addresses);
        match addresses
            .find(|state| (state.link, state.address) == (index, address))
            .map(|state| state.flags)
        {
            None => Err(refused(ENODEV, format!("no address {address:?} on {link} in {netns}"))),
            Some(flags) if flags & DAD_FAILED != 0 => {
                self.begin_detection(netns, link, address)?;
                Err(failure(FailureKind::Duplicate, 0, format!("{address:?} is a duplicate")))
            }
            Some(flags) if flags & TENTATIVE != 0 => Err(failure(FailureKind::Tentative, 0, format!("{address:?} is tentative"))),
            Some(_) => Ok(()),
        }
    }

    /// Returns the IFA_PROTO of an address, or `None` if the address does not exist.
    pub fn address_protocol(&mut self, netns: NetnsId, link: &str, address: AddressSpec) -> Option<u8> {
        let index = self.require(netns, link).ok()?.index;
        let found = self
            .space(netns)
            .addresses
            .iter()
            .find(|state| state.link == index && state.address == address);
        found.map(|state| state.protocol)
    }

    /// Deletes an address.
    ///
    /// The secondary addresses of a subnet are deleted with its primary IPv4 address (`__inet_del_ifa`). All IPv4 routes and
    /// neighbours of the link are deleted with its last IPv4 address (`fib_disable_ip`).
    pub fn delete_address(&mut self, netns: NetnsId, link: &str, address: AddressSpec) {
        let Ok(found) = self.require(netns, link) else { return };
        let on_link = |state: &&AddressState| state.link == found.index && state.address.address.is_ipv4();
        let space = self.space(netns);
        let mut there = space.addresses.iter().filter(on_link);
        let whole_subnet = there.any(|state| state.address == address && !state.is_secondary());
        let had_ipv4 = space.addresses.iter().any(|state| on_link(&state));
        let before = space.addresses.len();
        space.addresses.retain(|state| {
            let doomed = state.address == address || (whole_subnet && subnet(state.address) == subnet(address));
            state.link != found.index || !doomed
        });
        let took_others = space.addresses.len() + 1 < before;
        if had_ipv4 && !space.addresses.iter().any(|state| on_link(&state)) {
            space
                .routes
                .retain(|state| state.link != found.index || state.route.destination.is_ipv6());
            space
                .neighbours
                .retain(|entry| entry.link != found.index || entry.address.is_ipv6());
        }
        self.side_effects |= took_others;
    }

    pub fn set_neighbour(&mut self, netns: NetnsId, link: &str, address: IpAddr, mac: [u8; 6], protocol: u8) -> Result<(), Failure> {
        let link = self.require(netns, link)?.index;
        let neighbours = &mut self.space(netns).neighbours;
        neighbours.retain(|entry| (entry.link, entry.address) != (link, address));
        neighbours.push(NeighbourState {
            link,
            address,
            mac,
            protocol,
        });
        Ok(())
    }

    pub fn delete_neighbour(&mut self, netns: NetnsId, link: &str, address: IpAddr) {
        let Ok(found) = self.require(netns, link) else { return };
        self.space(netns)
            .neighbours
            .retain(|entry| (entry.link, entry.address) != (found.index, address));
    }

    /// Fails if there is a foreign neighbour entry for the address, unless `adopt` is true.
    pub(super) fn adopt_neighbour(&mut self, netns: NetnsId, link: &str, address: IpAddr, adopt: bool) -> Result<Reply, Failure> {
        let link = self.require(netns, link)?.index;
        let neighbours = &self.space(netns).neighbours;
        let there = neighbours.iter().find(|entry| (entry.link, entry.address) == (link, address));
        adopted(there.map(|entry| entry.protocol), adopt)
    }

    /// Fails if there is a foreign route to the same destination, unless `adopt` is true.
    pub(super) fn adopt_route(&mut self, netns: NetnsId, route: &RouteSpec, adopt: bool) -> Result<Reply, Failure> {
        let same = |state: &&RouteState| same_place(&state.route, route) && state.route.metric == stored_metric(route);
        let there = self.space(netns).routes.iter().find(same);
        adopted(there.map(|state| state.protocol), adopt)
    }

    /// Adds a route. The link must be up, and one of its addresses or routes must cover the gateway.
    pub fn add_route(&mut self, netns: NetnsId, link: &str, route: &RouteSpec, replace: bool, protocol: u8) -> Result<(), Failure> {
        let found = self.require(netns, link)?;
        let metric = stored_metric(route);
        if !found.up {
            return Err(refused(ENETDOWN, format!("link {link} is down")));
        }
        if network_of(route.destination, route.prefix_len) != route.destination {
            return Err(refused(EINVAL, "host bits are set"));
        }
        if let Some(gateway) = route.gateway {
            let connected = self.routes_of_addresses(netns);
            // For the subnets of `lo`, the kernel adds only local routes.
            let of_address = |to: &AddressRoute| {
                let counts = found.name == "lo" || (to.table, to.local) == (route.table, false);
                to.link == found.index && counts && contains(to.destination, to.prefix_len, gateway)
            };
            let of_route = |state: &RouteState| {
                let (to, direct) = (&state.route, state.route.gateway.is_none());
                let in_scope = to.destination.is_ipv6() || to.scope >= SCOPE_LINK;
                state.link == found.index
                    && direct
                    && in_scope
                    && to.table == route.table
                    && contains(to.destination, to.prefix_len, gateway)
            };
            if !connected.iter().any(of_address) && !self.spaces[&netns].routes.iter().any(of_route) {
                return Err(refused(ENETUNREACH, format!("gateway {gateway} is unreachable through {link}")));
            }
        }
        let same = |state: &RouteState| same_place(&state.route, route) && state.route.metric == metric;
        let space = self.space(netns);
        match space.routes.iter().position(same) {
            Some(_) if !replace => return Err(refused(EEXIST, format!("a route to {} exists", route.destination))),
            Some(position) => drop(space.routes.remove(position)),
            None => {}
        }
        let scope = if route.destination.is_ipv4() { route.scope } else { 0 };
        space.routes.push(RouteState {
            link: found.index,
            route: RouteSpec {
                metric,
                scope,
                ..route.clone()
            },
            protocol,
        });
        Ok(())
    }

    /// Deletes a route. For IPv4, metric 0 matches the route with the lowest metric.
    pub fn delete_route(&mut self, netns: NetnsId, link: &str, route: &RouteSpec) {
        let Ok(found) = self.require(netns, link) else { return };
        let metric = stored_metric(route);
        let matches = |state: &RouteState| {
            same_place(&state.route, route)
                && (state.link, state.protocol) == (found.index, PROTOCOL)
                && (metric == 0 || state.route.metric == metric)
                && (route.gateway.is_none() || route.gateway == state.route.gateway)
        };
        let space = self.space(netns);
        let doomed = space
            .routes
            .iter()
            .enumerate()
            .filter(|(_, state)| matches(state))
            .min_by_key(|(_, state)| state.route.metric);
        if let Some((position, _)) = doomed {
            space.routes.remove(position);
        }
    }
}
