//! Tests the agent's core on the simulated kernel with random histories of desired values.
//!
//! `world` runs the core without a store, Docker, delays or faults, so histories can have many more values than seeded scenarios.
//! `expectation` checks the result. The tests need neither root nor a network namespace.

mod difference;
mod exchanges;
mod pairs;
mod random;
mod removals;
mod strategies;
mod world;
