//! The simulator as a test: some thousand seeds, the replay, and the deliberate bugs.
//!
//! Owns how many. Must never contain a rule. Start reading at [`no_world_goes_wrong`]; for any number of seeds there is
//! `examples/simulate.rs`.

use super::{mutation::Mutation, run, scenario::Scenario, trace};

fn seeds() -> u64 {
    let wanted = std::env::var("SIMULATION_SEEDS").ok().and_then(|seeds| seeds.parse().ok());
    wanted.unwrap_or(2000)
}

#[test]
fn no_world_goes_wrong() {
    for seed in 0..seeds() {
        if let Err(text) = run(&Scenario::of_seed(seed), None) {
            panic!("seed {seed}: {text}");
        }
    }
}

#[test]
fn a_seed_replays_exactly() {
    for seed in 0..40 {
        let scenario = Scenario::of_seed(seed);
        assert_eq!(trace(&scenario, None), trace(&scenario, None), "seed {seed}");
    }
}

#[test]
fn deliberate_bugs_are_found() {
    for mutation in Mutation::ALL {
        let finds = |seed: &u64| {
            let scenario = Scenario::of_seed(*seed);
            // What goes wrong anyway says nothing about the bug.
            run(&scenario, Some(mutation)).is_err() && run(&scenario, None).is_ok()
        };
        let found = (0..10_000).find(finds);
        assert!(found.is_some(), "{} is not found", mutation.name());
    }
}
