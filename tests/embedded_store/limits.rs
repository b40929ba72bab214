//! Tests the limits on the resources that clients can use in the store: connections, calls, watches and bytes.

use std::time::Duration;

use etcd_client::{AlarmAction, AlarmOptions, AlarmType, Client, Compare, CompareOp, Error, Txn, TxnOp, WatchOptions};
use etcd_embedded::StoreLimits;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::real_etcd::RealEtcd;
use super::{connect, fixture, fixture_limited, next, open_limited, within};

/// Returns the code and message of an expected error.
fn refusal<T: std::fmt::Debug>(result: Result<T, Error>) -> (i32, String) {
    match result {
        Err(Error::GRpcStatus(status)) => (i32::from(status.code()), status.message().to_owned()),
        other => panic!("expected an error, got {other:?}"),
    }
}

/// Sends a put, a transaction with a put, and a lease grant to a store that is out of space. Returns the errors.
///
/// Also checks that deletions and reads still succeed.
async fn refusals_without_space(client: &mut Client) -> Vec<(i32, String)> {
    let put = TxnOp::put("k", "v", None);
    let refused = vec![
        refusal(client.put("k", vec![b'v'; 1000], None).await),
        refusal(client.txn(Txn::new().and_then([put])).await),
        refusal(client.lease_grant(60, None).await),
    ];
    client.delete("k", None).await.expect("deletions must be possible");
    client.get("k", None).await.expect("reads must be possible");
    refused
}

async fn alarms(client: &mut Client) -> usize {
    let response = client.alarm(AlarmAction::Get, AlarmType::None, None).await.expect("an answer");
    response.alarms().len()
}

#[tokio::test]
async fn exceeded_quota_raises_an_alarm_until_it_is_disarmed() {
    let limits = StoreLimits {
        quota: 100_000,
        ..StoreLimits::default()
    };
    let mut running = fixture_limited(limits).await;
    let client = &mut running.client;
    let mut stored = 0;
    while client.put(format!("k/{stored}"), vec![b'v'; 1000], None).await.is_ok() {
        stored += 1;
        assert!(stored < 1000, "the quota must limit the stored bytes");
    }
    assert_eq!(stored, 100_000 / (256 + 1000 + 4));
    assert_eq!(alarms(client).await, 1);
    let ours = refusals_without_space(client).await;
    // The alarm survives a restart.
    running.store.shutdown().await;
    let store = open_limited(&running.directory, limits);
    let mut client = connect(store.local_addr()).await;
    assert_eq!(alarms(&mut client).await, 1);
    assert_eq!(ours, refusals_without_space(&mut client).await);
    let deleted = client
        .delete("k/", Some(etcd_client::DeleteOptions::new().with_prefix()))
        .await
        .expect("a deletion");
    let revision = deleted.header().expect("a header").revision();
    client.compact(revision, None).await.expect("a compaction");
    // Free space alone does not clear the alarm.
    assert_eq!(refusal(client.put("k", "v", None).await), ours[0]);
    let disarmed = client
        .alarm(AlarmAction::Deactivate, AlarmType::Nospace, Some(AlarmOptions::new()))
        .await
        .expect("an answer");
    assert_eq!((disarmed.alarms().len(), alarms(&mut client).await), (1, 0));
    client.put("k", "v", None).await.expect("puts must be possible again");
    store.shutdown().await;

    // Compare with an etcd whose quota is smaller than an empty database.
    let Some(etcd) = RealEtcd::start_with(&["--quota-backend-bytes=4096"]) else {
        return;
    };
    let mut client = Client::connect([&etcd.endpoint], None).await.expect("an address");
    let theirs = refusals_without_space(&mut client).await;
    assert_eq!(ours, theirs);
}

#[tokio::test]
async fn calls_and_connections_are_bounded() {
    let limits = StoreLimits {
        connections: 2,
        ..StoreLimits::default()
    };
    let mut running = fixture_limited(limits).await;
    let mut streams = Vec::new();
    let refused = loop {
        match within(running.client.watch("k", None)).await {
            Ok(stream) => streams.push(stream),
            Err(Error::GRpcStatus(status)) => break status,
            Err(other) => panic!("{other:?}"),
        }
        assert!(streams.len() <= 1000, "the number of calls must be limited");
    };
    assert_eq!(refused.message(), "etcdserver: too many requests");
    assert_eq!(refused.code(), tonic::Code::ResourceExhausted);
    // Open watches continue. Closing one of them makes room for another call.
    streams.pop();
    let put = async {
        loop {
            match running.client.put("k", "v", None).await {
                Ok(_) => break,
                Err(Error::GRpcStatus(status)) if status.code() == tonic::Code::ResourceExhausted => tokio::task::yield_now().await,
                Err(other) => panic!("{other:?}"),
            }
        }
    };
    within(put).await;
    // Skip the first message, which says that the watch was created.
    while next(&mut streams[0]).await.events().is_empty() {}

    let mut second = TcpStream::connect(running.store.local_addr()).await.expect("connected");
    let mut third = TcpStream::connect(running.store.local_addr()).await.expect("connected");
    let mut answer = Vec::new();
    within(third.read_to_end(&mut answer)).await.expect("a refusal");
    let answer = String::from_utf8_lossy(&answer);
    assert!(answer.contains("too many connections"), "{answer}");
    second.write_all(b"GET /version HTTP/1.0\r\n\r\n").await.expect("sent");
    let mut answer = String::new();
    within(second.read_to_string(&mut answer)).await.expect("an answer");
    assert!(answer.starts_with("HTTP/1.0 200 "), "{answer}");
}

