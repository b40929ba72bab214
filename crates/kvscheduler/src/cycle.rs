//! Dependency cycles: the strongly connected components of the graph.
//!
//! Components are computed on demand (Tarjan's algorithm, starting from the node in question) and cached until an edge that could
//! be part of a cycle changes. While the cache is valid, each node is visited only once, even if the components of all values in
//! a long chain are needed. `readiness` decides whether the members of a cycle can be created.

use std::{
    cell::{Cell, RefCell},
    sync::Arc,
};

use super::{descriptor::Domain, edge::Edge, graph::Graph, nodes::NodeId};

/// Number of a node's component, as last computed. The number is outdated if it is below [`Cycles::valid_from`].
pub(super) type Component = Cell<u64>;

/// Bit that is set while the component of a node is being computed. While it is set, the other bits contain the node's position
/// in the search.
const OPEN: u64 = 1 << 63;

/// Strongly connected components found so far.
#[derive(Clone)]
pub(super) struct Cycles {
    /// Next component number; numbers are never reused.
    next: u64,
    valid_from: u64,
    /// Members of each component with at least two nodes, sorted by component number.
    members: Vec<(u64, Arc<[NodeId]>)>,
}

/// Node on the search path.
struct Visit {
    id: NodeId,
    position: u64,
    /// Lowest position among the nodes that the search has reached from this node so far.
    lowest: u64,
    /// Number of dependency targets visited so far.
    looked_at: usize,
}

impl Cycles {
    pub fn new() -> RefCell<Self> {
        RefCell::new(Cycles {
            next: 1,
            valid_from: 1,
            members: Vec::new(),
        })
    }
}

impl<D: Domain> Graph<D> {
    /// Forgets all known cycles. Must be called when the dependencies or the parent of `id` change.
    ///
    /// Does nothing if no other node refers to `id`, because `id` is then not part of any cycle.
    pub fn forget_cycles(&mut self, id: NodeId) {
        let node = &self[id];
        if node.dependents.is_empty() && node.children.is_empty() {
            return;
        }
        let cycles = self.cycles.get_mut();
        cycles.valid_from = cycles.next;
        cycles.members.clear();
    }

    /// Returns all members of the dependency cycle that contains `id` and its dependency `target`.
    ///
    /// Returns `None` if `target` does not depend on `id`.
    pub fn cycle_through(&self, id: NodeId, target: NodeId) -> Option<Arc<[NodeId]>> {
        if id == target {
            let members = self.members_of(self.component(id));
            return Some(members.unwrap_or_else(|| Arc::from([id])));
        }
        let node = &self[id];
        if node.dependents.is_empty() && node.children.is_empty() {
            return None;
        }
        let component = self.component(id);
        if component != self.component(target) {
            return None;
        }
        self.members_of(component)
    }

    fn members_of(&self, component: u64) -> Option<Arc<[NodeId]>> {
        let members = &self.cycles.borrow().members;
        let at = members.binary_search_by_key(&component, |(number, _)| *number).ok()?;
        Some(members[at].1.clone())
    }

    fn component(&self, id: NodeId) -> u64 {
        let known = self[id].component.get();
        let cycles = &mut *self.cycles.borrow_mut();
        if known < cycles.valid_from {
            self.find_components(id, cycles);
        }
        self[id].component.get()
    }

    /// Computes the missing components of all nodes that are reachable from `start`.
    fn find_components(&self, start: NodeId, cycles: &mut Cycles) {
        // `open` contains the nodes whose component is not complete yet, in position order. `path` is the search path to the
        // current node.
        let (mut open, mut path): (Vec<NodeId>, Vec<Visit>) = (Vec::new(), Vec::new());
        let mut next = Some(start);
        loop {
            if let Some(id) = next.take() {
                let position = open.len() as u64;
                self[id].component.set(OPEN | position);
                open.push(id);
                path.push(Visit {
                    id,
                    position,
                    lowest: position,
                    looked_at: 0,
                });
            }
            let Some(visit) = path.last_mut() else { return };
            if let Some(target) = self.cycle_target(visit.id, visit.looked_at) {
                visit.looked_at += 1;
                match target.map(|target| (target, self[target].component.get())) {
                    Some((_, found)) if found & OPEN != 0 => visit.lowest = visit.lowest.min(found & !OPEN),
                    Some((target, found)) if found < cycles.valid_from => next = Some(target),
                    _ => {}
                }
                continue;
            }
            let (position, lowest) = (visit.position, visit.lowest);
            path.pop();
            if let Some(before) = path.last_mut() {
                before.lowest = before.lowest.min(lowest);
            }
            if lowest == position {
                let number = cycles.next;
                cycles.next += 1;
                let members = &open[position as usize..];
                members.iter().for_each(|member| self[*member].component.set(number));
                if members.len() > 1 {
                    let mut members = members.to_vec();
                    members.sort_unstable();
                    cycles.members.push((number, members.into()));
                }
                open.truncate(position as usize);
            }
        }
    }

    /// Returns the node at index `number` in the list of nodes on which `id` depends. The list contains the targets of the edges,
    /// followed by the parent.
    ///
    /// Returns `Some(None)` for an any-of dependency, and `None` after the last node.
    fn cycle_target(&self, id: NodeId, number: usize) -> Option<Option<NodeId>> {
        let node = &self[id];
        match node.edges.get(number) {
            Some(edge) => Some(Edge::key_target(edge)),
            None if number == node.edges.len() => node.parent.map(Some),
            None => None,
        }
    }
}
