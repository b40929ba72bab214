//! Finds the network namespace of a process.
//!
//! The kernel reuses PIDs, so a process is identified by both its PID and its start time. Never signals, traces or waits for a
//! process.

use std::{
    collections::{BTreeMap, HashMap},
    fs::{self, File},
    io,
    os::{
        fd::{AsFd, OwnedFd},
        unix::fs::MetadataExt,
    },
    path::Path,
};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use rustix::process::{Pid, PidfdFlags, pidfd_open};

use super::{
    binding_record::BindingRecord,
    failure,
    netlink::Refusal,
    operation::{Failure, NamespaceRef, NetnsId},
    process_stat::ProcessStat,
};

/// The process or thread in a `/proc` path that leads to a network namespace.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct ProcessPath {
    /// Process id.
    pub pid: i32,
    /// Thread id; `None` if the path contains no thread id.
    pub tid: Option<i32>,
}

impl ProcessPath {
    /// Parses `/proc/<pid>/ns/net` and `/proc/<pid>/task/<tid>/ns/net` (proc_pid_ns(5)).
    pub fn recognise(path: &Path) -> Option<Self> {
        let parts: Vec<&str> = path.to_str()?.split('/').filter(|part| !part.is_empty()).collect();
        let number = |text: &str| text.parse::<i32>().ok().filter(|number| *number > 0);
        match parts[..] {
            ["proc", pid, "ns", "net"] => Some(Self {
                pid: number(pid)?,
                tid: None,
            }),
            ["proc", pid, "task", tid, "ns", "net"] => Some(Self {
                pid: number(pid)?,
                tid: Some(number(tid)?),
            }),
            _ => None,
        }
    }

    fn directory(self) -> String {
        match self.tid {
            None => format!("/proc/{}", self.pid),
            Some(tid) => format!("/proc/{}/task/{tid}", self.pid),
        }
    }
}

impl std::fmt::Display for ProcessPath {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.tid {
            None => write!(f, "PID {}", self.pid),
            Some(tid) => write!(f, "thread {tid} of PID {}", self.pid),
        }
    }
}

/// Unique identity of a process.
///
/// A later process can have the same PID, and even the same start time. The pidfd shows whether this process has exited.
pub(super) struct Identity {
    /// Start time in clock ticks after boot; one tick is 10 ms.
    start_time: u64,
    pidfd: OwnedFd,
}

/// The process to which a reference is bound.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Meant {
    /// Start time in clock ticks after boot.
    start_time: u64,
    /// True if the process has ended. A running process with this PID is then a different process.
    ended: bool,
}

/// The process to which each reference is bound. A binding lasts until the user deletes the reference.
#[derive(Default)]
pub(super) struct Bindings {
    held: HashMap<NamespaceRef, Identity>,
    /// Recorded bindings, which include the bindings from earlier runs of the agent.
    record: BindingRecord,
}

impl Bindings {
    /// Returns the bindings that an earlier run of the agent recorded.
    pub fn recorded(record: BindingRecord) -> Self {
        Self {
            held: HashMap::new(),
            record,
        }
    }

    /// Returns the process to which the reference is bound; `None` if it is not bound.
    pub fn meant(&self, reference: &NamespaceRef) -> Option<Meant> {
        match reference {
            NamespaceRef::Container { start_time, .. } => Some(Meant {
                start_time: *start_time,
                ended: false,
            }),
            _ => match self.held.get(reference) {
                Some(bound) => Some(Meant {
                    start_time: bound.start_time,
                    ended: has_exited(&bound.pidfd),
                }),
                None => self
                    .record
                    .start_time(reference)
                    .map(|start_time| Meant { start_time, ended: false }),
            },
        }
    }

    /// Binds the reference to this process, unless it is already bound.
    ///
    /// Does nothing for a container reference, which already contains the start time of its process.
    pub fn bind(&mut self, reference: &NamespaceRef, process: Identity) {
        if !matches!(reference, NamespaceRef::Container { .. }) {
            let bound = self.held.entry(reference.clone()).or_insert(process);
            self.record.note(reference, bound.start_time);
        }
    }

    /// Records that the PID of the reference was reused. The reference then matches no process.
    pub fn exclude(&mut self, reference: &NamespaceRef) {
        // No process has this start time.
        self.record.note(reference, u64::MAX);
    }

    /// Removes the binding, so that the reference can be bound to another process when it is opened again.
    pub fn forget(&mut self, reference: &NamespaceRef) {
        self.held.remove(reference);
        self.record.forget(reference);
    }
}

/// An open namespace file and the process through which it was found.
pub(super) struct Found {
    /// Open nsfs file of the namespace.
    pub file: File,
    /// Process through which the namespace was found.
    pub process: Identity,
}

