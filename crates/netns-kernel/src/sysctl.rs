//! Sets network sysctls, which are files under `/proc/sys/net`. Their contents depend on the namespace of the thread that opens
//! them.
//!
//! Call [`ensure`] only on a thread that is in the target namespace.

use std::{fs, io, path::PathBuf};

use super::write_count;

/// Returns the path of a link's `disable_ipv6` sysctl (Documentation/networking/ip-sysctl.rst).
pub(super) fn disable_ipv6(link: &str) -> PathBuf {
    PathBuf::from("/proc/sys/net/ipv6/conf").join(link).join("disable_ipv6")
}

/// Returns the path of a link's `promote_secondaries` sysctl.
///
/// The sysctl applies when a primary address is deleted. If it is set, the kernel makes the next address of the subnet primary.
/// Otherwise, the kernel deletes the secondary addresses as well.
pub(super) fn promote_secondaries(link: &str) -> PathBuf {
    PathBuf::from("/proc/sys/net/ipv4/conf").join(link).join("promote_secondaries")
}

/// Returns the path of a link's `optimistic_dad` sysctl.
pub(super) fn optimistic_dad(link: &str) -> PathBuf {
    PathBuf::from("/proc/sys/net/ipv6/conf").join(link).join("optimistic_dad")
}

/// Returns the path of a sysctl given by its dotted name.
pub(super) fn path(name: &str) -> PathBuf {
    PathBuf::from("/proc/sys").join(name.replace('.', "/"))
}

/// Sets a sysctl in the namespace of the calling thread, unless the sysctl already has the value.
///
/// Returns whether the sysctl had a different value.
pub(super) fn ensure(path: &std::path::Path, value: &str) -> io::Result<bool> {
    if fs::read_to_string(path)?.trim() == value {
        return Ok(false);
    }
    write_count::add(1);
    fs::write(path, value).map(|()| true)
}
