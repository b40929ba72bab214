//! Tests the status publisher with a real etcd. Despite all faults, the store must eventually contain the values that were set
//! last.
mod support;

use std::{
    collections::BTreeMap,
    future::Future,
    time::{Duration, Instant},
};

use etcd_client::{Client, DeleteOptions, GetOptions, LeaseClient};
use netns_agent::{
    publish::{Publisher, PublisherOptions, StoreHealth},
    store::{Credentials, Password, StoreConfig, TlsFiles},
};
use support::etcd::{Certificates, CuttingProxy, Etcd};
use testbed::random::Random;
use tokio::time::timeout;

const PREFIX: &str = "/vnf-agent/vpp1/";
const LIMIT: Duration = Duration::from_secs(30);

fn start(config: StoreConfig) -> Publisher {
    start_with_ttl(config, 10)
}

fn start_with_ttl(config: StoreConfig, seconds: u64) -> Publisher {
    let options = PublisherOptions {
        ttl: Duration::from_secs(seconds),
    };
    Publisher::start(config, PREFIX.to_owned(), options).expect("a valid configuration")
}

fn set(publisher: &Publisher, key: &str, value: &str) {
    publisher.set(key, value.to_owned());
}

async fn flush(publisher: &Publisher) {
    let health = publisher.health();
    let flushed = timeout(LIMIT, publisher.flush()).await;
    flushed
        .unwrap_or_else(|_| panic!("not stored in time: {:?}", *health.borrow()))
        .expect("the publisher runs");
}

/// Returns all keys under the prefix with their values.
async fn stored(client: &mut Client) -> BTreeMap<String, String> {
    let answer = client
        .get(PREFIX, Some(GetOptions::new().with_prefix()))
        .await
        .expect("the store answers");
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).expect("text");
    answer
        .kvs()
        .iter()
        .map(|kv| (text(&kv.key()[PREFIX.len()..]), text(kv.value())))
        .collect()
}

fn map(items: &[(&str, &str)]) -> BTreeMap<String, String> {
    items.iter().map(|&(key, value)| (key.to_owned(), value.to_owned())).collect()
}

