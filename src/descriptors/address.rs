//! Interface addresses. Each address is a value derived from its interface.
//!
//! This module never changes or deletes an address that belongs to no value.

use std::sync::Arc;

use models::{
    address::{network_of, parse_ip_or_cidr},
    key::{Key, TypedKey},
};

use super::{
    Effect, Network,
    address_facts::{observed_address, observed_prefix},
    alias::Marks,
    applied_interface, detection, guard_of,
    kind::{Kind, of_one_type},
    membership::vrf_membership_key,
    off_link, on_link,
    route::layer3_on_link,
    sharing::{is_kept_for_another, others_on_link},
    value::{Address, Detection, Interface, Value},
};
use crate::scheduler::{Comparison, DeleteCause, Dependency, Difference, Place, Refusal, Taken, Verb, View};
use netns_kernel::{AddressDetection, AddressSpec, KernelOp};

/// Descriptor of `linux/interface/<if>/address/<source>/<address>`.
#[derive(Clone)]
pub struct AddressKind {
    pub(super) marks: Marks,
}

/// Separator between the interface name and the address in a key.
const ADDRESS: &str = "/address/";

/// Returns whether a key names an address of a managed interface.
pub fn is_address(key: &Key) -> bool {
    derived_part(key).is_some_and(|part| part.contains(ADDRESS))
}

/// Returns the part after `linux/interface/` in the key of a value derived from a managed interface.
///
/// Interface names never contain a path element `address` or `vrf`, because validation rejects them. Callers can therefore search
/// the returned part for these words. This function runs in every descriptor lookup, so it must be fast.
pub(super) fn derived_part(key: &Key) -> Option<&str> {
    let part = key.as_str().strip_prefix("linux/interface/")?;
    (!part.starts_with("state/") && !part.starts_with("host-name/")).then_some(part)
}

/// Returns the key prefix that all addresses of an interface share. Any of these addresses satisfies a dependency on this prefix.
pub fn addresses_prefix(interface: &str) -> Key {
    Key::from(TypedKey::any_address_of(interface))
}

/// Returns the key of the IP allocation that the reference `alloc:<network>[/<interface>][/GW]` names. `<interface>` defaults to
/// `interface`.
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

/// Returns whether other interfaces or programs can use the link of an interface and add addresses to it.
pub(super) fn is_shared(interface: &Interface) -> bool {
    interface.is_existing() || interface.is_loopback()
}

/// Returns the mode in which the kernel performs duplicate address detection for an address.
pub(super) fn kernel_detection(address: &Address) -> AddressDetection {
    match address.detection {
        Detection::Wait => AddressDetection::Default,
        Detection::Skip => AddressDetection::Off,
        Detection::Optimistic => AddressDetection::Optimistic,
    }
}

/// Returns the parsed address if the agent has to add it. Otherwise, returns an effect without an operation, because another
/// program adds the address or no address is allocated yet.
fn spec_of(address: &Address) -> Result<AddressSpec, Effect> {
    match (&address.expected, address.spec) {
        (Some(_), _) => Err(Effect::Noop("another program adds the address; the agent only waits for it")),
        (None, Some(spec)) => Ok(spec),
        (None, None) => Err(Effect::Impossible(format!("no address was allocated for {}", address.text))),
    }
}

fn add(marks: &Marks, address: &Address, view: &View<'_, Network>) -> Effect {
    let spec = match spec_of(address) {
        Ok(spec) => spec,
        Err(effect) => return effect,
    };
    on_link(view, &address.interface, |interface, netns| {
        Effect::one(KernelOp::AddAddress {
            netns,
            link: interface.host_name.clone(),
            guard: guard_of(marks, interface),
            address: spec,
            detection: kernel_detection(address),
            shared: is_shared(interface),
        })
    })
}

/// Returns whether two addresses are in the same IPv4 subnet. The kernel has only one primary address per subnet.
pub(super) fn in_same_subnet(a: AddressSpec, b: AddressSpec) -> bool {
    let subnet = |spec: AddressSpec| (network_of(spec.address, spec.prefix_len), spec.prefix_len);
    a.address.is_ipv4() && subnet(a) == subnet(b)
}

