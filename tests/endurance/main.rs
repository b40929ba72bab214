//! Long-running tests: the agent under random faults, a container that is restarted repeatedly, and the cost of an idle agent.
//!
//! Environment variables set the length and size of the three tests. By default, each test is short, because `tests/run` includes
//! it. The tests observe only what the agent publishes, what the kernel shows, and the agent's `/proc` files. See [`chaos`].
//!
//! These commands run an hour of faults in 300 namespaces and 50 containers, and then the other two tests at full length. They
//! need root. `LIVE_SEED` selects another run.
//!
//! ```text
//! ENDURANCE_SECONDS=3600 ENDURANCE_NAMESPACES=300 ENDURANCE_CONTAINERS=50 ENDURANCE_CHECKPOINT_SECONDS=180 \
//!     ENDURANCE_KEEP=/tmp/endurance cargo test --test endurance chaos -- --nocapture
//! ENDURANCE_RESTARTS=100 cargo test --test endurance restarts -- --nocapture
//! ENDURANCE_IDLE_SECONDS=600 ENDURANCE_IDLE_ROUNDS=15 cargo test --test endurance idle -- --nocapture
//! ```
//!
//! `ENDURANCE_KEEP` names a directory for the agent's log and the report of a failure. `LIVE_AGENT` names another
//! build of the agent. Times are meaningful only with `cargo build --release` and `LIVE_AGENT=target/release/netns-agent`.

#[path = "../support/mod.rs"]
mod support;

mod chaos;
mod figures;
mod idle;
mod restarts;

/// Returns the number in this environment variable, or `default` if the variable is not set.
fn number(name: &str, default: u64) -> u64 {
    match std::env::var(name) {
        Ok(text) => text.parse().unwrap_or_else(|_| panic!("{name} is not a decimal number: {text:?}")),
        Err(_) => default,
    }
}
