//! REST API responses, limited to the members that the commands use.
//!
//! Missing members get default values and unknown members are ignored, so that a client can parse the responses of a newer agent.
//! `/openapi.json` contains example responses.

use std::collections::BTreeMap;

use hyper::{Method, StatusCode};
use serde::{Deserialize, Serialize};
use serde_json::Value as Json;

use super::{
    connection::{Agent, target},
    failure::Failure,
    names, readiness,
};

/// Statuses of a value and its derived values, as listed by `/scheduler/status`.
#[derive(Deserialize, Clone, Debug, Default)]
#[serde(default)]
pub struct BaseStatus {
    /// Status of the value itself.
    pub value: Status,
    /// Statuses of all values derived from the value.
    pub derived_values: Vec<Status>,
}

/// State of one value, and the result of the last operation on it.
#[derive(Deserialize, Serialize, Clone, Debug, Default, PartialEq, Eq)]
#[serde(default)]
pub struct Status {
    /// Key without the prefix `/vnf-agent/LABEL/`.
    pub key: String,
    /// Name of the state, such as `PENDING`. Empty means `NONEXISTENT`.
    pub state: String,
    /// Error of the last operation. Empty if there was none.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub error: String,
    /// Last operation on the value, such as `CREATE`. Empty if there was none.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub last_operation: String,
    /// Labels of unmet dependencies, or names of invalid fields.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub details: Vec<String>,
}

impl Status {
    /// Returns the name of the state, or `NONEXISTENT` if it is empty.
    pub fn state(&self) -> &str {
        if self.state.is_empty() { "NONEXISTENT" } else { &self.state }
    }

    /// Returns the error. If there is no error, returns the unmet dependencies or the invalid fields.
    pub fn words(&self) -> String {
        match (self.error.is_empty(), self.state.as_str()) {
            (false, _) => self.error.clone(),
            (true, "PENDING") if !self.details.is_empty() => format!("waiting for {}", self.details.join(", ")),
            _ => self.details.join(", "),
        }
    }
}

/// Details of one value, as returned by `/scheduler/explain`.
#[derive(Deserialize, Debug, Default)]
#[serde(default)]
pub struct Explanation {
    pub key: String,
    /// Human-readable name, such as `interface d1`.
    pub name: String,
    /// Name of the state, such as `PENDING`.
    pub state: String,
    /// Time at which the value entered its state.
    pub since: String,
    /// Status that the agent has published for the value.
    pub status: Option<Published>,
    /// Desired value, or the applied value if there is no desired value.
    pub value: Option<Shown>,
    /// Dependencies of the value, met or unmet.
    pub depends_on: Vec<Dependency>,
    /// Values that are derived from this value.
    pub derived: Vec<Part>,
    /// Values that depend on this value or on a value derived from it.
    pub needed_by: Vec<Part>,
    /// Most recent operations on the value and its derived values, newest first.
    pub last_operations: Vec<PastOperation>,
    /// Names of the sources that provide a value for this key. The source that is in effect comes first.
    pub sources: Vec<String>,
}

/// Published status, limited to the members that the commands show.
#[derive(Deserialize, Debug, Default)]
#[serde(default)]
pub struct Published {
    /// Human-readable explanation of the state. Empty if there is none.
    pub message: String,
    /// Machine-readable reason for the state, such as `Contended`. Empty if there is none.
    pub reason: String,
    /// Network namespace of the value. Empty if the value has none.
    pub namespace: String,
    /// Time of the next retry. Empty if no retry is scheduled.
    pub next_retry: String,
    /// Number of consecutive failed attempts.
    pub attempts: u32,
    /// Dependencies that the value is waiting for.
    pub unmet: Vec<Unmet>,
    /// Last error as JSON, with the error message in the member `message`.
    pub last_error: Option<Json>,
    /// Most recent repair. `None` if the object has not been repaired.
    pub last_repair: Option<Repair>,
    /// True if the agent has adopted a foreign object for this value.
    pub adopted: bool,
    /// Time at which the removal of the value was put on hold. Empty if the removal is not on hold.
    pub removal_held_since: String,
}

/// Repair of an object that a user or another program had changed or deleted.
#[derive(Deserialize, Debug, Default)]
#[serde(default)]
pub struct Repair {
    pub time: String,
    /// Names of the objects and properties that the repair restored.
    pub lost: Vec<String>,
}

/// Dependency that a value is waiting for.
#[derive(Deserialize, Debug, Default)]
#[serde(default)]
pub struct Unmet {
    /// Label of the dependency, such as `interface-is-up`.
    pub label: String,
    /// Expected key. Empty if any of several keys would satisfy the dependency.
    pub expected: String,
    /// Display name of the expected value.
    pub name: String,
    /// Reason why the dependency is unmet.
    pub state: String,
    /// Existing values that are similar or related to the expected value.
    pub suggestions: Vec<Suggestion>,
}

