//! Performs operations: translates each [`KernelOp`] into system calls.
//!
//! Never retries an operation. A failed task never affects another task.

use std::{
    collections::{BTreeMap, HashMap},
    path::Path,
    time::{Duration, Instant},
};

use nix::errno::Errno;

use super::{
    bridge, deletion, failure, link,
    netlink::{Change, Refusal, RouteSocket},
    operation::{Failure, FailureKind, Guard, KernelOp, LinkState, NamespaceRef, NetnsId, Outcome, Reply, Task},
    packed::{TASKS_MIN, is_packable},
    pinned::Namespaces,
    route,
    routing::KnownRoutes,
    slow_open::Opening,
};

/// Limits for splitting packed tasks into parts: the maximum number of parts, and the minimum number of tasks in a part.
const PARTS_MAX: usize = 4;
const PART_MIN: usize = 250;

/// Minimum number of tasks in a large batch. The worker assumes that a large batch belongs to a change of several batches.
const LARGE_MIN: usize = 100;
/// Time for which the worker keeps the links of a large batch for the next large batch.
const KEPT: Duration = Duration::from_millis(50);

/// Link on which an operation is performed: namespace, kernel name and guard.
pub(super) type On<'a> = (NetnsId, &'a str, &'a Guard);

/// State of the thread that performs operations.
pub(super) struct Worker {
    /// The pinned namespaces.
    pub namespaces: Namespaces,
    /// Socket for creating links. It belongs to an empty namespace that nothing else uses.
    ///
    /// Before Linux 6.15, the kernel also looks up the name of a new link in the namespace of the sending socket. An empty
    /// namespace contains no unrelated link with that name.
    pub creation_socket: RouteSocket,
    /// Links by namespace and name, read in this batch or kept from the previous batch.
    pub links: HashMap<(NetnsId, String), LinkState>,
    /// Routes of the table that was read last in this batch; `None` before the first read.
    pub known_routes: Option<KnownRoutes>,
    /// Time until which the links are kept for the next batch; `None` if they are not kept.
    kept_until: Option<Instant>,
}

impl Worker {
    /// Returns a worker that performs operations in these namespaces.
    pub fn new(namespaces: Namespaces, creation_socket: RouteSocket) -> Self {
        Self {
            namespaces,
            creation_socket,
            links: HashMap::new(),
            known_routes: None,
            kept_until: None,
        }
    }

    /// Returns the time at which to call [`Self::tidy`] if no batch arrives before then.
    pub fn deadline(&self) -> Option<Instant> {
        self.kept_until
    }

    /// Discards the links that were kept for the next batch if no batch has arrived in time.
    pub fn tidy(&mut self) {
        if self.kept_until.take_if(|until| *until <= Instant::now()).is_some() {
            self.links = HashMap::new();
        }
    }

    /// Performs a batch and returns the outcomes that were not passed to `early`.
    ///
    /// Adjacent tasks that only delete links are performed together, because the kernel takes about 18 ms for each deletion and
    /// concurrent deletions share this time. Tasks that only open a namespace are also performed together, and so are tasks whose
    /// requests can be packed. While a very large group is being packed, the outcomes available so far are passed to `early`.
    pub fn perform(&mut self, tasks: Vec<Task>, early: &mut dyn FnMut(Vec<Outcome>)) -> Vec<Outcome> {
        let large = tasks.len() >= LARGE_MIN;
        // Links may have changed since the last batch, so they are read again. During a large change, they are kept from one
        // batch to the next, because reading each link again in each batch took a tenth of the total time. If a link was replaced
        // in the meantime, the kernel refuses the request, because the old index is not reused soon. The task then looks the link
        // up again.
        if !(large && self.kept_until.is_some_and(|until| Instant::now() < until)) {
            self.links.clear();
        }
        let outcomes = self.perform_groups(&tasks, early);
        self.known_routes = None;
        self.kept_until = large.then(|| Instant::now() + KEPT);
        outcomes
    }

