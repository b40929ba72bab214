//! Transcripts of commands, and what they are run against.
//!
//! Owns one scenario for each: an agent with a known configuration. Start reading at the macro `transcript`.

use std::path::Path;

use crate::{
    on_one_store,
    support::{
        bench::Bench,
        config::{Arp, Config, Interface, Reference, Route},
    },
};

/// Two ends in two namespaces, a route and an ARP entry.
fn config() -> Config {
    Config {
        interfaces: vec![
            Interface::veth("left", "right", Reference::named("red"))
                .host_name("eth0")
                .address("10.11.0.1/24")
                .mac("02:00:00:00:11:01"),
            Interface::veth("right", "left", Reference::named("blue"))
                .host_name("eth0")
                .address("10.11.0.2/24")
                .mac("02:00:00:00:11:02"),
        ],
        routes: vec![Route::new("left", "10.12.0.0/16", "10.11.0.2")],
        arps: vec![Arp::new("left", "10.11.0.9", "02:00:00:00:11:09")],
    }
}

/// An agent that has done all that it can: the configuration is CONFIGURED, one value waits, and one makes no sense.
async fn converged(bench: &mut Bench) {
    bench.start_agent().await;
    let revisions = bench.put_together(&config()).await;
    bench.until_configured(&revisions).await;
    let (arp, oops) = ("linux/l3/v2/arp/absent/10.0.0.2", "linux/interfaces/v2/interface/oops");
    let waiting = r#"{"interface":"absent","ip_address":"10.0.0.2","hw_address":"02:00:00:00:00:02"}"#;
    bench.put(arp, waiting).await;
    bench.until_state(arp, "PENDING").await;
    bench.put(oops, r#"{"name":"oops","type":"VETH","mtu":1500}"#).await;
    bench.until_state(oops, "INVALID").await;
}

/// Runs a transcript. Commands see the scenario's files as `files/`.
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

transcript!(status);
transcript!(get);
transcript!(describe);
transcript!(explain);
transcript!(watch);
transcript!(wait);
transcript!(history);
transcript!(graph);
transcript!(resync);
transcript!(log);
transcript!(kvdb);

/// What is told without an agent, and what is told when one is missing.
#[test]
fn without_an_agent() {
    run("without_agent");
}