/// Existing value that is similar or related to an expected value.
#[derive(Deserialize, Debug, Default)]
#[serde(default)]
pub struct Suggestion {
    /// Key of the value.
    pub key: String,
    /// Description of the value.
    pub text: String,
}

/// Dependency of a value, met or unmet.
#[derive(Deserialize, Debug, Default)]
#[serde(default)]
pub struct Dependency {
    /// Label of the dependency, such as `interface-is-up`.
    pub label: String,
    /// Expected key. Empty if any of several keys would satisfy the dependency.
    pub expected: String,
    /// Display name of the expected value, or a description of the values that would satisfy the dependency.
    pub name: String,
    /// True if an existing value satisfies the dependency.
    pub met: bool,
    /// Keys of the existing values that satisfy the dependency.
    pub met_by: Vec<String>,
}

/// Value that is derived from another value or depends on it.
#[derive(Deserialize, Debug, Default)]
#[serde(default)]
pub struct Part {
    pub key: String,
    /// Name of the state, such as `PENDING`.
    pub state: String,
    /// Error of the last operation. `None` if there was no error.
    pub error: Option<String>,
}

/// Operation that the agent has completed.
#[derive(Deserialize, Debug, Default)]
#[serde(default)]
pub struct PastOperation {
    /// Number of the transaction that contained the operation.
    pub transaction: u64,
    /// Time at which the operation completed.
    pub time: String,
    /// Key of the value.
    pub key: String,
    /// Kind of operation, such as `CREATE`.
    pub operation: String,
    /// State of the value after the operation.
    pub state: String,
    /// Error message. `None` if the operation succeeded.
    pub error: Option<String>,
}

/// A value with its protobuf message name.
#[derive(Deserialize, Serialize, Clone, Debug, Default)]
#[serde(default)]
pub struct Shown {
    /// Full name of the protobuf message.
    #[serde(rename = "ProtoMsgName")]
    pub message: String,
    /// Content of the message in protobuf JSON.
    #[serde(rename = "ProtoMsgData")]
    pub data: Json,
}

/// State of a key during a period, as listed by `/scheduler/graph-snapshot` and `/scheduler/key-timeline`.
#[derive(Deserialize, Debug, Default)]
#[serde(default, rename_all = "PascalCase")]
pub struct Node {
    /// Start of the period during which the node was in this state.
    pub since: String,
    /// End of the period. Go's zero time (`0001-01-01T00:00:00Z`) if the node is still in this state.
    pub until: String,
    pub key: String,
    /// Value of the node during the period.
    pub value: Option<Shown>,
    /// Flags by name, such as `value-state`, `descriptor` and `error`.
    pub flags: BTreeMap<String, String>,
    /// Edges from the node to its dependencies and derived values.
    pub targets: Vec<Target>,
}

/// Edge of the graph, from a value to a dependency or to a derived value.
#[derive(Deserialize, Debug, Default)]
#[serde(default, rename_all = "PascalCase")]
pub struct Target {
    /// Kind of edge: `depends-on` or `derives`.
    pub relation: String,
    /// Label of the dependency, or key of the derived value.
    pub label: String,
    /// Expected key, or a description of the expected keys.
    pub expected_key: String,
    /// Existing keys that satisfy the dependency.
    pub matching_keys: Vec<String>,
}

/// Record of a transaction, as listed by `/scheduler/txn-history`.
#[derive(Deserialize, Debug, Default)]
#[serde(default, rename_all = "PascalCase")]
pub struct Record {
    /// Time at which the transaction started.
    pub start: String,
    /// Time at which the transaction ended.
    pub stop: String,
    /// Number of the transaction.
    pub seq_num: u64,
    /// Kind of transaction, such as `NBTransaction`.
    pub txn_type: String,
    /// Kind of resync, such as `FullResync`. Empty if the transaction is not a resync.
    pub resync_type: String,
    /// Description provided by the requester. Empty if there is none.
    pub description: String,
    /// Number of the transaction in which the retried operations failed. 0 if this is not a retry.
    pub retry_for_txn: u64,
    /// Number of the retry, starting at 1. 0 if this is not a retry.
    pub retry_attempt: u64,
    /// Values that the transaction requested, each with its key.
    pub values: Vec<Json>,
    /// Operations that the transaction executed, in order.
    pub executed: Vec<Operation>,
}

