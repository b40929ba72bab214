//! Source of the desired state that reads a store with the etcd v3 API.
//!
//! Lists and watches one prefix, and recovers from lost connections, compaction and a replaced store. A periodic comparison detects changes
//! that the watch has lost, which should never happen. The source does not decode values, and reports a key as deleted only if a
//! response from the store shows the deletion.
//!
//! # Flow
//! [`SourceEvent::Snapshot`] comes first, followed by [`SourceEvent::Changes`], with connection events in between. After a lost connection
//! the prefix is listed again, and only the differences are delivered, as `Changes`. Therefore a compaction in the meantime is harmless,
//! and a store that was wiped and filled again is detected even if its revision is higher than before.
//!
//! # Guarantees
//! After each event, a receiver that applies the events in order has the state of the store at the `revision` of the event. No key returns
//! to an older state, unless the store itself was replaced, which the snapshot reports. All changes of one store transaction are in the
//! same event.
//!
//! # Caveats
//! Intermediate states of a key are skipped if the receiver is slower than the store. A deletion detected by a comparison has the revision
//! of the comparison as its `mod_revision`, because the store does not keep the revision of the deletion.

use std::{collections::BTreeMap, fmt, str::Utf8Error, sync::Arc, time::Duration};

use etcd_client::{WatchResponse, WatchStream};
use tokio::{
    sync::watch,
    task::JoinHandle,
    time::{Instant, sleep, sleep_until},
};

use self::{
    buffer::CoalescingBuffer,
    note::{Note, Past},
    reading::{Compared, Reading},
};
use crate::store::{Backoff, Connector, Listing, Session, StoreConfig, StoreError, StoreErrorKind};

pub(crate) mod buffer;
pub mod note;
pub(crate) mod position;
pub(crate) mod reading;

/// Time until the second comparison if the first one shows differences. Changes that are still in transit arrive within this
/// time.
const SECOND_CHECK: Duration = Duration::from_secs(2);

/// Key without the watched prefix, as bytes that are not necessarily UTF-8. Cheap to clone.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RawKey(Arc<[u8]>);

impl RawKey {
    /// Returns the bytes of the key.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// Returns the key as text.
    ///
    /// # Errors
    /// Fails if the key is not UTF-8. The [`fmt::Display`] implementation escapes such keys.
    pub fn as_str(&self) -> Result<&str, Utf8Error> {
        std::str::from_utf8(&self.0)
    }
}

impl From<&[u8]> for RawKey {
    fn from(bytes: &[u8]) -> Self {
        Self(bytes.into())
    }
}

impl fmt::Display for RawKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.as_str() {
            Ok(text) => f.write_str(text),
            Err(_) => self.0.escape_ascii().fmt(f),
        }
    }
}

impl fmt::Debug for RawKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "\"{}\"", self.0.escape_ascii())
    }
}

/// Key with its undecoded value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RawItem {
    /// Key without the watched prefix.
    pub key: RawKey,
    /// Value as stored, in JSON or binary form.
    pub value: Vec<u8>,
    /// Store revision at which the key was last written.
    pub mod_revision: i64,
}

/// Write or deletion of a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RawChange {
    /// Key without the watched prefix.
    pub key: RawKey,
    /// Store revision of the write or deletion.
    pub mod_revision: i64,
    /// New value. `None` if the key was deleted.
    pub value: Option<Vec<u8>>,
}

/// Reason why a snapshot is delivered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SnapshotReason {
    /// First snapshot after the start.
    Initial,
    /// The revision from which the watch had to continue was compacted.
    Compacted,
    /// The store was replaced by another one or emptied. Missing keys were not necessarily deleted by a client.
    StoreReplaced {
        /// Observation that shows the replacement or loss.
        evidence: String,
    },
    /// The store was restored from an older snapshot. Missing keys are no longer desired.
    StoreRestored {
        /// Observation that shows the restore.
        evidence: String,
    },
    /// The periodic comparison showed that the delivered state differs from the store, which should not happen.
    Difference,
}

/// Event that the source delivers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SourceEvent {
    /// All keys below the prefix at `revision`. The receiver must replace its whole state.
    Snapshot {
        /// Store revision of the listing.
        revision: i64,
        /// Reason why the snapshot is delivered.
        reason: SnapshotReason,
        /// All keys, in ascending order.
        items: Vec<RawItem>,
    },
    /// Changes since the previous `Snapshot` or `Changes` event. If the receiver was busy, several revisions are merged.
    Changes {
        /// Store revision up to which changes are included.
        revision: i64,
        /// Newest change of each key, in ascending key order.
        items: Vec<RawChange>,
    },
    /// The store cannot be reached. The delivered state stays desired, and the source retries forever.
    Disconnected {
        /// Error message for users.
        message: String,
    },
    /// The store can be reached again after [`SourceEvent::Disconnected`]. Missed changes follow.
    Reconnected,
}

