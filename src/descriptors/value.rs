//! The values that the scheduler moves about: models turned into what the kernel needs, and facts from below.
//!
//! Owns the typed form of every value, derived and base. Must never hold text that still has to be parsed. Start reading at
//! [`Value`].

use std::{net::IpAddr, sync::Arc};

use models::{
    Model,
    key::{Key, NamespaceType, TypedKey},
};

use link_kinds::{LifeCycle, Link, Port, VlanRange};
use prost::Message;

use netns_kernel::{AddressSpec, KernelOp, NamespaceRef, NetnsId};

/// A value of the scheduler.
#[derive(Clone, PartialEq, Debug)]
pub enum Value {
    /// A link.
    Interface(Arc<Interface>),
    /// An address of a link, derived from it.
    Address(Arc<Address>),
    /// That an address turned out to be nobody else's, derived from it.
    Detection(Arc<Address>),
    /// Membership of a link in a master, derived from the link.
    Membership(Arc<Membership>),
    /// VLANs of a bridge, derived from it, or of a port, derived from its membership.
    BridgeVlan(Arc<BridgeVlan>),
    /// A static neighbour.
    Arp(Arc<Arp>),
    /// A route.
    Route(Arc<Route>),
    /// A network namespace that others refer to.
    Namespace(Namespace),
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

/// A way to name a namespace in a model; `None` in a model is [`NamespaceName::Own`].
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum NamespaceName {
    /// The namespace in which the agent was started.
    Own,
    /// NSID: a name of `ip netns`.
    Named(String),
    /// PID of a process.
    Process(i32),
    /// FD: path of a namespace file.
    File(String),
    /// MICROSERVICE: label of a container.
    Microservice(String),
}

impl NamespaceName {
    /// The type and the reference.
    pub fn parts(&self) -> (NamespaceType, String) {
        match self {
            NamespaceName::Own => (NamespaceType::Own, String::new()),
            NamespaceName::Named(name) => (NamespaceType::Nsid, name.clone()),
            NamespaceName::Process(pid) => (NamespaceType::Pid, pid.to_string()),
            NamespaceName::File(path) => (NamespaceType::Fd, path.clone()),
            NamespaceName::Microservice(label) => (NamespaceType::Microservice, label.clone()),
        }
    }

    /// The name in a key of the scheduler; `None` if the key is not that of a namespace.
    pub fn of_key(key: &Key) -> Option<Self> {
        let Ok(TypedKey::Namespace { reference_type, reference }) = TypedKey::parse(key.as_str()) else {
            return None;
        };
        Some(match reference_type {
            NamespaceType::Own => NamespaceName::Own,
            NamespaceType::Nsid => NamespaceName::Named(reference),
            NamespaceType::Pid => NamespaceName::Process(reference.parse().ok()?),
            NamespaceType::Fd => NamespaceName::File(reference),
            NamespaceType::Microservice => NamespaceName::Microservice(reference),
        })
    }

    /// Key of the namespace in the scheduler.
    pub fn key(&self) -> Key {
        let (reference_type, reference) = self.parts();
        TypedKey::Namespace { reference_type, reference }.to_key()
    }
}

impl std::fmt::Display for NamespaceName {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            NamespaceName::Own => f.write_str("the agent's own namespace"),
            other => {
                let (reference_type, reference) = other.parts();
                write!(f, "{}:{reference}", reference_type.as_str())
            }
        }
    }
}

/// A namespace: how it is named, and once it is open, what that led to.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Namespace {
    /// The name.
    pub name: NamespaceName,
    /// Set while it is applied.
    pub open: Option<OpenNamespace>,
}

/// What an open namespace is.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct OpenNamespace {
    /// Identity.
    pub netns: NetnsId,
    /// How the executor was told to find it.
    pub reference: NamespaceRef,
    /// The agent created it (the alias of its `lo` says so), and removes it when nobody needs it any more.
    pub owned: bool,
}

/// The container that runs a microservice.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Microservice {
    /// The label.
    pub label: String,
    /// Docker's id of the container.
    pub container_id: String,
    /// Docker's name of the container.
    pub container_name: String,
    /// PID of its main process.
    pub pid: i32,
    /// Start time of that process, in clock ticks after boot.
    pub start_time: u64,
}

