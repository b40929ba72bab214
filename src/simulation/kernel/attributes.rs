//! Attributes of link kinds in the simulated kernel, encoded as in netlink messages.
//!
//! Implements changes to existing links independently of the agent's tables.

use netns_kernel::{Attr, LinkState};

/// Attributes that consist of flags and a mask. The only one is IFLA_VLAN_FLAGS (linux/if_link.h). A request changes only the
/// flags that the mask selects.
const FLAGS: [(&str, u16); 1] = [("vlan", 2)];
/// Attributes that the kernel silently ignores for existing links: IFLA_VLAN_ID, IFLA_VLAN_PROTOCOL, IFLA_VRF_TABLE.
const IGNORED: [(&str, u16); 3] = [("vlan", 1), ("vlan", 5), ("vrf", 1)];

/// Default attributes of a new link, as shown by `ip -d link`: IFLA_BR_*, IFLA_VLAN_*.
const BRIDGE: &[(u16, &[u8])] = &[
    (1, &1_500_u32.to_ne_bytes()),
    (2, &200_u32.to_ne_bytes()),
    (3, &2_000_u32.to_ne_bytes()),
    (4, &30_000_u32.to_ne_bytes()),
    (5, &0_u32.to_ne_bytes()),
    (6, &32_768_u16.to_ne_bytes()),
    (7, &[0]),
    (8, &0x8100_u16.to_be_bytes()),
    (9, &0_u16.to_ne_bytes()),
    (23, &[1]),
    (25, &[0]),
    (39, &1_u16.to_ne_bytes()),
];
const VLAN: &[(u16, &[u8])] = &[(5, &0x8100_u16.to_be_bytes()), (2, &[1, 0, 0, 0, 255, 255, 255, 255])];
/// Default attributes of a new bridge port: IFLA_BRPORT_*.
const BRIDGE_PORT: &[(u16, &[u8])] = &[
    (2, &32_u16.to_ne_bytes()),
    (3, &2_u32.to_ne_bytes()),
    (4, &[0]),
    (5, &[0]),
    (6, &[0]),
    (8, &[1]),
    (9, &[1]),
    (32, &[0]),
    (33, &[0]),
];

/// Sets the default attributes of a new link.
pub(super) fn begin(link: &mut LinkState) {
    let defaults = match link.kind.as_str() {
        "bridge" => BRIDGE,
        "vlan" => VLAN,
        _ => &[],
    };
    defaults.iter().for_each(|(number, value)| set(link, *number, value));
}

/// Attaches a link as a port to a master of the given kind. An empty kind means that the link has no master.
pub(super) fn begin_port(link: &mut LinkState, kind: &str) {
    link.port.clear();
    link.port_kind = kind.to_owned();
    if kind == "bridge" {
        link.port = BRIDGE_PORT.iter().flat_map(|(number, value)| encode(*number, value)).collect();
    }
}

/// Changes attributes of a port.
pub(super) fn change_port(link: &mut LinkState, changes: &[Attr]) {
    let mut found = attributes(&link.port);
    for change in changes {
        found.retain(|(number, _)| *number != change.number);
        found.push((change.number, change.value.clone()));
    }
    link.port = found.iter().flat_map(|(number, value)| encode(*number, value)).collect();
}

/// Sets an attribute of a link, including attributes that the kernel accepts only when the link is created.
pub(super) fn set(link: &mut LinkState, number: u16, value: &[u8]) {
    let mut found: Vec<(u16, Vec<u8>)> = attributes(&link.info);
    let is_flags = FLAGS.contains(&(link.kind.as_str(), number));
    let old = found.iter().find(|(other, _)| *other == number).map(|(_, value)| value.clone());
    let value = match old.filter(|_| is_flags) {
        Some(old) => masked(&old, value),
        None => value.to_vec(),
    };
    match found.iter_mut().find(|(other, _)| *other == number) {
        Some((_, old)) => *old = value,
        None => found.push((number, value)),
    }
    link.info = found.iter().flat_map(|(number, value)| encode(*number, value)).collect();
}

/// Changes attributes of an existing link, except for those that the kernel ignores.
pub(super) fn change(link: &mut LinkState, attributes: &[Attr]) {
    for attribute in attributes {
        if !IGNORED.contains(&(link.kind.as_str(), attribute.number)) {
            set(link, attribute.number, &attribute.value);
        }
    }
}

fn masked(old: &[u8], new: &[u8]) -> Vec<u8> {
    let read = |bytes: &[u8], at: usize| {
        bytes
            .get(at..at + 4)
            .and_then(|four| four.try_into().ok())
            .map_or(0, u32::from_ne_bytes)
    };
    let (flags, mask) = (read(new, 0), read(new, 4));
    let flags = (read(old, 0) & !mask) | (flags & mask);
    [flags.to_ne_bytes(), u32::MAX.to_ne_bytes()].concat()
}

/// Encodes a `struct nlattr` with its value and padding.
fn encode(number: u16, value: &[u8]) -> Vec<u8> {
    let length = u16::try_from(4 + value.len()).expect("an attribute is short");
    let mut bytes = [length.to_ne_bytes(), number.to_ne_bytes()].concat();
    bytes.extend(value);
    bytes.resize(bytes.len().next_multiple_of(4), 0);
    bytes
}

fn attributes(mut bytes: &[u8]) -> Vec<(u16, Vec<u8>)> {
    let mut found = Vec::new();
    while let [a, b, c, d, ..] = *bytes {
        let length = usize::from(u16::from_ne_bytes([a, b])).max(4);
        found.push((u16::from_ne_bytes([c, d]), bytes[4..length].to_vec()));
        bytes = bytes.get(length.next_multiple_of(4)..).unwrap_or_default();
    }
    found
}
