//! Transactions: changes of the desired state with options, and their results.
//!
//! `input` accepts transactions, and `tracker` tracks which work belongs to which.

use std::{fmt, time::Duration};

use super::status::{Rejection, ValueState, Verb};

/// Change of one desired value.
#[derive(Clone, Debug)]
pub struct Change<K, V> {
    /// Key of the base value.
    pub key: K,
    /// Store revision of the change.
    pub revision: i64,
    /// New value, the reason why it cannot be used, or `None` for a deletion.
    pub value: Option<Result<V, Rejection>>,
}

/// Changes of the desired state that belong together.
#[derive(Clone, Debug)]
pub struct Transaction<K, V> {
    /// Changes. With [`Resync::Full`] or [`Resync::Upstream`]: all desired values.
    pub changes: Vec<Change<K, V>>,
    /// How the changes are applied.
    pub options: Options,
}

/// Options of a transaction. Default: no resync, best effort, and the retry policy that each value has already.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Options {
    /// Scope of the resync.
    pub resync: Resync,
    /// Ask for a detailed account of a resync. Only recorded.
    pub verbose: bool,
    /// Retry policy for the values of this transaction from now on. `None` keeps the policy of each value.
    pub retry: Option<Retry>,
    /// Restore the previous values if one of the values fails.
    pub revert: bool,
    /// Read the kernel again after the last operation, and report differences as errors.
    pub verify: bool,
    /// Simulate first, and keep the plan with the record.
    pub simulate: bool,
    /// The caller waits for the result: return it by [`super::Scheduler::take_finished`].
    pub awaited: bool,
    /// Description for the record.
    pub description: String,
}

/// Scope of a resync. Names and numbers are those of the reference agent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Resync {
    /// Only the changed values.
    #[default]
    None = 0,
    /// Values not in the changes are no longer desired, and the kernel is read again.
    Full = 1,
    /// Values not in the changes are no longer desired.
    Upstream = 2,
    /// The kernel is read again, and the desired values are applied again. Must have no changes.
    Downstream = 3,
}

/// Retry policy of a failed value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Retry {
    /// Delay after the first failure.
    pub first: Duration,
    /// Longest delay between two attempts.
    pub longest: Duration,
    /// Double the delay with each further failure.
    pub doubling: bool,
    /// Number of retries before the value is FAILED. `None`: no limit. `Some(0)`: no retries.
    pub attempts: Option<u32>,
}

impl Default for Retry {
    /// Retries without limit, after 1 s, 2 s, 4 s … 60 s.
    fn default() -> Self {
        Retry {
            first: Duration::from_secs(1),
            longest: Duration::from_secs(60),
            doubling: true,
            attempts: None,
        }
    }
}

impl Retry {
    /// Returns the delay before the next retry, given the number of preceding `failures` in a row.
    ///
    /// `None`: no more retries.
    pub(super) fn delay(&self, failures: u32) -> Option<Duration> {
        if self.attempts.is_some_and(|attempts| failures >= attempts) {
            return None;
        }
        let doublings = if self.doubling { failures.min(16) } else { 0 };
        Some(self.first.saturating_mul(1 << doublings).min(self.longest))
    }
}

/// Reason why a transaction is not accepted. The texts are those of the reference agent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unacceptable {
    /// A downstream resync applies the values that are desired already.
    #[error("downstream resync combined with data changes in one transaction")]
    DownstreamWithChanges,
    /// After a resync there is no single previous state to go back to.
    #[error("it is not supported to combine resync with revert")]
    ResyncWithRevert,
}

impl<K, V> Transaction<K, V> {
    /// Creates a transaction without options.
    pub fn of(changes: Vec<Change<K, V>>) -> Self {
        Transaction {
            changes,
            options: Options::default(),
        }
    }

    /// Creates a resync with all desired values (none for [`Resync::Downstream`]).
    pub fn resync(resync: Resync, changes: Vec<Change<K, V>>) -> Self {
        let options = Options {
            resync,
            ..Options::default()
        };
        Transaction { changes, options }
    }

    /// Checks whether the options can be combined.
    ///
    /// # Errors
    /// See [`Unacceptable`].
    pub fn check(&self) -> Result<(), Unacceptable> {
        match self.options.resync {
            Resync::Downstream if !self.changes.is_empty() => Err(Unacceptable::DownstreamWithChanges),
            Resync::None => Ok(()),
            _ if self.options.revert => Err(Unacceptable::ResyncWithRevert),
            _ => Ok(()),
        }
    }
}

/// Failure of one value in a transaction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyError<K> {
    /// Key of the value that failed. It may be derived from a value of the transaction, or depend on one.
    pub key: K,
    /// Operation that failed.
    pub operation: Verb,
    /// State of the value after the failure.
    pub state: ValueState,
    /// Error text.
    pub error: String,
    /// The failure happened while previous values were restored.
    pub in_revert: bool,
}

/// Reason why one value of a transaction is PENDING.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyWait<K> {
    /// Key of the value named by the transaction.
    pub key: K,
    /// Stable CamelCase reason, as in its status.
    pub reason: String,
    /// Missing dependency or other cause, as in its status.
    pub message: String,
}

/// Result of a transaction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TransactionResult<K> {
    /// Sequence number.
    pub seq: u64,
    /// Failures, in the order in which they happened. PENDING is not a failure.
    pub errors: Vec<KeyError<K>>,
    /// Values named by the transaction that are PENDING at its end, in the order of the transaction. They are not failures.
    pub waiting: Vec<KeyWait<K>>,
    /// The previous values were restored.
    pub reverted: bool,
}

impl<K: fmt::Display> fmt::Display for TransactionResult<K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = |error: &KeyError<K>| format!("{} ({}): {}", error.key, error.operation, error.error);
        let texts: Vec<String> = self.errors.iter().map(text).collect();
        write!(f, "KeyErrors: [{}]", texts.join(", "))
    }
}

/// Cause of a transaction. The numbers are those of the reference agent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// The kernel or a fact changed.
    Notification,
    /// The desired state changed.
    Northbound,
    /// Retry of failed values.
    Retry {
        /// Sequence number of the transaction in which they failed first.
        of: u64,
        /// Number of retries so far, including this one.
        attempt: u32,
    },
    /// A descriptor appeared for values that had none.
    Unimplemented,
}

impl Kind {
    /// Returns the name, as in the reference agent.
    pub fn text(self) -> &'static str {
        match self {
            Kind::Notification => "SBNotification",
            Kind::Northbound => "NBTransaction",
            Kind::Retry { .. } => "RetryFailedOps",
            Kind::Unimplemented => "RetryUnimplOps",
        }
    }
}
