//! Pinned processes: a pidfd, so that a PID that is used again is never mistaken for the process that was meant.
//!
//! Owns opening the pidfd (pidfd_open(2)), waiting for the end of the process and reading what tells two processes with one
//! PID apart. Must never signal a process or enter its namespaces. Start reading at [`PinnedProcess::open`].

use std::{
    fs, io,
    os::{
        fd::{AsFd, OwnedFd},
        unix::fs::MetadataExt,
    },
};

use netns_kernel::ProcessStat;
use nix::poll::{PollFd, PollFlags, PollTimeout};
use rustix::process::{Pid, PidfdFlags, pidfd_open};
use tokio::io::{Interest, unix::AsyncFd};

/// Why a process could not be pinned.
#[derive(Debug, thiserror::Error)]
pub enum PinError {
    /// There is no such process (any more), or it has ended and is only waiting to be reaped.
    #[error(
        "process {pid} does not exist in the agent's PID namespace; it has ended, or the agent does not run in the host's PID namespace"
    )]
    Ended {
        /// The PID asked for.
        pid: i32,
    },
    /// The kernel refused for another reason.
    #[error("cannot {action} process {pid}: {source}; pidfds need Linux 5.3 and a free file descriptor (see `ulimit -n`)")]
    Kernel {
        /// What was tried.
        action: &'static str,
        /// The PID asked for.
        pid: i32,
        /// The kernel's own words.
        source: io::Error,
    },
}

/// A process that is held by a pidfd. Must be created inside a Tokio runtime.
#[derive(Debug)]
pub struct PinnedProcess {
    pidfd: AsyncFd<OwnedFd>,
    pid: i32,
    start_time: u64,
}

impl PinnedProcess {
    /// Pins the process that has `pid` now, and reads its start time.
    ///
    /// # Errors
    ///
    /// [`PinError::Ended`] when there is no live process with this PID, [`PinError::Kernel`] for everything else.
    pub fn open(pid: i32) -> Result<Self, PinError> {
        let kernel = |action, source| PinError::Kernel { action, pid, source };
        // `Pid::from_raw` asserts that its argument is not negative, so that is looked at first.
        let wanted = (pid > 0).then(|| Pid::from_raw(pid)).flatten().ok_or(PinError::Ended { pid })?;
        let pidfd = match pidfd_open(wanted, PidfdFlags::empty()) {
            Ok(pidfd) => pidfd,
            Err(rustix::io::Errno::SRCH) => return Err(PinError::Ended { pid }),
            Err(errno) => return Err(kernel("open a pidfd of", errno.into())),
        };
        let start_time = start_time(pid);
        // The pinned process being alive *after* the read proves that the file was its own and not a successor's.
        if has_ended(&pidfd) {
            return Err(PinError::Ended { pid });
        }
        let start_time = start_time.map_err(|source| kernel("read the start time of", source))?;
        // Tokio deprecates the safe constructor because a type could close or swap the descriptor that it hands out; an `OwnedFd`
        // that nobody can reach mutably cannot, and the replacement is `unsafe`, which this module may not use.
        #[expect(
            deprecated,
            reason = "sound for an OwnedFd that is never handed out mutably; the replacement needs unsafe"
        )]
        let pidfd = AsyncFd::with_interest(pidfd, Interest::READABLE).map_err(|source| kernel("watch", source))?;
        Ok(Self { pidfd, pid, start_time })
    }

    /// The PID, in the agent's PID namespace.
    pub fn pid(&self) -> i32 {
        self.pid
    }

    /// When the process was started, in clock ticks after boot (field 22 of `/proc/PID/stat`, proc(5)).
    pub fn start_time(&self) -> u64 {
        self.start_time
    }

    /// Whether the process has ended (it may still be waiting to be reaped).
    pub fn has_ended(&self) -> bool {
        has_ended(self.pidfd.get_ref())
    }

    /// Waits until the process has ended.
    pub async fn ended(&self) {
        // Readiness alone may be spurious (tokio documents it), so the pidfd itself is asked.
        while !self.has_ended() {
            match self.pidfd.readable().await {
                Ok(mut ready) if !self.has_ended() => ready.clear_ready(),
                // An error means that the runtime is shutting down: nobody is left to be told.
                Ok(_) | Err(_) => return,
            }
        }
    }
}

/// A pidfd becomes readable when its process ends (pidfd_open(2)), and stays so.
fn has_ended(pidfd: &OwnedFd) -> bool {
    let mut fds = [PollFd::new(pidfd.as_fd(), PollFlags::POLLIN)];
    matches!(nix::poll::poll(&mut fds, PollTimeout::ZERO), Ok(ready) if ready > 0)
}

/// Start time of a process, in clock ticks after boot (field 22 of `/proc/PID/stat`, proc(5)).
///
/// # Errors
///
/// The kernel's error when the file cannot be read (`NotFound`: no such process), `InvalidData` when it cannot be understood.
pub fn start_time(pid: i32) -> io::Result<u64> {
    ProcessStat::of(pid).map(|stat| stat.start_time)
}

/// Inode number of the network namespace of a process (`stat /proc/PID/ns/net`).
///
/// # Errors
///
/// The kernel's error: `NotFound` when the process has ended, `PermissionDenied` without the right to trace it.
pub fn netns_inode(pid: i32) -> io::Result<u64> {
    fs::metadata(format!("/proc/{pid}/ns/net")).map(|metadata| metadata.ino())
}

#[cfg(test)]
mod tests {
    use std::{process::Command, time::Duration};

    use super::*;

    #[tokio::test]
    async fn the_end_of_a_pinned_process_is_noticed_before_it_is_reaped() -> Result<(), Box<dyn std::error::Error>> {
        let mut child = Command::new("sleep").arg("60").spawn()?;
        let pid = i32::try_from(child.id())?;
        let pinned = PinnedProcess::open(pid)?;
        assert!(!pinned.has_ended());
        assert_eq!(pinned.start_time(), start_time(pid)?);
        child.kill()?;
        let noticed = tokio::time::timeout(Duration::from_secs(5), pinned.ended()).await;
        assert!(
            matches!(PinnedProcess::open(pid), Err(PinError::Ended { .. })),
            "a process that waits to be reaped has ended"
        );
        child.wait()?;
        noticed?;
        assert!(matches!(PinnedProcess::open(pid), Err(PinError::Ended { .. })));
        Ok(())
    }

    #[tokio::test]
    async fn pids_that_cannot_exist_are_refused_without_asking_the_kernel() {
        for pid in [0, -1, i32::MIN] {
            assert!(matches!(PinnedProcess::open(pid), Err(PinError::Ended { .. })));
        }
    }
}
