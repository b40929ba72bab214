//! Counts the bytes that are allocated, from the same heap as the agent's.
//!
//! Owns the global allocator of the benchmark. Must never change what is allocated. Start reading at [`live_bytes`].
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

/// What a block of this size takes in the heap of mimalloc, which has blocks of multiples of 16 bytes, and from 128 bytes on of four
/// sizes between each power of two and the next.
fn taken(size: usize) -> usize {
    size.next_multiple_of((size.next_power_of_two() / 8).max(16))
}

/// Bytes allocated and not freed, with what the heap adds to each block.
pub fn live_bytes() -> usize {
    LIVE.load(Ordering::Relaxed)
}

// A plain load and store instead of an atomic addition: the benchmark has one thread, and the count must cost it nothing.
fn count(change: impl Fn(usize) -> usize) {
    LIVE.store(change(LIVE.load(Ordering::Relaxed)), Ordering::Relaxed);
}

// SAFETY: every call goes to the agent's allocator as it came; the counter does not touch the memory.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(|live| live.wrapping_add(taken(layout.size())));
        // SAFETY: the caller's promises are passed on.
        unsafe { MiMalloc.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        count(|live| live.wrapping_sub(taken(layout.size())));
        // SAFETY: as above; what is freed here was allocated by the agent's allocator.
        unsafe { MiMalloc.dealloc(pointer, layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        count(|live| live.wrapping_sub(taken(layout.size())).wrapping_add(taken(size)));
        // SAFETY: as above.
        unsafe { MiMalloc.realloc(pointer, layout, size) }
    }
}
