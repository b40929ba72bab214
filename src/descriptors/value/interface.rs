//! Interfaces: the desired state ([`DesiredInterface`]), the applied state ([`AppliedInterface`]), and what both share ([`Interface`]).

use std::sync::Arc;

use link_kinds::{LifeCycle, Link};
use models::key::{Key, TypedKey};

use super::{Address, NamespaceName, PortOf, Terms};

/// Properties of an interface, desired or applied.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Interface {
    /// Logical name.
    pub name: String,
    /// Kind of link, with the settings of that kind.
    pub link: Link,
    /// Namespace of the link.
    pub namespace: NamespaceName,
    /// Kernel name.
    pub host_name: String,
    /// Administrative state.
    pub enabled: bool,
    /// MAC address; `None`: chosen by the kernel.
    pub mac: Option<[u8; 6]>,
    /// MTU in bytes; 0: the default of the kind.
    pub mtu: u32,
    /// Only the link layer is managed.
    pub link_only: bool,
    /// Logical name of the VRF device of the interface.
    pub vrf: Option<String>,
    /// Bridge of which the interface is a port.
    pub port_of: Option<PortOf>,
}

/// Addresses of an interface, in the order of the model; none for an interface with `link_only` (unless EXISTING).
pub type Addresses = Arc<[Arc<Address>]>;

/// Desired interface: validated, converted and immutable.
#[derive(Clone, PartialEq, Debug)]
pub struct DesiredInterface {
    /// Properties of the interface.
    pub interface: Arc<Interface>,
    /// Addresses of the interface.
    pub addresses: Addresses,
    /// How the agent treats the interface.
    pub terms: Terms,
}

/// Applied interface: the last known state in the kernel, as it was set or read.
#[derive(Clone, PartialEq, Debug)]
pub struct AppliedInterface {
    /// Properties of the interface.
    pub interface: Arc<Interface>,
    /// Addresses of the desired version that exist.
    pub addresses: Addresses,
    /// Known facts about the link that are not part of the desired state.
    pub circumstances: Circumstances,
    /// Desired version that was applied; `None` if no usable version is known.
    pub desired: Option<Arc<DesiredInterface>>,
}

/// Known facts about the link of an applied interface that are not part of the desired state.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Circumstances {
    /// How the agent recognises the link.
    pub known_by: KnownBy,
    /// Bits of the settings that the agent has set on the link and would leave alone otherwise; see [`link_kinds::Settings::set_bits`].
    pub set: u64,
    /// The link was adopted from others.
    pub adopted: bool,
    /// The link has a master that no value desires, such as a foreign bridge.
    pub enslaved: bool,
}

/// How the agent recognises a link.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum KnownBy {
    /// By its alias, or by its name if it is the link of an EXISTING interface.
    Mark,
    /// Only by the provisional group of a link that was just created.
    Group,
    /// By its index, because its alias was removed.
    Index(u32),
}

impl AppliedInterface {
    /// Returns the applied state of a desired interface that was just applied.
    pub fn of(desired: &Arc<DesiredInterface>) -> Self {
        AppliedInterface {
            interface: desired.interface.clone(),
            addresses: desired.addresses.clone(),
            circumstances: Circumstances {
                known_by: KnownBy::Mark,
                set: desired.interface.link.settings.set_bits(),
                adopted: false,
                enslaved: false,
            },
            desired: Some(desired.clone()),
        }
    }

    /// Returns the applied state of the other end of a pair, which the creation of this end has created as well.
    pub fn co_created(desired: &Arc<DesiredInterface>) -> Self {
        let interface = &*desired.interface;
        let interface = Interface {
            link: interface.link.as_created(),
            enabled: false,
            mac: interface.mac.filter(|_| !interface.link_only),
            vrf: None,
            port_of: None,
            ..interface.clone()
        };
        let applied = AppliedInterface::of(desired);
        AppliedInterface {
            interface: interface.into(),
            addresses: Addresses::default(),
            circumstances: Circumstances {
                known_by: KnownBy::Group,
                ..applied.circumstances
            },
            ..applied
        }
    }

    /// Returns whether properties and addresses equal those of a desired version.
    pub fn is_as(&self, desired: &DesiredInterface) -> bool {
        (&self.interface, &self.addresses) == (&desired.interface, &desired.addresses)
    }
}

impl Interface {
    /// Returns the key of the interface.
    pub fn key(&self) -> Key {
        interface_key(&self.name)
    }

    /// Returns whether others create the link and the agent only refers to it (EXISTING).
    pub fn is_existing(&self) -> bool {
        self.link.life_cycle() == LifeCycle::Referred
    }

    /// Returns whether the link is part of its namespace (LOOPBACK).
    pub fn is_loopback(&self) -> bool {
        matches!(self.link.life_cycle(), LifeCycle::Builtin(_))
    }

    /// Returns the MTU in bytes, including the default of the kind; `None` if the agent does not set it.
    pub fn effective_mtu(&self) -> Option<u32> {
        match self.mtu {
            0 => self.link.default_mtu(),
            mtu => Some(mtu),
        }
    }
}

/// Returns the key of the interface with a logical name.
pub fn interface_key(name: &str) -> Key {
    TypedKey::Interface { name: name.to_owned() }.to_key()
}
