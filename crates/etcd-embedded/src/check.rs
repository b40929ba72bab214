//! Request checks that do not depend on the contents of the store.
//!
//! The checks are the same as in etcd's gRPC layer (`server/etcdserver/api/v3rpc/key.go`). Their order is also the same, because the client sees only
//! the first error.

use std::collections::HashSet;

use etcd_client::proto::{PbDeleteRequest, PbPutRequest, PbRangeRequest, PbTxnOpRequest, PbTxnRequest, PbTxnRequestOp};

use super::error::Refusal;

/// Maximum number of operations (or comparisons) in a transaction: etcd's default for `--max-txn-ops`.
const TXN_OPERATIONS_MAX: usize = 128;
/// Maximum size of a request in bytes: etcd's default for `--max-request-bytes`.
pub(super) const REQUEST_BYTES_MAX: usize = 1_572_864;
/// Highest number of the enum `SortOrder`.
const SORT_ORDER_LAST: i32 = 2;
/// Highest number of the enum `SortTarget`.
const SORT_TARGET_LAST: i32 = 4;

/// Refuses requests larger than etcd's limit.
pub(super) fn size(request: &impl prost::Message) -> Result<(), Refusal> {
    if request.encoded_len() > REQUEST_BYTES_MAX {
        Err(Refusal::TooLarge)
    } else {
        Ok(())
    }
}

fn key(key: &[u8]) -> Result<(), Refusal> {
    if key.is_empty() { Err(Refusal::EmptyKey) } else { Ok(()) }
}

pub(super) fn range(request: &PbRangeRequest) -> Result<(), Refusal> {
    key(&request.key)?;
    if !(0..=SORT_ORDER_LAST).contains(&request.sort_order) || !(0..=SORT_TARGET_LAST).contains(&request.sort_target) {
        return Err(Refusal::InvalidSort);
    }
    Ok(())
}

pub(super) fn put(request: &PbPutRequest) -> Result<(), Refusal> {
    key(&request.key)?;
    if request.ignore_value && !request.value.is_empty() {
        return Err(Refusal::ValueProvided);
    }
    if request.ignore_lease && request.lease != 0 {
        return Err(Refusal::LeaseProvided);
    }
    Ok(())
}

pub(super) fn delete(request: &PbDeleteRequest) -> Result<(), Refusal> {
    key(&request.key)
}

pub(super) fn txn(request: &PbTxnRequest) -> Result<(), Refusal> {
    operations(request, TXN_OPERATIONS_MAX)?;
    intervals(&request.success)?;
    intervals(&request.failure)?;
    Ok(())
}

/// Checks the number of operations in a transaction.
///
/// The limit for a nested transaction is the parent's limit minus the parent's number of operations. The shrinking limit also bounds the nesting
/// depth.
fn operations(request: &PbTxnRequest, limit: usize) -> Result<(), Refusal> {
    let count = request.compare.len().max(request.success.len()).max(request.failure.len());
    if count > limit {
        return Err(Refusal::TooManyOperations);
    }
    for compare in &request.compare {
        key(&compare.key)?;
    }
    for operation in request.success.iter().chain(&request.failure) {
        match &operation.request {
            Some(PbTxnOpRequest::RequestRange(request)) => range(request)?,
            Some(PbTxnOpRequest::RequestPut(request)) => put(request)?,
            Some(PbTxnOpRequest::RequestDeleteRange(request)) => delete(request)?,
            Some(PbTxnOpRequest::RequestTxn(request)) => operations(request, limit - count)?,
            // etcd returns the same error for an operation without a request.
            None => return Err(Refusal::KeyNotFound),
        }
    }
    Ok(())
}

/// Keys that one branch of a transaction puts and deletes.
#[derive(Default)]
struct Writes<'a> {
    puts: HashSet<&'a [u8]>,
    deletes: Vec<(&'a [u8], &'a [u8])>,
}

impl<'a> Writes<'a> {
    fn deletes_key(&self, key: &[u8]) -> bool {
        self.deletes.iter().any(|(start, end)| {
            if end.is_empty() {
                *start == key
            } else {
                key >= *start && key < *end
            }
        })
    }

    /// Adds a put. Fails if the branch already puts or deletes the key.
    ///
    /// `exclusive` contains the keys that the other branch of a nested transaction puts. Putting these keys again is allowed,
    /// because only one of the two branches runs.
    fn add_put(&mut self, key: &'a [u8], exclusive: Option<&HashSet<&'a [u8]>>) -> Result<(), Refusal> {
        let taken = self.puts.contains(key) && !exclusive.is_some_and(|other| other.contains(key));
        if taken || self.deletes_key(key) {
            return Err(Refusal::DuplicateKey);
        }
        self.puts.insert(key);
        Ok(())
    }
}

