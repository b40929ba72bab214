//! Determines the routes that the kernel creates for an address, and restores missing ones.
//!
//! For each address, the kernel creates a local route, which delivers packets to the address on this host. It usually also
//! creates the connected route of the subnet. Any program can delete these routes (`ip route flush dev eth0`), and the kernel
//! does not recreate them by itself.

use std::{collections::HashSet, net::IpAddr};

use nix::libc;

use super::{
    address, failure, link,
    netlink::{Refusal, RouteSocket},
    operation::{AddressDetection, AddressRoute, AddressSpec, AddressState, Failure, LinkState},
    route::{self, Routes, Selection},
    worker::{On, Worker},
};

/// RT_TABLE_MAIN and RT_TABLE_LOCAL of linux/rtnetlink.h.
const MAIN: u32 = 254;
const LOCAL: u32 = 255;
/// IFA_F_SECONDARY and IFA_F_NOPREFIXROUTE of linux/if_addr.h.
const SECONDARY: u32 = 0x01;
const NO_PREFIX_ROUTE: u32 = 0x200;

/// Returns the routes that the kernel must have for an address. If the link is down, the result is empty.
///
/// `vrf_table` is the routing table of the VRF if the link is a VRF device or a port of a VRF device; otherwise `None`.
///
/// Follows `fib_add_ifaddr` in net/ipv4/fib_frontend.c and `inet6_addr_add` in net/ipv6/addrconf.c.
pub fn routes_of_address(link: &LinkState, state: &AddressState, vrf_table: Option<u32>) -> Vec<AddressRoute> {
    if !link.up {
        return Vec::new();
    }
    match state.address.address {
        IpAddr::V4(_) => of_ipv4(link, state, vrf_table),
        IpAddr::V6(_) => of_ipv6(link, state, vrf_table),
    }
}

fn route_to(link: &LinkState, to: AddressSpec, table: u32, local: bool) -> AddressRoute {
    AddressRoute {
        link: link.index,
        destination: network_of(to),
        prefix_len: to.prefix_len,
        table,
        local,
    }
}

fn network_of(spec: AddressSpec) -> IpAddr {
    match spec.address {
        IpAddr::V4(address) => {
            let mask = u32::MAX.checked_shl(32 - u32::from(spec.prefix_len)).unwrap_or(0);
            IpAddr::V4((address.to_bits() & mask).into())
        }
        IpAddr::V6(address) => {
            let mask = u128::MAX.checked_shl(128 - u32::from(spec.prefix_len)).unwrap_or(0);
            IpAddr::V6((address.to_bits() & mask).into())
        }
    }
}

fn of_ipv4(link: &LinkState, state: &AddressState, vrf_table: Option<u32>) -> Vec<AddressRoute> {
    let spec = state.address;
    // The kernel creates different routes or no routes for unusual addresses (0.0.0.0/8, multicast and reserved addresses).
    let first = network_of(AddressSpec { prefix_len: 8, ..spec });
    let is_usual = matches!(first, IpAddr::V4(first) if (1..224).contains(&first.octets()[0]));
    if !is_usual {
        return Vec::new();
    }
    let host = AddressSpec { prefix_len: 32, ..spec };
    let mut routes = vec![route_to(link, host, vrf_table.unwrap_or(LOCAL), true)];
    let is_alone = spec.prefix_len == 32 && network_of(spec) == spec.address;
    let zero_network = matches!(network_of(spec), IpAddr::V4(network) if network.octets()[0] == 0);
    if state.flags & (SECONDARY | NO_PREFIX_ROUTE) == 0 && !is_alone && !zero_network {
        let loopback = link.name == "lo";
        let table = vrf_table.unwrap_or(if loopback { LOCAL } else { MAIN });
        routes.push(route_to(link, spec, table, loopback));
    }
    routes
}

