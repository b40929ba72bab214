//! Live test of load on the REST API. The load must not delay the store or the agent, and no lease or key may be lost.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use etcd_client::{EventType, WatchFilterType, WatchOptions};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    sync::watch,
    task::JoinSet,
};

use crate::{
    on_one_store,
    support::{
        bench::Bench,
        config::{Config, Interface, Reference},
    },
};

/// Number of concurrent clients. Each client sends its next request as soon as it has received a response.
const CLIENTS: usize = 128;
/// Number of veth pairs that are put while the API is under load. Each end is put separately.
const PAIRS: usize = 40;

/// Reads the API's largest document once. Returns true if it arrived completely.
async fn read_document() -> std::io::Result<bool> {
    let mut stream = TcpStream::connect("127.0.0.1:9191").await?;
    stream
        .write_all(b"GET /openapi.json HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n")
        .await?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await?;
    let answer = String::from_utf8_lossy(&answer);
    let Some((head, body)) = answer.split_once("\r\n\r\n") else {
        return Ok(false);
    };
    Ok(head.starts_with("HTTP/1.1 200") && serde_json::from_str::<serde_json::Value>(body).is_ok())
}

/// Clients that send requests until `end` is called.
struct Load {
    answers: Arc<[AtomicUsize]>,
    stop: watch::Sender<bool>,
    clients: JoinSet<()>,
}

impl Load {
    fn start() -> Self {
        let answers: Arc<[AtomicUsize]> = (0..CLIENTS).map(|_| AtomicUsize::new(0)).collect();
        let (stop, stopped) = watch::channel(false);
        let mut clients = JoinSet::new();
        for client in 0..CLIENTS {
            let (answers, stopped) = (answers.clone(), stopped.clone());
            clients.spawn(async move {
                while !*stopped.borrow() {
                    // Count only complete documents, because a rejected connection causes no load.
                    match read_document().await {
                        Ok(true) => {
                            answers[client].fetch_add(1, Ordering::Relaxed);
                        }
                        // The agent does not notify a rejected client when a connection becomes free, so retry after a pause.
                        Ok(false) | Err(_) => tokio::time::sleep(Duration::from_millis(10)).await,
                    }
                }
            });
        }
        Load { answers, stop, clients }
    }

    /// Returns true if each client has received at least one complete document.
    fn reaches_all(&self) -> bool {
        self.answers.iter().all(|count| count.load(Ordering::Relaxed) > 0)
    }

    async fn end(mut self) -> usize {
        self.stop.send_replace(true);
        while self.clients.join_next().await.is_some() {}
        self.answers.iter().map(|count| count.load(Ordering::Relaxed)).sum()
    }
}

/// Returns the leases of all keys that the agent writes, without duplicates.
fn leases(bench: &Bench) -> Vec<String> {
    let prefix = format!("/vnf-agent/{}/", bench.label);
    let stored = bench.store.etcdctl(&["get", "--prefix", &prefix, "-w", "json"]);
    let stored: serde_json::Value = serde_json::from_str(&stored).expect("etcdctl prints JSON");
    let keys = stored["kvs"].as_array().expect("keys");
    let leased = keys.iter().filter(|key| key["lease"].is_number());
    let mut leases: Vec<String> = leased.map(|key| key["lease"].to_string()).collect();
    leases.sort();
    leases.dedup();
    leases
}

/// While 128 clients read the API's largest document, every put is stored and configured, no lease is lost, and no key of the
/// agent is deleted.
async fn clients_of_the_api_delay_nothing_and_lose_nothing(mut bench: Bench) {
    bench.start_agent().await;
    let first = Interface::veth("first", "first-peer", Reference::named("load-a"));
    let revision = bench.put(&first.key(), first.json().to_string()).await;
    bench.until_state(&first.key(), "PENDING").await;
    let before = leases(&bench);
    let prefix = format!("/vnf-agent/{}/", bench.label);
    let options = WatchOptions::new()
        .with_prefix()
        .with_filters([WatchFilterType::NoPut])
        .with_start_revision(revision + 1);
    let mut deletions = bench
        .store
        .client()
        .watch_client()
        .watch(prefix.as_str(), Some(options))
        .await
        .expect("open the watch");

    let load = Load::start();
    bench.until_true("each client has had an answer", || load.reaches_all()).await;
    let interfaces = (0..PAIRS).flat_map(|number| {
        let (one, two) = (format!("one{number}"), format!("two{number}"));
        [
            Interface::veth(&one, &two, Reference::named("load-a")),
            Interface::veth(&two, &one, Reference::named("load-b")),
        ]
    });
    let config = Config {
        interfaces: interfaces.collect(),
        ..Config::default()
    };
    let revisions = bench.put_each(&config).await;
    bench.until_configured(&revisions).await;
    println!("{} answers while {} values were put", load.end().await, revisions.len());

    assert_eq!(leases(&bench), before, "no lease may be lost");
    // The deletion of this key is the last event, so all earlier deletions have been received by then.
    bench.delete(&first.key()).await;
    let mut deleted = Vec::new();
    while !deleted.contains(&format!("config/{}", first.key())) {
        let answer = deletions.message().await.expect("read the watch").expect("the watch ended");
        assert!(!answer.canceled(), "the watch was cancelled");
        let events = answer.events().iter().filter(|event| event.event_type() == EventType::Delete);
        let keys = events.filter_map(|event| Some(String::from_utf8_lossy(event.kv()?.key()).into_owned()));
        deleted.extend(keys.map(|key| key.replacen(&prefix, "", 1)));
    }
    let lost: Vec<&String> = deleted.iter().filter(|key| !key.starts_with("config/")).collect();
    let own = format!("config-status/{}", first.key());
    assert!(lost.iter().all(|key| **key == own), "deleted: {lost:?}");
    bench.check(&config);
    bench.stop_agent().await;
}
on_one_store!(clients_of_the_api_delay_nothing_and_lose_nothing, Embedded, 180);
