//! State that was delivered to the receiver, for comparison with listings of the store. Performs no I/O.
//!
//! A position consists of a revision and a fingerprint of each key.

use std::collections::BTreeMap;

use etcd_client::KeyValue;

use super::{
    RawChange, RawItem, RawKey,
    note::{self, Note, Past},
};

/// Version of a key. The revision alone is not sufficient. A script that wipes a store and fills it again can produce the same
/// keys at the same revisions, but with different values.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Fingerprint {
    mod_revision: i64,
    value_hash: u64,
}

/// State that the receiver has, or will have once it has received the pending events.
pub(crate) struct Position {
    revision: i64,
    cluster_id: u64,
    known: BTreeMap<RawKey, Fingerprint>,
}

/// Result of comparing a listing of the store with a [`Position`].
#[derive(Debug, PartialEq)]
pub(crate) enum Comparison {
    /// The listing and the position do not differ.
    Same,
    /// The store has advanced. Contains the changed keys.
    Moved(Vec<RawChange>),
    /// The store was restored from a snapshot of the same history. Contains the evidence.
    Restored(String),
    /// The store has lost its contents, or is a different store. Contains the evidence.
    Replaced(String),
}

/// Keys for which the revision in the store differs from the delivered revision. The map value is the revision in the store, or
/// `None` if the store does not have the key.
pub(crate) type Unconfirmed = BTreeMap<RawKey, Option<i64>>;

impl Position {
    /// Returns the position of a receiver that has exactly `items`.
    pub fn of_listing(revision: i64, cluster_id: u64, items: &[RawItem]) -> Self {
        let known = items.iter().map(|item| (item.key.clone(), fingerprint(item))).collect();
        Self {
            revision,
            cluster_id,
            known,
        }
    }

    /// Returns the newest delivered revision.
    pub fn revision(&self) -> i64 {
        self.revision
    }

    /// Records a watch event. Returns `None` if the event must not be delivered, because it is not newer than the delivered
    /// state.
    pub fn apply(&mut self, change: RawChange) -> Option<RawChange> {
        if change.mod_revision <= self.revision {
            return None;
        }
        self.record(&change);
        Some(change)
    }

    fn record(&mut self, change: &RawChange) {
        match &change.value {
            Some(value) => {
                let fingerprint = Fingerprint {
                    mod_revision: change.mod_revision,
                    value_hash: note::hash(value),
                };
                self.known.insert(change.key.clone(), fingerprint);
            }
            None => {
                self.known.remove(&change.key);
            }
        }
    }

    /// Advances the position to `revision`. Must be called after [`Position::apply`] for all events up to that revision.
    ///
    /// The position must not advance between two events of one revision, because the later event would then be ignored.
    pub fn advance(&mut self, revision: i64) {
        self.revision = self.revision.max(revision);
    }

    /// Returns the note that a later process uses to recognize this store.
    pub fn note(&self) -> Note {
        let known = self.known.iter().map(|(key, known)| (key, known.mod_revision, known.value_hash));
        Note::of(self.cluster_id, self.revision, self.known.len(), known)
    }

    /// Returns the earlier revision that must be listed to find out whether missing keys were deleted or lost. Returns `None` if
    /// there is no doubt.
    ///
    /// Missing keys are in doubt if all other known keys have changed, because the store may then have been wiped and filled
    /// again.
    pub fn doubts(&self, revision: i64, cluster_id: u64, items: &[RawItem]) -> Option<i64> {
        if cluster_id != self.cluster_id || revision <= self.revision || self.known.is_empty() {
            return None;
        }
        let mut present = 0;
        for item in items {
            match self.known.get(&item.key) {
                Some(known) if *known == fingerprint(item) => return None,
                Some(_) => present += 1,
                None => {}
            }
        }
        (present < self.known.len()).then_some(self.revision)
    }

