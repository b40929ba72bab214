//! Translates between [`RouteSpec`] and the rtnetlink messages for routes (RTM_*ROUTE).
//!
//! Requests that delete a route match only routes that have the agent's protocol number.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use nix::libc;
use rtnetlink::packet_core::{NLM_F_APPEND, NLM_F_CREATE, NLM_F_EXCL, NLM_F_REPLACE};
use rtnetlink::packet_route::{
    AddressFamily, RouteNetlinkMessage,
    route::{RouteAddress, RouteAttribute, RouteHeader, RouteMessage, RouteProtocol, RouteScope, RouteType, RouteVia},
};

use super::{
    address::read_ip,
    netlink::{Change, Refusal, RouteSocket, attributes, read_u16, read_u32},
    operation::{AddressRoute, PROTOCOL, RouteSpec, RouteState},
};

/// RTPROT_KERNEL in linux/rtnetlink.h.
pub(super) const KERNEL: u8 = libc::RTPROT_KERNEL;

/// Size of a `struct rtmsg` in bytes.
const HEADER_BYTES: usize = 12;
/// Size of a `struct rtnexthop` in bytes.
const NEXT_HOP_BYTES: usize = 8;
/// Metric that the kernel assigns to an IPv6 route without a metric (IP6_RT_PRIO_USER in net/ipv6_route.h).
const IPV6_DEFAULT_METRIC: u32 = 1024;
/// RTA_VIA in linux/rtnetlink.h: a gateway of any address family. The crate `libc` does not define it for musl.
const RTA_VIA: u16 = 18;
/// Scope that matches any scope in a deletion (RT_SCOPE_NOWHERE in linux/rtnetlink.h).
const ANY_SCOPE: u8 = 255;

/// Formats a route like `ip` does.
pub(super) fn show(spec: &RouteSpec) -> String {
    let mut text = format!("{}/{}", spec.destination, spec.prefix_len);
    if let Some(gateway) = spec.gateway {
        text.push_str(&format!(" via {gateway}"));
    }
    if spec.table != u32::from(RouteHeader::RT_TABLE_MAIN) {
        text.push_str(&format!(" table {}", spec.table));
    }
    if spec.metric != 0 {
        text.push_str(&format!(" metric {}", spec.metric));
    }
    text
}

/// Returns why the kernel does not support the route; `None` if the kernel supports it.
pub(super) fn unsupported(spec: &RouteSpec) -> Option<&'static str> {
    match (spec.destination, spec.gateway) {
        (IpAddr::V6(_), Some(IpAddr::V4(_))) => Some("an IPv6 route cannot have an IPv4 gateway"),
        _ => None,
    }
}

/// Returns the RTM_NEWROUTE request that adds a route.
///
/// If `replace` is true, the request replaces an equal route. Otherwise, the request fails with EEXIST if an equal route exists.
pub(super) fn add(index: u32, spec: &RouteSpec, replace: bool) -> Change {
    let mut message = message(index, spec);
    message.header.scope = if spec.destination.is_ipv4() {
        RouteScope::from(spec.scope)
    } else {
        RouteScope::Universe
    };
    if spec.metric != 0 {
        message.attributes.push(RouteAttribute::Priority(spec.metric));
    }
    let existing = if replace { NLM_F_REPLACE } else { NLM_F_EXCL };
    (RouteNetlinkMessage::NewRoute(message), NLM_F_CREATE | existing)
}

/// Returns the RTM_DELROUTE request that deletes a route. It matches only routes with the agent's protocol.
///
/// # Caveats
///
/// For IPv4, metric 0 matches any metric, and the kernel deletes the matching route with the lowest metric. If the route no
/// longer exists, the request therefore deletes another route of the agent that differs only in its metric.
pub(super) fn delete(index: u32, spec: &RouteSpec) -> Change {
    let mut message = message(index, spec);
    message.header.scope = if spec.destination.is_ipv4() {
        RouteScope::from(ANY_SCOPE)
    } else {
        RouteScope::Universe
    };
    let metric = if spec.metric == 0 && spec.destination.is_ipv6() {
        IPV6_DEFAULT_METRIC
    } else {
        spec.metric
    };
    if metric != 0 {
        message.attributes.push(RouteAttribute::Priority(metric));
    }
    (RouteNetlinkMessage::DelRoute(message), 0)
}

