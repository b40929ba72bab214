//! The graph: one node for each key that anybody mentions, and the indexes over them.
//!
//! Owns nodes, their edges (derives, implies, depends on) and the claims. Must never decide what happens to a value: that is
//! `plan`. Start reading at [`Node`].
//!
//! Edges are resolved to node ids once, when a value becomes known, so that a change costs what its neighbourhood costs,
//! whatever the size of the graph. A key that is only named by a dependency has a node without values.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    ops::{Bound, Index, IndexMut},
    time::Duration,
};

use models::key::Key;
use slotmap::SlotMap;

use super::{
    descriptor::{Claim, Dependency, Domain, On},
    explanation::LastError,
    status::{Rejection, Status, Verb},
};

slotmap::new_key_type! {
    /// A node; never reused for another key.
    pub(super) struct NodeId;
}

/// What the northbound side asked for under a key.
pub(super) struct Requested<V> {
    /// Store revision that asked for it.
    pub revision: i64,
    /// The value, or why it cannot be used.
    pub value: Result<V, Rejection>,
}

/// An operation under way.
pub(super) struct Flight<V> {
    /// What is being done.
    pub verb: Verb,
    /// The value being brought in; `None` for a deletion or a check.
    pub value: Option<V>,
    /// What its success brings into being besides.
    pub brings: Vec<(Key, V)>,
}

/// Why a value that could be worked on is left alone for now.
#[derive(Clone, PartialEq, Debug)]
pub(super) enum Hold {
    /// The last operation failed; tried again at `until`.
    Retry {
        until: Duration,
        persistent: bool,
        reason: &'static str,
        message: String,
    },
    /// What it needs is not there, says the effect; a probe ends the wait.
    Unavailable { message: String },
    /// Another value is in the way; any change nearby ends the wait. `by_effect`: the effect said that it can never be; only a
    /// probe ends that wait.
    Refused {
        reason: &'static str,
        message: String,
        by_effect: bool,
    },
}

/// A dependency with its targets found.
pub(super) struct Edge {
    pub dependency: Dependency,
    /// The target, or the nodes of the prefixes.
    pub targets: Vec<NodeId>,
}

/// Everything known of one key.
pub(super) struct Node<D: Domain> {
    pub key: Key,
    /// Wanted by the northbound side.
    pub requested: Option<Requested<D::Value>>,
    /// Wanted because the parent is applied.
    pub derived: Option<D::Value>,
    /// The value it is, or until its removal was, derived from.
    pub parent: Option<NodeId>,
    /// Wanted because others imply it.
    pub implied: Option<D::Value>,
    pub implied_by: BTreeSet<NodeId>,
    /// A fact from below: applied by saying so.
    pub fact: bool,
    /// What is in the kernel, as far as is known.
    pub applied: Option<D::Value>,
    /// Dependencies of the wanted value (of the applied one while the wanted one is invalid).
    pub edges: Vec<Edge>,
    /// Dependencies of the applied value, or of what a failed creation may have left.
    pub applied_edges: Vec<Edge>,
    pub implies: Vec<NodeId>,
    pub children: BTreeSet<NodeId>,
    /// Nodes with an edge to this one.
    pub dependents: BTreeSet<NodeId>,
    /// To be deleted as soon as nothing hangs on it any more; not available to others from this moment.
    pub closing: bool,
    /// The applied value is not what it was; the text says what happened.
    pub stale: Option<String>,
    /// Found in the kernel, not yet confirmed by a decision.
    pub discovered: bool,
    /// Brought into being by the creation of another value, and not settled since.
    pub brought: bool,
    /// The applied value, its edges and its children are those of the wanted value.
    pub settled: bool,
    pub flight: Option<Flight<D::Value>>,
    pub hold: Option<Hold>,
    /// Failed attempts in a row.
    pub attempts: u32,
    /// The last failure, until it is as wanted or is changed.
    pub last_error: Option<Box<LastError>>,
    /// Of a base value: what of it was lost from outside and is not repaired yet.
    pub damage: Vec<Key>,
    /// A failed creation may have left something behind.
    pub partial: bool,
    /// The value of the last creation that was tried, as long as it may have left something behind.
    pub attempted: Option<D::Value>,
    /// Something happened to what it refers to while an operation was under way.
    pub probe_again: bool,
    /// Nodes waiting for this one to be gone.
    pub blocks: BTreeSet<NodeId>,
    pub claims: Vec<Claim>,
    pub last_operation: Verb,
    /// PENDING has been held back since then.
    pub deferred: Option<Duration>,
    /// As told last.
    pub status: Option<Status>,
}

