//! Foreign keys: keys in the store that belong to no model.
//!
//! Clients can put any number of foreign keys. Up to a limit, each foreign key gets a status that contains an error. Keys beyond
//! the limit are only counted, and their number is logged each time it has doubled.

use std::{
    collections::HashSet,
    hash::{BuildHasher, RandomState},
};

use models::registry::model_of_key;
use tracing::warn;

use super::CONFIG;
use crate::sources::etcd::RawKey;

/// Maximum number of foreign keys that get a status of their own.
const REPORTED_MAX: usize = 100;

/// Set of the foreign keys that are in the store.
#[derive(Default)]
pub(super) struct Foreign {
    reported: HashSet<RawKey>,
    /// Hashes of the foreign keys without a status of their own.
    others: HashSet<u64>,
    hasher: RandomState,
    /// Size of `others` when it was last logged.
    logged: usize,
}

impl Foreign {
    /// Forgets all foreign keys. Called before a complete listing of the store is processed.
    pub fn clear(&mut self) {
        self.reported.clear();
        self.others.clear();
    }

    /// Records that a key was put or deleted. Returns false if the key is foreign and does not get a status. The caller then ignores the change.
    pub fn admits(&mut self, key: &RawKey, put: bool) -> bool {
        if model_of_key(&format!("{CONFIG}{key}")).is_some() {
            return true;
        }
        if !put {
            return self.reported.remove(key) || !self.others.remove(&self.hasher.hash_one(key));
        }
        if self.reported.contains(key) {
            return true;
        }
        let hash = self.hasher.hash_one(key);
        if self.reported.len() >= REPORTED_MAX || self.others.contains(&hash) {
            self.others.insert(hash);
            return false;
        }
        self.reported.insert(key.clone())
    }

    /// Logs the number of foreign keys without a status if it has doubled since it was last logged.
    pub fn log(&mut self) {
        let count = self.others.len();
        if count == 0 {
            self.logged = 0;
        } else if count >= 2 * self.logged {
            self.logged = count;
            warn!(
                count,
                reported = self.reported.len(),
                "too many keys below {CONFIG} belong to no model, so some of them have no status; delete them, or put their values under \
                 keys that belong to a model"
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(text: &str) -> RawKey {
        RawKey::from(text.as_bytes())
    }

    #[test]
    fn number_of_reported_foreign_keys_is_limited() {
        let mut foreign = Foreign::default();
        let passed = (0..50_000).filter(|number| foreign.admits(&key(&format!("foreign/{number}")), true));
        assert_eq!(passed.count(), REPORTED_MAX);
        assert_eq!(
            (foreign.reported.len(), foreign.others.len()),
            (REPORTED_MAX, 50_000 - REPORTED_MAX)
        );
        assert!(foreign.admits(&key("linux/interfaces/v2/interface/a"), true), "model key");
        assert!(foreign.admits(&key("foreign/7"), true), "reported keys must pass again");
        assert!(!foreign.admits(&key("foreign/4711"), false), "unreported deletion must not pass");
        assert!(foreign.admits(&key("foreign/7"), false));
        assert!(foreign.admits(&key("foreign/new"), true), "another key must pass now");
        assert_eq!(foreign.others.len(), 50_000 - REPORTED_MAX - 1);
        foreign.clear();
        assert!(foreign.admits(&key("foreign/4712"), true));
    }
}
