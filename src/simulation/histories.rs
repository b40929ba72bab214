//! Any history in any order, without what takes time or fails around the agent: does a machine always end as desired?
//!
//! Owns no rule of its own: `world` joins the product's core with the simulated kernel, `expectation` says what must come out.
//! Where the seeded worlds beside it have a store, Docker and faults, here many more values are told and done at once. Must never
//! need root or a network namespace. Start reading at [`world`], then `random`.

mod difference;
mod exchanges;
mod pairs;
mod random;
mod removals;
mod strategies;
mod world;
