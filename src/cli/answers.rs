//! REST API responses, limited to the members that the commands use.
//!
//! Missing members get their defaults and unknown members are ignored, so an older client understands a newer agent. `/openapi.json` has
//! examples.

use std::collections::BTreeMap;

use hyper::{Method, StatusCode};
use serde::{Deserialize, Serialize};
use serde_json::Value as Json;

use super::{
    connection::{Agent, target},
    failure::Failure,
    names, readiness,
};

/// A value and its derived values: `/scheduler/status`.
#[derive(Deserialize, Clone, Debug, Default)]
#[serde(default)]
pub struct BaseStatus {
    /// The value.
    pub value: Status,
    /// Its derived values.
    pub derived_values: Vec<Status>,
}

/// The state of one value.
#[derive(Deserialize, Serialize, Clone, Debug, Default, PartialEq, Eq)]
#[serde(default)]
pub struct Status {
    /// Key without the agent's prefix.
    pub key: String,
    /// State. An empty string means NONEXISTENT.
    pub state: String,
    /// Error of the last operation.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub error: String,
    /// Last operation.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub last_operation: String,
    /// Labels of unmet dependencies, or names of invalid fields.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub details: Vec<String>,
}

impl Status {
    /// Returns the state name.
    pub fn state(&self) -> &str {
        if self.state.is_empty() { "NONEXISTENT" } else { &self.state }
    }

    /// Returns a short description of the problem.
    pub fn words(&self) -> String {
        match (self.error.is_empty(), self.state.as_str()) {
            (false, _) => self.error.clone(),
            (true, "PENDING") if !self.details.is_empty() => format!("waiting for {}", self.details.join(", ")),
            _ => self.details.join(", "),
        }
    }
}

/// Details of one key: `/scheduler/explain`.
#[derive(Deserialize, Debug, Default)]
#[serde(default)]
pub struct Explanation {
    /// Key.
    pub key: String,
    /// Display name.
    pub name: String,
    /// State.
    pub state: String,
    /// Time at which the value entered its state.
    pub since: String,
    /// Published status, if any.
    pub status: Option<Published>,
    /// Desired value.
    pub value: Option<Shown>,
    /// Dependencies.
    pub depends_on: Vec<Dependency>,
    /// Derived values.
    pub derived: Vec<Part>,
    /// Dependents.
    pub needed_by: Vec<Part>,
    /// Last operations, newest first.
    pub last_operations: Vec<PastOperation>,
    /// Sources that have a value under this key, the one in effect first.
    pub sources: Vec<String>,
}

/// The members of a published status that the commands show.
#[derive(Deserialize, Debug, Default)]
#[serde(default)]
pub struct Published {
    /// Human-readable message.
    pub message: String,
    /// Stable reason code.
    pub reason: String,
    /// Namespace of the value.
    pub namespace: String,
    /// Time of the next retry.
    pub next_retry: String,
    /// Number of consecutive failed attempts.
    pub attempts: u32,
    /// Unmet dependencies.
    pub unmet: Vec<Unmet>,
    /// Last error.
    pub last_error: Option<Json>,
    /// Last repair.
    pub last_repair: Option<Repair>,
    /// True if the object was foreign and has been adopted.
    pub adopted: bool,
    /// Time at which its removal was put on hold.
    pub removal_held_since: String,
}

/// A repair.
#[derive(Deserialize, Debug, Default)]
#[serde(default)]
pub struct Repair {
    /// Time of the repair.
    pub time: String,
    /// Names of the lost or changed parts that were restored.
    pub lost: Vec<String>,
}

/// An unmet dependency.
#[derive(Deserialize, Debug, Default)]
#[serde(default)]
pub struct Unmet {
    /// Label.
    pub label: String,
    /// Expected key. Empty if several keys would satisfy the dependency.
    pub expected: String,
    /// Display name of the expected value.
    pub name: String,
    /// Description of its current state.
    pub state: String,
    /// Existing values that almost satisfy the dependency.
    pub suggestions: Vec<Suggestion>,
}

