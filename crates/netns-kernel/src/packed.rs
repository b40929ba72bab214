//! The bulk path: operations of many tasks in as few requests to the kernel as possible.
//!
//! Owns the packing. Must never decide what a refusal means: a task of which anything is not as it usually is goes on alone, as if there
//! were no bulk path, and finds out by itself. Start reading at [`Worker::perform_packed`].
//!
//! # Expected flow
//! The first operations of all tasks, then the second ones, and so on: links are created by one socket, everything else by that of its
//! namespace. The links that are needed are looked up before, all of a namespace together, so the guard of each operation is held
//! against what the kernel said since the batch began.
//!
//! # Guarantees
//! Each task gets its own outcome. The operations of a task are performed in order, and those of one namespace in the order of the tasks
//! as far as they are at the same position. What the kernel refused had no effect, so that it may be tried once more alone.

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

/// Fewer tasks are performed one by one: what is refused is sent twice when packed, and a repair should need as few writes as it can.
pub(super) const TASKS_MIN: usize = 8;

/// How far a task has come.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Course {
    /// All went well so far.
    Packed,
    /// It goes on alone, from this operation on.
    Alone(usize),
}

/// A request and the task that it is for.
struct Request {
    task: usize,
    change: Change,
    /// What is known of the link afterwards.
    leaves: Option<LinkState>,
}

/// Whether an operation has a packed form.
pub(super) fn is_packable(op: &KernelOp) -> bool {
    match op {
        KernelOp::SetNeighbour { .. } | KernelOp::DeleteNeighbour { .. } | KernelOp::DeleteRoute { .. } => true,
        // With a parent, the creation is sent from another namespace, under another name where that is necessary.
        KernelOp::CreateLink(create) => create.parent.is_none(),
        KernelOp::SetLink { changes, .. } => is_simple(changes),
        KernelOp::AddAddress { detection, shared, .. } => *detection != AddressDetection::Optimistic && !shared,
        KernelOp::DeleteAddress { shared, .. } => !shared,
        KernelOp::AddRoute { route, .. } => route::unsupported(route).is_none(),
        _ => false,
    }
}

/// Changes that are one request to the kernel.
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

/// The link that an operation is about.
fn link_of(op: &KernelOp) -> Option<(NetnsId, &str, &Guard)> {
    match op {
        KernelOp::SetLink { netns, name, guard, .. } => Some((*netns, name, guard)),
        other => other.on_link(),
    }
}

impl Worker {
    /// Performs tasks all of whose operations are packable. The outcomes are in the order of the tasks.
    pub(super) fn perform_packed(&mut self, tasks: &[Task]) -> Vec<Outcome> {
        let mut courses = vec![Course::Packed; tasks.len()];
        let longest = tasks.iter().map(|task| task.ops.len()).max().unwrap_or_default();
        for position in 0..longest {
            let present: Vec<(usize, &KernelOp)> = tasks
                .iter()
                .enumerate()
                .filter(|(task, _)| courses[*task] == Course::Packed)
                .filter_map(|(number, task)| Some((number, task.ops.get(position)?)))
                .collect();
            for failed in self.perform_position(&present) {
                courses[failed] = Course::Alone(position);
            }
        }
        let outcome = |(task, course): (&Task, Course)| Outcome {
            id: task.id,
            result: match course {
                Course::Packed => Ok(Reply::Done),
                Course::Alone(from) => self.perform_ops(&task.ops[from..]),
            },
        };
        tasks.iter().zip(courses).map(outcome).collect()
    }

    /// Performs one operation of each task. Answers the tasks of which it did not succeed.
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
            // Whatever the reason is, what was known of the links may be wrong.
            self.links.retain(|(place, _), _| *place != netns);
        }
        failed
    }

    /// Creates the links among the operations.
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
        let answers = self.nursery.exchange(changes);
        failed.extend(
            tasks
                .into_iter()
                .zip(answers)
                .filter(|(_, answer)| answer.is_err())
                .map(|(task, _)| task),
        );
        failed
    }

    /// Reads the links that are not known yet, those of one namespace together. What cannot be read stays unknown.
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

/// The request of an operation on a link that was found, and what is known of the link afterwards where it changes; `None` where it is not
/// as simple as that.
fn request(op: &KernelOp, found: &LinkState) -> Option<(Change, Option<LinkState>)> {
    let index = found.index;
    let change = match op {
        // The mark of an adopted link has to be told from the others.
        KernelOp::SetLink { .. } if found.alias.ends_with(ADOPTED_MARK) => return None,
        KernelOp::SetLink { changes, .. } => return change_link(changes, found),
        KernelOp::AddAddress { address, detection, .. } => address::add(index, address, *detection, false),
        // Whether the kernel keeps it has to be found out.
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
