//! Makes the decisions of the engine, without waiting and without a clock: events and outcomes go in, work comes out.
//!
//! [`Core`] owns the scheduler, and the [`Phase`] that records what is in flight. It never performs work, sleeps or reads the time. Its
//! driver does: the engine loop in production, or a simulation.
//!
//! # Assumptions
//! The outcome of each operation that [`Core::advance`] hands out is passed to [`Core::done`] exactly once. Each [`Work::Perform`] ends
//! with one [`Done::Performed`], after which the core continues; the outcomes of single operations may arrive before it ([`Done::Early`])
//! or after it ([`Done::Late`]). Work is performed in the order in which it is handed out. Results arrive in the order in which they
//! happened: the result of a read that preceded an operation never arrives after the outcome of that operation.
//!
//! # Expected flow
//! One piece of work is in flight at a time, so events in quick succession are decided together. A large change of plain operations
//! ([`Effects::is_plain`]) is an exception: as long as all of them succeed, early outcomes lead to further decisions, so the next
//! operations are ready before the previous ones have completed. After the first failure or any other event, the core waits for everything
//! in flight.
//!
//! A large change is handed out in portions, so a later decision waits for at most two portions.

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

/// A refresh that is overdue by this much takes precedence over operations.
const OVERDUE: Duration = Duration::from_millis(20);
/// Operations per portion. The executor needs about 10 ms for them, far longer than the next decision takes.
const PORTION: usize = 1_000;
/// Maximum number of portions in flight at a time. The second one keeps the executor busy while the core decides.
const AHEAD: usize = 2;

/// Receives the result of a transaction.
pub type Reply<T> = Box<dyn FnOnce(Result<T, Unacceptable>) + Send>;

/// Reads values and their states from the scheduler.
pub type Question<D> = Box<dyn FnOnce(&Scheduler<D>) + Send>;

/// Event for the core to process.
pub enum Event<D: Domain<Key = Key>, S> {
    /// The desired state has changed.
    Desired {
        /// The change. It is not applied before the first full or upstream resync.
        transaction: Transaction<D::Value>,
        /// Called with the result when the transaction is finished, or with the reason when it is rejected. Without a reply, the result is
        /// only in the history.
        reply: Option<Reply<TransactionResult>>,
    },
    /// A client requests a dry run of a transaction.
    Simulate {
        /// The transaction.
        transaction: Transaction<D::Value>,
        /// Called immediately with the plan.
        reply: Reply<Vec<Planned<D::Value>>>,
    },
    /// A query about states, the history or a timeline, which is answered immediately.
    Ask(Question<D>),
    /// Facts about the system have changed, in this order; `None` if a fact no longer holds.
    Facts(Vec<(Key, Option<D::Value>)>),
    /// All facts that exist at startup have been reported.
    FactsSettled,
    /// An object that a value refers to may have changed.
    Probe(Key),
    /// A signal for the effects. The core does not interpret it.
    Signal(S),
}