/// An existing value that almost satisfies a dependency.
#[derive(Deserialize, Debug, Default)]
#[serde(default)]
pub struct Suggestion {
    /// Key of the value.
    pub key: String,
    /// Description of the value.
    pub text: String,
}

/// A dependency, met or not.
#[derive(Deserialize, Debug, Default)]
#[serde(default)]
pub struct Dependency {
    /// Label.
    pub label: String,
    /// Expected key, or a description of the keys that would satisfy it.
    pub expected: String,
    /// Display name of the expected value.
    pub name: String,
    /// True if it is met.
    pub met: bool,
    /// Keys of the values that meet it.
    pub met_by: Vec<String>,
}

/// A derived value or a dependent.
#[derive(Deserialize, Debug, Default)]
#[serde(default)]
pub struct Part {
    /// Key.
    pub key: String,
    /// State.
    pub state: String,
    /// Error of the last operation.
    pub error: Option<String>,
}

/// A completed operation.
#[derive(Deserialize, Debug, Default)]
#[serde(default)]
pub struct PastOperation {
    /// Transaction number.
    pub transaction: u64,
    /// Time.
    pub time: String,
    /// Key of the value.
    pub key: String,
    /// Operation, such as CREATE.
    pub operation: String,
    /// State of the value afterwards.
    pub state: String,
    /// Error, if it failed.
    pub error: Option<String>,
}

/// A value with its protobuf message name.
#[derive(Deserialize, Serialize, Clone, Debug, Default)]
#[serde(default)]
pub struct Shown {
    /// Full name of the protobuf message.
    #[serde(rename = "ProtoMsgName")]
    pub message: String,
    /// Members of the message.
    #[serde(rename = "ProtoMsgData")]
    pub data: Json,
}

/// A node of the graph: `/scheduler/graph-snapshot`.
#[derive(Deserialize, Debug, Default)]
#[serde(default, rename_all = "PascalCase")]
pub struct Node {
    /// Start of the period during which the node was in this state.
    pub since: String,
    /// End of that period. Empty if the node is still in this state.
    pub until: String,
    /// Key.
    pub key: String,
    /// Value.
    pub value: Option<Shown>,
    /// State, descriptor, error and so on.
    pub flags: BTreeMap<String, String>,
    /// Edges to its dependencies and derived values.
    pub targets: Vec<Target>,
}

/// An edge of the graph.
#[derive(Deserialize, Debug, Default)]
#[serde(default, rename_all = "PascalCase")]
pub struct Target {
    /// `depends-on` or `derives`.
    pub relation: String,
    /// Label.
    pub label: String,
    /// Expected key, or a description of the expected keys.
    pub expected_key: String,
    /// Existing keys that match.
    pub matching_keys: Vec<String>,
}

/// A transaction: `/scheduler/txn-history`.
#[derive(Deserialize, Debug, Default)]
#[serde(default, rename_all = "PascalCase")]
pub struct Record {
    /// Start time.
    pub start: String,
    /// End time.
    pub stop: String,
    /// Number.
    pub seq_num: u64,
    /// Kind.
    pub txn_type: String,
    /// Kind of resync. Empty if the transaction is not a resync.
    pub resync_type: String,
    /// Description provided by the requester.
    pub description: String,
    /// Number of the transaction whose failed operations are retried.
    pub retry_for_txn: u64,
    /// Retry attempt number, starting at 1.
    pub retry_attempt: u64,
    /// Requested values.
    pub values: Vec<Json>,
    /// Executed operations.
    pub executed: Vec<Operation>,
}

/// An executed operation.
#[derive(Deserialize, Debug, Default)]
#[serde(default, rename_all = "PascalCase")]
pub struct Operation {
    /// CREATE, UPDATE, DELETE.
    pub operation: String,
    /// Key of the value.
    pub key: String,
    /// State before.
    pub prev_state: String,
    /// State afterwards.
    pub new_state: String,
    /// Error message, if it failed.
    pub new_err_msg: String,
    /// True if the kernel was not changed.
    #[serde(rename = "NOOP")]
    pub noop: bool,
    /// True if the value is derived from another one.
    pub is_derived: bool,
    /// True if the operation is part of a rollback.
    pub is_revert: bool,
    /// True if the operation is a retry.
    pub is_retry: bool,
    /// In a plan: differences between the applied and the desired value.
    pub differences: Vec<Difference>,
}

