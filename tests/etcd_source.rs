//! Tests the etcd source with a real etcd. The events of the source must lead to the exact state of the store, even after faults
//! of the server and the network.
mod support;

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use etcd_client::{Client, CompactionOptions, Txn, TxnOp};
use netns_agent::{
    sources::etcd::{RawKey, SnapshotReason, Source, SourceEvent, SourceOptions},
    store::{Credentials, Password, StoreConfig, TlsFiles},
};
use support::etcd::{Certificates, CuttingProxy, Etcd, free_port};
use testbed::random::Random;
use tokio::time::timeout;

const PREFIX: &str = "/vnf-agent/vpp1/config/";
const LIMIT: Duration = Duration::from_secs(30);

/// Applies the events of a source as the engine would, and records their kinds.
struct Follower {
    source: Source,
    state: BTreeMap<RawKey, (i64, Vec<u8>)>,
    revision: i64,
    snapshots: Vec<SnapshotReason>,
    losses: Vec<String>,
    change_events: usize,
}

impl Follower {
    fn start(config: StoreConfig) -> Self {
        Self::start_with(config, SourceOptions::default())
    }

    fn start_with(config: StoreConfig, options: SourceOptions) -> Self {
        let source = Source::start_with(config, PREFIX.to_owned(), options).expect("a valid configuration");
        let (snapshots, losses) = (Vec::new(), Vec::new());
        Self {
            source,
            state: BTreeMap::new(),
            revision: 0,
            snapshots,
            losses,
            change_events: 0,
        }
    }

    async fn next(&mut self) -> SourceEvent {
        let event = timeout(LIMIT, self.source.recv())
            .await
            .expect("an event in time")
            .expect("the source runs");
        match &event {
            SourceEvent::Snapshot { revision, reason, items } => {
                self.snapshots.push(reason.clone());
                let replaced = matches!(reason, SnapshotReason::StoreReplaced { .. });
                assert!(
                    replaced || *revision >= self.revision,
                    "a snapshot of the same store must not go back"
                );
                self.revision = *revision;
                self.state = items
                    .iter()
                    .map(|item| (item.key.clone(), (item.mod_revision, item.value.clone())))
                    .collect();
            }
            SourceEvent::Changes { revision, items } => {
                assert!(*revision > self.revision, "revision {revision} after {}", self.revision);
                self.change_events += 1;
                for item in items {
                    assert!(item.mod_revision > self.revision, "{item:?} is not newer than {}", self.revision);
                    match &item.value {
                        Some(value) => self.state.insert(item.key.clone(), (item.mod_revision, value.clone())),
                        None => self.state.remove(&item.key),
                    };
                }
                self.revision = *revision;
            }
            SourceEvent::Disconnected { message } => self.losses.push(message.clone()),
            SourceEvent::Reconnected => {}
        }
        event
    }

    async fn until(&mut self, what: &str, mut reached: impl FnMut(&Self) -> bool) {
        let all = async {
            while !reached(self) {
                self.next().await;
            }
        };
        let reached_in_time = timeout(LIMIT, all).await.is_ok();
        assert!(
            reached_in_time,
            "not reached: {what}: snapshots {:?}, losses {:?}, {} keys",
            self.snapshots,
            self.losses,
            self.state.len()
        );
    }

    /// Follows events until the recorded state equals the content of the store.
    async fn converge(&mut self, client: &mut Client) {
        let options = etcd_client::GetOptions::new().with_prefix();
        let answer = client.get(PREFIX, Some(options)).await.expect("the store answers");
        let strip = |key: &[u8]| RawKey::from(key.strip_prefix(PREFIX.as_bytes()).expect("the prefix"));
        let want: BTreeMap<_, _> = answer
            .kvs()
            .iter()
            .map(|kv| (strip(kv.key()), (kv.mod_revision(), kv.value().to_vec())))
            .collect();
        self.until("the state of the store", |follower| {
            follower.state == want && !follower.snapshots.is_empty()
        })
        .await;
    }

    fn value(&self, key: &str) -> Option<&str> {
        self.state
            .get(&RawKey::from(key.as_bytes()))
            .map(|(_, value)| std::str::from_utf8(value).expect("text"))
    }
}

