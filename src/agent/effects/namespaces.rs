//! Namespaces known to the agent, and the state of each. `reading_plan` decides when they are read.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use models::key::Key;

use crate::descriptors::{
    inspect::KnownLinks,
    observed::ObservedInterface,
    value::{NamespaceName, OpenNamespace},
};
use netns_kernel::NetnsId;

/// State of one namespace.
enum ManagedNamespace {
    /// Not open, but a change has been reported. After it is opened, the namespace must be read again, because the operation that
    /// opened it may have read it before the change.
    Announced,
    /// Open under at least one name.
    Open(Box<OpenState>),
}

/// State of an open namespace.
#[derive(Default)]
struct OpenState {
    names: BTreeMap<NamespaceName, NameState>,
    attribution: Attribution,
    known_links: KnownLinks,
    foreign_addresses: BTreeSet<Key>,
}

/// State of a name under which a namespace is open.
enum NameState {
    /// The scheduler manages the value with this name.
    Managed,
    /// Only the startup scan has opened the namespace under this name. The namespace is reported to the scheduler only when the owners of all
    /// objects in it are known. Otherwise, the scheduler would close it too early.
    Scanned(ScannedName),
}

/// Namespace that the startup scan keeps open because it contains objects of an earlier run.
#[derive(Clone)]
pub struct ScannedName {
    /// The open namespace.
    pub open: OpenNamespace,
    /// True if an object in the namespace belongs, or may have belonged, to a desired value. Such an object explains why the namespace exists. If
    /// false, the store may have lost the value for which the namespace was created.
    pub explained: bool,
}

/// State of a namespace that shows whether the owners of all objects in it are known.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
pub enum Attribution {
    /// Every object observed so far has a known owner.
    #[default]
    Attributed,
    /// An object may belong to a value in a namespace that is not open yet. The namespace of the object must be read again later.
    Unattributed,
}

/// Known namespaces, by identity.
pub struct Namespaces {
    all: HashMap<NetnsId, ManagedNamespace>,
    /// Open namespaces with [`Attribution::Unattributed`]. Kept as a separate set, because all of them are needed at every change
    /// of the desired state.
    unattributed: BTreeSet<NetnsId>,
    /// True if an object whose owner was unknown may have an owner now. The unattributed namespaces must then be read again.
    learned: bool,
}

impl Namespaces {
    /// Creates the registry, in which only the agent's own namespace is open.
    pub fn new(own: NetnsId) -> Self {
        let mut namespaces = Namespaces {
            all: HashMap::new(),
            unattributed: BTreeSet::new(),
            learned: false,
        };
        namespaces.open(own, NamespaceName::Own);
        namespaces
    }

    /// Records a change in a namespace. Returns whether the namespace is open.
    pub fn changed(&mut self, netns: NetnsId) -> bool {
        let namespace = self.all.entry(netns).or_insert(ManagedNamespace::Announced);
        matches!(namespace, ManagedNamespace::Open(_))
    }

    /// Records that the scheduler opened a namespace under a name. Returns whether a change was reported before the namespace was
    /// open.
    pub fn open(&mut self, netns: NetnsId, name: NamespaceName) -> bool {
        // The startup scan may already have opened the namespace under this name. The name then stays [`NameState::Scanned`], so
        // that the opening by the scan is undone later.
        self.insert(netns, |names| {
            names.entry(name).or_insert(NameState::Managed);
        })
    }

    /// Records that the startup scan opened a namespace under a name. Returns whether a change was reported before the namespace
    /// was open.
    pub fn open_scanned(&mut self, netns: NetnsId, name: NamespaceName, scanned: ScannedName) -> bool {
        self.insert(netns, |names| {
            names.insert(name, NameState::Scanned(scanned));
        })
    }

    fn insert(&mut self, netns: NetnsId, add: impl FnOnce(&mut BTreeMap<NamespaceName, NameState>)) -> bool {
        let (mut state, announced) = match self.all.remove(&netns) {
            Some(ManagedNamespace::Open(state)) => (state, false),
            Some(ManagedNamespace::Announced) => (Box::default(), true),
            None => (Box::default(), false),
        };
        add(&mut state.names);
        self.all.insert(netns, ManagedNamespace::Open(state));
        announced
    }

