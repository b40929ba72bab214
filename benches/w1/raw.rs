//! Second baseline: raw netlink requests in the fastest known order.
//!
//! Two threads create the namespaces. Many requests are packed into each send. All pairs are created from a private namespace, directly in their
//! final namespaces and with preset indexes. Then all links in each namespace are brought up and get their aliases. Finally, addresses, routes and
//! neighbours are added. Only the last request of each send is acknowledged. See [`make`] and [`delete_grouped`].

use std::{
    fs::File,
    os::fd::AsRawFd,
    sync::{
        Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use nix::{
    libc,
    mount::{MsFlags, mount},
    sched::{CloneFlags, setns, unshare},
};

use crate::{
    network::{Network, PAIR_PREFIX, ROUTE_PREFIX},
    wire::{Batch, WireSocket},
};

/// Index of the first link. Each end of a pair gets an index that is unique across all namespaces.
const FIRST_INDEX: u32 = 1_000_000;
/// Number of threads that delete links in parallel.
const DELETERS: usize = 32;
/// Link group (IFLA_GROUP) of the links to delete.
const DELETED: u32 = 4711;

const CREATE: i32 = libc::NLM_F_CREATE | libc::NLM_F_EXCL;
/// VETH_INFO_PEER of linux/veth.h.
const VETH_INFO_PEER: u16 = 1;
/// NDA_PROTOCOL of linux/neighbour.h.
const NDA_PROTOCOL: u16 = 12;
const PROTOCOL: u8 = 158;

/// An open namespace with a netlink socket in it.
struct Place {
    file: File,
    socket: WireSocket,
}

/// Creates all objects of W1, and returns how long that took.
pub fn make(network: &Network) -> Duration {
    let start = Instant::now();
    let places = create_namespaces(network);
    create_pairs(network, &places);
    let mut batches: Vec<Batch> = places.iter().map(|_| Batch::default()).collect();
    for (number, pair) in network.pairs.iter().enumerate() {
        for (side, end) in pair.ends.iter().enumerate() {
            let up = libc::IFF_UP as u32;
            let request = batches[end.netns].request(libc::RTM_NEWLINK, 0, &link_header(index(number, side), up, up));
            request.attribute(libc::IFLA_IFALIAS, end.alias.as_bytes());
        }
    }
    for (number, pair) in network.pairs.iter().enumerate() {
        for (side, end) in pair.ends.iter().enumerate() {
            let header = address_header(index(number, side));
            let request = batches[end.netns].request(libc::RTM_NEWADDR, CREATE, &header);
            request.attribute(libc::IFA_LOCAL, &end.address.octets());
            request.attribute(libc::IFA_ADDRESS, &end.address.octets());
        }
        let [left, right] = &pair.ends;
        let request = batches[left.netns].request(libc::RTM_NEWROUTE, CREATE, &route_header());
        request.attribute(libc::RTA_DST, &pair.route.octets());
        request.attribute(libc::RTA_OIF, &index(number, 0).to_ne_bytes());
        request.attribute(libc::RTA_GATEWAY, &right.address.octets());
        let (address, mac) = pair.neighbour;
        let request = batches[right.netns].request(libc::RTM_NEWNEIGH, CREATE, &neighbour_header(index(number, 1)));
        request.attribute(libc::NDA_DST, &address.octets());
        request.attribute(libc::NDA_LLADDR, &mac);
        request.attribute(NDA_PROTOCOL, &[PROTOCOL]);
    }
    for (batch, place) in batches.iter_mut().zip(&places) {
        batch.send(&place.socket);
    }
    start.elapsed()
}

/// Deletes all pairs, and returns how long that took.
///
/// Each thread repeatedly takes the next namespace, adds the left ends in this namespace to a link group, and deletes the group. The function uses
/// many threads, so that their waits for the kernel overlap. The function relies on the link indexes that [`make`] has assigned.
pub fn delete_grouped(network: &Network) -> Duration {
    let start = Instant::now();
    let places = Mutex::new(
        (0..network.namespaces.len())
            .map(|number| open(&network.namespaces[number]))
            .enumerate(),
    );
    thread::scope(|scope| {
        for _ in 0..DELETERS {
            scope.spawn(|| {
                loop {
                    // Hold the lock only while opening the next namespace.
                    let Some((number, place)) = places.lock().expect("no thread fails").next() else {
                        return;
                    };
                    delete_in(network, number, &place);
                }
            });
        }
    });
    start.elapsed()
}

fn delete_in(network: &Network, number: usize, place: &Place) {
    let mut batch = Batch::default();
    let mut any = false;
    for (pair, _) in network.pairs.iter().enumerate().filter(|(_, pair)| pair.ends[0].netns == number) {
        let request = batch.request(libc::RTM_SETLINK, 0, &link_header(index(pair, 0), 0, 0));
        request.attribute(libc::IFLA_GROUP, &DELETED.to_ne_bytes());
        any = true;
    }
    if any {
        batch.send(&place.socket);
        let mut batch = Batch::default();
        batch
            .request(libc::RTM_DELLINK, 0, &link_header(0, 0, 0))
            .attribute(libc::IFLA_GROUP, &DELETED.to_ne_bytes());
        batch.send(&place.socket);
    }
}

fn index(pair: usize, side: usize) -> u32 {
    FIRST_INDEX + u32::try_from(2 * pair + side).expect("some thousand links")
}

/// Opens a socket in an existing namespace.
fn open(name: &str) -> Place {
    let file = File::open(format!("/run/netns/{name}")).unwrap_or_else(|error| panic!("namespace {name}: {error}"));
    let enter = || {
        setns(&file, CloneFlags::CLONE_NEWNET).expect("enter the namespace");
        WireSocket::open()
    };
    let socket = thread::scope(|scope| scope.spawn(enter).join().expect("join the entering thread"));
    Place { file, socket }
}

fn create_namespaces(network: &Network) -> Vec<Place> {
    let next = AtomicUsize::new(0);
    let work = || {
        let mut made = Vec::new();
        loop {
            let number = next.fetch_add(1, Ordering::Relaxed);
            let Some(name) = network.namespaces.get(number) else { return made };
            made.push((number, create_namespace(name)));
        }
    };
    thread::scope(|scope| {
        let threads = [scope.spawn(work), scope.spawn(work)];
        let mut places: Vec<_> = threads
            .into_iter()
            .flat_map(|thread| thread.join().expect("join a creating thread"))
            .collect();
        places.sort_by_key(|(number, _)| *number);
        places.into_iter().map(|(_, place)| place).collect()
    })
}

/// Creates a named namespace and moves the calling thread into it.
fn create_namespace(name: &str) -> Place {
    unshare(CloneFlags::CLONE_NEWNET).expect("create a namespace");
    let socket = WireSocket::open();
    let up = libc::IFF_UP as u32;
    let mut batch = Batch::default();
    batch.request(libc::RTM_NEWLINK, 0, &link_header(1, up, up));
    batch.send(&socket);
    let path = format!("/run/netns/{name}");
    File::create_new(&path).expect("create the mount point");
    let current = "/proc/thread-self/ns/net";
    mount(Some(current), path.as_str(), None::<&str>, MsFlags::MS_BIND, None::<&str>).expect("mount the namespace");
    Place {
        file: File::open(current).expect("open the namespace"),
        socket,
    }
}

fn create_pairs(network: &Network, places: &[Place]) {
    let private = thread::spawn(|| {
        unshare(CloneFlags::CLONE_NEWNET).expect("create a namespace");
        WireSocket::open()
    });
    let private = private.join().expect("join the thread in the private namespace");
    let mut batch = Batch::default();
    for (number, pair) in network.pairs.iter().enumerate() {
        let [left, right] = [0, 1].map(|side| {
            let end = &pair.ends[side];
            let descriptor = places[end.netns].file.as_raw_fd();
            let attributes = [
                Batch::nested(libc::IFLA_IFNAME, format!("{}\0", end.name).as_bytes()),
                Batch::nested(libc::IFLA_NET_NS_FD, &descriptor.to_ne_bytes()),
                Batch::nested(libc::IFLA_NUM_TX_QUEUES, &1_u32.to_ne_bytes()),
                Batch::nested(libc::IFLA_NUM_RX_QUEUES, &1_u32.to_ne_bytes()),
            ]
            .concat();
            [&link_header(index(number, side), 0, 0)[..], &attributes].concat()
        });
        let data = Batch::nested(VETH_INFO_PEER, &right);
        let info = [
            Batch::nested(libc::IFLA_INFO_KIND, b"veth"),
            Batch::nested(libc::IFLA_INFO_DATA, &data),
        ]
        .concat();
        batch
            .request(libc::RTM_NEWLINK, CREATE, &left)
            .attribute(libc::IFLA_LINKINFO, &info);
    }
    batch.send(&private);
}

/// Returns a `struct ifinfomsg`.
fn link_header(index: u32, flags: u32, change: u32) -> [u8; 16] {
    let mut header = [0; 16];
    header[4..8].copy_from_slice(&index.to_ne_bytes());
    header[8..12].copy_from_slice(&flags.to_ne_bytes());
    header[12..].copy_from_slice(&change.to_ne_bytes());
    header
}

/// Returns a `struct ifaddrmsg`.
fn address_header(index: u32) -> [u8; 8] {
    let [a, b, c, d] = index.to_ne_bytes();
    [libc::AF_INET as u8, PAIR_PREFIX, 0, 0, a, b, c, d]
}

/// Returns a `struct rtmsg`.
fn route_header() -> [u8; 12] {
    let (table, scope, kind) = (libc::RT_TABLE_MAIN, libc::RT_SCOPE_UNIVERSE, libc::RTN_UNICAST);
    [libc::AF_INET as u8, ROUTE_PREFIX, 0, 0, table, PROTOCOL, scope, kind, 0, 0, 0, 0]
}

/// Returns a `struct ndmsg`.
fn neighbour_header(index: u32) -> [u8; 12] {
    let [a, b, c, d] = index.to_ne_bytes();
    let [low, high] = libc::NUD_PERMANENT.to_ne_bytes();
    [libc::AF_INET as u8, 0, 0, 0, a, b, c, d, low, high, 0, 0]
}
