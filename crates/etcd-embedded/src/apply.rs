//! Executes range, put, delete and transaction requests on the store contents and the leases.
//!
//! All checks run before the first change, so a write never fails halfway. Callers pass the current time in the argument `now`. This module sets the
//! revision in response headers. The gRPC service adds the cluster ID, the member ID and the term.

use std::cmp::Ordering;
use std::sync::Arc;
use std::time::Instant;

use etcd_client::proto::{
    PbCompare, PbCompareTarget, PbDeleteRequest, PbDeleteResponse, PbKeyValue, PbPutRequest, PbPutResponse, PbRangeRequest,
    PbRangeResponse, PbResponseHeader, PbResponseOp, PbTargetUnion, PbTxnOpRequest, PbTxnOpResponse, PbTxnRequest, PbTxnResponse,
};

use super::error::Refusal;
use super::lease::Lessor;
use super::mvcc::{KeyRange, Mvcc, Version, Writing};
use super::quota::{Quota, Space};

/// In-memory contents of the store.
pub(super) struct State {
    pub(super) mvcc: Mvcc,
    pub(super) lessor: Lessor,
    pub(super) quota: Quota,
}

/// Result of a completed write: the response to the client, and the rows to write to disk.
pub(super) struct Applied<T> {
    pub(super) response: T,
    pub(super) rows: Vec<Arc<Version>>,
}

impl State {
    /// Returns the number of bytes that count towards the quota.
    pub(super) fn bytes(&self) -> usize {
        self.mvcc.bytes() + self.lessor.bytes()
    }

    /// Checks whether the quota leaves space for a request that costs `cost` bytes.
    pub(super) fn space(&self, cost: usize) -> Space {
        self.quota.space(self.bytes(), cost)
    }

    pub(super) fn put(&mut self, request: PbPutRequest, now: Instant) -> Result<Applied<PbPutResponse>, Refusal> {
        // As in etcd, check the lease before the previous version. A put in a transaction checks the lease last. The order matters because the client
        // sees only the first error.
        check_lease(&self.lessor, request.lease)?;
        check_previous(&self.mvcc, &request)?;
        let mut writing = self.mvcc.write();
        let response = put(&mut writing, &mut self.lessor, request);
        Ok(Applied {
            response,
            rows: writing.finish(now),
        })
    }

    pub(super) fn delete(&mut self, request: &PbDeleteRequest, now: Instant) -> Applied<PbDeleteResponse> {
        let mut writing = self.mvcc.write();
        let response = delete(&mut writing, &mut self.lessor, request);
        Applied {
            response,
            rows: writing.finish(now),
        }
    }

    /// Runs a transaction that contains at least one write (see [`is_read_only`]).
    pub(super) fn txn(&mut self, request: PbTxnRequest, now: Instant) -> Result<Applied<PbTxnResponse>, Refusal> {
        let current = self.mvcc.revision();
        let mut path = Vec::new();
        choose(&self.mvcc, current, &request, &mut path);
        check_branches(&self.mvcc, Some(&self.lessor), current, &request, &mut path.iter())?;
        let mut writing = self.mvcc.write();
        let mut response = run(&mut writing, &mut self.lessor, request, &mut path.iter());
        response.header = header(writing.revision());
        Ok(Applied {
            response,
            rows: writing.finish(now),
        })
    }

    /// Revokes a lease and deletes its keys in one revision. Returns `None` if the lease does not exist.
    pub(super) fn revoke(&mut self, lease: i64, now: Instant) -> Option<Vec<Arc<Version>>> {
        let keys = self.lessor.remove(lease)?;
        let mut writing = self.mvcc.write();
        for key in keys {
            writing.delete(&KeyRange::One(key));
        }
        Some(writing.finish(now))
    }
}

/// Returns true if a transaction, including its nested transactions, contains no writes.
pub(super) fn is_read_only(request: &PbTxnRequest) -> bool {
    request
        .success
        .iter()
        .chain(&request.failure)
        .all(|operation| match &operation.request {
            Some(PbTxnOpRequest::RequestRange(_)) | None => true,
            Some(PbTxnOpRequest::RequestTxn(nested)) => is_read_only(nested),
            Some(PbTxnOpRequest::RequestPut(_) | PbTxnOpRequest::RequestDeleteRange(_)) => false,
        })
}

