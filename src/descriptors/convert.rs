//! Converts models to scheduler values: parses text and applies the default settings of the models (host name, scope,
//! offloading).
//!
//! The result depends only on the model.

use std::{collections::HashMap, net::IpAddr, sync::Arc};

use models::{
    Model, ValidationError,
    address::{MacAddress, is_alloc_reference, network_of, parse_ip_or_cidr},
    key::{AddressSource, TypedKey},
    proto::{
        ligato::linux::{
            interfaces::{Interface as InterfaceModel, interface::DuplicateAddressDetection},
            l3::{ArpEntry, Route as RouteModel, route::Scope},
            namespace::{NetNamespace, net_namespace::ReferenceType},
        },
        netns_agent::DriftPolicy as DriftPolicyModel,
    },
};

use super::value::{
    Address, Arp, Desired, DesiredInterface, Detection, DriftPolicy, Interface, NamespaceName, Original, PortOf, Route, Terms, Value,
};
use crate::scheduler::{Rejection, ValueState};
use link_kinds::LifeCycle;
use netns_kernel::AddressSpec;

/// Returns the rejection for a model that passed validation but cannot be converted. This happens only if the validation is
/// incomplete.
fn unusable(field: &str, message: impl std::fmt::Display) -> Rejection {
    let message = format!("{field}: {message}");
    Rejection {
        state: ValueState::Invalid,
        reason: "InvalidValue",
        message,
        fields: vec![field.to_owned()],
    }
}

/// Converts a valid model to a scheduler value.
///
/// # Errors
/// Returns a [`Rejection`] that names the invalid field.
pub fn value_of(model: &Model) -> Result<Value, Rejection> {
    match model {
        Model::Interface(message) => Ok(Value::Interface(interface(message, Original::of(model))?.into())),
        Model::Arp(message) => Ok(Value::Arp(arp(message, Original::of(model))?.into())),
        Model::Route(message) => Ok(Value::Route(route(message, Original::of(model))?.into())),
        Model::RuleChain(_) | Model::IpAllocation(_) => Ok(Value::Unhandled),
    }
}

fn spec(text: &str) -> Option<AddressSpec> {
    parse_ip_or_cidr(text).ok().map(|prefix| AddressSpec {
        address: prefix.address,
        prefix_len: prefix.prefix_len,
    })
}

fn mac(field: &str, text: &str) -> Result<[u8; 6], Rejection> {
    text.parse::<MacAddress>().map(|mac| mac.0).map_err(|error| unusable(field, error))
}

fn non_empty(text: &str) -> Option<String> {
    (!text.is_empty()).then(|| text.to_owned())
}

fn namespace(model: Option<&NetNamespace>) -> Result<NamespaceName, Rejection> {
    let Some(model) = model else { return Ok(NamespaceName::Own) };
    let reference = model.reference.clone();
    match model.r#type() {
        ReferenceType::Nsid => Ok(NamespaceName::Named(reference)),
        ReferenceType::Pid => reference
            .parse()
            .map(NamespaceName::Process)
            .map_err(|error| unusable("namespace.reference", format!("`{reference}`: {error}"))),
        ReferenceType::Fd => Ok(NamespaceName::File(reference)),
        ReferenceType::Microservice => Ok(NamespaceName::Microservice(reference)),
        ReferenceType::Undefined => Err(unusable("namespace.type", "is not set")),
    }
}

fn drift_policy(model: DriftPolicyModel) -> Option<DriftPolicy> {
    match model {
        DriftPolicyModel::OfAgent => None,
        DriftPolicyModel::Repair => Some(DriftPolicy::Repair),
        DriftPolicyModel::Report => Some(DriftPolicy::Report),
    }
}

fn interface(model: &InterfaceModel, original: Original) -> Result<DesiredInterface, Rejection> {
    let link = model.parse_link().map_err(rejection)?;
    let host_name = model.host_name().to_owned();
    let existing = link.life_cycle() == LifeCycle::Referred;
    let detects = link.spec().detects_duplicates;
    let vrf = non_empty(&model.vrf_master_interface);
    let mut addresses = Vec::new();
    for text in model.ip_addresses.iter().filter(|_| !model.link_only || existing) {
        addresses.push(address(
            model,
            text,
            (existing && model.link_only, detects),
            &host_name,
            vrf.clone(),
        ));
    }
    order(&mut addresses);
    let interface = Interface {
        name: model.name.clone(),
        link,
        namespace: namespace(model.namespace.as_ref())?,
        host_name,
        enabled: model.enabled,
        mac: if model.phys_address.is_empty() {
            None
        } else {
            Some(mac("phys_address", &model.phys_address)?)
        },
        mtu: model.mtu,
        link_only: model.link_only,
        vrf,
        port_of: port_of(model)?,
    };
    Ok(DesiredInterface {
        interface: interface.into(),
        addresses: addresses.into_iter().map(Arc::new).collect(),
        terms: Terms {
            adopt: model.adopt(),
            drift_policy: drift_policy(model.drift_policy()),
            original,
        },
    })
}

