//! `netns-agent history` shows past transactions; `netns-agent resync` starts a downstream resync.

use std::{collections::BTreeSet, time::Duration};

use hyper::{Method, StatusCode};
use serde_json::Value as Json;

use super::{
    answers::{self, Node, Operation, Record},
    connection::{Agent, target},
    failure::{Failure, Outcome},
    moment, names,
    output::{Cell, Output, Table, Tone, visible},
};

/// State of a value whose object has disappeared from the kernel.
const LOST: &str = "MISSING";

/// Arguments of `history`.
#[derive(clap::Args, Debug)]
pub struct HistoryArgs {
    /// Number of a transaction to show in detail
    #[arg(value_name = "SEQ", conflicts_with_all = ["since", "last", "of"])]
    number: Option<u64>,

    /// Only transactions that started within this time: 10m, 2h
    #[arg(long, value_name = "DURATION", value_parser = moment::parse_span)]
    since: Option<Duration>,

    /// Number of transactions to show, newest last
    #[arg(long, value_name = "NUMBER", default_value_t = 20)]
    last: usize,

    /// Show the states of this value over time, and those of its derived values when they are not CONFIGURED
    #[arg(long, value_name = "KEY", conflicts_with = "last")]
    of: Option<String>,
}

/// Prints recent transactions, one transaction, or the timeline of a value.
pub async fn history(args: &HistoryArgs, agent: &Agent, output: &Output) -> Outcome {
    if let Some(number) = args.number {
        return one(number, agent, output).await;
    }
    if let Some(key) = &args.of {
        return timeline(key, agent, output).await;
    }
    let since = args.since.map(|span| moment::now().saturating_sub(span).as_nanos().to_string());
    let parameters: Vec<(&str, &str)> = since.iter().map(|since| ("since", since.as_str())).collect();
    let target = target("/scheduler/txn-history", &parameters);
    let newest = |count: usize| count.saturating_sub(args.last);
    if output.is_document() {
        let mut all: Vec<Json> = answers::list(agent, &target).await?;
        all.sort_by_key(|record| record.get("SeqNum").and_then(Json::as_u64));
        output.document(&all[newest(all.len())..])?;
        return Ok(0);
    }
    let mut records: Vec<Record> = answers::list(agent, &target).await?;
    // Sort by number, because a transaction that had to wait can end later than transactions with higher numbers.
    records.sort_by_key(|record| record.seq_num);
    let mut table = Table::new(["SEQ", "TIME", "TOOK", "KIND", "VALUES", "OPERATIONS", "FAILED", "DESCRIPTION"]);
    for record in &records[newest(records.len())..] {
        let failed = record.executed.iter().filter(|operation| !operation.new_err_msg.is_empty()).count();
        table.row([
            record.seq_num.to_string().into(),
            moment::time_of_day(&record.start).into(),
            took(record).into(),
            kind(record).into(),
            values(record).into(),
            record.executed.len().to_string().into(),
            Cell::new(failed.to_string(), if failed > 0 { Tone::Bad } else { Tone::Plain }),
            record.description.as_str().into(),
        ]);
    }
    output.table(&table)?;
    Ok(0)
}

fn took(record: &Record) -> String {
    match (moment::parse(&record.start), moment::parse(&record.stop)) {
        (Some(start), Some(stop)) if stop > start => moment::duration(stop - start),
        // The start and end times are equal if the transaction took a single scheduler step, because the clock does not advance
        // during a step.
        _ => "-".to_owned(),
    }
}

/// Returns the number of values that a transaction requested, or that a repair restored. Returns `-` for a retry, which requests
/// no values.
fn values(record: &Record) -> String {
    let restored: BTreeSet<&str> = record
        .executed
        .iter()
        .filter(|operation| operation.prev_state == LOST)
        .map(|operation| operation.key.as_str())
        .collect();
    match record.values.len() {
        _ if is_repair(record) => restored.len().to_string(),
        0 if record.retry_for_txn != 0 => "-".to_owned(),
        count => count.to_string(),
    }
}

/// Returns whether a transaction repaired values that had disappeared from the kernel.
fn is_repair(record: &Record) -> bool {
    record.txn_type == "SBNotification" && record.executed.iter().any(|operation| operation.prev_state == LOST)
}

