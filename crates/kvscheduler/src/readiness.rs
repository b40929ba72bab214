//! Readiness: whether the dependencies of a value allow it to be applied. This module also handles dependency cycles.
//!
//! The functions in this module only read the graph.
//!
//! Values that depend on each other in a cycle, such as the two ends of a veth pair, become ready together. Each member counts as
//! available to the others once every member is desired and has everything that it needs outside the cycle. The members are
//! created one after another, in key order. The first creation can therefore also create the objects that the members share.

use std::{collections::BTreeSet, sync::Arc};

use super::{
    descriptor::{Domain, Key},
    edge::{AnyOf, Edge, Target},
    graph::Graph,
    nodes::NodeId,
    status::Verb,
};

/// Readiness of a value that waits for its dependencies.
#[derive(PartialEq, Debug)]
pub(super) enum Readiness {
    /// All dependencies are available.
    Ready,
    /// The only missing dependencies are other members of the value's dependency cycle. The given member is created first.
    After(NodeId),
    /// A dependency is missing.
    Unready,
}

impl<D: Domain> Graph<D> {
    /// Returns whether all `edges` of a node are satisfied.
    pub fn satisfied(&self, id: NodeId, edges: &[Edge<D::Key>]) -> bool {
        edges.iter().all(|edge| self.edge_satisfied(id, edge))
    }

    /// Returns whether a value is desired but not applied, and none of its dependencies is known to be missing.
    ///
    /// While facts may still be reported, no dependency counts as missing.
    pub fn may_be_created(&self, id: NodeId) -> bool {
        let node = &self[id];
        let lacks_nothing = || !self.facts_complete || self.satisfied(id, &node.edges);
        node.desired().is_some() && node.applied().is_none() && lacks_nothing()
    }

    pub fn edge_satisfied(&self, id: NodeId, edge: &Edge<D::Key>) -> bool {
        if edge.only_to_create && self[id].applied().is_some() {
            return true;
        }
        match &edge.on {
            Target::Key(target) => self[*target].available() || self.cycle_of(id, *target).is_some(),
            Target::AnyOf(any) => self.any_of_satisfied(any),
        }
    }

    /// Returns whether the target of an unmet edge is in a cycle with `id` and waits only for `id`. No other member of the cycle
    /// is then blocked or has a missing dependency outside the cycle.
    pub fn waits_only_for(&self, id: NodeId, edge: &Edge<D::Key>) -> bool {
        edge.key_target().is_some_and(|target| {
            self.cycle_through(id, target).is_some_and(|members| {
                let lacks_nothing = |member: &NodeId| *member == id || self.ready_but_for(*member, &members, false);
                members.iter().all(lacks_nothing)
            })
        })
    }

    fn any_of_satisfied(&self, any: &AnyOf<D::Key>) -> bool {
        let mut below = any.prefixes.iter().filter_map(|prefix| self[*prefix].below.as_ref());
        match &any.predicate {
            None => below.any(|below| !below.available.is_empty()),
            Some(passes) => below.any(|below| below.available.iter().any(|id| passes(&self[*id].key))),
        }
    }

    /// Returns the available values that satisfy an any-of dependency.
    pub fn satisfying<'a>(&'a self, any: &'a AnyOf<D::Key>) -> impl Iterator<Item = NodeId> + 'a {
        let below = any.prefixes.iter().filter_map(|prefix| self[*prefix].below.as_ref());
        let available = below.flat_map(|below| below.available.iter().copied());
        available.filter(|id| any.predicate.as_ref().is_none_or(|passes| passes(&self[*id].key)))
    }

    /// Returns whether a desired value that is not applied yet can be created.
    pub fn readiness(&self, id: NodeId) -> Readiness {
        // All cyclic dependencies of a node belong to the same cycle.
        let mut members = None;
        for edge in self[id].edges.iter() {
            match &edge.on {
                Target::Key(target) if self[*target].available() => {}
                Target::Key(target) => match self.cycle_of(id, *target) {
                    Some(cycle) => members = Some(cycle),
                    None => return Readiness::Unready,
                },
                Target::AnyOf(any) if self.any_of_satisfied(any) => {}
                Target::AnyOf(_) => return Readiness::Unready,
            }
        }
        let leader = members
            .iter()
            .flat_map(|members| members.iter())
            .filter(|member| self[**member].applied().is_none())
            .min_by(|a, b| self[**a].key.cmp(&self[**b].key));
        match leader {
            Some(leader) if *leader != id => match self[*leader].is_waiting_for_time() {
                true => Readiness::Unready,
                false => Readiness::After(*leader),
            },
            _ => Readiness::Ready,
        }
    }

