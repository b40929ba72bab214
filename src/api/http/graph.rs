//! `/scheduler/graph`: draws the graph of values and their dependencies.
//!
//! The client can request the whole graph, the graph at the end of a transaction, or only the neighbourhood of a key. The module
//! `dot` writes the graph for Graphviz, and `svg` draws it as an image.

mod dot;
mod layout;
mod svg;

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use axum::{extract::State, routing::get};
use models::key::Key;

use super::{
    answer::{self, Answer, ApiError, TEXT},
    endpoint::{Endpoint, Parameter},
    query::Query,
};
use crate::scheduler::{
    ValueState,
    history::{
        extract::Scope,
        timeline::{Relation, Revision},
    },
};
use crate::{api::Api, descriptors::value::Value};

/// Content type of SVG images.
const SVG: &str = "image/svg+xml";
/// Maximum number of nodes in an SVG image. A larger image would be unreadable and slow to lay out.
const DRAWN_MAX: usize = 400;
/// Default depth of the neighbourhood of a key, in edges.
const DEPTH: u64 = 2;

pub(super) const ENDPOINTS: &[Endpoint] = &[Endpoint {
    parameters: &[
        Parameter::number("txn", "The graph at the end of the transaction with this number"),
        Parameter::one_of("format", "svg: an image; raw and dot: text for Graphviz", &["svg", "raw", "dot"]),
        Parameter::optional("key", "Only the neighbourhood of this key"),
        Parameter::number("depth", "Depth of the neighbourhood, in edges (default: 2)"),
    ],
    answers: &[SVG, TEXT],
    failures: &[
        (404, "the transaction is not recorded, or the key is unknown"),
        (
            413,
            "the graph is too large for an image; use key=… for the neighbourhood of a key, or format=dot",
        ),
        (500, "a parameter is invalid"),
    ],
    ..Endpoint::get("/scheduler/graph", "Graph of the values and their dependencies", || get(graph))
}];

/// Node of a graph, which represents the value of one key.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Node {
    key: String,
    state: ValueState,
    /// True if the value is derived from another value.
    derived: bool,
    /// True if the value does not exist, and is shown only because other values refer to it.
    missing: bool,
    error: String,
}

/// Edge of a graph. `from` and `to` are indices into the nodes.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Edge {
    from: usize,
    to: usize,
    label: String,
    derives: bool,
    /// True if an existing value satisfies the dependency.
    met: bool,
}

/// Graph to be drawn.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Picture {
    /// Nodes, sorted by key.
    nodes: Vec<Node>,
    edges: Vec<Edge>,
}

impl Picture {
    /// Creates a graph from the revisions of all keys, one revision for each key.
    ///
    /// `now` is true if the revisions are current. Only current revisions contain the keys that satisfy a dependency. In a graph
    /// of the past, a dependency is assumed to be met if the expected key exists.
    fn of(revisions: &[Revision<Value>], now: bool) -> Self {
        let mut nodes: BTreeMap<String, Node> = BTreeMap::new();
        for revision in revisions {
            let node = Node {
                key: revision.key.to_string(),
                state: revision.state,
                derived: revision.derived_from.is_some(),
                missing: false,
                error: revision.error.as_deref().unwrap_or_default().to_owned(),
            };
            nodes.insert(node.key.clone(), node);
        }
        let mut links: Vec<(String, String, String, bool, bool)> = Vec::new();
        for revision in revisions {
            for target in &revision.targets {
                let derives = target.relation == Relation::Derives;
                let expected = target.expected.to_string();
                let mut ends: Vec<(String, bool)> = target.matching.iter().map(|key| (key.to_string(), true)).collect();
                if ends.is_empty() {
                    let there = nodes.get(&expected).is_some_and(|node| !node.missing);
                    ends.push((expected, there && (!now || derives)));
                }
                for (end, met) in ends {
                    nodes.entry(end.clone()).or_insert_with(|| Node {
                        key: end.clone(),
                        state: ValueState::Nonexistent,
                        derived: false,
                        missing: true,
                        error: String::new(),
                    });
                    let label = if derives { String::new() } else { target.label.to_string() };
                    links.push((revision.key.to_string(), end, label, derives, met));
                }
            }
        }
        let places: BTreeMap<&String, usize> = nodes.keys().zip(0..).collect();
        let edges: BTreeSet<Edge> = links
            .iter()
            .map(|(from, to, label, derives, met)| Edge {
                from: places[from],
                to: places[to],
                label: label.clone(),
                derives: *derives,
                met: *met,
            })
            .collect();
        let edges = edges.into_iter().collect();
        let nodes = nodes.into_values().collect();
        Picture { nodes, edges }
    }

    /// Keeps only nodes within `depth` edges of a key. Returns `None` if the key is not in the graph.
    fn around(self, key: &str, depth: u64) -> Option<Self> {
        let start = self.nodes.iter().position(|node| node.key == key)?;
        let mut neighbours = vec![Vec::new(); self.nodes.len()];
        for edge in &self.edges {
            neighbours[edge.from].push(edge.to);
            neighbours[edge.to].push(edge.from);
        }
        let mut distance = vec![u64::MAX; self.nodes.len()];
        distance[start] = 0;
        let mut queue = VecDeque::from([start]);
        while let Some(node) = queue.pop_front() {
            if distance[node] == depth {
                continue;
            }
            for &next in &neighbours[node] {
                if distance[next] == u64::MAX {
                    distance[next] = distance[node] + 1;
                    queue.push_back(next);
                }
            }
        }
        let mut places = vec![None; self.nodes.len()];
        let mut nodes = Vec::new();
        for (at, node) in self.nodes.into_iter().enumerate().filter(|(at, _)| distance[*at] != u64::MAX) {
            places[at] = Some(nodes.len());
            nodes.push(node);
        }
        let edges = self.edges.into_iter().filter_map(|edge| {
            Some(Edge {
                from: places[edge.from]?,
                to: places[edge.to]?,
                ..edge
            })
        });
        let edges = edges.collect();
        Some(Picture { nodes, edges })
    }
}

