//! What the REST API answers, as far as commands read it.
//!
//! Owns the shapes (`/openapi.json` has examples). What is absent has its default; what is unknown is left aside, so that an older
//! client understands a newer agent. Must never compute anything. Start reading at [`values`].

use std::collections::BTreeMap;

use hyper::{Method, StatusCode};
use serde::{Deserialize, Serialize};
use serde_json::Value as Json;

use super::{
    connection::{Agent, target},
    failure::Failure,
    names, readiness,
};

/// A value and what is derived from it: `/scheduler/status`.
#[derive(Deserialize, Clone, Debug, Default)]
#[serde(default)]
pub struct BaseStatus {
    /// The value.
    pub value: Status,
    /// What is derived from it.
    pub derived_values: Vec<Status>,
}

/// The state of one value.
#[derive(Deserialize, Serialize, Clone, Debug, Default, PartialEq, Eq)]
#[serde(default)]
pub struct Status {
    /// Key, without the prefix of the agent.
    pub key: String,
    /// State; empty means NONEXISTENT.
    pub state: String,
    /// Why it failed.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub error: String,
    /// What was last done for it.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub last_operation: String,
    /// Labels of unmet dependencies, or fields that are wrong.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub details: Vec<String>,
}

impl Status {
    /// The state by its name.
    pub fn state(&self) -> &str {
        if self.state.is_empty() { "NONEXISTENT" } else { &self.state }
    }

    /// What is the matter, in a few words.
    pub fn words(&self) -> String {
        match (self.error.is_empty(), self.state.as_str()) {
            (false, _) => self.error.clone(),
            (true, "PENDING") if !self.details.is_empty() => format!("waits for {}", self.details.join(", ")),
            _ => self.details.join(", "),
        }
    }
}

/// All about one key: `/scheduler/explain`.
#[derive(Deserialize, Debug, Default)]
#[serde(default)]
pub struct Explanation {
    /// The key.
    pub key: String,
    /// What people call it.
    pub name: String,
    /// State.
    pub state: String,
    /// Since when.
    pub since: String,
    /// As published; absent for what is not published.
    pub status: Option<Published>,
    /// What is wanted.
    pub value: Option<Shown>,
    /// What it depends on.
    pub depends_on: Vec<Dependency>,
    /// What is derived from it.
    pub derived: Vec<Part>,
    /// What depends on it.
    pub needed_by: Vec<Part>,
    /// The newest first.
    pub last_operations: Vec<PastOperation>,
}

/// The published status, as far as it is shown by name.
#[derive(Deserialize, Debug, Default)]
#[serde(default)]
pub struct Published {
    /// One sentence.
    pub message: String,
    /// One stable word.
    pub reason: String,
    /// Where it belongs.
    pub namespace: String,
    /// When it is tried again.
    pub next_retry: String,
    /// Failed attempts in a row.
    pub attempts: u32,
    /// What it waits for.
    pub unmet: Vec<Unmet>,
    /// The last failure.
    pub last_error: Option<Json>,
    /// The last repair.
    pub last_repair: Option<Repair>,
    /// It was somebody else's.
    pub adopted: bool,
    /// Since when its removal has been held.
    pub removal_held_since: String,
}

/// A repair.
#[derive(Deserialize, Debug, Default)]
#[serde(default)]
pub struct Repair {
    /// When.
    pub time: String,
    /// Names of what was lost or changed, and is there again.
    pub lost: Vec<String>,
}

/// An unmet dependency.
#[derive(Deserialize, Debug, Default)]
#[serde(default)]
pub struct Unmet {
    /// Label.
    pub label: String,
    /// The key that would do; empty if any of several would.
    pub expected: String,
    /// What is expected, as people call it.
    pub name: String,
    /// What is the matter with it.
    pub state: String,
    /// The nearest that exists.
    pub relatives: Vec<Relative>,
}

/// Something that exists and is nearly what is expected.
#[derive(Deserialize, Debug, Default)]
#[serde(default)]
pub struct Relative {
    /// A sentence about it.
    pub text: String,
}

/// A dependency, met or not.
#[derive(Deserialize, Debug, Default)]
#[serde(default)]
pub struct Dependency {
    /// Label.
    pub label: String,
    /// The key, or words for what would do.
    pub expected: String,
    /// Name of the expected value for people.
    pub name: String,
    /// Whether it is met.
    pub met: bool,
    /// By what.
    pub met_by: Vec<String>,
}

/// Another value.
#[derive(Deserialize, Debug, Default)]
#[serde(default)]
pub struct Part {
    /// Key.
    pub key: String,
    /// State.
    pub state: String,
    /// Why it failed.
    pub error: Option<String>,
}

/// Something that was done.
#[derive(Deserialize, Debug, Default)]
#[serde(default)]
pub struct PastOperation {
    /// Number of the transaction.
    pub transaction: u64,
    /// When.
    pub time: String,
    /// To what.
    pub key: String,
    /// What.
    pub operation: String,
    /// What came of it.
    pub state: String,
    /// Why it failed.
    pub error: Option<String>,
}

