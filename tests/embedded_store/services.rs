//! Tests locks, elections, hashes and backups, and compares them with a real etcd if one is installed.

use std::process::Command;

use etcd_client::{
    Client, DeleteOptions, Error, GetOptions, LeaderKey, LeaseGrantOptions, LockOptions, ProclaimOptions, PutOptions, ResignOptions,
};

use super::real_etcd::RealEtcd;
use super::{connect, fixture, installed, within};

/// Returns the code and message of an expected error.
fn refusal<T: std::fmt::Debug>(result: Result<T, Error>) -> (i32, String) {
    match result {
        Err(Error::GRpcStatus(status)) => (i32::from(status.code()), status.message().to_owned()),
        other => panic!("expected an error, got {other:?}"),
    }
}

async fn grant(client: &mut Client, id: i64, ttl: i64) {
    let options = LeaseGrantOptions::new().with_id(id);
    client.lease_grant(ttl, Some(options)).await.expect("a lease");
}

async fn keys(client: &mut Client, prefix: &str) -> Vec<String> {
    let response = client.get(prefix, Some(GetOptions::new().with_prefix())).await.expect("an answer");
    let text = |kv: &etcd_client::KeyValue| kv.key_str().expect("text").to_owned();
    response.kvs().iter().map(text).collect()
}

/// Performs the steps of a lock scenario, and returns the observations of its clients as text. The text must be the same for etcd
/// and the embedded store.
async fn lock_story(client: &mut Client) -> Vec<String> {
    let mut seen = Vec::new();
    grant(client, 0xab, 600).await;
    grant(client, 0xcd, 600).await;
    let with = |lease| Some(LockOptions::new().with_lease(lease));
    let first = within(client.lock("door", with(0xab))).await.expect("a lock");
    seen.push(String::from_utf8_lossy(first.key()).into_owned());
    let again = within(client.lock("door", with(0xab))).await.expect("the same lock");
    assert_eq!(again.key(), first.key());
    // The second client waits, and gets the lock when the first one releases it.
    let mut other = client.clone();
    let mut waiting = tokio::spawn(async move { other.lock("door", with(0xcd)).await.map(|lock| lock.key().to_vec()) });
    while keys(client, "door/").await.len() < 2 {
        tokio::task::yield_now().await;
    }
    let held = tokio::time::timeout(std::time::Duration::from_millis(50), &mut waiting).await;
    assert!(held.is_err(), "the second client must wait for the lock");
    client.unlock(first.key()).await.expect("an answer");
    let second = within(waiting).await.expect("no panic").expect("a lock");
    seen.push(String::from_utf8_lossy(&second).into_owned());
    seen.extend(keys(client, "door/").await);
    // A client that stops waiting for the lock leaves no key.
    let mut other = client.clone();
    let waiting = tokio::spawn(async move { other.lock("door", with(0xab)).await.map(drop) });
    while keys(client, "door/").await.len() < 2 {
        tokio::task::yield_now().await;
    }
    waiting.abort();
    while keys(client, "door/").await.len() > 1 {
        tokio::task::yield_now().await;
    }
    seen.push(format!("{:?}", refusal(client.lock("door", with(0x99)).await)));
    // A lock is released when its lease is revoked.
    client.lease_revoke(0xcd).await.expect("an answer");
    let third = within(client.lock("door", with(0xab))).await.expect("a lock");
    seen.push(String::from_utf8_lossy(third.key()).into_owned());
    let anonymous = within(client.lock("window", None)).await.expect("a lock");
    assert!(anonymous.key().starts_with(b"window/"));
    seen
}

#[tokio::test]
async fn locks_behave_as_in_etcd() {
    let mut running = fixture().await;
    let ours = within(lock_story(&mut running.client)).await;
    assert_eq!(ours[..2], ["door/ab", "door/cd"]);
    let Some(etcd) = RealEtcd::start() else { return };
    let mut client = Client::connect([&etcd.endpoint], None).await.expect("an address");
    assert_eq!(ours, within(lock_story(&mut client)).await);
}

