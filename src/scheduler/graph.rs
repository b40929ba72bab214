//! The graph: one node for each key that anybody mentions, and the indexes over them.
//!
//! Owns nodes, their edges (derives, implies, depends on) and the claims. Must never decide what happens to a value: that is
//! `plan`. Start reading at [`Node`].
//!
//! Edges are resolved to node ids once, when a value becomes known, so that a change costs what its neighbourhood costs,
//! whatever the size of the graph. A key that is only named by a dependency has a node without values.

use std::{
    collections::{BTreeMap, BTreeSet},
    ops::{Bound, Index, IndexMut},
    sync::Arc,
    time::Duration,
};

use models::key::Key;
use slotmap::SlotMap;

use super::{
    descriptor::{Claim, Domain},
    edge::{Edge, Edges, Target, targets},
    explanation::LastError,
    ledger::Trace,
    node_set::{FastMap, NodeSet},
    retry::NEVER,
    status::{Rejection, Status, Verb},
};

slotmap::new_key_type! {
    /// A node; never reused for another key.
    pub(super) struct NodeId;
}

/// What the northbound side asked for under a key.
#[derive(Clone)]
pub(super) struct Requested<V> {
    /// Store revision that asked for it.
    pub revision: i64,
    /// The value, or why it cannot be used.
    pub value: Result<V, Box<Rejection>>,
}

/// An operation under way.
#[derive(Clone)]
pub(super) struct Flight<V> {
    /// What is being done.
    pub verb: Verb,
    /// The value being brought in; `None` for a deletion or a check.
    pub value: Option<V>,
    /// It is still what is wanted.
    pub as_wanted: bool,
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

impl Hold {
    /// All attempts have been made.
    pub fn is_for_ever(&self) -> bool {
        matches!(self, Hold::Retry { until: NEVER, .. })
    }
}

/// What lies below a prefix that dependencies on "any of" name.
#[derive(Clone, Default)]
pub(super) struct Below {
    /// Nodes below it.
    members: usize,
    /// Those of them that others may rely on.
    pub available: NodeSet,
    /// Dependents that may be in the kernel and for which any of those will do.
    pub easy: NodeSet,
    /// Dependents that may be in the kernel and to which not all of them count.
    pub choosy: NodeSet,
}

/// Everything known of one key.
#[derive(Clone)]
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
    pub implied_by: NodeSet,
    /// A fact from below: applied by saying so.
    pub fact: bool,
    /// What is in the kernel, as far as is known.
    pub applied: Option<D::Value>,
    /// Dependencies of the wanted value (of the applied one while the wanted one is invalid).
    pub edges: Edges,
    /// Dependencies of the applied value, or of what a failed creation may have left.
    pub applied_edges: Edges,
    pub implies: NodeSet,
    pub children: NodeSet,
    /// Nodes with an edge to this one.
    pub dependents: NodeSet,
    /// Of a prefix that dependencies name.
    pub below: Option<Box<Below>>,
    /// The prefixes, of those that dependencies name, that it lies below.
    pub prefixes: NodeSet,
    /// In [`super::Scheduler`]'s queue of nodes to be looked at.
    pub queued: bool,
    /// In its list of nodes whose dependents are to be looked at.
    pub stirred: bool,
    /// In its queue of nodes that are ready.
    pub ready: bool,
    /// In its list of base values whose status is to be looked at.
    pub reported: bool,
    /// To be deleted as soon as nothing hangs on it any more; not available to others from this moment.
    pub closing: bool,
    /// The applied value is not what it was; the text says what happened.
    pub stale: Option<Box<str>>,
    /// Found in the kernel, not yet confirmed by a decision.
    pub discovered: bool,
    /// Brought into being by the creation of another value, and not settled since.
    pub brought: bool,
    /// The applied value, its edges and its children are those of the wanted value.
    pub settled: bool,
    pub flight: Option<Box<Flight<D::Value>>>,
    pub hold: Option<Box<Hold>>,
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
    pub blocks: NodeSet,
    pub claims: Vec<Claim>,
    pub last_operation: Verb,
    /// PENDING has been held back since then.
    pub deferred: Option<Duration>,
    /// As told last.
    pub status: Option<Box<Status>>,
    pub trace: Trace,
}

