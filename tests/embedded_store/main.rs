//! The embedded store seen through its clients: etcd-client and etcdctl, side by side with a real etcd where one is installed.
//!
//! Start reading at `differential`. Tests that need `etcd` or `etcdctl` say so loudly and pass when it is missing, unless
//! `REQUIRE_ETCD` is set.

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

/// No single step of a test may take longer.
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

/// A store with limits of its own.
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
    .expect("the store starts")
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
    .expect("the store starts")
}

async fn connect(address: std::net::SocketAddr) -> Client {
    Client::connect([address.to_string()], None)
        .await
        .expect("an address to connect to")
}

/// Awaits with the bound of a step.
async fn within<T>(step: impl Future<Output = T>) -> T {
    tokio::time::timeout(STEP_MAX, step).await.expect("the step ends in time")
}

async fn next(stream: &mut WatchStream) -> WatchResponse {
    within(stream.message())
        .await
        .expect("the watch goes on")
        .expect("the watch is not ended")
}

/// Whether a program is installed; complains when not.
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
