//! Links in the agent's own namespace that several interfaces share: at most one interface that created the link or took it over,
//! and any number of EXISTING interfaces.
//!
//! Finds all interfaces on a link, so that decisions about the link can take all of them into account.

use models::{
    address::MacAddress,
    key::{Key, TypedKey},
};

use super::{
    Network,
    interface::{HOST_NAME_CONFLICT, host_name_claim},
    netns_of,
    value::{HostLink, Interface, NamespaceName, Value, interface_key},
};
use crate::scheduler::{Claim, Refusal, View};
use netns_kernel::AddressSpec;

/// Returns the key of the fact that a link in the agent's own namespace is up.
pub fn host_link_key(host_name: &str) -> Key {
    TypedKey::HostInterface {
        host_name: host_name.to_owned(),
    }
    .to_key()
}

/// Returns the most recently read state of a link in the agent's own namespace, or `None` if the link is down or does not exist.
pub fn host_link(view: &View<'_, Network>, host_name: &str) -> Option<HostLink> {
    view.applied(&host_link_key(host_name))?.host_link()
}

/// Returns the logical names of the EXISTING interfaces on a link in the agent's own namespace, sorted.
///
/// An applied interface is on the link that it was applied to, even if its desired value now names another link. Any other
/// interface is on the link that its desired value names.
pub fn existing_on(view: &View<'_, Network>, host_name: &str) -> Vec<String> {
    let named = |interface: &&Interface| interface.is_existing() && interface.host_name == host_name;
    let interfaces = view
        .dependents(&host_link_key(host_name))
        .filter_map(|key| view.applied(key).or(view.desired(key))?.interface());
    let mut names: Vec<String> = interfaces.filter(named).map(|interface| interface.name.clone()).collect();
    names.sort_unstable();
    names
}

/// Refusal reason for an EXISTING interface that contradicts another interface on its link.
const LINK_CONFLICT: &str = "LinkConflict";

/// Returns the key of the interface that created or took over a link in the agent's own namespace.
fn maker_of(view: &View<'_, Network>, host_name: &str) -> Option<Key> {
    let own = netns_of(view, &NamespaceName::Own)?;
    let host_name = Claim {
        name: host_name_claim(own, host_name),
        reason: HOST_NAME_CONFLICT,
    };
    view.holder(&host_name).cloned()
}

/// Returns a name for the link of an interface. All interfaces on one link get the same name.
///
/// The name contains the logical name of the interface that created the link, so it does not change when the link is renamed. The
/// name of a foreign link contains its kernel name. If others rename a foreign link, the EXISTING interfaces on it are lost.
pub fn link_in_words(view: &View<'_, Network>, name: &str) -> String {
    let key = interface_key(name);
    let interface = view.applied(&key).or(view.desired(&key)).and_then(Value::interface);
    let Some(existing) = interface.filter(|interface| interface.is_existing()) else {
        return format!("interface {name}");
    };
    let maker = maker_of(view, &existing.host_name).and_then(|maker| view.applied(&maker)?.interface());
    match maker {
        Some(maker) => format!("interface {}", maker.name),
        None => format!("link {}", existing.host_name),
    }
}

/// Returns whether an interface is in the agent's own namespace, regardless of how the interface refers to that namespace.
pub fn is_in_own_namespace(view: &View<'_, Network>, interface: &Interface) -> bool {
    let netns = netns_of(view, &interface.namespace);
    netns.is_some() && netns == netns_of(view, &NamespaceName::Own)
}

/// Returns the keys of the other interfaces on the link of an interface: first the interface that created the link, then EXISTING
/// interfaces.
fn keys_beside(view: &View<'_, Network>, interface: &Interface) -> Vec<Key> {
    if !is_in_own_namespace(view, interface) {
        return Vec::new();
    }
    let existing = existing_on(view, &interface.host_name).into_iter().map(|name| interface_key(&name));
    let keys = maker_of(view, &interface.host_name).into_iter().chain(existing);
    keys.filter(|key| *key != interface.key()).collect()
}

/// Returns the other applied interfaces on the link of an applied interface.
pub fn others_on_link<'a>(view: &View<'a, Network>, interface: &Interface) -> Vec<&'a Interface> {
    let others = keys_beside(view, interface).into_iter();
    others.filter_map(|key| view.applied(&key)?.interface()).collect()
}

