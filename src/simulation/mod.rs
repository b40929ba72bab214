//! A seeded simulator: the product's engine, scheduler, descriptors, sources, publisher and Docker logic in a simulated world.
//!
//! Owns a simulated kernel, store, Docker daemon and clock, what goes wrong with them, and the rules that must hold all the same.
//! Must never be part of a normal build: it is behind the feature `simulation`. Start reading at [`run`]; what happens in a world
//! is decided in [`scenario`], what must hold in `world::judgement`.
//!
//! A seed decides everything, so whatever goes wrong with a seed goes wrong with it every time. First come interference and faults,
//! in which only safety is demanded. Then everything works again, and the world must come to what a naive computation
//! ([`expectation`]) says; after that a restart must find nothing to do.
//!
//! In tests the same kernel, values and rules also serve `histories`: there the agent's core and effects are alone with the machine.

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

/// Runs a scenario, with a deliberate bug in the agent or none; answers the number of events in it.
///
/// # Errors
/// What went wrong, in words.
pub fn run(scenario: &Scenario, mutation: Option<Mutation>) -> Result<u64, String> {
    let world = || {
        let mut world = World::new(scenario.clone(), mutation, false);
        world.run().map(|()| world.events)
    };
    catch_unwind(AssertUnwindSafe(world)).unwrap_or_else(|_| Err("a panic".to_owned()))
}

/// As [`run`], and tells all that happened.
pub fn trace(scenario: &Scenario, mutation: Option<Mutation>) -> (Result<(), String>, Vec<String>) {
    let mut world = World::new(scenario.clone(), mutation, true);
    let result = catch_unwind(AssertUnwindSafe(|| world.run())).unwrap_or_else(|_| Err("a panic".to_owned()));
    (result, world.trace().to_vec())
}

/// Returns the scenario with each of its draws listed, so that parts of it can be left out without changing the rest.
pub fn record(scenario: &Scenario, mutation: Option<Mutation>) -> Scenario {
    let mut world = World::new(scenario.clone(), mutation, true);
    // The draws are wanted however it ends.
    drop(catch_unwind(AssertUnwindSafe(|| world.run())));
    Scenario {
        draws: Draws::Listed(world.draws()),
        ..scenario.clone()
    }
}

/// Returns the smallest scenario found that goes wrong as well.
pub fn shrink(scenario: &Scenario, mutation: Option<Mutation>) -> Scenario {
    let fails = |smaller: &Scenario| run(smaller, mutation).is_err();
    let recorded = record(scenario, mutation);
    shrinking::shrink(if fails(&recorded) { recorded } else { scenario.clone() }, &fails)
}
