//! State shared by the gRPC services, the watches and the writer.
//!
//! Readers pass a closure to [`Shared::read`], so the lock is never held across an await.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Instant;

use etcd_client::proto::PbResponseHeader;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot, watch};

use super::apply::State;
use super::disk::Identity;
use super::error::Refusal;
use super::writer::{Command, Reply};

pub(super) struct Shared {
    /// In-memory contents. A std lock suffices, because it is never held during I/O.
    pub(super) state: RwLock<State>,
    /// Last durable revision. Readers and watches see everything up to this revision and nothing beyond.
    pub(super) committed: watch::Sender<i64>,
    /// Becomes true when the store stops, which ends long-lived streams.
    pub(super) stopping: watch::Sender<bool>,
    pub(super) commands: mpsc::Sender<Command>,
    pub(super) identity: Identity,
    pub(super) listen: SocketAddr,
    /// Path of the store file.
    pub(super) path: PathBuf,
    /// Memory that is still available for watches, with one permit per KiB.
    pub(super) watch_room: Arc<Semaphore>,
    /// Memory that is still available for unfinished responses, with one permit per KiB.
    pub(super) answer_room: Arc<Semaphore>,
    /// Permits that limit the number of concurrent backups.
    pub(super) snapshots: Arc<Semaphore>,
}

/// Maximum memory for the watches of all clients, in KiB.
const WATCH_KIB: usize = 64 * 1024;
/// Maximum number of concurrent backups.
const SNAPSHOTS_MAX: usize = 1;
/// Maximum memory for large responses that are being sent, in KiB.
const ANSWER_KIB: usize = 512 * 1024;

impl Shared {
    pub(super) fn new(state: State, identity: Identity, commands: mpsc::Sender<Command>, listen: SocketAddr, path: PathBuf) -> Self {
        Shared {
            committed: watch::Sender::new(state.mvcc.revision()),
            state: RwLock::new(state),
            stopping: watch::Sender::new(false),
            commands,
            identity,
            listen,
            path,
            watch_room: Arc::new(Semaphore::new(WATCH_KIB)),
            answer_room: Arc::new(Semaphore::new(ANSWER_KIB)),
            snapshots: Arc::new(Semaphore::new(SNAPSHOTS_MAX)),
        }
    }

    /// Reserves `bytes` bytes of memory for a watch. Returns `None` if all watches together would use too much memory.
    pub(super) fn reserve_watch(&self, bytes: usize) -> Option<OwnedSemaphorePermit> {
        let kib = u32::try_from(bytes / 1024 + 1).ok()?;
        Arc::clone(&self.watch_room).try_acquire_many_owned(kib).ok()
    }

    /// Waits until memory for a response of `bytes` bytes is available, and reserves it. Returns `None` for a small response.
    pub(super) async fn reserve_answer(&self, bytes: usize) -> Option<OwnedSemaphorePermit> {
        let kib = u32::try_from((bytes / 1024).min(ANSWER_KIB)).unwrap_or(u32::MAX);
        if kib == 0 {
            return None;
        }
        // Cannot fail, because the semaphore is never closed.
        Arc::clone(&self.answer_room).acquire_many_owned(kib).await.ok()
    }

    /// Reads the state together with the last durable revision.
    ///
    /// The revision is read while the lock is held. The writer frees old versions under the same lock, and only after it has advanced the revision.
    /// Therefore, all versions at this revision still exist.
    pub(super) fn read<T>(&self, reading: impl FnOnce(&State, i64) -> T) -> T {
        let state = self.state.read().unwrap_or_else(PoisonError::into_inner);
        let current = *self.committed.borrow();
        reading(&state, current)
    }

    /// Restores the full TTL of a lease. Nothing is written to disk, because a restart gives all leases their full TTL.
    pub(super) fn renew_lease(&self, id: i64) -> Option<i64> {
        self.state
            .write()
            .unwrap_or_else(PoisonError::into_inner)
            .lessor
            .renew(id, Instant::now())
    }

    /// Sends a command to the writer and waits until its result is durable.
    pub(super) async fn submit<T>(&self, command: impl FnOnce(Reply<T>) -> Command) -> Result<T, Refusal> {
        let (reply, answer) = oneshot::channel();
        self.commands.send(command(reply)).await.map_err(|_| Refusal::Stopped)?;
        answer.await.map_err(|_| Refusal::Stopped)?
    }

    pub(super) fn current(&self) -> i64 {
        *self.committed.borrow()
    }

    /// Returns a response header with this member's IDs and `revision`.
    pub(super) fn header(&self, revision: i64) -> Option<PbResponseHeader> {
        let Identity { cluster, member, term } = self.identity;
        Some(PbResponseHeader {
            cluster_id: cluster,
            member_id: member,
            revision,
            raft_term: term,
        })
    }

    /// Adds the cluster ID, the member ID and the term to a header that contains only a revision.
    pub(super) fn complete(&self, header: &mut Option<PbResponseHeader>) {
        let revision = header.as_ref().map_or_else(|| self.current(), |header| header.revision);
        *header = self.header(revision);
    }

    /// Waits until the store begins to shut down.
    pub(super) async fn stopped(&self) {
        // This cannot fail, because `self` owns the sender.
        let _ = self.stopping.subscribe().wait_for(|stopping| *stopping).await;
    }
}
