//! Rules of interfaces.
//!
//! Owns what an interface must and must not have, by its type. Must never compare it with other interfaces. Start at
//! [`validate`]: first the rules of the contract in their order, then the ones that the kernel has.

use std::net::{IpAddr, Ipv6Addr};

use super::{HOST_NAME_MAX_BYTES, ValidationError, check_host_name, check_interface_name, check_namespace, check_reference};
use crate::{
    address::{MacAddress, is_alloc_reference, parse_ip_or_cidr},
    key::{LABEL_MAX_BYTES, agent_prefix},
    proto::ligato::linux::interfaces::{
        Interface, VethLink,
        interface::{Link, Type},
        veth_link::ChecksumOffloading,
    },
};

/// Smallest MTU of an IPv4 link (RFC 791; `ETH_MIN_MTU`).
const MTU_MIN: u32 = 68;
/// Largest MTU of an Ethernet-like link (`ETH_MAX_MTU`).
const MTU_MAX: u32 = 65535;
/// MTU of the loopback as the kernel sets it.
const MTU_MAX_LOOPBACK: u32 = 65536;
/// Smallest MTU of a link that carries IPv6 (RFC 8200 §5); below it, the kernel takes IPv6 off the link.
const MTU_MIN_IPV6: u32 = 1280;
/// Largest MTU of a VRF device (`IP6_MAX_MTU`, drivers/net/vrf.c).
const MTU_MAX_VRF: u32 = 65575;
/// Longest alias of a link in bytes (`IFALIASZ` - 1 of linux/if.h).
const ALIAS_MAX_BYTES: usize = 255;
/// What the alias of an adopted link needs beside the names, in bytes.
const ADOPTED_MARK_BYTES: usize = "//adopted".len();
/// Tables that the kernel uses itself: default, main and local (rtnetlink(7)).
const RESERVED_TABLES: std::ops::RangeInclusive<u32> = 253..=255;
/// Name of the loopback in every namespace.
const LOOPBACK_NAME: &str = "lo";

impl Interface {
    /// Name of the interface in the kernel: `lo` for LOOPBACK, else `host_if_name`, else the logical name.
    pub fn host_name(&self) -> &str {
        match self.r#type() {
            Type::Loopback => LOOPBACK_NAME,
            _ if self.host_if_name.is_empty() => &self.name,
            _ => &self.host_if_name,
        }
    }
}

/// Checks the logical name, which is the key.
pub(super) fn validate_key(interface: &Interface) -> Result<(), ValidationError> {
    require_name(interface)?;
    check_interface_name("name", &interface.name)
}

fn require_name(interface: &Interface) -> Result<(), ValidationError> {
    match interface.name.is_empty() {
        true => {
            let message = "Linux interface defined without logical name";
            Err(ValidationError::new("NameMissing", &["name"], message))
        }
        false => Ok(()),
    }
}

pub(super) fn validate(interface: &Interface) -> Result<(), ValidationError> {
    require_name(interface)?;
    check_namespace(interface.namespace.as_ref())?;
    let Ok(interface_type) = Type::try_from(interface.r#type) else {
        let message = format!(
            "there is no interface type {}; give VETH, TAP_TO_VPP, LOOPBACK, EXISTING, VRF_DEVICE or DUMMY",
            interface.r#type
        );
        return Err(ValidationError::new("UnknownEnumValue", &["type"], message));
    };
    check_type(interface, interface_type)?;
    check_adopt(interface, interface_type)?;
    check_link(interface, interface_type)?;
    check_interface_name("name", &interface.name)?;
    check_kernel_name(interface, interface_type)?;
    check_vrf_master(interface)?;
    check_mac(interface)?;
    check_addresses(interface, interface_type)?;
    check_mtu(interface, interface_type)
}

/// Only what the agent would make itself can be taken over from somebody else.
fn check_adopt(interface: &Interface, interface_type: Type) -> Result<(), ValidationError> {
    if !interface.adopt() || matches!(interface_type, Type::Veth | Type::VrfDevice | Type::Dummy) {
        return Ok(());
    }
    let message = format!(
        "an interface of type {} cannot say `adopt`: the agent does not create it; leave `adopt` out",
        interface_type.as_str_name()
    );
    Err(ValidationError::new("AdoptNotSupported", &["type", "adopt"], message))
}

