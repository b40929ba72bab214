//! Validates interfaces. The rules of ligato vpp-agent come first, in their original order. The rules of the kernel follow.

use std::net::{IpAddr, Ipv6Addr};

use super::{HOST_NAME_MAX_BYTES, ValidationError, check_host_name, check_interface_name, check_namespace, check_reference};
use crate::{
    address::{MacAddress, is_alloc_reference, parse_ip_or_cidr},
    key::{LABEL_MAX_BYTES, agent_prefix},
    proto::{
        ligato::linux::interfaces::{Interface, interface::Type},
        link_member, port_member,
    },
};
use link_kinds::{Given, KindSpec, LifeCycle, LinkKind, Mtu, Role};

/// Minimum MTU of a link with IPv6 (RFC 8200 §5). With a smaller MTU, the kernel disables IPv6 on the link.
const MTU_MIN_IPV6: u32 = 1280;
/// Maximum length of a link alias in bytes (`IFALIASZ` - 1 in linux/if.h).
const ALIAS_MAX_BYTES: usize = 255;
/// Length of the alias suffix of an adopted link, in bytes.
const ADOPTED_MARK_BYTES: usize = "//adopted".len();
/// Name of the loopback device in every namespace.
const LOOPBACK_NAME: &str = "lo";

impl Interface {
    /// Returns the kernel name of the link. This is `lo` for LOOPBACK and `host_if_name` for all other types. If `host_if_name` is empty, the kernel
    /// name is the logical name.
    pub fn host_name(&self) -> &str {
        let kind = link_kinds::by_type(self.r#type().as_str_name());
        match kind.map(|kind| kind.spec().life_cycle) {
            Some(LifeCycle::Builtin(name)) => name,
            _ if self.host_if_name.is_empty() => &self.name,
            _ => &self.host_if_name,
        }
    }
}

/// Checks the logical name, which is the only key field of an interface.
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
    let kind = kind_of(interface)?;
    let link = parse(interface, kind)?;
    let spec = kind.spec();
    interface.parse_port()?;
    check_adopt(interface, spec)?;
    check_references(interface, &link)?;
    check_interface_name("name", &interface.name)?;
    check_kernel_name(interface, spec)?;
    check_masters(interface)?;
    check_mac(interface)?;
    check_addresses(interface, spec)?;
    check_mtu(interface, spec)
}

impl Interface {
    /// Returns the link kind with its settings.
    ///
    /// # Errors
    /// Fails if a setting is invalid. The error names the field of the setting.
    pub fn parse_link(&self) -> Result<link_kinds::Link, ValidationError> {
        parse(self, kind_of(self)?)
    }

    /// Returns the interface's port settings, or `None` if there are none.
    ///
    /// # Errors
    /// Fails if a setting is invalid. The error names the field of the setting.
    pub fn parse_port(&self) -> Result<Option<link_kinds::Port>, ValidationError> {
        let Some((member, message)) = self.port.as_ref().map(port_member) else {
            return Ok(None);
        };
        if self.master_interface().is_empty() {
            let text = format!("{member} requires master_interface; set master_interface to the name of the master");
            return Err(ValidationError::new("MasterMissing", &[member, "master_interface"], text));
        }
        let port = message.map(|message| link_kinds::Port::parse(member, &message)).transpose();
        port.map_err(as_error)
    }
}

fn as_error(invalid: link_kinds::Invalid) -> ValidationError {
    ValidationError {
        reason: invalid.reason,
        fields: invalid.fields,
        message: invalid.message,
    }
}

fn kind_of(interface: &Interface) -> Result<&'static dyn LinkKind, ValidationError> {
    let Ok(interface_type) = Type::try_from(interface.r#type) else {
        let names: Vec<&str> = link_kinds::KINDS.iter().map(|kind| kind.spec().type_name).collect();
        let message = format!("unknown interface type {}; expected one of {}", interface.r#type, names.join(", "));
        return Err(ValidationError::new("UnknownEnumValue", &["type"], message));
    };
    link_kinds::by_type(interface_type.as_str_name())
        .ok_or_else(|| ValidationError::new("TypeMissing", &["type"], "Linux interface defined without type"))
}

