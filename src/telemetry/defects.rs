//! Defects: the agent finds itself in a state that cannot be.
//!
//! Each is logged and counted, and the agent goes on; in tests and in the simulator it is a panic. Start reading at [`defect`].

use std::sync::LazyLock;

use prometheus::IntCounter;
use tracing::error;

static COUNT: LazyLock<IntCounter> = LazyLock::new(|| {
    let help = "Impossible states that the agent found itself in; each is logged";
    IntCounter::new("netns_agent_defects", help).expect("the name is valid")
});

/// Returns the counter of all defects in this process.
pub(super) fn counter() -> IntCounter {
    COUNT.clone()
}

/// Records a defect of the agent: `what` cannot be.
///
/// # Panics
/// In tests and in the simulator.
pub fn defect(what: &str) {
    COUNT.inc();
    error!(what, "defect in the agent, please report it");
    if cfg!(any(test, feature = "simulation")) {
        panic!("defect: {what}");
    }
}
