//! Runs seeds or scenario files in the simulator.
//!
//! ```text
//! cargo run --release --features simulation --example simulate -- --seeds 0..1000000 --jobs 2
//! cargo run --release --features simulation --example simulate -- --mutations
//! cargo run --release --features simulation --example simulate -- --replay tests/scenarios/*.scenario
//! ```

use std::{
    fs, io,
    path::{Path, PathBuf},
    process::ExitCode,
    sync::{
        Mutex,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    thread,
    time::{Duration, Instant},
};

use clap::Parser;
use netns_agent::simulation::{self, mutation::Mutation, scenario::Scenario};

/// Maximum number of failing seeds to list.
const LISTED_MAX: usize = 40;
/// Number of seeds to try for each mutation. At least one of these seeds must detect the mutation.
const MUTATION_SEEDS: u64 = 10_000;

#[derive(Parser)]
struct Arguments {
    /// Range of seeds, such as 0..1000; the end is excluded.
    #[arg(long, default_value = "0..10000", value_parser = range)]
    seeds: (u64, u64),
    /// Number of threads.
    #[arg(long, default_value_t = 2)]
    jobs: usize,
    /// Run the agent with this deliberate bug.
    #[arg(long, value_parser = |name: &str| Mutation::of_name(name).ok_or("unknown mutation"))]
    mutation: Option<Mutation>,
    /// Check the simulator itself: find a seed that detects each deliberate bug.
    #[arg(long)]
    mutations: bool,
    /// Directory in which to write a minimized scenario file for each failing seed.
    #[arg(long)]
    save: Option<PathBuf>,
    /// Scenario files to run instead of seeds.
    #[arg(long, num_args = 1..)]
    replay: Vec<PathBuf>,
    /// Minimize the first failing scenario, and print all its events.
    #[arg(long)]
    trace: bool,
}

fn range(text: &str) -> Result<(u64, u64), String> {
    let number = |text: &str| text.parse::<u64>().map_err(|error| format!("{text}: {error}"));
    match text.split_once("..") {
        Some((from, to)) => Ok((number(from)?, number(to)?)),
        None => number(text).map(|seed| (seed, seed + 1)),
    }
}

/// Progress and failures of a run over many seeds.
#[derive(Default)]
struct Run {
    next: AtomicU64,
    events: AtomicU64,
    failures: Mutex<Vec<(u64, String)>>,
}

impl Run {
    fn failed(&self) -> Vec<(u64, String)> {
        let mut failures = self.failures.lock().map(|failures| failures.clone()).unwrap_or_default();
        failures.sort();
        failures
    }

    /// Runs all seeds. If `first` is set, stops at the first failure. If `loud` is set, prints the progress.
    fn over(seeds: (u64, u64), jobs: usize, mutation: Option<Mutation>, first: bool, loud: bool) -> Self {
        let run = Run {
            next: AtomicU64::new(seeds.0),
            ..Run::default()
        };
        let begin = Instant::now();
        let work = || {
            loop {
                let seed = run.next.fetch_add(1, Relaxed);
                if seed >= seeds.1 || (first && run.failures.lock().is_ok_and(|failures| !failures.is_empty())) {
                    return;
                }
                match simulation::run(&Scenario::of_seed(seed), mutation) {
                    Ok(events) => drop(run.events.fetch_add(events, Relaxed)),
                    // A seed that also fails without the mutation does not detect the mutation.
                    Err(_) if mutation.is_some() && simulation::run(&Scenario::of_seed(seed), None).is_err() => {}
                    Err(text) => {
                        // Print at once, because long runs are often stopped early.
                        if loud {
                            eprintln!("seed {seed} failed: {}", short(&text));
                        }
                        if let Ok(mut failures) = run.failures.lock() {
                            failures.push((seed, text));
                        }
                    }
                }
            }
        };
        thread::scope(|scope| {
            let workers: Vec<_> = (0..jobs.max(1)).map(|_| scope.spawn(work)).collect();
            let mut reported = Instant::now();
            while loud && workers.iter().any(|worker| !worker.is_finished()) {
                thread::sleep(Duration::from_millis(50));
                if reported.elapsed() > Duration::from_secs(20) {
                    reported = Instant::now();
                    run.tell(seeds, begin.elapsed());
                }
            }
        });
        if loud {
            run.tell(seeds, begin.elapsed());
        }
        run
    }

    fn tell(&self, seeds: (u64, u64), elapsed: Duration) {
        let done = self.next.load(Relaxed).min(seeds.1) - seeds.0;
        let seconds = elapsed.as_secs_f64();
        eprintln!(
            "{done} of {} seeds in {seconds:.1} s ({:.0} a second), {} events, {} failed",
            seeds.1 - seeds.0,
            done as f64 / seconds,
            self.events.load(Relaxed),
            self.failed().len()
        );
    }
}

fn check_the_checker(jobs: usize) -> ExitCode {
    let mut missed = 0;
    for mutation in Mutation::ALL {
        let run = Run::over((0, MUTATION_SEEDS), jobs, Some(mutation), true, false);
        match run.failed().first() {
            Some((seed, text)) => println!("{:24} seed {seed:5}: {}", mutation.name(), short(text)),
            None => {
                missed += 1;
                println!("{:24} NOT FOUND within {MUTATION_SEEDS} seeds", mutation.name());
            }
        }
    }
    if missed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Shrinks the scenario of a failing seed and writes it to a file. The first line of the file is a comment with the violated rule.
fn save(directory: &Path, seed: u64, mutation: Option<Mutation>) -> io::Result<PathBuf> {
    let small = simulation::shrink(&Scenario::of_seed(seed), mutation);
    let rule = simulation::run(&small, mutation).err().unwrap_or_default();
    fs::create_dir_all(directory)?;
    let path = directory.join(format!("seed-{seed}.scenario"));
    fs::write(&path, format!("# {}\n# From seed {seed}.\n{small}", short(&rule)))?;
    Ok(path)
}

/// Runs scenario files. Prints all events if `loud` is set.
fn replay(files: &[PathBuf], mutation: Option<Mutation>, loud: bool) -> ExitCode {
    let mut failed = 0;
    for file in files {
        let read = fs::read_to_string(file).map_err(|error| error.to_string());
        let scenario = read.and_then(|text| text.parse::<Scenario>());
        if let (true, Ok(scenario)) = (loud, &scenario) {
            simulation::trace(scenario, mutation).1.iter().for_each(|line| println!("{line}"));
        }
        if let Err(text) = scenario.and_then(|scenario| simulation::run(&scenario, mutation)) {
            failed += 1;
            println!("{}: {}", file.display(), short(&text));
        }
    }
    println!("{} scenarios, {failed} failed", files.len());
    if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn short(text: &str) -> String {
    let words: Vec<&str> = text.split_whitespace().collect();
    words.join(" ").chars().take(200).collect()
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    if arguments.mutations {
        return check_the_checker(arguments.jobs);
    }
    if !arguments.replay.is_empty() {
        return replay(&arguments.replay, arguments.mutation, arguments.trace);
    }
    let run = Run::over(arguments.seeds, arguments.jobs, arguments.mutation, false, true);
    let failures = run.failed();
    for (seed, text) in failures.iter().take(LISTED_MAX) {
        println!("seed {seed}: {}", short(text));
    }
    let Some((seed, _)) = failures.first() else {
        return ExitCode::SUCCESS;
    };
    if let Some(directory) = &arguments.save {
        for (seed, _) in failures.iter().take(LISTED_MAX) {
            match save(directory, *seed, arguments.mutation) {
                Ok(path) => println!("saved {}", path.display()),
                Err(error) => eprintln!("cannot save seed {seed}: {error}"),
            }
        }
    }
    if arguments.trace {
        let small = simulation::shrink(&Scenario::of_seed(*seed), arguments.mutation);
        println!("{small}");
        let (result, trace) = simulation::trace(&small, arguments.mutation);
        trace.iter().for_each(|line| println!("{line}"));
        println!("{result:?}");
    }
    ExitCode::FAILURE
}
