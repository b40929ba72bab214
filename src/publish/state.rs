//! Desired and stored contents of each published key, and the queue of keys to write. Performs no I/O.
//!
//! [`State::touch`] decides whether a key has to be written, and [`State::adopt`] processes a listing of the store.
//!
//! Invariant: a key is in at most one batch at a time, so two writes of one key are never in flight together.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    sync::Arc,
};

use super::content::Content;

/// Maximum number of operations per transaction; etcd rejects more than 128 (`--max-txn-ops`).
const BATCH_OPERATIONS: usize = 100;
/// Maximum transaction size in bytes; etcd rejects requests larger than 1.5 MiB (`--max-request-bytes`).
const BATCH_BYTES: usize = 512 << 10;

/// Condition under which a stored key may be deleted.
///
/// Without a guard, a deletion sent before a connection was lost could arrive late and delete a newer value.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Guard {
    /// The key was written under this lease of the publisher.
    Lease(i64),
    /// The key was last written at this revision, by another client or an earlier run.
    Revision(i64),
}

/// One operation of a transaction.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Write {
    /// Store the value under the lease.
    Put(Content),
    /// Delete the key if the guard holds.
    Delete(Guard),
}

/// Operations of one transaction, each with its key.
pub(crate) type Batch = Vec<(Arc<str>, Write)>;

/// Key with its value and metadata, as listed in the store.
pub(crate) struct Found {
    pub key: Arc<str>,
    pub value: Vec<u8>,
    pub lease: i64,
    pub mod_revision: i64,
}

#[derive(Clone, PartialEq, Debug)]
enum Stored {
    /// The key has not been listed yet, or the outcome of a write is unknown.
    Unknown,
    Absent,
    Present(Content, Guard),
}

struct Entry {
    desired: Option<Content>,
    stored: Stored,
    /// Store revision at which `stored` was last written.
    revision: i64,
    /// Store revision of the last deletion of the key that a watch reported; 0 if none was reported.
    deleted_at: i64,
    /// `true` if an earlier run wrote the key and this run has not set it. The key is kept until [`State::retain_only_current`] is called.
    left_over: bool,
    /// Contents that the store permanently rejects for this key. Other contents are still sent.
    refused: Option<Content>,
    /// Sequence number of the oldest change of the key that is not stored yet.
    unsaved_since: Option<u64>,
    /// Sequence number of the oldest change made while a write of the key was in flight.
    changed_in_flight: Option<u64>,
    in_flight: bool,
    queued: bool,
}

/// State of all keys of the publisher.
#[derive(Default)]
pub(crate) struct State {
    entries: BTreeMap<Arc<str>, Entry>,
    /// Keys to write, oldest change first.
    queue: VecDeque<Arc<str>>,
    /// `unsaved_since` and key of every entry with unsaved changes, in ascending order.
    unsaved: BTreeSet<(u64, Arc<str>)>,
    /// Sequence number of the last change of any key.
    sequence: u64,
    /// Lease of the current session.
    lease: i64,
    listed: bool,
    retain: bool,
}

impl State {
    pub fn set(&mut self, key: &str, value: Content) {
        let stored = if self.listed { Stored::Absent } else { Stored::Unknown };
        let key = self
            .entries
            .get_key_value(key)
            .map_or_else(|| Arc::from(key), |(key, _)| key.clone());
        let entry = self.entries.entry(key.clone()).or_insert_with(|| Entry::new(stored));
        entry.desired = Some(value);
        entry.left_over = false;
        self.touch(&key);
    }

    pub fn remove(&mut self, key: &str) {
        if !self.entries.contains_key(key) {
            if self.listed {
                return;
            }
            self.entries.insert(Arc::from(key), Entry::new(Stored::Unknown));
        }
        let Some((key, _)) = self.entries.get_key_value(key) else { return };
        let key = key.clone();
        if let Some(entry) = self.entries.get_mut(&key) {
            entry.desired = None;
            entry.left_over = false;
        }
        self.touch(&key);
    }

    /// Deletes the keys that an earlier run left in the store, including keys that are found later.
    pub fn retain_only_current(&mut self) {
        self.retain = true;
        let left_over: Vec<Arc<str>> = self
            .entries
            .iter()
            .filter(|(_, entry)| entry.left_over)
            .map(|(key, _)| key.clone())
            .collect();
        for key in left_over {
            if let Some(entry) = self.entries.get_mut(&key) {
                entry.left_over = false;
            }
            self.touch(&key);
        }
    }

