//! The store used by a test, and a client that writes desired values to it. See [`Store`].

use std::{future::Future, time::Duration};

use etcd_client::{Client, Compare, DeleteOptions, Error, GetOptions, Txn, TxnOp};

use super::{command, etcd::Etcd};

/// Address at which the embedded store listens in the test's network namespace.
pub const EMBEDDED_LISTEN: &str = "127.0.0.1:2379";

/// Time limit for a write to a store that is being restarted.
const RESTART_TIME_LIMIT: Duration = Duration::from_secs(20);

/// Kinds of stores that the agent can use.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum StoreKind {
    /// The distribution's etcd, as a separate process.
    Etcd,
    /// The agent's embedded store, which runs only while the agent runs.
    Embedded,
}

/// A write that is part of a transaction.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Change {
    /// Put this value under this full key.
    Put(String, Vec<u8>),
    /// Delete this full key.
    Delete(String),
}

/// The store of a test, and a client connected to it.
pub struct Store {
    kind: StoreKind,
    endpoint: String,
    client: Client,
    etcd: Option<Etcd>,
}

impl Store {
    /// Starts the store, unless it is embedded in the agent.
    pub async fn start(kind: StoreKind) -> Self {
        let etcd = match kind {
            StoreKind::Etcd => Some(Etcd::start().await),
            StoreKind::Embedded => None,
        };
        Self::connect(kind, etcd).await
    }

    /// Starts a real etcd with additional arguments.
    pub async fn start_etcd(arguments: &[&str]) -> Self {
        Self::connect(StoreKind::Etcd, Some(Etcd::start_with(arguments, None).await)).await
    }

    async fn connect(kind: StoreKind, etcd: Option<Etcd>) -> Self {
        let endpoint = etcd
            .as_ref()
            .map_or_else(|| EMBEDDED_LISTEN.to_owned(), |etcd| etcd.address().to_string());
        let client = Client::connect([&endpoint], None)
            .await
            .unwrap_or_else(|error| panic!("an etcd client for {endpoint}: {error}"));
        Self {
            kind,
            endpoint,
            client,
            etcd,
        }
    }

    /// Returns the address at which the store listens.
    pub fn endpoint(&self) -> &str {
        &self.endpoint
    }

    /// Returns the kind of this store.
    pub fn kind(&self) -> StoreKind {
        self.kind
    }

    /// Returns the etcd process. Panics for the embedded store, which has none.
    pub fn etcd(&mut self) -> &mut Etcd {
        self.etcd.as_mut().expect("only a real etcd has a process")
    }

    /// Returns a client that a test can use to watch keys.
    pub fn client(&self) -> Client {
        self.client.clone()
    }

    /// Returns the current revision of the store. Waits for a store that is being restarted.
    pub async fn revision(&self) -> i64 {
        let client = self.client.clone();
        let response = patiently(|| {
            let mut kv = client.kv_client();
            async move { kv.get("revision", Some(GetOptions::new().with_count_only())).await }
        });
        response.await.header().map_or(0, |header| header.revision())
    }

    /// Puts a value and returns the revision. Waits for a store that is being restarted.
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

    /// Makes all changes in one transaction, and returns its revision.
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

    /// Returns the value under a full key.
    pub async fn get(&self, key: &str) -> Option<Vec<u8>> {
        let client = self.client.clone();
        let response = patiently(|| {
            let mut kv = client.kv_client();
            async move { kv.get(key, None).await }
        });
        response.await.kvs().first().map(|entry| entry.value().to_vec())
    }

    /// Runs `etcdctl` with these arguments. Panics if the command fails.
    pub fn etcdctl(&self, arguments: &[&str]) -> String {
        let mut words = vec!["ETCDCTL_API=3", "etcdctl", "--endpoints", &self.endpoint];
        words.extend_from_slice(arguments);
        command::run("env", &words)
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

/// Returns true if an error means that the store is unavailable at the moment.
fn is_absence(error: &Error) -> bool {
    matches!(error, Error::TransportError(_) | Error::IoError(_))
        || matches!(error, Error::GRpcStatus(status) if matches!(status.code(), tonic::Code::Unavailable | tonic::Code::Unknown | tonic::Code::Cancelled))
}

/// Repeats a request while the store is unavailable. Every request of the tests is idempotent.
async fn patiently<T, F, R>(request: F) -> T
where
    F: Fn() -> R,
    R: Future<Output = Result<T, Error>>,
{
    let deadline = tokio::time::Instant::now() + RESTART_TIME_LIMIT;
    loop {
        match request().await {
            Ok(response) => return response,
            Err(error) if is_absence(&error) && tokio::time::Instant::now() < deadline => {
                // No event shows that the server is listening, so try again after a pause.
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
            Err(error) => panic!("the store rejected a request of the test: {error}"),
        }
    }
}
