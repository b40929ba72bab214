//! Simulated etcd: keys with revisions, a history for watches, and leases.
//!
//! The store provides etcd's guarantees: one revision per transaction, a history since the last compaction, and keys that are
//! deleted with their lease. [`super::connections`] simulates the delays of requests and responses.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use crate::{
    publish::state::{Batch, Found, Guard, Write},
    sources::etcd::{RawChange, RawItem, RawKey, note::Past},
};

/// Time to live of a lease, counted from its last renewal.
pub const TTL: Duration = Duration::from_secs(10);

/// Kind of data loss, which determines the cluster id and the revision of the store after the loss.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Loss {
    /// The store has another cluster id, and starts again at its first revision.
    OtherCluster,
    /// The store keeps its cluster id, but starts again at its first revision.
    LowerRevision,
    /// The store keeps its cluster id and its revision.
    SameRevision,
    /// The store keeps its cluster id, and has a higher revision than before.
    HigherRevision,
}

impl Loss {
    /// All kinds of loss.
    pub const ALL: [Loss; 4] = [Loss::OtherCluster, Loss::LowerRevision, Loss::SameRevision, Loss::HigherRevision];
}

/// Value of a status key.
#[derive(Clone, Debug)]
pub struct Status {
    /// Encoded status.
    pub value: Arc<[u8]>,
    /// Lease of the key.
    pub lease: i64,
    /// Revision of the last write.
    pub mod_revision: i64,
}

/// A simulated etcd server.
pub struct Store {
    /// Cluster id, which identifies the store.
    pub cluster_id: u64,
    /// Revision of the last transaction.
    pub revision: i64,
    /// Revision of the last transaction on desired values.
    pub config_revision: i64,
    /// True while the store is reachable.
    pub reachable: bool,
    /// Desired values, with the revision of their last put.
    pub config: BTreeMap<RawKey, (i64, Vec<u8>)>,
    /// Status keys and their values.
    pub status: BTreeMap<Arc<str>, Status>,
    /// Desired values at the time of the last compaction.
    base: BTreeMap<RawKey, (i64, Vec<u8>)>,
    /// Changes of desired values since the last compaction.
    history: Vec<RawChange>,
    /// Deletions of status keys by anyone, with their revisions.
    deletions: Vec<(Arc<str>, i64)>,
    compacted: i64,
    /// Expiry time of each lease, by lease id.
    leases: BTreeMap<i64, Duration>,
    next_lease: i64,
}

impl Store {
    /// Creates an empty store.
    pub fn new() -> Self {
        Store {
            cluster_id: 1,
            revision: 1,
            config_revision: 1,
            reachable: true,
            config: BTreeMap::new(),
            status: BTreeMap::new(),
            base: BTreeMap::new(),
            history: Vec::new(),
            deletions: Vec::new(),
            compacted: 0,
            leases: BTreeMap::new(),
            next_lease: 100,
        }
    }

    /// Executes a transaction of a user, and returns its revision.
    pub fn transaction(&mut self, changes: Vec<(String, Option<String>)>) -> i64 {
        self.revision += 1;
        self.config_revision = self.revision;
        for (key, value) in changes {
            let key = RawKey::from(key.as_bytes());
            let value = value.map(String::into_bytes);
            match &value {
                Some(value) => drop(self.config.insert(key.clone(), (self.revision, value.clone()))),
                None if self.config.remove(&key).is_none() => continue,
                None => {}
            }
            self.history.push(RawChange {
                key,
                mod_revision: self.revision,
                value,
            });
        }
        self.revision
    }

    /// Replaces the store with another one that contains the same desired values and nothing else.
    pub fn replace(&mut self, revision: i64) {
        self.cluster_id += 1;
        self.config.values_mut().for_each(|(mod_revision, _)| *mod_revision = revision);
        self.start_again(revision);
    }

