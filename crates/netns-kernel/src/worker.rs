//! Performing operations: the one place where a [`KernelOp`] becomes system calls.
//!
//! Owns the links known within a batch and the private namespace from which links are created. Must never try again by itself,
//! nor let one task's failure reach another. Start reading at [`Worker::perform`].

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

/// Into how many parts a group of packed tasks is divided at most, and how many tasks make a part of their own.
const PARTS_MAX: usize = 4;
const PART_MIN: usize = 250;

/// Batches of at least so many tasks are parts of a large change.
const LARGE_MIN: usize = 100;
/// What a large batch knows of links is kept for the next large one if that comes so soon.
const KEPT: Duration = Duration::from_millis(50);

/// Where an operation works: namespace, kernel name of the link, and what must hold of it.
pub(super) type On<'a> = (NetnsId, &'a str, &'a Guard);

/// The state of the thread that performs operations.
pub(super) struct Worker {
    /// The pinned namespaces.
    pub namespaces: Namespaces,
    /// A socket in an empty namespace that nobody else knows: a name in a creating request is then only ever looked up where
    /// the link is to be, and never meets a link of the agent's own namespace.
    pub nursery: RouteSocket,
    /// Links by namespace and name, read within this batch or kept from the one before.
    pub links: HashMap<(NetnsId, String), LinkState>,
    /// Routes that were read within this batch.
    pub known_routes: Option<KnownRoutes>,
    /// Until when the links are kept for the next batch.
    kept_until: Option<Instant>,
}

impl Worker {
    /// A worker over a table of namespaces.
    pub fn new(namespaces: Namespaces, nursery: RouteSocket) -> Self {
        Self {
            namespaces,
            nursery,
            links: HashMap::new(),
            known_routes: None,
            kept_until: None,
        }
    }

    /// When to call [`Self::tidy`] if there is no batch before.
    pub fn deadline(&self) -> Option<Instant> {
        self.kept_until
    }

    /// Forgets what was kept for a batch that has not come.
    pub fn tidy(&mut self) {
        if self.kept_until.take_if(|until| *until <= Instant::now()).is_some() {
            self.links = HashMap::new();
        }
    }

    /// Performs a batch. Tasks next to each other that only delete links are performed together: each deletion waits about
    /// 18 ms for the kernel, and waiting together costs no more than waiting once. So are those that only open a namespace, and those
    /// whose requests can be packed: of very many, the outcomes that are there are told to `early`. Answers all others.
    pub fn perform(&mut self, tasks: Vec<Task>, early: &mut dyn FnMut(Vec<Outcome>)) -> Vec<Outcome> {
        let large = tasks.len() >= LARGE_MIN;
        // Nothing is known for certain of links since the last batch. Of a large change, each link would be looked up once for each
        // batch, which took a tenth of its time, and a link that was replaced since is found out: its index is not given to another
        // one soon, so the kernel refuses, and the task looks again.
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
                    // With a link goes its peer, in whichever namespace that is.
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
                        // Each one that is opened leaves fewer descriptors to the next.
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

    /// Performs tasks for which a path was opened ahead.
    pub fn perform_opened(&mut self, tasks: Vec<Task>, path: &Path, opening: Opening) -> Vec<Outcome> {
        self.namespaces.offer(path, opening);
        let outcomes = self.perform(tasks, &mut |_| {});
        self.namespaces.withdraw(path);
        outcomes
    }

    /// Performs tasks that only open a namespace: those that have to be created are created together, and all are read together.
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

    /// Performs operations of a task, in order; the first failure ends it.
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

    /// What is on links: VLANs, addresses, neighbours and routes.
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
            // All others are performed by who calls this.
            _ => Ok(()),
        };
        done.map(|()| Reply::Done)
    }

    /// Without the link there is nothing to take away. A link that is no port has no VLANs (EOPNOTSUPP): its release took them.
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
        // With the link goes its peer, in whichever namespace that is.
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

    /// Removes something from a link. Without the namespace or the link, and when the kernel answers with one of `gone`, there is
    /// nothing to remove.
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

    /// Performs a change that needs the index of a link. An index from the cache may be old: then it is looked up anew, once.
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
                    "will not {} in {}: the link is not the agent's ({}); somebody replaced the one that was",
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

    /// A link that must exist; `verb` completes "cannot … link".
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

    /// A link, if it exists; read once in a batch.
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

/// Whether the kernel has such an object already.
pub(super) fn is_eexist(result: &Result<(), Failure>) -> bool {
    result.as_ref().is_err_and(|failure| failure.kind == FailureKind::Exists)
}

/// A link is not the agent's.
pub(super) fn foreign(action: &str, found: &LinkState, place: &str) -> Failure {
    failure::foreign(format!(
        "will not {action} link \"{}\" in {place}: it is not the agent's ({}); rename or remove that link, or choose another name",
        found.name,
        link::describe(found)
    ))
}

/// A link does not exist.
pub(super) fn missing(action: &str, name: &str, place: &str) -> Failure {
    let refusal = Refusal {
        errno: Errno::ENODEV as i32,
        text: Some(format!("no link \"{name}\"")),
    };
    failure::refused(action, place, &refusal)
}

/// Work that neighbouring tasks do better together.
#[derive(Clone, Copy, PartialEq, Eq)]
enum SharedWork {
    /// All operations delete links.
    LinkDeletion,
    /// The only operation opens a namespace.
    Opening,
    /// The only operation reads a namespace.
    Reading,
    /// All operations have a packed form.
    Packing,
}

/// Parts of a large group that are packed one after the other. More would leave too few requests of one namespace to be packed.
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
