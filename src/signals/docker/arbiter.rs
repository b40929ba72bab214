//! Which running container holds which microservice label: the tracker's decisions, without any I/O or clock.
//!
//! Owns what is known about containers and what consumers have been told. Must never ask Docker, look at a process or see a
//! clock: facts come in as [`Input`], decisions go out as [`Action`]. Start reading at [`Arbiter::step`].
//!
//! Docker's events are only hints to inspect a container again, so a lost, late or repeated one cannot lead to a wrong state.
//! What an inspection found holds until the pinned process ends or a later inspection says otherwise.
//!
//! # Guarantees
//!
//! For each label, `Available` and `Gone` strictly alternate, beginning with `Available`; an `Available` is always about a
//! process that was alive when it was pinned; of several containers the newest one holds the label.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::{Duration, SystemTime},
};

use super::{GoneReason, Microservice, MicroserviceChange};

/// How often one container is inspected again because an answer could not be used; then the next hint or list decides.
const ATTEMPTS_MAX: u32 = 6;
/// Pause before the first repetition; it doubles each time, so that all of them take some 300 ms.
const RETRY_PAUSE: Duration = Duration::from_millis(10);

/// A container in the daemon's list.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct ListedContainer {
    pub(crate) container_id: String,
    /// Name without the leading slash.
    pub(crate) name: Option<String>,
}

/// What came out of an inspection and, for a running microservice, of pinning its main process.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Inspection {
    /// It is a microservice and its main process is pinned.
    Running(Microservice),
    /// It does not run, or does not exist any more.
    NotRunning,
    /// It runs, but can never be a microservice: no label, or in the agent's own namespace.
    NotMicroservice,
    /// No usable answer: the daemon failed, or the process could not be pinned. Says nothing about the container.
    Failed(String),
}

/// What distinguishes one run of a container from the next.
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

/// A fact from below.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Input {
    /// The daemon answers; a list will follow.
    Connected,
    /// The daemon's list of running containers.
    Listed(Vec<ListedContainer>),
    /// Something happened to a container.
    Hint { container_id: String },
    /// The answer to [`Action::Inspect`].
    Inspected { container_id: String, found: Inspection },
    /// A pinned main process has ended.
    ProcessEnded { container_id: String, process: ProcessIdentity },
    /// The daemon cannot be reached (any more).
    Disconnected { message: String },
}

/// What is to be done about it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Action {
    /// Tell the consumer.
    Announce(MicroserviceChange),
    /// Inspect a container after a pause (usually none) and report [`Input::Inspected`].
    Inspect { container_id: String, pause: Duration },
    /// Log that a container cannot be judged; nothing is done until the next hint or list.
    GiveUp { container_id: String, message: String },
}

/// An inspection that has been asked for and not been answered.
#[derive(Default, Debug)]
struct Outstanding {
    /// Unusable answers so far.
    failures: u32,
    /// A hint came after it was asked for, so that its answer may be too old.
    repeat: bool,
}

/// How far the comparison with the daemon's list is.
#[derive(PartialEq, Eq, Debug)]
enum Sync {
    /// No list has come since the connection was made.
    AwaitsList,
    /// These containers are still to be inspected.
    Inspects(BTreeSet<String>),
    /// Nothing is open.
    Done,
}

/// The state machine.
#[derive(Debug)]
pub(crate) struct Arbiter {
    /// Every microservice whose process is pinned and was not seen to end, by container.
    running: BTreeMap<String, Microservice>,
    /// The same containers by label, in the order of their claim: the last one is to hold the label.
    claims: BTreeMap<String, BTreeSet<(SystemTime, String)>>,
    /// What consumers have been told: who holds the label.
    announced: BTreeMap<String, (String, ProcessIdentity)>,
    /// Running containers that need no second look: their label and namespace cannot change while they run.
    dismissed: BTreeSet<String>,
    outstanding: BTreeMap<String, Outstanding>,
    sync: Sync,
    /// Whether a list has ever been processed. Before that nothing is announced, so that consumers do not see an older
    /// container first, only because it happened to be inspected first.
    synced_once: bool,
    connected: bool,
    /// The message consumers have been told, to say it once.
    outage: Option<String>,
}

impl Default for Arbiter {
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

impl Arbiter {
    /// Takes in one fact and returns what is to be done, in order.
    pub(crate) fn step(&mut self, input: Input) -> Vec<Action> {
        let mut actions = Vec::new();
        match input {
            Input::Connected => {
                self.connected = true;
                self.outage = None;
                self.sync = Sync::AwaitsList;
            }
            Input::Listed(listed) => self.listed(listed, &mut actions),
            Input::Hint { container_id } => self.look_again(container_id, &mut actions),
            Input::Inspected { container_id, found } => self.inspected(container_id, found, &mut actions),
            Input::ProcessEnded { container_id, process } => {
                let current = self.running.get(&container_id).map(ProcessIdentity::of);
                if current == Some(process) {
                    self.remove(&container_id, GoneReason::ProcessEnded, &mut actions);
                }
                // It may have been started again before its end was seen.
                self.look_again(container_id, &mut actions);
            }
            Input::Disconnected { message } => self.disconnected(message, &mut actions),
        }
        actions
    }

    /// Whether `container_id` is known to run as `process`.
    #[cfg(test)]
    fn runs(&self, container_id: &str) -> bool {
        self.running.contains_key(container_id)
    }

    /// Compares the daemon's list with what is known. Everything in doubt is inspected, because the list is a little older
    /// than the events that came while it was made.
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
            self.look_again(container_id.clone(), actions);
        }
        if self.sync == Sync::AwaitsList {
            self.sync = Sync::Inspects(doubtful);
            self.finish_sync(actions);
        }
    }

    /// At most one inspection of a container is under way, and at most one waits behind it.
    fn look_again(&mut self, container_id: String, actions: &mut Vec<Action>) {
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
            self.look_again(container_id.clone(), actions);
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
            self.settle_all(actions);
            actions.push(Action::Announce(MicroserviceChange::Synced));
        }
    }

    fn disconnected(&mut self, message: String, actions: &mut Vec<Action>) {
        self.connected = false;
        self.outstanding.clear();
        self.sync = Sync::Done;
        // What was held back until the comparison is done must not wait for the daemon's return.
        self.settle_all(actions);
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
        self.settle(&label, actions);
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
        self.settle(&label, actions);
    }

    /// Whether a label may get another holder now. While a comparison with the list is under way, its outcome is awaited;
    /// that a holder is gone is told at once in any case.
    fn may_settle(&self) -> bool {
        self.synced_once && !matches!(self.sync, Sync::Inspects(_))
    }

    fn settle_all(&mut self, actions: &mut Vec<Action>) {
        let labels: Vec<String> = self.claims.keys().cloned().collect();
        for label in labels {
            self.settle(&label, actions);
        }
    }

    /// Makes the newest running container the holder of its label.
    fn settle(&mut self, label: &str, actions: &mut Vec<Action>) {
        if !self.may_settle() {
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
#[path = "arbiter_tests.rs"]
mod tests;
