//! The decisions of the engine, without waiting and without a clock: events and outcomes go in, work comes out.
//!
//! Owns the scheduler, and the [`Phase`] that says what is in flight. Must never perform anything, sleep or ask for the time: who drives
//! it does, be it the loop of the product or a simulation. Start reading at [`Core::advance`].
//!
//! # Assumptions
//! Each operation that [`Core::advance`] hands out comes back once in [`Core::done`]: with [`Done::Performed`], which comes once for each
//! [`Work::Perform`] and at which the core goes on, before it with [`Done::Early`] or after it with [`Done::Late`]. What is handed out is
//! performed in that order. What is told comes in the order in which it happened in the world: what was seen before an operation was
//! performed is not told after its outcome.
//!
//! # Expected flow
//! One piece of work at a time, so that what happens in quick succession is decided upon together. Only a large change of plain operations
//! that goes well goes on from what has been told of it early, so that the next operations are there when the last of the first ones are
//! performed. At the first failure, and when anything else happens, all that is under way is waited for.
//!
//! A large change is handed out in portions, so that a later decision waits for two portions at most.

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

/// A refresh that is due for so long goes before operations.
const OVERDUE: Duration = Duration::from_millis(20);
/// Operations per portion. The executor takes some 10 ms for them, far more than the next decision takes.
const PORTION: usize = 1_000;
/// Portions that are handed out at a time as long as all operations succeed: the executor then never waits for the next one.
const AHEAD: usize = 2;

/// Takes the answer to a transaction.
pub type Reply<T> = Box<dyn FnOnce(Result<T, Unacceptable>) + Send>;

/// Looks at all values and their states.
pub type Question<D> = Box<dyn FnOnce(&Scheduler<D>) + Send>;

/// Something that happened.
pub enum Event<D: Domain<Key = Key>, S> {
    /// The desired state changed.
    Desired {
        /// How. Nothing is acted upon before the first full or upstream resync.
        transaction: Transaction<D::Value>,
        /// Told when nothing of it is left to do, or that it is refused. Without it, the history tells.
        reply: Option<Reply<TransactionResult>>,
    },
    /// What would a transaction do?
    Simulate {
        /// The transaction.
        transaction: Transaction<D::Value>,
        /// Told at once what is planned.
        reply: Reply<Vec<Planned<D::Value>>>,
    },
    /// Somebody wants to know something, at once: a state, the history, a timeline.
    Ask(Question<D>),
    /// Facts from below, in order.
    Facts(Vec<(Key, Option<D::Value>)>),
    /// All facts that exist at start have been told.
    FactsSettled,
    /// What a value refers to may have changed.
    Probe(Key),
    /// Something that only the effects understand.
    Signal(S),
}

/// What operations are for the world, and what the world tells back. Nothing here waits: what takes time is [`Work`].
pub trait Effects: Send + 'static {
    /// Values and effects.
    type Domain: Domain<Key = Key>;
    /// A signal for [`Self::signal`].
    type Signal: Send;
    /// An operation, ready to be performed.
    type Task: Send;
    /// What came of an operation.
    type Outcome: Send;
    /// What is to be looked at.
    type Look: Send;
    /// What was seen there.
    type Seen: Send;
    /// A place in which operations work, such as a network namespace.
    type Place: Ord + Copy + Send;

    /// Returns the places of an operation. Operations that share no place may be performed in any order.
    fn places(operation: &Operation<<Self::Domain as Domain>::Operation>) -> Vec<Self::Place>;

    /// Returns whether an operation must be in one portion with all operations of the same decision.
    fn goes_together(operation: &Operation<<Self::Domain as Domain>::Operation>) -> bool;

    /// Readies operations, none of which depends on another. Tasks that are no operation may come with them.
    fn prepare(&mut self, operations: Vec<Operation<<Self::Domain as Domain>::Operation>>, now: Duration) -> Vec<Self::Task>;

    /// The number of the operation that an outcome is of.
    fn operation_of(outcome: &Self::Outcome) -> u64;

    /// Whether others may be decided upon while this one is under way, and after it before the others of its batch: it takes nothing
    /// away, and brings no news of anything else.
    fn is_plain(operation: &Operation<<Self::Domain as Domain>::Operation>) -> bool;

    /// Whether it is the outcome that was to be expected.
    fn is_success(outcome: &Self::Outcome) -> bool;

    /// Tells the scheduler what came of operations.
    fn performed(&mut self, scheduler: &mut Scheduler<Self::Domain>, outcomes: Vec<Self::Outcome>);

    /// Takes a signal.
    fn signal(&mut self, scheduler: &mut Scheduler<Self::Domain>, signal: Self::Signal, now: Duration);

    /// Before the first desired state is acted upon: what to scan for what an earlier run left.
    fn startup_scan(&mut self, scheduler: &Scheduler<Self::Domain>) -> Option<Self::Look>;

    /// With nothing else to do: what may have changed and is to be looked at, if any is due.
    fn refresh(&mut self, now: Duration) -> Option<Self::Look>;

    /// When [`Self::refresh`] has something to do next.
    fn refresh_deadline(&self) -> Option<Duration>;

    /// Something else is wanted now: what was not to be judged because of what was wanted before is looked at again, and first.
    fn desired_changed(&mut self);

    /// Everything may have changed: [`Self::refresh`] is to look at all that there is.
    fn suspect_all(&mut self, now: Duration);

    /// Tells the scheduler what was seen.
    fn seen(&mut self, scheduler: &mut Scheduler<Self::Domain>, seen: Self::Seen);

    /// Tells the world the new statuses.
    fn publish(&mut self, scheduler: &Scheduler<Self::Domain>, changes: Vec<StatusChange>);

    /// Called each time when all that is wanted has been acted upon, as far as it can be now.
    fn settled(&mut self);
}

