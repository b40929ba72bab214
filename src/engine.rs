//! The one loop that joins the scheduler and its effects.
//!
//! Owns the order of events: everything that can wake the agent's core is an [`Event`]. Must never perform an effect itself nor
//! know a kind of value: that is behind [`Effects`] and [`Performer`]. Start reading at [`Core`], which decides without waiting
//! for anything and without a clock; [`Engine::run`] is the loop that gives it both.
//!
//! The loop has one piece of work under way at a time. Events that arrive meanwhile only change what is wanted; they are decided
//! upon together when the work has come back, so a backlog is worked off in fewer and larger batches.

mod core;

pub mod watch;

use std::{
    future::Future,
    pin::Pin,
    sync::Arc,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use tokio::sync::mpsc;

pub use self::core::{Core, Done, Effects, Event, Work};
use crate::scheduler::Domain;

/// Does in the world what the core wants done.
pub trait Performer<E: Effects>: Send + 'static {
    /// Starts a piece of work. It goes on although nobody waits for the future.
    fn start(&self, work: Work<E>) -> UnderWay<Done<E>>;
}

/// Work that has been started.
pub type UnderWay<T> = Pin<Box<dyn Future<Output = T> + Send>>;

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
#[derive(Clone)]
pub struct Clock(Arc<dyn Fn() -> Duration + Send + Sync>);

impl Clock {
    /// Reads the wall clock once; from then on the monotonic one counts.
    pub fn new() -> Self {
        let start = Instant::now();
        let start_wall = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Clock::told_by(move || start_wall + start.elapsed())
    }

    /// A clock that somebody else turns.
    pub fn told_by(now: impl Fn() -> Duration + Send + Sync + 'static) -> Self {
        Clock(Arc::new(now))
    }

    /// Time since the Unix epoch.
    pub fn now(&self) -> Duration {
        (self.0)()
    }
}

impl Default for Clock {
    fn default() -> Self {
        Clock::new()
    }
}

/// The loop around a [`Core`].
pub struct Engine<E: Effects, P> {
    core: Core<E>,
    performer: P,
    events: mpsc::UnboundedReceiver<Event<E::Domain, E::Signal>>,
    clock: Clock,
    running: Option<UnderWay<Done<E>>>,
}

impl<E: Effects, P: Performer<E>> Engine<E, P> {
    /// An engine and the handle through which it hears of things.
    pub fn new(core: Core<E>, performer: P, clock: Clock) -> (Self, Handle<E::Domain, E::Signal>) {
        let (sender, events) = mpsc::unbounded_channel();
        let engine = Engine {
            core,
            performer,
            events,
            clock,
            running: None,
        };
        (engine, Handle(sender))
    }

    /// Runs until every handle is gone. Cancel-safe at any moment: the kernel and the store hold all that matters.
    pub async fn run(mut self) {
        loop {
            let now = self.clock.now();
            tokio::select! {
                biased;
                done = poll_work(&mut self.running) => {
                    self.running = None;
                    self.core.done(done);
                }
                event = self.events.recv() => match event {
                    Some(event) => self.core.take(event, self.clock.now()),
                    None => return,
                },
                () = sleep_until(self.core.deadline(), now) => {}
            }
            while let Ok(event) = self.events.try_recv() {
                self.core.take(event, self.clock.now());
            }
            if self.running.is_none() {
                self.running = self.core.advance(self.clock.now()).map(|work| self.performer.start(work));
            }
        }
    }
}

async fn poll_work<T>(work: &mut Option<UnderWay<T>>) -> T {
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