async fn put(client: &mut Client, key: &str, value: &str) {
    client.put(format!("{PREFIX}{key}"), value, None).await.expect("a put");
}

async fn delete(client: &mut Client, key: &str) {
    client.delete(format!("{PREFIX}{key}"), None).await.expect("a deletion");
}

#[tokio::test]
async fn initial_content_is_one_snapshot_and_a_transaction_is_one_event() {
    let etcd = Etcd::start().await;
    let mut client = etcd.client().await;
    for index in 0..2_500 {
        put(&mut client, &format!("key{index}"), "value").await;
    }
    client.put("/vnf-agent/vpp10/config/other", "foreign", None).await.expect("a put");
    client
        .put([PREFIX.as_bytes(), b"\xff\xfe"].concat(), "not UTF-8", None)
        .await
        .expect("a put");

    let mut follower = Follower::start(etcd.config());
    let SourceEvent::Snapshot { items, reason, .. } = follower.next().await else {
        panic!("the first event must be a snapshot")
    };
    assert_eq!(
        (items.len(), reason),
        (2_501, SnapshotReason::Initial),
        "pages must be joined and other keys omitted"
    );
    assert_eq!(items.last().expect("an item").key.as_bytes(), b"\xff\xfe");

    let operations: Vec<TxnOp> = (0..100).map(|index| TxnOp::put(format!("{PREFIX}txn{index}"), "x", None)).collect();
    client.txn(Txn::new().and_then(operations)).await.expect("a transaction");
    let SourceEvent::Changes { items, .. } = follower.next().await else {
        panic!("expected changes")
    };
    assert_eq!(items.len(), 100);
    assert!(items.iter().all(|item| item.mod_revision == items[0].mod_revision));

    delete(&mut client, "key0").await;
    let SourceEvent::Changes { items, .. } = follower.next().await else {
        panic!("expected changes")
    };
    assert_eq!((items[0].key.to_string(), items[0].value.clone()), ("key0".to_owned(), None));
    assert!(follower.losses.is_empty());
}

#[tokio::test]
async fn source_waits_for_an_unavailable_store() {
    let mut etcd = Etcd::start().await;
    etcd.kill();
    let mut follower = Follower::start(etcd.config());
    let SourceEvent::Disconnected { message } = follower.next().await else {
        panic!("the loss must be reported first")
    };
    assert!(message.contains(&etcd.url()) && message.contains("Connection refused"), "{message}");
    etcd.restart().await;
    assert_eq!(follower.next().await, SourceEvent::Reconnected);
    assert!(matches!(
        follower.next().await,
        SourceEvent::Snapshot {
            reason: SnapshotReason::Initial,
            ..
        }
    ));
}

#[tokio::test]
async fn watch_resumes_after_a_server_crash_without_a_snapshot() {
    let mut etcd = Etcd::start().await;
    let mut client = etcd.client().await;
    put(&mut client, "a", "1").await;
    let mut follower = Follower::start(etcd.config());
    follower.converge(&mut client).await;

    etcd.kill();
    follower.until("the loss", |f| !f.losses.is_empty()).await;
    etcd.restart().await;
    let mut client = etcd.client().await;
    put(&mut client, "a", "2").await;
    put(&mut client, "b", "1").await;
    follower.converge(&mut client).await;
    assert_eq!(follower.snapshots, [SnapshotReason::Initial]);
    assert_eq!((follower.value("a"), follower.value("b")), (Some("2"), Some("1")));
}

#[tokio::test]
async fn watch_resumes_after_a_frozen_server_continues() {
    let etcd = Etcd::start().await;
    let mut client = etcd.client().await;
    put(&mut client, "a", "1").await;
    let mut follower = Follower::start(etcd.config());
    follower.converge(&mut client).await;

    etcd.freeze();
    follower.until("the loss", |f| !f.losses.is_empty()).await;
    etcd.thaw();
    put(&mut client, "a", "2").await;
    follower.converge(&mut client).await;
    assert_eq!(follower.snapshots, [SnapshotReason::Initial], "the store must not be listed again");
}

