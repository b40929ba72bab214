//! Live test of a low limit on open files. All values must be configured, and the agent must stay reachable.

use rustix::process::{Resource, Rlimit, setrlimit};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use crate::{
    on_both_stores,
    support::{
        agent::LOG,
        bench::{Bench, Revisions},
        config::{Interface, Kind, Reference},
    },
};

/// The agent's hard limit on open files.
const LIMIT: u64 = 256;
const NAMESPACES: usize = 100;
/// Number of clients. The agent does not have enough descriptors for all of them.
const CLIENTS: usize = 60;

async fn get(path: &str) -> String {
    let mut stream = TcpStream::connect("127.0.0.1:9191").await.expect("connect to the API");
    let request = format!("GET {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.expect("send the request");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.expect("read the answer");
    answer
}

async fn low_limit_of_open_files_configures_everything_and_answers_probes(mut bench: Bench) {
    let limit = Rlimit {
        current: Some(LIMIT),
        maximum: Some(LIMIT),
    };
    // Lower the limit of this test process, because the agent inherits it.
    setrlimit(Resource::Nofile, limit).expect("lower the limit");
    bench.start_agent().await;
    let mut revisions = Revisions::new();
    for number in 0..NAMESPACES {
        let namespace = Reference::named(&format!("low{number}"));
        let loopback = Interface::new(&format!("lo{number}"), Kind::Loopback, namespace).address("10.61.0.1/32");
        let revision = bench.put(&loopback.key(), loopback.json().to_string()).await;
        revisions.insert(loopback.key(), revision);
    }
    bench.until_configured(&revisions).await;
    let mut idle = Vec::new();
    for _ in 0..CLIENTS {
        idle.push(TcpStream::connect("127.0.0.1:9191").await.expect("connect to the API"));
    }
    let pid = bench.agent().pid();
    let used = std::fs::read_dir(format!("/proc/{pid}/fd")).expect("list the descriptors").count();
    assert!(used < LIMIT as usize, "{used} descriptors are in use");
    idle.clear();
    // The agent must still be able to open files for a change after all namespaces have been opened.
    let loopback = Interface::new("lo7", Kind::Loopback, Reference::named("low7")).address("10.61.0.2/32");
    let revision = bench.put(&loopback.key(), loopback.json().to_string()).await;
    bench.until_configured(&Revisions::from([(loopback.key(), revision)])).await;
    assert!(get("/readiness").await.starts_with("HTTP/1.1 200"), "not ready");
    let log = std::fs::read_to_string(LOG).expect("read the log");
    for sign in ["EMFILE", "Too many open files", "cannot accept"] {
        assert!(!log.contains(sign), "the log must not contain {sign:?}");
    }
    bench.stop_agent().await;
}
on_both_stores!(low_limit_of_open_files_configures_everything_and_answers_probes);
