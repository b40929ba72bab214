//! Container registry: decides which running container has which microservice label.
//!
//! Performs no I/O and reads no clock: [`ContainerRegistry::step`] receives facts as [`Input`] and returns decisions as
//! [`Action`].
//!
//! Docker's events serve only as hints to inspect a container again, so lost, late or repeated events cannot lead to a wrong
//! state. The result of an inspection is valid until the container's main process ends or a later inspection gives a different
//! result.
//!
//! # Guarantees
//!
//! For each label, `Available` and `Gone` strictly alternate, starting with `Available`. The process in `Available` was alive
//! when its pidfd was opened. If several containers have the same label, the newest one gets it.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::{Duration, SystemTime},
};

use super::{GoneReason, Microservice, MicroserviceChange};

/// Maximum number of consecutive failed inspections of a container. After that, the container is
/// inspected again only when another event or listing names it.
const ATTEMPTS_MAX: u32 = 6;
/// Pause before the first retry. The pause doubles with each retry, so that all retries together take about 300 ms.
const RETRY_PAUSE: Duration = Duration::from_millis(10);

/// A container in the daemon's list.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct ListedContainer {
    pub(crate) container_id: String,
    /// Name without the leading slash.
    pub(crate) name: Option<String>,
}

/// Result of an inspection and, for a running microservice, of opening a pidfd for its main process.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Inspection {
    /// The container is a microservice, and the agent has a pidfd for its main process.
    Running(Microservice),
    /// The container is not running or no longer exists.
    NotRunning,
    /// The container is running but cannot be a microservice, because it has no label or is in the agent's own namespace.
    NotMicroservice,
    /// The state of the container is unknown, because the daemon failed or no pidfd for the process could be opened.
    Failed(String),
}

/// Identity of a container's main process, which distinguishes one run of the container from the next.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) struct ProcessIdentity {
    pub(crate) pid: i32,
    pub(crate) start_time: u64,
}

impl ProcessIdentity {
    pub(crate) fn of(microservice: &Microservice) -> Self {
        Self {
            pid: microservice.pid,
            start_time: microservice.process_start_time,
        }
    }
}

/// Input to the registry.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Input {
    /// A connection to the daemon was established. [`Input::Listed`] will follow.
    Connected,
    /// The daemon's list of running containers.
    Listed(Vec<ListedContainer>),
    /// The daemon has reported an event for this container, so the container must be inspected again.
    Hint { container_id: String },
    /// Result of [`Action::Inspect`].
    Inspected { container_id: String, found: Inspection },
    /// A watched main process ended.
    ProcessEnded { container_id: String, process: ProcessIdentity },
    /// The daemon cannot be reached.
    Disconnected { message: String },
}

/// Action that the caller must carry out.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Action {
    /// Send this change to the receiver of changes.
    Announce(MicroserviceChange),
    /// Inspect a container after a pause (usually zero), and pass the result to the registry as [`Input::Inspected`].
    Inspect { container_id: String, pause: Duration },
    /// Log that the state of a container is unknown. The container is not inspected again before the next hint or list.
    GiveUp { container_id: String, message: String },
}

/// An inspection in flight.
#[derive(Default, Debug)]
struct Outstanding {
    /// Number of consecutive failed inspections of this container.
    failures: u32,
    /// True if a hint has arrived since the inspection was requested, so that its result may be outdated.
    repeat: bool,
}

/// Progress of the comparison with the daemon's list.
#[derive(PartialEq, Eq, Debug)]
enum Sync {
    /// No list has arrived since the connection was established.
    AwaitsList,
    /// These containers still have to be inspected.
    Inspects(BTreeSet<String>),
    /// The comparison is complete.
    Done,
}

/// Registry of containers and their labels.
#[derive(Debug)]
pub(crate) struct ContainerRegistry {
    /// Microservices with a watched main process that is not known to have ended, by container id.
    running: BTreeMap<String, Microservice>,
    /// Creation times and ids of the containers in `running`, by label. The last container in each set is the newest, so it
    /// should be assigned the label.
    claims: BTreeMap<String, BTreeSet<(SystemTime, String)>>,
    /// Container that was last reported for each label, with the identity of its main process.
    announced: BTreeMap<String, (String, ProcessIdentity)>,
    /// Running containers that are not microservices. They are not inspected again for a new list, because their label and
    /// namespace cannot change while they run.
    dismissed: BTreeSet<String>,
    outstanding: BTreeMap<String, Outstanding>,
    sync: Sync,
    /// True once a list has been processed. No container is reported before that, because the first container to be inspected may
    /// not be the newest one with its label.
    synced_once: bool,
    connected: bool,
    /// Error message that was last reported in the current outage, so that it is not reported twice. `None` while connected.
    outage: Option<String>,
}

