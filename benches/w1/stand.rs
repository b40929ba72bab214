//! A store, and agents that are started and stopped before it.
//!
//! Owns the order of that, and the writing of desired values. Start reading at [`Stand`].

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use etcd_client::{DeleteOptions, PutOptions};
use futures::{StreamExt, stream};

use crate::{
    network::LABEL,
    statuses::Statuses,
    support::{
        agent::Agent,
        store::{Change, Store, StoreKind},
    },
};

/// Operations of one transaction when many values are put at once.
const TRANSACTION: usize = 100;
/// Puts that a client has under way at the same time.
const IN_FLIGHT: usize = 128;

/// See the [module documentation](self).
pub struct Stand {
    /// The store.
    pub store: Store,
    /// Where the agent finds Docker, if it does.
    pub docker_host: String,
}

impl Stand {
    /// With an empty etcd.
    pub async fn new() -> Self {
        // What the benchmark writes in an hour must not be the end of it.
        let store = Store::start_etcd(&["--quota-backend-bytes=8589934592"]).await;
        Self {
            store,
            docker_host: "unix:///run/docker.sock".to_owned(),
        }
    }

    /// Puts values in large transactions, as they would be there when an agent starts.
    pub async fn fill(&self, entries: &BTreeMap<String, String>) {
        let entries: Vec<_> = entries.iter().collect();
        for part in entries.chunks(TRANSACTION) {
            let put = |(key, value): &(&String, &String)| Change::Put((*key).clone(), (*value).clone().into_bytes());
            self.store.transact(part.iter().map(put).collect()).await;
        }
    }

    /// Puts values one by one, with many puts under way; returns how long that took.
    pub async fn put_each(&self, entries: &BTreeMap<String, String>) -> Duration {
        let start = Instant::now();
        let client = self.store.client();
        stream::iter(entries)
            .for_each_concurrent(IN_FLIGHT, |(key, value)| {
                let mut client = client.kv_client();
                async move {
                    let put = client.put(key.as_str(), value.as_str(), None::<PutOptions>).await;
                    put.expect("the store takes a value");
                }
            })
            .await;
        start.elapsed()
    }

    /// Deletes all values of the measured agent, its own included.
    pub async fn empty(&self) {
        self.delete(&format!("/vnf-agent/{LABEL}/")).await;
    }

    /// Deletes all keys with this prefix.
    pub async fn delete(&self, prefix: &str) {
        let options = DeleteOptions::new().with_prefix();
        let deleted = self.store.client().kv_client().delete(prefix, Some(options)).await;
        deleted.expect("the store deletes");
    }

    /// Starts an agent.
    pub fn launch(&self) -> Agent {
        let filter = std::env::var("W1_LOG").unwrap_or_else(|_| "info".to_owned());
        Agent::start(LABEL, StoreKind::Etcd, self.store.endpoint(), &self.docker_host, &filter, &[])
    }

    /// A watch on what the agent publishes from now on.
    pub async fn follow(&self) -> Statuses {
        self.follow_below("").await
    }

    /// As [`Self::follow`], of the statuses below this part of `config-status/`.
    pub async fn follow_below(&self, part: &str) -> Statuses {
        Statuses::follow(self.store.client(), part).await
    }
}
