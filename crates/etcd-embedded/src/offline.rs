//! Runs the store for fuzzing and checks its invariants. A run uses no file, network, threads or clock.
//!
//! As in a real store, requests pass through the gRPC service, its checks and the writer. Only the polling of futures differs. This module requires
//! the feature `offline` and is not part of normal builds. The module `requests` decodes the fuzz input into requests.

mod requests;

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::pin::pin;
use std::sync::{Arc, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use etcd_client::proto::{PbKeyValue, PbKvService, PbLeaseService, PbWatchRequest, PbWatchRequestUnion, PbWatchResponse};
use tokio::sync::mpsc;
use tonic::{Code, Response, Status};

use super::Retention;
use super::apply::State;
use super::disk::{Batch, Content, Identity};
use super::lease::Lessor;
use super::mvcc::{KeyRange, Mvcc, Version};
use super::quota::Quota;
use super::service::Service;
use super::shared::Shared;
use super::watch::WatchStream;
use super::writer::{Writer, restore};
use requests::{Input, Request};

/// Maximum number of requests per input.
const REQUESTS_MAX: usize = 64;
/// Maximum number of revisions to remember. The contents at these revisions are compared again at the end of a run.
const REMEMBERED_MAX: usize = 32;

/// Decodes arbitrary bytes into requests and executes them.
///
/// # Panics
/// Panics if the store violates a rule of the API.
pub fn run(bytes: &[u8]) {
    let mut input = Input::new(bytes);
    let retention = match input.byte() % 2 {
        0 => Retention::default(),
        _ => Retention {
            revisions: 6,
            bytes: 200,
            age: Duration::from_secs(8),
        },
    };
    let mut store = Offline::new(retention);
    for _ in 0..REQUESTS_MAX {
        if input.is_empty() {
            break;
        }
        let request = input.request(store.shared().current());
        store.serve(request);
        store.remember();
    }
    store.judge();
}

/// In-memory replacement for the store file.
#[derive(Default)]
struct File {
    rows: BTreeMap<(i64, i64), Arc<Version>>,
    leases: BTreeMap<i64, i64>,
    compacted: Option<i64>,
}

impl File {
    fn commit(&mut self, batch: &Batch) {
        for version in &batch.rows {
            let before = self.rows.insert(version.row(), Arc::clone(version));
            assert!(before.is_none(), "row {:?} was written twice", version.row());
        }
        // Remove duplicate rows, because a compaction by a client and an automatic compaction in the same batch can list the same rows.
        for row in &BTreeSet::from_iter(&batch.obsolete) {
            assert!(self.rows.remove(row).is_some(), "the row {row:?} to remove does not exist");
        }
        for (id, ttl) in &batch.leases {
            match ttl {
                Some(ttl) => drop(self.leases.insert(*id, *ttl)),
                None => drop(self.leases.remove(id)),
            }
        }
        if let Some(compacted) = batch.compacted {
            assert!(self.compacted < Some(compacted), "the compaction revision decreased");
            self.compacted = Some(compacted);
        }
    }

    fn content(&self, identity: Identity) -> Content {
        let copy = |version: &Arc<Version>| Version {
            sub: version.sub,
            kv: version.kv.clone(),
        };
        Content {
            identity,
            rows: self.rows.values().map(copy).collect(),
            leases: self.leases.iter().map(|(id, ttl)| (*id, *ttl)).collect(),
            compacted: self.compacted.unwrap_or(-1),
            alarm: false,
        }
    }
}

/// A watch on all keys from revision 1, with the store contents that are rebuilt from its events.
struct Replica {
    stream: WatchStream,
    content: BTreeMap<Vec<u8>, PbKeyValue>,
    revision: i64,
    /// True if a compaction has cancelled the watch, so the rebuilt contents are incomplete.
    over: bool,
}

impl Replica {
    fn new(shared: &Arc<Shared>) -> Self {
        let mut stream = WatchStream::new(Arc::clone(shared));
        let mut request = PbWatchRequestUnion::CreateRequest(Default::default());
        if let PbWatchRequestUnion::CreateRequest(create) = &mut request {
            (create.range_end, create.start_revision, create.prev_kv) = (vec![0], 1, true);
        }
        stream.handle(PbWatchRequest {
            request_union: Some(request),
        });
        Replica {
            stream,
            content: BTreeMap::new(),
            revision: 1,
            over: false,
        }
    }

    fn follow(&mut self) {
        while let Some(response) = next_of(&mut self.stream) {
            self.over |= response.canceled;
            for event in response.events {
                let kv = event.kv.expect("an event must have a key");
                assert!(
                    kv.mod_revision >= self.revision,
                    "an event of revision {} arrived out of order",
                    kv.mod_revision
                );
                self.revision = kv.mod_revision;
                let before = match event.r#type {
                    0 => self.content.insert(kv.key.clone(), kv),
                    _ => self.content.remove(&kv.key),
                };
                assert_eq!(before, event.prev_kv, "an event is missing");
            }
        }
    }
}

