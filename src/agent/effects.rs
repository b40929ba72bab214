//! Implementation of the engine's effects on a real system: runs kernel operations in the executor and publishes statuses.
//!
//! The effects only report outcomes and observations; the scheduler decides what to do. `outcomes` handles the outcomes of
//! operations, `inspection` handles the contents of namespaces, and `reading_plan` schedules the reads.

mod facts;
mod housekeeping;
mod inspection;
mod namespaces;
mod outcomes;
mod reading_plan;
mod references;

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::Arc,
    time::Duration,
};

use models::key::Key;
use tracing::{debug, warn};

use crate::scheduler::{Operation, Scheduler, StatusChange, Verb, history::HistorySettings};
use crate::{
    descriptors::{
        Network,
        alias::Marks,
        value::{Namespace, NamespaceName, Value},
    },
    engine::Effects,
    signals::docker::MicroserviceChange,
};
use netns_kernel::{KernelOp, NetnsId, Outcome as KernelOutcome, Reply, Snapshot, Task};

use self::{
    facts::HostFacts,
    namespaces::{Attribution, Namespaces},
    outcomes::{InFlight, is_change},
    reading_plan::ReadingPlan,
    references::References,
};
use super::{
    held::{self, HeldOrphans},
    host::{Host, ReferenceWatcher},
    report::Reporter,
    startup_scan::{Scan, Scanned, StartupScan},
};

/// A change reported from outside the engine.
pub enum Signal {
    /// An object in a namespace changed.
    Namespace(NetnsId),
    /// A container or the connection to Docker changed.
    Microservice(MicroserviceChange),
    /// If true, orphans must be kept. If false, they can be deleted again.
    HoldOrphans(bool),
    /// Values that are kept because removals are on hold, each with the time at which its removal was put on hold.
    HeldValues(BTreeMap<Key, Duration>),
    /// Settings that can change while the agent runs.
    Settings(RunTimeSettings),
}

/// Settings that can change while the agent runs.
#[derive(PartialEq, Eq)]
pub struct RunTimeSettings {
    /// Interval at which namespaces without notifications are read.
    pub sweep_interval: Duration,
    /// True if foreign addresses are deleted from managed links.
    pub strict: bool,
    /// Limits of the transaction history.
    pub history: HistorySettings,
}

/// Request to read namespaces.
pub enum ReadRequest {
    /// Open namespaces that may have changed.
    Refresh(Vec<NetnsId>),
    /// Namespaces in which an earlier run may have left orphans.
    Scan(Scan),
}

/// Contents of the namespaces that were read.
pub enum Seen {
    /// Contents of each open namespace, or the error if the namespace could not be read.
    Refresh(Vec<(NetnsId, Result<Box<Snapshot>, String>)>),
    /// Namespaces read by the startup scan.
    Scan(Vec<Scanned>),
}

impl ReadRequest {
    /// Returns the tasks that read open namespaces.
    pub fn readings(namespaces: Vec<NetnsId>) -> Vec<Task> {
        let task = |netns: NetnsId| Task {
            id: netns.0,
            key: format!("contents of {netns}"),
            ops: vec![KernelOp::DumpNamespace { netns }],
        };
        namespaces.into_iter().map(task).collect()
    }
}

impl Seen {
    /// Converts the outcomes of the tasks that [`ReadRequest::readings`] returned.
    pub fn read(outcomes: Vec<KernelOutcome>) -> Self {
        let read = outcomes.into_iter().map(|outcome| match outcome.result {
            Ok(Reply::Contents(snapshot)) => (NetnsId(outcome.id), Ok(snapshot)),
            Ok(other) => (NetnsId(outcome.id), Err(format!("unexpected reply {other:?}"))),
            Err(failure) => (NetnsId(outcome.id), Err(failure.message)),
        });
        Seen::Refresh(read.collect())
    }
}

/// Effects that connect the engine with the kernel, the watchers and the reporter.
pub struct NetworkEffects {
    host: Arc<dyn Host>,
    marks: Marks,
    references: References,
    reporter: Reporter,
    namespaces: Namespaces,
    scan: StartupScan,
    plan: ReadingPlan,
    facts: HostFacts,
    in_flight: HashMap<u64, InFlight>,
    /// Keys of routes and neighbours that a foreign object has replaced. Their next creation may overwrite the foreign object.
    displaced: BTreeSet<Key>,
    /// Additional tasks for the next batch. They belong to no operation.
    housekeeping: Vec<Task>,
    /// Orphans that are kept because removals are on hold.
    held: HeldOrphans,
    /// True if foreign addresses are deleted from managed links at startup, when a namespace is opened, and during a resync.
    strict: bool,
}

