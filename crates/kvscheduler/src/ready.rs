//! Nodes that can be created or updated, in key order.

use std::collections::BTreeSet;

use super::{
    descriptor::{Domain, Key},
    graph::Graph,
    nodes::NodeId,
    queue::ROOM_KEPT,
};

/// Queue of the nodes that can be created or updated, in key order.
///
/// Usually, all nodes become ready before the first one is taken, so they are sorted only once. Nodes added later are merged in.
#[derive(Clone)]
pub(super) struct Ready<K> {
    /// Nodes that have not been sorted yet.
    incoming: Vec<NodeId>,
    /// Nodes in reverse key order, so that the next node is at the end.
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

    pub fn insert(&mut self, key: &K, id: NodeId) {
        if self.sorted.is_empty() {
            self.incoming.push(id);
        } else {
            self.late.insert((key.clone(), id));
        }
    }

    pub fn pop_first<D: Domain<Key = K>>(&mut self, graph: &Graph<D>) -> Option<NodeId> {
        if self.sorted.is_empty() {
            std::mem::swap(&mut self.sorted, &mut self.incoming);
            if self.incoming.capacity() > ROOM_KEPT {
                self.incoming = Vec::new();
            }
            self.sorted.sort_by(|a, b| graph[*b].key.cmp(&graph[*a].key));
        }
        let key = |id: &NodeId| &graph[*id].key;
        match (self.sorted.last(), self.late.first()) {
            (Some(sorted), Some((late, _))) if key(sorted) > late => self.late.pop_first().map(|(_, id)| id),
            (Some(_), _) => self.sorted.pop(),
            (None, _) => self.late.pop_first().map(|(_, id)| id),
        }
    }

    pub fn is_empty(&self) -> bool {
        self.incoming.is_empty() && self.sorted.is_empty() && self.late.is_empty()
    }
}
