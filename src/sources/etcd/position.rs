//! What has been delivered so far, and how it compares with a listing of the store.
//!
//! Owns the last state handed over: revision, and a fingerprint of each key. Must never do I/O. Start at [`Position::compare`].

use std::{
    collections::BTreeMap,
    hash::{DefaultHasher, Hash, Hasher},
};

use etcd_client::KeyValue;

use super::{RawChange, RawKey};

/// One version of one key. The hash is needed because a store that was wiped and filled again by the same script has the
/// same keys at the same revisions, with other values.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Fingerprint {
    mod_revision: i64,
    value_hash: u64,
}

/// The state that the receiver of the events has, or will have when it has taken what is waiting.
pub(crate) struct Position {
    revision: i64,
    cluster_id: u64,
    known: BTreeMap<RawKey, Fingerprint>,
}

/// One key of a listing, after the prefix was cut off.
pub(crate) struct Listed {
    pub key: RawKey,
    pub value: Vec<u8>,
    pub mod_revision: i64,
}

/// What a listing of the store means for someone who is at a [`Position`].
#[derive(Debug, PartialEq)]
pub(crate) enum Comparison {
    /// Nothing happened.
    Same,
    /// The store moved on; these keys differ.
    Moved(Vec<RawChange>),
    /// This is not the store that was read before, or it has lost part of its history; in words.
    Replaced(String),
}

/// A key whose revision in the store is not the one delivered; `None`: the store does not have it.
pub(crate) type Suspects = BTreeMap<RawKey, Option<i64>>;

impl Position {
    /// The position of someone who was given exactly `items`.
    pub fn of_listing(revision: i64, cluster_id: u64, items: &[Listed]) -> Self {
        let known = items.iter().map(|item| (item.key.clone(), fingerprint(item))).collect();
        Self {
            revision,
            cluster_id,
            known,
        }
    }

    /// Last revision of which the effects were delivered.
    pub fn revision(&self) -> i64 {
        self.revision
    }

