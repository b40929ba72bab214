//! Scheduler values: models converted to what the kernel needs, and facts about containers and the kernel.
//!
//! Base values and derived values are fully typed. A [`Value`] contains no text that still has to be parsed.

mod interface;
mod namespace;
mod on_interface;
mod terms;

use std::sync::Arc;

use models::key::Key;
use netns_kernel::KernelOp;

use crate::scheduler::Claim;

pub use interface::{Addresses, AppliedInterface, Circumstances, DesiredInterface, Interface, KnownBy, interface_key};
pub use namespace::{Microservice, Namespace, NamespaceName, OpenNamespace};
pub use on_interface::{Address, Arp, BridgeVlan, Detection, Membership, PortOf, Role, Route};
pub use terms::{Applied, Desired, DriftPolicy, Original, Terms};

/// Value of any kind, as the scheduler stores it.
#[derive(Clone, PartialEq, Debug)]
pub enum Value {
    /// Desired interface.
    Interface(Arc<DesiredInterface>),
    /// Applied interface.
    AppliedInterface(Arc<AppliedInterface>),
    /// Address, derived from its interface.
    Address(Arc<Address>),
    /// Completed duplicate address detection, derived from its address.
    Detection(Arc<Address>),
    /// Membership of an interface in a master, derived from the interface.
    Membership(Arc<Membership>),
    /// VLAN range, derived from a bridge or from the membership of a port.
    BridgeVlan(Arc<BridgeVlan>),
    /// Desired static neighbour.
    Arp(Arc<Desired<Arp>>),
    /// Applied static neighbour.
    AppliedArp(Applied<Arp>),
    /// Desired route.
    Route(Arc<Desired<Route>>),
    /// Applied route.
    AppliedRoute(Applied<Route>),
    /// Desired network namespace, to which other values refer.
    Namespace(NamespaceName),
    /// Network namespace that is open or being opened.
    AppliedNamespace(Namespace),
    /// Fact: the container that runs a microservice.
    Microservice(Arc<Microservice>),
    /// Orphan: an object that has the agent's ownership mark but no desired value.
    Orphan(Arc<Orphan>),
    /// Fact: a link in the agent's own namespace that is up.
    HostLink(HostLink),
    /// Property or fact without data. Only its existence matters.
    Present,
    /// Value of a model that no descriptor handles.
    Unhandled,
}

/// Link in the agent's own namespace that is up.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct HostLink {
    /// Routing table, if the link is a VRF device.
    pub vrf_table: Option<u32>,
}

/// Object that has the agent's ownership mark but no desired value.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Orphan {
    /// Namespace in which the object was found.
    pub namespace: NamespaceName,
    /// Operations that delete the object.
    pub removal: Vec<KernelOp>,
    /// Names that no interface may use until the object is deleted, such as the host name and the VLAN id of a link. Empty if the
    /// object is not a link.
    pub claims: Vec<Claim>,
    /// Key of an interface that must not be deleted before the orphan; `None` if there is none.
    pub provider: Option<Key>,
    /// True if the former value of the object is now desired in another form.
    ///
    /// A superseded orphan is deleted even while removals are on hold, because the store has not lost the value.
    pub superseded: bool,
}

/// Defines methods that return the contents of a value if it is of the given kind.
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
    /// Returns a desired interface.
    desired_interface: &Arc<DesiredInterface> = Value::Interface(desired) => desired;
    /// Returns an applied interface.
    applied_interface: &Arc<AppliedInterface> = Value::AppliedInterface(applied) => applied;
    /// Returns the properties of a desired or applied interface.
    interface: &Interface = Value::Interface(desired) => &desired.interface, Value::AppliedInterface(applied) => &applied.interface;
    /// Returns an address.
    address: &Address = Value::Address(address) => address;
    /// Returns the address of a duplicate address detection.
    detection: &Address = Value::Detection(address) => address;
    /// Returns a membership.
    membership: &Membership = Value::Membership(membership) => membership;
    /// Returns a VLAN range of a bridge or port.
    bridge_vlan: &BridgeVlan = Value::BridgeVlan(vlan) => vlan;
    /// Returns a desired neighbour.
    desired_arp: &Arc<Desired<Arp>> = Value::Arp(desired) => desired;
    /// Returns an applied neighbour.
    applied_arp: &Applied<Arp> = Value::AppliedArp(applied) => applied;
    /// Returns a desired or applied neighbour.
    arp: &Arp = Value::Arp(desired) => &desired.value, Value::AppliedArp(applied) => applied.value();
    /// Returns a desired route.
    desired_route: &Arc<Desired<Route>> = Value::Route(desired) => desired;
    /// Returns an applied route.
    applied_route: &Applied<Route> = Value::AppliedRoute(applied) => applied;
    /// Returns a desired or applied route.
    route: &Route = Value::Route(desired) => &desired.value, Value::AppliedRoute(applied) => applied.value();
    /// Returns a namespace that is open or being opened.
    applied_namespace: &Namespace = Value::AppliedNamespace(namespace) => namespace;
    /// Returns the name of a desired or applied namespace.
    namespace_name: &NamespaceName = Value::Namespace(name) => name, Value::AppliedNamespace(namespace) => &namespace.name;
    /// Returns the container of a microservice.
    microservice: &Microservice = Value::Microservice(microservice) => microservice;
    /// Returns an orphan.
    orphan: &Orphan = Value::Orphan(orphan) => orphan;
    /// Returns the state of a link in the agent's own namespace.
    host_link: HostLink = Value::HostLink(link) => *link;
    /// Returns the terms of a desired value, such as its drift policy. Only interfaces, neighbours and routes have terms.
    terms: &Terms = Value::Interface(desired) => &desired.terms, Value::Arp(desired) => &desired.terms, Value::Route(desired) => &desired.terms;
}

impl Value {
    /// Returns the addresses of a desired or applied interface. Other values have none.
    pub fn addresses(&self) -> &[Arc<Address>] {
        match self {
            Value::Interface(desired) => &desired.addresses,
            Value::AppliedInterface(applied) => &applied.addresses,
            _ => &[],
        }
    }

    /// Returns the open namespace of a namespace value, or `None` while the namespace is not open.
    pub fn open_namespace(&self) -> Option<&OpenNamespace> {
        self.applied_namespace()?.open.as_ref()
    }

    /// Returns whether this is an applied value whose object was adopted.
    pub fn is_adopted(&self) -> bool {
        match self {
            Value::AppliedInterface(applied) => applied.circumstances.adopted,
            Value::AppliedArp(applied) => applied.adopted,
            Value::AppliedRoute(applied) => applied.adopted,
            _ => false,
        }
    }

    /// Returns a copy of the value, marked as adopted. A value that cannot be adopted is copied unchanged.
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
