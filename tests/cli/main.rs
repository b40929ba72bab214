//! The command line client against a real agent: what each command prints, exactly.
//!
//! Owns the scenarios and the transcripts (`*.trycmd`). Each runs in namespaces of its own, with the embedded store. Must never look into the
//! agent. Start reading at [`transcripts`].
//!
//! After a wanted change, `TRYCMD=overwrite cargo test --test cli` writes the transcripts anew; put the wildcards for times back and read the
//! difference.

#[path = "../support/mod.rs"]
mod support;

mod machine;
mod transcripts;