/// Runs a read-only transaction at the revision `current`.
pub(super) fn read_txn(mvcc: &Mvcc, request: &PbTxnRequest, current: i64) -> Result<PbTxnResponse, Refusal> {
    let mut path = Vec::new();
    choose(mvcc, current, request, &mut path);
    check_branches(mvcc, None, current, request, &mut path.iter())?;
    let mut response = run_reads(mvcc, request, current, &mut path.iter())?;
    response.header = header(current);
    Ok(response)
}

/// Reads a range. `current` is the newest revision that is visible to clients.
pub(super) fn range(mvcc: &Mvcc, request: &PbRangeRequest, current: i64) -> Result<PbRangeResponse, Refusal> {
    let revision = mvcc.readable(request.revision, current)?;
    Ok(range_at(mvcc, request, revision, current))
}

/// Estimates the size of a range response in bytes from its keys and values, without copying them.
pub(super) fn range_bytes(mvcc: &Mvcc, request: &PbRangeRequest, current: i64) -> usize {
    // Most requests read a single key. Its value is no larger than a request, so no memory is reserved for the response.
    if request.range_end.is_empty() || request.count_only || request.keys_only {
        return 0;
    }
    let range = KeyRange::new(&request.key, &request.range_end);
    let limit = usize::try_from(request.limit).ok().filter(|limit| *limit > 0);
    let revision = if request.revision > 0 { request.revision } else { current };
    let versions = mvcc.live_at(&range, revision).take(limit.unwrap_or(usize::MAX));
    versions.map(|version| version.bytes()).sum()
}

fn range_at(mvcc: &Mvcc, request: &PbRangeRequest, revision: i64, current: i64) -> PbRangeResponse {
    let range = KeyRange::new(&request.key, &request.range_end);
    let limit = usize::try_from(request.limit).ok().filter(|limit| *limit > 0);
    // Fetch one key more than the limit, to find out whether more keys exist. Sorting and filtering need all keys.
    let fetched = match limit {
        Some(limit) if request.sort_order == 0 && !has_filter(request) => limit.saturating_add(1),
        _ => usize::MAX,
    };
    let mut count = 0_i64;
    let mut found: Vec<&Arc<Version>> = Vec::new();
    for version in mvcc.live_at(&range, revision) {
        count += 1;
        if !request.count_only && found.len() < fetched {
            found.push(version);
        }
    }
    found.retain(|version| passes(request, &version.kv));
    sort(request, &mut found);
    let more = limit.is_some_and(|limit| found.len() > limit);
    if let Some(limit) = limit {
        found.truncate(limit);
    }
    let kvs = found.iter().map(|version| copy(&version.kv, request.keys_only)).collect();
    PbRangeResponse {
        header: header(current),
        kvs,
        more,
        count,
    }
}

fn copy(kv: &PbKeyValue, key_only: bool) -> PbKeyValue {
    if key_only {
        let PbKeyValue {
            key,
            create_revision,
            mod_revision,
            version,
            lease,
            value: _,
        } = kv;
        PbKeyValue {
            key: key.clone(),
            create_revision: *create_revision,
            mod_revision: *mod_revision,
            version: *version,
            lease: *lease,
            value: Vec::new(),
        }
    } else {
        kv.clone()
    }
}

fn has_filter(request: &PbRangeRequest) -> bool {
    let bounds = [
        request.min_mod_revision,
        request.max_mod_revision,
        request.min_create_revision,
        request.max_create_revision,
    ];
    bounds.iter().any(|bound| *bound != 0)
}

fn passes(request: &PbRangeRequest, kv: &PbKeyValue) -> bool {
    let within = |revision: i64, min: i64, max: i64| (min == 0 || revision >= min) && (max == 0 || revision <= max);
    within(kv.mod_revision, request.min_mod_revision, request.max_mod_revision)
        && within(kv.create_revision, request.min_create_revision, request.max_create_revision)
}

fn sort(request: &PbRangeRequest, found: &mut [&Arc<Version>]) {
    let descending = request.sort_order == 2;
    let compare = |a: &&Arc<Version>, b: &&Arc<Version>| -> Ordering {
        let (a, b) = (&a.kv, &b.kv);
        let ordering = match request.sort_target {
            1 => a.version.cmp(&b.version),
            2 => a.create_revision.cmp(&b.create_revision),
            3 => a.mod_revision.cmp(&b.mod_revision),
            4 => a.value.cmp(&b.value),
            _ => a.key.cmp(&b.key),
        };
        if descending { ordering.reverse() } else { ordering }
    };
    // The versions are already sorted by key in ascending order.
    if request.sort_target != 0 || descending {
        found.sort_by(compare);
    }
}

