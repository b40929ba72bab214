//! Tests of the JSON and text formats, with records made by hand.

use std::time::Duration;

use models::key::Key;
use serde_json::{Value as Json, json};

use super::{
    json::{self, Shown, rfc3339},
    text,
};
use crate::scheduler::{
    Difference, Kind, Options, Planned, Resync, ValueState, Verb,
    history::{
        record::{OperationFlags, OperationRecord, Origin, Side, TransactionRecord, ValueRecord},
        timeline::{FlagStatistics, Revision},
    },
};

const START: Duration = Duration::from_secs(1_000_000);
const TIME: &str = "1970-01-12T13:46:40Z";

fn shown(_: &Key, value: &u32) -> Option<Shown> {
    Some(Shown {
        message: "toy.Toy".into(),
        data: json!({ "content": value }),
    })
}

fn printed(_: &Key, value: &u32) -> String {
    format!("{{ content:{value} }}")
}

fn side(state: ValueState, value: Option<u32>, error: Option<&str>) -> Side<u32> {
    let error = error.map(Into::into);
    Side { state, value, error }
}

fn operation(key: &str, verb: Verb, before: Side<u32>, after: Side<u32>) -> OperationRecord<u32> {
    OperationRecord {
        at: START,
        key: Key::new(key),
        verb,
        before,
        after,
        flags: OperationFlags::default(),
    }
}

fn creation(key: &str, value: u32) -> OperationRecord<u32> {
    let before = side(ValueState::Nonexistent, None, None);
    operation(key, Verb::Create, before, side(ValueState::Configured, Some(value), None))
}

fn named(key: &str, value: Option<u32>) -> ValueRecord<u32> {
    ValueRecord {
        key: Key::new(key),
        value,
        origin: Origin::FromNB,
    }
}

fn record(options: Options, values: Vec<ValueRecord<u32>>, operations: Vec<OperationRecord<u32>>) -> TransactionRecord<u32> {
    TransactionRecord {
        seq: 0,
        kind: Kind::Northbound,
        options,
        start: START,
        stop: START,
        values,
        planned: None,
        operations,
        omitted: 0,
        errors: vec![],
        reverted: false,
    }
}

#[test]
fn times_are_rfc_3339_in_utc_with_nanoseconds() {
    assert_eq!(rfc3339(Duration::ZERO), "1970-01-01T00:00:00Z");
    assert_eq!(rfc3339(Duration::new(951_782_400, 120_000_000)), "2000-02-29T00:00:00.12Z");
    assert_eq!(rfc3339(Duration::new(1_795_564_799, 1)), "2026-11-24T23:59:59.000000001Z");
    assert_eq!(rfc3339(Duration::from_secs(4_107_542_400)), "2100-03-01T00:00:00Z");
}

#[test]
fn record_has_members_and_order_of_the_reference_agent() {
    let options = Options {
        resync: Resync::Full,
        description: "first".into(),
        ..Options::default()
    };
    let values = vec![named("a", Some(1)), named("b", Some(0))];
    let record = record(options, values, vec![creation("a", 1), creation("b", 0)]);
    let text = serde_json::to_string(&json::Transaction::of(&record, &shown)).expect("JSON");
    let expected = [
        &format!(
            r#"{{"Start":"{TIME}","Stop":"{TIME}","SeqNum":0,"TxnType":"NBTransaction","ResyncType":"FullResync","Description":"first","#
        ),
        r#""Values":[{"Key":"a","Value":{"ProtoMsgName":"toy.Toy","ProtoMsgData":{"content":1}},"Origin":1},"#,
        r#"{"Key":"b","Value":{"ProtoMsgName":"toy.Toy","ProtoMsgData":{"content":0}},"Origin":1}],"#,
        r#""Executed":[{"Operation":"CREATE","Key":"a","NewState":"CONFIGURED","NewValue":{"ProtoMsgName":"toy.Toy","ProtoMsgData":{"content":1}}},"#,
        r#"{"Operation":"CREATE","Key":"b","NewState":"CONFIGURED","NewValue":{"ProtoMsgName":"toy.Toy","ProtoMsgData":{"content":0}}}]}"#,
    ];
    assert_eq!(text, expected.concat());
}

/// Adds two differences to an operation, as in a dry run.
fn planned(operation: OperationRecord<u32>) -> Planned<u32> {
    let differences = [Difference::in_place("it is small"), Difference::again("it is red")];
    Planned {
        operation,
        comparison: differences.into_iter().collect(),
    }
}

#[test]
fn operations_include_the_previous_state_value_and_error() {
    let failed = operation(
        "a",
        Verb::Update,
        side(ValueState::Configured, Some(1), None),
        side(ValueState::Retrying, Some(2), Some("a \"quoted\" \\ error")),
    );
    let gone = operation(
        "a",
        Verb::Delete,
        side(ValueState::Retrying, Some(1), Some("a \"quoted\" \\ error")),
        side(ValueState::Removed, None, None),
    );
    let parsed = serde_json::to_value(json::plan(&[failed, gone].map(planned), &shown)).expect("JSON");
    let (update, delete) = (&parsed[0], &parsed[1]);
    let differences = json!([{ "Text": "it is small" }, { "Text": "it is red", "IsRecreate": true }]);
    assert_eq!(update["Differences"], differences);
    let content = |value: &Json| value["ProtoMsgData"]["content"].clone();
    assert_eq!(
        (&update["PrevState"], &update["NewState"]),
        (&json!("CONFIGURED"), &json!("RETRYING"))
    );
    assert_eq!((content(&update["PrevValue"]), content(&update["NewValue"])), (json!(1), json!(2)));
    assert_eq!(update["NewErrMsg"], "a \"quoted\" \\ error");
    assert_eq!(
        (&delete["NewState"], &delete["PrevErrMsg"]),
        (&json!("REMOVED"), &json!("a \"quoted\" \\ error"))
    );
    assert!(delete.get("NewValue").is_none());
}

