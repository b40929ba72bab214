//! What belongs to an interface: addresses, memberships, VLANs, neighbours and routes.
//!
//! Owns plain data. Must never hold text that still has to be parsed, beside the text as given. Start reading at [`Address`].

use std::net::IpAddr;

use link_kinds::{Port, VlanRange};
use models::key::Key;

use netns_kernel::AddressSpec;

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
}