/// Returns the first property in which two interfaces on one link contradict each other. The first text describes the property of
/// `interface`, and the second text describes the property of `other`.
fn contradiction(interface: &Interface, other: &Interface) -> Option<(String, String)> {
    if let (Some(mtu), Some(others)) = (interface.effective_mtu(), other.effective_mtu())
        && mtu != others
    {
        return Some((format!("MTU {mtu}"), format!("MTU {others}")));
    }
    let mac = |interface: &Interface| interface.mac.filter(|_| !interface.link_only);
    if let (Some(mac), Some(others)) = (mac(interface), mac(other))
        && mac != others
    {
        let words = |mac| format!("MAC address {}", MacAddress(mac));
        return Some((words(mac), words(others)));
    }
    let state = |up| format!("admin state {}", if up { "UP" } else { "DOWN" });
    (interface.enabled != other.enabled).then(|| (state(interface.enabled), state(other.enabled)))
}

/// Returns whether two interfaces on one link contradict each other in MTU, MAC address or admin state.
pub fn contradicts(interface: &Interface, other: &Interface) -> bool {
    contradiction(interface, other).is_some()
}

/// Returns whether two interfaces require the same MTU, MAC address and admin state of their link.
fn asks_alike(interface: &Interface, other: &Interface) -> bool {
    let asks = |interface: &Interface| {
        let mac = interface.mac.filter(|_| !interface.link_only);
        (interface.effective_mtu(), mac, interface.enabled)
    };
    asks(interface) == asks(other)
}

/// Returns the version (applied or desired) of an applied interface that other interfaces on its link must not contradict.
///
/// For the interface that created the link, this is the desired version, because the agent repairs the link. For an EXISTING
/// interface, it is the applied version, because the desired version may itself be in conflict.
pub fn deciding<'a>(view: &View<'a, Network>, applied: &'a Interface) -> &'a Interface {
    let desired = view.desired(&applied.key()).and_then(Value::interface);
    desired.filter(|_| !applied.is_existing()).unwrap_or(applied)
}

/// Returns the version of an interface that other interfaces on its link must not contradict, or `None` if the interface is
/// neither applied nor about to be applied.
fn partner<'a>(view: &View<'a, Network>, key: &Key) -> Option<&'a Interface> {
    let present = view.applied(key).or(view.coming(key))?.interface()?;
    Some(deciding(view, present))
}

/// Returns the desired version of an applied EXISTING interface that stays on its link but now requires another MTU, MAC address
/// or admin state.
fn desired_change<'a>(view: &View<'a, Network>, applied: &Interface) -> Option<&'a Interface> {
    let desired = view.desired(&applied.key()).and_then(Value::interface)?;
    let stays = [applied, desired].iter().all(|version| version.is_existing()) && desired.host_name == applied.host_name;
    (stays && !asks_alike(desired, applied)).then_some(desired)
}

/// Returns the versions of other interfaces on the link that an EXISTING interface must not contradict.
///
/// The applied version of another EXISTING interface that is about to change is ignored. Its desired version is included only if
/// it precedes `interface` in key order and the change is possible. If two interfaces change at once, the first one in key order
/// therefore wins. A change is impossible if it contradicts a version that is already included. A change is also impossible if it
/// contradicts `interface`, provided that `interface` is applied and keeps its own requirements on the link.
fn deciding_beside<'a>(view: &View<'a, Network>, interface: &Interface) -> Vec<&'a Interface> {
    let (mut deciding, mut changes) = (Vec::new(), Vec::new());
    for other in keys_beside(view, interface).iter().filter_map(|key| partner(view, key)) {
        match desired_change(view, other) {
            None => deciding.push(other),
            Some(desired) if desired.name < interface.name => changes.push(desired),
            Some(_) => {}
        }
    }
    changes.sort_unstable_by_key(|desired| &desired.name);
    let applied = view.applied(&interface.key()).and_then(Value::interface);
    let own = applied.filter(|applied| asks_alike(applied, interface));
    for desired in changes {
        let is_reported = |other: &&Interface| asks_alike(other, desired);
        if own.is_some_and(|own| contradicts(desired, own)) {
            continue;
        }
        if !deciding.iter().any(|other| contradicts(desired, other)) && !deciding.iter().any(is_reported) {
            deciding.push(desired);
        }
    }
    deciding
}

