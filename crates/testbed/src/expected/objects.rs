//! Objects that are expected in a namespace, and the settings of each kind of link.
//!
//! The settings are written by hand and not read from the agent's tables. A new kind of link needs a row in [`identity`] and in
//! [`settings`].

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
};

use crate::values::{Interface, Kind, PortVlan};

/// Link. `None` means that the configuration does not determine the property.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Link {
    /// Ownership mark: the alias without the prefix of the agent.
    pub mark: String,
    /// Kind in the kernel (IFLA_INFO_KIND); empty for `lo`.
    pub kind: String,
    /// Admin state.
    pub up: bool,
    /// MTU.
    pub mtu: Option<u32>,
    /// MAC address, as text.
    pub mac: Option<String>,
    /// Kernel name of its bridge or VRF device.
    pub master: Option<String>,
    /// Settings of its kind, with the names of `ip -json -details link`.
    pub settings: BTreeMap<&'static str, u64>,
    /// Isolation of a bridge port.
    pub isolated: Option<bool>,
    /// All VLANs of a bridge with VLAN filtering, or of a port of one.
    pub vlans: Option<BTreeSet<PortVlan>>,
    /// Group.
    pub group: u32,
}

/// Route. Its ordering has no meaning.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct RouteEntry {
    /// Name of the outgoing link.
    pub link: String,
    /// Destination: `network/prefix length`.
    pub destination: String,
    /// Gateway.
    pub gateway: Option<IpAddr>,
    /// Routing table.
    pub table: u32,
    /// Scope (RT_SCOPE_*).
    pub scope: u8,
    /// Metric.
    pub metric: u32,
}

/// Objects of the agent in a namespace.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct Space {
    /// Links by kernel name.
    pub links: BTreeMap<String, Link>,
    /// Addresses: kernel name of the link, address and prefix length.
    pub addresses: BTreeSet<(String, IpAddr, u8)>,
    /// Primary address of each IPv4 subnet with several addresses of a single interface.
    pub primary: BTreeSet<(String, IpAddr)>,
    /// Neighbours: kernel name of the link, address and MAC address.
    pub neighbours: BTreeSet<(String, IpAddr, String)>,
    /// Routes.
    pub routes: BTreeSet<RouteEntry>,
}

/// Properties of a link that cannot change without re-creation.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Identity {
    /// Ownership mark: the alias without the prefix of the agent.
    pub mark: String,
    /// Kind in the kernel (IFLA_INFO_KIND); empty if the agent does not create the link.
    pub kind: &'static str,
    /// Settings that cannot be changed in place.
    pub settings: BTreeMap<&'static str, u64>,
}

impl Interface {
    /// Returns the name of its link in the kernel.
    pub fn host(&self) -> &str {
        if self.kind == Kind::Loopback { "lo" } else { &self.host_name }
    }

    /// Returns whether its link is a foreign link in the agent's own namespace.
    pub fn is_existing(&self) -> bool {
        self.kind == Kind::Existing
    }

    /// Returns whether its link is created by the agent or is the loopback of a namespace.
    pub fn has_own_link(&self) -> bool {
        !matches!(self.kind, Kind::Existing | Kind::Tap(_))
    }
}

/// Returns the properties of an interface's link that cannot change without re-creation.
pub fn identity(interface: &Interface) -> Identity {
    let name = interface.name.clone();
    let (mark, kind, settings) = match &interface.kind {
        Kind::Veth(peer) => (format!("{name}/{peer}"), "veth", BTreeMap::new()),
        Kind::Dummy => (name, "dummy", BTreeMap::new()),
        Kind::Vrf(table) => (name, "vrf", BTreeMap::from([("table", u64::from(*table))])),
        Kind::Loopback => (name, "", BTreeMap::new()),
        // The mark records that the agent has set the ageing time.
        Kind::Bridge { ageing: 0, .. } => (name, "bridge", BTreeMap::new()),
        Kind::Bridge { .. } => (format!("{name}//set=100"), "bridge", BTreeMap::new()),
        Kind::Vlan { parent, id, .. } => (format!("{name}/{parent}"), "vlan", BTreeMap::from([("id", u64::from(*id))])),
        // Not an object of the agent.
        Kind::Existing | Kind::Tap(_) => (String::new(), "", BTreeMap::new()),
    };
    Identity { mark, kind, settings }
}

/// Returns all settings of an interface's kind that its value determines.
pub(super) fn settings(interface: &Interface) -> BTreeMap<&'static str, u64> {
    let mut settings = identity(interface).settings;
    match interface.kind {
        Kind::Bridge { stp, ageing, filtering } => {
            // In hundredths of a second; 300 s is the kernel's default.
            let ageing = if ageing == 0 { 30_000 } else { 100 * u64::from(ageing) };
            settings.extend([
                ("ageing_time", ageing),
                ("stp_state", u64::from(stp)),
                ("vlan_filtering", u64::from(filtering)),
            ]);
        }
        // VLAN_FLAG_REORDER_HDR, VLAN_FLAG_LOOSE_BINDING.
        Kind::Vlan { loose, .. } => settings.extend([("flags", if loose { 5 } else { 1 })]),
        Kind::Veth(_) | Kind::Dummy | Kind::Vrf(_) | Kind::Loopback | Kind::Existing | Kind::Tap(_) => {}
    }
    settings
}

/// Returns the MTU of a link without a desired MTU; `None` if it depends on other links or stays unchanged.
pub(super) fn default_mtu(kind: &Kind) -> Option<u32> {
    match kind {
        Kind::Veth(_) | Kind::Dummy => Some(1500),
        Kind::Loopback => Some(65536),
        Kind::Vrf(_) | Kind::Existing | Kind::Tap(_) | Kind::Bridge { .. } | Kind::Vlan { .. } => None,
    }
}
