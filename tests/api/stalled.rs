//! Tests clients that send requests but do not read the responses. Such a client must cost little memory and must not affect
//! other clients. A client that reads nothing at all must be disconnected.
//!
//! They stall in three ways: over REST, over HTTP/2 without reading a byte, and over gRPC without receiving a message. See
//! [`stalled_clients_do_not_affect_others`].

use std::collections::BTreeSet;

use models::proto::ligato::generic::{SubscribeRequest, SubscribeResponse};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpSocket, TcpStream},
};
use tonic::Streaming;

use crate::{
    client::{self, Request},
    grpc_client::{self, Client, MANAGER},
    on_one_store,
    security::start,
    support::bench::Bench,
};

/// Number of stalled clients of each kind.
const STALLED: usize = 20;
/// Number of values. Each value changes `ROUNDS` times.
const VALUES: usize = 100;
const ROUNDS: usize = 25;
/// Stream window of a gRPC client, in bytes. The client library itself would close the stream if a larger window filled up with
/// small messages.
const WINDOW: u32 = 8192;
/// Number of requests that a REST client sends without reading a response. The responses do not fit into the socket buffers.
const UNREAD: usize = 1000;
/// Maximum memory that all stalled clients together may cost the agent.
///
/// Without limits, each client could make the agent keep 50 MB (REST) or all changes (gRPC).
const MEMORY_MAX_MIB: u64 = 64;

/// Opens a connection with a small receive buffer.
async fn small(address: &str) -> TcpStream {
    let socket = TcpSocket::new_v4().expect("a socket");
    socket.set_recv_buffer_size(4096).expect("a small buffer");
    socket.connect(address.parse().expect("an address")).await.expect("a connection")
}

/// Sends many REST requests and reads nothing. Stops writing when the agent accepts no more data.
async fn stalled_rest() -> TcpStream {
    let stream = small(client::ADDRESS).await;
    let request = "GET /openapi.json HTTP/1.1\r\nHost: localhost\r\n\r\n".repeat(UNREAD);
    let mut rest = request.as_bytes();
    while !rest.is_empty() {
        match stream.try_write(rest) {
            Ok(length) => rest = &rest[length..],
            Err(_) => break,
        }
    }
    stream
}

/// Returns an HTTP/2 frame (RFC 9113 §4.1).
fn frame(kind: u8, flags: u8, stream: u8, content: &[u8]) -> Vec<u8> {
    let length = u8::try_from(content.len()).expect("it is short");
    [&[0, 0, length, kind, flags, 0, 0, 0, stream][..], content].concat()
}

/// Subscribes over HTTP/2, lets the agent send without limit, and reads nothing.
async fn stalled_http2() -> TcpStream {
    let path = format!("{MANAGER}Subscribe");
    // `:method: POST` and `:scheme: http` from the static table, then `:path`, `content-type` and `te` as literals without
    // indexing (RFC 7541).
    let mut headers = vec![0x83, 0x86, 0x04, u8::try_from(path.len()).expect("it is short")];
    headers.extend(path.as_bytes());
    headers.extend([0x0f, 0x10, 16]);
    headers.extend(b"application/grpc");
    headers.extend([0, 2]);
    headers.extend(b"te");
    headers.push(8);
    headers.extend(b"trailers");
    let (settings, window_update) = (4, 8);
    let begin = [
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec(),
        // Set SETTINGS_INITIAL_WINDOW_SIZE and the connection window to their maximum.
        frame(settings, 0, 0, &[0, 4, 0x7f, 0xff, 0xff, 0xff]),
        frame(window_update, 0, 0, &[0x7f, 0xff, 0, 0]),
        // A HEADERS frame with END_HEADERS, then a DATA frame with END_STREAM that contains an empty message.
        frame(1, 4, 1, &headers),
        frame(0, 1, 1, &[0; 5]),
    ];
    let mut stream = small(grpc_client::ADDRESS).await;
    stream.write_all(&begin.concat()).await.expect("writable");
    stream
}

/// Subscribes over gRPC, but reads no message.
async fn stalled_subscription() -> (Client, Streaming<SubscribeResponse>) {
    let mut client = Client::with_window(WINDOW).await;
    let stream = client.stream(MANAGER, "Subscribe", SubscribeRequest::default()).await;
    (client, stream)
}

