//! Parses keys. The module `typed` prints keys.
//!
//! The parser must never panic on any input. For this reason, it splits text mainly with `split_once`, `strip_prefix` and slice patterns.

use super::{
    prefix::{ARP, INTERFACE, IP_ALLOCATION, ROUTE, RULE_CHAIN},
    typed::{
        AddressSource, HOST_NAME, INVALID, KeyError, LINK_LOCAL_ROUTE, LINUX_INTERFACE, MICROSERVICE, NAMESPACE, NEIGHBOR_GATEWAY,
        NamespaceType, RouteDestination, STATE, TAP, TypedKey,
    },
};
use crate::address::{is_alloc_reference, parse_ip, parse_ip_or_cidr};

/// Parses a key by trying each kind of key in turn.
///
/// The order matters only below `linux/interface/`. The parser tries the reserved words `host-name` and `state` first, because an interface name can
/// be any other text.
pub(super) fn parse(text: &str) -> Result<TypedKey, KeyError> {
    let parsed = parse_any_spelling(text)?;
    let canonical = parsed.to_string();
    if canonical == text || matches!(parsed, TypedKey::InterfaceAddress { .. }) {
        return Ok(parsed);
    }
    Err(KeyError::NotCanonical {
        key: text.to_owned(),
        canonical,
    })
}

fn parse_any_spelling(text: &str) -> Result<TypedKey, KeyError> {
    let strip = |prefix: &str| text.strip_prefix(prefix);
    if let Some(name) = strip(INTERFACE) {
        named(text, name, "config/linux/interfaces/v2/interface/<name>").map(|name| TypedKey::Interface { name })
    } else if let Some(rest) = strip(ARP) {
        parse_arp(rest).ok_or_else(|| malformed(text, "config/linux/l3/v2/arp/<interface>/<IP address>"))
    } else if let Some(rest) = strip(ROUTE) {
        parse_route(rest).ok_or_else(|| malformed(text, "config/linux/l3/v2/route/<network>/<prefix length>/<outgoing interface>"))
    } else if let Some(name) = strip(RULE_CHAIN) {
        named(text, name, "config/linux/iptables/v2/rulechain/<name>").map(|name| TypedKey::RuleChain { name })
    } else if let Some(rest) = strip(IP_ALLOCATION) {
        let (network, interface) =
            network_and_interface(rest).ok_or_else(|| malformed(text, "config/netalloc/v1/ip/network/<network>/interface/<interface>"))?;
        Ok(TypedKey::IpAllocation { network, interface })
    } else if let Some(rest) = strip(HOST_NAME) {
        parse_host_interface(rest)
            .ok_or_else(|| malformed(text, "linux/interface/host-name/<name>[/address/<address> | /vrf-host-name/<name>]"))
    } else if let Some(rest) = strip(STATE) {
        parse_state(rest).ok_or_else(|| malformed(text, "linux/interface/state/<interface>/UP or …/DOWN"))
    } else if strip(LINUX_INTERFACE).is_some() {
        parse_interface_part(text)
    } else if let Some(label) = strip(MICROSERVICE) {
        named(text, label, "linux/microservice/<label>").map(|label| TypedKey::Microservice { label })
    } else if let Some(rest) = strip(LINK_LOCAL_ROUTE) {
        parse_link_local_route(rest).ok_or_else(|| malformed(text, "linux/link-local-route/<interface>/dest-address/<network>"))
    } else if let Some(rest) = strip(NEIGHBOR_GATEWAY) {
        let (network, interface) =
            network_and_interface(rest).ok_or_else(|| malformed(text, "netalloc/neigh-gw/network/<network>/interface/<interface>"))?;
        Ok(TypedKey::NeighborGateway { network, interface })
    } else if let Some(rest) = strip(NAMESPACE) {
        parse_namespace(rest).ok_or_else(|| malformed(text, "linux/namespace/<NSID|PID|FD|MICROSERVICE|OWN>/<reference>"))
    } else if let Some(name) = strip(TAP) {
        named(text, name, "linux/tap/<host name>").map(|host_name| TypedKey::Tap { host_name })
    } else {
        Err(KeyError::Unknown(text.to_owned()))
    }
}