    fn perform_groups(&mut self, tasks: &[Task], early: &mut dyn FnMut(Vec<Outcome>)) -> Vec<Outcome> {
        let mut outcomes = Vec::with_capacity(tasks.len());
        for group in tasks.chunk_by(|a, b| shared_work(a).is_some() && shared_work(a) == shared_work(b)) {
            match shared_work(&group[0]) {
                Some(SharedWork::LinkDeletion) => {
                    // Deleting a link also deletes its peer, which can be in any namespace.
                    self.links.clear();
                    outcomes.extend(deletion::delete_links(&mut self.namespaces, group));
                    continue;
                }
                Some(SharedWork::Packing) if group.len() >= TASKS_MIN => {
                    for (number, part) in in_parts(group).enumerate() {
                        if number > 0 {
                            early(std::mem::take(&mut outcomes));
                        }
                        outcomes.extend(self.perform_packed(part));
                    }
                    continue;
                }
                Some(SharedWork::Opening) if group.len() > 1 => {
                    let mut rest = group;
                    while !rest.is_empty() {
                        // Compute the maximum again for each chunk, because each open namespace reduces the number of free
                        // descriptors.
                        let (together, later) = rest.split_at(rest.len().min(self.namespaces.together_max()));
                        outcomes.extend(self.open_all(together));
                        rest = later;
                    }
                    continue;
                }
                Some(SharedWork::Reading) if group.len() > 1 => {
                    outcomes.extend(self.namespaces.perform_readings(group));
                    continue;
                }
                _ => {}
            }
            outcomes.extend(group.iter().map(|task| Outcome {
                id: task.id,
                result: self.perform_ops(&task.ops),
            }));
        }
        outcomes
    }

    /// Performs tasks that open the file at `path`. `opening` is the result of opening this file in advance.
    pub fn perform_opened(&mut self, tasks: Vec<Task>, path: &Path, opening: Opening) -> Vec<Outcome> {
        self.namespaces.offer(path, opening);
        let outcomes = self.perform(tasks, &mut |_| {});
        self.namespaces.withdraw(path);
        outcomes
    }

