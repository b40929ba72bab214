//! Sends requests at the edges of the API to a real etcd and to the embedded store, and compares the responses.

use etcd_client::{
    Client, CompactionOptions, DeleteOptions, GetOptions, LeaseGrantOptions, PutOptions, Txn, TxnOp, WatchFilterType, WatchOptions,
    WatchStream,
};

use super::differential::{Step, perform};
use super::real_etcd::RealEtcd;
use super::{fixture, next, within};

fn grant(ttl: i64, id: i64) -> Step {
    Step::Grant(id, ttl)
}

fn puts(count: usize) -> Step {
    let operations: Vec<TxnOp> = (0..count).map(|number| TxnOp::put(number.to_string(), "v", None)).collect();
    Step::Txn(Txn::new().and_then(operations))
}

fn steps() -> Vec<Step> {
    let nested = |inner: Txn| Step::Txn(Txn::new().and_then([TxnOp::txn(inner)]));
    vec![
        // Compactions before anything was written, and at revisions that are too low or too high.
        Step::Compact(-1),
        Step::Compact(0),
        Step::Compact(0),
        Step::Compact(2),
        Step::Compact(1),
        // Leases with unusual TTLs and IDs, and requests that refer to missing leases.
        grant(1, 11),
        grant(0, 12),
        grant(-5, 13),
        grant(9_000_000_000, 14),
        grant(9_000_000_001, 15),
        grant(60, 11),
        grant(60, -3),
        Step::TimeToLive(0),
        Step::TimeToLive(99),
        Step::Revoke(0),
        Step::Revoke(99),
        Step::Put("k", "v".into(), PutOptions::new().with_lease(-3)),
        Step::Put("k", "v".into(), PutOptions::new().with_lease(99)),
        Step::TimeToLive(-3),
        Step::Revoke(-3),
        // Limits on the number of operations in a transaction, and on the size of a value.
        puts(128),
        puts(129),
        puts(0),
        Step::Put("large", "x".repeat(1_500_000), PutOptions::new()),
        Step::Put("large", "x".repeat(1_600_000), PutOptions::new()),
        // Empty values, and puts that keep the existing value.
        Step::Put("empty", String::new(), PutOptions::new()),
        Step::Put("empty", String::new(), PutOptions::new().with_ignore_value().with_prev_key()),
        Step::Put("none", String::new(), PutOptions::new().with_ignore_value()),
        Step::Put("none", "v".into(), PutOptions::new().with_ignore_lease()),
        // Ranges that contain nothing or everything, and negative limits and revisions.
        Step::Get("z", GetOptions::new().with_range("a")),
        Step::Get("a", GetOptions::new().with_range("a")),
        Step::Get("", GetOptions::new()),
        Step::Get("\u{0}", GetOptions::new().with_from_key().with_keys_only().with_limit(3)),
        Step::Get("k", GetOptions::new().with_limit(-1)),
        Step::Get("k", GetOptions::new().with_revision(-7)),
        Step::Delete("z", DeleteOptions::new().with_range("a").with_prev_key()),
        Step::Delete("", DeleteOptions::new()),
        // Reads of earlier and future revisions inside a transaction.
        Step::Txn(Txn::new().and_then([
            TxnOp::put("t", "1", None),
            TxnOp::get("t", Some(GetOptions::new().with_revision(4))),
        ])),
        Step::Txn(Txn::new().and_then([
            TxnOp::put("t", "2", None),
            TxnOp::get("t", Some(GetOptions::new().with_revision(99))),
        ])),
        Step::Txn(Txn::new().and_then([TxnOp::get("t", Some(GetOptions::new().with_revision(99)))])),
        nested(Txn::new().and_then([TxnOp::get("t", None)])),
        nested(Txn::new().and_then([TxnOp::delete("t", None), TxnOp::get("t", None), TxnOp::put("u", "1", None)])),
        nested(Txn::new()),
        Step::Delete("a", DeleteOptions::new().with_all_keys()),
        Step::Get("a", GetOptions::new().with_all_keys()),
    ]
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn edge_case_requests_get_the_answers_of_a_real_etcd() {
    let Some(etcd) = RealEtcd::start() else { return };
    let mut real = Client::connect([etcd.endpoint.as_str()], None).await.expect("connect to etcd");
    let mut embedded = fixture().await;
    for (number, step) in steps().into_iter().enumerate() {
        let expected = within(perform(&mut real, step.clone())).await;
        let found = within(perform(&mut embedded.client, step.clone())).await;
        let short = |text: &str| text.chars().take(2_000).collect::<String>();
        assert!(
            found == expected,
            "step {number}: {}\nfound    {}\nexpected {}",
            short(&format!("{step:?}")),
            short(&found),
            short(&expected)
        );
    }
    embedded.store.shutdown().await;
}

/// Returns a watch response without its header, as text.
async fn response(stream: &mut WatchStream) -> String {
    let mut response = next(stream).await;
    response.take_header();
    format!("{:?}", response.0)
}

/// Sends a series of requests on one watch stream, and returns all responses.
async fn converse(client: &mut Client) -> Vec<String> {
    for value in ["1", "2", "3", "4"] {
        client.put("w", value, None).await.expect("a put");
    }
    client
        .compact(4, Some(CompactionOptions::new().with_physical()))
        .await
        .expect("a compaction");
    let lease = client
        .lease_grant(600, Some(LeaseGrantOptions::new().with_id(5)))
        .await
        .expect("a lease")
        .id();
    let mut heard = Vec::new();
    let mut stream = client
        .watch("w", Some(WatchOptions::new().with_start_revision(2)))
        .await
        .expect("a stream");
    heard.push(response(&mut stream).await);
    heard.push(response(&mut stream).await);
    for options in [
        WatchOptions::new().with_range("a"),
        WatchOptions::new()
            .with_watch_id(7)
            .with_filters([WatchFilterType::NoPut])
            .with_prev_key(),
        WatchOptions::new().with_watch_id(7),
        WatchOptions::new().with_start_revision(99),
    ] {
        stream.watch("w", Some(options)).await.expect("a request");
        heard.push(response(&mut stream).await);
    }
    stream.request_progress().await.expect("a request");
    heard.push(response(&mut stream).await);
    client
        .put("w", "leased", Some(PutOptions::new().with_lease(lease)))
        .await
        .expect("a put");
    client.lease_revoke(lease).await.expect("revoked");
    heard.push(response(&mut stream).await);
    stream.cancel(1234).await.expect("a request");
    stream.cancel(7).await.expect("a request");
    heard.push(response(&mut stream).await);
    client.put("w", "unheard", None).await.expect("a put");
    // A watch on the empty key watches `\0`, the smallest possible key. The ID of a cancelled watch can be used again.
    stream
        .watch("", Some(WatchOptions::new().with_watch_id(7)))
        .await
        .expect("a request");
    heard.push(response(&mut stream).await);
    client.put("\u{0}", "first", None).await.expect("a put");
    heard.push(response(&mut stream).await);
    heard
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn watch_stream_gives_the_responses_of_a_real_etcd() {
    let Some(etcd) = RealEtcd::start() else { return };
    let mut real = Client::connect([etcd.endpoint.as_str()], None).await.expect("connect to etcd");
    let mut embedded = fixture().await;
    let (expected, found) = (converse(&mut real).await, converse(&mut embedded.client).await);
    for (number, (expected, found)) in expected.iter().zip(&found).enumerate() {
        assert_eq!(found, expected, "response {number}");
    }
    embedded.store.shutdown().await;
}