/// Returns the next response of a watch stream, or `None` if there is nothing to report.
fn next_of(stream: &mut WatchStream) -> Option<PbWatchResponse> {
    while !stream.has_outgoing() {
        if !stream.fill() {
            return None;
        }
    }
    stream.take()
}

/// Store under test, with the data that is needed to check its responses and contents.
struct Offline {
    service: Service,
    writer: Writer,
    file: File,
    watches: WatchStream,
    /// Revision of the last event of each watch, by watch ID. Contains only watches that the input has created.
    reported: BTreeMap<i64, i64>,
    replica: Replica,
    now: Instant,
    revision: i64,
    /// Live versions at each remembered revision.
    past: Vec<(i64, Vec<Arc<Version>>)>,
}

impl Offline {
    fn new(retention: Retention) -> Self {
        let (commands, queue) = mpsc::channel(1);
        let state = State {
            mvcc: Mvcc::new(),
            lessor: Lessor::default(),
            quota: Quota {
                limit: usize::MAX,
                alarm: false,
            },
        };
        let identity = Identity {
            cluster: 1,
            member: 2,
            term: 3,
        };
        let shared = Arc::new(Shared::new(state, identity, commands, ([127, 0, 0, 1], 0).into(), PathBuf::new()));
        Offline {
            writer: Writer::new(Arc::clone(&shared), queue, None, PathBuf::new(), retention),
            watches: WatchStream::new(Arc::clone(&shared)),
            replica: Replica::new(&shared),
            service: Service { shared },
            file: File::default(),
            reported: BTreeMap::new(),
            now: Instant::now(),
            revision: 1,
            past: Vec::new(),
        }
    }

    fn shared(&self) -> &Arc<Shared> {
        &self.service.shared
    }