/// The alias, by which the agent knows its links, holds the names behind the longest possible prefix of an agent.
fn check_alias(field: &str, parts: &[&str]) -> Result<(), ValidationError> {
    let room = ALIAS_MAX_BYTES - agent_prefix("").len() - LABEL_MAX_BYTES - ADOPTED_MARK_BYTES;
    let length = parts.join("/").len();
    if length > room {
        let message =
            format!("name and {field} have {length} bytes together; at most {room} fit into the alias of a link: choose shorter names");
        return Err(ValidationError::new("AliasTooLong", &["name", field], message));
    }
    Ok(())
}

/// What only one type may or may not have.
fn check_type(interface: &Interface, interface_type: Type) -> Result<(), ValidationError> {
    match interface_type {
        Type::Existing => check_existing(interface),
        Type::Loopback if interface.link.is_some() => Err(wrong_link(interface_type)),
        Type::VrfDevice if !interface.phys_address.is_empty() => Err(ValidationError::new(
            "MacAddressNotSupported",
            &["type", "phys_address"],
            "it is unsupported to set MAC address to a VRF device",
        )),
        Type::VrfDevice if !interface.vrf_master_interface.is_empty() => {
            let fields = &["type", "vrf_master_interface"];
            Err(ValidationError::new(
                "VrfInsideVrf",
                fields,
                "VRF device cannot be inside another VRF",
            ))
        }
        Type::Undefined => Err(ValidationError::new(
            "TypeMissing",
            &["type"],
            "Linux interface defined without type",
        )),
        _ => Ok(()),
    }
}

/// EXISTING refers to an interface of the agent's own namespace, so it has nothing that would create or move one.
fn check_existing(interface: &Interface) -> Result<(), ValidationError> {
    if interface.link.is_some() {
        return Err(wrong_link(Type::Existing));
    }
    if interface.namespace.is_some() {
        let message = "EXISTING interface defined with namespace";
        return Err(ValidationError::new("NamespaceNotSupported", &["namespace"], message));
    }
    let reference = interface.ip_addresses.iter().position(|address| is_alloc_reference(address));
    match reference.filter(|_| interface.link_only) {
        None => Ok(()),
        Some(index) => Err(ValidationError::new(
            "AllocReferenceNotSupported",
            &["type", "link_only", &format!("ip_addresses[{index}]")],
            "it is not supported to reference EXISTING-IP via netalloc",
        )),
    }
}

fn wrong_link(interface_type: Type) -> ValidationError {
    let message = format!(
        "Linux interface reference does not match the interface type {}",
        interface_type.as_str_name()
    );
    ValidationError::new("LinkMismatch", &["link"], message)
}

/// The member of `link` has to be the one of the type, and the types that need one must have it.
fn check_link(interface: &Interface, interface_type: Type) -> Result<(), ValidationError> {
    match (&interface.link, interface_type) {
        (Some(Link::Tap(tap)), Type::TapToVpp) if tap.vpp_tap_if_name.is_empty() => {
            let message = "TAP_TO_VPP interface defined without reference to VPP TAP";
            Err(ValidationError::new("TapReferenceMissing", &["vpp_tap_if_name"], message))
        }
        (Some(Link::Tap(tap)), Type::TapToVpp) => {
            check_interface_name("vpp_tap_if_name", &tap.vpp_tap_if_name)?;
            // The name that the TAP had before stands in the alias, too.
            check_alias(
                "vpp_tap_if_name",
                &[&interface.name, &tap.vpp_tap_if_name, &"-".repeat(HOST_NAME_MAX_BYTES)],
            )
        }
        (Some(Link::Veth(veth)), Type::Veth) => check_veth(interface, veth),
        (Some(Link::VrfDev(vrf)), Type::VrfDevice) => check_routing_table(vrf.routing_table),
        (Some(_), _) => Err(wrong_link(interface_type)),
        (None, Type::Veth) => Err(missing_link(interface_type, "veth", "peer_if_name")),
        (None, Type::TapToVpp) => Err(missing_link(interface_type, "tap", "vpp_tap_if_name")),
        (None, Type::VrfDevice) => Err(missing_link(interface_type, "vrf_dev", "routing_table")),
        (None, _) => Ok(()),
    }
}

