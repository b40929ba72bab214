//! What can be refused about a request before looking at the content of the store.
//!
//! Owns the checks that etcd makes at its gRPC edge (`server/etcdserver/api/v3rpc/key.go`), in the same order, because the first
//! refusal is the one the client sees. It must never look at the store. Start reading at [`txn`].

use std::collections::HashSet;

use etcd_client::proto::{PbDeleteRequest, PbPutRequest, PbRangeRequest, PbTxnOpRequest, PbTxnRequest, PbTxnRequestOp};

use super::error::Refusal;

/// Most operations (or compares) in a transaction: etcd's default `--max-txn-ops`.
const TXN_OPERATIONS_MAX: usize = 128;
/// Largest request in bytes: etcd's default `--max-request-bytes`.
pub(super) const REQUEST_BYTES_MAX: usize = 1_572_864;
/// The enums `SortOrder` and `SortTarget` of the API end here.
const SORT_ORDER_LAST: i32 = 2;
const SORT_TARGET_LAST: i32 = 4;

/// Refuses what is larger than etcd would take.
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

/// A nested transaction may only use what its parent left of the limit, which also bounds the depth of nesting.
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
            // An empty operation; etcd answers with this text too.
            None => return Err(Refusal::KeyNotFound),
        }
    }
    Ok(())
}

/// What one branch of a transaction writes.
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

    /// Adds a put that must not meet any other write, except puts of `exclusive`, the branch that is not taken together with it.
    fn add_put(&mut self, key: &'a [u8], exclusive: Option<&HashSet<&'a [u8]>>) -> Result<(), Refusal> {
        let taken = self.puts.contains(key) && !exclusive.is_some_and(|other| other.contains(key));
        if taken || self.deletes_key(key) {
            return Err(Refusal::DuplicateKey);
        }
        self.puts.insert(key);
        Ok(())
    }
}

/// Refuses a branch in which a key is put twice, or put and deleted: its outcome would hang on an order that the API does not promise.
/// As in etcd a delete "from key on" (`range_end` of one zero byte) is not seen as meeting any put.
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