/// What is done about a value that somebody else changed or removed in the kernel.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum DriftPolicy {
    /// It is made again as it is wanted.
    #[default]
    Repair,
    /// It is left as it is, and its status says so.
    Report,
}

/// Message that a value was made from, in binary form, so that people and clients see the value as it was written. It does not take part
/// in comparisons: two spellings of one value are equal.
#[derive(Clone, Default)]
pub struct Original(Option<Arc<[u8]>>);

impl Original {
    /// Remembers a model.
    pub fn of(model: &Model) -> Self {
        Original(Some(model.to_protobuf().into()))
    }

    /// Returns the message in binary form, if the value was made from one.
    pub fn bytes(&self) -> Option<&Arc<[u8]>> {
        self.0.as_ref()
    }

    /// Returns the message, if the value was made from one of this type.
    pub fn message<M: Message + Default>(&self) -> Option<M> {
        M::decode(self.0.as_deref()?).ok()
    }
}

impl PartialEq for Original {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

impl Eq for Original {}

impl std::fmt::Debug for Original {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Original")
    }
}

/// A link.
#[derive(Clone, PartialEq, Debug)]
pub struct Interface {
    /// Logical name.
    pub name: String,
    /// Kind, with what only that kind has.
    pub link: Link,
    /// Where it lives.
    pub namespace: NamespaceName,
    /// Kernel name.
    pub host_name: String,
    /// Administrative state.
    pub enabled: bool,
    /// Addresses; empty for one that is `link_only` (unless EXISTING).
    pub addresses: Vec<Address>,
    /// MAC address; `None`: the kernel's choice.
    pub mac: Option<[u8; 6]>,
    /// MTU in bytes; 0: the default of the kind.
    pub mtu: u32,
    /// Only the link layer is managed.
    pub link_only: bool,
    /// Logical name of the VRF device that it is to be in.
    pub vrf: Option<String>,
    /// The bridge that it is to be a port of.
    pub port_of: Option<PortOf>,
    /// Bits of the settings that the agent has set on the link and that would be left alone otherwise; see
    /// [`link_kinds::Settings::set_bits`].
    pub set: u64,
    /// The alias is set. Wanted values always have it; a link that was just made has only its provisional mark.
    pub marked: bool,
    /// Of one from which somebody took the alias: the index by which it is known all the same.
    pub known_index: Option<u32>,
    /// It has a master that no value asks for, such as somebody's bridge.
    pub enslaved: bool,
    /// A foreign link in the way is to be taken over.
    pub adopt: bool,
    /// What is done about drift; `None`: as the agent was told.
    pub drift_policy: Option<DriftPolicy>,
    /// Of an applied one: it was somebody else's before.
    pub adopted: bool,
    /// Message that it was made from.
    pub original: Original,
}

impl Interface {
    /// Key of the interface.
    pub fn key(&self) -> Key {
        interface_key(&self.name)
    }

    /// Whether the agent made the link, as it is: neither found nor adopted.
    pub fn is_made_by_agent(&self) -> bool {
        self.link.life_cycle() == LifeCycle::Created && !self.adopted
    }

    /// Whether somebody else makes the link, and the agent only refers to it (EXISTING).
    pub fn is_existing(&self) -> bool {
        self.link.life_cycle() == LifeCycle::Referred
    }

    /// Whether the link is part of its namespace (LOOPBACK).
    pub fn is_loopback(&self) -> bool {
        matches!(self.link.life_cycle(), LifeCycle::Builtin(_))
    }

    /// The same interface with no addresses.
    pub fn without_addresses(&self) -> Self {
        Interface {
            name: self.name.clone(),
            link: self.link.clone(),
            namespace: self.namespace.clone(),
            host_name: self.host_name.clone(),
            enabled: self.enabled,
            addresses: Vec::new(),
            mac: self.mac,
            mtu: self.mtu,
            link_only: self.link_only,
            vrf: self.vrf.clone(),
            port_of: self.port_of.clone(),
            set: self.set,
            marked: self.marked,
            known_index: self.known_index,
            enslaved: self.enslaved,
            adopt: self.adopt,
            drift_policy: self.drift_policy,
            adopted: self.adopted,
            original: self.original.clone(),
        }
    }

