//! Addresses of interfaces, each a value derived from its interface.
//!
//! Owns adding and removing. Must never touch an address that no model names. Start reading at [`AddressDescriptor`].

use models::{
    address::{network_of, parse_ip_or_cidr},
    key::{Key, TypedKey},
};

use super::{
    Network,
    alias::Marks,
    applied_interface, detection, guard_of,
    membership::vrf_membership_key,
    observed::{observed_address, observed_prefix},
    route::layer3_on_link,
    sharing::{is_kept_for_another, others_on_link},
    value::{Address, Detection, Interface, Value},
};
use crate::scheduler::{DeleteCause, Dependency, Descriptor, Place, Refusal, Taken, Verb, View};
use netns_kernel::{AddressDetection, AddressSpec, KernelOp};

/// Descriptor of `linux/interface/<if>/address/<source>/<address>`.
#[derive(Clone)]
pub struct AddressDescriptor {
    pub(super) marks: Marks,
}

/// What follows the name of the interface in the key of an address.
const ADDRESS: &str = "/address/";

/// Whether a key names an address of a managed interface.
pub fn is_address(key: &Key) -> bool {
    derived_part(key).is_some_and(|part| part.contains(ADDRESS))
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
    interface.is_existing() || interface.is_loopback()
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

/// Whether two addresses are of one IPv4 subnet, of which the kernel has one as the primary address.
pub(super) fn in_same_subnet(a: AddressSpec, b: AddressSpec) -> bool {
    let subnet = |spec: AddressSpec| (network_of(spec.address, spec.prefix_len), spec.prefix_len);
    a.address.is_ipv4() && subnet(a) == subnet(b)
}

fn is_routed(value: &Value) -> bool {
    value.address().is_some_and(|address| address.routed)
}

/// The applied addresses in the IPv4 subnet of an address of the same interface, in the order in which they are written, without that one.
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

/// Makes an address the primary one of its subnet, if the agent has set other addresses of that subnet before.
fn make_primary(marks: &Marks, address: &Address, view: &View<'_, Network>) -> Vec<KernelOp> {
    let on = applied_interface(view, &address.interface);
    let (Some(spec), Some((interface, netns))) = (address.spec, on) else {
        return Vec::new();
    };
    let others: Vec<AddressSpec> = others_in_subnet(address, view).into_iter().filter_map(|other| other.spec).collect();
    if others.is_empty() {
        return Vec::new();
    }
    vec![KernelOp::MakePrimary {
        netns,
        link: interface.host_name.clone(),
        guard: guard_of(marks, interface),
        address: spec,
        others,
    }]
}

/// With the primary address of a subnet the kernel removes the secondary ones. So before an address is removed, the first one of its
/// subnet that stays becomes the primary one.
fn keep_others(marks: &Marks, address: &Address, view: &View<'_, Network>) -> Vec<KernelOp> {
    let mut others = others_in_subnet(address, view).into_iter();
    let first = others.find(|other| other.expected.is_none() && view.wanted(&other.key).is_some());
    first.map(|first| make_primary(marks, first, view)).unwrap_or_default()
}

/// Another IPv4 address on a link.
enum OtherAddress {
    Stays,
    /// It is being added or deleted, under this key.
    Changes(Key),
}

/// The IPv4 addresses on the link of an interface beside one of its own.
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
    let coming = view.wanted_under(prefix.as_str()).filter(is_other);
    let coming = coming
        .filter(move |(other, _)| comes(other))
        .map(|(other, _)| OtherAddress::Changes(other.clone()));
    // Those of others that the desired interface expects are not reported as observed.
    let is_there = move |address: &&Address| {
        let other = address.spec.filter(|other| other.address.is_ipv4() && *other != spec);
        other.is_some() && address.expected.as_ref().is_some_and(|fact| view.applied(fact).is_some())
    };
    let desired = view.wanted(&interface.key()).and_then(Value::interface);
    let expected = desired.into_iter().flat_map(|desired| &desired.addresses).filter(is_there);
    let observed = view.applied_under(observed_prefix(&interface.name).as_str());
    let observed = observed.filter_map(|(key, _)| parse_ip_or_cidr(observed_address(key)?.1).ok());
    let observed = observed.filter(move |other| other.address.is_ipv4() && other.address != spec.address);
    let of_others = expected.map(|_| ()).chain(observed.map(|_| ()));
    applied.chain(coming).chain(of_others.map(|()| OtherAddress::Stays))
}

