//! Failures as the person who has to act on them reads them.
//!
//! Owns the wording: what failed, on what, in which namespace, the kernel's own words, what to do next. Must never decide
//! whether something is tried again; that follows from [`FailureKind`]. Start reading at [`refused`].

use nix::{errno::Errno, libc};

use super::{
    netlink::Refusal,
    operation::{Failure, FailureKind},
};

/// The kernel refused an action. `action` completes "cannot …", `place` is the namespace in words.
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

/// What an operation needs is not there yet.
pub(super) fn unavailable(message: impl Into<String>) -> Failure {
    Failure {
        kind: FailureKind::Unavailable,
        errno: None,
        kernel_text: String::new(),
        message: message.into(),
    }
}

/// What was named is there and is the wrong thing.
pub(super) fn unusable(message: impl Into<String>) -> Failure {
    Failure {
        kind: FailureKind::Unusable,
        errno: None,
        kernel_text: String::new(),
        message: message.into(),
    }
}

/// The kernel cannot do it on that link, whatever the state.
pub(super) fn unsupported(message: String) -> Failure {
    Failure {
        kind: FailureKind::Unsupported,
        ..unavailable(message)
    }
}

/// Something of this agent is in the way.
pub(super) fn exists(message: String) -> Failure {
    Failure {
        kind: FailureKind::Exists,
        ..foreign(message)
    }
}

/// Something foreign is in the way.
pub(super) fn foreign(message: String) -> Failure {
    Failure {
        kind: FailureKind::Foreign,
        errno: Some(libc::EEXIST),
        kernel_text: Errno::EEXIST.desc().to_owned(),
        message,
    }
}

/// A failure found before the kernel was asked.
pub(super) fn other(message: impl Into<String>) -> Failure {
    Failure {
        kind: FailureKind::Other,
        errno: None,
        kernel_text: String::new(),
        message: message.into(),
    }
}

/// A system call on a path failed; `action` completes "cannot …".
pub(super) fn system(action: &str, refusal: &Refusal) -> Failure {
    Failure {
        kind: FailureKind::Other,
        errno: Some(refusal.errno),
        kernel_text: kernel_text(refusal),
        message: format!("cannot {action}: {}", explain(refusal)),
    }
}

/// The error in the kernel's words, and what to do next.
pub(super) fn explain(refusal: &Refusal) -> String {
    match remedy(refusal.errno) {
        Some(remedy) => format!("{}; {remedy}", kernel_words(refusal)),
        None => kernel_words(refusal),
    }
}

/// The error in the words of errno(3) and of the extended acknowledgement.
pub(super) fn kernel_words(refusal: &Refusal) -> String {
    let errno = Errno::from_raw(refusal.errno);
    match &refusal.text {
        Some(text) => format!("{} ({errno:?}), the kernel says \"{text}\"", errno.desc()),
        None => format!("{} ({errno:?})", errno.desc()),
    }
}

/// The same without errno, for programs.
pub(super) fn kernel_text(refusal: &Refusal) -> String {
    let words = || Errno::from_raw(refusal.errno).desc().to_owned();
    refusal.text.clone().unwrap_or_else(words)
}

/// What to do next, where the error number tells.
fn remedy(errno: i32) -> Option<&'static str> {
    Some(match Errno::from_raw(errno) {
        Errno::EPERM | Errno::EACCES => {
            "run the agent as root, or with the capabilities that `netns-agent doctor` names, in the initial user namespace"
        }
        Errno::ENETUNREACH | Errno::EHOSTUNREACH => {
            "the gateway must lie in a network of an address on that link, and the link must be up: configure these first"
        }
        Errno::ENETDOWN => "set the link up first",
        Errno::ENODEV => "the link is gone: it comes back when the agent repairs it or its owner creates it again",
        Errno::EMFILE => "raise the limit of open files of the agent (LimitNOFILE= of its service, or ulimit -n)",
        Errno::ENFILE => "raise the system's limit of open files (sysctl fs.file-max)",
        Errno::ENOSPC => "raise the limit of namespaces (sysctl user.max_net_namespaces) or remove some that are not used",
        Errno::ENOMEM | Errno::ENOBUFS => "the kernel is short of memory: free some, or configure less at once",
        Errno::EAFNOSUPPORT => "the kernel has no support for that address family: check that IPv6 is not disabled on its command line",
        Errno::ETIMEDOUT | Errno::EMSGSIZE => "whether it took effect is unknown: a resync reads the state back",
        Errno::EBUSY => "another program is using it: it is tried again",
        _ => return None,
    })
}

/// A namespace type as NS_GET_NSTYPE tells it (ioctl_nsfs(2)), in words.
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
