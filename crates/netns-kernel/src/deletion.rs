//! Deletes many links at once.
//!
//! Each deletion request takes the kernel about 18 ms (`rcu_barrier`), regardless of the number of links. Concurrent requests
//! share this time. Therefore the links in one namespace are put into a temporary interface group and deleted with a single
//! request, and several threads process the namespaces in parallel. A link is deleted only if its guard allows it.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Mutex,
    thread,
    time::{SystemTime, UNIX_EPOCH},
};

use nix::errno::Errno;

use super::{
    failure,
    link::{self, LinkRequest},
    netlink::{Refusal, RouteSocket},
    operation::{ADOPTED_MARK, Failure, Guard, KernelOp, LinkState, NetnsId, Outcome, Reply, Task},
    pinned::Namespaces,
    table::Pinned,
    worker::foreign,
};

/// Maximum number of threads that wait for deletions. A waiting thread uses no CPU time.
const THREADS_MAX: usize = 32;

/// A link to delete, and the index of the task that deletes it.
struct ToDelete {
    task: usize,
    link: LinkState,
    /// True if the link was put into the temporary group of this batch.
    grouped: bool,
}

/// The links to delete in one namespace.
struct Job<'a> {
    pinned: &'a mut Pinned,
    to_delete: Vec<ToDelete>,
}

/// Performs tasks that only delete links. The outcomes are in the order of the tasks.
pub(super) fn delete_links(namespaces: &mut Namespaces, tasks: &[Task]) -> Vec<Outcome> {
    let mut failures: Vec<Option<Failure>> = vec![None; tasks.len()];
    let mut to_delete: BTreeMap<NetnsId, Vec<ToDelete>> = BTreeMap::new();
    let known = look_up(namespaces, tasks);
    for (index, task) in tasks.iter().enumerate() {
        match select(namespaces, &known, task) {
            Ok(links) => links.into_iter().for_each(|(netns, link)| {
                to_delete.entry(netns).or_default().push(ToDelete {
                    task: index,
                    link,
                    grouped: false,
                })
            }),
            Err(failure) => failures[index] = Some(failure),
        }
    }
    let group = fresh_group();
    let places: Vec<NetnsId> = to_delete.keys().copied().collect();
    for together in places.chunks(namespaces.together_max()) {
        let job = |(netns, pinned)| {
            Some(Job {
                to_delete: to_delete.remove(&netns)?,
                pinned,
            })
        };
        let jobs = namespaces.several_mut(together).into_iter().filter_map(job).collect();
        for (task, failure) in delete_all(jobs, group) {
            failures[task].get_or_insert(failure);
        }
    }
    // The sockets in these namespaces could not be opened. Request each namespace again to get the reason.
    for (netns, to_delete) in to_delete {
        let failed = match namespaces.get_mut(netns) {
            Ok(pinned) => delete_all(vec![Job { pinned, to_delete }], group),
            Err(failure) => to_delete.iter().map(|to_delete| (to_delete.task, failure.clone())).collect(),
        };
        for (task, failure) in failed {
            failures[task].get_or_insert(failure);
        }
    }
    let outcome = |(task, failure): (&Task, Option<Failure>)| Outcome {
        id: task.id,
        result: failure.map_or(Ok(Reply::Done), Err),
    };
    tasks.iter().zip(failures).map(outcome).collect()
}

/// Reads the links of all tasks, one namespace at a time.
fn look_up(namespaces: &mut Namespaces, tasks: &[Task]) -> HashMap<(NetnsId, String), LinkState> {
    let mut names: BTreeMap<NetnsId, Vec<&str>> = BTreeMap::new();
    for op in tasks.iter().flat_map(|task| &task.ops) {
        if let KernelOp::DeleteLink { netns, name, .. } = op {
            names.entry(*netns).or_default().push(name);
        }
    }
    let mut known = HashMap::new();
    for (netns, names) in names {
        if let Ok(pinned) = namespaces.get_mut(netns) {
            let found = link::find_all(&mut pinned.route, &names).into_iter();
            known.extend(found.map(|link| ((netns, link.name.clone()), link)));
        }
    }
    known
}

/// Returns the existing links that a task deletes. Fails if one of these links does not belong to the agent.
fn select(
    namespaces: &mut Namespaces,
    known: &HashMap<(NetnsId, String), LinkState>,
    task: &Task,
) -> Result<Vec<(NetnsId, LinkState)>, Failure> {
    let mut links = Vec::with_capacity(task.ops.len());
    for op in &task.ops {
        let KernelOp::DeleteLink { netns, name, guard } = op else {
            continue;
        };
        if !namespaces.contains(*netns) {
            continue;
        }
        let pinned = namespaces.get_mut(*netns)?;
        let found = match known.get(&(*netns, name.clone())) {
            Some(found) => Some(found.clone()),
            // The first read found no link or failed, so read the link again.
            None => link::find(&mut pinned.route, name)
                .map_err(|refusal| failure::refused(&format!("look up link \"{name}\""), &pinned.place, &refusal))?,
        };
        match found {
            Some(found) if matches!(guard, Guard::OwnCreation { .. }) && found.alias.ends_with(ADOPTED_MARK) => {}
            Some(found) if link::guard(guard, &found) => links.push((*netns, found)),
            Some(found) => return Err(foreign("delete", &found, &pinned.place)),
            None => {}
        }
    }
    Ok(links)
}

