//! History records as JSON, with the member names and member order of ligato vpp-agent.
//!
//! Values are opaque in this module. The caller passes a function that converts them to [`Shown`].

use std::{
    collections::BTreeMap,
    time::{Duration, UNIX_EPOCH},
};

use models::key::Key;
use serde::Serialize;
use serde_json::Value as Json;

use crate::scheduler::{
    self, Kind, Planned, Remedy, Resync, ValueState,
    history::{
        record::{OperationRecord, Side, TransactionRecord, ValueRecord},
        timeline::{FlagStatistics, Revision},
    },
};

/// Latest time that can be formatted: the last second of the year 9999.
const LAST_SECOND: Duration = Duration::from_secs(253_402_300_799);

/// Human-readable value: its message name, and its content in protobuf JSON.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Shown {
    /// Full name, such as `ligato.linux.interfaces.Interface`.
    #[serde(rename = "ProtoMsgName")]
    pub message: String,
    /// Content in protobuf JSON, with member names in lowerCamelCase.
    #[serde(rename = "ProtoMsgData")]
    pub data: Json,
}

/// Function that converts a value to its human-readable form, or returns `None` if the value has no message.
pub type Show<'a, V> = &'a dyn Fn(&Key, &V) -> Option<Shown>;

/// Converts records to a list of transactions.
pub fn transactions<'a, V: 'a>(records: impl IntoIterator<Item = &'a TransactionRecord<V>>, show: Show<'_, V>) -> Vec<Transaction> {
    records.into_iter().map(|record| Transaction::of(record, show)).collect()
}

/// Converts the operations of a dry run to JSON. Each JSON operation lists the differences that it would repair.
pub fn plan<V>(plan: &[Planned<V>], show: Show<'_, V>) -> Vec<Operation> {
    let differences = |planned: &Planned<V>| planned.comparison.differences().iter().map(Difference::of).collect();
    let operation = |planned| Operation {
        differences: differences(planned),
        ..Operation::of(&planned.operation, show)
    };
    plan.iter().map(operation).collect()
}

/// Converts the revisions of a timeline or of a snapshot to nodes.
pub fn revisions<V>(revisions: &[Revision<V>], show: Show<'_, V>) -> Vec<Node> {
    revisions.iter().map(|revision| Node::of(revision, show)).collect()
}

/// Number of occurrences for each flag value, and the total number.
#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct Counts {
    total_count: usize,
    per_value_count: BTreeMap<String, usize>,
}

impl From<FlagStatistics> for Counts {
    fn from(statistics: FlagStatistics) -> Self {
        Counts {
            total_count: statistics.total_count,
            per_value_count: statistics.per_value_count,
        }
    }
}

/// Transaction in the JSON format of ligato vpp-agent.
#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct Transaction {
    #[serde(skip_serializing_if = "is_false")]
    with_simulation: bool,
    start: String,
    stop: String,
    seq_num: u64,
    txn_type: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    resync_type: Option<&'static str>,
    #[serde(skip_serializing_if = "String::is_empty")]
    description: String,
    #[serde(skip_serializing_if = "is_zero")]
    retry_for_txn: u64,
    #[serde(skip_serializing_if = "is_zero")]
    retry_attempt: u64,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    values: Vec<Named>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    planned: Vec<Operation>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    executed: Vec<Operation>,
}

impl Transaction {
    /// Converts a transaction record.
    pub fn of<V>(record: &TransactionRecord<V>, show: Show<'_, V>) -> Self {
        let (retry_for_txn, retry_attempt) = match record.kind {
            Kind::Retry { of, attempt } => (of, u64::from(attempt)),
            _ => (0, 0),
        };
        Transaction {
            with_simulation: record.planned.is_some(),
            start: rfc3339(record.start),
            stop: rfc3339(record.stop),
            seq_num: record.seq,
            txn_type: record.kind.text(),
            resync_type: resync_name(record.options.resync),
            description: record.options.description.clone(),
            retry_for_txn,
            retry_attempt,
            values: record.values.iter().map(|value| Named::of(value, show)).collect(),
            planned: record
                .planned
                .iter()
                .flatten()
                .map(|operation| Operation::of(operation, show))
                .collect(),
            executed: record.executed().map(|operation| Operation::of(operation, show)).collect(),
        }
    }
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Named {
    key: String,
    value: Option<Shown>,
    origin: u8,
}

impl Named {
    fn of<V>(value: &ValueRecord<V>, show: Show<'_, V>) -> Self {
        Named {
            key: value.key.to_string(),
            value: value.value.as_ref().and_then(|content| show(&value.key, content)),
            origin: value.origin as u8,
        }
    }
}

/// Operation on one value.
#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct Operation {
    operation: &'static str,
    key: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    new_state: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    new_value: Option<Shown>,
    #[serde(skip_serializing_if = "Option::is_none")]
    new_err_msg: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    prev_state: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    prev_value: Option<Shown>,
    #[serde(skip_serializing_if = "Option::is_none")]
    prev_err_msg: Option<String>,
    #[serde(rename = "NOOP", skip_serializing_if = "is_false")]
    noop: bool,
    #[serde(skip_serializing_if = "is_false")]
    is_derived: bool,
    #[serde(skip_serializing_if = "is_false")]
    is_property: bool,
    #[serde(skip_serializing_if = "is_false")]
    is_revert: bool,
    #[serde(skip_serializing_if = "is_false")]
    is_retry: bool,
    #[serde(skip_serializing_if = "is_false")]
    is_recreate: bool,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    differences: Vec<Difference>,
}

