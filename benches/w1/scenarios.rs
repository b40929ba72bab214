//! Runs all measurements and their baselines.
//!
//! In each round, the agent and its baselines take turns. After each turn, the objects in the kernel are counted and deleted. See
//! [`apply`].

use std::time::{Duration, Instant};

use crate::{
    fixture::Fixture,
    ip_batch::Script,
    kernel::{self, Counts},
    network::{LABEL, Network, plain_pair},
    raw,
    report::{Report, Series},
    support::{agent::Agent, command::ip, config::Reference, container_restarts, ping::Stream},
};

/// Number of veth pairs that the measurement `pair` creates.
const PAIRS: usize = 200;
/// Number of container restarts in the measurement `container`.
const RESTARTS: u64 = 100;
/// Ratio of all pairs to the pairs that the `ip -batch` baseline deletes. The baseline does not delete all pairs, because that would take 20 s per
/// round.
const DELETED_PART: usize = 10;

/// Fixture for all measurements at one workload size.
pub struct Setting {
    network: Network,
    size: usize,
    pub rounds: usize,
    pub fixture: Fixture,
    script: Script,
    entries: std::collections::BTreeMap<String, String>,
}

impl Setting {
    /// Starts the store and writes the commands for the `ip -batch` baseline.
    pub async fn new(network: Network, size: usize, rounds: usize) -> Self {
        let script = Script::write(&network, network.pairs.len() / DELETED_PART);
        Self {
            fixture: Fixture::new().await,
            entries: network.entries(),
            script,
            network,
            size,
            rounds,
        }
    }

    pub fn series(&self, name: &str, unit: &'static str) -> Series {
        Series::new(name, unit, self.size)
    }

    /// Checks that all objects of W1 exist, by counting them. At size 1, the first round also compares each object with the
    /// output of `ip`.
    fn check(&self, who: &str, round: usize) {
        kernel::check(who, Counts::of(&self.network));
        // The complete check starts a process for each namespace, so it is performed only once.
        if round == 0 && self.size == 1 {
            let checked = self.network.config().check(LABEL);
            checked.unwrap_or_else(|difference| panic!("{who} created a different state:\n{difference}"));
        }
    }

    /// Kills an agent, and removes everything that it created and published.
    pub async fn end(&self, agent: Agent) {
        agent.kill().await;
        kernel::clear();
        self.fixture.empty().await;
    }

    /// Starts an agent and waits until it has applied and published all of W1.
    async fn converged(&self) -> Agent {
        let statuses = self.fixture.follow().await;
        let agent = self.fixture.launch();
        statuses.until_configured(self.entries.len()).await;
        statuses.until("the agent is healthy", |progress| progress.healthy.is_some()).await;
        agent
    }
}

pub fn ms(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1e3
}

/// Measures the time from the agent's start until everything is applied and published, with all keys already in the store.
pub async fn apply(setting: &mut Setting, report: &mut Report) {
    let mut agent = setting.series("W1: agent", "ms");
    let mut used = setting.series("W1: agent, processor time", "ms");
    let mut ip_batch = setting.series("W1: ip -batch", "ms");
    let mut raw_netlink = setting.series("W1: raw netlink", "ms");
    for round in 0..setting.rounds {
        for turn in 0..3 {
            match (round + turn) % 3 {
                0 => {
                    ip_batch.values.push(ms(setting.script.make()));
                    setting.check("ip -batch", round);
                    kernel::clear();
                }
                1 => {
                    raw_netlink.values.push(ms(raw::make(&setting.network)));
                    setting.check("raw netlink", round);
                    kernel::clear();
                }
                _ => {
                    setting.fixture.fill(&setting.entries).await;
                    let statuses = setting.fixture.follow().await;
                    let start = Instant::now();
                    let process = setting.fixture.launch();
                    let done = statuses.until_configured(setting.entries.len()).await;
                    agent.values.push(ms(done.at - start));
                    used.values.push(ms(process.processor_time()));
                    setting.check("the agent", round);
                    setting.end(process).await;
                }
            }
        }
    }
    let by = |baseline: &Series| agent.median() / baseline.median();
    report.target("W1 applied, by `ip -batch`", setting.size, by(&ip_batch), 0.8);
    report.target("W1 applied, by raw netlink", setting.size, by(&raw_netlink), 1.5);
    report.add([agent, used, ip_batch, raw_netlink]);
}