impl<D: Domain> Node<D> {
    fn new(key: Key) -> Self {
        Node {
            key,
            requested: None,
            derived: None,
            parent: None,
            implied: None,
            implied_by: NodeSet::default(),
            fact: false,
            applied: None,
            edges: Edges::default(),
            applied_edges: Edges::default(),
            implies: NodeSet::default(),
            children: NodeSet::default(),
            dependents: NodeSet::default(),
            below: None,
            prefixes: NodeSet::default(),
            queued: false,
            stirred: false,
            ready: false,
            reported: false,
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
            blocks: NodeSet::default(),
            claims: Vec::new(),
            last_operation: Verb::Undefined,
            deferred: None,
            status: None,
            trace: Trace::default(),
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
        self.requested.as_ref()?.value.as_ref().err().map(Box::as_ref)
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
            && (self.trace.places, self.trace.kept) == (0, 0)
            && self.dependents.is_empty()
            && self.children.is_empty()
            && self.below.as_ref().is_none_or(|below| below.members == 0)
    }
}

/// All nodes with their indexes.
#[derive(Clone)]
pub(super) struct Graph<D: Domain> {
    nodes: SlotMap<NodeId, Node<D>>,
    by_key: FastMap<Key, NodeId>,
    ordered: BTreeMap<Key, NodeId>,
    /// The prefixes that dependencies name. They stay as long as anything lies below them, so that it need not be found again.
    prefixes: FastMap<Key, NodeId>,
    holders: FastMap<Claim, NodeId>,
    claim_waiters: FastMap<Claim, BTreeSet<NodeId>>,
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
            by_key: FastMap::default(),
            ordered: BTreeMap::new(),
            prefixes: FastMap::default(),
            holders: FastMap::default(),
            claim_waiters: FastMap::default(),
            facts_settled: false,
        }
    }

    pub fn find(&self, key: &Key) -> Option<NodeId> {
        self.by_key.get(key).copied()
    }

    pub fn get(&self, id: NodeId) -> Option<&Node<D>> {
        self.nodes.get(id)
    }

    pub fn get_mut(&mut self, id: NodeId) -> Option<&mut Node<D>> {
        self.nodes.get_mut(id)
    }

    /// The node of a key, made if there is none.
    pub fn obtain(&mut self, key: &Key) -> NodeId {
        if let Some(id) = self.by_key.get(key) {
            return *id;
        }
        let mut node = Node::new(key.clone());
        if !self.prefixes.is_empty() {
            node.prefixes = self.prefixes_of(key);
            node.prefixes.iter().for_each(|prefix| self.below_mut(*prefix).members += 1);
        }
        let id = self.nodes.insert(node);
        self.by_key.insert(key.clone(), id);
        self.ordered.insert(key.clone(), id);
        id
    }

    /// The named prefixes that a key lies below.
    fn prefixes_of(&self, key: &Key) -> NodeSet {
        let text = key.as_str();
        let ends = text.match_indices('/').map(|(at, _)| at + 1).filter(|end| *end < text.len());
        ends.filter_map(|end| self.prefixes.get(&text[..end]).copied()).collect()
    }

    fn below_mut(&mut self, prefix: NodeId) -> &mut Below {
        self.nodes[prefix].below.get_or_insert_default()
    }

    /// The node of a prefix that a dependency names, with what lies below it.
    pub fn obtain_prefix(&mut self, key: &Key) -> NodeId {
        if let Some(id) = self.prefixes.get(key) {
            return *id;
        }
        let id = self.obtain(key);
        self.prefixes.insert(self.nodes[id].key.clone(), id);
        let members: Vec<NodeId> = self.under(key.as_str()).filter(|member| *member != id).collect();
        let available = members.iter().copied().filter(|member| self.nodes[*member].available()).collect();
        let below = self.below_mut(id);
        (below.members, below.available) = (members.len(), available);
        for member in members {
            self.nodes[member].prefixes.insert(id);
        }
        id
    }

    /// Keeps the prefixes informed; to be called after each change of [`Node::available`].
    pub fn note_availability(&mut self, id: NodeId) {
        let available = self.nodes[id].available();
        let prefixes = std::mem::take(&mut self.nodes[id].prefixes);
        for prefix in &prefixes {
            let below = self.below_mut(*prefix);
            if available {
                below.available.insert(id);
            } else {
                below.available.remove(&id);
            }
        }
        self.nodes[id].prefixes = prefixes;
    }

    /// Drops a node that nobody needs any more. Says whether it did.
    pub fn drop_unused(&mut self, id: NodeId) -> bool {
        if !self.nodes.get(id).is_some_and(Node::unused) {
            return false;
        }
        let node = self.nodes.remove(id).expect("looked up above");
        self.by_key.remove(&node.key);
        self.ordered.remove(&node.key);
        if node.below.is_some() {
            self.prefixes.remove(&node.key);
        }
        for prefix in &node.prefixes {
            self.below_mut(*prefix).members -= 1;
            self.drop_unused(*prefix);
        }
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
        for prefix in &node.prefixes {
            interested.extend(self.nodes[*prefix].dependents.iter().copied());
        }
        interested
    }

    /// Replaces the edges of a node (`None`: leave those as they are) and keeps the reverse index true.
    pub fn set_edges(&mut self, id: NodeId, edges: Option<Edges>, applied: Option<Edges>) {
        let node = &mut self.nodes[id];
        let before = [node.edges.clone(), node.applied_edges.clone()];
        let edges = edges.filter(|edges| !Arc::ptr_eq(edges, &node.edges));
        let applied = applied.filter(|applied| !Arc::ptr_eq(applied, &node.applied_edges));
        let replaced = [
            edges.map(|edges| std::mem::replace(&mut node.edges, edges)),
            applied.map(|applied| std::mem::replace(&mut node.applied_edges, applied)),
        ];
        if replaced.iter().all(Option::is_none) {
            return;
        }
        let after = [node.edges.clone(), node.applied_edges.clone()];
        let flying = node.flight.is_some();
        let names = |lists: &[Edges], target| lists.iter().any(|edges| targets(edges).any(|named| named == target));
        for target in after.iter().flat_map(|edges| targets(edges)) {
            if !names(&before, target) {
                self.nodes[target].dependents.insert(id);
            }
        }
        for edges in replaced.iter().flatten() {
            for target in targets(edges).filter(|target| !names(&after, *target)) {
                if let Some(node) = self.nodes.get_mut(target) {
                    node.dependents.remove(&id);
                }
                self.drop_unused(target);
            }
            let prefixes = edges.iter().filter(|edge| edge.key_target().is_none()).flat_map(Edge::targets);
            for prefix in prefixes.filter(|prefix| !flying && !names(&after[1..], **prefix)) {
                if let Some(below) = self.nodes.get_mut(*prefix).and_then(|node| node.below.as_mut()) {
                    below.easy.remove(&id);
                    below.choosy.remove(&id);
                }
            }
        }
        self.note_leaning(id, &after[1]);
    }

    /// The node is, or may soon be, in the kernel by the help of these dependencies.
    pub fn note_leaning(&mut self, id: NodeId, edges: &[Edge]) {
        for edge in edges {
            if let Target::AnyOf(any) = &edge.on {
                for prefix in &any.prefixes {
                    let below = self.below_mut(*prefix);
                    let leaning = if any.predicate.is_some() {
                        &mut below.choosy
                    } else {
                        &mut below.easy
                    };
                    leaning.insert(id);
                }
            }
        }
    }

    /// An available node that satisfies an "any of" dependency.
    pub fn any_available(&self, prefixes: &[NodeId], predicate: impl Fn(&Key) -> bool) -> Option<NodeId> {
        prefixes.iter().find_map(|prefix| {
            let below = self.nodes[*prefix].below.as_ref()?;
            below.available.iter().copied().find(|id| predicate(&self.nodes[*id].key))
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
