//! Scheduler benchmark. It measures the cost per operation for different graph sizes.
//!
//! ```text
//! cargo bench -p kvscheduler                         # N = 1,000 to 1,000,000: takes some minutes and 2 GB
//! cargo bench -p kvscheduler -- life 1000 100000     # only this part (or `hubs`), with these N
//! ```
//!
//! The measured time covers all scheduler calls from the transaction to the last outcome and the last status. The byte counts
//! cover all memory that the scheduler keeps, including keys and values. Descriptor work is excluded as far as possible (see
//! [`toy`]). The time to drop replaced values cannot be excluded, so it is also measured and reported separately.
//!
//! Every table compares its rows with the smallest size in the same run. Times are medians of several runs (one run above 300,000
//! values) and measure processor time, so other load on the machine hardly changes them. The scenarios are in [`life`] and
//! [`hubs`].

mod allocator;
mod hubs;
mod report;
mod toy;
mod world;

use std::time::{Duration, Instant};

use kvscheduler::Change;
use report::{Report, Row};
use toy::{Key, Toy, delete, put, value};
use world::{Cost, World, cpu_time};

/// Graph sizes (numbers of base values) that are measured if the command line names no sizes.
const SIZES: &[usize] = &[1_000, 10_000, 100_000, 1_000_000];
/// Maximum number of updates or deletions of single values in one run.
const SINGLE_CHANGES_MAX: usize = 20_000;
/// Number of values to create for each graph size, summed over all runs. Small graphs are therefore measured in several runs.
const VALUES: usize = 300_000;
const RUNS_MAX: usize = 50;
/// Wall-clock time limit for each graph size. No further run starts after this time, so the whole benchmark takes only a few
/// minutes.
const LONGEST: Duration = Duration::from_secs(30);

/// Smallest graph size for which the start of each scenario is printed.
const SLOW: usize = 300_000;

/// Pseudo-random number generator that yields the same numbers in every run (Knuth's MMIX generator).
struct Numbers(u64);

impl Numbers {
    fn below(&mut self, end: usize) -> usize {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        ((self.0 >> 33) as usize) % end
    }
}

/// Costs of one life cycle of a graph, from its creation to its deletion.
struct Life {
    bytes: usize,
    /// Number of bytes used by the keys and values passed to the scheduler. `bytes` includes these bytes.
    given: usize,
    costs: Vec<(&'static str, Cost)>,
}

/// Runs all scenarios on a graph of `n` base values, from its creation to its deletion.
fn life(n: usize) -> Life {
    // All values are put in key order, as in a listing of the store.
    let all = |content: u32| {
        let mut changes: Vec<_> = (0..n).map(|index| put(value(index, content))).collect();
        changes.sort_by(|a, b| a.key.cmp(&b.key));
        changes
    };
    let mut numbers = Numbers(n as u64);
    let mut world = World::new();
    let mut costs = Vec::new();

    let before = allocator::live_bytes();
    let step = |name: &str| {
        if n >= SLOW {
            eprintln!("  {name}");
        }
    };
    step("create all");
    let desired = all(1);
    let list = desired.capacity() * size_of::<Change<Key, Toy>>();
    let given = allocator::live_bytes() - before - list;
    costs.push(("create all", world.transaction(desired, false)));
    let bytes = allocator::live_bytes() - before;
    assert_eq!(world.applied_under("config/"), n, "all values must be created");

    step("update all");
    costs.push(("update all", world.transaction(all(2), false)));
    step("full resync");
    let mut resync = world.transaction(all(2), true);
    assert_eq!(resync.operations, 0, "a resync without changes must do nothing");
    resync.operations = n;
    costs.push(("full resync, nothing changed (per value)", resync));

    step("single changes");
    let single_changes = n.min(SINGLE_CHANGES_MAX);
    let singles = (0..single_changes).map(|change| vec![put(value(numbers.below(n), 3 + change as u32))]);
    costs.push(("update of one random value", world.transactions(singles.collect())));
    let mut remade = Vec::new();
    for _ in 0..single_changes / 2 {
        let index = numbers.below(n);
        remade.push(vec![delete(value(index, 0).0)]);
        remade.push(vec![put(value(index, 0))]);
    }
    costs.push(("deletion and re-creation of one random value", world.transactions(remade)));

    step("delete all");
    let deletions = all(0).into_iter().map(|change| delete(change.key));
    costs.push(("delete all", world.transaction(deletions.collect(), false)));
    assert_eq!(world.applied_under(""), 0, "all values must be deleted");
    costs.push((
        "benchmark overhead of update and resync: dropping the old values",
        give_up(all(2), all(3)),
    ));
    Life { bytes, given, costs }
}

/// Measures the time to drop the values that an update replaces. This time is benchmark overhead.
fn give_up(mut former: Vec<Change<Key, Toy>>, desired: Vec<Change<Key, Toy>>) -> Cost {
    let operations = former.len();
    let start = cpu_time();
    for (former, desired) in former.iter_mut().zip(desired) {
        *former = desired;
    }
    Cost {
        operations,
        time: cpu_time() - start,
    }
}

/// Runs `life` several times and reports the median for each scenario.
fn lives(n: usize, report: &mut Report) {
    let runs = (VALUES / n).clamp(1, RUNS_MAX);
    eprintln!("life of {n} values, {runs} runs");
    let mut lives: Vec<Life> = Vec::new();
    let start = Instant::now();
    while lives.is_empty() || (lives.len() < runs && start.elapsed() < LONGEST) {
        lives.push(life(n));
    }
    eprintln!("  {} runs in {:.0} s", lives.len(), start.elapsed().as_secs_f64());
    for (position, (scenario, first)) in lives[0].costs.iter().enumerate() {
        let mut times: Vec<_> = lives.iter().map(|life| life.costs[position].1.time).collect();
        times.sort();
        let cost = Cost {
            time: times[times.len() / 2],
            ..*first
        };
        report.add(Row::new(scenario, n, cost));
    }
    report.add_memory(n, lives[0].bytes, lives[0].given);
}

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).filter(|argument| argument != "--bench").collect();
    let named: Vec<usize> = arguments.iter().filter_map(|argument| argument.parse().ok()).collect();
    let sizes = if named.is_empty() { SIZES } else { &named };
    let chosen = |part: &str| arguments.len() == named.len() || arguments.iter().any(|argument| argument == part);
    let mut report = Report::default();
    if chosen("life") {
        sizes.iter().for_each(|n| lives(*n, &mut report));
    }
    if chosen("hubs") {
        hubs::run(sizes, &mut report);
    }
    report.print();
    let path = concat!(env!("CARGO_TARGET_TMPDIR"), "/scheduler-benchmark.json");
    std::fs::write(path, report.to_json()).unwrap_or_else(|error| panic!("{path}: {error}"));
    println!("\nAs JSON: {path}");
}