/// Opens the network namespace of a process.
///
/// `meant` is the expected process, if known. `remedy` tells the user what to do if the PID now belongs to another process. The
/// pidfd is opened before the namespace file and checked afterwards. If the process has not exited by then, the file belongs to
/// this process.
pub(super) fn open_namespace(path: ProcessPath, meant: Option<Meant>, remedy: &str) -> Result<Found, Failure> {
    let ended = || {
        failure::unavailable(format!(
            "{path} does not exist or has ended: the agent retries when a process with this PID starts"
        ))
    };
    let pid = Pid::from_raw(path.pid).ok_or_else(|| failure::other(format!("{} is not a valid PID", path.pid)))?;
    let pidfd = match pidfd_open(pid, PidfdFlags::empty()) {
        Ok(pidfd) => pidfd,
        Err(rustix::io::Errno::SRCH) => return Err(ended()),
        Err(errno) => {
            return Err(failure::system(
                &format!("open a pidfd for PID {}", path.pid),
                &Refusal::from(io::Error::from(errno)),
            ));
        }
    };
    let before = read_stat(path)?.filter(|stat| !stat.ended()).ok_or_else(ended)?;
    if meant.is_some_and(|meant| meant.ended || meant.start_time != before.start_time) {
        return Err(reused(path, &before, remedy));
    }
    let file = match File::open(format!("{}/ns/net", path.directory())) {
        Ok(file) => file,
        Err(error) if is_gone(&error) => return Err(ended()),
        Err(error) => return Err(failure::system(&format!("open the network namespace of {path}"), &error.into())),
    };
    // On older kernels, a pidfd cannot refer to a single thread. Compare the start time as well.
    let after = read_stat(path)?.filter(|stat| !stat.ended());
    if has_exited(&pidfd) || after.map(|stat| stat.start_time) != Some(before.start_time) {
        return Err(ended());
    }
    Ok(Found {
        file,
        process: Identity {
            start_time: before.start_time,
            pidfd,
        },
    })
}

fn reused(path: ProcessPath, now: &ProcessStat, remedy: &str) -> Failure {
    failure::unavailable(format!(
        "{path} was reused and now belongs to another process (`{}`); {remedy}",
        now.comm
    ))
}

fn read_stat(path: ProcessPath) -> Result<Option<ProcessStat>, Failure> {
    let file = format!("{}/stat", path.directory());
    match ProcessStat::read(Path::new(&file)) {
        Ok(stat) => Ok(Some(stat)),
        Err(error) if is_gone(&error) || error.kind() == io::ErrorKind::InvalidData => Ok(None),
        Err(error) => Err(failure::system(&format!("read {file}"), &error.into())),
    }
}

/// Returns whether the error (ENOENT or ESRCH) means that the process ended while its files were being opened.
fn is_gone(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::NotFound || error.raw_os_error() == Some(nix::libc::ESRCH)
}

fn has_exited(pidfd: &impl AsFd) -> bool {
    let mut descriptors = [PollFd::new(pidfd.as_fd(), PollFlags::POLLIN)];
    // If poll fails, treat the process as exited, because its state is unknown.
    poll(&mut descriptors, PollTimeout::ZERO).map_or(true, |ready| ready > 0)
}

/// Returns the network namespaces of all processes in the agent's PID namespace, without duplicates. Each namespace is paired
/// with the PID of one of its processes.
///
/// # Errors
/// Fails only if `/proc` itself cannot be read. Processes that end in the meantime are omitted.
pub fn process_namespaces() -> io::Result<Vec<(NetnsId, i32)>> {
    let mut found = BTreeMap::new();
    for entry in fs::read_dir("/proc")? {
        let Some(pid) = entry?.file_name().to_str().and_then(|name| name.parse::<i32>().ok()) else {
            continue;
        };
        if let Ok(metadata) = fs::metadata(format!("/proc/{pid}/ns/net")) {
            found.entry(NetnsId(metadata.ino())).or_insert(pid);
        }
    }
    Ok(found.into_iter().collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn recognises_only_proc_ns_net_paths() {
        let recognise = |path: &str| ProcessPath::recognise(Path::new(path));
        assert_eq!(recognise("/proc/12/ns/net"), Some(ProcessPath { pid: 12, tid: None }));
        assert_eq!(recognise("/proc//12/task/13/ns/net"), Some(ProcessPath { pid: 12, tid: Some(13) }));
        assert_eq!(recognise("/proc/self/ns/net"), None);
        assert_eq!(recognise("/proc/-1/ns/net"), None);
        assert_eq!(recognise("/run/netns/12"), None);
        assert_eq!(recognise("/proc/12/ns/mnt"), None);
    }

    #[test]
    fn binding_lasts_until_forgotten() {
        let this = || {
            let pidfd = pidfd_open(rustix::process::getpid(), PidfdFlags::empty()).expect("a pidfd of this process");
            Identity { start_time: 100, pidfd }
        };
        let mut bindings = Bindings::default();
        let reference = NamespaceRef::Process(12);
        bindings.bind(&reference, this());
        bindings.bind(&reference, Identity { start_time: 200, ..this() });
        assert_eq!(
            bindings.meant(&reference),
            Some(Meant {
                start_time: 100,
                ended: false
            })
        );
        bindings.forget(&reference);
        assert_eq!(bindings.meant(&reference), None);
    }
}
