//! `/scheduler/txn-history`, `key-timeline`, `graph-snapshot` and `flag-stats`: past transactions, and past values of keys.

use std::time::Duration;

use axum::{extract::State, response::Response, routing::get};
use models::key::Key;
use serde::Serialize;

use super::{
    answer::{self, Answer, ApiError, JSON, TEXT},
    endpoint::{Endpoint, Parameter},
    query::Query,
};
use crate::api::history::{
    json::{self, Transaction},
    text,
};
use crate::api::{
    Api,
    show::{print, show},
};
use crate::scheduler::history::{extract::Scope, timeline::Flag};

const TIME: &str = "Nanoseconds since the Unix epoch";

pub(super) const ENDPOINTS: &[Endpoint] = &[
    Endpoint {
        parameters: &[
            Parameter::number(
                "since",
                "Only transactions that started at or after this time, in nanoseconds since the Unix epoch",
            ),
            Parameter::number(
                "until",
                "Only transactions that started at or before this time, in nanoseconds since the Unix epoch",
            ),
            Parameter::number("seq-num", "Only the transaction with this number"),
            Parameter::one_of("format", "Response format", &["json", "text"]),
        ],
        answers: &[JSON, TEXT],
        single: true,
        example: r#"[{"Start":"2026-10-09T10:00:00.123456789Z","Stop":"2026-10-09T10:00:00.2Z","SeqNum":2,"TxnType":"NBTransaction","Values":[{"Key":"config/linux/interfaces/v2/interface/d1","Value":{"ProtoMsgName":"ligato.linux.interfaces.Interface","ProtoMsgData":{"name":"d1","type":"DUMMY","enabled":true}},"Origin":1}],"Executed":[{"Operation":"CREATE","Key":"linux/interface/state/d1/UP","NewState":"CONFIGURED","NewValue":{"ProtoMsgName":"google.protobuf.Empty","ProtoMsgData":{}},"IsDerived":true,"IsProperty":true}]}]"#,
        failures: &[
            (404, "no transaction with this number is recorded"),
            (500, "a parameter is invalid"),
        ],
        ..Endpoint::get("/scheduler/txn-history", "Past transactions, oldest first", || get(transactions))
    },
    Endpoint {
        parameters: &[
            Parameter::required("key", "Key"),
            Parameter::number("time", TIME),
            Parameter::optional(
                "derived",
                "Append the values of all keys derived from this key; ignored if `time` is set",
            ),
        ],
        single: true,
        example: r#"[{"Since":"2026-10-09T10:00:00Z","Until":"0001-01-01T00:00:00Z","Key":"linux/interface/state/d1/UP","Label":"linux/interface/state/d1/UP","Value":{"ProtoMsgName":"google.protobuf.Empty","ProtoMsgData":{}},"Flags":{"last-update":"TXN-2","value-state":"CONFIGURED","derived":"config/linux/interfaces/v2/interface/d1"},"MetadataFields":{},"Targets":[],"TargetUpdateOnly":false}]"#,
        failures: &[(500, "the key argument is missing, or the time is not a number")],
        ..Endpoint::get("/scheduler/key-timeline", "Values of a key over time", || get(timeline))
    },
    Endpoint {
        parameters: &[Parameter::number("time", "Nanoseconds since the Unix epoch; default: now")],
        failures: &[(500, "the time is not a number")],
        ..Endpoint::get("/scheduler/graph-snapshot", "Values of all keys at a point in time", || {
            get(snapshot)
        })
    },
    Endpoint {
        parameters: &[
            Parameter {
                required: true,
                ..Parameter::one_of(
                    "flag",
                    "Flag to count",
                    &["last-update", "error", "value-state", "unavailable", "descriptor", "derived"],
                )
            },
            Parameter::optional("prefix", "Only keys with this prefix; may be repeated"),
        ],
        example: r#"{"TotalCount":12,"PerValueCount":{"CONFIGURED":10,"PENDING":2}}"#,
        failures: &[(500, "the flag argument is missing, or the flag is unknown")],
        ..Endpoint::get(
            "/scheduler/flag-stats",
            "Number of occurrences of a flag, in total and for each of its values",
            || get(flags),
        )
    },
];