/// Something that takes time.
pub enum Work<E: Effects> {
    /// Operations to perform, none of which depends on another.
    Perform(Vec<E::Task>),
    /// Something to look at, when none of the operations handed out is under way but for those that are late.
    Look(E::Look),
}

/// What came of work.
pub enum Done<E: Effects> {
    /// Of the operations that were handed out together. Those that are missing have been told early, or take long, and
    /// then hold up only what depends on them. As
    /// others are decided upon meanwhile, only that may come late which these cannot undermine: what looks for something on which
    /// no other value has an influence.
    Performed(Vec<E::Outcome>),
    /// Of some that are done while the others are being performed.
    Early(Vec<E::Outcome>),
    /// Of some that took long.
    Late(Vec<E::Outcome>),
    /// What was seen.
    Seen(E::Seen),
}

/// See the [module documentation](self).
pub struct Core<E: Effects> {
    scheduler: Scheduler<E::Domain>,
    effects: E,
    phase: Phase,
    in_flight: BTreeSet<u64>,
    /// Decided operations that are not handed out yet.
    backlog: Backlog<E>,
    /// Who waits for which transaction.
    waiting: BTreeMap<u64, Reply<TransactionResult>>,
}

impl<E: Effects> Core<E> {
    /// A core that knows nothing yet.
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

    /// With other limits of the history.
    pub fn with_history(mut self, settings: HistorySettings) -> Self {
        self.scheduler.set_history(settings);
        self
    }

    /// Changes the number of operations per portion.
    #[cfg(any(test, feature = "simulation"))]
    pub fn with_portion(mut self, operations: usize) -> Self {
        self.backlog = Backlog::new(operations);
        self
    }

    /// Takes an event. Nothing is started before [`Self::advance`].
    pub fn take(&mut self, event: Event<E::Domain, E::Signal>, now: Duration) {
        self.scheduler.tell_time(now);
        if !matches!(event, Event::Simulate { .. } | Event::Ask(_)) {
            self.phase.disturb();
        }
        match event {
            Event::Desired { transaction, reply } => self.transact(transaction, reply),
            Event::Simulate { transaction, reply } => reply(self.scheduler.simulate(transaction)),
            Event::Ask(question) => question(&self.scheduler),
            Event::Facts(facts) => facts.into_iter().for_each(|(key, value)| self.scheduler.fact(&key, value)),
            Event::FactsSettled => self.scheduler.settle_facts(),
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
            // Nobody waits: what failed is told by statuses, and what was refused by nobody's asking.
            (Ok(_), None) => {}
            (Err(_), None) => return,
        }
        self.effects.desired_changed();
        if full {
            self.phase.desired_is_complete();
        }
    }

    /// Tells those who wait for transactions that are finished.
    fn reply(&mut self) {
        for result in self.scheduler.take_finished() {
            if let Some(reply) = self.waiting.remove(&result.seq) {
                reply(Ok(result));
            }
        }
    }

    /// Takes what came of work.
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

    /// What to start now, if anything. To be called after each event or outcome, when the [deadline](Self::deadline) is reached, and
    /// again as long as there is an answer: what is known by then is published at the last call, when what is to be done is under way.
    pub fn advance(&mut self, now: Duration) -> Option<Work<E>> {
        match self.phase {
            Phase::AwaitingDesired | Phase::Reading { .. } => None,
            Phase::Performing { .. } => self.go_on(now),
            Phase::ScanDue => self.scan().or_else(|| self.begin(now)),
            Phase::Free => self.begin(now),
        }
    }

