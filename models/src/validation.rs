//! Validation: every rule about a value that can be checked without looking at a system.
//!
//! Owns the rules and their words. A rule of the contract keeps the text that clients know; the others follow the kernel's
//! own checks, so that what the kernel would refuse is refused before anything is touched. Must never ask the system, nor
//! compare a value with other values. Start at [`validate`]; one file for each kind of value.

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

/// A value that breaks a rule.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("{message}")]
pub struct ValidationError {
    /// The fields at fault, by their names in the `.proto` file, with the position in repeated ones: `ip_addresses[1]`.
    /// Members of the oneof `link` and of nested link messages go by their own names, such as `peer_if_name`.
    pub fields: Vec<String>,
    /// One stable CamelCase word for the rule, for programs.
    pub reason: &'static str,
    /// What is wrong and what to do, for people.
    pub message: String,
}

impl ValidationError {
    /// An error about some fields.
    pub fn new(reason: &'static str, fields: &[&str], message: impl Into<String>) -> Self {
        Self {
            fields: fields.iter().map(|&field| field.to_owned()).collect(),
            reason,
            message: message.into(),
        }
    }

    /// An error about a text that is not an address or a reference.
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
/// The first rule that is broken; the order of the rules is fixed.
pub fn validate(model: &Model) -> Result<(), ValidationError> {
    match model {
        Model::Interface(interface) => interface::validate(interface).and_then(|()| check_drift_policy(interface.drift_policy)),
        Model::Arp(arp) => l3::validate_arp(arp).and_then(|()| check_drift_policy(arp.drift_policy)),
        Model::Route(route) => l3::validate_route(route).and_then(|()| check_drift_policy(route.drift_policy)),
        Model::RuleChain(chain) => iptables::validate(chain),
        Model::IpAllocation(allocation) => netalloc::validate(allocation),
    }
}

/// Checks the fields that make up the key, and no others: as long as one of them is wrong, so is the key that follows from them.
///
/// # Errors
/// The first rule that is broken.
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
    let message = format!("there is no drift policy {number}; give REPAIR or REPORT, or leave it out");
    Err(ValidationError::new("UnknownEnumValue", &["drift_policy"], message))
}

/// Reads a reference, and checks that the names in it are some that an allocation can have: references are parts of keys.
fn check_reference(field: &str, text: &str, own_interface: Option<&str>) -> Result<AllocReference, ValidationError> {
    let as_error = |error| ValidationError::address(field, &error);
    let reference: AllocReference = text.parse().map_err(as_error)?;
    let interface = reference.resolve_interface(own_interface).map_err(as_error)?;
    let named = name::check_name(field, &reference.network).and_then(|()| check_interface_name(field, &interface));
    named.map_err(|error| {
        let message = format!("the reference `{}` cannot be one: {}", text.escape_debug(), error.message);
        ValidationError::new("AllocReferenceInvalid", &[field], message)
    })?;
    Ok(reference)
}
