//! `netns-agent get`: values with their states.
//!
//! Owns which values are listed and with what. Start reading at [`run`].

use std::collections::BTreeMap;

use serde_json::{Value as Json, json};

use super::{
    answers::{self, BaseStatus, Node, Status},
    connection::Agent,
    difference,
    failure::{Failure, Outcome},
    moment,
    names::{Wanted, is_configuration, kind_and_name},
    output::{Cell, Format, Output, Table},
};

/// How many sentences are asked for: each is a request of its own.
const MESSAGES_MAX: usize = 100;

/// Arguments of `get`.
#[derive(clap::Args, Debug)]
pub struct GetArgs {
    /// Kinds (interface, route, arp, rulechain, ip, namespace), keys (interface/NAME, config/…) or names; nothing means all values
    #[arg(value_name = "KIND|KEY")]
    wanted: Vec<String>,

    /// Only values in these states; with ! in all others, as in '!CONFIGURED'
    #[arg(long, value_name = "STATE", value_delimiter = ',')]
    state: Vec<String>,

    /// Also facts and namespaces, which nobody asked for
    #[arg(short, long)]
    all: bool,

    /// Also what is derived from the values, such as the addresses of an interface
    #[arg(short, long)]
    derived: bool,

    /// All that is asked for, from all sources, as a document for `apply`
    #[arg(long, conflicts_with_all = ["wanted", "state", "all", "derived"])]
    document: bool,
}

/// Lists values.
pub async fn run(args: &GetArgs, agent: &Agent, output: &Output) -> Outcome {
    if args.document {
        output.raw(difference::configuration(agent).await?.text.as_bytes())?;
        return Ok(0);
    }
    let values = answers::values(agent).await?;
    let wanted: Vec<Wanted> = args.wanted.iter().map(|text| Wanted::read(text)).collect();
    for (wanted, text) in wanted.iter().zip(&args.wanted) {
        let is_there =
            |base: &BaseStatus| wanted.matches(&base.value.key) || base.derived_values.iter().any(|part| wanted.matches(&part.key));
        if !matches!(wanted, Wanted::Kind(_)) && !values.iter().any(is_there) {
            return Err(
                Failure::new(format!("there is no value {text:?}")).next("`netns-agent get --all --derived -o name` lists all keys")
            );
        }
    }
    let rows = rows(args, &wanted, &values);
    if output.format == Format::Name {
        return rows
            .iter()
            .try_for_each(|(status, _)| output.line(&super::output::visible(&status.key)))
            .map(|()| 0);
    }
    let snapshot = answers::snapshot(agent).await?;
    let nodes: BTreeMap<&str, &Node> = snapshot.iter().map(|node| (node.key.as_str(), node)).collect();
    if output.is_document() {
        let documents: Vec<Json> = rows.iter().map(|(status, base)| document(status, *base, &nodes)).collect();
        output.document(&documents)?;
        return Ok(0);
    }
    if rows.is_empty() {
        eprintln!("{}", nothing(args));
        return Ok(0);
    }
    let messages = if output.is_wide() {
        messages(agent, &rows).await?
    } else {
        BTreeMap::new()
    };
    output.table(&table(output, &rows, &nodes, &messages))?;
    Ok(0)
}

fn nothing(args: &GetArgs) -> &'static str {
    match args.wanted.is_empty() && args.state.is_empty() {
        true => "nothing is asked for; `netns-agent apply -f FILE` or `netns-agent kvdb put` ask for something",
        false => "nothing there is of this kind, or in this state",
    }
}

type Row<'a> = (&'a Status, Option<&'a BaseStatus>);

