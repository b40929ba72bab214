//! Netlink sockets that listen in a namespace, to prove that nothing was written there.
//!
//! The kernel queues the notification of a change while it handles the request. When a change has been acknowledged, its
//! notification is already in the socket, so it can be read later. See [`Monitor`].

use std::{
    fs::File,
    os::fd::AsFd,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use nix::{
    poll::{PollFd, PollFlags, PollTimeout, poll},
    sched::CloneFlags,
};
use rtnetlink::packet_core::{NetlinkMessage, NetlinkPayload};
use rtnetlink::packet_route::{
    RouteNetlinkMessage,
    address::AddressAttribute,
    link::LinkAttribute,
    neighbour::{NeighbourAddress, NeighbourAttribute, NeighbourMessage, NeighbourState},
    route::{RouteAddress, RouteAttribute, RouteProtocol},
};
use rtnetlink::sys::{Socket, SocketAddr, protocols::NETLINK_ROUTE};

/// Multicast groups of links, neighbours, IPv4 addresses and routes, rules, and IPv6 addresses and routes (RTNLGRP_*,
/// linux/rtnetlink.h).
const GROUPS: [u32; 7] = [1, 3, 5, 7, 8, 9, 11];

/// Size of the receive buffer, which is enough for several thousand notifications. Tests with a monitor expect few or none.
const RECEIVE_BUFFER_BYTES: usize = 4 << 20;

/// A netlink socket that listens in one namespace.
pub struct Monitor {
    socket: Socket,
    name: String,
}

/// Records when notifications arrive in any of several namespaces.
pub struct Arrivals {
    times: tokio::sync::mpsc::UnboundedReceiver<Instant>,
    /// Arrival time that `wait` has received but `newest` has not returned yet.
    awaited: Option<Instant>,
    stop: Arc<AtomicBool>,
}

impl Arrivals {
    /// Starts a thread that listens in these namespaces and records the time of each notification.
    pub fn start(namespaces: &[PathBuf]) -> Self {
        let sockets: Vec<Socket> = namespaces.iter().map(|path| Monitor::open(path).socket).collect();
        let (sender, times) = tokio::sync::mpsc::unbounded_channel();
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = stop.clone();
        std::thread::spawn(move || {
            while !stopped.load(Ordering::Relaxed) {
                let mut polled: Vec<PollFd> = sockets
                    .iter()
                    .map(|socket| PollFd::new(socket.as_fd(), PollFlags::POLLIN))
                    .collect();
                if poll(&mut polled, PollTimeout::from(50u8)).unwrap_or(0) == 0 {
                    continue;
                }
                let now = Instant::now();
                let mut datagram = Vec::with_capacity(16 * 1024);
                for socket in &sockets {
                    loop {
                        datagram.clear();
                        match socket.recv(&mut datagram, nix::libc::MSG_DONTWAIT) {
                            Ok(_) => {}
                            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => break,
                            // The receive buffer overflowed. Notifications were lost, but the time at which they arrived is
                            // known.
                            Err(_) => {}
                        }
                    }
                }
                if sender.send(now).is_err() {
                    return;
                }
            }
        });
        Self {
            times,
            awaited: None,
            stop,
        }
    }

    /// Returns the arrival time of the newest notification since the last call, if any.
    pub fn newest(&mut self) -> Option<Instant> {
        let mut newest = self.awaited.take();
        while let Ok(time) = self.times.try_recv() {
            newest = Some(time);
        }
        newest
    }

    /// Waits for the next notification, but not longer than `at_most`.
    pub async fn wait(&mut self, at_most: Duration) {
        if let Ok(Some(time)) = tokio::time::timeout(at_most, self.times.recv()).await {
            self.awaited = Some(time);
        }
    }
}

impl Drop for Arrivals {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}

impl Monitor {
    /// Starts listening in the namespace of this file.
    pub fn open(netns: &Path) -> Self {
        let name = netns.display().to_string();
        let file = File::open(netns).unwrap_or_else(|error| panic!("namespace {name}: {error}"));
        // A socket stays in the namespace in which it was opened, so only this short-lived thread enters the namespace.
        let socket = std::thread::spawn(move || {
            nix::sched::setns(&file, CloneFlags::CLONE_NEWNET).expect("enter the namespace");
            let mut socket = Socket::new(NETLINK_ROUTE).expect("open a netlink socket");
            socket.set_rx_buf_sz(RECEIVE_BUFFER_BYTES).expect("set a large receive buffer");
            socket.bind(&SocketAddr::new(0, 0)).expect("bind the socket");
            for group in GROUPS {
                socket.add_membership(group).expect("join a multicast group");
            }
            socket.set_non_blocking(true).expect("make the socket non-blocking");
            socket
        })
        .join()
        .expect("the thread that enters the namespace");
        Self { socket, name }
    }

    /// Returns the changes since the last call as text, except for those that the kernel makes by itself.
    pub fn changes(&mut self) -> Vec<String> {
        let mut changes = Vec::new();
        loop {
            let datagram = match self.socket.recv_from_full() {
                Ok((datagram, _)) => datagram,
                Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => return changes,
                Err(error) => panic!(
                    "monitor in {}: {error} (ENOBUFS means that there were far more changes than expected)",
                    self.name
                ),
            };
            let mut rest = datagram.as_slice();
            while rest.len() >= 16 {
                let message = NetlinkMessage::<RouteNetlinkMessage>::deserialize(rest)
                    .unwrap_or_else(|error| panic!("monitor in {}: {error}", self.name));
                let length = (message.header.length as usize).next_multiple_of(4).min(rest.len());
                if let NetlinkPayload::InnerMessage(message) = &message.payload
                    && !is_kernels_own(message)
                {
                    changes.push(describe(message));
                }
                rest = &rest[length..];
            }
        }
    }

    /// Panics if anything has changed since the last call.
    pub fn assert_silent(&mut self, during: &str) {
        let changes = self.changes();
        assert!(
            changes.is_empty(),
            "{during}: {} netlink writes in {}:\n{}",
            changes.len(),
            self.name,
            changes.join("\n")
        );
    }
}

/// Returns true for changes that the kernel makes by itself. They affect dynamic neighbours, and link-local and multicast
/// addresses and routes.
fn is_kernels_own(message: &RouteNetlinkMessage) -> bool {
    match message {
        // Neighbour resolution adds and changes entries all the time. Only people and agents add permanent ones.
        RouteNetlinkMessage::NewNeighbour(neighbour) => neighbour.header.state != NeighbourState::Permanent || is_multicast(neighbour),
        // An entry that is being deleted is no longer permanent. Recognize it by its protocol, which entries from people and
        // agents usually have.
        RouteNetlinkMessage::DelNeighbour(neighbour) => {
            !neighbour.attributes.iter().any(|attribute| matches!(attribute, NeighbourAttribute::Protocol(_)))
        }
        RouteNetlinkMessage::NewAddress(address) | RouteNetlinkMessage::DelAddress(address) => address
            .attributes
            .iter()
            .any(|attribute| matches!(attribute, AddressAttribute::Address(std::net::IpAddr::V6(address)) if address.segments()[0] & 0xffc0 == 0xfe80)),
        RouteNetlinkMessage::NewRoute(route) | RouteNetlinkMessage::DelRoute(route) => {
            route.header.protocol == RouteProtocol::Kernel
                && route.attributes.iter().any(|attribute| {
                    matches!(attribute, RouteAttribute::Destination(RouteAddress::Inet6(address)) if address.segments()[0] & 0xff00 == 0xff00 || address.segments()[0] & 0xffc0 == 0xfe80)
                })
        }
        _ => false,
    }
}

/// Returns true for an entry that the kernel keeps for IPv6 multicast.
fn is_multicast(neighbour: &NeighbourMessage) -> bool {
    neighbour
        .attributes
        .iter()
        .any(|attribute| matches!(attribute, NeighbourAttribute::Destination(NeighbourAddress::Inet6(address)) if address.is_multicast()))
}

/// Describes a change in one line. Shows only a few attributes of a link, because a whole message fills a screen.
fn describe(message: &RouteNetlinkMessage) -> String {
    let link_text = |verb: &str, link: &rtnetlink::packet_route::link::LinkMessage| {
        let shown: Vec<String> = link
            .attributes
            .iter()
            .filter(|attribute| {
                matches!(
                    attribute,
                    LinkAttribute::IfName(_) | LinkAttribute::IfAlias(_) | LinkAttribute::OperState(_) | LinkAttribute::Mtu(_)
                )
            })
            .map(|attribute| format!("{attribute:?}"))
            .collect();
        format!(
            "{verb} link {} flags {:?} {}",
            link.header.index,
            link.header.flags,
            shown.join(" ")
        )
    };
    match message {
        RouteNetlinkMessage::NewLink(link) => link_text("new or changed", link),
        RouteNetlinkMessage::DelLink(link) => link_text("deleted", link),
        other => format!("{other:?}"),
    }
}
