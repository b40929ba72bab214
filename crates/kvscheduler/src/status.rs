//! States of values and what is told about them.
//!
//! Owns the types of a status. Must never contain a rule about when a state is entered: that is `decide` and `explain`. Start
//! reading at [`Status`].

use std::{borrow::Cow, fmt, time::Duration};

use super::{
    explanation::{Explanation, Repair},
    moment::Moment,
};

/// Whether the rules about statuses are checked: in tests, and in the simulator however it is built.
pub(super) const CHECKED: bool = cfg!(any(debug_assertions, feature = "checked"));

/// State of a value; names and numbers as in `ligato.kvscheduler.ValueState`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub enum ValueState {
    /// No agent knows of the value.
    #[default]
    Nonexistent = 0,
    /// Was applied, and has vanished from the kernel.
    Missing = 1,
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

impl ValueState {
    /// Name in capitals, as in `ligato.kvscheduler.ValueState`.
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

impl Verb {
    /// Name in capitals, as in `ligato.kvscheduler.TxnOperation`.
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
pub struct Status<K> {
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
    pub explanation: Option<Box<Explanation<K>>>,
    /// The last damage from outside that was repaired.
    pub last_repair: Option<Repair>,
}

impl<K: PartialEq> Status<K> {
    /// That of a value of which there is nothing more to say.
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

    /// Whether it is as [`Self::configured`] makes it.
    fn is_plain(&self) -> bool {
        self.state == ValueState::Configured
            && (self.details.is_empty() && self.error.is_empty() && self.reason.is_empty() && self.message.is_empty())
            && (self.next_retry.is_none() && self.explanation.is_none() && self.last_repair.is_none())
    }

    /// Equal but for `since`.
    pub(super) fn same(&self, other: &Status<K>) -> bool {
        (self.last_operation, self.revision, self.next_retry) == (other.last_operation, other.revision, other.next_retry)
            && (&self.message, &self.explanation, &self.last_repair) == (&other.message, &other.explanation, &other.last_repair)
            && self.same_condition(other)
    }

    /// Whether the value is in the same state for the same reason, though the explanation may have changed.
    pub(super) fn same_condition(&self, other: &Status<K>) -> bool {
        (self.state, &self.reason, &self.details, &self.error) == (other.state, &other.reason, &other.details, &other.error)
    }
}

/// The status that was told last of a base value. Of nearly all there is little to say.
#[derive(Clone)]
pub(super) enum Told<K> {
    Nothing,
    /// CONFIGURED, and the rest is empty.
    Configured {
        last_operation: Verb,
        since: Moment,
        revision: i64,
    },
    Other(Box<Status<K>>),
}

impl<K: Clone + PartialEq> Told<K> {
    pub fn status(&self) -> Option<Cow<'_, Status<K>>> {
        match self {
            Told::Nothing => None,
            Told::Configured {
                last_operation,
                since,
                revision,
            } => Some(Cow::Owned(Status::configured(*last_operation, (*since).into(), *revision))),
            Told::Other(status) => Some(Cow::Borrowed(status)),
        }
    }

    /// Whether something was told, and it was not CONFIGURED.
    pub fn is_problem(&self) -> bool {
        matches!(self, Told::Other(status) if status.state != ValueState::Configured)
    }
}

impl<K: Clone + PartialEq> From<&Status<K>> for Told<K> {
    fn from(status: &Status<K>) -> Self {
        let Status {
            last_operation,
            since,
            revision,
            ..
        } = *status;
        if status.is_plain() {
            Told::Configured {
                last_operation,
                since: since.into(),
                revision,
            }
        } else {
            Told::Other(Box::new(status.clone()))
        }
    }
}

/// A status that changed; `None`: the value is gone, and so is its status.
#[derive(Clone, PartialEq, Debug)]
pub struct StatusChange<K> {
    /// Key of the base value.
    pub key: K,
    /// Its status now.
    pub status: Option<Status<K>>,
}
