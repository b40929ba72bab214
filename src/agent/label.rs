//! Ensures that only one agent per label runs on a machine. Two agents with the same label would delete each other's objects as orphans.
//!
//! An agent acquires its label by locking a file in `/run/netns-agent` and by binding a Unix socket with an abstract name. The
//! kernel releases the lock and the socket when the process ends. Every agent that shares `/run` can see the file. Other agents
//! can also find the socket in `/proc/PID/net/unix` of every visible process, even if that process has a different `/run`.

use std::{
    fmt,
    fs::{self, File, OpenOptions},
    io::{self, Read, Write},
    os::{
        linux::net::SocketAddrExt,
        unix::{
            fs::{MetadataExt, OpenOptionsExt},
            net::{SocketAddr, UnixListener, UnixStream},
        },
    },
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};

use nix::{
    errno::Errno,
    fcntl::{Flock, FlockArg, OFlag},
    sys::{
        socket::{getsockopt, sockopt::PeerCredentials},
        stat::fstat,
    },
    unistd::{SysconfVar, geteuid, sysconf},
};
use prost_types::Timestamp;
use tracing::{debug, warn};

use crate::signals::process::start_time;
use netns_kernel::process_namespaces;

/// Directory of the lock files.
pub const DIRECTORY: &str = "/run/netns-agent";

/// Lock on a label. It is released when it is dropped or when this process ends.
#[derive(Debug)]
pub struct LabelLock {
    _file: Option<Flock<File>>,
    socket: Option<UnixListener>,
}

/// Error returned if another agent on this machine has the label.
#[derive(Debug, thiserror::Error)]
#[error("another agent with label {label} runs on this machine: {holder}; stop it, or give this agent another --microservice-label")]
pub struct Taken {
    label: String,
    holder: Holder,
}

/// Information about the agent that has a label.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Holder {
    pid: Option<i32>,
    command: String,
    since: String,
}

impl fmt::Display for Holder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.pid {
            Some(pid) => write!(f, "PID {pid}")?,
            None => f.write_str("a process in another PID namespace")?,
        }
        if !self.command.is_empty() {
            write!(f, " ({})", self.command)?;
        }
        if !self.since.is_empty() {
            write!(f, ", since {}", self.since)?;
        }
        Ok(())
    }
}

impl LabelLock {
    /// Acquires the lock on a label. If a check cannot be performed, logs a message and skips the check.
    ///
    /// # Errors
    /// Fails if another agent has the label.
    pub fn take(label: &str) -> Result<Self, Taken> {
        Self::take_in(Path::new(DIRECTORY), label)
    }

    /// Returns whether this process has bound the abstract socket of the label. If so, no other process in the same network
    /// namespace can bind that socket.
    pub fn has_socket(&self) -> bool {
        self.socket.is_some()
    }

    fn take_in(directory: &Path, label: &str) -> Result<Self, Taken> {
        let taken = |holder| Taken {
            label: label.to_owned(),
            holder,
        };
        let file = match lock(directory, label) {
            Ok(Locked::Own(file)) => Some(file),
            Ok(Locked::Other(holder)) => return Err(taken(holder)),
            Err(error) => {
                warn!("cannot lock {label} in {}: {error}", directory.display());
                None
            }
        };
        let name = format!("netns-agent/{label}");
        let socket = match SocketAddr::from_abstract_name(&name).and_then(|address| UnixListener::bind_addr(&address)) {
            Ok(socket) => Some(socket),
            Err(error) => {
                if let Some(holder) = peer(&name) {
                    return Err(taken(holder));
                }
                warn!(
                    "cannot bind the abstract socket {name}: {error}; an agent with this label in another network namespace will not \
                     detect this agent"
                );
                None
            }
        };
        let own = socket.as_ref().and_then(|socket| fstat(socket).ok()).map(|found| found.st_ino);
        match elsewhere(&name, own) {
            Some(holder) => Err(taken(holder)),
            None => Ok(LabelLock { _file: file, socket }),
        }
    }
}

enum Locked {
    Own(Flock<File>),
    Other(Holder),
}

fn lock(directory: &Path, label: &str) -> io::Result<Locked> {
    match fs::create_dir(directory) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
        _ => {}
    }
    let mut options = OpenOptions::new();
    options.read(true).write(true).create(true).truncate(false).mode(0o600);
    let path: PathBuf = directory.join(format!("{label}.lock"));
    let file = options.custom_flags(OFlag::O_NOFOLLOW.bits()).open(path)?;
    let mut file = match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
        Ok(file) => file,
        Err((mut file, Errno::EWOULDBLOCK)) => {
            let mut text = String::new();
            file.read_to_string(&mut text)?;
            return Ok(Locked::Other(Holder::parse(&text)));
        }
        Err((_, errno)) => return Err(errno.into()),
    };
    file.set_len(0)?;
    file.write_all(Holder::own().text().as_bytes())?;
    Ok(Locked::Own(file))
}

impl Holder {
    fn own() -> Self {
        let pid = std::process::id();
        Holder {
            pid: i32::try_from(pid).ok(),
            command: command("self"),
            since: Timestamp::from(SystemTime::now()).to_string(),
        }
    }

    /// Returns the contents of the lock file: PID, start time and command, one per line.
    fn text(&self) -> String {
        format!("{}\n{}\n{}\n", self.pid.unwrap_or_default(), self.since, self.command)
    }

    fn parse(text: &str) -> Self {
        let mut lines = text.lines();
        let mut next = || lines.next().unwrap_or_default().to_owned();
        let (pid, since, command) = (next(), next(), next());
        Holder {
            pid: pid.parse().ok(),
            command,
            since,
        }
    }

