//! Tests that the REST API rejects wrong, missing or expired credentials, requests from foreign web pages, bodies that are too
//! long, slow clients, and too many connections or requests.
//!
//! Each kind of rejection has its own test. `scan` tests all of them together on every listener. See [`tokens_and_roles`].

use std::{fs, os::unix::fs::PermissionsExt};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use crate::{
    certificates::{self, IDENTITY},
    client::{ADDRESS, Answer, Request, read_answer},
    golden, on_one_store,
    support::{bench::Bench, command},
};

/// Path of the token file.
pub const TOKENS: &str = "/run/live/tokens";

/// Writes the token file.
pub fn write_tokens(content: &str) {
    fs::write(TOKENS, content).expect("write the token file");
    fs::set_permissions(TOKENS, fs::Permissions::from_mode(0o600)).expect("set the mode of the token file");
}

/// Starts an agent with these arguments.
pub async fn start(bench: &mut Bench, arguments: &[&str]) {
    bench.agent_arguments = arguments.iter().map(|argument| (*argument).to_owned()).collect();
    bench.start_agent().await;
}

fn log() -> String {
    fs::read_to_string(crate::support::agent::LOG).expect("read the log of the agent")
}

async fn tokens_and_roles(mut bench: Bench) {
    write_tokens(concat!(
        "anna read token-of-anna-0123456789\n",
        "otto write token-of-otto-0123456789\n",
        "emil write token-of-emil-0123456789 2001-01-01T00:00:00Z\n",
    ));
    start(&mut bench, &["--tokens-file", TOKENS]).await;
    let look = || Request::get("/info/version");
    golden::check("security-missing.json", &look().send().await);
    golden::check("security-unknown.json", &look().token("token-of-nobody-01234567").send().await);
    golden::check("security-expired.json", &look().token("token-of-emil-0123456789").send().await);
    let basic = look().header("Authorization", "Basic YW5uYTphbm5h").send().await;
    assert_eq!(
        (basic.status, basic.headers["www-authenticate"].as_str()),
        (401, "Bearer realm=\"netns-agent\"")
    );

    let anna = look().token("token-of-anna-0123456789").send().await;
    assert_eq!((anna.status, anna.headers["x-ligato-auth-username"].as_str()), (200, "anna"));
    let change = || Request::new("PUT", "/log/engine/debug");
    golden::check("security-role.json", &change().token("token-of-anna-0123456789").send().await);
    assert_eq!(change().token("token-of-otto-0123456789").send().await.status, 200);

    write_tokens("otto write another-token-of-otto-01\n");
    assert_eq!(
        look().token("token-of-anna-0123456789").send().await.status,
        401,
        "a changed token file must apply at once"
    );
    assert_eq!(look().token("another-token-of-otto-01").send().await.status, 200);
    assert!(!log().contains("0123456789"), "no token may be in the log");
    bench.stop_agent().await;
}
on_one_store!(tokens_and_roles, Embedded, 120);

async fn foreign_web_pages_are_rejected(mut bench: Bench) {
    bench.start_agent().await;
    let stranger = Request::get("/scheduler/status").header("Host", "evil.example:9191").send().await;
    golden::check("security-foreign-host.json", &stranger);
    let change = || Request::new("POST", "/scheduler/downstream-resync");
    assert_eq!(change().header("Origin", "http://evil.example").send().await.status, 403);
    assert_eq!(change().header("Origin", "null").send().await.status, 403);
    assert_eq!(change().header("Sec-Fetch-Site", "same-site").send().await.status, 403);
    let own = change().header("Origin", &format!("http://{ADDRESS}")).send().await;
    assert_eq!((own.status, own.headers["x-content-type-options"].as_str()), (200, "nosniff"));
    let link = Request::get("/")
        .header("Sec-Fetch-Site", "cross-site")
        .header("Sec-Fetch-Mode", "navigate");
    assert_eq!(link.send().await.status, 200);
    bench.stop_agent().await;
}
on_one_store!(foreign_web_pages_are_rejected, Embedded, 120);