    /// Returns the sequence number of the last change of any key; see [`State::settled`].
    pub fn sequence(&self) -> u64 {
        self.sequence
    }

    /// Returns the sequence number up to which all changes are stored.
    pub fn settled(&self) -> u64 {
        self.unsaved
            .first()
            .map_or(self.sequence, |(sequence, _)| sequence.saturating_sub(1))
    }

    /// Returns `true` if enough keys are queued for a full batch.
    pub fn has_full_batch(&self) -> bool {
        self.queue.len() >= BATCH_OPERATIONS
    }

    /// Assigns a sequence number to a change of `key`, and queues the key if it has to be written.
    fn touch(&mut self, key: &Arc<str>) {
        let Some(entry) = self.entries.get_mut(key) else { return };
        self.sequence += 1;
        if entry.in_flight {
            entry.changed_in_flight.get_or_insert(self.sequence);
            return;
        }
        let number = self.sequence;
        self.settle_or_queue(key, number);
    }

    /// Queues a key if it has to be written. Must be called after each change to an entry that is not in flight. `number` is the
    /// sequence number to assign if the entry has no unsaved change yet.
    fn settle_or_queue(&mut self, key: &Arc<str>, number: u64) {
        let Some(entry) = self.entries.get_mut(key) else { return };
        if entry.is_clean(self.lease) {
            if let Some(since) = entry.unsaved_since.take() {
                self.unsaved.remove(&(since, key.clone()));
            }
            if entry.is_void() {
                self.entries.remove(key);
            }
            return;
        }
        if entry.unsaved_since.is_none() {
            entry.unsaved_since = Some(number);
            self.unsaved.insert((number, key.clone()));
        }
        if !entry.queued {
            entry.queued = true;
            self.queue.push_back(key.clone());
        }
    }

    /// Takes up to `operations` operations from the queue, and marks their keys as in flight.
    pub fn take_batch(&mut self, operations: usize) -> Batch {
        let mut batch = Batch::new();
        let mut bytes = 0;
        while batch.len() < operations.min(BATCH_OPERATIONS) {
            let Some(key) = self.queue.pop_front() else { break };
            let Some(entry) = self.entries.get_mut(&key) else { continue };
            entry.queued = false;
            if entry.in_flight || entry.is_clean(self.lease) {
                if entry.is_void() {
                    self.entries.remove(&key);
                }
                continue;
            }
            let write = match (&entry.desired, &entry.stored) {
                (Some(value), _) => Write::Put(value.clone()),
                (None, Stored::Present(_, guard)) => Write::Delete(*guard),
                // It is not known yet whether the store has the key. The next listing queues the key again if the key must be deleted.
                (None, _) => continue,
            };
            bytes += key.len() + write.size();
            if bytes > BATCH_BYTES && !batch.is_empty() {
                entry.queued = true;
                self.queue.push_front(key);
                break;
            }
            entry.in_flight = true;
            batch.push((key, write));
        }
        batch
    }

    /// Processes a transaction that the store carried out at `revision`.
    pub fn written(&mut self, batch: Batch, revision: i64) {
        for (key, write) in batch {
            let Some(entry) = self.entries.get_mut(&key) else { continue };
            entry.stored = match write {
                // Another client may have deleted the key before the response arrived.
                Write::Put(_) if entry.deleted_at > revision => Stored::Absent,
                Write::Put(value) => Stored::Present(value, Guard::Lease(self.lease)),
                Write::Delete(_) => Stored::Absent,
            };
            entry.revision = revision;
            self.completed(&key);
        }
    }

    /// Records that a key was deleted at `revision`, by this publisher or by another client.
    pub fn deleted(&mut self, key: &str, revision: i64) {
        let Some((key, _)) = self.entries.get_key_value(key) else { return };
        let key = key.clone();
        let Some(entry) = self.entries.get_mut(&key) else { return };
        entry.deleted_at = entry.deleted_at.max(revision);
        if !matches!(entry.stored, Stored::Present(..)) || revision <= entry.revision {
            return;
        }
        entry.stored = Stored::Absent;
        // If a write of the key is in flight, the response to that write decides what to do next.
        if !entry.in_flight {
            self.settle_or_queue(&key, 0);
        }
    }

    /// Records that the store permanently rejects the write of a key. The key stays unchanged until other contents are set.
    pub fn refused(&mut self, key: &Arc<str>) {
        let Some(entry) = self.entries.get_mut(key) else { return };
        entry.refused = entry.desired.clone().filter(|_| entry.changed_in_flight.is_none());
        self.completed(key);
    }

