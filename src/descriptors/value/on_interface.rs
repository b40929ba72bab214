//! Values that belong to an interface: addresses, memberships, VLANs, neighbours and routes.
//!
//! All fields are parsed. The text of the model is kept for display only.

use std::net::IpAddr;

use link_kinds::{Port, VlanRange};
use models::key::Key;

use netns_kernel::AddressSpec;

/// Handling of an IPv6 address during duplicate address detection (RFC 4862 §5.4).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Detection {
    /// The address counts as available once the detection has ended.
    #[default]
    Wait,
    /// The kernel performs no detection.
    Skip,
    /// The address is used immediately, while the detection is in progress (RFC 4429).
    Optimistic,
}

/// Address of an interface.
#[derive(Clone, PartialEq, Debug)]
pub struct Address {
    /// Logical name of the interface.
    pub interface: String,
    /// Key of the derived value.
    pub key: Key,
    /// Parsed address; `None` for an IP allocation reference.
    pub spec: Option<AddressSpec>,
    /// Address as written in the model.
    pub text: String,
    /// Logical name of the VRF that the interface must join before the address is set.
    pub vrf: Option<String>,
    /// Key of the fact that the address waits for. Set for addresses that the agent only expects on an EXISTING interface and does not set.
    pub expected: Option<Key>,
    /// How the kernel performs duplicate address detection.
    pub detection: Detection,
    /// True if the agent waits for the end of the detection: for an IPv6 address that it sets on a link that is desired UP and whose kind
    /// has detection, unless detection is skipped.
    pub awaited: bool,
    /// Position among the addresses of the interface in the model, starting at 1.
    pub position: u32,
    /// In a desired value, true if this is the first of several IPv4 addresses in one subnet. In an applied value, false if another address
    /// of the interface is the primary one instead.
    pub leads: bool,
    /// True if the link has the routes that the kernel creates for the address. Always true for a desired address.
    pub routed: bool,
}

/// Bridge port that an interface becomes.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PortOf {
    /// Logical name of the master.
    pub master: String,
    /// Port settings; `None` if the model gives none.
    pub settings: Option<Port>,
}

/// Membership of an interface in a master.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Membership {
    /// Logical name of the interface.
    pub interface: String,
    /// Logical name of the master.
    pub master: String,
    /// Role of the interface in the master.
    pub role: Role,
}

/// Role of an interface in its master.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Role {
    /// The master is a VRF device.
    Vrf {
        /// Kernel name of an EXISTING interface, for whose membership the agent only waits; `None` for other interfaces.
        existing: Option<String>,
    },
    /// The interface is a port, with these settings if the model gives any.
    Port(Option<Port>),
}

impl Membership {
    /// Returns the port settings, if the model gives any.
    pub fn port(&self) -> Option<&Port> {
        match &self.role {
            Role::Vrf { .. } => None,
            Role::Port(port) => port.as_ref(),
        }
    }
}

/// VLAN range of a bridge or port.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct BridgeVlan {
    /// Logical name of the interface.
    pub interface: String,
    /// VLAN ids and flags.
    pub range: VlanRange,
    /// True if the interface is the bridge itself, not a port.
    pub itself: bool,
}

/// Static neighbour.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Arp {
    /// Logical name of the interface.
    pub interface: String,
    /// IP address; `None` for an IP allocation reference.
    pub address: Option<IpAddr>,
    /// IP address as written in the model.
    pub text: String,
    /// MAC address.
    pub mac: [u8; 6],
}

/// Route.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Route {
    /// Logical name of the output interface.
    pub interface: String,
    /// Destination network; `None` for an IP allocation reference.
    pub destination: Option<AddressSpec>,
    /// Destination as written in the model.
    pub destination_text: String,
    /// Gateway; `None` for a route without one.
    pub gateway: Option<IpAddr>,
    /// Gateway as written in the model, if it is an IP allocation reference.
    pub gateway_reference: Option<String>,
    /// Scope (RT_SCOPE_* of linux/rtnetlink.h). Scope 253 makes the route link-local, so its destination makes gateways of other routes
    /// reachable.
    pub scope: u8,
    /// Metric.
    pub metric: u32,
}
