//! Several values on one link of the agent's own namespace: any number of EXISTING interfaces, beside at most one that made the link.
//!
//! Answers which values use a link, so that what belongs to the link is judged over all of them.

use models::key::{Key, TypedKey};

use super::{
    Network,
    interface::{HOST_NAME_CONFLICT, host_name_claim},
    netns_of,
    value::{HostLink, Interface, InterfaceKind, NamespaceName, Value, interface_key},
};
use crate::{
    kernel::AddressSpec,
    scheduler::{Claim, View},
};

/// Key of the fact that a link is up in the agent's own namespace.
pub fn host_link_key(host_name: &str) -> Key {
    TypedKey::HostInterface {
        host_name: host_name.to_owned(),
    }
    .to_key()
}

/// A link of the agent's own namespace as read last; `None` if it is down or does not exist.
pub fn host_link(view: &View<'_, Network>, host_name: &str) -> Option<HostLink> {
    view.applied(&host_link_key(host_name))?.host_link()
}

/// Logical names of the EXISTING interfaces, desired or applied, for a link of the agent's own namespace, in order.
pub fn existing_on(view: &View<'_, Network>, host_name: &str) -> Vec<String> {
    let named = |interface: &&Interface| interface.kind == InterfaceKind::Existing && interface.host_name == host_name;
    let interfaces = view
        .dependents(&host_link_key(host_name))
        .filter_map(|key| view.wanted(key).or(view.applied(key))?.interface());
    let mut names: Vec<String> = interfaces.filter(named).map(|interface| interface.name.clone()).collect();
    names.sort_unstable();
    names
}

/// The other applied interfaces on the link of an applied interface.
pub fn others_on_link<'a>(view: &View<'a, Network>, interface: &Interface) -> Vec<&'a Interface> {
    let netns = netns_of(view, &interface.namespace);
    let Some(own) = netns_of(view, &NamespaceName::Own).filter(|own| netns == Some(*own)) else {
        return Vec::new();
    };
    let host_name = Claim {
        name: host_name_claim(own, &interface.host_name),
        reason: HOST_NAME_CONFLICT,
    };
    let owner = view.holder(&host_name).cloned();
    let existing = existing_on(view, &interface.host_name).into_iter().map(|name| interface_key(&name));
    let others = owner.into_iter().chain(existing).filter(|key| *key != interface.key());
    others.filter_map(|key| view.applied(&key)?.interface()).collect()
}

/// Whether the agent keeps an address on a link for another value than `interface`.
pub fn is_kept_for_another(view: &View<'_, Network>, interface: &Interface, spec: AddressSpec) -> bool {
    let keeps = |other: &Interface| {
        let mut same = other.addresses.iter().filter(|address| address.spec == Some(spec));
        same.any(|address| address.expected.is_none() && view.applied(&address.key).is_some_and(|value| value.address().is_some()))
    };
    others_on_link(view, interface).into_iter().any(keeps)
}

/// Whether an applied interface is a VRF device, and with which routing table.
pub fn vrf_table(view: &View<'_, Network>, interface: &Interface) -> Option<u32> {
    match interface.kind {
        InterfaceKind::Vrf { table } => Some(table),
        InterfaceKind::Existing => host_link(view, &interface.host_name)?.vrf_table,
        _ => None,
    }
}

/// The values that look at their dependencies again because the link behind an EXISTING interface has become another one.
pub fn concerned_by_link(view: &View<'_, Network>, fact: &Key) -> Vec<Key> {
    let existing = view
        .dependents(fact)
        .filter(|key| view.applied(key).and_then(Value::interface).is_some());
    existing.flat_map(|key| view.dependents(key).cloned()).collect()
}