fn key(number: usize) -> String {
    format!("linux/l3/v2/arp/absent/10.0.{}.{}", number / 200, number % 200 + 1)
}

/// Changes all values, and waits for the status of the last change, which shows that the engine keeps working.
async fn change(bench: &Bench, round: usize) {
    let mut last = 0;
    for number in 0..VALUES {
        let address = format!("10.0.{}.{}", number / 200, number % 200 + 1);
        let value = format!(r#"{{"interface":"absent","ip_address":"{address}","hw_address":"02:00:00:00:00:{round:02x}"}}"#);
        last = bench.put(&key(number), value).await;
    }
    bench
        .until(&format!("round {round} is answered"), |publication| {
            publication.of(&key(VALUES - 1)).is_some_and(|status| status.mod_revision >= last)
        })
        .await;
}

fn resident_mib(bench: &mut Bench) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", bench.agent().pid())).expect("the agent is running");
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:"))
        .expect("the status has VmRSS");
    let kib: u64 = line.trim().trim_end_matches(" kB").parse().expect("a number");
    kib / 1024
}

fn descriptors(bench: &mut Bench) -> usize {
    let folder = format!("/proc/{}/fd", bench.agent().pid());
    std::fs::read_dir(folder).expect("the agent is running").count()
}

async fn stalled_clients_do_not_affect_others(mut bench: Bench) {
    start(&mut bench, &["--http-time-limit", "1"]).await;
    change(&bench, 0).await;
    let (memory, open) = (resident_mib(&mut bench), descriptors(&mut bench));
    let (mut deaf, mut subscriptions) = (Vec::new(), Vec::new());
    for _ in 0..STALLED {
        deaf.push(stalled_rest().await);
        deaf.push(stalled_http2().await);
        subscriptions.push(stalled_subscription().await);
    }
    let mut highest = 0;
    for round in 1..=ROUNDS {
        change(&bench, round).await;
        assert_eq!(Request::get("/info/version").send().await.status, 200);
        highest = highest.max(resident_mib(&mut bench));
    }
    let grown = highest.saturating_sub(memory);
    println!(
        "{} clients that do not read, {} changes: {memory} MiB before, at most {highest} MiB during them",
        3 * STALLED,
        VALUES * ROUNDS
    );
    assert!(grown <= MEMORY_MAX_MIB, "the agent uses {grown} MiB more memory");

    // Clients that read nothing are disconnected. gRPC clients stay connected, because their library still reads from the
    // connection.
    let agent = bench.agent().pid();
    let count = || std::fs::read_dir(format!("/proc/{agent}/fd")).map_or(0, Iterator::count);
    bench
        .until_true("the agent has closed the stalled connections", || count() <= open + STALLED)
        .await;
    for (number, mut stream) in deaf.into_iter().enumerate() {
        let mut reported = Vec::new();
        // Ignore errors, because data that arrived before a connection reset is still read.
        let _ = stream.read_to_end(&mut reported).await;
        // Every second client used REST. The others received values over HTTP/2.
        let answered = if number % 2 == 0 { &b"HTTP/1.1 200"[..] } else { b"linux.l3.arp" };
        assert!(
            reported.windows(answered.len()).any(|bytes| bytes == answered),
            "client {number} must have been served at first"
        );
    }

    // A client that reads again receives the latest state, without the intermediate states.
    bench.delete_all().await;
    for (_client, mut stream) in subscriptions {
        let mut gone = BTreeSet::new();
        let mut reported = 0;
        while gone.len() < VALUES {
            let answer = stream.message().await.expect("the stream is open").expect("a message");
            for notification in answer.notifications {
                reported += 1;
                let name = notification.item.and_then(|item| item.id).expect("an ID").name;
                if notification.status.is_some_and(|status| status.status == "REMOVED") {
                    gone.insert(name);
                }
            }
        }
        assert!(
            reported < VALUES * ROUNDS,
            "intermediate states must be omitted, but there were {reported} messages"
        );
    }
    bench.stop_agent().await;
}
on_one_store!(stalled_clients_do_not_affect_others, Embedded, 300);
