//! Note about the store, which survives a restart. After a restart, keys may be missing from the store. The note shows whether
//! they were deleted or the store has lost its contents.
//!
//! Performs no I/O. [`crate::sources::note_file`] keeps a [`Note`] in the data directory.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{RawItem, RawKey};

/// Number of keys to record from each end of the key range. Both ends are used, because adjacent keys are often deleted together.
const WITNESSES: usize = 4;

/// State of the store when the agent last read it.
#[derive(Clone, Default, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Note {
    /// Cluster ID, in hexadecimal.
    pub cluster: String,
    /// Revision up to which the desired state was read.
    pub revision: i64,
    /// Number of desired keys at `revision`.
    pub keys: usize,
    /// Some of the desired keys, with their revisions and value hashes.
    pub witnesses: Vec<Evidence>,
    /// Reason why removals are on hold. `None` if they are not on hold.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub held: Option<Reason>,
    /// Number of times that this process has detected a loss of the store's contents.
    #[serde(skip)]
    pub losses: u64,
}

/// Reason why removals are on hold.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reason {
    /// Observation that shows that the store lost its contents.
    pub evidence: String,
    /// Store revision at which the loss was detected.
    pub revision: i64,
}

/// Version of a key. If the store contains the key in this version, the agent recognizes the store.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Evidence {
    key: String,
    mod_revision: i64,
    value_hash: u64,
}

/// Keys that the store had at an earlier revision.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Past {
    /// Modification revision of each key.
    Listed(BTreeMap<RawKey, i64>),
    /// The earlier revision cannot be read. Contains the reason.
    Unknown(String),
}

/// Result of comparing the first listing with a [`Note`].
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Recognition {
    /// The note describes this store. Missing keys were deleted.
    Same,
    /// The note describes this store, which was restored from an older snapshot. Contains the evidence.
    Restored(String),
    /// The store was emptied, or is a different store. Contains the evidence.
    Replaced(String),
}

impl Note {
    /// Creates a note about a store with these keys. Each item is a key, its modification revision and the hash of its value.
    pub(super) fn of<'a>(
        cluster_id: u64,
        revision: i64,
        keys: usize,
        known: impl DoubleEndedIterator<Item = (&'a RawKey, i64, u64)> + Clone,
    ) -> Self {
        let from_the_end = keys.saturating_sub(WITNESSES).min(WITNESSES);
        let chosen = known.clone().take(WITNESSES).chain(known.rev().take(from_the_end));
        let evidence = |(key, mod_revision, value_hash): (&RawKey, i64, u64)| {
            let key = key.as_str().ok()?.to_owned();
            Some(Evidence {
                key,
                mod_revision,
                value_hash,
            })
        };
        Note {
            cluster: format!("{cluster_id:x}"),
            revision,
            keys,
            witnesses: chosen.filter_map(evidence).collect(),
            held: None,
            losses: 0,
        }
    }

    /// Returns the earlier revision that must be listed to recognize the store, or `None` if the current listing is sufficient.
    pub(crate) fn doubts(&self, revision: i64, cluster_id: u64, items: &[RawItem]) -> Option<i64> {
        let in_doubt =
            self.cluster == format!("{cluster_id:x}") && revision >= self.revision && self.keys > 0 && !self.is_confirmed_by(items);
        in_doubt.then_some(self.revision)
    }

    /// Compares the first listing after a start with the note. `past` is the listing requested by [`Note::doubts`].
    pub(crate) fn recognize(&self, revision: i64, cluster_id: u64, items: &[RawItem], past: &Past) -> Recognition {
        if self.cluster != format!("{cluster_id:x}") {
            let evidence = format!(
                "the cluster ID was {} before the agent stopped; it is now {cluster_id:x}",
                self.cluster
            );
            return Recognition::Replaced(evidence);
        }
        if revision < self.revision {
            let evidence = format!(
                "the revision was {} before the agent stopped; it is now only {revision}",
                self.revision
            );
            return match self.is_confirmed_by(items) {
                true => Recognition::Restored(evidence),
                false => Recognition::Replaced(evidence),
            };
        }
        if self.doubts(revision, cluster_id, items).is_none() {
            return Recognition::Same;
        }
        let keys = self.keys;
        match past {
            Past::Listed(listed) if self.is_listed_in(listed) => Recognition::Same,
            Past::Listed(_) => Recognition::Replaced(format!(
                "the {keys} keys that the agent read at revision {} did not exist at that revision",
                self.revision
            )),
            Past::Unknown(words) => Recognition::Replaced(format!(
                "every known key has changed since revision {}, and the store's history cannot be read: {words}",
                self.revision
            )),
        }
    }

