//! A simulated machine from the agent's point of view. Implements the agent's host traits on top of the simulated kernel.

use std::{
    collections::BTreeMap,
    io,
    path::Path,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::time::Instant;

use super::{
    choices::{Choices, Site},
    configuration::{CREATED_NAME, CREATED_PLACE, FILE, FILE_PLACE, FOREIGN_NAME, FOREIGN_PLACE, OWN_PLACE, PID, PLACES, PROCESS_PLACE},
    kernel::{Kernel, OWN},
};
use crate::{
    agent::host::{Host, ReferenceWatcher},
    signals::namespaces::{Binding, Target, entry::Entry, observation::Observation},
};
use netns_kernel::{Failure, NamedTarget, NamespaceRef, NetnsId};

/// Watched namespace reference, with the time of its next check. The time is `None` if the agent has already seen the current
/// state, so no check is necessary.
struct Watched {
    entry: Entry,
    due: Option<Duration>,
}

/// A simulated machine, with the references that the agent watches.
pub struct Machine {
    /// The simulated kernel of the machine.
    pub kernel: Kernel,
    watched: BTreeMap<String, Watched>,
    now: Duration,
    /// Instant at simulated time zero.
    origin: Instant,
    references: u64,
}

/// A simulated machine, shared between the world and its agent.
#[derive(Clone)]
pub struct SharedMachine(Arc<Mutex<Machine>>);

impl SharedMachine {
    /// Creates a machine with this kernel.
    pub fn new(kernel: Kernel) -> Self {
        SharedMachine(Arc::new(Mutex::new(Machine {
            kernel,
            watched: BTreeMap::new(),
            now: Duration::ZERO,
            origin: Instant::now(),
            references: 0,
        })))
    }

    /// Locks and returns the machine. Do not hold the guard while calling the agent, which locks the machine as well.
    pub fn get(&self) -> MutexGuard<'_, Machine> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Machine {
    /// Advances the clock. Schedules checks of references if names or processes have changed.
    pub fn pass_time(&mut self, now: Duration, choices: &mut Choices) {
        self.now = now;
        if std::mem::replace(&mut self.references, self.kernel.references) == self.kernel.references {
            return;
        }
        let instant = self.origin + now;
        for watched in self.watched.values_mut() {
            let soon = now + choices.delay(Site::Check, 3000);
            let due = match watched.entry.target {
                Target::Named(_) => {
                    watched.entry.start_burst(instant);
                    soon
                }
                // The agent has an open pidfd for a process that it has found, so it soon notices the end of the process.
                Target::Process(_) if watched.entry.process().is_some() => soon,
                _ => watched.entry.next_check(instant, self.origin, false).duration_since(self.origin),
            };
            watched.due = Some(watched.due.map_or(due, |planned| planned.min(due)));
        }
    }

    /// Returns the time of the next scheduled check of a reference.
    pub fn next_check(&self) -> Option<Duration> {
        self.watched.values().filter_map(|watched| watched.due).min()
    }

    /// Checks the references whose next check is due, and returns the keys to report to the agent.
    pub fn look(&mut self) -> Vec<String> {
        let (now, origin) = (self.now, self.origin);
        let mut reported = Vec::new();
        for (key, watched) in self
            .watched
            .iter_mut()
            .filter(|(_, watched)| watched.due.is_some_and(|due| due <= now))
        {
            let seen = observe(&self.kernel, &watched.entry.target);
            let news = watched.entry.learn(seen, origin + now, OWN.0);
            if news {
                reported.push(key.clone());
            }
            let evented = matches!(watched.entry.target, Target::Named(_)) || watched.entry.process().is_some();
            let next = watched.entry.next_check(origin + now, origin, evented).duration_since(origin);
            watched.due = (!watched.entry.agrees(seen)).then_some(next);
        }
        reported
    }

    /// Closes all namespaces and drops all watched references of an agent that has ended.
    pub fn agent_gone(&mut self) {
        self.kernel.agent_gone();
        self.watched.clear();
    }
}

fn observe(kernel: &Kernel, target: &Target) -> Observation {
    match target {
        Target::Named(name) => named(kernel, name),
        Target::File(path) => file_name(path).map_or(Observation::Absent, |name| named(kernel, name)),
        Target::Process(pid) => match kernel.processes.get(pid) {
            Some(process) => Observation::Present {
                inode: process.netns.0,
                start_time: Some(process.start_time),
            },
            None => Observation::Absent,
        },
    }
}

fn named(kernel: &Kernel, name: &str) -> Observation {
    match kernel.names.get(name) {
        Some(netns) => Observation::Present {
            inode: netns.0,
            start_time: None,
        },
        None if kernel.dangling.contains(name) => Observation::Obstructed,
        None => Observation::Absent,
    }
}

fn file_name(path: &Path) -> Option<&str> {
    path.to_str()?.strip_prefix("/run/netns/")
}

impl Host for SharedMachine {
    fn own_namespace(&self) -> NetnsId {
        OWN
    }

    fn is_watched(&self, netns: NetnsId) -> bool {
        self.get().kernel.is_watched(netns)
    }

    fn rearm(&self, netns: NetnsId) {
        self.get().kernel.rearm(netns);
    }

    fn listen(&self, on: bool) {
        self.get().kernel.deaf = !on;
    }

    fn named(&self) -> Result<Vec<(String, NamedTarget)>, Failure> {
        let machine = self.get();
        let names = machine.kernel.names.iter();
        let dangling = machine.kernel.dangling.iter();
        let nothing = dangling.map(|name| (name.clone(), NamedTarget::NotANamespace { orphan_of: None }));
        Ok(names
            .map(|(name, netns)| (name.clone(), NamedTarget::Namespace(*netns)))
            .chain(nothing)
            .collect())
    }

    fn remove_orphan(&self, _: &str, _: &str) -> Result<bool, Failure> {
        Ok(false)
    }

    fn processes(&self) -> io::Result<Vec<(NetnsId, i32)>> {
        let machine = self.get();
        let processes = machine.kernel.processes.iter();
        Ok(processes.map(|(pid, process)| (process.netns, *pid)).collect())
    }

    fn namespace_of(&self, pid: i32) -> Option<NetnsId> {
        self.get().kernel.processes.get(&pid).map(|process| process.netns)
    }
}

impl ReferenceWatcher for SharedMachine {
    fn watch(&self, key: String, target: Target, binding: Binding) {
        let machine = &mut *self.get();
        let before = machine.watched.remove(&key).map(|watched| watched.entry);
        let watched = Watched {
            entry: Entry::new(target, binding, before),
            due: Some(machine.now),
        };
        machine.watched.insert(key, watched);
    }

    fn unwatch(&self, key: &str) {
        self.get().watched.remove(key);
    }
}

/// Returns the namespace reference that a number stands for, or `None` for the container's namespace, which only Docker can find.
fn reference(place: usize) -> Option<NamespaceRef> {
    Some(match place {
        OWN_PLACE => NamespaceRef::Own,
        FOREIGN_PLACE => NamespaceRef::Named(FOREIGN_NAME.to_owned()),
        CREATED_PLACE => NamespaceRef::Named(CREATED_NAME.to_owned()),
        PROCESS_PLACE => NamespaceRef::Process(PID),
        FILE_PLACE => NamespaceRef::File(FILE.into()),
        _ => return None,
    })
}

/// Returns the current namespace of each namespace reference, indexed by the number that stands for the reference. The element
/// is `None` if the namespace does not exist. `container` is the PID of the main process of the container that has the label.
pub fn places(kernel: &Kernel, container: Option<i32>) -> Vec<Option<NetnsId>> {
    let place = |place| match reference(place) {
        Some(reference) => kernel.find(&reference).ok().map(|(netns, _)| netns),
        None => kernel.processes.get(&container?).map(|process| process.netns),
    };
    (0..PLACES).map(place).collect()
}
