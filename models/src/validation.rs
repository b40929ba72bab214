//! Validates single values. The rules depend neither on a running system nor on other values.
//!
//! Rules that also exist in ligato vpp-agent have the same error messages, because clients might depend on them. The other rules correspond to checks
//! in the kernel. They let the agent reject an invalid value before it changes the kernel.

mod interface;
mod iptables;
mod l3;
mod name;
mod namespace;
mod netalloc;

use crate::{
    address::{AddressError, AllocReference},
    model::Model,
    proto::netns_agent::DriftPolicy,
};

pub use name::{HOST_NAME_MAX_BYTES, NAME_MAX_BYTES, check_host_name, check_interface_name};
pub use namespace::check_namespace;

/// Error returned for a value that violates a rule.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("{message}")]
pub struct ValidationError {
    /// Invalid fields, by their names in the `.proto` file. An element of a repeated field includes its position:
    /// `ip_addresses[1]`.
    ///
    /// The name of a field inside `link` or `port` does not include the member, for example `peer_if_name` instead of `veth.peer_if_name`.
    pub fields: Vec<String>,
    /// Violated rule, as a stable CamelCase word for programs.
    pub reason: &'static str,
    /// Message for people: the problem and how to solve it.
    pub message: String,
}

impl ValidationError {
    /// Creates an error about the given fields.
    pub fn new(reason: &'static str, fields: &[&str], message: impl Into<String>) -> Self {
        Self {
            fields: fields.iter().map(|&field| field.to_owned()).collect(),
            reason,
            message: message.into(),
        }
    }

    /// Converts the error of an address parser to an error about `field`.
    fn address(field: &str, error: &AddressError) -> Self {
        let reason = match error {
            AddressError::NotAnAddress(_) => "IpAddressInvalid",
            AddressError::PrefixLength { .. } => "PrefixLengthInvalid",
            AddressError::Ipv4Mapped(_) => "Ipv4MappedAddress",
            AddressError::NotAMac(_) => "MacAddressInvalid",
            AddressError::NotAReference(_)
            | AddressError::ReferenceWithoutNetwork(_)
            | AddressError::ReferenceToOtherInterface { .. }
            | AddressError::ReferenceWithoutInterface(_) => "AllocReferenceInvalid",
        };
        Self::new(reason, &[field], error.to_string())
    }
}

/// Checks a value.
///
/// # Errors
/// Returns an error for the first rule that the value violates. The order of the rules is fixed.
pub fn validate(model: &Model) -> Result<(), ValidationError> {
    match model {
        Model::Interface(interface) => interface::validate(interface).and_then(|()| check_drift_policy(interface.drift_policy)),
        Model::Arp(arp) => l3::validate_arp(arp).and_then(|()| check_drift_policy(arp.drift_policy)),
        Model::Route(route) => l3::validate_route(route).and_then(|()| check_drift_policy(route.drift_policy)),
        Model::RuleChain(chain) => iptables::validate(chain),
        Model::IpAllocation(allocation) => netalloc::validate(allocation),
    }
}

/// Checks only the fields that form the key. A key computed from invalid fields is meaningless.
///
/// # Errors
/// Returns an error for the first rule that the value violates.
pub(crate) fn validate_key_fields(model: &Model) -> Result<(), ValidationError> {
    match model {
        Model::Interface(interface) => interface::validate_key(interface),
        Model::Arp(arp) => l3::validate_arp_key(arp),
        Model::Route(route) => l3::validate_route_key(route),
        Model::RuleChain(chain) => name::check_name("name", &chain.name),
        Model::IpAllocation(allocation) => {
            name::check_name("network_name", &allocation.network_name)?;
            check_interface_name("interface_name", &allocation.interface_name)
        }
    }
}

fn check_drift_policy(number: Option<i32>) -> Result<(), ValidationError> {
    let Some(number) = number.filter(|number| DriftPolicy::try_from(*number).is_err()) else {
        return Ok(());
    };
    let message = format!("unknown drift policy {number}; expected REPAIR or REPORT, or omit drift_policy");
    Err(ValidationError::new("UnknownEnumValue", &["drift_policy"], message))
}

/// Parses a reference to an allocated address and checks its names. The names must be valid, because the reference can become part of a key.
fn check_reference(field: &str, text: &str, own_interface: Option<&str>) -> Result<AllocReference, ValidationError> {
    let as_error = |error| ValidationError::address(field, &error);
    let reference: AllocReference = text.parse().map_err(as_error)?;
    let interface = reference.resolve_interface(own_interface).map_err(as_error)?;
    let named = name::check_name(field, &reference.network).and_then(|()| check_interface_name(field, &interface));
    named.map_err(|error| {
        let message = format!("the reference `{}` is invalid: {}", text.escape_debug(), error.message);
        ValidationError::new("AllocReferenceInvalid", &[field], message)
    })?;
    Ok(reference)
}
