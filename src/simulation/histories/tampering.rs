//! What others do to the agent's objects behind its back.
//!
//! Owns the ways to tamper, and the answer which links that touched. Must never use what the agent believes: it looks at the
//! machine only. Start reading at [`Tampering`].

use std::collections::BTreeSet;

use proptest::prelude::*;

use crate::{
    kernel::{KernelOp, LinkState, NetnsId, PROTOCOL, Snapshot},
    simulation::kernel::Kernel,
};

/// One act; the number chooses among the agent's objects of that kind, if there are any.
#[derive(Clone, Debug)]
pub enum Tampering {
    DeleteLink(usize),
    Down(usize),
    Mtu(usize),
    Mac(usize),
    Release(usize),
    DeleteAddress(usize),
    DeleteRoute(usize),
    DeleteNeighbour(usize),
}

/// Any act.
pub fn tampering() -> impl Strategy<Value = Tampering> {
    let number = || 0..1000usize;
    prop_oneof![
        number().prop_map(Tampering::DeleteLink),
        number().prop_map(Tampering::Down),
        number().prop_map(Tampering::Mtu),
        number().prop_map(Tampering::Mac),
        number().prop_map(Tampering::Release),
        number().prop_map(Tampering::DeleteAddress),
        number().prop_map(Tampering::DeleteRoute),
        number().prop_map(Tampering::DeleteNeighbour),
    ]
}

fn pick<T>(number: usize, mut all: Vec<T>) -> Option<T> {
    (!all.is_empty()).then(|| all.swap_remove(number % all.len()))
}

/// The agent's links but for `lo`, which nobody can delete.
fn links(kernel: &Kernel) -> Vec<(NetnsId, LinkState)> {
    let all = kernel
        .spaces
        .iter()
        .flat_map(|(netns, space)| space.links.iter().map(|link| (*netns, link.clone())));
    all.filter(|(_, link)| link.alias.starts_with("/vnf-agent/vpp1/") && link.name != "lo")
        .collect()
}

fn name_of(space: &Snapshot, index: u32) -> String {
    space
        .links
        .iter()
        .find(|link| link.index == index)
        .map(|link| link.name.clone())
        .expect("a link")
}

impl Tampering {
    /// Does it.
    pub fn apply(&self, kernel: &mut Kernel) {
        match *self {
            Tampering::DeleteAddress(number) => {
                let states = |space: &Snapshot| space.addresses.iter().filter(|state| state.protocol == PROTOCOL).cloned().collect();
                on_any(kernel, number, states, |kernel, netns, state| {
                    let link = name_of(&kernel.spaces[&netns], state.link);
                    kernel.delete_address(netns, &link, state.address);
                });
            }
            Tampering::DeleteRoute(number) => {
                let states = |space: &Snapshot| space.routes.iter().filter(|state| state.protocol == PROTOCOL).cloned().collect();
                on_any(kernel, number, states, |kernel, netns, state| {
                    let link = name_of(&kernel.spaces[&netns], state.link);
                    kernel.delete_route(netns, &link, &state.route);
                });
            }
            Tampering::DeleteNeighbour(number) => {
                let states = |space: &Snapshot| {
                    space
                        .neighbours
                        .iter()
                        .filter(|state| state.protocol == PROTOCOL)
                        .cloned()
                        .collect()
                };
                on_any(kernel, number, states, |kernel, netns, state| {
                    let link = name_of(&kernel.spaces[&netns], state.link);
                    kernel.delete_neighbour(netns, &link, state.address);
                });
            }
            Tampering::DeleteLink(number)
            | Tampering::Down(number)
            | Tampering::Mtu(number)
            | Tampering::Mac(number)
            | Tampering::Release(number) => {
                if let Some((netns, link)) = pick(number, links(kernel)) {
                    self.apply_to_link(kernel, netns, link.index);
                }
            }
        }
    }

    fn apply_to_link(&self, kernel: &mut Kernel, netns: NetnsId, index: u32) {
        match self {
            Tampering::DeleteLink(_) => kernel.remove_link(netns, index),
            Tampering::Down(_) => kernel.set_up(netns, index, false),
            Tampering::Mtu(_) => kernel.link_mut(netns, index).mtu = 1300,
            Tampering::Mac(_) => kernel.set_mac(netns, index, [6; 6]),
            _ => kernel.set_master(netns, index, None),
        }
    }
}

fn on_any<T>(kernel: &mut Kernel, number: usize, all: impl Fn(&Snapshot) -> Vec<T>, act: impl Fn(&mut Kernel, NetnsId, T)) {
    let found = kernel
        .spaces
        .iter()
        .flat_map(|(netns, space)| all(space).into_iter().map(|state| (*netns, state)))
        .collect();
    if let Some((netns, state)) = pick(number, found) {
        act(kernel, netns, state);
    }
}

/// A link with all that is on it; the master by name, for its index changes when it is made again.
fn picture(space: &Snapshot, link: &LinkState) -> String {
    let mut text = format!(
        "{:?}",
        LinkState {
            master: None,
            ..link.clone()
        }
    );
    text += &link.master.map(|master| name_of(space, master)).unwrap_or_default();
    let states = space
        .addresses
        .iter()
        .filter(|state| state.link == link.index)
        .map(|state| format!("{state:?}"));
    let states = states.chain(
        space
            .routes
            .iter()
            .filter(|state| state.link == link.index)
            .map(|state| format!("{state:?}")),
    );
    let states = states.chain(
        space
            .neighbours
            .iter()
            .filter(|state| state.link == link.index)
            .map(|state| format!("{state:?}")),
    );
    text + &states.collect::<Vec<_>>().join("\n")
}

/// The links on which something differs between two machines.
pub fn affected(before: &Kernel, after: &Kernel) -> BTreeSet<(NetnsId, String)> {
    let pictures = |kernel: &Kernel| -> BTreeSet<(NetnsId, String, String)> {
        let spaces = kernel.spaces.iter();
        spaces
            .flat_map(|(netns, space)| space.links.iter().map(|link| (*netns, link.name.clone(), picture(space, link))))
            .collect()
    };
    let (before, after) = (pictures(before), pictures(after));
    before
        .symmetric_difference(&after)
        .map(|(netns, name, _)| (*netns, name.clone()))
        .collect()
}

/// Whether an operation touches nothing but these links.
pub fn concerns(op: &KernelOp, links: &BTreeSet<(NetnsId, String)>) -> bool {
    let touched = match op {
        KernelOp::CreateVeth { ends } => ends.iter().map(|end| (end.netns, end.name.clone())).collect(),
        KernelOp::CreateLink { link, .. } => vec![(link.netns, link.name.clone())],
        KernelOp::SetLink { netns, name, .. } | KernelOp::DeleteLink { netns, name, .. } => vec![(*netns, name.clone())],
        KernelOp::AddAddress { netns, link, .. }
        | KernelOp::DeleteAddress { netns, link, .. }
        | KernelOp::SetNeighbour { netns, link, .. }
        | KernelOp::DeleteNeighbour { netns, link, .. }
        | KernelOp::AddRoute { netns, link, .. }
        | KernelOp::DeleteRoute { netns, link, .. } => vec![(*netns, link.clone())],
        _ => return false,
    };
    touched.iter().all(|link| links.contains(link))
}