fn check_lease(lessor: &Lessor, lease: i64) -> Result<(), Refusal> {
    if lease == 0 || lessor.contains(lease) {
        Ok(())
    } else {
        Err(Refusal::LeaseNotFound)
    }
}

fn check_previous(mvcc: &Mvcc, request: &PbPutRequest) -> Result<(), Refusal> {
    let needed = request.ignore_value || request.ignore_lease;
    if needed && mvcc.live(&request.key).is_none() {
        Err(Refusal::KeyNotFound)
    } else {
        Ok(())
    }
}

fn put(writing: &mut Writing<'_>, lessor: &mut Lessor, request: PbPutRequest) -> PbPutResponse {
    let PbPutRequest {
        key,
        mut value,
        mut lease,
        prev_kv,
        ignore_value,
        ignore_lease,
    } = request;
    if let Some(live) = writing.mvcc().live(&key).filter(|_| ignore_value || ignore_lease) {
        if ignore_value {
            value = live.kv.value.clone();
        }
        if ignore_lease {
            lease = live.kv.lease;
        }
    }
    lessor.attach(&key, lease);
    let (previous, revision) = writing.put(key, value, lease);
    PbPutResponse {
        header: header(revision),
        prev_kv: previous.filter(|_| prev_kv).map(|version| version.kv.clone()),
    }
}

fn delete(writing: &mut Writing<'_>, lessor: &mut Lessor, request: &PbDeleteRequest) -> PbDeleteResponse {
    let deleted = writing.delete(&KeyRange::new(&request.key, &request.range_end));
    for version in &deleted {
        lessor.attach(&version.kv.key, 0);
    }
    PbDeleteResponse {
        header: header(writing.revision()),
        deleted: i64::try_from(deleted.len()).unwrap_or(i64::MAX),
        prev_kvs: if request.prev_kv {
            deleted.iter().map(|version| version.kv.clone()).collect()
        } else {
            Vec::new()
        },
    }
}

fn header(revision: i64) -> Option<PbResponseHeader> {
    Some(PbResponseHeader {
        revision,
        ..PbResponseHeader::default()
    })
}

/// Evaluates the conditions of a transaction and its nested transactions, depth first, and records in `path` which branches run.
///
/// As in etcd, all conditions are evaluated before any operation of the outermost transaction runs.
fn choose(mvcc: &Mvcc, current: i64, request: &PbTxnRequest, path: &mut Vec<bool>) {
    let succeeded = request.compare.iter().all(|compare| holds(mvcc, current, compare));
    path.push(succeeded);
    let operations = if succeeded { &request.success } else { &request.failure };
    for operation in operations {
        if let Some(PbTxnOpRequest::RequestTxn(nested)) = &operation.request {
            choose(mvcc, current, nested, path);
        }
    }
}

fn holds(mvcc: &Mvcc, current: i64, compare: &PbCompare) -> bool {
    let range = KeyRange::new(&compare.key, &compare.range_end);
    let mut versions = mvcc.live_at(&range, current).peekable();
    if versions.peek().is_none() {
        // The version, the revisions and the lease of a missing key are 0. A comparison with its value is always false.
        return compare.target() != PbCompareTarget::Value && matches(compare, &PbKeyValue::default());
    }
    versions.all(|version| matches(compare, &version.kv))
}

fn matches(compare: &PbCompare, kv: &PbKeyValue) -> bool {
    let union = compare.target_union.as_ref();
    // As in etcd, compare with zero or an empty value if `target_union` does not match `target`.
    let ordering = match (compare.target(), union) {
        (PbCompareTarget::Version, Some(PbTargetUnion::Version(wanted))) => kv.version.cmp(wanted),
        (PbCompareTarget::Version, _) => kv.version.cmp(&0),
        (PbCompareTarget::Create, Some(PbTargetUnion::CreateRevision(wanted))) => kv.create_revision.cmp(wanted),
        (PbCompareTarget::Create, _) => kv.create_revision.cmp(&0),
        (PbCompareTarget::Mod, Some(PbTargetUnion::ModRevision(wanted))) => kv.mod_revision.cmp(wanted),
        (PbCompareTarget::Mod, _) => kv.mod_revision.cmp(&0),
        (PbCompareTarget::Value, Some(PbTargetUnion::Value(wanted))) => kv.value.cmp(wanted),
        (PbCompareTarget::Value, _) => kv.value.as_slice().cmp(&[]),
        (PbCompareTarget::Lease, Some(PbTargetUnion::Lease(wanted))) => kv.lease.cmp(wanted),
        (PbCompareTarget::Lease, _) => kv.lease.cmp(&0),
    };
    match compare.result {
        0 => ordering.is_eq(),
        1 => ordering.is_gt(),
        2 => ordering.is_lt(),
        3 => ordering.is_ne(),
        // etcd treats a comparison with an unknown operator as true.
        _ => true,
    }
}