fn kind(record: &Record) -> String {
    let kind = match record.txn_type.as_str() {
        "NBTransaction" => "change",
        "SBNotification" if is_repair(record) => "repair",
        "SBNotification" => "notification",
        "RetryFailedOps" => "retry",
        "RetryUnimplOps" => "retry-unimplemented",
        other => other,
    };
    match (record.resync_type.as_str(), record.retry_for_txn) {
        ("", 0) => kind.to_owned(),
        ("", of) => format!("{kind} of {of}, attempt {}", record.retry_attempt),
        (resync, _) => resync.trim_end_matches("Resync").to_lowercase() + " resync",
    }
}

async fn one(number: u64, agent: &Agent, output: &Output) -> Outcome {
    let target = target("/scheduler/txn-history", &[("seq-num", &number.to_string())]);
    let answer = agent.send(Method::GET, &target, "").await?;
    if answer.status == StatusCode::NOT_FOUND {
        return Err(
            Failure::new(format!("transaction {number} is not recorded")).next("`netns-agent history` lists the recorded transactions")
        );
    }
    if output.is_document() {
        let record: Json = agent.json(&target, answer)?;
        output.document(&record)?;
        return Ok(0);
    }
    let record: Record = agent.json(&target, answer)?;
    print(&record, output)?;
    Ok(0)
}

fn print(record: &Record, output: &Output) -> Result<(), Failure> {
    let mut table = Table::new([]);
    let mut row = |label: &str, text: String| {
        if !text.is_empty() {
            table.row([Cell::new(label, Tone::Strong), text.into()]);
        }
    };
    row("Transaction", record.seq_num.to_string());
    row("Kind", kind(record));
    row("Description", record.description.clone());
    row("Time", format!("{}, took {}", record.start, took(record)));
    row("Values", values(record));
    for value in &record.values {
        let key = value.get("Key").and_then(Json::as_str).unwrap_or_default();
        let is_absent = value.get("Value").is_none_or(Json::is_null);
        row(
            "",
            format!("{}{}", names::short(key), if is_absent { absence(key, record) } else { "" }),
        );
    }
    output.table(&table)?;
    match record.executed.is_empty() {
        true => output.line("\nNo operations were needed."),
        false => {
            output.line("")?;
            output.table(&operations(&record.executed))
        }
    }
}

/// Returns the reason why a transaction has no value for a key: the value was deleted, is invalid, or is not supported.
fn absence(key: &str, record: &Record) -> &'static str {
    let last = record.executed.iter().rfind(|operation| operation.key == key);
    match last.map(|operation| operation.new_state.as_str()) {
        Some("INVALID") => " (invalid)",
        Some("UNIMPLEMENTED") => " (not supported)",
        _ => " (deleted)",
    }
}

fn operations(executed: &[Operation]) -> Table {
    let mut table = Table::new(["OPERATION", "STATE", "KEY", "WHY"]);
    for operation in executed {
        let marks = [
            (operation.noop, "nothing to do"),
            (operation.is_revert, "rolled back"),
            (operation.is_retry, "retry"),
        ];
        let marks: Vec<&str> = marks.into_iter().filter(|(is_so, _)| *is_so).map(|(_, text)| text).collect();
        let why = match operation.new_err_msg.is_empty() {
            true => marks.join(", "),
            false => operation.new_err_msg.clone(),
        };
        let indent = if operation.is_derived { "  " } else { "" };
        table.row([
            operation.operation.as_str().into(),
            Cell::state(&operation.new_state),
            format!("{indent}{}", names::short(&operation.key)).into(),
            why.into(),
        ]);
    }
    table
}