/// Returns the connected route of an IPv6 address, but not the local route.
///
/// The local route is not checked, because the kernel creates it some time after the address (`addrconf_dad_completed`) and
/// does not report when.
fn of_ipv6(link: &LinkState, state: &AddressState, vrf_table: Option<u32>) -> Vec<AddressRoute> {
    match state.flags & NO_PREFIX_ROUTE {
        0 => vec![route_to(link, state.address, vrf_table.unwrap_or(MAIN), false)],
        _ => Vec::new(),
    }
}

/// Returns whether the agent reads and checks the kernel's routes for an address.
///
/// The agent reads these routes for its own addresses. Before Linux 5.18, addresses have no protocol number, so addresses without
/// a protocol number are included too. Addresses of link or host scope without a protocol number are excluded, because the kernel
/// assigns them by itself.
pub fn are_routes_read(state: &AddressState) -> bool {
    state.protocol == super::PROTOCOL || state.protocol == 0 && state.scope < libc::RT_SCOPE_LINK
}

/// Maximum number of foreign routes in a namespace that is read with one unfiltered dump. Above this number, two filtered dumps
/// are faster.
const OTHERS_MAX: usize = 500;

/// Reads the agent's routes in a namespace. Also reads the routes that the kernel created for addresses, but only for address
/// families in which the agent has addresses.
///
/// `others` is the highest number of foreign routes that earlier dumps of the namespace have returned. This function updates
/// the number.
pub(super) fn dump(socket: &mut RouteSocket, addresses: &[AddressState], others: &mut usize) -> Result<Routes, Refusal> {
    let mut routes = Routes::default();
    for ipv4 in [true, false] {
        let concerns = |state: &AddressState| state.address.address.is_ipv4() == ipv4 && are_routes_read(state);
        let has_addresses = addresses.iter().any(concerns);
        if has_addresses && *others <= OTHERS_MAX {
            route::dump(socket, ipv4, Selection::All, &mut routes)?;
            continue;
        }
        route::dump(socket, ipv4, Selection::Own, &mut routes)?;
        if has_addresses {
            route::dump(socket, ipv4, Selection::OfAddresses, &mut routes)?;
        }
    }
    // Never lower the number, because a filtered dump contains no foreign routes to count. Once a namespace has had too many
    // foreign routes, it is always read with filtered dumps.
    *others = routes.others.max(*others);
    Ok(routes)
}

impl Worker {
    /// Restores missing routes of an address on the link.
    pub(super) fn restore_routes(&mut self, on: On<'_>, spec: &AddressSpec, detection: AddressDetection) -> Result<(), Failure> {
        if self.missing_routes(on, spec)?.is_empty() {
            return Ok(());
        }
        let action = || format!("restore the routes of address {} on link \"{}\"", address::show(spec), on.1);
        if spec.address.is_ipv6() {
            // Replacing the IPv6 address makes the kernel restore its connected route.
            self.on_link(on, action, |index| address::add(index, spec, detection, true))?;
        }
        let missing = self.missing_routes(on, spec)?;
        // Restore the local route first, because the source address of the connected route must be local.
        for route in &missing {
            self.on_link(on, action, |_| route::add_of_address(route, spec.address))?;
        }
        match self.missing_routes(on, spec)?.first() {
            None => Ok(()),
            Some(route) => Err(failure::other(format!(
                "cannot {} in {}: the route {}/{} is missing, although the kernel accepted it",
                action(),
                self.place(on.0),
                route.destination,
                route.prefix_len
            ))),
        }
    }

