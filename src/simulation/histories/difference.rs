//! Finds the links that differ between two states of the simulated machine, and the links that an operation touches.

use std::collections::BTreeSet;

use crate::simulation::kernel::Kernel;
use netns_kernel::{KernelOp, LinkState, NetnsId, Snapshot};

fn name_of(space: &Snapshot, index: u32) -> String {
    space
        .links
        .iter()
        .find(|link| link.index == index)
        .map(|link| link.name.clone())
        .expect("a link")
}

/// Describes a link and everything on it as text. The text contains the name of the link's master and not its index, because the
/// index changes if the master is re-created.
fn picture(kernel: &Kernel, netns: NetnsId, space: &Snapshot, link: &LinkState) -> String {
    let mut text = format!(
        "{:?}",
        LinkState {
            master: None,
            ..link.clone()
        }
    );
    let missing = space.addresses.iter().filter(|state| state.link == link.index);
    text += &missing
        .map(|state| format!("{:?}", kernel.missing_routes(netns, state)))
        .collect::<String>();
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

/// Returns the links that differ between two states of the machine, and the links on top of them. Includes the links on top
/// because the repair of a link also sets them down and up.
pub fn affected(before: &Kernel, after: &Kernel) -> BTreeSet<(NetnsId, String)> {
    let pictures = |kernel: &Kernel| -> BTreeSet<(NetnsId, String, String)> {
        let spaces = kernel.spaces.iter();
        spaces
            .flat_map(|(netns, space)| {
                space
                    .links
                    .iter()
                    .map(|link| (*netns, link.name.clone(), picture(kernel, *netns, space, link)))
            })
            .collect()
    };
    let (pictures_before, pictures_after) = (pictures(before), pictures(after));
    let differing = pictures_before.symmetric_difference(&pictures_after);
    let mut affected: BTreeSet<(NetnsId, String)> = differing.map(|(netns, name, _)| (*netns, name.clone())).collect();
    for kernel in [before, after] {
        let above: Vec<(NetnsId, String)> = affected.iter().flat_map(|(netns, name)| kernel.above(*netns, name)).collect();
        affected.extend(above);
    }
    affected
}

/// Returns true if an operation touches only these links.
pub fn concerns(op: &KernelOp, links: &BTreeSet<(NetnsId, String)>) -> bool {
    let touched = match op {
        KernelOp::CreateLink(create) => create.ends().map(|end| (end.netns, end.name.clone())).collect(),
        KernelOp::SetLink { netns, name, .. } | KernelOp::DeleteLink { netns, name, .. } => vec![(*netns, name.clone())],
        // This operation changes nothing if the sysctl already has the value.
        KernelOp::EnsureSysctl { .. } => return true,
        other => match other.on_link() {
            Some((netns, link, _)) => vec![(netns, link.to_owned())],
            None => return false,
        },
    };
    touched.iter().all(|link| links.contains(link))
}