#[test]
fn retry_names_its_transaction_and_attempt_in_json_and_text() {
    let retry = TransactionRecord {
        kind: Kind::Retry { of: 1, attempt: 1 },
        ..record(Options::default(), vec![], vec![creation("a", 1)])
    };
    let parsed = serde_json::to_value(json::Transaction::of(&retry, &shown)).expect("JSON");
    assert_eq!(
        (&parsed["TxnType"], &parsed["RetryForTxn"], &parsed["RetryAttempt"]),
        (&json!("RetryFailedOps"), &json!(1), &json!(1))
    );
    let text = text::transaction(&retry, false, &printed);
    assert!(text.contains("- type: Retry Transaction (for txn #1, attempt #1)\n"), "{text}");
}

#[test]
fn text_of_a_transaction_has_the_layout_of_the_reference_agent() {
    let options = Options {
        simulate: true,
        description: "two\nlines".into(),
        ..Options::default()
    };
    let done = TransactionRecord {
        planned: Some(vec![creation("a", 1)]),
        ..record(options, vec![named("a", Some(1)), named("z", None)], vec![creation("a", 1)])
    };
    let operations = "        1. CREATE:
            - key: a
            - value: { content:1 }
            - prev-state: NONEXISTENT
            - new-state: CONFIGURED
";
    let expected = format!(
        "Transaction #0:
    * transaction arguments:
        - seqNum: 0
        - type: NB Transaction
        - Description: two
            lines
        - values:
            - key: a
              val: {{ content:1 }}
            - key: z
              val: <NIL>
    * planned operations:
{operations}    * executed operations ({TIME} -> {TIME}, dur: 0ns):
{operations}"
    );
    assert_eq!(text::transaction(&done, true, &printed), expected);
    let text = text::transaction(&record(Options::default(), vec![], vec![]), false, &printed);
    assert!(
        text.contains("        - values: NONE\n") && text.ends_with("        <NONE>\n"),
        "{text}"
    );
}

#[test]
fn text_counts_operations_omitted_by_the_history() {
    let large = TransactionRecord {
        omitted: 90,
        ..record(Options::default(), vec![], vec![creation("a", 1)])
    };
    assert!(text::transaction(&large, false, &printed).ends_with("operations not kept in the history: 90\n"));
}

#[test]
fn text_names_the_kind_of_resync() {
    for (resync, expected) in [
        (Resync::Full, "NB Transaction, Full Resync"),
        (Resync::Upstream, "NB Transaction, NB Sync"),
        (Resync::Downstream, "NB Transaction, SB Sync"),
    ] {
        let options = Options {
            resync,
            ..Options::default()
        };
        let text = text::transaction(&record(options, vec![], vec![]), false, &printed);
        assert!(text.contains(&format!("- type: {expected}\n")), "{text}");
        assert_eq!(text.contains("values:"), resync != Resync::Downstream, "{text}");
    }
}

#[test]
fn texts_in_timelines_are_escaped() {
    let revision = Revision {
        since: START,
        until: None,
        key: Key::new("a \"key\""),
        label: "a".into(),
        value: Some(1),
        state: ValueState::Retrying,
        available: false,
        error: Some("say \"no\" \\ \u{1}".into()),
        seq: Some(0),
        descriptor: Some("toy"),
        derived_from: None,
        metadata: vec![],
        targets: vec![],
    };
    let text = serde_json::to_string(&json::revisions(&[revision], &shown)).expect("JSON");
    let nodes: Json = serde_json::from_str(&text).expect("valid JSON");
    let node = &nodes[0];
    assert_eq!(
        (&node["Key"], &node["Flags"]["error"]),
        (&json!("a \"key\""), &json!("say \"no\" \\ \u{1}"))
    );
    assert_eq!(node["Flags"]["last-update"], "TXN-0");
    assert_eq!(
        (&node["Until"], &node["Flags"]["unavailable"]),
        (&json!("0001-01-01T00:00:00Z"), &json!(""))
    );
    let members: Vec<&str> = text.split("\":").filter_map(|part| part.rsplit('"').next()).take(5).collect();
    assert_eq!(members, ["Since", "Until", "Key", "Label", "Value"]);
}

#[test]
fn flag_counts_have_the_members_of_the_reference_agent() {
    let statistics = FlagStatistics {
        total_count: 1,
        per_value_count: [(String::new(), 1)].into(),
    };
    assert_eq!(
        serde_json::to_value(json::Counts::from(statistics)).expect("JSON"),
        json!({ "TotalCount": 1, "PerValueCount": { "": 1 } })
    );
}
