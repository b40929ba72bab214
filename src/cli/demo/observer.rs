//! The store as a user of the agent sees it: puts go in, statuses come out.
//!
//! Owns the client and a mirror of all keys of the agent, kept by a watch. Must never ask again and again: it waits for events.
//! Start reading at [`Observer::until`].

use std::{collections::BTreeMap, future::Future, time::Duration};

use anyhow::{Context, bail};
use etcd_client::{Client, DeleteOptions, EventType, GetOptions, WatchOptions, WatchStream};
use serde::Deserialize;
use tokio::time::{Instant, timeout, timeout_at};

use super::{
    agent::ENDPOINT,
    topology::{CONFIG, HEALTH, LABEL, STATUS},
};

/// How long anything may take; usually it is milliseconds.
const PATIENCE: Duration = Duration::from_secs(10);

/// The members of a status that the demo shows.
#[derive(Deserialize, Default, Debug)]
#[serde(default)]
pub struct ValueStatus {
    /// `CONFIGURED`, `PENDING`, …
    pub state: String,
    /// What the agent last did for the value; empty: nothing since it started.
    pub last_operation: String,
    /// Why it is not configured, for people.
    pub message: String,
    /// Store revision that the status answers, a decimal text.
    pub mod_revision: String,
}

struct Entry {
    text: String,
    /// Revision of the store in which it was written.
    revision: i64,
}

/// See the [module documentation](self).
pub struct Observer {
    client: Client,
    watch: WatchStream,
    keys: BTreeMap<String, Entry>,
    /// The newest revision that was seen.
    pub revision: i64,
}

impl Observer {
    /// Reads all keys of the agent and watches them from there.
    pub async fn connect() -> anyhow::Result<Self> {
        let client = Client::connect([ENDPOINT], None)
            .await
            .context("cannot connect to the agent's store")?;
        let prefix = format!("/vnf-agent/{LABEL}/");
        let options = GetOptions::new().with_prefix();
        let mut kv = client.kv_client();
        let listed = answer("all keys of the agent", kv.get(prefix.as_str(), Some(options))).await?;
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

    /// Puts a desired value; answers its revision.
    pub async fn put(&self, key: &str, value: &str) -> anyhow::Result<i64> {
        let key = format!("{CONFIG}{key}");
        let mut kv = self.client.kv_client();
        let response = answer(&format!("the put of {key}"), kv.put(key.as_str(), value, None)).await?;
        Ok(response.header().map_or(0, etcd_client::ResponseHeader::revision))
    }

    /// Deletes all desired values in one request.
    pub async fn delete_all(&self) -> anyhow::Result<()> {
        let options = DeleteOptions::new().with_prefix();
        let mut kv = self.client.kv_client();
        answer(&format!("the deletion of {CONFIG}"), kv.delete(CONFIG, Some(options))).await?;
        Ok(())
    }

    /// Waits for events until `condition` answers something.
    ///
    /// # Errors
    /// It still answers nothing after [`PATIENCE`]: tells what was expected and all statuses there are.
    pub async fn until<T>(&mut self, expected: &str, condition: impl Fn(&Observer) -> Option<T>) -> anyhow::Result<T> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some(answer) = condition(self) {
                return Ok(answer);
            }
            let Ok(message) = timeout_at(deadline, self.watch.message()).await else {
                bail!("expected within {} s: {expected}\nseen:\n{}", PATIENCE.as_secs(), self.describe());
            };
            let Some(response) = message.context("the watch on the agent's store broke")? else {
                bail!("expected: {expected}\nseen: the agent's store ended the watch");
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

    /// Waits until the agent says that it has acted upon all that was desired when it started. What an agent before it said, up to
    /// this revision, does not count.
    pub async fn until_in_sync(&mut self, since: i64) -> anyhow::Result<()> {
        self.until(&format!("the agent is in sync ({HEALTH} says OK)"), |observer| {
            let entry = observer.keys.get(HEALTH).filter(|entry| entry.revision > since)?;
            let health: serde_json::Value = serde_json::from_str(&entry.text).ok()?;
            (health["state"] == "OK").then_some(())
        })
        .await
    }

    /// The status of a value, if it answers this revision.
    pub fn status(&self, key: &str, revision: i64) -> Option<ValueStatus> {
        let status: ValueStatus = serde_json::from_str(&self.keys.get(&format!("{STATUS}{key}"))?.text).ok()?;
        (status.mod_revision.parse() == Ok(revision)).then_some(status)
    }

    /// When the status of a value was written, as a revision of the store.
    pub fn status_revision(&self, key: &str) -> Option<i64> {
        Some(self.keys.get(&format!("{STATUS}{key}"))?.revision)
    }

    /// A number in a published value.
    pub fn number(&self, key: &str, member: &str) -> Option<u64> {
        let value: serde_json::Value = serde_json::from_str(&self.keys.get(key)?.text).ok()?;
        value[member].as_u64()
    }

    /// Whether nothing is published below this key.
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

/// The store's answer to a request; a store that cannot accept connections would never give one.
async fn answer<T>(expected: &str, request: impl Future<Output = Result<T, etcd_client::Error>>) -> anyhow::Result<T> {
    match timeout(PATIENCE, request).await {
        Ok(answer) => answer.with_context(|| format!("expected of the agent's store at {ENDPOINT}: {expected}")),
        Err(_) => bail!(
            "expected of the agent's store at {ENDPOINT} within {} s: {expected}\nseen: no answer",
            PATIENCE.as_secs()
        ),
    }
}