impl<D: Domain> Node<D> {
    fn new(key: Key) -> Self {
        Node {
            key,
            requested: None,
            derived: None,
            parent: None,
            implied: None,
            implied_by: BTreeSet::new(),
            fact: false,
            applied: None,
            edges: Vec::new(),
            applied_edges: Vec::new(),
            implies: Vec::new(),
            children: BTreeSet::new(),
            dependents: BTreeSet::new(),
            closing: false,
            stale: None,
            discovered: false,
            brought: false,
            settled: false,
            flight: None,
            hold: None,
            attempts: 0,
            last_error: None,
            damage: Vec::new(),
            partial: false,
            attempted: None,
            probe_again: false,
            blocks: BTreeSet::new(),
            claims: Vec::new(),
            last_operation: Verb::Undefined,
            deferred: None,
            status: None,
        }
    }

    /// The valid value that should be applied.
    pub fn wanted(&self) -> Option<&D::Value> {
        match &self.requested {
            Some(requested) => requested.value.as_ref().ok(),
            None => self.derived.as_ref().or(self.implied.as_ref()),
        }
    }

    /// The northbound value is unusable; what is applied stays.
    pub fn rejected(&self) -> Option<&Rejection> {
        self.requested.as_ref()?.value.as_ref().err()
    }

    /// The value whose dependencies and implications hold now: the wanted one, or the applied one while the wanted one is invalid.
    pub fn basis(&self) -> Option<&D::Value> {
        self.wanted()
            .or(if self.requested.is_some() { self.applied.as_ref() } else { None })
    }

    /// Whether others may rely on it.
    pub fn available(&self) -> bool {
        self.applied.is_some() && !self.closing
    }

    /// Whether it is, or may be about to be, in the kernel.
    pub fn present(&self) -> bool {
        self.applied.is_some() || self.flight.is_some()
    }

    fn unused(&self) -> bool {
        self.requested.is_none()
            && self.derived.is_none()
            && self.implied.is_none()
            && !self.partial
            && !self.present()
            && self.parent.is_none()
            && self.status.is_none()
            && self.claims.is_empty()
            && self.dependents.is_empty()
            && self.children.is_empty()
    }
}

/// All nodes with their indexes.
pub(super) struct Graph<D: Domain> {
    nodes: SlotMap<NodeId, Node<D>>,
    by_key: HashMap<Key, NodeId>,
    ordered: BTreeMap<Key, NodeId>,
    holders: HashMap<Claim, NodeId>,
    claim_waiters: HashMap<Claim, BTreeSet<NodeId>>,
    /// Every fact that existed at start has been told.
    pub facts_settled: bool,
}

impl<D: Domain> Index<NodeId> for Graph<D> {
    type Output = Node<D>;
    fn index(&self, id: NodeId) -> &Node<D> {
        &self.nodes[id]
    }
}

impl<D: Domain> IndexMut<NodeId> for Graph<D> {
    fn index_mut(&mut self, id: NodeId) -> &mut Node<D> {
        &mut self.nodes[id]
    }
}

impl<D: Domain> Graph<D> {
    pub fn new() -> Self {
        Graph {
            nodes: SlotMap::with_key(),
            by_key: HashMap::new(),
            ordered: BTreeMap::new(),
            holders: HashMap::new(),
            claim_waiters: HashMap::new(),
            facts_settled: false,
        }
    }

    pub fn find(&self, key: &Key) -> Option<NodeId> {
        self.by_key.get(key).copied()
    }

    pub fn get(&self, id: NodeId) -> Option<&Node<D>> {
        self.nodes.get(id)
    }

    /// The node of a key, made if there is none.
    pub fn obtain(&mut self, key: &Key) -> NodeId {
        if let Some(id) = self.by_key.get(key) {
            return *id;
        }
        let id = self.nodes.insert(Node::new(key.clone()));
        self.by_key.insert(key.clone(), id);
        self.ordered.insert(key.clone(), id);
        id
    }

    /// Drops a node that nobody needs any more. Says whether it did.
    pub fn drop_unused(&mut self, id: NodeId) -> bool {
        if !self.nodes.get(id).is_some_and(Node::unused) {
            return false;
        }
        let node = self.nodes.remove(id).expect("looked up above");
        self.by_key.remove(&node.key);
        self.ordered.remove(&node.key);
        true
    }

