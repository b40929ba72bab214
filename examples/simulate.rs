//! Runs seeds of the simulator: `cargo run --release --features simulation --example simulate -- --seeds 0..100000 --jobs 2`.
//!
//! Owns the command line and the threads. Must never decide whether a world went wrong. Start reading at `main`.

fn main() {
    let seed: u64 = std::env::args().nth(1).and_then(|s| s.parse().ok()).unwrap_or(0);
    let end: u64 = std::env::args().nth(2).and_then(|s| s.parse().ok()).unwrap_or(seed + 1);
    let start = std::time::Instant::now();
    let mut events = 0;
    let mut bad = Vec::new();
    for seed in seed..end {
        let scenario = netns_agent::simulation::scenario::Scenario::of_seed(seed);
        match netns_agent::simulation::run(&scenario) {
            Ok(n) => events += n,
            Err(text) => {
                bad.push((seed, text));
            }
        }
    }
    println!("{} seeds, {} events, {:?}, {} bad", end, events, start.elapsed(), bad.len());
    for (seed, text) in bad.iter().take(30) {
        println!("{seed}: {}", text.chars().take(300).collect::<String>().replace('\n', " "));
    }
    if let (Some((seed, _)), Ok(_)) = (bad.first(), std::env::var("TRACE")) {
        let small = netns_agent::simulation::shrink(netns_agent::simulation::scenario::Scenario::of_seed(*seed));
        println!("{small:#?}");
        let (result, trace) = netns_agent::simulation::trace(&small);
        for line in trace {
            println!("{line}");
        }
        println!("{result:?}");
    }
}
