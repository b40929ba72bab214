//! Tests the command-line client with a real agent, and checks the exact output of each command.
//!
//! The expected output is in the transcripts (`*.trycmd`). Each test runs in its own namespaces with the embedded store. See
//! [`transcripts`].
//!
//! After an intended change, run `TRYCMD=overwrite cargo test --test cli` to write the transcripts again. Then restore the
//! wildcards for times, and review the difference.

#[path = "../support/mod.rs"]
mod support;

mod machine;
mod transcripts;
