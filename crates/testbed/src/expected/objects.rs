//! What can be expected in a namespace, and a hand-written row for each kind of link.
//!
//! Owns what of a link follows from its own value alone. Must never read a table of the agent. Start reading at [`Space`]; a new kind of
//! link needs a row in [`identity`] and in [`settings`].

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
};

use crate::values::{Interface, Kind, PortVlan};

/// A link; `None` where nothing was asked for.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Link {
    /// What the agent's mark says that it is: its alias without the prefix of the agent.
    pub mark: String,
    /// Kind, as the kernel names it; empty for `lo`.
    pub kind: String,
    /// Admin state.
    pub up: bool,
    /// MTU.
    pub mtu: Option<u32>,
    /// MAC address, as text.
    pub mac: Option<String>,
    /// Name of the bridge or VRF device that it is in.
    pub master: Option<String>,
    /// What else its kind has, as far as something was asked for. Named as `ip -json -details link` does.
    pub settings: BTreeMap<&'static str, u64>,
    /// Of a port of a bridge: whether it is isolated.
    pub isolated: Option<bool>,
    /// Of a bridge that keeps VLANs apart, or of a port of one: all its VLANs.
    pub vlans: Option<BTreeSet<PortVlan>>,
    /// Group.
    pub group: u32,
}

/// A route; the order of its members tells nothing.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct RouteEntry {
    /// Name of the outgoing link.
    pub link: String,
    /// `network/prefix length`.
    pub destination: String,
    /// Gateway.
    pub gateway: Option<IpAddr>,
    /// Routing table.
    pub table: u32,
    /// RT_SCOPE_*.
    pub scope: u8,
    /// Metric.
    pub metric: u32,
}

/// What of the agent's is in a namespace.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct Space {
    /// By host name.
    pub links: BTreeMap<String, Link>,
    /// Host name, address and prefix length.
    pub addresses: BTreeSet<(String, IpAddr, u8)>,
    /// The primary address of each IPv4 subnet that has several addresses of one interface and no other.
    pub primary: BTreeSet<(String, IpAddr)>,
    /// Host name, address and MAC address.
    pub neighbours: BTreeSet<(String, IpAddr, String)>,
    /// Routes.
    pub routes: BTreeSet<RouteEntry>,
}

/// What a link cannot change while it stays.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Identity {
    /// What the agent's mark says that it is.
    pub mark: String,
    /// Kind, as the kernel names it; empty where the agent makes no link.
    pub kind: &'static str,
    /// Settings that only another link can have.
    pub settings: BTreeMap<&'static str, u64>,
}

impl Interface {
    /// Name of its link in the kernel.
    pub fn host(&self) -> &str {
        if self.kind == Kind::Loopback { "lo" } else { &self.host_name }
    }

    /// Whether its link is somebody else's, of the agent's own namespace.
    pub fn is_existing(&self) -> bool {
        self.kind == Kind::Existing
    }

    /// Whether the agent makes its link, or has it for itself.
    pub fn has_own_link(&self) -> bool {
        !matches!(self.kind, Kind::Existing | Kind::Tap(_))
    }
}

/// What the link of an interface cannot change while it stays.
pub fn identity(interface: &Interface) -> Identity {
    let name = interface.name.clone();
    let (mark, kind, settings) = match &interface.kind {
        Kind::Veth(peer) => (format!("{name}/{peer}"), "veth", BTreeMap::new()),
        Kind::Dummy => (name, "dummy", BTreeMap::new()),
        Kind::Vrf(table) => (name, "vrf", BTreeMap::from([("table", u64::from(*table))])),
        Kind::Loopback => (name, "", BTreeMap::new()),
        // The agent remembers that it has set the ageing time.
        Kind::Bridge { ageing: 0, .. } => (name, "bridge", BTreeMap::new()),
        Kind::Bridge { .. } => (format!("{name}//set=100"), "bridge", BTreeMap::new()),
        Kind::Vlan { parent, id, .. } => (format!("{name}/{parent}"), "vlan", BTreeMap::from([("id", u64::from(*id))])),
        // It is not the agent's.
        Kind::Existing | Kind::Tap(_) => (String::new(), "", BTreeMap::new()),
    };
    Identity { mark, kind, settings }
}

/// All settings of its kind that an interface decides.
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

/// MTU of a link whose value asks for none; `None` where it depends on other links, or stays what it was.
pub(super) fn default_mtu(kind: &Kind) -> Option<u32> {
    match kind {
        Kind::Veth(_) | Kind::Dummy => Some(1500),
        Kind::Loopback => Some(65536),
        Kind::Vrf(_) | Kind::Existing | Kind::Tap(_) | Kind::Bridge { .. } | Kind::Vlan { .. } => None,
    }
}
