//! Global allocator of the benchmark. It forwards to the agent's allocator (mimalloc) and counts the allocated bytes (see
//! [`live_bytes`]).
#![allow(unsafe_code)]

use std::{
    alloc::{GlobalAlloc, Layout},
    sync::atomic::{AtomicUsize, Ordering},
};

use mimalloc::MiMalloc;

struct Counting;

#[global_allocator]
static ALLOCATOR: Counting = Counting;
static LIVE: AtomicUsize = AtomicUsize::new(0);

/// Returns the size of the block that mimalloc uses for an allocation. Block sizes are multiples of 16 bytes. Above 128 bytes,
/// there are only four block sizes between two powers of two.
fn taken(size: usize) -> usize {
    size.next_multiple_of((size.next_power_of_two() / 8).max(16))
}

/// Returns the number of bytes allocated and not yet freed, including the padding of each block.
pub fn live_bytes() -> usize {
    LIVE.load(Ordering::Relaxed)
}

// Uses a plain load and store instead of an atomic addition, because the benchmark has only one thread and counting must not slow
// it down.
fn count(change: impl Fn(usize) -> usize) {
    LIVE.store(change(LIVE.load(Ordering::Relaxed)), Ordering::Relaxed);
}

// SAFETY: every call is forwarded unchanged to the agent's allocator; the counter does not touch the memory.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(|live| live.wrapping_add(taken(layout.size())));
        // SAFETY: the caller upholds the contract of `GlobalAlloc::alloc`.
        unsafe { MiMalloc.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        count(|live| live.wrapping_sub(taken(layout.size())));
        // SAFETY: the caller upholds the contract of `GlobalAlloc::dealloc`, and `MiMalloc` allocated the memory.
        unsafe { MiMalloc.dealloc(pointer, layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        count(|live| live.wrapping_sub(taken(layout.size())).wrapping_add(taken(size)));
        // SAFETY: the caller upholds the contract of `GlobalAlloc::realloc`, and `MiMalloc` allocated the memory.
        unsafe { MiMalloc.realloc(pointer, layout, size) }
    }
}
