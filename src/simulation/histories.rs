//! Tests of random histories of desired values, with the agent's core on the simulated kernel.
//!
//! `world` runs the core without a store, Docker, delays and faults, so that histories have many more values than the seeded scenarios.
//! `expectation` checks the result. The tests need neither root nor a network namespace.

mod difference;
mod exchanges;
mod pairs;
mod random;
mod removals;
mod strategies;
mod world;
