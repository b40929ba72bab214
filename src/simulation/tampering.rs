//! Changes that other programs make on the machine. They tamper with the agent's objects, and add and remove foreign objects.
//!
//! The objects are selected from the contents of the simulated kernel, and not from the agent's own records.

use super::{
    configuration::{TAP, TENANT},
    kernel::{Kernel, OWN},
};
use netns_kernel::{AddressSpec, LinkState, NeighbourState, NetnsId, PROTOCOL, RouteSpec, RouteState, Snapshot};

/// Protocol of objects that users add by hand (RTPROT_STATIC from linux/rtnetlink.h).
const OTHER_PROTOCOL: u8 = 4;
/// RT_TABLE_MAIN from linux/rtnetlink.h.
const TABLE_MAIN: u32 = 254;

/// Tampering with one of the agent's objects.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Tampering {
    /// `ip link del`.
    DeleteLink,
    /// `ip link set down`.
    Down,
    /// `ip link set mtu`.
    Mtu,
    /// `ip link set address`.
    Mac,
    /// `ip link set nomaster`.
    Release,
    /// `ip link set name`.
    Rename,
    /// `ip address del`.
    DeleteAddress,
    /// `ip route del`.
    DeleteRoute,
    /// `ip neighbour del`.
    DeleteNeighbour,
    /// `ip neighbour replace` of an entry whose value allows adoption.
    ReplaceNeighbour,
    /// `ip route replace` of a route whose value allows adoption.
    ReplaceRoute,
    /// `ip route del` of the connected or local route of an address.
    DeleteAddressRoute,
    /// `ip route flush dev`.
    FlushRoutes,
}

impl Tampering {
    /// All kinds of tampering.
    pub const ALL: [Tampering; 13] = [
        Tampering::DeleteLink,
        Tampering::Down,
        Tampering::Mtu,
        Tampering::Mac,
        Tampering::Release,
        Tampering::Rename,
        Tampering::DeleteAddress,
        Tampering::DeleteRoute,
        Tampering::DeleteNeighbour,
        Tampering::ReplaceNeighbour,
        Tampering::ReplaceRoute,
        Tampering::DeleteAddressRoute,
        Tampering::FlushRoutes,
    ];

    /// Tampers with one of the agent's objects, if there is one. The number selects the object.
    pub(crate) fn apply(self, kernel: &mut Kernel, number: usize) {
        match self {
            Tampering::DeleteAddress => {
                let of_agent = |space: &Snapshot| space.addresses.iter().filter(|state| state.protocol == PROTOCOL).cloned().collect();
                on_any(kernel, number, of_agent, |kernel, netns, state| {
                    let link = name_of(kernel, netns, state.link);
                    kernel.delete_address(netns, &link, state.address);
                });
            }
            Tampering::DeleteRoute => {
                let of_agent = |space: &Snapshot| space.routes.iter().filter(|state| state.protocol == PROTOCOL).cloned().collect();
                on_any(kernel, number, of_agent, |kernel, netns, state| {
                    let link = name_of(kernel, netns, state.link);
                    kernel.delete_route(netns, &link, &state.route);
                });
            }
            Tampering::DeleteNeighbour => {
                let of_agent = |space: &Snapshot| {
                    let entries = space.neighbours.iter();
                    entries.filter(|state| state.protocol == PROTOCOL).cloned().collect()
                };
                on_any(kernel, number, of_agent, |kernel, netns, state| {
                    let link = name_of(kernel, netns, state.link);
                    kernel.delete_neighbour(netns, &link, state.address);
                });
            }
            Tampering::ReplaceNeighbour => {
                let adoptable = |state: &&NeighbourState| state.protocol == PROTOCOL && state.address.is_ipv6();
                let all = |space: &Snapshot| space.neighbours.iter().filter(adoptable).cloned().collect();
                on_any(kernel, number, all, |kernel, netns, state| {
                    let link = name_of(kernel, netns, state.link);
                    let replaced = kernel.set_neighbour(netns, &link, state.address, [7; 6], OTHER_PROTOCOL);
                    debug_assert!(replaced.is_ok());
                });
            }
            Tampering::ReplaceRoute => {
                let to = |state: &RouteState| state.route.destination.to_string();
                let adoptable = |state: &&RouteState| state.protocol == PROTOCOL && to(state).starts_with("172.16.");
                let all = |space: &Snapshot| space.routes.iter().filter(adoptable).cloned().collect();
                on_any(kernel, number, all, |kernel, netns, state| {
                    let link = name_of(kernel, netns, state.link);
                    // Ignore an error: like `ip route replace`, `add_route` fails if the link is down.
                    drop(kernel.add_route(netns, &link, &state.route, true, OTHER_PROTOCOL));
                });
            }
            Tampering::DeleteAddressRoute => {
                let of_agent = |space: &Snapshot| space.addresses.iter().filter(|state| state.protocol == PROTOCOL).cloned().collect();
                on_any(kernel, number / 2, of_agent, |kernel, netns, state| {
                    let mut routes = kernel.routes_of(netns, &state);
                    if !routes.is_empty() {
                        let route = routes.swap_remove(number % routes.len());
                        kernel.delete_address_routes(netns, [route]);
                    }
                });
            }
            _ => on_any(kernel, number, own_links, |kernel, netns, link| {
                self.apply_to_link(kernel, netns, &link)
            }),
        }
    }