    /// Sets the revision of the store. Keeps the desired values, but drops the statuses, leases and history.
    fn start_again(&mut self, revision: i64) {
        (self.revision, self.config_revision) = (revision, revision);
        self.status.clear();
        self.leases.clear();
        self.next_lease += 1000;
        self.deletions.clear();
        self.compact();
    }

    /// Deletes all contents of the store.
    pub fn empty(&mut self, loss: Loss) {
        self.config.clear();
        self.cluster_id += u64::from(loss == Loss::OtherCluster);
        let revision = match loss {
            Loss::OtherCluster | Loss::LowerRevision => 1,
            Loss::SameRevision => self.revision,
            Loss::HigherRevision => self.revision + 5,
        };
        self.start_again(revision);
        // The new store has never contained anything, so nothing was compacted.
        self.compacted = 0;
    }

    /// Restores the store from a snapshot that was taken `changes` changes ago. Returns false if there is no such snapshot.
    pub fn restore(&mut self, changes: usize) -> bool {
        let revisions = self.history.iter().rev().map(|change| change.mod_revision);
        let Some(revision) = revisions.skip(changes).find(|revision| *revision < self.revision) else {
            return false;
        };
        let Some(content) = self.content_at(revision) else { return false };
        self.config = content;
        self.start_again(revision);
        true
    }

    /// Returns the desired values at an earlier revision, or `None` if that revision has been compacted.
    fn content_at(&self, revision: i64) -> Option<BTreeMap<RawKey, (i64, Vec<u8>)>> {
        if revision < self.compacted {
            return None;
        }
        let mut content = self.base.clone();
        for change in self.history.iter().filter(|change| change.mod_revision <= revision) {
            match &change.value {
                Some(value) => drop(content.insert(change.key.clone(), (change.mod_revision, value.clone()))),
                None => drop(content.remove(&change.key)),
            }
        }
        Some(content)
    }

    /// Returns the mod revisions of all keys at an earlier revision.
    pub fn past(&self, revision: i64) -> Past {
        match self.content_at(revision) {
            Some(content) => Past::Listed(content.into_iter().map(|(key, (revision, _))| (key, revision)).collect()),
            None => Past::Unknown("required revision has been compacted".to_owned()),
        }
    }

    /// Compacts the history up to the current revision.
    pub fn compact(&mut self) {
        self.compacted = self.revision;
        self.history.clear();
        self.base.clone_from(&self.config);
    }

    /// Returns all desired values.
    pub fn list(&self) -> Vec<RawItem> {
        let listed = self.config.iter().map(|(key, (mod_revision, value))| RawItem {
            key: key.clone(),
            value: value.clone(),
            mod_revision: *mod_revision,
        });
        listed.collect()
    }

    /// Returns the changes with revisions above `revision` and up to `until`, or `None` if they have been compacted.
    pub fn since(&self, revision: i64, until: i64) -> Option<Vec<RawChange>> {
        let desired = |change: &&RawChange| change.mod_revision > revision && change.mod_revision <= until;
        (revision >= self.compacted).then(|| self.history.iter().filter(desired).cloned().collect())
    }

    /// Returns the first revision in the history above `after`, or `None` if there is none.
    pub fn next_revision(&self, after: i64) -> Option<i64> {
        self.history
            .iter()
            .map(|change| change.mod_revision)
            .find(|revision| *revision > after)
    }

    /// Grants a lease, and returns its id.
    pub fn grant(&mut self, now: Duration) -> i64 {
        self.next_lease += 1;
        self.leases.insert(self.next_lease, now + TTL);
        self.next_lease
    }

    /// Renews a lease. Returns false if the lease does not exist.
    pub fn renew(&mut self, lease: i64, now: Duration) -> bool {
        match self.leases.get_mut(&lease) {
            Some(until) => {
                *until = now + TTL;
                true
            }
            None => false,
        }
    }

    /// Revokes a lease, and deletes its keys.
    pub fn revoke(&mut self, lease: i64) {
        if self.leases.remove(&lease).is_some() {
            self.delete_status(|_, status| status.lease == lease);
        }
    }

