//! The decisions of the engine, without waiting and without a clock: events and outcomes go in, work comes out.
//!
//! Owns the scheduler, and the knowledge of what is under way. Must never perform anything, sleep or ask for the time: who drives
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
#[cfg(test)]
mod tests;

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use models::key::Key;
use tracing::error;

use self::backlog::Backlog;
use kvscheduler::{
    Domain, Operation, Resync, Scheduler, StatusChange, Transaction, TransactionResult, Unacceptable,
    history::{HistorySettings, record::OperationRecord},
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
pub enum Event<D: Domain, S> {
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
        reply: Reply<Vec<OperationRecord<D::Value>>>,
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
    type Domain: Domain;
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
    fn places(operation: &Operation<<Self::Domain as Domain>::Effect>) -> Vec<Self::Place>;

    /// Returns whether an operation must be in one portion with all operations of the same decision.
    fn goes_together(operation: &Operation<<Self::Domain as Domain>::Effect>) -> bool;

    /// Readies operations, none of which depends on another. Tasks that are no operation may come with them.
    fn prepare(&mut self, operations: Vec<Operation<<Self::Domain as Domain>::Effect>>, now: Duration) -> Vec<Self::Task>;

    /// The number of the operation that an outcome is of.
    fn operation_of(outcome: &Self::Outcome) -> u64;

    /// Whether others may be decided upon while this one is under way, and after it before the others of its batch: it takes nothing
    /// away, and brings no news of anything else.
    fn is_plain(operation: &Operation<<Self::Domain as Domain>::Effect>) -> bool;

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
    /// The first full desired state has arrived; before that, what is in the kernel is nobody's business.
    begun: bool,
    survey_due: bool,
    in_flight: BTreeSet<u64>,
    /// Decided operations that are not handed out yet.
    backlog: Backlog<E>,
    /// Batches of operations that are being performed.
    performing: usize,
    /// Something is being looked at.
    looking: bool,
    /// All that is under way is plain, and since it began all that happened was that operations succeeded.
    smooth: bool,
    /// Outcomes have been told since the last decisions.
    outcomes_told: bool,
    /// Operations were handed out, and what led to them has not been told yet.
    untold: bool,
    /// A look under way looks at everything, because a transaction asked for it.
    reading: bool,
    /// Who waits for which transaction.
    waiting: BTreeMap<u64, Reply<TransactionResult>>,
}

impl<E: Effects> Core<E> {
    /// A core that knows nothing yet.
    pub fn new(domain: E::Domain, effects: E) -> Self {
        Core {
            scheduler: Scheduler::new(domain),
            effects,
            begun: false,
            survey_due: false,
            in_flight: BTreeSet::new(),
            backlog: Backlog::new(PORTION),
            performing: 0,
            looking: false,
            smooth: false,
            outcomes_told: false,
            untold: false,
            reading: false,
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
        self.smooth &= matches!(event, Event::Simulate { .. } | Event::Ask(_));
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
        if full && !self.begun {
            (self.begun, self.survey_due) = (true, true);
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
                self.performing = self.performing.saturating_sub(1);
                self.performed(outcomes);
            }
            Done::Early(outcomes) => self.performed(outcomes),
            Done::Late(outcomes) => {
                self.smooth = false;
                self.performed(outcomes);
            }
            Done::Seen(seen) => {
                self.looking = false;
                self.effects.seen(&mut self.scheduler, seen);
                if std::mem::take(&mut self.reading) {
                    self.scheduler.read_again();
                }
            }
        }
    }

    fn performed(&mut self, outcomes: Vec<E::Outcome>) {
        for outcome in &outcomes {
            self.in_flight.remove(&E::operation_of(outcome));
            self.smooth &= E::is_success(outcome);
        }
        self.outcomes_told |= !outcomes.is_empty();
        self.effects.performed(&mut self.scheduler, outcomes);
    }

    /// What to start now, if anything. To be called after each event or outcome, when the [deadline](Self::deadline) is reached, and
    /// again as long as there is an answer: what is known by then is published at the last call, when what is to be done is under way.
    pub fn advance(&mut self, now: Duration) -> Option<Work<E>> {
        if !self.is_free() {
            let operations = self.go_on(now);
            self.backlog.add(operations);
            if self.smooth
                && self.performing < AHEAD
                && let Some(work) = self.hand_out(now)
            {
                return Some(work);
            }
            // While others work.
            if std::mem::take(&mut self.untold) {
                self.tell();
            }
            return None;
        }
        if !self.backlog.is_empty() {
            return self.go_on_with_backlog(now);
        }
        if std::mem::take(&mut self.survey_due) {
            let survey = self.effects.startup_scan(&self.scheduler);
            if survey.is_some() {
                // It is the reading that a full resync asks for.
                self.reading = self.scheduler.take_reading();
                return self.look(survey);
            }
        }
        if let Some(work) = self.read_all(now) {
            return Some(work);
        }
        // Under steady change there is always something to do first; what may have changed below must be read all the same.
        if self.is_refresh_overdue(now) {
            let refresh = self.effects.refresh(now);
            if refresh.is_some() {
                return self.look(refresh);
            }
        }
        self.outcomes_told = false;
        let operations = self.step(now);
        if operations.is_empty() {
            self.tell();
        } else {
            self.smooth = true;
            self.backlog.add(operations);
            return self.hand_out(now);
        }
        if self.scheduler.is_reading_asked() {
            return self.advance(now);
        }
        if self.in_flight.is_empty() {
            self.effects.settled();
        }
        let refresh = self.effects.refresh(now);
        self.look(refresh)
    }

    /// What follows from what has been told of the work under way.
    fn go_on(&mut self, now: Duration) -> Vec<Operation<<E::Domain as Domain>::Effect>> {
        if !self.smooth || !std::mem::take(&mut self.outcomes_told) {
            return Vec::new();
        }
        self.untold = true;
        self.step(now)
    }

    /// Decides on operations. They count as handed out from now on.
    fn step(&mut self, now: Duration) -> Vec<Operation<<E::Domain as Domain>::Effect>> {
        let operations = self.scheduler.step(now);
        self.in_flight.extend(operations.iter().map(|operation| operation.id));
        if self.scheduler.has_overrun() {
            error!("the decisions about some values do not come to an end; the rest is decided a second later: please report this");
        }
        operations
    }

    /// Hands out more of the backlog, and first decides on the events that arrived since, unless those need a reading: a reading waits for
    /// the whole backlog.
    fn go_on_with_backlog(&mut self, now: Duration) -> Option<Work<E>> {
        self.smooth = !self.survey_due && !self.scheduler.is_reading_asked() && !self.is_refresh_overdue(now);
        self.outcomes_told = false;
        if self.smooth {
            let operations = self.step(now);
            self.backlog.add_first(operations);
        }
        self.hand_out(now)
    }

    fn is_refresh_overdue(&self, now: Duration) -> bool {
        self.effects.refresh_deadline().is_some_and(|deadline| deadline + OVERDUE <= now)
    }

    /// Hands out the next portion.
    fn hand_out(&mut self, now: Duration) -> Option<Work<E>> {
        let operations = self.backlog.take();
        if operations.is_empty() {
            return None;
        }
        self.untold = true;
        self.smooth &= operations.iter().all(E::is_plain);
        self.performing += 1;
        Some(Work::Perform(self.effects.prepare(operations, now)))
    }

    /// Tells what is known, and who waits for transactions that are finished.
    fn tell(&mut self) {
        let changes = self.scheduler.take_status_changes();
        if !changes.is_empty() {
            self.effects.publish(&self.scheduler, changes);
        }
        self.reply();
    }

    /// The next timer that matters; while nothing can be started, none does.
    pub fn deadline(&self) -> Option<Duration> {
        if !self.is_free() {
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

    /// Whether anything may be started: when nothing is under way but what takes long. So what happens in quick succession is decided
    /// upon together.
    fn is_free(&self) -> bool {
        self.begun && self.performing == 0 && !self.looking
    }

    /// Looks at everything if a transaction asks for it.
    fn read_all(&mut self, now: Duration) -> Option<Work<E>> {
        if !self.scheduler.take_reading() {
            return None;
        }
        self.effects.suspect_all(now);
        let refresh = self.effects.refresh(now);
        self.reading = refresh.is_some();
        if !self.reading {
            // There is nothing to look at.
            self.scheduler.read_again();
        }
        self.look(refresh)
    }

    fn look(&mut self, look: Option<E::Look>) -> Option<Work<E>> {
        let look = look?;
        (self.looking, self.smooth) = (true, false);
        Some(Work::Look(look))
    }
}
