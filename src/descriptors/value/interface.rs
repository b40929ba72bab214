//! Interfaces: the desired state ([`DesiredInterface`]), the applied state ([`AppliedInterface`]), and their common properties
//! ([`Interface`]).

use std::sync::Arc;

use link_kinds::{LifeCycle, Link};
use models::key::{Key, TypedKey};

use super::{Address, NamespaceName, PortOf, Terms};

/// Properties of a desired or applied interface.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Interface {
    /// Logical name, which is part of the key.
    pub name: String,
    /// Kind of link, with the settings of that kind.
    pub link: Link,
    /// Namespace that contains the link.
    pub namespace: NamespaceName,
    /// Name of the link in the kernel.
    pub host_name: String,
    /// Admin state: true for UP.
    pub enabled: bool,
    /// MAC address; `None` if the kernel chooses it.
    pub mac: Option<[u8; 6]>,
    /// MTU in bytes; 0 for the default of the kind.
    pub mtu: u32,
    /// True if the agent manages only the link layer of the interface, not its addresses.
    pub link_only: bool,
    /// Logical name of the VRF device that the interface belongs to; `None` if it is in no VRF.
    pub vrf: Option<String>,
    /// Bridge that the interface is a port of, with the port settings; `None` if it is not a port.
    pub port_of: Option<PortOf>,
}

/// Addresses of an interface, in the order of the model. Empty if `link_only` is set, unless the interface is EXISTING.
pub type Addresses = Arc<[Arc<Address>]>;

/// Desired interface, converted from a valid model.
#[derive(Clone, PartialEq, Debug)]
pub struct DesiredInterface {
    /// Desired properties of the interface.
    pub interface: Arc<Interface>,
    /// Desired addresses of the interface.
    pub addresses: Addresses,
    /// Options for the handling of the interface, such as its drift policy.
    pub terms: Terms,
}

/// Applied interface: its last known state in the kernel, as set or read back.
#[derive(Clone, PartialEq, Debug)]
pub struct AppliedInterface {
    /// Properties that the interface has in the kernel.
    pub interface: Arc<Interface>,
    /// Addresses that exist on the link.
    pub addresses: Addresses,
    /// Further state of the link, which is not part of the desired state.
    pub circumstances: Circumstances,
    /// Desired version that was applied; `None` if no valid version is known.
    pub desired: Option<Arc<DesiredInterface>>,
}

/// Additional state of an applied interface's link. It is not part of the desired state.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Circumstances {
    /// Property by which the agent recognises the link.
    pub known_by: KnownBy,
    /// Bit set of the settings that the agent has set explicitly on the link; see [`link_kinds::Settings::set_bits`].
    pub set: u64,
    /// True if the link was adopted.
    pub adopted: bool,
    /// True if the link has a master that no desired value names, such as a foreign bridge.
    pub enslaved: bool,
}

/// Property by which the agent recognises a link.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum KnownBy {
    /// The agent recognises the link by its alias, or by its name if the interface is EXISTING.
    Mark,
    /// The agent recognises the link only by its provisional group, because the link has just been created.
    Group,
    /// The agent recognises the link by its interface index, because its alias was removed.
    Index(u32),
}

impl AppliedInterface {
    /// Returns the applied state of a desired interface that has just been applied.
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

    /// Returns the applied state of an interface that was co-created with the other end of its pair.
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

    /// Returns whether the properties and addresses equal those of a desired interface.
    pub fn is_as(&self, desired: &DesiredInterface) -> bool {
        (&self.interface, &self.addresses) == (&desired.interface, &desired.addresses)
    }
}

impl Interface {
    /// Returns the key of the interface.
    pub fn key(&self) -> Key {
        interface_key(&self.name)
    }

    /// Returns whether the interface is EXISTING, which means that others create its link and the agent only refers to it.
    pub fn is_existing(&self) -> bool {
        self.link.life_cycle() == LifeCycle::Referred
    }

    /// Returns whether the interface is a LOOPBACK, whose link is a fixed part of its namespace.
    pub fn is_loopback(&self) -> bool {
        matches!(self.link.life_cycle(), LifeCycle::Builtin(_))
    }

    /// Returns the MTU in bytes that the agent sets, including the default of the kind. Returns `None` if the agent does not set
    /// an MTU.
    pub fn effective_mtu(&self) -> Option<u32> {
        match self.mtu {
            0 => self.link.default_mtu(),
            mtu => Some(mtu),
        }
    }
}

/// Returns the key of the interface with this logical name.
pub fn interface_key(name: &str) -> Key {
    TypedKey::Interface { name: name.to_owned() }.to_key()
}
