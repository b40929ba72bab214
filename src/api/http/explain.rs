//! `/scheduler/explain`: status, dependencies, derived values, dependents and last operations of one key.
//!
//! This endpoint does not exist in ligato vpp-agent.

use axum::{extract::State, routing::get};
use models::{
    json::{Spelling, try_encode},
    key::{Key, status_key},
};
use serde::Serialize;
use serde_json::Value as Json;

use super::{
    answer::{self, Answer, ApiError},
    endpoint::{Endpoint, Parameter},
    query::Query,
};
use crate::api::history::json::{Shown, rfc3339};
use crate::scheduler::{
    Domain, On,
    history::extract::{Extract, Scope, Sighting},
};
use crate::{
    api::{Api, show::show},
    descriptors::{Network, value::Value},
    publish::Published,
};

/// Maximum number of operations in a response.
const OPERATIONS_MAX: usize = 10;

pub(super) const ENDPOINTS: &[Endpoint] = &[Endpoint {
    parameters: &[Parameter::required(
        "key",
        "Key, for example config/linux/interfaces/v2/interface/NAME",
    )],
    example: r#"{"key":"config/linux/l3/v2/arp/d1/10.0.0.2","name":"ARP entry 10.0.0.2 of interface d1","state":"PENDING","since":"2026-10-09T10:00:00Z","status":{"key":"config/linux/l3/v2/arp/d1/10.0.0.2","state":"PENDING"},"value":null,"depends_on":[{"label":"interface-is-up","expected":"linux/interface/state/d1/UP","name":"interface d1 in state UP","met":false,"met_by":[]}],"derived":[],"needed_by":[],"last_operations":[],"sources":["datasync"]}"#,
    failures: &[(404, "unknown key"), (500, "the key argument is missing")],
    ..Endpoint::get(
        "/scheduler/explain",
        "Explain one key: its status, dependencies, dependents and last operations",
        || get(explain),
    )
}];

#[derive(Serialize)]
struct Explanation {
    key: String,
    /// Human-readable name, such as `interface d1`.
    name: String,
    state: &'static str,
    since: String,
    /// Status that is published under `config-status/`. `null` if none is published.
    status: Json,
    /// Desired value, or the applied value if no value is desired.
    value: Option<Shown>,
    depends_on: Vec<Dependency>,
    derived: Vec<Part>,
    needed_by: Vec<Part>,
    /// Most recent operations on the value and its derived values, newest first.
    last_operations: Vec<Operation>,
    /// Names of the sources that have a value under this key, highest precedence first.
    sources: Vec<String>,
}

#[derive(Serialize)]
struct Dependency {
    label: String,
    /// Expected key. Empty if more than one key can satisfy the dependency.
    expected: String,
    /// Display name of the expected value, or a description of the values that would satisfy the dependency.
    name: String,
    met: bool,
    met_by: Vec<String>,
}

#[derive(Serialize)]
struct Part {
    key: String,
    state: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
}

#[derive(Serialize)]
struct Operation {
    transaction: u64,
    time: String,
    key: String,
    operation: &'static str,
    state: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
}

async fn explain(State(api): State<Api>, query: Query) -> Answer {
    let key = query.once("key").filter(|key| !key.is_empty());
    let key = Key::new(key.ok_or_else(|| ApiError::internal("missing key argument"))?);
    let requested = key.clone();
    let known = api.extract_with(Scope::All, move |scheduler, picked| {
        let view = scheduler.view();
        let own = picked
            .values()
            .iter()
            .filter(|value| value.key == requested || value.parent.as_ref() == Some(&requested));
        own.flat_map(|value| view.dependents(&value.key)).cloned().collect()
    });
    let (extract, dependents): (_, Vec<Key>) = known.await.ok_or_else(ApiError::stopping)?;
    let published = status_key(key.as_str()).and_then(|key| api.statuses.get(&key));
    let sources = api.desired.sources_of(&key);
    answer::elsewhere(move || {
        let value = extract
            .value(&key)
            .ok_or_else(|| ApiError::not_found(format!("unknown key {key}; GET /scheduler/status lists all keys")))?;
        let status = match published.as_deref() {
            Some(Published::Value(status)) => try_encode(status.as_ref(), Spelling::Proto)
                .ok()
                .and_then(|text| serde_json::from_str(&text).ok()),
            _ => None,
        };
        answer::json(&explanation(&extract, value, status.unwrap_or(Json::Null), dependents, sources))
    })
    .await
}

fn explanation(
    extract: &Extract<Network>,
    value: &Sighting<Value>,
    status: Json,
    mut dependents: Vec<Key>,
    sources: Vec<String>,
) -> Explanation {
    let key = &value.key;
    dependents.sort();
    dependents.dedup();
    let desired = value.desired.as_ref().or(value.applied.as_ref());
    let parts = |keys: &mut dyn Iterator<Item = &Sighting<Value>>| keys.map(part).collect();
    let state = value.status.as_ref().map_or(value.state, |status| status.state);
    Explanation {
        key: key.to_string(),
        name: extract.domain().name(key),
        state: state.text(),
        since: rfc3339(value.status.as_ref().map_or(value.since, |status| status.since)),
        status,
        value: desired.and_then(|desired| show(key, desired)),
        depends_on: depends_on(extract, key, desired),
        derived: parts(&mut extract.values().iter().filter(|other| other.parent.as_ref() == Some(key))),
        needed_by: parts(&mut dependents.iter().filter(|other| *other != key).filter_map(|key| extract.value(key))),
        last_operations: last_operations(extract, key),
        sources,
    }
}

fn part(value: &Sighting<Value>) -> Part {
    Part {
        key: value.key.to_string(),
        state: value.state.text(),
        error: value.error.as_deref().map(str::to_owned),
    }
}

fn depends_on(extract: &Extract<Network>, key: &Key, desired: Option<&Value>) -> Vec<Dependency> {
    let dependencies = extract.dependencies(key, desired).into_iter();
    dependencies
        .map(|dependency| {
            let met_by: Vec<String> = extract.matching(&dependency).iter().map(Key::to_string).collect();
            Dependency {
                label: dependency.label.to_string(),
                expected: match &dependency.on {
                    On::Key(key) => key.to_string(),
                    On::AnyOf { .. } => String::new(),
                },
                name: match &dependency.on {
                    On::Key(key) => extract.domain().name(key),
                    On::AnyOf { describe, .. } => describe.to_string(),
                },
                met: !met_by.is_empty(),
                met_by,
            }
        })
        .collect()
}

/// Returns the most recent operations on the value and its derived values, newest first.
fn last_operations(extract: &Extract<Network>, key: &Key) -> Vec<Operation> {
    let belongs = |other: &Key| other == key || extract.value(other).is_some_and(|value| value.parent.as_ref() == Some(key));
    let newest = extract.records().iter().rev().flat_map(|record| {
        let operations = record.executed().collect::<Vec<_>>();
        operations.into_iter().rev().map(move |operation| (record.seq, operation))
    });
    newest
        .filter(|(_, operation)| belongs(&operation.key))
        .take(OPERATIONS_MAX)
        .map(|(transaction, operation)| Operation {
            transaction,
            time: rfc3339(operation.at),
            key: operation.key.to_string(),
            operation: operation.verb.text(),
            state: operation.after.state.text(),
            error: operation.after.error.as_deref().map(str::to_owned),
        })
        .collect()
}
