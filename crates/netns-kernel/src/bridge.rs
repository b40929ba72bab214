//! Sets and reads the VLANs of bridges and their ports through AF_BRIDGE rtnetlink messages.
//!
//! Translates between [`BridgeVlan`] and IFLA_AF_SPEC.

use rtnetlink::packet_core::DefaultNla;
use rtnetlink::packet_route::{
    AddressFamily, RouteNetlinkMessage,
    link::{LinkAttribute, LinkExtentMask, LinkMessage},
};

use super::{
    link::{HEADER_BYTES, encode},
    netlink::{Change, Refusal, RouteSocket, attributes, read_u16, read_u32},
    operation::{Attr, BridgeVlan, LinkState},
};

/// Link kind (IFLA_INFO_KIND) of bridges, which is also the port kind (IFLA_INFO_SLAVE_KIND) of their ports.
const BRIDGE: &str = "bridge";
/// IFLA_AF_SPEC of linux/if_link.h.
const AF_SPEC: u16 = 26;
/// IFLA_BRIDGE_FLAGS and IFLA_BRIDGE_VLAN_INFO of linux/if_bridge.h.
const FLAGS: u16 = 0;
const VLAN_INFO: u16 = 2;
/// BRIDGE_FLAGS_SELF of linux/if_bridge.h. A request with this flag applies to the bridge itself, not to one of its ports.
const ITSELF: u16 = 2;
/// BRIDGE_VLAN_INFO_* of linux/if_bridge.h.
const PVID: u16 = 2;
const UNTAGGED: u16 = 4;
const RANGE_BEGIN: u16 = 8;
const RANGE_END: u16 = 16;

/// Returns the RTM_SETLINK request that adds a VLAN range to a link, or the RTM_DELLINK request that removes the range.
///
/// `itself` is `true` if the link is the bridge and not one of its ports.
pub(super) fn change(index: u32, vlan: &BridgeVlan, itself: bool, present: bool) -> Change {
    let mut message = LinkMessage::default();
    message.header.interface_family = AddressFamily::Bridge;
    message.header.index = index;
    let mut flags = 0;
    flags |= if vlan.pvid { PVID } else { 0 };
    flags |= if vlan.untagged { UNTAGGED } else { 0 };
    let info = |flags: u16, vid: u16| [flags.to_ne_bytes(), vid.to_ne_bytes()].concat();
    let mut values = Vec::new();
    if itself {
        values.push((FLAGS, ITSELF.to_ne_bytes().to_vec()));
    }
    match vlan.first == vlan.last {
        true => values.push((VLAN_INFO, info(flags, vlan.first))),
        false => values.extend([
            (VLAN_INFO, info(flags | RANGE_BEGIN, vlan.first)),
            (VLAN_INFO, info(flags | RANGE_END, vlan.last)),
        ]),
    }
    let attribute = |(number, value)| Attr {
        number,
        name: "VLAN",
        value,
        immutable: false,
    };
    let values: Vec<Attr> = values.into_iter().map(attribute).collect();
    message
        .attributes
        .push(LinkAttribute::Other(DefaultNla::new(AF_SPEC, encode(&values))));
    match present {
        true => (RouteNetlinkMessage::SetLink(message), 0),
        false => (RouteNetlinkMessage::DelLink(message), 0),
    }
}

/// Reads the VLANs of all bridges and ports. Sends no request if `links` contains no bridges or ports.
pub(super) fn dump(socket: &mut RouteSocket, links: &[LinkState]) -> Result<Vec<BridgeVlan>, Refusal> {
    if !links.iter().any(|link| link.kind == BRIDGE || link.port_kind == BRIDGE) {
        return Ok(Vec::new());
    }
    let mut message = LinkMessage::default();
    message.header.interface_family = AddressFamily::Bridge;
    message.attributes = vec![LinkAttribute::ExtMask(vec![
        LinkExtentMask::BrvlanCompressed,
        LinkExtentMask::SkipStats,
    ])];
    socket.dump(&RouteNetlinkMessage::GetLink(message), |payload, found: &mut Vec<_>| {
        parse(payload, found)
    })
}

fn parse(payload: &[u8], found: &mut Vec<BridgeVlan>) {
    let (Some(link), Some(rest)) = (read_u32(payload, 4), payload.get(HEADER_BYTES..)) else {
        return;
    };
    let mut begun = None;
    for (_, spec) in attributes(rest).filter(|(number, _)| *number == AF_SPEC) {
        for (_, info) in attributes(spec).filter(|(number, _)| *number == VLAN_INFO) {
            let (Some(flags), Some(vid)) = (read_u16(info, 0), read_u16(info, 2)) else {
                continue;
            };
            if flags & RANGE_BEGIN != 0 {
                begun = Some(vid);
                continue;
            }
            found.push(BridgeVlan {
                link,
                first: begun.take().filter(|_| flags & RANGE_END != 0).unwrap_or(vid),
                last: vid,
                pvid: flags & PVID != 0,
                untagged: flags & UNTAGGED != 0,
            });
        }
    }
}
