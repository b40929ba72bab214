//! Processes as a way to find a namespace.
//!
//! Owns the identity of a process: a PID is only a number that the kernel hands out again, so it counts together with the
//! start time. Must never signal, trace or wait for a process. Start reading at [`open_namespace`].

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

/// A thread group, or one thread of it, that leads to a namespace.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct ProcessPath {
    /// Process.
    pub pid: i32,
    /// Thread, when the path names one.
    pub tid: Option<i32>,
}

impl ProcessPath {
    /// Recognises `/proc/<pid>/ns/net` and `/proc/<pid>/task/<tid>/ns/net` (proc_pid_ns(5)).
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

/// A process for good: its number and start time may come back, the descriptor tells when that happened.
pub(super) struct Identity {
    /// In clock ticks after boot, that is to 10 ms.
    start_time: u64,
    pidfd: OwnedFd,
}

/// The process that a reference means.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Meant {
    /// In clock ticks after boot.
    start_time: u64,
    /// It is known to have ended: whatever has its number now is another one.
    ended: bool,
}

/// Which process a reference was bound to. A binding lasts until the user gives the reference up.
#[derive(Default)]
pub(super) struct Bindings {
    held: HashMap<NamespaceRef, Identity>,
    /// Those of an earlier run of the agent, too.
    record: BindingRecord,
}

impl Bindings {
    /// The bindings that the record knows.
    pub fn recorded(record: BindingRecord) -> Self {
        Self {
            held: HashMap::new(),
            record,
        }
    }

    /// The process that the reference means; `None` if any.
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

    /// From now on the reference means this process only. A container tells its process by itself.
    pub fn bind(&mut self, reference: &NamespaceRef, process: Identity) {
        if !matches!(reference, NamespaceRef::Container { .. }) {
            let bound = self.held.entry(reference.clone()).or_insert(process);
            self.record.note(reference, bound.start_time);
        }
    }

    /// The next open may bind the reference to another process.
    pub fn forget(&mut self, reference: &NamespaceRef) {
        self.held.remove(reference);
        self.record.forget(reference);
    }
}

/// An opened namespace file and the process it was found by.
pub(super) struct Found {
    /// The nsfs file.
    pub file: File,
    /// Whose namespace it is.
    pub process: Identity,
}

/// Opens the network namespace of a process. `meant` is the process that it must be, where known;
/// `remedy` says what to do when the number is another one's by now. The file is certain to belong to the process: a pidfd taken
/// first shows afterwards that it was alive all the time.
pub(super) fn open_namespace(path: ProcessPath, meant: Option<Meant>, remedy: &str) -> Result<Found, Failure> {
    let ended = || {
        failure::unavailable(format!(
            "{path} does not exist or has ended: it is tried again when such a process starts"
        ))
    };
    let pid = Pid::from_raw(path.pid).ok_or_else(|| failure::other(format!("{} is not a process number", path.pid)))?;
    let pidfd = match pidfd_open(pid, PidfdFlags::empty()) {
        Ok(pidfd) => pidfd,
        Err(rustix::io::Errno::SRCH) => return Err(ended()),
        Err(errno) => {
            return Err(failure::system(
                &format!("open a pidfd of PID {}", path.pid),
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
    // A thread has no pidfd on older kernels: its start time, read again, stands in.
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
        "{path} ended and now belongs to another process (`{}`); {remedy}",
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

/// A process that ends while its files are opened shows as ENOENT or ESRCH.
fn is_gone(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::NotFound || error.raw_os_error() == Some(nix::libc::ESRCH)
}

fn has_exited(pidfd: &impl AsFd) -> bool {
    let mut descriptors = [PollFd::new(pidfd.as_fd(), PollFlags::POLLIN)];
    // An error means that nothing is known: then the process does not count as alive.
    poll(&mut descriptors, PollTimeout::ZERO).map_or(true, |ready| ready > 0)
}

/// The distinct network namespaces of all processes in the agent's PID namespace, each with one process that is in it.
///
/// # Errors
/// Only when `/proc` itself cannot be read; processes that end meanwhile are left out.
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
    fn only_the_two_proc_forms_lead_to_a_process() {
        let recognise = |path: &str| ProcessPath::recognise(Path::new(path));
        assert_eq!(recognise("/proc/12/ns/net"), Some(ProcessPath { pid: 12, tid: None }));
        assert_eq!(recognise("/proc//12/task/13/ns/net"), Some(ProcessPath { pid: 12, tid: Some(13) }));
        assert_eq!(recognise("/proc/self/ns/net"), None);
        assert_eq!(recognise("/proc/-1/ns/net"), None);
        assert_eq!(recognise("/run/netns/12"), None);
        assert_eq!(recognise("/proc/12/ns/mnt"), None);
    }

    #[test]
    fn a_binding_lasts_until_it_is_forgotten() {
        let this = || {
            let pidfd = pidfd_open(rustix::process::getpid(), PidfdFlags::empty()).expect("this process is there");
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
