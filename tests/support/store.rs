//! The store a scenario runs against, and a client that writes to it.
//!
//! Owns the etcd process (when the scenario uses a real one) and the writes of desired values; must never write below the
//! agent's own status keys. Start reading at [`Store`].

use std::{future::Future, time::Duration};

use etcd_client::{Client, Compare, DeleteOptions, Error, GetOptions, Txn, TxnOp};

use super::{command, process::Process};

/// Where either store listens, in the network namespace of the scenario.
pub const ENDPOINT: &str = "127.0.0.1:2379";

/// How long a write may wait for a store that is being restarted.
const RESTART_PATIENCE: Duration = Duration::from_secs(20);

/// Which store the agent uses.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum StoreKind {
    /// etcd of the distribution, as a process of its own.
    Etcd,
    /// The agent's embedded store; it is up only while the agent is.
    Embedded,
}

/// One write of a transaction.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Change {
    /// Put this value under this full key.
    Put(String, Vec<u8>),
    /// Delete this full key.
    Delete(String),
}

/// The store and a connection to it.
pub struct Store {
    kind: StoreKind,
    client: Client,
    etcd: Option<Process>,
}

impl Store {
    /// Starts the store, unless the agent brings it along.
    pub async fn start(kind: StoreKind) -> Self {
        let client = connect(ENDPOINT).await;
        let mut store = Self { kind, client, etcd: None };
        if kind == StoreKind::Etcd {
            store.start_etcd().await;
        }
        store
    }

    /// Which store this is.
    pub fn kind(&self) -> StoreKind {
        self.kind
    }

    /// Starts etcd on its data directory and waits until it answers.
    pub async fn start_etcd(&mut self) {
        assert_eq!(self.kind, StoreKind::Etcd, "only a real etcd is a process of its own");
        let url = format!("http://{ENDPOINT}");
        let arguments = [
            "--data-dir",
            "/run/live/etcd",
            "--listen-client-urls",
            &url,
            "--advertise-client-urls",
            &url,
            "--log-level",
            "error",
        ];
        self.etcd = Some(Process::start("etcd", &arguments, "/run/live/etcd.log"));
        self.revision().await;
    }

    /// Ends etcd as a crash would, with SIGKILL.
    pub async fn kill_etcd(&mut self) {
        self.etcd.take().expect("etcd runs").kill().await;
    }

    /// A client of its own, for a watch.
    pub fn client(&self) -> Client {
        self.client.clone()
    }

    /// The current revision of the store; waits for a store that is being restarted.
    pub async fn revision(&self) -> i64 {
        let client = self.client.clone();
        let response = patiently(|| {
            let mut kv = client.kv_client();
            async move { kv.get("revision", Some(GetOptions::new().with_count_only())).await }
        });
        response.await.header().map_or(0, |header| header.revision())
    }

    /// Puts a value and returns the revision; waits for a store that is being restarted.
    pub async fn put(&self, key: &str, value: impl Into<Vec<u8>>) -> i64 {
        self.transact(vec![Change::Put(key.to_owned(), value.into())]).await
    }

    /// Deletes a key and returns the revision.
    pub async fn delete(&self, key: &str) -> i64 {
        self.transact(vec![Change::Delete(key.to_owned())]).await
    }

    /// Deletes all keys with this prefix in one request.
    pub async fn delete_prefix(&self, prefix: &str) -> i64 {
        let client = self.client.clone();
        let response = patiently(|| {
            let mut kv = client.kv_client();
            async move { kv.delete(prefix, Some(DeleteOptions::new().with_prefix())).await }
        });
        response.await.header().map_or(0, |header| header.revision())
    }

    /// All changes in one transaction; returns its revision.
    pub async fn transact(&self, changes: Vec<Change>) -> i64 {
        let operations: Vec<TxnOp> = changes
            .into_iter()
            .map(|change| match change {
                Change::Put(key, value) => TxnOp::put(key, value, None),
                Change::Delete(key) => TxnOp::delete(key, None),
            })
            .collect();
        let client = self.client.clone();
        let response = patiently(|| {
            let mut kv = client.kv_client();
            let transaction = Txn::new().when(Vec::<Compare>::new()).and_then(operations.clone());
            async move { kv.txn(transaction).await }
        });
        response.await.header().map_or(0, |header| header.revision())
    }

    /// The value under a full key.
    pub async fn get(&self, key: &str) -> Option<Vec<u8>> {
        let client = self.client.clone();
        let response = patiently(|| {
            let mut kv = client.kv_client();
            async move { kv.get(key, None).await }
        });
        response.await.kvs().first().map(|entry| entry.value().to_vec())
    }

    /// Compacts the history up to the current revision.
    pub async fn compact(&self) {
        let revision = self.revision().await;
        self.client
            .kv_client()
            .compact(revision, None)
            .await
            .unwrap_or_else(|error| panic!("compacting at revision {revision}: {error}"));
    }
}

/// `etcdctl` with these arguments, against the scenario's store; must succeed.
pub fn etcdctl(arguments: &[&str]) -> String {
    let mut words = vec!["ETCDCTL_API=3", "etcdctl", "--endpoints", ENDPOINT];
    words.extend_from_slice(arguments);
    command::run("env", &words)
}

/// A client; connecting is lazy, so this works before the store is up.
pub async fn connect(endpoint: &str) -> Client {
    Client::connect([endpoint], None)
        .await
        .unwrap_or_else(|error| panic!("an etcd client for {endpoint}: {error}"))
}

/// Whether an error means that the store is not there at the moment.
fn is_absence(error: &Error) -> bool {
    matches!(error, Error::TransportError(_) | Error::IoError(_))
        || matches!(error, Error::GRpcStatus(status) if matches!(status.code(), tonic::Code::Unavailable | tonic::Code::Unknown | tonic::Code::Cancelled))
}

/// Repeats a request while the store is not there. Every request of the tests has the same effect when it arrives twice.
async fn patiently<T, F, R>(request: F) -> T
where
    F: Fn() -> R,
    R: Future<Output = Result<T, Error>>,
{
    let deadline = tokio::time::Instant::now() + RESTART_PATIENCE;
    loop {
        match request().await {
            Ok(response) => return response,
            Err(error) if is_absence(&error) && tokio::time::Instant::now() < deadline => {
                // There is no event for "a server listens now", only another try.
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
            Err(error) => panic!("the store at {ENDPOINT} refused a request of the test: {error}"),
        }
    }
}
