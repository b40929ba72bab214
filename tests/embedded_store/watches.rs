//! Tests watches: many at once, slow ones, and watches from compacted revisions.

use std::time::Duration;

use etcd_client::{Client, CompactionOptions, EventType, Txn, TxnOp, WatchOptions};
use etcd_embedded::Retention;

use super::{fixture, fixture_with, next, within};

async fn put_many(client: &mut Client, key: &str, count: usize, bytes: usize) {
    for number in 0..count {
        let mut value = format!("{number}/").into_bytes();
        value.resize(bytes, b'.');
        within(client.put(key, value, None)).await.expect("writers must not be blocked");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn stalled_watch_blocks_no_writer_and_misses_nothing() {
    let mut running = fixture().await;
    let client = &mut running.client;
    let mut stream = client.watch("slow", None).await.expect("a watch");
    assert!(next(&mut stream).await.created());
    // Write far more data than the flow-control windows of the connection and all buffers can hold.
    let (count, bytes) = (600, 50_000);
    // Use a separate client, because the windows of the first connection are full of unread data.
    let mut writer = super::connect(running.store.local_addr()).await;
    put_many(&mut writer, "slow", count, bytes).await;
    let mut reported = Vec::new();
    while reported.len() < count {
        let response = next(&mut stream).await;
        assert!(!response.canceled());
        reported.extend(response.events().iter().map(|event| event.kv().expect("a key").mod_revision()));
    }
    let expected: Vec<i64> = (2..).take(count).collect();
    assert_eq!(reported, expected);
    running.store.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn watch_that_falls_behind_the_history_is_cancelled_as_compacted() {
    let retention = Retention {
        revisions: 100,
        ..Retention::default()
    };
    let mut running = fixture_with(retention).await;
    let mut stream = running.client.watch("slow", None).await.expect("a watch");
    assert!(next(&mut stream).await.created());
    let mut writer = super::connect(running.store.local_addr()).await;
    put_many(&mut writer, "slow", 600, 50_000).await;
    let mut last = 1;
    let compacted = loop {
        let response = next(&mut stream).await;
        if response.canceled() {
            break response.compact_revision();
        }
        for event in response.events() {
            let revision = event.kv().expect("a key").mod_revision();
            assert_eq!(revision, last + 1, "no event may be missing before the end");
            last = revision;
        }
    };
    assert!(compacted > last, "{compacted} {last}");
    running.store.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn thousand_watches_on_separate_streams_get_their_events() {
    let mut running = fixture().await;
    let mut streams = Vec::new();
    for number in 0..1_000 {
        let mut stream = running.client.watch(format!("w/{number}"), None).await.expect("a watch");
        assert!(next(&mut stream).await.created());
        streams.push(stream);
    }
    for chunk in (0..1_000).collect::<Vec<_>>().chunks(100) {
        let puts: Vec<TxnOp> = chunk.iter().map(|number| TxnOp::put(format!("w/{number}"), "x", None)).collect();
        running.client.txn(Txn::new().and_then(puts)).await.expect("a transaction");
    }
    for (number, stream) in streams.iter_mut().enumerate() {
        let response = next(stream).await;
        assert_eq!(response.events().len(), 1);
        assert_eq!(response.events()[0].kv().expect("a key").key(), format!("w/{number}").as_bytes());
    }
    drop(streams);
    running.store.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn thousand_watches_on_one_stream_have_separate_ids() {
    let mut running = fixture().await;
    let mut stream = running
        .client
        .watch("w/", Some(WatchOptions::new().with_prefix()))
        .await
        .expect("a watch");
    for number in 1..1_000 {
        stream.watch(format!("w/{number}"), None).await.expect("a watch");
    }
    for number in 0..1_000 {
        let response = next(&mut stream).await;
        assert!(response.created());
        assert_eq!(response.watch_id(), number);
    }
    running.client.put("w/500", "x", None).await.expect("a put");
    let mut reported = [next(&mut stream).await.watch_id(), next(&mut stream).await.watch_id()];
    reported.sort_unstable();
    assert_eq!(reported, [0, 500]);
    stream.cancel(500).await.expect("a request");
    let cancelled = next(&mut stream).await;
    assert!(cancelled.canceled() && cancelled.watch_id() == 500);
    running.client.put("w/500", "y", None).await.expect("a put");
    assert_eq!(next(&mut stream).await.watch_id(), 0);
    running.client.put("w/7", "y", None).await.expect("a put");
    let mut reported = [next(&mut stream).await.watch_id(), next(&mut stream).await.watch_id()];
    reported.sort_unstable();
    assert_eq!(reported, [0, 7]);
    running.store.shutdown().await;
}

#[tokio::test]
async fn watch_from_a_compacted_revision_is_created_and_then_cancelled() {
    let mut running = fixture().await;
    put_many(&mut running.client, "k", 5, 10).await;
    running
        .client
        .compact(4, Some(CompactionOptions::new().with_physical()))
        .await
        .expect("a compaction");
    let mut stream = running
        .client
        .watch("k", Some(WatchOptions::new().with_start_revision(2)))
        .await
        .expect("a watch");
    let created = next(&mut stream).await;
    assert!(created.created() && !created.canceled());
    let cancelled = next(&mut stream).await;
    assert!(cancelled.canceled() && cancelled.compact_revision() == 4 && cancelled.cancel_reason().is_empty());
    // At the compacted revision itself, the last version still exists, and the stream can be used for other watches.
    stream
        .watch("k", Some(WatchOptions::new().with_start_revision(4)))
        .await
        .expect("a watch");
    assert!(next(&mut stream).await.created());
    let revisions: Vec<i64> = next(&mut stream)
        .await
        .events()
        .iter()
        .map(|event| event.kv().expect("a key").mod_revision())
        .collect();
    assert_eq!(revisions, [4, 5, 6]);
    running.store.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn running_watch_survives_a_compaction_of_what_it_has_not_read() {
    let mut running = fixture().await;
    let mut stream = running.client.watch("k", None).await.expect("a watch");
    assert!(next(&mut stream).await.created());
    for revision in 2..200 {
        running.client.put("k", "v", None).await.expect("a put");
        running.client.compact(revision, None).await.expect("a compaction");
    }
    let mut reported = Vec::new();
    while reported.len() < 198 {
        let response = next(&mut stream).await;
        assert!(!response.canceled());
        reported.extend(response.events().iter().map(|event| event.kv().expect("a key").mod_revision()));
    }
    assert_eq!(reported, (2..200).collect::<Vec<i64>>());
    running.store.shutdown().await;
}

#[tokio::test]
async fn progress_notification_comes_after_the_events_it_covers() {
    let mut running = fixture().await;
    put_many(&mut running.client, "k", 50, 10).await;
    let mut stream = running
        .client
        .watch("k", Some(WatchOptions::new().with_start_revision(2)))
        .await
        .expect("a watch");
    stream.request_progress().await.expect("a request");
    assert!(next(&mut stream).await.created());
    let mut last = 1;
    let progress = loop {
        let response = next(&mut stream).await;
        match response.events().last() {
            Some(event) => last = event.kv().expect("a key").mod_revision(),
            None => break response,
        }
    };
    assert_eq!(
        (progress.watch_id(), progress.header().expect("a header").revision(), last),
        (-1, 51, 51)
    );
    running.store.shutdown().await;
}

#[tokio::test]
async fn invalid_watches_are_rejected_and_the_stream_continues() {
    let mut running = fixture().await;
    let mut stream = running
        .client
        .watch("b", Some(WatchOptions::new().with_range("a")))
        .await
        .expect("a stream");
    let refused = next(&mut stream).await;
    assert!(refused.created() && refused.canceled());
    assert_eq!((refused.watch_id(), refused.cancel_reason()), (-1, "mvcc: watcher range is empty"));
    for reason in ["", "mvcc: duplicate watch ID provided on the WatchStream"] {
        stream
            .watch("k", Some(WatchOptions::new().with_watch_id(9)))
            .await
            .expect("a request");
        assert_eq!(next(&mut stream).await.cancel_reason(), reason);
    }
    running.client.delete("k", None).await.expect("delete a key that does not exist");
    running.client.put("k", "v", None).await.expect("a put");
    let response = next(&mut stream).await;
    assert_eq!((response.watch_id(), response.events()[0].event_type()), (9, EventType::Put));
    running.store.shutdown().await;
}

#[tokio::test]
async fn large_revision_is_sent_in_fragments_on_request() {
    let mut running = fixture().await;
    let options = WatchOptions::new().with_prefix().with_prev_key().with_fragment();
    let mut stream = running.client.watch("f/", Some(options)).await.expect("a watch");
    assert!(next(&mut stream).await.created());
    for number in 0..5 {
        running
            .client
            .put(format!("f/{number}"), vec![b'x'; 1_000_000], None)
            .await
            .expect("a put");
        assert!(!next(&mut stream).await.0.fragment);
    }
    running
        .client
        .delete("f/", Some(etcd_client::DeleteOptions::new().with_prefix()))
        .await
        .expect("a delete");
    let mut parts = Vec::new();
    loop {
        let response = next(&mut stream).await.0;
        parts.push(response.events.len());
        if !response.fragment {
            break;
        }
    }
    assert_eq!((parts.iter().sum::<usize>(), parts.len() > 1), (5, true), "{parts:?}");
    running.store.shutdown().await;
}

#[tokio::test]
async fn history_over_the_limits_is_compacted_and_live_keys_stay() {
    let limits = [
        Retention {
            revisions: 10,
            ..Retention::default()
        },
        Retention {
            bytes: 10_000,
            ..Retention::default()
        },
        Retention {
            age: Duration::from_millis(100),
            ..Retention::default()
        },
    ];
    for retention in limits {
        let mut running = fixture_with(retention).await;
        let client = &mut running.client;
        client.put("old", "but alive", None).await.expect("a put");
        put_many(client, "k", 40, 1_000).await;
        let compacted = loop {
            let mut stream = client
                .watch("k", Some(WatchOptions::new().with_start_revision(2)))
                .await
                .expect("a watch");
            assert!(next(&mut stream).await.created());
            let response = next(&mut stream).await;
            if response.canceled() {
                break response.compact_revision();
            }
        };
        assert!(compacted > 2, "{retention:?}");
        assert_eq!(client.get("old", None).await.expect("an answer").kvs()[0].value(), b"but alive");
        assert_eq!(client.get("k", None).await.expect("an answer").kvs()[0].version(), 40);
        running.store.shutdown().await;
    }
}
