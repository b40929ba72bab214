//! Divides the open-file limit of the process among connections, namespaces and other uses.
//!
//! A process that has run out of descriptors cannot accept connections, so users cannot query its state. Therefore connections,
//! namespace watches, pinned namespaces and all other uses have separate shares.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Number of descriptors that the process itself needs: standard streams, event loops, store files, threads that enter
/// namespaces, and outgoing connections.
const OWN: usize = 48;
/// Bounds for the number of descriptors that are reserved for connections and for the process itself ([`OWN`]). A quarter of the
/// open-file limit is reserved if it lies between the bounds.
const RESERVED_MIN: usize = 96;
const RESERVED_MAX: usize = 4096;
/// Number of listeners that share the descriptors for connections: REST, gRPC and the embedded store.
const LISTENERS: usize = 3;
/// Namespace watches get one eighth of the descriptors that are not reserved. Unwatched namespaces are read periodically.
const WATCHED_PART: usize = 8;

/// Shares of the open-file limit. Without a limit, every share is [`usize::MAX`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OpenFiles {
    /// Open-file limit of the process.
    pub limit: usize,
    /// Maximum number of connections of each listener.
    pub connections: usize,
    /// Maximum number of watched namespaces.
    pub watches: usize,
    /// Maximum number of descriptors for namespaces and their sockets.
    pub namespaces: usize,
}

impl OpenFiles {
    /// Raises the soft open-file limit of the process to its hard limit, and divides it into shares.
    pub fn of_process() -> Self {
        OpenFiles::divide(raise_limit().map(|limit| usize::try_from(limit).unwrap_or(usize::MAX)))
    }

    /// Divides the given open-file limit; `None` means that there is no limit.
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

/// Raises the soft limit to the hard limit. This is safe because the program does not use select(2).
///
/// Returns the resulting soft limit, or `None` if there is no limit.
fn raise_limit() -> Option<u64> {
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit {
        current: limit.maximum,
        ..limit
    };
    // Failure is not fatal: a lower limit only makes the shares smaller.
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
            let own = limit.checked_sub(used).expect("shares within the limit");
            assert!(own >= OWN.min(limit / 3), "{limit}: only {own} left for everything else");
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