/// Puts the links of a namespace into the temporary group if there are several links to delete.
///
/// Skips links without an alias. The group is the only ownership mark of such a link, and the mark must not be lost if the
/// agent is killed before the deletion.
fn put_into_group(socket: &mut RouteSocket, to_delete: &mut [ToDelete], group: u32) {
    let mut to_delete: Vec<&mut ToDelete> = to_delete.iter_mut().filter(|to_delete| !to_delete.link.alias.is_empty()).collect();
    if to_delete.len() > 1 {
        let request = LinkRequest {
            group: Some(group),
            ..LinkRequest::default()
        };
        let answers = socket.exchange(
            to_delete
                .iter()
                .map(|to_delete| request.clone().message(to_delete.link.index))
                .collect(),
        );
        for (to_delete, answer) in to_delete.iter_mut().zip(answers) {
            to_delete.grouped = answer.is_ok();
        }
    }
}

/// Runs the jobs on several threads. Returns each failure with the index of its task.
fn delete_all(jobs: Vec<Job<'_>>, group: u32) -> Vec<(usize, Failure)> {
    let threads = jobs.len().min(THREADS_MAX);
    let jobs = Mutex::new(jobs);
    // The lock is held only during `pop`, which cannot panic.
    let next = || jobs.lock().ok().and_then(|mut jobs| jobs.pop());
    let work = || {
        let mut failures = Vec::new();
        while let Some(job) = next() {
            delete_in_namespace(job, group, &mut failures);
        }
        failures
    };
    thread::scope(|scope| {
        let spawn = |_| {
            thread::Builder::new()
                .name("netns-delete".to_owned())
                .spawn_scoped(scope, work)
                .ok()
        };
        let others: Vec<_> = (1..threads).filter_map(spawn).collect();
        // The current thread also runs jobs, so all jobs are done even if no other thread can be started.
        let mut failures = work();
        failures.extend(others.into_iter().filter_map(|thread| thread.join().ok()).flatten());
        failures
    })
}

fn delete_in_namespace(job: Job<'_>, group: u32, failures: &mut Vec<(usize, Failure)>) {
    let Job { pinned, mut to_delete } = job;
    put_into_group(&mut pinned.route, &mut to_delete, group);
    let group_is_gone = to_delete.iter().any(|to_delete| to_delete.grouped) && {
        let (message, flags) = link::delete_group(group);
        match pinned.route.change(message, flags) {
            Ok(()) => true,
            // ENODEV means that the group is empty, because its links were deleted together with their peers. Any other error
            // means that the kernel cannot delete one of the links and has therefore deleted none of them.
            Err(refusal) => refusal.is(Errno::ENODEV),
        }
    };
    for to_delete in to_delete.iter().filter(|to_delete| !(group_is_gone && to_delete.grouped)) {
        if let Err(refusal) = delete_one(&mut pinned.route, to_delete) {
            let action = format!("delete link \"{}\"", to_delete.link.name);
            failures.push((to_delete.task, failure::refused(&action, &pinned.place, &refusal)));
        }
    }
}

/// Deletes one link, if it still exists. If the deletion fails, restores the link's original group.
fn delete_one(socket: &mut RouteSocket, to_delete: &ToDelete) -> Result<(), Refusal> {
    let (message, flags) = link::delete(to_delete.link.index);
    match socket.change(message, flags) {
        Ok(()) => Ok(()),
        Err(refusal) if refusal.is(Errno::ENODEV) => Ok(()),
        Err(refusal) => {
            if to_delete.grouped {
                let (message, flags) = LinkRequest {
                    group: Some(to_delete.link.group),
                    ..LinkRequest::default()
                }
                .message(to_delete.link.index);
                let _ = socket.change(message, flags);
            }
            Err(refusal)
        }
    }
}

/// Returns the number of a new temporary group.
///
/// Each batch uses a new group. After a crash between grouping and deletion, the links in the old group may be in use again, and
/// a later batch must not delete them.
fn fresh_group() -> u32 {
    let nanoseconds = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_nanos());
    // The highest bit distinguishes temporary groups from provisional groups.
    0x8000_0000 | (nanoseconds & 0x7fff_ffff) as u32
}