    fn apply_to_link(self, kernel: &mut Kernel, netns: NetnsId, link: &LinkState) {
        let index = link.index;
        match self {
            Tampering::DeleteLink => kernel.remove_link(netns, index),
            Tampering::Down => kernel.set_up(netns, index, false),
            Tampering::Mtu => kernel.link_mut(netns, index).mtu = 1300,
            Tampering::Mac => kernel.set_mac(netns, index, [6; 6]),
            Tampering::Release => kernel.set_master(netns, index, None),
            Tampering::FlushRoutes => {
                let routes = kernel.routes_of_addresses(netns).into_iter();
                let in_main = routes
                    .filter(|route| route.link == index && route.table == TABLE_MAIN)
                    .collect::<Vec<_>>();
                kernel.delete_address_routes(netns, in_main);
                kernel.delete_routes_of(netns, index, TABLE_MAIN);
            }
            _ => {
                let name = format!("z{}", link.name);
                if kernel.link(netns, &name).is_none() {
                    kernel.link_mut(netns, index).name = name;
                }
            }
        }
    }
}

fn on_any<T>(kernel: &mut Kernel, number: usize, all: impl Fn(&Snapshot) -> Vec<T>, act: impl Fn(&mut Kernel, NetnsId, T)) {
    let of_space = |(netns, space): (&NetnsId, &Snapshot)| all(space).into_iter().map(|found| (*netns, found)).collect::<Vec<_>>();
    let mut found: Vec<_> = kernel.spaces.iter().flat_map(of_space).collect();
    if !found.is_empty() {
        let (netns, state) = found.swap_remove(number % found.len());
        act(kernel, netns, state);
    }
}

/// Returns the agent's links, except for `lo`, which cannot be deleted.
fn own_links(space: &Snapshot) -> Vec<LinkState> {
    let links = space.links.iter();
    links
        .filter(|link| link.alias.starts_with("/vnf-agent/vpp1/") && link.name != "lo")
        .cloned()
        .collect()
}

fn name_of(kernel: &Kernel, netns: NetnsId, index: u32) -> String {
    let links = kernel.spaces.get(&netns).map(|space| space.links.iter());
    let found = links.and_then(|mut links| links.find(|link| link.index == index));
    found.map_or(String::new(), |link| link.name.clone())
}

impl Kernel {
    /// Adds a foreign link to the agent's own namespace, unless it exists.
    pub fn add_nic(&mut self, name: &str) {
        if self.link(OWN, name).is_none() {
            let index = self.add_foreign_link(OWN, name, if name == TAP { "tun" } else { "dummy" });
            // A new TAP has no carrier until a program opens it.
            self.set_carrier(OWN, index, name != TAP);
        }
    }

    /// Sets the carrier of the TAP, as if a program opened or closed it.
    pub fn set_tap_carrier(&mut self, carrier: bool) {
        if let Some(index) = self.link(OWN, TAP).map(|link| link.index) {
            self.set_carrier(OWN, index, carrier);
        }
    }

    /// Creates the foreign VRF device with this routing table. Re-creates it if it has another table.
    pub fn make_vrf(&mut self, table: u32) {
        if self.link(OWN, TENANT).is_some_and(|link| link.vrf_table() != Some(table)) {
            self.remove_nic(TENANT);
        }
        if self.link(OWN, TENANT).is_none() {
            let index = self.add_foreign_link(OWN, TENANT, "vrf");
            self.set_vrf_table(OWN, index, table);
        }
    }

    /// Deletes a foreign link from the agent's own namespace.
    pub fn remove_nic(&mut self, name: &str) {
        if let Some(index) = self.link(OWN, name).map(|link| link.index) {
            self.remove_link(OWN, index);
        }
    }

    /// Adds the address 10.5.5.1/24 to a foreign link in the agent's own namespace, or deletes it.
    pub fn set_nic_address(&mut self, name: &str, add: bool) {
        if self.link(OWN, name).is_none() {
            return;
        }
        let address = AddressSpec {
            address: [10, 5, 5, 1].into(),
            prefix_len: 24,
        };
        if add {
            let added = self.add_address(OWN, name, address, OTHER_PROTOCOL);
            debug_assert!(added.is_ok());
        } else {
            self.delete_address(OWN, name, address);
        }
    }
}

/// Adds foreign links, unless they exist: a link of another agent, a link without an ownership mark, and a veth pair.
pub(crate) fn add_look_alikes(kernel: &mut Kernel, netns: NetnsId) {
    if kernel.link(netns, "foreign0").is_some() {
        return;
    }
    for (number, name, alias) in [(1, "foreign0", "/vnf-agent/vpp10/d0"), (2, "foreign1", "")] {
        let index = kernel.add_foreign_link(netns, name, "dummy");
        kernel.link_mut(netns, index).alias = alias.to_owned();
        add_to_link(kernel, netns, name, number, OTHER_PROTOCOL);
    }
    // The other agent uses the same protocol number for its objects.
    add_to_link(kernel, netns, "foreign0", 3, PROTOCOL);
    let ends = ["foreign2", "foreign3"].map(|name| (netns, kernel.add_foreign_link(netns, name, "veth")));
    kernel.pair(ends[0], ends[1]);
}

/// Adds an address, a neighbour and a route to a link, with different addresses for each `number`.
fn add_to_link(kernel: &mut Kernel, netns: NetnsId, link: &str, number: u8, protocol: u8) {
    let address = AddressSpec {
        address: [10, 99, number, 1].into(),
        prefix_len: 24,
    };
    let route = RouteSpec {
        destination: [10, 77, number, 0].into(),
        prefix_len: 24,
        gateway: None,
        table: 254,
        scope: 253,
        metric: 0,
    };
    let done = [
        kernel.add_address(netns, link, address, protocol),
        kernel.set_neighbour(netns, link, [10, 99, number, 2].into(), [2; 6], protocol),
        kernel.add_route(netns, link, &route, false, protocol),
    ];
    debug_assert!(done.iter().all(Result::is_ok));
}