/// Returns the other applied addresses of the interface in the IPv4 subnet of `address`, in the order of the model.
fn others_in_subnet<'a>(address: &Address, view: &View<'a, Network>) -> Vec<&'a Address> {
    let Some(spec) = address.spec.filter(|spec| spec.address.is_ipv4()) else {
        return Vec::new();
    };
    let applied = view.applied_under(addresses_prefix(&address.interface).as_str());
    let others = applied.filter_map(|(key, value)| value.address().filter(|_| *key != address.key));
    let is_in_subnet = |other: &&Address| other.spec.is_some_and(|other| in_same_subnet(other, spec));
    let mut others: Vec<&Address> = others.filter(is_in_subnet).collect();
    others.sort_by_key(|other| other.position);
    others
}

/// Returns the effect that makes an address the primary one of its subnet. The effect is empty if no other address of the subnet
/// is applied.
fn make_primary(marks: &Marks, address: &Address, view: &View<'_, Network>) -> Effect {
    let others: Vec<AddressSpec> = others_in_subnet(address, view).into_iter().filter_map(|other| other.spec).collect();
    let Some(spec) = address.spec.filter(|_| !others.is_empty()) else {
        return Effect::Noop("the address is the only one in its subnet");
    };
    on_link(view, &address.interface, |interface, netns| {
        Effect::one(KernelOp::MakePrimary {
            netns,
            link: interface.host_name.clone(),
            guard: guard_of(marks, interface),
            address: spec,
            others,
        })
    })
}

/// Returns the effect that makes another address of the subnet the primary one before `address` is deleted.
///
/// Without this, the kernel would delete all secondary addresses of the subnet together with the primary one.
fn keep_others(marks: &Marks, address: &Address, view: &View<'_, Network>) -> Effect {
    let mut others = others_in_subnet(address, view).into_iter();
    let first = others.find(|other| other.expected.is_none() && view.desired(&other.key).is_some());
    match first {
        Some(first) => make_primary(marks, first, view),
        None => Effect::Noop("no other address of the subnet remains"),
    }
}

/// Other IPv4 address on the link of an address that is being added or deleted.
enum OtherAddress {
    Stays,
    /// The address with this key is itself being added or deleted.
    Changes(Key),
}

/// Returns all IPv4 addresses on the link of an interface, except the address `spec`. `key` is the key of this address.
fn beside<'a>(
    interface: &Interface,
    key: &'a Key,
    spec: AddressSpec,
    view: &'a View<'a, Network>,
) -> impl Iterator<Item = OtherAddress> + 'a {
    let is_ipv4 = |address: &Address| address.expected.is_none() && address.spec.is_some_and(|spec| spec.address.is_ipv4());
    let prefix = addresses_prefix(&interface.name);
    let is_other = move |(other, value): &(&Key, &Value)| *other != key && value.address().is_some_and(is_ipv4);
    let applied = view.applied_under(prefix.as_str()).filter(is_other);
    let applied = applied.map(|(other, _)| match view.is_being_deleted(other) {
        true => OtherAddress::Changes(other.clone()),
        false => OtherAddress::Stays,
    });
    let comes = |other: &Key| view.applied(other).is_none() && view.coming(other).is_some();
    let coming = view.desired_under(prefix.as_str()).filter(is_other);
    let coming = coming
        .filter(move |(other, _)| comes(other))
        .map(|(other, _)| OtherAddress::Changes(other.clone()));
    // Add the foreign addresses that the desired interface expects, because they are not reported as observed facts.
    let is_there = move |address: &&Arc<Address>| {
        let other = address.spec.filter(|other| other.address.is_ipv4() && *other != spec);
        other.is_some() && address.expected.as_ref().is_some_and(|fact| view.applied(fact).is_some())
    };
    let desired = view.desired(&interface.key()).into_iter();
    let expected = desired.flat_map(Value::addresses).filter(is_there);
    let observed = view.applied_under(observed_prefix(&interface.name).as_str());
    let observed = observed.filter_map(|(key, _)| parse_ip_or_cidr(observed_address(key)?.1).ok());
    let observed = observed.filter(move |other| other.address.is_ipv4() && other.address != spec.address);
    let of_others = expected.map(|_| ()).chain(observed.map(|_| ()));
    applied.chain(coming).chain(of_others.map(|()| OtherAddress::Stays))
}

impl Kind for AddressKind {
    of_one_type!(Address, Arc<Address>);

    const NAME: &'static str = "linux-interface-address";