    /// Performs tasks that only open a namespace. Creates missing namespaces together, and reads all namespaces together.
    fn open_all(&mut self, tasks: &[Task]) -> Vec<Outcome> {
        let opening = |task: &'_ Task| match task.ops.as_slice() {
            [KernelOp::OpenNamespace { reference, mark }] => Some((task.id, reference.clone(), mark.clone())),
            _ => None,
        };
        let wanted: Vec<_> = tasks.iter().filter_map(opening).collect();
        let mut names = BTreeMap::new();
        for (_, reference, mark) in &wanted {
            if let (NamespaceRef::Named(name), Some(mark)) = (reference, mark) {
                names.entry(name.as_str()).or_insert(mark.as_str());
            }
        }
        self.namespaces.prepare(&names.into_iter().collect::<Vec<_>>());
        let references: Vec<_> = wanted.iter().map(|(_, reference, mark)| (reference, mark.as_deref())).collect();
        let results = self.namespaces.open_all(&references);
        wanted
            .iter()
            .zip(results)
            .map(|((id, ..), result)| Outcome { id: *id, result })
            .collect()
    }

    /// Performs the operations of a task in order until the first failure.
    pub(super) fn perform_ops(&mut self, ops: &[KernelOp]) -> Result<Reply, Failure> {
        let mut answer = Reply::Done;
        for op in ops {
            match self.perform_op(op)? {
                Reply::Done => {}
                reply => answer = reply,
            }
        }
        Ok(answer)
    }

    fn perform_op(&mut self, op: &KernelOp) -> Result<Reply, Failure> {
        let done = match op {
            KernelOp::OpenNamespace { reference, mark } => return self.namespaces.open(reference, mark.as_deref()),
            KernelOp::VerifyNamespace { reference, netns } => return self.namespaces.verify(reference, *netns),
            KernelOp::DumpNamespace { netns } => return self.namespaces.read(*netns).map(|found| Reply::Contents(Box::new(found))),
            KernelOp::ReadLinks { netns } => return self.namespaces.read_links(*netns).map(Reply::Links),
            KernelOp::CloseNamespace {
                reference,
                netns,
                remove_if_marked,
                forget,
            } => {
                self.links.retain(|(place, _), _| place != netns);
                return self.namespaces.close(reference, *netns, remove_if_marked.as_deref(), *forget);
            }
            KernelOp::ForgetProcess { reference } => self.namespaces.forget(reference),
            KernelOp::CreateLink(create) => self.create_link(create),
            KernelOp::EnsureSysctl { netns, name, value } => self.ensure_sysctl(*netns, name, value),
            KernelOp::SetLink {
                netns,
                name,
                guard,
                changes,
            } => return self.set_link(*netns, name, guard, changes),
            KernelOp::DeleteLink { netns, name, guard } => self.delete_link(*netns, name, guard),
            other => return self.perform_layer3(other),
        };
        done.map(|()| Reply::Done)
    }

    /// Performs an operation on a link's VLANs, addresses, neighbours or routes.
    fn perform_layer3(&mut self, op: &KernelOp) -> Result<Reply, Failure> {
        let done = match op {
            KernelOp::SetBridgeVlan { .. } => self.set_bridge_vlan(op),
            KernelOp::AddAddress {
                netns,
                link,
                guard,
                address,
                detection,
                shared,
            } => self.add_address((*netns, link, guard), address, *detection, *shared),
            KernelOp::ConfirmAddress {
                netns,
                link,
                guard,
                address,
                detection,
                shared,
            } => self.confirm_address((*netns, link, guard), address, *detection, *shared),
            KernelOp::DeleteAddress {
                netns,
                link,
                guard,
                address: spec,
                shared,
            } => self.delete_address((*netns, link, guard), spec, *shared),
            KernelOp::MakePrimary {
                netns,
                link,
                guard,
                address,
                others,
            } => self.make_primary((*netns, link, guard), address, others),
            KernelOp::SetNeighbour {
                netns,
                link,
                guard,
                address,
                mac,
                adopt,
            } => return self.set_neighbour((*netns, link, guard), *address, *mac, *adopt),
            KernelOp::DeleteNeighbour {
                netns,
                link,
                guard,
                address,
            } => self.delete_neighbour((*netns, link, guard), *address),
            KernelOp::AddRoute {
                netns,
                link,
                guard,
                route,
                replace,
                adopt,
            } => return self.add_route((*netns, link, guard), route, *replace, *adopt),
            KernelOp::DeleteRoute {
                netns,
                link,
                guard,
                route: spec,
            } => {
                let gone = [Errno::ESRCH, Errno::ENOENT];
                let action = || format!("delete route {} from link \"{link}\"", route::show(spec));
                self.remove((*netns, link, guard), &gone, action, |index| route::delete(index, spec))
            }
            // `perform_op` performs all other operations.
            _ => Ok(()),
        };
        done.map(|()| Reply::Done)
    }

    /// Adds a VLAN range to a link, or removes it.
    ///
    /// Removal succeeds if the link does not exist, or is not a port (EOPNOTSUPP), because the kernel removed the VLANs when the
    /// link was released from its bridge.
    fn set_bridge_vlan(&mut self, op: &KernelOp) -> Result<(), Failure> {
        let KernelOp::SetBridgeVlan {
            netns,
            link,
            guard,
            vlan,
            itself,
            present,
        } = op
        else {
            return Ok(());
        };
        let on = (*netns, link.as_str(), guard);
        let verb = if *present { "add" } else { "delete" };
        let action = || format!("{verb} VLAN {} to {} of link \"{link}\"", vlan.first, vlan.last);
        let change = |index| bridge::change(index, vlan, *itself, *present);
        match present {
            true => self.on_link(on, action, change),
            false => self.remove(on, &[Errno::ENOENT, Errno::EOPNOTSUPP], action, change),
        }
    }

    fn delete_link(&mut self, netns: NetnsId, name: &str, guard: &Guard) -> Result<(), Failure> {
        // Deleting a link also deletes its peer, which can be in any namespace.
        self.links.clear();
        if !self.namespaces.contains(netns) {
            return Ok(());
        }
        let Some(found) = self.find(netns, name)? else { return Ok(()) };
        let pinned = self.namespaces.get_mut(netns)?;
        self.links.clear();
        if !link::guard(guard, &found) {
            return Err(foreign("delete", &found, &pinned.place));
        }
        let (message, flags) = link::delete(found.index);
        match pinned.route.change(message, flags) {
            Err(refusal) if !refusal.is(Errno::ENODEV) => {
                Err(failure::refused(&format!("delete link \"{name}\""), &pinned.place, &refusal))
            }
            _ => Ok(()),
        }
    }

    /// Removes an object, such as an address or a VLAN, from a link.
    ///
    /// Succeeds if the namespace or the link does not exist, or if the kernel returns one of the errors in `gone`.
    pub(super) fn remove(
        &mut self,
        on: On<'_>,
        gone: &[Errno],
        action: impl Fn() -> String,
        change: impl Fn(u32) -> Change,
    ) -> Result<(), Failure> {
        let (netns, link, _) = on;
        if !self.namespaces.contains(netns) || self.find(netns, link)?.is_none() {
            return Ok(());
        }
        let gone = |errno: i32| errno == Errno::ENODEV as i32 || gone.iter().any(|gone| *gone as i32 == errno);
        match self.on_link(on, action, change) {
            Err(failure) if failure.errno.is_some_and(gone) => Ok(()),
            result => result,
        }
    }

    /// Performs a change for which the kernel needs the index of a link.
    ///
    /// Looks the link up again if the cached index is outdated.
    pub(super) fn on_link(&mut self, on: On<'_>, action: impl Fn() -> String, change: impl Fn(u32) -> Change) -> Result<(), Failure> {
        let (netns, link, guard) = on;
        loop {
            let key = (netns, link.to_owned());
            let cached = self.links.contains_key(&key);
            let found = self.find(netns, link)?;
            let pinned = self.namespaces.get_mut(netns)?;
            let Some(found) = found else {
                return Err(missing(&action(), link, &pinned.place));
            };
            if !link::guard(guard, &found) {
                return Err(failure::foreign(format!(
                    "will not {} in {}: the link does not belong to the agent ({}); another program has replaced the agent's link",
                    action(),
                    pinned.place,
                    link::describe(&found)
                )));
            }
            let (message, flags) = change(found.index);
            let Err(refusal) = pinned.route.change(message, flags) else {
                return Ok(());
            };
            if !(cached && refusal.is(Errno::ENODEV)) {
                return Err(failure::refused(&action(), &pinned.place, &refusal));
            }
            self.links.remove(&key);
        }
    }

    /// Returns a link. Fails if the link does not exist. `verb` completes the phrase "cannot … link".
    pub fn require(&mut self, netns: NetnsId, name: &str, verb: &str) -> Result<LinkState, Failure> {
        match self.find(netns, name)? {
            Some(found) => Ok(found),
            None => Err(missing(
                &format!("{verb} link \"{name}\""),
                name,
                &self.namespaces.get_mut(netns)?.place,
            )),
        }
    }

    /// Returns a link from the cache, or reads it from the kernel if it is not cached. Returns `None` if the link does not exist.
    pub fn find(&mut self, netns: NetnsId, name: &str) -> Result<Option<LinkState>, Failure> {
        let key = (netns, name.to_owned());
        if let Some(found) = self.links.get(&key) {
            return Ok(Some(found.clone()));
        }
        let pinned = self.namespaces.get_mut(netns)?;
        let found = link::find(&mut pinned.route, name)
            .map_err(|refusal| failure::refused(&format!("look up link \"{name}\""), &pinned.place, &refusal))?;
        if let Some(found) = &found {
            self.links.insert(key, found.clone());
        }
        Ok(found)
    }
}

