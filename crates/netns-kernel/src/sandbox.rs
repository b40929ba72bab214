//! Throw-away namespaces around a whole process: what the agent does in them, the machine never sees.
//!
//! Owns the making of such a sandbox, the processes that stand for workloads in it, and the echo by which it is shown that a
//! network carries packets ([`Echo`]). Must never be used by the agent itself, which works in the namespaces it is started in.
//! Start reading at [`leave`]; the child that is started next calls [`furnish`].

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

/// The kernel gives the next PID after this one; writable by who owns the PID namespace (CONFIG_CHECKPOINT_RESTORE).
const LAST_PID: &str = "/proc/sys/kernel/ns_last_pid";
/// Any other thread may start between the choice of a PID and its use; so often it is tried.
const PID_ATTEMPTS: usize = 200;

/// Why there is no sandbox.
#[derive(Debug, thiserror::Error)]
#[error("cannot {step}: {cause}")]
pub struct SandboxError {
    /// What failed.
    pub step: &'static str,
    /// errno(3) with the kernel's text and the remedy.
    pub cause: String,
}

/// By what right the sandbox was made.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Rights {
    /// The caller may make namespaces anyway.
    Own,
    /// The caller is root only in a user namespace that was made for the purpose.
    UserNamespace,
}

/// Takes the calling process out of its mount and network namespace; the next child that it starts is the first process of a new
/// PID namespace, and with that child everything in there ends. Must be called while the process has one thread.
///
/// # Errors
/// The kernel lets the caller make neither these namespaces nor a user namespace.
pub fn leave() -> Result<Rights, SandboxError> {
    let namespaces = CloneFlags::CLONE_NEWNS | CloneFlags::CLONE_NEWNET | CloneFlags::CLONE_NEWPID;
    match unshare(namespaces) {
        Ok(()) => return Ok(Rights::Own),
        Err(Errno::EPERM) => {}
        Err(errno) => return Err(refused("make namespaces", errno.into())),
    }
    let (user, group) = (Uid::effective(), Gid::effective());
    unshare(namespaces | CloneFlags::CLONE_NEWUSER).map_err(|errno| no_user_namespace("make a user namespace", errno.into()))?;
    // Without this, an unprivileged process may not map a group (user_namespaces(7)).
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

/// Makes the new namespaces usable: `/proc` of the PID namespace, an empty `/run` (so `/run/netns` is its own), and loopback. To be
/// called by the first process in there; it will not outlive the one that started it. Answers its PID as the outside sees it.
///
/// # Errors
/// What could not be mounted or set up.
pub fn furnish() -> Result<u32, SandboxError> {
    set_pdeathsig(Signal::SIGKILL).map_err(|errno| refused("end with the process that made the sandbox", errno.into()))?;
    if std::process::id() != 1 || parent_id() != 0 {
        let cause = format!(
            "this process is PID {}, not the first of a PID namespace; start `netns-agent demo`",
            std::process::id()
        );
        return Err(SandboxError {
            step: "work in a sandbox",
            cause,
        });
    }
    // The old /proc still counts PIDs as the outside does.
    let outside = fs::read_link("/proc/self")
        .ok()
        .and_then(|pid| pid.to_str()?.parse().ok())
        .unwrap_or_default();
    let none: Option<&str> = None;
    mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none)
        .map_err(|errno| no_user_namespace("keep its mounts to itself", errno.into()))?;
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

/// Starts a process in a new network namespace, under exactly this PID. The namespace is made by a thread that then starts the
/// process, so that it is never, not even for a moment, in another one.
///
/// # Errors
/// The PID is taken, or the kernel does not let the caller choose one.
pub fn start_with_pid(pid: u32, command: impl Fn() -> Command + Sync) -> io::Result<Child> {
    for _ in 0..PID_ATTEMPTS {
        let mut child = thread::scope(|scope| {
            let start = scope.spawn(|| {
                unshare(CloneFlags::CLONE_NEWNET)?;
                fs::write(LAST_PID, (pid - 1).to_string())
                    .map_err(|error| io::Error::new(error.kind(), format!("cannot choose a PID by {LAST_PID}: {error}")))?;
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

/// EPERM has many fathers here, none of which the kernel names.
fn no_user_namespace(step: &'static str, error: io::Error) -> SandboxError {
    let remedy = "run it as root; or allow user namespaces to everybody, by whichever of these the kernel has: \
                  sysctl -w user.max_user_namespaces=10000, sysctl -w kernel.unprivileged_userns_clone=1, \
                  sysctl -w kernel.apparmor_restrict_unprivileged_userns=0; a container needs CAP_SYS_ADMIN (docker run --privileged)";
    SandboxError {
        step,
        cause: format!("{}; {remedy}", failure::kernel_words(&Refusal::from(error))),
    }
}