    /// All nodes in key order.
    pub fn all(&self) -> impl Iterator<Item = NodeId> + '_ {
        self.ordered.values().copied()
    }

    /// Nodes whose key starts with `prefix`, in key order.
    pub fn under(&self, prefix: &str) -> impl Iterator<Item = NodeId> + use<'_, D> {
        let prefix = prefix.to_owned();
        self.ordered
            .range::<str, _>((Bound::Included(prefix.as_str()), Bound::Unbounded))
            .take_while(move |(key, _)| key.as_str().starts_with(&prefix))
            .map(|(_, id)| *id)
    }

    /// The nodes next to `key` in key order, on either side at most `count`, among those whose key starts with `prefix`.
    pub fn near(&self, prefix: &str, key: &str, count: usize) -> impl Iterator<Item = NodeId> + use<'_, D> {
        let prefix = prefix.to_owned();
        let (from, at) = (Bound::Included(prefix.as_str()), Bound::Excluded(key));
        let before = (prefix.as_str() < key).then(|| self.ordered.range::<str, _>((from, at)).rev().take(count));
        let after = self.ordered.range::<str, _>((Bound::Excluded(key), Bound::Unbounded));
        let after = after.take_while(move |(key, _)| key.as_str().starts_with(&prefix)).take(count);
        before.into_iter().flatten().chain(after).map(|(_, id)| *id)
    }

    /// Every node that may care about the availability of `id`: it is named by them, or lies under one of their prefixes.
    pub fn interested(&self, id: NodeId) -> Vec<NodeId> {
        let node = &self.nodes[id];
        let mut interested: Vec<NodeId> = node.dependents.iter().copied().collect();
        let text = node.key.as_str();
        for (at, _) in text.match_indices('/') {
            if let Some(prefix) = self.by_key.get(&text[..=at])
                && *prefix != id
            {
                interested.extend(self.nodes[*prefix].dependents.iter().copied());
            }
        }
        interested
    }

    /// Finds the targets of dependencies. The edges must be put in place by [`Self::set_edges`].
    pub fn resolve(&mut self, dependencies: Vec<Dependency>) -> Vec<Edge> {
        dependencies
            .into_iter()
            .map(|dependency| {
                let keys = match &dependency.on {
                    On::Key(key) => vec![key.clone()],
                    On::AnyOf { prefixes, .. } => prefixes.clone(),
                };
                let targets = keys.iter().map(|key| self.obtain(key)).collect();
                Edge { dependency, targets }
            })
            .collect()
    }

    /// Replaces the edges of a node (`None`: leave those as they are) and keeps the reverse index true.
    pub fn set_edges(&mut self, id: NodeId, edges: Option<Vec<Edge>>, applied: Option<Vec<Edge>>) {
        let before = self.edge_targets(id);
        let node = &mut self.nodes[id];
        if let Some(edges) = edges {
            node.edges = edges;
        }
        if let Some(applied) = applied {
            node.applied_edges = applied;
        }
        let after = self.edge_targets(id);
        for target in after.difference(&before) {
            self.nodes[*target].dependents.insert(id);
        }
        for target in before.difference(&after) {
            if let Some(node) = self.nodes.get_mut(*target) {
                node.dependents.remove(&id);
            }
            self.drop_unused(*target);
        }
    }

    fn edge_targets(&self, id: NodeId) -> BTreeSet<NodeId> {
        let node = &self.nodes[id];
        node.edges
            .iter()
            .chain(&node.applied_edges)
            .flat_map(|edge| edge.targets.iter().copied())
            .collect()
    }

    /// The available node that satisfies an "any of" dependency, in key order the first.
    pub fn any_available(&self, prefixes: &[NodeId], predicate: impl Fn(&Key) -> bool) -> Option<NodeId> {
        prefixes.iter().find_map(|prefix| {
            self.under(self.nodes[*prefix].key.as_str())
                .find(|id| self.nodes[*id].available() && predicate(&self.nodes[*id].key))
        })
    }

    pub fn holder(&self, claim: &Claim) -> Option<NodeId> {
        self.holders.get(claim).copied()
    }

    /// Makes `id` wait for a claim that another node holds.
    pub fn await_claim(&mut self, id: NodeId, claim: &Claim) {
        self.claim_waiters.entry(claim.clone()).or_default().insert(id);
    }

    /// Takes claims; those already held by the node stay.
    pub fn take_claims(&mut self, id: NodeId, claims: Vec<Claim>) {
        for claim in claims {
            if self.holders.insert(claim.clone(), id).is_none_or(|holder| holder != id) {
                self.nodes[id].claims.push(claim);
            }
        }
    }

    /// Gives up every claim that is not in `keep`; returns the nodes that waited for one of them.
    pub fn release_claims(&mut self, id: NodeId, keep: &[Claim]) -> Vec<NodeId> {
        let (kept, released) = std::mem::take(&mut self.nodes[id].claims)
            .into_iter()
            .partition(|claim| keep.contains(claim));
        self.nodes[id].claims = kept;
        let released: Vec<Claim> = released;
        let mut waiters = Vec::new();
        for claim in released {
            if self.holders.get(&claim) == Some(&id) {
                self.holders.remove(&claim);
            }
            waiters.extend(self.claim_waiters.remove(&claim).into_iter().flatten());
        }
        waiters
    }
}
