//! Builds and parses the rtnetlink messages for neighbour entries (RTM_*NEIGH), which are used for ARP and NDP.

use std::net::IpAddr;

use nix::libc;
use rtnetlink::packet_core::{NLM_F_CREATE, NLM_F_EXCL, NLM_F_REPLACE};
use rtnetlink::packet_route::{
    AddressFamily, RouteNetlinkMessage,
    neighbour::{NeighbourAddress, NeighbourAttribute, NeighbourMessage, NeighbourState as EntryState},
    route::RouteProtocol,
};

use super::{
    address::read_ip,
    link::show_mac,
    netlink::{Change, Refusal, RouteSocket, attributes, read_u16, read_u32},
    operation::{LinkState, NeighbourState, PROTOCOL},
};

/// Size of a `struct ndmsg` in bytes.
const HEADER_BYTES: usize = 12;
/// NDA_PROTOCOL in linux/neighbour.h.
pub(super) const NDA_PROTOCOL: u16 = 12;

/// Returns the RTM_NEWNEIGH request that adds a permanent entry.
///
/// If `replace` is true, the request replaces an existing entry. Otherwise, the request fails with EEXIST if an entry exists.
pub(super) fn set(index: u32, address: IpAddr, mac: [u8; 6], replace: bool) -> Change {
    let mut message = message(index, address);
    message.header.state = EntryState::Permanent;
    message.attributes.push(NeighbourAttribute::LinkLayerAddress(mac.to_vec()));
    message.attributes.push(NeighbourAttribute::Protocol(RouteProtocol::from(PROTOCOL)));
    let existing = if replace { NLM_F_REPLACE } else { NLM_F_EXCL };
    (RouteNetlinkMessage::NewNeighbour(message), NLM_F_CREATE | existing)
}

/// Returns the reason why the kernel would not store this entry unchanged on the link; `None` if no reason is known.
pub(super) fn unsupported(link: &LinkState, address: IpAddr) -> Option<&'static str> {
    match link {
        LinkState { mac: None, .. } => Some("the link (a tunnel or TUN device) has no MAC address, so its neighbours cannot have one"),
        LinkState {
            single_neighbour: true, ..
        } if address.is_ipv4() => {
            Some("on a loopback or point-to-point link, the kernel keeps a single entry, 0.0.0.0, for all IPv4 neighbours")
        }
        _ => None,
    }
}

/// Returns whether the kernel stores entries unchanged on links of this kind. If so, the agent does not read them back.
pub(super) fn is_kept_on(link: &LinkState) -> bool {
    matches!(link.kind.as_str(), "veth" | "dummy" | "vrf")
}

/// Returns the RTM_DELNEIGH request that deletes the entry for an address.
pub(super) fn delete(index: u32, address: IpAddr) -> Change {
    (RouteNetlinkMessage::DelNeighbour(message(index, address)), 0)
}

fn message(index: u32, address: IpAddr) -> NeighbourMessage {
    let mut message = NeighbourMessage::default();
    message.header.family = if address.is_ipv4() {
        AddressFamily::Inet
    } else {
        AddressFamily::Inet6
    };
    message.header.ifindex = index;
    message.attributes = vec![NeighbourAttribute::Destination(match address {
        IpAddr::V4(address) => NeighbourAddress::Inet(address),
        IpAddr::V6(address) => NeighbourAddress::Inet6(address),
    })];
    message
}

/// Reads the entry for an address; `None` if the link has no such entry.
pub(super) fn find(socket: &mut RouteSocket, index: u32, address: IpAddr) -> Result<Option<Entry>, Refusal> {
    match socket.get(RouteNetlinkMessage::GetNeighbour(message(index, address))) {
        Ok(payload) => Ok(parse(&payload)),
        Err(refusal) if refusal.errno == libc::ENOENT => Ok(None),
        Err(refusal) => Err(refusal),
    }
}

/// Reads the permanent entries that have the agent's protocol number.
///
/// This function filters the entries itself, because the kernel cannot filter them by state or protocol. Each dump makes the
/// kernel walk a table that all namespaces share.
pub(super) fn dump(socket: &mut RouteSocket) -> Result<Vec<NeighbourState>, Refusal> {
    let message = RouteNetlinkMessage::GetNeighbour(NeighbourMessage::default());
    socket.dump(&message, |payload, found: &mut Vec<_>| {
        found.extend(
            parse(payload)
                .filter(|entry| entry.permanent && entry.protocol == PROTOCOL)
                .and_then(Entry::into_state),
        );
    })
}

/// The fields of a neighbour entry that the agent uses. The entry can be in any state.
pub(super) struct Entry {
    link: u32,
    address: Option<IpAddr>,
    mac: Option<[u8; 6]>,
    /// Protocol of the entry (NDA_PROTOCOL); 0 if it has none.
    pub protocol: u8,
    /// True if the entry is permanent (NUD_PERMANENT).
    pub permanent: bool,
}

impl Entry {
    /// Returns whether another program created the entry. Entries that the kernel has learnt are not permanent and do not count
    /// as foreign.
    pub fn is_foreign(&self) -> bool {
        self.permanent && self.protocol != PROTOCOL
    }

    /// Returns whether the entry is permanent and has this address and this MAC address.
    pub fn is_as_set(&self, address: IpAddr, mac: [u8; 6]) -> bool {
        self.permanent && (self.address, self.mac) == (Some(address), Some(mac))
    }

    /// Describes a conflicting entry, for messages.
    pub fn describe(&self) -> String {
        let mac = self.mac.map(|mac| format!("{}, ", show_mac(mac))).unwrap_or_default();
        format!("{mac}permanent, protocol {}", self.protocol)
    }

    fn into_state(self) -> Option<NeighbourState> {
        Some(NeighbourState {
            link: self.link,
            address: self.address?,
            mac: self.mac?,
            protocol: self.protocol,
        })
    }
}

/// Parses RTM_NEWNEIGH and RTM_DELNEIGH.
pub(super) fn parse(payload: &[u8]) -> Option<Entry> {
    let family = *payload.first()?;
    let permanent = read_u16(payload, 8)? & libc::NUD_PERMANENT != 0;
    let mut entry = Entry {
        link: read_u32(payload, 4)?,
        address: None,
        mac: None,
        protocol: 0,
        permanent,
    };
    for (kind, value) in attributes(payload.get(HEADER_BYTES..)?) {
        match kind {
            libc::NDA_DST => entry.address = read_ip(family, value),
            libc::NDA_LLADDR => entry.mac = value.try_into().ok(),
            NDA_PROTOCOL => entry.protocol = value.first().copied().unwrap_or(0),
            _ => {}
        }
    }
    Some(entry)
}
