//! Which namespaces are pinned, and which of those have open sockets.
//!
//! Owns the bound on open sockets: beyond it those of the namespaces that were used least recently are closed, and opened again when they
//! are needed. Must never let a namespace go before its last open is given back. Start reading at [`Table::get_mut`].
//!
//! A pinned namespace takes one descriptor, and two more while it is awake. The more namespaces are pinned, the fewer may be awake, so
//! that all of them stay within their share of the limit of open files.

use std::{
    collections::{HashMap, hash_map::Entry},
    os::fd::{AsRawFd, OwnedFd, RawFd},
    sync::Arc,
};

use super::{
    ethtool::EthtoolSocket,
    failure,
    netlink::RouteSocket,
    operation::{Failure, NamespaceRef, NetnsId, Snapshot},
    snapshot,
};

/// How often each reference opened a namespace. Counted by reference, so that a reference that is given back once too often (to be
/// forgotten, say) does not take the namespace away from another.
type Opens = HashMap<NamespaceRef, usize>;

/// A pinned namespace with open sockets. While it is in the table, the kernel keeps the namespace and does not reuse its inode number.
pub(super) struct Pinned {
    /// The nsfs file.
    file: Arc<OwnedFd>,
    /// How a person finds it, for messages.
    pub place: String,
    /// Configures and reads.
    pub route: RouteSocket,
    /// Offload flags.
    pub ethtool: EthtoolSocket,
    opens: Opens,
    /// Number of routes of others in it, as far as it is known.
    other_routes: usize,
    /// The higher, the later it was used.
    used: u64,
}

/// A pinned namespace without sockets.
struct Asleep {
    file: Arc<OwnedFd>,
    place: String,
    opens: Opens,
}

impl Pinned {
    /// Reads what is in it.
    pub fn read(&mut self) -> Result<Snapshot, Failure> {
        snapshot::read(&mut self.route, &self.ethtool, &mut self.other_routes)
            .map_err(|refusal| failure::refused("read links, addresses, routes and neighbours", &self.place, &refusal))
    }
}

/// Fewest namespaces that may be awake: some are needed at the same time.
const AWAKE_MIN: usize = 4;
/// Descriptors that are kept for those, and for the namespaces that are being opened.
const HEADROOM: usize = 4 * AWAKE_MIN;

/// How much the table may keep open.
#[derive(Clone, Copy, Debug)]
pub(super) struct Bounds {
    /// Most namespaces with open sockets.
    pub awake: usize,
    /// Most descriptors: one for each namespace, and two for the sockets in it.
    pub descriptors: usize,
}

/// See the [module documentation](self).
pub(super) struct Table {
    awake: HashMap<NetnsId, Pinned>,
    asleep: HashMap<NetnsId, Asleep>,
    bounds: Bounds,
    clock: u64,
}

impl Table {
    /// An empty table.
    pub fn new(bounds: Bounds) -> Self {
        Table {
            awake: HashMap::new(),
            asleep: HashMap::new(),
            bounds,
            clock: 0,
        }
    }

    /// How many namespaces may be awake now: their sockets take half of the descriptors that the pinned files leave, because those
    /// that are being opened are not in the table yet.
    fn awake_max(&self) -> usize {
        let left = self.bounds.descriptors.saturating_sub(self.pinned());
        self.bounds.awake.min(left / 4).max(AWAKE_MIN)
    }

    fn pinned(&self) -> usize {
        self.awake.len() + self.asleep.len()
    }

    /// Number of namespaces for which the descriptors suffice if there is no room for one more; `None` if there is.
    pub fn full_at(&self) -> Option<usize> {
        let most = self.bounds.descriptors.saturating_sub(HEADROOM).max(AWAKE_MIN);
        (self.pinned() >= most).then_some(most)
    }

    /// So many namespaces are certainly awake together if nothing else is used meanwhile.
    pub fn together_max(&self) -> usize {
        self.awake_max() / 2
    }

    /// Whether the namespace is pinned.
    pub fn contains(&self, netns: NetnsId) -> bool {
        self.awake.contains_key(&netns) || self.asleep.contains_key(&netns)
    }

