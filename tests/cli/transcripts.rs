//! Runs the transcripts, each against an agent with a known configuration. See the macro `transcript`.

use std::{collections::BTreeSet, os::unix::fs::PermissionsExt, path::Path, process::Stdio, time::Duration};

use tokio::{
    io::{AsyncBufReadExt, BufReader},
    time::timeout,
};

use crate::{
    on_one_store,
    support::{bench::Bench, config::Config, etcd::Certificates},
};

/// Starts an agent and waits until it has converged: the configuration is CONFIGURED, one more value is PENDING, and one is
/// INVALID.
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

/// Runs the transcript `NAME.trycmd`, in the directory `NAME.in` if that exists.
fn run(name: &str) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/cli");
    trycmd::TestCases::new()
        .register_bin("netns-agent", Path::new(env!("CARGO_BIN_EXE_netns-agent")))
        .env("NO_COLOR", "1")
        .case(folder.join(format!("{name}.trycmd")))
        .run();
}

/// Defines a test that runs the transcript of this name against a converged agent.
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

/// Defines a test for each transcript, and the list of their names.
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

/// An agent with TLS requires a certificate and a token, and rejects a client that lacks one of them.
async fn secured(mut bench: Bench) {
    let certificates = Certificates::create();
    let folder = certificates.ca().parent().expect("a directory").to_owned();
    std::os::unix::fs::symlink(folder, "/run/live/tls").expect("a link");
    std::fs::write("/run/live/tokens", "anna read token-of-anna-0123456789\n").expect("a file");
    std::fs::set_permissions("/run/live/tokens", std::fs::Permissions::from_mode(0o600)).expect("set the mode of the file");
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

/// `watch` prints a line for each change as it happens. It must not report values as removed when the agent restarts.
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
    let mut lines = BufReader::new(child.stdout.take().expect("the output")).lines();
    let mut until = async |state: &str, key: &str| {
        loop {
            let line = timeout(Duration::from_secs(30), lines.next_line()).await.expect("a line in time");
            let line = line.expect("read a line").expect("the watch goes on");
            if line.contains(state) && line.contains(key) {
                return;
            }
            assert!(!line.contains("REMOVED"), "{line:?} while {key} must become {state}");
        }
    };
    until("PENDING", arp).await;
    until("CONFIGURED", route).await;
    bench.delete("linux/l3/v2/arp/absent/10.0.0.2").await;
    until("REMOVED", arp).await;
    bench.stop_agent().await;
    bench.start_agent().await;
    // A restarted agent publishes the status without a last operation. That is a change, so the value is printed again.
    until("CONFIGURED", route).await;
    bench.delete("linux/l3/v2/route/10.12.0.0/16/left").await;
    until("REMOVED", route).await;
    // The command exits successfully when it prints a line after the reading end of its output is closed.
    drop(lines);
    bench
        .put(
            "linux/l3/v2/arp/absent/10.0.0.2",
            r#"{"interface":"absent","ip_address":"10.0.0.2","hw_address":"02:00:00:00:00:02"}"#,
        )
        .await;
    let ended = timeout(Duration::from_secs(30), child.wait()).await.expect("its end in time");
    assert!(ended.expect("wait for the end").success());
    bench.stop_agent().await;
}
on_one_store!(watch_follows, Embedded, 120);

/// Tests commands that need no agent, and the errors of other commands if no agent is running.
#[test]
fn without_an_agent() {
    run("without_agent");
}
