//! Decides which work the engine performs, based on events and on the outcomes of earlier work. This module never waits and never reads a clock.
//!
//! [`Core`] owns the scheduler and a [`Phase`], which records what is in flight. The driver of the core performs the work, waits, and reads the
//! time. In production, the driver is the engine loop. In tests, it can be a simulation.
//!
//! # Assumptions
//! The outcome of each operation that [`Core::advance`] returns is passed to [`Core::done`] exactly once. Each [`Work::Perform`] ends with one
//! [`Done::Performed`], after which the core continues. The outcomes of single operations can arrive earlier ([`Done::Early`]) or later
//! ([`Done::Late`]). Work is performed in the order in which [`Core::advance`] returns it. Results arrive in the order in which the work was done.
//! For example, the result of a read that preceded an operation never arrives after the outcome of that operation.
//!
//! # Expected flow
//! Normally, one piece of work is in flight at a time. When it has completed, the core processes all events that have arrived in the meantime
//! together. A large change of plain operations ([`Effects::is_plain`]) is an exception. While all its operations succeed, the core makes further
//! decisions as soon as some outcomes have arrived. This way, the next operations are ready before the previous ones have completed. After a
//! failure, or an event other than a query, the core waits until all operations in flight have completed.
//!
//! The operations of a large change are started in portions, so that the operations of a later decision wait for at most two
//! portions.

mod backlog;
#[cfg(test)]
mod late_tests;
mod phase;
#[cfg(test)]
mod tests;

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use models::key::Key;
use tracing::error;

use self::{
    backlog::Backlog,
    phase::{Flow, Phase},
};
use crate::{
    scheduler::{
        Domain, Operation, Planned, Resync, Scheduler, StatusChange, Transaction, TransactionResult, Unacceptable, history::HistorySettings,
    },
    telemetry::defect,
};

/// Time that a read may wait after its deadline before it takes precedence over new operations.
const OVERDUE: Duration = Duration::from_millis(20);
/// Number of operations of a large change that are started together, as one portion. The executor needs about 10 ms for a
/// portion, far longer than the core needs to decide on the next operations.
const PORTION: usize = 1_000;
/// Maximum number of portions in flight. The second portion keeps the executor busy while the core decides.
const AHEAD: usize = 2;

/// Callback that receives the result of a transaction or dry run, or the reason why it was rejected.
pub type Reply<T> = Box<dyn FnOnce(Result<T, Unacceptable>) + Send>;

/// Callback that reads values and their states from the scheduler.
pub type Question<D> = Box<dyn FnOnce(&Scheduler<D>) + Send>;

/// Event for the core to process.
pub enum Event<D: Domain<Key = Key>, S> {
    /// The desired state has changed.
    Desired {
        /// Changes to the desired state. Before the first full or upstream resync, they are recorded but not applied.
        transaction: Transaction<D::Value>,
        /// Callback that receives the result of the transaction, or the reason why it was rejected. If `None`, the result is only
        /// recorded in the history.
        reply: Option<Reply<TransactionResult>>,
    },
    /// A client requests a dry run of a transaction.
    Simulate {
        /// Transaction to simulate.
        transaction: Transaction<D::Value>,
        /// Callback that immediately receives the planned operations.
        reply: Reply<Vec<Planned<D::Value>>>,
    },
    /// A query about states, the history or a timeline, which is answered immediately.
    Ask(Question<D>),
    /// Changed facts about the system, in the order of the changes. `None` means that the fact is no longer true.
    Facts(Vec<(Key, Option<D::Value>)>),
    /// All facts that exist at startup have been reported.
    FactsSettled,
    /// A value refers to an object that may have changed. Contains the key of the value.
    Probe(Key),
    /// Signal that the core passes on to [`Effects::signal`].
    Signal(S),
}

