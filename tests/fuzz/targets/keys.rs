//! Fuzz target for keys; see `bodies/keys.rs`.
#![no_main]

#[path = "../bodies/keys.rs"]
mod keys;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| keys::run(bytes));
