//! Compares a [`Snapshot`] of a namespace with the values of the scheduler.
//!
//! [`inspect`] finds values that exist but are not applied, values that differ, values that were lost, and orphans. An object
//! without the ownership mark is never treated as the agent's own.

mod bridging;
mod layer3;
mod orphans;
mod read_back;
mod residents;
#[cfg(test)]
mod scale_tests;

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    rc::Rc,
};

use models::key::{Key, TypedKey};

use super::{
    Network,
    address::addresses_prefix,
    alias::Marks,
    membership::memberships,
    netns_of,
    observed::{ObservedInterface, ObservedNamespace, observe},
    value::{HostLink, Interface, NamespaceName, Value, interface_key},
};
use residents::Residents;

use crate::scheduler::View;
use netns_kernel::{LinkState, NetnsId, Snapshot};

/// Result of inspecting a namespace.
#[derive(Default, Debug)]
pub struct Findings<'s> {
    /// Values that exist in the kernel but are not applied, and applied values that differ from the kernel.
    pub found: Vec<(Key, Value)>,
    /// Applied values that no longer exist in the kernel.
    pub lost: Vec<Key>,
    /// Desired interfaces for which an interrupted creation left a link behind. The next attempt to create the interface first
    /// deletes the link.
    pub unfinished: Vec<Key>,
    /// True if a link may belong to an interface in a namespace that is not open yet, because that namespace could be the
    /// inspected one. The inspection must be repeated after more namespaces have been opened.
    pub undecided: bool,
    /// Values that must be retried now, because the duplicate address detection that they wait for has failed.
    pub probes: Vec<Key>,
    /// True if duplicate address detection is still in progress for an address. A kernel event usually reports the end of the
    /// detection, but the event may be lost.
    pub tentative: bool,
    /// All facts about foreign addresses on managed links in this namespace.
    pub observed: Vec<Key>,
    /// Managed links with their logical names.
    pub links: Vec<(String, ObservedInterface<'s>)>,
}

/// Inspection of one namespace, with the results so far.
struct Inspection<'a, 's> {
    view: &'a View<'a, Network>,
    marks: &'a Marks,
    name: &'a NamespaceName,
    netns: NetnsId,
    snapshot: &'s Snapshot,
    observed: &'a ObservedNamespace<'s>,
    findings: Findings<'s>,
    /// Logical names of the interfaces on each managed link, by interface index.
    managed: HashMap<u32, Residents>,
    /// Links in `managed` that lost the agent's alias and are recognised by their index.
    unmarked: HashSet<u32>,
    /// Links that may belong to an interface in a namespace that is not open yet, because that namespace could be the inspected
    /// one. Objects on these links are ignored.
    undecided: HashSet<u32>,
    /// EXISTING interfaces that cannot be applied on their link. Objects that an earlier run created on the link for these
    /// interfaces are orphans.
    missing: HashSet<String>,
    /// Links with the ownership mark of a value that is not desired in this namespace. Objects on these links are not read back
    /// as values.
    orphaned: HashSet<u32>,
    strict: bool,
    holding: bool,
    seen: HashSet<Key>,
    /// Keys of the orphans that this inspection has found.
    orphans: HashSet<Key>,
    /// Neighbours and routes of the interfaces on each managed link, by interface index. An entry is built when it is first
    /// needed.
    on_links: HashMap<u32, Rc<layer3::OnLink<'a>>>,
}

/// Managed links that earlier inspections of a namespace found, by interface index. The agent uses this record to identify a link
/// after its ownership mark was removed.
#[derive(Default, Debug)]
pub struct KnownLinks(HashMap<u32, KnownLink>);

#[derive(Debug)]
struct KnownLink {
    name: String,
    kind: String,
    linked: Option<u32>,
}

impl KnownLinks {
    /// Adds the links of [`Findings::links`].
    pub fn add(&mut self, links: &[(String, ObservedInterface<'_>)]) {
        let states = links.iter().map(|(name, link)| (name, link.state));
        let marked = states.filter(|(_, link)| !link.alias.is_empty() || link.name == "lo");
        // If several interfaces share a link, record the first one, because it is the interface that created the link.
        let known = marked.rev().map(|(name, link)| {
            let known = KnownLink {
                name: name.clone(),
                kind: link.kind.clone(),
                linked: link.linked,
            };
            (link.index, known)
        });
        self.0.extend(known);
    }

    /// Returns the logical name of a known link.
    ///
    /// The link must still have the recorded kind and the recorded peer or parent. Otherwise it is a new link with the same
    /// index, which is possible if its creator chose the index.
    fn name_of(&self, link: &LinkState) -> Option<&str> {
        let known = self.0.get(&link.index)?;
        ((&known.kind, known.linked) == (&link.kind, link.linked)).then_some(&known.name)
    }
}

/// Additional input for an inspection.
pub struct Background<'a> {
    /// Links that earlier inspections found.
    pub known: &'a KnownLinks,
    /// True if foreign addresses are deleted from links that the agent created and from the links of EXISTING interfaces.
    pub strict: bool,
    /// True if orphans are kept, because the store may have lost the values that they belong to.
    pub holding: bool,
}

/// Compares the contents of a namespace with the desired and applied values in it.
pub fn inspect<'s>(
    view: &View<'_, Network>,
    marks: &Marks,
    name: &NamespaceName,
    netns: NetnsId,
    snapshot: &'s Snapshot,
    background: &Background<'_>,
) -> Findings<'s> {
    let observed = ObservedNamespace::of(snapshot, marks);
    let mut inspection = Inspection {
        view,
        marks,
        name,
        netns,
        snapshot,
        observed: &observed,
        findings: Findings::default(),
        managed: HashMap::new(),
        unmarked: HashSet::new(),
        undecided: HashSet::new(),
        missing: HashSet::new(),
        orphaned: HashSet::new(),
        strict: background.strict,
        holding: background.holding,
        seen: HashSet::new(),
        orphans: HashSet::new(),
        on_links: HashMap::new(),
    };
    inspection.name_links(background.known);
    for link in observed.links() {
        inspection.link(link);
    }
    inspection.neighbours();
    inspection.routes();
    inspection.absent();
    inspection.former_orphans();
    inspection.findings
}

