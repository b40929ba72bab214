//! Named queues of keys. As in etcd, locks and elections are implemented with these queues.
//!
//! Each participant puts a key `NAME/LEASE`. The participant whose key has the lowest creation revision holds the lock or is the leader.
//! When that key is deleted, the next participant takes over. Each participant waits only for its predecessor.

use std::sync::Arc;

use etcd_client::proto::{
    PbCompare, PbCompareTarget, PbDeleteRequest, PbKeyValue, PbLeaseGrantRequest, PbPutRequest, PbRangeRequest, PbTargetUnion,
    PbTxnOpRequest, PbTxnOpResponse, PbTxnRequest, PbTxnRequestOp, PbTxnResponse,
};

use super::error::Refusal;
use super::mvcc::{KeyRange, Version};
use super::shared::Shared;
use super::writer::Command;

/// TTL in seconds of a lease that the server grants to a client without its own lease (etcd's `defaultSessionTTL`).
const SESSION_TTL: i64 = 60;

/// Returns the key range of the queue with this name.
pub(super) fn range(name: &[u8]) -> KeyRange {
    // The character `0` comes right after `/` in ASCII.
    KeyRange::Between([name, b"/"].concat(), [name, b"0"].concat())
}

/// Returns the oldest key in the queue, and the current revision.
pub(super) fn first(shared: &Shared, name: &[u8]) -> (Option<Arc<Version>>, i64) {
    let range = range(name);
    shared.read(|state, current| {
        let keys = state.mvcc.live_at(&range, current);
        (keys.min_by_key(|version| version.kv.create_revision).cloned(), current)
    })
}

/// A participant's place in a queue. Dropping it deletes the participant's key, except after [`keep`](Self::keep).
pub(super) struct Place {
    shared: Arc<Shared>,
    pub(super) key: Vec<u8>,
    pub(super) lease: i64,
    /// Revision at which the participant's key was created.
    pub(super) revision: i64,
    kept: bool,
}

impl Place {
    /// Joins the queue, or returns the existing place of the lease. Sets the value of the key in both cases.
    pub(super) async fn take(shared: &Arc<Shared>, name: &[u8], lease: i64, value: &[u8]) -> Result<Self, Refusal> {
        let lease = match lease {
            0 => grant(shared).await?,
            lease => lease,
        };
        let key = [name, b"/", format!("{lease:x}").as_bytes()].concat();
        let put = PbPutRequest {
            key: key.clone(),
            value: value.to_vec(),
            lease,
            ..PbPutRequest::default()
        };
        let get = PbRangeRequest {
            key: key.clone(),
            ..PbRangeRequest::default()
        };
        let failure = [PbTxnOpRequest::RequestRange(get)];
        let response = if_created_at(shared, &key, 0, [PbTxnOpRequest::RequestPut(put)], failure).await?;
        let found = existing(&response);
        let mut place = Place {
            shared: Arc::clone(shared),
            revision: found.map_or_else(|| revision(&response), |kv| kv.create_revision),
            key,
            lease,
            kept: found.is_some(),
        };
        if found.is_some_and(|kv| kv.value != value) {
            place.proclaim(value).await?;
        }
        place.kept = false;
        Ok(place)
    }

    /// Returns an existing place in a queue, given its key and creation revision from a client's request. Dropping it does not delete the key.
    pub(super) fn named(shared: &Arc<Shared>, key: Vec<u8>, revision: i64, lease: i64) -> Self {
        Place {
            shared: Arc::clone(shared),
            key,
            lease,
            revision,
            kept: true,
        }
    }

    /// Waits until this place is the first in the queue, and returns the revision at which this was observed.
    pub(super) async fn turn(&self, name: &[u8]) -> Result<i64, Refusal> {
        let range = range(name);
        let mut committed = self.shared.committed.subscribe();
        loop {
            let (predecessor, alive, current) = self.shared.read(|state, current| {
                let older = state
                    .mvcc
                    .live_at(&range, current)
                    .filter(|version| version.kv.create_revision < self.revision);
                let predecessor = older.max_by_key(|version| version.kv.create_revision).cloned();
                (
                    predecessor,
                    self.is_alive(&state.mvcc.live_at(&KeyRange::One(self.key.clone()), current).next()),
                    current,
                )
            });
            if !alive {
                return Err(Refusal::SessionExpired);
            }
            let Some(predecessor) = predecessor else { return Ok(current) };
            self.gone(&predecessor, &mut committed).await?;
        }
    }