    /// Compares the position with a complete listing (including values) after a lost connection. `past` is the listing requested
    /// by [`Position::doubts`].
    ///
    /// A store that has merely advanced still has the delivered version of every key that was not written since. In a store that
    /// was restored from a snapshot, some of these keys are unchanged, and others have an earlier version. In all other cases,
    /// the store was emptied, or is a different store.
    pub fn compare(&self, revision: i64, cluster_id: u64, items: &[RawItem], past: &Past) -> Comparison {
        if cluster_id != self.cluster_id {
            return Comparison::Replaced(format!("the cluster ID is {cluster_id:x}; it was {:x} before", self.cluster_id));
        }
        let mut changes = Vec::new();
        let mut gone = self.known.clone();
        let (mut unchanged, mut earlier) = (false, None);
        for item in items {
            let known = gone.remove(&item.key);
            if known == Some(fingerprint(item)) {
                unchanged = true;
                continue;
            }
            if item.mod_revision <= self.revision {
                if known.is_some_and(|known| known.mod_revision <= item.mod_revision) {
                    let evidence = format!(
                        "key {} at revision {} differs from the version that the agent read earlier",
                        item.key, item.mod_revision
                    );
                    return Comparison::Replaced(evidence);
                }
                earlier.get_or_insert(item);
            }
            changes.push(RawChange {
                key: item.key.clone(),
                mod_revision: item.mod_revision,
                value: Some(item.value.clone()),
            });
        }
        let evidence = if revision < self.revision {
            Some(format!("the revision is {revision}; it was {} before", self.revision))
        } else {
            earlier.map(|item| format!("key {} has revision {}, which is older than expected", item.key, item.mod_revision))
        };
        if let Some(evidence) = evidence {
            return match unchanged || self.known.is_empty() {
                true => Comparison::Restored(evidence),
                false => Comparison::Replaced(evidence),
            };
        }
        if let Some(key) = gone.keys().next().filter(|_| revision == self.revision) {
            return Comparison::Replaced(format!(
                "key {key} is missing, although the agent read it at the same store revision {revision}"
            ));
        }
        if self.doubts(revision, cluster_id, items).is_some()
            && let Some(evidence) = self.contradicted_by(past)
        {
            return Comparison::Replaced(evidence);
        }
        changes.extend(gone.into_keys().map(|key| RawChange {
            key,
            mod_revision: revision,
            value: None,
        }));
        if changes.is_empty() {
            Comparison::Same
        } else {
            Comparison::Moved(changes)
        }
    }

    /// Returns the reason to doubt that the store ever contained the known keys, or `None` if the store's history contains them.
    fn contradicted_by(&self, past: &Past) -> Option<String> {
        let lost = format!("every one of the {} known keys has changed", self.known.len());
        let listed = match past {
            Past::Listed(listed) => listed,
            Past::Unknown(words) => return Some(format!("{lost}, and the store's history cannot be read: {words}")),
        };
        let as_known = |(key, known): (&RawKey, &Fingerprint)| listed.get(key) == Some(&known.mod_revision);
        (!self.known.iter().all(as_known)).then(|| format!("{lost}, and the known versions did not exist at revision {}", self.revision))
    }

    /// Advances the position to `revision`, and records the changes returned by [`Position::compare`].
    pub fn move_to(&mut self, revision: i64, changes: &[RawChange]) {
        for change in changes {
            self.record(change);
        }
        self.advance(revision);
    }

    /// Compares the position with a listing of keys only, taken at `revision` while the watch runs.
    ///
    /// Ignores keys for which the watch has already delivered a later version. The watch may still deliver the returned
    /// differences.
    pub fn unconfirmed(&self, revision: i64, mut listed: BTreeMap<RawKey, i64>) -> Unconfirmed {
        let mut unconfirmed = Unconfirmed::new();
        for (key, known) in &self.known {
            match listed.remove(key) {
                Some(mod_revision) if mod_revision == known.mod_revision => {}
                _ if known.mod_revision > revision => {}
                other => {
                    unconfirmed.insert(key.clone(), other);
                }
            }
        }
        unconfirmed.extend(listed.into_iter().map(|(key, mod_revision)| (key, Some(mod_revision))));
        unconfirmed
    }
}

fn fingerprint(item: &RawItem) -> Fingerprint {
    Fingerprint {
        mod_revision: item.mod_revision,
        value_hash: note::hash(&item.value),
    }
}

