//! Counts the changes that this process requests from the kernel: netlink requests, changes of checksum offloading and sysctl
//! writes.
//!
//! The log shows the count for each batch, so that users can see how much a repair costs. No decision depends on the count.

use std::sync::atomic::{AtomicU64, Ordering};

static WRITES: AtomicU64 = AtomicU64::new(0);

/// Counts change requests that are about to be sent.
pub(super) fn add(writes: usize) {
    WRITES.fetch_add(writes as u64, Ordering::Relaxed);
}

/// Returns the number of change requests since the start of the process, including those that the kernel refused.
pub(super) fn total() -> u64 {
    WRITES.load(Ordering::Relaxed)
}
