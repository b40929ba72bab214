//! Addresses, neighbours and routes of the simulated kernel.
//!
//! Owns what the kernel refuses, and what it takes away by itself. Must never remove what another protocol marked, where the
//! kernel looks at it. Start reading at [`Kernel::add_route`].

use std::net::IpAddr;

use models::address::{contains, network_of};

use super::{Asked, EEXIST, EINVAL, ENETDOWN, ENETUNREACH, ENODEV, Kernel, failure, foreign, refused};
use crate::kernel::{AddressSpec, AddressState, Failure, FailureKind, NeighbourState, NetnsId, PROTOCOL, Reply, RouteSpec, RouteState};

/// IFA_F_DADFAILED and IFA_F_TENTATIVE (linux/if_addr.h).
const DAD_FAILED: u32 = 0x08;
const TENTATIVE: u32 = 0x40;
/// Scope of what can be reached without a gateway (linux/rtnetlink.h).
const SCOPE_LINK: u8 = 253;

/// What the kernel makes of a metric.
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
        Some(protocol) => Err(foreign(format!("one of protocol {protocol} is there"))),
    }
}

impl Kernel {
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

    /// One that is there already gets the mark.
    pub fn add_address(&mut self, netns: NetnsId, link: &str, address: AddressSpec, protocol: u8) -> Result<(), Failure> {
        let link = self.require(netns, link)?.index;
        let addresses = &mut self.space(netns).addresses;
        if let Some(found) = addresses.iter_mut().find(|state| (state.link, state.address) == (link, address)) {
            found.protocol = protocol;
            return Ok(());
        }
        addresses.push(AddressState {
            link,
            address,
            protocol,
            scope: 0,
            flags: 0,
        });
        Ok(())
    }

    /// On links that have neighbours an IPv6 address is tentative at first.
    pub(super) fn begin_detection(&mut self, netns: NetnsId, link: &str, address: AddressSpec) -> Result<(), Failure> {
        let found = self.require(netns, link)?;
        if found.kind == "veth" && address.address.is_ipv6() {
            self.mark_address((netns, found.index, address), TENTATIVE);
            self.asking.push((netns, found.index, address));
        }
        Ok(())
    }

    /// Whether an address of a link may turn out to be somebody else's.
    pub fn has_tentative_address(&self, netns: NetnsId, link: &str) -> bool {
        let Some(index) = self.link(netns, link).map(|link| link.index) else {
            return false;
        };
        let mut addresses = self.spaces.get(&netns).into_iter().flat_map(|space| &space.addresses);
        addresses.any(|state| state.link == index && state.flags & TENTATIVE != 0)
    }

    /// Somebody else answered for a tentative address, or nobody did.
    pub fn end_detection(&mut self, of: Asked, duplicate: bool) {
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

    /// Whether the address of a link may be used.
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
                Err(failure(FailureKind::Duplicate, 0, format!("somebody else has {address:?}")))
            }
            Some(flags) if flags & TENTATIVE != 0 => Err(failure(FailureKind::Tentative, 0, format!("{address:?} is tentative"))),
            Some(_) => Ok(()),
        }
    }

    /// IFA_PROTO of an address, if it is there.
    pub fn address_protocol(&mut self, netns: NetnsId, link: &str, address: AddressSpec) -> Option<u8> {
        let index = self.require(netns, link).ok()?.index;
        let found = self
            .space(netns)
            .addresses
            .iter()
            .find(|state| state.link == index && state.address == address);
        found.map(|state| state.protocol)
    }

    /// With the first IPv4 address of a subnet go the others of it, and with the last one all that speaks IPv4
    /// (`__inet_del_ifa` and `fib_disable_ip`).
    pub fn delete_address(&mut self, netns: NetnsId, link: &str, address: AddressSpec) {
        let Ok(found) = self.require(netns, link) else { return };
        let subnet = |spec: AddressSpec| (network_of(spec.address, spec.prefix_len), spec.prefix_len);
        let on_link = |state: &&AddressState| state.link == found.index && state.address.address.is_ipv4();
        let space = self.space(netns);
        let primary = space
            .addresses
            .iter()
            .filter(on_link)
            .find(|state| subnet(state.address) == subnet(address));
        let whole_subnet = primary.is_some_and(|primary| primary.address == address);
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

    /// Whether a foreign entry is in the way, and may be taken over.
    pub(super) fn adopt_neighbour(&mut self, netns: NetnsId, link: &str, address: IpAddr, adopt: bool) -> Result<Reply, Failure> {
        let link = self.require(netns, link)?.index;
        let neighbours = &self.space(netns).neighbours;
        let there = neighbours.iter().find(|entry| (entry.link, entry.address) == (link, address));
        adopted(there.map(|entry| entry.protocol), adopt)
    }

    /// As [`Self::adopt_neighbour`], for a route.
    pub(super) fn adopt_route(&mut self, netns: NetnsId, route: &RouteSpec, adopt: bool) -> Result<Reply, Failure> {
        let same = |state: &&RouteState| same_place(&state.route, route) && state.route.metric == stored_metric(route);
        let there = self.space(netns).routes.iter().find(same);
        adopted(there.map(|state| state.protocol), adopt)
    }

    /// Needs a link that is up, and for a gateway an address or a route of the link that covers it.
    pub fn add_route(&mut self, netns: NetnsId, link: &str, route: &RouteSpec, replace: bool, protocol: u8) -> Result<(), Failure> {
        let found = self.require(netns, link)?;
        let metric = stored_metric(route);
        if !found.up {
            return Err(refused(ENETDOWN, format!("link {link} is down")));
        }
        if network_of(route.destination, route.prefix_len) != route.destination {
            return Err(refused(EINVAL, "host bits are set"));
        }
        let space = self.space(netns);
        if let Some(gateway) = route.gateway {
            let of_address =
                |state: &AddressState| state.link == found.index && contains(state.address.address, state.address.prefix_len, gateway);
            let of_route = |state: &RouteState| {
                let (to, direct) = (&state.route, state.route.gateway.is_none());
                let in_scope = to.destination.is_ipv6() || to.scope >= SCOPE_LINK;
                state.link == found.index
                    && direct
                    && in_scope
                    && to.table == route.table
                    && contains(to.destination, to.prefix_len, gateway)
            };
            if !space.addresses.iter().any(of_address) && !space.routes.iter().any(of_route) {
                return Err(refused(ENETUNREACH, format!("gateway {gateway} cannot be reached through {link}")));
            }
        }
        let same = |state: &RouteState| same_place(&state.route, route) && state.route.metric == metric;
        match space.routes.iter().position(same) {
            Some(_) if !replace => return Err(refused(EEXIST, format!("there is a route to {}", route.destination))),
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

    /// IPv4 metric 0 means any, the lowest first.
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
