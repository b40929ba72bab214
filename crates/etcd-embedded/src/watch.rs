//! State machine of a watch stream. Each client stream has its own state machine.
//!
//! The writer does not push events. Each stream *reads* the log from its own position up to the last durable revision, once its client has received
//! the previous responses. A slow client does not affect other clients, because only its own stream falls behind. If the log no longer contains the
//! next revision for a stream, its watches are cancelled with the compaction revision. Events cannot be lost or reordered.
//!
//! [`WatchStream::fill`] reads the log. The loop in `service::watch` calls it repeatedly.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::Arc;

use etcd_client::proto::{PbEvent, PbWatchRequest, PbWatchRequestUnion, PbWatchResponse};
use tokio::sync::OwnedSemaphorePermit;

use super::error::Refusal;
use super::mvcc::{Change, KeyRange, Revision};
use super::shared::Shared;

/// Options for a new watch.
#[derive(Debug, Clone)]
struct Create {
    key: Vec<u8>,
    range_end: Vec<u8>,
    start_revision: i64,
    progress_notify: bool,
    no_put: bool,
    no_delete: bool,
    prev_kv: bool,
    /// Watch ID requested by the client. If 0, the server chooses an ID.
    watch_id: i64,
    fragment: bool,
}

/// Watch ID in responses that do not belong to any watch.
const NO_WATCH: i64 = -1;
/// Size in bytes above which responses are split if the watch was created with `fragment`. As in etcd, this is the default request size limit.
const FRAGMENT_BYTES: usize = 1_572_864;
/// Values of the etcd enum `WatchCreateRequest.FilterType`.
const FILTER_NO_PUT: i32 = 0;
const FILTER_NO_DELETE: i32 = 1;

#[derive(Debug)]
struct Watcher {
    range: KeyRange,
    /// First revision to report. It advances only while the watcher is lagging. Otherwise, `WatchStream::cursor` advances instead.
    from: i64,
    lagging: bool,
    options: Create,
    /// True if the watcher has had no events since the last progress notification was due.
    quiet: bool,
    /// Memory reserved for the watcher, released on drop.
    _room: OwnedSemaphorePermit,
}

impl Watcher {
    fn wants(&self, revision: i64, change: &Change) -> bool {
        let filtered = if change.version.is_tombstone() {
            self.options.no_delete
        } else {
            self.options.no_put
        };
        revision >= self.from && !filtered && self.range.contains(&change.version.kv.key)
    }
}

/// Change in the shared log that a watch must report. It is copied only when it is sent.
#[derive(Debug)]
struct Pick {
    revision: Arc<Revision>,
    change: usize,
}

impl Pick {
    fn change(&self) -> &Change {
        &self.revision.changes[self.change]
    }
}

#[derive(Debug)]
enum Outgoing {
    Ready(PbWatchResponse),
    Events {
        watch: i64,
        picks: VecDeque<Pick>,
        revision: i64,
        prev_kv: bool,
        fragment: bool,
    },
}

pub(super) struct WatchStream {
    shared: Arc<Shared>,
    watchers: HashMap<i64, Watcher>,
    /// IDs of single-key watchers, indexed by key. A change needs one lookup instead of a scan of thousands of watchers.
    by_key: HashMap<Vec<u8>, Vec<i64>>,
    /// IDs of the watchers of key ranges.
    ranges: Vec<i64>,
    /// IDs of the watchers that still need revisions before `cursor`. They take turns reading the log.
    lagging: VecDeque<i64>,
    /// Next revision to report to all watchers that are not in `lagging`.
    cursor: i64,
    outbox: VecDeque<Outgoing>,
    progress_requested: bool,
    next_id: i64,
}

impl WatchStream {
    pub(super) fn new(shared: Arc<Shared>) -> Self {
        let cursor = shared.current() + 1;
        WatchStream {
            shared,
            watchers: HashMap::new(),
            by_key: HashMap::new(),
            ranges: Vec::new(),
            lagging: VecDeque::new(),
            cursor,
            outbox: VecDeque::new(),
            progress_requested: false,
            next_id: 0,
        }
    }

    /// Handles a client request. An empty request gets no response.
    pub(super) fn handle(&mut self, request: PbWatchRequest) {
        match request.request_union {
            Some(PbWatchRequestUnion::CreateRequest(request)) => self.create(Create {
                no_put: request.filters.contains(&FILTER_NO_PUT),
                no_delete: request.filters.contains(&FILTER_NO_DELETE),
                key: request.key,
                range_end: request.range_end,
                start_revision: request.start_revision,
                progress_notify: request.progress_notify,
                prev_kv: request.prev_kv,
                watch_id: request.watch_id,
                fragment: request.fragment,
            }),
            Some(PbWatchRequestUnion::CancelRequest(request)) => self.cancel(request.watch_id),
            Some(PbWatchRequestUnion::ProgressRequest(_)) => self.request_progress(),
            None => {}
        }
    }