/// Operation of a transaction or of a plan.
#[derive(Deserialize, Debug, Default)]
#[serde(default, rename_all = "PascalCase")]
pub struct Operation {
    /// Kind of operation: `CREATE`, `UPDATE` or `DELETE`.
    pub operation: String,
    /// Key of the value.
    pub key: String,
    /// State of the value before the operation.
    pub prev_state: String,
    /// State of the value after the operation.
    pub new_state: String,
    /// Error message. Empty if the operation succeeded.
    pub new_err_msg: String,
    /// True if the operation changed nothing in the kernel.
    #[serde(rename = "NOOP")]
    pub noop: bool,
    /// True if the value is derived from another value.
    pub is_derived: bool,
    /// True if the operation is part of a rollback.
    pub is_revert: bool,
    /// True if the operation is a retry.
    pub is_retry: bool,
    /// Differences between the applied and the desired value. Empty unless the operation belongs to a plan.
    pub differences: Vec<Difference>,
}

/// Change that will be rolled back unless it is confirmed, as listed by `/configuration/unconfirmed`.
#[derive(Deserialize, Serialize, Debug, Default)]
#[serde(default)]
pub struct Unconfirmed {
    /// Sequence number of the transaction that made the change.
    pub id: String,
    /// Seconds until the rollback.
    pub seconds_left: u64,
    /// Name of the source that the changed values belong to.
    pub source: String,
    /// Description provided by the requester.
    pub description: String,
    /// Keys of the changed values.
    pub keys: Vec<String>,
}

/// A difference between the applied and the desired value.
#[derive(Deserialize, Clone, PartialEq, Eq, Debug, Default)]
#[serde(default, rename_all = "PascalCase")]
pub struct Difference {
    /// Description of the difference.
    pub text: String,
    /// True if the difference requires deletion and re-creation of the object.
    pub is_recreate: bool,
}

/// Identity of the agent, as returned by `/info/agent`.
#[derive(Deserialize, Debug, Default)]
#[serde(default)]
pub struct Identity {
    /// Microservice label of the agent.
    pub label: String,
    /// Store from which the agent reads the desired values.
    pub store: StoreAddress,
}

/// Address of a store.
#[derive(Deserialize, Serialize, Debug, Default)]
#[serde(default)]
pub struct StoreAddress {
    /// Endpoints of the store, as URLs or `host:port`.
    pub endpoints: Vec<String>,
    /// True if the store is embedded in the agent.
    pub embedded: bool,
}

/// Reads the agent's identity.
pub async fn identity(agent: &Agent) -> Result<Identity, Failure> {
    agent.get("/info/agent").await
}

/// Reads the published states of all values, ordered by key.
///
/// The published state of a value also depends on the states of the values that are derived from it.
pub async fn values(agent: &Agent) -> Result<Vec<BaseStatus>, Failure> {
    list(agent, "/scheduler/status?whole=1").await
}

/// Details about the current state of a value, as listed by `/scheduler/states`.
#[derive(Deserialize, Debug, Default)]
#[serde(default)]
pub struct Detail {
    pub key: String,
    /// Time at which the value entered its state.
    pub since: String,
    /// Human-readable explanation of the state. Empty if there is none.
    pub message: String,
    /// Time at which the removal of the value was put on hold. Empty if the removal is not on hold.
    pub removal_held_since: String,
}

/// Reads details about the states of all values and derived values. Returns the details by key.
pub async fn details(agent: &Agent) -> Result<BTreeMap<String, Detail>, Failure> {
    let all: Vec<Detail> = list(agent, "/scheduler/states").await?;
    Ok(all.into_iter().map(|detail| (detail.key.clone(), detail)).collect())
}

/// Reads the current graph of values and dependencies.
pub async fn snapshot(agent: &Agent) -> Result<Vec<Node>, Failure> {
    list(agent, "/scheduler/graph-snapshot").await
}

/// Reads the details of the value with this key.
pub async fn explanation(agent: &Agent, key: &str) -> Result<Explanation, Failure> {
    let whole = explained(agent, key).await?;
    serde_json::from_value(whole).map_err(|error| Failure::new(format!("unexpected response for {key}: {error}")))
}

/// Reads the details of the value with this key, and returns the response as generic JSON.
pub async fn explained(agent: &Agent, key: &str) -> Result<Json, Failure> {
    let target = target("/scheduler/explain", &[("key", key)]);
    let answer = agent.send(Method::GET, &target, "").await?;
    match answer.status {
        StatusCode::NOT_FOUND => {
            readiness::ask(agent)
                .await?
                .refuse_to_guess(&format!("whether the value {key} exists"))?;
            let known = values(agent).await.unwrap_or_default();
            let suggestion = names::similar(key, &known);
            Err(Failure::new(format!("there is no value {key}{suggestion}"))
                .next("`netns-agent get --all --derived -o name` lists all keys"))
        }
        _ => agent.json(&target, answer),
    }
}

/// Reads a list from the REST API, which returns `null` for an empty list.
pub async fn list<T: serde::de::DeserializeOwned>(agent: &Agent, target: &str) -> Result<Vec<T>, Failure> {
    let list: Option<Vec<T>> = agent.get(target).await?;
    Ok(list.unwrap_or_default())
}
