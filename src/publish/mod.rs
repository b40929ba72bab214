//! Publishes status: writes the newest state of each key to the store, under a lease.
//!
//! The publisher owns this agent's keys below `config-status/`, `status/` and `check/status/`. It never blocks its callers, and never
//! overwrites a newer state with an older one. `state` decides what to write, `lease_state` decides which request to send to the store, and
//! `writer` sends it.
//!
//! # Flow
//! [`Publisher::set`] and [`Publisher::remove`] change a map and wake the writer. The writer sends transactions that make the
//! store agree with the map, and skips states that were replaced before they were written.
//!
//! # Guarantees
//! The store ends up with the last state set for each key, even if connections are lost. A transaction with an unknown outcome cannot take effect
//! late. Its deletions are guarded, and its lease is revoked before the keys count as stored. When the agent dies, its lease expires and the
//! store deletes its keys.
//!
//! A key that another client deletes is rewritten at once; a key that another client overwrites is rewritten within ten minutes.

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
pub(crate) mod lease_state;
mod message;
pub(crate) mod state;
mod writer;

/// Key spaces that the publisher owns, without the agent prefix. The publisher does not touch any other keys.
pub const OWN_KEY_SPACES: [&str; 3] = ["check/status/", "config-status/", "status/"];

/// Publisher settings.
#[derive(Clone, Debug)]
pub struct PublisherOptions {
    /// TTL of the lease, which is the time until the store deletes the keys of an agent that has died; at least 1 s. The agent
    /// renews the lease three times within this time.
    pub ttl: Duration,
}

impl Default for PublisherOptions {
    fn default() -> Self {
        Self {
            ttl: Duration::from_secs(10),
        }
    }
}

/// State of the store connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StoreHealth {
    /// No connection attempt has completed yet.
    Connecting,
    /// The store can be reached, and statuses are written to it.
    Connected {
        /// URL of the store endpoint.
        endpoint: String,
    },
    /// The store cannot be reached. Statuses are kept in memory, and written when the store can be reached again.
    Disconnected {
        /// Error message for users.
        message: String,
    },
}

/// Error returned if the publisher was shut down before all changes were stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the status publisher was shut down; the last changes may not be stored")]
pub struct Stopped;

/// Handle to the publisher; cheap to clone.
///
/// The publisher stops when [`Publisher::shutdown`] is called or the last handle is dropped. Dropping the last handle does not
/// revoke the lease, which then expires by itself.
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

/// State shared by the handles and the writer.
struct Shared {
    // A std mutex suffices, because it is locked only for a few map operations and never across an await.
    state: Mutex<State>,
    changed: Notify,
    /// Sequence number up to which all changes are stored; `None` once the writer has stopped.
    settled: watch::Sender<Option<u64>>,
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Publisher {
    /// Starts publishing below `prefix` (`/vnf-agent/<label>/`).
    ///
    /// Must be called within a Tokio runtime. States are kept in memory until the store can be reached.
    ///
    /// # Errors
    /// Fails if the configuration is unusable. An unreachable store is not an error.
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

    /// Publishes a message or text under `key`, which is relative to the agent prefix and must be in one of [`OWN_KEY_SPACES`].
    ///
    /// Returns at once: the message is encoded and written later.
    pub fn set(&self, key: &str, content: impl Into<Content>) {
        if owned(key) {
            self.inner.shared.state().set(key, content.into());
            self.inner.shared.changed.notify_one();
        }
    }

    /// Deletes `key` from the store. Returns at once: the deletion is sent later.
    pub fn remove(&self, key: &str) {
        if owned(key) {
            self.inner.shared.state().remove(key);
            self.inner.shared.changed.notify_one();
        }
    }

    /// Deletes the keys in [`OWN_KEY_SPACES`] that an earlier run left in the store, including keys that are found later.
    ///
    /// Must not be called before this run has set all its keys, because all other keys are deleted.
    pub fn retain_only_current(&self) {
        self.inner.shared.state().retain_only_current();
        self.inner.shared.changed.notify_one();
    }

    /// Waits until the store has all changes made before this call, or newer states of the same keys.
    ///
    /// Does not wait for values that the store rejects permanently, for example because they are too large. Rejected values are logged.
    ///
    /// # Errors
    /// Returns [`Stopped`] if the publisher was shut down.
    pub async fn flush(&self) -> Result<(), Stopped> {
        let target = self.inner.shared.state().sequence();
        let mut settled = self.inner.shared.settled.subscribe();
        // Wake the writer, which updates `settled` even if there is nothing to write.
        self.inner.shared.changed.notify_one();
        let reached = settled.wait_for(|settled| settled.is_none_or(|settled| settled >= target)).await;
        reached.ok().and_then(|settled| *settled).map(|_| ()).ok_or(Stopped)
    }

    /// Returns a receiver that is notified when the state of the store connection changes.
    pub fn health(&self) -> watch::Receiver<StoreHealth> {
        self.inner.health.clone()
    }

    /// Stops writing and revokes the lease, which deletes all published keys. A second call does nothing.
    ///
    /// # Errors
    /// Fails if the lease could not be revoked within 3 s. The keys are then deleted when the lease expires.
    pub async fn shutdown(&self) -> Result<(), StoreError> {
        self.inner.stop.send_replace(true);
        let task = self.inner.task.lock().unwrap_or_else(PoisonError::into_inner).take();
        match task {
            // A join error means that the runtime is shutting down and has cancelled the task, so there is nothing to stop.
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

/// Returns `true` if the publisher owns `key`. Other keys must not be written, because they could be configuration keys and the publisher never
/// lists them.
fn owned(key: &str) -> bool {
    let owned = OWN_KEY_SPACES.iter().any(|space| key.starts_with(space));
    if !owned {
        tracing::error!(key, "not published: the key is outside the publisher's key spaces");
    }
    owned
}