/// Performs the steps of an election scenario, and returns the observations of its clients as text.
async fn election_story(client: &mut Client) -> Vec<String> {
    let mut seen = Vec::new();
    let shown = |leader: &LeaderKey| {
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        format!("{} {} {}", text(leader.name()), text(leader.key()), leader.lease())
    };
    grant(client, 0xab, 600).await;
    grant(client, 0xcd, 600).await;
    seen.push(format!("{:?}", refusal(client.leader("chair").await)));
    let campaign = within(client.campaign("chair", "a", 0xab)).await.expect("elected");
    let leader = campaign.leader().expect("a leader").clone();
    seen.push(shown(&leader));
    let mut observed = within(client.observe("chair")).await.expect("a stream");
    let mut value = async |expected: &str| {
        let response = within(observed.message()).await.expect("an answer").expect("no end");
        assert_eq!(response.kv().expect("a leader").value(), expected.as_bytes());
    };
    value("a").await;
    let options = |leader: &LeaderKey| Some(ProclaimOptions::new().with_leader(leader.clone()));
    client.proclaim("a2", options(&leader)).await.expect("still the leader");
    value("a2").await;
    let mut other = client.clone();
    let waiting = tokio::spawn(async move { other.campaign("chair", "b", 0xcd).await });
    while keys(client, "chair/").await.len() < 2 {
        tokio::task::yield_now().await;
    }
    let resign = Some(ResignOptions::new().with_leader(leader.clone()));
    client.resign(resign).await.expect("an answer");
    let second = within(waiting).await.expect("no panic").expect("elected");
    seen.push(shown(second.leader().expect("a leader")));
    value("b").await;
    seen.push(format!("{:?}", refusal(client.proclaim("a3", options(&leader)).await)));
    seen.push(format!("{:?}", refusal(client.proclaim("a4", None).await)));
    let now = client.leader("chair").await.expect("a leader");
    seen.push(String::from_utf8_lossy(now.kv().expect("a key").value()).into_owned());
    seen
}

#[tokio::test]
async fn elections_behave_as_in_etcd() {
    let mut running = fixture().await;
    let ours = within(election_story(&mut running.client)).await;
    assert_eq!(ours.last().map(String::as_str), Some("b"));
    let Some(etcd) = RealEtcd::start() else { return };
    let mut client = Client::connect([&etcd.endpoint], None).await.expect("an address");
    assert_eq!(ours, within(election_story(&mut client)).await);
}

/// Writes a history with many keys, a large value, a lease, an overwritten key and a deleted range.
async fn fill(client: &mut Client) {
    grant(client, 77, 1000).await;
    for number in 0..3000 {
        client
            .put(format!("key/{number:05}"), format!("value {number}"), None)
            .await
            .expect("a put");
    }
    client.put("large", vec![b'x'; 1_000_000], None).await.expect("a put");
    client
        .put("leased", "x", Some(PutOptions::new().with_lease(77)))
        .await
        .expect("a put");
    client.put("key/00007", "second", None).await.expect("a put");
    let range = DeleteOptions::new().with_range("key/00100");
    client.delete("key/00090", Some(range)).await.expect("a delete");
}

