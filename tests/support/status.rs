//! What the agent publishes, as a watcher of the store sees it.
//!
//! Owns one watch on all keys of an agent and the map that it keeps; must never ask the agent itself. Start reading at
//! [`StatusWatch`].

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use etcd_client::{Client, EventType, GetOptions, WatchOptions};
use serde::{Deserialize, Deserializer};
use tokio::sync::watch;

/// `ValueStatus` as published under `config-status/…`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct ValueStatus {
    /// Key without the agent's prefix.
    pub key: String,
    /// `CONFIGURED`, `PENDING`, `INVALID`, `FAILED`, `RETRYING`, …
    pub state: String,
    /// `CREATE`, `UPDATE`, `DELETE`, …
    pub last_operation: String,
    /// Labels of unsatisfied dependencies, or names of invalid fields.
    pub details: Vec<String>,
    /// The error of the last operation.
    pub error: String,
    /// A word for machines.
    pub reason: String,
    /// A sentence for people.
    pub message: String,
    /// Since when it has its state.
    pub since: String,
    /// Store revision that this status answers.
    #[serde(deserialize_with = "number_or_text")]
    pub mod_revision: i64,
    /// The namespace that was found.
    pub namespace: serde_json::Value,
    /// What it waits for, as data.
    pub unmet: Vec<serde_json::Value>,
    /// Failed attempts in a row.
    pub attempts: u32,
    /// The last attempt that failed.
    pub last_error: serde_json::Value,
    /// When it is tried again.
    pub next_retry: String,
    /// The object was somebody else's before.
    pub adopted: bool,
    /// The last damage from outside that was repaired.
    pub last_repair: serde_json::Value,
    /// Since when its removal has been held.
    pub removal_held_since: String,
}

impl ValueStatus {
    /// Everything that explains the state, for a search in lower case.
    pub fn explanation(&self) -> String {
        format!("{} {} {} {}", self.details.join(" "), self.error, self.reason, self.message).to_lowercase()
    }

    /// The labels of what it waits for, sorted.
    pub fn labels(&self) -> Vec<String> {
        let mut labels = self.details.clone();
        labels.sort();
        labels.dedup();
        labels
    }
}

/// 64-bit numbers are decimal strings in protobuf JSON; readers accept numbers too.
fn number_or_text<'de, D: Deserializer<'de>>(deserializer: D) -> Result<i64, D::Error> {
    match serde_json::Value::deserialize(deserializer)? {
        serde_json::Value::String(text) => text.parse().map_err(serde::de::Error::custom),
        serde_json::Value::Number(number) => number.as_i64().ok_or_else(|| serde::de::Error::custom("not a 64-bit integer")),
        other => Err(serde::de::Error::custom(format!("a revision, not {other}"))),
    }
}

/// One published key.
#[derive(Clone, Debug)]
pub struct Published {
    /// The value as it stands in the store.
    pub text: String,
    /// The revision in which it was published.
    pub revision: i64,
    /// The value status, when the key is one and can be read.
    pub status: Option<ValueStatus>,
}

/// All keys of one agent outside `config/`, by their path after the agent's prefix.
#[derive(Clone, Debug, Default)]
pub struct Publication {
    /// The keys.
    pub keys: BTreeMap<String, Published>,
    /// The newest revision that was seen.
    pub revision: i64,
}

impl Publication {
    /// Status of a value, by its key after `config/`.
    pub fn of(&self, key: &str) -> Option<&ValueStatus> {
        self.keys.get(&format!("config-status/{key}"))?.status.as_ref()
    }

    /// State of a value; empty when nothing is published.
    pub fn state(&self, key: &str) -> &str {
        self.of(key).map_or("", |status| &status.state)
    }

    /// Whether the value is CONFIGURED and the status answers this store revision.
    pub fn is_configured_at(&self, key: &str, mod_revision: i64) -> bool {
        self.of(key)
            .is_some_and(|status| status.state == "CONFIGURED" && status.mod_revision == mod_revision)
    }

