//! Fuzz target for values; see `bodies/values.rs`.
#![no_main]

#[path = "../bodies/values.rs"]
mod values;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| values::run(bytes));
