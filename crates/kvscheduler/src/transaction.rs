//! Transactions: changes to the desired state, their options, and their results.
//!
//! `input` accepts transactions, and `tracker` tracks which work belongs to which transaction.

use std::{fmt, time::Duration};

use super::status::{Rejection, ValueState, Verb};

/// Change to one desired value.
#[derive(Clone, Debug)]
pub struct Change<K, V> {
    /// Key of the base value.
    pub key: K,
    /// Store revision of the change.
    pub revision: i64,
    /// New value, the reason why it cannot be used, or `None` to delete the value.
    pub value: Option<Result<V, Rejection>>,
}

/// Group of changes to the desired state, with common options.
#[derive(Clone, Debug)]
pub struct Transaction<K, V> {
    /// The changes. For [`Resync::Full`] and [`Resync::Upstream`], this is the complete list of desired values.
    pub changes: Vec<Change<K, V>>,
    /// Options for applying the changes.
    pub options: Options,
}

/// Transaction options. By default, there is no resync and no revert, and each value keeps its retry policy.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Options {
    /// Scope of the resync.
    pub resync: Resync,
    /// True if the client set the `verbose` flag. The flag is recorded in the history and has no other effect.
    pub verbose: bool,
    /// New retry policy for the values in this transaction. `None` keeps each value's current policy.
    pub retry: Option<Retry>,
    /// True if the previous desired values are restored when a value fails.
    pub revert: bool,
    /// True if the kernel is read again after the last operation, and differences are reported as errors.
    pub verify: bool,
    /// True if the transaction is simulated first. Its record then contains the planned operations.
    pub simulate: bool,
    /// True if the caller waits for the result, which [`super::Scheduler::take_finished`] returns.
    pub awaited: bool,
    /// Description that is stored in the transaction record.
    pub description: String,
}

/// Scope of a resync. Names and numbers match those of ligato vpp-agent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Resync {
    /// Only the changed values are processed.
    #[default]
    None = 0,
    /// Values not listed in the changes are no longer desired, and the kernel is read again.
    Full = 1,
    /// Values not listed in the changes are no longer desired.
    Upstream = 2,
    /// The kernel is read again, and the desired values are applied again. The transaction must not contain changes.
    Downstream = 3,
}

/// Retry policy for failed values.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Retry {
    /// Delay after the first failure.
    pub first: Duration,
    /// Longest delay between two attempts.
    pub longest: Duration,
    /// True if the delay doubles with each further failure.
    pub doubling: bool,
    /// Maximum number of retries before the value becomes FAILED. `None` means no limit, `Some(0)` means no retries.
    pub attempts: Option<u32>,
}

impl Default for Retry {
    /// Returns a policy with unlimited retries after 1 s, 2 s, 4 s and so on, up to 60 s.
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
    /// Returns the delay before the next retry. `failures` is the number of consecutive failures before the latest one.
    ///
    /// Returns `None` if there are no more retries.
    pub(super) fn delay(&self, failures: u32) -> Option<Duration> {
        if self.attempts.is_some_and(|attempts| failures >= attempts) {
            return None;
        }
        let doublings = if self.doubling { failures.min(16) } else { 0 };
        Some(self.first.saturating_mul(1 << doublings).min(self.longest))
    }
}

/// Reason for rejecting a transaction. The texts match those of ligato vpp-agent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unacceptable {
    /// A downstream resync applies the existing desired values, so it must not contain changes.
    #[error("downstream resync combined with data changes in one transaction")]
    DownstreamWithChanges,
    /// A resync has no single previous state to restore, so it cannot be combined with `revert`.
    #[error("it is not supported to combine resync with revert")]
    ResyncWithRevert,
}

impl<K, V> Transaction<K, V> {
    /// Creates a transaction with default options.
    pub fn of(changes: Vec<Change<K, V>>) -> Self {
        Transaction {
            changes,
            options: Options::default(),
        }
    }

    /// Creates a resync transaction. `changes` must contain all desired values, or must be empty for [`Resync::Downstream`].
    pub fn resync(resync: Resync, changes: Vec<Change<K, V>>) -> Self {
        let options = Options {
            resync,
            ..Options::default()
        };
        Transaction { changes, options }
    }

    /// Checks that the options can be combined.
    ///
    /// # Errors
    /// Fails for the reasons listed in [`Unacceptable`].
    pub fn check(&self) -> Result<(), Unacceptable> {
        match self.options.resync {
            Resync::Downstream if !self.changes.is_empty() => Err(Unacceptable::DownstreamWithChanges),
            Resync::None => Ok(()),
            _ if self.options.revert => Err(Unacceptable::ResyncWithRevert),
            _ => Ok(()),
        }
    }
}

/// Failure of a single value in a transaction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyError<K> {
    /// Key of the failed value. The transaction names this value, or it names a value that this value depends on or is derived
    /// from.
    pub key: K,
    /// Operation that failed.
    pub operation: Verb,
    /// State of the value after the failure.
    pub state: ValueState,
    /// Error text for people.
    pub error: String,
    /// True if the failure happened while previous values were being restored.
    pub in_revert: bool,
}

/// A PENDING value that was named by the transaction, and the reason why it is PENDING.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyWait<K> {
    /// Key of the value named by the transaction.
    pub key: K,
    /// Stable CamelCase reason, as in the value's status.
    pub reason: String,
    /// Missing dependency or other cause, as in the value's status.
    pub message: String,
}

/// Result of a transaction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TransactionResult<K> {
    /// Sequence number of the transaction.
    pub seq: u64,
    /// Failures, in the order in which they happened. PENDING is not a failure.
    pub errors: Vec<KeyError<K>>,
    /// Values named by the transaction that were PENDING when it ended, in key order. These are not failures.
    pub waiting: Vec<KeyWait<K>>,
    /// True if the previous values were restored.
    pub reverted: bool,
}

impl<K: fmt::Display> fmt::Display for TransactionResult<K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = |error: &KeyError<K>| format!("{} ({}): {}", error.key, error.operation, error.error);
        let texts: Vec<String> = self.errors.iter().map(text).collect();
        write!(f, "KeyErrors: [{}]", texts.join(", "))
    }
}

/// Cause of a transaction. The numbers match those of ligato vpp-agent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// The kernel or a fact changed.
    Notification,
    /// The desired state changed.
    Northbound,
    /// Retry of failed values.
    Retry {
        /// Sequence number of the transaction in which the values first failed.
        of: u64,
        /// Number of this retry, starting at 1. Zero for the delayed repair of a value that other programs keep changing.
        attempt: u32,
    },
    /// A descriptor became available for values that had no descriptor before.
    Unimplemented,
}

impl Kind {
    /// Returns the name used by ligato vpp-agent.
    pub fn text(self) -> &'static str {
        match self {
            Kind::Notification => "SBNotification",
            Kind::Northbound => "NBTransaction",
            Kind::Retry { .. } => "RetryFailedOps",
            Kind::Unimplemented => "RetryUnimplOps",
        }
    }
}
