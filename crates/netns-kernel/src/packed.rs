//! Implements the bulk path, which performs the operations of many tasks with as few system calls as possible.
//!
//! A task leaves the bulk path if the kernel refuses a request, or if a link is in an unexpected state. The normal path then
//! performs the rest of the task, starting with the operation that failed.
//!
//! # Expected flow
//! The first operations of all tasks are sent together, then the second operations of all tasks, and so on. All links are created
//! through one socket. All other requests are sent through the socket of their namespace. Before each round, the required links
//! that are not cached are read, one namespace at a time, and their guards are checked.
//!
//! # Guarantees
//! Each task gets its own outcome. The operations of a task are performed in order. Operations at the same position in one
//! namespace are performed in the order of the tasks. A refused request has had no effect, so it can be sent again.

use std::collections::BTreeMap;

use super::{
    address,
    link::{self, LinkRequest},
    neighbour,
    netlink::Change,
    operation::{ADOPTED_MARK, AddressDetection, Guard, KernelOp, LinkChanges, LinkState, NetnsId, Outcome, Reply, Task},
    route,
    worker::Worker,
};

/// Minimum number of tasks in a group that is packed.
///
/// Smaller groups are not packed, because packing sends a refused request twice and a small repair should need few writes.
pub(super) const TASKS_MIN: usize = 8;

/// State of a task within the batch.
#[derive(Clone, Copy, PartialEq, Eq)]
enum BatchState {
    /// All operations so far were packed and succeeded.
    Packed,
    /// The task continues on its own, starting at the operation with this index.
    Alone(usize),
}

/// A request, with the index of the task to which it belongs.
struct Request {
    task: usize,
    change: Change,
    /// State of the link after the request; `None` if the request does not change the link itself.
    leaves: Option<LinkState>,
}

/// Returns whether an operation can be sent to the kernel in one batch with others.
pub(super) fn is_packable(op: &KernelOp) -> bool {
    match op {
        KernelOp::SetNeighbour { .. } | KernelOp::DeleteNeighbour { .. } | KernelOp::DeleteRoute { .. } => true,
        // A link with a parent cannot be packed, because it is created through a socket in the parent's namespace.
        KernelOp::CreateLink(create) => create.parent.is_none(),
        KernelOp::SetLink { changes, .. } => is_simple(changes),
        KernelOp::AddAddress { detection, shared, .. } => *detection != AddressDetection::Optimistic && !shared,
        KernelOp::DeleteAddress { shared, .. } => !shared,
        KernelOp::AddRoute { route, .. } => route::unsupported(route).is_none(),
        _ => false,
    }
}

/// Returns whether the changes can be made with one request.
fn is_simple(changes: &LinkChanges) -> bool {
    let LinkChanges {
        rename,
        move_to,
        master,
        rx_checksum,
        tx_checksum,
        info,
        port,
        alias: _,
        group: _,
        mtu: _,
        mac: _,
        up: _,
    } = changes;
    (rename, move_to, master, rx_checksum, tx_checksum) == (&None, &None, &None, &None, &None) && (info, port) == (&None, &None)
}

/// Returns the link that an operation changes or uses.
fn link_of(op: &KernelOp) -> Option<(NetnsId, &str, &Guard)> {
    match op {
        KernelOp::SetLink { netns, name, guard, .. } => Some((*netns, name, guard)),
        other => other.on_link(),
    }
}

impl Worker {
    /// Performs tasks that contain only packable operations. The outcomes are in the order of the tasks.
    pub(super) fn perform_packed(&mut self, tasks: &[Task]) -> Vec<Outcome> {
        let mut states = vec![BatchState::Packed; tasks.len()];
        let longest = tasks.iter().map(|task| task.ops.len()).max().unwrap_or_default();
        for position in 0..longest {
            let present: Vec<(usize, &KernelOp)> = tasks
                .iter()
                .enumerate()
                .filter(|(task, _)| states[*task] == BatchState::Packed)
                .filter_map(|(number, task)| Some((number, task.ops.get(position)?)))
                .collect();
            for failed in self.perform_position(&present) {
                states[failed] = BatchState::Alone(position);
            }
        }
        let outcome = |(task, state): (&Task, BatchState)| Outcome {
            id: task.id,
            result: match state {
                BatchState::Packed => Ok(Reply::Done),
                BatchState::Alone(from) => self.perform_ops(&task.ops[from..]),
            },
        };
        tasks.iter().zip(states).map(outcome).collect()
    }

    /// Performs one operation of each task. Returns the tasks whose operation failed.
    fn perform_position(&mut self, ops: &[(usize, &KernelOp)]) -> Vec<usize> {
        let mut failed = self.create_links(ops);
        self.look_up(ops.iter().filter_map(|(_, op)| link_of(op)));
        let mut requests: BTreeMap<NetnsId, Vec<Request>> = BTreeMap::new();
        for (task, op) in ops {
            let Some((netns, name, guard)) = link_of(op) else { continue };
            let found = self.links.get(&(netns, name.to_owned())).filter(|found| link::guard(guard, found));
            match found.and_then(|found| request(op, found)) {
                Some((change, leaves)) => requests.entry(netns).or_default().push(Request {
                    task: *task,
                    change,
                    leaves,
                }),
                None => failed.push(*task),
            }
        }
        for (netns, requests) in requests {
            failed.extend(self.exchange_in(netns, requests));
        }
        failed
    }

