//! Fuzz target for requests to the embedded store; see `crates/etcd-embedded/src/offline.rs`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| etcd_embedded::offline::run(bytes));
