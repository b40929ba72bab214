//! Decodes requests from arbitrary bytes. Most requests use a small set of keys, revisions and leases, so that they conflict with each other. Some
//! requests are raw protobuf messages.
//!
//! Every sequence of bytes is valid input. Only the fuzzing corpus uses this encoding.

use std::time::Duration;

use etcd_client::proto::{
    PbCompactionRequest, PbCompare, PbDeleteRequest, PbLeaseGrantRequest, PbLeaseRevokeRequest, PbLeaseTimeToLiveRequest, PbPutRequest,
    PbRangeRequest, PbTargetUnion, PbTxnOpRequest, PbTxnRequest, PbTxnRequestOp, PbWatchRequest, PbWatchRequestUnion,
};
use prost::Message;

/// Maximum nesting depth of generated transactions. Raw messages can be nested deeper.
const DEPTH_MAX: u8 = 3;
const KEYS: [&[u8]; 8] = [b"a", b"b", b"a/b", b"a/c", b"a\0", b"\xff\xff", b"\0", b""];

/// One step of a run. A step sends a request, reads watch responses, or advances the clock.
pub(super) enum Request {
    Range(PbRangeRequest),
    Put(PbPutRequest),
    Delete(PbDeleteRequest),
    Txn(PbTxnRequest),
    Compact(PbCompactionRequest),
    Grant(PbLeaseGrantRequest),
    Revoke(PbLeaseRevokeRequest),
    TimeToLive(PbLeaseTimeToLiveRequest),
    KeepAlive(i64),
    Watch(PbWatchRequest),
    /// Reads all pending watch responses.
    Listen,
    /// Advances the clock of the run.
    Pass(Duration),
}

/// Input bytes, consumed from the front. After the end of the input, all further bytes are zero.
pub(super) struct Input<'a> {
    rest: &'a [u8],
}

impl<'a> Input<'a> {
    pub(super) fn new(rest: &'a [u8]) -> Self {
        Input { rest }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    pub(super) fn byte(&mut self) -> u8 {
        let Some((first, rest)) = self.rest.split_first() else { return 0 };
        self.rest = rest;
        *first
    }

    fn bytes(&mut self, count: u8) -> &'a [u8] {
        let (taken, rest) = self.rest.split_at(usize::from(count).min(self.rest.len()));
        self.rest = rest;
        taken
    }

    /// Decodes the next request for a store at the revision `current`.
    pub(super) fn request(&mut self, current: i64) -> Request {
        match self.byte() % 14 {
            0 | 1 => Request::Put(self.put()),
            2 => Request::Range(self.range(current)),
            3 => Request::Delete(self.delete()),
            4 | 5 => Request::Txn(self.txn(current, 0)),
            6 => Request::Compact(PbCompactionRequest {
                revision: self.revision(current),
                physical: false,
            }),
            7 => Request::Grant(PbLeaseGrantRequest {
                id: self.lease(),
                ttl: i64::from(self.byte()),
            }),
            8 => Request::Revoke(PbLeaseRevokeRequest { id: self.lease() }),
            9 => match self.byte() % 2 {
                0 => Request::KeepAlive(self.lease()),
                _ => Request::TimeToLive(PbLeaseTimeToLiveRequest {
                    id: self.lease(),
                    keys: true,
                }),
            },
            10 => Request::Watch(self.watch(current)),
            11 => Request::Listen,
            12 => Request::Pass(Duration::from_secs(u64::from(self.byte() % 16))),
            _ => self.raw(),
        }
    }

    fn key(&mut self) -> Vec<u8> {
        let choice = self.byte();
        match KEYS.get(usize::from(choice % 9)) {
            Some(key) => key.to_vec(),
            None => self.bytes(choice / 9 % 4).to_vec(),
        }
    }

    fn range_end(&mut self) -> Vec<u8> {
        match self.byte() % 4 {
            0 => Vec::new(),
            1 => vec![0],
            2 => b"a0".to_vec(),
            _ => self.key(),
        }
    }

    /// Decodes a revision. Most results are close to the current revision.
    fn revision(&mut self, current: i64) -> i64 {
        match self.byte() {
            255 => i64::MAX,
            254 => i64::MIN,
            253 => -1,
            near if near < 128 => current.saturating_sub(i64::from(near / 4)),
            near => i64::from(near % 16).saturating_add(current - 8),
        }
    }

    fn lease(&mut self) -> i64 {
        match self.byte() % 8 {
            7 => -1,
            id => i64::from(id / 2),
        }
    }

    fn put(&mut self) -> PbPutRequest {
        let flags = self.byte();
        PbPutRequest {
            key: self.key(),
            value: if flags & 1 == 0 {
                Vec::new()
            } else {
                self.bytes(flags >> 4).to_vec()
            },
            lease: if flags & 2 == 0 { 0 } else { self.lease() },
            prev_kv: flags & 4 != 0,
            ignore_value: flags & 9 == 8,
            ignore_lease: flags & 0x82 == 0x80,
        }
    }