    fn exchange_in(&mut self, netns: NetnsId, requests: Vec<Request>) -> Vec<usize> {
        let (mut ends, mut changes) = (Vec::with_capacity(requests.len()), Vec::with_capacity(requests.len()));
        for request in requests {
            ends.push((request.task, request.leaves));
            changes.push(request.change);
        }
        let Ok(pinned) = self.namespaces.get_mut(netns) else {
            return ends.into_iter().map(|(task, _)| task).collect();
        };
        let answers = pinned.route.exchange(changes);
        let mut failed = Vec::new();
        for ((task, leaves), answer) in ends.into_iter().zip(answers) {
            match (answer, leaves) {
                (Ok(()), Some(link)) => drop(self.links.insert((netns, link.name.clone()), link)),
                (Ok(()), None) => {}
                (Err(_), _) => failed.push(task),
            }
        }
        if !failed.is_empty() {
            // After any failure, the cached states of the links in this namespace may be wrong.
            self.links.retain(|(place, _), _| *place != netns);
        }
        failed
    }

    /// Creates links for the given operations. Returns the tasks that failed.
    fn create_links(&mut self, ops: &[(usize, &KernelOp)]) -> Vec<usize> {
        let (mut failed, mut tasks, mut changes) = (Vec::new(), Vec::new(), Vec::new());
        for (task, op) in ops {
            let KernelOp::CreateLink(create) = op else { continue };
            match self.places_of(create) {
                Ok(places) => {
                    tasks.push(*task);
                    changes.push(link::create(create, &places));
                }
                Err(_) => failed.push(*task),
            }
        }
        let answers = self.creation_socket.exchange(changes);
        failed.extend(
            tasks
                .into_iter()
                .zip(answers)
                .filter(|(_, answer)| answer.is_err())
                .map(|(task, _)| task),
        );
        failed
    }

    /// Reads links that are not cached yet, one namespace at a time. Omits links that cannot be read.
    fn look_up<'a>(&mut self, links: impl Iterator<Item = (NetnsId, &'a str, &'a Guard)>) {
        let mut unknown: BTreeMap<NetnsId, Vec<&str>> = BTreeMap::new();
        for (netns, name, _) in links {
            if !self.links.contains_key(&(netns, name.to_owned())) {
                unknown.entry(netns).or_default().push(name);
            }
        }
        for (netns, mut names) in unknown {
            names.sort_unstable();
            names.dedup();
            let Ok(pinned) = self.namespaces.get_mut(netns) else { continue };
            for found in link::find_all(&mut pinned.route, &names) {
                self.links.insert((netns, found.name.clone()), found);
            }
        }
    }
}

/// Returns the request for an operation on a link, and the new state of the link if the request changes it.
///
/// Returns `None` if the operation needs the normal path.
fn request(op: &KernelOp, found: &LinkState) -> Option<(Change, Option<LinkState>)> {
    let index = found.index;
    let change = match op {
        // Only the normal path keeps the adoption mark of a link and returns [`Reply::Adopted`].
        KernelOp::SetLink { .. } if found.alias.ends_with(ADOPTED_MARK) => return None,
        KernelOp::SetLink { changes, .. } => return change_link(changes, found),
        KernelOp::AddAddress { address, detection, .. } => address::add(index, address, *detection, false),
        // On links of this kind, the kernel may store another entry than the requested one. Only an unpacked task reads the entry back.
        KernelOp::SetNeighbour { .. } if !neighbour::is_kept_on(found) => return None,
        KernelOp::SetNeighbour { address, mac, .. } => neighbour::set(index, *address, *mac, false),
        KernelOp::AddRoute { route, .. } => route::add(index, route, false),
        KernelOp::DeleteAddress { address, .. } => address::delete(index, address),
        KernelOp::DeleteNeighbour { address, .. } => neighbour::delete(index, *address),
        KernelOp::DeleteRoute { route, .. } => route::delete(index, route),
        _ => return None,
    };
    Some((change, None))
}

fn change_link(changes: &LinkChanges, found: &LinkState) -> Option<(Change, Option<LinkState>)> {
    let request = LinkRequest {
        mac: changes.mac,
        mtu: changes.mtu,
        group: changes.group,
        alias: changes.alias.clone(),
        up: changes.up,
        ..LinkRequest::default()
    };
    if request == LinkRequest::default() {
        return None;
    }
    let changed = LinkState {
        alias: changes.alias.clone().unwrap_or_else(|| found.alias.clone()),
        group: changes.group.unwrap_or(found.group),
        up: changes.up.unwrap_or(found.up),
        ..found.clone()
    };
    Some((request.message(found.index), Some(changed)))
}
