//! Tests calls that the gRPC API must reject. They are sent without TLS, and again with TLS and client certificates. Also tests
//! the limits on request rate and connections. See [`of_calls`].

use std::collections::HashMap;

use futures::stream;
use http_body_util::StreamBody;
use hyper::{
    body::{Bytes, Frame},
    client::conn::http2,
};
use hyper_util::rt::{TokioExecutor, TokioIo};
use models::proto::ligato::generic::{GetConfigRequest, GetConfigResponse, SetConfigRequest, SetConfigResponse};
use tonic::{
    Code, Status,
    transport::{Certificate, ClientTlsConfig, Identity},
};

use super::{
    EXPIRED, GOOD, READER, Scan, UNKNOWN, Welcome,
    rest::of_handshakes,
    scanned,
    wire::{Target, dribble, say, say_and_leave, say_for_frames},
};
use crate::{
    certificates::{self, FOLDER},
    grpc_client::{ADDRESS, Client, MANAGER},
    on_one_store,
    security::start,
    support::bench::Bench,
};

const PLAIN: Target = Target {
    address: ADDRESS,
    tls: None,
};
const TLS: Target = Target {
    address: ADDRESS,
    tls: Some("h2"),
};
const PREFACE: &str = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

async fn client(target: Target, authorization: &str) -> Client {
    let read = |name: &str| std::fs::read(format!("{FOLDER}/{name}")).expect("a file");
    let tls = target.tls.map(|_| {
        ClientTlsConfig::new()
            .ca_certificate(Certificate::from_pem(read("ca.pem")))
            .identity(Identity::from_pem(read("client.pem"), read("client.key")))
    });
    let client = Client::over(tls).await;
    match authorization {
        "" => client,
        text => client.authorization(text),
    }
}

fn provider(token: &str) -> String {
    format!("Bearer {token}")
}

/// Returns two legitimate clients. The first opens a new connection for each call, and the second keeps its connection.
async fn welcome(target: Target) -> Vec<Welcome> {
    let anew = move || async move {
        let answer = get(&mut client(target, &provider(GOOD)).await, "").await;
        assert_eq!(answer, "Ok: ", "a connection of its own");
    };
    let kept = std::sync::Arc::new(tokio::sync::Mutex::new(client(target, &provider(GOOD)).await));
    let again = move || {
        let kept = kept.clone();
        async move {
            let answer = get(&mut *kept.lock().await, "").await;
            assert_eq!(answer, "Ok: ", "a connection that is kept");
        }
    };
    vec![Welcome::begin(anew), Welcome::begin(again)]
}

/// Makes a call with this label, and returns the code and message of the response.
async fn get(client: &mut Client, label: &str) -> String {
    let request = GetConfigRequest {
        ids: vec![],
        labels: HashMap::from([("label".to_owned(), label.to_owned())]),
    };
    reported(client.call::<_, GetConfigResponse>(MANAGER, "GetConfig", request).await)
}

fn reported<T>(answer: Result<T, Status>) -> String {
    answer.map_or_else(
        |status| format!("{:?}: {}", status.code(), status.message()),
        |_| format!("{:?}: ", Code::Ok),
    )
}

