//! The nodes that can be created or changed, in key order.
//!
//! Owns the order. Must never decide who is ready. Start reading at [`Ready`].

use std::collections::BTreeSet;

use super::{
    descriptor::{Domain, Key},
    graph::Graph,
    nodes::NodeId,
    transition::ROOM_KEPT,
};

/// Mostly everything becomes ready first and is taken out then: that is sorted once. What comes while others are taken out has its
/// place among them.
#[derive(Clone)]
pub(super) struct Ready<K> {
    /// Not sorted yet.
    incoming: Vec<NodeId>,
    /// The next one last.
    sorted: Vec<NodeId>,
    late: BTreeSet<(K, NodeId)>,
}

impl<K: Key> Ready<K> {
    pub fn new() -> Self {
        Ready {
            incoming: Vec::new(),
            sorted: Vec::new(),
            late: BTreeSet::new(),
        }
    }

    /// Says whether it was not among them before.
    pub fn insert<D: Domain<Key = K>>(&mut self, graph: &mut Graph<D>, id: NodeId) -> bool {
        if std::mem::replace(&mut graph[id].ready, true) {
            return false;
        }
        if self.sorted.is_empty() {
            self.incoming.push(id);
        } else {
            self.late.insert((graph[id].key.clone(), id));
        }
        true
    }

    pub fn pop_first<D: Domain<Key = K>>(&mut self, graph: &mut Graph<D>) -> Option<NodeId> {
        loop {
            let id = self.next(graph)?;
            // It may have been dropped meanwhile.
            if let Some(node) = graph.get_mut(id) {
                node.ready = false;
                return Some(id);
            }
        }
    }

    fn next<D: Domain<Key = K>>(&mut self, graph: &Graph<D>) -> Option<NodeId> {
        if self.sorted.is_empty() {
            std::mem::swap(&mut self.sorted, &mut self.incoming);
            if self.incoming.capacity() > ROOM_KEPT {
                self.incoming = Vec::new();
            }
            self.sorted.retain(|id| graph.get(*id).is_some());
            self.sorted.sort_by(|a, b| graph[*b].key.cmp(&graph[*a].key));
        }
        let key = |id: &NodeId| graph.get(*id).map(|node| &node.key);
        match (self.sorted.last(), self.late.first()) {
            (Some(sorted), Some((late, _))) if key(sorted) > Some(late) => self.late.pop_first().map(|(_, id)| id),
            (Some(_), _) => self.sorted.pop(),
            (None, _) => self.late.pop_first().map(|(_, id)| id),
        }
    }

    pub fn is_empty(&self) -> bool {
        self.incoming.is_empty() && self.sorted.is_empty() && self.late.is_empty()
    }
}
