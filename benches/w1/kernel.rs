//! Counts the objects in the kernel, and deletes them. See [`check`] and [`clear`].
//!
//! The measured times do not include the time for counting and deleting.

use std::{
    fs::{self, File},
    thread,
    time::{Duration, Instant},
};

use nix::{
    libc,
    mount::{MntFlags, umount2},
    sched::{CloneFlags, setns},
};

use crate::{
    network::Network,
    support::command::{ip, named_namespaces},
    wire::WireSocket,
};

/// Maximum time to wait until the kernel has cleaned up deleted namespaces.
const TIME_LIMIT: Duration = Duration::from_secs(120);
/// Name of the namespace that is deleted last. A link to this namespace has the same name. Once the link is gone, the kernel has cleaned up all
/// namespaces.
const CANARY: &str = "canary";

/// Number of objects of each kind in all named namespaces.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Counts {
    /// Named namespaces.
    pub namespaces: usize,
    /// Links other than `lo` that are up and have an alias.
    pub links: usize,
    /// IPv4 addresses, except on `lo`.
    pub addresses: usize,
    /// IPv4 routes of protocol 158.
    pub routes: usize,
    /// Permanent neighbours, except on `lo`.
    pub neighbours: usize,
}

impl Counts {
    /// Returns the expected counts when all objects of W1 exist.
    pub fn of(network: &Network) -> Self {
        let pairs = network.pairs.len();
        Self {
            namespaces: network.namespaces.len(),
            links: 2 * pairs,
            addresses: 2 * pairs,
            routes: pairs,
            neighbours: pairs,
        }
    }

    /// Returns the expected counts when the namespaces of W1 exist but are empty.
    pub fn empty(network: &Network) -> Self {
        Self {
            namespaces: network.namespaces.len(),
            ..Self::default()
        }
    }

    /// Counts the objects in all named namespaces.
    pub fn read() -> Self {
        let names = named_namespaces();
        let mut counts = Self {
            namespaces: names.len(),
            ..Self::default()
        };
        let work = || names.iter().for_each(|name| counts.add(&visit(name)));
        thread::scope(|scope| scope.spawn(work).join().expect("join the counting thread"));
        counts
    }

    fn add(&mut self, socket: &WireSocket) {
        let number = |payload: &[u8], at: usize| u32::from_ne_bytes(payload[at..at + 4].try_into().expect("four bytes"));
        self.links += socket.count(libc::RTM_GETLINK, &[0; 16], |link| {
            number(link, 4) != 1 && number(link, 8) & libc::IFF_UP as u32 != 0 && has_attribute(&link[16..], libc::IFLA_IFALIAS)
        });
        let ipv4 = libc::AF_INET as u8;
        self.addresses += socket.count(libc::RTM_GETADDR, &[ipv4, 0, 0, 0, 0, 0, 0, 0], |address| number(address, 4) != 1);
        let mut route = [0; 12];
        route[0] = ipv4;
        self.routes += socket.count(libc::RTM_GETROUTE, &route, |route| route[5] == 158);
        self.neighbours += socket.count(libc::RTM_GETNEIGH, &[0; 12], |neighbour| {
            neighbour[0] == ipv4 && number(neighbour, 4) != 1 && neighbour[8] & libc::NUD_PERMANENT as u8 != 0
        });
    }
}

/// Panics if the objects in the kernel differ from `expected`. `what` names the action that preceded the check.
pub fn check(what: &str, expected: Counts) {
    let found = Counts::read();
    assert_eq!(found, expected, "unexpected objects in the kernel after {what}");
}

/// Moves the calling thread permanently into a namespace, and opens a socket there.
fn visit(name: &str) -> WireSocket {
    let file = File::open(format!("/run/netns/{name}")).unwrap_or_else(|error| panic!("namespace {name}: {error}"));
    setns(file, CloneFlags::CLONE_NEWNET).expect("enter the namespace");
    WireSocket::open()
}

fn has_attribute(mut attributes: &[u8], wanted: u16) -> bool {
    while attributes.len() >= 4 {
        let length = usize::from(u16::from_ne_bytes([attributes[0], attributes[1]]));
        if u16::from_ne_bytes([attributes[2], attributes[3]]) == wanted {
            return true;
        }
        attributes = attributes.get(length.next_multiple_of(4)..).unwrap_or_default();
    }
    false
}

/// Deletes all named namespaces and waits for the kernel's clean-up, which would otherwise slow down the next run.
pub fn clear() {
    ip(&format!("netns add {CANARY}"));
    ip(&format!("link add {CANARY} type veth peer name {CANARY} netns {CANARY}"));
    let mut names = named_namespaces();
    names.sort_by_key(|name| name == CANARY);
    for name in &names {
        let path = format!("/run/netns/{name}");
        umount2(path.as_str(), MntFlags::MNT_DETACH).unwrap_or_else(|error| panic!("cannot unmount {path}: {error}"));
        fs::remove_file(&path).unwrap_or_else(|error| panic!("cannot remove {path}: {error}"));
    }
    // The kernel cleans up namespaces in the order of their deletion, so the canary's link is deleted last.
    let deadline = Instant::now() + TIME_LIMIT;
    while ip("-br link").contains(CANARY) {
        assert!(Instant::now() < deadline, "the kernel has not cleaned up after {TIME_LIMIT:?}");
        thread::sleep(Duration::from_millis(5));
    }
}
