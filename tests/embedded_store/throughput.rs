//! Measures and prints the store's throughput. The tests do not assert any times.

use std::time::{Duration, Instant};

use etcd_client::{Client, Txn, TxnOp, WatchOptions};
use etcd_embedded::Retention;

use super::real_etcd::RealEtcd;
use super::{connect, fixture, next, open};

const PUTS: usize = 12_800;
const IN_FLIGHT: usize = 128;
const TXNS: usize = 200;
const LATENCIES: usize = 300;
/// A value about as large as an interface in protobuf JSON.
const VALUE: [u8; 300] = [b'x'; 300];

async fn puts_per_second(client: &Client) -> f64 {
    let start = Instant::now();
    let mut workers = tokio::task::JoinSet::new();
    for worker in 0..IN_FLIGHT {
        let mut client = client.clone();
        workers.spawn(async move {
            for number in 0..PUTS / IN_FLIGHT {
                client.put(format!("/bench/{worker}/{number}"), VALUE, None).await.expect("a put");
            }
        });
    }
    workers.join_all().await;
    rate(PUTS, start.elapsed())
}

async fn txn_puts_per_second(client: &mut Client) -> f64 {
    let start = Instant::now();
    for txn in 0..TXNS {
        let operations: Vec<TxnOp> = (0..100)
            .map(|number| TxnOp::put(format!("/txn/{txn}/{number}"), VALUE, None))
            .collect();
        client.txn(Txn::new().and_then(operations)).await.expect("a transaction");
    }
    rate(TXNS * 100, start.elapsed())
}

/// Returns the median and the 99th percentile of two latencies: from a put to its response, and from a put to its watch event.
async fn latencies(client: &mut Client) -> [Duration; 4] {
    let mut stream = client
        .watch("/latency", Some(WatchOptions::new().with_prefix()))
        .await
        .expect("a watch");
    assert!(next(&mut stream).await.created());
    let (mut answered, mut watched) = (Vec::new(), Vec::new());
    for number in 0..LATENCIES {
        let start = Instant::now();
        let put = async {
            client.put(format!("/latency/{number}"), VALUE, None).await.expect("a put");
            start.elapsed()
        };
        let event = async {
            assert_eq!(next(&mut stream).await.events().len(), 1);
            start.elapsed()
        };
        let (put, event) = tokio::join!(put, event);
        answered.push(put);
        watched.push(event);
    }
    answered.sort();
    watched.sort();
    [
        answered[LATENCIES / 2],
        answered[LATENCIES * 99 / 100],
        watched[LATENCIES / 2],
        watched[LATENCIES * 99 / 100],
    ]
}

fn rate(count: usize, elapsed: Duration) -> f64 {
    f64::from(u32::try_from(count).expect("a small number")) / elapsed.as_secs_f64()
}

async fn report(name: &str, client: &mut Client) {
    let puts = puts_per_second(client).await;
    let txns = txn_puts_per_second(client).await;
    let [put50, put99, watch50, watch99] = latencies(client).await;
    println!(
        "{name}: {puts:.0} puts/s with {IN_FLIGHT} in flight; {txns:.0} puts/s in transactions of 100; \
         put answered p50 {put50:?} p99 {put99:?}; watched p50 {watch50:?} p99 {watch99:?}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn print_throughput_and_latency_and_those_of_a_real_etcd() {
    let mut embedded = fixture().await;
    report("embedded", &mut embedded.client).await;
    embedded.store.shutdown().await;
    if let Some(etcd) = RealEtcd::start() {
        let mut client = Client::connect([etcd.endpoint.as_str()], None).await.expect("connect to etcd");
        report("etcd    ", &mut client).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn print_the_time_to_start_with_many_keys() {
    let mut first = fixture().await;
    let keys = 256 * 100;
    for txn in 0..256 {
        let operations: Vec<TxnOp> = (0..100)
            .map(|number| TxnOp::put(format!("/many/{txn}/{number}"), VALUE, None))
            .collect();
        first.client.txn(Txn::new().and_then(operations)).await.expect("a transaction");
    }
    first.store.shutdown().await;
    let start = Instant::now();
    let store = open(&first.directory, Retention::default());
    println!("start with {keys} keys of {} bytes: {:?}", VALUE.len(), start.elapsed());
    let options = etcd_client::GetOptions::new().with_prefix().with_count_only();
    let response = connect(store.local_addr())
        .await
        .get("/many/", Some(options))
        .await
        .expect("an answer");
    assert_eq!(response.count(), keys);
    store.shutdown().await;
}