    fn compare(&self, applied: &Arc<Address>, desired: &Arc<Address>) -> Comparison {
        let is_skipped = |address: &Address| address.detection == Detection::Skip;
        let vrf = |address: &Address| address.vrf.clone().unwrap_or("none".to_owned());
        [
            (applied.spec != desired.spec).then(|| Difference::again("the address differs")),
            (applied.expected != desired.expected).then(|| {
                Difference::again(match desired.expected {
                    Some(_) => "the address was added by the agent, not by another program",
                    None => "the address was added by another program, not by the agent",
                })
            }),
            // When a link enters or leaves a VRF, the kernel takes it down and up again, and deletes its IPv6 addresses.
            (applied.vrf != desired.vrf).then(|| Difference::again(format!("the VRF is {} instead of {}", vrf(applied), vrf(desired)))),
            (is_skipped(applied) != is_skipped(desired)).then(|| {
                Difference::again(match is_skipped(desired) {
                    true => "the kernel performs duplicate address detection for the address",
                    false => "the kernel performs no duplicate address detection for the address",
                })
            }),
            (!applied.routed && desired.routed)
                .then(|| Difference::in_place("the routes that the kernel created for the address were deleted")),
            (!applied.leads && desired.leads).then(|| Difference::in_place("the address is not the primary one of its subnet")),
        ]
        .into_iter()
        .flatten()
        .collect()
    }

    /// Addresses are added in the order of the model, because the kernel makes the first address of a subnet the primary one.
    fn place(&self, key: &Key, address: &Arc<Address>) -> Option<Place> {
        let group = key.as_str().find(ADDRESS)? + ADDRESS.len();
        Some(Place {
            group,
            position: address.position,
        })
    }

    fn dependencies(&self, address: &Arc<Address>) -> Vec<Dependency> {
        let mut dependencies = Vec::new();
        if let Some(vrf) = &address.vrf {
            dependencies.push(Dependency::key(
                "interface-assigned-to-vrf",
                vrf_membership_key(&address.interface, vrf),
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

    fn derived(&self, address: &Arc<Address>) -> Vec<(Key, Value)> {
        detection::of(address).into_iter().collect()
    }

    fn create(&self, address: &Arc<Address>, view: &View<'_, Network>) -> Result<Effect, Refusal> {
        let added = add(&self.marks, address, view);
        Ok(match address.leads {
            true => added.then(make_primary(&self.marks, address, view)),
            false => added,
        })
    }

    fn update(&self, applied: &Arc<Address>, address: &Arc<Address>, view: &View<'_, Network>) -> Result<Effect, Refusal> {
        // Adding an existing address again restores its routes.
        let restored = match applied.routed {
            true => Effect::Noop("the routes of the address already exist"),
            false => add(&self.marks, address, view),
        };
        Ok(match address.leads {
            true => restored.then(make_primary(&self.marks, address, view)),
            false => restored,
        })
    }

    fn delete(&self, address: &Arc<Address>, _: DeleteCause, view: &View<'_, Network>) -> Effect {
        let spec = match spec_of(address) {
            Ok(spec) => spec,
            Err(effect) => return effect,
        };
        off_link(view, &address.interface, |interface, netns| {
            if is_kept_for_another(view, interface, spec) {
                return Effect::Noop("another interface on the link has the same address");
            }
            let deletion = Effect::one(KernelOp::DeleteAddress {
                netns,
                link: interface.host_name.clone(),
                guard: guard_of(&self.marks, interface),
                address: spec,
                shared: is_shared(interface),
            });
            keep_others(&self.marks, address, view).then(deletion)
        })
    }

    /// The kernel also deletes the IPv4 routes and neighbours of a link when the last IPv4 address of the link is deleted
    /// (`fib_disable_ip` in net/ipv4/fib_frontend.c). This does not happen on `lo`, which keeps 127.0.0.1.
    fn takes_along(&self, key: &Key, address: &Arc<Address>, verb: Verb, view: &View<'_, Network>) -> Taken {
        let Some(((interface, _), spec)) = applied_interface(view, &address.interface).zip(address.spec) else {
            return Taken::NOTHING;
        };
        if verb != Verb::Delete || spec.address.is_ipv6() || interface.is_loopback() {
            return Taken::NOTHING;
        }
        let taken = layer3_on_link(interface, view).into_iter();
        let taken: Vec<Key> = taken.filter(|(_, address)| address.is_ipv4()).map(|(key, _)| key.clone()).collect();
        if taken.is_empty() {
            return Taken::NOTHING;
        }
        let on_link = others_on_link(view, interface).into_iter().chain([interface]);
        let mut changing = None;
        for other in on_link.flat_map(|interface| beside(interface, key, spec, view)) {
            match other {
                OtherAddress::Stays => return Taken::NOTHING,
                OtherAddress::Changes(key) => changing = Some(key),
            }
        }
        changing.map_or(Taken::Values(taken), Taken::After)
    }
}