fn message(index: u32, spec: &RouteSpec) -> RouteMessage {
    let mut message = RouteMessage::default();
    message.header.address_family = family(spec.destination.is_ipv4());
    message.header.destination_prefix_length = spec.prefix_len;
    message.header.protocol = RouteProtocol::from(PROTOCOL);
    message.header.kind = RouteType::Unicast;
    // The header has room only for table numbers up to 255. Larger numbers need the attribute, which takes precedence over the
    // header.
    message.header.table = u8::try_from(spec.table).unwrap_or(RouteHeader::RT_TABLE_UNSPEC);
    if message.header.table == RouteHeader::RT_TABLE_UNSPEC {
        message.attributes.push(RouteAttribute::Table(spec.table));
    }
    if spec.prefix_len > 0 {
        message
            .attributes
            .push(RouteAttribute::Destination(RouteAddress::from(spec.destination)));
    }
    message.attributes.push(RouteAttribute::Oif(index));
    message
        .attributes
        .extend(spec.gateway.map(|gateway| match (spec.destination, gateway) {
            (IpAddr::V4(_), IpAddr::V6(gateway)) => RouteAttribute::Via(RouteVia::Inet6(gateway)),
            _ => RouteAttribute::Gateway(RouteAddress::from(gateway)),
        }));
    message
}

/// Returns the metric that the kernel stores for the route.
pub(super) fn effective_metric(spec: &RouteSpec) -> u32 {
    match spec.destination {
        IpAddr::V6(_) if spec.metric == 0 => IPV6_DEFAULT_METRIC,
        _ => spec.metric,
    }
}

/// Reads routes of all protocols and types for one address family in one table.
pub(super) fn dump_table(socket: &mut RouteSocket, table: u32, ipv4: bool) -> Result<Vec<RouteState>, Refusal> {
    let mut request = RouteMessage::default();
    request.header.address_family = family(ipv4);
    request.header.table = u8::try_from(table).unwrap_or(RouteHeader::RT_TABLE_UNSPEC);
    if request.header.table == RouteHeader::RT_TABLE_UNSPEC {
        request.attributes.push(RouteAttribute::Table(table));
    }
    let found = socket.dump(&RouteNetlinkMessage::GetRoute(request), |payload, found: &mut Vec<RouteState>| {
        let mut routes = Vec::new();
        parse(payload, &mut routes);
        found.extend(routes.into_iter().filter(|state| state.route.table == table));
    });
    match found {
        // ENOENT means that the table does not exist, so it has no routes.
        Err(refusal) if refusal.errno == libc::ENOENT => Ok(Vec::new()),
        found => found,
    }
}

/// Routes in a namespace that are relevant to the agent.
#[derive(Default)]
pub(super) struct Routes {
    /// Unicast routes with the agent's protocol, from all tables.
    pub own: Vec<RouteState>,
    /// Routes that the kernel created for addresses.
    pub of_addresses: Vec<AddressRoute>,
    /// Number of other routes in the kernel's replies.
    pub others: usize,
}

/// Routes to request from the kernel in one dump.
#[derive(Clone, Copy)]
pub(super) enum Selection {
    /// Routes that have the agent's protocol number.
    Own,
    /// Routes that the kernel created for addresses.
    OfAddresses,
    /// All routes. One unfiltered dump is faster than two filtered dumps, unless there are very many foreign routes.
    All,
}