type Path<'a> = std::slice::Iter<'a, bool>;

/// Checks all operations in the chosen branches, so that no operation fails after the first change.
fn check_branches(mvcc: &Mvcc, lessor: Option<&Lessor>, current: i64, request: &PbTxnRequest, path: &mut Path<'_>) -> Result<(), Refusal> {
    let mut pass = path.clone();
    if let Some(lessor) = lessor {
        // As in etcd, check all puts before the ranges. If several checks fail, the client then gets the same error as from etcd.
        each_chosen(request, &mut pass, &mut |operation| match operation {
            PbTxnOpRequest::RequestPut(put) => {
                check_previous(mvcc, put)?;
                check_lease(lessor, put.lease)
            }
            _ => Ok(()),
        })?;
    }
    each_chosen(request, path, &mut |operation| match operation {
        PbTxnOpRequest::RequestRange(range) => mvcc.readable(range.revision, current).map(|_| ()),
        _ => Ok(()),
    })
}

fn each_chosen(
    request: &PbTxnRequest,
    path: &mut Path<'_>,
    check: &mut impl FnMut(&PbTxnOpRequest) -> Result<(), Refusal>,
) -> Result<(), Refusal> {
    let succeeded = path.next().copied().unwrap_or(false);
    for operation in if succeeded { &request.success } else { &request.failure } {
        match &operation.request {
            Some(PbTxnOpRequest::RequestTxn(nested)) => each_chosen(nested, path, &mut *check)?,
            Some(operation) => check(operation)?,
            None => {}
        }
    }
    Ok(())
}

/// Runs the chosen branches. As in etcd, the response header of each operation contains only the revision, and the response
/// header of a nested transaction is empty.
fn run(writing: &mut Writing<'_>, lessor: &mut Lessor, request: PbTxnRequest, path: &mut Path<'_>) -> PbTxnResponse {
    let succeeded = path.next().copied().unwrap_or(false);
    let operations = if succeeded { request.success } else { request.failure };
    let responses = operations.into_iter().filter_map(|operation| operation.request).map(|operation| {
        let response = match operation {
            PbTxnOpRequest::RequestRange(range) => {
                let current = writing.revision();
                let revision = if range.revision > 0 { range.revision } else { current };
                PbTxnOpResponse::ResponseRange(range_at(writing.mvcc(), &range, revision, current))
            }
            PbTxnOpRequest::RequestPut(request) => PbTxnOpResponse::ResponsePut(put(writing, lessor, request)),
            PbTxnOpRequest::RequestDeleteRange(request) => PbTxnOpResponse::ResponseDeleteRange(delete(writing, lessor, &request)),
            PbTxnOpRequest::RequestTxn(nested) => PbTxnOpResponse::ResponseTxn(run(writing, lessor, nested, path)),
        };
        PbResponseOp { response: Some(response) }
    });
    let responses = responses.collect();
    PbTxnResponse {
        header: Some(PbResponseHeader::default()),
        succeeded,
        responses,
    }
}

fn run_reads(mvcc: &Mvcc, request: &PbTxnRequest, current: i64, path: &mut Path<'_>) -> Result<PbTxnResponse, Refusal> {
    let succeeded = path.next().copied().unwrap_or(false);
    let mut responses = Vec::new();
    for operation in if succeeded { &request.success } else { &request.failure } {
        let response = match &operation.request {
            Some(PbTxnOpRequest::RequestRange(request)) => PbTxnOpResponse::ResponseRange(range(mvcc, request, current)?),
            Some(PbTxnOpRequest::RequestTxn(nested)) => PbTxnOpResponse::ResponseTxn(run_reads(mvcc, nested, current, path)?),
            Some(PbTxnOpRequest::RequestPut(_) | PbTxnOpRequest::RequestDeleteRange(_)) | None => continue,
        };
        responses.push(PbResponseOp { response: Some(response) });
    }
    Ok(PbTxnResponse {
        header: Some(PbResponseHeader::default()),
        succeeded,
        responses,
    })
}
