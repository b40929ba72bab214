//! Foreign links of the simulated machine, converted for the test oracle.

use std::collections::BTreeMap;

use netns_kernel::{AddressDetection, AddressState, LinkState, PROTOCOL, Progress};
use testbed::expected::Nic;

use crate::simulation::{
    configuration::is_nic,
    kernel::{Kernel, OWN},
};

/// Returns the foreign links to which EXISTING interfaces can refer, by name. Includes only links that are up.
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