/// Returns whether the kernel refused the request because the object already exists.
pub(super) fn is_eexist(result: &Result<(), Failure>) -> bool {
    result.as_ref().is_err_and(|failure| failure.kind == FailureKind::Exists)
}

/// Returns the error for a link that does not belong to the agent.
pub(super) fn foreign(action: &str, found: &LinkState, place: &str) -> Failure {
    failure::foreign(format!(
        "will not {action} link \"{}\" in {place}: it does not belong to the agent ({}); rename or delete it, or choose another name",
        found.name,
        link::describe(found)
    ))
}

/// Returns the error for a link that does not exist.
pub(super) fn missing(action: &str, name: &str, place: &str) -> Failure {
    let refusal = Refusal {
        errno: Errno::ENODEV as i32,
        text: Some(format!("no link \"{name}\"")),
    };
    failure::refused(action, place, &refusal)
}

/// Type of work that several adjacent tasks can share.
#[derive(Clone, Copy, PartialEq, Eq)]
enum SharedWork {
    /// All operations of the task delete links.
    LinkDeletion,
    /// The task has a single operation, which opens a namespace.
    Opening,
    /// The task has a single operation, which reads a namespace.
    Reading,
    /// All operations of the task can be packed.
    Packing,
}

/// Splits a large group of tasks into parts that are packed one after the other.
///
/// The number of parts is limited, because requests to the same namespace are packed together only within a part.
fn in_parts(tasks: &[Task]) -> impl Iterator<Item = &[Task]> {
    tasks.chunks(tasks.len().div_ceil(PARTS_MAX).max(PART_MIN))
}

fn shared_work(task: &Task) -> Option<SharedWork> {
    match task.ops.as_slice() {
        [] => None,
        [KernelOp::OpenNamespace { .. }] => Some(SharedWork::Opening),
        [KernelOp::DumpNamespace { .. }] => Some(SharedWork::Reading),
        ops if ops.iter().all(|op| matches!(op, KernelOp::DeleteLink { .. })) => Some(SharedWork::LinkDeletion),
        ops if ops.iter().all(is_packable) => Some(SharedWork::Packing),
        _ => None,
    }
}
