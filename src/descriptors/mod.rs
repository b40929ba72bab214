//! Descriptors of all kinds of values. Each descriptor defines the dependencies of a value, the values that are derived from it,
//! and the kernel operations that create, change and delete it.
//!
//! [`Network`] implements the scheduler domain, and [`interface`] is a good example of a descriptor. [`inspect`] works in the
//! opposite direction and converts the snapshot of a namespace to values. All functions are pure, which means that they perform no
//! operations and read only their arguments.

pub mod address;
pub mod address_facts;
#[cfg(test)]
mod adoption_tests;
pub mod alias;
pub mod arp;
pub mod bridge_vlan;
pub mod convert;
pub mod detection;
#[cfg(test)]
mod dry_run_tests;
pub mod inspect;
pub mod interface;
pub mod kind;
pub mod link;
pub mod membership;
pub mod message;
pub mod names;
pub mod namespace;
pub mod observed;
pub mod orphan;
pub mod route;
pub mod sharing;
mod suggestions;
pub mod value;

use models::key::{ALL_AGENTS_PREFIX, Key, prefix};

use crate::scheduler::{Dependency, Descriptor, Domain, Suggestion, View};
use link_kinds::LifeCycle;
use netns_kernel::{Guard, KernelOp, NetnsId};

use self::{
    alias::Marks,
    kind::Typed,
    value::{DriftPolicy, Interface, NamespaceName, Value, interface_key},
};

/// Label of a dependency on a named, process or file namespace.
pub const NAMESPACE_AVAILABLE: &str = "namespace-available";
/// Label of a dependency on the container of a microservice.
pub const MICROSERVICE_AVAILABLE: &str = "microservice-available";

/// Scheduler domain of netns-agent: the values and kernel operations of one agent.
#[derive(Clone)]
pub struct Network {
    interface: Typed<interface::InterfaceKind>,
    address: Typed<address::AddressKind>,
    detection: Typed<detection::DetectionKind>,
    membership: Typed<membership::MembershipKind>,
    bridge_vlan: Typed<bridge_vlan::BridgeVlanKind>,
    arp: Typed<arp::ArpKind>,
    route: Typed<route::RouteKind>,
    namespace: Typed<namespace::NamespaceKind>,
    orphan: Typed<orphan::OrphanKind>,
    drift_policy: DriftPolicy,
}

impl Network {
    /// Returns the descriptors of the agent with this microservice label.
    pub fn new(label: &str) -> Self {
        let marks = Marks::new(label);
        Network {
            interface: Typed(interface::InterfaceKind { marks: marks.clone() }),
            address: Typed(address::AddressKind { marks: marks.clone() }),
            detection: Typed(detection::DetectionKind { marks: marks.clone() }),
            membership: Typed(membership::MembershipKind { marks: marks.clone() }),
            bridge_vlan: Typed(bridge_vlan::BridgeVlanKind { marks: marks.clone() }),
            arp: Typed(arp::ArpKind { marks: marks.clone() }),
            route: Typed(route::RouteKind { marks: marks.clone() }),
            namespace: Typed(namespace::NamespaceKind { marks }),
            orphan: Typed(orphan::OrphanKind),
            drift_policy: DriftPolicy::Repair,
        }
    }

    /// Sets the drift policy of the agent, which applies to values without a drift policy of their own.
    pub fn with_drift_policy(self, drift_policy: DriftPolicy) -> Self {
        Network { drift_policy, ..self }
    }

    /// Returns the names of all descriptors, each with the key prefix of its configuration values.
    ///
    /// API responses list the descriptors in this order. The prefix is empty if users do not configure values of the descriptor
    /// directly.
    pub fn kinds() -> [(&'static str, &'static str); 9] {
        [
            ("linux-interface", prefix::INTERFACE),
            ("linux-interface-address", ""),
            ("linux-interface-address-detection", ""),
            ("linux-interface-vrf", ""),
            ("linux-interface-vlan", ""),
            ("linux-arp", prefix::ARP),
            ("linux-route", prefix::ROUTE),
            ("linux-namespace", ""),
            ("linux-orphan", ""),
        ]
    }

    /// Returns the ownership marks of this agent.
    pub fn marks(&self) -> &Marks {
        &self.interface.0.marks
    }
}

impl Domain for Network {
    type Key = Key;
    type Value = Value;
    type Operation = KernelOp;