    fn is_confirmed_by(&self, items: &[RawItem]) -> bool {
        // Listings are sorted by key.
        self.witnesses.iter().any(|evidence| {
            let found = items.binary_search_by(|item| item.key.as_bytes().cmp(evidence.key.as_bytes()));
            found.is_ok_and(|at| items[at].mod_revision == evidence.mod_revision && hash(&items[at].value) == evidence.value_hash)
        })
    }

    fn is_listed_in(&self, past: &BTreeMap<RawKey, i64>) -> bool {
        let listed = |evidence: &Evidence| past.get(&RawKey::from(evidence.key.as_bytes())) == Some(&evidence.mod_revision);
        past.len() == self.keys && self.witnesses.iter().all(listed)
    }
}

/// Returns the FNV-1a hash of a value. The algorithm must never change, because notes saved by other versions of the agent
/// contain these hashes.
pub(super) fn hash(value: &[u8]) -> u64 {
    let step = |hash: u64, byte: &u8| (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3);
    value.iter().fold(0xcbf2_9ce4_8422_2325, step)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn items(range: std::ops::Range<i64>) -> Vec<RawItem> {
        let item = |number: i64| RawItem {
            key: RawKey::from(format!("key{number:02}").as_bytes()),
            value: format!("value{number}").into_bytes(),
            mod_revision: number,
        };
        range.map(item).collect()
    }

    /// Creates a note about a store with keys 10 to 29, read at revision 30.
    fn note() -> Note {
        let items = items(10..30);
        Note::of(
            7,
            30,
            items.len(),
            items.iter().map(|item| (&item.key, item.mod_revision, hash(&item.value))),
        )
    }

    fn past(items: &[RawItem]) -> Past {
        Past::Listed(items.iter().map(|item| (item.key.clone(), item.mod_revision)).collect())
    }

    fn unknown() -> Past {
        Past::Unknown("mvcc: required revision has been compacted".to_owned())
    }

    #[test]
    fn note_survives_serialization() {
        let text = serde_json::to_string(&note()).expect("JSON");
        assert_eq!(serde_json::from_str::<Note>(&text).expect("a valid note"), note());
        assert_eq!(note().witnesses.len(), 2 * WITNESSES);
        assert_eq!(hash(b"foobar"), 0x8594_4171_f739_67e8, "FNV-1a, as published");
    }

    #[test]
    fn deletions_in_known_store_are_followed() {
        let one_piece_of_evidence = items(29..30);
        assert_eq!(note().doubts(40, 7, &one_piece_of_evidence), None);
        assert_eq!(note().recognize(40, 7, &one_piece_of_evidence, &unknown()), Recognition::Same);
        assert_eq!(note().doubts(40, 7, &[]), Some(30));
        assert_eq!(
            note().recognize(40, 7, &[], &past(&items(10..30))),
            Recognition::Same,
            "all keys were deleted"
        );
    }

    #[test]
    fn restored_snapshot_is_recognized_by_an_unchanged_key() {
        assert!(matches!(
            note().recognize(15, 7, &items(10..15), &unknown()),
            Recognition::Restored(_)
        ));
    }

    #[test]
    fn other_or_emptied_store_is_reported_as_replaced() {
        for (revision, cluster, items, past) in [
            (31, 8, items(10..30), unknown()),
            (29, 7, items(0..0), unknown()),
            (1, 7, items(0..0), unknown()),
            (40, 7, items(0..0), unknown()),
            (40, 7, items(0..0), past(&[])),
            (40, 7, items(30..40), past(&items(1..21))),
            (40, 7, items(30..40), past(&items(10..31))),
        ] {
            let recognized = note().recognize(revision, cluster, &items, &past);
            assert!(
                matches!(recognized, Recognition::Replaced(_)),
                "{revision} {cluster:x}: {recognized:?}"
            );
        }
    }

    #[test]
    fn store_without_keys_has_nothing_to_lose() {
        let empty = Note::of(7, 30, 0, [].into_iter());
        assert_eq!(empty.recognize(30, 7, &[], &unknown()), Recognition::Same);
        assert_eq!(empty.recognize(35, 7, &items(31..35), &unknown()), Recognition::Same);
        assert!(matches!(empty.recognize(3, 7, &[], &unknown()), Recognition::Replaced(_)));
    }
}
