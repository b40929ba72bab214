//! Requests to the embedded store; see `src/embedded/offline.rs`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| netns_agent::embedded::offline::run(bytes));