/// Only `--http-body-max` limits the length of a body. The HTTP framework's default limit of 2 MiB does not apply.
async fn the_flag_limits_bodies(mut bench: Bench) {
    start(&mut bench, &["--http-body-max", "3000000"]).await;
    let put = |length: usize| Request::new("PUT", "/configuration").body(format!("{}\n", "#".repeat(length - 1)));
    let answer = put(3_000_000).send().await;
    assert_eq!((answer.status, answer.body.as_str()), (200, "{}\n"));
    let answer = put(3_000_001).send().await;
    assert_eq!(answer.status, 413);
    assert!(
        answer.body.contains("larger than 3000000 bytes") && answer.body.contains("--http-body-max"),
        "{answer:?}"
    );
    bench.stop_agent().await;
}
on_one_store!(the_flag_limits_bodies, Embedded, 120);

async fn bodies_and_headers_that_are_too_long(mut bench: Bench) {
    start(&mut bench, &["--http-body-max", "1000"]).await;
    let put = |body: String| Request::new("PUT", "/log/engine/debug").body(body);
    assert_eq!(put("x".repeat(1000)).send().await.status, 200);
    golden::check("security-body.json", &put("x".repeat(1001)).send().await);
    let mut stream = TcpStream::connect(ADDRESS).await.expect("a connection");
    let chunk = format!("{:x}\r\n{}\r\n", 600, "x".repeat(600));
    let text = format!(
        "PUT /log/engine/debug HTTP/1.1\r\nHost: {ADDRESS}\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n\r\n{chunk}{chunk}0\r\n\r\n"
    );
    stream.write_all(text.as_bytes()).await.expect("writable");
    assert_eq!(read_answer(stream).await.status, 413, "a chunked body must be limited too");
    let long = Request::get("/").header("X-Long", &"x".repeat(1_000_000)).send().await;
    assert_eq!(long.status, 431);
    bench.stop_agent().await;
}
on_one_store!(bodies_and_headers_that_are_too_long, Embedded, 120);

/// A client that sends its headers slowly or not at all is disconnected, and does not block other clients in the meantime.
async fn slow_clients(mut bench: Bench) {
    start(&mut bench, &["--http-connections-max", "4", "--http-time-limit", "2"]).await;
    let mut silent = TcpStream::connect(ADDRESS).await.expect("a connection");
    let mut slow = TcpStream::connect(ADDRESS).await.expect("a connection");
    slow.write_all(b"GET / HTTP/1.1\r\nHost: localhost\r\nX-Slow: ")
        .await
        .expect("writable");
    assert_eq!(Request::get("/").send().await.status, 200);
    let (mut of_silent, mut of_slow) = (Vec::new(), Vec::new());
    let closed = async {
        tokio::join!(async { silent.read_to_end(&mut of_silent).await }, async {
            slow.read_to_end(&mut of_slow).await
        })
    };
    let time_limit = std::time::Duration::from_secs(60);
    tokio::time::timeout(time_limit, closed).await.map(drop).expect("both are closed");
    assert!(
        of_silent.is_empty() || String::from_utf8_lossy(&of_silent).contains(" 408 "),
        "{of_silent:?}"
    );
    bench.stop_agent().await;
}
on_one_store!(slow_clients, Embedded, 180);

async fn too_many_connections(mut bench: Bench) {
    start(&mut bench, &["--http-connections-max", "2"]).await;
    let held = [
        TcpStream::connect(ADDRESS).await.expect("a connection"),
        TcpStream::connect(ADDRESS).await.expect("a connection"),
    ];
    // The agent accepts connections in order, so it has counted the two open connections when the next one arrives.
    golden::check("security-connections.json", &Request::get("/").send().await);
    drop(held);
    let mut served = false;
    while !served {
        // The agent needs a moment to notice that the two connections are closed.
        served = Request::get("/").send().await.status == 200;
    }
    bench.stop_agent().await;
}
on_one_store!(too_many_connections, Embedded, 120);

async fn too_many_requests(mut bench: Bench) {
    start(&mut bench, &["--http-rate-limit", "2"]).await;
    let mut codes = Vec::new();
    let mut refused: Option<Answer> = None;
    // A hundred requests in a row exceed the limit of two per second.
    for _ in 0..100 {
        let answer = Request::get("/info/version").send().await;
        codes.push(answer.status);
        if answer.status == 429 {
            refused = Some(answer);
            break;
        }
    }
    assert_eq!(codes[..2], [200, 200]);
    let refused = refused.expect("one of a hundred requests is rejected");
    assert_eq!(
        (
            refused.headers["retry-after"].as_str(),
            refused.headers["x-ligato-ratelimiter-limit"].as_str()
        ),
        ("1", "2")
    );
    golden::check("security-rate.json", &refused);
    bench.stop_agent().await;
}
on_one_store!(too_many_requests, Embedded, 120);