fn missing_link(interface_type: Type, member: &str, field: &str) -> ValidationError {
    let message = format!(
        "{} interface defined without {member}; give {member} with {field}",
        interface_type.as_str_name()
    );
    ValidationError::new("LinkMissing", &["link"], message)
}

fn check_veth(interface: &Interface, veth: &VethLink) -> Result<(), ValidationError> {
    if veth.peer_if_name.is_empty() {
        return Err(ValidationError::new(
            "PeerMissing",
            &["peer_if_name"],
            "VETH interface defined without peer reference",
        ));
    }
    check_interface_name("peer_if_name", &veth.peer_if_name)?;
    check_alias("peer_if_name", &[&interface.name, &veth.peer_if_name])?;
    if veth.peer_if_name == interface.name {
        let message = format!(
            "the VETH interface `{}` is its own peer; name the other end of the pair",
            interface.name
        );
        return Err(ValidationError::new("PeerIsSelf", &["peer_if_name"], message));
    }
    let directions = [
        ("rx_checksum_offloading", veth.rx_checksum_offloading),
        ("tx_checksum_offloading", veth.tx_checksum_offloading),
    ];
    for (field, number) in directions {
        if ChecksumOffloading::try_from(number).is_err() {
            let message = format!("there is no checksum offloading {number}; give 0 (default), 1 (enabled) or 2 (disabled)");
            return Err(ValidationError::new("UnknownEnumValue", &[field], message));
        }
    }
    Ok(())
}

fn check_routing_table(table: u32) -> Result<(), ValidationError> {
    if table == 0 || RESERVED_TABLES.contains(&table) {
        let message = format!("a VRF cannot use the routing table {table}; give a number from 1 that is not 253, 254 or 255");
        return Err(ValidationError::new("RoutingTableInvalid", &["routing_table"], message));
    }
    Ok(())
}

fn check_kernel_name(interface: &Interface, interface_type: Type) -> Result<(), ValidationError> {
    let name = interface.host_name();
    if interface_type == Type::Loopback {
        return Ok(());
    }
    let field = if interface.host_if_name.is_empty() {
        "name"
    } else {
        "host_if_name"
    };
    check_host_name(field, name)?;
    if name == LOOPBACK_NAME && interface_type != Type::Existing {
        let message = "every namespace has its own `lo` already; choose another name, or the type LOOPBACK";
        return Err(ValidationError::new("HostNameReserved", &[field], message));
    }
    Ok(())
}

fn check_vrf_master(interface: &Interface) -> Result<(), ValidationError> {
    let field = "vrf_master_interface";
    if interface.vrf_master_interface.is_empty() {
        return Ok(());
    }
    check_interface_name(field, &interface.vrf_master_interface)?;
    if interface.vrf_master_interface == interface.name {
        let message = format!("the interface `{}` is its own VRF; name a VRF_DEVICE", interface.name);
        return Err(ValidationError::new("VrfMasterIsSelf", &[field], message));
    }
    Ok(())
}

/// The kernel's `is_valid_ether_addr`: neither multicast nor zero.
fn check_mac(interface: &Interface) -> Result<(), ValidationError> {
    let field = "phys_address";
    if interface.phys_address.is_empty() {
        return Ok(());
    }
    let mac: MacAddress = interface
        .phys_address
        .parse()
        .map_err(|error| ValidationError::address(field, &error))?;
    if mac.is_zero() || mac.is_multicast() {
        let kind = if mac.is_zero() {
            "all zero"
        } else {
            "a multicast address (its first octet is odd)"
        };
        let message = format!("the MAC address {mac} is {kind}; an interface needs a unicast address");
        return Err(ValidationError::new("MacAddressNotUnicast", &[field], message));
    }
    Ok(())
}

/// What makes two texts the same address of an interface.
#[derive(PartialEq)]
enum Identity {
    /// IPv4 has one address with two prefix lengths as two addresses, IPv6 does not.
    Ip(IpAddr, Option<u8>),
    Allocation {
        network: String,
    },
}

