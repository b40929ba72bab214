//! Tests the embedded store through the clients etcd-client and `etcdctl`, and compares it with a real etcd if one is
//! installed.
//!
//! If `etcd` or `etcdctl` is missing, tests that need it print a message and pass, unless `REQUIRE_ETCD` is set. `differential`
//! compares the stores with random requests.

mod corner_cases;
mod differential;
mod durability;
mod etcdctl;
mod leases;
mod limits;
mod real_etcd;
mod services;
mod starting;
mod throughput;
mod watches;

use std::time::Duration;

use etcd_client::{Client, WatchResponse, WatchStream};
use etcd_embedded::{Options, Retention, Store, StoreLimits};
use tempfile::TempDir;

/// Time limit for a single test step.
const STEP_MAX: Duration = Duration::from_secs(30);

/// A store on a free loopback port, with its directory and a client.
struct Fixture {
    store: Store,
    client: Client,
    directory: TempDir,
}

async fn fixture() -> Fixture {
    fixture_with(Retention::default()).await
}

async fn fixture_with(retention: Retention) -> Fixture {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let store = open(&directory, retention);
    let client = connect(store.local_addr()).await;
    Fixture { store, client, directory }
}

/// Starts a store with these limits.
async fn fixture_limited(limits: StoreLimits) -> Fixture {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let store = open_limited(&directory, limits);
    let client = connect(store.local_addr()).await;
    Fixture { store, client, directory }
}

fn open_limited(directory: &TempDir, limits: StoreLimits) -> Store {
    Store::start(Options {
        listen: "127.0.0.1:0".parse().expect("an address"),
        data_dir: directory.path().to_path_buf(),
        limits,
    })
    .expect("start the store")
}

fn open(directory: &TempDir, retention: Retention) -> Store {
    let listen = "127.0.0.1:0".parse().expect("an address");
    Store::start_with(
        Options {
            listen,
            data_dir: directory.path().to_path_buf(),
            limits: StoreLimits::default(),
        },
        retention,
    )
    .expect("start the store")
}

async fn connect(address: std::net::SocketAddr) -> Client {
    Client::connect([address.to_string()], None)
        .await
        .expect("connect to the store by its address")
}

/// Awaits a step, and panics after the time limit.
async fn within<T>(step: impl Future<Output = T>) -> T {
    tokio::time::timeout(STEP_MAX, step).await.expect("the step must end in time")
}

async fn next(stream: &mut WatchStream) -> WatchResponse {
    within(stream.message())
        .await
        .expect("the watch goes on")
        .expect("the watch is not ended")
}

/// Returns true if a program is installed. Otherwise, prints a message and returns false, or panics if `REQUIRE_ETCD` is set.
fn installed(program: &str) -> bool {
    let found =
        std::env::var_os("PATH").is_some_and(|path| std::env::split_paths(&path).any(|directory| directory.join(program).is_file()));
    assert!(
        found || std::env::var_os("REQUIRE_ETCD").is_none(),
        "REQUIRE_ETCD is set, but {program} is not installed"
    );
    if !found {
        eprintln!("SKIPPED: {program} is not installed");
    }
    found
}
