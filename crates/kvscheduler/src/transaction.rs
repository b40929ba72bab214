//! What a transaction is: changes of the desired state with options, and what comes of them.
//!
//! Owns the types that callers see, and which combinations of options are refused. Must never touch the graph: `input` takes a
//! transaction in, `ledger` knows what belongs to it. Start reading at [`Transaction`].

use std::{fmt, time::Duration};

use super::status::{Rejection, ValueState, Verb};

/// A change of the desired state.
#[derive(Clone, Debug)]
pub struct Change<K, V> {
    /// Key of the base value.
    pub key: K,
    /// Store revision of the change.
    pub revision: i64,
    /// The new value, why it cannot be used, or `None` for a deletion.
    pub value: Option<Result<V, Rejection>>,
}

/// Changes of the desired state that belong together.
#[derive(Clone, Debug)]
pub struct Transaction<K, V> {
    /// The changes; with [`Resync::Full`] or [`Resync::Upstream`], all values there are.
    pub changes: Vec<Change<K, V>>,
    /// How they are to be applied.
    pub options: Options,
}

/// Options of a transaction. The default: no resync, best effort, retries as each value has them already.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Options {
    /// What else is to be brought in line.
    pub resync: Resync,
    /// The caller asked for a detailed account of a resync; recorded with it.
    pub verbose: bool,
    /// From now on the values of this transaction are retried like this. `None` leaves each value the policy that it has.
    pub retry: Option<Retry>,
    /// Bring the previous values back when one of the values fails.
    pub revert: bool,
    /// Read the kernel again after the last operation, and report what differs as errors.
    pub verify: bool,
    /// Plan first, and keep the plan with the record.
    pub simulate: bool,
    /// Somebody waits: hand the result out by [`super::Scheduler::take_finished`].
    pub awaited: bool,
    /// Text for the record.
    pub description: String,
}

/// How much is brought in line; names and numbers as in the reference.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Resync {
    /// Only what the changes name.
    #[default]
    None = 0,
    /// What the changes do not name is no longer wanted, and the kernel is read again.
    Full = 1,
    /// What the changes do not name is no longer wanted.
    Upstream = 2,
    /// The kernel is read again, and what is wanted is applied again. Has no changes.
    Downstream = 3,
}

/// When a failed value is tried again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Retry {
    /// Delay after the first failure.
    pub first: Duration,
    /// Longest delay between two attempts.
    pub longest: Duration,
    /// Whether the delay doubles with each further failure.
    pub doubling: bool,
    /// How many times it is tried again before it is FAILED; `None`: for ever. `Some(0)`: never.
    pub attempts: Option<u32>,
}

impl Default for Retry {
    /// For ever, after 1 s, 2 s, 4 s … 60 s.
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
    /// The delay after `failures` failures in a row before this one; `None`: it is not tried again.
    pub(super) fn delay(&self, failures: u32) -> Option<Duration> {
        if self.attempts.is_some_and(|attempts| failures >= attempts) {
            return None;
        }
        let doublings = if self.doubling { failures.min(16) } else { 0 };
        Some(self.first.saturating_mul(1 << doublings).min(self.longest))
    }
}

/// Why a transaction was not taken. Texts as in the reference.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unacceptable {
    /// A downstream resync takes its values from what is wanted already.
    #[error("downstream resync combined with data changes in one transaction")]
    DownstreamWithChanges,
    /// After a resync there is no single previous state to go back to.
    #[error("it is not supported to combine resync with revert")]
    ResyncWithRevert,
}

impl<K, V> Transaction<K, V> {
    /// Changes without options.
    pub fn of(changes: Vec<Change<K, V>>) -> Self {
        Transaction {
            changes,
            options: Options::default(),
        }
    }

    /// A resync with all values there are (none for [`Resync::Downstream`]).
    pub fn resync(resync: Resync, changes: Vec<Change<K, V>>) -> Self {
        let options = Options {
            resync,
            ..Options::default()
        };
        Transaction { changes, options }
    }

    /// Whether the options can be combined.
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

/// Why one value of a transaction is not as it was asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyError<K> {
    /// Key of the value that failed; it may be derived from one of the transaction, or depend on it.
    pub key: K,
    /// What was tried.
    pub operation: Verb,
    /// Its state after the failure.
    pub state: ValueState,
    /// What went wrong.
    pub error: String,
    /// It failed while previous values were brought back.
    pub in_revert: bool,
}

/// Why one value of a transaction is PENDING.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyWait<K> {
    /// Key of the value that the transaction named.
    pub key: K,
    /// Stable CamelCase reason, as in its status.
    pub reason: String,
    /// What it waits for, as in its status.
    pub message: String,
}

/// What came of a transaction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TransactionResult<K> {
    /// Sequence number.
    pub seq: u64,
    /// What failed, in the order in which it did. Never names a value for being PENDING.
    pub errors: Vec<KeyError<K>>,
    /// Values named by the transaction that are PENDING at its end, in the order of the transaction. No failure.
    pub waiting: Vec<KeyWait<K>>,
    /// The previous values were brought back.
    pub reverted: bool,
}

impl<K: fmt::Display> fmt::Display for TransactionResult<K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = |error: &KeyError<K>| format!("{} ({}): {}", error.key, error.operation, error.error);
        let texts: Vec<String> = self.errors.iter().map(text).collect();
        write!(f, "KeyErrors: [{}]", texts.join(", "))
    }
}

/// What started a transaction; numbers as in the reference.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Something below changed.
    Notification,
    /// Somebody changed what is wanted.
    Northbound,
    /// Failed values are tried again.
    Retry {
        /// The transaction in which they failed first.
        of: u64,
        /// How many times they have been tried again, with this one.
        attempt: u32,
    },
    /// A descriptor appeared for values that had none.
    Unimplemented,
}

impl Kind {
    /// Name, as in the reference.
    pub fn text(self) -> &'static str {
        match self {
            Kind::Notification => "SBNotification",
            Kind::Northbound => "NBTransaction",
            Kind::Retry { .. } => "RetryFailedOps",
            Kind::Unimplemented => "RetryUnimplOps",
        }
    }
}