/// Carries out the scheduler's decisions and reports the results back. No method may block: everything that takes time is [`Work`].
pub trait Effects: Send + 'static {
    /// Defines the values and operations of the scheduler.
    type Domain: Domain<Key = Key>;
    /// Signal that [`Self::signal`] processes.
    type Signal: Send;
    /// Operation that is ready to be performed.
    type Task: Send;
    /// Outcome of a task.
    type Outcome: Send;
    /// Request to read something.
    type ReadRequest: Send;
    /// Result of a read.
    type Seen: Send;
    /// Place on which operations act, such as a network namespace.
    type Place: Ord + Copy + Send;

    /// Returns the places on which an operation acts. Operations that share no place may be performed in any order.
    fn places(operation: &Operation<<Self::Domain as Domain>::Operation>) -> Vec<Self::Place>;

    /// Returns whether an operation must be in the same portion as all other operations of its decision.
    fn goes_together(operation: &Operation<<Self::Domain as Domain>::Operation>) -> bool;

    /// Converts operations that do not depend on each other to tasks. May add tasks that belong to no operation.
    fn prepare(&mut self, operations: Vec<Operation<<Self::Domain as Domain>::Operation>>, now: Duration) -> Vec<Self::Task>;

    /// Returns the id of the operation that an outcome belongs to.
    fn operation_of(outcome: &Self::Outcome) -> u64;

    /// Returns whether further operations may be decided while this one is in flight, and started before the rest of its batch has
    /// completed. A plain operation removes nothing, and its outcome reports nothing about other values.
    fn is_plain(operation: &Operation<<Self::Domain as Domain>::Operation>) -> bool;

    /// Returns whether the outcome is the expected one.
    fn is_success(outcome: &Self::Outcome) -> bool;

    /// Reports the outcomes of operations to the scheduler.
    fn performed(&mut self, scheduler: &mut Scheduler<Self::Domain>, outcomes: Vec<Self::Outcome>);

    /// Processes a signal.
    fn signal(&mut self, scheduler: &mut Scheduler<Self::Domain>, signal: Self::Signal, now: Duration);

    /// Returns what to scan for orphans of an earlier run. Called before the first desired state is applied.
    fn startup_scan(&mut self, scheduler: &Scheduler<Self::Domain>) -> Option<Self::ReadRequest>;

    /// Returns a request to read everything that may have changed and is due, if there is any. Called when no operation can be started, or
    /// when a read is overdue.
    fn refresh(&mut self, now: Duration) -> Option<Self::ReadRequest>;

    /// Returns the time at which [`Self::refresh`] next has something to read.
    fn refresh_deadline(&self) -> Option<Duration>;

    /// Records that the desired state has changed. Anything that could not be judged under the previous desired state must be read again
    /// first.
    fn desired_changed(&mut self);

    /// Marks everything as possibly changed, so that [`Self::refresh`] reads all of it.
    fn mark_all_dirty(&mut self, now: Duration);

    /// Reports the result of a read to the scheduler.
    fn seen(&mut self, scheduler: &mut Scheduler<Self::Domain>, seen: Self::Seen);

    /// Publishes new statuses.
    fn publish(&mut self, scheduler: &Scheduler<Self::Domain>, changes: Vec<StatusChange>);

    /// Called whenever all desired values have been applied as far as is currently possible.
    fn settled(&mut self);
}

/// Work that takes time.
pub enum Work<E: Effects> {
    /// Operations to perform. None of them depends on another.
    Perform(Vec<E::Task>),
    /// A request to read something. Only late operations may be in flight.
    ReadRequest(E::ReadRequest),
}

/// Result of work.
pub enum Done<E: Effects> {
    /// Outcomes of operations that were handed out together. Missing outcomes were reported early, or belong to operations that take long
    /// and block only their dependents. Other operations are decided in the meantime, so an operation may complete late only if no other
    /// operation can invalidate it: a lookup of something on which nothing has been built yet, such as a namespace.
    Performed(Vec<E::Outcome>),
    /// Outcomes of some operations, while the others are still being performed.
    Early(Vec<E::Outcome>),
    /// Outcomes of operations that took long.
    Late(Vec<E::Outcome>),
    /// Result of a read.
    Seen(E::Seen),
}

/// See the [module documentation](self).
pub struct Core<E: Effects> {
    scheduler: Scheduler<E::Domain>,
    effects: E,
    phase: Phase,
    in_flight: BTreeSet<u64>,
    /// Decided operations that have not been handed out yet.
    backlog: Backlog<E>,
    /// Replies for unfinished transactions, by sequence number.
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

    /// Sets the number of operations per portion.
    #[cfg(any(test, feature = "simulation"))]
    pub fn with_portion(mut self, operations: usize) -> Self {
        self.backlog = Backlog::new(operations);
        self
    }

