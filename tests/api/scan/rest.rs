//! Tests requests that the REST API must reject. They are sent without TLS, and again with TLS and client certificates. See
//! [`of_requests`].

use super::{
    EXPIRED, GOOD, READER, Scan, UNKNOWN, Welcome, scanned,
    wire::{Target, dribble, handshake, say, say_and_leave},
};
use crate::{
    certificates,
    client::{ADDRESS, Request},
    on_one_store,
    support::bench::Bench,
};

const PLAIN: Target = Target {
    address: ADDRESS,
    tls: None,
};
const TLS: Target = Target {
    address: ADDRESS,
    tls: Some("http/1.1"),
};

fn welcome(target: Target) -> Vec<Welcome> {
    let ask = move || async move {
        let answer = Request::get("/info/version").token(GOOD).send_over(target.open().await).await;
        assert_eq!(answer.status, 200, "{answer:?}");
    };
    vec![Welcome::begin(ask)]
}

/// Returns a request as text, with these header lines.
fn request(line: &str, headers: &str) -> String {
    format!("{line} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n{headers}\r\n")
}

fn provider(token: &str) -> String {
    format!("Authorization: Bearer {token}\r\n")
}

/// Adds requests that the agent rejects with and without TLS.
fn of_requests(scan: &mut Scan, target: Target) {
    let look = move |headers: String| move || say(target, request("GET /info/version", &headers));
    scan.attempt("no token", " 401 ", look(String::new()));
    scan.attempt("no token, in words", "a token is required", look(String::new()));
    scan.attempt("an unknown token", "unknown token", look(provider(UNKNOWN)));
    scan.attempt("an expired token", "the token of emil has expired", look(provider(EXPIRED)));
    scan.attempt(
        "a password in place of a token",
        " 401 ",
        look("Authorization: Basic YW5uYTphbm5h\r\n".to_owned()),
    );
    let change = move || say(target, request("PUT /log/engine/info", &provider(READER)));
    scan.attempt(
        "a change by who may read",
        "has role read, but the request requires role write",
        change,
    );

    let long = provider(GOOD) + "Content-Length: 1001\r\n";
    let put = move |headers: String, body: String| move || say(target, request("PUT /log/engine/info", &headers) + &body);
    scan.attempt("a body too long, announced", " 413 ", put(long, "x".repeat(1001)));
    let chunk = format!("258\r\n{}\r\n", "x".repeat(600));
    let chunked = provider(GOOD) + "Transfer-Encoding: chunked\r\n";
    scan.attempt(
        "a body too long, in pieces",
        "the body is larger than 1000 bytes",
        put(chunked, format!("{chunk}{chunk}0\r\n\r\n")),
    );
    let headers = move || say(target, request("GET /", &format!("X-Long: {}\r\n", "x".repeat(1_000_000))));
    scan.attempt("headers too long", " 431 ", headers);

    let slow = move || dribble(target, "GET / HTTP/1.1\r\nHost: localhost\r\nX-Slow: ", "x");
    scan.attempt("headers in drops", " 408 ", slow);
    scan.attempt("headers in drops, in words", "the headers did not arrive within 1 s", slow);
    let body = move || {
        let head = request("PUT /log/engine/info", &(provider(GOOD) + "Content-Length: 1000\r\n"));
        dribble(target, head, "x")
    };
    scan.attempt("a body in drops", "the body did not arrive within 3 s", body);
    scan.attempt("silence", "", move || say(target, ""));
    scan.attempt("half a request, and leave", "", move || {
        say_and_leave(target, "GET / HTTP/1.1\r\nHost: lo")
    });
    scan.attempt("garbage", " 400 ", move || say(target, "\u{1}\u{2}\u{3}garbage\r\n\r\n"));
    let http2 = move || say(target, "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n");
    scan.attempt(
        "HTTP/2",
        "this port serves HTTP/1.1; the gRPC API has its own address (--grpc-listen)",
        http2,
    );
}

async fn without_tls(mut bench: Bench) {
    scanned(&mut bench, false).await;
    certificates::make();
    let mut scan = Scan::of("REST", welcome(PLAIN));
    of_requests(&mut scan, PLAIN);
    scan.attempt("TLS on a port without", " 400 ", || say(PLAIN, certificates::hello()));
    scan.finish().await;
    bench.stop_agent().await;
}
on_one_store!(without_tls, Embedded, 180);

/// Adds connections that are rejected before a request is read.
pub(super) fn of_handshakes(scan: &mut Scan, target: Target) {
    let protocol = target.tls.unwrap_or_default();
    let shown = move |identity| move || handshake(target.address, identity, protocol);
    scan.attempt("no client certificate", "CertificateRequired", shown(None));
    scan.attempt("a client certificate of another authority", "UnknownCA", shown(Some("nobodys")));
    scan.attempt("an expired client certificate", "CertificateExpired", shown(Some("expired")));
    scan.attempt("another protocol over TLS", "NoApplicationProtocol", move || {
        handshake(target.address, Some("client"), "smtp")
    });
    scan.attempt("a handshake in drops", "", move || {
        dribble(target.plain(), "", certificates::hello())
    });
    scan.attempt("a handshake that never begins", "", move || say(target.plain(), ""));
    scan.attempt("HTTP without TLS", "this port requires TLS", move || {
        say(target.plain(), request("GET /", &provider(GOOD)))
    });
    scan.attempt("garbage without TLS", "this port requires TLS", move || {
        say(target.plain(), [0, 1, 2, 3, 4])
    });
}

async fn with_tls(mut bench: Bench) {
    scanned(&mut bench, true).await;
    let mut scan = Scan::of("REST over TLS", welcome(TLS));
    of_requests(&mut scan, TLS);
    of_handshakes(&mut scan, TLS);
    scan.finish().await;
    bench.stop_agent().await;
}
on_one_store!(with_tls, Embedded, 180);
