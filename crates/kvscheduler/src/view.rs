//! What a descriptor may see of other values.
//!
//! Owns read access to the graph. Must never hand out anything that could change it. Start reading at [`View`].

use std::borrow::Cow;

use super::{
    blocked::Blocked,
    descriptor::{Claim, Domain},
    graph::Graph,
    node::Node,
    nodes::NodeId,
    status::{Status, Verb},
};

/// The graph, read-only.
pub struct View<'a, D: Domain> {
    graph: &'a Graph<D>,
}

/// What is known of one value, by one look at the graph.
pub struct Known<'a, D: Domain> {
    /// As [`View::wanted`].
    pub wanted: Option<&'a D::Value>,
    /// As [`View::applied`].
    pub applied: Option<&'a D::Value>,
    /// As [`View::in_flight`].
    pub in_flight: bool,
}

impl<'a, D: Domain> View<'a, D> {
    pub(super) fn new(graph: &'a Graph<D>) -> Self {
        View { graph }
    }

    fn node(&self, key: &D::Key) -> Option<&'a Node<D>> {
        self.graph.find(key).map(|id| &self.graph[id])
    }

    /// The value that is in the kernel under `key`, as far as is known.
    pub fn applied(&self, key: &D::Key) -> Option<&'a D::Value> {
        self.node(key)?.applied()
    }

    /// All that is usually asked about a value.
    pub fn known(&self, key: &D::Key) -> Known<'a, D> {
        let node = self.node(key);
        Known {
            wanted: node.and_then(Node::wanted),
            applied: node.and_then(|node| node.applied()),
            in_flight: node.is_some_and(|node| node.in_flight.is_some()),
        }
    }

    /// The value that an operation under way brings in.
    pub fn coming(&self, key: &D::Key) -> Option<&'a D::Value> {
        self.node(key)?.in_flight.as_ref()?.action.value()
    }

    /// The valid value that is wanted under `key`.
    pub fn wanted(&self, key: &D::Key) -> Option<&'a D::Value> {
        self.node(key)?.wanted()
    }

    /// The status that was last reported of a value.
    pub fn status(&self, key: &D::Key) -> Option<Cow<'a, Status<D::Key>>> {
        self.node(key)?.status.status()
    }

    /// Whether something is asked for under `key` that cannot be used. What an earlier, usable value brought about stays.
    pub fn rejected(&self, key: &D::Key) -> bool {
        self.node(key).is_some_and(|node| node.rejected().is_some())
    }

    /// Whether a wanted value is not applied only because its turn has not come: nothing has shown yet that it cannot be.
    pub fn is_undecided(&self, key: &D::Key) -> bool {
        let Some(id) = self.graph.find(key) else { return false };
        let node = &self.graph[id];
        let impossible = node.is_impossible();
        let waits = self.graph.facts_settled && !self.graph.satisfied(id, &node.edges);
        node.wanted().is_some() && node.applied().is_none() && !impossible && !waits
    }

    /// Returns the keys of the values under `prefix` whose first creation is still to come or under way, in key order: what they will show
    /// of the kernel is not known yet.
    pub fn untried_under(&self, prefix: &str) -> impl Iterator<Item = &'a D::Key> + use<'a, D> {
        let graph = self.graph;
        let is_untried = move |id: &NodeId| {
            let node = &graph[*id];
            let is_wanted = node.wanted().is_some() && node.applied().is_none();
            is_wanted && node.blocked.is_none() && (!graph.facts_settled || graph.satisfied(*id, &node.edges))
        };
        graph.under(prefix).filter(is_untried).map(move |id| &graph[id].key)
    }

    /// Whether the effect of a wanted value said that what it needs is not there; see [`super::Scheduler::probe`].
    pub fn is_unavailable(&self, key: &D::Key) -> bool {
        let hold = |node: &Node<D>| matches!(node.blocked.as_deref(), Some(Blocked::Unavailable(_)));
        self.node(key).is_some_and(hold)
    }

    /// Returns whether the wanted value is refused because another value is in its way.
    pub fn is_refused(&self, key: &D::Key) -> bool {
        let hold = |node: &Node<D>| node.blocked.as_deref().is_some_and(Blocked::is_conflict);
        self.node(key).is_some_and(hold)
    }

    /// All wanted values whose key starts with `prefix`, in key order.
    pub fn wanted_under(&self, prefix: &str) -> impl Iterator<Item = (&'a D::Key, &'a D::Value)> + use<'a, D> {
        let graph = self.graph;
        graph
            .under(prefix)
            .filter_map(move |id| graph[id].wanted().map(|value| (&graph[id].key, value)))
    }

    /// All applied values whose key starts with `prefix`, in key order.
    pub fn applied_under(&self, prefix: &str) -> impl Iterator<Item = (&'a D::Key, &'a D::Value)> + use<'a, D> {
        let graph = self.graph;
        graph
            .under(prefix)
            .filter_map(move |id| graph[id].applied().map(|value| (&graph[id].key, value)))
    }

    /// The keys of what is wanted or applied next to `key` in key order, on either side at most `count`, among those that start with
    /// `prefix`.
    pub fn near(&self, prefix: &str, key: &str, count: usize) -> impl Iterator<Item = &'a D::Key> + use<'a, D> {
        let graph = self.graph;
        let near = graph.near(prefix, key, count).map(move |id| &graph[id]);
        near.filter(|node| node.wanted().is_some() || node.applied().is_some())
            .map(|node| &node.key)
    }

    /// Everything, wanted or applied, that names `key` in a dependency, in the order in which the values became known.
    pub fn dependents(&self, key: &D::Key) -> impl Iterator<Item = &'a D::Key> + use<'a, D> {
        let graph = self.graph;
        graph
            .find(key)
            .into_iter()
            .flat_map(move |id| graph[id].dependents.iter().map(move |dependent| &graph[*dependent].key))
    }

    /// Key of the value that holds a claim.
    pub fn holder(&self, claim: &Claim) -> Option<&'a D::Key> {
        self.graph.holder(claim).map(|id| &self.graph[id].key)
    }

    /// Whether an operation on the value is under way, so that what the kernel shows of it may be older than its outcome.
    pub fn in_flight(&self, key: &D::Key) -> bool {
        self.node(key).is_some_and(|node| node.in_flight.is_some())
    }

    /// Returns whether the value is being deleted.
    pub fn is_being_deleted(&self, key: &D::Key) -> bool {
        let deletes = |node: &Node<D>| node.in_flight.as_ref().is_some_and(|flight| flight.action.verb() == Verb::Delete);
        self.node(key).is_some_and(deletes)
    }
}