#[tokio::test]
async fn hashes_equal_those_of_etcd() {
    let mut running = fixture().await;
    let Some(etcd) = RealEtcd::start() else { return };
    let mut theirs = Client::connect([&etcd.endpoint], None).await.expect("an address");
    let ours = &mut running.client;
    let compare = async |ours: &mut Client, theirs: &mut Client, revision| {
        let (left, right) = (
            ours.hash_kv(revision).await.expect("a hash"),
            theirs.hash_kv(revision).await.expect("a hash"),
        );
        assert_eq!(
            (left.hash(), left.compact_version()),
            (right.hash(), right.compact_version()),
            "at {revision}"
        );
    };
    compare(ours, &mut theirs, 0).await;
    for client in [&mut *ours, &mut theirs] {
        grant(client, 77, 1000).await;
        for (key, value) in [("a", "1"), ("b", "1"), ("a", "2"), ("c", "1")] {
            client.put(key, value, None).await.expect("a put");
        }
        client.put("d", "1", Some(PutOptions::new().with_lease(77))).await.expect("a put");
        client.delete("b", None).await.expect("a delete");
    }
    for revision in [0, 2, 4, 6, 7] {
        compare(ours, &mut theirs, revision).await;
    }
    for client in [&mut *ours, &mut theirs] {
        let physical = etcd_client::CompactionOptions::new().with_physical();
        client.compact(3, Some(physical)).await.expect("a compaction");
        client.put("a", "3", None).await.expect("a put");
    }
    for revision in [0, 4, 7, 8] {
        compare(ours, &mut theirs, revision).await;
    }
    assert_eq!(refusal(ours.hash_kv(2).await), refusal(theirs.hash_kv(2).await));
    assert_eq!(refusal(ours.hash_kv(99).await), refusal(theirs.hash_kv(99).await));
}

/// Returns keys and values with their revisions, versions and leases.
fn plain(kvs: &[etcd_client::KeyValue]) -> Vec<(&[u8], &[u8], [i64; 4])> {
    let numbers = |kv: &etcd_client::KeyValue| [kv.create_revision(), kv.mod_revision(), kv.version(), kv.lease()];
    kvs.iter().map(|kv| (kv.key(), kv.value(), numbers(kv))).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn snapshot_of_the_running_store_is_restored_into_an_etcd() {
    if !installed("etcdctl") || !installed("etcd") {
        return;
    }
    let mut running = fixture().await;
    fill(&mut running.client).await;
    running.client.compact(50, None).await.expect("a compaction");
    let directory = tempfile::tempdir().expect("a temporary directory");
    let file = directory.path().join("backup.db");
    let endpoint = running.store.local_addr().to_string();
    let path = file.to_str().expect("text").to_owned();
    let (saved, status) = tokio::task::spawn_blocking({
        move || {
            let call = |arguments: &[&str]| {
                let mut command = Command::new("etcdctl");
                command.env("ETCDCTL_API", "3").env("ETCDCTL_ENDPOINTS", &endpoint).args(arguments);
                let output = command.output().expect("etcdctl starts");
                let text = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
                assert!(output.status.success(), "etcdctl {arguments:?}: {text}");
                text
            };
            (call(&["snapshot", "save", &path]), call(&["snapshot", "status", &path]))
        }
    })
    .await
    .expect("no panic");
    println!("{saved}{status}");
    let ours = running
        .client
        .get("", Some(GetOptions::new().with_all_keys()))
        .await
        .expect("an answer");
    let revision = ours.header().expect("a header").revision();
    assert!(status.contains(&format!(", {revision}, ")), "{status}");

    let etcd = tokio::task::spawn_blocking(move || RealEtcd::restore(&file))
        .await
        .expect("no panic");
    let mut client = connect(etcd.endpoint.trim_start_matches("http://").parse().expect("an address")).await;
    let theirs = client.get("", Some(GetOptions::new().with_all_keys())).await.expect("an answer");
    assert_eq!(ours.count(), theirs.count());
    assert!(plain(ours.kvs()) == plain(theirs.kvs()), "keys or revisions differ");
    let at = Some(GetOptions::new().with_revision(revision - 2));
    let old = client.get("key/00007", at.clone()).await.expect("the history is restored");
    let expected = running.client.get("key/00007", at).await.expect("an answer");
    assert_eq!(plain(old.kvs()), plain(expected.kvs()));
    let compacted = Some(GetOptions::new().with_revision(49));
    assert_eq!(
        refusal(client.get("key/00007", compacted.clone()).await),
        refusal(running.client.get("key/00007", compacted).await)
    );
    let lease = client.lease_time_to_live(77, None).await.expect("an answer");
    assert_eq!(lease.granted_ttl(), 1000);
    client.put("after", "x", None).await.expect("the restored etcd accepts writes");
}
