//! Foreign links of the own namespace, which EXISTING values use, as the machine shows them.
//!
//! Owns what of them the configuration does not decide. Must never call the agent's code. Start reading at [`nics`].

use std::collections::BTreeMap;

use crate::simulation::{
    configuration::{Interface, Kind, is_nic},
    kernel::{Kernel, OWN},
};
use netns_kernel::{AddressDetection, AddressState, LinkState, PROTOCOL, Progress};

/// A foreign link that EXISTING values use.
pub struct Nic {
    /// Addresses that others added.
    pub foreign: Vec<String>,
    /// Addresses that the agent added.
    pub marked: Vec<String>,
    /// Those of them for which duplicate address detection is not over: on a TAP without a carrier it never is.
    pub tentative: Vec<String>,
    /// Its routing table, if it is a VRF device.
    pub table: Option<u32>,
}

/// The foreign links of the own namespace that EXISTING values use, if they are up.
pub fn nics(kernel: &Kernel) -> BTreeMap<String, Nic> {
    let own = &kernel.spaces[&OWN];
    let addresses = |index: u32, counts: &dyn Fn(&AddressState) -> bool| {
        let on_link = own.addresses.iter().filter(|state| state.link == index && counts(state));
        let shown = on_link.map(|state| format!("{}/{}", state.address.address, state.address.prefix_len));
        shown.collect()
    };
    let links = own.links.iter().filter(|link| is_nic(&link.name) && link.up);
    let nic = |link: &LinkState| Nic {
        foreign: addresses(link.index, &|state| state.protocol != PROTOCOL),
        marked: addresses(link.index, &|state| state.protocol == PROTOCOL),
        tentative: addresses(link.index, &|state| {
            state.progress(AddressDetection::Default) == Progress::Tentative
        }),
        table: link.vrf_table(),
    };
    links.map(|link| (link.name.clone(), nic(link))).collect()
}

/// Whether two EXISTING interfaces on one link ask for what the link cannot have at once.
pub fn contradict(a: &Interface, b: &Interface) -> bool {
    let mtus = a.mtu != b.mtu && a.mtu != 0 && b.mtu != 0;
    let mac = |interface: &Interface| interface.mac.filter(|_| interface.kind != Kind::Existing { link_only: true });
    let macs = mac(a).zip(mac(b)).is_some_and(|(a, b)| a != b);
    mtus || macs || a.enabled != b.enabled
}