    fn of(pid: i32) -> Self {
        Holder {
            pid: Some(pid),
            command: command(&pid.to_string()),
            since: started(pid).map(|time| Timestamp::from(time).to_string()).unwrap_or_default(),
        }
    }
}

/// Returns the command line of a process.
fn command(process: &str) -> String {
    let text = fs::read(format!("/proc/{process}/cmdline")).unwrap_or_default();
    let words = text.split(|byte| *byte == 0).filter(|word| !word.is_empty());
    words.map(|word| word.escape_ascii().to_string()).collect::<Vec<_>>().join(" ")
}

/// Returns the start time of a process.
fn started(pid: i32) -> Option<SystemTime> {
    let ticks = start_time(pid).ok()?;
    let per_second = u64::try_from(sysconf(SysconfVar::CLK_TCK).ok()??).ok()?;
    let boot = fs::read_to_string("/proc/stat").ok()?;
    let boot: u64 = boot.lines().find_map(|line| line.strip_prefix("btime "))?.trim().parse().ok()?;
    let since_boot = Duration::from_millis(ticks.checked_mul(1000)?.checked_div(per_second)?);
    Some(SystemTime::UNIX_EPOCH + Duration::from_secs(boot) + since_boot)
}

/// Returns whether a process of this user can be an agent. Processes of other users are ignored. Otherwise, any user could prevent an agent from
/// starting by binding the socket name of its label.
fn may_be_agent(uid: u32) -> bool {
    uid == 0 || uid == geteuid().as_raw()
}

/// Returns the process that has bound the abstract socket name in this process's network namespace.
fn peer(name: &str) -> Option<Holder> {
    let stream = UnixStream::connect_addr(&SocketAddr::from_abstract_name(name).ok()?).ok()?;
    let credentials = getsockopt(&stream, PeerCredentials).ok()?;
    if !may_be_agent(credentials.uid()) {
        warn!(
            uid = credentials.uid(),
            pid = credentials.pid(),
            "an unprivileged process has bound the abstract socket {name}; the agent ignores that process"
        );
        return None;
    }
    // The kernel returns PID 0 for a process that is not visible in this PID namespace.
    match credentials.pid() {
        0 => Some(Holder {
            pid: None,
            command: String::new(),
            since: String::new(),
        }),
        pid => Some(Holder::of(pid)),
    }
}

/// Returns an agent that has bound the abstract socket name in the network namespace of another process.
///
/// `own_inode` is the inode number of this process's socket.
fn elsewhere(name: &str, own_inode: Option<u64>) -> Option<Holder> {
    let own = i32::try_from(std::process::id()).unwrap_or_default();
    let namespaces = match process_namespaces() {
        Ok(namespaces) => namespaces,
        Err(error) => {
            warn!("cannot search for other agents with this label: {error}");
            return None;
        }
    };
    let sockets = namespaces.iter().flat_map(|(_, pid)| sockets_named(*pid, name));
    let others = sockets.filter(|inode| Some(*inode) != own_inode);
    let holders = others.filter_map(owner).filter(|pid| *pid != own);
    // If two agents start at almost the same time, each finds the socket of the other. Only the process that started later fails.
    let order = |pid: i32| (start_time(pid).unwrap_or_default(), pid);
    let is_older = |pid: &i32| order(*pid) < order(own);
    let is_agent = |pid: &i32| fs::metadata(format!("/proc/{pid}")).is_ok_and(|found| may_be_agent(found.uid()));
    holders.filter(is_agent).find(is_older).map(Holder::of)
}

/// Returns the inode numbers of the sockets with this abstract name in a process's network namespace (proc_net(5)).
fn sockets_named(pid: i32, name: &str) -> Vec<u64> {
    let table = match fs::read_to_string(format!("/proc/{pid}/net/unix")) {
        Ok(table) => table,
        Err(error) => {
            debug!(pid, "cannot list the sockets of a network namespace: {error}");
            return Vec::new();
        }
    };
    let inode = |line: &str| {
        let columns: Vec<&str> = line.split_whitespace().collect();
        let is_named = columns.get(7).is_some_and(|path| path.strip_prefix('@') == Some(name));
        columns.get(6).filter(|_| is_named)?.parse().ok()
    };
    table.lines().filter_map(inode).collect()
}

/// Returns a process that has the socket open.
fn owner(inode: u64) -> Option<i32> {
    let link = format!("socket:[{inode}]");
    let processes = fs::read_dir("/proc").ok()?.flatten();
    let pids = processes.filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok());
    let has = |pid: &i32| {
        let files = fs::read_dir(format!("/proc/{pid}/fd")).into_iter().flatten().flatten();
        let mut targets = files.filter_map(|file| fs::read_link(file.path()).ok());
        targets.any(|target| target.as_os_str() == link.as_str())
    };
    pids.into_iter().find(has)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn label_is_taken_until_lock_is_dropped() {
        let (one, other) = (tempfile::tempdir().expect("a directory"), tempfile::tempdir().expect("a directory"));
        let label = format!("label-test-{}", std::process::id());
        let held = LabelLock::take_in(one.path(), &label).expect("free");
        for directory in [&one, &other] {
            let error = LabelLock::take_in(directory.path(), &label).expect_err("taken").to_string();
            assert!(error.contains(&format!("PID {} (", std::process::id())), "{error}");
            assert!(error.contains("since 20"), "{error}");
        }
        LabelLock::take_in(one.path(), &format!("{label}-2")).expect("another label is free");
        drop(held);
        LabelLock::take_in(one.path(), &label).expect("the label is free again");
    }
}