    /// Returns the routes of an address that the kernel should have but does not have. Reads the link, its addresses and its
    /// routes again.
    fn missing_routes(&mut self, on: On<'_>, spec: &AddressSpec) -> Result<Vec<AddressRoute>, Failure> {
        let (netns, name, _) = on;
        self.links.remove(&(netns, name.to_owned()));
        let found = self.require(netns, name, "find")?;
        let Some(state) = self.addresses_of(netns, &found)?.into_iter().find(|state| state.address == *spec) else {
            return Ok(Vec::new());
        };
        let pinned = self.namespaces.get_mut(netns)?;
        let read = |socket: &mut RouteSocket| {
            let table = link::vrf_table(socket, &found)?;
            let there: HashSet<AddressRoute> = route::dump_of_addresses(socket, spec.address.is_ipv4())?.into_iter().collect();
            let expected = routes_of_address(&found, &state, table);
            Ok(expected.into_iter().filter(|route| !there.contains(route)).collect())
        };
        read(&mut pinned.route).map_err(|refusal| failure::refused(&format!("read the routes of link \"{name}\""), &pinned.place, &refusal))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn link() -> LinkState {
        LinkState {
            index: 7,
            name: "eth0".to_owned(),
            up: true,
            oper_state: 6,
            ..LinkState::default()
        }
    }

    fn expected(link: &LinkState, text: &str, flags: u32, vrf_table: Option<u32>) -> Vec<String> {
        let (address, prefix_len) = text.split_once('/').expect("address with a prefix length");
        let state = AddressState {
            link: link.index,
            address: AddressSpec {
                address: address.parse().expect("valid address"),
                prefix_len: prefix_len.parse().expect("numeric prefix length"),
            },
            protocol: super::super::PROTOCOL,
            scope: 0,
            flags,
        };
        let show = |route: &AddressRoute| {
            let kind = if route.local { "local " } else { "" };
            format!("{kind}{}/{} table {}", route.destination, route.prefix_len, route.table)
        };
        routes_of_address(link, &state, vrf_table).iter().map(show).collect()
    }

    #[test]
    fn expects_the_routes_that_the_kernel_makes_for_an_address() {
        let eth0 = link();
        let lo = LinkState {
            name: "lo".to_owned(),
            ..link()
        };
        let down = LinkState { up: false, ..link() };
        /// Test case: link, address, address flags, routing table of the VRF, and expected routes.
        type Case<'a> = (&'a LinkState, &'a str, u32, Option<u32>, &'a [&'a str]);
        let cases: &[Case] = &[
            (
                &eth0,
                "10.1.1.1/24",
                0,
                None,
                &["local 10.1.1.1/32 table 255", "10.1.1.0/24 table 254"],
            ),
            (&eth0, "10.1.1.1/32", 0, None, &["local 10.1.1.1/32 table 255"]),
            (
                &eth0,
                "10.1.1.0/31",
                0,
                None,
                &["local 10.1.1.0/32 table 255", "10.1.1.0/31 table 254"],
            ),
            (&eth0, "10.1.1.2/24", SECONDARY, None, &["local 10.1.1.2/32 table 255"]),
            (&eth0, "10.1.1.2/24", NO_PREFIX_ROUTE, None, &["local 10.1.1.2/32 table 255"]),
            (&eth0, "10.1.1.1/0", 0, None, &["local 10.1.1.1/32 table 255"]),
            (&eth0, "0.0.0.5/24", 0, None, &[]),
            (&eth0, "224.0.0.9/24", 0, None, &[]),
            (
                &eth0,
                "10.1.1.1/24",
                0,
                Some(30),
                &["local 10.1.1.1/32 table 30", "10.1.1.0/24 table 30"],
            ),
            (
                &lo,
                "10.1.1.1/24",
                0,
                None,
                &["local 10.1.1.1/32 table 255", "local 10.1.1.0/24 table 255"],
            ),
            (&down, "10.1.1.1/24", 0, None, &[]),
            (&eth0, "fd00::1/64", 0, None, &["fd00::/64 table 254"]),
            (&eth0, "fd00::1/128", 0, None, &["fd00::1/128 table 254"]),
            (&eth0, "fd00::1/64", 0x40, None, &["fd00::/64 table 254"]),
            (&eth0, "fd00::1/64", NO_PREFIX_ROUTE, None, &[]),
            (&eth0, "fd00::1/64", 0, Some(30), &["fd00::/64 table 30"]),
            (&down, "fd00::1/64", 0, None, &[]),
        ];
        for (link, text, flags, vrf_table, routes) in cases {
            assert_eq!(
                expected(link, text, *flags, *vrf_table),
                *routes,
                "{text} on {} with flags {flags:#x}",
                link.name
            );
        }
    }
}
