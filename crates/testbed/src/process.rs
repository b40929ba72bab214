//! Waits for processes that are not children of the test.

use std::{os::fd::OwnedFd, time::Duration};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use rustix::process::{Pid, PidfdFlags, pidfd_open};

/// Process that a test waits for. Contains a pidfd, which becomes readable when the process ends (pidfd_open(2)).
pub struct Awaited(Option<OwnedFd>);

impl Awaited {
    /// Opens a pidfd for the process that currently has this PID. A process that does not exist is treated as ended.
    ///
    /// # Panics
    /// Panics if the process exists but cannot be opened.
    pub fn begin(pid: i32) -> Self {
        let Some(number) = Pid::from_raw(pid) else { return Awaited(None) };
        match pidfd_open(number, PidfdFlags::empty()) {
            Ok(pidfd) => Awaited(Some(pidfd)),
            Err(rustix::io::Errno::SRCH) => Awaited(None),
            Err(errno) => panic!("cannot open a pidfd of process {pid}: {errno}"),
        }
    }

    /// Waits until the process ends. Returns false if it does not end within `limit`.
    ///
    /// # Panics
    /// Panics if poll(2) fails.
    pub fn ends_within(&self, limit: Duration) -> bool {
        let Some(pidfd) = &self.0 else { return true };
        let limit = PollTimeout::try_from(limit).unwrap_or(PollTimeout::MAX);
        let mut fds = [PollFd::new(std::os::fd::AsFd::as_fd(pidfd), PollFlags::POLLIN)];
        poll(&mut fds, limit).expect("polling a pidfd failed") > 0
    }
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    #[test]
    fn end_of_a_process_is_noticed_before_it_is_reaped() {
        let mut child = Command::new("sleep").arg("600").spawn().expect("starting sleep failed");
        let awaited = Awaited::begin(i32::try_from(child.id()).expect("a PID"));
        assert!(!awaited.ends_within(Duration::ZERO));
        child.kill().expect("killing the process failed");
        assert!(awaited.ends_within(Duration::from_secs(60)));
        child.wait().expect("reaping the process failed");
        assert!(Awaited::begin(i32::MAX).ends_within(Duration::ZERO));
    }
}
