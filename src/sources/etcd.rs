//! Desired state from a store that speaks the etcd v3 API.
//!
//! Owns the listing and the watch of one prefix, and their repair: every loss of the connection, compaction, a replaced
//! store, and the slow comparison that catches what a watch should never lose. Must never decode a value, and never report a
//! deletion that the store has not shown in an answered request. Start reading at [`Source`], then `Reader::run`.
//!
//! # Expected flow
//! [`SourceEvent::Snapshot`] once, then [`SourceEvent::Changes`]; connection events between them. After a lost connection
//! the prefix is listed again and only the difference is delivered, as `Changes`: so a compaction meanwhile does no harm, and
//! a store that was wiped and filled again is noticed even when its revision is higher than ours.
//!
//! # Guarantees
//! Whoever applies the events in order has, after the last one, the state of the store at its `revision`. No key goes back
//! to an older state, unless the store itself was replaced, and then the snapshot says so. All changes of one store
//! transaction are in the same event.
//!
//! # Caveats
//! Intermediate states of a key are left out when the receiver is slower than the store. A deletion found by comparing has
//! as `mod_revision` the revision of the comparison, since the store does not keep the one of the deletion.

use std::{collections::BTreeMap, fmt, str::Utf8Error, sync::Arc, time::Duration};

use etcd_client::{WatchResponse, WatchStream};
use tokio::{
    sync::watch,
    task::JoinHandle,
    time::{Instant, sleep, sleep_until},
};

use self::{
    mailbox::Mailbox,
    note::{Note, Past},
    reading::{Compared, Reading},
};
use crate::store::{Backoff, Connector, Listing, Session, StoreConfig, StoreError, StoreErrorKind};

pub(crate) mod mailbox;
pub mod note;
pub(crate) mod position;
pub(crate) mod reading;

/// Time between two comparisons when the first has found differences: what is only on its way arrives within it.
const SECOND_LOOK: Duration = Duration::from_secs(2);

/// A key without the prefix that is watched. Keys of the store are bytes; almost all are UTF-8. Cheap to clone.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RawKey(Arc<[u8]>);

impl RawKey {
    /// The key as it is in the store.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// The key as text.
    ///
    /// # Errors
    /// It is not UTF-8; [`fmt::Display`] shows it escaped.
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

/// A key with its value, undecoded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RawItem {
    /// Key after the prefix.
    pub key: RawKey,
    /// Value as stored.
    pub value: Vec<u8>,
    /// Revision of the store in which it was last written.
    pub mod_revision: i64,
}

/// A written or deleted key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RawChange {
    /// Key after the prefix.
    pub key: RawKey,
    /// Revision of the store in which this happened.
    pub mod_revision: i64,
    /// The new value; `None`: the key was deleted.
    pub value: Option<Vec<u8>>,
}

/// Why a snapshot was taken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SnapshotReason {
    /// It is the first one.
    Initial,
    /// The watch had fallen behind the store's compaction.
    Compacted,
    /// The store is another one or was emptied. What it does not have was not necessarily deleted by anybody.
    StoreReplaced {
        /// How it was noticed.
        evidence: String,
    },
    /// The store was restored from an older snapshot. What it does not have is no longer desired.
    StoreRestored {
        /// How it was noticed.
        evidence: String,
    },
    /// The slow comparison found that delivered state and store differ, which should not happen.
    Difference,
}

/// What the source reports.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SourceEvent {
    /// The whole prefix as it was at `revision`: a full resync.
    Snapshot {
        /// Revision of the store.
        revision: i64,
        /// Why it was taken.
        reason: SnapshotReason,
        /// All keys, ascending.
        items: Vec<RawItem>,
    },
    /// Changes since the last event with a revision; several revisions when the receiver was busy meanwhile.
    Changes {
        /// Revision up to which changes are contained.
        revision: i64,
        /// Newest change of each key, ascending by key.
        items: Vec<RawChange>,
    },
    /// The store cannot be reached. All that was delivered stays desired; attempts go on for ever.
    Disconnected {
        /// For the person who reads it.
        message: String,
    },
    /// The store was reached again after [`SourceEvent::Disconnected`]; what was missed follows.
    Reconnected,
}

/// Settings of the source itself.
#[derive(Clone, Debug)]
pub struct SourceOptions {
    /// Interval of the comparison of all keys' revisions with what was delivered.
    pub compare_interval: Duration,
    /// The store as an earlier process read it last.
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

/// A running source, and the receiver of its events. It ends when this is dropped.
pub struct Source {
    task: JoinHandle<()>,
    mailbox: Arc<Mailbox>,
    noted: watch::Receiver<Option<Note>>,
}

impl Source {
    /// Starts to list and watch `prefix`. Must be called within a Tokio runtime. The store may be unreachable: it is waited for.
    ///
    /// # Errors
    /// Only for a configuration that can never work.
    pub fn start(config: StoreConfig, prefix: String) -> Result<Self, StoreError> {
        Self::start_with(config, prefix, SourceOptions::default())
    }

    /// As [`Source::start`], with options.
    ///
    /// # Errors
    /// As [`Source::start`].
    pub fn start_with(config: StoreConfig, prefix: String, options: SourceOptions) -> Result<Self, StoreError> {
        let connector = Connector::new(config)?;
        let mailbox = Arc::new(Mailbox::default());
        let (note_sender, noted) = watch::channel(None);
        let mut reader = Reader {
            connector,
            prefix: prefix.into_bytes().into(),
            compare_interval: options.compare_interval,
            reading: Reading::recognizing(options.note),
            mailbox: mailbox.clone(),
            noted: note_sender,
            established: None,
        };
        let task = tokio::spawn(async move { reader.run().await });
        Ok(Self { task, mailbox, noted })
    }

