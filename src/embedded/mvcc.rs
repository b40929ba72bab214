//! The multi-version content of the store, in memory.
//!
//! Owns the index (every key with its retained versions) and the log (every retained revision with its changes, which is what watches
//! read). It must never do I/O, know a clock of its own, or let a reader see a revision above the one it asked for: the writer applies
//! changes here *before* they are durable, and readers stay at the last durable revision.
//! Start reading at [`Mvcc`], then [`Writing`].
//!
//! Two marks move forward separately. `compacted` is the API's compaction revision: nothing below it can be read or newly watched. The
//! log may reach further back, so that a watch that runs is not cut off by a compaction it merely was too slow for by a millisecond.
//! Invariant: the log is contiguous and starts at `compacted + 1` or earlier.

use std::collections::{BTreeMap, VecDeque};
use std::ops::Bound;
use std::sync::Arc;
use std::time::Instant;

use etcd_client::proto::PbKeyValue;

use super::error::Refusal;

/// A set of keys as the API writes it: `key` and `range_end`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum KeyRange {
    /// `range_end` empty: this key only.
    One(Vec<u8>),
    /// `range_end` is one zero byte: this key and all that sort after it.
    From(Vec<u8>),
    /// Half open: from the first up to, but without, the second. Empty when they are not in order.
    Between(Vec<u8>, Vec<u8>),
}

impl KeyRange {
    pub(super) fn new(key: &[u8], range_end: &[u8]) -> Self {
        match range_end {
            [] => KeyRange::One(key.to_vec()),
            [0] => KeyRange::From(key.to_vec()),
            end => KeyRange::Between(key.to_vec(), end.to_vec()),
        }
    }

    pub(super) fn contains(&self, key: &[u8]) -> bool {
        match self {
            KeyRange::One(one) => one == key,
            KeyRange::From(start) => key >= start.as_slice(),
            KeyRange::Between(start, end) => key >= start.as_slice() && key < end.as_slice(),
        }
    }

    /// Whether no key at all can be in it.
    pub(super) fn is_empty(&self) -> bool {
        matches!(self, KeyRange::Between(start, end) if start >= end)
    }

    fn bounds(&self) -> (Bound<&[u8]>, Bound<&[u8]>) {
        match self {
            KeyRange::One(key) => (Bound::Included(key), Bound::Included(key)),
            KeyRange::From(start) => (Bound::Included(start), Bound::Unbounded),
            // `BTreeMap::range` panics on a start above its end, so an empty range becomes one that is empty in order.
            KeyRange::Between(start, end) => (Bound::Included(start), Bound::Excluded(if start > end { start } else { end })),
        }
    }
}

/// One version of one key. A tombstone has version 0 and only `key` and `mod_revision` set, as in a DELETE event.
#[derive(Debug)]
pub(super) struct Version {
    /// Position within its revision, which tells apart the changes of one transaction.
    pub(super) sub: i64,
    pub(super) kv: PbKeyValue,
}

impl Version {
    pub(super) fn is_tombstone(&self) -> bool {
        self.kv.version == 0
    }

    /// The row this version has on disk.
    pub(super) fn row(&self) -> (i64, i64) {
        (self.kv.mod_revision, self.sub)
    }

    /// Memory for key and value, without the fixed part.
    pub(super) fn bytes(&self) -> usize {
        self.kv.key.len() + self.kv.value.len()
    }
}

/// One change: the version that came, and the one it replaced (none when the key was absent).
#[derive(Debug, Clone)]
pub(super) struct Change {
    pub(super) version: Arc<Version>,
    pub(super) previous: Option<Arc<Version>>,
}

/// All changes of one main revision, in the order in which they were made. Never empty in the log.
#[derive(Debug)]
pub(super) struct Revision {
    pub(super) main: i64,
    pub(super) at: Instant,
    pub(super) changes: Vec<Change>,
}

impl Revision {
    /// Memory for the keys and values it brought.
    pub(super) fn bytes(&self) -> usize {
        self.changes.iter().map(|change| change.version.bytes()).sum()
    }
}

/// How much of the log one read returns at most, so that a slow watch holds little.
const HISTORY_REVISIONS_MAX: usize = 512;
const HISTORY_BYTES_MAX: usize = 1 << 20;

/// Index, log and the revision marks.
#[derive(Debug)]
pub(super) struct Mvcc {
    /// Versions in ascending order, never empty.
    index: BTreeMap<Vec<u8>, Vec<Arc<Version>>>,
    log: VecDeque<Arc<Revision>>,
    log_bytes: usize,
    revision: i64,
    compacted: i64,
}

impl Mvcc {
    /// An empty store: revision 1, as etcd; -1 stands for "never compacted", as etcd too.
    pub(super) fn new() -> Self {
        Mvcc {
            index: BTreeMap::new(),
            log: VecDeque::new(),
            log_bytes: 0,
            revision: 1,
            compacted: -1,
        }
    }

