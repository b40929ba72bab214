//! In-memory contents of the store, with all retained versions of each key.
//!
//! The index contains every key with its retained versions. The log contains every retained revision with its changes. Watches read the log. The
//! writer applies changes here *before* they are durable, so readers must not read beyond the last durable revision.
//!
//! The compaction revision and the start of the log advance separately. `compacted` is the compaction revision that clients see. Clients can neither
//! read nor start a watch below this revision. The log can start at an earlier revision, so a compaction does not cancel a running watch that is only
//! slightly behind.
//!
//! Invariant: the log is contiguous and starts at `compacted` or earlier, because a watch can start at `compacted`. (After a restart, deletions at
//! the compaction revision itself are missing.)

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::ops::Bound;
use std::sync::Arc;
use std::time::Instant;

use etcd_client::proto::PbKeyValue;

use super::error::Refusal;
use super::quota::VERSION_OVERHEAD;

/// A set of keys, given by the fields `key` and `range_end` of a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum KeyRange {
    /// `range_end` is empty: only this key.
    One(Vec<u8>),
    /// `range_end` is one zero byte: this key and all keys after it.
    From(Vec<u8>),
    /// All keys from the first bound up to, but not including, the second bound. Empty if the bounds are not in ascending order.
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

    /// Returns true if no key can be in the range.
    pub(super) fn is_empty(&self) -> bool {
        matches!(self, KeyRange::Between(start, end) if start >= end)
    }

    fn bounds(&self) -> (Bound<&[u8]>, Bound<&[u8]>) {
        match self {
            KeyRange::One(key) => (Bound::Included(key), Bound::Included(key)),
            KeyRange::From(start) => (Bound::Included(start), Bound::Unbounded),
            // `BTreeMap::range` panics if the start is greater than the end, so an invalid range is replaced by an empty range.
            KeyRange::Between(start, end) => (Bound::Included(start), Bound::Excluded(if start > end { start } else { end })),
        }
    }
}

/// One version of a key. A tombstone has version 0, and only `key` and `mod_revision` are set, as in a DELETE event.
#[derive(Debug)]
pub(super) struct Version {
    /// Position of the change among all changes of its revision.
    pub(super) sub: i64,
    pub(super) kv: PbKeyValue,
}

impl Version {
    pub(super) fn is_tombstone(&self) -> bool {
        self.kv.version == 0
    }

    /// Returns the version's key in the table `revisions` of the store file.
    pub(super) fn row(&self) -> (i64, i64) {
        (self.kv.mod_revision, self.sub)
    }

    /// Returns the size of this version in bytes, as counted by the quota.
    fn cost(&self) -> usize {
        VERSION_OVERHEAD + self.bytes()
    }

    /// Returns the total size of the key and the value in bytes, without overhead.
    pub(super) fn bytes(&self) -> usize {
        self.kv.key.len() + self.kv.value.len()
    }
}

/// A change: the new version, and the version it replaces (`None` if the key did not exist).
#[derive(Debug, Clone)]
pub(super) struct Change {
    pub(super) version: Arc<Version>,
    pub(super) previous: Option<Arc<Version>>,
}

/// All changes of one main revision, in order. A revision in the log contains at least one change.
#[derive(Debug)]
pub(super) struct Revision {
    pub(super) main: i64,
    pub(super) at: Instant,
    pub(super) changes: Vec<Change>,
}

impl Revision {
    /// Returns the total size in bytes of the keys and values written by this revision.
    pub(super) fn bytes(&self) -> usize {
        self.changes.iter().map(|change| change.version.bytes()).sum()
    }
}

/// Maximum number of revisions that one read of the log returns.
const HISTORY_REVISIONS_MAX: usize = 512;
/// Maximum size in bytes of one read of the log. The limit keeps the memory use of a slow watch low.
const HISTORY_BYTES_MAX: usize = 1 << 20;

/// Multi-version contents of the store: index, log and compaction revision.
#[derive(Debug)]
pub(super) struct Mvcc {
    /// Versions of each key in ascending order. Each key has at least one version.
    index: BTreeMap<Vec<u8>, Vec<Arc<Version>>>,
    log: VecDeque<Arc<Revision>>,
    log_bytes: usize,
    /// Size of all versions in the index in bytes, as counted by the quota.
    index_bytes: usize,
    revision: i64,
    compacted: i64,
}

impl Mvcc {
    /// Creates an empty store. As in etcd, its revision is 1, and a compaction revision of -1 means "never compacted".
    pub(super) fn new() -> Self {
        Mvcc {
            index: BTreeMap::new(),
            log: VecDeque::new(),
            log_bytes: 0,
            index_bytes: 0,
            revision: 1,
            compacted: -1,
        }
    }

