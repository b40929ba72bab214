//! Watches all keys that the agent publishes in the store, as a client would.
//!
//! Never sends a request to the agent itself. See [`StatusWatch`].

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use etcd_client::{Client, EventType, GetOptions, WatchOptions};
use serde::{Deserialize, Deserializer};
use tokio::sync::watch;

/// `ValueStatus` as published under `config-status/…`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct ValueStatus {
    /// Key of the value, without the agent's prefix.
    pub key: String,
    /// `CONFIGURED`, `PENDING`, `INVALID`, `FAILED`, `RETRYING`, …
    pub state: String,
    /// `CREATE`, `UPDATE`, `DELETE`, …
    pub last_operation: String,
    /// Labels of unmet dependencies, or names of invalid fields.
    pub details: Vec<String>,
    /// Error from the last operation.
    pub error: String,
    /// Machine-readable reason.
    pub reason: String,
    /// Human-readable message.
    pub message: String,
    /// Time at which the value entered its state.
    pub since: String,
    /// Store revision of the value that this status describes.
    #[serde(deserialize_with = "number_or_text")]
    pub mod_revision: i64,
    /// Namespace of the value, as JSON.
    pub namespace: serde_json::Value,
    /// Unmet dependencies in structured form.
    pub unmet: Vec<serde_json::Value>,
    /// Number of consecutive failed attempts to apply the value.
    pub attempts: u32,
    /// The last failed attempt, as JSON; `null` if there was none.
    pub last_error: serde_json::Value,
    /// Time of the next attempt, or an empty string if there is none.
    pub next_retry: String,
    /// True if the object was foreign before the agent adopted it.
    pub adopted: bool,
    /// The last repair of damage that others caused, as JSON; `null` if there was none.
    pub last_repair: serde_json::Value,
    /// Time when the removal was put on hold, or an empty string if the removal is not on hold.
    pub removal_held_since: String,
}

impl ValueStatus {
    /// Returns all text that explains the state, in lower case.
    pub fn explanation(&self) -> String {
        format!("{} {} {} {}", self.details.join(" "), self.error, self.reason, self.message).to_lowercase()
    }

    /// Returns the labels of the unmet dependencies, sorted.
    pub fn labels(&self) -> Vec<String> {
        let mut labels = self.details.clone();
        labels.sort();
        labels.dedup();
        labels
    }
}

/// Deserializes a 64-bit integer from a decimal string, as in protobuf JSON, or from a number.
fn number_or_text<'de, D: Deserializer<'de>>(deserializer: D) -> Result<i64, D::Error> {
    match serde_json::Value::deserialize(deserializer)? {
        serde_json::Value::String(text) => text.parse().map_err(serde::de::Error::custom),
        serde_json::Value::Number(number) => number.as_i64().ok_or_else(|| serde::de::Error::custom("not a 64-bit integer")),
        other => Err(serde::de::Error::custom(format!("not a revision: {other}"))),
    }
}

/// A published key.
#[derive(Clone, Debug)]
pub struct Published {
    /// Value in the store.
    pub text: String,
    /// Store revision at which the key was published.
    pub revision: i64,
    /// Value status, if the key contains one that can be decoded.
    pub status: Option<ValueStatus>,
}

/// All keys of one agent in the store, except for the desired values below `config/`.
#[derive(Clone, Debug, Default)]
pub struct Publication {
    /// Published keys, without the agent's prefix.
    pub keys: BTreeMap<String, Published>,
    /// Newest store revision that the watch has received.
    pub revision: i64,
}

impl Publication {
    /// Returns the status of the value with this key (after `config/`).
    pub fn of(&self, key: &str) -> Option<&ValueStatus> {
        self.keys.get(&format!("config-status/{key}"))?.status.as_ref()
    }

    /// Returns the state of a value, or an empty string if nothing is published.
    pub fn state(&self, key: &str) -> &str {
        self.of(key).map_or("", |status| &status.state)
    }

    /// Returns true if the value is CONFIGURED, and its status describes this store revision of the value.
    pub fn is_configured_at(&self, key: &str, mod_revision: i64) -> bool {
        self.of(key)
            .is_some_and(|status| status.state == "CONFIGURED" && status.mod_revision == mod_revision)
    }

    /// Returns true if the value is CONFIGURED, and its status was published after this revision.
    pub fn is_configured_since(&self, key: &str, published_after: i64) -> bool {
        self.keys.get(&format!("config-status/{key}")).is_some_and(|entry| {
            entry.revision > published_after && entry.status.as_ref().is_some_and(|status| status.state == "CONFIGURED")
        })
    }

    /// Returns true if any value status is published.
    pub fn has_status(&self) -> bool {
        self.keys.keys().any(|key| key.starts_with("config-status/"))
    }

    /// Returns the published keys as text, one line per key, for reports about failed tests.
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
    /// Watches `/vnf-agent/<label>/`, and starts a new watch whenever the store comes back.
    pub fn start(client: Client, label: &str) -> Self {
        let (sender, receiver) = watch::channel(Arc::new(Publication::default()));
        let prefix = format!("/vnf-agent/{label}/");
        let task = tokio::spawn(async move {
            loop {
                // Ignore the result, because the next call reads all keys again before it starts a new watch.
                let _ = follow(client.clone(), &prefix, &sender).await;
                if sender.is_closed() {
                    return;
                }
                // The store is down. Try again after a pause, because no event shows that it is back.
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        });
        Self { receiver, task }
    }

    /// Returns the keys that are published at the moment.
    pub fn now(&self) -> Arc<Publication> {
        self.receiver.borrow().clone()
    }

    /// Waits until `condition` returns true. Returns `None` after `time_limit`.
    pub async fn wait_for(&self, time_limit: Duration, mut condition: impl FnMut(&Publication) -> bool) -> Option<Arc<Publication>> {
        let mut receiver = self.receiver.clone();
        let waited = tokio::time::timeout(time_limit, receiver.wait_for(|publication| condition(publication))).await;
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

/// Records the new value of a key, or its deletion. Ignores desired values, which the agent does not publish.
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
