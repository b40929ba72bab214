//! Stores the pinned namespaces, and tracks which of them have open sockets.
//!
//! A namespace is awake while its sockets are open. A pinned namespace uses one descriptor, and an awake namespace uses two
//! more. The table stays within its share of the open-file limit by allowing fewer awake namespaces when more namespaces are
//! pinned. At the maximum, it closes the sockets of the least recently used namespaces. They are opened again on demand.

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

/// Open count of a namespace for each reference.
///
/// Each reference has its own count, so that an extra release through one reference does not close the namespace for another.
type Opens = HashMap<NamespaceRef, usize>;

/// A pinned namespace with open sockets.
///
/// While the namespace is in the table, the kernel keeps it and does not reuse its inode number.
pub(super) struct Pinned {
    /// Open nsfs file of the namespace.
    file: Arc<OwnedFd>,
    /// Description of the namespace for messages.
    pub place: String,
    /// Socket for changes and reads.
    pub route: RouteSocket,
    /// Socket for checksum offloading.
    pub ethtool: EthtoolSocket,
    opens: Opens,
    /// Highest number of foreign routes that dumps of the namespace have returned since its sockets were opened.
    other_routes: usize,
    /// Value of the table's clock when the namespace was last used.
    used: u64,
}

/// A pinned namespace without sockets.
struct Asleep {
    file: Arc<OwnedFd>,
    place: String,
    opens: Opens,
}

impl Pinned {
    /// Reads the objects in the namespace that are relevant to the agent.
    pub fn read(&mut self) -> Result<Snapshot, Failure> {
        snapshot::read(&mut self.route, &self.ethtool, &mut self.other_routes)
            .map_err(|refusal| failure::refused("read links, addresses, routes and neighbours", &self.place, &refusal))
    }
}

/// Number of namespaces that can always be awake at the same time. Some operations need several awake namespaces.
const AWAKE_MIN: usize = 4;
/// Descriptors reserved for [`AWAKE_MIN`] awake namespaces and for namespaces that are being opened.
const HEADROOM: usize = 4 * AWAKE_MIN;

/// Limits on the number of open sockets and descriptors.
#[derive(Clone, Copy, Debug)]
pub(super) struct Bounds {
    /// Maximum number of namespaces with open sockets.
    pub awake: usize,
    /// Maximum number of descriptors. A pinned namespace needs one descriptor, and an awake namespace needs two more.
    pub descriptors: usize,
}

/// Pinned namespaces, awake and asleep.
pub(super) struct Table {
    awake: HashMap<NetnsId, Pinned>,
    asleep: HashMap<NetnsId, Asleep>,
    bounds: Bounds,
    clock: u64,
}

impl Table {
    /// Returns an empty table.
    pub fn new(bounds: Bounds) -> Self {
        Table {
            awake: HashMap::new(),
            asleep: HashMap::new(),
            bounds,
            clock: 0,
        }
    }

    /// Returns the maximum number of namespaces that can currently be awake.
    ///
    /// Each pinned namespace uses one descriptor for its file. The sockets use at most half of the remaining descriptors. The
    /// other half is for namespaces that are being opened and are not in the table yet.
    fn awake_max(&self) -> usize {
        let left = self.bounds.descriptors.saturating_sub(self.pinned());
        self.bounds.awake.min(left / 4).max(AWAKE_MIN)
    }

    fn pinned(&self) -> usize {
        self.awake.len() + self.asleep.len()
    }

    /// Returns the maximum number of pinned namespaces if the table is full; `None` if there is room for another namespace.
    pub fn full_at(&self) -> Option<usize> {
        let most = self.bounds.descriptors.saturating_sub(HEADROOM).max(AWAKE_MIN);
        (self.pinned() >= most).then_some(most)
    }

    /// Returns the number of namespaces that are certain to stay awake together if no other namespace is used in the meantime.
    pub fn together_max(&self) -> usize {
        self.awake_max() / 2
    }

    /// Returns whether the namespace is pinned.
    pub fn contains(&self, netns: NetnsId) -> bool {
        self.awake.contains_key(&netns) || self.asleep.contains_key(&netns)
    }

    /// Returns the nsfs file of a pinned namespace.
    pub fn file(&self, netns: NetnsId) -> Option<&Arc<OwnedFd>> {
        let awake = self.awake.get(&netns).map(|pinned| &pinned.file);
        awake.or_else(|| self.asleep.get(&netns).map(|asleep| &asleep.file))
    }

    /// Returns the nsfs descriptor of a pinned namespace, for IFLA_NET_NS_FD.
    pub fn descriptor(&self, netns: NetnsId) -> Option<RawFd> {
        self.file(netns).map(AsRawFd::as_raw_fd)
    }

    /// Returns the file and the description of a namespace that is asleep; `None` if the namespace is awake or not pinned.
    pub fn asleep(&self, netns: NetnsId) -> Option<(&Arc<OwnedFd>, &str)> {
        self.asleep.get(&netns).map(|asleep| (&asleep.file, asleep.place.as_str()))
    }

    /// Returns a namespace that is awake, and marks it as the most recently used; `None` if it is asleep or not pinned.
    pub fn get_mut(&mut self, netns: NetnsId) -> Option<&mut Pinned> {
        let pinned = self.awake.get_mut(&netns)?;
        self.clock += 1;
        pinned.used = self.clock;
        Some(pinned)
    }

    /// Returns the given namespaces, so that they can be used at the same time. Omits namespaces that are not awake.
    pub fn several_mut(&mut self, wanted: &[NetnsId]) -> Vec<(NetnsId, &mut Pinned)> {
        let mut awake: HashMap<NetnsId, &mut Pinned> = self.awake.iter_mut().map(|(netns, pinned)| (*netns, pinned)).collect();
        wanted.iter().filter_map(|netns| Some((*netns, awake.remove(netns)?))).collect()
    }

    /// Adds a namespace with its sockets.
    ///
    /// A namespace that is asleep becomes awake, and keeps its old file and description.
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

    /// Increments the open count of a pinned namespace for this reference.
    pub fn count(&mut self, netns: NetnsId, reference: &NamespaceRef) {
        if let Some(opens) = self.opens(netns) {
            *opens.entry(reference.clone()).or_default() += 1;
        }
    }

    /// Returns whether the namespace is open through this reference.
    pub fn is_open(&mut self, netns: NetnsId, reference: &NamespaceRef) -> bool {
        self.opens(netns).is_some_and(|opens| opens.contains_key(reference))
    }

    /// Decrements the open count of a namespace for this reference. Removes the namespace and returns true if no reference has it
    /// open any more.
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

    /// Closes the sockets of the least recently used namespaces if the maximum is reached. Afterwards, a quarter of the maximum
    /// is free.
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