#[tokio::test]
async fn changes_and_a_compaction_during_an_outage_lose_nothing() {
    let etcd = Etcd::start().await;
    let mut client = etcd.client().await;
    for key in ["stays", "changes", "goes"] {
        put(&mut client, key, "1").await;
    }
    let proxy = CuttingProxy::start(etcd.address()).await;
    let mut follower = Follower::start(StoreConfig::plain([proxy.url()]));
    follower.converge(&mut client).await;

    proxy.close();
    follower.until("the loss", |f| !f.losses.is_empty()).await;
    put(&mut client, "changes", "2").await;
    put(&mut client, "comes", "1").await;
    delete(&mut client, "goes").await;
    for index in 0..50 {
        put(&mut client, "changes", &index.to_string()).await;
    }
    let revision = client.get("x", None).await.expect("a read").header().expect("a header").revision();
    client
        .compact(revision, Some(CompactionOptions::new().with_physical()))
        .await
        .expect("a compaction");
    put(&mut client, "after", "1").await;
    proxy.open();

    follower.converge(&mut client).await;
    assert_eq!(
        (follower.value("changes"), follower.value("goes"), follower.value("comes")),
        (Some("49"), None, Some("1"))
    );
    assert_eq!(
        follower.snapshots,
        [SnapshotReason::Initial],
        "only the difference must be delivered"
    );
}

#[tokio::test]
async fn wiped_store_is_reported_even_if_it_was_refilled() {
    for refill in [0, 1, 3] {
        let mut etcd = Etcd::start().await;
        let mut client = etcd.client().await;
        for key in ["a", "b", "c"] {
            put(&mut client, key, "1").await;
        }
        let proxy = CuttingProxy::start(etcd.address()).await;
        let mut follower = Follower::start(StoreConfig::plain([proxy.url()]));
        follower.converge(&mut client).await;

        proxy.close();
        follower.until("the loss", |f| !f.losses.is_empty()).await;
        etcd.kill();
        etcd.wipe();
        etcd.restart().await;
        let mut client = etcd.client().await;
        // A `refill` of 3 gives the new store the same revisions as the old store, so only the values differ.
        for index in 0..refill {
            put(&mut client, ["a", "b", "c"][index % 3], "2").await;
        }
        proxy.open();
        follower.until("the new store", |f| f.snapshots.len() > 1).await;
        follower.converge(&mut client).await;
        assert!(
            matches!(follower.snapshots[1], SnapshotReason::StoreReplaced { .. }),
            "refill {refill}: {:?}",
            follower.snapshots
        );
    }
}

#[tokio::test]
async fn wiped_store_with_a_higher_revision_is_followed_exactly() {
    let mut etcd = Etcd::start().await;
    let mut client = etcd.client().await;
    for key in ["a", "b", "c"] {
        put(&mut client, key, "1").await;
    }
    let proxy = CuttingProxy::start(etcd.address()).await;
    let mut follower = Follower::start(StoreConfig::plain([proxy.url()]));
    follower.converge(&mut client).await;
    proxy.close();
    follower.until("the loss", |f| !f.losses.is_empty()).await;
    etcd.kill();
    etcd.wipe();
    etcd.restart().await;
    let mut client = etcd.client().await;
    for index in 0..40 {
        put(&mut client, ["a", "d"][index % 2], "2").await;
    }
    proxy.open();
    follower.converge(&mut client).await;
    assert_eq!((follower.value("b"), follower.value("d")), (None, Some("2")));
}

#[tokio::test]
async fn pings_of_an_idle_watch_do_not_close_the_connection() {
    let etcd = Etcd::start().await;
    let mut client = etcd.client().await;
    let mut follower = Follower::start(etcd.config());
    follower.converge(&mut client).await;
    // The source pings every six seconds, so this sleep covers two pings. etcd closes a connection if pings arrive too often.
    // With one ping per second, it closed the connection after four seconds.
    tokio::time::sleep(Duration::from_secs(14)).await;
    put(&mut client, "a", "1").await;
    follower.converge(&mut client).await;
    assert!(follower.losses.is_empty(), "{:?}", follower.losses);
}

