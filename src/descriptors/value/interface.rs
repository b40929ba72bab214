//! Interfaces, desired and applied.
//!
//! Owns what both have in common, [`Interface`], and what only one of them has. Must never be read from a model or a kernel here. Start
//! reading at [`DesiredInterface`] and [`AppliedInterface`].

use std::sync::Arc;

use link_kinds::{LifeCycle, Link};
use models::key::{Key, TypedKey};

use super::{Address, NamespaceName, PortOf, Terms};

/// A link: as it is asked for, or as it is there.
#[derive(Clone, PartialEq, Eq, Debug)]
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
    /// MAC address; `None`: the kernel's choice.
    pub mac: Option<[u8; 6]>,
    /// MTU in bytes; 0: the default of the kind.
    pub mtu: u32,
    /// Only the link layer is managed.
    pub link_only: bool,
    /// Logical name of the VRF device that it is in.
    pub vrf: Option<String>,
    /// The bridge that it is a port of.
    pub port_of: Option<PortOf>,
}

/// The addresses of an interface, in the order as written; none for one that is `link_only` (unless EXISTING).
pub type Addresses = Arc<[Arc<Address>]>;

/// An interface as it is desired: checked, converted, and never changed.
#[derive(Clone, PartialEq, Debug)]
pub struct DesiredInterface {
    /// Its link.
    pub interface: Arc<Interface>,
    /// Its addresses.
    pub addresses: Addresses,
    /// How to treat it.
    pub terms: Terms,
}

/// An interface as the agent last knew it in the kernel: as it was set, or as it was read.
#[derive(Clone, PartialEq, Debug)]
pub struct AppliedInterface {
    /// Its link.
    pub interface: Arc<Interface>,
    /// The addresses of the desired version that are there.
    pub addresses: Addresses,
    /// What is known of the link that nobody asks for.
    pub circumstances: Circumstances,
    /// What it was applied as; `None` if no usable version is known.
    pub desired: Option<Arc<DesiredInterface>>,
}

/// What is known of the link of an applied interface that nobody asks for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Circumstances {
    /// By what the agent knows the link again.
    pub known_by: KnownBy,
    /// Bits of the settings that the agent has set on the link and that would be left alone otherwise; see
    /// [`link_kinds::Settings::set_bits`].
    pub set: u64,
    /// It was somebody else's before.
    pub adopted: bool,
    /// It has a master that no value asks for, such as somebody's bridge.
    pub enslaved: bool,
}

/// By what the agent knows a link again.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum KnownBy {
    /// The alias, or the name of an EXISTING link.
    Mark,
    /// Only the provisional mark of a link that was just made.
    Group,
    /// The index, since somebody took the alias away.
    Index(u32),
}

impl AppliedInterface {
    /// A desired interface after it was applied.
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

    /// The other end of a pair, after the creation of this one has made it.
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

    /// Whether link and addresses are as a desired version asks.
    pub fn is_as(&self, desired: &DesiredInterface) -> bool {
        (&self.interface, &self.addresses) == (&desired.interface, &desired.addresses)
    }
}

impl Interface {
    /// Key of the interface.
    pub fn key(&self) -> Key {
        interface_key(&self.name)
    }

    /// Whether somebody else makes the link, and the agent only refers to it (EXISTING).
    pub fn is_existing(&self) -> bool {
        self.link.life_cycle() == LifeCycle::Referred
    }

    /// Whether the link is part of its namespace (LOOPBACK).
    pub fn is_loopback(&self) -> bool {
        matches!(self.link.life_cycle(), LifeCycle::Builtin(_))
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
