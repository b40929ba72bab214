//! Sends bad requests of all kinds to every listener at once. Legitimate clients must be served throughout.
//!
//! Each attempt ends when the agent closes the connection. A connection that stays open fails the test. `scan/wire.rs` contains
//! functions that send slowly, send garbage or send nothing. `scan/rest.rs` and `scan/grpc.rs` contain the bad requests of each
//! protocol. See [`Scan`].

mod grpc;
mod rest;
mod wire;

use std::{collections::BTreeMap, future::Future, time::Duration};

use tokio::{sync::watch, task::JoinHandle, task::JoinSet};

use crate::{
    certificates::{self, IDENTITY},
    security::{TOKENS, start, write_tokens},
    support::bench::Bench,
};

/// Number of times that each bad request is sent, all at once.
const TIMES: usize = 5;
/// Pause between two requests of a legitimate client. It leaves CPU time for the bad requests.
const PAUSE: Duration = Duration::from_millis(20);
/// Agent arguments with small limits, so that the test takes only seconds.
const LIMITS: [&str; 6] = ["--http-time-limit", "1", "--http-body-max", "1000", "--tokens-file", TOKENS];

const GOOD: &str = "token-of-otto-0123456789";
const READER: &str = "token-of-anna-0123456789";
const EXPIRED: &str = "token-of-emil-0123456789";
const UNKNOWN: &str = "token-of-nobody-01234567";

/// Bad requests in progress, and the legitimate clients that must be served in the meantime.
struct Scan {
    listener: &'static str,
    tries: JoinSet<(&'static str, &'static str, String)>,
    welcome: Vec<Welcome>,
}

/// A legitimate client that sends requests continuously, all of which must be served.
struct Welcome {
    stop: watch::Sender<bool>,
    served: JoinHandle<usize>,
}

impl Welcome {
    /// Calls `ask`, which sends one request, until the client is stopped. `ask` must panic if its request is not served.
    fn begin<F>(mut ask: impl FnMut() -> F + Send + 'static) -> Self
    where
        F: Future<Output = ()> + Send,
    {
        let (stop, stopped) = watch::channel(false);
        let served = tokio::spawn(async move {
            let mut served = 0;
            while !*stopped.borrow() {
                ask().await;
                served += 1;
                tokio::time::sleep(PAUSE).await;
            }
            served
        });
        Welcome { stop, served }
    }
}

impl Scan {
    fn of(listener: &'static str, welcome: Vec<Welcome>) -> Self {
        let tries = JoinSet::new();
        Scan { listener, tries, welcome }
    }

    /// Starts several concurrent copies of one bad request.
    ///
    /// If `expected` is empty, the agent must close the connection without a response. Otherwise, the response must contain
    /// `expected`.
    fn attempt<F>(&mut self, name: &'static str, expected: &'static str, attempt: impl Fn() -> F)
    where
        F: Future<Output = String> + Send + 'static,
    {
        for _ in 0..TIMES {
            let attempt = attempt();
            self.tries.spawn(async move { (name, expected, attempt.await) });
        }
    }

    /// Waits for all responses, compares them with the expected ones, and prints a summary.
    async fn finish(mut self) {
        let (mut refused, mut wrong) = (BTreeMap::new(), Vec::new());
        while let Some(done) = self.tries.join_next().await {
            let (name, expected, reported) = done.unwrap_or_else(|error| panic!("{}: an attempt did not end: {error}", self.listener));
            match expected.is_empty() && reported.is_empty() || !expected.is_empty() && reported.contains(expected) {
                true => *refused.entry((name, expected)).or_insert(0) += 1,
                false => wrong.push(format!("{name}: expected {expected:?}, got {reported:?}")),
            }
        }
        let mut served = 0;
        for welcome in self.welcome {
            welcome.stop.send_replace(true);
            served += welcome.served.await.unwrap_or_else(|error| panic!("{}: {error}", self.listener));
        }
        let attempts: usize = refused.values().sum();
        println!(
            "{}: {attempts} attempts of {} kinds rejected; {served} good requests served",
            self.listener,
            refused.len()
        );
        for ((name, expected), times) in &refused {
            let reported = if expected.is_empty() { "closed silently" } else { expected };
            println!("  {times} × {name}: {reported}");
        }
        assert!(wrong.is_empty(), "{}:\n{}", self.listener, wrong.join("\n"));
        assert!(served > 0, "{}", self.listener);
    }
}

/// Starts an agent with small limits and tokens, optionally with TLS and client certificates.
async fn scanned(bench: &mut Bench, with_tls: bool) {
    write_tokens(&format!(
        "anna read {READER}\notto write {GOOD}\nemil write {EXPIRED} 2001-01-01T00:00:00Z\n"
    ));
    let mut arguments = LIMITS.to_vec();
    if with_tls {
        certificates::make();
        arguments.extend(IDENTITY);
        arguments.extend(["--http-client-ca", "/run/live/ca.pem"]);
    }
    start(bench, &arguments).await;
}
