//! Counts the changes that this process requests from the kernel: netlink requests, offload changes and sysctl writes.
//!
//! The log shows the count for each batch, which is the cost of a repair. No decision depends on it.

use std::sync::atomic::{AtomicU64, Ordering};

static WRITES: AtomicU64 = AtomicU64::new(0);

/// Counts requests that are about to be sent.
pub(super) fn add(writes: usize) {
    WRITES.fetch_add(writes as u64, Ordering::Relaxed);
}

/// Returns the number of requests so far, including those that the kernel refused.
pub(super) fn total() -> u64 {
    WRITES.load(Ordering::Relaxed)
}
