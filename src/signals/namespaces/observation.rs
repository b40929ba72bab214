//! Resolves a namespace reference without entering the namespace.
//!
//! Reads `/proc` and namespace files. Keeps no file descriptor open, and therefore keeps no namespace alive. An observation can
//! be outdated as soon as it is made.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use rustix::{
    fs::{Mode, OFlags},
    io::Errno,
};

use crate::signals::process;

/// `NSFS_MAGIC` of linux/magic.h: the file system type of namespace files.
const NSFS_MAGIC: i64 = 0x6e73_6673;

/// A namespace reference to watch.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Target {
    /// A name in the directory of named namespaces (`ip netns`).
    Named(String),
    /// The network namespace of a process, by PID in the agent's PID namespace.
    Process(i32),
    /// A namespace file. `/proc/<pid>/ns/net` is watched like [`Target::Process`].
    File(PathBuf),
}

impl Target {
    /// Converts the path `/proc/<pid>/ns/net` to a process target. Returns all other targets unchanged.
    pub(crate) fn normalized(self) -> Self {
        match &self {
            Self::File(path) => process_of(path).map_or(self, Self::Process),
            Self::Named(_) | Self::Process(_) => self,
        }
    }
}

/// Returns the PID if the path is `/proc/<pid>/ns/net`, and `None` for any other path.
fn process_of(path: &Path) -> Option<i32> {
    let pid: i32 = path.to_str()?.strip_prefix("/proc/")?.strip_suffix("/ns/net")?.parse().ok()?;
    (pid > 0).then_some(pid)
}

/// Result of resolving a reference.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Observation {
    /// The target does not exist.
    Absent,
    /// The target exists, but is not (or not yet) a namespace. It is a file on which nothing is mounted, or a dangling symlink.
    Obstructed,
    /// The target is a namespace.
    Present {
        /// Inode number of the namespace's nsfs file.
        inode: u64,
        /// Start time of the process, in clock ticks since boot. `None` if it is unknown or the target is not a process.
        start_time: Option<u64>,
    },
    /// The target cannot be read. Contains the errno. The engine reports the same error when it fails to open the target.
    Unreadable(i32),
}

impl Observation {
    /// Returns whether two observations differ. An unknown start time is considered equal to any other.
    pub(crate) fn differs_from(self, other: Self) -> bool {
        match (self, other) {
            (
                Self::Present { inode, start_time },
                Self::Present {
                    inode: other_inode,
                    start_time: other_start_time,
                },
            ) => inode != other_inode || start_time.zip(other_start_time).is_some_and(|(one, other)| one != other),
            (one, other) => one != other,
        }
    }

    fn of_error(error: &io::Error) -> Self {
        match error.raw_os_error().map(Errno::from_raw_os_error) {
            // `/proc` returns ESRCH if a process ends while its file is read.
            Some(Errno::NOENT | Errno::NOTDIR | Errno::SRCH | Errno::LOOP | Errno::NAMETOOLONG | Errno::INVAL) | None => Self::Absent,
            Some(errno) => Self::Unreadable(errno.raw_os_error()),
        }
    }
}

/// Reads the current state of `target`. Can block if the target is a file on a file system that does not respond.
pub(crate) fn observe(target: &Target, netns_dir: &Path) -> Observation {
    match target {
        Target::Named(name) if is_file_name(name) => observe_file(&netns_dir.join(name)),
        Target::Named(_) => Observation::Absent,
        Target::Process(pid) => observe_process(*pid),
        Target::File(path) => observe_file(path),
    }
}

/// Returns whether a name is a plain file name, which cannot refer to anything outside of its directory.
fn is_file_name(name: &str) -> bool {
    !matches!(name, "" | "." | "..") && !name.contains(['/', '\0'])
}

fn observe_process(pid: i32) -> Observation {
    match process::netns_inode(pid) {
        Ok(inode) => Observation::Present {
            inode,
            start_time: process::start_time(pid).ok(),
        },
        Err(error) => Observation::of_error(&error),
    }
}

