//! Counts the bytes that are allocated.
//!
//! Owns the global allocator of the benchmark. Must never change what is allocated. Start reading at [`live_bytes`].
#![allow(unsafe_code)]

use std::{
    alloc::{GlobalAlloc, Layout, System},
    sync::atomic::{AtomicUsize, Ordering},
};

struct Counting;

#[global_allocator]
static ALLOCATOR: Counting = Counting;
static LIVE: AtomicUsize = AtomicUsize::new(0);

/// What a block of this size takes in the heap of the C library: a header of 8 bytes, in steps of 16, at least 32.
fn taken(size: usize) -> usize {
    (size + 8).next_multiple_of(16).max(32)
}

/// Bytes allocated and not freed, with what the heap adds to each block.
pub fn live_bytes() -> usize {
    LIVE.load(Ordering::Relaxed)
}

// A plain load and store instead of an atomic addition: the benchmark has one thread, and the count must cost it nothing.
fn count(change: impl Fn(usize) -> usize) {
    LIVE.store(change(LIVE.load(Ordering::Relaxed)), Ordering::Relaxed);
}

// SAFETY: every call goes to the system's allocator as it came; the counter does not touch the memory.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(|live| live.wrapping_add(taken(layout.size())));
        // SAFETY: the caller's promises are passed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        count(|live| live.wrapping_sub(taken(layout.size())));
        // SAFETY: as above; what is freed here was allocated by the system's allocator.
        unsafe { System.dealloc(pointer, layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        count(|live| live.wrapping_sub(taken(layout.size())).wrapping_add(taken(size)));
        // SAFETY: as above.
        unsafe { System.realloc(pointer, layout, size) }
    }
}
