//! Edges: dependencies resolved to nodes and stored compactly.
//!
//! Keys are stored only in the target nodes. `readiness` decides whether an edge is satisfied.

use std::{ops::Deref, slice, sync::Arc};

use super::{
    descriptor::{Dependency, Domain, Label, On, Predicate},
    graph::Graph,
    nodes::NodeId,
};

/// Dependency with its resolved targets.
#[derive(Clone)]
pub(super) struct Edge<K> {
    pub label: Label,
    pub only_to_create: bool,
    pub outlived: bool,
    pub on: Target<K>,
}

/// Target of an edge.
#[derive(Clone)]
pub(super) enum Target<K> {
    /// A single node.
    Key(NodeId),
    /// Any available node below the prefixes that passes the predicate.
    AnyOf(Box<AnyOf<K>>),
}

/// Resolved form of [`On::AnyOf`].
#[derive(Clone)]
pub(super) struct AnyOf<K> {
    /// Nodes that represent the prefixes.
    pub prefixes: Prefixes,
    pub predicate: Option<Predicate<K>>,
    pub describe: Label,
}

/// Prefixes of an any-of dependency. Most dependencies have one or two prefixes, which need no allocation.
#[derive(Clone)]
pub(super) enum Prefixes {
    One([NodeId; 1]),
    Two([NodeId; 2]),
    Many(Box<[NodeId]>),
}

impl Deref for Prefixes {
    type Target = [NodeId];

    fn deref(&self) -> &[NodeId] {
        match self {
            Prefixes::One(one) => one,
            Prefixes::Two(two) => two,
            Prefixes::Many(many) => many,
        }
    }
}

impl FromIterator<NodeId> for Prefixes {
    fn from_iter<I: IntoIterator<Item = NodeId>>(prefixes: I) -> Self {
        let prefixes: Vec<NodeId> = prefixes.into_iter().collect();
        match prefixes[..] {
            [one] => Prefixes::One([one]),
            [one, two] => Prefixes::Two([one, two]),
            _ => Prefixes::Many(prefixes.into()),
        }
    }
}

/// Dependencies of a value. The desired and the applied value usually have equal dependencies and then share one list.
pub(super) type Edges<K> = Arc<[Edge<K>]>;

impl<K> Edge<K> {
    /// Returns the target node or, for an any-of edge, the nodes of the prefixes.
    pub fn targets(&self) -> &[NodeId] {
        match &self.on {
            Target::Key(target) => slice::from_ref(target),
            Target::AnyOf(any) => &any.prefixes,
        }
    }

    /// Returns the target node if only a single node can satisfy the edge.
    pub fn key_target(&self) -> Option<NodeId> {
        match self.on {
            Target::Key(target) => Some(target),
            Target::AnyOf(_) => None,
        }
    }
}

/// Returns all targets of the edges.
pub(super) fn targets<K>(edges: &[Edge<K>]) -> impl Iterator<Item = NodeId> + '_ {
    edges.iter().flat_map(|edge| edge.targets()).copied()
}

impl<D: Domain> Graph<D> {
    /// Converts the dependencies of a node to edges. If the node already has equal edges, returns the existing edges.
    ///
    /// The caller must store new edges with [`Self::set_edges`].
    pub fn resolve(&mut self, id: NodeId, dependencies: Vec<Dependency<D::Key>>) -> Edges<D::Key> {
        if dependencies.is_empty() {
            return Edges::default();
        }
        let node = &self[id];
        let same = [&node.edges, &node.applied_edges]
            .into_iter()
            .find(|edges| self.is_same(edges, &dependencies));
        if let Some(edges) = same {
            return edges.clone();
        }
        dependencies.into_iter().map(|dependency| self.edge(dependency)).collect()
    }

    fn edge(&mut self, dependency: Dependency<D::Key>) -> Edge<D::Key> {
        let on = match dependency.on {
            On::Key(key) => Target::Key(self.obtain(&key)),
            On::AnyOf {
                prefixes,
                predicate,
                describe,
            } => Target::AnyOf(Box::new(AnyOf {
                prefixes: prefixes.iter().map(|prefix| self.obtain_prefix(prefix)).collect(),
                predicate,
                describe,
            })),
        };
        Edge {
            label: dependency.label,
            only_to_create: dependency.only_to_create,
            outlived: dependency.outlived,
            on,
        }
    }

    fn is_same(&self, edges: &[Edge<D::Key>], dependencies: &[Dependency<D::Key>]) -> bool {
        let same = |(edge, dependency): (&Edge<D::Key>, &Dependency<D::Key>)| {
            (&edge.label, edge.only_to_create, edge.outlived) == (&dependency.label, dependency.only_to_create, dependency.outlived)
                && match (&edge.on, &dependency.on) {
                    (Target::Key(target), On::Key(key)) => self[*target].key == *key,
                    (
                        Target::AnyOf(any),
                        On::AnyOf {
                            prefixes,
                            predicate,
                            describe,
                        },
                    ) => {
                        // Predicates cannot be compared, so dependencies with a predicate never count as equal.
                        let comparable = any.predicate.is_none() && predicate.is_none() && any.describe == *describe;
                        comparable && any.prefixes.iter().map(|prefix| &self[*prefix].key).eq(prefixes)
                    }
                    _ => false,
                }
        };
        edges.len() == dependencies.len() && edges.iter().zip(dependencies).all(same)
    }

    /// Returns the dependency from which an edge was created.
    pub fn dependency(&self, edge: &Edge<D::Key>) -> Dependency<D::Key> {
        let key = |id: &NodeId| self[*id].key.clone();
        let on = match &edge.on {
            Target::Key(target) => On::Key(key(target)),
            Target::AnyOf(any) => On::AnyOf {
                prefixes: any.prefixes.iter().map(key).collect(),
                predicate: any.predicate.clone(),
                describe: any.describe.clone(),
            },
        };
        Dependency {
            label: edge.label.clone(),
            on,
            only_to_create: edge.only_to_create,
            outlived: edge.outlived,
        }
    }
}