fn malformed(key: &str, expected: &'static str) -> KeyError {
    KeyError::Malformed {
        key: key.to_owned(),
        expected,
    }
}

fn named(key: &str, name: &str, expected: &'static str) -> Result<String, KeyError> {
    if name.is_empty() {
        Err(malformed(key, expected))
    } else {
        Ok(name.to_owned())
    }
}

/// Parses `<interface>/<address>`.
///
/// The interface name and the address can both contain slashes. If `rest` contains `/alloc:`, the address is a reference, which begins with
/// `alloc:`. Otherwise, the address is the last path element, or the last two elements if it has a prefix length.
fn parse_arp(rest: &str) -> Option<TypedKey> {
    let (interface, ip_address) = if let Some(start) = rest.find("/alloc:") {
        (&rest[..start], &rest[start + 1..])
    } else {
        let (head, tail) = rest.rsplit_once('/')?;
        if parse_ip(tail).is_ok() {
            (head, tail)
        } else {
            let (interface, _) = head.rsplit_once('/')?;
            let ip_address = &rest[interface.len() + 1..];
            parse_ip_or_cidr(ip_address).ok()?;
            (interface, ip_address)
        }
    };
    let complete = !interface.is_empty();
    complete.then(|| TypedKey::Arp {
        interface: interface.to_owned(),
        ip_address: ip_address.to_owned(),
    })
}

/// Parses `<network>/<prefix length>/<interface>` or `<reference>/<interface>`.
///
/// References and interface names can both contain slashes. Therefore, the interface after a reference is always the last path element.
fn parse_route(rest: &str) -> Option<TypedKey> {
    let (destination, outgoing_interface) = if is_alloc_reference(rest) {
        let (reference, interface) = rest.rsplit_once('/')?;
        (RouteDestination::Allocation(reference.to_owned()), interface)
    } else if let Some(interface) = rest.strip_prefix("<invalid>/0/") {
        (RouteDestination::Invalid, interface)
    } else {
        let (address, after) = rest.split_once('/')?;
        let (length, interface) = after.split_once('/')?;
        let prefix = parse_ip_or_cidr(&format!("{address}/{length}")).ok()?;
        (
            RouteDestination::Network {
                address: prefix.network(),
                prefix_len: prefix.prefix_len,
            },
            interface,
        )
    };
    let complete = !outgoing_interface.is_empty();
    complete.then(|| TypedKey::Route {
        destination,
        outgoing_interface: outgoing_interface.to_owned(),
    })
}

/// Parses `network/<network>/interface/<interface>`.
fn network_and_interface(rest: &str) -> Option<(String, String)> {
    let (network, interface) = rest.strip_prefix("network/")?.split_once("/interface/")?;
    let complete = !network.is_empty() && !interface.is_empty();
    complete.then(|| (network.to_owned(), interface.to_owned()))
}

fn parse_host_interface(rest: &str) -> Option<TypedKey> {
    let Some((host_name, attribute)) = rest.split_once('/') else {
        return (!rest.is_empty()).then(|| TypedKey::HostInterface {
            host_name: rest.to_owned(),
        });
    };
    let host_name = host_name.to_owned();
    let (kind, value) = attribute.split_once('/')?;
    if value.is_empty() || host_name.is_empty() {
        return None;
    }
    match kind {
        "address" => Some(TypedKey::HostInterfaceAddress {
            host_name,
            address: value.to_owned(),
        }),
        "vrf-host-name" => Some(TypedKey::HostInterfaceVrf {
            host_name,
            vrf_host_name: value.to_owned(),
        }),
        _ => None,
    }
}

/// Parses `<interface>/<state>`. The state is the last path element, because the interface name can contain slashes.
fn parse_state(rest: &str) -> Option<TypedKey> {
    let (name, state) = rest.rsplit_once('/')?;
    let up = match state {
        "UP" => true,
        "DOWN" => false,
        _ => return None,
    };
    (!name.is_empty()).then(|| TypedKey::InterfaceState { name: name.to_owned(), up })
}