    fn delete_status(&mut self, goes: impl Fn(usize, &Status) -> bool) {
        self.revision += 1;
        let revision = self.revision;
        let mut number = 0..;
        self.status.retain(|key, status| {
            let stays = !number.next().is_some_and(|number| goes(number, status));
            if !stays {
                self.deletions.push((key.clone(), revision));
            }
            stays
        });
    }

    /// Deletes every n-th status key.
    pub fn lose_status(&mut self, every: usize) {
        self.delete_status(|number, _| number % every.max(1) == 0);
    }

    /// Overwrites every n-th status key.
    pub fn overwrite_status(&mut self, every: usize) {
        self.revision += 1;
        let values = self.status.values_mut();
        for status in values.step_by(every.max(1)) {
            *status = Status {
                value: Arc::from(&b"overwritten"[..]),
                lease: 0,
                mod_revision: self.revision,
            };
        }
    }

    /// Writes all status keys again, unchanged, under the lease of another publisher. Returns the lease id.
    pub fn take_status(&mut self, now: Duration) -> i64 {
        let lease = self.grant(now);
        self.revision += 1;
        for status in self.status.values_mut() {
            (status.lease, status.mod_revision) = (lease, self.revision);
        }
        lease
    }

    /// Returns the status keys that were deleted after a revision, with the revision of each deletion.
    pub fn deleted_since(&self, revision: i64) -> Vec<(Arc<str>, i64)> {
        let deletions = self.deletions.iter().rev().take_while(|(_, deleted)| *deleted > revision);
        let mut deletions: Vec<_> = deletions.cloned().collect();
        deletions.reverse();
        deletions
    }

    /// Revokes the leases that have expired.
    pub fn expire(&mut self, now: Duration) {
        let over: Vec<i64> = self
            .leases
            .iter()
            .filter(|(_, until)| **until <= now)
            .map(|(lease, _)| *lease)
            .collect();
        over.into_iter().for_each(|lease| self.revoke(lease));
    }

    /// Revokes the newest lease, as an operator can do with `etcdctl lease revoke`.
    pub fn revoke_any(&mut self) {
        if let Some(lease) = self.leases.keys().next_back().copied() {
            self.revoke(lease);
        }
    }

    /// Returns all status keys.
    pub fn list_status(&self) -> Vec<Found> {
        let found = self.status.iter().map(|(key, status)| Found {
            key: key.clone(),
            value: status.value.to_vec(),
            lease: status.lease,
            mod_revision: status.mod_revision,
        });
        found.collect()
    }

    /// Executes a transaction of the publisher. Returns true if its guards were satisfied, or `None` if its lease does not exist.
    pub fn write(&mut self, lease: i64, batch: &Batch) -> Option<bool> {
        let holds = |(key, write): &(Arc<str>, Write)| match (write, self.status.get(key)) {
            (Write::Put(_), _) => true,
            (Write::Delete(Guard::Lease(lease)), Some(status)) => status.lease == *lease,
            (Write::Delete(Guard::Revision(revision)), Some(status)) => status.mod_revision == *revision,
            // A missing key has lease 0 and revision 0, so it satisfies no guard.
            (Write::Delete(_), None) => false,
        };
        if !batch.iter().all(holds) {
            return Some(false);
        }
        let puts = batch.iter().any(|(_, write)| matches!(write, Write::Put(_)));
        if puts && !self.leases.contains_key(&lease) {
            return None;
        }
        self.revision += 1;
        for (key, write) in batch {
            match write {
                Write::Put(value) => {
                    let status = Status {
                        value: value.text().into(),
                        lease,
                        mod_revision: self.revision,
                    };
                    self.status.insert(key.clone(), status);
                }
                Write::Delete(_) => {
                    self.status.remove(key);
                    self.deletions.push((key.clone(), self.revision));
                }
            }
        }
        Some(true)
    }
}
