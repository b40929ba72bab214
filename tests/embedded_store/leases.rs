//! Tests leases through clients. Unit tests cover the expiry of leases, because they can choose the current time.

use etcd_client::{EventType, LeaseGrantOptions, LeaseTimeToLiveOptions, PutOptions, WatchOptions};
use etcd_embedded::Retention;

use super::{connect, fixture, next, open, within};

#[tokio::test]
async fn expired_lease_deletes_all_its_keys_in_one_revision() {
    let mut running = fixture().await;
    let client = &mut running.client;
    let lease = client.lease_grant(1, None).await.expect("a lease");
    assert_eq!(lease.ttl(), 2, "the shortest TTL must be granted");
    let options = || Some(PutOptions::new().with_lease(lease.id()));
    for key in ["l/1", "l/2", "l/3"] {
        client.put(key, "x", options()).await.expect("a put");
    }
    client.put("l/2", "kept", None).await.expect("a put");
    let mut stream = client
        .watch("l/", Some(WatchOptions::new().with_prefix().with_prev_key()))
        .await
        .expect("a watch");
    assert!(next(&mut stream).await.created());
    let response = next(&mut stream).await;
    let reported: Vec<(EventType, &[u8], i64)> = response
        .events()
        .iter()
        .map(|event| {
            let kv = event.kv().expect("a key");
            (event.event_type(), kv.key(), kv.mod_revision())
        })
        .collect();
    assert_eq!(reported, [(EventType::Delete, &b"l/1"[..], 6), (EventType::Delete, &b"l/3"[..], 6)]);
    assert_eq!(client.get("l/2", None).await.expect("an answer").count(), 1);
    assert_eq!(client.lease_time_to_live(lease.id(), None).await.expect("an answer").ttl(), -1);
    running.store.shutdown().await;
}

#[tokio::test]
async fn keep_alive_of_a_revoked_lease_returns_a_ttl_of_zero() {
    let mut running = fixture().await;
    let lease = running.client.lease_grant(60, None).await.expect("a lease").id();
    let (mut keeper, mut answers) = running.client.lease_keep_alive(lease).await.expect("a keep-alive");
    running.client.lease_revoke(lease).await.expect("revoked");
    for _ in 0..2 {
        keeper.keep_alive().await.expect("a request");
        let answer = within(answers.message()).await.expect("the stream goes on").expect("an answer");
        assert_eq!((answer.id(), answer.ttl()), (lease, 0));
    }
    running.store.shutdown().await;
}

#[tokio::test]
async fn leases_survive_a_restart_with_their_keys_and_their_full_ttl() {
    let mut before = fixture().await;
    let options = LeaseGrantOptions::new().with_id(77);
    before.client.lease_grant(600, Some(options)).await.expect("a lease");
    before
        .client
        .lease_grant(600, Some(LeaseGrantOptions::new().with_id(78)))
        .await
        .expect("a lease");
    before.client.lease_revoke(78).await.expect("revoked");
    before
        .client
        .put("k", "v", Some(PutOptions::new().with_lease(77)))
        .await
        .expect("a put");
    before.store.shutdown().await;
    let store = open(&before.directory, Retention::default());
    let mut client = connect(store.local_addr()).await;
    let listed: Vec<i64> = client
        .leases()
        .await
        .expect("an answer")
        .leases()
        .iter()
        .map(|lease| lease.id())
        .collect();
    assert_eq!(listed, [77]);
    let lease = client
        .lease_time_to_live(77, Some(LeaseTimeToLiveOptions::new().with_keys()))
        .await
        .expect("an answer");
    assert_eq!((lease.granted_ttl(), lease.keys()), (600, &[b"k".to_vec()][..]));
    assert!(lease.ttl() >= 590, "{}", lease.ttl());
    client.lease_revoke(77).await.expect("revoked");
    assert_eq!(client.get("k", None).await.expect("an answer").count(), 0);
    store.shutdown().await;
}
