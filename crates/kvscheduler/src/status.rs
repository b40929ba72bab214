//! Statuses of values.
//!
//! The rules for entering a state are in `decide` and `explain`.

use std::{borrow::Cow, fmt, time::Duration};

use super::{
    explanation::{Explanation, Repair},
    moment::Moment,
};

/// Enables checks of the rules about statuses: in tests, and in any build of the simulator.
pub(super) const CHECKED: bool = cfg!(any(debug_assertions, feature = "checked"));

/// State of a value. Names and numbers are those of `ligato.kvscheduler.ValueState`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub enum ValueState {
    /// The value is unknown to the agent.
    #[default]
    Nonexistent = 0,
    /// The value was applied and has disappeared from the kernel.
    Missing = 1,
    /// No descriptor handles this kind of value.
    Unimplemented = 2,
    /// Deleted on request.
    Removed = 3,
    /// The kernel acknowledged it.
    Configured = 4,
    /// A fact reported from outside, which needs no operation.
    Obtained = 5,
    /// Observed in the kernel and not compared yet.
    Discovered = 6,
    /// Waits for a dependency.
    Pending = 7,
    /// Cannot be used as it is.
    Invalid = 8,
    /// The last operation failed, and a retry alone will hardly help.
    Failed = 9,
    /// The last operation failed and will be retried.
    Retrying = 10,
}

impl ValueState {
    /// Returns the name in capitals, as in `ligato.kvscheduler.ValueState`.
    pub fn text(self) -> &'static str {
        match self {
            ValueState::Nonexistent => "NONEXISTENT",
            ValueState::Missing => "MISSING",
            ValueState::Unimplemented => "UNIMPLEMENTED",
            ValueState::Removed => "REMOVED",
            ValueState::Configured => "CONFIGURED",
            ValueState::Obtained => "OBTAINED",
            ValueState::Discovered => "DISCOVERED",
            ValueState::Pending => "PENDING",
            ValueState::Invalid => "INVALID",
            ValueState::Failed => "FAILED",
            ValueState::Retrying => "RETRYING",
        }
    }
}

impl fmt::Display for ValueState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.text())
    }
}

/// Operation on a value. Names and numbers are those of `ligato.kvscheduler.TxnOperation`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Verb {
    /// None yet.
    Undefined = 0,
    /// Check of the applied value.
    Verify = 1,
    /// Creation.
    Create = 2,
    /// Update in place.
    Update = 3,
    /// Deletion.
    Delete = 4,
}

impl Verb {
    /// Returns the name in capitals, as in `ligato.kvscheduler.TxnOperation`.
    pub fn text(self) -> &'static str {
        match self {
            Verb::Undefined => "UNDEFINED",
            Verb::Verify => "VALIDATE",
            Verb::Create => "CREATE",
            Verb::Update => "UPDATE",
            Verb::Delete => "DELETE",
        }
    }
}

impl fmt::Display for Verb {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.text())
    }
}

/// Reason why a requested value cannot be used.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Rejection {
    /// `Invalid`, or `Unimplemented` for a kind that the agent knows but does not handle.
    pub state: ValueState,
    /// Stable CamelCase reason.
    pub reason: &'static str,
    /// Problem, and what would be accepted.
    pub message: String,
    /// Names of the offending fields.
    pub fields: Vec<String>,
}

/// Published status of a base value, which is a value that is not derived from another.
#[derive(Clone, PartialEq, Debug)]
pub struct Status<K> {
    /// State of the value together with everything derived from it: CONFIGURED means that all of it is in the kernel.
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
    /// Time since which state, reason, details and error are unchanged (since the Unix epoch).
    pub since: Duration,
    /// Store revision of the value that this status answers; 0 if the value is not from the store.
    pub revision: i64,
    /// Time of the next retry (since the Unix epoch).
    pub next_retry: Option<Duration>,
    /// Content of `message` as data. `None` when CONFIGURED, and when `message` says everything.
    pub explanation: Option<Box<Explanation<K>>>,
    /// Last repair of damage done by others.
    pub last_repair: Option<Repair>,
}

impl<K: PartialEq> Status<K> {
    /// Returns the status of a value that is CONFIGURED without further details.
    pub(super) fn configured(last_operation: Verb, since: Duration, revision: i64) -> Self {
        Status {
            state: ValueState::Configured,
            last_operation,
            details: Vec::new(),
            error: String::new(),
            reason: String::new(),
            message: String::new(),
            since,
            revision,
            next_retry: None,
            explanation: None,
            last_repair: None,
        }
    }

    /// Returns whether [`Self::configured`] would make the same status.
    fn is_plain(&self) -> bool {
        self.state == ValueState::Configured
            && (self.details.is_empty() && self.error.is_empty() && self.reason.is_empty() && self.message.is_empty())
            && (self.next_retry.is_none() && self.explanation.is_none() && self.last_repair.is_none())
    }

    /// Returns whether two statuses are equal except for `since`.
    pub(super) fn same(&self, other: &Status<K>) -> bool {
        (self.last_operation, self.revision, self.next_retry) == (other.last_operation, other.revision, other.next_retry)
            && (&self.message, &self.explanation, &self.last_repair) == (&other.message, &other.explanation, &other.last_repair)
            && self.same_condition(other)
    }

    /// Returns whether state, reason, details and error are equal. The explanation may differ.
    pub(super) fn same_condition(&self, other: &Status<K>) -> bool {
        (self.state, &self.reason, &self.details, &self.error) == (other.state, &other.reason, &other.details, &other.error)
    }
}

/// Last reported status of a base value, stored compactly because most are plainly CONFIGURED.
#[derive(Clone)]
pub(super) enum LastReport<K> {
    Nothing,
    /// CONFIGURED; all other fields are empty.
    Configured {
        last_operation: Verb,
        since: Moment,
        revision: i64,
    },
    Other(Box<Status<K>>),
}

impl<K: Clone + PartialEq> LastReport<K> {
    pub fn status(&self) -> Option<Cow<'_, Status<K>>> {
        match self {
            LastReport::Nothing => None,
            LastReport::Configured {
                last_operation,
                since,
                revision,
            } => Some(Cow::Owned(Status::configured(*last_operation, (*since).into(), *revision))),
            LastReport::Other(status) => Some(Cow::Borrowed(status)),
        }
    }

    /// Returns whether a status other than CONFIGURED was reported last.
    pub fn is_problem(&self) -> bool {
        matches!(self, LastReport::Other(status) if status.state != ValueState::Configured)
    }
}

impl<K: Clone + PartialEq> From<&Status<K>> for LastReport<K> {
    fn from(status: &Status<K>) -> Self {
        let Status {
            last_operation,
            since,
            revision,
            ..
        } = *status;
        if status.is_plain() {
            LastReport::Configured {
                last_operation,
                since: since.into(),
                revision,
            }
        } else {
            LastReport::Other(Box::new(status.clone()))
        }
    }
}

/// Change of a status.
#[derive(Clone, PartialEq, Debug)]
pub struct StatusChange<K> {
    /// Key of the base value.
    pub key: K,
    /// New status; `None` if the value no longer exists.
    pub status: Option<Status<K>>,
}