    /// Processes an event. Only [`Self::advance`] starts work.
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
            // Without a reply, failures are visible in the statuses only, and a rejection is not reported at all.
            (Ok(_), None) => {}
            (Err(_), None) => return,
        }
        self.effects.desired_changed();
        if full {
            self.phase.desired_is_complete();
        }
    }

    /// Replies to the callers of finished transactions.
    fn reply(&mut self) {
        for result in self.scheduler.take_finished() {
            if let Some(reply) = self.waiting.remove(&result.seq) {
                reply(Ok(result));
            }
        }
    }

    /// Processes the result of work.
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

    /// Returns the work to start now, if any. Call it after each event or outcome and at the [deadline](Self::deadline), until it returns
    /// `None`. The last call publishes the new statuses, while the work is already in flight.
    pub fn advance(&mut self, now: Duration) -> Option<Work<E>> {
        match self.phase {
            Phase::AwaitingDesired | Phase::Reading { .. } => None,
            Phase::Performing { .. } => self.go_on(now),
            Phase::ScanDue => self.scan().or_else(|| self.begin(now)),
            Phase::Free => self.begin(now),
        }
    }

    /// Decides and hands out operations that follow from outcomes while other work is still in flight.
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
        // Publish while operations are being performed.
        if self.phase.take_unpublished() {
            self.publish();
        }
        None
    }

    /// Starts the startup scan, if there is anything to scan. It also serves as the read that a full resync requests.
    fn scan(&mut self) -> Option<Work<E>> {
        if !self.phase.take_scan_due() {
            return None;
        }
        let scan = self.effects.startup_scan(&self.scheduler)?;
        let for_resync = self.scheduler.take_reading();
        Some(self.read_request(scan, for_resync))
    }

    /// Starts the most urgent work. Only late operations are in flight.
    fn begin(&mut self, now: Duration) -> Option<Work<E>> {
        if !self.backlog.is_empty() {
            return self.go_on_with_backlog(now);
        }
        if let Some(work) = self.read_all(now) {
            return Some(work);
        }
        // Under constant change there is always another operation to start; this must not delay reads forever.
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

    /// Decides on operations, which count as in flight from now on.
    fn step(&mut self, now: Duration) -> Vec<Operation<<E::Domain as Domain>::Operation>> {
        let operations = self.scheduler.step(now);
        self.in_flight.extend(operations.iter().map(|operation| operation.id));
        if self.scheduler.has_overrun() {
            error!("decisions about some values do not terminate; the remaining ones are delayed by one second; please report this");
        }
        for what in self.scheduler.take_defects() {
            defect(&format!("inconsistency in the scheduler: {what}"));
        }
        operations
    }

    /// Hands out more of the backlog. Operations for events that arrived in the meantime come first, unless a read is requested: a read
    /// waits for the whole backlog.
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

    /// Hands out the next portion. If all its operations are plain, `flow` applies from then on.
    fn hand_out(&mut self, flow: Flow, now: Duration) -> Option<Work<E>> {
        let operations = self.backlog.take();
        if operations.is_empty() {
            return None;
        }
        let is_plain = operations.iter().all(E::is_plain);
        self.phase.perform(if is_plain { flow } else { Flow::Draining });
        Some(Work::Perform(self.effects.prepare(operations, now)))
    }

    /// Publishes new statuses and replies to the callers of finished transactions.
    fn publish(&mut self) {
        let changes = self.scheduler.take_status_changes();
        if !changes.is_empty() {
            self.effects.publish(&self.scheduler, changes);
        }
        self.reply();
    }

    /// Returns the time at which [`Self::advance`] must be called next; `None` if there is no such time or no work can be started now.
    pub fn deadline(&self) -> Option<Duration> {
        if !self.phase.is_free() {
            return None;
        }
        let deadlines = [self.scheduler.next_deadline(), self.effects.refresh_deadline()];
        deadlines.into_iter().flatten().min()
    }

    /// Returns the ids of the operations that have been decided and have not completed.
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

    /// Reads everything if a transaction requests it.
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

    /// Reads what may have changed, if a read is due.
    fn refresh(&mut self, now: Duration) -> Option<Work<E>> {
        let read_request = self.effects.refresh(now)?;
        Some(self.read_request(read_request, false))
    }

    fn read_request(&mut self, read_request: E::ReadRequest, for_resync: bool) -> Work<E> {
        self.phase.read(for_resync);
        Work::ReadRequest(read_request)
    }
}
