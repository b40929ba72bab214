//! A file that records which process each namespace reference is bound to.
//!
//! The agent uses this record to detect a PID that was reused while the agent was down. The record is optional. Without the
//! record, a restarted agent binds each reference to the process that the reference leads to after the restart.

use std::{
    collections::BTreeMap,
    ffi::OsStr,
    fs, io,
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};
use tracing::warn;

use super::operation::NamespaceRef;
use data_dir::DataDir;

/// Returns the identity of the running kernel from `/proc/sys/kernel/random/boot_id` (random(4)), or an empty string if it is not
/// available.
///
/// Process start times are relative to the boot, so they are meaningless after a reboot.
pub fn boot_id() -> String {
    let read = fs::read_to_string("/proc/sys/kernel/random/boot_id");
    read.unwrap_or_default().trim().to_owned()
}

#[derive(Serialize, Deserialize, Default)]
struct Contents {
    boot_id: String,
    /// Start time of the process to which each reference is bound, in clock ticks after boot.
    bindings: BTreeMap<String, u64>,
}

/// Record of the process to which each namespace reference is bound. Saved to a file if `path` is set.
#[derive(Default)]
pub(super) struct BindingRecord {
    path: Option<PathBuf>,
    contents: Contents,
}

impl BindingRecord {
    /// Reads the record. It is empty if the file does not exist, is from an earlier boot, or cannot be read.
    ///
    /// Without a path, bindings are kept only in memory.
    pub fn open(path: Option<PathBuf>) -> Self {
        let boot_id = boot_id();
        let found = path.as_deref().and_then(|path| match read(path) {
            Ok(contents) => contents,
            Err(error) => {
                warn!(
                    "cannot read {}: {error}; binding each PID to the process that has it now",
                    path.display()
                );
                None
            }
        });
        let contents = found.filter(|found| found.boot_id == boot_id).unwrap_or(Contents {
            boot_id,
            bindings: BTreeMap::new(),
        });
        Self { path, contents }
    }

    /// Returns the start time of the process to which the reference is bound; `None` if it is not bound.
    pub fn start_time(&self, reference: &NamespaceRef) -> Option<u64> {
        self.contents.bindings.get(&reference.recorded_name()).copied()
    }

    /// Records a binding. Must be called before any change is made in the process's namespace.
    pub fn note(&mut self, reference: &NamespaceRef, start_time: u64) {
        if self.contents.bindings.insert(reference.recorded_name(), start_time) != Some(start_time) {
            self.write();
        }
    }

    /// Deletes the binding of a reference.
    pub fn forget(&mut self, reference: &NamespaceRef) {
        if self.contents.bindings.remove(&reference.recorded_name()).is_some() {
            self.write();
        }
    }

    fn write(&self) {
        let Some(path) = &self.path else { return };
        if let Err(error) = replace(path, &self.contents) {
            warn!(
                "cannot write {}: {error}; after a restart, the agent might not detect that a PID was reused",
                path.display()
            );
        }
    }
}

fn read(path: &Path) -> io::Result<Option<Contents>> {
    let (data, name) = locate(path)?;
    Ok(data.read(name)?.map(|text| serde_json::from_slice(&text)).transpose()?)
}

/// Replaces the contents of the file atomically.
fn replace(path: &Path, contents: &Contents) -> io::Result<()> {
    let (data, name) = locate(path)?;
    Ok(data.replace(name, &serde_json::to_vec(contents)?)?)
}

fn locate(path: &Path) -> io::Result<(DataDir, &str)> {
    match (path.parent(), path.file_name().and_then(OsStr::to_str)) {
        (Some(directory), Some(name)) => Ok((DataDir::open(directory)?, name)),
        _ => Err(io::ErrorKind::InvalidFilename.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn binding_survives_a_restart_until_forgotten() {
        let directory = tempfile::tempdir().expect("temporary directory");
        let path = directory.path().join("below/bindings.json");
        let (pid, file) = (NamespaceRef::Process(7), NamespaceRef::File("/proc/8/ns/net".into()));
        let mut record = BindingRecord::open(Some(path.clone()));
        record.note(&pid, 100);
        record.note(&file, 200);
        let mut record = BindingRecord::open(Some(path.clone()));
        assert_eq!((record.start_time(&pid), record.start_time(&file)), (Some(100), Some(200)));
        record.forget(&pid);
        let record = BindingRecord::open(Some(path));
        assert_eq!((record.start_time(&pid), record.start_time(&file)), (None, Some(200)));
    }

    #[test]
    fn record_that_is_invalid_or_of_another_boot_is_ignored() {
        let directory = tempfile::tempdir().expect("temporary directory");
        let path = directory.path().join("bindings.json");
        for text in [r#"{"boot_id":"earlier","bindings":{"PID 7":100}}"#, "not JSON", ""] {
            fs::write(&path, text).expect("writable file");
            assert_eq!(
                BindingRecord::open(Some(path.clone())).start_time(&NamespaceRef::Process(7)),
                None,
                "{text}"
            );
        }
    }
}