    /// The nsfs file of a pinned namespace.
    pub fn file(&self, netns: NetnsId) -> Option<&Arc<OwnedFd>> {
        let awake = self.awake.get(&netns).map(|pinned| &pinned.file);
        awake.or_else(|| self.asleep.get(&netns).map(|asleep| &asleep.file))
    }

    /// Number of the nsfs descriptor of a pinned namespace, for IFLA_NET_NS_FD.
    pub fn descriptor(&self, netns: NetnsId) -> Option<RawFd> {
        self.file(netns).map(AsRawFd::as_raw_fd)
    }

    /// File and place of a namespace that is asleep.
    pub fn asleep(&self, netns: NetnsId) -> Option<(&Arc<OwnedFd>, &str)> {
        self.asleep.get(&netns).map(|asleep| (&asleep.file, asleep.place.as_str()))
    }

    /// A namespace that is awake; from now on it is the one that was used last.
    pub fn get_mut(&mut self, netns: NetnsId) -> Option<&mut Pinned> {
        let pinned = self.awake.get_mut(&netns)?;
        self.clock += 1;
        pinned.used = self.clock;
        Some(pinned)
    }

    /// Those of some namespaces that are awake, to work on several at once.
    pub fn several_mut(&mut self, wanted: &[NetnsId]) -> Vec<(NetnsId, &mut Pinned)> {
        let mut awake: HashMap<NetnsId, &mut Pinned> = self.awake.iter_mut().map(|(netns, pinned)| (*netns, pinned)).collect();
        wanted.iter().filter_map(|netns| Some((*netns, awake.remove(netns)?))).collect()
    }

    /// Enters a namespace with its sockets. One that is asleep awakes, and keeps its file and place.
    pub fn insert(&mut self, netns: NetnsId, file: Arc<OwnedFd>, place: String, route: RouteSocket, ethtool: EthtoolSocket) {
        if self.awake.contains_key(&netns) {
            return;
        }
        self.make_room();
        let opens = Opens::new();
        let Asleep { file, place, opens } = self.asleep.remove(&netns).unwrap_or(Asleep { file, place, opens });
        self.clock += 1;
        let pinned = Pinned {
            file,
            place,
            route,
            ethtool,
            opens,
            other_routes: 0,
            used: self.clock,
        };
        self.awake.insert(netns, pinned);
    }

    /// Counts one more open of a pinned namespace.
    pub fn count(&mut self, netns: NetnsId, reference: &NamespaceRef) {
        if let Some(opens) = self.opens(netns) {
            *opens.entry(reference.clone()).or_default() += 1;
        }
    }

    /// Gives back one open by a reference. With the last one the namespace goes, and the answer is true.
    pub fn release(&mut self, netns: NetnsId, reference: &NamespaceRef) -> bool {
        let Some(opens) = self.opens(netns) else { return false };
        if let Entry::Occupied(mut count) = opens.entry(reference.clone()) {
            *count.get_mut() -= 1;
            if *count.get() == 0 {
                count.remove();
            }
        }
        let gone = opens.is_empty();
        if gone {
            self.awake.remove(&netns);
            self.asleep.remove(&netns);
        }
        gone
    }

    fn opens(&mut self, netns: NetnsId) -> Option<&mut Opens> {
        let awake = self.awake.get_mut(&netns).map(|pinned| &mut pinned.opens);
        awake.or_else(|| self.asleep.get_mut(&netns).map(|asleep| &mut asleep.opens))
    }

    /// Closes the sockets of those that were used least recently if no other namespace may be awake: what is too much, and a quarter.
    fn make_room(&mut self) {
        let most = self.awake_max();
        if self.awake.len() < most {
            return;
        }
        let mut by_use: Vec<(u64, NetnsId)> = self.awake.iter().map(|(netns, pinned)| (pinned.used, *netns)).collect();
        by_use.sort_unstable();
        let surplus = self.awake.len() - most + most / 4;
        for (_, netns) in by_use.into_iter().take(surplus) {
            if let Some(Pinned { file, place, opens, .. }) = self.awake.remove(&netns) {
                self.asleep.insert(netns, Asleep { file, place, opens });
            }
        }
    }
}