/// Reads the selected routes of one address family from all tables, and adds them to `routes`.
pub(super) fn dump(socket: &mut RouteSocket, ipv4: bool, selection: Selection, routes: &mut Routes) -> Result<(), Refusal> {
    let mut request = RouteMessage::default();
    request.header.address_family = family(ipv4);
    match selection {
        Selection::Own => {
            request.header.protocol = RouteProtocol::from(PROTOCOL);
            request.header.kind = RouteType::Unicast;
        }
        Selection::OfAddresses => request.header.protocol = RouteProtocol::Kernel,
        Selection::All => {}
    }
    let found = match socket.dump(&RouteNetlinkMessage::GetRoute(request), parse_of_interest) {
        Ok(found) => found,
        // A kernel that does not support the address family has no routes for it.
        Err(refusal) if refusal.errno == libc::EOPNOTSUPP || refusal.errno == libc::EAFNOSUPPORT => return Ok(()),
        Err(refusal) => return Err(refusal),
    };
    // A kernel without strict checking ignores the filter, so drop the routes that were not requested.
    if !matches!(selection, Selection::OfAddresses) {
        routes.own.extend(found.own);
    }
    if !matches!(selection, Selection::Own) {
        routes.of_addresses.extend(found.of_addresses);
    }
    routes.others += found.others;
    Ok(())
}

/// Reads the routes of one address family that the kernel created for addresses.
pub(super) fn dump_of_addresses(socket: &mut RouteSocket, ipv4: bool) -> Result<Vec<AddressRoute>, Refusal> {
    let mut routes = Routes::default();
    dump(socket, ipv4, Selection::OfAddresses, &mut routes)?;
    Ok(routes.of_addresses)
}

/// Returns the RTM_NEWROUTE request that restores a route that the kernel created for an IPv4 address.
///
/// The restored route is identical to the original, so the kernel deletes it together with the address.
pub(super) fn add_of_address(route: &AddressRoute, source: IpAddr) -> Change {
    let spec = RouteSpec {
        destination: route.destination,
        prefix_len: route.prefix_len,
        gateway: None,
        table: route.table,
        scope: 0,
        metric: 0,
    };
    let mut message = message(route.link, &spec);
    message.header.protocol = RouteProtocol::Kernel;
    (message.header.kind, message.header.scope) = match route.local {
        true => (RouteType::Local, RouteScope::Host),
        false => (RouteType::Unicast, RouteScope::Link),
    };
    message.attributes.push(RouteAttribute::PrefSource(RouteAddress::from(source)));
    (RouteNetlinkMessage::NewRoute(message), NLM_F_CREATE | NLM_F_APPEND)
}

fn family(ipv4: bool) -> AddressFamily {
    match ipv4 {
        true => AddressFamily::Inet,
        false => AddressFamily::Inet6,
    }
}

/// Describes a conflicting route, for messages.
pub(super) fn describe(state: &RouteState) -> String {
    let owner = match state.protocol {
        1 => "redirect: added by the kernel after an ICMP redirect",
        2 => "kernel: added by the kernel for an address",
        3 => "boot: added with `ip route`",
        4 => "static: added by an administrator",
        9 => "ra: added by the kernel from a router advertisement",
        11 => "zebra: FRR",
        12 => "bird",
        16 => "dhcp: added by a DHCP client",
        18 => "keepalived",
        186 => "bgp",
        188 => "ospf",
        PROTOCOL => "a netns-agent",
        _ => "see /etc/iproute2/rt_protos",
    };
    let via = state.route.gateway.map(|gateway| format!("via {gateway}, ")).unwrap_or_default();
    format!("{via}protocol {} ({owner})", state.protocol)
}

fn parse_of_interest(payload: &[u8], found: &mut Routes) {
    match payload.first_chunk::<8>() {
        Some(&[.., PROTOCOL, _, libc::RTN_UNICAST]) => parse(payload, &mut found.own),
        Some(&[.., KERNEL, _, libc::RTN_UNICAST | libc::RTN_LOCAL]) => found.of_addresses.extend(parse_of_address(payload)),
        // The agent does not need the broadcast and multicast routes that the kernel creates for addresses.
        Some(&[.., KERNEL, _, _]) => {}
        _ => found.others += 1,
    }
}

