//! Keys of the store that belong to no model.
//!
//! Each gets a status that says so, up to a limit: how many there are is not up to the agent. The rest is counted, and logged once per
//! doubling.

use std::{
    collections::HashSet,
    hash::{BuildHasher, RandomState},
};

use models::registry::model_of_key;
use tracing::warn;

use super::CONFIG;
use crate::sources::etcd::RawKey;

/// Keys with a status of their own.
const REPORTED_MAX: usize = 100;

/// The keys that belong to no model.
#[derive(Default)]
pub(super) struct Foreign {
    reported: HashSet<RawKey>,
    /// Hashes of the others.
    others: HashSet<u64>,
    hasher: RandomState,
    /// How many others the last line in the log was about.
    logged: usize,
}

impl Foreign {
    /// Forgets all keys: a listing follows.
    pub fn clear(&mut self) {
        self.reported.clear();
        self.others.clear();
    }

    /// A key was put or deleted. Returns whether that is passed on.
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

    /// Logs how many keys are not reported.
    pub fn log(&mut self) {
        let count = self.others.len();
        if count == 0 {
            self.logged = 0;
        } else if count >= 2 * self.logged {
            self.logged = count;
            warn!(
                count,
                reported = self.reported.len(),
                "keys below {CONFIG} belong to no model and have no status of their own; delete them, or put values under the keys of their models"
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
    fn however_many_foreign_keys_there_are_few_are_passed_on() {
        let mut foreign = Foreign::default();
        let passed = (0..50_000).filter(|number| foreign.admits(&key(&format!("foreign/{number}")), true));
        assert_eq!(passed.count(), REPORTED_MAX);
        assert_eq!(
            (foreign.reported.len(), foreign.others.len()),
            (REPORTED_MAX, 50_000 - REPORTED_MAX)
        );
        assert!(foreign.admits(&key("linux/interfaces/v2/interface/a"), true), "a value");
        assert!(foreign.admits(&key("foreign/7"), true), "one that was passed on before");
        assert!(!foreign.admits(&key("foreign/4711"), false), "the deletion of one that was not");
        assert!(foreign.admits(&key("foreign/7"), false));
        assert!(foreign.admits(&key("foreign/new"), true), "there is room again");
        assert_eq!(foreign.others.len(), 50_000 - REPORTED_MAX - 1);
        foreign.clear();
        assert!(foreign.admits(&key("foreign/4712"), true));
    }
}