/// Waits until `reached` returns true. Polls, because etcd does not tell readers that a lease has expired.
async fn eventually<F: Future<Output = bool>>(what: &str, mut reached: impl FnMut() -> F) {
    let limit = Instant::now() + LIMIT;
    while !reached().await {
        assert!(Instant::now() < limit, "{what}: not reached");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

async fn lease_of(client: &mut Client, key: &str) -> i64 {
    let answer = client.get(format!("{PREFIX}{key}"), None).await.expect("the store answers");
    answer.kvs().first().expect("the key exists").lease()
}

#[tokio::test]
async fn newest_state_is_stored_and_deleted_at_shutdown() {
    let etcd = Etcd::start().await;
    let mut client = etcd.client().await;
    client.put(format!("{PREFIX}config/foreign"), "stays", None).await.expect("a put");
    let publisher = start(etcd.config());
    for index in 0..1_000 {
        set(&publisher, "status/linux/a", &index.to_string());
        set(&publisher, "config-status/b", "gone");
        publisher.remove("config-status/b");
    }
    set(&publisher, "config/linux/interfaces/v2/interface/x", "outside of its key spaces");
    flush(&publisher).await;
    assert_eq!(
        stored(&mut client).await,
        map(&[("config/foreign", "stays"), ("status/linux/a", "999")])
    );

    let revision = client.get("x", None).await.expect("a read").header().expect("a header").revision();
    set(&publisher, "status/linux/a", "999");
    flush(&publisher).await;
    let after = client.get("x", None).await.expect("a read").header().expect("a header").revision();
    assert_eq!(revision, after, "an unchanged value must not be written again");

    publisher.shutdown().await.expect("the lease is revoked");
    assert_eq!(stored(&mut client).await, map(&[("config/foreign", "stays")]));
    publisher.flush().await.expect_err("nothing may be stored after shutdown");
    publisher.shutdown().await.expect("a second shutdown must do nothing");
}

#[tokio::test]
async fn keys_deleted_by_others_are_written_again_at_once() {
    let etcd = Etcd::start().await;
    let mut client = etcd.client().await;
    let publisher = start(etcd.config());
    let all = [("check/status/v1/agent", "3"), ("config-status/a", "1"), ("status/b", "2")];
    all.iter().for_each(|(key, value)| set(&publisher, key, value));
    flush(&publisher).await;
    for round in 0..3 {
        let deleted = client
            .delete(PREFIX, Some(DeleteOptions::new().with_prefix()))
            .await
            .expect("a deletion");
        assert_eq!(deleted.deleted(), 3);
        let is_back = async || stored(&mut etcd.client().await).await == map(&all);
        let started = Instant::now();
        eventually(&format!("round {round}: the keys are back"), is_back).await;
        assert!(
            started.elapsed() < Duration::from_secs(2),
            "the keys must be restored by an event, but that took {:?}",
            started.elapsed()
        );
    }
    // A key that the publisher deletes stays deleted. If a second publisher overwrites a key and shuts down, the first one writes
    // its own value again.
    publisher.remove("status/b");
    flush(&publisher).await;
    let second = start(etcd.config());
    set(&second, "config-status/a", "of the second");
    flush(&second).await;
    second.shutdown().await.expect("the lease is revoked");
    let want = map(&all[..2]);
    eventually("the first publisher has restored its key", async || {
        stored(&mut etcd.client().await).await == want
    })
    .await;
    publisher.shutdown().await.expect("the lease is revoked");
}

#[tokio::test]
async fn ten_thousand_keys_are_stored_in_batches() {
    let etcd = Etcd::start().await;
    let mut client = etcd.client().await;
    let publisher = start(etcd.config());
    set(&publisher, "status/ready", "1");
    flush(&publisher).await;
    let before = client.get("x", None).await.expect("a read").header().expect("a header").revision();
    let began = Instant::now();
    for index in 0..10_000 {
        let json =
            format!(r#"{{"key":"config/linux/interfaces/v2/interface/veth{index}","state":"CONFIGURED","last_operation":"CREATE"}}"#);
        publisher.set(&format!("config-status/linux/interfaces/v2/interface/veth{index}"), json);
    }
    let set_in = began.elapsed();
    flush(&publisher).await;
    println!("10,000 status keys: set in {set_in:?}, stored after {:?}", began.elapsed());
    let after = client.get("x", None).await.expect("a read").header().expect("a header").revision();
    assert!((100..=130).contains(&(after - before)), "{} transactions", after - before);
    assert_eq!(stored(&mut client).await.len(), 10_001);
}

#[tokio::test]
async fn single_state_is_stored_at_once() {
    let etcd = Etcd::start().await;
    let publisher = start(etcd.config());
    let mut delays = Vec::new();
    for index in 0..200 {
        let began = Instant::now();
        set(&publisher, "status/a", &index.to_string());
        flush(&publisher).await;
        delays.push(began.elapsed());
    }
    delays.sort();
    println!("one status until stored: median {:?}, 99 % {:?}", delays[100], delays[198]);
    assert!(delays[100] < Duration::from_millis(50), "{:?}", delays[100]);
}

#[tokio::test]
async fn keys_of_an_earlier_run_are_deleted_on_request_in_own_key_spaces() {
    let etcd = Etcd::start().await;
    let mut client = etcd.client().await;
    for index in 0..250 {
        client
            .put(format!("{PREFIX}config-status/old{index}"), "1", None)
            .await
            .expect("a put");
    }
    for key in ["config/x", "status/kept", "check/status/v1/agent", "statusx"] {
        client.put(format!("{PREFIX}{key}"), "1", None).await.expect("a put");
    }
    let publisher = start(etcd.config());
    set(&publisher, "status/kept", "1");
    flush(&publisher).await;
    assert_eq!(stored(&mut client).await.len(), 254, "nothing may be deleted before that");
    assert_ne!(
        lease_of(&mut client, "status/kept").await,
        0,
        "an equal value must be put under the lease"
    );
    publisher.retain_only_current();
    flush(&publisher).await;
    assert_eq!(
        stored(&mut client).await,
        map(&[("config/x", "1"), ("status/kept", "1"), ("statusx", "1")])
    );
}

#[tokio::test]
async fn lost_lease_is_replaced_and_everything_is_published_again() {
    let etcd = Etcd::start().await;
    let mut client = etcd.client().await;
    let publisher = start_with_ttl(etcd.config(), 2);
    set(&publisher, "status/a", "1");
    set(&publisher, "status/b", "1");
    flush(&publisher).await;
    let lease = lease_of(&mut client, "status/a").await;
    let mut leases: LeaseClient = client.lease_client();
    leases.revoke(lease).await.expect("the lease exists");
    assert!(stored(&mut client).await.is_empty());
    eventually("all keys are back", || async { stored(&mut etcd.client().await).await.len() == 2 }).await;
    assert_ne!(lease_of(&mut client, "status/a").await, lease);
}

#[tokio::test]
async fn keys_of_a_dead_agent_expire() {
    let etcd = Etcd::start().await;
    let publisher = start_with_ttl(etcd.config(), 1);
    set(&publisher, "status/a", "1");
    flush(&publisher).await;
    // Sleep for longer than the TTL, so that the key exists only if its lease was renewed.
    tokio::time::sleep(Duration::from_secs(4)).await;
    assert_eq!(stored(&mut etcd.client().await).await.len(), 1);
    drop(publisher);
    eventually("the keys are gone", || async { stored(&mut etcd.client().await).await.is_empty() }).await;
}

#[tokio::test]
async fn restarted_server_gets_changes_and_a_wiped_one_gets_everything() {
    let mut etcd = Etcd::start().await;
    let publisher = start(etcd.config());
    let mut health = publisher.health();
    set(&publisher, "status/a", "1");
    set(&publisher, "status/b", "1");
    flush(&publisher).await;
    etcd.kill();
    let lost = health.wait_for(|health| matches!(health, StoreHealth::Disconnected { .. }));
    timeout(LIMIT, lost)
        .await
        .expect("the loss is noticed")
        .expect("the publisher runs");
    set(&publisher, "status/a", "2");
    publisher.remove("status/b");
    etcd.restart().await;
    flush(&publisher).await;
    assert_eq!(stored(&mut etcd.client().await).await, map(&[("status/a", "2")]));
    assert_eq!(*health.borrow(), StoreHealth::Connected { endpoint: etcd.url() });

    etcd.kill();
    etcd.wipe();
    etcd.restart().await;
    eventually("the key is back", || async {
        stored(&mut etcd.client().await).await == map(&[("status/a", "2")])
    })
    .await;
}

#[tokio::test]
async fn thawed_server_with_old_requests_ends_with_the_newest_state() {
    let etcd = Etcd::start().await;
    let publisher = start_with_ttl(etcd.config(), 3);
    for round in 0..3 {
        for index in 0..500 {
            publisher.set(&format!("status/{index}"), format!("old {round}"));
        }
        flush(&publisher).await;
        etcd.freeze();
        // The server is frozen, so these requests wait in its socket while the lease expires.
        for index in 0..500 {
            match index % 3 {
                0 => publisher.remove(&format!("status/{index}")),
                _ => publisher.set(&format!("status/{index}"), format!("late {round}")),
            }
        }
        let mut health = publisher.health();
        let lost = health.wait_for(|health| matches!(health, StoreHealth::Disconnected { .. }));
        timeout(LIMIT, lost)
            .await
            .expect("the loss is noticed")
            .expect("the publisher runs");
        for index in 0..500 {
            publisher.set(&format!("status/{index}"), format!("new {round}"));
        }
        etcd.thaw();
        flush(&publisher).await;
        // Give late requests time to arrive. None of them may change a value after the flush.
        tokio::time::sleep(Duration::from_millis(300)).await;
        let stored = stored(&mut etcd.client().await).await;
        assert_eq!(stored.len(), 500);
        assert!(stored.values().all(|value| *value == format!("new {round}")));
    }
}

#[tokio::test]
async fn value_that_the_store_rejects_blocks_no_other() {
    let etcd = Etcd::start().await;
    let publisher = start(etcd.config());
    for index in 0..50 {
        set(&publisher, &format!("status/{index}"), "1");
    }
    publisher.set("status/huge", "x".repeat(2 << 20));
    for index in 50..100 {
        set(&publisher, &format!("status/{index}"), "1");
    }
    flush(&publisher).await;
    assert_eq!(stored(&mut etcd.client().await).await.len(), 100);
    set(&publisher, "status/huge", "small now");
    flush(&publisher).await;
    assert_eq!(stored(&mut etcd.client().await).await.len(), 101);
}

#[tokio::test]
async fn foreign_changes_of_its_keys_are_undone_at_the_next_deletion() {
    let etcd = Etcd::start().await;
    let mut client = etcd.client().await;
    let publisher = start(etcd.config());
    for key in ["status/a", "status/b", "status/c"] {
        set(&publisher, key, "1");
    }
    flush(&publisher).await;
    client.put(format!("{PREFIX}status/a"), "foreign", None).await.expect("a put");
    client.delete(format!("{PREFIX}status/b"), None).await.expect("a deletion");
    for key in ["status/a", "status/b"] {
        publisher.remove(key);
    }
    flush(&publisher).await;
    assert_eq!(stored(&mut client).await, map(&[("status/c", "1")]));
}

#[tokio::test]
async fn publishing_works_with_tls_and_with_expiring_tokens() {
    let etcd = Etcd::start_with(&["--auth-token-ttl=1"], Some(Certificates::create())).await;
    let certificates = etcd.certificates();
    let tls = Some(TlsFiles {
        ca: certificates.ca(),
        identity: Some(certificates.client()),
    });
    let publisher = start(StoreConfig { tls, ..etcd.config() });
    set(&publisher, "status/a", "1");
    flush(&publisher).await;

    let etcd = Etcd::start_with(&["--auth-token-ttl=1"], None).await;
    etcd.enable_authentication("agent", "right", PREFIX).await;
    let credentials = Some(Credentials {
        user: "agent".to_owned(),
        password: Password::new("right"),
    });
    let publisher = start(StoreConfig {
        credentials,
        ..etcd.config()
    });
    set(&publisher, "status/a", "1");
    flush(&publisher).await;
    // Wait until the token has expired. etcd does not tell clients that a token has expired, and checks for expired tokens once
    // per second.
    tokio::time::sleep(Duration::from_secs(4)).await;
    set(&publisher, "status/a", "2");
    flush(&publisher).await;
    publisher.shutdown().await.expect("the lease is revoked");
}

#[tokio::test]
async fn flush_stores_the_newest_state_despite_random_connection_cuts() {
    let seed = std::env::var("SEED").ok().and_then(|text| text.parse().ok()).unwrap_or(30_u64);
    println!("SEED={seed}");
    let mut random = Random::new(seed);
    let etcd = Etcd::start().await;
    let mut client = etcd.client().await;
    let proxy = CuttingProxy::start(etcd.address()).await;
    let publisher = start(StoreConfig::plain([proxy.url()]));
    let mut wanted = BTreeMap::new();
    for round in 0..30 {
        for change in 0..random.below(400) {
            let key = format!("status/{}", random.below(150));
            if random.below(4) == 0 {
                publisher.remove(&key);
                wanted.remove(&key);
            } else {
                let value = format!("{round}-{change}");
                set(&publisher, &key, &value);
                wanted.insert(key, value);
            }
            if random.below(100) == 0 {
                // Sleep for a random time, so that each cut interrupts the publisher at a different point.
                tokio::time::sleep(Duration::from_millis(random.below(5) as u64)).await;
                proxy.cut();
            }
        }
        if random.below(3) == 0 {
            flush(&publisher).await;
            assert_eq!(stored(&mut client).await, wanted, "round {round}");
        }
    }
    flush(&publisher).await;
    assert_eq!(stored(&mut client).await, wanted);
    assert!(proxy.accepted() > 3, "the connection must have been cut several times");
}