/// A value with the name of its message.
#[derive(Deserialize, Serialize, Clone, Debug, Default)]
#[serde(default)]
pub struct Shown {
    /// Full name of the message.
    #[serde(rename = "ProtoMsgName")]
    pub message: String,
    /// Its members.
    #[serde(rename = "ProtoMsgData")]
    pub data: Json,
}

/// What a key is now: `/scheduler/graph-snapshot`.
#[derive(Deserialize, Debug, Default)]
#[serde(default, rename_all = "PascalCase")]
pub struct Node {
    /// Since when it is so.
    pub since: String,
    /// Until when it was so.
    pub until: String,
    /// Key.
    pub key: String,
    /// The value.
    pub value: Option<Shown>,
    /// State, descriptor, error and so on.
    pub flags: BTreeMap<String, String>,
    /// What it depends on, and what is derived from it.
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
    /// What is named.
    pub expected_key: String,
    /// What is there of it.
    pub matching_keys: Vec<String>,
}

/// A transaction: `/scheduler/txn-history`.
#[derive(Deserialize, Debug, Default)]
#[serde(default, rename_all = "PascalCase")]
pub struct Record {
    /// When it began.
    pub start: String,
    /// When it ended.
    pub stop: String,
    /// Number.
    pub seq_num: u64,
    /// Kind.
    pub txn_type: String,
    /// Kind of resync; empty for none.
    pub resync_type: String,
    /// Words of who asked for it.
    pub description: String,
    /// The transaction whose failures are tried again.
    pub retry_for_txn: u64,
    /// Which attempt that is.
    pub retry_attempt: u64,
    /// Values that were asked for.
    pub values: Vec<Json>,
    /// What was done.
    pub executed: Vec<Operation>,
}

/// What was done to one value.
#[derive(Deserialize, Debug, Default)]
#[serde(default, rename_all = "PascalCase")]
pub struct Operation {
    /// CREATE, UPDATE, DELETE.
    pub operation: String,
    /// To what.
    pub key: String,
    /// State before.
    pub prev_state: String,
    /// What came of it.
    pub new_state: String,
    /// Why it failed.
    pub new_err_msg: String,
    /// Nothing had to be done.
    #[serde(rename = "NOOP")]
    pub noop: bool,
    /// It is derived from another value.
    pub is_derived: bool,
    /// It takes something back.
    pub is_revert: bool,
    /// It tries again.
    pub is_retry: bool,
    /// In a plan: in what the value is not as it is desired.
    pub differences: Vec<Difference>,
}

/// In what a value is not as it is desired.
#[derive(Deserialize, Clone, PartialEq, Eq, Debug, Default)]
#[serde(default, rename_all = "PascalCase")]
pub struct Difference {
    /// The end of a sentence.
    pub text: String,
    /// The value is deleted and created again because of it.
    pub is_recreate: bool,
}

/// Which agent answers: `/info/agent`.
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
    /// The store is a part of the agent.
    pub embedded: bool,
}

/// Asks which agent answers.
pub async fn identity(agent: &Agent) -> Result<Identity, Failure> {
    agent.get("/info/agent").await
}

/// States of all values together with what is derived from them, by key.
pub async fn values(agent: &Agent) -> Result<Vec<BaseStatus>, Failure> {
    list(agent, "/scheduler/status?whole=1").await
}

/// Age and message of a value: `/scheduler/states`.
#[derive(Deserialize, Debug, Default)]
#[serde(default)]
pub struct Detail {
    /// Key.
    pub key: String,
    /// Since when it is in its state.
    pub since: String,
    /// Sentence of its status.
    pub message: String,
    /// Since when its removal has been held; empty if it is not.
    pub removal_held_since: String,
}

/// Ages and messages of all values and of what is derived from them, by key.
pub async fn details(agent: &Agent) -> Result<BTreeMap<String, Detail>, Failure> {
    let all: Vec<Detail> = list(agent, "/scheduler/states").await?;
    Ok(all.into_iter().map(|detail| (detail.key.clone(), detail)).collect())
}

/// What every key is now.
pub async fn snapshot(agent: &Agent) -> Result<Vec<Node>, Failure> {
    list(agent, "/scheduler/graph-snapshot").await
}

/// All about one key.
pub async fn explanation(agent: &Agent, key: &str) -> Result<Explanation, Failure> {
    let whole = explained(agent, key).await?;
    serde_json::from_value(whole).map_err(|error| Failure::new(format!("what the agent says of {key} is not understood: {error}")))
}

/// The same as it was answered.
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

/// A list, which the API writes as `null` when nothing is in it.
pub async fn list<T: serde::de::DeserializeOwned>(agent: &Agent, target: &str) -> Result<Vec<T>, Failure> {
    let list: Option<Vec<T>> = agent.get(target).await?;
    Ok(list.unwrap_or_default())
}