    /// Whether the value is CONFIGURED by a status that was published after this revision.
    pub fn is_configured_since(&self, key: &str, published_after: i64) -> bool {
        self.keys.get(&format!("config-status/{key}")).is_some_and(|entry| {
            entry.revision > published_after && entry.status.as_ref().is_some_and(|status| status.state == "CONFIGURED")
        })
    }

    /// Whether any value status is published.
    pub fn has_status(&self) -> bool {
        self.keys.keys().any(|key| key.starts_with("config-status/"))
    }

    /// One line for each key, for the person who reads a failed test.
    pub fn describe(&self) -> String {
        self.keys
            .iter()
            .map(|(key, published)| format!("  {key} (revision {}): {}\n", published.revision, published.text))
            .collect()
    }
}

/// A running watch on the keys of an agent.
pub struct StatusWatch {
    receiver: watch::Receiver<Arc<Publication>>,
    task: tokio::task::JoinHandle<()>,
}

impl StatusWatch {
    /// Watches `/vnf-agent/<label>/`, now and whenever the store comes back.
    pub fn start(client: Client, label: &str) -> Self {
        let (sender, receiver) = watch::channel(Arc::new(Publication::default()));
        let prefix = format!("/vnf-agent/{label}/");
        let task = tokio::spawn(async move {
            loop {
                // Every end of a watch is treated alike: read everything, then watch from there.
                let _ = follow(client.clone(), &prefix, &sender).await;
                if sender.is_closed() {
                    return;
                }
                // The store is down; there is no event for its return, only another try.
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        });
        Self { receiver, task }
    }

    /// What is known now.
    pub fn now(&self) -> Arc<Publication> {
        self.receiver.borrow().clone()
    }

    /// Waits until `condition` holds; `None` after `patience`.
    pub async fn wait_for(&self, patience: Duration, mut condition: impl FnMut(&Publication) -> bool) -> Option<Arc<Publication>> {
        let mut receiver = self.receiver.clone();
        let waited = tokio::time::timeout(patience, receiver.wait_for(|publication| condition(publication))).await;
        waited.ok()?.ok().map(|publication| publication.clone())
    }
}

impl Drop for StatusWatch {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Reads all keys and follows their changes until the watch ends.
async fn follow(client: Client, prefix: &str, sender: &watch::Sender<Arc<Publication>>) -> Result<(), etcd_client::Error> {
    let listed = client.kv_client().get(prefix, Some(GetOptions::new().with_prefix())).await?;
    let mut publication = Publication {
        keys: BTreeMap::new(),
        revision: listed.header().map_or(0, |header| header.revision()),
    };
    for entry in listed.kvs() {
        record(&mut publication, prefix, entry.key(), Some(entry.value()), entry.mod_revision());
    }
    let options = WatchOptions::new().with_prefix().with_start_revision(publication.revision + 1);
    sender.send_replace(Arc::new(publication));
    let mut stream = client.watch_client().watch(prefix, Some(options)).await?;
    while let Some(response) = stream.message().await? {
        if response.canceled() {
            return Ok(());
        }
        sender.send_modify(|shared| {
            let publication = Arc::make_mut(shared);
            publication.revision = publication.revision.max(response.header().map_or(0, |header| header.revision()));
            for event in response.events() {
                if let Some(entry) = event.kv() {
                    let value = (event.event_type() == EventType::Put).then(|| entry.value());
                    record(publication, prefix, entry.key(), value, entry.mod_revision());
                }
            }
        });
    }
    Ok(())
}

/// Takes one key over; desired values are not what the agent publishes.
fn record(publication: &mut Publication, prefix: &str, key: &[u8], value: Option<&[u8]>, revision: i64) {
    publication.revision = publication.revision.max(revision);
    let key = String::from_utf8_lossy(key);
    let Some(rest) = key.strip_prefix(prefix).filter(|rest| !rest.starts_with("config/")) else {
        return;
    };
    match value {
        None => {
            publication.keys.remove(rest);
        }
        Some(value) => {
            let text = String::from_utf8_lossy(value).into_owned();
            let status = if rest.starts_with("config-status/") {
                serde_json::from_str(&text).ok()
            } else {
                None
            };
            publication.keys.insert(rest.to_owned(), Published { text, revision, status });
        }
    }
}