/// Carries out the scheduler's decisions and reports the results back. The methods must not block. Everything that takes time is returned as
/// [`Work`].
pub trait Effects: Send + 'static {
    /// Defines the values and operations of the scheduler.
    type Domain: Domain<Key = Key>;
    /// Signal from outside the engine, which [`Self::signal`] processes.
    type Signal: Send;
    /// Operation in the form that a performer executes.
    type Task: Send;
    /// Outcome of a task.
    type Outcome: Send;
    /// Request to read the current state of the system, such as the contents of some namespaces.
    type ReadRequest: Send;
    /// Result of a read request.
    type Seen: Send;
    /// Place in which operations act, such as a network namespace.
    type Place: Ord + Copy + Send;

    /// Returns the places in which an operation acts. Operations without a common place may be performed in any order.
    fn places(operation: &Operation<<Self::Domain as Domain>::Operation>) -> Vec<Self::Place>;

    /// Returns whether this operation and all others of the same decision must be started together, in one portion.
    fn goes_together(operation: &Operation<<Self::Domain as Domain>::Operation>) -> bool;

    /// Converts operations that do not depend on each other to tasks. The result may also contain tasks that belong to no
    /// operation.
    fn prepare(&mut self, operations: Vec<Operation<<Self::Domain as Domain>::Operation>>, now: Duration) -> Vec<Self::Task>;

    /// Returns the id of the operation that an outcome belongs to.
    fn operation_of(outcome: &Self::Outcome) -> u64;

    /// Returns whether an operation is plain: it removes nothing, and its outcome reports nothing about other values.
    ///
    /// While only plain operations are in flight, the core may decide on further operations and start them.
    fn is_plain(operation: &Operation<<Self::Domain as Domain>::Operation>) -> bool;

    /// Returns whether an operation succeeded as expected.
    fn is_success(outcome: &Self::Outcome) -> bool;

    /// Reports the outcomes of operations to the scheduler.
    fn performed(&mut self, scheduler: &mut Scheduler<Self::Domain>, outcomes: Vec<Self::Outcome>);

    /// Processes a signal from outside the engine.
    fn signal(&mut self, scheduler: &mut Scheduler<Self::Domain>, signal: Self::Signal, now: Duration);

    /// Returns a request to scan for orphans of an earlier run. Called before the first desired state is applied.
    fn startup_scan(&mut self, scheduler: &Scheduler<Self::Domain>) -> Option<Self::ReadRequest>;

    /// Returns a request for the reads that are due, if there are any. Called when no operation can be started, or when a read is
    /// overdue.
    fn refresh(&mut self, now: Duration) -> Option<Self::ReadRequest>;

    /// Returns the time at which the next read is due; `None` if no read is planned.
    fn refresh_deadline(&self) -> Option<Duration>;

    /// Records that the desired state has changed. Objects whose owner was unknown must be read again before any operation is
    /// started.
    fn desired_changed(&mut self);

    /// Marks everything as possibly changed, so that the next [`Self::refresh`] requests a read of everything.
    fn mark_all_dirty(&mut self, now: Duration);

    /// Reports the result of a read to the scheduler.
    fn seen(&mut self, scheduler: &mut Scheduler<Self::Domain>, seen: Self::Seen);

    /// Publishes new statuses.
    fn publish(&mut self, scheduler: &Scheduler<Self::Domain>, changes: Vec<StatusChange>);

    /// Called whenever all desired values have been applied as far as is currently possible.
    fn settled(&mut self);
}

/// Work for a [`Performer`](crate::engine::Performer).
pub enum Work<E: Effects> {
    /// Tasks to perform. None of them depends on another.
    Perform(Vec<E::Task>),
    /// Request to read the system. It must not be performed while operations other than slow ones ([`Done::Late`]) are in flight.
    ReadRequest(E::ReadRequest),
}

/// Result of a piece of [`Work`].
pub enum Done<E: Effects> {
    /// End of a [`Work::Perform`], with the outcomes of its operations.
    ///
    /// Excludes outcomes that were reported early ([`Done::Early`]), and outcomes of slow operations, which are reported later
    /// ([`Done::Late`]). A slow operation blocks only its dependents, and the core continues to start other operations. Therefore, an operation
    /// must not complete late if another operation could invalidate it. For example, opening a namespace can complete late if nothing uses the
    /// namespace yet.
    Performed(Vec<E::Outcome>),
    /// Outcomes of some operations of a [`Work::Perform`]. Its other operations are still being performed.
    Early(Vec<E::Outcome>),
    /// Outcomes of slow operations, which completed after the [`Work::Perform`] that they belong to.
    Late(Vec<E::Outcome>),
    /// Result of a [`Work::ReadRequest`].
    Seen(E::Seen),
}

/// Decides which work the engine performs; see the [module documentation](self).
pub struct Core<E: Effects> {
    scheduler: Scheduler<E::Domain>,
    effects: E,
    phase: Phase,
    in_flight: BTreeSet<u64>,
    /// Operations that have been decided on but not started yet.
    backlog: Backlog<E>,
    /// Reply callbacks of unfinished transactions, by the sequence number of the transaction.
    waiting: BTreeMap<u64, Reply<TransactionResult>>,
}

impl<E: Effects> Core<E> {
    /// Creates a core with an empty scheduler.
    pub fn new(domain: E::Domain, effects: E) -> Self {
        Core {
            scheduler: Scheduler::new(domain),
            effects,
            phase: Phase::AwaitingDesired,
            in_flight: BTreeSet::new(),
            backlog: Backlog::new(PORTION),
            waiting: BTreeMap::new(),
        }
    }

    /// Sets the history limits.
    pub fn with_history(mut self, settings: HistorySettings) -> Self {
        self.scheduler.set_history(settings);
        self
    }