/// Parses the key of a value derived from an interface: an address, a VRF, a master or VLANs.
///
/// An address follows the path element `address`, and a VRF follows `vrf`. A key that contains both elements is rejected. The name of a master or a
/// range of VLANs follows an empty path element. Ligato vpp-agent has no keys for masters or VLANs.
fn parse_interface_part(key: &str) -> Result<TypedKey, KeyError> {
    let unknown = || Err(KeyError::Unknown(key.to_owned()));
    if let Some((interface, part)) = key.strip_prefix(LINUX_INTERFACE).and_then(|rest| rest.split_once("//")) {
        let interface = interface.to_owned();
        match part.split_once('/').filter(|(_, rest)| !rest.is_empty() && !interface.is_empty()) {
            Some(("master", master)) => {
                let master = master.to_owned();
                return Ok(TypedKey::InterfaceMaster { interface, master });
            }
            Some(("vlan", vlans)) => {
                let vlans = vlans.to_owned();
                return Ok(TypedKey::InterfaceVlan { interface, vlans });
            }
            _ => {}
        }
    }
    let parts: Vec<&str> = key.split('/').collect();
    // The caller has checked the prefix `linux/interface/`, so the interface name begins at the third element.
    let [_, _, rest @ ..] = parts.as_slice() else { return unknown() };
    if rest.len() < 2 || matches!(rest.first(), Some(&"state" | &"host-name")) {
        return unknown();
    }
    let last = |word: &str| rest.iter().rposition(|part| *part == word);
    match (last("address"), last("vrf")) {
        (Some(at), None) => address_key(key, &rest[..at], &rest[at + 1..]),
        (None, Some(at)) => vrf_key(key, &rest[..at], &rest[at + 1..]),
        _ => unknown(),
    }
}

/// Returns the interface name and `true`, or `<invalid>` and `false` if the name is empty.
fn interface_name(parts: &[&str]) -> (String, bool) {
    let name = parts.join("/");
    if name.is_empty() {
        (INVALID.to_owned(), false)
    } else {
        (name, true)
    }
}

fn address_key(key: &str, interface: &[&str], rest: &[&str]) -> Result<TypedKey, KeyError> {
    let (interface, named) = interface_name(interface);
    let (source, address) = match rest {
        [source, address @ ..] => (AddressSource::parse(source), address.join("/")),
        [] => (None, String::new()),
    };
    match source {
        // `interface_address` replaces the source of an allocation reference with `alloc_ref`.
        Some(source) if named && !address.is_empty() => Ok(TypedKey::interface_address(&interface, &address, source)),
        Some(_) => Err(KeyError::InvalidAddressKey {
            key: key.to_owned(),
            interface,
            source_name: source,
            address,
        }),
        None => Err(KeyError::InvalidAddressKey {
            key: key.to_owned(),
            interface,
            source_name: None,
            address: String::new(),
        }),
    }
}

fn vrf_key(key: &str, interface: &[&str], rest: &[&str]) -> Result<TypedKey, KeyError> {
    let (interface, named) = interface_name(interface);
    let vrf = rest.join("/");
    if named && !vrf.is_empty() {
        return Ok(TypedKey::InterfaceVrf { interface, vrf });
    }
    let vrf = if vrf.is_empty() { INVALID.to_owned() } else { vrf };
    Err(KeyError::InvalidVrfKey {
        key: key.to_owned(),
        interface,
        vrf,
    })
}

fn parse_link_local_route(rest: &str) -> Option<TypedKey> {
    let mut parts = rest.split("/dest-address/");
    let (outgoing_interface, destination) = (parts.next()?, parts.next()?);
    let complete = parts.next().is_none() && !outgoing_interface.is_empty() && !destination.is_empty();
    complete.then(|| TypedKey::LinkLocalRoute {
        outgoing_interface: outgoing_interface.to_owned(),
        destination: destination.to_owned(),
    })
}

fn parse_namespace(rest: &str) -> Option<TypedKey> {
    let (kind, reference) = rest.split_once('/')?;
    let reference_type: NamespaceType = kind.parse().ok()?;
    let complete = reference.is_empty() == (reference_type == NamespaceType::Own);
    complete.then(|| TypedKey::Namespace {
        reference_type,
        reference: reference.to_owned(),
    })
}
