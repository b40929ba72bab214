//! Whether a value may be in the kernel: dependencies and dependency cycles.
//!
//! Owns the rules of readiness, as pure questions to the graph. Must never change anything. Start reading at
//! [`Graph::satisfied`].
//!
//! Values that depend on each other in a cycle (the two ends of a veth) are ready together: each counts as available for the
//! others once every member is wanted and has everything it needs outside the cycle. They are created one after another, in key
//! order, so that the first one may create what they share.

use std::collections::{BTreeMap, BTreeSet};

use super::{
    descriptor::{Domain, On},
    graph::{Edge, Graph, Hold, NodeId},
};

/// Whether a value that waits for its dependencies may be created now.
#[derive(PartialEq, Debug)]
pub(super) enum Readiness {
    /// Everything is there.
    Ready,
    /// Ready but for other members of its cycle, this one of which is created first.
    After(NodeId),
    /// Something is missing.
    Unready,
}

impl<D: Domain> Graph<D> {
    /// Whether all `edges` of a node are satisfied.
    pub fn satisfied(&self, id: NodeId, edges: &[Edge]) -> bool {
        edges.iter().all(|edge| self.edge_satisfied(id, edge))
    }

    pub fn edge_satisfied(&self, id: NodeId, edge: &Edge) -> bool {
        if edge.dependency.only_to_create && self[id].applied.is_some() {
            return true;
        }
        match &edge.dependency.on {
            On::Key(_) => self[edge.targets[0]].available() || self.cycle_of(id, edge.targets[0]).is_some(),
            On::AnyOf { .. } => self.any_of_satisfied(edge),
        }
    }

    /// Whether the target of an unmet edge is in a cycle with `id` and lacks nothing but `id`.
    pub fn waits_only_for(&self, id: NodeId, edge: &Edge) -> bool {
        matches!(edge.dependency.on, On::Key(_)) && {
            let members = self.cycle_members(id, edge.targets[0]);
            members.contains(&edge.targets[0])
                && members
                    .iter()
                    .all(|member| *member == id || self.ready_but_for(*member, &members, false))
        }
    }

    fn any_of_satisfied(&self, edge: &Edge) -> bool {
        let On::AnyOf { predicate, .. } = &edge.dependency.on else {
            return false;
        };
        self.any_available(&edge.targets, |key| predicate.as_ref().is_none_or(|passes| passes(key)))
            .is_some()
    }

    /// Whether a wanted, not yet applied value can be created.
    pub fn readiness(&self, id: NodeId) -> Readiness {
        let mut members = BTreeSet::new();
        for edge in &self[id].edges {
            match &edge.dependency.on {
                On::Key(_) if self[edge.targets[0]].available() => {}
                On::Key(_) => match self.cycle_of(id, edge.targets[0]) {
                    Some(cycle) => members.extend(cycle),
                    None => return Readiness::Unready,
                },
                On::AnyOf { .. } if self.any_of_satisfied(edge) => {}
                On::AnyOf { .. } => return Readiness::Unready,
            }
        }
        let leader = members
            .iter()
            .filter(|member| self[**member].applied.is_none())
            .min_by(|a, b| self[**a].key.cmp(&self[**b].key));
        match leader {
            Some(leader) if *leader != id => match self[*leader].hold {
                Some(Hold::Retry { .. }) => Readiness::Unready,
                _ => Readiness::After(*leader),
            },
            _ => Readiness::Ready,
        }
    }

    /// The dependency cycle through `id` and its target, if every member has all it needs outside the cycle.
    fn cycle_of(&self, id: NodeId, target: NodeId) -> Option<BTreeSet<NodeId>> {
        let members = self.cycle_members(id, target);
        let whole = members.contains(&target) && members.iter().all(|member| self.ready_but_for(*member, &members, *member == id));
        whole.then_some(members)
    }

    /// Everything that both depends on `id` and is reached from it through `target`; `id` alone if there is no cycle.
    fn cycle_members(&self, id: NodeId, target: NodeId) -> BTreeSet<NodeId> {
        let mut predecessors: BTreeMap<NodeId, Vec<NodeId>> = BTreeMap::new();
        let (mut seen, mut stack) = (BTreeSet::from([id, target]), vec![target]);
        predecessors.entry(target).or_default().push(id);
        while let Some(from) = stack.pop() {
            for to in self.key_targets(from) {
                predecessors.entry(to).or_default().push(from);
                if seen.insert(to) {
                    stack.push(to);
                }
            }
        }
        let (mut members, mut stack) = (BTreeSet::from([id]), vec![id]);
        while let Some(to) = stack.pop() {
            for from in predecessors.get(&to).into_iter().flatten() {
                if members.insert(*from) {
                    stack.push(*from);
                }
            }
        }
        members
    }

