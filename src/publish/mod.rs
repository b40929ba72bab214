//! Status out: the newest state of each key, written to the store under a lease.
//!
//! Owns the keys under `config-status/`, `status/` and `check/status/` of this agent. Must never block its callers, and never
//! write an older state over a newer one. Start reading at [`Publisher`]; `state` decides what to write, `course`
//! what to ask of the store, `writer` asks it.
//!
//! # Expected flow
//! [`Publisher::set`] and [`Publisher::remove`] change a map and wake the writer. It writes what differs from the store, in
//! transactions, and skips states that were replaced before their turn.
//!
//! # Guarantees
//! The last state set for a key is the one that stays in the store, also over lost connections: a transaction of unknown
//! outcome cannot take effect late, because its lease is revoked before the keys count as stored, and deletions are guarded.
//! When the agent dies, its keys vanish with the lease.
//!
//! A key that somebody else deletes is written again at once; one that somebody else overwrites, within ten minutes.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::{
    sync::{Notify, watch},
    task::JoinHandle,
};

pub use self::content::Content;
pub use self::message::{AGENT_HEALTH, PART_HEALTH, Published};
use self::{state::State, writer::Writer};
use crate::store::{Connector, StoreConfig, StoreError};

mod content;
pub(crate) mod course;
mod message;
pub(crate) mod state;
mod writer;

/// Key spaces that the publisher owns, below its prefix. Everything else there belongs to others.
pub const OWN_KEY_SPACES: [&str; 3] = ["check/status/", "config-status/", "status/"];

/// Settings of the publisher.
#[derive(Clone, Debug)]
pub struct PublisherOptions {
    /// How long the keys outlive an agent that has died; at least 1 s. It is renewed three times in this time.
    pub ttl: Duration,
}

impl Default for PublisherOptions {
    fn default() -> Self {
        Self {
            ttl: Duration::from_secs(10),
        }
    }
}

/// Whether status reaches the store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StoreHealth {
    /// No attempt has ended yet.
    Connecting,
    /// Status is being written.
    Connected {
        /// URL of the store's endpoint.
        endpoint: String,
    },
    /// Status is kept in memory and written when the store is back.
    Disconnected {
        /// For the person who reads it.
        message: String,
    },
}

/// The publisher was shut down before everything was stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the status publisher was shut down; what was set last may not be stored")]
pub struct Stopped;

/// A handle to the publisher; cheap to clone. The publisher ends with [`Publisher::shutdown`] or when the last handle is dropped
/// (then the lease is left to expire).
#[derive(Clone)]
pub struct Publisher {
    inner: Arc<Inner>,
}

struct Inner {
    shared: Arc<Shared>,
    health: watch::Receiver<StoreHealth>,
    stop: watch::Sender<bool>,
    task: Mutex<Option<JoinHandle<Result<(), StoreError>>>>,
}

/// What handles and writer share.
struct Shared {
    // A std mutex: it is held for a few map operations and never across an await.
    state: Mutex<State>,
    changed: Notify,
    /// Number of the last change up to which everything is stored; `None` after the end.
    settled: watch::Sender<Option<u64>>,
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Publisher {
    /// Starts to publish under `prefix` (`/vnf-agent/<label>/`). Must be called within a Tokio runtime. The store may be
    /// unreachable: states are kept until it is there.
    ///
    /// # Errors
    /// Only for a configuration that can never work.
    pub fn start(config: StoreConfig, prefix: String, options: PublisherOptions) -> Result<Self, StoreError> {
        let connector = Connector::new(config)?;
        let shared = Arc::new(Shared {
            state: Mutex::new(State::default()),
            changed: Notify::new(),
            settled: watch::Sender::new(Some(0)),
        });
        let (health_sender, health) = watch::channel(StoreHealth::Connecting);
        let (stop, stopped) = watch::channel(false);
        let writer = Writer::new(connector, prefix, options.ttl, shared.clone(), health_sender);
        let task = Mutex::new(Some(tokio::spawn(writer.run(stopped))));
        Ok(Self {
            inner: Arc::new(Inner {
                shared,
                health,
                stop,
                task,
            }),
        })
    }

    /// Publishes a message, or JSON, under `key` (after the prefix, within [`OWN_KEY_SPACES`]). Returns at once; the message becomes
    /// text when its turn comes.
    pub fn set(&self, key: &str, content: impl Into<Content>) {
        if owned(key) {
            self.inner.shared.state().set(key, content.into());
            self.inner.shared.changed.notify_one();
        }
    }

    /// Deletes `key`. Returns at once.
    pub fn remove(&self, key: &str) {
        if owned(key) {
            self.inner.shared.state().remove(key);
            self.inner.shared.changed.notify_one();
        }
    }

    /// Deletes all keys in [`OWN_KEY_SPACES`] that are not set now, left by an earlier run; those found later too. To be called
    /// when everything that is to be published has been set once.
    pub fn retain_only_current(&self) {
        self.inner.shared.state().retain_only_current();
        self.inner.shared.changed.notify_one();
    }

    /// Waits until all that was set and removed before this call is in the store, or replaced by something newer that is. A
    /// value that the store refuses for good (too large) is logged and does not count.
    ///
    /// # Errors
    /// [`Stopped`].
    pub async fn flush(&self) -> Result<(), Stopped> {
        let target = self.inner.shared.state().sequence();
        let mut settled = self.inner.shared.settled.subscribe();
        // A change that made nothing to write does not wake the writer to count it.
        self.inner.shared.changed.notify_one();
        let reached = settled.wait_for(|settled| settled.is_none_or(|settled| settled >= target)).await;
        reached.ok().and_then(|settled| *settled).map(|_| ()).ok_or(Stopped)
    }

    /// Whether status reaches the store, now and at each change.
    pub fn health(&self) -> watch::Receiver<StoreHealth> {
        self.inner.health.clone()
    }

    /// Stops writing and revokes the lease, so that all published keys vanish. A second call does nothing.
    ///
    /// # Errors
    /// The lease could not be revoked within 3 s; the keys vanish when it expires.
    pub async fn shutdown(&self) -> Result<(), StoreError> {
        self.inner.stop.send_replace(true);
        let task = self.inner.task.lock().unwrap_or_else(PoisonError::into_inner).take();
        match task {
            // A join error means that the runtime is ending and has cancelled the task: there is nothing left to stop.
            Some(task) => task.await.unwrap_or(Ok(())),
            None => Ok(()),
        }
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        if let Some(task) = self.task.lock().unwrap_or_else(PoisonError::into_inner).take() {
            task.abort();
        }
    }
}

/// A key outside would not be found again after a lost connection, and could be someone's configuration.
fn owned(key: &str) -> bool {
    let owned = OWN_KEY_SPACES.iter().any(|space| key.starts_with(space));
    if !owned {
        tracing::error!(key, "not published: the key is outside the publisher's key spaces");
    }
    owned
}
