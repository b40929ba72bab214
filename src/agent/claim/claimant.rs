//! Contents of the claim key, which identify the process that claims the label. Other processes use them to find out whether that
//! process has ended.

use std::{fmt, fs, io, os::unix::fs::MetadataExt, time::SystemTime};

use prost_types::Timestamp;
use serde::{Deserialize, Serialize};

use crate::signals::process::{netns_inode, start_time};
use netns_kernel::boot_id;

/// A process that claims a label in a store.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct Claimant {
    /// Name of the host that the process runs on.
    host: String,
    /// PID in the process's own PID namespace.
    pid: i32,
    /// Time at which the process claimed the label, in RFC 3339 format.
    since: String,
    /// Start time of the process, in clock ticks since boot.
    start_time: u64,
    /// Boot id of the kernel that the process runs on; see [`boot_id`].
    boot_id: String,
    /// Inode number of the process's PID namespace.
    pid_namespace: u64,
    /// Inode number of the process's network namespace.
    network_namespace: u64,
    /// True if the process has bound the abstract socket of the label in its network namespace; see
    /// [`LabelLock`](crate::agent::label::LabelLock).
    has_socket: bool,
}

impl fmt::Display for Claimant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.pid == 0 {
            return f.write_str("an unidentified process");
        }
        write!(f, "PID {} on host {}, since {}", self.pid, self.host, self.since)
    }
}

impl Claimant {
    /// Returns the claimant that describes this process. Fields that the system does not provide stay empty, and an empty field
    /// never proves anything.
    pub fn own(has_socket: bool) -> Self {
        let pid = i32::try_from(std::process::id()).unwrap_or_default();
        let inode = |path| fs::metadata(path).map_or(0, |found| found.ino());
        Claimant {
            host: rustix::system::uname().nodename().to_string_lossy().into_owned(),
            pid,
            since: Timestamp::from(SystemTime::now()).to_string(),
            start_time: start_time(pid).unwrap_or_default(),
            boot_id: boot_id(),
            pid_namespace: inode("/proc/self/ns/pid"),
            network_namespace: netns_inode(pid).unwrap_or_default(),
            has_socket,
        }
    }

    /// Parses the value of a key. Returns an unidentified claimant if the value is not valid.
    pub fn parse(text: &[u8]) -> Self {
        serde_json::from_slice(text).unwrap_or_default()
    }

    /// Returns the claimant as JSON, which is the value of the claim key.
    pub fn text(&self) -> String {
        // A struct of strings and numbers can always be serialized.
        serde_json::to_string(self).unwrap_or_default()
    }

    /// Returns whether two claimants are the same process.
    pub fn is(&self, other: &Self) -> bool {
        let identity = |claimant: &Self| (claimant.boot_id.clone(), claimant.pid_namespace, claimant.pid, claimant.start_time);
        self.pid != 0 && identity(self) == identity(other)
    }

    /// Returns whether it is proven that the claimant has ended. `own` describes the calling process.
    pub fn has_ended(&self, own: &Self) -> bool {
        self.has_ended_by(own, start_time)
    }

    /// Returns whether it is proven that the claimant has ended. There are two possible proofs. Either this process has the socket that the
    /// claimant had, or no process with the claimant's PID and start time exists.
    ///
    /// Both proofs require that the machine has not been rebooted since the claim. The kernel may reuse the inode number of a
    /// namespace, but only after all processes in the former namespace, including the claimant, have ended.
    fn has_ended_by(&self, own: &Self, start_time: impl Fn(i32) -> io::Result<u64>) -> bool {
        if self.pid == 0 || self.boot_id.is_empty() || self.boot_id != own.boot_id {
            return false;
        }
        // Only one process at a time can have the socket. If this process has the socket that the claimant had, the claimant has ended.
        let had_socket =
            self.has_socket && own.has_socket && self.network_namespace != 0 && self.network_namespace == own.network_namespace;
        let is_visible = self.pid_namespace != 0 && self.pid_namespace == own.pid_namespace;
        let is_gone = || match start_time(self.pid) {
            Ok(started) => started != self.start_time,
            Err(error) => error.kind() == io::ErrorKind::NotFound,
        };
        had_socket || (is_visible && is_gone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn claimant(boot_id: &str, pid_namespace: u64, network_namespace: u64) -> Claimant {
        Claimant {
            host: "a".to_owned(),
            pid: 7,
            start_time: 100,
            boot_id: boot_id.to_owned(),
            pid_namespace,
            network_namespace,
            ..Claimant::default()
        }
    }

    #[test]
    fn has_ended_requires_proof() {
        let gone = |_| Err(io::Error::from(io::ErrorKind::NotFound));
        let hidden = |_| Err(io::Error::from(io::ErrorKind::PermissionDenied));
        let with_socket = |claimant: Claimant| Claimant {
            has_socket: true,
            ..claimant
        };
        let former = claimant("boot", 1, 2);
        let own = claimant("boot", 1, 3);
        assert!(former.has_ended_by(&own, gone));
        assert!(former.has_ended_by(&own, |_| Ok(101)), "another process has its PID");
        assert!(!former.has_ended_by(&own, |_| Ok(100)), "the process is running");
        assert!(!former.has_ended_by(&own, hidden));
        assert!(!former.has_ended_by(&claimant("boot", 9, 3), gone), "its PID is not visible here");
        assert!(
            !former.has_ended_by(&claimant("other", 1, 2), gone),
            "another boot, or another machine"
        );
        assert!(!claimant("", 1, 2).has_ended_by(&claimant("", 1, 2), gone));
        assert!(!Claimant::parse(b"text").has_ended_by(&own, gone));

        let (former, own) = (with_socket(claimant("boot", 1, 2)), with_socket(claimant("boot", 9, 2)));
        assert!(former.has_ended_by(&own, hidden), "this process has its socket");
        assert!(
            !former.has_ended_by(&claimant("boot", 9, 2), hidden),
            "this process could not take the socket"
        );
        assert!(!former.has_ended_by(&with_socket(claimant("boot", 9, 3)), hidden));
        assert!(!former.has_ended_by(&with_socket(claimant("other", 9, 2)), hidden));
    }

    #[test]
    fn own_claim_is_recognized() {
        let own = Claimant::own(true);
        let read = Claimant::parse(own.text().as_bytes());
        assert_eq!(read, own);
        assert!(own.is(&read) && !own.has_ended_by(&Claimant { has_socket: false, ..read }, start_time));
        assert!(!Claimant::default().is(&Claimant::default()));
        assert!(
            own.pid > 0 && own.start_time > 0 && !own.boot_id.is_empty() && !own.host.is_empty(),
            "{own:?}"
        );
    }
}