fn address(model: &InterfaceModel, text: &str, (only_expected, detects): (bool, bool), host_name: &str, vrf: Option<String>) -> Address {
    let source = match (only_expected, is_alloc_reference(text)) {
        (true, _) => AddressSource::Existing,
        (_, true) => AddressSource::AllocRef,
        _ => AddressSource::Static,
    };
    let spec = spec(text);
    let expected = spec.filter(|_| only_expected).map(|spec| {
        let address = format!("{}/{}", spec.address, spec.prefix_len);
        TypedKey::HostInterfaceAddress {
            host_name: host_name.to_owned(),
            address,
        }
        .to_key()
    });
    let key = TypedKey::interface_address(&model.name, text, source).to_key();
    let detection = match model.duplicate_address_detection() {
        DuplicateAddressDetection::Wait => Detection::Wait,
        DuplicateAddressDetection::Skip => Detection::Skip,
        DuplicateAddressDetection::Optimistic => Detection::Optimistic,
    };
    let is_ipv6 = spec.is_some_and(|spec| spec.address.is_ipv6());
    Address {
        interface: model.name.clone(),
        key,
        spec,
        text: text.to_owned(),
        vrf,
        awaited: is_ipv6 && detects && model.enabled && expected.is_none() && detection != Detection::Skip,
        expected,
        detection,
        position: 0,
        leads: false,
        routed: true,
    }
}

fn port_of(model: &InterfaceModel) -> Result<Option<PortOf>, Rejection> {
    let settings = model.parse_port().map_err(rejection)?;
    let master = non_empty(model.master_interface());
    Ok(master.map(|master| PortOf { master, settings }))
}

fn rejection(error: ValidationError) -> Rejection {
    Rejection {
        state: ValueState::Invalid,
        reason: error.reason,
        message: error.message,
        fields: error.fields,
    }
}

/// Numbers the addresses in the order of the model, and sets `leads` for the first address of each IPv4 subnet that contains
/// several addresses.
fn order(addresses: &mut [Address]) {
    let mut first: HashMap<(IpAddr, u8), usize> = HashMap::new();
    for at in 0..addresses.len() {
        addresses[at].position = u32::try_from(at + 1).unwrap_or(u32::MAX);
        let spec = addresses[at]
            .spec
            .filter(|spec| spec.address.is_ipv4() && addresses[at].expected.is_none());
        let Some(spec) = spec else { continue };
        let subnet = (network_of(spec.address, spec.prefix_len), spec.prefix_len);
        let leader = *first.entry(subnet).or_insert(at);
        addresses[leader].leads |= addresses[leader].spec != Some(spec);
    }
}

fn arp(model: &ArpEntry, original: Original) -> Result<Desired<Arp>, Rejection> {
    Ok(Desired {
        value: Arp {
            interface: model.interface.clone(),
            address: spec(&model.ip_address).map(|spec| spec.address),
            text: model.ip_address.clone(),
            mac: mac("hw_address", &model.hw_address)?,
        },
        terms: Terms {
            adopt: model.adopt(),
            drift_policy: drift_policy(model.drift_policy()),
            original,
        },
    })
}

fn route(model: &RouteModel, original: Original) -> Result<Desired<Route>, Rejection> {
    let reference = is_alloc_reference(&model.gw_addr);
    let gateway = match model.gw_addr.as_str() {
        "" => None,
        _ if reference => None,
        text => Some(parse_ip_or_cidr(text).map_err(|error| unusable("gw_addr", error))?.address),
    };
    let scope = match (model.scope(), gateway.is_some() || reference) {
        (Scope::Global, _) | (Scope::Undefined, true) => 0,
        (Scope::Site, _) => 200,
        (Scope::Link, _) | (Scope::Undefined, false) => super::route::SCOPE_LINK,
        (Scope::Host, _) => 254,
    };
    Ok(Desired {
        value: Route {
            interface: model.outgoing_interface.clone(),
            destination: spec(&model.dst_network),
            destination_text: model.dst_network.clone(),
            gateway,
            gateway_reference: reference.then(|| model.gw_addr.clone()),
            scope,
            metric: model.metric,
        },
        terms: Terms {
            adopt: model.adopt(),
            drift_policy: drift_policy(model.drift_policy()),
            original,
        },
    })
}