    /// Records that a namespace is no longer open under a name. If this was the last name of the namespace, returns the known
    /// foreign addresses in the namespace.
    pub fn close(&mut self, netns: NetnsId, name: &NamespaceName) -> Option<BTreeSet<Key>> {
        let state = self.state_mut(netns)?;
        state.names.remove(name);
        if !state.names.is_empty() {
            return None;
        }
        let foreign_addresses = std::mem::take(&mut state.foreign_addresses);
        self.all.remove(&netns);
        self.unattributed.remove(&netns);
        Some(foreign_addresses)
    }

    fn state(&self, netns: NetnsId) -> Option<&OpenState> {
        match self.all.get(&netns)? {
            ManagedNamespace::Open(state) => Some(state),
            ManagedNamespace::Announced => None,
        }
    }

    fn state_mut(&mut self, netns: NetnsId) -> Option<&mut OpenState> {
        match self.all.get_mut(&netns)? {
            ManagedNamespace::Open(state) => Some(state),
            ManagedNamespace::Announced => None,
        }
    }

    /// Returns the names under which the scheduler manages a namespace.
    pub fn managed_names(&self, netns: NetnsId) -> Vec<NamespaceName> {
        let names = self.state(netns).into_iter().flat_map(|state| &state.names);
        let managed = names.filter(|(_, state)| matches!(state, NameState::Managed));
        managed.map(|(name, _)| name.clone()).collect()
    }

    /// Returns the names under which only the startup scan has opened a namespace.
    pub fn scanned_names(&self, netns: NetnsId) -> Vec<(NamespaceName, ScannedName)> {
        let names = self.state(netns).into_iter().flat_map(|state| &state.names);
        let scanned = names.filter_map(|(name, state)| match state {
            NameState::Scanned(scanned) => Some((name.clone(), scanned.clone())),
            NameState::Managed => None,
        });
        scanned.collect()
    }

    /// Marks a name that the startup scan has opened as managed by the scheduler.
    pub fn hand_over(&mut self, netns: NetnsId, name: &NamespaceName) {
        if let Some(state) = self.state_mut(netns).and_then(|state| state.names.get_mut(name)) {
            *state = NameState::Managed;
        }
    }

    /// Returns the managed links found by the last read of a namespace.
    pub fn known_links(&self, netns: NetnsId) -> Option<&KnownLinks> {
        self.state(netns).map(|state| &state.known_links)
    }