fn parse(interface: &Interface, kind: &'static dyn LinkKind) -> Result<link_kinds::Link, ValidationError> {
    let member = interface.link.as_ref().map(link_member);
    let own = member.as_ref().filter(|(name, _)| *name == kind.spec().member);
    let given = Given {
        has_link: member.is_some(),
        link: own.and_then(|(_, message)| message.as_ref()),
        has_namespace: interface.namespace.is_some(),
        has_mac: !interface.phys_address.is_empty(),
        has_vrf: !interface.vrf_master_interface.is_empty(),
        has_master: !interface.master_interface().is_empty(),
        link_only: interface.link_only,
        alloc_reference: interface.ip_addresses.iter().position(|address| is_alloc_reference(address)),
    };
    link_kinds::Link::parse(kind, &given).map_err(as_error)
}

/// Checks that `adopt` is set only for link types that the agent can create.
fn check_adopt(interface: &Interface, spec: &KindSpec) -> Result<(), ValidationError> {
    if !interface.adopt() || spec.adoptable {
        return Ok(());
    }
    let message = format!(
        "`adopt` is not supported for type {}: it applies only to types that the agent can create; omit `adopt`",
        spec.type_name
    );
    Err(ValidationError::new("AdoptNotSupported", &["type", "adopt"], message))
}

/// Checks the names of the interfaces that the link refers to. Each name must be valid, differ from the interface's own name, and
/// fit into the link alias together with the interface's own name.
fn check_references(interface: &Interface, link: &link_kinds::Link) -> Result<(), ValidationError> {
    for (reference, name) in link.references() {
        check_interface_name(reference.field, name)?;
        let original = "-".repeat(HOST_NAME_MAX_BYTES);
        match reference.role {
            // The alias also contains the TAP's original name.
            Role::Original => check_alias(reference.field, &[&interface.name, name, &original])?,
            Role::Peer { .. } | Role::Parent { .. } => check_alias(reference.field, &[&interface.name, name])?,
        }
        if let Some((reason, text)) = reference.itself.filter(|_| name == interface.name) {
            let message = format!("the {} interface `{name}` {text}", link.spec().type_name);
            return Err(ValidationError::new(reason, &[reference.field], message));
        }
    }
    Ok(())
}

/// Checks that the link alias (the ownership mark) has room for these names, even if the agent prefix has its maximum length.
fn check_alias(field: &str, parts: &[&str]) -> Result<(), ValidationError> {
    let room = ALIAS_MAX_BYTES - agent_prefix("").len() - LABEL_MAX_BYTES - ADOPTED_MARK_BYTES;
    let length = parts.join("/").len();
    if length > room {
        let message = format!(
            "the values of name and {field} have {length} bytes in total, but a link alias has room for only {room}; choose shorter names"
        );
        return Err(ValidationError::new("AliasTooLong", &["name", field], message));
    }
    Ok(())
}

fn check_kernel_name(interface: &Interface, spec: &KindSpec) -> Result<(), ValidationError> {
    let name = interface.host_name();
    if matches!(spec.life_cycle, LifeCycle::Builtin(_)) {
        return Ok(());
    }
    let field = if interface.host_if_name.is_empty() {
        "name"
    } else {
        "host_if_name"
    };
    check_host_name(field, name)?;
    if name == LOOPBACK_NAME && spec.life_cycle != LifeCycle::Referred {
        let message = "every namespace already has its own `lo`; choose another name, or the type LOOPBACK";
        return Err(ValidationError::new("HostNameReserved", &[field], message));
    }
    Ok(())
}