    fn create(&mut self, mut options: Create) {
        if options.key.is_empty() {
            // As in etcd, an empty key means the smallest key, one zero byte.
            options.key = vec![0];
        }
        let range = KeyRange::new(&options.key, &options.range_end);
        let (current, compacted) = self.shared.read(|state, current| (current, state.mvcc.compacted()));
        let room = self.shared.reserve_watch(options.key.len() + options.range_end.len());
        let refused = match options.watch_id {
            _ if range.is_empty() => Some("mvcc: watcher range is empty"),
            _ if room.is_none() => Some(Refusal::TOO_MANY_WATCHES),
            id if id != 0 && self.watchers.contains_key(&id) => Some("mvcc: duplicate watch ID provided on the WatchStream"),
            _ => None,
        };
        let Some(room) = room.filter(|_| refused.is_none()) else {
            let mut response = self.response(NO_WATCH, current);
            (response.created, response.canceled, response.cancel_reason) = (true, true, refused.unwrap_or_default().to_owned());
            return self.outbox.push_back(Outgoing::Ready(response));
        };
        let id = if options.watch_id == 0 {
            self.choose_id()
        } else {
            options.watch_id
        };
        let mut created = self.response(id, current);
        created.created = true;
        self.outbox.push_back(Outgoing::Ready(created));
        let start = options.start_revision;
        if start > 0 && start < compacted {
            return self.push_compacted(id, compacted);
        }
        if self.watchers.is_empty() {
            // There are no other watchers, so the cursor can skip all revisions up to `current`.
            self.cursor = current + 1;
        }
        let from = if start > 0 { start } else { current + 1 };
        let lagging = from < self.cursor;
        match &range {
            KeyRange::One(key) => self.by_key.entry(key.clone()).or_default().push(id),
            _ => self.ranges.push(id),
        }
        self.watchers.insert(
            id,
            Watcher {
                range,
                from,
                lagging,
                options,
                quiet: true,
                _room: room,
            },
        );
        if lagging {
            self.lagging.push_back(id);
        }
    }

    fn choose_id(&mut self) -> i64 {
        while self.watchers.contains_key(&self.next_id) {
            self.next_id += 1;
        }
        self.next_id += 1;
        self.next_id - 1
    }

    /// Cancels a watch at the client's request. As in etcd, an unknown ID gets no response.
    fn cancel(&mut self, id: i64) {
        if self.remove(id) {
            self.outbox
                .retain(|outgoing| !matches!(outgoing, Outgoing::Events { watch, .. } if *watch == id));
            let mut response = self.response(id, self.shared.current());
            response.canceled = true;
            self.outbox.push_back(Outgoing::Ready(response));
        }
    }

    /// Requests a progress response. The response is sent once all watches of the stream have reported all events up to the same revision. It
    /// contains that revision.
    fn request_progress(&mut self) {
        self.progress_requested = true;
    }

    /// Queues a progress notification for each watch that has the option `progress_notify`, is not lagging, and has had no events since the last
    /// call.
    pub(super) fn progress_due(&mut self) {
        let reported = self.cursor - 1;
        let mut quiet = Vec::new();
        for (id, watcher) in &mut self.watchers {
            if watcher.options.progress_notify && watcher.quiet && !watcher.lagging {
                quiet.push(*id);
            }
            watcher.quiet = true;
        }
        for id in quiet {
            let response = self.response(id, reported);
            self.outbox.push_back(Outgoing::Ready(response));
        }
    }

    pub(super) fn wants_progress(&self) -> bool {
        self.watchers.values().any(|watcher| watcher.options.progress_notify)
    }

    fn remove(&mut self, id: i64) -> bool {
        let Some(watcher) = self.watchers.remove(&id) else { return false };
        if let KeyRange::One(key) = &watcher.range {
            if let Some(ids) = self.by_key.get_mut(key) {
                ids.retain(|other| *other != id);
                if ids.is_empty() {
                    self.by_key.remove(key);
                }
            }
        } else {
            self.ranges.retain(|other| *other != id);
        }
        if watcher.lagging {
            self.lagging.retain(|other| *other != id);
        }
        true
    }

    fn response(&self, watch_id: i64, revision: i64) -> PbWatchResponse {
        PbWatchResponse {
            header: self.shared.header(revision),
            watch_id,
            ..PbWatchResponse::default()
        }
    }

    fn push_compacted(&mut self, id: i64, compacted: i64) {
        let mut response = self.response(id, self.shared.current());
        (response.canceled, response.compact_revision) = (true, compacted);
        self.outbox.push_back(Outgoing::Ready(response));
    }

    pub(super) fn has_outgoing(&self) -> bool {
        !self.outbox.is_empty()
    }

    /// Returns the number of queued responses. If there are too many, the service stops reading requests until the client has
    /// read responses.
    pub(super) fn outgoing(&self) -> usize {
        self.outbox.len()
    }