    /// `asking`: the member on whose behalf the question is asked; it may have been refused earlier and asks again.
    fn ready_but_for(&self, id: NodeId, members: &BTreeSet<NodeId>, asking: bool) -> bool {
        let node = &self[id];
        let blocked = !asking && node.applied.is_none() && matches!(node.hold, Some(Hold::Unavailable { .. } | Hold::Refused { .. }));
        node.basis().is_some()
            && !node.closing
            && !blocked
            && node.edges.iter().all(|edge| match &edge.dependency.on {
                _ if edge.dependency.only_to_create && node.applied.is_some() => true,
                On::Key(_) => self[edge.targets[0]].available() || members.contains(&edge.targets[0]),
                On::AnyOf { .. } => self.any_of_satisfied(edge),
            })
    }

    /// What is applied although it depends on `id`, which is not: the members of a cycle that come before it.
    pub fn built_in_advance_on(&self, id: NodeId) -> Vec<NodeId> {
        let needs_it = |member: &&NodeId| {
            let node = &self[**member];
            node.present()
                && !node.closing
                && node
                    .applied_edges
                    .iter()
                    .any(|edge| matches!(edge.dependency.on, On::Key(_)) && edge.targets[0] == id)
        };
        self[id].dependents.iter().filter(needs_it).copied().collect()
    }

    /// Targets of the unmet dependencies on a single key.
    pub fn unmet_key_targets(&self, id: NodeId) -> Vec<NodeId> {
        let node = &self[id];
        let edges = node.edges.iter().chain(&node.applied_edges);
        let unmet = edges.filter(|edge| matches!(edge.dependency.on, On::Key(_)) && !self[edge.targets[0]].available());
        unmet.map(|edge| edge.targets[0]).collect()
    }

    fn key_targets(&self, id: NodeId) -> Vec<NodeId> {
        let node = &self[id];
        let named = node
            .edges
            .iter()
            .filter(|edge| matches!(edge.dependency.on, On::Key(_)))
            .map(|edge| edge.targets[0]);
        named.chain(node.parent).collect()
    }

    /// The first value that must be gone before `id` can be deleted: derived from it, or unable to stay without it.
    pub fn deletion_blockers(&self, id: NodeId) -> Vec<NodeId> {
        let mut blockers: Vec<NodeId> = self[id].children.iter().copied().filter(|child| self[*child].present()).collect();
        for dependent in self.interested(id) {
            if dependent != id && self.hangs_directly_on(dependent, id) && !self.goes_first(id, dependent) {
                blockers.push(dependent);
            }
        }
        blockers
    }

    /// Whether a value that is there, or about to be, needs `id` and cannot do without it.
    fn hangs_directly_on(&self, dependent: NodeId, id: NodeId) -> bool {
        let node = &self[dependent];
        let edges = match (&node.applied, &node.flight) {
            (Some(_), _) => &node.applied_edges,
            (None, Some(_)) => &node.edges,
            (None, None) if node.partial => &node.applied_edges,
            (None, None) => return false,
        };
        edges
            .iter()
            .any(|edge| self.concerns(edge, id) && !self.edge_satisfied(dependent, edge))
    }

    /// Whether `id` is a possible target of an edge.
    fn concerns(&self, edge: &Edge, id: NodeId) -> bool {
        match &edge.dependency.on {
            On::Key(_) => edge.targets[0] == id,
            On::AnyOf { prefixes, predicate, .. } => {
                let key = &self[id].key;
                prefixes.iter().any(|prefix| key.as_str().starts_with(prefix.as_str()))
                    && predicate.as_ref().is_none_or(|passes| passes(key))
            }
        }
    }

    /// Within a cycle that is being taken down somebody must begin: those that are still wanted, then in key order.
    fn goes_first(&self, id: NodeId, dependent: NodeId) -> bool {
        if !self[dependent].closing || self[dependent].flight.is_some() {
            return false;
        }
        let rank = |id: NodeId| (self[id].basis().is_none(), &self[id].key);
        rank(id) < rank(dependent) && self.hangs_on(id, dependent)
    }

    /// Whether the applied `id` depends on `target`, directly or through others that are being taken down too.
    fn hangs_on(&self, id: NodeId, target: NodeId) -> bool {
        let (mut seen, mut stack) = (BTreeSet::from([id]), vec![id]);
        while let Some(from) = stack.pop() {
            for edge in &self[from].applied_edges {
                for to in edge.targets.iter().copied() {
                    if to == target {
                        return true;
                    }
                    if self[to].closing && seen.insert(to) {
                        stack.push(to);
                    }
                }
            }
        }
        false
    }
}