fn rows<'a>(args: &GetArgs, wanted: &[Wanted], values: &'a [BaseStatus]) -> Vec<Row<'a>> {
    let state_counts = |state: &str| {
        let (without, with): (Vec<&str>, Vec<&str>) = args.state.iter().map(String::as_str).partition(|text| text.starts_with('!'));
        let named = |list: &[&str]| list.iter().any(|text| text.trim_start_matches('!').eq_ignore_ascii_case(state));
        !named(&without) && (with.is_empty() || named(&with))
    };
    let named = |key: &str| wanted.iter().any(|wanted| wanted.matches(key));
    let mut rows: Vec<Row<'a>> = Vec::new();
    for base in values {
        let listed = match wanted.is_empty() {
            true => args.all || is_configuration(&base.value.key),
            false => named(&base.value.key),
        };
        if listed {
            rows.push((&base.value, Some(base)));
        }
        let parts = base
            .derived_values
            .iter()
            .filter(|part| (listed && args.derived) || (!wanted.is_empty() && named(&part.key)));
        rows.extend(parts.map(|part| (part, None)));
    }
    rows.retain(|(status, _)| state_counts(status.state()));
    rows
}

fn table(output: &Output, rows: &[Row<'_>], nodes: &BTreeMap<&str, &Node>, messages: &BTreeMap<&str, String>) -> Table {
    let mut table = Table::new(match output.is_wide() {
        false => vec!["KIND", "NAME", "STATE", "AGE", "WHY"],
        true => vec!["KIND", "NAME", "STATE", "AGE", "LAST-OPERATION", "KEY", "WHY"],
    });
    for (status, base) in rows {
        let (kind, name) = match base {
            Some(_) => kind_and_name(&status.key),
            None => ("  derived", status.key.as_str()),
        };
        let kind = if kind.is_empty() { "fact" } else { kind };
        let age = nodes
            .get(status.key.as_str())
            .map_or_else(|| "-".to_owned(), |node| moment::ago(&node.since));
        let mut cells: Vec<Cell> = vec![kind.into(), name.into(), Cell::state(status.state()), age.into()];
        if output.is_wide() {
            let operation = if status.last_operation.is_empty() {
                "-"
            } else {
                &status.last_operation
            };
            cells.extend([operation.into(), status.key.as_str().into()]);
        }
        let why = messages.get(status.key.as_str()).cloned().unwrap_or_else(|| status.words());
        cells.push(why.into());
        table.row(cells);
    }
    table
}

/// The sentences about those that are not as they should be.
async fn messages<'a>(agent: &Agent, rows: &[Row<'a>]) -> Result<BTreeMap<&'a str, String>, Failure> {
    let mut messages = BTreeMap::new();
    let unwell = rows
        .iter()
        .filter(|(status, base)| base.is_some() && is_configuration(&status.key) && status.state() != "CONFIGURED");
    for (status, _) in unwell.take(MESSAGES_MAX) {
        // It may have gone meanwhile.
        let Ok(explanation) = answers::explanation(agent, &status.key).await else {
            continue;
        };
        let message = explanation.status.map(|published| published.message).unwrap_or_default();
        if !message.is_empty() {
            messages.insert(status.key.as_str(), message);
        }
    }
    Ok(messages)
}

fn document(status: &Status, base: Option<&BaseStatus>, nodes: &BTreeMap<&str, &Node>) -> Json {
    let (kind, name) = kind_and_name(&status.key);
    let node = nodes.get(status.key.as_str());
    let mut document = json!({ "kind": kind, "name": name });
    let own = serde_json::to_value(status).unwrap_or_default();
    if let (Some(document), Json::Object(own)) = (document.as_object_mut(), own) {
        document.extend(own);
        document.insert("state".to_owned(), status.state().into());
        if let Some(node) = node {
            document.insert("since".to_owned(), node.since.clone().into());
        }
        if let Some(value) = node.and_then(|node| node.value.as_ref()) {
            document.insert("message".to_owned(), value.message.clone().into());
            document.insert("value".to_owned(), value.data.clone());
        }
        if let Some(base) = base.filter(|base| !base.derived_values.is_empty()) {
            document.insert(
                "derived_values".to_owned(),
                serde_json::to_value(&base.derived_values).unwrap_or_default(),
            );
        }
    }
    document
}