impl<'s> Inspection<'_, 's> {
    /// Returns the logical name of the interface that created a link or took it over, according to the link's alias.
    fn logical_name(&self, link: &ObservedInterface<'_>) -> Option<String> {
        let name = self.known_name(link)?;
        // While removals are on hold, one end of a pair stays unmanaged if the store may have lost the value of the other end. If
        // the end were managed, its interface would wait for the lost value, and both ends would be deleted.
        let stays = self.holding && self.has_lost_end(link, name);
        (!stays).then(|| name.to_owned())
    }

    /// Returns the logical name in the alias of a link, if an interface with that name is known.
    fn known_name<'l>(&self, link: &ObservedInterface<'l>) -> Option<&'l str> {
        let mut candidates = link.mark?.candidates();
        candidates.find(|name| self.is_known(&interface_key(name)))
    }

    /// Returns whether a key has an applied or desired value, even an invalid one.
    fn is_known(&self, key: &Key) -> bool {
        let known = self.view.known(key);
        known.desired.is_some() || known.applied.is_some() || self.view.rejected(key)
    }

    /// Returns whether a link of interface `name` is one end of a pair and the store may have lost the value of the other end.
    ///
    /// The store may have lost the value if the other end has neither a desired nor an applied value and interface `name` is not
    /// applied. A desired interface `name` must also name the other end as its peer.
    fn has_lost_end(&self, link: &ObservedInterface<'_>, name: &str) -> bool {
        let mark = link.mark.filter(|_| link.is_pair());
        let Some(peer) = mark.and_then(|mark| mark.subject.strip_prefix(name)?.strip_prefix('/')) else {
            return false;
        };
        let known = self.view.known(&interface_key(name));
        let is_end = |interface: &Interface| interface.link.peer() == Some(peer);
        let may_be_end = known.desired.and_then(Value::interface).is_none_or(is_end);
        known.applied.is_none() && may_be_end && !self.is_known(&interface_key(peer))
    }

    fn name_links(&mut self, known: &KnownLinks) {
        // An agent that was killed can leave two links for one interface. If both exist, use the link that has the interface's host
        // name.
        let mut by_name: BTreeMap<String, u32> = BTreeMap::new();
        for link in self.observed.links() {
            if let Some(name) = self.logical_name(link) {
                let has_its_name = self.has_its_name(link.state, &name);
                let meant = by_name.entry(name).or_insert(link.state.index);
                if has_its_name {
                    *meant = link.state.index;
                }
            }
        }
        self.managed.extend(by_name.into_iter().map(|(name, index)| (index, vec![name])));
        for link in self.observed.links() {
            if let Some(name) = self.name_without_mark(link, known) {
                self.unmarked.insert(link.state.index);
                self.managed.insert(link.state.index, vec![name]);
            }
        }
        self.add_existing();
    }

    /// Returns whether the kernel name of a link is the `host_name` of the interface with the logical name `name`.
    fn has_its_name(&self, link: &LinkState, name: &str) -> bool {
        let key = interface_key(name);
        let value = self.view.applied(&key).or(self.view.desired(&key));
        value
            .and_then(Value::interface)
            .is_some_and(|interface| interface.host_name == link.name)
    }

    /// Returns the logical name of a link that has lost its ownership mark. Returns `None` if the link has the mark of any agent.
    fn name_without_mark(&self, link: &ObservedInterface<'_>, known: &KnownLinks) -> Option<String> {
        let name = known
            .name_of(link.state)
            .filter(|_| !self.managed.contains_key(&link.state.index))?;
        let applied = self.view.applied(&interface_key(name))?.interface()?;
        let is_here = !applied.is_existing() && netns_of(self.view, &applied.namespace) == Some(self.netns);
        let is_taken = link.is_marked || self.managed.values().flatten().any(|other| other == name);
        (is_here && !is_taken).then(|| name.to_owned())
    }

    /// Records that a value exists. Adds the value to the findings if it is not applied yet.
    fn note(&mut self, key: Key, value: Value) {
        let known = self.view.known(&key);
        if !known.in_flight && known.applied.is_none() {
            self.findings.found.push((key.clone(), value));
        }
        self.seen.insert(key);
    }

    /// Returns whether a namespace name refers to the inspected namespace.
    fn is_here(&self, name: &NamespaceName) -> bool {
        name == self.name || netns_of(self.view, name) == Some(self.netns)
    }

    /// Reports applied values in this namespace as lost if they no longer exist.
    fn absent(&mut self) {
        let interfaces: Vec<(Key, &Interface)> = self
            .view
            .dependents(&self.name.key())
            .filter_map(|key| Some((key.clone(), self.view.applied(key)?.interface()?)))
            .filter(|(key, interface)| interface.namespace == *self.name && !self.view.in_flight(key))
            .collect();
        let mut lost = Vec::new();
        for (key, interface) in interfaces {
            let gone = !interface.is_existing() && !self.seen.contains(&key);
            if gone {
                lost.push(key);
            }
            lost.extend(self.unseen_on(interface));
            if let Some(peer) = interface.link.peer().filter(|_| gone) {
                // The kernel deletes both ends of a pair together, with everything on them, even if the other end is in another
                // namespace.
                lost.push(interface_key(peer));
                let peer = self.view.applied(&interface_key(peer)).and_then(Value::interface);
                lost.extend(peer.into_iter().flat_map(|peer| self.unseen_on(peer)));
            }
        }
        lost.retain(|key| !self.view.in_flight(key));
        self.findings.lost.extend(lost);
    }

    /// Returns the keys of the applied values on an interface that were not found in the snapshot.
    fn unseen_on(&self, interface: &Interface) -> Vec<Key> {
        let children = self.view.applied_under(addresses_prefix(&interface.name).as_str());
        let set_by_agent = |value: &Value| {
            value
                .address()
                .is_some_and(|address| address.expected.is_none() && address.spec.is_some())
        };
        let addresses = children.filter(|(_, value)| set_by_agent(value)).map(|(key, _)| key.clone());
        let mut on_it: Vec<Key> = addresses.collect();
        on_it.extend(memberships(interface).map(|(key, _)| key));
        let vlans = self.view.applied_under(&TypedKey::any_vlan_of(&interface.name));
        on_it.extend(vlans.map(|(key, _)| key.clone()));
        on_it.retain(|key| !self.seen.contains(key));
        self.add_unseen_layer3(&interface.name, &mut on_it);
        on_it
    }
}

