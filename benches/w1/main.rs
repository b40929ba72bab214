//! Measures workload W1 (1,000 veth pairs in 100 namespaces) and the other performance targets that need a kernel. Each measured value is compared
//! with a baseline from the same run.
//!
//! ```text
//! cargo bench --bench w1                                          # everything at size 1, 7 rounds
//! cargo bench --bench w1 -- apply live --size 1,4,10 --runs 3     # only these parts, at these sizes
//! cargo bench --bench w1 -- apply --load 2                        # with two busy threads in parallel
//! cargo bench --bench w1 -- --json FILE                           # writes the figures as JSON too
//! ```
//!
//! The environment variable `W1_LOG` sets the agent's log filter (`--log`). If `W1_LOG_FILE` is set, the agent's log is copied to this file.
//!
//! The parts are `apply`, `live`, `teardown`, `restart`, `pair`, `beside`, `container`, `memory` and `clients`. The benchmark needs root, etcd and
//! iproute2. The part `container` also needs Docker.
//!
//! Everything runs in separate namespaces, with an etcd that keeps its data in memory. The agent and all its baselines take turns in each round. The
//! order changes between rounds, so that disturbances do not always affect the same baseline. After each turn, the objects in the kernel are counted.
//! See [`scenarios`].

#[path = "../../tests/support/mod.rs"]
mod support;

mod beside;
mod clients;
mod fixture;
mod generator;
mod ip_batch;
mod kernel;
mod network;
mod raw;
mod report;
mod scenarios;
mod statuses;
mod wire;

use std::{
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::Duration,
};

use report::Report;

/// Time limit for the whole run.
const LIMIT: Duration = Duration::from_secs(4 * 3600);
const PARTS: [&str; 9] = [
    "apply",
    "live",
    "teardown",
    "restart",
    "pair",
    "beside",
    "container",
    "memory",
    "clients",
];

/// Command-line arguments.
struct Arguments {
    parts: Vec<String>,
    sizes: Vec<usize>,
    rounds: usize,
    load: usize,
    json: Option<String>,
}

impl Arguments {
    fn read() -> Self {
        let mut arguments = Self {
            parts: Vec::new(),
            sizes: vec![1],
            rounds: 7,
            load: 0,
            json: None,
        };
        let mut words = std::env::args().skip(1).filter(|word| word != "--bench");
        while let Some(word) = words.next() {
            let mut value = || words.next().unwrap_or_else(|| usage(&format!("{word} needs a value")));
            match word.as_str() {
                "--size" => arguments.sizes = value().split(',').map(number).collect(),
                "--runs" => arguments.rounds = number(&value()),
                "--load" => arguments.load = number(&value()),
                "--json" => arguments.json = Some(value()),
                part if PARTS.contains(&part) => arguments.parts.push(word),
                _ => usage(&format!("unknown argument {word}")),
            }
        }
        arguments
    }

    fn has(&self, part: &str) -> bool {
        self.parts.is_empty() || self.parts.iter().any(|chosen| chosen == part)
    }
}

fn number(text: &str) -> usize {
    match text.parse() {
        Ok(0) | Err(_) => usage(&format!("{text} is not a positive number")),
        Ok(number) => number,
    }
}

fn usage(problem: &str) -> ! {
    eprintln!(
        "{problem}; usage: [{}] [--size N,…] [--runs N] [--load THREADS] [--json FILE]",
        PARTS.join("|")
    );
    std::process::exit(2);
}

fn main() {
    if generator::is_wanted() {
        return generator::generate();
    }
    // Read the arguments before the sandbox is set up, so that a wrong argument ends the program at once.
    let arguments = Arguments::read();
    support::isolation::run_program("w1", LIMIT, || run(arguments));
}

async fn run(arguments: Arguments) {
    let mut report = Report::default();
    report.load.push(load());
    let busy: &'static AtomicBool = Box::leak(Box::new(AtomicBool::new(true)));
    for _ in 0..arguments.load {
        thread::spawn(|| while busy.load(Ordering::Relaxed) {});
    }
    for &size in &arguments.sizes {
        let network = network::Network::of_size(size);
        let mut setting = scenarios::Setting::new(network.clone(), size, arguments.rounds).await;
        for part in PARTS.iter().filter(|part| arguments.has(part)) {
            println!("{part}, size {size}×");
            match *part {
                "apply" => scenarios::apply(&mut setting, &mut report).await,
                "live" => scenarios::live(&mut setting, &mut report).await,
                "teardown" => scenarios::teardown(&mut setting, &mut report).await,
                "restart" => scenarios::restart(&mut setting, &mut report).await,
                "pair" => scenarios::pair(&mut setting, &mut report).await,
                "beside" => beside::beside(&mut setting, &mut report).await,
                "clients" => clients::clients(&network, size, arguments.rounds, &mut report).await,
                "container" => scenarios::container(&mut report).await,
                _ => scenarios::memory(&mut setting, &mut report).await,
            }
        }
    }
    busy.store(false, Ordering::Relaxed);
    report.load.push(load());
    keep_log();
    report.print();
    if let Some(path) = &arguments.json {
        std::fs::write(path, format!("{:#}\n", report.to_json())).unwrap_or_else(|error| panic!("{path}: {error}"));
        println!("As JSON: {path}");
    }
}

/// Copies the log out of the sandbox if `W1_LOG_FILE` is set, because the sandbox is removed when the benchmark ends.
fn keep_log() {
    if let Ok(path) = std::env::var("W1_LOG_FILE") {
        std::fs::copy(support::agent::LOG, &path).unwrap_or_else(|error| panic!("{path}: {error}"));
    }
}

fn load() -> String {
    let text = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    text.split_whitespace().take(3).collect::<Vec<_>>().join(" ")
}
