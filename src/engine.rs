//! Engine loop, which connects the scheduler to the kernel, the store and the clients.
//!
//! Everything that can wake the agent is an [`Event`]. [`Core`] decides what to do, but never waits and never reads a clock. [`Engine::run`] waits
//! for events and passes them to the core together with the current time. The engine acts on the system only through [`Effects`] and [`Performer`],
//! so it does not depend on the types of values.
//!
//! Normally, only one piece of work is in flight. There are two exceptions. A slow operation can still be running after its piece of work has
//! completed. During a large change, further operations can start before earlier ones have completed. While work is in flight, new events are only
//! recorded. The core then processes all recorded events together, so a backlog of events leads to a few large batches.

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

/// Performs the work that [`Core::advance`] returns.
pub trait Performer<E: Effects>: Send + 'static {
    /// Starts a piece of work and returns immediately. The results are sent to `done` in the order in which they occur.
    fn start(&self, work: Work<E>, done: &DoneSender<E>);
}

/// Channel to which a [`Performer`] sends the results of its work.
pub type DoneSender<E> = mpsc::UnboundedSender<Done<E>>;

/// Handle that sends events to the engine.
pub struct Handle<D: Domain<Key = Key>, S>(mpsc::UnboundedSender<Event<D, S>>);

impl<D: Domain<Key = Key>, S> Clone for Handle<D, S> {
    fn clone(&self) -> Self {
        Handle(self.0.clone())
    }
}

impl<D: Domain<Key = Key>, S> Handle<D, S> {
    /// Sends an event. Returns `false` if the engine has stopped.
    pub fn send(&self, event: Event<D, S>) -> bool {
        self.0.send(event).is_ok()
    }

    /// Returns a client that can read and change the desired state, but cannot send signals to the engine.
    pub fn client(&self) -> Client<D>
    where
        S: Send + 'static,
    {
        let events = self.0.clone();
        Client(Arc::new(move |request| events.send(request.into()).is_ok()))
    }
}

/// Request from a [`Client`].
pub(crate) enum Request<D: Domain<Key = Key>> {
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

/// Client that queries the engine and changes the desired state. Cheap to clone.
pub struct Client<D: Domain<Key = Key>>(Arc<dyn Fn(Request<D>) -> bool + Send + Sync>);

impl<D: Domain<Key = Key>> Clone for Client<D> {
    fn clone(&self) -> Self {
        Client(self.0.clone())
    }
}

impl<D: Domain<Key = Key>> Client<D> {
    /// Returns a client whose requests are passed to a function instead of an engine. The function returns `false` to refuse one.
    #[cfg(test)]
    pub(crate) fn answered_by(answer: impl Fn(Request<D>) -> bool + Send + Sync + 'static) -> Self {
        Client(Arc::new(answer))
    }

    /// Applies a transaction and waits until it is finished. The transaction continues if the caller stops waiting.
    ///
    /// # Errors
    /// Fails if the transaction is rejected or the engine has stopped. A value that fails does not cause an error; the result lists it.
    pub async fn commit(&self, transaction: Transaction<D::Value>) -> Result<TransactionResult, CommitError> {
        self.begin(transaction).await
    }

    /// Sends a transaction immediately, and returns a future for its result. Unlike [`Self::commit`], this method sends the transaction even if
    /// the future is never polled. Transactions are applied in the order of the calls.
    pub fn begin(
        &self,
        transaction: Transaction<D::Value>,
    ) -> impl Future<Output = Result<TransactionResult, CommitError>> + Send + use<D> {
        let (reply, answer) = answer();
        (self.0)(Request::Desired(transaction, Some(reply)));
        async { Ok(answer.await.map_err(|_| CommitError::Closed)??) }
    }

    /// Applies a transaction without waiting for its result. Transactions passed to this method and to [`Self::begin`] are
    /// applied in the order of the calls.
    pub fn submit(&self, transaction: Transaction<D::Value>) {
        (self.0)(Request::Desired(transaction, None));
    }

    /// Returns the operations that a transaction would perform.
    ///
    /// # Errors
    /// Fails if the transaction is rejected or the engine has stopped.
    pub async fn simulate(&self, transaction: Transaction<D::Value>) -> Result<Vec<Planned<D::Value>>, CommitError> {
        let (reply, answer) = answer();
        (self.0)(Request::Simulate(transaction, reply));
        Ok(answer.await.map_err(|_| CommitError::Closed)??)
    }

    /// Calls `question` with the scheduler and returns the result of the call. Returns `None` if the engine has stopped.
    ///
    /// `question` blocks the engine, so it must be fast. It should only clone the required data. The caller can convert the data to JSON
    /// afterwards.
    pub async fn ask<T: Send + 'static>(&self, question: impl FnOnce(&Scheduler<D>) -> T + Send + 'static) -> Option<T> {
        let (sender, answer) = oneshot::channel();
        (self.0)(Request::Ask(Box::new(move |scheduler| {
            // Sending fails only if the caller has dropped its future, which is harmless.
            let _ = sender.send(question(scheduler));
        })));
        answer.await.ok()
    }
}

/// Reason why a transaction was not applied.
#[derive(Debug, thiserror::Error)]
pub enum CommitError {
    /// The transaction was rejected because its options cannot be combined.
    #[error(transparent)]
    Refused(#[from] Unacceptable),
    /// The engine has stopped.
    #[error("the engine has stopped")]
    Closed,
}

fn answer<T: Send + 'static>() -> (Reply<T>, oneshot::Receiver<Result<T, Unacceptable>>) {
    let (sender, answer) = oneshot::channel();
    let reply = move |result| {
        // Sending fails only if the caller has dropped its future, which is harmless.
        let _ = sender.send(result);
    };
    (Box::new(reply), answer)
}

/// Clock that returns the time since the Unix epoch and never goes backwards.
#[derive(Clone)]
pub struct Clock(Arc<dyn Fn() -> Duration + Send + Sync>);

impl Clock {
    /// Creates a clock that reads the system time once and follows the monotonic clock from then on.
    pub fn new() -> Self {
        let start = Instant::now();
        let start_wall = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Clock::with_clock(move || start_wall + start.elapsed())
    }

    /// Creates a clock from a function that returns the time since the Unix epoch.
    pub fn with_clock(now: impl Fn() -> Duration + Send + Sync + 'static) -> Self {
        Clock(Arc::new(now))
    }

    /// Returns the time since the Unix epoch.
    pub fn now(&self) -> Duration {
        (self.0)()
    }
}

impl Default for Clock {
    fn default() -> Self {
        Clock::new()
    }
}

/// Event loop that drives a [`Core`].
pub struct Engine<E: Effects, P> {
    core: Core<E>,
    performer: P,
    events: mpsc::UnboundedReceiver<Event<E::Domain, E::Signal>>,
    clock: Clock,
    done: mpsc::UnboundedReceiver<Done<E>>,
    done_sender: DoneSender<E>,
}

impl<E: Effects, P: Performer<E>> Engine<E, P> {
    /// Creates an engine and the handle that sends events to it.
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

    /// Runs until all handles are dropped. It is safe to drop the future at any time, because all important state is in the
    /// kernel and in the store.
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