    /// Takes one watch event. `None` if it is not newer than what was delivered, and so must not be delivered.
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
                    value_hash: hash(value),
                };
                self.known.insert(change.key.clone(), fingerprint);
            }
            None => {
                self.known.remove(&change.key);
            }
        }
    }

    /// Ends a run of [`Position::apply`] for the events up to `revision`. Events of one revision come together, so the
    /// position may only move when all of them were applied.
    pub fn advance(&mut self, revision: i64) {
        self.revision = self.revision.max(revision);
    }

    /// Compares with a complete listing (with values) taken after a loss of the connection.
    ///
    /// A store that only moved on holds every key with a revision up to ours exactly as delivered. Anything else is another
    /// store: smaller revision, other cluster, or other content in a past that cannot change.
    pub fn compare(&self, revision: i64, cluster_id: u64, items: &[Listed]) -> Comparison {
        if cluster_id != self.cluster_id {
            return Comparison::Replaced(format!("it is cluster {cluster_id:x}, before it was {:x}", self.cluster_id));
        }
        if revision < self.revision {
            return Comparison::Replaced(format!("it is at revision {revision}, before it was at {}", self.revision));
        }
        let mut changes = Vec::new();
        let mut gone = self.known.clone();
        for item in items {
            if gone.remove(&item.key) == Some(fingerprint(item)) {
                continue;
            }
            if item.mod_revision <= self.revision {
                return Comparison::Replaced(format!("key {} at revision {} is not as it was", item.key, item.mod_revision));
            }
            changes.push(RawChange {
                key: item.key.clone(),
                mod_revision: item.mod_revision,
                value: Some(item.value.clone()),
            });
        }
        if let Some(key) = gone.keys().next().filter(|_| revision == self.revision) {
            return Comparison::Replaced(format!("key {key} is missing at the same revision {revision}"));
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

    /// Moves to `revision` with the changes that [`Position::compare`] found.
    pub fn move_to(&mut self, revision: i64, changes: &[RawChange]) {
        for change in changes {
            self.record(change);
        }
        self.advance(revision);
    }

    /// Compares with a listing of keys only, taken at `revision` while the watch runs. Keys that the watch has already
    /// brought in a later version do not count. What is reported may still be on its way through the watch.
    pub fn suspects(&self, revision: i64, mut listed: BTreeMap<RawKey, i64>) -> Suspects {
        let mut suspects = Suspects::new();
        for (key, known) in &self.known {
            match listed.remove(key) {
                Some(mod_revision) if mod_revision == known.mod_revision => {}
                _ if known.mod_revision > revision => {}
                other => {
                    suspects.insert(key.clone(), other);
                }
            }
        }
        suspects.extend(listed.into_iter().map(|(key, mod_revision)| (key, Some(mod_revision))));
        suspects
    }
}

fn fingerprint(item: &Listed) -> Fingerprint {
    Fingerprint {
        mod_revision: item.mod_revision,
        value_hash: hash(&item.value),
    }
}

fn hash(value: &[u8]) -> u64 {
    let mut hasher = DefaultHasher::new();
    value.hash(&mut hasher);
    hasher.finish()
}

/// Cuts the prefix off; a key without it cannot come out of a listing of the prefix, and is left out.
pub(super) fn strip(prefix: &[u8], items: Vec<KeyValue>) -> Vec<Listed> {
    let listed = items.into_iter().filter_map(|item| {
        let mod_revision = item.mod_revision();
        let (key, value) = item.into_key_value();
        Some(Listed {
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

    fn listed(key: &str, value: &str, mod_revision: i64) -> Listed {
        Listed {
            key: RawKey::from(key.as_bytes()),
            value: value.into(),
            mod_revision,
        }
    }

    fn position() -> Position {
        Position::of_listing(10, 7, &[listed("a", "1", 3), listed("b", "2", 9)])
    }

    #[test]
    fn an_equal_listing_means_that_nothing_happened_even_at_a_later_revision() {
        assert_eq!(
            position().compare(10, 7, &[listed("a", "1", 3), listed("b", "2", 9)]),
            Comparison::Same
        );
        assert_eq!(
            position().compare(50, 7, &[listed("a", "1", 3), listed("b", "2", 9)]),
            Comparison::Same
        );
    }

    #[test]
    fn later_puts_and_deletions_are_found_by_difference() {
        let Comparison::Moved(changes) = position().compare(12, 7, &[listed("b", "x", 11), listed("c", "y", 12)]) else {
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
    fn a_store_with_another_past_is_told_from_one_that_moved_on() {
        for (revision, cluster, items) in [
            (9, 7, vec![listed("a", "1", 3), listed("b", "2", 9)]),
            (10, 8, vec![listed("a", "1", 3), listed("b", "2", 9)]),
            (50, 7, vec![listed("a", "other value at the same revision", 3), listed("b", "2", 9)]),
            (50, 7, vec![listed("a", "1", 4), listed("b", "2", 9)]),
            (50, 7, vec![listed("new key in the past", "1", 4)]),
            (10, 7, vec![listed("a", "1", 3)]),
        ] {
            assert!(
                matches!(position().compare(revision, cluster, &items), Comparison::Replaced(_)),
                "revision {revision}"
            );
        }
    }

    #[test]
    fn an_event_that_is_not_newer_is_not_delivered_again() {
        let mut position = position();
        let change = |mod_revision| RawChange {
            key: RawKey::from(&b"a"[..]),
            mod_revision,
            value: None,
        };
        assert_eq!(position.apply(change(10)), None);
        assert!(position.apply(change(11)).is_some());
        assert!(position.apply(change(11)).is_some(), "the other keys of one revision still come");
        position.advance(11);
        assert_eq!(position.apply(change(11)), None);
    }

    #[test]
    fn a_key_that_differs_from_the_delivered_state_is_suspect_unless_the_watch_is_ahead() {
        let mut position = position();
        let listing = |items: &[(&str, i64)]| items.iter().map(|(k, r)| (RawKey::from(k.as_bytes()), *r)).collect();
        assert!(position.suspects(10, listing(&[("a", 3), ("b", 9)])).is_empty());
        assert_eq!(position.suspects(12, listing(&[("a", 12), ("c", 11)])).len(), 3);
        position.apply(RawChange {
            key: RawKey::from(&b"a"[..]),
            mod_revision: 12,
            value: Some(Vec::new()),
        });
        assert!(position.suspects(11, listing(&[("a", 3), ("b", 9)])).is_empty());
    }
}
