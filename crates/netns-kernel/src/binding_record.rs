//! The record of process bindings: which process a reference meant, kept over a restart of the agent.
//!
//! Owns one small file. Must never be needed: without it a reference binds to the process that it leads to at the next start, as
//! it does the first time. With it, a PID that was given to a stranger while the agent was down still means the process that is
//! gone. Start reading at [`BindingRecord::open`].

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

/// Identity of the running kernel (`/proc/sys/kernel/random/boot_id`, random(4)); empty if the system does not tell. Start times of
/// processes are counted from the boot, so those of another one mean nothing.
pub fn boot_id() -> String {
    let read = fs::read_to_string("/proc/sys/kernel/random/boot_id");
    read.unwrap_or_default().trim().to_owned()
}

#[derive(Serialize, Deserialize, Default)]
struct Contents {
    boot_id: String,
    /// Start time in clock ticks after boot, by reference.
    bindings: BTreeMap<String, u64>,
}

/// See the [module documentation](self).
#[derive(Default)]
pub(super) struct BindingRecord {
    path: Option<PathBuf>,
    contents: Contents,
}

impl BindingRecord {
    /// Reads the record, or starts an empty one: when there is none, when it is of an earlier boot, or when it cannot be read.
    /// Without a path nothing is kept.
    pub fn open(path: Option<PathBuf>) -> Self {
        let boot_id = boot_id();
        let found = path.as_deref().and_then(|path| match read(path) {
            Ok(contents) => contents,
            Err(error) => {
                warn!("{}: {error}; PIDs are bound to the processes of now", path.display());
                None
            }
        });
        let contents = found.filter(|found| found.boot_id == boot_id).unwrap_or(Contents {
            boot_id,
            bindings: BTreeMap::new(),
        });
        Self { path, contents }
    }

    /// Start time of the process that the reference means.
    pub fn start_time(&self, reference: &NamespaceRef) -> Option<u64> {
        self.contents.bindings.get(&name(reference)).copied()
    }

    /// Notes a binding, before anything is done in the namespace that it leads to.
    pub fn note(&mut self, reference: &NamespaceRef, start_time: u64) {
        if self.contents.bindings.insert(name(reference), start_time) != Some(start_time) {
            self.write();
        }
    }

    /// Forgets a binding.
    pub fn forget(&mut self, reference: &NamespaceRef) {
        if self.contents.bindings.remove(&name(reference)).is_some() {
            self.write();
        }
    }

    fn write(&self) {
        let Some(path) = &self.path else { return };
        if let Err(error) = replace(path, &self.contents) {
            warn!(
                "{}: {error}; a PID may be taken for that of another process after a restart of the agent",
                path.display()
            );
        }
    }
}

fn name(reference: &NamespaceRef) -> String {
    match reference {
        NamespaceRef::Process(pid) => format!("PID {pid}"),
        NamespaceRef::File(path) => format!("FD {}", path.display()),
        other => format!("{other:?}"),
    }
}

fn read(path: &Path) -> io::Result<Option<Contents>> {
    let (data, name) = locate(path)?;
    Ok(data.read(name)?.map(|text| serde_json::from_slice(&text)).transpose()?)
}

/// Replaces the file atomically.
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
    fn a_binding_is_known_after_a_restart_until_it_is_forgotten() {
        let directory = tempfile::tempdir().expect("a directory");
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
    fn a_record_of_another_boot_or_without_sense_is_left_aside() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("bindings.json");
        for text in [r#"{"boot_id":"earlier","bindings":{"PID 7":100}}"#, "not JSON", ""] {
            fs::write(&path, text).expect("written");
            assert_eq!(
                BindingRecord::open(Some(path.clone())).start_time(&NamespaceRef::Process(7)),
                None,
                "{text}"
            );
        }
    }
}