/// Returns facts about the agent's own namespace that values can depend on: TAPs that can be taken over, links that are up, and
/// the addresses and VRFs of the links that are up.
pub fn host_facts(snapshot: &Snapshot, marks: &Marks) -> BTreeMap<Key, Value> {
    let mut facts = BTreeMap::new();
    let mut tell = |key: TypedKey, value: Value| facts.insert(key.to_key(), value);
    for link in &snapshot.links {
        let host_name = link.name.clone();
        // A TAP with the ownership mark of any agent has already been taken over.
        if observe(link, marks).can_be_taken_over() {
            let key = TypedKey::Tap {
                host_name: host_name.clone(),
            };
            tell(key, Value::Present);
        }
        if !link.up {
            continue;
        }
        let state = HostLink {
            vrf_table: link.vrf_table(),
        };
        let key = TypedKey::HostInterface {
            host_name: host_name.clone(),
        };
        tell(key, Value::HostLink(state));
        for state in snapshot.addresses.iter().filter(|state| state.link == link.index) {
            let address = format!("{}/{}", state.address.address, state.address.prefix_len);
            let key = TypedKey::HostInterfaceAddress {
                host_name: host_name.clone(),
                address,
            };
            tell(key, Value::Present);
        }
        let master = link.master.and_then(|master| {
            snapshot
                .links
                .iter()
                .find(|other| other.index == master && other.vrf_table().is_some())
        });
        if let Some(vrf) = master {
            let key = TypedKey::HostInterfaceVrf {
                host_name,
                vrf_host_name: vrf.name.clone(),
            };
            tell(key, Value::Present);
        }
    }
    facts
}

/// Returns whether the agent created a namespace, according to the alias of its `lo`.
pub fn is_created_by_agent(snapshot: &Snapshot, marks: &Marks) -> bool {
    let is_marked = |link: &LinkState| marks.read(&link.alias).is_some_and(|mark| mark.created_namespace);
    snapshot.links.iter().any(|link| link.name == "lo" && is_marked(link))
}

/// Returns whether the startup scan must inspect a namespace, because it contains a link with the ownership mark or the
/// provisional group of this agent.
pub fn has_marks(snapshot: &Snapshot, marks: &Marks) -> bool {
    let mut links = snapshot.links.iter().map(|link| observe(link, marks));
    links.any(|link| link.mark.is_some() || link.is_provisional)
}