async fn timeline(key: &str, agent: &Agent, output: &Output) -> Outcome {
    let known = if names::is_name(key) {
        answers::values(agent).await?
    } else {
        Vec::new()
    };
    let key = names::one_key(key, &known)?;
    let target = target("/scheduler/key-timeline", &[("key", &key), ("derived", "1")]);
    if output.is_document() {
        let all: Vec<Json> = answers::list(agent, &target).await?;
        output.document(&all)?;
        return Ok(0);
    }
    let mut revisions: Vec<Node> = answers::list(agent, &target).await?;
    // Show a derived value only while it is in a state that indicates a problem.
    revisions.retain(|node| node.key == key || !matches!(state(node), "CONFIGURED" | "OBTAINED" | "DISCOVERED"));
    revisions.sort_by_key(|node| moment::parse(&node.since));
    if revisions.is_empty() {
        return Err(Failure::new(format!("there is no history of {}", visible(&key))).next("`netns-agent get --all` lists all values"));
    }
    let has_derived = revisions.iter().any(|node| node.key != key);
    let mut headings = vec!["SINCE", "FOR", "STATE", "TRANSACTION", "WHY"];
    if has_derived {
        headings.push("DERIVED VALUE");
    }
    let mut table = Table::new(headings);
    for node in &revisions {
        let flag = |name: &str| node.flags.get(name).cloned().unwrap_or_default();
        let lasted = match (moment::parse(&node.since), moment::parse(&node.until)) {
            (Some(since), Some(until)) => moment::duration(until.saturating_sub(since)),
            (Some(since), None) => format!("{} until now", moment::age(moment::now().saturating_sub(since))),
            _ => "-".to_owned(),
        };
        let mut cells = vec![
            moment::time_of_day(&node.since).into(),
            lasted.into(),
            Cell::state(state(node)),
            flag("last-update").trim_start_matches("TXN-").to_owned().into(),
            flag("error").into(),
        ];
        if has_derived {
            let derived = if node.key == key { "" } else { node.key.as_str() };
            cells.push(derived.into());
        }
        table.row(cells);
    }
    output.table(&table)?;
    Ok(0)
}

fn state(node: &Node) -> &str {
    node.flags.get("value-state").map(String::as_str).unwrap_or_default()
}

/// Arguments of `resync`.
#[derive(clap::Args, Debug)]
pub struct ResyncArgs {
    /// Do not retry failed operations
    #[arg(long)]
    no_retry: bool,
}

/// Requests a downstream resync: the agent reads the kernel state again and repairs differences.
pub async fn resync(args: &ResyncArgs, agent: &Agent, output: &Output) -> Outcome {
    let mut parameters = vec![("verbose", "1")];
    if !args.no_retry {
        parameters.push(("retry", "1"));
    }
    let target = target("/scheduler/downstream-resync", &parameters);
    let answer = agent.send(Method::POST, &target, "").await?;
    if answer.status.is_success() {
        if output.is_document() {
            let record: Json = agent.json(&target, answer)?;
            output.document(&record)?;
            return Ok(0);
        }
        let record: Option<Record> = agent.json(&target, answer)?;
        let record = record.unwrap_or_default();
        if record.executed.iter().all(|operation| operation.noop) {
            output.line(&format!(
                "in sync: no changes were needed (transaction {}, {})",
                record.seq_num,
                took(&record)
            ))?;
        } else {
            print(&record, output)?;
        }
        return Ok(0);
    }
    // The response to a failed resync also contains the transaction record.
    let body: Json = serde_json::from_slice(&answer.body).unwrap_or_default();
    let failure = agent.success(&target, answer).err();
    let failure = failure.unwrap_or_else(|| Failure::new("the resync failed"));
    let record = body
        .get("Record")
        .and_then(|record| serde_json::from_value::<Record>(record.clone()).ok());
    match record {
        None => Err(failure),
        Some(record) => {
            print(&record, output)?;
            Err(failure.next("`netns-agent get --state '!CONFIGURED' -o wide` shows the values with problems"))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn transactions_that_restore_lost_values_are_shown_as_repairs() {
        let record = |kind: &str, values: usize, before: &[&str]| Record {
            txn_type: kind.to_owned(),
            values: vec![Json::Null; values],
            executed: before
                .iter()
                .enumerate()
                .map(|(number, state)| Operation {
                    key: number.to_string(),
                    prev_state: (*state).to_owned(),
                    ..Operation::default()
                })
                .collect(),
            ..Record::default()
        };
        for (record, expected) in [
            (record("SBNotification", 0, &["MISSING", "MISSING", ""]), ("repair", "2")),
            // The first operation is not counted, because it changes an observed fact (`OBTAINED`). It occurs when an address
            // disappears from the agent's own namespace.
            (record("SBNotification", 1, &["OBTAINED", "MISSING"]), ("repair", "1")),
            (record("SBNotification", 3, &["", "", ""]), ("notification", "3")),
            (record("NBTransaction", 0, &[]), ("change", "0")),
        ] {
            assert_eq!((kind(&record).as_str(), values(&record).as_str()), expected);
        }
    }
}