    /// Returns the dependency cycle through `id` and `target`; `None` if a member is blocked or has a missing dependency outside
    /// the cycle.
    fn cycle_of(&self, id: NodeId, target: NodeId) -> Option<Arc<[NodeId]>> {
        let node = &self[target];
        if node.basis().is_none() || node.is_terminating() {
            // Without `target`, the cycle is incomplete. This check avoids most cycle searches.
            return None;
        }
        let members = self.cycle_through(id, target)?;
        let whole = members.iter().all(|member| self.ready_but_for(*member, &members, *member == id));
        whole.then_some(members)
    }

    /// Returns whether a member of a cycle could be applied if all other members of the cycle were available.
    ///
    /// `asking` is `true` if the member is the value being evaluated. This value can be tried again even if it was refused
    /// before.
    fn ready_but_for(&self, id: NodeId, members: &[NodeId], asking: bool) -> bool {
        let node = &self[id];
        let blocked = !asking && node.applied().is_none() && node.is_impossible();
        node.basis().is_some()
            && !node.is_terminating()
            && !blocked
            && node.edges.iter().all(|edge| match &edge.on {
                _ if edge.only_to_create && node.applied().is_some() => true,
                Target::Key(target) => self[*target].available() || members.binary_search(target).is_ok(),
                Target::AnyOf(any) => self.any_of_satisfied(any),
            })
    }

    /// Returns the members of a cycle that were created before `id` although they depend on `id`.
    pub fn built_in_advance_on(&self, id: NodeId) -> Vec<NodeId> {
        let needs_it = |member: &&NodeId| {
            let node = &self[**member];
            node.present() && !node.is_terminating() && node.applied_edges.iter().any(|edge| edge.key_target() == Some(id))
        };
        self[id].dependents.iter().filter(needs_it).copied().collect()
    }

    /// Returns the unavailable targets of a node's dependencies on single keys.
    pub fn unmet_key_targets(&self, id: NodeId) -> Vec<NodeId> {
        let node = &self[id];
        let edges = node.edges.iter().chain(node.applied_edges.iter());
        edges
            .filter_map(Edge::key_target)
            .filter(|target| !self[*target].available())
            .collect()
    }

    /// Returns every node that could satisfy an unmet any-of dependency of `id`.
    pub fn unmet_choices(&self, id: NodeId) -> Vec<NodeId> {
        let node = &self[id];
        let edges = node.edges.iter().chain(node.applied_edges.iter());
        let unmet = edges.filter_map(|edge| match &edge.on {
            Target::AnyOf(any) if !self.any_of_satisfied(any) => Some(any),
            _ => None,
        });
        let below = unmet.flat_map(|any| any.prefixes.iter().map(move |prefix| (any, &self[*prefix].key)));
        below
            .flat_map(|(any, prefix)| {
                let counts = |id: &NodeId| any.predicate.as_ref().is_none_or(|passes| passes(&self[*id].key));
                self.under(prefix.text()).filter(counts)
            })
            .filter(|choice| *choice != id)
            .collect()
    }