/// Parses a route with a single output link, like the routes that the kernel creates for addresses.
fn parse_of_address(payload: &[u8]) -> Option<AddressRoute> {
    let &[family, prefix_len, _, _, table, _, _, kind] = payload.first_chunk::<8>()?;
    let mut route = AddressRoute {
        link: 0,
        destination: unspecified(family),
        prefix_len,
        table: table.into(),
        local: kind == libc::RTN_LOCAL,
    };
    for (kind, value) in attributes(payload.get(HEADER_BYTES..)?) {
        match kind {
            libc::RTA_DST => route.destination = read_ip(family, value)?,
            libc::RTA_TABLE => route.table = read_u32(value, 0)?,
            libc::RTA_OIF => route.link = read_u32(value, 0)?,
            _ => {}
        }
    }
    Some(route)
}

fn unspecified(family: u8) -> IpAddr {
    match i32::from(family) {
        libc::AF_INET6 => Ipv6Addr::UNSPECIFIED.into(),
        _ => Ipv4Addr::UNSPECIFIED.into(),
    }
}

fn parse(payload: &[u8], found: &mut Vec<RouteState>) {
    let Some(&[family, prefix_len, _, _, table, protocol, scope, _]) = payload.first_chunk::<8>() else {
        return;
    };
    let unspecified = unspecified(family);
    let route = RouteSpec {
        destination: unspecified,
        prefix_len,
        gateway: None,
        table: table.into(),
        scope,
        metric: 0,
    };
    let mut state = RouteState { link: 0, route, protocol };
    let mut next_hops = None;
    for (kind, value) in attributes(payload.get(HEADER_BYTES..).unwrap_or_default()) {
        match kind {
            libc::RTA_DST => state.route.destination = read_ip(family, value).unwrap_or(unspecified),
            libc::RTA_TABLE => state.route.table = read_u32(value, 0).unwrap_or(state.route.table),
            libc::RTA_PRIORITY => state.route.metric = read_u32(value, 0).unwrap_or(0),
            libc::RTA_OIF => state.link = read_u32(value, 0).unwrap_or(0),
            libc::RTA_GATEWAY | RTA_VIA => state.route.gateway = read_gateway(family, kind, value),
            libc::RTA_MULTIPATH => next_hops = Some(value),
            _ => {}
        }
    }
    match next_hops {
        None => found.push(state),
        Some(hops) => parse_next_hops(hops, family, &state, found),
    }
}

/// Parses each next hop as a separate route, because the kernel merges IPv6 routes that differ only in their gateway.
fn parse_next_hops(mut hops: &[u8], family: u8, state: &RouteState, found: &mut Vec<RouteState>) {
    while let (Some(length), Some(link)) = (read_u16(hops, 0), read_u32(hops, 4)) {
        let Some(hop) = hops.get(NEXT_HOP_BYTES..usize::from(length)) else {
            return;
        };
        let mut state = RouteState { link, ..state.clone() };
        state.route.gateway = attributes(hop)
            .find(|(kind, _)| matches!(*kind, libc::RTA_GATEWAY | RTA_VIA))
            .and_then(|(kind, value)| read_gateway(family, kind, value));
        found.push(state);
        hops = hops.get(usize::from(length).next_multiple_of(4)..).unwrap_or_default();
    }
}

/// Parses the address of a gateway. An RTA_GATEWAY address has the family of the route. RTA_VIA specifies the family of its
/// address (`struct rtvia`).
fn read_gateway(family: u8, kind: u16, value: &[u8]) -> Option<IpAddr> {
    match kind {
        RTA_VIA => read_ip(u8::try_from(read_u16(value, 0)?).ok()?, value.get(2..)?),
        _ => read_ip(family, value),
    }
}