#[tokio::test]
async fn burst_is_merged_for_a_slow_receiver() {
    let etcd = Etcd::start().await;
    let mut client = etcd.client().await;
    let mut follower = Follower::start(etcd.config());
    follower.converge(&mut client).await;

    let puts = (0..50).map(|worker| {
        let mut client = client.clone();
        tokio::spawn(async move {
            for index in 0..100 {
                put(
                    &mut client,
                    &format!("key{}", (worker * 7 + index) % 200),
                    &format!("{worker}-{index}"),
                )
                .await;
            }
        })
    });
    for task in puts.collect::<Vec<_>>() {
        task.await.expect("join a task of puts");
    }
    follower.converge(&mut client).await;
    assert_eq!(follower.state.len(), 200);
    assert!(
        follower.change_events <= 3,
        "{} events for 5,000 revisions that were not received",
        follower.change_events
    );
}

#[tokio::test]
async fn watch_behind_a_compaction_or_comparison_reaches_the_same_state() {
    let etcd = Etcd::start().await;
    let mut client = etcd.client().await;
    put(&mut client, "a", "1").await;
    let options = SourceOptions {
        compare_interval: Duration::from_millis(5),
        ..SourceOptions::default()
    };
    let mut follower = Follower::start_with(etcd.config(), options);
    // Compare continuously during the writes. No comparison may report a difference.
    for index in 0..500 {
        put(&mut client, &format!("key{}", index % 20), &index.to_string()).await;
        if index % 7 == 0 {
            delete(&mut client, &format!("key{}", index % 20)).await;
        }
    }
    let revision = client.get("x", None).await.expect("a read").header().expect("a header").revision();
    client.compact(revision, None).await.expect("a compaction");
    put(&mut client, "a", "2").await;
    follower.converge(&mut client).await;
    let unexpected = follower
        .snapshots
        .iter()
        .filter(|reason| **reason == SnapshotReason::Difference)
        .count();
    assert_eq!(unexpected, 0, "{:?}", follower.snapshots);
}

#[tokio::test]
async fn tls_requires_the_right_authority_and_a_client_certificate() {
    let etcd = Etcd::start_with(&[], Some(Certificates::create())).await;
    let certificates = etcd.certificates();
    let mut client = etcd.client().await;
    put(&mut client, "a", "1").await;
    let tls = TlsFiles {
        ca: certificates.ca(),
        identity: Some(certificates.client()),
    };
    let config = StoreConfig {
        tls: Some(tls.clone()),
        ..etcd.config()
    };
    Follower::start(config).converge(&mut client).await;

    let stranger = Certificates::create();
    for wrong in [
        TlsFiles {
            ca: stranger.ca(),
            ..tls.clone()
        },
        TlsFiles { identity: None, ..tls },
    ] {
        let mut follower = Follower::start(StoreConfig {
            tls: Some(wrong),
            ..etcd.config()
        });
        let event = follower.next().await;
        assert!(matches!(event, SourceEvent::Disconnected { .. }), "{event:?}");
    }
    let missing = TlsFiles {
        ca: "/nonexistent/ca.pem".into(),
        identity: None,
    };
    let refused = Source::start(
        StoreConfig {
            tls: Some(missing),
            ..etcd.config()
        },
        PREFIX.to_owned(),
    );
    let refused = refused.err().expect("the file does not exist").to_string();
    assert!(refused.contains("/nonexistent/ca.pem"), "{refused}");
}

#[tokio::test]
async fn restricted_user_continues_after_its_token_has_expired() {
    let etcd = Etcd::start_with(&["--auth-token-ttl=1"], None).await;
    let mut root = etcd.client().await;
    put(&mut root, "a", "1").await;
    etcd.enable_authentication("agent", "right", PREFIX).await;
    let mut root = etcd.client_of("root", "root").await;
    let credentials = |password: &str| {
        Some(Credentials {
            user: "agent".to_owned(),
            password: Password::new(password),
        })
    };

    let mut refused = Follower::start(StoreConfig {
        credentials: credentials("wrong"),
        ..etcd.config()
    });
    let SourceEvent::Disconnected { message } = refused.next().await else {
        panic!("a wrong password must be reported")
    };
    assert!(
        message.contains("authentication failed") && message.contains("--etcd-user"),
        "{message}"
    );
    assert!(!message.contains("wrong"), "the password must not be shown: {message}");

    // Compare so rarely that the comparison is the first call to etcd after the token has expired.
    let options = SourceOptions {
        compare_interval: Duration::from_millis(3_500),
        ..SourceOptions::default()
    };
    let config = StoreConfig {
        credentials: credentials("right"),
        ..etcd.config()
    };
    let mut follower = Follower::start_with(config, options);
    follower.converge(&mut root).await;
    // Wait until the token has expired. etcd does not tell clients that a token has expired, and checks for expired tokens once
    // per second.
    tokio::time::sleep(Duration::from_secs(4)).await;
    put(&mut root, "a", "2").await;
    follower.converge(&mut root).await;
    assert_eq!((follower.losses.len(), follower.snapshots.len()), (0, 1), "{:?}", follower.losses);
}

