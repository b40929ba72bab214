//! How often this process has asked the kernel to change something: netlink requests, offload switches, sysctls.
//!
//! Owns the number, which stands in the log with each batch, so that one can see what a repair costs. Must never be decided upon.
//! Start reading at [`total`].

use std::sync::atomic::{AtomicU64, Ordering};

static WRITES: AtomicU64 = AtomicU64::new(0);

/// Counts what is about to be asked for.
pub(super) fn add(writes: usize) {
    WRITES.fetch_add(writes as u64, Ordering::Relaxed);
}

/// All so far, whether or not the kernel complied.
pub(super) fn total() -> u64 {
    WRITES.load(Ordering::Relaxed)
}