/// Adds calls that the agent rejects with and without TLS.
fn of_calls(scan: &mut Scan, target: Target) {
    let with = move |authorization: String| {
        move || {
            let authorization = authorization.clone();
            async move { get(&mut client(target, &authorization).await, "").await }
        }
    };
    scan.attempt("no token", "Unauthenticated: a token is required", with(String::new()));
    scan.attempt(
        "an unknown token",
        "Unauthenticated: unknown token; it must be listed",
        with(provider(UNKNOWN)),
    );
    scan.attempt(
        "an expired token",
        "Unauthenticated: the token of emil has expired",
        with(provider(EXPIRED)),
    );
    scan.attempt(
        "a password in place of a token",
        "Unauthenticated: a token is required",
        with("Basic YW5uYTphbm5h".to_owned()),
    );
    let change = move || async move {
        let mut client = client(target, &provider(READER)).await;
        reported(
            client
                .call::<_, SetConfigResponse>(MANAGER, "SetConfig", SetConfigRequest::default())
                .await,
        )
    };
    scan.attempt(
        "a change by who may read",
        "PermissionDenied: anna has role read, but the request requires role write",
        change,
    );
    let long = move || async move { get(&mut client(target, &provider(GOOD)).await, &"x".repeat(1001)).await };
    scan.attempt("a message too long", "but --http-body-max allows only 1000", long);
    scan.attempt("metadata too long", "431", with("x".repeat(30_000)));
    scan.attempt(
        "a message in drops",
        "DeadlineExceeded: the message did not arrive within 3 s",
        move || slow_message(target),
    );
    scan.attempt("REST", "this port serves gRPC", move || {
        say(target, "GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
    });
    scan.attempt("REST, by its status", " 400 ", move || say(target, "GET / HTTP/1.1\r\n\r\n"));
    scan.attempt("garbage", "this port serves gRPC", move || say(target, [0, 1, 2, 3, 4]));
    scan.attempt("silence", "the client did not start HTTP/2 within 1 s", move || say(target, ""));
    scan.attempt("the beginning in drops", " 408 ", move || dribble(target, "", PREFACE));
    scan.attempt("nothing after the beginning", "GOAWAY", move || say_for_frames(target, PREFACE));
    scan.attempt("half a beginning, and leave", " 400 ", move || say_and_leave(target, &PREFACE[..7]));
    let garbage = [PREFACE.as_bytes(), &[0xff; 64]].concat();
    scan.attempt("garbage after the beginning", "GOAWAY", move || {
        say_for_frames(target, garbage.clone())
    });
}

/// Makes a call whose message is never completed.
async fn slow_message(target: Target) -> String {
    let connected = http2::handshake(TokioExecutor::new(), TokioIo::new(target.open().await)).await;
    let (mut sender, connection) = connected.expect("HTTP/2");
    let driver = tokio::spawn(connection);
    let begin = Some(Bytes::from_static(&[0, 0, 0, 3, 0]));
    let drops = stream::unfold(begin, |bytes| async move {
        if bytes.is_none() {
            // The pause simulates a slow client.
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        }
        let frame = Frame::data(bytes.unwrap_or(Bytes::from_static(b"x")));
        Some((Ok::<_, std::convert::Infallible>(frame), None::<Bytes>))
    });
    let request = hyper::Request::post(format!("http://{ADDRESS}{MANAGER}GetConfig"))
        .header("content-type", "application/grpc")
        .header("te", "trailers")
        .header("authorization", provider(GOOD))
        .body(StreamBody::new(Box::pin(drops)))
        .expect("a request");
    let answer = sender.send_request(request).await.expect("it is answered");
    driver.abort();
    reported(Status::from_header_map(answer.headers()).map_or(Ok(()), Err))
}

async fn without_tls(mut bench: Bench) {
    scanned(&mut bench, false).await;
    certificates::make();
    let mut scan = Scan::of("gRPC", welcome(PLAIN).await);
    of_calls(&mut scan, PLAIN);
    scan.attempt("TLS on a port without", " 400 ", || say(PLAIN, certificates::hello()));
    scan.finish().await;
    bench.stop_agent().await;
}
on_one_store!(without_tls, Embedded, 180);

async fn with_tls(mut bench: Bench) {
    scanned(&mut bench, true).await;
    let mut scan = Scan::of("gRPC over TLS", welcome(TLS).await);
    of_calls(&mut scan, TLS);
    of_handshakes(&mut scan, TLS);
    scan.attempt("HTTP/2 without TLS", "this port requires TLS", || say(TLS.plain(), PREFACE));
    scan.finish().await;
    bench.stop_agent().await;
}
on_one_store!(with_tls, Embedded, 180);

/// The rate limit counts the requests of both APIs together, but connections are counted separately for each API.
async fn too_many(mut bench: Bench) {
    start(&mut bench, &["--http-rate-limit", "2", "--http-connections-max", "2"]).await;
    let mut client = Client::connect().await;
    let mut answers = Vec::new();
    // A hundred calls in a row exceed the limit of two per second on any machine.
    while answers.len() < 100 && answers.last().is_none_or(|answer| answer == "Ok: ") {
        answers.push(get(&mut client, "").await);
    }
    assert_eq!(answers[..2], ["Ok: ", "Ok: "]);
    let refused = answers.last().expect("there are some");
    assert!(
        refused.starts_with("ResourceExhausted: more than 2 requests per second; try again after 1 s"),
        "{refused}"
    );
    let held = PLAIN.open().await;
    let reported = say(PLAIN, PREFACE).await;
    assert!(reported.contains("too many connections"), "{reported:?}");
    drop(held);
    drop(client);
    bench.stop_agent().await;
}
on_one_store!(too_many, Embedded, 120);
