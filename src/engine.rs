//! The one loop that joins the scheduler and its effects.
//!
//! Owns the order of events: everything that can wake the agent's core is an [`Event`]. Must never perform an effect itself nor
//! know a kind of value: that is behind [`Effects`] and [`Performer`]. Start reading at [`Core`], which decides without waiting
//! for anything and without a clock; [`Engine::run`] is the loop that gives it both.
//!
//! The loop has one piece of work under way at a time, what is left of earlier ones because it takes long, and what follows from the
//! parts of a large one that are done. Events that arrive meanwhile only change what is wanted; they are decided upon together when the
//! work has come back, so a backlog is worked off in fewer and larger batches.

mod core;

pub mod watch;

use std::{
    sync::Arc,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use models::key::Key;
use tokio::sync::{mpsc, oneshot};

pub use self::core::{Core, Done, Effects, Event, Question, Reply, Work};

use crate::scheduler::{Domain, Planned, Scheduler, Transaction, TransactionResult, Unacceptable};

/// Does in the world what the core wants done.
pub trait Performer<E: Effects>: Send + 'static {
    /// Starts a piece of work and returns at once. What comes of it is told to `done`, as [`Core`] assumes it.
    fn start(&self, work: Work<E>, done: &DoneSender<E>);
}

/// Where a [`Performer`] tells what came of work.
pub type DoneSender<E> = mpsc::UnboundedSender<Done<E>>;

/// Sends events to the engine.
pub struct Handle<D: Domain<Key = Key>, S>(mpsc::UnboundedSender<Event<D, S>>);

impl<D: Domain<Key = Key>, S> Clone for Handle<D, S> {
    fn clone(&self) -> Self {
        Handle(self.0.clone())
    }
}

impl<D: Domain<Key = Key>, S> Handle<D, S> {
    /// Hands an event over; false when the engine has ended.
    pub fn send(&self, event: Event<D, S>) -> bool {
        self.0.send(event).is_ok()
    }

    /// A handle for whoever asks and changes what is desired, and has no signals to bring.
    pub fn client(&self) -> Client<D>
    where
        S: Send + 'static,
    {
        let events = self.0.clone();
        Client(Arc::new(move |request| events.send(request.into()).is_ok()))
    }
}

/// What a [`Client`] may send.
enum Request<D: Domain<Key = Key>> {
    Desired(Transaction<D::Value>, Option<Reply<TransactionResult>>),
    Simulate(Transaction<D::Value>, Reply<Vec<Planned<D::Value>>>),
    Ask(Question<D>),
}

impl<D: Domain<Key = Key>, S> From<Request<D>> for Event<D, S> {
    fn from(request: Request<D>) -> Self {
        match request {
            Request::Desired(transaction, reply) => Event::Desired { transaction, reply },
            Request::Simulate(transaction, reply) => Event::Simulate { transaction, reply },
            Request::Ask(question) => Event::Ask(question),
        }
    }
}

/// Asks the engine and changes what is desired. Cheap to clone.
pub struct Client<D: Domain<Key = Key>>(Arc<dyn Fn(Request<D>) -> bool + Send + Sync>);

impl<D: Domain<Key = Key>> Clone for Client<D> {
    fn clone(&self) -> Self {
        Client(self.0.clone())
    }
}

impl<D: Domain<Key = Key>> Client<D> {
    /// Has a transaction applied, and waits until nothing of it is left to do. It goes on although nobody waits any more.
    ///
    /// # Errors
    /// It was refused, or the engine has ended. What failed of its values is in the result.
    pub async fn commit(&self, transaction: Transaction<D::Value>) -> Result<TransactionResult, CommitError> {
        self.begin(transaction).await
    }

    /// As [`Self::commit`], but handed over before this returns: the order of calls is that of the transactions.
    pub fn begin(
        &self,
        transaction: Transaction<D::Value>,
    ) -> impl Future<Output = Result<TransactionResult, CommitError>> + Send + use<D> {
        let (reply, answer) = answer();
        (self.0)(Request::Desired(transaction, Some(reply)));
        async { Ok(answer.await.map_err(|_| CommitError::Closed)??) }
    }

    /// Has a transaction applied without waiting; in the order of calls, these and those of [`Self::begin`] alike.
    pub fn submit(&self, transaction: Transaction<D::Value>) {
        (self.0)(Request::Desired(transaction, None));
    }

    /// Finds out what a transaction would do.
    ///
    /// # Errors
    /// As for [`Self::commit`].
    pub async fn simulate(&self, transaction: Transaction<D::Value>) -> Result<Vec<Planned<D::Value>>, CommitError> {
        let (reply, answer) = answer();
        (self.0)(Request::Simulate(transaction, reply));
        Ok(answer.await.map_err(|_| CommitError::Closed)??)
    }

    /// Looks at the scheduler between two events; `None` when the engine has ended. The question must be short: nothing else is
    /// done meanwhile. Records and revisions are best cloned, and written as JSON by whoever asks.
    pub async fn ask<T: Send + 'static>(&self, question: impl FnOnce(&Scheduler<D>) -> T + Send + 'static) -> Option<T> {
        let (sender, answer) = oneshot::channel();
        (self.0)(Request::Ask(Box::new(move |scheduler| {
            // Whoever asked may have gone.
            let _ = sender.send(question(scheduler));
        })));
        answer.await.ok()
    }
}

/// Why a transaction was not carried out.
#[derive(Debug, thiserror::Error)]
pub enum CommitError {
    /// Its options cannot be combined.
    #[error(transparent)]
    Refused(#[from] Unacceptable),
    /// The engine has ended.
    #[error("scheduler was closed")]
    Closed,
}

fn answer<T: Send + 'static>() -> (Reply<T>, oneshot::Receiver<Result<T, Unacceptable>>) {
    let (sender, answer) = oneshot::channel();
    let reply = move |result| {
        // Whoever asked may have gone.
        let _ = sender.send(result);
    };
    (Box::new(reply), answer)
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
    done: mpsc::UnboundedReceiver<Done<E>>,
    done_sender: DoneSender<E>,
}

impl<E: Effects, P: Performer<E>> Engine<E, P> {
    /// An engine and the handle through which it hears of things.
    pub fn new(core: Core<E>, performer: P, clock: Clock) -> (Self, Handle<E::Domain, E::Signal>) {
        let (sender, events) = mpsc::unbounded_channel();
        let (done_sender, done) = mpsc::unbounded_channel();
        let engine = Engine {
            core,
            performer,
            events,
            clock,
            done,
            done_sender,
        };
        (engine, Handle(sender))
    }

    /// Runs until every handle is gone. Cancel-safe at any moment: the kernel and the store hold all that matters.
    pub async fn run(mut self) {
        loop {
            let now = self.clock.now();
            tokio::select! {
                biased;
                Some(done) = self.done.recv() => self.core.done(done),
                event = self.events.recv() => match event {
                    Some(event) => self.core.take(event, self.clock.now()),
                    None => return,
                },
                () = sleep_until(self.core.deadline(), now) => {}
            }
            while let Ok(event) = self.events.try_recv() {
                self.core.take(event, self.clock.now());
            }
            while let Ok(done) = self.done.try_recv() {
                self.core.done(done);
            }
            while let Some(work) = self.core.advance(self.clock.now()) {
                self.performer.start(work, &self.done_sender);
            }
        }
    }
}

async fn sleep_until(deadline: Option<Duration>, now: Duration) {
    match deadline {
        Some(deadline) => tokio::time::sleep(deadline.saturating_sub(now)).await,
        None => std::future::pending().await,
    }
}
