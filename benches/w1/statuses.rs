//! Watches the agent's value statuses and health. The benchmark shares the CPUs with the agent, so statuses are counted
//! without being parsed.
//!
//! See [`Statuses::follow`].

use std::{
    collections::HashMap,
    time::{Duration, Instant},
};

use etcd_client::{Client, EventType, GetOptions, WatchOptions, WatchResponse, WatchStream};
use tokio::{sync::watch, task::JoinHandle};

use crate::network::LABEL;

/// Time limit for each wait.
const TIME_LIMIT: Duration = Duration::from_secs(300);

/// Progress of the agent, as seen in its published statuses.
#[derive(Clone, Copy, Debug)]
pub struct Progress {
    /// Number of values that currently have a status.
    pub present: usize,
    /// Number of values with CONFIGURED as their latest status. Statuses from before the start of the watch are ignored.
    pub configured: usize,
    /// Number of statuses that report an operation on their value. The count begins at the start of the watch.
    pub operated: usize,
    /// Time at which the last status arrived.
    pub at: Instant,
    /// Time of the agent's first report that it is healthy; `None` before this report.
    pub healthy: Option<Instant>,
}

/// A running watch of the agent's statuses and health. Dropping it stops the watch.
pub struct Statuses {
    progress: watch::Receiver<Progress>,
    task: JoinHandle<()>,
}

impl Statuses {
    /// Starts watching the statuses whose key starts with `config-status/{part}`.
    ///
    /// Statuses that already exist count as present, but not as CONFIGURED.
    pub async fn follow(client: Client, part: &str) -> Self {
        let prefix = format!("/vnf-agent/{LABEL}/config-status/{part}");
        let health = format!("/vnf-agent/{LABEL}/check/status/v1/agent");
        let all = client
            .kv_client()
            .get(prefix.as_str(), Some(GetOptions::new().with_prefix().with_keys_only()))
            .await
            .expect("read the statuses");
        let next = all.header().map_or(0, |header| header.revision()) + 1;
        let from = WatchOptions::new().with_start_revision(next);
        let mut states: HashMap<Vec<u8>, bool> = all.kvs().iter().map(|entry| (entry.key().to_vec(), false)).collect();
        // Do not limit the message size, because etcd sends all missed events to a slow watcher in a single message.
        let mut watch_client = client.watch_client().max_decoding_message_size(usize::MAX);
        let statuses = watch_client.watch(prefix, Some(from.clone().with_prefix())).await;
        let mut statuses = statuses.expect("watch the statuses");
        let mut health = watch_client.watch(health, Some(from)).await.expect("watch the health");
        let (sender, progress) = watch::channel(Progress {
            present: states.len(),
            configured: 0,
            operated: 0,
            at: Instant::now(),
            healthy: None,
        });
        let task = tokio::spawn(async move {
            loop {
                let mut next = *sender.borrow();
                tokio::select! {
                    response = message(&mut statuses) => {
                        take(&mut states, &response, &mut next);
                        next.at = Instant::now();
                    }
                    response = message(&mut health) => {
                        // The JSON also contains the states of the agent's components, so a text search is not enough.
                        let state = |value: &[u8]| serde_json::from_slice::<serde_json::Value>(value).unwrap_or_default()["state"].clone();
                        let fine = |value: &[u8]| state(value) == "OK";
                        if response.events().iter().filter_map(|event| event.kv()).any(|entry| fine(entry.value())) {
                            next.healthy.get_or_insert_with(Instant::now);
                        }
                    }
                }
                if sender.send(next).is_err() {
                    return;
                }
            }
        });
        Self { progress, task }
    }

    /// Returns the current progress.
    pub fn progress(&self) -> Progress {
        *self.progress.borrow()
    }

    /// Waits until `condition` returns true. `what` describes the condition in a panic message.
    pub async fn until(&self, what: &str, mut condition: impl FnMut(&Progress) -> bool) -> Progress {
        let mut progress = self.progress.clone();
        match tokio::time::timeout(TIME_LIMIT, progress.wait_for(|progress| condition(progress))).await {
            Ok(Ok(progress)) => *progress,
            Ok(Err(_)) => panic!("the watch on the statuses ended while waiting until {what}"),
            Err(_) => panic!(
                "timed out after {TIME_LIMIT:?} while waiting until {what}; progress: {:?}",
                *self.progress.borrow()
            ),
        }
    }

    /// Waits until `count` values have become CONFIGURED since the start of the watch.
    pub async fn until_configured(&self, count: usize) -> Progress {
        let what = format!("{count} values are CONFIGURED");
        self.until(&what, |progress| progress.configured == count).await
    }
}

impl Drop for Statuses {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn message(stream: &mut WatchStream) -> WatchResponse {
    stream.message().await.expect("read the watch").expect("the watch has not ended")
}

fn take(states: &mut HashMap<Vec<u8>, bool>, response: &WatchResponse, progress: &mut Progress) {
    for event in response.events() {
        let Some(entry) = event.kv() else { continue };
        let before = match event.event_type() {
            EventType::Put => {
                let configured = contains(entry.value(), b"\"state\":\"CONFIGURED\"");
                progress.configured += usize::from(configured);
                progress.operated += usize::from(contains(entry.value(), b"\"last_operation\""));
                states.insert(entry.key().to_vec(), configured)
            }
            EventType::Delete => states.remove(entry.key()),
        };
        progress.configured -= usize::from(before == Some(true));
    }
    progress.present = states.len();
}

/// Returns true if `value` contains `text`.
fn contains(value: &[u8], text: &[u8]) -> bool {
    value.windows(text.len()).any(|window| window == text)
}
