//! The wire contract in Rust: generated messages, typed keys, codec and validation.