    /// Sets the number of operations that are started together, as one portion.
    #[cfg(any(test, feature = "simulation"))]
    pub fn with_portion(mut self, operations: usize) -> Self {
        self.backlog = Backlog::new(operations);
        self
    }

    /// Processes an event. [`Self::advance`] then returns the resulting work.
    pub fn take(&mut self, event: Event<E::Domain, E::Signal>, now: Duration) {
        self.scheduler.set_time(now);
        if !matches!(event, Event::Simulate { .. } | Event::Ask(_)) {
            self.phase.disturb();
        }
        match event {
            Event::Desired { transaction, reply } => self.transact(transaction, reply),
            Event::Simulate { transaction, reply } => reply(self.scheduler.simulate(transaction)),
            Event::Ask(question) => question(&self.scheduler),
            Event::Facts(facts) => facts.into_iter().for_each(|(key, value)| self.scheduler.fact(&key, value)),
            Event::FactsSettled => self.scheduler.complete_facts(),
            Event::Probe(key) => self.scheduler.probe(&key),
            Event::Signal(signal) => self.effects.signal(&mut self.scheduler, signal, now),
        }
    }

    fn transact(&mut self, mut transaction: Transaction<<E::Domain as Domain>::Value>, reply: Option<Reply<TransactionResult>>) {
        let full = matches!(transaction.options.resync, Resync::Full | Resync::Upstream);
        transaction.options.awaited = reply.is_some();
        match (self.scheduler.transact(transaction), reply) {
            (Ok(seq), Some(reply)) => {
                self.waiting.insert(seq, reply);
            }
            (Err(refused), Some(reply)) => return reply(Err(refused)),
            // Without a reply callback, failures are visible only in the statuses, and a rejection is not reported at all.
            (Ok(_), None) => {}
            (Err(_), None) => return,
        }
        self.effects.desired_changed();
        if full {
            self.phase.desired_is_complete();
        }
    }

    /// Calls the reply callbacks of finished transactions.
    fn reply(&mut self) {
        for result in self.scheduler.take_finished() {
            if let Some(reply) = self.waiting.remove(&result.seq) {
                reply(Ok(result));
            }
        }
    }

    /// Processes the result of a piece of work.
    pub fn done(&mut self, done: Done<E>) {
        match done {
            Done::Performed(outcomes) => {
                self.phase.finish_portion();
                self.performed(outcomes);
            }
            Done::Early(outcomes) => self.performed(outcomes),
            Done::Late(outcomes) => {
                self.phase.disturb();
                self.performed(outcomes);
            }
            Done::Seen(seen) => {
                let for_resync = self.phase.finish_reading();
                self.effects.seen(&mut self.scheduler, seen);
                if for_resync {
                    self.scheduler.read_again();
                }
            }
        }
    }

    fn performed(&mut self, outcomes: Vec<E::Outcome>) {
        for outcome in &outcomes {
            self.in_flight.remove(&E::operation_of(outcome));
        }
        self.phase.take_outcomes(!outcomes.is_empty(), outcomes.iter().all(E::is_success));
        self.effects.performed(&mut self.scheduler, outcomes);
    }

    /// Returns the work to start now, if there is any.
    ///
    /// Call this method after each event, after each result and at the [deadline](Self::deadline). Repeat the call until it returns `None`. The
    /// last call publishes the new statuses, at a time when the work returned by the earlier calls is already in flight.
    pub fn advance(&mut self, now: Duration) -> Option<Work<E>> {
        match self.phase {
            Phase::AwaitingDesired | Phase::Reading { .. } => None,
            Phase::Performing { .. } => self.go_on(now),
            Phase::ScanDue => self.scan().or_else(|| self.begin(now)),
            Phase::Free => self.begin(now),
        }
    }

    /// Decides on further operations based on the outcomes received so far, and starts them while other operations are still in flight.
    fn go_on(&mut self, now: Duration) -> Option<Work<E>> {
        if self.phase.take_fresh_outcomes() {
            let operations = self.step(now);
            self.backlog.add(operations);
        }
        if self.phase.has_room(AHEAD)
            && let Some(work) = self.hand_out(Flow::STREAMING, now)
        {
            return Some(work);
        }
        // Statuses are published while operations are in flight, so that publishing delays none of them.
        if self.phase.take_unpublished() {
            self.publish();
        }
        None
    }

    /// Starts the startup scan, if there is anything to scan. The scan also serves as the read that a full resync requests.
    fn scan(&mut self) -> Option<Work<E>> {
        if !self.phase.take_scan_due() {
            return None;
        }
        let scan = self.effects.startup_scan(&self.scheduler)?;
        let for_resync = self.scheduler.take_reading();
        Some(self.read_request(scan, for_resync))
    }

