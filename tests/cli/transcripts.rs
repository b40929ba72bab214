//! Transcripts of commands, and what they are run against.
//!
//! Owns one scenario for each: an agent with a known configuration. Start reading at the macro `transcript`.

use std::{collections::BTreeSet, os::unix::fs::PermissionsExt, path::Path, process::Stdio, time::Duration};

use tokio::{
    io::{AsyncBufReadExt, BufReader},
    time::timeout,
};

use crate::{
    on_one_store,
    support::{bench::Bench, config::Config, etcd::Certificates},
};

/// An agent that has done all that it can: the configuration is CONFIGURED, one value waits, and one makes no sense.
async fn converged(bench: &mut Bench) {
    bench.start_agent().await;
    let revisions = bench.put_together(&Config::between_two_namespaces()).await;
    bench.until_configured(&revisions).await;
    let (arp, oops) = ("linux/l3/v2/arp/absent/10.0.0.2", "linux/interfaces/v2/interface/oops");
    let waiting = r#"{"interface":"absent","ip_address":"10.0.0.2","hw_address":"02:00:00:00:00:02"}"#;
    bench.put(arp, waiting).await;
    bench.until_state(arp, "PENDING").await;
    bench.put(oops, r#"{"name":"oops","type":"VETH","mtu":1500}"#).await;
    bench.until_state(oops, "INVALID").await;
}

/// Runs a transcript. A folder `NAME.in` is where its commands run.
fn run(name: &str) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/cli");
    trycmd::TestCases::new()
        .register_bin("netns-agent", Path::new(env!("CARGO_BIN_EXE_netns-agent")))
        .env("NO_COLOR", "1")
        .case(folder.join(format!("{name}.trycmd")))
        .run();
}

/// A scenario: a converged agent, and the transcript of this name.
macro_rules! transcript {
    ($name:ident) => {
        async fn $name(mut bench: Bench) {
            converged(&mut bench).await;
            tokio::task::block_in_place(|| run(stringify!($name)));
            bench.stop_agent().await;
        }
        on_one_store!($name, Embedded, 120);
    };
}

/// Scenarios, and the list of their names.
macro_rules! transcripts {
    ($($name:ident)*) => {
        $(transcript!($name);)*
        const TRANSCRIPTS: &[&str] = &[$(stringify!($name)),*];
    };
}

transcripts!(status get describe explain watch wait apply confirm history graph resync log kvdb);

#[test]
fn every_transcript_is_run() {
    let entries = std::fs::read_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/cli")).expect("the transcripts");
    let names = entries.map(|entry| entry.expect("a directory entry").path());
    let names = names.filter(|path| path.extension().is_some_and(|extension| extension == "trycmd"));
    let found: BTreeSet<String> = names.filter_map(|path| Some(path.file_stem()?.to_str()?.to_owned())).collect();
    let run = TRANSCRIPTS.iter().chain(&["secured", "without_agent"]);
    assert_eq!(found, run.map(|name| (*name).to_owned()).collect());
}

/// An agent with TLS that wants a certificate and a token, and what is told to those who have not both.
async fn secured(mut bench: Bench) {
    let certificates = Certificates::create();
    let folder = certificates.ca().parent().expect("a folder").to_owned();
    std::os::unix::fs::symlink(folder, "/run/live/tls").expect("a link");
    std::fs::write("/run/live/tokens", "anna read token-of-anna-0123456789\n").expect("a file");
    std::fs::set_permissions("/run/live/tokens", std::fs::Permissions::from_mode(0o600)).expect("its mode can be set");
    std::fs::write("/run/live/anna", "token-of-anna-0123456789\n").expect("a file");
    let arguments = [
        "--http-cert",
        "/run/live/tls/server.pem",
        "--http-key",
        "/run/live/tls/server.key",
        "--http-client-ca",
        "/run/live/tls/ca.pem",
        "--tokens-file",
        "/run/live/tokens",
    ];
    bench.agent_arguments = arguments.map(str::to_owned).to_vec();
    converged(&mut bench).await;
    tokio::task::block_in_place(|| run("secured"));
    bench.stop_agent().await;
}
on_one_store!(secured, Embedded, 120);

/// Each change is a line as it happens; a restart of the agent removes nothing.
async fn watch_follows(mut bench: Bench) {
    converged(&mut bench).await;
    let (arp, route) = ("arp/absent/10.0.0.2", "route/10.12.0.0/16/left");
    let mut child = tokio::process::Command::new(env!("CARGO_BIN_EXE_netns-agent"))
        .args(["watch", "route", arp, "--interval", "20ms"])
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .kill_on_drop(true)
        .spawn()
        .expect("the program");
    let mut lines = BufReader::new(child.stdout.take().expect("its output")).lines();
    let mut until = async |state: &str, key: &str| {
        loop {
            let line = timeout(Duration::from_secs(30), lines.next_line()).await.expect("a line in time");
            let line = line.expect("readable").expect("it goes on");
            if line.contains(state) && line.contains(key) {
                return;
            }
            assert!(!line.contains("REMOVED"), "{line:?} while {key} was to become {state}");
        }
    };
    until("PENDING", arp).await;
    until("CONFIGURED", route).await;
    bench.delete("linux/l3/v2/arp/absent/10.0.0.2").await;
    until("REMOVED", arp).await;
    bench.stop_agent().await;
    bench.start_agent().await;
    // It was found in place, so it has no last operation any more: the value shows once more.
    until("CONFIGURED", route).await;
    bench.delete("linux/l3/v2/route/10.12.0.0/16/left").await;
    until("REMOVED", route).await;
    // Nobody reads any more: the next line ends it, and well.
    drop(lines);
    bench
        .put(
            "linux/l3/v2/arp/absent/10.0.0.2",
            r#"{"interface":"absent","ip_address":"10.0.0.2","hw_address":"02:00:00:00:00:02"}"#,
        )
        .await;
    let ended = timeout(Duration::from_secs(30), child.wait()).await.expect("its end in time");
    assert!(ended.expect("its end").success());
    bench.stop_agent().await;
}
on_one_store!(watch_follows, Embedded, 120);

/// What is told without an agent, and what is told when one is missing.
#[test]
fn without_an_agent() {
    run("without_agent");
}
