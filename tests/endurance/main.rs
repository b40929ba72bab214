//! Long runs: the agent under random faults, a container restarted again and again, and what an idle agent costs.
//!
//! Owns three programs whose length and size are given by environment variables; the defaults are a short run of each, part of
//! `tests/run`. Must never look into the agent, only at what it publishes, at what the kernel says and at its `/proc` files. Start
//! reading at [`chaos`].
//!
//! An hour of faults in 300 namespaces and 50 containers, then the other two in full length (as root; `LIVE_SEED` chooses another
//! run):
//!
//! ```text
//! ENDURANCE_SECONDS=3600 ENDURANCE_NAMESPACES=300 ENDURANCE_CONTAINERS=50 ENDURANCE_CHECKPOINT_SECONDS=180 \
//!     ENDURANCE_KEEP=/tmp/endurance cargo test --test endurance chaos -- --nocapture
//! ENDURANCE_RESTARTS=100 cargo test --test endurance restarts -- --nocapture
//! ENDURANCE_IDLE_SECONDS=600 ENDURANCE_IDLE_ROUNDS=15 cargo test --test endurance idle -- --nocapture
//! ```
//!
//! `ENDURANCE_KEEP` names a folder for the log of the agent and the report of a failure. `LIVE_AGENT` names another build of the
//! agent; figures of speed mean something only with `cargo build --release` and `LIVE_AGENT=target/release/netns-agent`.

#[path = "../support/mod.rs"]
mod support;

mod chaos;
mod figures;
mod idle;
mod restarts;

/// A number from the environment.
fn number(name: &str, default: u64) -> u64 {
    match std::env::var(name) {
        Ok(text) => text.parse().unwrap_or_else(|_| panic!("{name} is a decimal number, not {text:?}")),
        Err(_) => default,
    }
}
