//! The quota of the store, and the alarm that etcd raises when it is reached.
//!
//! The size counts every retained version and lease with a fixed overhead, as etcd's cost of a request does. A write that would exceed
//! the quota raises the alarm NOSPACE: until somebody disarms it, puts and grants are refused, while reads, deletions and compactions
//! go on. The alarm is kept in the file.

use etcd_client::proto::{PbPutRequest, PbTxnOpRequest, PbTxnRequest, PbTxnRequestOp};

use super::error::Refusal;

/// Counted for each version besides its key and value (etcd: `kvOverhead`).
pub(super) const VERSION_OVERHEAD: usize = 256;
/// Counted for each lease.
pub(super) const LEASE_OVERHEAD: usize = 256;

/// Limit of the store's size and the state of its alarm.
#[derive(Debug, Clone, Copy)]
pub(super) struct Quota {
    /// Most bytes.
    pub(super) limit: usize,
    /// Whether the alarm NOSPACE is raised.
    pub(super) alarm: bool,
}

/// Outcome of asking for space.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Space {
    /// There is enough.
    Enough,
    /// The alarm was raised before.
    Alarmed,
    /// The request exceeds the quota: the alarm has to be raised.
    Exceeded,
}

impl Quota {
    /// Judges a request that costs so many bytes in a store of this size. What costs nothing is always possible.
    pub(super) fn space(&self, size: usize, cost: usize) -> Space {
        match () {
            () if cost == 0 => Space::Enough,
            () if self.alarm => Space::Alarmed,
            () if size.saturating_add(cost) > self.limit => Space::Exceeded,
            () => Space::Enough,
        }
    }
}

impl Space {
    pub(super) fn granted(self) -> Result<(), Refusal> {
        match self {
            Space::Enough => Ok(()),
            Space::Alarmed | Space::Exceeded => Err(Refusal::NoSpace),
        }
    }
}

/// Cost of a put.
pub(super) fn put(request: &PbPutRequest) -> usize {
    VERSION_OVERHEAD + request.key.len() + request.value.len()
}

/// Cost of a transaction: of its more expensive branch. Deletions are free, because they lead back below the quota.
pub(super) fn txn(request: &PbTxnRequest) -> usize {
    branch(&request.success).max(branch(&request.failure))
}

fn branch(operations: &[PbTxnRequestOp]) -> usize {
    let cost = |operation: &PbTxnRequestOp| match &operation.request {
        Some(PbTxnOpRequest::RequestPut(request)) => put(request),
        Some(PbTxnOpRequest::RequestTxn(request)) => txn(request),
        _ => 0,
    };
    operations.iter().map(cost).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn alarm_stops_what_costs_and_nothing_else() {
        let mut quota = Quota { limit: 1000, alarm: false };
        assert_eq!(quota.space(700, 300), Space::Enough);
        assert_eq!(quota.space(700, 301), Space::Exceeded);
        assert_eq!(quota.space(5000, 0), Space::Enough);
        quota.alarm = true;
        assert_eq!((quota.space(0, 1), quota.space(0, 0)), (Space::Alarmed, Space::Enough));
    }

    #[test]
    fn transaction_costs_its_more_expensive_branch() {
        let operation = |bytes: usize| PbTxnRequestOp {
            request: Some(PbTxnOpRequest::RequestPut(PbPutRequest {
                value: vec![0; bytes],
                ..PbPutRequest::default()
            })),
        };
        let inner = PbTxnRequest {
            success: vec![operation(10)],
            ..PbTxnRequest::default()
        };
        let nested = PbTxnRequestOp {
            request: Some(PbTxnOpRequest::RequestTxn(inner)),
        };
        let request = PbTxnRequest {
            success: vec![operation(100), nested],
            failure: vec![operation(200)],
            ..PbTxnRequest::default()
        };
        assert_eq!(txn(&request), 2 * VERSION_OVERHEAD + 110);
    }
}