    /// Reads more revisions from the log. Watchers that are not lagging have priority over lagging watchers. Returns false if there was nothing to
    /// read or report.
    ///
    /// Call this function only while no responses are queued, so that a slow stream uses little memory.
    pub(super) fn fill(&mut self) -> bool {
        let current = self.shared.current();
        if self.watchers.is_empty() {
            self.cursor = self.cursor.max(current + 1);
        }
        if self.cursor <= current {
            self.read_live(current);
            return true;
        }
        if let Some(id) = self.lagging.pop_front() {
            self.read_lagging(id);
            return true;
        }
        if std::mem::take(&mut self.progress_requested) {
            let response = self.response(NO_WATCH, self.cursor - 1);
            self.outbox.push_back(Outgoing::Ready(response));
            return true;
        }
        false
    }

    fn read_live(&mut self, current: i64) {
        let piece = match self.history(self.cursor, current) {
            Ok(piece) => piece,
            Err(compacted) => {
                let too_slow: Vec<i64> = self
                    .watchers
                    .iter()
                    .filter(|(_, watcher)| !watcher.lagging)
                    .map(|(id, _)| *id)
                    .collect();
                for id in too_slow {
                    self.remove(id);
                    self.push_compacted(id, compacted);
                }
                self.cursor = current + 1;
                return;
            }
        };
        let reported = piece.last().map_or(current, |revision| revision.main);
        let mut picks: BTreeMap<i64, VecDeque<Pick>> = BTreeMap::new();
        for revision in piece {
            for (position, change) in revision.changes.iter().enumerate() {
                let of_key = self.by_key.get(&change.version.kv.key).into_iter().flatten();
                for id in of_key.chain(&self.ranges) {
                    let wanted = self
                        .watchers
                        .get(id)
                        .is_some_and(|watcher| !watcher.lagging && watcher.wants(revision.main, change));
                    if wanted {
                        picks.entry(*id).or_default().push_back(Pick {
                            revision: Arc::clone(&revision),
                            change: position,
                        });
                    }
                }
            }
        }
        self.cursor = reported + 1;
        for (id, picks) in picks {
            self.push_events(id, picks, reported);
        }
    }

    fn read_lagging(&mut self, id: i64) {
        let Some(from) = self.watchers.get(&id).map(|watcher| watcher.from) else {
            return;
        };
        let piece = match self.history(from, self.cursor - 1) {
            Ok(piece) => piece,
            Err(compacted) => {
                self.remove(id);
                return self.push_compacted(id, compacted);
            }
        };
        let reported = piece.last().map_or(self.cursor - 1, |revision| revision.main);
        let Some(watcher) = self.watchers.get_mut(&id) else { return };
        let mut picks = VecDeque::new();
        for revision in piece {
            for (position, change) in revision.changes.iter().enumerate() {
                if watcher.wants(revision.main, change) {
                    picks.push_back(Pick {
                        revision: Arc::clone(&revision),
                        change: position,
                    });
                }
            }
        }
        watcher.from = reported + 1;
        watcher.lagging = watcher.from < self.cursor;
        if watcher.lagging {
            self.lagging.push_back(id);
        }
        if !picks.is_empty() {
            self.push_events(id, picks, reported);
        }
    }

    fn history(&self, from: i64, upto: i64) -> Result<Vec<Arc<Revision>>, i64> {
        self.shared.read(|state, _| state.mvcc.history(from, upto))
    }

    fn push_events(&mut self, watch: i64, picks: VecDeque<Pick>, revision: i64) {
        let Some(watcher) = self.watchers.get_mut(&watch) else { return };
        watcher.quiet = false;
        let (prev_kv, fragment) = (watcher.options.prev_kv, watcher.options.fragment);
        self.outbox.push_back(Outgoing::Events {
            watch,
            picks,
            revision,
            prev_kv,
            fragment,
        });
    }

    /// Returns the next response to send.
    pub(super) fn take(&mut self) -> Option<PbWatchResponse> {
        match self.outbox.pop_front()? {
            Outgoing::Ready(response) => Some(response),
            Outgoing::Events {
                watch,
                mut picks,
                revision,
                prev_kv,
                fragment,
            } => {
                let mut response = self.response(watch, revision);
                let mut bytes = 0;
                while let Some(pick) = picks.pop_front() {
                    let event = event(pick.change(), prev_kv);
                    bytes += prost::Message::encoded_len(&event);
                    response.events.push(event);
                    if fragment && bytes >= FRAGMENT_BYTES {
                        break;
                    }
                }
                if !picks.is_empty() {
                    response.fragment = true;
                    self.outbox.push_front(Outgoing::Events {
                        watch,
                        picks,
                        revision,
                        prev_kv,
                        fragment,
                    });
                }
                Some(response)
            }
        }
    }
}

fn event(change: &Change, prev_kv: bool) -> PbEvent {
    let previous = change.previous.as_ref().filter(|_| prev_kv);
    PbEvent {
        // `EventType`: PUT is 0, DELETE is 1.
        r#type: i32::from(change.version.is_tombstone()),
        kv: Some(change.version.kv.clone()),
        prev_kv: previous.map(|version| version.kv.clone()),
    }
}
