//! Descriptors: for each kind of value, what it depends on, what follows from it, and which kernel operations bring it about.
//!
//! Owns the translation between values and [`KernelOp`]s, in both directions ([`inspect`]). Must never perform an operation or
//! look at anything but its arguments. Start reading at [`Network`], then [`interface`].

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
mod relatives;
pub mod route;
pub mod sharing;
pub mod value;

use models::key::{ALL_AGENTS_PREFIX, Key, prefix};

use crate::scheduler::{Dependency, Descriptor, Domain, Relative, View};
use link_kinds::LifeCycle;
use netns_kernel::{Guard, KernelOp, NetnsId};

use self::{
    alias::Marks,
    kind::Typed,
    value::{DriftPolicy, Interface, NamespaceName, Value, interface_key},
};

/// Name of the label by which values wait for a named, process or file namespace.
pub const NAMESPACE_AVAILABLE: &str = "namespace-available";
/// Name of the label by which values wait for a container.
pub const MICROSERVICE_AVAILABLE: &str = "microservice-available";

/// The domain of the product: values and kernel operations of one agent.
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
    /// The descriptors of the agent with this microservice label.
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

    /// With another policy for values that say nothing about drift.
    pub fn with_drift_policy(self, drift_policy: DriftPolicy) -> Self {
        Network { drift_policy, ..self }
    }

    /// All descriptors in the order in which values are looked for, each with what the keys of the configuration items begin with
    /// that it handles; empty for one whose values nobody asks for directly.
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

    /// The marks of this agent.
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
            _ if internal.starts_with("orphan/") => Some(&self.orphan),
            _ if detection::is_detection(key) => Some(&self.detection),
            _ if !internal.starts_with("interface/") => None,
            _ if membership::is_membership(key) => Some(&self.membership),
            _ if bridge_vlan::is_bridge_vlan(key) => Some(&self.bridge_vlan),
            _ if address::is_address(key) => Some(&self.address),
            _ => None,
        }
    }

    /// Docker may answer long after the start.
    fn is_late_fact(&self, key: &Key) -> bool {
        key.as_str().starts_with("linux/microservice/")
    }

    /// A namespace is open afterwards; which one it will be, nobody knows.
    fn supposed(&self, key: &Key, wanted: &Value, view: &View<'_, Network>) -> Value {
        namespace::supposed(key, wanted, view).unwrap_or_else(|| wanted.clone())
    }

    fn is_repaired(&self, _: &Key, wanted: &Value) -> bool {
        let own = wanted.terms().and_then(|terms| terms.drift_policy);
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

    fn bearer(&self, key: &Key) -> Option<Key> {
        names::bearer(key)
    }

    fn relatives(&self, unmet: &Dependency, view: &View<'_, Self>) -> Vec<Relative> {
        relatives::of(unmet, view)
    }
}

/// What is done for a value of the agent.
pub type Effect = crate::scheduler::Effect<KernelOp>;

/// The namespace that a name leads to now; `None` while it is not open.
pub fn netns_of(view: &View<'_, Network>, name: &NamespaceName) -> Option<NetnsId> {
    Some(view.applied(&name.key())?.open_namespace()?.netns)
}

/// An applied interface, with the namespace that it is in.
pub fn applied_interface<'a>(view: &View<'a, Network>, name: &str) -> Option<(&'a Interface, NetnsId)> {
    let interface = view.applied(&interface_key(name))?.interface()?;
    Some((interface, netns_of(view, &interface.namespace)?))
}

/// What is done on the link of an interface, for a value that depends on it and so is applied only while the interface is.
pub fn on_link(view: &View<'_, Network>, name: &str, effect: impl FnOnce(&Interface, NetnsId) -> Effect) -> Effect {
    match applied_interface(view, name) {
        Some((interface, netns)) => effect(interface, netns),
        None => Effect::Impossible(format!("interface {name} is not applied in an open namespace")),
    }
}

/// What is removed from the link of an interface. A link that is gone has taken along all that was on it.
pub fn off_link(view: &View<'_, Network>, name: &str, effect: impl FnOnce(&Interface, NetnsId) -> Effect) -> Effect {
    match view.applied(&interface_key(name)) {
        Some(_) => on_link(view, name, effect),
        None => Effect::Noop("the link is gone, and took along what was on it"),
    }
}

/// Protects foreign links from what is to be done on the link of an applied interface: its name may be another one's by then.
pub fn guard_of(marks: &Marks, interface: &Interface) -> Guard {
    match interface.link.life_cycle() {
        LifeCycle::Referred => Guard::Any,
        LifeCycle::Builtin(_) => not_others(marks),
        LifeCycle::Created | LifeCycle::TakenOver => owned(marks),
    }
}

/// Protects the links of other agents, where a link without any mark may be used.
pub fn not_others(marks: &Marks) -> Guard {
    Guard::NotOthers {
        alias_prefix: marks.prefix().to_owned(),
        agents_prefix: ALL_AGENTS_PREFIX.to_owned(),
    }
}

/// Protects foreign links: the alias must be this agent's.
pub fn owned(marks: &Marks) -> Guard {
    Guard::Owned {
        alias_prefix: marks.prefix().to_owned(),
    }
}