#[tokio::test]
async fn silent_clients_are_disconnected() {
    let limits = StoreLimits {
        step: Duration::from_millis(50),
        ..StoreLimits::default()
    };
    let running = fixture_limited(limits).await;
    for beginning in [b"".as_slice(), b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", b"GET /version HTT"] {
        let mut stream = TcpStream::connect(running.store.local_addr()).await.expect("connected");
        stream.write_all(beginning).await.expect("sent");
        let mut rest = Vec::new();
        // Ignore errors, because a reset also ends the connection.
        let _ = within(stream.read_to_end(&mut rest)).await;
    }
}

#[tokio::test]
async fn memory_of_watches_is_bounded() {
    let mut running = fixture().await;
    let (mut watch, mut stream) = {
        let mut stream = within(running.client.watch("small", None)).await.expect("a watch");
        let _ = next(&mut stream).await;
        stream.split()
    };
    let long = vec![b'k'; 1 << 20];
    let mut kept = 1;
    let reason = loop {
        watch.watch(long.clone(), None).await.expect("a request");
        let answer = within(stream.message()).await.expect("an answer").expect("no end");
        if answer.canceled() {
            break answer.cancel_reason().to_owned();
        }
        kept += 1;
        assert!(kept < 100, "the memory for watches must be limited");
    };
    assert!(reason.contains("too much memory") && kept > 50, "{kept}: {reason}");
    running.client.put("small", "v", None).await.expect("a put");
    let event = within(stream.message()).await.expect("an answer").expect("no end");
    assert_eq!(event.events().len(), 1);
    // Cancelling a watch makes room for another one.
    watch.cancel(1).await.expect("a request");
    assert!(within(stream.message()).await.expect("an answer").expect("no end").canceled());
    watch.watch(long, Some(WatchOptions::new())).await.expect("a request");
    assert!(within(stream.message()).await.expect("an answer").expect("no end").created());
}

fn nested(depth: usize) -> Txn {
    let mut txn = Txn::new().and_then([TxnOp::put("deep", "v", None)]);
    for _ in 1..depth {
        txn = Txn::new()
            .when([Compare::version("absent", CompareOp::Equal, 0)])
            .and_then([TxnOp::txn(txn)]);
    }
    txn
}

#[tokio::test]
async fn deeply_nested_transaction_fails_with_the_error_of_etcd() {
    let mut running = fixture().await;
    running.client.txn(nested(30)).await.expect("not too deep");
    let ours = refusal(running.client.txn(nested(60)).await);
    assert_eq!(ours.1, "etcdserver: too many operations in txn request");
    let Some(etcd) = RealEtcd::start() else { return };
    let mut client = Client::connect([&etcd.endpoint], None).await.expect("an address");
    // etcd accepts deeper nesting, up to its limit on operations.
    assert_eq!(ours, refusal(client.txn(nested(129)).await));
}

async fn http(address: std::net::SocketAddr, request: &str) -> String {
    let mut stream = TcpStream::connect(address).await.expect("connected");
    let request = format!("{request} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\ncontent-length: 0\r\n\r\n");
    stream.write_all(request.as_bytes()).await.expect("sent");
    let mut answer = String::new();
    within(stream.read_to_string(&mut answer)).await.expect("an answer");
    answer
}

#[tokio::test]
async fn http_serves_version_and_health_and_explains_that_there_is_no_gateway() {
    let running = fixture().await;
    let address = running.store.local_addr();
    let version = http(address, "GET /version").await;
    assert!(version.contains(r#""etcdcluster":"3.4.0""#), "{version}");
    assert!(http(address, "GET /health").await.contains(r#"{"health":"true"}"#));
    let refused = http(address, "POST /v3/kv/range").await;
    assert!(
        refused.starts_with("HTTP/1.1 501 ") && refused.contains("HTTP/JSON gateway") && refused.contains("\"code\":12"),
        "{refused}"
    );
}