impl NetworkEffects {
    /// Creates the effects. A namespace that is not watched is read every `sweep_interval`.
    pub fn new(
        host: Arc<dyn Host>,
        marks: Marks,
        watcher: Box<dyn ReferenceWatcher>,
        reporter: Reporter,
        sweep_interval: Duration,
    ) -> Self {
        let own = host.own_namespace();
        let mut plan = ReadingPlan::new(sweep_interval);
        plan.opened(own);
        NetworkEffects {
            host,
            marks,
            references: References::new(watcher),
            reporter,
            namespaces: Namespaces::new(own),
            scan: StartupScan::default(),
            plan,
            facts: HostFacts::default(),
            in_flight: HashMap::new(),
            displaced: BTreeSet::new(),
            housekeeping: Vec::new(),
            held: HeldOrphans::default(),
            strict: false,
        }
    }

    /// Makes the agent delete foreign addresses from links that it created and from the links of EXISTING interfaces. It does so
    /// at startup, when it opens a namespace, and during a resync.
    pub fn strict(self) -> Self {
        NetworkEffects { strict: true, ..self }
    }

    /// Returns the fact that represents the agent's own namespace.
    pub fn own_namespace(own: NetnsId) -> (Key, Option<Value>) {
        (NamespaceName::Own.key(), Some(Value::AppliedNamespace(Namespace::own(own))))
    }

    fn report_held(&self) {
        self.reporter.held_orphans(self.held.texts());
    }

    /// Reports the claims of the held orphans in a namespace to the scheduler. See [`HeldOrphans::changed_facts`].
    fn report_held_claims(&mut self, scheduler: &mut Scheduler<Network>, netns: NetnsId, name: &NamespaceName) {
        for (key, fact) in self.held.changed_facts(netns, name) {
            scheduler.fact(&key, fact);
        }
    }

    fn begin_bulk_change(&self, now: Duration) {
        self.host.listen(false);
        self.reporter.bulk(Some(now));
    }

    fn end_bulk_change(&self) {
        self.host.listen(true);
        self.reporter.bulk(None);
    }

    /// Converts an operation to a task, and records the operation as in flight.
    fn task(&mut self, mut operation: Operation<KernelOp>) -> Task {
        let replaces_foreign = self.displaced.remove(&operation.key) && operation.verb == Verb::Create;
        if replaces_foreign {
            operation.steps.iter_mut().for_each(replace_foreign);
        }
        if operation.verb == Verb::Delete {
            operation.steps.splice(..0, self.held.removals_before(&operation.key));
        }
        debug!(key = %operation.key, verb = ?operation.verb, ops = ?operation.steps, "operation");
        let in_flight = InFlight::new(&operation, replaces_foreign);
        if let Some(netns) = in_flight.closes().filter(|netns| self.held.are_in(*netns)) {
            held::keep_namespace(&mut operation.steps);
            // The namespace contains held orphans, so it is closed but not deleted. After it is closed, the startup scan must
            // read it again.
            self.namespaces.set_attribution(netns, Attribution::Unattributed);
        }
        self.in_flight.insert(operation.id, in_flight);
        Task {
            id: operation.id,
            key: operation.key.to_string(),
            ops: operation.steps,
        }
    }
}

/// Allows an operation that creates a route or neighbour to replace a foreign route or neighbour.
fn replace_foreign(op: &mut KernelOp) {
    if let KernelOp::AddRoute { adopt, .. } | KernelOp::SetNeighbour { adopt, .. } = op {
        *adopt = true;
    }
}

impl Effects for NetworkEffects {
    type Domain = Network;
    type Signal = Signal;
    type Task = Task;
    type Outcome = KernelOutcome;
    type ReadRequest = ReadRequest;
    type Seen = Seen;
    type Place = NetnsId;

    fn places(operation: &Operation<KernelOp>) -> Vec<NetnsId> {
        operation.steps.iter().flat_map(KernelOp::works_in).collect()
    }

    fn goes_together(operation: &Operation<KernelOp>) -> bool {
        // Namespaces are opened together, because links can be attributed to interfaces only when all namespaces are open.
        !is_change(operation)
    }

    fn prepare(&mut self, operations: Vec<Operation<KernelOp>>, now: Duration) -> Vec<Task> {
        // Opening a namespace changes nothing in it and therefore does not count as a change. Otherwise, a restart without
        // changes would read each namespace twice.
        let changes = operations.iter().filter(|operation| is_change(operation)).count();
        if self.plan.batch(changes, now) {
            self.begin_bulk_change(now);
        }
        self.namespaces.learn();
        let mut tasks = std::mem::take(&mut self.housekeeping);
        tasks.extend(operations.into_iter().map(|operation| self.task(operation)));
        tasks
    }