/// Difference between an applied value and the desired one.
#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Difference {
    text: String,
    #[serde(skip_serializing_if = "is_false")]
    is_recreate: bool,
}

impl Difference {
    fn of(difference: &scheduler::Difference) -> Self {
        Difference {
            text: difference.text.to_string(),
            is_recreate: difference.remedy == Remedy::Recreate,
        }
    }
}

impl Operation {
    fn of<V>(operation: &OperationRecord<V>, show: Show<'_, V>) -> Self {
        let OperationRecord { before, after, flags, .. } = operation;
        let value = |side: &Side<V>| side.value.as_ref().and_then(|value| show(&operation.key, value));
        let error = |side: &Side<V>| side.error.as_deref().map(str::to_owned);
        // Omit NONEXISTENT (number 0), as ligato vpp-agent does.
        let state = |side: &Side<V>| (side.state != ValueState::Nonexistent).then(|| side.state.text());
        Operation {
            operation: operation.verb.text(),
            key: operation.key.to_string(),
            new_state: state(after),
            new_value: value(after),
            new_err_msg: error(after),
            prev_state: state(before),
            prev_value: value(before),
            prev_err_msg: error(before),
            noop: flags.noop,
            is_derived: flags.derived,
            is_property: flags.property,
            is_revert: flags.revert,
            is_retry: flags.retry,
            is_recreate: flags.recreate,
            differences: Vec::new(),
        }
    }
}

/// State of a key during a period.
#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct Node {
    since: String,
    until: String,
    key: String,
    label: String,
    value: Option<Shown>,
    flags: serde_json::Map<String, Json>,
    metadata_fields: serde_json::Map<String, Json>,
    targets: Vec<Target>,
    target_update_only: bool,
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Target {
    relation: &'static str,
    label: String,
    expected_key: String,
    matching_keys: Vec<String>,
}

impl Node {
    fn of<V>(revision: &Revision<V>, show: Show<'_, V>) -> Self {
        let targets = revision.targets.iter().map(|target| Target {
            relation: target.relation.text(),
            label: target.label.to_string(),
            expected_key: target.expected.to_string(),
            matching_keys: target.matching.iter().map(Key::to_string).collect(),
        });
        let text = |(name, text): (&str, String)| (name.to_owned(), Json::String(text));
        Node {
            since: rfc3339(revision.since),
            // As in ligato vpp-agent, Go's zero time means that the period has not ended.
            until: revision.until.map_or_else(|| "0001-01-01T00:00:00Z".to_owned(), rfc3339),
            key: revision.key.to_string(),
            label: revision.label.clone(),
            value: revision.value.as_ref().and_then(|value| show(&revision.key, value)),
            flags: revision
                .flags()
                .into_iter()
                .map(|(flag, content)| text((flag.name(), content)))
                .collect(),
            metadata_fields: revision
                .metadata
                .iter()
                .map(|(name, texts)| ((*name).to_owned(), Json::from(texts.clone())))
                .collect(),
            targets: targets.collect(),
            target_update_only: false,
        }
    }
}

fn resync_name(resync: Resync) -> Option<&'static str> {
    match resync {
        Resync::None => None,
        Resync::Full => Some("FullResync"),
        Resync::Upstream => Some("UpstreamResync"),
        Resync::Downstream => Some("DownstreamResync"),
    }
}

fn is_false(value: &bool) -> bool {
    !value
}

fn is_zero(value: &u64) -> bool {
    *value == 0
}

/// Formats a time since the Unix epoch as RFC 3339 in UTC, with nanoseconds but without trailing zeros, as in ligato vpp-agent.
pub fn rfc3339(time: Duration) -> String {
    let text = humantime::format_rfc3339_nanos(UNIX_EPOCH + time.min(LAST_SECOND)).to_string();
    let text = text.trim_end_matches('Z').trim_end_matches('0').trim_end_matches('.');
    format!("{text}Z")
}
