//! Tests that a kill at any moment loses no acknowledged write.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};

use etcd_client::{PutOptions, Txn, TxnOp};
use etcd_embedded::{Options, Retention, Store, StoreLimits};
use testbed::random::Random;

use super::{connect, open};

/// Environment variable that passes the data directory to the child process that runs a server.
const DIRECTORY: &str = "EMBEDDED_STORE_TEST_DIRECTORY";
const WRITERS: usize = 16;
const KILLS: usize = 5;

/// Acknowledged writes. Maps each key to the number that was written and the revision of the write.
type Acknowledged = BTreeMap<String, (usize, i64)>;

/// Runs a server until it is killed. Another test starts it in a child process.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "runs in the child process of another test"]
async fn serve_until_killed() {
    let directory = std::env::var_os(DIRECTORY).expect("the variable is set by the other test");
    let listen = "127.0.0.1:0".parse().expect("an address");
    let retention = Retention {
        revisions: 200,
        ..Retention::default()
    };
    let store = Store::start_with(
        Options {
            listen,
            data_dir: directory.into(),
            limits: StoreLimits::default(),
        },
        retention,
    )
    .expect("start the store");
    println!("serving on {}", store.local_addr());
    std::future::pending::<()>().await;
}

/// A server in a separate process, which is killed on drop.
struct Server {
    process: Child,
    address: SocketAddr,
}

impl Server {
    fn start(directory: &Path) -> Server {
        let mut process = Command::new(std::env::current_exe().expect("get the path of the test binary"))
            .args(["--exact", "durability::serve_until_killed", "--ignored", "--nocapture"])
            .env(DIRECTORY, directory)
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("start the child");
        let output = process.stdout.take().expect("a pipe");
        let mut server = Server {
            process,
            address: ([127, 0, 0, 1], 0).into(),
        };
        let mut lines = BufReader::new(output)
            .lines()
            .map(|line| line.expect("read the output of the child"));
        let address = lines.find_map(|line| Some(line.split_once("serving on ")?.1.to_owned()));
        server.address = address.expect("the child serves").parse().expect("an address");
        server
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.process.kill().expect("kill the child");
        self.process.wait().expect("the child ends");
    }
}

/// Writes until the server is killed, and records the acknowledged writes.
async fn write_until_killed(address: SocketAddr, writer: usize, acknowledged: Arc<Mutex<Acknowledged>>, first: usize) {
    let mut client = connect(address).await;
    let lease = client.lease_grant(600, None).await.map_or(0, |lease| lease.id());
    for number in first.. {
        let keys = [format!("d/{writer}/{}", number % 50), format!("pair/{writer}/{}", number % 50)];
        let puts = keys
            .each_ref()
            .map(|key| TxnOp::put(key.as_str(), number.to_string(), Some(PutOptions::new().with_lease(lease))));
        let Ok(response) = client.txn(Txn::new().and_then(puts)).await else {
            return;
        };
        let revision = response.header().expect("a header").revision();
        let mut acknowledged = acknowledged.lock().expect("nobody panicked");
        for key in keys {
            acknowledged.insert(key, (number, revision));
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn acknowledged_writes_survive_a_kill_at_any_moment() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let acknowledged = Arc::new(Mutex::new(Acknowledged::new()));
    let mut random = Random::new(7);
    for round in 0..KILLS {
        let server = Server::start(directory.path());
        let mut writers = tokio::task::JoinSet::new();
        for writer in 0..WRITERS {
            writers.spawn(write_until_killed(
                server.address,
                writer,
                Arc::clone(&acknowledged),
                round * 1_000_000,
            ));
        }
        // Wait for a random time, so that the kill comes at a different moment in each round.
        tokio::time::sleep(std::time::Duration::from_millis(100 + random.below(200) as u64)).await;
        drop(server);
        writers.join_all().await;
        let known = acknowledged.lock().expect("nobody panicked").clone();
        let news = known.values().filter(|(number, _)| *number >= round * 1_000_000);
        assert!(news.count() > 0, "nothing was acknowledged before kill {round}");
        check(&directory, &known).await;
    }
}

async fn check(directory: &tempfile::TempDir, acknowledged: &Acknowledged) {
    let store = open(directory, Retention::default());
    let mut client = connect(store.local_addr()).await;
    let response = client
        .get("", Some(etcd_client::GetOptions::new().with_all_keys()))
        .await
        .expect("an answer");
    let revision = response.header().expect("a header").revision();
    let found: BTreeMap<&str, (usize, i64)> = response
        .kvs()
        .iter()
        .map(|kv| {
            (
                kv.key_str().expect("text"),
                (kv.value_str().expect("text").parse().expect("a number"), kv.mod_revision()),
            )
        })
        .collect();
    for (key, expected) in acknowledged {
        let kept = found.get(key.as_str()).unwrap_or_else(|| panic!("{key} is lost"));
        // The last write may have been stored although its acknowledgement did not arrive.
        assert!(
            kept.0 >= expected.0 && kept.1 >= expected.1,
            "{key}: acknowledged {expected:?}, found {kept:?}"
        );
        assert!(kept.1 <= revision);
        let other = key.strip_prefix("d/").map(|rest| format!("pair/{rest}"));
        if let Some(other) = other {
            assert_eq!(found.get(other.as_str()), Some(kept), "transactions must be atomic");
        }
    }
    println!("{} keys acknowledged, all present at revision {revision}", acknowledged.len());
    store.shutdown().await;
}
