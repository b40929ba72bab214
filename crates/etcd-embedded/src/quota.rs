//! The store quota and the NOSPACE alarm.
//!
//! The store size includes a fixed overhead for each retained version and lease, as in etcd's calculation of request costs. A write that would
//! exceed the quota raises the alarm. Until a user disarms the alarm, the store refuses puts and lease grants. Reads, deletions and compactions
//! still work. The alarm is stored in the file.

use etcd_client::proto::{PbPutRequest, PbTxnOpRequest, PbTxnRequest, PbTxnRequestOp};

use super::error::Refusal;

/// Number of bytes that the quota counts for each version in addition to its key and value (etcd's `kvOverhead`).
pub(super) const VERSION_OVERHEAD: usize = 256;
/// Size of a lease in bytes, as counted by the quota.
pub(super) const LEASE_OVERHEAD: usize = 256;

/// Store size limit and alarm state.
#[derive(Debug, Clone, Copy)]
pub(super) struct Quota {
    /// Maximum store size in bytes.
    pub(super) limit: usize,
    /// True if the NOSPACE alarm is raised.
    pub(super) alarm: bool,
}

/// Result of checking a request against the quota.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Space {
    /// The request fits into the quota, or costs nothing.
    Enough,
    /// The request needs space, but the NOSPACE alarm is already raised.
    Alarmed,
    /// The request would exceed the quota and must raise the alarm.
    Exceeded,
}

impl Quota {
    /// Checks whether a store of `size` bytes has space for a request that costs `cost` bytes. A cost of 0 is always allowed.
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

/// Returns the cost of a put in bytes.
pub(super) fn put(request: &PbPutRequest) -> usize {
    VERSION_OVERHEAD + request.key.len() + request.value.len()
}

/// Returns the cost of a transaction in bytes, which is the cost of its more expensive branch. Deletions cost nothing, because
/// they free space.
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
    fn alarm_refuses_only_requests_with_a_cost() {
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