    fn delete(&mut self) -> PbDeleteRequest {
        PbDeleteRequest {
            key: self.key(),
            range_end: self.range_end(),
            prev_kv: self.byte() % 2 == 1,
        }
    }

    fn range(&mut self, current: i64) -> PbRangeRequest {
        let flags = self.byte();
        let mut range = PbRangeRequest {
            key: self.key(),
            range_end: self.range_end(),
            keys_only: flags & 1 != 0,
            count_only: flags & 6 == 6,
            ..PbRangeRequest::default()
        };
        if flags & 8 != 0 {
            range.revision = self.revision(current);
        }
        if flags & 16 != 0 {
            range.limit = i64::from(self.byte()) - 2;
        }
        if flags & 32 != 0 {
            let order = self.byte();
            (range.sort_order, range.sort_target) = (i32::from(order % 4), i32::from(order / 4 % 6) - 1);
        }
        if flags & 64 != 0 {
            (range.min_mod_revision, range.max_create_revision) = (self.revision(current), self.revision(current));
        }
        range
    }

    fn compare(&mut self, current: i64) -> PbCompare {
        let kind = self.byte();
        let target_union = match kind / 5 % 6 {
            0 => Some(PbTargetUnion::Version(i64::from(self.byte() % 4))),
            1 => Some(PbTargetUnion::CreateRevision(self.revision(current))),
            2 => Some(PbTargetUnion::ModRevision(self.revision(current))),
            3 => Some(PbTargetUnion::Value(self.bytes(kind % 3).to_vec())),
            4 => Some(PbTargetUnion::Lease(self.lease())),
            _ => None,
        };
        PbCompare {
            result: i32::from(kind % 5),
            target: i32::from(kind / 5 % 6),
            key: self.key(),
            range_end: self.range_end(),
            target_union,
        }
    }

    fn txn(&mut self, current: i64, depth: u8) -> PbTxnRequest {
        let counts = self.byte();
        let mut operations = |count: u8| (0..count).map(|_| self.operation(current, depth)).collect::<Vec<_>>();
        let (success, failure) = (operations(counts & 3), operations(counts >> 2 & 3));
        PbTxnRequest {
            compare: (0..counts >> 4 & 3).map(|_| self.compare(current)).collect(),
            success,
            failure,
        }
    }

    fn operation(&mut self, current: i64, depth: u8) -> PbTxnRequestOp {
        let request = match self.byte() % 8 {
            0 | 1 => PbTxnOpRequest::RequestPut(self.put()),
            2 | 3 => PbTxnOpRequest::RequestRange(self.range(current)),
            4 | 5 => PbTxnOpRequest::RequestDeleteRange(self.delete()),
            6 if depth < DEPTH_MAX => PbTxnOpRequest::RequestTxn(self.txn(current, depth + 1)),
            _ => return PbTxnRequestOp { request: None },
        };
        PbTxnRequestOp { request: Some(request) }
    }

    fn watch(&mut self, current: i64) -> PbWatchRequest {
        let flags = self.byte();
        let mut union = match flags % 4 {
            0 => PbWatchRequestUnion::CancelRequest(Default::default()),
            1 => PbWatchRequestUnion::ProgressRequest(Default::default()),
            _ => PbWatchRequestUnion::CreateRequest(Default::default()),
        };
        match &mut union {
            PbWatchRequestUnion::CancelRequest(cancel) => cancel.watch_id = i64::from(self.byte() % 4),
            PbWatchRequestUnion::CreateRequest(create) => {
                (create.key, create.range_end) = (self.key(), self.range_end());
                create.start_revision = if flags & 8 == 0 { 0 } else { self.revision(current) };
                create.watch_id = i64::from(flags >> 4 & 3);
                create.filters = (0..2).filter(|filter| flags >> 6 == filter + 1).map(i32::from).collect();
                create.prev_kv = flags & 4 != 0;
                create.progress_notify = flags & 4 == 0;
                create.fragment = flags & 4 != 0;
            }
            PbWatchRequestUnion::ProgressRequest(_) => {}
        }
        PbWatchRequest {
            request_union: Some(union),
        }
    }

    /// Decodes a raw message that a client could send. Undecodable messages never reach the service, so they become [`Request::Listen`].
    fn raw(&mut self) -> Request {
        let (kind, count) = (self.byte() % 8, self.byte());
        let bytes = self.bytes(count);
        let decoded = match kind {
            0 => PbRangeRequest::decode(bytes).map(Request::Range),
            1 => PbPutRequest::decode(bytes).map(Request::Put),
            2 => PbDeleteRequest::decode(bytes).map(Request::Delete),
            3 => PbTxnRequest::decode(bytes).map(Request::Txn),
            4 => PbCompactionRequest::decode(bytes).map(Request::Compact),
            5 => PbLeaseGrantRequest::decode(bytes).map(Request::Grant),
            6 => PbLeaseRevokeRequest::decode(bytes).map(Request::Revoke),
            _ => PbWatchRequest::decode(bytes).map(Request::Watch),
        };
        decoded.unwrap_or(Request::Listen)
    }
}