    /// Adds the managed links found by an inspection of the namespace under one of its names.
    pub fn add_links(&mut self, netns: NetnsId, links: &[(String, ObservedInterface<'_>)]) {
        if let Some(state) = self.state_mut(netns) {
            state.known_links.add(links);
        }
    }

    /// Replaces the managed links with those found by the inspections of the namespace under all its names.
    pub fn replace_links(&mut self, netns: NetnsId, links: &[(String, ObservedInterface<'_>)]) {
        if let Some(state) = self.state_mut(netns) {
            state.known_links = KnownLinks::default();
            state.known_links.add(links);
        }
    }

    /// Returns the known foreign addresses on managed links of a namespace.
    pub fn foreign_addresses(&self, netns: NetnsId) -> BTreeSet<Key> {
        self.state(netns).map(|state| state.foreign_addresses.clone()).unwrap_or_default()
    }

    /// Replaces the foreign addresses of a namespace. Returns the previous addresses; `None` if the namespace is not open.
    pub fn replace_foreign_addresses(&mut self, netns: NetnsId, addresses: BTreeSet<Key>) -> Option<BTreeSet<Key>> {
        let state = self.state_mut(netns)?;
        Some(std::mem::replace(&mut state.foreign_addresses, addresses))
    }

    /// Records whether the owner of every object in a namespace is known.
    pub fn set_attribution(&mut self, netns: NetnsId, attribution: Attribution) {
        let Some(state) = self.state_mut(netns) else { return };
        state.attribution = attribution;
        match attribution {
            Attribution::Attributed => self.unattributed.remove(&netns),
            Attribution::Unattributed => self.unattributed.insert(netns),
        };
    }

    /// Returns whether a namespace contains an object with an unknown owner.
    pub fn is_unattributed(&self, netns: NetnsId) -> bool {
        self.state(netns)
            .is_some_and(|state| state.attribution == Attribution::Unattributed)
    }

    /// Returns the namespaces that contain an object with an unknown owner.
    pub fn unattributed(&self) -> Vec<NetnsId> {
        self.unattributed.iter().copied().collect()
    }

    /// Records an operation or decision that may have revealed the owner of an object.
    pub fn learn(&mut self) {
        self.learned = true;
    }

    /// Returns the unattributed namespaces if an operation or decision was recorded since the last call. Otherwise, returns an
    /// empty list.
    pub fn take_reconsidered(&mut self) -> Vec<NetnsId> {
        match std::mem::take(&mut self.learned) {
            true => self.unattributed(),
            false => Vec::new(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use netns_kernel::NamespaceRef;

    const NETNS: NetnsId = NetnsId(7);

    fn name(text: &str) -> NamespaceName {
        NamespaceName::Named(text.to_owned())
    }

    fn scanned() -> ScannedName {
        let open = OpenNamespace {
            netns: NETNS,
            reference: NamespaceRef::Named("red".to_owned()),
            owned: false,
        };
        ScannedName { open, explained: false }
    }

    #[test]
    fn change_before_opening_is_announced_once() {
        let mut namespaces = Namespaces::new(NetnsId(1));
        assert!(!namespaces.changed(NETNS));
        assert!(namespaces.managed_names(NETNS).is_empty());
        assert!(namespaces.open(NETNS, name("red")), "announced");
        assert!(namespaces.changed(NETNS));
        assert!(!namespaces.open(NETNS, name("blue")));
        assert_eq!(namespaces.close(NETNS, &name("red")), None);
        assert_eq!(namespaces.close(NETNS, &name("blue")), Some(BTreeSet::new()));
        assert!(!namespaces.changed(NETNS));
    }

    #[test]
    fn scanned_name_is_not_managed_before_hand_over() {
        let mut namespaces = Namespaces::new(NetnsId(1));
        namespaces.open_scanned(NETNS, name("red"), scanned());
        namespaces.open(NETNS, name("blue"));
        assert_eq!(namespaces.managed_names(NETNS), [name("blue")]);
        assert_eq!(namespaces.scanned_names(NETNS).len(), 1);
        namespaces.open(NETNS, name("red"));
        assert_eq!(namespaces.scanned_names(NETNS).len(), 1, "its first opening must still be undone");
        namespaces.hand_over(NETNS, &name("red"));
        assert_eq!(namespaces.managed_names(NETNS), [name("blue"), name("red")]);
        assert!(namespaces.scanned_names(NETNS).is_empty());
    }

    #[test]
    fn unattributed_namespace_is_read_again_after_an_operation() {
        let mut namespaces = Namespaces::new(NetnsId(1));
        namespaces.open(NETNS, name("red"));
        namespaces.set_attribution(NETNS, Attribution::Unattributed);
        assert!(namespaces.take_reconsidered().is_empty(), "no operation was recorded");
        namespaces.learn();
        assert_eq!(namespaces.take_reconsidered(), [NETNS]);
        assert!(namespaces.take_reconsidered().is_empty());
        assert_eq!(namespaces.unattributed(), [NETNS], "the desired state may change");
        namespaces.set_attribution(NETNS, Attribution::Attributed);
        assert!(namespaces.unattributed().is_empty());
        namespaces.set_attribution(NETNS, Attribution::Unattributed);
        namespaces.close(NETNS, &name("red"));
        assert!(namespaces.unattributed().is_empty() && !namespaces.is_unattributed(NETNS));
    }

    #[test]
    fn closed_namespace_keeps_no_state() {
        let mut namespaces = Namespaces::new(NetnsId(1));
        namespaces.changed(NETNS);
        namespaces.set_attribution(NETNS, Attribution::Unattributed);
        assert!(namespaces.unattributed().is_empty());
        assert_eq!(namespaces.replace_foreign_addresses(NETNS, BTreeSet::from([Key::from("a")])), None);
        assert!(namespaces.known_links(NETNS).is_none());
    }
}