/// Source options.
#[derive(Clone, Debug)]
pub struct SourceOptions {
    /// Interval at which the revisions of all keys are compared with the delivered revisions.
    pub compare_interval: Duration,
    /// Note about the store that an earlier process saved. `None` if there is no saved note.
    pub note: Option<Note>,
}

impl Default for SourceOptions {
    fn default() -> Self {
        Self {
            compare_interval: Duration::from_secs(60),
            note: None,
        }
    }
}

/// Handle that receives the events of a running source. Dropping the handle stops the source.
pub struct Source {
    task: JoinHandle<()>,
    buffer: Arc<CoalescingBuffer>,
    noted: watch::Receiver<Option<Note>>,
}

impl Source {
    /// Starts listing and watching `prefix`. Must be called within a Tokio runtime. If the store is unreachable, the source retries.
    ///
    /// # Errors
    /// Fails if the configuration is unusable. An unreachable store is not an error.
    pub fn start(config: StoreConfig, prefix: String) -> Result<Self, StoreError> {
        Self::start_with(config, prefix, SourceOptions::default())
    }

    /// Like [`Source::start`], but with options.
    ///
    /// # Errors
    /// Returns the errors of [`Source::start`].
    pub fn start_with(config: StoreConfig, prefix: String, options: SourceOptions) -> Result<Self, StoreError> {
        let connector = Connector::new(config)?;
        let buffer = Arc::new(CoalescingBuffer::default());
        let (note_sender, noted) = watch::channel(None);
        let mut reader = Reader {
            connector,
            prefix: prefix.into_bytes().into(),
            compare_interval: options.compare_interval,
            reading: Reading::recognizing(options.note),
            buffer: buffer.clone(),
            noted: note_sender,
            established: None,
        };
        let task = tokio::spawn(async move { reader.run().await });
        Ok(Self { task, buffer, noted })
    }

    /// Waits for the next event. Events that have not been received yet are merged. Returns `None` if the reader task has failed.
    /// Cancel-safe.
    pub async fn recv(&mut self) -> Option<SourceEvent> {
        loop {
            self.filled().await?;
            if let Some(event) = self.buffer.take() {
                return Some(event);
            }
        }
    }

    /// Waits until an event is available. Returns `true` if the event contains keys of the store, and `None` if the reader task
    /// has failed. Cancel-safe.
    pub async fn filled(&mut self) -> Option<bool> {
        tokio::select! {
            has_content = self.buffer.filled() => Some(has_content),
            _ = &mut self.task => None,
        }
    }

    /// Returns a receiver for the note that a later process uses to recognize the store. The note is never older than the last
    /// delivered event.
    pub fn noted(&self) -> watch::Receiver<Option<Note>> {
        self.noted.clone()
    }
}

#[cfg(test)]
impl Source {
    /// Creates a source without a store, and the buffer to which a test can post events.
    pub(crate) fn scripted() -> (Self, Arc<CoalescingBuffer>) {
        let buffer = Arc::new(CoalescingBuffer::default());
        let (_, noted) = watch::channel(None);
        let task = tokio::spawn(std::future::pending());
        let source = Source {
            task,
            buffer: buffer.clone(),
            noted,
        };
        (source, buffer)
    }
}

impl Drop for Source {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Reason to list the store again after a session that ended without an error.
struct ListAgain(SnapshotReason);

/// Task that reads the store in consecutive sessions, and posts events for the receiver.
struct Reader {
    connector: Connector,
    prefix: Arc<[u8]>,
    compare_interval: Duration,
    reading: Reading,
    buffer: Arc<CoalescingBuffer>,
    noted: watch::Sender<Option<Note>>,
    /// Time at which the current session was established. `None` if there is no working session.
    established: Option<Instant>,
}

impl Reader {
    async fn run(&mut self) {
        let mut backoff = Backoff::new();
        loop {
            match self.session().await {
                Ok(ListAgain(reason)) => {
                    tracing::warn!(?reason, "listing the store again");
                    self.reading.list_again(reason);
                }
                Err(error) => {
                    if self.reading.lost(error.to_string()) {
                        tracing::warn!(%error, "cannot read the desired state; the last known state stays in effect");
                    }
                    self.deliver();
                    self.connector.skip();
                }
            }
            let worked = self.established.take().map_or(Duration::ZERO, |since| since.elapsed());
            sleep(backoff.after(worked)).await;
        }
    }

