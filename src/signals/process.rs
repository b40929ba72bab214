//! Refers to processes by pidfd (pidfd_open(2)), so that a reused PID is never mistaken for the original process.
//!
//! This module only waits for processes to end and reads their identity. It sends no signals and enters no namespaces.

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

/// Reason why a pidfd could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum PinError {
    /// There is no such process, or it has ended and is waiting to be reaped.
    #[error(
        "process {pid} does not exist in the agent's PID namespace; it has ended, or the agent does not run in the host's PID namespace"
    )]
    Ended {
        /// The requested PID.
        pid: i32,
    },
    /// Any other kernel error.
    #[error("cannot {action} process {pid}: {source}; pidfds need Linux 5.3 and a free file descriptor (see `ulimit -n`)")]
    Kernel {
        /// Action that failed, such as `open a pidfd for`.
        action: &'static str,
        /// The requested PID.
        pid: i32,
        /// The kernel's error.
        source: io::Error,
    },
}

/// A process referred to by a pidfd. Must be created within a Tokio runtime.
#[derive(Debug)]
pub struct PinnedProcess {
    pidfd: AsyncFd<OwnedFd>,
    pid: i32,
    start_time: u64,
}

impl PinnedProcess {
    /// Opens a pidfd for the process that currently has `pid`, and reads the start time of the process.
    ///
    /// # Errors
    ///
    /// Returns [`PinError::Ended`] if there is no running process with this PID, and [`PinError::Kernel`] for any other error.
    pub fn open(pid: i32) -> Result<Self, PinError> {
        let kernel = |action, source| PinError::Kernel { action, pid, source };
        // `Pid::from_raw` panics in debug builds if its argument is negative, so negative numbers are rejected first.
        let wanted = (pid > 0).then(|| Pid::from_raw(pid)).flatten().ok_or(PinError::Ended { pid })?;
        let pidfd = match pidfd_open(wanted, PidfdFlags::empty()) {
            Ok(pidfd) => pidfd,
            Err(rustix::io::Errno::SRCH) => return Err(PinError::Ended { pid }),
            Err(errno) => return Err(kernel("open a pidfd for", errno.into())),
        };
        let start_time = start_time(pid);
        // The start time belongs to this process only if the process is still alive now. Otherwise, it may belong to a later
        // process with the same PID.
        if has_ended(&pidfd) {
            return Err(PinError::Ended { pid });
        }
        let start_time = start_time.map_err(|source| kernel("read the start time of", source))?;
        // Tokio deprecates the safe constructor because a type could close or replace the descriptor that it returns. An
        // `OwnedFd` without mutable access cannot do that. The replacement is `unsafe`, which this module may not use.
        #[expect(
            deprecated,
            reason = "sound because the OwnedFd is never exposed mutably; the replacement constructor is `unsafe`"
        )]
        let pidfd = AsyncFd::with_interest(pidfd, Interest::READABLE).map_err(|source| kernel("watch", source))?;
        Ok(Self { pidfd, pid, start_time })
    }

    /// Returns the PID, in the agent's PID namespace.
    pub fn pid(&self) -> i32 {
        self.pid
    }

    /// Returns the start time of the process, in clock ticks since boot (field 22 of `/proc/PID/stat`, proc(5)).
    pub fn start_time(&self) -> u64 {
        self.start_time
    }

    /// Returns whether the process has ended. An ended process may still be waiting to be reaped.
    pub fn has_ended(&self) -> bool {
        has_ended(self.pidfd.get_ref())
    }

    /// Waits until the process has ended.
    pub async fn ended(&self) {
        // Readiness may be spurious (see the tokio documentation), so the pidfd itself is polled.
        while !self.has_ended() {
            match self.pidfd.readable().await {
                Ok(mut ready) if !self.has_ended() => ready.clear_ready(),
                // An error means that the runtime is shutting down, so there is no receiver any more.
                Ok(_) | Err(_) => return,
            }
        }
    }
}

/// Polls a pidfd. It becomes readable when its process ends (pidfd_open(2)), and stays readable.
fn has_ended(pidfd: &OwnedFd) -> bool {
    let mut fds = [PollFd::new(pidfd.as_fd(), PollFlags::POLLIN)];
    matches!(nix::poll::poll(&mut fds, PollTimeout::ZERO), Ok(ready) if ready > 0)
}

/// Returns the start time of a process, in clock ticks since boot (field 22 of `/proc/PID/stat`, proc(5)).
///
/// # Errors
///
/// Returns the kernel's error if the file cannot be read, and `InvalidData` if the file cannot be parsed. The error is `NotFound`
/// if the process does not exist.
pub fn start_time(pid: i32) -> io::Result<u64> {
    ProcessStat::of(pid).map(|stat| stat.start_time)
}

/// Returns the inode number of a process's network namespace (`stat /proc/PID/ns/net`).
///
/// # Errors
///
/// Returns the kernel's error. The error is `NotFound` if the process has ended, and `PermissionDenied` if the agent is not
/// permitted to trace the process.
pub fn netns_inode(pid: i32) -> io::Result<u64> {
    fs::metadata(format!("/proc/{pid}/ns/net")).map(|metadata| metadata.ino())
}

#[cfg(test)]
mod tests {
    use std::{process::Command, time::Duration};

    use super::*;

    #[tokio::test]
    async fn end_of_pinned_process_is_noticed_before_it_is_reaped() -> Result<(), Box<dyn std::error::Error>> {
        let mut child = Command::new("sleep").arg("60").spawn()?;
        let pid = i32::try_from(child.id())?;
        let pinned = PinnedProcess::open(pid)?;
        assert!(!pinned.has_ended());
        assert_eq!(pinned.start_time(), start_time(pid)?);
        child.kill()?;
        let noticed = tokio::time::timeout(Duration::from_secs(5), pinned.ended()).await;
        assert!(
            matches!(PinnedProcess::open(pid), Err(PinError::Ended { .. })),
            "a process that is waiting to be reaped counts as ended"
        );
        child.wait()?;
        noticed?;
        assert!(matches!(PinnedProcess::open(pid), Err(PinError::Ended { .. })));
        Ok(())
    }

    #[tokio::test]
    async fn invalid_pids_are_rejected() {
        for pid in [0, -1, i32::MIN] {
            assert!(matches!(PinnedProcess::open(pid), Err(PinError::Ended { .. })));
        }
    }
}