    fn completed(&mut self, key: &Arc<str>) {
        let Some(entry) = self.entries.get_mut(key) else { return };
        entry.in_flight = false;
        if let Some(since) = entry.unsaved_since.take() {
            self.unsaved.remove(&(since, key.clone()));
        }
        let number = entry.changed_in_flight.take().unwrap_or(0);
        self.settle_or_queue(key, number);
    }

    /// Processes a transaction that was certainly not carried out. Puts its keys back at the front of the queue, so that the next
    /// batches write their newest contents.
    pub fn not_written(&mut self, batch: Batch) {
        for (key, _) in batch.into_iter().rev() {
            let Some(entry) = self.entries.get_mut(&key) else { continue };
            entry.in_flight = false;
            entry.changed_in_flight = None;
            if entry.is_clean(self.lease) {
                self.settle_or_queue(&key, 0);
            } else if !std::mem::replace(&mut entry.queued, true) {
                self.queue.push_front(key);
            }
        }
    }

    /// Records the end of the session. Returns `true` if writes were in flight, so their outcomes are unknown.
    pub fn interrupt(&mut self) -> bool {
        let mut uncertain = false;
        for entry in self.entries.values_mut() {
            // The next session may use another store, with other revisions.
            (entry.revision, entry.deleted_at) = (0, 0);
        }
        for entry in self.entries.values_mut().filter(|entry| entry.in_flight) {
            entry.in_flight = false;
            entry.changed_in_flight = None;
            entry.stored = Stored::Unknown;
            uncertain = true;
        }
        self.listed = false;
        uncertain
    }

    /// Processes a listing of the store, and queues the keys that must be written. Must not be called while a write is in flight.
    pub fn adopt(&mut self, lease: i64, found: impl IntoIterator<Item = Found>) {
        self.listed = true;
        self.lease = lease;
        for entry in self.entries.values_mut() {
            entry.stored = Stored::Absent;
        }
        for Found {
            key,
            value,
            lease: attached,
            mod_revision,
        } in found
        {
            let guard = if attached == lease {
                Guard::Lease(lease)
            } else {
                Guard::Revision(mod_revision)
            };
            let left_over = !self.retain;
            let entry = self.entries.entry(key).or_insert_with(|| Entry {
                left_over,
                ..Entry::new(Stored::Absent)
            });
            entry.revision = mod_revision;
            // A reported deletion may be newer than the listing.
            if entry.deleted_at <= mod_revision {
                entry.stored = Stored::Present(value.into(), guard);
            }
        }
        // Unsaved changes keep their sequence numbers, so the oldest change is still written first. A key that has no unsaved
        // change, but differs from the listing, gets number 0, so that every `flush` waits for it.
        let mut keys: Vec<(u64, Arc<str>)> = self
            .entries
            .iter()
            .map(|(key, entry)| (entry.unsaved_since.unwrap_or(0), key.clone()))
            .collect();
        keys.sort_unstable();
        self.queue.clear();
        for (_, key) in keys {
            if let Some(entry) = self.entries.get_mut(&key) {
                entry.queued = false;
            }
            self.settle_or_queue(&key, 0);
        }
    }
}

impl Write {
    fn size(&self) -> usize {
        match self {
            Self::Put(value) => value.size(),
            Self::Delete(_) => 0,
        }
    }
}

impl Entry {
    fn new(stored: Stored) -> Self {
        Self {
            desired: None,
            stored,
            revision: 0,
            deleted_at: 0,
            left_over: false,
            refused: None,
            unsaved_since: None,
            changed_in_flight: None,
            in_flight: false,
            queued: false,
        }
    }

    fn is_clean(&self, lease: i64) -> bool {
        match (&self.desired, &self.stored) {
            (Some(desired), _) if self.refused.as_ref() == Some(desired) => true,
            (Some(desired), Stored::Present(value, guard)) => *guard == Guard::Lease(lease) && desired == value,
            (None, Stored::Present(..)) => self.left_over,
            (None, Stored::Absent) => true,
            (_, Stored::Unknown) | (Some(_), Stored::Absent) => false,
        }
    }

    /// Returns `true` if the entry contains no information and can be removed.
    fn is_void(&self) -> bool {
        self.desired.is_none() && self.stored == Stored::Absent && !self.queued && !self.in_flight
    }
}

#[cfg(test)]
mod tests;