/// A change that is rolled back unless it is confirmed: `/configuration/unconfirmed`.
#[derive(Deserialize, Serialize, Debug, Default)]
#[serde(default)]
pub struct Unconfirmed {
    /// Sequence number of its transaction.
    pub id: String,
    /// Seconds until the rollback.
    pub seconds_left: u64,
    /// Source of the values.
    pub source: String,
    /// Description provided by the requester.
    pub description: String,
    /// Keys of the values.
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

/// Agent identity: `/info/agent`.
#[derive(Deserialize, Debug, Default)]
#[serde(default)]
pub struct Identity {
    /// Microservice label.
    pub label: String,
    /// Store that the agent follows.
    pub store: StoreAddress,
}

/// Address of a store.
#[derive(Deserialize, Serialize, Debug, Default)]
#[serde(default)]
pub struct StoreAddress {
    /// URLs, or `host:port`.
    pub endpoints: Vec<String>,
    /// True for the embedded store of the agent.
    pub embedded: bool,
}

/// Reads the agent's identity.
pub async fn identity(agent: &Agent) -> Result<Identity, Failure> {
    agent.get("/info/agent").await
}

/// Reads the states of all values, which include those of their derived values, ordered by key.
pub async fn values(agent: &Agent) -> Result<Vec<BaseStatus>, Failure> {
    list(agent, "/scheduler/status?whole=1").await
}

/// Age and message of a value: `/scheduler/states`.
#[derive(Deserialize, Debug, Default)]
#[serde(default)]
pub struct Detail {
    /// Key.
    pub key: String,
    /// Time at which the value entered its state.
    pub since: String,
    /// Status message.
    pub message: String,
    /// Time at which its removal was put on hold. Empty if the removal is not on hold.
    pub removal_held_since: String,
}

/// Reads ages and messages of all values and derived values, by key.
pub async fn details(agent: &Agent) -> Result<BTreeMap<String, Detail>, Failure> {
    let all: Vec<Detail> = list(agent, "/scheduler/states").await?;
    Ok(all.into_iter().map(|detail| (detail.key.clone(), detail)).collect())
}

/// Reads the current graph.
pub async fn snapshot(agent: &Agent) -> Result<Vec<Node>, Failure> {
    list(agent, "/scheduler/graph-snapshot").await
}

/// Reads the details of one key.
pub async fn explanation(agent: &Agent, key: &str) -> Result<Explanation, Failure> {
    let whole = explained(agent, key).await?;
    serde_json::from_value(whole).map_err(|error| Failure::new(format!("unexpected response for {key}: {error}")))
}

/// Reads the details of one key as unparsed JSON.
pub async fn explained(agent: &Agent, key: &str) -> Result<Json, Failure> {
    let target = target("/scheduler/explain", &[("key", key)]);
    let answer = agent.send(Method::GET, &target, "").await?;
    match answer.status {
        StatusCode::NOT_FOUND => {
            readiness::ask(agent)
                .await?
                .refuse_to_guess(&format!("whether there is a value {key}"))?;
            let known = values(agent).await.unwrap_or_default();
            let suggestion = names::similar(key, &known);
            Err(Failure::new(format!("there is no value {key}{suggestion}"))
                .next("`netns-agent get --all --derived -o name` lists all keys"))
        }
        _ => agent.json(&target, answer),
    }
}

/// Reads a list. The API returns `null` for an empty one.
pub async fn list<T: serde::de::DeserializeOwned>(agent: &Agent, target: &str) -> Result<Vec<T>, Failure> {
    let list: Option<Vec<T>> = agent.get(target).await?;
    Ok(list.unwrap_or_default())
}
