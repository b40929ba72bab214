//! Reduces the capabilities of the process to those that it needs to configure networks.
//!
//! Each thread has its own capabilities, which new threads inherit. Therefore [`reduce`] must run while the process has only one
//! thread.

use std::{fs, io};

use rustix::{
    io::Errno,
    thread::{
        CapabilitySet, CapabilitySets, capabilities, capability_is_in_bounding_set, clear_ambient_capability_set,
        remove_capability_from_bounding_set, set_capabilities, set_no_new_privs,
    },
};

/// A capability (capabilities(7)) and its purpose in the agent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Capability {
    /// Name of the capability, as in capabilities(7).
    pub name: &'static str,
    /// Number of the capability (linux/capability.h).
    pub bit: u32,
    /// Reason why the agent needs the capability.
    pub purpose: &'static str,
}

/// Capabilities that the agent needs in every configuration.
pub const NEEDED: [Capability; 4] = [
    Capability {
        name: "CAP_DAC_READ_SEARCH",
        bit: 2,
        purpose: "namespace files, keys and sockets in other users' private directories",
    },
    Capability {
        name: "CAP_NET_ADMIN",
        bit: 12,
        purpose: "links, addresses, routes, neighbours",
    },
    Capability {
        name: "CAP_SYS_PTRACE",
        bit: 19,
        purpose: "the network namespace of any process",
    },
    Capability {
        name: "CAP_SYS_ADMIN",
        bit: 21,
        purpose: "creating, naming and entering namespaces",
    },
];

/// Additional capability needed to listen on a privileged port.
pub const LOW_PORTS: Capability = Capability {
    name: "CAP_NET_BIND_SERVICE",
    bit: 10,
    purpose: "an API on a port below 1024",
};

/// Error returned by [`reduce`].
#[derive(Debug, thiserror::Error)]
pub enum PrivilegeError {
    /// The process has more than one thread, but only the calling thread would drop its capabilities. Contains the number of
    /// threads.
    #[error("the process already has {0} threads, but dropping capabilities affects only one of them")]
    Threads(usize),
    /// The kernel refused a step.
    #[error("{what}: {error}")]
    Refused {
        /// Step that was refused.
        what: &'static str,
        /// Error from the kernel.
        error: io::Error,
    },
}

/// Result of [`reduce`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reduced {
    /// Names of the needed capabilities that the process had and keeps.
    pub kept: Vec<&'static str>,
    /// Needed capabilities that the process did not have.
    pub missing: Vec<Capability>,
    /// True if the bounding set was also reduced, which requires CAP_SETPCAP. Otherwise, no_new_privs still prevents child
    /// processes from gaining privileges.
    pub bounded: bool,
}

/// Permanently drops all capabilities that the agent does not need, and sets no_new_privs for child processes.
///
/// # Errors
/// Fails if the process has other threads, or if the kernel refuses a step. After a failure, the process may have more
/// capabilities than it needs.
pub fn reduce(with_low_ports: bool) -> Result<Reduced, PrivilegeError> {
    let threads = fs::read_dir("/proc/self/task").map_or(1, Iterator::count);
    if threads > 1 {
        return Err(PrivilegeError::Threads(threads));
    }
    let needed: Vec<Capability> = NEEDED.into_iter().chain(with_low_ports.then_some(LOW_PORTS)).collect();
    let mask = needed
        .iter()
        .fold(CapabilitySet::empty(), |mask, capability| mask.union(set_of(capability.bit)));
    let refused = |what| move |error: Errno| PrivilegeError::Refused { what, error: error.into() };
    // Reduce the bounding set first, because this requires a capability that is dropped below.
    let bounded = bound(mask).map_err(refused("cannot reduce the bounding set"))?;
    clear_ambient_capability_set().map_err(refused("cannot clear the ambient capabilities"))?;
    let before = capabilities(None).map_err(refused("cannot read the capabilities"))?;
    let kept = before.permitted.intersection(mask);
    let sets = CapabilitySets {
        effective: kept,
        permitted: kept,
        inheritable: CapabilitySet::empty(),
    };
    set_capabilities(None, sets).map_err(refused("cannot drop capabilities"))?;
    set_no_new_privs(true).map_err(refused("cannot set no_new_privs"))?;
    let (kept, missing): (Vec<Capability>, Vec<Capability>) =
        needed.into_iter().partition(|capability| kept.contains(set_of(capability.bit)));
    Ok(Reduced {
        kept: kept.iter().map(|capability| capability.name).collect(),
        missing,
        bounded,
    })
}

/// Removes all capabilities outside of `mask` from the bounding set. Returns false if the process is not permitted to do so.
fn bound(mask: CapabilitySet) -> Result<bool, Errno> {
    for bit in 0..u64::BITS {
        let one = set_of(bit);
        match capability_is_in_bounding_set(one) {
            Ok(true) if !mask.contains(one) => match remove_capability_from_bounding_set(one) {
                Ok(()) => {}
                Err(Errno::PERM) => return Ok(false),
                Err(error) => return Err(error),
            },
            Ok(_) => {}
            // The kernel supports neither this capability nor any capability with a higher number.
            Err(Errno::INVAL) => break,
            Err(error) => return Err(error),
        }
    }
    Ok(true)
}

fn set_of(bit: u32) -> CapabilitySet {
    CapabilitySet::from_bits_retain(1 << bit)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn capability_names_match_their_numbers() {
        for (capability, set) in [
            (NEEDED[0], CapabilitySet::DAC_READ_SEARCH),
            (NEEDED[1], CapabilitySet::NET_ADMIN),
            (NEEDED[2], CapabilitySet::SYS_PTRACE),
            (NEEDED[3], CapabilitySet::SYS_ADMIN),
            (LOW_PORTS, CapabilitySet::NET_BIND_SERVICE),
        ] {
            assert_eq!(set_of(capability.bit), set, "{}", capability.name);
        }
    }

    #[test]
    fn reduce_fails_if_there_are_other_threads() {
        // The test harness runs each test on its own thread, so the process has more than one thread.
        let before = capabilities(None).expect("readable capabilities");
        let refused = std::thread::spawn(|| reduce(false)).join().expect("reduce without panic");
        assert!(matches!(refused, Err(PrivilegeError::Threads(_))), "{refused:?}");
        assert_eq!(capabilities(None).expect("readable capabilities"), before);
    }
}