fn check_addresses(interface: &Interface, interface_type: Type) -> Result<(), ValidationError> {
    // `ipv6_add_addr` (net/ipv6/addrconf.c) takes `::1` on a loopback interface and on a VRF device only.
    let takes_loopback = matches!(interface_type, Type::Loopback | Type::VrfDevice | Type::Existing) || interface.link_only;
    let mut seen: Vec<Identity> = Vec::with_capacity(interface.ip_addresses.len());
    for (index, text) in interface.ip_addresses.iter().enumerate() {
        let field = format!("ip_addresses[{index}]");
        let identity = check_address(&field, text, &interface.name)?;
        if matches!(identity, Identity::Ip(IpAddr::V6(Ipv6Addr::LOCALHOST), _)) && !takes_loopback {
            let message = format!(
                "`{text}` is the IPv6 loopback address, which {} cannot have; give another address, or give it to a LOOPBACK interface",
                interface_type.as_str_name()
            );
            return Err(ValidationError::new("IpAddressIsLoopback", &[&field], message));
        }
        if let Some(earlier) = seen.iter().position(|other| *other == identity) {
            let message = format!(
                "`{text}` is the same address as ip_addresses[{earlier}] `{}`; give it once",
                interface.ip_addresses[earlier]
            );
            return Err(ValidationError::new("DuplicateAddress", &[&field], message));
        }
        seen.push(identity);
    }
    Ok(())
}

fn check_address(field: &str, text: &str, interface: &str) -> Result<Identity, ValidationError> {
    let as_error = |error| ValidationError::address(field, &error);
    if is_alloc_reference(text) {
        let reference = check_reference(field, text, Some(interface))?;
        if reference.gateway {
            let message = format!("expected non-GW address reference: {text}");
            return Err(ValidationError::new("AllocReferenceInvalid", &[field], message));
        }
        return Ok(Identity::Allocation {
            network: reference.network,
        });
    }
    let prefix = parse_ip_or_cidr(text).map_err(as_error)?;
    if prefix.address.is_unspecified() || (prefix.address.is_ipv6() && prefix.address.is_multicast()) {
        let kind = if prefix.address.is_unspecified() {
            "the unspecified"
        } else {
            "a multicast"
        };
        let message = format!("`{text}` is {kind} address, which no interface can have; give a unicast address");
        return Err(ValidationError::new("IpAddressNotUnicast", &[field], message));
    }
    Ok(Identity::Ip(prefix.address, prefix.address.is_ipv4().then_some(prefix.prefix_len)))
}

fn check_mtu(interface: &Interface, interface_type: Type) -> Result<(), ValidationError> {
    let (min, max) = match interface_type {
        Type::Loopback => (MTU_MIN, MTU_MAX_LOOPBACK),
        Type::VrfDevice => (MTU_MIN_IPV6, MTU_MAX_VRF),
        _ => (MTU_MIN, MTU_MAX),
    };
    let mtu = interface.mtu;
    if mtu != 0 && !(min..=max).contains(&mtu) {
        let message = format!(
            "the MTU {mtu} is out of range for {}; give {min} to {max} bytes, or 0 for the default",
            interface_type.as_str_name()
        );
        return Err(ValidationError::new("MtuOutOfRange", &["mtu"], message));
    }
    let ipv6 = |text: &String| parse_ip_or_cidr(text).is_ok_and(|prefix| prefix.address.is_ipv6());
    let managed = !interface.link_only && interface_type != Type::Existing;
    match interface.ip_addresses.iter().position(ipv6) {
        Some(index) if managed && mtu != 0 && mtu < MTU_MIN_IPV6 => {
            let message =
                format!("an MTU of {mtu} is too small for the IPv6 address in ip_addresses[{index}]; IPv6 needs {MTU_MIN_IPV6} (RFC 8200)");
            Err(ValidationError::new(
                "MtuTooSmallForIpv6",
                &["mtu", &format!("ip_addresses[{index}]")],
                message,
            ))
        }
        _ => Ok(()),
    }
}