async fn tls_and_client_certificates(mut bench: Bench) {
    certificates::make();
    write_tokens("anna read token-of-anna-0123456789\n");
    start(&mut bench, &[&IDENTITY[..], &["--tokens-file", TOKENS]].concat()).await;
    let look = || Request::get("/info/version");
    let stream = certificates::connect(ADDRESS, None, &[])
        .await
        .expect("the certificate of the server is trusted");
    assert_eq!(look().send_over(stream).await.status, 401);
    let stream = certificates::connect(ADDRESS, None, &[])
        .await
        .expect("the certificate of the server is trusted");
    assert_eq!(look().token("token-of-anna-0123456789").send_over(stream).await.status, 200);
    bench.stop_agent().await;

    start(&mut bench, &[&IDENTITY[..], &["--http-client-ca", "/run/live/ca.pem"]].concat()).await;
    let stream = certificates::connect(ADDRESS, Some("client"), &[])
        .await
        .expect("both sides trust each other");
    assert_eq!(Request::new("PUT", "/log/engine/debug").send_over(stream).await.status, 200);
    // A browser presents the client certificate with requests from any page, so the certificate alone must not be enough.
    let stream = certificates::connect(ADDRESS, Some("client"), &[])
        .await
        .expect("both sides trust each other");
    let foreign = Request::new("PUT", "/log/engine/debug").header("Origin", "null");
    assert_eq!(foreign.send_over(stream).await.status, 403);
    for unwanted in [None, Some("nobodys")] {
        let answered = match certificates::connect(ADDRESS, unwanted, &[]).await {
            Err(_) => false,
            Ok(mut stream) => {
                let _ = stream
                    .write_all(b"GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
                    .await;
                let mut bytes = Vec::new();
                let _ = stream.read_to_end(&mut bytes).await;
                String::from_utf8_lossy(&bytes).contains("HTTP/1.1")
            }
        };
        assert!(!answered, "a client with {unwanted:?} must not get a response");
    }
    bench.stop_agent().await;
}
on_one_store!(tls_and_client_certificates, Embedded, 120);

/// If the API cannot be served, the agent fails to start, with an exit code and an explanation.
async fn refusals_to_start(bench: Bench) {
    let _taken = tokio::net::TcpListener::bind(ADDRESS).await.expect("bind to the port");
    fs::write(TOKENS, "anna read short\n").expect("writable");
    let refused = |code: i32, arguments: &[&str], parts: &[&str]| {
        let all = [
            &["run", "--data-dir", "/run/live/data", "--embedded-listen", "127.0.0.1:0"],
            arguments,
        ]
        .concat();
        let output = command::output(env!("CARGO_BIN_EXE_netns-agent"), &all);
        let words = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(code), "{words}");
        for part in parts {
            assert!(words.contains(part), "{part:?} is missing in: {words}");
        }
    };
    refused(
        1,
        &[],
        &["the REST API cannot start", ADDRESS, "Address already in use", "--http-listen"],
    );
    refused(
        1,
        &["--http-listen", "127.0.0.1:0", "--tokens-file", TOKENS],
        &["line 1", "fewer than 16"],
    );
    refused(
        1,
        &["--http-listen", "127.0.0.1:0", "--http-cert", TOKENS, "--http-key", TOKENS],
        &[TOKENS, "no PEM certificate"],
    );
    refused(2, &["--http-listen", "0.0.0.0:9191"], &["other machines", "--insecure-listen"]);
    drop(bench);
}
on_one_store!(refusals_to_start, Embedded, 120);

async fn rest_api_can_be_disabled(mut bench: Bench) {
    start(&mut bench, &["--http-listen", "off"]).await;
    assert!(TcpStream::connect(ADDRESS).await.is_err());
    bench.stop_agent().await;
}
on_one_store!(rest_api_can_be_disabled, Embedded, 120);