impl Default for ContainerRegistry {
    fn default() -> Self {
        Self {
            running: BTreeMap::new(),
            claims: BTreeMap::new(),
            announced: BTreeMap::new(),
            dismissed: BTreeSet::new(),
            outstanding: BTreeMap::new(),
            sync: Sync::Done,
            synced_once: false,
            connected: false,
            outage: None,
        }
    }
}

impl ContainerRegistry {
    /// Processes an input. Returns the actions that the caller must carry out, in order.
    pub(crate) fn step(&mut self, input: Input) -> Vec<Action> {
        let mut actions = Vec::new();
        match input {
            Input::Connected => {
                self.connected = true;
                self.outage = None;
                self.sync = Sync::AwaitsList;
            }
            Input::Listed(listed) => self.listed(listed, &mut actions),
            Input::Hint { container_id } => self.inspect_again(container_id, &mut actions),
            Input::Inspected { container_id, found } => self.inspected(container_id, found, &mut actions),
            Input::ProcessEnded { container_id, process } => {
                let current = self.running.get(&container_id).map(ProcessIdentity::of);
                if current == Some(process) {
                    self.remove(&container_id, GoneReason::ProcessEnded, &mut actions);
                }
                // The container may have been restarted before the end of its process was noticed.
                self.inspect_again(container_id, &mut actions);
            }
            Input::Disconnected { message } => self.disconnected(message, &mut actions),
        }
        actions
    }

    /// Returns whether a container is known to be running.
    #[cfg(test)]
    fn runs(&self, container_id: &str) -> bool {
        self.running.contains_key(container_id)
    }

    /// Compares the daemon's list with the known containers. Inspects each container that is missing from the list or from the
    /// known containers, because the list may be older than events that have already arrived.
    fn listed(&mut self, listed: Vec<ListedContainer>, actions: &mut Vec<Action>) {
        let present: BTreeSet<String> = listed.iter().map(|container| container.container_id.clone()).collect();
        for container in listed {
            if let (Some(known), Some(name)) = (self.running.get_mut(&container.container_id), container.name) {
                known.container_name = name;
            }
        }
        self.dismissed.retain(|container_id| present.contains(container_id));
        let appeared = present
            .iter()
            .filter(|&id| !self.running.contains_key(id) && !self.dismissed.contains(id));
        let disappeared = self.running.keys().filter(|&id| !present.contains(id));
        let doubtful: BTreeSet<String> = appeared.chain(disappeared).cloned().collect();
        for container_id in &doubtful {
            self.inspect_again(container_id.clone(), actions);
        }
        if self.sync == Sync::AwaitsList {
            self.sync = Sync::Inspects(doubtful);
            self.finish_sync(actions);
        }
    }

    /// Requests an inspection. At most one inspection of a container is in flight, and at most one more is pending.
    fn inspect_again(&mut self, container_id: String, actions: &mut Vec<Action>) {
        self.dismissed.remove(&container_id);
        if !self.connected {
            return;
        }
        if let Some(outstanding) = self.outstanding.get_mut(&container_id) {
            outstanding.repeat = true;
        } else {
            self.outstanding.insert(container_id.clone(), Outstanding::default());
            actions.push(Action::Inspect {
                container_id,
                pause: Duration::ZERO,
            });
        }
    }

    fn inspected(&mut self, container_id: String, found: Inspection, actions: &mut Vec<Action>) {
        let outstanding = self.outstanding.remove(&container_id).unwrap_or_default();
        let message = match found {
            Inspection::Running(microservice) => {
                self.insert(microservice, actions);
                None
            }
            Inspection::NotRunning => {
                self.remove(&container_id, GoneReason::NotRunning, actions);
                None
            }
            Inspection::NotMicroservice => {
                self.remove(&container_id, GoneReason::NotRunning, actions);
                self.dismissed.insert(container_id.clone());
                None
            }
            Inspection::Failed(message) => Some(message),
        };
        if outstanding.repeat {
            self.inspect_again(container_id.clone(), actions);
        } else if let Some(message) = message {
            self.retry(&container_id, outstanding.failures + 1, message, actions);
        }
        if let Sync::Inspects(open) = &mut self.sync {
            open.remove(&container_id);
            self.finish_sync(actions);
        }
    }