#[tokio::test]
async fn dead_endpoint_in_the_list_is_skipped() {
    let etcd = Etcd::start().await;
    let mut client = etcd.client().await;
    put(&mut client, "a", "1").await;
    let dead = format!("http://127.0.0.1:{}", free_port());
    let mut follower = Follower::start(StoreConfig::plain([dead.clone(), etcd.url(), dead]));
    follower.converge(&mut client).await;
    assert!(follower.losses.is_empty(), "{:?}", follower.losses);
}

#[tokio::test]
async fn next_endpoint_is_used_when_one_fails() {
    let etcd = Etcd::start().await;
    let mut client = etcd.client().await;
    let (first, second) = (CuttingProxy::start(etcd.address()).await, CuttingProxy::start(etcd.address()).await);
    let mut follower = Follower::start(StoreConfig::plain([first.url(), second.url()]));
    follower.converge(&mut client).await;
    for (goes, comes) in [(&first, &second), (&second, &first)] {
        comes.open();
        goes.close();
        put(&mut client, "a", "1").await;
        follower.converge(&mut client).await;
    }
    assert_eq!(follower.snapshots, [SnapshotReason::Initial]);
    assert!(second.accepted() > 0);
}

#[tokio::test]
async fn change_is_delivered_at_once() {
    let etcd = Etcd::start().await;
    let mut client = etcd.client().await;
    let mut follower = Follower::start(etcd.config());
    follower.converge(&mut client).await;
    let mut delays = Vec::new();
    for index in 0..200 {
        put(&mut client, "a", &index.to_string()).await;
        let answered = Instant::now();
        follower.next().await;
        delays.push(answered.elapsed());
    }
    delays.sort();
    println!(
        "from the answer of a put to its event: median {:?}, 99 % {:?}",
        delays[100], delays[198]
    );
    assert!(delays[100] < Duration::from_millis(50), "{:?}", delays[100]);
}

#[tokio::test]
async fn random_connection_cuts_lose_repeat_or_reorder_no_change() {
    let seed = std::env::var("SEED").ok().and_then(|text| text.parse().ok()).unwrap_or(20_u64);
    println!("SEED={seed}");
    let mut random = Random::new(seed);
    let etcd = Etcd::start().await;
    let mut client = etcd.client().await;
    let proxy = CuttingProxy::start(etcd.address()).await;
    let mut follower = Follower::start(StoreConfig::plain([proxy.url()]));
    follower.next().await;

    let mut writer = client.clone();
    let mut written = Random::new(seed ^ 0x5eed);
    let writes = tokio::spawn(async move {
        for index in 0..3_000 {
            let key = format!("key{}", written.below(50));
            match written.below(10) {
                0 | 1 => delete(&mut writer, &key).await,
                2 => {
                    let operations = (0..5).map(|n| TxnOp::put(format!("{PREFIX}key{}", n * 10), index.to_string(), None));
                    writer
                        .txn(Txn::new().and_then(operations.collect::<Vec<_>>()))
                        .await
                        .expect("a transaction");
                }
                _ => put(&mut writer, &key, &index.to_string()).await,
            }
        }
    });
    // `Follower::next` checks that each event is newer than all earlier ones.
    while !writes.is_finished() {
        let pause = Duration::from_millis(random.below(150) as u64);
        let _ = timeout(pause, async {
            loop {
                follower.next().await;
            }
        })
        .await;
        proxy.cut();
    }
    writes.await.expect("all writes succeed");
    follower.converge(&mut client).await;
    assert!(proxy.accepted() > 3, "the connection must have been cut several times");
    assert_eq!(follower.snapshots, [SnapshotReason::Initial]);
}
