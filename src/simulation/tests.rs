//! Runs the simulator as tests: several thousand seeds, the stored scenarios and the deliberate bugs.
//!
//! `examples/simulate.rs` runs any number of seeds.

use std::{
    fs,
    path::{Path, PathBuf},
};

use proptest::prelude::*;

use super::{
    choices::{Draws, Site},
    mutation::Mutation,
    record, run,
    scenario::Scenario,
    trace,
};

fn seeds() -> u64 {
    let desired = std::env::var("SIMULATION_SEEDS").ok().and_then(|seeds| seeds.parse().ok());
    desired.unwrap_or(2000)
}

#[test]
fn random_scenarios_violate_no_rule() {
    for seed in 0..seeds() {
        if let Err(text) = run(&Scenario::of_seed(seed), None) {
            panic!("seed {seed}: {text}");
        }
    }
}

/// Runs the stored scenarios. Some of them failed in the past, and the others were recorded to cover earlier fixes.
#[test]
fn stored_scenarios_violate_no_rule() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/scenarios");
    let mut files: Vec<PathBuf> = fs::read_dir(&folder)
        .expect("list the scenario directory")
        .map(|entry| entry.expect("read a directory entry").path())
        .collect();
    files.sort();
    assert!(files.len() > 40, "{} has only {} files", folder.display(), files.len());
    let mut failures = Vec::new();
    for file in files {
        let text = fs::read_to_string(&file).expect("read a scenario file");
        let result = text.parse().and_then(|scenario: Scenario| run(&scenario, None));
        if let Err(error) = result {
            failures.push(format!("{}: {error}", file.display()));
        }
    }
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}

#[test]
fn recorded_scenario_replays_its_seed() {
    for seed in 0..40 {
        let scenario = Scenario::of_seed(seed);
        let read: Scenario = record(&scenario, None).to_string().parse().expect("parse the printed scenario");
        assert_eq!(trace(&scenario, None), trace(&read, None), "seed {seed}");
    }
}

proptest! {
    #[test]
    fn printed_scenario_parses_to_itself(seed in any::<u64>(), draws in prop::collection::btree_map((0..Site::ALL.len(), 1..50u32), any::<u32>(), 0..8)) {
        let drawn = |((site, number), drawn): ((usize, u32), u32)| {
            let site = Site::ALL[site];
            ((site, number), if site.is_choice() { u64::from(drawn % 2) } else { u64::from(drawn) })
        };
        let scenario = Scenario::of_seed(seed);
        let listed = Scenario { draws: Draws::Listed(draws.into_iter().map(drawn).collect()), ..scenario.clone() };
        for scenario in [scenario, listed] {
            let text = scenario.to_string();
            prop_assert_eq!(text.parse::<Scenario>(), Ok(scenario), "{}", text);
        }
    }
}

#[test]
fn seed_replays_exactly() {
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
            // A seed that also fails without the mutation does not detect the mutation.
            run(&scenario, Some(mutation)).is_err() && run(&scenario, None).is_ok()
        };
        let found = (0..10_000).find(finds);
        assert!(found.is_some(), "no seed detects the mutation {}", mutation.name());
    }
}