/// Measures the time from the first put until the last status, with the agent already running.
pub async fn live(setting: &mut Setting, report: &mut Report) {
    let mut agent = setting.series("W1 live: agent", "ms");
    let mut puts = setting.series("W1 live: the puts alone", "ms");
    for round in 0..setting.rounds {
        for turn in 0..2 {
            if (round + turn) % 2 == 0 {
                puts.values.push(ms(setting.fixture.put_each(&setting.entries).await));
                setting.fixture.empty().await;
                continue;
            }
            let statuses = setting.fixture.follow().await;
            let process = setting.fixture.launch();
            statuses.until("the agent is healthy", |progress| progress.healthy.is_some()).await;
            let start = Instant::now();
            setting.fixture.put_each(&setting.entries).await;
            let done = statuses.until_configured(setting.entries.len()).await;
            agent.values.push(ms(done.at - start));
            setting.check("the agent", round);
            setting.end(process).await;
        }
    }
    report.target("W1 live, by the puts alone", setting.size, agent.median() / puts.median(), 1.2);
    report.add([agent, puts]);
}

/// Measures the time from the deletion of all keys until the last status is deleted.
///
/// The agent does not delete the namespaces, because it did not create them.
pub async fn teardown(setting: &mut Setting, report: &mut Report) {
    let mut agent = setting.series("tear-down: agent", "ms");
    let mut one_by_one = setting.series("tear-down: ip -batch one by one (a tenth, times ten)", "ms");
    let mut grouped = setting.series("tear-down: grouped", "ms");
    for round in 0..setting.rounds {
        for turn in 0..3 {
            match (round + turn) % 3 {
                0 => {
                    raw::make(&setting.network);
                    let deleted = ms(setting.script.delete()) * DELETED_PART as f64;
                    one_by_one.values.push(deleted);
                    kernel::clear();
                }
                1 => {
                    raw::make(&setting.network);
                    grouped.values.push(ms(raw::delete_grouped(&setting.network)));
                    kernel::check("the grouped deletion", Counts::empty(&setting.network));
                    kernel::clear();
                }
                _ => {
                    for name in &setting.network.namespaces {
                        ip(&format!("netns add {name}"));
                    }
                    setting.fixture.fill(&setting.entries).await;
                    let process = setting.converged().await;
                    let statuses = setting.fixture.follow().await;
                    let start = Instant::now();
                    setting.fixture.delete(&format!("/vnf-agent/{LABEL}/config/")).await;
                    let done = statuses.until("all statuses are gone", |progress| progress.present == 0).await;
                    agent.values.push(ms(done.at - start));
                    kernel::check("the deletion by the agent", Counts::empty(&setting.network));
                    setting.end(process).await;
                }
            }
        }
    }
    let by = |baseline: &Series| agent.median() / baseline.median();
    report.target("tear-down, by `ip -batch` one by one", setting.size, by(&one_by_one), 0.05);
    report.target("tear-down, by the grouped technique", setting.size, by(&grouped), 1.3);
    report.add([agent, one_by_one, grouped]);
}

/// Measures the time from the agent's start until it is in sync, with all objects of W1 already in the kernel.
pub async fn restart(setting: &mut Setting, report: &mut Report) {
    let mut in_sync = setting.series("restart: until in order", "ms");
    let mut published = setting.series("restart: until all is published again", "ms");
    let mut used = setting.series("restart: processor time until both", "ms");
    let mut operations = 0;
    setting.fixture.fill(&setting.entries).await;
    let mut process = setting.converged().await;
    let pair = &setting.network.pairs[0];
    let netns = Reference::named(&setting.network.namespaces[pair.ends[0].netns]).path();
    for round in 0..setting.rounds {
        process.stop().await;
        let stream = Stream::start(&netns, &pair.ends[1].address.to_string(), &format!("restart-{round}"));
        let statuses = setting.fixture.follow().await;
        let start = Instant::now();
        process = setting.fixture.launch();
        let done = statuses.until_configured(setting.entries.len()).await;
        let healthy = statuses.until("the agent is healthy", |progress| progress.healthy.is_some()).await;
        used.values.push(ms(process.processor_time()));
        published.values.push(ms(done.at - start));
        in_sync.values.push(ms(healthy.healthy.unwrap_or(start) - start));
        operations += healthy.operated;
        stream.finish_without_loss().await;
        setting.check("a restart", round);
    }
    setting.end(process).await;
    report.target(
        "restart: values on which an operation was executed",
        setting.size,
        operations as f64,
        0.0,
    );
    report.target(
        "restart: milliseconds until in order, longest",
        setting.size,
        in_sync.quantile(1.0),
        1000.0,
    );
    report.add([in_sync, published, used]);
}