    /// Rebuilds index and log from the rows on disk, which must come in ascending order of (main, sub).
    pub(super) fn restore(rows: Vec<Version>, compacted: i64, now: Instant) -> Self {
        let mut mvcc = Mvcc {
            compacted,
            revision: compacted.max(1),
            ..Mvcc::new()
        };
        let mut pending: Option<Revision> = None;
        for version in rows {
            let main = version.kv.mod_revision;
            if pending.as_ref().is_some_and(|revision| revision.main != main) {
                mvcc.append_restored(pending.take());
            }
            let version = Arc::new(version);
            let previous = mvcc.insert(&version);
            let revision = pending.get_or_insert_with(|| Revision {
                main,
                at: now,
                changes: Vec::new(),
            });
            revision.changes.push(Change { version, previous });
        }
        mvcc.append_restored(pending);
        mvcc
    }

    fn append_restored(&mut self, revision: Option<Revision>) {
        let Some(revision) = revision else { return };
        // Rows below the compaction are what survived it, with gaps: the index needs them, a watch could not use them.
        let complete = revision.main >= self.compacted;
        self.revision = self.revision.max(revision.main);
        if complete {
            self.append(revision);
        }
    }

    fn append(&mut self, revision: Revision) {
        self.log_bytes += revision.bytes();
        self.log.push_back(Arc::new(revision));
    }

    /// Adds the newest version of a key and returns the live one it replaces.
    fn insert(&mut self, version: &Arc<Version>) -> Option<Arc<Version>> {
        match self.index.get_mut(&version.kv.key) {
            Some(versions) => {
                let previous = versions.last().filter(|last| !last.is_tombstone()).cloned();
                versions.push(Arc::clone(version));
                previous
            }
            None => {
                self.index.insert(version.kv.key.clone(), vec![Arc::clone(version)]);
                None
            }
        }
    }

    /// The last revision applied; may not be durable yet.
    pub(super) fn revision(&self) -> i64 {
        self.revision
    }

    /// The compaction revision, -1 before the first compaction.
    pub(super) fn compacted(&self) -> i64 {
        self.compacted
    }

    /// The revision to read at when a client asks for `wanted` (0 or less: the current one) and `current` is the newest it may see.
    pub(super) fn readable(&self, wanted: i64, current: i64) -> Result<i64, Refusal> {
        if wanted > current {
            return Err(Refusal::FutureRevision);
        }
        if wanted <= 0 {
            return Ok(current);
        }
        if wanted < self.compacted {
            return Err(Refusal::Compacted);
        }
        Ok(wanted)
    }

    /// The live versions in `range` as of `revision`, by ascending key.
    pub(super) fn live_at<'a>(&'a self, range: &'a KeyRange, revision: i64) -> impl Iterator<Item = &'a Arc<Version>> {
        self.index.range::<[u8], _>(range.bounds()).filter_map(move |(_, versions)| {
            let version = versions.iter().rev().find(|version| version.kv.mod_revision <= revision)?;
            (!version.is_tombstone()).then_some(version)
        })
    }

    /// The newest live version of one key.
    pub(super) fn live(&self, key: &[u8]) -> Option<&Arc<Version>> {
        self.index.get(key)?.last().filter(|version| !version.is_tombstone())
    }

    /// Every live version, by ascending key.
    pub(super) fn live_all(&self) -> impl Iterator<Item = &Arc<Version>> {
        self.index
            .values()
            .filter_map(|versions| versions.last().filter(|version| !version.is_tombstone()))
    }

