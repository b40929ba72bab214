//! Watches namespaces for relevant changes made by any program.
//!
//! Uses one multicast socket for each watched namespace and one thread that reads all sockets. An event contains only the
//! namespace id; the receiver reads the namespace again.
//!
//! # Guarantees
//!
//! After an event for a namespace, the monitor sends no further event for it until [`Watches::rearm`] is called. If the namespace
//! changes before that call, the next event is sent immediately after the call. The receiver can read the namespace before or
//! after the call without missing a change. A burst of changes causes a single event.
//!
//! # Caveats
//!
//! Subscribed sockets slow down every program that changes networking on the machine: 1,000 sockets make each operation 38 µs
//! slower. The number of sockets is therefore limited, and [`Watches::listen`] pauses all subscriptions while the agent itself
//! makes a large number of changes.

use std::{
    collections::HashMap,
    io,
    os::fd::AsFd,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
};

use nix::{
    libc,
    sys::{
        epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout},
        eventfd::{EfdFlags, EventFd},
    },
};
use rtnetlink::sys::{Socket, SocketAddr, protocols::NETLINK_ROUTE};
use tokio::sync::mpsc::UnboundedSender;

use super::{
    neighbour,
    netlink::{Received, messages},
    operation::{NetnsId, PROTOCOL},
    route,
};

/// Multicast groups of links, addresses, routes and neighbours (RTNLGRP_* in linux/rtnetlink.h).
const GROUPS: [u32; 6] = [
    libc::RTNLGRP_LINK,
    libc::RTNLGRP_IPV4_IFADDR,
    libc::RTNLGRP_IPV6_IFADDR,
    libc::RTNLGRP_IPV4_ROUTE,
    libc::RTNLGRP_IPV6_ROUTE,
    libc::RTNLGRP_NEIGH,
];
/// Epoll data of the eventfd that tells the thread to end. No namespace has this inode number.
const STOP: u64 = u64::MAX;
/// Maximum number of datagrams read from one socket before the next socket is read.
const DATAGRAMS_MAX: usize = 256;
/// Size of the receive buffer, in bytes. A notification that does not fit is treated as relevant.
const NOTIFICATION_BYTES: usize = 16 * 1024;
/// Epoll flags that report a socket once. The socket is not reported again until it is rearmed.
const ONCE: EpollFlags = EpollFlags::EPOLLIN.union(EpollFlags::EPOLLONESHOT);

/// Opens a socket in the namespace of the calling thread and subscribes it to changes. From then on, all changes are queued on
/// the socket.
pub(super) fn subscribe() -> io::Result<Socket> {
    let mut socket = Socket::new(NETLINK_ROUTE)?;
    socket.bind(&SocketAddr::new(0, all_groups()))?;
    Ok(socket)
}

/// Returns all multicast groups as a bit mask for bind(2), in which group n is bit n - 1.
///
/// With the mask, one system call subscribes to all groups.
fn all_groups() -> u32 {
    GROUPS.iter().fold(0, |mask, group| mask | 1 << (group - 1))
}

/// Subscribes a socket that is already bound, or ends its subscriptions. Queued messages are kept.
fn set_subscribed(socket: &mut Socket, on: bool) -> io::Result<()> {
    let mut address = SocketAddr::new(0, 0);
    socket.get_address(&mut address)?;
    // A second bind to the same port replaces the groups (`netlink_bind` in net/netlink/af_netlink.c).
    socket.bind(&SocketAddr::new(address.port_number(), if on { all_groups() } else { 0 }))
}

/// The thread that watches namespaces. Dropping the monitor ends the thread.
pub(super) struct Monitor {
    watches: Watches,
    thread: Option<JoinHandle<()>>,
}

/// The set of watched namespaces, shared between the watching thread and the code that changes the set.
#[derive(Clone)]
pub(super) struct Watches(Arc<Shared>);

struct Shared {
    epoll: Epoll,
    stop: EventFd,
    limit: usize,
    /// Sockets of the watched namespaces. The mutex is locked only during system calls that do not block.
    sockets: Mutex<HashMap<NetnsId, Socket>>,
    /// True while all subscriptions are paused. Changed only while `sockets` is locked.
    deaf: AtomicBool,
}

impl Monitor {
    /// Starts the thread, which watches at most `limit` namespaces. The id of a changed namespace is sent to `events`.
    pub fn start(limit: usize, events: UnboundedSender<NetnsId>) -> io::Result<Self> {
        let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?;
        let stop = EventFd::from_flags(EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK)?;
        epoll.add(&stop, EpollEvent::new(EpollFlags::EPOLLIN, STOP))?;
        let watches = Watches(Arc::new(Shared {
            epoll,
            stop,
            limit,
            sockets: Mutex::default(),
            deaf: AtomicBool::new(false),
        }));
        let thread = thread::Builder::new().name("netns-monitor".to_owned()).spawn({
            let watches = watches.clone();
            move || watches.run(&events)
        })?;
        Ok(Self {
            watches,
            thread: Some(thread),
        })
    }

