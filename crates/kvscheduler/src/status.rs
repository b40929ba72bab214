//! Value statuses.
//!
//! `decide` and `explain` contain the rules for entering each state.

use std::{borrow::Cow, fmt, time::Duration};

use super::{
    explanation::{Explanation, Repair},
    moment::Moment,
};

/// True if invariants are checked at run time, as in debug builds and in all simulator builds.
pub(super) const CHECKED: bool = cfg!(any(debug_assertions, feature = "checked"));

/// Value state. Names and numbers match those of `ligato.kvscheduler.ValueState`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub enum ValueState {
    /// The value is neither desired nor applied.
    #[default]
    Nonexistent = 0,
    /// The value was applied and has disappeared from the kernel.
    Missing = 1,
    /// No descriptor handles this kind of value.
    Unimplemented = 2,
    /// The value was deleted on request.
    Removed = 3,
    /// The kernel acknowledged the value.
    Configured = 4,
    /// The value is a fact reported from outside, which needs no operation.
    Obtained = 5,
    /// The value was observed in the kernel and has not been compared yet.
    Discovered = 6,
    /// The value is waiting for a dependency.
    Pending = 7,
    /// The value cannot be used as it is: its content is invalid, the kernel refused it, or it conflicts with another value.
    Invalid = 8,
    /// The last operation failed, and a retry alone is unlikely to help.
    Failed = 9,
    /// The last operation failed and will be retried.
    Retrying = 10,
}

impl ValueState {
    /// Returns the upper-case name, as in `ligato.kvscheduler.ValueState`.
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

/// Operation on a value. Names and numbers match those of `ligato.kvscheduler.TxnOperation`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Verb {
    /// No operation has been performed yet.
    Undefined = 0,
    /// Check that the applied value is unchanged in the kernel.
    Verify = 1,
    /// Creation of a value that is not applied.
    Create = 2,
    /// Change of an applied value without deleting it first.
    Update = 3,
    /// Deletion of an applied value.
    Delete = 4,
}

impl Verb {
    /// Returns the upper-case name, as in `ligato.kvscheduler.TxnOperation`.
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
    /// State of the value: `Invalid`, or `Unimplemented` if the agent recognises the kind of value but does not implement it.
    pub state: ValueState,
    /// Stable CamelCase reason.
    pub reason: &'static str,
    /// Human-readable message that describes the problem and says which values are accepted.
    pub message: String,
    /// Names of the offending fields.
    pub fields: Vec<String>,
}

/// Published status of a base value, which is a value that is not derived from another value.
#[derive(Clone, PartialEq, Debug)]
pub struct Status<K> {
    /// State of the value and of all values derived from it. CONFIGURED means that all of them are in the kernel.
    pub state: ValueState,
    /// Last operation on the value.
    pub last_operation: Verb,
    /// Labels of unsatisfied dependencies (PENDING) or names of invalid fields (INVALID).
    pub details: Vec<String>,
    /// Error text; empty unless the state is INVALID, FAILED or RETRYING.
    pub error: String,
    /// Stable CamelCase reason; empty if the state is CONFIGURED.
    pub reason: String,
    /// Human-readable explanation; empty if the state is CONFIGURED.
    pub message: String,
    /// Time at which state, reason, details or error last changed (since the Unix epoch).
    pub since: Duration,
    /// Store revision of the value to which this status applies; 0 if the value is not from the store.
    pub revision: i64,
    /// Time of the next retry (since the Unix epoch); `None` if no retry is scheduled.
    pub next_retry: Option<Duration>,
    /// Contents of `message` as data. `None` if the state is CONFIGURED, or if the data would not add anything to `message`.
    pub explanation: Option<Box<Explanation<K>>>,
    /// Last repair of the value or of a value derived from it; `None` if no repair has been necessary.
    pub last_repair: Option<Repair>,
}

impl<K: PartialEq> Status<K> {
    /// Returns the status of a CONFIGURED value without further details.
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

    /// Returns whether [`Self::configured`] could have created this status.
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

    /// Returns whether state, reason, details and error of both statuses are equal. The explanations may differ.
    pub(super) fn same_condition(&self, other: &Status<K>) -> bool {
        (self.state, &self.reason, &self.details, &self.error) == (other.state, &other.reason, &other.details, &other.error)
    }
}

/// Last reported status of a base value. Stored compactly, because most values are CONFIGURED and all their other status fields
/// are empty.
#[derive(Clone)]
pub(super) enum LastReport<K> {
    Nothing,
    /// The value is CONFIGURED, and all other status fields are empty.
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

    /// Returns whether the last reported status is not CONFIGURED.
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

/// Status change of a value.
#[derive(Clone, PartialEq, Debug)]
pub struct StatusChange<K> {
    /// Key of the base value.
    pub key: K,
    /// New status; `None` if the value no longer exists.
    pub status: Option<Status<K>>,
}
