//! Validates neighbours and routes.

use std::net::IpAddr;

use super::{ValidationError, check_interface_name, check_reference};
use crate::{
    address::{MacAddress, address_bits, is_alloc_reference, parse_ip, parse_ip_or_cidr},
    proto::ligato::linux::l3::{ArpEntry, Route, route::Scope},
};

const ARP_WITHOUT_INTERFACE: &str = "Linux ARP entry defined without interface reference";
const ROUTE_WITHOUT_INTERFACE: &str = "Linux Route defined without outgoing interface reference";

impl Route {
    /// Returns the route's scope in the kernel. As in `ip route`, an UNDEFINED scope becomes GLOBAL if the route has a gateway, and LINK otherwise.
    ///
    /// A route without a scope is valid, although ligato vpp-agent cannot apply it.
    pub fn effective_scope(&self) -> Scope {
        match self.scope() {
            Scope::Undefined if self.has_gateway() => Scope::Global,
            Scope::Undefined => Scope::Link,
            scope => scope,
        }
    }

    /// Returns `true` if the route has a gateway. The addresses `0.0.0.0` and `::` mean that there is no gateway.
    pub fn has_gateway(&self) -> bool {
        !self.gw_addr.is_empty() && !parse_ip(&self.gw_addr).is_ok_and(|gateway| gateway.is_unspecified())
    }
}

fn require(field: &str, interface: &str, message: &str) -> Result<(), ValidationError> {
    match interface.is_empty() {
        true => Err(ValidationError::new("InterfaceMissing", &[field], message)),
        false => Ok(()),
    }
}

pub(super) fn validate_arp(arp: &ArpEntry) -> Result<(), ValidationError> {
    require("interface", &arp.interface, ARP_WITHOUT_INTERFACE)?;
    if arp.hw_address.is_empty() {
        return Err(ValidationError::new(
            "MacAddressMissing",
            &["hw_address"],
            "Linux ARP entry defined without MAC address",
        ));
    }
    check_interface_name("interface", &arp.interface)?;
    // Check only the syntax, because a neighbour can have a multicast MAC address (some server clusters use one).
    if let Err(error) = arp.hw_address.parse::<MacAddress>() {
        return Err(ValidationError::new(
            "MacAddressInvalid",
            &["hw_address"],
            format!("Linux ARP entry defined with invalid MAC address: {error}"),
        ));
    }
    check_neighbor_address("ip_address", &arp.ip_address)
}

fn check_neighbor_address(field: &str, text: &str) -> Result<(), ValidationError> {
    if is_alloc_reference(text) {
        return check_reference(field, text, None).map(drop);
    }
    parse_ip_or_cidr(text)
        .map(drop)
        .map_err(|error| ValidationError::address(field, &error))
}

/// Checks the fields that form the key of a neighbour.
pub(super) fn validate_arp_key(arp: &ArpEntry) -> Result<(), ValidationError> {
    require("interface", &arp.interface, ARP_WITHOUT_INTERFACE)?;
    check_interface_name("interface", &arp.interface)?;
    check_neighbor_address("ip_address", &arp.ip_address)
}

/// Checks the fields that form the key of a route.
///
/// Rejects a destination without a prefix length. Clients would compute the same key for all of these destinations on an interface.
pub(super) fn validate_route_key(route: &Route) -> Result<(), ValidationError> {
    require("outgoing_interface", &route.outgoing_interface, ROUTE_WITHOUT_INTERFACE)?;
    check_interface_name("outgoing_interface", &route.outgoing_interface)?;
    let Some(destination) = check_destination(&route.dst_network)? else {
        return Ok(());
    };
    if route.dst_network.contains('/') {
        return Ok(());
    }
    let message = format!(
        "`{}` has no prefix length; write {destination}/{} for a single address",
        route.dst_network,
        address_bits(destination)
    );
    Err(ValidationError::new("PrefixLengthMissing", &["dst_network"], message))
}

pub(super) fn validate_route(route: &Route) -> Result<(), ValidationError> {
    require("outgoing_interface", &route.outgoing_interface, ROUTE_WITHOUT_INTERFACE)?;
    let Ok(scope) = Scope::try_from(route.scope) else {
        let message = format!("unknown route scope {}; expected GLOBAL, SITE, LINK or HOST", route.scope);
        return Err(ValidationError::new("UnknownEnumValue", &["scope"], message));
    };
    if scope == Scope::Link && !route.gw_addr.is_empty() {
        let message = "Link-local Linux Route was defined with non-empty GW address";
        return Err(ValidationError::new("GatewayNotSupported", &["scope", "gw_addr"], message));
    }
    check_interface_name("outgoing_interface", &route.outgoing_interface)?;
    let destination = check_destination(&route.dst_network)?;
    let gateway = check_gateway(route)?;
    match (destination, gateway) {
        (Some(destination), Some(gateway)) if destination.is_ipv4() != gateway.is_ipv4() => {
            let message = format!(
                "the gateway {gateway} and the destination {} have different IP versions",
                route.dst_network
            );
            Err(ValidationError::new("FamilyMismatch", &["dst_network", "gw_addr"], message))
        }
        _ => Ok(()),
    }
}

/// Checks the destination. Returns its address, or `None` if it is a reference.
///
/// A reference must include an interface name. The name can differ from the name of the outgoing interface.
fn check_destination(text: &str) -> Result<Option<IpAddr>, ValidationError> {
    if text.is_empty() {
        let message = "Linux Route defined without destination; write dst_network as 10.1.0.0/16, or as 0.0.0.0/0 for the default route";
        return Err(ValidationError::new("IpAddressInvalid", &["dst_network"], message));
    }
    let as_error = |error| ValidationError::address("dst_network", &error);
    if is_alloc_reference(text) {
        return check_reference("dst_network", text, None).map(|_| None);
    }
    parse_ip_or_cidr(text).map(|prefix| Some(prefix.address)).map_err(as_error)
}

/// Checks the gateway. Returns its address, or `None` if the route has no gateway or the gateway is a reference.
fn check_gateway(route: &Route) -> Result<Option<IpAddr>, ValidationError> {
    let text = route.gw_addr.as_str();
    let as_error = |error| ValidationError::address("gw_addr", &error);
    if text.is_empty() {
        return Ok(None);
    }
    if is_alloc_reference(text) {
        let reference = check_reference("gw_addr", text, Some(&route.outgoing_interface))?;
        if !reference.gateway {
            let message = format!("expected GW address reference: {text}; append /GW");
            return Err(ValidationError::new("AllocReferenceInvalid", &["gw_addr"], message));
        }
        return Ok(None);
    }
    let gateway = parse_ip(text).map_err(as_error)?;
    if gateway.is_multicast() {
        let message = format!("the gateway {gateway} is a multicast address; expected the address of a single host");
        return Err(ValidationError::new("IpAddressNotUnicast", &["gw_addr"], message));
    }
    Ok(Some(gateway))
}