    /// Rebuilds the index and the log from the rows on disk, which must be sorted by (main, sub) in ascending order.
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
        // Revisions below the compaction revision are incomplete, so watches cannot use them. Only the index contains their versions.
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

    /// Returns the size of all retained versions in bytes, as counted by the quota.
    pub(super) fn bytes(&self) -> usize {
        self.index_bytes
    }

    /// Adds the newest version of a key and returns the live version that it replaces.
    fn insert(&mut self, version: &Arc<Version>) -> Option<Arc<Version>> {
        self.index_bytes += version.cost();
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

    /// Returns the last applied revision, which may not be durable yet.
    pub(super) fn revision(&self) -> i64 {
        self.revision
    }

    /// Returns the compaction revision, or -1 before the first compaction.
    pub(super) fn compacted(&self) -> i64 {
        self.compacted
    }

    /// Returns the revision for a read at the requested revision `wanted`. If `wanted` is 0 or less, this is `current`.
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

    /// Returns the live versions in `range` as of `revision`, sorted by key.
    pub(super) fn live_at<'a>(&'a self, range: &'a KeyRange, revision: i64) -> impl Iterator<Item = &'a Arc<Version>> {
        self.index.range::<[u8], _>(range.bounds()).filter_map(move |(_, versions)| {
            let version = versions.iter().rev().find(|version| version.kv.mod_revision <= revision)?;
            (!version.is_tombstone()).then_some(version)
        })
    }

    /// Returns the newest live version of a key.
    pub(super) fn live(&self, key: &[u8]) -> Option<&Arc<Version>> {
        self.index.get(key)?.last().filter(|version| !version.is_tombstone())
    }

    /// Returns all retained versions up to a revision, in the order they were written.
    pub(super) fn versions_up_to(&self, revision: i64) -> Vec<Arc<Version>> {
        let versions = self.index.values().flatten().filter(|version| version.kv.mod_revision <= revision);
        let mut versions: Vec<Arc<Version>> = versions.cloned().collect();
        versions.sort_unstable_by_key(|version| version.row());
        versions
    }

    /// Returns the versions that etcd includes in the hash of a revision. These are all versions after the compaction revision, and the earlier
    /// versions that are live at `revision`. If no key is live at `revision`, all earlier versions are included.
    pub(super) fn versions_for_hash(&self, revision: i64) -> Vec<Arc<Version>> {
        let all = KeyRange::From(Vec::new());
        let live: BTreeSet<(i64, i64)> = self.live_at(&all, revision).map(|version| version.row()).collect();
        let mut versions = self.versions_up_to(revision);
        versions.retain(|version| version.kv.mod_revision > self.compacted || live.is_empty() || live.contains(&version.row()));
        versions
    }

    /// Returns all live versions, sorted by key.
    pub(super) fn live_all(&self) -> impl Iterator<Item = &Arc<Version>> {
        self.index
            .values()
            .filter_map(|versions| versions.last().filter(|version| !version.is_tombstone()))
    }

    /// Starts a transaction at the next revision. The store revision advances only if the transaction makes a change.
    pub(super) fn write(&mut self) -> Writing<'_> {
        Writing {
            main: self.revision + 1,
            mvcc: self,
            changes: Vec::new(),
        }
    }

    /// Returns the retained revisions from `from` to `upto`, but stops at a size limit. Fails with the compaction revision if `from` is no longer
    /// available.
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

    /// Returns the rows on disk that a compaction at `revision` makes unreachable: replaced versions and tombstones.
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

