//! What a namespace reference leads to at this moment, as far as it can be seen without entering anything.
//!
//! Owns the look at `/proc` and at namespace files. Must never keep a namespace or a process alive: every look ends with all
//! descriptors closed, and it may be outdated at once. Start reading at [`observe`].

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use rustix::{
    fs::{Mode, OFlags},
    io::Errno,
};

use crate::signals::process;

/// `NSFS_MAGIC` of linux/magic.h: the type of the file system in which namespace files are.
const NSFS_MAGIC: i64 = 0x6e73_6673;

/// A reference to a namespace that is to be watched.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Target {
    /// A name in the directory of named namespaces (`ip netns`).
    Named(String),
    /// The network namespace of a process, by PID in the agent's PID namespace.
    Process(i32),
    /// A namespace file. `/proc/<pid>/ns/net` is watched as [`Target::Process`] is.
    File(PathBuf),
}

impl Target {
    /// The same target, with the path of a process's namespace replaced by the process.
    pub(crate) fn normalized(self) -> Self {
        match &self {
            Self::File(path) => process_of(path).map_or(self, Self::Process),
            Self::Named(_) | Self::Process(_) => self,
        }
    }
}

/// `/proc/<pid>/ns/net` and nothing else.
fn process_of(path: &Path) -> Option<i32> {
    let pid: i32 = path.to_str()?.strip_prefix("/proc/")?.strip_suffix("/ns/net")?.parse().ok()?;
    (pid > 0).then_some(pid)
}

/// What a reference leads to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Observation {
    /// Nothing.
    Absent,
    /// Something that is not a namespace (yet): a file without a mount, or a symbolic link to nothing.
    Obstructed,
    /// A namespace.
    Present {
        /// Inode number of its nsfs file.
        inode: u64,
        /// For a process: when it was started (clock ticks after boot), if known.
        start_time: Option<u64>,
    },
    /// Something that cannot be looked at, and the error number; whoever opens it will get the same error and can report it.
    Unreadable(i32),
}

impl Observation {
    /// Whether the other one may be something else. A start time that is not known says nothing.
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
            // ESRCH is what /proc says when a process ends while it is read.
            Some(Errno::NOENT | Errno::NOTDIR | Errno::SRCH | Errno::LOOP | Errno::NAMETOOLONG | Errno::INVAL) | None => Self::Absent,
            Some(errno) => Self::Unreadable(errno.raw_os_error()),
        }
    }
}

/// Looks at what `target` leads to now. A look at a file may hang, if its file system does.
pub(crate) fn observe(target: &Target, netns_dir: &Path) -> Observation {
    match target {
        Target::Named(name) if is_file_name(name) => observe_file(&netns_dir.join(name)),
        Target::Named(_) => Observation::Absent,
        Target::Process(pid) => observe_process(*pid),
        Target::File(path) => observe_file(path),
    }
}

/// Whether a name stays inside the directory it is looked up in.
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

/// O_PATH opens nothing but the name: no device, no FIFO and no permission of the file itself is needed.
pub(super) fn observe_file(path: &Path) -> Observation {
    let look = || -> rustix::io::Result<Option<u64>> {
        let file = rustix::fs::open(path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty())?;
        let is_namespace = rustix::fs::fstatfs(&file)?.f_type == NSFS_MAGIC;
        if is_namespace {
            Ok(Some(rustix::fs::fstat(&file)?.st_ino))
        } else {
            Ok(None)
        }
    };
    match look() {
        Ok(Some(inode)) => Observation::Present { inode, start_time: None },
        Ok(None) => Observation::Obstructed,
        Err(errno) => match Observation::of_error(&errno.into()) {
            Observation::Absent if path.is_symlink() => Observation::Obstructed,
            other => other,
        },
    }
}

/// Inode number of the agent's own network namespace.
pub(crate) fn own_netns_inode() -> io::Result<u64> {
    use std::os::unix::fs::MetadataExt;
    fs::metadata("/proc/self/ns/net").map(|metadata| metadata.ino())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_path_of_a_processs_namespace_is_the_process() {
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
    fn a_file_is_present_only_when_it_is_a_namespace() -> Result<(), Box<dyn std::error::Error>> {
        let directory = tempfile::tempdir()?;
        let file = directory.path().join("stale");
        let look = |target: &Target| observe(target, directory.path());
        assert_eq!(look(&Target::File(file.clone())), Observation::Absent);
        fs::write(&file, "")?;
        assert_eq!(look(&Target::File(file.clone())), Observation::Obstructed);
        assert_eq!(look(&Target::Named("stale".to_owned())), Observation::Obstructed);
        std::os::unix::fs::symlink("nowhere", directory.path().join("dangling"))?;
        assert_eq!(look(&Target::Named("dangling".to_owned())), Observation::Obstructed);
        assert_eq!(look(&Target::File(file.join("below"))), Observation::Absent);
        let own = Observation::Present {
            inode: own_netns_inode()?,
            start_time: None,
        };
        assert_eq!(look(&Target::File(PathBuf::from("/proc/self/ns/net"))), own);
        std::os::unix::fs::symlink("/proc/self/ns/net", directory.path().join("link"))?;
        assert_eq!(look(&Target::Named("link".to_owned())), own);
        Ok(())
    }

    #[test]
    fn a_name_cannot_lead_out_of_its_directory() {
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
    fn a_process_with_another_start_time_is_another_one_unless_the_time_is_not_known() {
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