    /// Whether two interfaces are equal in everything but their addresses.
    pub fn equals_without_addresses(&self, other: &Self) -> bool {
        // Without `..`, so that a new member is not forgotten.
        let Interface {
            name,
            link,
            namespace,
            host_name,
            enabled,
            addresses: _,
            mac,
            mtu,
            link_only,
            vrf,
            port_of,
            set,
            marked,
            known_index,
            enslaved,
            adopt,
            drift_policy,
            adopted,
            original,
        } = self;
        (name, link, namespace, host_name) == (&other.name, &other.link, &other.namespace, &other.host_name)
            && (enabled, mac, mtu, link_only, vrf) == (&other.enabled, &other.mac, &other.mtu, &other.link_only, &other.vrf)
            && (port_of, set) == (&other.port_of, &other.set)
            && (marked, known_index, enslaved) == (&other.marked, &other.known_index, &other.enslaved)
            && (adopt, drift_policy, adopted, original) == (&other.adopt, &other.drift_policy, &other.adopted, &other.original)
    }

    /// MTU that the interface has if nothing was asked for, in bytes; `None` where the agent does not set it.
    pub fn effective_mtu(&self) -> Option<u32> {
        match self.mtu {
            0 => self.link.default_mtu(),
            mtu => Some(mtu),
        }
    }
}

/// Key of the interface with a logical name.
pub fn interface_key(name: &str) -> Key {
    TypedKey::Interface { name: name.to_owned() }.to_key()
}

/// What is to become of an IPv6 address while the kernel looks for a duplicate (RFC 4862 §5.4).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Detection {
    /// It counts when that is over.
    #[default]
    Wait,
    /// Nobody looks.
    Skip,
    /// It counts and is used at once (RFC 4429).
    Optimistic,
}

/// An address of a link.
#[derive(Clone, PartialEq, Debug)]
pub struct Address {
    /// Logical name of the interface.
    pub interface: String,
    /// Key of the derived value.
    pub key: Key,
    /// The address; `None` for a reference to an allocation.
    pub spec: Option<AddressSpec>,
    /// Text as given.
    pub text: String,
    /// VRF that the interface must be in first.
    pub vrf: Option<String>,
    /// The address is expected on an EXISTING interface, not set by the agent: the fact that it waits for.
    pub expected: Option<Key>,
    /// What the kernel is told about duplicates.
    pub detection: Detection,
    /// The end of the detection is awaited: an IPv6 address on a link that is to be up and of a kind that looks for duplicates.
    pub awaited: bool,
    /// Position among the addresses of the interface as written, from 1.
    pub position: u32,
    /// The first of several IPv4 addresses of its subnet as written. Of an applied one: the kernel has it as the primary address.
    pub leads: bool,
    /// Of an applied one: the link has the routes that the kernel makes for it. Of a desired one always.
    pub routed: bool,
}

/// What an interface asks for as a port.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PortOf {
    /// Logical name of the master.
    pub master: String,
    /// Settings of the port; `None`: none are given.
    pub settings: Option<Port>,
}

/// Membership of a link in a master.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Membership {
    /// Logical name of the interface.
    pub interface: String,
    /// Logical name of the master.
    pub master: String,
    /// As what it is a member.
    pub role: Role,
}

/// As what an interface is a member of its master.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Role {
    /// Its routes are those of a VRF.
    Vrf {
        /// The interface is EXISTING: the agent only waits for the membership. Its kernel name.
        existing: Option<String>,
    },
    /// It is a port, with these settings.
    Port(Option<Port>),
}

impl Membership {
    /// The settings of a port that gives some.
    pub fn port(&self) -> Option<&Port> {
        match &self.role {
            Role::Vrf { .. } => None,
            Role::Port(port) => port.as_ref(),
        }
    }
}