    /// Advances the compaction revision and drops unreachable versions from the index.
    ///
    /// All revisions up to `revision` must already be durable and visible. Otherwise, readers could still need the dropped versions.
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
            let freed: usize = versions.drain(..gone).map(|version| version.cost()).sum();
            self.index_bytes -= freed;
            if versions.is_empty() {
                self.index.remove(&key);
            }
        }
        self.compacted = self.compacted.max(revision);
    }

    /// Returns the changes after revision `after`, up to and including `upto`, that are still in the log.
    fn between(&self, after: i64, upto: i64) -> impl Iterator<Item = &Change> {
        let skip = self
            .log
            .front()
            .map_or(0, |first| usize::try_from(after + 1 - first.main).unwrap_or(0));
        let revisions = self.log.iter().skip(skip).take_while(move |revision| revision.main <= upto);
        revisions.flat_map(|revision| revision.changes.iter())
    }

    /// Returns the highest revision that must be compacted to meet the retention limits, and whether the search is complete.
    ///
    /// A revision must be compacted if it was written before `oldest`, or if this revision and all later revisions together exceed `limits`
    /// (revisions, bytes). One call examines at most `step` revisions, so a later call can find more revisions to compact.
    pub(super) fn overdue(&self, limits: (usize, usize), oldest: Option<Instant>, step: usize) -> (Option<i64>, bool) {
        let spared = self.spared();
        let spared_bytes = if spared == 0 { 0 } else { self.log[0].bytes() };
        let (mut count, mut bytes) = (self.log.len() - spared, self.log_bytes - spared_bytes);
        let mut overdue = None;
        for revision in self.log.iter().skip(spared).take(step) {
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

    /// Returns 1 if the log starts with the compaction revision, and 0 otherwise. Retention never drops the compaction revision.
    fn spared(&self) -> usize {
        usize::from(self.log.front().is_some_and(|first| first.main == self.compacted))
    }

    /// Returns the write time of the oldest revision that retention can drop.
    pub(super) fn oldest(&self) -> Option<Instant> {
        self.log.get(self.spared()).map(|revision| revision.at)
    }

    /// Drops compacted revisions up to `revision` from the log, except the compaction revision itself.
    pub(super) fn trim(&mut self, revision: i64) {
        while let Some(first) = self
            .log
            .front()
            .filter(|first| first.main <= revision && first.main < self.compacted)
        {
            self.log_bytes -= first.bytes();
            self.log.pop_front();
        }
    }
}

/// A transaction on [`Mvcc`]. All its changes get the same main revision.
pub(super) struct Writing<'a> {
    mvcc: &'a mut Mvcc,
    main: i64,
    changes: Vec<Change>,
}

impl Writing<'_> {
    /// Returns the revision for reads inside the transaction. At this revision, the transaction sees its own changes.
    pub(super) fn revision(&self) -> i64 {
        if self.changes.is_empty() { self.mvcc.revision } else { self.main }
    }

    pub(super) fn mvcc(&self) -> &Mvcc {
        self.mvcc
    }

    /// Writes a key. Returns the replaced version, if any, and the revision of the write.
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

    /// Deletes all live keys in the range and returns their versions.
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

    /// Ends the transaction and returns the versions it has written. The store revision does not advance if there are no changes.
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

#[cfg(test)]
mod tests {
    use super::*;

    fn put(mvcc: &mut Mvcc, key: &str, value: &str) -> i64 {
        let mut writing = mvcc.write();
        writing.put(key.into(), value.into(), 0);
        writing.finish(Instant::now());
        mvcc.revision()
    }

    fn delete(mvcc: &mut Mvcc, key: &str) -> usize {
        let mut writing = mvcc.write();
        let deleted = writing.delete(&KeyRange::One(key.into())).len();
        writing.finish(Instant::now());
        deleted
    }

    fn at(mvcc: &Mvcc, revision: i64) -> Vec<(String, String)> {
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let range = KeyRange::From(vec![0]);
        mvcc.live_at(&range, revision)
            .map(|version| (text(&version.kv.key), text(&version.kv.value)))
            .collect()
    }

    fn pair(key: &str, value: &str) -> (String, String) {
        (key.to_owned(), value.to_owned())
    }

    #[test]
    fn revisions_can_be_read_until_they_are_compacted() {
        let mut mvcc = Mvcc::new();
        assert_eq!(put(&mut mvcc, "a", "1"), 2);
        assert_eq!(put(&mut mvcc, "b", "1"), 3);
        assert_eq!(put(&mut mvcc, "a", "2"), 4);
        assert_eq!(delete(&mut mvcc, "b"), 1);
        assert_eq!(at(&mvcc, 1), []);
        assert_eq!(at(&mvcc, 3), [pair("a", "1"), pair("b", "1")]);
        assert_eq!(at(&mvcc, 5), [pair("a", "2")]);
        assert_eq!(mvcc.obsolete_rows(4), [(2, 0)]);
        mvcc.compact(4);
        assert_eq!(at(&mvcc, 4), [pair("a", "2"), pair("b", "1")]);
        assert_eq!(mvcc.readable(3, 5), Err(Refusal::Compacted));
        assert_eq!(mvcc.obsolete_rows(5), [(3, 0), (5, 0)]);
        mvcc.compact(5);
        assert_eq!(at(&mvcc, 5), [pair("a", "2")]);
        assert_eq!(mvcc.index.len(), 1, "a deleted key must be removed from the index");
    }

    #[test]
    fn version_of_a_recreated_key_restarts_at_one() {
        let mut mvcc = Mvcc::new();
        put(&mut mvcc, "a", "1");
        put(&mut mvcc, "a", "2");
        let live = |mvcc: &Mvcc| {
            mvcc.live(b"a")
                .map(|live| (live.kv.create_revision, live.kv.mod_revision, live.kv.version))
        };
        assert_eq!(live(&mvcc), Some((2, 3, 2)));
        delete(&mut mvcc, "a");
        assert_eq!(live(&mvcc), None);
        put(&mut mvcc, "a", "3");
        assert_eq!(live(&mvcc), Some((5, 5, 1)));
    }