    /// Waits until the predecessor's key or this participant's key is deleted.
    async fn gone(&self, predecessor: &Version, committed: &mut tokio::sync::watch::Receiver<i64>) -> Result<(), Refusal> {
        let (theirs, ours) = (KeyRange::One(predecessor.kv.key.clone()), KeyRange::One(self.key.clone()));
        loop {
            committed.borrow_and_update();
            let waiting = self.shared.read(|state, current| {
                let same = |version: &&Arc<Version>| version.kv.create_revision == predecessor.kv.create_revision;
                state.mvcc.live_at(&theirs, current).any(|version| same(&version))
                    && self.is_alive(&state.mvcc.live_at(&ours, current).next())
            });
            if !waiting {
                return Ok(());
            }
            tokio::select! {
                changed = committed.changed() => changed.map_err(|_| Refusal::Stopped)?,
                () = self.shared.stopped() => return Err(Refusal::Stopped),
            }
        }
    }

    fn is_alive(&self, found: &Option<&Arc<Version>>) -> bool {
        found.is_some_and(|version| version.kv.create_revision == self.revision)
    }

    /// Changes the value of the participant's key if the key still exists. Returns the revision for the response header.
    pub(super) async fn proclaim(&self, value: &[u8]) -> Result<i64, Refusal> {
        let put = PbPutRequest {
            key: self.key.clone(),
            value: value.to_vec(),
            lease: self.lease,
            ..PbPutRequest::default()
        };
        let response = if_created_at(&self.shared, &self.key, self.revision, [PbTxnOpRequest::RequestPut(put)], []).await?;
        if response.succeeded {
            Ok(revision(&response))
        } else {
            Err(Refusal::NotLeader)
        }
    }

    /// Leaves the queue by deleting the key. Returns the revision for the response header.
    pub(super) async fn resign(&self) -> Result<i64, Refusal> {
        let delete = PbTxnOpRequest::RequestDeleteRange(delete(&self.key));
        let response = if_created_at(&self.shared, &self.key, self.revision, [delete], []).await?;
        Ok(revision(&response))
    }

    /// Prevents the key from being deleted when this place is dropped. Returns the key, its creation revision and its lease.
    pub(super) fn keep(mut self) -> (Vec<u8>, i64, i64) {
        self.kept = true;
        (std::mem::take(&mut self.key), self.revision, self.lease)
    }
}

impl Drop for Place {
    /// Deletes the key, because a client that has stopped waiting must not get the lock or become the leader.
    fn drop(&mut self) {
        if self.kept {
            return;
        }
        let (shared, request) = (Arc::clone(&self.shared), delete(&self.key));
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            runtime.spawn(async move { shared.submit(|reply| Command::Delete(request, reply)).await });
        }
    }
}

async fn grant(shared: &Shared) -> Result<i64, Refusal> {
    let request = PbLeaseGrantRequest { ttl: SESSION_TTL, id: 0 };
    Ok(shared.submit(|reply| Command::Grant(request, reply)).await?.id)
}

/// Runs `success` if the key was created at `revision`, and `failure` otherwise. Revision 0 means that the key does not exist.
async fn if_created_at<const A: usize, const B: usize>(
    shared: &Shared,
    key: &[u8],
    revision: i64,
    success: [PbTxnOpRequest; A],
    failure: [PbTxnOpRequest; B],
) -> Result<PbTxnResponse, Refusal> {
    let operation = |request| PbTxnRequestOp { request: Some(request) };
    let compare = PbCompare {
        target: PbCompareTarget::Create.into(),
        key: key.to_vec(),
        target_union: Some(PbTargetUnion::CreateRevision(revision)),
        ..PbCompare::default()
    };
    let request = PbTxnRequest {
        compare: vec![compare],
        success: success.into_iter().map(operation).collect(),
        failure: failure.into_iter().map(operation).collect(),
    };
    shared.submit(|reply| Command::Txn(request, reply)).await
}

fn delete(key: &[u8]) -> PbDeleteRequest {
    PbDeleteRequest {
        key: key.to_vec(),
        ..PbDeleteRequest::default()
    }
}

fn revision(response: &PbTxnResponse) -> i64 {
    response.header.as_ref().map_or(0, |header| header.revision)
}

/// Returns the key from the response if it existed before the transaction.
fn existing(response: &PbTxnResponse) -> Option<&PbKeyValue> {
    if response.succeeded {
        return None;
    }
    match response.responses.first()?.response.as_ref()? {
        PbTxnOpResponse::ResponseRange(range) => range.kvs.first(),
        _ => None,
    }
}