/// VLANs of a bridge or a port.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct BridgeVlan {
    /// Logical name of the interface.
    pub interface: String,
    /// The VLANs.
    pub range: VlanRange,
    /// The interface is a bridge: they are its own.
    pub itself: bool,
}

/// A static neighbour.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Arp {
    /// Logical name of the interface.
    pub interface: String,
    /// IP address; `None` for a reference to an allocation.
    pub address: Option<IpAddr>,
    /// Text as given.
    pub text: String,
    /// MAC address.
    pub mac: [u8; 6],
    /// A foreign entry in the way is to be taken over.
    pub adopt: bool,
    /// What is done about drift; `None`: as the agent was told.
    pub drift_policy: Option<DriftPolicy>,
    /// Of an applied one: it was somebody else's before, as far as is remembered.
    pub adopted: bool,
    /// Message that it was made from.
    pub original: Original,
}

/// A route.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Route {
    /// Logical name of the output interface.
    pub interface: String,
    /// Destination network; `None` for a reference to an allocation.
    pub destination: Option<AddressSpec>,
    /// Destination as given.
    pub destination_text: String,
    /// Gateway; `None` for a route without one.
    pub gateway: Option<IpAddr>,
    /// Gateway as given, if it is a reference to an allocation.
    pub gateway_reference: Option<String>,
    /// RT_SCOPE_*; 253 makes it a link-local route, which makes gateways reachable.
    pub scope: u8,
    /// Metric.
    pub metric: u32,
    /// A foreign route in the way is to be taken over.
    pub adopt: bool,
    /// What is done about drift; `None`: as the agent was told.
    pub drift_policy: Option<DriftPolicy>,
    /// Of an applied one: it was somebody else's before, as far as is remembered.
    pub adopted: bool,
    /// Message that it was made from.
    pub original: Original,
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

macro_rules! accessor {
    ($name:ident, $variant:ident, $type:ty) => {
        /// The value, if it is of this kind.
        pub fn $name(&self) -> Option<&$type> {
            if let Value::$variant(value) = self {
                Some(value)
            } else {
                None
            }
        }
    };
}

impl Value {
    accessor!(interface, Interface, Interface);
    accessor!(address, Address, Address);
    accessor!(detection, Detection, Address);
    accessor!(membership, Membership, Membership);
    accessor!(bridge_vlan, BridgeVlan, BridgeVlan);
    accessor!(arp, Arp, Arp);
    accessor!(route, Route, Route);
    accessor!(namespace, Namespace, Namespace);
    accessor!(microservice, Microservice, Microservice);
    accessor!(orphan, Orphan, Orphan);

    /// The value, if it is of this kind.
    pub fn host_link(&self) -> Option<HostLink> {
        match self {
            Value::HostLink(link) => Some(*link),
            _ => None,
        }
    }

    /// The message that it was made from; `None` of kinds that keep none.
    pub fn original(&self) -> Option<&Original> {
        match self {
            Value::Interface(interface) => Some(&interface.original),
            Value::Arp(arp) => Some(&arp.original),
            Value::Route(route) => Some(&route.original),
            _ => None,
        }
    }

    /// What it says is to be done about drift.
    pub fn drift_policy(&self) -> Option<DriftPolicy> {
        match self {
            Value::Interface(interface) => interface.drift_policy,
            Value::Arp(arp) => arp.drift_policy,
            Value::Route(route) => route.drift_policy,
            _ => None,
        }
    }

    /// Whether it was somebody else's before.
    pub fn is_adopted(&self) -> bool {
        match self {
            Value::Interface(interface) => interface.adopted,
            Value::Arp(arp) => arp.adopted,
            Value::Route(route) => route.adopted,
            _ => false,
        }
    }

    /// The same value, taken over from somebody else; kinds that cannot be are as they were.
    pub fn with_adopted(&self, adopted: bool) -> Value {
        let mut value = self.clone();
        match &mut value {
            Value::Interface(interface) => Arc::make_mut(interface).adopted = adopted,
            Value::Arp(arp) => Arc::make_mut(arp).adopted = adopted,
            Value::Route(route) => Arc::make_mut(route).adopted = adopted,
            _ => {}
        }
        value
    }
}
