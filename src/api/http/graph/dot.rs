//! Writes a graph in the DOT language of Graphviz.

use std::fmt::Write;

use super::{Picture, colour};

/// Returns the graph as DOT text.
pub fn write(picture: &Picture) -> String {
    let mut text = String::from("digraph scheduler {\n\trankdir=LR;\n\tnode [shape=box, style=filled, fontname=\"sans-serif\"];\n");
    for node in &picture.nodes {
        let style = match (node.missing, node.derived) {
            (true, _) => "dashed",
            (false, true) => "\"filled,rounded\"",
            (false, false) => "filled",
        };
        let state = if node.missing { "does not exist" } else { node.state.text() };
        let tooltip = if node.error.is_empty() {
            state.to_owned()
        } else {
            format!("{state}: {}", node.error)
        };
        // Writing to a string cannot fail.
        let _ = writeln!(
            text,
            "\t{} [fillcolor={}, style={style}, tooltip={}];",
            quoted(&node.key),
            quoted(colour(node.state)),
            quoted(&tooltip)
        );
    }
    for edge in &picture.edges {
        let style = match (edge.derives, edge.met) {
            (true, _) => "style=dotted, arrowhead=open",
            (false, true) => "style=solid",
            (false, false) => "style=dashed, color=\"#c0392b\"",
        };
        let (from, to) = (&picture.nodes[edge.from].key, &picture.nodes[edge.to].key);
        let _ = writeln!(
            text,
            "\t{} -> {} [label={}, {style}];",
            quoted(from),
            quoted(to),
            quoted(&edge.label)
        );
    }
    text.push_str("}\n");
    text
}

/// Quotes an identifier. Within quotes only `"` and `\` have a special meaning.
fn quoted(text: &str) -> String {
    let escaped = text.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n");
    format!("\"{escaped}\"")
}