    /// Connects to the store, lists the keys, and watches them until the session ends.
    async fn session(&mut self) -> Result<ListAgain, StoreError> {
        let session = self.connector.connect(&self.prefix).await?;
        let listing = session.list(&self.prefix, false).await?;
        let (revision, cluster_id) = (listing.revision, listing.cluster_id);
        let items = position::strip(&self.prefix, listing.items);
        let past = match self.reading.doubts(revision, cluster_id, &items) {
            Some(earlier) => self.past(&session, earlier).await?,
            None => Past::Unknown("the store's history was not needed".to_owned()),
        };
        let watch = session.watch(&self.prefix, revision + 1).await?;
        self.established = Some(Instant::now());
        if self.reading.established(revision, cluster_id, items, &past) {
            tracing::info!(endpoint = session.endpoint(), "desired state readable again");
        }
        self.deliver();
        self.follow(&session, watch).await
    }

    /// Lists the keys at an earlier revision.
    async fn past(&self, session: &Session, revision: i64) -> Result<Past, StoreError> {
        match session.list_at(&self.prefix, true, revision).await {
            Ok(listing) => Ok(Past::Listed(revisions(&self.prefix, listing))),
            Err(error) if error.kind() == StoreErrorKind::Compacted => Ok(Past::Unknown(error.words().to_owned())),
            Err(error) => Err(error),
        }
    }

    /// Publishes the note about the store's contents, and then delivers the pending events. This order matters, because the note
    /// must never be older than a delivered event.
    fn deliver(&mut self) {
        let note = self.reading.note();
        self.noted.send_if_modified(|noted| std::mem::replace(noted, note.clone()) != note);
        self.buffer.post(self.reading.take_events());
    }

    /// Watches the store, and compares it periodically with the delivered state, until the session ends.
    async fn follow(&mut self, session: &Session, mut watch: WatchStream) -> Result<ListAgain, StoreError> {
        let prefix = &*self.prefix.clone();
        let mut compare_at = Instant::now() + self.compare_interval;
        loop {
            // The listing runs concurrently with the watch, so that no watch response is delayed.
            let compared = async move {
                sleep_until(compare_at).await;
                session.list(prefix, true).await
            };
            tokio::pin!(compared);
            let listing = loop {
                tokio::select! {
                    message = watch.message() => {
                        let message = message.map_err(|error| session.stream_error("watching", &error))?;
                        let response = message.ok_or_else(|| StoreError::protocol(session.endpoint(), "the watch was closed"))?;
                        if response.canceled() {
                            return canceled(session, &response);
                        }
                        self.reading.watched(changes_of(prefix, &response));
                        self.deliver();
                    }
                    listing = &mut compared => break listing?,
                }
            };
            let compared = self.reading.compared(listing.revision, revisions(prefix, listing));
            self.deliver();
            let wait = match compared {
                Compared::Same => self.compare_interval,
                Compared::InDoubt => SECOND_CHECK,
                Compared::Different => return Ok(ListAgain(SnapshotReason::Difference)),
            };
            compare_at = Instant::now() + wait;
        }
    }
}

fn revisions(prefix: &[u8], listing: Listing) -> BTreeMap<RawKey, i64> {
    let listed = position::strip(prefix, listing.items).into_iter();
    listed.map(|item| (item.key, item.mod_revision)).collect()
}

fn canceled(session: &Session, response: &WatchResponse) -> Result<ListAgain, StoreError> {
    if response.compact_revision() > 0 {
        return Ok(ListAgain(SnapshotReason::Compacted));
    }
    // With authentication, an expired token also ends the watch. The next session signs in again.
    let words = format!("the watch was canceled: {:?}", response.cancel_reason());
    Err(StoreError::protocol(session.endpoint(), &words))
}

fn changes_of(prefix: &[u8], response: &WatchResponse) -> Vec<RawChange> {
    let change = |kv: &etcd_client::KeyValue| {
        let key = RawKey::from(kv.key().strip_prefix(prefix)?);
        // A deleted key has version 0 (etcd's `kv.proto`). The event type is not used, because the client library panics on
        // unknown types.
        let value = (kv.version() > 0).then(|| kv.value().to_vec());
        let mod_revision = kv.mod_revision();
        Some(RawChange { key, mod_revision, value })
    };
    response.events().iter().filter_map(|event| change(event.kv()?)).collect()
}
