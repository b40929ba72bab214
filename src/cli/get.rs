//! `netns-agent get`: lists values and their states.

use std::collections::BTreeMap;

use serde_json::{Value as Json, json};

use super::{
    answers::{self, BaseStatus, Detail, Node, Status},
    connection::Agent,
    difference,
    failure::{FAILED, Failure, Outcome, remark},
    moment,
    names::{self, Requested, is_configuration, kind_and_name},
    output::{Cell, Format, Output, Table},
    readiness::{self, Readiness},
};

/// Arguments of `get`.
#[derive(clap::Args, Debug)]
pub struct GetArgs {
    /// Kinds (interface, route, arp, rulechain, ip, namespace), keys (interface/NAME, config/…) or names; without any, all values
    #[arg(value_name = "KIND|KEY")]
    requested: Vec<String>,

    /// Only values in these states; a leading ! selects all other states, as in '!CONFIGURED'
    #[arg(long, value_name = "STATE", value_delimiter = ',', value_parser = names::parse_state)]
    state: Vec<String>,

    /// Include observed facts and namespaces
    #[arg(short, long)]
    all: bool,

    /// Include derived values, such as the addresses of an interface
    #[arg(short, long)]
    derived: bool,

    /// Print all desired values, from all sources, as a document for `apply`
    #[arg(long, conflicts_with_all = ["requested", "state", "all", "derived"])]
    document: bool,
}

/// Prints values and their states.
pub async fn run(args: &GetArgs, agent: &Agent, output: &Output) -> Outcome {
    let requested = args
        .requested
        .iter()
        .map(|text| Requested::parse(text))
        .collect::<Result<Vec<Requested>, Failure>>()?;
    let readiness = readiness::ask(agent).await?;
    if args.document {
        readiness.refuse_to_guess("the desired values")?;
        output.raw(difference::configuration(agent).await?.text.as_bytes())?;
        return Ok(0);
    }
    let values = answers::values(agent).await?;
    for (requested, text) in requested.iter().zip(&args.requested) {
        if !requested.matches_any(&values) {
            readiness.refuse_to_guess(&format!("whether the value {text:?} exists"))?;
            let suggestion = names::similar(text, &values);
            return Err(Failure::new(format!("there is no value {text:?}{suggestion}"))
                .next("`netns-agent get --all --derived -o name` lists all keys"));
        }
    }
    let rows = rows(args, &requested, &values);
    if rows.is_empty() {
        readiness.refuse_to_guess("the desired values")?;
    }
    show(args, &rows, agent, output).await?;
    Ok(exit_code(&readiness))
}

/// Returns the exit code of `get`. If the list may be incomplete or out of date, prints a note and returns a failure code.
fn exit_code(readiness: &Readiness) -> u8 {
    match readiness.problem() {
        None => 0,
        Some(problem) => {
            remark(&format!("the list may be incomplete or out of date: {problem}"));
            FAILED
        }
    }
}

async fn show(args: &GetArgs, rows: &[Row<'_>], agent: &Agent, output: &Output) -> Result<(), Failure> {
    if output.format == Format::Name {
        return rows
            .iter()
            .try_for_each(|(status, _)| output.line(&super::output::visible(&status.key)));
    }
    let details = answers::details(agent).await?;
    if output.is_document() {
        let snapshot = answers::snapshot(agent).await?;
        let nodes: BTreeMap<&str, &Node> = snapshot.iter().map(|node| (node.key.as_str(), node)).collect();
        let documents: Vec<Json> = rows
            .iter()
            .map(|(status, base)| document(status, *base, &nodes, &details))
            .collect();
        return output.document(&documents);
    }
    if rows.is_empty() {
        remark(nothing(args));
        return Ok(());
    }
    output.table(&table(output, rows, &details))
}

fn nothing(args: &GetArgs) -> &'static str {
    match args.requested.is_empty() && args.state.is_empty() {
        true => "no values are desired; add values with `netns-agent apply -f FILE` or `netns-agent kvdb put KEY VALUE`",
        false => "no values match",
    }
}

type Row<'a> = (&'a Status, Option<&'a BaseStatus>);

fn rows<'a>(args: &GetArgs, requested: &[Requested], values: &'a [BaseStatus]) -> Vec<Row<'a>> {
    let state_counts = |state: &str| {
        let (without, with): (Vec<&str>, Vec<&str>) = args.state.iter().map(String::as_str).partition(|text| text.starts_with('!'));
        let named = |list: &[&str]| list.iter().any(|text| text.trim_start_matches('!').eq_ignore_ascii_case(state));
        !named(&without) && (with.is_empty() || named(&with))
    };
    let named = |key: &str| requested.iter().any(|requested| requested.matches(key));
    let mut rows: Vec<Row<'a>> = Vec::new();
    for base in values {
        let listed = match requested.is_empty() {
            true => args.all || is_configuration(&base.value.key),
            false => named(&base.value.key),
        };
        if listed {
            rows.push((&base.value, Some(base)));
        }
        let parts = base
            .derived_values
            .iter()
            .filter(|part| (listed && args.derived) || (!requested.is_empty() && named(&part.key)));
        rows.extend(parts.map(|part| (part, None)));
    }
    rows.retain(|(status, _)| state_counts(status.state()));
    rows
}

fn table(output: &Output, rows: &[Row<'_>], details: &BTreeMap<String, Detail>) -> Table {
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
        let detail = details.get(&status.key);
        let age = detail.map_or_else(|| "-".to_owned(), |detail| moment::ago(&detail.since));
        let mut cells: Vec<Cell> = vec![kind.into(), name.into(), Cell::state(status.state()), age.into()];
        if output.is_wide() {
            let operation = if status.last_operation.is_empty() {
                "-"
            } else {
                &status.last_operation
            };
            cells.extend([operation.into(), status.key.as_str().into()]);
        }
        let message = detail
            .map(|detail| detail.message.clone())
            .filter(|text| output.is_wide() && !text.is_empty());
        let mut why = message.unwrap_or_else(|| status.words());
        if detail.is_some_and(|detail| !detail.removal_held_since.is_empty()) {
            why.push_str(if why.is_empty() { "removal held" } else { "; removal held" });
        }
        cells.push(why.into());
        table.row(cells);
    }
    table
}

fn document(status: &Status, base: Option<&BaseStatus>, nodes: &BTreeMap<&str, &Node>, details: &BTreeMap<String, Detail>) -> Json {
    let (kind, name) = kind_and_name(&status.key);
    let node = nodes.get(status.key.as_str());
    let mut document = json!({ "kind": kind, "name": name });
    let own = serde_json::to_value(status).unwrap_or_default();
    if let (Some(document), Json::Object(own)) = (document.as_object_mut(), own) {
        document.extend(own);
        document.insert("state".to_owned(), status.state().into());
        if let Some(detail) = details.get(&status.key) {
            document.insert("since".to_owned(), detail.since.clone().into());
            if !detail.removal_held_since.is_empty() {
                document.insert("removal_held_since".to_owned(), detail.removal_held_since.clone().into());
            }
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
