//! Objects that are expected in a namespace, and the settings of each link kind.
//!
//! The settings are written by hand instead of taken from the agent's tables. A new link kind must be added to [`identity`] and
//! [`settings`].

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
};

use crate::values::{Interface, Kind, PortVlan};

/// Expected link. A property that the configuration does not determine is `None`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Link {
    /// Ownership mark: the alias without the agent prefix.
    pub mark: String,
    /// Kernel link kind (IFLA_INFO_KIND); empty for `lo`.
    pub kind: String,
    /// `true` if the link is administratively up.
    pub up: bool,
    /// MTU in bytes.
    pub mtu: Option<u32>,
    /// MAC address, as text.
    pub mac: Option<String>,
    /// Kernel name of the link's bridge or VRF device.
    pub master: Option<String>,
    /// Settings of the link kind, with the names that `ip -json -details link` uses.
    pub settings: BTreeMap<&'static str, u64>,
    /// True if the link is an isolated bridge port; `None` if it is not a bridge port.
    pub isolated: Option<bool>,
    /// All VLANs of the link if it is a bridge with VLAN filtering or a port of such a bridge.
    pub vlans: Option<BTreeSet<PortVlan>>,
    /// Group number of the link (IFLA_GROUP).
    pub group: u32,
}

/// Expected route. Routes implement `Ord` only so that a set can store them.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct RouteEntry {
    /// Name of the outgoing link.
    pub link: String,
    /// Destination network with its prefix length, such as `10.0.0.0/8`.
    pub destination: String,
    /// IP address of the gateway, if the route has one.
    pub gateway: Option<IpAddr>,
    /// Number of the routing table.
    pub table: u32,
    /// Scope, one of RT_SCOPE_*.
    pub scope: u8,
    /// Metric (RTA_PRIORITY).
    pub metric: u32,
}

/// Objects of the agent that are expected in a namespace.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct Space {
    /// Links by kernel name.
    pub links: BTreeMap<String, Link>,
    /// Expected addresses. Each entry contains the kernel name of the link, the IP address and the prefix length.
    pub addresses: BTreeSet<(String, IpAddr, u8)>,
    /// Expected primary addresses, with the kernel name of the link. Contains only IPv4 subnets in which an interface has several
    /// addresses.
    pub primary: BTreeSet<(String, IpAddr)>,
    /// Expected neighbours. Each entry contains the kernel name of the link, the IP address and the MAC address.
    pub neighbours: BTreeSet<(String, IpAddr, String)>,
    /// Routes in all routing tables.
    pub routes: BTreeSet<RouteEntry>,
}

/// Link properties that can only be changed by creating the link again.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Identity {
    /// Ownership mark: the alias without the agent prefix.
    pub mark: String,
    /// Kernel link kind (IFLA_INFO_KIND); empty if the agent does not create the link.
    pub kind: &'static str,
    /// Settings of the link kind that cannot be changed in place.
    pub settings: BTreeMap<&'static str, u64>,
}

impl Interface {
    /// Returns the kernel name of the interface's link.
    pub fn host(&self) -> &str {
        if self.kind == Kind::Loopback { "lo" } else { &self.host_name }
    }

    /// Returns true if the interface's link is a foreign link in the agent's own namespace.
    pub fn is_existing(&self) -> bool {
        self.kind == Kind::Existing
    }

    /// Returns true if the agent creates the interface's link, or if it is the loopback of a namespace.
    pub fn has_own_link(&self) -> bool {
        !matches!(self.kind, Kind::Existing | Kind::Tap(_))
    }
}

/// Returns the properties of an interface's link that can only be changed by creating the link again.
pub fn identity(interface: &Interface) -> Identity {
    let name = interface.name.clone();
    let (mark, kind, settings) = match &interface.kind {
        Kind::Veth(peer) => (format!("{name}/{peer}"), "veth", BTreeMap::new()),
        Kind::Dummy => (name, "dummy", BTreeMap::new()),
        Kind::Vrf(table) => (name, "vrf", BTreeMap::from([("table", u64::from(*table))])),
        Kind::Loopback => (name, "", BTreeMap::new()),
        // The ownership mark records that the agent has set the ageing time of the bridge.
        Kind::Bridge { ageing: 0, .. } => (name, "bridge", BTreeMap::new()),
        Kind::Bridge { .. } => (format!("{name}//set=100"), "bridge", BTreeMap::new()),
        Kind::Vlan { parent, id, .. } => (format!("{name}/{parent}"), "vlan", BTreeMap::from([("id", u64::from(*id))])),
        // The agent does not create the links of EXISTING and TAP interfaces.
        Kind::Existing | Kind::Tap(_) => (String::new(), "", BTreeMap::new()),
    };
    Identity { mark, kind, settings }
}

/// Returns all settings of the link kind that the interface's value determines, with their names in `ip -json -details link`.
pub(super) fn settings(interface: &Interface) -> BTreeMap<&'static str, u64> {
    let mut settings = identity(interface).settings;
    match interface.kind {
        Kind::Bridge { stp, ageing, filtering } => {
            // The kernel counts in hundredths of a second. Its default is 300 s.
            let ageing = if ageing == 0 { 30_000 } else { 100 * u64::from(ageing) };
            settings.extend([
                ("ageing_time", ageing),
                ("stp_state", u64::from(stp)),
                ("vlan_filtering", u64::from(filtering)),
            ]);
        }
        // Bit 0 is VLAN_FLAG_REORDER_HDR, bit 2 is VLAN_FLAG_LOOSE_BINDING.
        Kind::Vlan { loose, .. } => settings.extend([("flags", if loose { 5 } else { 1 })]),
        Kind::Veth(_) | Kind::Dummy | Kind::Vrf(_) | Kind::Loopback | Kind::Existing | Kind::Tap(_) => {}
    }
    settings
}

/// Returns the MTU of a link without a desired MTU, or `None` if the MTU depends on other links or stays unchanged.
pub(super) fn default_mtu(kind: &Kind) -> Option<u32> {
    match kind {
        Kind::Veth(_) | Kind::Dummy => Some(1500),
        Kind::Loopback => Some(65536),
        Kind::Vrf(_) | Kind::Existing | Kind::Tap(_) | Kind::Bridge { .. } | Kind::Vlan { .. } => None,
    }
}
