//! Counts how often this process has requested a change from the kernel: netlink requests, offload switches and sysctls.
//!
//! The log shows the count of each batch, which is the cost of a repair. No decision depends on it.

use std::sync::atomic::{AtomicU64, Ordering};

static WRITES: AtomicU64 = AtomicU64::new(0);

/// Adds requests that are about to be made.
pub(super) fn add(writes: usize) {
    WRITES.fetch_add(writes as u64, Ordering::Relaxed);
}

/// Returns the number of requests so far, whether or not the kernel accepted them.
pub(super) fn total() -> u64 {
    WRITES.load(Ordering::Relaxed)
}