    fn key_targets(&self, id: NodeId) -> impl Iterator<Item = NodeId> + '_ {
        let node = &self[id];
        node.edges.iter().filter_map(Edge::key_target).chain(node.parent)
    }

    /// Returns a base value that `id` needs and that is being updated.
    ///
    /// `id` needs a base value if `id` is derived from it, depends on it, or depends on a value derived from it.
    pub fn changing_below(&self, id: NodeId) -> Option<NodeId> {
        let base_of = |mut base: NodeId| {
            while let Some(parent) = self[base].parent {
                base = parent;
            }
            base
        };
        let is_changing = |base: &NodeId| {
            *base != id
                && self[*base]
                    .in_flight
                    .as_ref()
                    .is_some_and(|flight| flight.action.verb() == Verb::Update)
        };
        self.key_targets(id).map(base_of).find(is_changing)
    }

    /// Returns a value that is being created and depends on `id` or on a value derived from `id`. Returns `None` if `id` is not
    /// applied.
    ///
    /// An update of `id` must wait for this creation, because the update may change the name by which the creation refers to
    /// `id`.
    pub fn creation_above(&self, id: NodeId) -> Option<NodeId> {
        self[id].applied()?;
        let is_created = |above: &NodeId| {
            let in_flight = self[*above].in_flight.as_ref();
            in_flight.is_some_and(|in_flight| in_flight.action.verb() == Verb::Create)
        };
        let mut open = vec![id];
        while let Some(below) = open.pop() {
            if let Some(above) = self[below].dependents.iter().copied().find(is_created) {
                return Some(above);
            }
            open.extend(self[below].children.iter().copied());
        }
        None
    }

    /// Returns an obsolete value that was derived from the same parent as `id` and has not been deleted yet.
    ///
    /// The obsolete value must be deleted before `id` is created. Otherwise, the kernel may remove `id` along with it, as it
    /// removes secondary addresses together with the primary address of their subnet.
    pub fn sibling_on_its_way_out(&self, id: NodeId) -> Option<NodeId> {
        let node = &self[id];
        let parent = node.parent.filter(|_| node.applied().is_none())?;
        let goes = |sibling: &NodeId| {
            let sibling = &self[*sibling];
            sibling.desire.derived.is_none() && sibling.present() && !sibling.is_waiting_for_time()
        };
        self[parent]
            .children
            .iter()
            .copied()
            .find(|sibling| *sibling != id && goes(sibling))
    }

    /// Returns the values that must be deleted before `id`: values derived from it, and values that cannot stay without it.
    ///
    /// Many dependents can need any value below a prefix. The result contains only one of them, because listing all of them for
    /// each value below the prefix would make the total cost quadratic.
    pub fn deletion_blockers(&self, id: NodeId) -> Vec<NodeId> {
        let node = &self[id];
        let blocks = |dependent: &NodeId| *dependent != id && self.hangs_directly_on(*dependent, id) && !self.goes_first(id, *dependent);
        let present_children = |of: NodeId| self[of].children.iter().copied().filter(|child| self[*child].present());
        let mut blockers: Vec<NodeId> = present_children(id).collect();
        for dependent in node.dependents.iter().copied() {
            if blocks(&dependent) {
                blockers.push(dependent);
            } else if dependent != id && self.hangs_directly_on(dependent, id) {
                // The kernel removes `dependent` along with `id`, so everything that depends on `dependent` must be deleted
                // first.
                blockers.extend(present_children(dependent));
                let rests = |above: &NodeId| self.hangs_directly_on(*above, dependent) && !self.hangs_on(id, *above);
                blockers.extend(self[dependent].dependents.iter().copied().filter(rests));
            }
        }
        for below in node.prefixes.iter().filter_map(|prefix| self[*prefix].below.as_ref()) {
            let easy = below.easy.iter().filter(|_| below.available.is_empty());
            blockers.extend(easy.chain(&below.choosy).copied().find(blocks));
        }
        blockers
    }

    /// Returns whether `dependent` needs `id` and cannot stay without it. Returns `false` if `dependent` is neither in the kernel
    /// nor in flight.
    fn hangs_directly_on(&self, dependent: NodeId, id: NodeId) -> bool {
        let node = &self[dependent];
        let hangs = |edge: &Edge<D::Key>| self.concerns(edge, id) && !self.edge_satisfied(dependent, edge);
        (node.present() || node.is_partial()) && node.applied_edges.iter().any(hangs)
    }

    /// Returns whether `id` is a possible target of an edge.
    fn concerns(&self, edge: &Edge<D::Key>, id: NodeId) -> bool {
        match &edge.on {
            Target::Key(target) => *target == id,
            Target::AnyOf(any) => {
                let key = &self[id].key;
                any.prefixes.iter().any(|prefix| key.text().starts_with(self[*prefix].key.text()))
                    && any.predicate.as_ref().is_none_or(|passes| passes(key))
            }
        }
    }

    /// Returns whether `id` is deleted before `dependent` within a cycle that is being deleted.
    ///
    /// Values that are still desired are deleted before values that are no longer desired. Each group is deleted in key order.
    fn goes_first(&self, id: NodeId, dependent: NodeId) -> bool {
        if !self[dependent].is_terminating() || self[dependent].in_flight.is_some() {
            return false;
        }
        let rank = |id: NodeId| (self[id].basis().is_none(), &self[id].key);
        rank(id) < rank(dependent) && self.hangs_on(id, dependent)
    }

    /// Returns whether the applied value of `id` depends on `target`, directly or through other values that are being deleted.
    fn hangs_on(&self, id: NodeId, target: NodeId) -> bool {
        let (mut seen, mut stack) = (BTreeSet::from([id]), vec![id]);
        while let Some(from) = stack.pop() {
            for edge in self[from].applied_edges.iter() {
                for to in edge.targets().iter().copied() {
                    if to == target {
                        return true;
                    }
                    if self[to].is_terminating() && seen.insert(to) {
                        stack.push(to);
                    }
                }
            }
        }
        false
    }
}
