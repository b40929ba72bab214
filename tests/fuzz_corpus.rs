//! Replays the fuzzing corpus (`fuzz/corpus`) with a stable compiler and without the fuzzer.
//!
//! Each bug that fuzzing found also has a regular test that is named after it. Requests to the embedded store are replayed in
//! `crates/etcd-embedded/src/offline.rs`, which is not part of a normal build. See [`replay`]. The file `fuzz/README.md` explains
//! how the corpus is created.

use std::{fs, path::PathBuf};

#[path = "fuzz/bodies/documents.rs"]
mod documents;
#[path = "fuzz/bodies/keys.rs"]
mod keys;
#[path = "fuzz/bodies/values.rs"]
mod values;

/// Runs every file of a corpus. Prints the name of each file to standard error first, so that a crash shows its input.
fn replay(target: &str, run: fn(&[u8])) {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/fuzz/corpus").join(target);
    let files = fs::read_dir(&folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    let mut files: Vec<PathBuf> = files.map(|file| file.expect("a directory entry").path()).collect();
    files.sort();
    assert!(files.len() > 10, "{} is nearly empty", folder.display());
    for file in files {
        eprintln!("{}", file.display());
        run(&fs::read(&file).unwrap_or_else(|error| panic!("{}: {error}", file.display())));
    }
}

#[test]
fn any_value_is_rejected_or_survives_decoding_and_encoding() {
    replay("values", values::run);
}

#[test]
fn any_key_is_rejected_or_survives_parsing_and_writing() {
    replay("keys", keys::run);
}

#[test]
fn any_document_is_rejected_or_survives_reading_and_planning() {
    replay("documents", documents::run);
}