/// Creates the two namespaces for the measured pairs.
pub fn namespaces_of_pairs() -> [Reference; 2] {
    ["pair-a", "pair-b"].map(|name| {
        ip(&format!("netns add {name}"));
        Reference::named(name)
    })
}

/// Measures the time from putting a pair until the agent publishes both ends as CONFIGURED.
pub async fn pair(setting: &mut Setting, report: &mut Report) {
    let mut latency = setting.series("one pair", "ms");
    let namespaces = namespaces_of_pairs();
    let statuses = setting.fixture.follow().await;
    let process = setting.fixture.launch();
    statuses.until("the agent is healthy", |progress| progress.healthy.is_some()).await;
    let before = process.processor_time();
    for number in 0..PAIRS {
        let entries = plain_pair(number, &namespaces);
        let start = Instant::now();
        setting.fixture.fill(&entries).await;
        let done = statuses.until_configured(2 * (number + 1)).await;
        latency.values.push(ms(done.at - start));
    }
    let mut used = setting.series("one pair: processor time", "ms");
    used.values.push(ms(process.processor_time() - before) / PAIRS as f64);
    setting.end(process).await;
    report.target("one pair: milliseconds, median", setting.size, latency.median(), 3.0);
    report.target(
        "one pair: milliseconds, 99th percentile",
        setting.size,
        latency.quantile(0.99),
        15.0,
    );
    report.add([latency, used]);
}

/// Measures the time from Docker's `start` event until the container's namespace has all desired objects.
///
/// Uses a separate fixture with its own etcd and agent.
pub async fn container(report: &mut Report) {
    let mut latency = Series::new("container", "ms", 1);
    latency.values = container_restarts::measure(RESTARTS).await.into_iter().map(ms).collect();
    report.target("container: milliseconds, 99th percentile", 1, latency.quantile(0.99), 15.0);
    report.add([latency]);
}

/// Measures the agent's resident memory, and how many bytes of memory each additional value needs.
pub async fn memory(setting: &mut Setting, report: &mut Report) {
    let mut resident = setting.series("resident memory", "MiB");
    let mut more = setting.series("resident memory for each value more", "bytes");
    let larger = Network::of_size(4 * setting.size).entries();
    for _ in 0..setting.rounds.min(3) {
        setting.fixture.fill(&setting.entries).await;
        let process = setting.converged().await;
        let small = resident_bytes(process.pid());
        resident.values.push(small / f64::from(1 << 20));
        setting.end(process).await;

        setting.fixture.fill(&larger).await;
        let statuses = setting.fixture.follow().await;
        let process = setting.fixture.launch();
        statuses.until_configured(larger.len()).await;
        let further = (larger.len() - setting.entries.len()) as f64;
        more.values.push((resident_bytes(process.pid()) - small) / further);
        setting.end(process).await;
    }
    report.target(
        "memory: MiB resident at W1",
        setting.size,
        resident.median(),
        40.0 * setting.size as f64,
    );
    report.target("memory: bytes for each value more", setting.size, more.median(), 1024.0);
    report.add([resident, more]);
}

fn resident_bytes(pid: i32) -> f64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).expect("read the agent's status file");
    let line = status
        .lines()
        .find(|line| line.starts_with("VmRSS:"))
        .expect("the status file has VmRSS");
    let kib: f64 = line
        .split_whitespace()
        .nth(1)
        .and_then(|number| number.parse().ok())
        .expect("a number");
    kib * 1024.0
}
