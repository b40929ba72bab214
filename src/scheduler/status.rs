//! States of values and what is told about them.
//!
//! Owns the types of a status. Must never contain a rule about when a state is entered: that is `plan` and `explain`. Start
//! reading at [`Status`].

use std::time::Duration;

use models::key::Key;

use super::explanation::{Explanation, Repair};

/// State of a value; names and numbers as in `ligato.kvscheduler.ValueState`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ValueState {
    /// No agent knows of the value.
    Nonexistent = 0,
    /// No descriptor handles this kind of value.
    Unimplemented = 2,
    /// Deleted on request.
    Removed = 3,
    /// The kernel acknowledged it.
    Configured = 4,
    /// A fact from below.
    Obtained = 5,
    /// Found in the kernel, not yet judged.
    Discovered = 6,
    /// Waits for something.
    Pending = 7,
    /// Cannot be used as it stands.
    Invalid = 8,
    /// The last operation failed, and trying again will hardly help by itself.
    Failed = 9,
    /// The last operation failed; it is tried again.
    Retrying = 10,
}

/// Operation on a value; names and numbers as in `ligato.kvscheduler.TxnOperation`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Verb {
    /// None yet.
    Undefined = 0,
    /// A check of what is applied.
    Verify = 1,
    /// Creation.
    Create = 2,
    /// Change in place.
    Update = 3,
    /// Removal.
    Delete = 4,
}

/// Why a northbound value cannot be used.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Rejection {
    /// `Invalid`, or `Unimplemented` for a kind that the agent knows but does not handle.
    pub state: ValueState,
    /// Stable CamelCase reason.
    pub reason: &'static str,
    /// What is wrong and what would be accepted.
    pub message: String,
    /// Names of the offending fields.
    pub fields: Vec<String>,
}

/// What is told about a base value.
#[derive(Clone, PartialEq, Debug)]
pub struct Status {
    /// State, of the value together with everything derived from it: CONFIGURED means all of it is in the kernel.
    pub state: ValueState,
    /// Last operation on it.
    pub last_operation: Verb,
    /// Labels of unsatisfied dependencies (PENDING) or names of invalid fields (INVALID).
    pub details: Vec<String>,
    /// Error text; empty unless INVALID, FAILED or RETRYING.
    pub error: String,
    /// Stable CamelCase reason; empty when CONFIGURED.
    pub reason: String,
    /// Explanation for a person; empty when CONFIGURED.
    pub message: String,
    /// Time since which state, reason, details and error are as they are (since the Unix epoch).
    pub since: Duration,
    /// Store revision of the value that this status answers; 0 when the store did not ask for it.
    pub revision: i64,
    /// When a failed operation is tried again (since the Unix epoch).
    pub next_retry: Option<Duration>,
    /// What `message` says, as data; `None` when CONFIGURED, and where `message` is all there is to say.
    pub explanation: Option<Box<Explanation>>,
    /// The last damage from outside that was repaired.
    pub last_repair: Option<Repair>,
}

impl Status {
    /// Equal but for `since`.
    pub(super) fn same(&self, other: &Status) -> bool {
        (self.last_operation, self.revision, self.next_retry) == (other.last_operation, other.revision, other.next_retry)
            && (&self.message, &self.explanation, &self.last_repair) == (&other.message, &other.explanation, &other.last_repair)
            && self.same_condition(other)
    }

    /// Whether the value is in the same state for the same reason, though the explanation may have changed.
    pub(super) fn same_condition(&self, other: &Status) -> bool {
        (self.state, &self.reason, &self.details, &self.error) == (other.state, &other.reason, &other.details, &other.error)
    }
}

/// A status that changed; `None`: the value is gone, and so is its status.
#[derive(Clone, PartialEq, Debug)]
pub struct StatusChange {
    /// Key of the base value.
    pub key: Key,
    /// Its status now.
    pub status: Option<Status>,
}