impl AddressDescriptor {
    /// Whether two addresses differ in nothing but their order.
    fn is_same(applied: &Value, wanted: &Value) -> bool {
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
}

impl Descriptor<Network> for AddressDescriptor {
    fn name(&self) -> &'static str {
        "linux-interface-address"
    }

    fn equivalent(&self, _: &Key, applied: &Value, wanted: &Value) -> bool {
        let leads = |value: &Value| value.address().is_some_and(|address| address.leads);
        Self::is_same(applied, wanted) && (leads(applied) || !leads(wanted)) && (is_routed(applied) || !is_routed(wanted))
    }

    fn difference(&self, found: &Value, wanted: &Value) -> String {
        let difference = match Self::is_same(found, wanted) {
            true if !is_routed(found) => "the routes that the kernel makes for it are gone",
            true => "it is not the primary address of its subnet",
            false => "it was changed",
        };
        difference.to_owned()
    }

    fn needs_recreate(&self, _: &Key, applied: &Value, wanted: &Value) -> bool {
        !Self::is_same(applied, wanted)
    }

    /// The kernel takes the first address of a subnet as its primary address.
    fn place(&self, key: &Key, value: &Value) -> Option<Place> {
        let position = value.address()?.position;
        let group = key.as_str().find(ADDRESS)? + ADDRESS.len();
        Some(Place { group, position })
    }

    fn dependencies(&self, _: &Key, value: &Value) -> Vec<Dependency> {
        let Some(address) = value.address() else { return Vec::new() };
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

    fn derived(&self, _: &Key, value: &Value) -> Vec<(Key, Value)> {
        value.address().and_then(detection::of).into_iter().collect()
    }

    fn create(&self, _: &Key, value: &Value, view: &View<'_, Network>) -> Result<Vec<KernelOp>, Refusal> {
        let Some(address) = value.address() else { return Ok(Vec::new()) };
        let mut ops = operation(&self.marks, address, view, true);
        if address.leads {
            ops.extend(make_primary(&self.marks, address, view));
        }
        Ok(ops)
    }

    fn update(&self, _: &Key, applied: &Value, wanted: &Value, view: &View<'_, Network>) -> Result<Vec<KernelOp>, Refusal> {
        let Some(address) = wanted.address() else { return Ok(Vec::new()) };
        // Adding one that is there restores its routes.
        let mut ops = match is_routed(applied) {
            true => Vec::new(),
            false => operation(&self.marks, address, view, true),
        };
        if address.leads {
            ops.extend(make_primary(&self.marks, address, view));
        }
        Ok(ops)
    }

    fn delete(&self, _: &Key, applied: &Value, _: DeleteCause, view: &View<'_, Network>) -> Vec<KernelOp> {
        let kept = |address: &Address| {
            let interface = applied_interface(view, &address.interface).zip(address.spec);
            interface.is_some_and(|((interface, _), spec)| is_kept_for_another(view, interface, spec))
        };
        let Some(address) = applied.address().filter(|address| !kept(address)) else {
            return Vec::new();
        };
        let removal = operation(&self.marks, address, view, false);
        if removal.is_empty() {
            return removal;
        }
        let mut ops = keep_others(&self.marks, address, view);
        ops.extend(removal);
        ops
    }

    /// With the last IPv4 address of a link the kernel removes its IPv4 routes and neighbours (`fib_disable_ip` in
    /// net/ipv4/fib_frontend.c). `lo` keeps 127.0.0.1.
    fn takes_along(&self, key: &Key, value: &Value, verb: Verb, view: &View<'_, Network>) -> Taken {
        let on = |address: &Address| Some((applied_interface(view, &address.interface)?.0, address.spec?));
        let Some((interface, spec)) = value.address().filter(|_| verb == Verb::Delete).and_then(on) else {
            return Taken::NOTHING;
        };
        if spec.address.is_ipv6() || interface.is_loopback() {
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
