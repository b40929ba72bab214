//! The values that the scheduler moves about: models turned into what the kernel needs, and facts from below.
//!
//! Owns the typed form of every value, derived and base. Must never hold text that still has to be parsed. Start reading at
//! [`Value`].

mod interface;
mod namespace;
mod on_interface;
mod terms;

use std::sync::Arc;

use models::key::Key;
use netns_kernel::KernelOp;

pub use interface::{Addresses, AppliedInterface, Circumstances, DesiredInterface, Interface, KnownBy, interface_key};
pub use namespace::{Microservice, Namespace, NamespaceName, OpenNamespace};
pub use on_interface::{Address, Arp, BridgeVlan, Detection, Membership, PortOf, Role, Route};
pub use terms::{Applied, Desired, DriftPolicy, Original, Terms};

/// A value of the scheduler.
#[derive(Clone, PartialEq, Debug)]
pub enum Value {
    /// A link that is desired.
    Interface(Arc<DesiredInterface>),
    /// A link that is there.
    AppliedInterface(Arc<AppliedInterface>),
    /// An address of a link, derived from it.
    Address(Arc<Address>),
    /// That an address turned out to be nobody else's, derived from it.
    Detection(Arc<Address>),
    /// Membership of a link in a master, derived from the link.
    Membership(Arc<Membership>),
    /// VLANs of a bridge, derived from it, or of a port, derived from its membership.
    BridgeVlan(Arc<BridgeVlan>),
    /// A static neighbour that is desired.
    Arp(Arc<Desired<Arp>>),
    /// A static neighbour that is there.
    AppliedArp(Applied<Arp>),
    /// A route that is desired.
    Route(Arc<Desired<Route>>),
    /// A route that is there.
    AppliedRoute(Applied<Route>),
    /// A network namespace that others refer to.
    Namespace(NamespaceName),
    /// A network namespace that is open, or being opened.
    AppliedNamespace(Namespace),
    /// The container that runs a microservice: a fact.
    Microservice(Arc<Microservice>),
    /// Something with the agent's mark that nobody wants.
    Orphan(Arc<Orphan>),
    /// A link of the agent's own namespace that is up: a fact.
    HostLink(HostLink),
    /// Something that only exists or not: a property or a fact.
    Present,
    /// A model that has no descriptor yet.
    Unhandled,
}

/// A link of the agent's own namespace that is up.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct HostLink {
    /// Routing table, if the link is a VRF device.
    pub vrf_table: Option<u32>,
}

/// Something with the agent's mark that nobody wants.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Orphan {
    /// Namespace in which it was found.
    pub namespace: NamespaceName,
    /// What removes it.
    pub removal: Vec<KernelOp>,
    /// Name that it occupies: see the claims of interfaces.
    pub claim: Option<String>,
    /// Key of the interface that must not be taken down before.
    pub bearer: Option<Key>,
    /// The value that it belonged to is desired in another form, so it is not left because a value was lost.
    pub superseded: bool,
}

/// Defines functions that answer what a value is, if it is of some kind.
macro_rules! accessors {
    ($($(#[$doc:meta])* $name:ident: $type:ty = $($pattern:pat => $answer:expr),+;)+) => {
        impl Value {
            $(
                $(#[$doc])*
                pub fn $name(&self) -> Option<$type> {
                    match self {
                        $($pattern => Some($answer),)+
                        _ => None,
                    }
                }
            )+
        }
    };
}

accessors! {
    /// An interface that is desired.
    desired_interface: &Arc<DesiredInterface> = Value::Interface(desired) => desired;
    /// An interface that is there.
    applied_interface: &Arc<AppliedInterface> = Value::AppliedInterface(applied) => applied;
    /// The link of an interface, desired or applied.
    interface: &Interface = Value::Interface(desired) => &desired.interface, Value::AppliedInterface(applied) => &applied.interface;
    /// An address.
    address: &Address = Value::Address(address) => address;
    /// The address of a detection.
    detection: &Address = Value::Detection(address) => address;
    /// A membership.
    membership: &Membership = Value::Membership(membership) => membership;
    /// VLANs.
    bridge_vlan: &BridgeVlan = Value::BridgeVlan(vlan) => vlan;
    /// A neighbour that is desired.
    desired_arp: &Arc<Desired<Arp>> = Value::Arp(desired) => desired;
    /// A neighbour that is there.
    applied_arp: &Applied<Arp> = Value::AppliedArp(applied) => applied;
    /// A neighbour, desired or applied.
    arp: &Arp = Value::Arp(desired) => &desired.value, Value::AppliedArp(applied) => applied.value();
    /// A route that is desired.
    desired_route: &Arc<Desired<Route>> = Value::Route(desired) => desired;
    /// A route that is there.
    applied_route: &Applied<Route> = Value::AppliedRoute(applied) => applied;
    /// A route, desired or applied.
    route: &Route = Value::Route(desired) => &desired.value, Value::AppliedRoute(applied) => applied.value();
    /// A namespace that is open, or being opened.
    applied_namespace: &Namespace = Value::AppliedNamespace(namespace) => namespace;
    /// The name of a namespace, desired or applied.
    namespace_name: &NamespaceName = Value::Namespace(name) => name, Value::AppliedNamespace(namespace) => &namespace.name;
    /// The container of a microservice.
    microservice: &Microservice = Value::Microservice(microservice) => microservice;
    /// An orphan.
    orphan: &Orphan = Value::Orphan(orphan) => orphan;
    /// A link of the agent's own namespace.
    host_link: HostLink = Value::HostLink(link) => *link;
    /// How to treat what is desired, of kinds that say so.
    terms: &Terms = Value::Interface(desired) => &desired.terms, Value::Arp(desired) => &desired.terms, Value::Route(desired) => &desired.terms;
}

impl Value {
    /// The addresses of an interface, desired or applied; none of any other value.
    pub fn addresses(&self) -> &[Arc<Address>] {
        match self {
            Value::Interface(desired) => &desired.addresses,
            Value::AppliedInterface(applied) => &applied.addresses,
            _ => &[],
        }
    }

    /// What the name of a namespace led to, if it is open.
    pub fn open_namespace(&self) -> Option<&OpenNamespace> {
        self.applied_namespace()?.open.as_ref()
    }

    /// Whether it is there and was somebody else's before.
    pub fn is_adopted(&self) -> bool {
        match self {
            Value::AppliedInterface(applied) => applied.circumstances.adopted,
            Value::AppliedArp(applied) => applied.adopted,
            Value::AppliedRoute(applied) => applied.adopted,
            _ => false,
        }
    }

    /// The same value, taken over from somebody else; kinds that cannot be are as they were.
    pub fn with_adopted(&self) -> Value {
        let mut value = self.clone();
        match &mut value {
            Value::AppliedInterface(applied) => Arc::make_mut(applied).circumstances.adopted = true,
            Value::AppliedArp(applied) => applied.adopted = true,
            Value::AppliedRoute(applied) => applied.adopted = true,
            _ => {}
        }
        value
    }
}
