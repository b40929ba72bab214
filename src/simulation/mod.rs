//! Deterministic simulator: runs the agent's engine, scheduler, descriptors, sources, publisher and Docker logic in a simulated
//! world.
//!
//! The world consists of a simulated kernel, store, Docker daemon and clock, with faults injected into them. [`scenario`] decides
//! what happens, and `world::judgement` contains the rules that must hold. The simulator is not part of a normal build; the
//! feature `simulation` enables it.
//!
//! A seed determines the whole run, so that a failure can be reproduced. A run begins with interference and faults, during which
//! only safety properties are checked. Then all faults end, and the world must converge to the result of the test oracle
//! ([`expectation`]). After that, a restart of the agent must change nothing.
//!
//! The tests in `histories` run only the agent's core, without a store or Docker. They use the same simulated
//! kernel, values and rules.

pub(crate) mod agent;
pub mod choices;
pub mod configuration;
pub(crate) mod connections;
pub(crate) mod daemon;
pub(crate) mod expectation;
pub(crate) mod following;
#[cfg(test)]
mod histories;
pub(crate) mod kernel;
pub(crate) mod machine;
pub mod mutation;
pub mod random;
pub mod scenario;
mod shrinking;
pub(crate) mod store;
pub mod tampering;
mod text;
pub(crate) mod world;

#[cfg(test)]
mod tests;

use std::panic::{AssertUnwindSafe, catch_unwind};

use self::{choices::Draws, mutation::Mutation, scenario::Scenario, world::World};

/// Runs a scenario, optionally with a deliberate bug in the agent, and returns its number of events.
///
/// # Errors
/// Fails with a description of the first violated rule.
pub fn run(scenario: &Scenario, mutation: Option<Mutation>) -> Result<u64, String> {
    let world = || {
        let mut world = World::new(scenario.clone(), mutation, false);
        world.run().map(|()| world.events)
    };
    catch_unwind(AssertUnwindSafe(world)).unwrap_or_else(|_| Err("a panic".to_owned()))
}

/// Runs a scenario like [`run`], and returns a trace of all events.
pub fn trace(scenario: &Scenario, mutation: Option<Mutation>) -> (Result<(), String>, Vec<String>) {
    let mut world = World::new(scenario.clone(), mutation, true);
    let result = catch_unwind(AssertUnwindSafe(|| world.run())).unwrap_or_else(|_| Err("a panic".to_owned()));
    (result, world.trace().to_vec())
}

/// Runs a scenario, and returns it with a list of the random delays and decisions of this run. The listed delays and decisions do
/// not change if steps are removed from the scenario afterwards.
pub fn record(scenario: &Scenario, mutation: Option<Mutation>) -> Scenario {
    let mut world = World::new(scenario.clone(), mutation, true);
    // The result of the run does not matter, because only the recorded delays and decisions are needed.
    drop(catch_unwind(AssertUnwindSafe(|| world.run())));
    Scenario {
        draws: Draws::Listed(world.draws()),
        ..scenario.clone()
    }
}

/// Reduces a failing scenario, and returns the smallest failing scenario that was found.
pub fn shrink(scenario: &Scenario, mutation: Option<Mutation>) -> Scenario {
    let fails = |smaller: &Scenario| run(smaller, mutation).is_err();
    let recorded = record(scenario, mutation);
    shrinking::shrink(if fails(&recorded) { recorded } else { scenario.clone() }, &fails)
}