    /// Polls a call until it completes, and runs the writer between polls.
    fn answer<T>(&mut self, call: impl Future<Output = Result<Response<T>, Status>>) -> Result<T, Status> {
        let mut call = pin!(call);
        for _ in 0..2 {
            if let Poll::Ready(answer) = call.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
                return answer.map(Response::into_inner);
            }
            self.write();
        }
        panic!("a call must not wait for anything but the writer");
    }

    /// Lets the writer execute all queued commands as one batch.
    fn write(&mut self) {
        let mut commands = Vec::new();
        while let Ok(command) = self.writer.commands.try_recv() {
            commands.push(command);
        }
        let round = self.writer.apply(commands, self.now);
        self.file.commit(&round.batch);
        self.writer.finish(round, &Ok(()));
    }

    fn serve(&mut self, request: Request) {
        if let Request::Pass(time) = request {
            self.now += time;
        }
        let lease_is_over = {
            let state = self.shared().state.read().unwrap_or_else(PoisonError::into_inner);
            state.lessor.next_expiry().is_some_and(|expiry| expiry <= self.now)
        };
        let before = self.revision;
        let accepted = self.call(request);
        let current = self.shared().current();
        let writes = match accepted {
            Ok(writes) => i64::from(writes),
            Err(status) => {
                assert!(!matches!(status.code(), Code::Internal | Code::Unknown), "{status:?}");
                0
            }
        };
        if lease_is_over {
            assert!(
                current >= before + writes,
                "the revision rose by less than the number of writes: from {before} to {current}"
            );
        } else {
            assert_eq!(
                current,
                before + writes,
                "the revision must rise from {before} by the number of writes"
            );
        }
        self.revision = current;
    }

    /// Executes a request. Returns true if the request has advanced the store revision.
    fn call(&mut self, request: Request) -> Result<bool, Status> {
        let service = self.service.clone();
        match request {
            Request::Range(range) => {
                let whole = range.limit <= 0 && !range.count_only;
                let filtered = range.max_mod_revision | range.min_mod_revision | range.max_create_revision | range.min_create_revision != 0;
                let response = self.answer(service.range(tonic::Request::new(range)))?;
                let found = i64::try_from(response.kvs.len()).expect("few");
                assert!(found <= response.count && (!whole || filtered || found == response.count));
                response.kvs.iter().for_each(|kv| self.judge_kv(kv));
                Ok(false)
            }
            Request::Put(put) => {
                let (key, prev_kv) = (put.key.clone(), put.prev_kv);
                let response = self.answer(service.put(tonic::Request::new(put)))?;
                let revision = response.header.expect("a header").revision;
                let live = self
                    .shared()
                    .read(|state, _| state.mvcc.live(&key).cloned())
                    .expect("the key must exist after the put");
                assert_eq!(live.kv.mod_revision, revision);
                assert!(response.prev_kv.is_none() || prev_kv);
                Ok(true)
            }
            Request::Delete(delete) => {
                let prev_kv = delete.prev_kv;
                let response = self.answer(service.delete_range(tonic::Request::new(delete)))?;
                let reported = i64::try_from(response.prev_kvs.len()).expect("few");
                assert_eq!(reported, if prev_kv { response.deleted } else { 0 });
                Ok(response.deleted > 0)
            }
            Request::Txn(txn) => {
                let response = self.answer(service.txn(tonic::Request::new(txn)))?;
                let revision = response.header.expect("a header").revision;
                assert_eq!(revision, self.shared().current());
                Ok(revision > self.revision)
            }
            Request::Compact(compact) => {
                let revision = compact.revision;
                self.answer(service.compact(tonic::Request::new(compact)))?;
                assert!(self.shared().read(|state, _| state.mvcc.compacted()) >= revision);
                Ok(false)
            }
            Request::Grant(grant) => self.answer(service.lease_grant(tonic::Request::new(grant))).map(|_| false),
            Request::Revoke(revoke) => {
                let keys = self
                    .shared()
                    .read(|state, _| state.lessor.get(revoke.id).map(|lease| lease.keys.len()));
                self.answer(service.lease_revoke(tonic::Request::new(revoke)))?;
                Ok(keys.is_some_and(|keys| keys > 0))
            }
            Request::TimeToLive(request) => self.answer(service.lease_time_to_live(tonic::Request::new(request))).map(|_| false),
            Request::KeepAlive(id) => {
                self.shared().renew_lease(id);
                Ok(false)
            }
            Request::Watch(request) => {
                self.watches.handle(request);
                Ok(false)
            }
            Request::Listen => {
                self.listen();
                Ok(false)
            }
            Request::Pass(_) => {
                self.write();
                Ok(false)
            }
        }
    }

    /// Reads all pending watch responses and checks them.
    fn listen(&mut self) {
        self.watches.progress_due();
        self.replica.follow();
        while let Some(response) = next_of(&mut self.watches) {
            let revision = response.header.expect("a header").revision;
            assert!(
                revision <= self.shared().current(),
                "a watch reported a revision that is not durable"
            );
            if response.created {
                self.reported.insert(response.watch_id, 0);
            }
            for event in &response.events {
                let kv = event.kv.as_ref().expect("an event must have a key");
                let reported = self
                    .reported
                    .insert(response.watch_id, kv.mod_revision)
                    .expect("a watch must be created before it reports events");
                assert!(
                    reported <= kv.mod_revision && kv.mod_revision <= revision,
                    "events arrived out of order"
                );
            }
            if response.canceled {
                self.reported.remove(&response.watch_id);
            }
        }
    }

    fn remember(&mut self) {
        if self.past.last().is_some_and(|(revision, _)| *revision == self.revision) || self.past.len() >= REMEMBERED_MAX {
            return;
        }
        let content = self.shared().read(|state, _| state.mvcc.live_all().cloned().collect());
        self.past.push((self.revision, content));
    }

    fn judge_kv(&self, kv: &PbKeyValue) {
        let in_order = 1 < kv.create_revision && kv.create_revision <= kv.mod_revision && kv.mod_revision <= self.shared().current();
        assert!(in_order && kv.version > 0 && !kv.key.is_empty(), "{kv:?}");
    }

    /// Checks the invariants at the end of a run.
    fn judge(&mut self) {
        self.listen();
        let shared = Arc::clone(self.shared());
        let everything = KeyRange::From(Vec::new());
        shared.read(|state, current| {
            let live: Vec<&Arc<Version>> = state.mvcc.live_all().collect();
            for (revision, content) in self.past.iter().filter(|(revision, _)| *revision >= state.mvcc.compacted()) {
                let again: Vec<_> = state.mvcc.live_at(&everything, *revision).collect();
                assert!(
                    again.len() == content.len() && again.iter().zip(content).all(|(again, then)| Arc::ptr_eq(again, then)),
                    "revision {revision} has changed"
                );
            }
            let kvs = |versions: &[&Arc<Version>]| -> Vec<PbKeyValue> { versions.iter().map(|version| version.kv.clone()).collect() };
            if !self.replica.over {
                let reported: Vec<PbKeyValue> = self.replica.content.values().cloned().collect();
                assert_eq!(
                    reported,
                    kvs(&live),
                    "the contents rebuilt from a watch of all keys differ from the store"
                );
            }
            for version in live.iter().filter(|version| version.kv.lease != 0) {
                let lease = state.lessor.get(version.kv.lease).expect("the lease of a live key must exist");
                assert!(lease.keys.contains(&version.kv.key), "the lease does not list the key");
            }
            let restored = restore(self.file.content(shared.identity), usize::MAX, self.now);
            assert_eq!(restored.mvcc.revision(), current, "a restart would change the revision");
            assert_eq!(restored.mvcc.compacted(), state.mvcc.compacted());
            assert_eq!(
                kvs(&restored.mvcc.live_all().collect::<Vec<_>>()),
                kvs(&live),
                "a restart would change the contents"
            );
            let leases = |state: &State| {
                let mut ids = state.lessor.ids();
                ids.sort_unstable();
                ids.into_iter()
                    .map(|id| (id, state.lessor.get(id).map(|lease| lease.keys.clone())))
                    .collect::<Vec<_>>()
            };
            assert_eq!(leases(&restored), leases(state), "a restart would change the leases");
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn corpus_requests_violate_no_rule_of_the_api() {
        let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../tests/fuzz/corpus/requests");
        let files = std::fs::read_dir(&folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
        let mut files: Vec<PathBuf> = files.map(|file| file.expect("reading the directory failed").path()).collect();
        files.sort();
        assert!(files.len() > 10, "{} is nearly empty", folder.display());
        for file in files {
            eprintln!("{}", file.display());
            run(&std::fs::read(&file).expect("reading a corpus file failed"));
        }
    }
}
