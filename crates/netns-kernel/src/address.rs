//! Translates between [`AddressSpec`] and the rtnetlink messages for addresses (RTM_*ADDR).

use std::net::IpAddr;

use nix::libc;
use rtnetlink::packet_core::{NLM_F_CREATE, NLM_F_EXCL, NLM_F_REPLACE};
use rtnetlink::packet_route::{
    AddressFamily, RouteNetlinkMessage,
    address::{AddressAttribute, AddressFlags, AddressMessage, AddressProtocol, AddressScope},
};

use super::{
    netlink::{Change, Refusal, RouteSocket, attributes, read_u32},
    operation::{AddressDetection, AddressSpec, AddressState, PROTOCOL},
};

/// Size of a `struct ifaddrmsg` in bytes.
const HEADER_BYTES: usize = 8;
/// IFA_PROTO in linux/if_addr.h, since Linux 5.18.
const IFA_PROTO: u16 = 11;

/// Formats an address with its prefix length, like `ip` does.
pub(super) fn show(spec: &AddressSpec) -> String {
    format!("{}/{}", spec.address, spec.prefix_len)
}

/// Returns the network part of an IPv4 address. Returns `None` for an IPv6 address, because only IPv4 subnets have primary and
/// secondary addresses.
pub(super) fn network(spec: &AddressSpec) -> Option<u32> {
    match spec.address {
        IpAddr::V4(address) => Some(u32::from(address) & u32::MAX.checked_shl(32 - u32::from(spec.prefix_len)).unwrap_or(0)),
        IpAddr::V6(_) => None,
    }
}

/// Returns the RTM_NEWADDR request that adds an address to the link with this index.
///
/// If `take_over` is true, the request marks an existing address as the agent's. Otherwise, the request fails with EEXIST if
/// the address exists.
pub(super) fn add(index: u32, spec: &AddressSpec, detection: AddressDetection, take_over: bool) -> Change {
    let mut message = message(index, spec);
    if let IpAddr::V4(address) = spec.address
        && address.is_loopback()
    {
        // Use host scope for 127.0.0.0/8, like `ip address add` does, because these addresses are valid only on this host.
        message.header.scope = AddressScope::Host;
    }
    let flags = match detection {
        _ if spec.address.is_ipv4() => None,
        AddressDetection::Default => None,
        AddressDetection::Off => Some(AddressFlags::Nodad),
        AddressDetection::Optimistic => Some(AddressFlags::Optimistic),
    };
    message.attributes.extend(flags.map(AddressAttribute::Flags));
    message
        .attributes
        .push(AddressAttribute::Protocol(AddressProtocol::Other(PROTOCOL)));
    let flag = if take_over { NLM_F_REPLACE } else { NLM_F_EXCL };
    (RouteNetlinkMessage::NewAddress(message), NLM_F_CREATE | flag)
}

/// Returns the RTM_DELADDR request that deletes an address from the link with this index.
pub(super) fn delete(index: u32, spec: &AddressSpec) -> Change {
    (RouteNetlinkMessage::DelAddress(message(index, spec)), 0)
}

fn message(index: u32, spec: &AddressSpec) -> AddressMessage {
    let mut message = AddressMessage::default();
    message.header.family = if spec.address.is_ipv4() {
        AddressFamily::Inet
    } else {
        AddressFamily::Inet6
    };
    message.header.prefix_len = spec.prefix_len;
    message.header.index = index;
    message.attributes = vec![AddressAttribute::Local(spec.address), AddressAttribute::Address(spec.address)];
    message
}

/// Reads all IPv4 and IPv6 addresses in the namespace of the socket.
pub(super) fn dump(socket: &mut RouteSocket) -> Result<Vec<AddressState>, Refusal> {
    let message = RouteNetlinkMessage::GetAddress(AddressMessage::default());
    socket.dump(&message, |payload, found: &mut Vec<_>| found.extend(parse(payload)))
}

fn parse(payload: &[u8]) -> Option<AddressState> {
    let [family, prefix_len, flags, scope] = *payload.first_chunk::<4>()?;
    let (mut local, mut address, mut protocol, mut flags) = (None, None, 0, u32::from(flags));
    for (kind, value) in attributes(payload.get(HEADER_BYTES..)?) {
        match kind {
            libc::IFA_LOCAL => local = read_ip(family, value),
            libc::IFA_ADDRESS => address = read_ip(family, value),
            // This attribute contains all flags. The message header has room for only the first eight.
            libc::IFA_FLAGS => flags = read_u32(value, 0)?,
            IFA_PROTO => protocol = value.first().copied().unwrap_or(0),
            _ => {}
        }
    }
    // IFA_LOCAL is the address of the link itself. IFA_ADDRESS is the peer's address if there is a peer. The kernel does not send
    // IFA_LOCAL for an IPv6 address without a peer.
    let address = AddressSpec {
        address: local.or(address)?,
        prefix_len,
    };
    Some(AddressState {
        link: read_u32(payload, 4)?,
        address,
        protocol,
        scope,
        flags,
    })
}

/// Parses an AF_INET or AF_INET6 address.
pub(super) fn read_ip(family: u8, value: &[u8]) -> Option<IpAddr> {
    match i32::from(family) {
        libc::AF_INET => <[u8; 4]>::try_from(value).ok().map(IpAddr::from),
        libc::AF_INET6 => <[u8; 16]>::try_from(value).ok().map(IpAddr::from),
        _ => None,
    }
}
