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
    /// The agent waits for the end of the detection before it regards the address as available.
    #[default]
    Wait,
    /// The kernel performs no detection.
    Skip,
    /// The address is used immediately, while the detection is still in progress (RFC 4429).
    Optimistic,
}

/// Address of an interface.
#[derive(Clone, PartialEq, Debug)]
pub struct Address {
    /// Logical name of the interface.
    pub interface: String,
    /// Key of the address as a derived value.
    pub key: Key,
    /// Parsed address; `None` for an IP allocation reference.
    pub spec: Option<AddressSpec>,
    /// Address as written in the model, for display.
    pub text: String,
    /// Logical name of the VRF that the interface must join before the address is added; `None` if the interface joins no VRF.
    pub vrf: Option<String>,
    /// Key of the fact that the address exists. It is set only if others add the address to an EXISTING interface and the agent
    /// waits for it. `None` if the agent adds the address.
    pub expected: Option<Key>,
    /// Handling of the address during duplicate address detection.
    pub detection: Detection,
    /// True if the agent waits for the end of the detection. The agent waits only for IPv6 addresses that it adds itself. In
    /// addition, the link must be desired UP, its kind must support detection, and detection must not be skipped.
    pub awaited: bool,
    /// Position among the addresses of the interface in the model, starting at 1.
    pub position: u32,
    /// In a desired value, true for the first of several IPv4 addresses in one subnet, which must become the primary address. In
    /// an applied value, false if another address of the interface is the primary address instead.
    pub leads: bool,
    /// True if the link has the routes that the kernel creates for the address. Always true for a desired address.
    pub routed: bool,
}

/// Bridge that an interface is a port of, with the port settings.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PortOf {
    /// Logical name of the bridge.
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
    /// Role of the interface: member of a VRF or port of a bridge.
    pub role: Role,
}

/// Role of an interface in its master.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Role {
    /// The master is a VRF device.
    Vrf {
        /// Kernel name of the link if the interface is EXISTING. The agent then only waits until others have added the link to the
        /// VRF. `None` for other interfaces.
        existing: Option<String>,
    },
    /// The master is a bridge, and the interface is a port. Contains the port settings, if the model gives any.
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

/// VLAN range of a bridge or bridge port.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct BridgeVlan {
    /// Logical name of the bridge or port.
    pub interface: String,
    /// VLAN ids, and the flags that they share.
    pub range: VlanRange,
    /// True if the interface is the bridge itself, not a port.
    pub itself: bool,
}

/// Static neighbour.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Arp {
    /// Logical name of the interface.
    pub interface: String,
    /// IP address of the neighbour; `None` for an IP allocation reference.
    pub address: Option<IpAddr>,
    /// IP address as written in the model, for display.
    pub text: String,
    /// MAC address of the neighbour.
    pub mac: [u8; 6],
}

/// Route through an interface.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Route {
    /// Logical name of the output interface.
    pub interface: String,
    /// Destination network; `None` for an IP allocation reference.
    pub destination: Option<AddressSpec>,
    /// Destination as written in the model, for display.
    pub destination_text: String,
    /// IP address of the gateway; `None` if the route has no gateway or refers to an IP allocation.
    pub gateway: Option<IpAddr>,
    /// Gateway as written in the model, if it refers to an IP allocation.
    pub gateway_reference: Option<String>,
    /// Scope (RT_SCOPE_* of linux/rtnetlink.h). A route with scope 253 is link-local. It makes the gateways in its destination
    /// network reachable for other routes.
    pub scope: u8,
    /// Metric as in the model; 0 for the kernel's default.
    pub metric: u32,
}