/// Resolves a namespace file. Uses O_PATH, which does not open devices or FIFOs and needs no permission on the file itself.
pub(super) fn observe_file(path: &Path) -> Observation {
    let check = || -> rustix::io::Result<Option<u64>> {
        let file = rustix::fs::open(path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty())?;
        let is_namespace = rustix::fs::fstatfs(&file)?.f_type == NSFS_MAGIC;
        if is_namespace {
            Ok(Some(rustix::fs::fstat(&file)?.st_ino))
        } else {
            Ok(None)
        }
    };
    match check() {
        Ok(Some(inode)) => Observation::Present { inode, start_time: None },
        Ok(None) => Observation::Obstructed,
        Err(errno) => match Observation::of_error(&errno.into()) {
            Observation::Absent if path.is_symlink() => Observation::Obstructed,
            other => other,
        },
    }
}

/// Returns the inode number of the agent's own network namespace.
pub(crate) fn own_netns_inode() -> io::Result<u64> {
    use std::os::unix::fs::MetadataExt;
    fs::metadata("/proc/self/ns/net").map(|metadata| metadata.ino())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn path_of_process_namespace_is_normalized() {
        let normalized = |path: &str| Target::File(PathBuf::from(path)).normalized();
        assert_eq!(normalized("/proc/42/ns/net"), Target::Process(42));
        for other in [
            "/proc/self/ns/net",
            "/proc/0/ns/net",
            "/proc/-1/ns/net",
            "/proc/42/task/42/ns/net",
            "/proc/42/ns/mnt",
            "/run/netns/42",
        ] {
            assert_eq!(normalized(other), Target::File(PathBuf::from(other)));
        }
    }

    #[test]
    fn file_is_present_only_if_it_is_a_namespace() -> Result<(), Box<dyn std::error::Error>> {
        let directory = tempfile::tempdir()?;
        let file = directory.path().join("stale");
        let check = |target: &Target| observe(target, directory.path());
        assert_eq!(check(&Target::File(file.clone())), Observation::Absent);
        fs::write(&file, "")?;
        assert_eq!(check(&Target::File(file.clone())), Observation::Obstructed);
        assert_eq!(check(&Target::Named("stale".to_owned())), Observation::Obstructed);
        std::os::unix::fs::symlink("nowhere", directory.path().join("dangling"))?;
        assert_eq!(check(&Target::Named("dangling".to_owned())), Observation::Obstructed);
        assert_eq!(check(&Target::File(file.join("below"))), Observation::Absent);
        let own = Observation::Present {
            inode: own_netns_inode()?,
            start_time: None,
        };
        assert_eq!(check(&Target::File(PathBuf::from("/proc/self/ns/net"))), own);
        std::os::unix::fs::symlink("/proc/self/ns/net", directory.path().join("link"))?;
        assert_eq!(check(&Target::Named("link".to_owned())), own);
        Ok(())
    }

    #[test]
    fn name_cannot_leave_its_directory() {
        for name in ["", ".", "..", "../self/ns/net", "a/b", "a\0b"] {
            assert_eq!(
                observe(&Target::Named(name.to_owned()), Path::new("/proc/self/ns")),
                Observation::Absent,
                "{name:?}"
            );
        }
        assert_ne!(
            observe(&Target::Named("net".to_owned()), Path::new("/proc/self/ns")),
            Observation::Absent
        );
    }

    #[test]
    fn process_with_another_start_time_is_another_process() {
        let process = |start_time| Observation::Present { inode: 7, start_time };
        assert!(process(Some(1)).differs_from(process(Some(2))));
        assert!(!process(Some(1)).differs_from(process(None)));
        assert!(!process(Some(1)).differs_from(process(Some(1))));
        assert!(process(Some(1)).differs_from(Observation::Absent));
        assert!(
            Observation::Present {
                inode: 8,
                start_time: None
            }
            .differs_from(process(Some(1)))
        );
    }
}
