//! The descriptors in memory: what each value depends on, which operations bring it about, and whether a machine always ends
//! as desired.
//!
//! Owns no rule of its own: `world` joins the real scheduler with a simulated kernel, the other files say what must come out.
//! Must never need root or a network namespace. Start reading at [`world`], then `random`.

mod configuration;
mod dry_run;
mod exchanges;
mod expectation;
mod pairs;
mod random;
mod removals;
mod simulated;
mod tampering;
mod world;