    /// Waits for the next event; what happens before it is taken is merged into it. Returns `None` if the reader failed. Cancel-safe.
    pub async fn recv(&mut self) -> Option<SourceEvent> {
        loop {
            self.filled().await?;
            if let Some(event) = self.mailbox.take() {
                return Some(event);
            }
        }
    }

    /// Waits until there is an event. Returns whether the next one has content, or `None` if the reader failed. Cancel-safe.
    pub async fn filled(&mut self) -> Option<bool> {
        tokio::select! {
            has_content = self.mailbox.filled() => Some(has_content),
            _ = &mut self.task => None,
        }
    }

    /// What a later process needs to recognize the store. It is never older than the last event that was delivered.
    pub fn noted(&self) -> watch::Receiver<Option<Note>> {
        self.noted.clone()
    }
}

#[cfg(test)]
impl Source {
    /// A source without a store, and where its events are posted.
    pub(crate) fn scripted() -> (Self, Arc<Mailbox>) {
        let mailbox = Arc::new(Mailbox::default());
        let (_, noted) = watch::channel(None);
        let task = tokio::spawn(std::future::pending());
        let source = Source {
            task,
            mailbox: mailbox.clone(),
            noted,
        };
        (source, mailbox)
    }
}

impl Drop for Source {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Why a session ended although nothing failed.
struct ListAgain(SnapshotReason);

/// Reads the store into the mailbox, session after session.
struct Reader {
    connector: Connector,
    prefix: Arc<[u8]>,
    compare_interval: Duration,
    reading: Reading,
    mailbox: Arc<Mailbox>,
    noted: watch::Sender<Option<Note>>,
    /// Since when the present session works.
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
                        tracing::warn!(%error, "desired state cannot be read; what was read stays in force");
                    }
                    self.deliver();
                    self.connector.skip();
                }
            }
            let worked = self.established.take().map_or(Duration::ZERO, |since| since.elapsed());
            sleep(backoff.after(worked)).await;
        }
    }

    /// One connection from listing to loss.
    async fn session(&mut self) -> Result<ListAgain, StoreError> {
        let session = self.connector.connect(&self.prefix).await?;
        let listing = session.list(&self.prefix, false).await?;
        let (revision, cluster_id) = (listing.revision, listing.cluster_id);
        let items = position::strip(&self.prefix, listing.items);
        let past = match self.reading.doubts(revision, cluster_id, &items) {
            Some(earlier) => self.past(&session, earlier).await?,
            None => Past::Unknown("it was not needed".to_owned()),
        };
        let watch = session.watch(&self.prefix, revision + 1).await?;
        self.established = Some(Instant::now());
        if self.reading.established(revision, cluster_id, items, &past) {
            tracing::info!(endpoint = session.endpoint(), "desired state can be read again");
        }
        self.deliver();
        self.follow(&session, watch).await
    }

    /// Lists the keys as they were at an earlier revision.
    async fn past(&self, session: &Session, revision: i64) -> Result<Past, StoreError> {
        match session.list_at(&self.prefix, true, revision).await {
            Ok(listing) => Ok(Past::Listed(revisions(&self.prefix, listing))),
            Err(error) if error.kind() == StoreErrorKind::Compacted => Ok(Past::Unknown(error.words().to_owned())),
            Err(error) => Err(error),
        }
    }

    /// Delivers what was found out, the note first: it must never be older than an event that was delivered.
    fn deliver(&mut self) {
        let note = self.reading.note();
        self.noted.send_if_modified(|noted| std::mem::replace(noted, note.clone()) != note);
        self.mailbox.post(self.reading.take_events());
    }

    /// The part of a session after the listing.
    async fn follow(&mut self, session: &Session, mut watch: WatchStream) -> Result<ListAgain, StoreError> {
        let prefix = &*self.prefix.clone();
        let mut compare_at = Instant::now() + self.compare_interval;
        loop {
            // The listing runs beside the watch, which must not wait for it.
            let compared = async move {
                sleep_until(compare_at).await;
                session.list(prefix, true).await
            };
            tokio::pin!(compared);
            let listing = loop {
                tokio::select! {
                    message = watch.message() => {
                        let message = message.map_err(|error| session.stream_error("watching", &error))?;
                        let response = message.ok_or_else(|| StoreError::protocol(session.endpoint(), "it closed the watch"))?;
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
                Compared::InDoubt => SECOND_LOOK,
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
    // With authentication, an expired token ends here too: the next session signs in again.
    let words = format!("it canceled the watch: {:?}", response.cancel_reason());
    Err(StoreError::protocol(session.endpoint(), &words))
}

fn changes_of(prefix: &[u8], response: &WatchResponse) -> Vec<RawChange> {
    let change = |kv: &etcd_client::KeyValue| {
        let key = RawKey::from(kv.key().strip_prefix(prefix)?);
        // A deleted key has version 0 (etcd's `kv.proto`). The client's own event type panics on a number it does not know.
        let value = (kv.version() > 0).then(|| kv.value().to_vec());
        let mod_revision = kv.mod_revision();
        Some(RawChange { key, mod_revision, value })
    };
    response.events().iter().filter_map(|event| change(event.kv()?)).collect()
}