    fn operation_of(outcome: &KernelOutcome) -> u64 {
        outcome.id
    }

    fn is_plain(operation: &Operation<KernelOp>) -> bool {
        operation.verb != Verb::Delete && !Self::goes_together(operation)
    }

    fn is_success(outcome: &KernelOutcome) -> bool {
        matches!(outcome.result, Ok(Reply::Done))
    }

    fn performed(&mut self, scheduler: &mut Scheduler<Network>, outcomes: Vec<KernelOutcome>) {
        let opened = outcomes.into_iter().filter_map(|outcome| self.outcome(scheduler, outcome));
        // All outcomes are reported before the first inspection. A link may belong to an interface in a namespace that was opened
        // by a later operation in the list.
        let opened: Vec<_> = opened.collect();
        for opened in &opened {
            self.inspect_opened(scheduler, opened);
        }
        self.update_scan(scheduler);
    }

    fn seen(&mut self, scheduler: &mut Scheduler<Network>, seen: Seen) {
        match seen {
            Seen::Refresh(read) => {
                for (netns, contents) in read {
                    match contents {
                        Ok(snapshot) => self.inspect_all(scheduler, netns, &snapshot, false),
                        // An error does not mean that an object is gone, so the namespace is read again later.
                        Err(message) => {
                            warn!(%netns, "cannot read the namespace: {message}");
                            self.plan.retry_later(netns);
                        }
                    }
                }
            }
            Seen::Scan(scanned) => scanned.into_iter().for_each(|scanned| self.scanned(scheduler, scanned)),
        }
    }

    fn signal(&mut self, scheduler: &mut Scheduler<Network>, signal: Signal, now: Duration) {
        self.plan.set_time(now);
        match signal {
            Signal::Namespace(netns) => match self.namespaces.changed(netns) {
                true => self.plan.changed(netns),
                // The namespace is not open yet. The operation that opens it may have read it before this change, so the
                // namespace is read again after it is open.
                false => self.host.rearm(netns),
            },
            Signal::Microservice(change) => self.microservice(scheduler, change),
            Signal::HeldValues(held) => self.reporter.held_values(&scheduler.view(), held),
            Signal::Settings(settings) => {
                self.plan.set_sweep_interval(settings.sweep_interval);
                self.strict = settings.strict;
                scheduler.set_history(settings.history);
            }
            Signal::HoldOrphans(holding) => {
                if self.held.hold(holding) && !holding {
                    self.reporter.held_orphans(Vec::new());
                    // The orphans are found again, and then deleted, when their namespaces are read.
                    self.mark_all_dirty(now);
                }
            }
        }
    }

    fn startup_scan(&mut self, scheduler: &Scheduler<Network>) -> Option<ReadRequest> {
        let view = scheduler.view();
        let is_desired = |name: &NamespaceName| view.desired(&name.key()).is_some();
        Some(ReadRequest::Scan(self.scan.plan(&*self.host, &self.marks, is_desired)))
    }

    fn refresh(&mut self, now: Duration) -> Option<ReadRequest> {
        let host = self.host.clone();
        let is_watched = |netns| host.is_watched(netns);
        if self.plan.idle(now, is_watched) {
            self.end_bulk_change();
        }
        if self.plan.is_paused() {
            return None;
        }
        let due = self.plan.take_due(now, is_watched);
        if due.is_empty() {
            return self.scan.take_due(&self.marks).map(ReadRequest::Scan);
        }
        // Notifications are enabled before the read, so that no change is missed.
        due.iter().for_each(|netns| self.host.rearm(*netns));
        Some(ReadRequest::Refresh(due))
    }

    fn desired_changed(&mut self) {
        for netns in self.namespaces.unattributed() {
            self.plan.read_first(netns);
        }
    }

    fn mark_all_dirty(&mut self, now: Duration) {
        if self.plan.read_all(now) {
            self.end_bulk_change();
        }
    }

    fn refresh_deadline(&self) -> Option<Duration> {
        self.plan.next_deadline()
    }

    fn publish(&mut self, scheduler: &Scheduler<Network>, changes: Vec<StatusChange>) {
        // Unused references are dropped before any status is deleted, because a deleted status tells users that the agent has
        // forgotten the value.
        self.drop_unused_references(scheduler);
        self.update_scan(scheduler);
        self.namespaces.learn();
        for change in changes {
            if change.status.is_none() {
                self.displaced.remove(&change.key);
            }
            self.note_existing(scheduler, &change.key);
            self.reporter.status(&scheduler.view(), &change);
        }
    }

    fn settled(&mut self) {
        for netns in self.namespaces.take_reconsidered() {
            self.plan.read_soon(netns);
        }
        self.reporter.settled();
    }
}
