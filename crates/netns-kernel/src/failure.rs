//! Builds human-readable failure messages. Each message describes the action, its object and namespace, the kernel's error, and
//! a remedy.
//!
//! [`FailureKind`] determines whether an operation is retried.

use nix::{errno::Errno, libc};

use super::{
    netlink::Refusal,
    operation::{Failure, FailureKind},
};

/// Returns the error for an action that the kernel refused.
///
/// `action` completes the phrase "cannot …". `place` describes the namespace.
pub(super) fn refused(action: &str, place: &str, refusal: &Refusal) -> Failure {
    let kind = if refusal.is(Errno::EEXIST) {
        FailureKind::Exists
    } else {
        FailureKind::Other
    };
    Failure {
        kind,
        errno: Some(refusal.errno),
        kernel_text: kernel_text(refusal),
        message: format!("cannot {action} in {place}: {}", explain(refusal)),
    }
}

/// Returns the error for an operation on a process, file or container that does not exist yet.
pub(super) fn unavailable(message: impl Into<String>) -> Failure {
    Failure {
        kind: FailureKind::Unavailable,
        errno: None,
        kernel_text: String::new(),
        message: message.into(),
    }
}

/// Returns the error for a named object that exists but has the wrong type.
pub(super) fn unusable(message: impl Into<String>) -> Failure {
    Failure {
        kind: FailureKind::Unusable,
        errno: None,
        kernel_text: String::new(),
        message: message.into(),
    }
}

/// Returns the error for an operation that the kernel does not support on this link in any state of the link.
pub(super) fn unsupported(message: String) -> Failure {
    Failure {
        kind: FailureKind::Unsupported,
        ..unavailable(message)
    }
}

/// Returns the error for a conflict with an object of this agent.
pub(super) fn exists(message: String) -> Failure {
    Failure {
        kind: FailureKind::Exists,
        ..foreign(message)
    }
}

/// Returns the error for a conflict with a foreign object.
pub(super) fn foreign(message: String) -> Failure {
    Failure {
        kind: FailureKind::Foreign,
        errno: Some(libc::EEXIST),
        kernel_text: Errno::EEXIST.desc().to_owned(),
        message,
    }
}

/// Returns an error of the kind `Other` for a problem that the kernel did not report.
pub(super) fn other(message: impl Into<String>) -> Failure {
    Failure {
        kind: FailureKind::Other,
        errno: None,
        kernel_text: String::new(),
        message: message.into(),
    }
}

/// Returns the error for a system call that failed. `action` completes the phrase "cannot …".
pub(super) fn system(action: &str, refusal: &Refusal) -> Failure {
    Failure {
        kind: FailureKind::Other,
        errno: Some(refusal.errno),
        kernel_text: kernel_text(refusal),
        message: format!("cannot {action}: {}", explain(refusal)),
    }
}

/// Returns the kernel's error text, with a remedy if one is known.
pub(super) fn explain(refusal: &Refusal) -> String {
    match remedy(refusal.errno) {
        Some(remedy) => format!("{}; {remedy}", kernel_words(refusal)),
        None => kernel_words(refusal),
    }
}

/// Returns the errno(3) text of the error, and the extended acknowledgement text if there is one.
pub(super) fn kernel_words(refusal: &Refusal) -> String {
    let errno = Errno::from_raw(refusal.errno);
    match &refusal.text {
        Some(text) => format!("{} ({errno:?}), the kernel says \"{text}\"", errno.desc()),
        None => format!("{} ({errno:?})", errno.desc()),
    }
}

/// Returns the extended acknowledgement text, or the errno(3) text if the kernel sent no extended acknowledgement.
pub(super) fn kernel_text(refusal: &Refusal) -> String {
    let words = || Errno::from_raw(refusal.errno).desc().to_owned();
    refusal.text.clone().unwrap_or_else(words)
}

/// Returns a remedy for the error number, if there is one.
fn remedy(errno: i32) -> Option<&'static str> {
    Some(match Errno::from_raw(errno) {
        Errno::EPERM | Errno::EACCES => {
            "run the agent in the initial user namespace, as root or with the capabilities that `netns-agent doctor` lists"
        }
        Errno::ENETUNREACH | Errno::EHOSTUNREACH => {
            "the gateway must be in the subnet of an address on the link, and the link must be up: configure the address and the link first"
        }
        Errno::ENETDOWN => "set the link up first",
        Errno::ENODEV => "the link no longer exists: wait until the agent or the owner of the link creates it again",
        Errno::EMFILE => "raise the agent's open-file limit (LimitNOFILE= of its service, or ulimit -n)",
        Errno::ENFILE => "raise the system's open-file limit (sysctl fs.file-max)",
        Errno::ENOSPC => "raise the namespace limit (sysctl user.max_net_namespaces) or remove unused namespaces",
        Errno::ENOMEM | Errno::ENOBUFS => "the kernel is out of memory: free some memory, or apply fewer changes at once",
        Errno::EAFNOSUPPORT => "the kernel does not support the address family: check that it was not booted with ipv6.disable=1",
        Errno::ETIMEDOUT | Errno::EMSGSIZE => "the change may or may not have taken effect: a resync reads the state from the kernel",
        Errno::EBUSY => "another program is using the object: the agent retries",
        _ => return None,
    })
}

/// Describes a namespace type, given as the flag that NS_GET_NSTYPE returns (ioctl_nsfs(2)).
pub(super) fn namespace_type(clone_flag: i32) -> &'static str {
    match clone_flag {
        libc::CLONE_NEWNS => "a mount namespace",
        libc::CLONE_NEWPID => "a PID namespace",
        libc::CLONE_NEWUSER => "a user namespace",
        libc::CLONE_NEWUTS => "a UTS namespace",
        libc::CLONE_NEWIPC => "an IPC namespace",
        libc::CLONE_NEWCGROUP => "a cgroup namespace",
        // CLONE_NEWTIME of linux/sched.h.
        0x80 => "a time namespace",
        _ => "a namespace of another type",
    }
}