    #[test]
    fn transaction_without_changes_keeps_the_revision() {
        let mut mvcc = Mvcc::new();
        assert_eq!(delete(&mut mvcc, "a"), 0);
        assert_eq!((mvcc.revision(), mvcc.log.len()), (1, 0));
    }

    #[test]
    fn content_is_restored_from_its_rows() {
        let mut mvcc = Mvcc::new();
        for number in 0..20 {
            put(&mut mvcc, ["a", "b", "c"][number % 3], &number.to_string());
            if number % 5 == 4 {
                delete(&mut mvcc, "b");
            }
        }
        let compacted = 12;
        let obsolete = mvcc.obsolete_rows(compacted);
        let rows = mvcc.log.iter().flat_map(|revision| revision.changes.iter());
        let kept = rows.filter(|change| !obsolete.contains(&change.version.row()));
        let rows = kept
            .map(|change| Version {
                sub: change.version.sub,
                kv: change.version.kv.clone(),
            })
            .collect();
        let restored = Mvcc::restore(rows, compacted, Instant::now());
        assert_eq!(restored.revision(), mvcc.revision());
        for revision in compacted..=mvcc.revision() {
            assert_eq!(at(&restored, revision), at(&mvcc, revision), "at {revision}");
        }
        let reported = |mvcc: &Mvcc| -> Vec<i64> {
            let piece = mvcc.history(compacted + 1, mvcc.revision()).expect("the revision must be retained");
            piece.iter().map(|revision| revision.main).collect()
        };
        assert_eq!(reported(&restored), reported(&mvcc));
        assert_eq!(restored.history(compacted - 1, 100).err(), Some(compacted));
    }

    #[test]
    fn running_watch_reads_compacted_history_until_it_is_trimmed() {
        let mut mvcc = Mvcc::new();
        for _ in 0..10 {
            put(&mut mvcc, "a", "x");
        }
        mvcc.compact(8);
        assert_eq!(mvcc.history(3, 11).map(|piece| piece.len()).ok(), Some(9));
        mvcc.trim(20);
        assert_eq!(mvcc.history(3, 11).err(), Some(8), "earlier revisions must have been trimmed");
        assert_eq!(mvcc.history(8, 11).map(|piece| piece.len()).ok(), Some(4));
        assert_eq!(mvcc.log_bytes, 4 * 2);
    }

    #[test]
    fn watch_from_the_compaction_revision_receives_it() {
        let mut mvcc = Mvcc::new();
        put(&mut mvcc, "a", "x");
        let later = Instant::now() + std::time::Duration::from_secs(1);
        let (overdue, _) = mvcc.overdue((10, 100), Some(later), 100);
        assert_eq!(overdue, Some(2));
        mvcc.compact(2);
        mvcc.trim(2);
        assert_eq!(mvcc.history(2, 2).map(|piece| piece.len()), Ok(1));
        // The compaction revision does not count towards the limits. Otherwise, retention would never finish.
        assert_eq!((mvcc.overdue((0, 0), Some(later), 100), mvcc.oldest()), ((None, true), None));
        put(&mut mvcc, "a", "y");
        assert_eq!(mvcc.overdue((0, 0), None, 100), (Some(3), true));
    }

    #[test]
    fn retention_returns_the_newest_revision_over_a_limit() {
        let mut mvcc = Mvcc::new();
        for _ in 0..10 {
            put(&mut mvcc, "a", "x");
        }
        let later = Instant::now() + std::time::Duration::from_secs(1);
        assert_eq!(mvcc.overdue((10, 20), None, 100), (None, true));
        assert_eq!(mvcc.overdue((7, 20), None, 100), (Some(4), true));
        assert_eq!(mvcc.overdue((10, 11), None, 100), (Some(6), true));
        assert_eq!(mvcc.overdue((10, 20), Some(later), 4), (Some(5), false));
        assert_eq!(mvcc.overdue((10, 20), Some(later), 100), (Some(11), true));
    }

    #[test]
    fn key_ranges_have_the_semantics_of_etcd() {
        assert!(KeyRange::new(b"a", b"").contains(b"a") && !KeyRange::new(b"a", b"").contains(b"aa"));
        assert!(KeyRange::new(b"a", &[0]).contains(b"zzz") && !KeyRange::new(b"b", &[0]).contains(b"a"));
        assert!(KeyRange::new(b"a", b"b").contains(b"ab") && !KeyRange::new(b"a", b"b").contains(b"b"));
        let mut mvcc = Mvcc::new();
        put(&mut mvcc, "b", "x");
        let backwards = KeyRange::new(b"c", b"a");
        assert!(backwards.is_empty() && mvcc.live_at(&backwards, 2).count() == 0);
    }
}
