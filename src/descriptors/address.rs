//! Addresses of interfaces, each a value derived from its interface.
//!
//! Owns adding and removing. Must never touch an address that no model names. Start reading at [`AddressDescriptor`].

use models::key::{Key, TypedKey};

use super::{
    Network,
    alias::Marks,
    applied_interface, detection, guard_of,
    sharing::is_kept_for_another,
    value::{Address, Detection, Interface, InterfaceKind, Value},
    vrf::membership_key,
};
use crate::{
    kernel::{AddressDetection, KernelOp},
    scheduler::{DeleteCause, Dependency, Descriptor, Refusal, View},
};

/// Descriptor of `linux/interface/<if>/address/<source>/<address>`.
#[derive(Clone)]
pub struct AddressDescriptor {
    pub(super) marks: Marks,
}

/// Whether a key names an address of a managed interface.
pub fn is_address(key: &Key) -> bool {
    derived_part(key).is_some_and(|part| part.contains("/address/"))
}

/// What follows `linux/interface/` in the key of something derived from a managed interface. Names of interfaces have no path
/// element `address` or `vrf` (validation refuses them), so looking for one is enough where every look-up passes.
pub(super) fn derived_part(key: &Key) -> Option<&str> {
    let part = key.as_str().strip_prefix("linux/interface/")?;
    (!part.starts_with("state/") && !part.starts_with("host-name/")).then_some(part)
}

/// Prefix of the keys of all addresses of an interface, for "any of" dependencies.
pub fn addresses_prefix(interface: &str) -> Key {
    Key::from(TypedKey::any_address_of(interface))
}

/// Key of an IP allocation reference, `alloc:<network>[/<interface>][/GW]`, as seen from `interface`.
pub fn allocation_key(reference: &str, interface: &str) -> Key {
    let body = reference.strip_prefix("alloc:").unwrap_or(reference);
    let body = body.strip_suffix("/GW").unwrap_or(body);
    let (network, interface) = body.split_once('/').unwrap_or((body, interface));
    TypedKey::IpAllocation {
        network: network.to_owned(),
        interface: interface.to_owned(),
    }
    .to_key()
}

/// Whether a link is somebody else's too, with addresses of theirs.
pub(super) fn is_shared(interface: &Interface) -> bool {
    matches!(interface.kind, InterfaceKind::Existing | InterfaceKind::Loopback)
}

/// What the kernel is told about duplicates of an address.
pub(super) fn kernel_detection(address: &Address) -> AddressDetection {
    match address.detection {
        Detection::Wait => AddressDetection::Default,
        Detection::Skip => AddressDetection::Off,
        Detection::Optimistic => AddressDetection::Optimistic,
    }
}

fn operation(marks: &Marks, address: &Address, view: &View<'_, Network>, add: bool) -> Vec<KernelOp> {
    let (Some(spec), None, Some((interface, netns))) = (address.spec, &address.expected, applied_interface(view, &address.interface))
    else {
        return Vec::new();
    };
    let (link, guard) = (interface.host_name.clone(), guard_of(marks, interface));
    let shared = is_shared(interface);
    vec![if add {
        KernelOp::AddAddress {
            netns,
            link,
            guard,
            address: spec,
            detection: kernel_detection(address),
            shared,
        }
    } else {
        KernelOp::DeleteAddress {
            netns,
            link,
            guard,
            address: spec,
            shared,
        }
    }]
}

impl Descriptor<Network> for AddressDescriptor {
    fn name(&self) -> &'static str {
        "linux-interface-address"
    }

    fn equivalent(&self, _: &Key, applied: &Value, wanted: &Value) -> bool {
        match (applied.address(), wanted.address()) {
            // Entering or leaving a VRF takes the link down and up, and with that the kernel removes its IPv6 addresses.
            (Some(applied), Some(wanted)) => {
                let flagged = |address: &Address| address.detection == Detection::Skip;
                (applied.spec, &applied.expected, &applied.vrf, flagged(applied))
                    == (wanted.spec, &wanted.expected, &wanted.vrf, flagged(wanted))
            }
            _ => false,
        }
    }

    fn dependencies(&self, _: &Key, value: &Value) -> Vec<Dependency> {
        let Some(address) = value.address() else { return Vec::new() };
        let mut dependencies = Vec::new();
        if let Some(vrf) = &address.vrf {
            dependencies.push(Dependency::key(
                "interface-assigned-to-vrf",
                membership_key(&address.interface, vrf),
            ));
        }
        if let Some(fact) = &address.expected {
            dependencies.push(Dependency::key("address-assigned-to-interface", fact.clone()));
        }
        if address.spec.is_none() {
            dependencies.push(Dependency::key(
                address.text.to_string(),
                allocation_key(&address.text, &address.interface),
            ));
        }
        dependencies
    }

    fn derived(&self, _: &Key, value: &Value) -> Vec<(Key, Value)> {
        value.address().and_then(detection::of).into_iter().collect()
    }

    fn create(&self, _: &Key, value: &Value, view: &View<'_, Network>) -> Result<Vec<KernelOp>, Refusal> {
        Ok(value
            .address()
            .map(|address| operation(&self.marks, address, view, true))
            .unwrap_or_default())
    }

    fn delete(&self, _: &Key, applied: &Value, _: DeleteCause, view: &View<'_, Network>) -> Vec<KernelOp> {
        let kept = |address: &Address| {
            let interface = applied_interface(view, &address.interface).zip(address.spec);
            interface.is_some_and(|((interface, _), spec)| is_kept_for_another(view, interface, spec))
        };
        applied
            .address()
            .filter(|address| !kept(address))
            .map(|address| operation(&self.marks, address, view, false))
            .unwrap_or_default()
    }
}
