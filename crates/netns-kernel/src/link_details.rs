//! Reads links with details for display, such as flags, queues and counters.
//!
//! The dump of links for a snapshot (`link::dump`) omits the counters, because collecting them takes time in the kernel.

use nix::libc;
use rtnetlink::packet_route::{RouteNetlinkMessage, link::LinkMessage};

use super::{
    link::{self, HEADER_BYTES},
    netlink::{Refusal, RouteSocket, attributes, read_u32},
    operation::{LinkCounters, LinkDetails},
};

/// Reads all links in the namespace of the socket, with their details.
pub(super) fn dump(socket: &mut RouteSocket) -> Result<Vec<LinkDetails>, Refusal> {
    socket.dump(
        &RouteNetlinkMessage::GetLink(LinkMessage::default()),
        |payload, found: &mut Vec<_>| found.extend(parse(payload)),
    )
}

fn parse(payload: &[u8]) -> Option<LinkDetails> {
    let hardware = payload.get(2..4)?.try_into().ok()?;
    let mut details = LinkDetails {
        state: link::parse(payload)?,
        hardware: u16::from_ne_bytes(hardware),
        flags: read_u32(payload, 8)?,
        ..LinkDetails::default()
    };
    for (kind, value) in attributes(payload.get(HEADER_BYTES..)?) {
        match kind {
            libc::IFLA_NUM_RX_QUEUES => details.rx_queues = read_u32(value, 0)?,
            libc::IFLA_NUM_TX_QUEUES => details.tx_queues = read_u32(value, 0)?,
            libc::IFLA_TXQLEN => details.tx_queue_length = read_u32(value, 0)?,
            libc::IFLA_STATS64 => details.counters = counters(value)?,
            _ => {}
        }
    }
    Some(details)
}

/// Parses `struct rtnl_link_stats64`. The counters are in the order of its members (linux/if_link.h).
fn counters(value: &[u8]) -> Option<LinkCounters> {
    let mut numbers = value
        .chunks_exact(8)
        .map_while(|bytes| bytes.try_into().ok().map(u64::from_ne_bytes));
    Some(LinkCounters {
        rx_packets: numbers.next()?,
        tx_packets: numbers.next()?,
        rx_bytes: numbers.next()?,
        tx_bytes: numbers.next()?,
        rx_errors: numbers.next()?,
        tx_errors: numbers.next()?,
        rx_dropped: numbers.next()?,
        tx_dropped: numbers.next()?,
    })
}