/// Collects the keys that a branch puts and deletes. Fails if the branch puts a key twice, or if it both puts and deletes a key. The API does not
/// define the result of these operations.
///
/// As in etcd, deleting a key and all keys after it (`range_end` is one zero byte) does not conflict with any put.
fn intervals(operations: &[PbTxnRequestOp]) -> Result<Writes<'_>, Refusal> {
    let mut writes = Writes::default();
    for operation in operations {
        if let Some(PbTxnOpRequest::RequestDeleteRange(request)) = &operation.request {
            writes.deletes.push((&request.key, &request.range_end));
        }
    }
    for operation in operations {
        let Some(PbTxnOpRequest::RequestTxn(request)) = &operation.request else {
            continue;
        };
        let success = intervals(&request.success)?;
        let failure = intervals(&request.failure)?;
        for put in &success.puts {
            writes.add_put(put, None)?;
        }
        for put in &failure.puts {
            writes.add_put(put, Some(&success.puts))?;
        }
        writes.deletes.extend(success.deletes);
        writes.deletes.extend(failure.deletes);
    }
    for operation in operations {
        if let Some(PbTxnOpRequest::RequestPut(request)) = &operation.request {
            writes.add_put(&request.key, None)?;
        }
    }
    Ok(writes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn put(key: &str) -> PbTxnRequestOp {
        let request = PbPutRequest {
            key: key.into(),
            ..PbPutRequest::default()
        };
        PbTxnRequestOp {
            request: Some(PbTxnOpRequest::RequestPut(request)),
        }
    }

    fn delete(key: &str, range_end: &str) -> PbTxnRequestOp {
        let request = PbDeleteRequest {
            key: key.into(),
            range_end: range_end.into(),
            prev_kv: false,
        };
        PbTxnRequestOp {
            request: Some(PbTxnOpRequest::RequestDeleteRange(request)),
        }
    }

    fn nested(success: Vec<PbTxnRequestOp>, failure: Vec<PbTxnRequestOp>) -> PbTxnRequestOp {
        PbTxnRequestOp {
            request: Some(PbTxnOpRequest::RequestTxn(branches(success, failure))),
        }
    }

    fn branches(success: Vec<PbTxnRequestOp>, failure: Vec<PbTxnRequestOp>) -> PbTxnRequest {
        PbTxnRequest {
            compare: Vec::new(),
            success,
            failure,
        }
    }

    fn check(success: Vec<PbTxnRequestOp>) -> Result<(), Refusal> {
        txn(&branches(success, Vec::new()))
    }

    #[test]
    fn key_may_be_written_once_in_each_branch() {
        assert_eq!(check(vec![put("a"), put("b")]), Ok(()));
        assert_eq!(check(vec![put("a"), put("a")]), Err(Refusal::DuplicateKey));
        assert_eq!(check(vec![put("a"), delete("a", "")]), Err(Refusal::DuplicateKey));
        assert_eq!(check(vec![delete("a", "c"), put("b")]), Err(Refusal::DuplicateKey));
        assert_eq!(check(vec![delete("a", "c"), put("c"), delete("b", "")]), Ok(()));
        assert_eq!(txn(&branches(vec![put("a")], vec![put("a")])), Ok(()));
    }

    #[test]
    fn alternative_branches_do_not_conflict_but_nested_ones_do() {
        assert_eq!(check(vec![nested(vec![put("a")], vec![put("a")])]), Ok(()));
        assert_eq!(check(vec![put("a"), nested(vec![put("a")], vec![])]), Err(Refusal::DuplicateKey));
        assert_eq!(
            check(vec![delete("a", ""), nested(vec![], vec![put("a")])]),
            Err(Refusal::DuplicateKey)
        );
        assert_eq!(
            check(vec![nested(vec![put("a")], vec![]), nested(vec![put("a")], vec![])]),
            Err(Refusal::DuplicateKey)
        );
    }

    #[test]
    fn operation_limit_includes_nested_transactions() {
        let puts = |count: usize| (0..count).map(|number| put(&number.to_string())).collect::<Vec<_>>();
        assert_eq!(check(puts(128)), Ok(()));
        assert_eq!(check(puts(129)), Err(Refusal::TooManyOperations));
        assert_eq!(check(vec![nested(puts(127), vec![])]), Ok(()));
        assert_eq!(check(vec![nested(puts(128), vec![])]), Err(Refusal::TooManyOperations));
    }

    #[test]
    fn request_above_the_size_limit_of_etcd_is_refused() {
        let request = |bytes| PbPutRequest {
            key: b"k".to_vec(),
            value: vec![0; bytes],
            ..PbPutRequest::default()
        };
        assert_eq!(size(&request(REQUEST_BYTES_MAX - 100)), Ok(()));
        assert_eq!(size(&request(REQUEST_BYTES_MAX)), Err(Refusal::TooLarge));
    }

    #[test]
    fn incomplete_and_contradictory_requests_are_refused() {
        assert_eq!(check(vec![put("")]), Err(Refusal::EmptyKey));
        assert_eq!(check(vec![PbTxnRequestOp { request: None }]), Err(Refusal::KeyNotFound));
        let request = PbPutRequest {
            key: b"k".to_vec(),
            value: b"v".to_vec(),
            ignore_value: true,
            ..PbPutRequest::default()
        };
        assert_eq!(put_request(&request), Err(Refusal::ValueProvided));
        let request = PbPutRequest {
            key: b"k".to_vec(),
            lease: 1,
            ignore_lease: true,
            ..PbPutRequest::default()
        };
        assert_eq!(put_request(&request), Err(Refusal::LeaseProvided));
        let request = PbRangeRequest {
            key: b"k".to_vec(),
            sort_target: 9,
            ..PbRangeRequest::default()
        };
        assert_eq!(range(&request), Err(Refusal::InvalidSort));
    }

    fn put_request(request: &PbPutRequest) -> Result<(), Refusal> {
        super::put(request)
    }
}