/// Returns a list as JSON. As in ligato vpp-agent, an empty list becomes `null`.
pub(super) fn list<T: Serialize>(items: &[T]) -> Answer {
    match items.is_empty() {
        true => answer::json(&serde_json::Value::Null),
        false => answer::json(items),
    }
}

async fn transactions(State(api): State<Api>, query: Query) -> Answer {
    let as_text = match query.once("format").unwrap_or("json") {
        "json" => false,
        "text" => true,
        _ => return Err(ApiError::internal("unrecognized output format; use json or text")),
    };
    let number = query.number("seq-num")?;
    let (since, until) = (query.time("since")?, query.time("until")?);
    let records = api.engine.ask(|scheduler| scheduler.history().shared()).await;
    let records = records.ok_or_else(ApiError::stopping)?;
    answer::elsewhere(move || {
        if let Some(number) = number {
            let record = records.iter().find(|record| record.seq == number);
            let record = record.ok_or_else(|| ApiError::not_found("transaction with such sequence number is not recorded"))?;
            return match as_text {
                true => Ok(answer::text(text::transaction(record, true, &print))),
                false => answer::json(&Transaction::of(record, &show)),
            };
        }
        let (since, until) = (since.unwrap_or(Duration::ZERO), until.unwrap_or(Duration::MAX));
        let within = records.iter().filter(|record| record.start >= since && record.start <= until);
        let within = within.map(|record| record.as_ref());
        match as_text {
            true => Ok(answer::text(text::transactions(within, &print))),
            // As in ligato vpp-agent, the response is `null` if the range is inverted, and an empty list if no transaction is in
            // the range.
            false if since > until => answer::json(&serde_json::Value::Null),
            false => answer::json(&json::transactions(within, &show)),
        }
    })
    .await
}

async fn timeline(State(api): State<Api>, query: Query) -> Answer {
    let key = query.once("key").filter(|key| !key.is_empty());
    let key = Key::new(key.ok_or_else(|| ApiError::internal("missing key argument"))?);
    let time = query.time("time")?;
    let with_derived = query.all("derived").next().is_some();
    let extract = api.extract(Scope::All).await.ok_or_else(ApiError::stopping)?;
    answer::elsewhere(move || {
        let mut revisions = extract.timeline(&key);
        match time {
            None => {
                if with_derived {
                    revisions.extend(extract.timelines_of_derived(&key));
                }
                list(&json::revisions(&revisions, &show))
            }
            Some(time) => {
                let valid = revisions.into_iter().find(|revision| revision.covers(time));
                answer::json(&valid.and_then(|revision| json::revisions(&[revision], &show).pop()))
            }
        }
    })
    .await
}

async fn snapshot(State(api): State<Api>, query: Query) -> Answer {
    let time = query.time("time")?;
    let extract = api.extract(Scope::All).await.ok_or_else(ApiError::stopping)?;
    answer::elsewhere(move || list(&json::revisions(&extract.snapshot(time), &show))).await
}

async fn flags(State(api): State<Api>, query: Query) -> Result<Response, ApiError> {
    let name = query.once("flag").filter(|name| !name.is_empty());
    let name = name.ok_or_else(|| ApiError::internal("missing flag argument"))?;
    let flag = Flag::named(name).ok_or_else(|| {
        let known: Vec<&str> = Flag::ALL.iter().map(|flag| flag.name()).collect();
        ApiError::internal(format!("unknown flag {name:?}; flags are {}", known.join(", ")))
    })?;
    let prefixes: Vec<String> = query.all("prefix").map(str::to_owned).collect();
    let extract = api.extract(Scope::All).await.ok_or_else(ApiError::stopping)?;
    answer::elsewhere(move || {
        let counts = |key: &Key| prefixes.is_empty() || prefixes.iter().any(|prefix| key.starts_with(prefix.as_str()));
        answer::json(&json::Counts::from(extract.flag_statistics(flag, counts)))
    })
    .await
}