/// Returns the first interface on the same link that an EXISTING interface contradicts.
pub fn contradicted<'a>(view: &View<'a, Network>, interface: &Interface) -> Option<&'a Interface> {
    let mut deciding = deciding_beside(view, interface).into_iter();
    deciding.find(|other| contradicts(interface, other))
}

/// Checks that an EXISTING interface does not contradict any other interface on its link.
///
/// # Errors
/// Fails if the interface contradicts another one. The refusal names the first interface that it contradicts.
pub fn check_link(view: &View<'_, Network>, interface: &Interface) -> Result<(), Refusal> {
    let other = contradicted(view, interface);
    let Some((other, (asks, has))) = other.and_then(|other| Some((other, contradiction(interface, other)?))) else {
        return Ok(());
    };
    Err(Refusal {
        reason: LINK_CONFLICT,
        message: format!(
            "interface {} asks for {asks} on link {}, but interface {} has {has}; change one of the two",
            interface.name, interface.host_name, other.name
        ),
    })
}

/// Returns whether an EXISTING interface has to leave its link.
///
/// An interface has to leave if its applied version and its desired version contradict another interface on the link. The other
/// interface must have created the link, or it must be an EXISTING interface that comes first in key order and is applied as
/// desired. A conflict with an EXISTING interface arises in three steps: a change of the other interface is refused, this
/// interface is changed, and the refused change is withdrawn.
pub fn has_to_leave(view: &View<'_, Network>, applied: &Interface) -> bool {
    let Some(desired) = view.desired(&applied.key()).and_then(Value::interface) else {
        return false;
    };
    let goes_before = |other: &&Interface| {
        let as_desired = view.desired(&other.key()).is_some() && desired_change(view, other).is_none();
        !other.is_existing() || (other.name < applied.name && as_desired)
    };
    let keys = keys_beside(view, applied);
    let mut others = keys.iter().filter_map(|key| partner(view, key)).filter(goes_before);
    others.any(|other| contradicts(applied, other) && contradicts(desired, other))
}

/// Returns the EXISTING interfaces on the same link that may enter or leave a conflict when `interface` is applied, deleted or
/// changed.
pub fn concerned_beside(view: &View<'_, Network>, interface: &Interface) -> Vec<Key> {
    let names = existing_on(view, &interface.host_name);
    if names.is_empty() || !is_in_own_namespace(view, interface) {
        return Vec::new();
    }
    let is_concerned = |key: &Key| {
        let applied = view.applied(key).and_then(Value::interface);
        *key != interface.key() && (view.is_refused(key) || applied.is_some_and(|applied| contradicts(applied, interface)))
    };
    let keys = names.iter().map(|name| interface_key(name));
    keys.filter(is_concerned).collect()
}

/// Returns whether the agent keeps an address on the link of `interface` for another interface on that link.
pub fn is_kept_for_another(view: &View<'_, Network>, interface: &Interface, spec: AddressSpec) -> bool {
    let keeps = |other: &Value| {
        let mut same = other.addresses().iter().filter(|address| address.spec == Some(spec));
        same.any(|address| address.expected.is_none() && view.applied(&address.key).is_some_and(|value| value.address().is_some()))
    };
    keys_beside(view, interface).iter().filter_map(|key| view.applied(key)).any(keeps)
}

/// Returns the routing table of an applied interface, if it is a VRF device.
pub fn vrf_table(view: &View<'_, Network>, interface: &Interface) -> Option<u32> {
    match interface.is_existing() {
        true => host_link(view, &interface.host_name)?.vrf_table,
        false => interface.link.routing_table(),
    }
}

/// Returns the keys of the values that depend on an EXISTING interface on a link. The dependencies of these values must be checked
/// again after another link has replaced this link. `fact` is the key of the fact that the link is up.
pub fn concerned_by_link(view: &View<'_, Network>, fact: &Key) -> Vec<Key> {
    let existing = view
        .dependents(fact)
        .filter(|key| view.applied(key).and_then(Value::interface).is_some());
    existing.flat_map(|key| view.dependents(key).cloned()).collect()
}
