//! Values that belong to an interface: addresses, memberships, VLANs, neighbours and routes.
//!
//! Everything is parsed; the text of the model is kept only to show it.

use std::net::IpAddr;

use link_kinds::{Port, VlanRange};
use models::key::Key;

use netns_kernel::AddressSpec;

/// Handling of an IPv6 address during duplicate address detection (RFC 4862 §5.4).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Detection {
    /// The address is available after the detection has ended.
    #[default]
    Wait,
    /// The kernel performs no detection.
    Skip,
    /// The address is available and used immediately (RFC 4429).
    Optimistic,
}

/// Address of an interface.
#[derive(Clone, PartialEq, Debug)]
pub struct Address {
    /// Logical name of the interface.
    pub interface: String,
    /// Key of the derived value.
    pub key: Key,
    /// Parsed address; `None` for a reference to an allocation.
    pub spec: Option<AddressSpec>,
    /// Address as written in the model.
    pub text: String,
    /// VRF of which the interface must be a member first.
    pub vrf: Option<String>,
    /// Fact that the address waits for. The agent does not set an address that is expected on an EXISTING interface.
    pub expected: Option<Key>,
    /// Duplicate address detection by the kernel.
    pub detection: Detection,
    /// The agent waits for the end of the detection: an IPv6 address on a link that is desired UP, of a kind with detection.
    pub awaited: bool,
    /// Position among the addresses of the interface in the model, from 1.
    pub position: u32,
    /// Desired: this is the first of several IPv4 addresses of its subnet in the model. Applied: the kernel has it as the primary address.
    pub leads: bool,
    /// The link has the routes that the kernel creates for the address. Always true for a desired address.
    pub routed: bool,
}

/// Desired port of an interface.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PortOf {
    /// Logical name of the master.
    pub master: String,
    /// Settings of the port; `None` if the model gives none.
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
        /// Kernel name of an EXISTING interface: the agent only waits for the membership.
        existing: Option<String>,
    },
    /// The interface is a port, with these settings.
    Port(Option<Port>),
}

impl Membership {
    /// Returns the settings of the port, if the model gives any.
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
    /// The interface is a bridge, and the VLANs are its own.
    pub itself: bool,
}

/// Static neighbour.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Arp {
    /// Logical name of the interface.
    pub interface: String,
    /// IP address; `None` for a reference to an allocation.
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
    /// Destination network; `None` for a reference to an allocation.
    pub destination: Option<AddressSpec>,
    /// Destination as written in the model.
    pub destination_text: String,
    /// Gateway; `None` for a route without one.
    pub gateway: Option<IpAddr>,
    /// Gateway as written in the model, if it is a reference to an allocation.
    pub gateway_reference: Option<String>,
    /// RT_SCOPE_*. Scope 253 makes the route link-local: its destination counts as reachable for gateways of other routes.
    pub scope: u8,
    /// Metric.
    pub metric: u32,
}
