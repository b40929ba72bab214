//! Store client of the demo. It uses an etcd watch to keep a copy of all keys of the agent up to date.
//!
//! The client waits for watch events and never polls.

use std::{collections::BTreeMap, future::Future, time::Duration};

use anyhow::{Context, bail};
use etcd_client::{Client, DeleteOptions, EventType, GetOptions, WatchOptions, WatchStream};
use serde::Deserialize;
use tokio::time::{Instant, timeout, timeout_at};

use super::{
    agent::ENDPOINT,
    topology::{CONFIG, HEALTH, LABEL, STATUS},
};

/// Timeout for each request and each wait. A request or wait usually takes a few milliseconds.
const TIME_LIMIT: Duration = Duration::from_secs(10);

/// Published status of a value, limited to the members that the demo reads.
#[derive(Deserialize, Default, Debug)]
#[serde(default)]
pub struct ValueStatus {
    /// Name of the state, such as `PENDING`.
    pub state: String,
    /// Last operation on the value. Empty if there has been no operation on it since the agent started.
    pub last_operation: String,
    /// Human-readable reason why the value is not configured.
    pub message: String,
    /// Store revision of the put that the status refers to, in decimal digits.
    pub mod_revision: String,
}

struct Entry {
    text: String,
    /// Store revision at which the key was last written.
    revision: i64,
}

/// Store client with a copy of all keys of the agent, updated by an etcd watch.
pub struct Observer {
    client: Client,
    watch: WatchStream,
    keys: BTreeMap<String, Entry>,
    /// Newest store revision observed so far.
    pub revision: i64,
}

impl Observer {
    /// Connects to the store, reads all agent keys, and watches them from the next revision on.
    pub async fn connect() -> anyhow::Result<Self> {
        let client = Client::connect([ENDPOINT], None)
            .await
            .context("cannot connect to the agent's store")?;
        let prefix = format!("/vnf-agent/{LABEL}/");
        let options = GetOptions::new().with_prefix();
        let mut kv = client.kv_client();
        let listed = answer("a list of all keys of the agent", kv.get(prefix.as_str(), Some(options))).await?;
        let revision = listed.header().map_or(0, etcd_client::ResponseHeader::revision);
        let keys = listed.kvs().iter().map(|kv| {
            (
                String::from_utf8_lossy(kv.key()).into_owned(),
                Entry {
                    text: String::from_utf8_lossy(kv.value()).into_owned(),
                    revision: kv.mod_revision(),
                },
            )
        });
        let keys = keys.collect();
        let options = WatchOptions::new().with_prefix().with_start_revision(revision + 1);
        let mut watches = client.watch_client();
        let watch = answer("a watch on the agent's keys", watches.watch(prefix, Some(options))).await?;
        Ok(Observer {
            client,
            watch,
            keys,
            revision,
        })
    }

    /// Puts a desired value, and returns the revision of the put.
    pub async fn put(&self, key: &str, value: &str) -> anyhow::Result<i64> {
        let key = format!("{CONFIG}{key}");
        let mut kv = self.client.kv_client();
        let response = answer(&format!("a response to the put of {key}"), kv.put(key.as_str(), value, None)).await?;
        Ok(response.header().map_or(0, etcd_client::ResponseHeader::revision))
    }

    /// Deletes all desired values in one request.
    pub async fn delete_all(&self) -> anyhow::Result<()> {
        let options = DeleteOptions::new().with_prefix();
        let mut kv = self.client.kv_client();
        answer(
            &format!("a response to the deletion of all keys below {CONFIG}"),
            kv.delete(CONFIG, Some(options)),
        )
        .await?;
        Ok(())
    }

    /// Waits for events until `condition` returns a value.
    ///
    /// # Errors
    /// Fails after [`TIME_LIMIT`]. The error contains `expected` and all published keys.
    pub async fn until<T>(&mut self, expected: &str, condition: impl Fn(&Observer) -> Option<T>) -> anyhow::Result<T> {
        let deadline = Instant::now() + TIME_LIMIT;
        loop {
            if let Some(answer) = condition(self) {
                return Ok(answer);
            }
            let Ok(message) = timeout_at(deadline, self.watch.message()).await else {
                bail!(
                    "expected within {} s: {expected}\nobserved:\n{}",
                    TIME_LIMIT.as_secs(),
                    self.describe()
                );
            };
            let Some(response) = message.context("the watch on the agent's store failed")? else {
                bail!("expected: {expected}\nobserved: the agent's store ended the watch");
            };
            for event in response.events() {
                let Some(kv) = event.kv() else { continue };
                self.revision = self.revision.max(kv.mod_revision());
                let key = String::from_utf8_lossy(kv.key()).into_owned();
                if event.event_type() == EventType::Delete {
                    self.keys.remove(&key);
                } else {
                    let text = String::from_utf8_lossy(kv.value()).into_owned();
                    self.keys.insert(
                        key,
                        Entry {
                            text,
                            revision: kv.mod_revision(),
                        },
                    );
                }
            }
        }
    }

    /// Waits until the agent reports that it has applied the initial desired values.
    ///
    /// Ignores reports with revisions up to `since`, because an earlier agent published them.
    pub async fn until_in_sync(&mut self, since: i64) -> anyhow::Result<()> {
        self.until(&format!("the agent is in sync ({HEALTH} is OK)"), |observer| {
            let entry = observer.keys.get(HEALTH).filter(|entry| entry.revision > since)?;
            let health: serde_json::Value = serde_json::from_str(&entry.text).ok()?;
            (health["state"] == "OK").then_some(())
        })
        .await
    }

    /// Returns the published status of a value, or `None` if the status does not refer to the put at this revision.
    pub fn status(&self, key: &str, revision: i64) -> Option<ValueStatus> {
        let status: ValueStatus = serde_json::from_str(&self.keys.get(&format!("{STATUS}{key}"))?.text).ok()?;
        (status.mod_revision.parse() == Ok(revision)).then_some(status)
    }

    /// Returns the store revision at which the status of a value was written.
    pub fn status_revision(&self, key: &str) -> Option<i64> {
        Some(self.keys.get(&format!("{STATUS}{key}"))?.revision)
    }

    /// Returns a numeric member of the JSON value under a key.
    pub fn number(&self, key: &str, member: &str) -> Option<u64> {
        let value: serde_json::Value = serde_json::from_str(&self.keys.get(key)?.text).ok()?;
        value[member].as_u64()
    }

    /// Returns whether no key with this prefix exists.
    pub fn is_gone(&self, prefix: &str) -> bool {
        !self.keys.keys().any(|key| key.starts_with(prefix))
    }

    fn describe(&self) -> String {
        let config = format!("{CONFIG}/");
        let shown = self.keys.iter().filter(|(key, _)| !key.starts_with(&config));
        shown
            .map(|(key, entry)| format!("  {key}\n    {}", entry.text))
            .collect::<Vec<_>>()
            .join("\n")
    }
}

/// Waits for the response of the store. Without the timeout, a store that accepts no connections would block the demo forever.
async fn answer<T>(expected: &str, request: impl Future<Output = Result<T, etcd_client::Error>>) -> anyhow::Result<T> {
    match timeout(TIME_LIMIT, request).await {
        Ok(answer) => answer.with_context(|| format!("expected from the agent's store at {ENDPOINT}: {expected}")),
        Err(_) => bail!(
            "expected from the agent's store at {ENDPOINT} within {} s: {expected}\nobserved: no response",
            TIME_LIMIT.as_secs()
        ),
    }
}
