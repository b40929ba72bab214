//! Reports defects: states of the agent that should be impossible.
//!
//! The agent logs and counts each defect, and continues. In tests and in the simulator, it panics instead.

use std::sync::LazyLock;

use prometheus::IntCounter;
use tracing::error;

static COUNT: LazyLock<IntCounter> = LazyLock::new(|| {
    let help = "Impossible states that the agent detected; each one is logged";
    IntCounter::new("netns_agent_defects", help).expect("the name is valid")
});

/// Returns the counter of all defects in this process.
pub(super) fn counter() -> IntCounter {
    COUNT.clone()
}

/// Reports a defect. `what` describes the impossible state that has occurred.
///
/// # Panics
/// Panics in tests and in the simulator.
pub fn defect(what: &str) {
    COUNT.inc();
    error!(what, "defect in the agent, please report it");
    if cfg!(any(test, feature = "simulation")) {
        panic!("defect: {what}");
    }
}
