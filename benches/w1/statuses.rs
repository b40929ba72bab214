//! What the agent publishes, counted with as little work as possible: who looks shares the processors with who is looked at.
//!
//! Owns a watch on the value statuses and the health of the agent. Must never parse a value status. Start reading at [`Statuses::follow`].

use std::{
    collections::HashMap,
    time::{Duration, Instant},
};

use etcd_client::{Client, EventType, GetOptions, WatchOptions, WatchResponse, WatchStream};
use tokio::{sync::watch, task::JoinHandle};

use crate::network::LABEL;

/// How long the agent may take for anything.
const PATIENCE: Duration = Duration::from_secs(300);

/// How far the agent has come.
#[derive(Clone, Copy, Debug)]
pub struct Progress {
    /// Values with a status, as far as it was published since the watch began.
    pub present: usize,
    /// Of these, the CONFIGURED ones.
    pub configured: usize,
    /// Statuses published since the watch began that tell of an operation.
    pub operated: usize,
    /// When the last status was heard of.
    pub at: Instant,
    /// When the agent said that it is in order.
    pub healthy: Option<Instant>,
}

/// A running watch.
pub struct Statuses {
    progress: watch::Receiver<Progress>,
    task: JoinHandle<()>,
}

impl Statuses {
    /// Watches the statuses below `config-status/` and `part` from now on. Those that are there already count as present, not as CONFIGURED.
    pub async fn follow(client: Client, part: &str) -> Self {
        let prefix = format!("/vnf-agent/{LABEL}/config-status/{part}");
        let health = format!("/vnf-agent/{LABEL}/check/status/v1/agent");
        let all = client
            .kv_client()
            .get(prefix.as_str(), Some(GetOptions::new().with_prefix().with_keys_only()))
            .await
            .expect("the store answers");
        let next = all.header().map_or(0, |header| header.revision()) + 1;
        let from = WatchOptions::new().with_start_revision(next);
        let mut states: HashMap<Vec<u8>, bool> = all.kvs().iter().map(|entry| (entry.key().to_vec(), false)).collect();
        let mut watch_client = client.watch_client();
        let statuses = watch_client.watch(prefix, Some(from.clone().with_prefix())).await;
        let mut statuses = statuses.expect("the store takes a watch");
        let mut health = watch_client.watch(health, Some(from)).await.expect("the store takes a watch");
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
                        // The parts of the agent have states, too.
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

    /// How far the agent has come by now.
    pub fn progress(&self) -> Progress {
        *self.progress.borrow()
    }

    /// Waits until this holds.
    pub async fn until(&self, what: &str, mut condition: impl FnMut(&Progress) -> bool) -> Progress {
        let mut progress = self.progress.clone();
        match tokio::time::timeout(PATIENCE, progress.wait_for(|progress| condition(progress))).await {
            Ok(Ok(progress)) => *progress,
            Ok(Err(_)) => panic!("the watch on the statuses ended while waiting until {what}"),
            Err(_) => panic!("after {PATIENCE:?} not yet: {what}; it is {:?}", *self.progress.borrow()),
        }
    }

    /// Waits until so many values are CONFIGURED by statuses that were published since the watch began.
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
    stream.message().await.expect("the watch goes on").expect("the watch goes on")
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

/// Whether a text stands in a value.
fn contains(value: &[u8], text: &[u8]) -> bool {
    value.windows(text.len()).any(|window| window == text)
}
