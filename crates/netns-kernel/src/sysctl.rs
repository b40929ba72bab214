//! Network sysctls: files under `/proc/sys/net`, which show the namespace of the thread that opens them.
//!
//! Owns their paths. Must never be called outside of a visit to the namespace. Start reading at [`ensure`].

use std::{fs, io, path::PathBuf};

use super::write_count;

/// `disable_ipv6` of a link (Documentation/networking/ip-sysctl.rst).
pub(super) fn disable_ipv6(link: &str) -> PathBuf {
    PathBuf::from("/proc/sys/net/ipv6/conf").join(link).join("disable_ipv6")
}

/// `promote_secondaries` of a link: when its primary address is deleted, the next one becomes primary instead of being deleted too.
pub(super) fn promote_secondaries(link: &str) -> PathBuf {
    PathBuf::from("/proc/sys/net/ipv4/conf").join(link).join("promote_secondaries")
}

/// `optimistic_dad` of a link.
pub(super) fn optimistic_dad(link: &str) -> PathBuf {
    PathBuf::from("/proc/sys/net/ipv6/conf").join(link).join("optimistic_dad")
}

/// A sysctl by its name, whose dots part the elements of the path.
pub(super) fn path(name: &str) -> PathBuf {
    PathBuf::from("/proc/sys").join(name.replace('.', "/"))
}

/// Makes a sysctl have a value in the namespace of the calling thread; writes only when it has another. Returns whether it had.
pub(super) fn ensure(path: &std::path::Path, value: &str) -> io::Result<bool> {
    if fs::read_to_string(path)?.trim() == value {
        return Ok(false);
    }
    write_count::add(1);
    fs::write(path, value).map(|()| true)
}