    fn retry(&mut self, container_id: &str, failures: u32, message: String, actions: &mut Vec<Action>) {
        let container_id = container_id.to_owned();
        if failures >= ATTEMPTS_MAX {
            actions.push(Action::GiveUp { container_id, message });
        } else if self.connected {
            let pause = RETRY_PAUSE * 2_u32.pow(failures - 1);
            self.outstanding
                .insert(container_id.clone(), Outstanding { failures, repeat: false });
            actions.push(Action::Inspect { container_id, pause });
        }
    }

    fn finish_sync(&mut self, actions: &mut Vec<Action>) {
        if matches!(&self.sync, Sync::Inspects(open) if open.is_empty()) {
            self.sync = Sync::Done;
            self.synced_once = true;
            self.debounce_all(actions);
            actions.push(Action::Announce(MicroserviceChange::Synced));
        }
    }

    fn disconnected(&mut self, message: String, actions: &mut Vec<Action>) {
        self.connected = false;
        self.outstanding.clear();
        self.sync = Sync::Done;
        // Report changes now instead of waiting for the comparison, because the daemon may be unreachable for a long time.
        self.debounce_all(actions);
        if self.outage.as_ref() != Some(&message) {
            self.outage = Some(message.clone());
            actions.push(Action::Announce(MicroserviceChange::Disconnected { message }));
        }
    }

    fn insert(&mut self, microservice: Microservice, actions: &mut Vec<Action>) {
        let container_id = microservice.container_id.clone();
        if let Some(known) = self.running.get_mut(&container_id) {
            if ProcessIdentity::of(known) == ProcessIdentity::of(&microservice) {
                known.container_name = microservice.container_name;
                return;
            }
            self.remove(&container_id, GoneReason::ProcessEnded, actions);
        }
        let label = microservice.label.clone();
        self.claims
            .entry(label.clone())
            .or_default()
            .insert((microservice.created, container_id.clone()));
        self.running.insert(container_id, microservice);
        self.debounce(&label, actions);
    }

    fn remove(&mut self, container_id: &str, reason: GoneReason, actions: &mut Vec<Action>) {
        let Some(microservice) = self.running.remove(container_id) else {
            return;
        };
        let label = microservice.label;
        if let Some(claims) = self.claims.get_mut(&label) {
            claims.remove(&(microservice.created, container_id.to_owned()));
            if claims.is_empty() {
                self.claims.remove(&label);
            }
        }
        if self.announced.get(&label).is_some_and(|(holder, _)| holder == container_id) {
            self.withdraw(&label, reason, actions);
        }
        self.debounce(&label, actions);
    }

    /// Returns whether labels may be assigned to other containers now. Assignments wait until the first list has been processed,
    /// and until a running comparison with a list is complete. The loss of a label's container is always reported at once.
    fn may_debounce(&self) -> bool {
        self.synced_once && !matches!(self.sync, Sync::Inspects(_))
    }

    fn debounce_all(&mut self, actions: &mut Vec<Action>) {
        let labels: Vec<String> = self.claims.keys().cloned().collect();
        for label in labels {
            self.debounce(&label, actions);
        }
    }

    /// Assigns a label to the newest running container that has it. Does nothing if no label may be assigned now.
    fn debounce(&mut self, label: &str, actions: &mut Vec<Action>) {
        if !self.may_debounce() {
            return;
        }
        let newest = self.claims.get(label).and_then(BTreeSet::last);
        let Some(newest) = newest.and_then(|(_, container_id)| self.running.get(container_id)).cloned() else {
            return;
        };
        let holder = (newest.container_id.clone(), ProcessIdentity::of(&newest));
        match self.announced.get(label) {
            Some(announced) if *announced == holder => return,
            Some(_) => self.withdraw(
                label,
                GoneReason::Superseded {
                    by: newest.container_id.clone(),
                },
                actions,
            ),
            None => {}
        }
        self.announced.insert(label.to_owned(), holder);
        actions.push(Action::Announce(MicroserviceChange::Available(newest)));
    }

    fn withdraw(&mut self, label: &str, reason: GoneReason, actions: &mut Vec<Action>) {
        if let Some((container_id, _)) = self.announced.remove(label) {
            actions.push(Action::Announce(MicroserviceChange::Gone {
                label: label.to_owned(),
                container_id,
                reason,
            }));
        }
    }
}

#[cfg(test)]
#[path = "registry_tests.rs"]
mod tests;
