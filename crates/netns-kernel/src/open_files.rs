//! How the limit of open files is divided between the parts of the process.
//!
//! A process without free descriptors cannot accept a connection, so nobody could ask it what is wrong. Each part therefore gets a
//! share that the others cannot use up: connections, watches of namespaces, the namespaces themselves, and everything else.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Descriptors of the process itself: standard streams, event loops, store files, threads that enter namespaces, its own connections.
const OWN: usize = 48;
/// Part of the limit that is kept for [`OWN`] and connections: a quarter, within these bounds.
const RESERVED_MIN: usize = 96;
const RESERVED_MAX: usize = 4096;
/// Listeners that share the descriptors for connections: REST, gRPC, the embedded store.
const LISTENERS: usize = 3;
/// One part in so many of the rest may be used to watch namespaces; those that are not watched are read from time to time.
const WATCHED_PART: usize = 8;

/// Shares of the limit of open files. Without a limit, every share is [`usize::MAX`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OpenFiles {
    /// The limit itself.
    pub limit: usize,
    /// Most connections of each listener.
    pub connections: usize,
    /// Most namespaces that are watched.
    pub watches: usize,
    /// Descriptors for namespaces and the sockets in them.
    pub namespaces: usize,
}

impl OpenFiles {
    /// Raises the limit of this process to its hard limit and divides it.
    pub fn of_process() -> Self {
        OpenFiles::divide(raise_limit().map(|limit| usize::try_from(limit).unwrap_or(usize::MAX)))
    }

    /// Divides a limit; `None` means that there is none.
    pub fn divide(limit: Option<usize>) -> Self {
        let Some(limit) = limit else {
            return OpenFiles {
                limit: usize::MAX,
                connections: usize::MAX,
                watches: usize::MAX,
                namespaces: usize::MAX,
            };
        };
        let reserved = (limit / 4).clamp(RESERVED_MIN, RESERVED_MAX).min(limit / 2);
        let rest = limit - reserved;
        let watches = rest / WATCHED_PART;
        OpenFiles {
            limit,
            connections: (reserved.saturating_sub(OWN) / LISTENERS).max(1),
            watches,
            namespaces: rest - watches,
        }
    }
}

/// Raises the soft limit: programs that do not use select(2) may raise it to the hard limit. Returns the limit, `None` if there is none.
fn raise_limit() -> Option<u64> {
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit {
        current: limit.maximum,
        ..limit
    };
    // Not fatal: the shares of a lower limit are smaller.
    match limit.current == limit.maximum || setrlimit(Resource::Nofile, raised).is_ok() {
        true => limit.maximum,
        false => limit.current,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_never_exceed_the_limit() {
        for limit in [64, 256, 1024, 4096, 65_536, 1 << 20] {
            let shares = OpenFiles::divide(Some(limit));
            let used = shares.namespaces + shares.watches + LISTENERS * shares.connections;
            let own = limit.checked_sub(used).expect("the shares fit");
            assert!(own >= OWN.min(limit / 3), "{limit}: {own} are left for everything else");
        }
    }

    #[test]
    fn usual_limits_leave_room_for_every_default() {
        let shares = OpenFiles::divide(Some(65_536));
        assert!(shares.connections >= 256 && shares.watches >= 300, "{shares:?}");
        assert_eq!(OpenFiles::divide(None).namespaces, usize::MAX);
    }

    #[test]
    fn low_limits_leave_most_descriptors_to_namespaces() {
        let shares = OpenFiles::divide(Some(256));
        assert_eq!((shares.connections, shares.watches, shares.namespaces), (16, 20, 140));
        let shares = OpenFiles::divide(Some(1024));
        assert_eq!((shares.connections, shares.watches, shares.namespaces), (69, 96, 672));
    }
}