    /// Starts the most urgent work. Called only while nothing is in flight, except slow operations that complete late
    /// ([`Done::Late`]).
    fn begin(&mut self, now: Duration) -> Option<Work<E>> {
        if !self.backlog.is_empty() {
            return self.go_on_with_backlog(now);
        }
        if let Some(work) = self.read_all(now) {
            return Some(work);
        }
        // Constant changes must not delay reads forever, although there is always another operation to start.
        if self.is_refresh_overdue(now)
            && let Some(work) = self.refresh(now)
        {
            return Some(work);
        }
        let operations = self.step(now);
        if !operations.is_empty() {
            self.backlog.add(operations);
            return self.hand_out(Flow::STREAMING, now);
        }
        self.publish();
        if self.scheduler.is_reading_requested() {
            return self.begin(now);
        }
        if self.in_flight.is_empty() {
            self.effects.settled();
        }
        self.refresh(now)
    }

    /// Decides on the next operations and records them as in flight.
    fn step(&mut self, now: Duration) -> Vec<Operation<<E::Domain as Domain>::Operation>> {
        let operations = self.scheduler.step(now);
        self.in_flight.extend(operations.iter().map(|operation| operation.id));
        if self.scheduler.has_overrun() {
            error!(
                "the scheduler reached its limit of evaluations in one step, so the remaining evaluations are delayed by one second; \
                 please report this"
            );
        }
        for what in self.scheduler.take_defects() {
            defect(&format!("inconsistency in the scheduler: {what}"));
        }
        operations
    }

    /// Decides on new operations, which can overtake those in the backlog, and then starts the next operations.
    ///
    /// While a read is requested or overdue, no new operations are added, so that the backlog empties and the read can start.
    fn go_on_with_backlog(&mut self, now: Duration) -> Option<Work<E>> {
        if self.scheduler.is_reading_requested() || self.is_refresh_overdue(now) {
            return self.hand_out(Flow::Draining, now);
        }
        let operations = self.step(now);
        self.backlog.add_first(operations);
        self.hand_out(Flow::STREAMING, now)
    }

    fn is_refresh_overdue(&self, now: Duration) -> bool {
        self.effects.refresh_deadline().is_some_and(|deadline| deadline + OVERDUE <= now)
    }

    /// Starts the next portion of the backlog. If all operations of the portion are plain, `flow` determines what may start
    /// before they have completed. Otherwise, nothing may start until they have completed.
    fn hand_out(&mut self, flow: Flow, now: Duration) -> Option<Work<E>> {
        let operations = self.backlog.take();
        if operations.is_empty() {
            return None;
        }
        let is_plain = operations.iter().all(E::is_plain);
        self.phase.perform(if is_plain { flow } else { Flow::Draining });
        Some(Work::Perform(self.effects.prepare(operations, now)))
    }

    /// Publishes new statuses and calls the reply callbacks of finished transactions.
    fn publish(&mut self) {
        let changes = self.scheduler.take_status_changes();
        if !changes.is_empty() {
            self.effects.publish(&self.scheduler, changes);
        }
        self.reply();
    }

    /// Returns the time at which [`Self::advance`] must be called next; `None` if only an event or a result can lead to more
    /// work.
    pub fn deadline(&self) -> Option<Duration> {
        if !self.phase.is_free() {
            return None;
        }
        let deadlines = [self.scheduler.next_deadline(), self.effects.refresh_deadline()];
        deadlines.into_iter().flatten().min()
    }

    /// Returns the ids of the operations that have been decided on but have not completed.
    pub fn in_flight(&self) -> impl Iterator<Item = u64> + '_ {
        self.in_flight.iter().copied()
    }

    /// Returns the scheduler, with all values and their states.
    pub fn scheduler(&self) -> &Scheduler<E::Domain> {
        &self.scheduler
    }

    /// Returns the effects.
    pub fn effects(&self) -> &E {
        &self.effects
    }

    /// Starts a read of everything if a transaction has requested one.
    fn read_all(&mut self, now: Duration) -> Option<Work<E>> {
        if !self.scheduler.take_reading() {
            return None;
        }
        self.effects.mark_all_dirty(now);
        match self.effects.refresh(now) {
            Some(read_request) => Some(self.read_request(read_request, true)),
            None => {
                // There is nothing to read, so the read is complete at once.
                self.scheduler.read_again();
                None
            }
        }
    }

    /// Starts the reads that are due, if there are any.
    fn refresh(&mut self, now: Duration) -> Option<Work<E>> {
        let read_request = self.effects.refresh(now)?;
        Some(self.read_request(read_request, false))
    }

    fn read_request(&mut self, read_request: E::ReadRequest, for_resync: bool) -> Work<E> {
        self.phase.read(for_resync);
        Work::ReadRequest(read_request)
    }
}
