//! Tests starting, stopping and restarting the store.

use std::net::TcpListener;

use etcd_client::{CompactionOptions, Error, EventType, GetOptions, WatchOptions};
use etcd_embedded::{Options, Retention, StartError, Store, StoreLimits};

use super::{connect, fixture, fixture_with, next, open, within};

#[tokio::test]
async fn address_in_use_is_named_and_data_directory_stays_unlocked() {
    let taken = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let listen = taken.local_addr().expect("an address");
    let directory = tempfile::tempdir().expect("a temporary directory");
    let refused = Store::start(Options {
        listen,
        data_dir: directory.path().to_path_buf(),
        limits: StoreLimits::default(),
    });
    let Err(error @ StartError::AddressInUse { .. }) = refused else {
        panic!("the store must refuse to start")
    };
    assert!(error.to_string().contains(&listen.to_string()), "{error}");
    open(&directory, Retention::default()).shutdown().await;
}

#[tokio::test]
async fn data_directory_is_locked_until_the_first_store_stops() {
    let first = fixture().await;
    let options = || Options {
        listen: "127.0.0.1:0".parse().expect("an address"),
        data_dir: first.directory.path().to_path_buf(),
        limits: StoreLimits::default(),
    };
    let Err(error @ StartError::Locked { .. }) = Store::start(options()) else {
        panic!("the store must refuse to start")
    };
    assert!(error.to_string().contains("locked by another running agent"), "{error}");
    first.store.shutdown().await;
    Store::start(options()).expect("the lock must be released").shutdown().await;
}

#[tokio::test]
async fn damaged_file_is_reported_as_damaged() {
    for content in [b"this is no database ".repeat(1000), b"short".to_vec(), Vec::new()] {
        let directory = tempfile::tempdir().expect("a temporary directory");
        std::fs::write(directory.path().join("store.redb"), content).expect("a file");
        let options = Options {
            listen: "127.0.0.1:0".parse().expect("an address"),
            data_dir: directory.path().to_path_buf(),
            limits: StoreLimits::default(),
        };
        let Err(error) = Store::start(options) else {
            panic!("the store must refuse to start")
        };
        assert!(matches!(error, StartError::Corrupt { .. }), "{error:?}");
        assert!(error.to_string().contains("store.redb is damaged"), "{error}");
    }
}

#[tokio::test]
async fn data_directory_that_cannot_be_created_is_named() {
    let file = tempfile::NamedTempFile::new().expect("a file");
    let options = Options {
        listen: "127.0.0.1:0".parse().expect("an address"),
        data_dir: file.path().join("below"),
        limits: StoreLimits::default(),
    };
    let Err(error @ StartError::DataDir { .. }) = Store::start(options) else {
        panic!("the store must refuse to start")
    };
    assert!(error.to_string().contains("below"), "{error}");
}

#[test]
fn start_without_a_runtime_fails_and_does_not_panic() {
    let options = Options {
        listen: "127.0.0.1:0".parse().expect("an address"),
        data_dir: std::env::temp_dir(),
        limits: StoreLimits::default(),
    };
    assert!(matches!(Store::start(options), Err(StartError::NoRuntime)));
}

#[tokio::test]
async fn content_history_revisions_and_identity_survive_a_restart() {
    let mut before = fixture().await;
    let client = &mut before.client;
    client.put("a", "1", None).await.expect("a put");
    client.put("a", "2", None).await.expect("a put");
    client.delete("a", None).await.expect("a delete");
    client.put("a", "3", None).await.expect("a put");
    client.put("b", "1", None).await.expect("a put");
    client
        .compact(3, Some(CompactionOptions::new().with_physical()))
        .await
        .expect("a compaction");
    let header_before = client.get("b", None).await.expect("an answer").take_header().expect("a header");
    before.store.shutdown().await;

    let store = open(&before.directory, Retention::default());
    let mut client = connect(store.local_addr()).await;
    let response = client.get("a", None).await.expect("an answer");
    let header = response.header().expect("a header");
    assert_eq!((header.revision(), header.cluster_id()), (6, header_before.cluster_id()));
    assert_eq!(header.member_id(), header_before.member_id());
    assert!(header.raft_term() > header_before.raft_term());
    let kv = &response.kvs()[0];
    assert_eq!(
        (kv.value(), kv.version(), kv.create_revision(), kv.mod_revision()),
        (&b"3"[..], 1, 5, 5)
    );
    let old = client
        .get("a", Some(GetOptions::new().with_revision(3)))
        .await
        .expect("revision 3 is kept");
    assert_eq!(old.kvs()[0].value(), b"2");
    let Err(Error::GRpcStatus(status)) = client.get("a", Some(GetOptions::new().with_revision(2))).await else {
        panic!("the revision must be compacted")
    };
    assert_eq!(status.message(), "etcdserver: mvcc: required revision has been compacted");
    let mut stream = client
        .watch("a", Some(WatchOptions::new().with_start_revision(4).with_prev_key()))
        .await
        .expect("a watch");
    assert!(next(&mut stream).await.created());
    let events = next(&mut stream).await.0.events;
    let reported: Vec<(i64, i32)> = events
        .iter()
        .map(|event| (event.kv.as_ref().expect("a key").mod_revision, event.r#type))
        .collect();
    assert_eq!(reported, [(4, EventType::Delete as i32), (5, EventType::Put as i32)]);
    assert_eq!(events[0].prev_kv.as_ref().expect("the deleted value").value, b"2");
    store.shutdown().await;
}

#[tokio::test]
async fn revision_survives_a_restart_of_an_empty_store() {
    let mut before = fixture().await;
    before.client.put("a", "1", None).await.expect("a put");
    before.client.delete("a", None).await.expect("a delete");
    before.client.compact(3, None).await.expect("a compaction");
    before.store.shutdown().await;
    let store = open(&before.directory, Retention::default());
    let mut client = connect(store.local_addr()).await;
    let response = client.put("a", "1", None).await.expect("a put");
    assert_eq!(response.header().expect("a header").revision(), 4);
    store.shutdown().await;
}

#[tokio::test]
async fn shutdown_ends_open_watches_and_keep_alives() {
    let mut running = fixture().await;
    let mut stream = running.client.watch("a", None).await.expect("a watch");
    assert!(next(&mut stream).await.created());
    let lease = running.client.lease_grant(60, None).await.expect("a lease").id();
    let (_keeper, mut kept) = running.client.lease_keep_alive(lease).await.expect("a keep-alive");
    within(running.store.shutdown()).await;
    assert!(!matches!(within(stream.message()).await, Ok(Some(_))));
    // Read until the stream ends. The first response answers the request that opened the keep-alive.
    while let Ok(Some(_)) = within(kept.message()).await {}
}

#[tokio::test]
async fn file_does_not_grow_when_a_key_is_overwritten_repeatedly() {
    let retention = Retention {
        revisions: 20,
        ..Retention::default()
    };
    let mut running = fixture_with(retention).await;
    let written = 400 * 20_000;
    for _ in 0..400 {
        running.client.put("k", vec![b'x'; 20_000], None).await.expect("a put");
    }
    let size = || {
        std::fs::metadata(running.directory.path().join("store.redb"))
            .expect("the file")
            .len()
    };
    println!("{written} bytes written, the file has {}", size());
    assert!(size() < written / 4, "{}", size());
    running.client.defragment().await.expect("defragmented");
    println!("defragmented it has {}", size());
    assert!(size() < written / 10, "{}", size());
    assert_eq!(running.client.get("k", None).await.expect("an answer").kvs()[0].version(), 400);
    running.store.shutdown().await;
}
