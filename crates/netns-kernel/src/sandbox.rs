//! Moves a whole process into temporary namespaces, so that it cannot affect the host. Used by the demo, never by the agent.
//!
//! Also starts the processes that represent workloads, and provides [`Echo`] to show that packets pass through a network. Call
//! [`leave`] first. The next child process of the caller must then call [`set_up`].

mod echo;

use std::{
    fs, io,
    os::unix::process::parent_id,
    process::{Child, Command},
    thread,
};

use nix::{
    errno::Errno,
    mount::{MsFlags, mount},
    sched::{CloneFlags, unshare},
    sys::{prctl::set_pdeathsig, signal::Signal},
    unistd::{Gid, Uid},
};

pub use echo::Echo;

use super::{
    failure, link,
    netlink::{Refusal, RouteSocket},
};

/// File with the last PID that the kernel assigned. The next process gets the next higher free PID.
///
/// The owner of the PID namespace can write to the file if the kernel was built with CONFIG_CHECKPOINT_RESTORE.
const LAST_PID: &str = "/proc/sys/kernel/ns_last_pid";
/// Maximum number of attempts to start a process with a given PID. An attempt fails if another thread or process gets the PID
/// first.
const PID_ATTEMPTS: usize = 200;

/// Error returned by the sandbox functions.
#[derive(Debug, thiserror::Error)]
#[error("cannot {step}: {cause}")]
pub struct SandboxError {
    /// Step that failed.
    pub step: &'static str,
    /// Error text of the kernel with the errno(3) name, and a remedy.
    pub cause: String,
}

/// Privileges with which the sandbox was created.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Rights {
    /// The caller has the privilege to create namespaces.
    Own,
    /// The caller is root only in a user namespace that was created for the sandbox.
    UserNamespace,
}

/// Moves the calling process into new mount and network namespaces.
///
/// The next child of the calling process becomes the first process of a new PID namespace. When that child ends, all processes in
/// the PID namespace end. Must be called while the process has only one thread.
///
/// # Errors
/// Fails if the caller is allowed to create neither these namespaces nor a user namespace.
pub fn leave() -> Result<Rights, SandboxError> {
    let namespaces = CloneFlags::CLONE_NEWNS | CloneFlags::CLONE_NEWNET | CloneFlags::CLONE_NEWPID;
    match unshare(namespaces) {
        Ok(()) => return Ok(Rights::Own),
        Err(Errno::EPERM) => {}
        Err(errno) => return Err(refused("create namespaces", errno.into())),
    }
    let (user, group) = (Uid::effective(), Gid::effective());
    unshare(namespaces | CloneFlags::CLONE_NEWUSER).map_err(|errno| no_user_namespace("create a user namespace", errno.into()))?;
    // An unprivileged process must write "deny" to `setgroups` before it can map a group (user_namespaces(7)).
    let maps = [
        ("/proc/self/setgroups", "deny".to_owned()),
        ("/proc/self/uid_map", format!("0 {user} 1")),
        ("/proc/self/gid_map", format!("0 {group} 1")),
    ];
    for (file, content) in maps {
        fs::write(file, content).map_err(|error| no_user_namespace("become root in a user namespace", error))?;
    }
    Ok(Rights::UserNamespace)
}

/// Mounts `/proc` for the new PID namespace, and an empty `/run` so that `/run/netns` is separate from the host's. Also sets
/// loopback up.
///
/// Must be called by the first process of the PID namespace. From then on, the kernel kills this process when its parent ends.
/// Returns the PID of this process as seen from outside the sandbox.
///
/// # Errors
/// Fails if a mount fails or loopback cannot be set up.
pub fn set_up() -> Result<u32, SandboxError> {
    set_pdeathsig(Signal::SIGKILL).map_err(|errno| refused("set the parent-death signal", errno.into()))?;
    if std::process::id() != 1 || parent_id() != 0 {
        let cause = format!(
            "this process has PID {} and is not the first process of a PID namespace; run `netns-agent demo` instead",
            std::process::id()
        );
        return Err(SandboxError {
            step: "work in a sandbox",
            cause,
        });
    }
    // The old `/proc` is still mounted, so it shows the PID that this process has outside the sandbox.
    let outside = fs::read_link("/proc/self")
        .ok()
        .and_then(|pid| pid.to_str()?.parse().ok())
        .unwrap_or_default();
    let none: Option<&str> = None;
    mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none)
        .map_err(|errno| no_user_namespace("make all mounts private", errno.into()))?;
    let secure = MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
    mount(Some("proc"), "/proc", Some("proc"), secure, none).map_err(|errno| no_user_namespace("mount /proc", errno.into()))?;
    let run = MsFlags::MS_NOSUID | MsFlags::MS_NODEV;
    mount(Some("tmpfs"), "/run", Some("tmpfs"), run, Some("mode=0755"))
        .map_err(|errno| no_user_namespace("mount a tmpfs on /run", errno.into()))?;
    loopback_up().map_err(|refusal| SandboxError {
        step: "set lo up",
        cause: failure::explain(&refusal),
    })?;
    Ok(outside)
}

/// Starts a process with the given PID in a new network namespace.
///
/// The thread that creates the namespace also starts the process, so the process is never in another namespace.
///
/// # Errors
/// Fails if the PID is in use, or if the kernel does not allow the caller to choose PIDs.
pub fn start_with_pid(pid: u32, command: impl Fn() -> Command + Sync) -> io::Result<Child> {
    for _ in 0..PID_ATTEMPTS {
        let mut child = thread::scope(|scope| {
            let start = scope.spawn(|| {
                unshare(CloneFlags::CLONE_NEWNET)?;
                fs::write(LAST_PID, (pid - 1).to_string())
                    .map_err(|error| io::Error::new(error.kind(), format!("cannot set the next PID through {LAST_PID}: {error}")))?;
                command().spawn()
            });
            start
                .join()
                .unwrap_or_else(|_| Err(io::Error::other("the thread that starts the process ended")))
        })?;
        if child.id() == pid {
            return Ok(child);
        }
        child.kill()?;
        child.wait()?;
    }
    Err(io::Error::other(format!("PID {pid} is taken by another process")))
}

fn loopback_up() -> Result<(), Refusal> {
    let mut socket = RouteSocket::open()?;
    let request = link::LinkRequest {
        up: Some(true),
        ..link::LinkRequest::default()
    };
    // `lo` is the first link of each namespace (LOOPBACK_IFINDEX in net/flow.h).
    let (message, flags) = request.message(1);
    socket.change(message, flags)
}

fn refused(step: &'static str, error: io::Error) -> SandboxError {
    SandboxError {
        step,
        cause: failure::explain(&Refusal::from(error)),
    }
}

/// Returns an error that lists the remedies for all causes of EPERM, because the kernel does not say which cause applies.
fn no_user_namespace(step: &'static str, error: io::Error) -> SandboxError {
    let remedy = "run the command as root; or allow all users to create user namespaces: set those of the following sysctls that exist: \
                  sysctl -w user.max_user_namespaces=10000, sysctl -w kernel.unprivileged_userns_clone=1, \
                  sysctl -w kernel.apparmor_restrict_unprivileged_userns=0; a container needs CAP_SYS_ADMIN (docker run --privileged)";
    SandboxError {
        step,
        cause: format!("{}; {remedy}", failure::kernel_words(&Refusal::from(error))),
    }
}
