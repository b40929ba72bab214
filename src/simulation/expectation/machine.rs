//! Converts the agent's objects on the simulated machine to the test oracle's types.

use std::collections::{BTreeMap, BTreeSet};

use netns_kernel::{AddressState, LinkState, NetnsId, PROTOCOL, Snapshot};
use testbed::{
    expected::{Link, RouteEntry, Space, identity, network},
    values::PortVlan,
};

use crate::simulation::{
    configuration::{Configuration, Interface, Item, interface_key, is_nic},
    kernel::Kernel,
};

const PREFIX: &str = "/vnf-agent/vpp1/";
/// End of the alias that the agent gives to `lo` in a namespace that it created.
const CREATED: &str = "//netns";
/// Alias of a foreign link that occupies the kernel name of an interface.
pub const SQUATTER: &str = "squatter";
/// IFLA_BRPORT_ISOLATED from linux/if_link.h.
const ISOLATED: u16 = 33;

/// Returns the agent's objects in each namespace, limited to the properties for which `expected` has a value.
pub fn spaces(kernel: &Kernel, expected: &BTreeMap<NetnsId, Space>, configuration: &Configuration) -> BTreeMap<NetnsId, Space> {
    let unusable = unusable(configuration);
    let spaces = kernel.spaces.iter().map(|(netns, snapshot)| {
        let reading = Reading::of(snapshot, &unusable);
        (*netns, reading.space(expected.get(netns)))
    });
    spaces.filter(|(_, space)| *space != Space::default()).collect()
}

/// Snapshot of a namespace, and the indexes of the links that the comparison ignores.
struct Reading<'a> {
    snapshot: &'a Snapshot,
    ignored: BTreeSet<u32>,
}

impl<'a> Reading<'a> {
    fn of(snapshot: &'a Snapshot, unusable: &BTreeSet<&str>) -> Self {
        let ignored = snapshot.links.iter().filter(|link| is_foreign(link) || is_of_any(link, unusable));
        Reading {
            snapshot,
            ignored: ignored.map(|link| link.index).collect(),
        }
    }

    fn name_of(&self, index: u32) -> String {
        let mut links = self.snapshot.links.iter();
        links
            .find(|link| link.index == index)
            .map_or(String::new(), |link| link.name.clone())
    }

    fn is_of_agent(&self, link: u32, protocol: u8) -> bool {
        let is_shared = |name: String| name == "lo" || is_nic(&name);
        protocol == PROTOCOL && (!self.ignored.contains(&link) || is_shared(self.name_of(link)))
    }

    fn space(&self, expected: Option<&Space>) -> Space {
        let mut space = Space::default();
        for link in self.snapshot.links.iter().filter(|link| !self.ignored.contains(&link.index)) {
            let desired = expected.and_then(|space| space.links.get(&link.name));
            space.links.insert(link.name.clone(), self.link(link, desired));
        }
        let addresses = self.snapshot.addresses.iter();
        for state in addresses.filter(|state| self.is_of_agent(state.link, state.protocol)) {
            let (link, spec) = (self.name_of(state.link), state.address);
            if self.is_primary_of_several(state) && !is_nic(&link) {
                space.primary.insert((link.clone(), spec.address));
            }
            space.addresses.insert((link, spec.address, spec.prefix_len));
        }
        let neighbours = self.snapshot.neighbours.iter();
        for state in neighbours.filter(|state| self.is_of_agent(state.link, state.protocol)) {
            space
                .neighbours
                .insert((self.name_of(state.link), state.address, show_mac(state.mac)));
        }
        let routes = self.snapshot.routes.iter();
        for state in routes.filter(|state| self.is_of_agent(state.link, state.protocol)) {
            space.routes.insert(RouteEntry {
                link: self.name_of(state.link),
                destination: format!("{}/{}", state.route.destination, state.route.prefix_len),
                gateway: state.route.gateway,
                table: state.route.table,
                scope: state.route.scope,
                metric: state.route.metric,
            });
        }
        space
    }

    /// Returns true if an address is the primary address of an IPv4 subnet that has several addresses.
    fn is_primary_of_several(&self, state: &AddressState) -> bool {
        let subnet = network((state.address.address, state.address.prefix_len));
        let of_subnet = self.snapshot.addresses.iter().filter(|other| {
            let spec = other.address;
            other.link == state.link && spec.prefix_len == subnet.1 && network((spec.address, spec.prefix_len)) == subnet
        });
        state.address.address.is_ipv4() && !state.is_secondary() && of_subnet.count() > 1
    }