    /// Goes on with what follows from the outcomes of the work in flight.
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
        // While others work.
        if self.phase.take_unpublished() {
            self.publish();
        }
        None
    }

    /// Begins the startup scan, if there is anything to scan. It is the reading that a full resync asks for.
    fn scan(&mut self) -> Option<Work<E>> {
        if !self.phase.take_scan_due() {
            return None;
        }
        let scan = self.effects.startup_scan(&self.scheduler)?;
        let for_resync = self.scheduler.take_reading();
        Some(self.look(scan, for_resync))
    }

    /// Starts what comes first, with nothing in flight but what takes long.
    fn begin(&mut self, now: Duration) -> Option<Work<E>> {
        if !self.backlog.is_empty() {
            return self.go_on_with_backlog(now);
        }
        if let Some(work) = self.read_all(now) {
            return Some(work);
        }
        // Under steady change there is always something to do first; what may have changed below must be read all the same.
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
        if self.scheduler.is_reading_asked() {
            return self.begin(now);
        }
        if self.in_flight.is_empty() {
            self.effects.settled();
        }
        self.refresh(now)
    }

    /// Decides on operations. They count as handed out from now on.
    fn step(&mut self, now: Duration) -> Vec<Operation<<E::Domain as Domain>::Operation>> {
        let operations = self.scheduler.step(now);
        self.in_flight.extend(operations.iter().map(|operation| operation.id));
        if self.scheduler.has_overrun() {
            error!("the decisions about some values do not come to an end; the rest is decided a second later: please report this");
        }
        for what in self.scheduler.take_defects() {
            defect(&format!("the scheduler met what cannot be: {what}"));
        }
        operations
    }

    /// Hands out more of the backlog, and first decides on the events that arrived since, unless those need a reading: a reading waits for
    /// the whole backlog.
    fn go_on_with_backlog(&mut self, now: Duration) -> Option<Work<E>> {
        if self.scheduler.is_reading_asked() || self.is_refresh_overdue(now) {
            return self.hand_out(Flow::Draining, now);
        }
        let operations = self.step(now);
        self.backlog.add_first(operations);
        self.hand_out(Flow::STREAMING, now)
    }

    fn is_refresh_overdue(&self, now: Duration) -> bool {
        self.effects.refresh_deadline().is_some_and(|deadline| deadline + OVERDUE <= now)
    }

    /// Hands out the next portion; `flow` follows if all of its operations are plain.
    fn hand_out(&mut self, flow: Flow, now: Duration) -> Option<Work<E>> {
        let operations = self.backlog.take();
        if operations.is_empty() {
            return None;
        }
        let is_plain = operations.iter().all(E::is_plain);
        self.phase.perform(if is_plain { flow } else { Flow::Draining });
        Some(Work::Perform(self.effects.prepare(operations, now)))
    }

    /// Publishes what is known, and replies to those who wait for transactions that are finished.
    fn publish(&mut self) {
        let changes = self.scheduler.take_status_changes();
        if !changes.is_empty() {
            self.effects.publish(&self.scheduler, changes);
        }
        self.reply();
    }

    /// The next timer that matters; while nothing can be started, none does.
    pub fn deadline(&self) -> Option<Duration> {
        if !self.phase.is_free() {
            return None;
        }
        let deadlines = [self.scheduler.next_deadline(), self.effects.refresh_deadline()];
        deadlines.into_iter().flatten().min()
    }

    /// Numbers of the operations that were handed out and have not come back.
    pub fn in_flight(&self) -> impl Iterator<Item = u64> + '_ {
        self.in_flight.iter().copied()
    }

    /// All values and their states.
    pub fn scheduler(&self) -> &Scheduler<E::Domain> {
        &self.scheduler
    }

    /// What it tells the world through.
    pub fn effects(&self) -> &E {
        &self.effects
    }

    /// Reads everything if a transaction asks for it.
    fn read_all(&mut self, now: Duration) -> Option<Work<E>> {
        if !self.scheduler.take_reading() {
            return None;
        }
        self.effects.suspect_all(now);
        match self.effects.refresh(now) {
            Some(look) => Some(self.look(look, true)),
            None => {
                // There is nothing to read.
                self.scheduler.read_again();
                None
            }
        }
    }

    /// Reads what may have changed, if anything is due.
    fn refresh(&mut self, now: Duration) -> Option<Work<E>> {
        let look = self.effects.refresh(now)?;
        Some(self.look(look, false))
    }

    fn look(&mut self, look: E::Look, for_resync: bool) -> Work<E> {
        self.phase.read(for_resync);
        Work::Look(look)
    }
}
