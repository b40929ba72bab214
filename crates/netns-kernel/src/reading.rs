//! Reads many namespaces at once, on the executor's thread and temporary threads. Never changes anything inside a namespace.

use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
    thread,
};

use super::{
    operation::{Failure, KernelOp, NetnsId, Outcome, Reply, Snapshot, Task},
    pinned::Namespaces,
    table::Pinned,
};

/// Number of threads that read namespaces. Two threads take half the time of one. More threads were not faster on any measured
/// machine.
const THREADS: usize = 2;
/// Minimum number of namespaces for which a second thread is started. Starting a thread takes as long as reading a few
/// namespaces.
const NAMESPACES_MIN: usize = 8;

/// Contents of each namespace, or the reason why a namespace could not be read.
pub(super) type Contents = HashMap<NetnsId, Result<Snapshot, Failure>>;

impl Namespaces {
    /// Reads each pinned namespace in `wanted` once. Omits namespaces that are not pinned.
    pub(super) fn read_all(&mut self, wanted: &[NetnsId]) -> Contents {
        let mut contents = Contents::with_capacity(wanted.len());
        for together in wanted.chunks(self.together_max()) {
            contents.extend(read_together(self.several_mut(together)));
        }
        contents
    }

    /// Performs tasks that contain a single operation, which reads a pinned namespace. The outcomes are in the order of the
    /// tasks.
    pub(super) fn perform_readings(&mut self, tasks: &[Task]) -> Vec<Outcome> {
        let netns_of = |task: &Task| match task.ops.as_slice() {
            [KernelOp::DumpNamespace { netns }] => Some(*netns),
            _ => None,
        };
        let wanted: Vec<NetnsId> = tasks.iter().filter_map(netns_of).collect();
        let mut contents = self.read_all(&wanted);
        let mut outcome = |task: &Task| {
            let netns = netns_of(task)?;
            // Read the namespace again if an earlier task has received its contents. Reading a namespace that is not pinned
            // returns the error.
            let read = contents.remove(&netns).unwrap_or_else(|| self.read(netns));
            let result = read.map(|found| Reply::Contents(Box::new(found)));
            Some(Outcome { id: task.id, result })
        };
        tasks.iter().filter_map(&mut outcome).collect()
    }
}

fn read_together(namespaces: Vec<(NetnsId, &mut Pinned)>) -> Vec<(NetnsId, Result<Snapshot, Failure>)> {
    let helpers = if namespaces.len() < NAMESPACES_MIN { 0 } else { THREADS - 1 };
    let turn = Mutex::new(namespaces.into_iter());
    let next = || turn.lock().unwrap_or_else(PoisonError::into_inner).next();
    let work = || {
        let mut read = Vec::new();
        while let Some((netns, pinned)) = next() {
            read.push((netns, pinned.read()));
        }
        read
    };
    thread::scope(|scope| {
        let spawn = |_| thread::Builder::new().name("netns-read".to_owned()).spawn_scoped(scope, work).ok();
        let others: Vec<_> = (0..helpers).filter_map(spawn).collect();
        // The current thread also reads, so all namespaces are read even if no other thread can be started.
        let mut read = work();
        read.extend(others.into_iter().filter_map(|thread| thread.join().ok()).flatten());
        read
    })
}
