//! The one loop that joins the scheduler and its effects.
//!
//! Owns the scheduler, the clock it is given and the order of events: everything that can wake the agent's core is an [`Event`].
//! Must never perform an effect itself nor know a kind of value: that is behind [`Effects`]. Start reading at [`Engine::run`].
//!
//! One batch of operations is under way at a time. Events that arrive meanwhile only change what is wanted; they are decided
//! upon together when the batch has come back, so a backlog is worked off in fewer and larger batches.

pub mod watch;

use std::{
    future::Future,
    pin::Pin,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use models::key::Key;
use tokio::sync::mpsc;

use crate::scheduler::{Change, Domain, Operation, Scheduler, StatusChange};

/// A refresh that is due for so long goes before operations.
const OVERDUE: Duration = Duration::from_millis(20);

/// Something that happened.
pub enum Event<D: Domain, S> {
    /// The desired state changed; with `full`, these are all values there are.
    Desired {
        /// The changes.
        changes: Vec<Change<D::Value>>,
        /// Whether everything else is no longer wanted.
        full: bool,
    },
    /// Facts from below, in order.
    Facts(Vec<(Key, Option<D::Value>)>),
    /// All facts that exist at start have been told.
    FactsSettled,
    /// What a value refers to may have changed.
    Probe(Key),
    /// Something that only the effects understand.
    Signal(S),
}

/// What is done in the world, and what the world tells back.
pub trait Effects: Send + 'static {
    /// Values and effects.
    type Domain: Domain;
    /// A signal for [`Self::signal`].
    type Signal: Send;
    /// What came of a batch.
    type Batch: Send;

    /// Starts to perform operations, none of which depends on another.
    fn perform(&mut self, operations: Vec<Operation<<Self::Domain as Domain>::Effect>>) -> Work<Self::Batch>;

    /// Tells the scheduler what came of a batch.
    fn integrate(&mut self, scheduler: &mut Scheduler<Self::Domain>, batch: Self::Batch);

    /// Takes a signal.
    fn signal(&mut self, scheduler: &mut Scheduler<Self::Domain>, signal: Self::Signal, now: Duration);

    /// Before the first desired state is acted upon: work that finds what an earlier run left.
    fn survey(&mut self, scheduler: &Scheduler<Self::Domain>) -> Option<Work<Self::Batch>>;

    /// With nothing else to do: work that reads what may have changed, if any is due.
    fn refresh(&mut self, now: Duration) -> Option<Work<Self::Batch>>;

    /// When [`Self::refresh`] has something to do next.
    fn refresh_deadline(&self) -> Option<Duration>;

    /// Tells the world the new statuses.
    fn publish(&mut self, scheduler: &Scheduler<Self::Domain>, changes: Vec<StatusChange>);

    /// Called each time when all that is wanted has been acted upon, as far as it can be now.
    fn settled(&mut self);
}

/// A batch under way.
pub type Work<T> = Pin<Box<dyn Future<Output = T> + Send>>;

/// Sends events to the engine.
pub struct Handle<D: Domain, S>(mpsc::UnboundedSender<Event<D, S>>);

impl<D: Domain, S> Clone for Handle<D, S> {
    fn clone(&self) -> Self {
        Handle(self.0.clone())
    }
}

impl<D: Domain, S> Handle<D, S> {
    /// Hands an event over; false when the engine has ended.
    pub fn send(&self, event: Event<D, S>) -> bool {
        self.0.send(event).is_ok()
    }
}

/// A clock that tells the time since the Unix epoch and never goes backwards.
#[derive(Clone, Copy)]
pub struct Clock {
    start: Instant,
    start_wall: Duration,
}

impl Clock {
    /// Reads the wall clock once; from then on the monotonic one counts.
    pub fn new() -> Self {
        Clock {
            start: Instant::now(),
            start_wall: SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default(),
        }
    }

    /// Time since the Unix epoch.
    pub fn now(&self) -> Duration {
        self.start_wall + self.start.elapsed()
    }
}

impl Default for Clock {
    fn default() -> Self {
        Clock::new()
    }
}

/// The loop.
pub struct Engine<E: Effects> {
    scheduler: Scheduler<E::Domain>,
    effects: E,
    events: mpsc::UnboundedReceiver<Event<E::Domain, E::Signal>>,
    clock: Clock,
    running: Option<Work<E::Batch>>,
    /// The first full desired state has arrived; before that, what is in the kernel is nobody's business.
    begun: bool,
}

impl<E: Effects> Engine<E> {
    /// An engine and the handle through which it hears of things.
    pub fn new(domain: E::Domain, effects: E, clock: Clock) -> (Self, Handle<E::Domain, E::Signal>) {
        let (sender, events) = mpsc::unbounded_channel();
        let engine = Engine {
            scheduler: Scheduler::new(domain),
            effects,
            events,
            clock,
            running: None,
            begun: false,
        };
        (engine, Handle(sender))
    }

    /// Runs until every handle is gone. Cancel-safe at any moment: the kernel and the store hold all that matters.
    pub async fn run(mut self) {
        loop {
            let deadline = self.deadline();
            tokio::select! {
                batch = poll_work(&mut self.running) => {
                    self.running = None;
                    self.effects.integrate(&mut self.scheduler, batch);
                }
                event = self.events.recv() => match event {
                    Some(event) => self.take(event),
                    None => return,
                },
                () = sleep_until(deadline, self.clock.now()) => {}
            }
            while let Ok(event) = self.events.try_recv() {
                self.take(event);
            }
            if self.begun && self.running.is_none() {
                self.advance();
            }
        }
    }

    /// The next timer that matters; while a batch is under way nothing can be started, so none does.
    fn deadline(&self) -> Option<Duration> {
        if self.running.is_some() || !self.begun {
            return None;
        }
        [self.scheduler.next_deadline(), self.effects.refresh_deadline()]
            .into_iter()
            .flatten()
            .min()
    }

    fn take(&mut self, event: Event<E::Domain, E::Signal>) {
        match event {
            Event::Desired { changes, full } => {
                self.scheduler.transaction(changes, full);
                if full && !self.begun {
                    self.begun = true;
                    self.running = self.effects.survey(&self.scheduler);
                }
            }
            Event::Facts(facts) => facts.into_iter().for_each(|(key, value)| self.scheduler.fact(&key, value)),
            Event::FactsSettled => self.scheduler.settle_facts(),
            Event::Probe(key) => self.scheduler.probe(&key),
            Event::Signal(signal) => self.effects.signal(&mut self.scheduler, signal, self.clock.now()),
        }
    }

    fn advance(&mut self) {
        let now = self.clock.now();
        // Under steady change there is always something to do first; what may have changed below must be read all the same.
        if self.effects.refresh_deadline().is_some_and(|deadline| deadline + OVERDUE <= now) {
            self.running = self.effects.refresh(now);
            if self.running.is_some() {
                return;
            }
        }
        let operations = self.scheduler.step(now);
        let changes = self.scheduler.take_status_changes();
        if !changes.is_empty() {
            self.effects.publish(&self.scheduler, changes);
        }
        if !operations.is_empty() {
            self.running = Some(self.effects.perform(operations));
            return;
        }
        self.effects.settled();
        self.running = self.effects.refresh(now);
    }
}

async fn poll_work<T>(work: &mut Option<Work<T>>) -> T {
    match work {
        Some(work) => work.await,
        None => std::future::pending().await,
    }
}

async fn sleep_until(deadline: Option<Duration>, now: Duration) {
    match deadline {
        Some(deadline) => tokio::time::sleep(deadline.saturating_sub(now)).await,
        None => std::future::pending().await,
    }
}
