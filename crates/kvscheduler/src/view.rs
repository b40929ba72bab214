//! Read-only graph access for descriptors.

use std::borrow::Cow;

use super::{
    blocked::Blocked,
    descriptor::{Claim, Domain},
    graph::Graph,
    node::Node,
    nodes::NodeId,
    status::{Status, Verb},
};

/// Read-only view of the graph.
pub struct View<'a, D: Domain> {
    graph: &'a Graph<D>,
}

/// State of one value, read with a single lookup.
pub struct Known<'a, D: Domain> {
    /// Same as [`View::desired`].
    pub desired: Option<&'a D::Value>,
    /// Same as [`View::applied`].
    pub applied: Option<&'a D::Value>,
    /// Same as [`View::in_flight`].
    pub in_flight: bool,
}

impl<'a, D: Domain> View<'a, D> {
    pub(super) fn new(graph: &'a Graph<D>) -> Self {
        View { graph }
    }

    fn node(&self, key: &D::Key) -> Option<&'a Node<D>> {
        self.graph.find(key).map(|id| &self.graph[id])
    }

    /// Returns the applied value of `key`, as far as known.
    pub fn applied(&self, key: &D::Key) -> Option<&'a D::Value> {
        self.node(key)?.applied()
    }

    /// Returns the desired value, the applied value and the in-flight flag of `key`, using only one lookup.
    pub fn known(&self, key: &D::Key) -> Known<'a, D> {
        let node = self.node(key);
        Known {
            desired: node.and_then(Node::desired),
            applied: node.and_then(|node| node.applied()),
            in_flight: node.is_some_and(|node| node.in_flight.is_some()),
        }
    }

    /// Returns the value that the creation or update in flight applies to `key`; `None` if no creation or update is in flight.
    pub fn coming(&self, key: &D::Key) -> Option<&'a D::Value> {
        self.node(key)?.in_flight.as_ref()?.action.value()
    }

    /// Returns the desired value of `key`, if it is valid.
    pub fn desired(&self, key: &D::Key) -> Option<&'a D::Value> {
        self.node(key)?.desired()
    }

    /// Returns the last reported status of a value.
    pub fn status(&self, key: &D::Key) -> Option<Cow<'a, Status<D::Key>>> {
        self.node(key)?.status.status()
    }

    /// Returns whether the value requested under `key` is unusable. If so, the applied value stays in place.
    pub fn rejected(&self, key: &D::Key) -> bool {
        self.node(key).is_some_and(|node| node.rejected().is_some())
    }

    /// Returns whether the desired value of `key` has not been applied yet but, as far as known, can be applied.
    pub fn is_undecided(&self, key: &D::Key) -> bool {
        let Some(id) = self.graph.find(key) else { return false };
        self.graph.may_be_created(id) && !self.graph[id].is_impossible()
    }

    /// Returns the keys under `prefix` with a desired value that is neither applied nor known to be blocked, in key order.
    ///
    /// The scheduler does not know yet which objects exist in the kernel for these keys.
    pub fn untried_under(&self, prefix: &str) -> impl Iterator<Item = &'a D::Key> + use<'a, D> {
        let graph = self.graph;
        let is_untried = move |id: &NodeId| graph.may_be_created(*id) && graph[*id].blocked.is_none();
        graph.under(prefix).filter(is_untried).map(move |id| &graph[id].key)
    }

    /// Returns whether the last operation on the desired value reported that a required object does not exist. See
    /// [`super::Scheduler::probe`].
    pub fn is_unavailable(&self, key: &D::Key) -> bool {
        let hold = |node: &Node<D>| matches!(node.blocked.as_deref(), Some(Blocked::Unavailable(_)));
        self.node(key).is_some_and(hold)
    }

    /// Returns whether the desired value was refused because it conflicts with another value.
    pub fn is_refused(&self, key: &D::Key) -> bool {
        let hold = |node: &Node<D>| node.blocked.as_deref().is_some_and(Blocked::is_conflict);
        self.node(key).is_some_and(hold)
    }

    /// Returns all desired values whose key starts with `prefix`, in key order.
    pub fn desired_under(&self, prefix: &str) -> impl Iterator<Item = (&'a D::Key, &'a D::Value)> + use<'a, D> {
        let graph = self.graph;
        graph
            .under(prefix)
            .filter_map(move |id| graph[id].desired().map(|value| (&graph[id].key, value)))
    }

    /// Returns all applied values whose key starts with `prefix`, in key order.
    pub fn applied_under(&self, prefix: &str) -> impl Iterator<Item = (&'a D::Key, &'a D::Value)> + use<'a, D> {
        let graph = self.graph;
        graph
            .under(prefix)
            .filter_map(move |id| graph[id].applied().map(|value| (&graph[id].key, value)))
    }

    /// Returns the nearest keys before and after `key` that have a desired or applied value, in key order.
    ///
    /// Returns at most `count` keys on either side. All returned keys start with `prefix`.
    pub fn near(&self, prefix: &str, key: &str, count: usize) -> impl Iterator<Item = &'a D::Key> + use<'a, D> {
        let graph = self.graph;
        let near = graph.near(prefix, key, count).map(move |id| &graph[id]);
        near.filter(|node| node.desired().is_some() || node.applied().is_some())
            .map(|node| &node.key)
    }

    /// Returns the keys of all nodes that depend on `key`, in a deterministic but otherwise unspecified order.
    pub fn dependents(&self, key: &D::Key) -> impl Iterator<Item = &'a D::Key> + use<'a, D> {
        let graph = self.graph;
        graph
            .find(key)
            .into_iter()
            .flat_map(move |id| graph[id].dependents.iter().map(move |dependent| &graph[*dependent].key))
    }

    /// Returns the key of the value that holds a claim.
    pub fn holder(&self, claim: &Claim) -> Option<&'a D::Key> {
        self.graph.holder(claim).map(|id| &self.graph[id].key)
    }

    /// Returns whether an operation on the value is in flight. If so, data read from the kernel now may not reflect the outcome
    /// of that operation.
    pub fn in_flight(&self, key: &D::Key) -> bool {
        self.node(key).is_some_and(|node| node.in_flight.is_some())
    }

    /// Returns whether a deletion of the value is in flight.
    pub fn is_being_deleted(&self, key: &D::Key) -> bool {
        let deletes = |node: &Node<D>| node.in_flight.as_ref().is_some_and(|flight| flight.action.verb() == Verb::Delete);
        self.node(key).is_some_and(deletes)
    }
}
