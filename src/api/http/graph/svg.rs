//! Draws a graph as SVG, without an external program. All text is escaped.

use std::fmt::Write;

use super::{
    Edge, Node, Picture, colour,
    layout::{self, Place, shortened},
};
use crate::api::http::index::escape;

const HEAD: &str = concat!(
    "<style>text{font:11px monospace}rect{stroke:#555}.missing{stroke-dasharray:4;fill:none}path{fill:none;stroke:#777}",
    ".derives{stroke-dasharray:2 3}.unmet{stroke:#c0392b;stroke-dasharray:5 3}.label{font-size:9px;fill:#555}</style>\n",
    "<defs><marker id=\"arrow\" viewBox=\"0 0 8 8\" refX=\"8\" refY=\"4\" markerWidth=\"7\" markerHeight=\"7\" orient=\"auto\">",
    "<path d=\"M0 0L8 4L0 8z\" style=\"fill:#777;stroke:none\"/></marker></defs>\n",
);

/// Returns the graph as SVG.
pub fn draw(picture: &Picture) -> String {
    let arranged = layout::arrange(picture);
    let (width, height) = (arranged.width.ceil(), arranged.height.ceil());
    let mut text = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{width}\" height=\"{height}\" viewBox=\"0 0 {width} {height}\">\n{HEAD}"
    );
    for edge in picture.edges.iter().filter(|edge| edge.from != edge.to) {
        draw_edge(&mut text, edge, &arranged.boxes[edge.from], &arranged.boxes[edge.to]);
    }
    for (node, place) in picture.nodes.iter().zip(&arranged.boxes) {
        draw_node(&mut text, node, place);
    }
    text.push_str("</svg>\n");
    text
}

fn draw_node(text: &mut String, node: &Node, place: &Place) {
    let Place { x, y, width, height } = place;
    let state = if node.missing { "does not exist" } else { node.state.text() };
    let more = if node.error.is_empty() {
        String::new()
    } else {
        format!(": {}", node.error)
    };
    let class = if node.missing { " class=\"missing\"" } else { "" };
    let corner = if node.derived { 9 } else { 2 };
    // Writing to a string cannot fail.
    let _ = writeln!(
        text,
        "<g><title>{}</title><rect x=\"{x:.1}\" y=\"{y:.1}\" width=\"{width:.1}\" height=\"{height:.1}\" rx=\"{corner}\" fill=\"{}\"{class}/>\
         <text x=\"{:.1}\" y=\"{:.1}\">{}</text></g>",
        escape(&format!("{} {state}{more}", node.key)),
        colour(node.state),
        x + 10.0,
        y + 15.0,
        escape(&shortened(&node.key)),
    );
}

/// Draws an edge as a curve from the right side of the node `from` to the left side of the node `to`.
///
/// An edge that closes a cycle points backwards. Its curve starts at the left side of `from` and ends at the right side of `to`.
fn draw_edge(text: &mut String, edge: &Edge, from: &Place, to: &Place) {
    let forward = from.x <= to.x;
    let (x, target_x, bend) = match forward {
        true => (from.x + from.width, to.x, 50.0),
        false => (from.x, to.x + to.width, -50.0),
    };
    let (y, target_y) = (from.y + from.height / 2.0, to.y + to.height / 2.0);
    let class = match (edge.derives, edge.met) {
        (true, _) => "derives",
        (false, true) => "met",
        (false, false) => "unmet",
    };
    let _ = writeln!(
        text,
        "<path class=\"{class}\" marker-end=\"url(#arrow)\" d=\"M{x:.1} {y:.1}C{:.1} {y:.1} {:.1} {target_y:.1} {target_x:.1} {target_y:.1}\"/>",
        x + bend,
        target_x - bend,
    );
    if !edge.label.is_empty() {
        // Place the label near the start of the edge, where fewer edges meet.
        let (label_x, label_y) = (x + (target_x - x) * 0.35, y + (target_y - y) * 0.25 - 3.0);
        let _ = writeln!(
            text,
            "<text class=\"label\" x=\"{label_x:.1}\" y=\"{label_y:.1}\">{}</text>",
            escape(&edge.label)
        );
    }
}
