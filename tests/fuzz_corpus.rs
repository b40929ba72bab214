//! What fuzzing has found worth keeping, once more: on a stable compiler, without the fuzzer.
//!
//! Owns the replay of `fuzz/corpus`. Must never be the only place where a bug is held fast: that has a test named after what it is about.
//! The requests to the embedded store are replayed in `crates/etcd-embedded/src/offline.rs`, which is not part of a normal build. Start reading at
//! [`replay`]; `fuzz/README.md` tells how the corpus is made.

use std::{fs, path::PathBuf};

#[path = "fuzz/bodies/documents.rs"]
mod documents;
#[path = "fuzz/bodies/keys.rs"]
mod keys;
#[path = "fuzz/bodies/values.rs"]
mod values;

/// Runs every file of a corpus; the name of the one at fault is on standard error before the panic.
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
fn any_value_is_decoded_and_written_back_or_refused() {
    replay("values", values::run);
}

#[test]
fn any_key_is_read_and_written_back_or_refused() {
    replay("keys", keys::run);
}

#[test]
fn any_document_is_read_written_back_and_planned_or_refused() {
    replay("documents", documents::run);
}