    fn link(&self, link: &LinkState, desired: Option<&Link>) -> Link {
        let settings = desired.into_iter().flat_map(|desired| desired.settings.keys());
        Link {
            mark: subject(link).unwrap_or(&link.alias).to_owned(),
            kind: link.kind.clone(),
            up: link.up,
            mtu: desired.is_none_or(|desired| desired.mtu.is_some()).then_some(link.mtu),
            mac: link
                .mac
                .filter(|_| desired.is_none_or(|desired| desired.mac.is_some()))
                .map(show_mac),
            master: link.master.map(|master| self.name_of(master)),
            settings: settings.filter_map(|name| Some((*name, setting(link, name)?))).collect(),
            isolated: link.port_attribute(ISOLATED).map(|value| value == [1]),
            vlans: desired.and_then(|desired| desired.vlans.as_ref()).map(|_| self.vlans(link)),
            group: link.group,
        }
    }

    fn vlans(&self, link: &LinkState) -> BTreeSet<PortVlan> {
        let vlans = self.snapshot.bridge_vlans.iter().filter(|vlan| vlan.link == link.index);
        vlans
            .flat_map(|vlan| {
                (vlan.first..=vlan.last).map(|vid| PortVlan {
                    vid,
                    pvid: vlan.pvid,
                    untagged: vlan.untagged,
                })
            })
            .collect()
    }
}

/// Returns the setting `name` of a link. Supports the VRF table, IFLA_BR_AGEING_TIME, IFLA_BR_STP_STATE,
/// IFLA_BR_VLAN_FILTERING, IFLA_VLAN_ID and IFLA_VLAN_FLAGS.
fn setting(link: &LinkState, name: &str) -> Option<u64> {
    let number = |attribute: u16| link.attribute(attribute)?.first_chunk().copied().map(u32::from_ne_bytes);
    match name {
        "table" => link.vrf_table().map(u64::from),
        "ageing_time" => number(4).map(u64::from),
        "stp_state" => number(5).map(u64::from),
        "vlan_filtering" => link.attribute(7)?.first().copied().map(u64::from),
        "id" => link.attribute(1)?.first_chunk().copied().map(u16::from_ne_bytes).map(u64::from),
        "flags" => number(2).map(u64::from),
        _ => None,
    }
}

/// Returns true if a link belongs to an interface, and the interface can be applied without re-creating the link.
pub fn stands_for(link: &LinkState, interface: &Interface) -> bool {
    let identity = identity(&interface.value());
    let mut settings = identity.settings.iter();
    subject(link) == Some(&*identity.mark)
        && link.kind == identity.kind
        && settings.all(|(name, value)| setting(link, name) == Some(*value))
}

/// Returns true if the agent created the namespace.
pub fn is_made_by_agent(snapshot: &Snapshot) -> bool {
    let mut links = snapshot.links.iter();
    links.any(|link| link.name == "lo" && link.alias.starts_with(PREFIX) && link.alias.ends_with(CREATED))
}

/// Returns the names of the interfaces with an invalid value. An interface in this list has a link if an earlier, valid version
/// of its value was applied.
pub fn unusable(configuration: &Configuration) -> BTreeSet<&str> {
    let names = configuration.values().filter_map(|item| match item {
        Item::Unusable(key) => key.strip_prefix(&*interface_key("")),
        _ => None,
    });
    names.collect()
}

/// Returns true if a link belongs to one of these interfaces.
pub fn is_of_any(link: &LinkState, names: &BTreeSet<&str>) -> bool {
    subject(link).is_some_and(|subject| names.contains(subject.split("//").next().unwrap_or_default()))
}

/// Returns the part of a link's alias that follows the agent's prefix, or `None` if the alias does not have this prefix.
fn subject(link: &LinkState) -> Option<&str> {
    link.alias.strip_prefix(PREFIX).map(|rest| rest.trim_end_matches(CREATED))
}

/// Returns true if a link is foreign. A link that an interrupted creation has left behind is not foreign, although it lacks the
/// agent's ownership mark.
fn is_foreign(link: &LinkState) -> bool {
    link.name.starts_with("foreign")
        || is_nic(&link.name)
        || link.alias == SQUATTER
        || (link.name == "lo" && subject(link).is_none_or(str::is_empty))
}

fn show_mac(mac: [u8; 6]) -> String {
    mac.map(|byte| format!("{byte:02x}")).join(":")
}
