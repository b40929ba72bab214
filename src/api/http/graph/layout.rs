//! Lays out a graph in layers from left to right. Each node is placed to the right of all nodes that refer to it.
//!
//! Uses the algorithm by Sugiyama, Tagawa and Toda (1981): break cycles, assign layers, and order each layer by the average position of
//! the neighbours.

use super::Picture;

/// Width of a character, in pixels.
const CHARACTER: f64 = 6.6;
/// Height of a node, in pixels.
const LINE: f64 = 22.0;
/// Padding inside nodes and around the image, in pixels.
const PADDING: f64 = 10.0;
/// Horizontal gap between two layers, in pixels.
const GAP_X: f64 = 150.0;
/// Vertical gap between two nodes of a layer, in pixels.
const GAP_Y: f64 = 10.0;
/// Maximum number of characters of a key that are shown. Longer keys are shortened.
pub const CHARACTERS_MAX: usize = 60;
/// Number of passes that improve the order of the nodes within the layers.
const ROUNDS: usize = 12;

/// Position and size of a node, in pixels.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Place {
    /// Horizontal position of the left edge.
    pub x: f64,
    /// Vertical position of the top edge.
    pub y: f64,
    pub width: f64,
    pub height: f64,
}

/// Layout of a graph.
pub struct Arranged {
    /// Position and size of each node, by index of the node.
    pub boxes: Vec<Place>,
    /// Width of the whole image.
    pub width: f64,
    /// Height of the whole image.
    pub height: f64,
}

/// Assigns each node to a layer, orders the nodes within the layers, and computes their positions.
pub fn arrange(picture: &Picture) -> Arranged {
    let forward = without_cycles(picture);
    let layer = layers(picture.nodes.len(), &forward);
    let mut rows: Vec<Vec<usize>> = vec![Vec::new(); layer.iter().max().map_or(0, |last| last + 1)];
    for (node, layer) in layer.iter().enumerate() {
        rows[*layer].push(node);
    }
    order(&mut rows, picture);
    place(&rows, picture)
}

/// Returns the edges without self-loops. Reverses each edge that would close a cycle.
fn without_cycles(picture: &Picture) -> Vec<(usize, usize)> {
    #[derive(Clone, Copy, PartialEq)]
    enum Visit {
        Never,
        Under,
        Over,
    }
    let count = picture.nodes.len();
    let mut targets: Vec<Vec<usize>> = vec![Vec::new(); count];
    for edge in picture.edges.iter().filter(|edge| edge.from != edge.to) {
        targets[edge.from].push(edge.to);
    }
    let mut visits = vec![Visit::Never; count];
    let mut forward = Vec::new();
    for start in 0..count {
        if visits[start] != Visit::Never {
            continue;
        }
        visits[start] = Visit::Under;
        // Use an explicit stack, because recursion could be as deep as the graph.
        let mut stack = vec![(start, 0)];
        while let Some((node, next)) = stack.last_mut() {
            let node = *node;
            let Some(&target) = targets[node].get(*next) else {
                visits[node] = Visit::Over;
                stack.pop();
                continue;
            };
            *next += 1;
            match visits[target] {
                Visit::Under => forward.push((target, node)),
                Visit::Over => forward.push((node, target)),
                Visit::Never => {
                    forward.push((node, target));
                    visits[target] = Visit::Under;
                    stack.push((target, 0));
                }
            }
        }
    }
    forward
}

/// Returns the layer of each node, which is the length of the longest path to the node. Visits the nodes in topological order.
fn layers(count: usize, forward: &[(usize, usize)]) -> Vec<usize> {
    let mut incoming = vec![0; count];
    let mut targets: Vec<Vec<usize>> = vec![Vec::new(); count];
    for (from, to) in forward {
        incoming[*to] += 1;
        targets[*from].push(*to);
    }
    let mut layer = vec![0; count];
    let mut ready: Vec<usize> = (0..count).filter(|node| incoming[*node] == 0).collect();
    while let Some(node) = ready.pop() {
        for &target in &targets[node] {
            layer[target] = layer[target].max(layer[node] + 1);
            incoming[target] -= 1;
            if incoming[target] == 0 {
                ready.push(target);
            }
        }
    }
    layer
}

/// Sorts the nodes of each layer by the average position of their neighbours, in several passes.
fn order(rows: &mut [Vec<usize>], picture: &Picture) {
    let mut neighbours: Vec<Vec<usize>> = vec![Vec::new(); picture.nodes.len()];
    for edge in &picture.edges {
        neighbours[edge.from].push(edge.to);
        neighbours[edge.to].push(edge.from);
    }
    let mut height = vec![0.0; picture.nodes.len()];
    let spread = |row: &[usize], height: &mut [f64]| {
        // Use relative positions, because rows have different lengths.
        let length = row.len() as f64;
        row.iter()
            .enumerate()
            .for_each(|(at, node)| height[*node] = (at as f64 + 0.5) / length);
    };
    rows.iter().for_each(|row| spread(row, &mut height));
    for round in 0..ROUNDS {
        let backwards = round % 2 == 1;
        for step in 0..rows.len() {
            let at = if backwards { rows.len() - 1 - step } else { step };
            let average = |node: usize| {
                let near = &neighbours[node];
                let sum: f64 = near.iter().map(|neighbour| height[*neighbour]).sum();
                if near.is_empty() { height[node] } else { sum / near.len() as f64 }
            };
            let mut weighed: Vec<(f64, usize)> = rows[at].iter().map(|node| (average(*node), *node)).collect();
            weighed.sort_by(|one, other| one.0.total_cmp(&other.0).then(one.1.cmp(&other.1)));
            rows[at] = weighed.into_iter().map(|(_, node)| node).collect();
            spread(&rows[at], &mut height);
        }
    }
}

fn place(rows: &[Vec<usize>], picture: &Picture) -> Arranged {
    let mut boxes = vec![Place::default(); picture.nodes.len()];
    let tallest = rows.iter().map(Vec::len).max().unwrap_or_default() as f64;
    let height = tallest * (LINE + GAP_Y) + 2.0 * PADDING;
    let mut x = PADDING;
    for row in rows {
        let characters = row.iter().map(|node| shortened(&picture.nodes[*node].key).chars().count()).max();
        let width = characters.unwrap_or_default() as f64 * CHARACTER + 2.0 * PADDING;
        // Spread the nodes of each row over the whole height of the image.
        let step = (height - 2.0 * PADDING) / row.len().max(1) as f64;
        for (at, node) in row.iter().enumerate() {
            let y = PADDING + step * (at as f64 + 0.5) - LINE / 2.0;
            let own = shortened(&picture.nodes[*node].key).chars().count() as f64 * CHARACTER + 2.0 * PADDING;
            boxes[*node] = Place {
                x: x + (width - own) / 2.0,
                y,
                width: own,
                height: LINE,
            };
        }
        x += width + GAP_X;
    }
    let width = if rows.is_empty() { 2.0 * PADDING } else { x - GAP_X + PADDING };
    Arranged { boxes, width, height }
}

/// Shortens a key at its beginning, because its end is more specific.
pub fn shortened(key: &str) -> String {
    let count = key.chars().count();
    if count <= CHARACTERS_MAX {
        return key.to_owned();
    }
    let end: String = key.chars().skip(count - CHARACTERS_MAX + 1).collect();
    format!("…{end}")
}