fn check_masters(interface: &Interface) -> Result<(), ValidationError> {
    let name = &interface.name;
    for (field, master, reason, text) in [
        (
            "vrf_master_interface",
            interface.vrf_master_interface.as_str(),
            "VrfMasterIsSelf",
            "is its own VRF; specify an interface of type VRF_DEVICE",
        ),
        (
            "master_interface",
            interface.master_interface(),
            "MasterIsSelf",
            "is a port of itself; specify an interface of type BRIDGE",
        ),
    ] {
        if master.is_empty() {
            continue;
        }
        check_interface_name(field, master)?;
        if master == name {
            let message = format!("the interface `{name}` is {text}");
            return Err(ValidationError::new(reason, &[field], message));
        }
    }
    Ok(())
}

/// Checks the MAC address like the kernel's `is_valid_ether_addr`. A multicast address or an address of all zeros is invalid.
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
            "a multicast address (the first octet is odd)"
        };
        let message = format!("the MAC address {mac} is {kind}; an interface requires a unicast address");
        return Err(ValidationError::new("MacAddressNotUnicast", &[field], message));
    }
    Ok(())
}

/// Normalized form of an interface address, used to find duplicates. All spellings of an address have the same normalized form.
#[derive(PartialEq)]
enum Identity {
    /// IPv6 addresses that differ only in the prefix length are duplicates, so only IPv4 addresses have a prefix length here.
    Ip(IpAddr, Option<u8>),
    Allocation {
        network: String,
    },
}

fn check_addresses(interface: &Interface, spec: &KindSpec) -> Result<(), ValidationError> {
    // `ipv6_add_addr` (net/ipv6/addrconf.c) accepts `::1` only on a loopback interface or a VRF device.
    let takes_loopback = spec.takes_loopback_address || interface.link_only;
    let mut seen: Vec<Identity> = Vec::with_capacity(interface.ip_addresses.len());
    for (index, text) in interface.ip_addresses.iter().enumerate() {
        let field = format!("ip_addresses[{index}]");
        let identity = check_address(&field, text, &interface.name)?;
        if matches!(identity, Identity::Ip(IpAddr::V6(Ipv6Addr::LOCALHOST), _)) && !takes_loopback {
            let message = format!(
                "`{text}` is the IPv6 loopback address, which an interface of type {} cannot have; use another address, or assign it to a \
                 LOOPBACK interface",
                spec.type_name
            );
            return Err(ValidationError::new("IpAddressIsLoopback", &[&field], message));
        }
        if let Some(earlier) = seen.iter().position(|other| *other == identity) {
            let message = format!(
                "`{text}` is the same address as ip_addresses[{earlier}] `{}`; remove one of them",
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
        let message = format!("`{text}` is {kind} address, which no interface can have; use a unicast address");
        return Err(ValidationError::new("IpAddressNotUnicast", &[field], message));
    }
    Ok(Identity::Ip(prefix.address, prefix.address.is_ipv4().then_some(prefix.prefix_len)))
}

fn check_mtu(interface: &Interface, spec: &KindSpec) -> Result<(), ValidationError> {
    let Mtu { min, max, .. } = spec.mtu;
    let mtu = interface.mtu;
    if mtu != 0 && !(min..=max).contains(&mtu) {
        let message = format!(
            "the MTU {mtu} is out of range for {}; expected {min} to {max} bytes, or 0 for the default",
            spec.type_name
        );
        return Err(ValidationError::new("MtuOutOfRange", &["mtu"], message));
    }
    let ipv6 = |text: &String| parse_ip_or_cidr(text).is_ok_and(|prefix| prefix.address.is_ipv6());
    let managed = !interface.link_only && spec.life_cycle != LifeCycle::Referred;
    match interface.ip_addresses.iter().position(ipv6) {
        Some(index) if managed && mtu != 0 && mtu < MTU_MIN_IPV6 => {
            let message = format!(
                "an MTU of {mtu} is too small for the IPv6 address in ip_addresses[{index}]; IPv6 requires at least {MTU_MIN_IPV6} bytes \
                 (RFC 8200)"
            );
            Err(ValidationError::new(
                "MtuTooSmallForIpv6",
                &["mtu", &format!("ip_addresses[{index}]")],
                message,
            ))
        }
        _ => Ok(()),
    }
}