/// Removes the prefix from listed keys. Skips keys without the prefix, which a listing should never contain.
pub(super) fn strip(prefix: &[u8], items: Vec<KeyValue>) -> Vec<RawItem> {
    let listed = items.into_iter().filter_map(|item| {
        let mod_revision = item.mod_revision();
        let (key, value) = item.into_key_value();
        Some(RawItem {
            key: RawKey::from(key.strip_prefix(prefix)?),
            value,
            mod_revision,
        })
    });
    listed.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn listed(key: &str, value: &str, mod_revision: i64) -> RawItem {
        RawItem {
            key: RawKey::from(key.as_bytes()),
            value: value.into(),
            mod_revision,
        }
    }

    fn unasked() -> Past {
        Past::Unknown("not requested".to_owned())
    }

    fn position() -> Position {
        Position::of_listing(10, 7, &[listed("a", "1", 3), listed("b", "2", 9)])
    }

    #[test]
    fn equal_listing_at_later_revision_has_no_differences() {
        assert_eq!(
            position().compare(10, 7, &[listed("a", "1", 3), listed("b", "2", 9)], &unasked()),
            Comparison::Same
        );
        assert_eq!(
            position().compare(50, 7, &[listed("a", "1", 3), listed("b", "2", 9)], &unasked()),
            Comparison::Same
        );
    }

    #[test]
    fn later_puts_and_deletions_are_detected() {
        let past = Past::Listed(BTreeMap::from([(RawKey::from(&b"a"[..]), 3), (RawKey::from(&b"b"[..]), 9)]));
        let Comparison::Moved(changes) = position().compare(12, 7, &[listed("b", "x", 11), listed("c", "y", 12)], &past) else {
            panic!("the store moved on");
        };
        let got: Vec<_> = changes
            .iter()
            .map(|c| (c.key.to_string(), c.mod_revision, c.value.clone()))
            .collect();
        let want = [
            ("b".to_owned(), 11, Some(b"x".to_vec())),
            ("c".to_owned(), 12, Some(b"y".to_vec())),
            ("a".to_owned(), 12, None),
        ];
        assert_eq!(got, want);
    }

    #[test]
    fn store_with_another_history_is_reported_as_replaced() {
        for (revision, cluster, items) in [
            (10, 8, vec![listed("a", "1", 3), listed("b", "2", 9)]),
            (50, 7, vec![listed("a", "other value at the same revision", 3), listed("b", "2", 9)]),
            (50, 7, vec![listed("a", "1", 4), listed("b", "2", 9)]),
            (50, 7, vec![listed("new key in the past", "1", 4)]),
            (10, 7, vec![listed("a", "1", 3)]),
        ] {
            assert!(
                matches!(position().compare(revision, cluster, &items, &unasked()), Comparison::Replaced(_)),
                "revision {revision}: {:?}",
                items.iter().map(|item| &item.key).collect::<Vec<_>>()
            );
        }
    }

    #[test]
    fn restored_snapshot_has_unchanged_and_earlier_keys() {
        for (revision, items) in [
            (9, vec![listed("a", "1", 3), listed("b", "2", 9)]),
            (
                5,
                vec![listed("a", "1", 3), listed("b", "earlier", 4), listed("deleted since", "x", 5)],
            ),
            // The state after `etcdutl snapshot restore --bump-revision`.
            (1_000_000, vec![listed("a", "1", 3), listed("b", "earlier", 4)]),
        ] {
            let compared = position().compare(revision, 7, &items, &unasked());
            assert!(matches!(compared, Comparison::Restored(_)), "revision {revision}: {compared:?}");
        }
    }

    #[test]
    fn past_listing_distinguishes_emptied_store_from_deletions() {
        let key = |name: &str| RawKey::from(name.as_bytes());
        let refilled = [listed("a", "1", 12)];
        assert_eq!(position().doubts(20, 7, &[]), Some(10));
        assert_eq!(position().doubts(20, 7, &refilled), Some(10));
        assert_eq!(position().doubts(20, 7, &[listed("a", "1", 3)]), None, "one key is unchanged");
        assert_eq!(
            position().doubts(20, 7, &[listed("a", "x", 12), listed("b", "y", 13)]),
            None,
            "nothing is missing"
        );
        let deleted = Past::Listed(BTreeMap::from([(key("a"), 3), (key("b"), 9)]));
        assert!(matches!(position().compare(20, 7, &[], &deleted), Comparison::Moved(changes) if changes.len() == 2));
        let never_there = Past::Listed(BTreeMap::from([(key("a"), 2)]));
        for past in [never_there, Past::Listed(BTreeMap::new()), Past::Unknown("compacted".to_owned())] {
            for items in [&[][..], &refilled] {
                assert!(
                    matches!(position().compare(20, 7, items, &past), Comparison::Replaced(_)),
                    "{past:?}"
                );
            }
        }
    }

    #[test]
    fn event_that_is_not_newer_is_not_delivered_again() {
        let mut position = position();
        let change = |mod_revision| RawChange {
            key: RawKey::from(&b"a"[..]),
            mod_revision,
            value: None,
        };
        assert_eq!(position.apply(change(10)), None);
        assert!(position.apply(change(11)).is_some());
        assert!(position.apply(change(11)).is_some(), "other keys of the same revision may follow");
        position.advance(11);
        assert_eq!(position.apply(change(11)), None);
    }

    #[test]
    fn differing_key_is_suspect_unless_watch_is_ahead() {
        let mut position = position();
        let listing = |items: &[(&str, i64)]| items.iter().map(|(k, r)| (RawKey::from(k.as_bytes()), *r)).collect();
        assert!(position.unconfirmed(10, listing(&[("a", 3), ("b", 9)])).is_empty());
        assert_eq!(position.unconfirmed(12, listing(&[("a", 12), ("c", 11)])).len(), 3);
        position.apply(RawChange {
            key: RawKey::from(&b"a"[..]),
            mod_revision: 12,
            value: Some(Vec::new()),
        });
        assert!(position.unconfirmed(11, listing(&[("a", 3), ("b", 9)])).is_empty());
    }
}
