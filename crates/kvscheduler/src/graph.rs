//! The graph. It contains one node for every key of a value or a dependency, together with the edges, indexes and claims.
//!
//! Dependencies are resolved to edges between nodes only once, when a value becomes known. This makes the cost of a change depend
//! on the number of neighbours and not on the size of the graph. A key that is only mentioned by a dependency has a node without
//! values.

use std::{
    cell::RefCell,
    collections::{BTreeMap, BTreeSet},
    hash::Hasher,
    ops::{Bound, Index, IndexMut},
    sync::Arc,
};

use super::{
    cycle::Cycles,
    descriptor::{Claim, Domain, Key},
    edge::{Edge, Edges, Target, targets},
    node::{Below, Claims, Node},
    node_set::NodeSet,
    nodes::{NodeId, Nodes},
};
use hashbrown::HashTable;
use rustc_hash::{FxHashMap, FxHasher};

fn hash<K: Key>(key: &K) -> u64 {
    let mut hasher = FxHasher::default();
    hasher.write(key.text().as_bytes());
    hasher.finish()
}

/// All nodes and their indexes.
#[derive(Clone)]
pub(super) struct Graph<D: Domain> {
    nodes: Nodes<Node<D>>,
    /// Nodes by the hash of their key.
    by_key: HashTable<NodeId>,
    ordered: BTreeMap<D::Key, NodeId>,
    /// Prefixes used by any-of dependencies. A prefix is kept while keys exist below it, which avoids another search for these
    /// keys.
    prefixes: FxHashMap<D::Key, NodeId>,
    holders: FxHashMap<Claim, NodeId>,
    claim_waiters: FxHashMap<Claim, BTreeSet<NodeId>>,
    /// Dependency cycles, computed on demand.
    pub(super) cycles: RefCell<Cycles>,
    /// True if every fact that existed at startup has been reported.
    pub facts_complete: bool,
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
            nodes: Nodes::new(),
            by_key: HashTable::new(),
            ordered: BTreeMap::new(),
            prefixes: FxHashMap::default(),
            holders: FxHashMap::default(),
            claim_waiters: FxHashMap::default(),
            cycles: Cycles::new(),
            facts_complete: false,
        }
    }

    pub fn find(&self, key: &D::Key) -> Option<NodeId> {
        self.find_by_hash(hash(key), key)
    }

    fn find_by_hash(&self, hash: u64, key: &D::Key) -> Option<NodeId> {
        self.by_key.find(hash, |id| self.nodes[*id].key == *key).copied()
    }

    pub fn get(&self, id: NodeId) -> Option<&Node<D>> {
        self.nodes.get(id)
    }

    pub fn get_mut(&mut self, id: NodeId) -> Option<&mut Node<D>> {
        self.nodes.get_mut(id)
    }

    /// Returns the node of a key, creating it if necessary.
    pub fn obtain(&mut self, key: &D::Key) -> NodeId {
        let hash_of_key = hash(key);
        if let Some(id) = self.find_by_hash(hash_of_key, key) {
            return id;
        }
        let mut node = Node::new(key.clone());
        if !self.prefixes.is_empty() {
            node.prefixes = self.prefixes_of(key);
            node.prefixes.iter().for_each(|prefix| self.below_mut(*prefix).members += 1);
        }
        let id = self.nodes.insert(node);
        self.by_key.insert_unique(hash_of_key, id, |id| hash(&self.nodes[*id].key));
        self.ordered.insert(key.clone(), id);
        id
    }

    /// Returns those prefixes of a key that are used by any-of dependencies.
    fn prefixes_of(&self, key: &D::Key) -> NodeSet {
        let text = key.text();
        let ends = text.match_indices('/').map(|(at, _)| at + 1).filter(|end| *end < text.len());
        ends.filter_map(|end| self.prefixes.get(&text[..end]).copied()).collect()
    }

    fn below_mut(&mut self, prefix: NodeId) -> &mut Below {
        self.nodes[prefix].below.get_or_insert_default()
    }

    /// Returns the node of a prefix used by a dependency, and indexes the keys below it.
    pub fn obtain_prefix(&mut self, key: &D::Key) -> NodeId {
        if let Some(id) = self.prefixes.get(key.text()) {
            return *id;
        }
        let id = self.obtain(key);
        self.prefixes.insert(self.nodes[id].key.clone(), id);
        let members: Vec<NodeId> = self.under(key.text()).filter(|member| *member != id).collect();
        let available = members.iter().copied().filter(|member| self.nodes[*member].available()).collect();
        let below = self.below_mut(id);
        (below.members, below.available) = (members.len(), available);
        for member in members {
            self.nodes[member].prefixes.insert(id);
        }
        id
    }

    /// Updates the index of available nodes for each prefix of a node's key. Must be called after each change of
    /// [`Node::available`].
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

    /// Drops a node that is no longer needed. Returns `true` if it was dropped.
    pub fn drop_unused(&mut self, id: NodeId) -> bool {
        if !self.nodes.get(id).is_some_and(Node::unused) {
            return false;
        }
        let node = self.nodes.remove(id).expect("the node was looked up above");
        if let Ok(entry) = self.by_key.find_entry(hash(&node.key), |other| *other == id) {
            entry.remove();
        }
        self.ordered.remove(node.key.text());
        if node.below.is_some() {
            self.prefixes.remove(node.key.text());
        }
        for prefix in &node.prefixes {
            self.below_mut(*prefix).members -= 1;
            self.drop_unused(*prefix);
        }
        true
    }

    /// Returns the number of nodes.
    pub fn count(&self) -> usize {
        self.ordered.len()
    }

    /// Returns all nodes in key order.
    pub fn all(&self) -> impl Iterator<Item = NodeId> + '_ {
        self.ordered.values().copied()
    }

    /// Returns the nodes whose key starts with `prefix`, in key order.
    pub fn under(&self, prefix: &str) -> impl Iterator<Item = NodeId> + use<'_, D> {
        let prefix = prefix.to_owned();
        self.ordered
            .range::<str, _>((Bound::Included(prefix.as_str()), Bound::Unbounded))
            .take_while(move |(key, _)| key.text().starts_with(&prefix))
            .map(|(_, id)| *id)
    }

    /// Returns up to `count` nodes on either side of `key` in key order. The keys of all returned nodes start with `prefix`.
    pub fn near(&self, prefix: &str, key: &str, count: usize) -> impl Iterator<Item = NodeId> + use<'_, D> {
        let prefix = prefix.to_owned();
        let (from, at) = (Bound::Included(prefix.as_str()), Bound::Excluded(key));
        let before = (prefix.as_str() < key).then(|| self.ordered.range::<str, _>((from, at)).rev().take(count));
        let after = self.ordered.range::<str, _>((Bound::Excluded(key), Bound::Unbounded));
        let after = after.take_while(move |(key, _)| key.text().starts_with(&prefix)).take(count);
        before.into_iter().flatten().chain(after).map(|(_, id)| *id)
    }

    /// Returns every node that has a dependency on the key of `id` or on a prefix of this key.
    pub fn interested(&self, id: NodeId) -> Vec<NodeId> {
        let node = &self.nodes[id];
        let mut interested: Vec<NodeId> = node.dependents.iter().copied().collect();
        for prefix in &node.prefixes {
            interested.extend(self.nodes[*prefix].dependents.iter().copied());
        }
        interested
    }

    /// Replaces the edges of a node (`None` leaves them unchanged), and updates the lists of dependents of the target nodes.
    pub fn set_edges(&mut self, id: NodeId, edges: Option<Edges<D::Key>>, applied: Option<Edges<D::Key>>) {
        let node = &mut self.nodes[id];
        let same = |edges: &Edges<D::Key>, now: &Edges<D::Key>| Arc::ptr_eq(edges, now) || edges.is_empty() && now.is_empty();
        let edges = edges.filter(|edges| !same(edges, &node.edges));
        let applied = applied.filter(|applied| !same(applied, &node.applied_edges));
        if edges.is_none() && applied.is_none() {
            return;
        }
        let before = [node.edges.clone(), node.applied_edges.clone()];
        let replaced = [
            edges.map(|edges| std::mem::replace(&mut node.edges, edges)),
            applied.map(|applied| std::mem::replace(&mut node.applied_edges, applied)),
        ];
        if replaced[0].is_some() {
            self.forget_cycles(id);
        }
        let node = &self.nodes[id];
        let after = [node.edges.clone(), node.applied_edges.clone()];
        let names = |lists: &[Edges<D::Key>], target| lists.iter().any(|edges| targets(edges).any(|named| named == target));
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
            for prefix in prefixes.filter(|prefix| !names(&after[1..], **prefix)) {
                if let Some(below) = self.nodes.get_mut(*prefix).and_then(|node| node.below.as_mut()) {
                    below.easy.remove(&id);
                    below.choosy.remove(&id);
                }
            }
        }
        self.note_relying(id, &after[1]);
    }

    /// Adds a node to the index of each prefix in `edges`. The edges belong to the applied value of the node or to the value
    /// being created.
    fn note_relying(&mut self, id: NodeId, edges: &[Edge<D::Key>]) {
        for edge in edges {
            if let Target::AnyOf(any) = &edge.on {
                for prefix in any.prefixes.iter() {
                    let below = self.below_mut(*prefix);
                    let relying = if any.predicate.is_some() {
                        &mut below.choosy
                    } else {
                        &mut below.easy
                    };
                    relying.insert(id);
                }
            }
        }
    }

    pub fn holder(&self, claim: &Claim) -> Option<NodeId> {
        self.holders.get(claim).copied()
    }

    /// Adds `id` to the nodes that wait for a claim held by another node.
    pub fn await_claim(&mut self, id: NodeId, claim: &Claim) {
        self.claim_waiters.entry(claim.clone()).or_default().insert(id);
    }

    /// Gives claims to a node, in addition to those that it already holds.
    pub fn take_claims(&mut self, id: NodeId, claims: Vec<Claim>) {
        let mut taken = Vec::new();
        for claim in claims {
            if self.holders.insert(claim.clone(), id).is_none_or(|holder| holder != id) {
                taken.push(claim);
            }
        }
        if !taken.is_empty() {
            self.nodes[id].claims.get_or_insert_default().0.extend(taken);
        }
    }

    /// Releases every claim that is not in `keep`, and returns the nodes that were waiting for one of the released claims.
    pub fn release_claims(&mut self, id: NodeId, keep: &[Claim]) -> Vec<NodeId> {
        let Some(held) = self.nodes[id].claims.take() else {
            return Vec::new();
        };
        let (kept, released): (Vec<Claim>, Vec<Claim>) = held.0.into_iter().partition(|claim| keep.contains(claim));
        self.nodes[id].claims = (!kept.is_empty()).then(|| Box::new(Claims(kept)));
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
