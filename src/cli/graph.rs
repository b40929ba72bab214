//! `netns-agent graph`: dependencies between values, as a tree for the terminal, or as an SVG or DOT graph from the agent.

use std::collections::{BTreeMap, BTreeSet};

use clap::ValueEnum;
use hyper::Method;

use super::{
    answers::{self, Node},
    connection::{Agent, target},
    failure::{Failure, Outcome},
    names::{self, is_configuration, short},
    output::{Output, Tone, visible},
};

/// Arguments of `graph`.
#[derive(clap::Args, Debug)]
pub struct GraphArgs {
    /// Show only this value and its dependencies
    #[arg(value_name = "KEY")]
    key: Option<String>,

    /// tree: text for the terminal; svg: image; dot: input for Graphviz
    #[arg(short, long, value_enum, value_name = "FORMAT", default_value_t = Picture::Tree)]
    format: Picture,

    /// Maximum distance from KEY, in edges (svg and dot only)
    #[arg(long, value_name = "NUMBER")]
    depth: Option<u64>,

    /// Show the graph at the end of this transaction (svg and dot only)
    #[arg(long, value_name = "SEQ")]
    txn: Option<u64>,
}

#[derive(ValueEnum, Clone, Copy, PartialEq, Eq, Debug)]
enum Picture {
    Tree,
    Svg,
    Dot,
}

/// Prints the graph of values and dependencies.
pub async fn run(args: &GraphArgs, agent: &Agent, output: &Output) -> Outcome {
    let key = match &args.key {
        Some(text) => {
            let known = if names::is_name(text) {
                answers::values(agent).await?
            } else {
                Vec::new()
            };
            Some(names::one_key(text, &known)?)
        }
        None => None,
    };
    let format = match args.format {
        Picture::Svg => "svg",
        Picture::Dot => "dot",
        Picture::Tree if args.depth.is_some() || args.txn.is_some() => {
            return Err(Failure::new("--depth and --txn are not supported for trees").next("add --format svg or --format dot"));
        }
        Picture::Tree => return tree(key.as_deref(), agent, output).await,
    };
    let numbers = [("depth", args.depth), ("txn", args.txn)].map(|(name, number)| (name, number.map(|number| number.to_string())));
    let mut parameters = vec![("format", format)];
    parameters.extend(key.iter().map(|key| ("key", key.as_str())));
    parameters.extend(numbers.iter().filter_map(|(name, text)| Some((*name, text.as_deref()?))));
    let target = target("/scheduler/graph", &parameters);
    let answer = agent.success(&target, agent.send(Method::GET, &target, "").await?)?;
    output.raw(&answer.body)?;
    Ok(0)
}

async fn tree(key: Option<&str>, agent: &Agent, output: &Output) -> Outcome {
    let nodes = answers::snapshot(agent).await?;
    if output.is_document() {
        let all: serde_json::Value = agent.get("/scheduler/graph-snapshot").await?;
        output.document(&all)?;
        return Ok(0);
    }
    let tree = Tree {
        nodes: nodes.iter().map(|node| (node.key.as_str(), node)).collect(),
        output,
    };
    let roots: Vec<&str> = match key {
        Some(key) if tree.nodes.contains_key(key) => vec![key],
        Some(key) => {
            let known = answers::values(agent).await?;
            return Err(Failure::new(format!("there is no value {key}{}", names::similar(key, &known)))
                .next("`netns-agent get --all` lists all values"));
        }
        None => nodes
            .iter()
            .map(|node| node.key.as_str())
            .filter(|key| is_configuration(key))
            .collect(),
    };
    let mut text = String::new();
    for root in roots {
        tree.write(root, &mut text);
    }
    output.text(&text)?;
    Ok(0)
}

struct Tree<'a> {
    nodes: BTreeMap<&'a str, &'a Node>,
    output: &'a Output,
}

/// Line of the tree that has not been written yet. `strokes` is the text to the left of the node, such as `│  `.
struct Branch<'a> {
    key: &'a str,
    label: &'a str,
    strokes: String,
    is_last: bool,
}

impl<'a> Tree<'a> {
    /// Writes a value, and its dependencies below it. Expands each node only once, because the graph can contain cycles.
    fn write(&self, root: &'a str, text: &mut String) {
        text.push_str(&format!("{}\n", self.node(root)));
        let mut unfolded = BTreeSet::from([root]);
        let mut left = self.needs(root, "");
        while let Some(branch) = left.pop() {
            let stroke = if branch.is_last { "└─ " } else { "├─ " };
            let again = !unfolded.insert(branch.key) && self.nodes.get(branch.key).is_some_and(|node| !node.targets.is_empty());
            let mark = if again { " (above)" } else { "" };
            let label = self.output.paint(branch.label, Tone::Faint);
            text.push_str(&format!("{}{stroke}{}{mark}  {label}\n", branch.strokes, self.node(branch.key)));
            if !again {
                let strokes = format!("{}{}", branch.strokes, if branch.is_last { "   " } else { "│  " });
                left.extend(self.needs(branch.key, &strokes));
            }
        }
    }

    fn node(&self, key: &str) -> String {
        let state = self.nodes.get(key).and_then(|node| node.flags.get("value-state"));
        match state {
            Some(state) => format!("{} {}", visible(&short(key)), self.output.paint(state, Tone::of_state(state))),
            None => format!("{} {}", visible(&short(key)), self.output.paint("does not exist", Tone::Bad)),
        }
    }

    /// Returns the dependencies of a value in reverse order, because the caller writes the last one first.
    fn needs(&self, key: &str, strokes: &str) -> Vec<Branch<'a>> {
        let targets = self.nodes.get(key).map(|node| node.targets.as_slice()).unwrap_or_default();
        let mut branches: Vec<Branch<'a>> = Vec::new();
        for target in targets.iter().filter(|target| target.relation == "depends-on") {
            let met = target.matching_keys.iter().map(String::as_str);
            let ends: Vec<&str> = if target.matching_keys.is_empty() {
                vec![&target.expected_key]
            } else {
                met.collect()
            };
            branches.extend(ends.into_iter().map(|key| Branch {
                key,
                label: &target.label,
                strokes: strokes.to_owned(),
                is_last: false,
            }));
        }
        if let Some(last) = branches.last_mut() {
            last.is_last = true;
        }
        branches.reverse();
        branches
    }
}
