//! Measures how much API clients slow down workload W1 (1,000 veth pairs in 100 namespaces). A thousand clients are idle, and
//! fifty send requests.
//!
//! Each round puts W1 twice into the store of a running agent, once without clients and once with the clients of [`super::generator`]. The order
//! alternates. See [`clients`].
//!
//! The clients run in a separate process at nice 19, on the same two CPUs as the agent. The CPU time of that process is also
//! measured.

use std::time::{Duration, Instant};

use netns_kernel::ProcessStat;

use crate::{
    fixture::Fixture,
    generator::{BUSY, Generator, IDLE, RATE},
    kernel::{self, Counts},
    network::{LABEL, Network},
    report::{Report, Series},
    support::{agent::Agent, store::StoreKind},
};

/// Agent arguments that allow enough connections for all clients and keep idle connections open. (`--http-time-limit` also
/// applies to idle REST connections.)
const ARGUMENTS: [&str; 4] = ["--http-connections-max", "2000", "--http-time-limit", "600"];

/// Wall-clock time of one run of W1, and CPU time of the agent during the run.
struct Turn {
    applied: Duration,
    agent_ms: f64,
}

/// Measures how long W1 takes from the first put until the last status, with and without clients.
pub async fn clients(network: &Network, size: usize, rounds: usize, report: &mut Report) {
    let fixture = Fixture::new().await;
    let series = |name: &str, unit| Series::new(name, unit, size);
    let mut alone = series("clients: W1 alone", "ms");
    let mut with = series("clients: W1 with clients", "ms");
    let mut agent_alone = series("clients: processor time of the agent alone", "ms");
    let mut agent_with = series("clients: processor time of the agent with clients", "ms");
    let mut own = series("clients: processor time of the clients", "ms");
    let mut served = series("clients: requests served during W1", "");
    let mut latency = series("clients: 99th percentile of their latency", "ms");
    let followed = std::env::var("W1_FOLLOW").unwrap_or_else(|_| "one".to_owned());
    println!("  {IDLE} idle clients, half of them follow {followed}; {BUSY} busy ones with {RATE} requests per second each");
    for round in 0..rounds {
        for turn in 0..2 {
            if (round + turn) % 2 == 0 {
                let done = apply(&fixture, network, None).await;
                alone.values.push(ms(done.applied));
                agent_alone.values.push(done.agent_ms);
                continue;
            }
            let mut generator = Generator::start();
            let done = apply(&fixture, network, Some(&mut generator)).await;
            let load = generator.end().await;
            assert_eq!(load.failed, 0, "a client request failed; the last error was: {}", load.words);
            with.values.push(ms(done.applied));
            agent_with.values.push(done.agent_ms);
            own.values.push(load.processor_ms);
            served.values.push(load.served as f64);
            latency.values.push(load.latency_ms);
        }
    }
    report.target("W1 with clients, by W1 alone", size, with.median() / alone.median(), 1.1);
    report.add([alone, with, agent_alone, agent_with, own, served, latency]);
}

fn ms(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1e3
}

/// Starts an agent, connects the clients of `generator` (if any), and puts W1. Then kills the agent and
/// deletes all objects and keys.
async fn apply(fixture: &Fixture, network: &Network, generator: Option<&mut Generator>) -> Turn {
    let entries = network.entries();
    let statuses = fixture.follow().await;
    let further = ARGUMENTS.map(str::to_owned);
    let agent = Agent::start(
        LABEL,
        StoreKind::Etcd,
        fixture.store.endpoint(),
        &fixture.docker_host,
        "info",
        &further,
    );
    statuses.until("the agent is healthy", |progress| progress.healthy.is_some()).await;
    let mut generator = generator;
    if let Some(generator) = &mut generator {
        generator.connect().await;
        generator.begin().await;
    }
    let before = processor_ms(agent.pid());
    let start = Instant::now();
    fixture.fill(&entries).await;
    let done = statuses.until_configured(entries.len()).await;
    let agent_ms = processor_ms(agent.pid()) - before;
    if let Some(generator) = generator {
        generator.measure().await;
    }
    kernel::check("the agent", Counts::of(network));
    agent.kill().await;
    kernel::clear();
    fixture.empty().await;
    Turn {
        applied: done.at - start,
        agent_ms,
    }
}

/// Returns the CPU time (user and system) that a process has used so far, in milliseconds.
fn processor_ms(pid: i32) -> f64 {
    ms(ProcessStat::of(pid).expect("read the agent's CPU time").processor_time())
}
