//! Tests of the command line client against a real agent: the exact output of each command.
//!
//! The expected output is in the transcripts (`*.trycmd`). Each test runs in namespaces of its own, with the embedded store. See
//! [`transcripts`].
//!
//! After an intended change, run `TRYCMD=overwrite cargo test --test cli` to write the transcripts again. Then restore the
//! wildcards for times, and review the difference.

#[path = "../support/mod.rs"]
mod support;

mod machine;
mod transcripts;
