//! What the process may do: nothing but what configuring networks takes.
//!
//! Owns the list of capabilities, and giving up all others. Must never ask for more than the process was given. Start reading at
//! [`NEEDED`] and [`reduce`].
//!
//! Capabilities belong to threads and pass to the threads that they start, so this is done while there is only one.

use std::{fs, io};

use rustix::{
    io::Errno,
    thread::{
        CapabilitySet, CapabilitySets, capabilities, capability_is_in_bounding_set, clear_ambient_capability_set,
        remove_capability_from_bounding_set, set_capabilities, set_no_new_privs,
    },
};

/// A capability (capabilities(7)), and what it is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Capability {
    /// Its name in the manual.
    pub name: &'static str,
    /// Its number (linux/capability.h).
    pub bit: u32,
    /// What does not work without it.
    pub purpose: &'static str,
}

/// What the agent needs, whatever it is told to do.
pub const NEEDED: [Capability; 4] = [
    Capability {
        name: "CAP_DAC_READ_SEARCH",
        bit: 2,
        purpose: "namespace files, keys and sockets in folders that only their owner may enter",
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
        purpose: "making, naming and entering namespaces",
    },
];

/// What it needs besides to listen on a port that only the privileged may use.
pub const LOW_PORTS: Capability = Capability {
    name: "CAP_NET_BIND_SERVICE",
    bit: 10,
    purpose: "an API on a port below 1024",
};

/// Why the process keeps what it does not need.
#[derive(Debug, thiserror::Error)]
pub enum PrivilegeError {
    /// It would concern one thread only.
    #[error("there are {0} threads already, and only one would give its capabilities up")]
    Threads(usize),
    /// The kernel does not do it.
    #[error("{what}: {error}")]
    Refused {
        /// What was asked for.
        what: &'static str,
        /// The kernel's words.
        error: io::Error,
    },
}

/// What is left of the capabilities.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reduced {
    /// Those that were kept and are there.
    pub kept: Vec<&'static str>,
    /// Those that are needed and were not there before.
    pub missing: Vec<Capability>,
    /// Whether the bounding set could be made smaller, too. It takes CAP_SETPCAP; without, nothing can be gained from it all the same,
    /// because no program that is started gets new privileges.
    pub bounded: bool,
}

/// Gives up all capabilities but those that are needed, for good, and lets no program that is started get new ones.
///
/// # Errors
/// There are other threads, or the kernel refuses. Then the process may have more than it needs.
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
    // The bounding set first: making it smaller takes a capability that is given up.
    let bounded = bound(mask).map_err(refused("cannot make the bounding set smaller"))?;
    clear_ambient_capability_set().map_err(refused("cannot clear the ambient capabilities"))?;
    let before = capabilities(None).map_err(refused("cannot read the capabilities"))?;
    let kept = before.permitted.intersection(mask);
    let sets = CapabilitySets {
        effective: kept,
        permitted: kept,
        inheritable: CapabilitySet::empty(),
    };
    set_capabilities(None, sets).map_err(refused("cannot give up capabilities"))?;
    set_no_new_privs(true).map_err(refused("cannot refuse new privileges"))?;
    let (kept, missing): (Vec<Capability>, Vec<Capability>) =
        needed.into_iter().partition(|capability| kept.contains(set_of(capability.bit)));
    Ok(Reduced {
        kept: kept.iter().map(|capability| capability.name).collect(),
        missing,
        bounded,
    })
}

/// Takes all others out of the bounding set; answers whether that is allowed.
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
            // The kernel knows no further ones.
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
    fn names_and_numbers_belong_together() {
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
    fn one_thread_of_many_keeps_what_it_has() {
        // The test harness has a thread for each test and one for itself.
        let before = capabilities(None).expect("readable");
        let refused = std::thread::spawn(|| reduce(false)).join().expect("no panic");
        assert!(matches!(refused, Err(PrivilegeError::Threads(_))), "{refused:?}");
        assert_eq!(capabilities(None).expect("readable"), before);
    }
}