    /// Starts a transaction at the next revision; it counts only if something is changed in it.
    pub(super) fn write(&mut self) -> Writing<'_> {
        Writing {
            main: self.revision + 1,
            mvcc: self,
            changes: Vec::new(),
        }
    }

    /// The retained revisions from `from` up to `upto`, a bounded piece at a time, or the compaction revision when `from` is gone.
    pub(super) fn history(&self, from: i64, upto: i64) -> Result<Vec<Arc<Revision>>, i64> {
        let Some(first) = self.log.front().map(|revision| revision.main) else {
            return if from < self.compacted {
                Err(self.compacted)
            } else {
                Ok(Vec::new())
            };
        };
        if from < first && from < self.compacted {
            return Err(self.compacted);
        }
        let skip = usize::try_from(from - first).unwrap_or(0);
        let mut bytes = 0;
        let mut piece = Vec::new();
        for revision in self
            .log
            .iter()
            .skip(skip)
            .take_while(|revision| revision.main <= upto)
            .take(HISTORY_REVISIONS_MAX)
        {
            bytes += revision.bytes();
            piece.push(Arc::clone(revision));
            if bytes >= HISTORY_BYTES_MAX {
                break;
            }
        }
        Ok(piece)
    }

    /// Rows on disk that a compaction at `revision` makes unreachable: what was replaced up to it, and tombstones.
    pub(super) fn obsolete_rows(&self, revision: i64) -> Vec<(i64, i64)> {
        let mut rows = Vec::new();
        for change in self.between(self.compacted, revision) {
            rows.extend(change.previous.as_ref().map(|previous| previous.row()));
            if change.version.is_tombstone() {
                rows.push(change.version.row());
            }
        }
        rows
    }

    /// Makes `revision` the compaction revision and drops from the index what can no longer be read.
    /// The caller must first have made every revision up to it durable: readers may still be below it.
    pub(super) fn compact(&mut self, revision: i64) {
        let keys: Vec<Vec<u8>> = self
            .between(self.compacted, revision)
            .map(|change| change.version.kv.key.clone())
            .collect();
        for key in keys {
            let Some(versions) = self.index.get_mut(&key) else { continue };
            let reached = versions.iter().rposition(|version| version.kv.mod_revision <= revision);
            let Some(newest) = reached else { continue };
            let gone = if versions[newest].is_tombstone() { newest + 1 } else { newest };
            versions.drain(..gone);
            if versions.is_empty() {
                self.index.remove(&key);
            }
        }
        self.compacted = self.compacted.max(revision);
    }

    /// The changes with `after` < main <= `upto` that the log still has.
    fn between(&self, after: i64, upto: i64) -> impl Iterator<Item = &Change> {
        let skip = self
            .log
            .front()
            .map_or(0, |first| usize::try_from(after + 1 - first.main).unwrap_or(0));
        let revisions = self.log.iter().skip(skip).take_while(move |revision| revision.main <= upto);
        revisions.flat_map(|revision| revision.changes.iter())
    }

    /// How far retention asks to forget: the highest revision by which the log is over `limits` (revisions, bytes) or older than
    /// `oldest`, in a step of at most `step` revisions; and whether this step was all.
    pub(super) fn overdue(&self, limits: (usize, usize), oldest: Option<Instant>, step: usize) -> (Option<i64>, bool) {
        let (mut count, mut bytes) = (self.log.len(), self.log_bytes);
        let mut overdue = None;
        for revision in self.log.iter().take(step) {
            let expired = oldest.is_some_and(|oldest| revision.at < oldest);
            if count <= limits.0 && bytes <= limits.1 && !expired {
                return (overdue, true);
            }
            overdue = Some(revision.main);
            count -= 1;
            bytes -= revision.bytes();
        }
        (overdue, count == 0)
    }

    /// When the oldest revision of the log was written.
    pub(super) fn oldest(&self) -> Option<Instant> {
        self.log.front().map(|revision| revision.at)
    }

    /// Frees the log below `revision`, which must have been compacted before.
    pub(super) fn trim(&mut self, revision: i64) {
        let upto = revision.min(self.compacted);
        while let Some(first) = self.log.front().filter(|first| first.main <= upto) {
            self.log_bytes -= first.bytes();
            self.log.pop_front();
        }
    }
}

/// A transaction on [`Mvcc`] that holds one main revision.
pub(super) struct Writing<'a> {
    mvcc: &'a mut Mvcc,
    main: i64,
    changes: Vec<Change>,
}

impl Writing<'_> {
    /// What a read inside the transaction sees: its own changes once there are any.
    pub(super) fn revision(&self) -> i64 {
        if self.changes.is_empty() { self.mvcc.revision } else { self.main }
    }

    pub(super) fn mvcc(&self) -> &Mvcc {
        self.mvcc
    }

    /// Writes a key; returns the version it replaces and the revision of the write.
    pub(super) fn put(&mut self, key: Vec<u8>, value: Vec<u8>, lease: i64) -> (Option<Arc<Version>>, i64) {
        let previous = self.mvcc.live(&key);
        let (create_revision, version) = previous.map_or((self.main, 1), |live| (live.kv.create_revision, live.kv.version + 1));
        let previous = self.record(PbKeyValue {
            key,
            value,
            create_revision,
            mod_revision: self.main,
            version,
            lease,
        });
        (previous, self.main)
    }

    /// Deletes every live key of the range; returns what was there.
    pub(super) fn delete(&mut self, range: &KeyRange) -> Vec<Arc<Version>> {
        let deleted: Vec<Arc<Version>> = self.mvcc.live_at(range, self.main).cloned().collect();
        for version in &deleted {
            self.record(PbKeyValue {
                key: version.kv.key.clone(),
                mod_revision: self.main,
                ..PbKeyValue::default()
            });
        }
        deleted
    }

    fn record(&mut self, kv: PbKeyValue) -> Option<Arc<Version>> {
        let sub = i64::try_from(self.changes.len()).unwrap_or(i64::MAX);
        let version = Arc::new(Version { sub, kv });
        let previous = self.mvcc.insert(&version);
        self.changes.push(Change {
            version,
            previous: previous.clone(),
        });
        previous
    }

    /// Ends the transaction and returns its new rows, none when nothing was changed (then the revision stays too).
    pub(super) fn finish(self, now: Instant) -> Vec<Arc<Version>> {
        if self.changes.is_empty() {
            return Vec::new();
        }
        let rows = self.changes.iter().map(|change| Arc::clone(&change.version)).collect();
        self.mvcc.revision = self.main;
        self.mvcc.append(Revision {
            main: self.main,
            at: now,
            changes: self.changes,
        });
        rows
    }
}