async fn graph(State(api): State<Api>, query: Query) -> Answer {
    let (number, depth) = (query.number("txn")?, query.number("depth")?.unwrap_or(DEPTH));
    let key = query.once("key").filter(|key| !key.is_empty()).map(Key::new);
    // As in ligato vpp-agent, an unknown format means SVG.
    let as_text = matches!(query.once("format"), Some("raw" | "dot"));
    let extract = api.extract(Scope::All).await.ok_or_else(ApiError::stopping)?;
    answer::elsewhere(move || {
        let time = match number {
            None => None,
            Some(number) => {
                let record = extract.records().iter().find(|record| record.seq == number);
                let record = record.ok_or_else(|| ApiError::not_found("transaction with such sequence number is not recorded"))?;
                // Add one nanosecond to the end time, so that the last changes of the transaction are included.
                Some(record.stop + std::time::Duration::from_nanos(1))
            }
        };
        let mut picture = Picture::of(&extract.snapshot(time), time.is_none());
        if let Some(key) = key {
            let missing = || ApiError::not_found(format!("unknown key {key}"));
            picture = picture.around(key.as_str(), depth).ok_or_else(missing)?;
        }
        if as_text {
            return Ok(answer::text(dot::write(&picture)));
        }
        if picture.nodes.len() > DRAWN_MAX {
            let message = format!(
                "the graph has {} nodes, too many for an image (at most {DRAWN_MAX}); add key=… (and depth=…) for the neighbourhood of \
                 a key, or format=dot",
                picture.nodes.len()
            );
            return Err(ApiError::new(axum::http::StatusCode::PAYLOAD_TOO_LARGE, message));
        }
        Ok(answer::typed(SVG, svg::draw(&picture)))
    })
    .await
}

/// Returns the fill colour of nodes in this state.
fn colour(state: ValueState) -> &'static str {
    match state {
        ValueState::Configured => "#bfe5bf",
        ValueState::Obtained => "#bfd9f2",
        ValueState::Discovered | ValueState::Unimplemented => "#e0e0e0",
        ValueState::Pending => "#f9e8a8",
        ValueState::Invalid | ValueState::Failed => "#f2b5b0",
        ValueState::Retrying | ValueState::Missing => "#f7cfa5",
        ValueState::Nonexistent | ValueState::Removed => "#ffffff",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn picture(names: &[&str], edges: &[(usize, usize)]) -> Picture {
        let node = |name: &&str| Node {
            key: (*name).to_owned(),
            state: ValueState::Configured,
            derived: false,
            missing: false,
            error: String::new(),
        };
        let edge = |&(from, to): &(usize, usize)| Edge {
            from,
            to,
            label: "needs".to_owned(),
            derives: false,
            met: true,
        };
        Picture {
            nodes: names.iter().map(node).collect(),
            edges: edges.iter().map(edge).collect(),
        }
    }

    #[test]
    fn neighbourhood_follows_edges_in_both_directions_up_to_its_depth() {
        let chain = picture(&["a", "b", "c", "d", "e"], &[(0, 1), (1, 2), (2, 3), (3, 4)]);
        let near = chain.clone().around("c", 1).expect("the key is in the picture");
        let keys: Vec<&str> = near.nodes.iter().map(|node| node.key.as_str()).collect();
        assert_eq!((keys, near.edges.len()), (vec!["b", "c", "d"], 2));
        assert_eq!(chain.clone().around("c", 0).expect("the key is in the picture").nodes.len(), 1);
        assert_eq!(chain.around("x", 1), None);
    }

    #[test]
    fn dot_and_svg_escape_texts() {
        let odd = picture(&["a\"<&>\\"], &[]);
        assert!(dot::write(&odd).contains(r#""a\"<&>\\""#), "{}", dot::write(&odd));
        let drawn = svg::draw(&odd);
        assert!(drawn.contains("a&quot;&lt;&amp;&gt;\\"), "{drawn}");
    }

    #[test]
    fn nodes_never_overlap() {
        // The graph has cycles, self-loops, and many edges across several layers.
        let names: Vec<String> = (0..60).map(|number| format!("node-{number}")).collect();
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        let edges: Vec<(usize, usize)> = (0..60)
            .flat_map(|at| [(at, (at * 7 + 3) % 60), (at, (at * 5 + 1) % 60), (at, at)])
            .collect();
        let arranged = layout::arrange(&picture(&names, &edges));
        for (at, one) in arranged.boxes.iter().enumerate() {
            assert!(one.x >= 0.0 && one.x + one.width <= arranged.width && one.y + one.height <= arranged.height);
            for other in &arranged.boxes[at + 1..] {
                let apart = one.x + one.width <= other.x
                    || other.x + other.width <= one.x
                    || one.y + one.height <= other.y
                    || other.y + other.height <= one.y;
                assert!(apart, "{one:?} {other:?}");
            }
        }
    }
}