    fn descriptor(&self, key: &Key) -> Option<&dyn Descriptor<Self>> {
        let text = key.as_str();
        if let Some(config) = text.strip_prefix("config/linux/") {
            return match config {
                _ if config.starts_with("interfaces/v2/interface/") => Some(&self.interface),
                _ if config.starts_with("l3/v2/arp/") => Some(&self.arp),
                _ if config.starts_with("l3/v2/route/") => Some(&self.route),
                _ => None,
            };
        }
        let internal = text.strip_prefix("linux/")?;
        match internal {
            _ if internal.starts_with("namespace/") => Some(&self.namespace),
            _ if internal.starts_with("orphan/") || internal.starts_with("held-orphan/") => Some(&self.orphan),
            _ if detection::is_detection(key) => Some(&self.detection),
            _ if !internal.starts_with("interface/") => None,
            _ if membership::is_membership(key) => Some(&self.membership),
            _ if bridge_vlan::is_bridge_vlan(key) => Some(&self.bridge_vlan),
            _ if address::is_address(key) => Some(&self.address),
            _ => None,
        }
    }

    /// The fact that a microservice is running can become known late, because Docker can respond long after the agent has started.
    fn is_late_fact(&self, key: &Key) -> bool {
        key.as_str().starts_with("linux/microservice/")
    }

    /// Assigns a made-up inode to a namespace in a dry run, because the real inode is unknown until the namespace is open.
    fn supposed(&self, key: &Key, desired: &Value, view: &View<'_, Network>) -> Value {
        namespace::supposed(key, desired, view).unwrap_or_else(|| desired.clone())
    }

    fn is_repaired(&self, _: &Key, desired: &Value) -> bool {
        let own = desired.terms().and_then(|terms| terms.drift_policy);
        own.unwrap_or(self.drift_policy) == DriftPolicy::Repair
    }

    fn concerned(&self, _: &Key, value: &Value, view: &View<'_, Network>) -> Vec<Key> {
        let interface = value.interface();
        interface
            .map(|interface| sharing::concerned_beside(view, interface))
            .unwrap_or_default()
    }

    fn metadata(&self, _: &Key, applied: &Value) -> Vec<(&'static str, Vec<String>)> {
        let open = applied.open_namespace();
        open.map(|open| ("inode", vec![open.netns.0.to_string()])).into_iter().collect()
    }

    fn name(&self, key: &Key) -> String {
        names::name(key)
    }

    fn provider(&self, key: &Key) -> Option<Key> {
        names::provider(key)
    }

    fn suggestions(&self, unmet: &Dependency, view: &View<'_, Self>) -> Vec<Suggestion> {
        suggestions::of(unmet, view)
    }
}

/// Scheduler effect that consists of kernel operations.
pub type Effect = crate::scheduler::Effect<KernelOp>;

/// Returns the namespace that a name currently refers to, or `None` while the namespace is not open.
pub fn netns_of(view: &View<'_, Network>, name: &NamespaceName) -> Option<NetnsId> {
    Some(view.applied(&name.key())?.open_namespace()?.netns)
}

/// Returns an applied interface and its namespace, or `None` if the interface is not applied or its namespace is not open.
pub fn applied_interface<'a>(view: &View<'a, Network>, name: &str) -> Option<(&'a Interface, NetnsId)> {
    let interface = view.applied(&interface_key(name))?.interface()?;
    Some((interface, netns_of(view, &interface.namespace)?))
}

/// Returns the effect of an operation on the link of an interface.
///
/// The interface must be applied, so use this function only for a value that depends on the interface.
pub fn on_link(view: &View<'_, Network>, name: &str, effect: impl FnOnce(&Interface, NetnsId) -> Effect) -> Effect {
    match applied_interface(view, name) {
        Some((interface, netns)) => effect(interface, netns),
        None => Effect::Impossible(format!("interface {name} is not applied, or its namespace is not open")),
    }
}

/// Returns the effect that removes an object, such as an address, from the link of an interface.
///
/// If the link was deleted, the effect is empty, because the kernel has already removed every object on the link.
pub fn off_link(view: &View<'_, Network>, name: &str, effect: impl FnOnce(&Interface, NetnsId) -> Effect) -> Effect {
    match view.applied(&interface_key(name)) {
        Some(_) => on_link(view, name, effect),
        None => Effect::Noop("the link was deleted, along with everything on it"),
    }
}

/// Returns the guard for operations on the link of an applied interface.
///
/// The guard is needed because a foreign link may have the same name by the time the operation is performed.
pub fn guard_of(marks: &Marks, interface: &Interface) -> Guard {
    match interface.link.life_cycle() {
        LifeCycle::Referred => Guard::Any,
        LifeCycle::Builtin(_) => not_others(marks),
        LifeCycle::Created | LifeCycle::TakenOver => owned(marks),
    }
}

/// Returns the guard that rejects operations on links of other agents. It permits links without any ownership mark.
pub fn not_others(marks: &Marks) -> Guard {
    Guard::NotOthers {
        alias_prefix: marks.prefix().to_owned(),
        agents_prefix: ALL_AGENTS_PREFIX.to_owned(),
    }
}

/// Returns the guard that rejects operations on foreign links: the link must have an alias of this agent.
pub fn owned(marks: &Marks) -> Guard {
    Guard::Owned {
        alias_prefix: marks.prefix().to_owned(),
    }
}
