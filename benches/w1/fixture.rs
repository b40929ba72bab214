//! Benchmark fixture: starts the store and the measured agents, and puts desired values. See [`Fixture`].

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

/// Number of puts in each transaction of [`Fixture::fill`].
const TRANSACTION: usize = 100;
/// Maximum number of concurrent put requests of [`Fixture::put_each`].
const IN_FLIGHT: usize = 128;

/// An etcd server that stores the desired values for all measured agents.
pub struct Fixture {
    /// The running etcd server.
    pub store: Store,
    /// Docker daemon address that is passed to the agents.
    pub docker_host: String,
}

impl Fixture {
    /// Starts an empty etcd.
    pub async fn new() -> Self {
        // The benchmark would exceed etcd's default storage quota within an hour.
        let store = Store::start_etcd(&["--quota-backend-bytes=8589934592"]).await;
        Self {
            store,
            docker_host: "unix:///run/docker.sock".to_owned(),
        }
    }

    /// Puts values in large transactions, to fill the store before the agent starts.
    pub async fn fill(&self, entries: &BTreeMap<String, String>) {
        let entries: Vec<_> = entries.iter().collect();
        for part in entries.chunks(TRANSACTION) {
            let put = |(key, value): &(&String, &String)| Change::Put((*key).clone(), (*value).clone().into_bytes());
            self.store.transact(part.iter().map(put).collect()).await;
        }
    }

    /// Puts each value in a separate request, with many requests in flight. Returns how long that took.
    pub async fn put_each(&self, entries: &BTreeMap<String, String>) -> Duration {
        let start = Instant::now();
        let client = self.store.client();
        stream::iter(entries)
            .for_each_concurrent(IN_FLIGHT, |(key, value)| {
                let mut client = client.kv_client();
                async move {
                    let put = client.put(key.as_str(), value.as_str(), None::<PutOptions>).await;
                    put.expect("put a value");
                }
            })
            .await;
        start.elapsed()
    }

    /// Deletes all keys of the measured agent, including the keys that the agent has published.
    pub async fn empty(&self) {
        self.delete(&format!("/vnf-agent/{LABEL}/")).await;
    }

    /// Deletes all keys with this prefix.
    pub async fn delete(&self, prefix: &str) {
        let options = DeleteOptions::new().with_prefix();
        let deleted = self.store.client().kv_client().delete(prefix, Some(options)).await;
        deleted.expect("delete the keys");
    }

    /// Starts an agent with the log filter from the environment variable `W1_LOG`.
    pub fn launch(&self) -> Agent {
        let filter = std::env::var("W1_LOG").unwrap_or_else(|_| "info".to_owned());
        Agent::start(LABEL, StoreKind::Etcd, self.store.endpoint(), &self.docker_host, &filter, &[])
    }

    /// Starts watching all value statuses that the agent publishes.
    pub async fn follow(&self) -> Statuses {
        self.follow_below("").await
    }

    /// Starts watching only the value statuses whose key starts with `config-status/{part}`.
    pub async fn follow_below(&self, part: &str) -> Statuses {
        Statuses::follow(self.store.client(), part).await
    }
}