    /// Returns the set of watched namespaces.
    pub fn watches(&self) -> &Watches {
        &self.watches
    }
}

impl Drop for Monitor {
    fn drop(&mut self) {
        // Writing fails only if the counter of the eventfd would overflow. In that case, the thread has already been told to end.
        let _ = self.watches.0.stop.write(1);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

impl Watches {
    /// Returns how many more namespaces can be watched.
    pub fn room(&self) -> usize {
        self.0.limit.saturating_sub(self.sockets().len())
    }

    /// Returns whether the namespace can be added. It must not be watched yet, and the limit must not be reached.
    pub fn wants(&self, netns: NetnsId) -> bool {
        let sockets = self.sockets();
        sockets.len() < self.0.limit && !sockets.contains_key(&netns)
    }

    /// Returns whether changes in the namespace cause events.
    pub fn contains(&self, netns: NetnsId) -> bool {
        self.sockets().contains_key(&netns)
    }

    /// Starts watching a namespace. The socket must have been opened with [`subscribe`].
    pub fn add(&self, netns: NetnsId, mut socket: Socket) -> io::Result<()> {
        let mut sockets = self.sockets();
        if self.0.deaf.load(Ordering::Relaxed) {
            set_subscribed(&mut socket, false)?;
        }
        self.0.epoll.add(&socket, EpollEvent::new(ONCE, netns.0))?;
        sockets.insert(netns, socket);
        Ok(())
    }

    /// Pauses or resumes all subscriptions.
    ///
    /// Changes during the pause cause no events, so the caller must read all watched namespaces after resuming.
    pub fn listen(&self, on: bool) {
        let mut sockets = self.sockets();
        if self.0.deaf.swap(!on, Ordering::Relaxed) == on {
            // A socket that cannot be paused is harmless: it only costs time. A socket that cannot be resumed is closed, and its
            // namespace is read periodically instead.
            sockets.retain(|_, socket| set_subscribed(socket, on).is_ok() || !on);
        }
    }

    /// Stops watching a namespace.
    pub fn remove(&self, netns: NetnsId) {
        // Closing the only descriptor of a socket also removes it from the epoll set (epoll(7)).
        self.sockets().remove(&netns);
    }

    /// Enables the next event for the namespace. If the namespace has changed since the last event, the next event is sent
    /// immediately.
    pub fn rearm(&self, netns: NetnsId) {
        if let Some(socket) = self.sockets().get(&netns) {
            self.arm(netns, socket);
        }
    }

    fn arm(&self, netns: NetnsId, socket: &Socket) {
        // Modifying cannot fail, because the socket is in the epoll set (epoll_ctl(2)).
        let _ = self.0.epoll.modify(socket.as_fd(), &mut EpollEvent::new(ONCE, netns.0));
    }

    fn sockets(&self) -> MutexGuard<'_, HashMap<NetnsId, Socket>> {
        // The map is consistent after every statement, so it can still be used if a thread panicked while it had the lock.
        self.0.sockets.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn run(&self, events: &UnboundedSender<NetnsId>) {
        let mut ready = [EpollEvent::empty(); 64];
        loop {
            let count = match self.0.epoll.wait(&mut ready, EpollTimeout::NONE) {
                Ok(count) => count,
                Err(nix::errno::Errno::EINTR) => continue,
                Err(_) => return,
            };
            for event in &ready[..count] {
                if event.data() == STOP {
                    return;
                }
                let netns = NetnsId(event.data());
                if self.drain(netns) && events.send(netns).is_err() {
                    return;
                }
            }
        }
    }

    /// Reads the queued messages of a namespace. Returns whether any message is relevant. If no message is relevant, rearms the
    /// namespace.
    fn drain(&self, netns: NetnsId) -> bool {
        let sockets = self.sockets();
        let Some(socket) = sockets.get(&netns) else { return false };
        let mut relevant = false;
        let mut datagram = Vec::with_capacity(NOTIFICATION_BYTES);
        for _ in 0..DATAGRAMS_MAX {
            datagram.clear();
            match socket.recv(&mut datagram, libc::MSG_DONTWAIT | libc::MSG_TRUNC) {
                Ok(length) => relevant = relevant || length > datagram.len() || messages(&datagram).any(|message| matters(&message)),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                // ENOBUFS means that messages were lost, so anything may have changed. The kernel reports it once, and reading
                // can continue.
                Err(_) => relevant = true,
            }
        }
        if !relevant {
            self.arm(netns, socket);
        }
        relevant
    }
}

/// Returns whether a notification may be about an object that the agent manages.
fn matters(message: &Received<'_>) -> bool {
    match message.kind {
        libc::RTM_NEWLINK | libc::RTM_DELLINK | libc::RTM_NEWADDR | libc::RTM_DELADDR => true,
        // This route replaced another one, possibly a route of the agent.
        libc::RTM_NEWROUTE if i32::from(message.flags) & libc::NLM_F_REPLACE != 0 => true,
        libc::RTM_DELROUTE if is_of_address(message.payload) => true,
        libc::RTM_NEWROUTE | libc::RTM_DELROUTE => message.payload.get(5) == Some(&PROTOCOL),
        libc::RTM_NEWNEIGH | libc::RTM_DELNEIGH => matters_neighbour(message.payload),
        _ => false,
    }
}

/// Returns whether the kernel created this route for an address.
///
/// The deletion of such a route is relevant, because another program may have deleted the route without its address.
fn is_of_address(payload: &[u8]) -> bool {
    let local_or_connected = |kind: &u8| matches!(*kind, libc::RTN_LOCAL | libc::RTN_UNICAST);
    payload.get(5) == Some(&route::KERNEL) && payload.get(7).is_some_and(local_or_connected)
}

/// Returns whether a neighbour notification is relevant. Notifications of bridge entries arrive in the same group and are
/// ignored.
///
/// Entries with the agent's protocol are relevant. The protocol of an entry stays the same when another program changes or
/// deletes the entry. Permanent foreign entries are relevant, because they may have replaced an entry of the agent. Entries
/// that the kernel has learnt are not relevant.
fn matters_neighbour(payload: &[u8]) -> bool {
    let family = payload.first().map_or(0, |family| i32::from(*family));
    (family == libc::AF_INET || family == libc::AF_INET6)
        && neighbour::parse(payload).is_some_and(|entry| entry.permanent || entry.protocol == PROTOCOL)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn neighbour(family: i32, state: u16, protocol: Option<u8>) -> Vec<u8> {
        let mut payload = vec![family as u8, 0, 0, 0, 7, 0, 0, 0];
        payload.extend(state.to_ne_bytes());
        payload.extend([0, 0]);
        if let Some(protocol) = protocol {
            payload.extend(5u16.to_ne_bytes());
            payload.extend(neighbour::NDA_PROTOCOL.to_ne_bytes());
            payload.extend([protocol, 0, 0, 0]);
        }
        payload
    }

    fn route(protocol: u8) -> Vec<u8> {
        vec![libc::AF_INET as u8, 24, 0, 0, 254, protocol, 0, 1, 0, 0, 0, 0]
    }

    fn relevant(kind: u16, flags: i32, payload: &[u8]) -> bool {
        matters(&Received {
            kind,
            flags: flags as u16,
            sequence: 0,
            payload,
        })
    }

    #[test]
    fn learnt_neighbours_are_irrelevant_and_own_ones_relevant() {
        assert!(!relevant(
            libc::RTM_NEWNEIGH,
            0,
            &neighbour(libc::AF_INET, libc::NUD_REACHABLE, None)
        ));
        assert!(!relevant(libc::RTM_DELNEIGH, 0, &neighbour(libc::AF_INET, libc::NUD_STALE, None)));
        assert!(relevant(
            libc::RTM_NEWNEIGH,
            0,
            &neighbour(libc::AF_INET, libc::NUD_PERMANENT, None)
        ));
        assert!(relevant(
            libc::RTM_DELNEIGH,
            0,
            &neighbour(libc::AF_INET6, libc::NUD_FAILED, Some(PROTOCOL))
        ));
        assert!(!relevant(
            libc::RTM_NEWNEIGH,
            0,
            &neighbour(libc::AF_BRIDGE, libc::NUD_PERMANENT, None)
        ));
    }

    #[test]
    fn foreign_routes_are_relevant_only_if_they_replace_a_route() {
        assert!(relevant(libc::RTM_DELROUTE, 0, &route(PROTOCOL)));
        assert!(!relevant(libc::RTM_NEWROUTE, 0, &route(3)));
        assert!(!relevant(libc::RTM_DELROUTE, 0, &route(3)));
        assert!(relevant(libc::RTM_NEWROUTE, libc::NLM_F_REPLACE, &route(3)));
    }

    #[test]
    fn deletion_of_a_kernel_route_of_an_address_is_relevant() {
        assert!(relevant(libc::RTM_DELROUTE, 0, &route(libc::RTPROT_KERNEL)));
        assert!(!relevant(libc::RTM_NEWROUTE, 0, &route(libc::RTPROT_KERNEL)));
        let mut broadcast = route(libc::RTPROT_KERNEL);
        broadcast[7] = libc::RTN_BROADCAST;
        assert!(!relevant(libc::RTM_DELROUTE, 0, &broadcast));
    }
}
