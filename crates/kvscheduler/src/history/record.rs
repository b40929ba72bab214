//! Transaction and operation records.
//!
//! Records contain the values unchanged. Callers format them.

use std::{sync::Arc, time::Duration};

use rustc_hash::FxHashMap;

use super::super::{
    descriptor::Key,
    status::{ValueState, Verb},
    transaction::{KeyError, Kind, Options},
};

/// Record of an operation on one value.
#[derive(Clone, Debug, PartialEq)]
pub struct OperationRecord<K, V> {
    /// Time at which the operation was recorded (since the Unix epoch).
    pub at: Duration,
    /// Key of the value.
    pub key: K,
    /// Kind of the operation.
    pub verb: Verb,
    /// State and value before the operation.
    pub before: Side<V>,
    /// State and value after the operation.
    pub after: Side<V>,
    /// Properties of the operation, such as whether it was a retry.
    pub flags: OperationFlags,
}

impl<K, V> OperationRecord<K, V> {
    /// Returns the names of the operation's flags and states, in the order used by ligato vpp-agent.
    pub fn flag_names(&self) -> Vec<&'static str> {
        use ValueState::{Discovered, Failed, Invalid, Missing, Obtained, Pending, Removed, Unimplemented};
        let OperationRecord { before, after, flags, .. } = self;
        let was = |state: ValueState| before.state == state;
        let is = |state: ValueState| after.state == state;
        // Selects one of three names, depending on whether the value was in the state both before and after the operation,
        // only before it, or only after it.
        let pair = |state: ValueState, names: [&'static str; 3]| match (was(state), is(state)) {
            (true, true) => Some(names[0]),
            (true, false) => Some(names[1]),
            (false, true) => Some(names[2]),
            (false, false) => None,
        };
        let missing = match (was(Missing), is(Removed)) {
            (true, true) => Some("ALREADY-MISSING"),
            (true, false) => Some("WAS-MISSING"),
            _ => None,
        };
        [
            flags.derived.then_some("DERIVED"),
            flags.property.then_some("PROPERTY"),
            flags.noop.then_some("NOOP"),
            (flags.revert && !flags.property).then_some("REVERT"),
            (flags.retry && !flags.property).then_some("RETRY"),
            flags.recreate.then_some("RECREATE"),
            is(Obtained).then_some("OBTAINED"),
            was(Obtained).then_some("WAS-OBTAINED"),
            is(Unimplemented).then_some("UNIMPLEMENTED"),
            was(Unimplemented).then_some("WAS-UNIMPLEMENTED"),
            (self.verb == Verb::Delete && was(Removed)).then_some("ALREADY-REMOVED"),
            missing,
            was(Discovered).then_some("DISCOVERED"),
            pair(Pending, ["STILL-PENDING", "WAS-PENDING", "IS-PENDING"]),
            pair(Failed, ["STILL-FAILING", "FIXED", "FAILED"]),
            pair(Invalid, ["STILL-INVALID", "FIXED", "INVALID"]),
        ]
        .into_iter()
        .flatten()
        .collect()
    }
}

/// State of a value at a point in time.
#[derive(Clone, Debug, PartialEq)]
pub struct Side<V> {
    /// State of the value.
    pub state: ValueState,
    /// Value at that time; `None` if there was none.
    pub value: Option<V>,
    /// Error text of the value; `None` if it had no error.
    pub error: Option<Arc<str>>,
}

/// Properties of an operation.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct OperationFlags {
    /// True if the operation changed nothing in the kernel.
    pub noop: bool,
    /// True if the value is derived from another value and has a descriptor.
    pub derived: bool,
    /// True if the value has no descriptor and exists only so that other values can depend on it.
    pub property: bool,
    /// True if the operation restored a previous value.
    pub revert: bool,
    /// True if the operation was part of a retry of failed values.
    pub retry: bool,
    /// True if the operation was the deletion step or the creation step of a re-creation.
    pub recreate: bool,
    /// True if nothing was performed and only the scheduler's state changed, for example because a value was observed in the
    /// kernel. The record is part of the key's timeline, but does not count as an executed operation of the transaction.
    pub quiet: bool,
    /// True if a resync only confirmed that the value is still waiting. The record counts as an executed operation of the
    /// transaction, but is not part of the key's timeline.
    pub confirmation: bool,
}

/// Value named by a transaction.
#[derive(Clone, Debug, PartialEq)]
pub struct ValueRecord<K, V> {
    /// Key of the value.
    pub key: K,
    /// Requested value. `None` for a deletion or an unusable value.
    pub value: Option<V>,
    /// Origin of the value: `FromNB` or `FromSB`.
    pub origin: Origin,
}

/// Origin of a value. The numbers match those of ligato vpp-agent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// The value does not exist.
    Unknown = 0,
    /// The value was requested by a transaction (northbound).
    FromNB = 1,
    /// The value is a fact reported from outside (southbound).
    FromSB = 2,
}

impl Origin {
    /// Returns the origin of a value that is in the given state.
    pub fn of(state: ValueState) -> Self {
        match state {
            ValueState::Nonexistent => Origin::Unknown,
            ValueState::Obtained => Origin::FromSB,
            _ => Origin::FromNB,
        }
    }

    /// Returns the text shown to users.
    pub fn text(self) -> &'static str {
        match self {
            Origin::Unknown => "unknown",
            Origin::FromNB => "from-NB",
            Origin::FromSB => "from-SB",
        }
    }
}

/// Record of a completed transaction.
#[derive(Clone, Debug)]
pub struct TransactionRecord<K, V> {
    /// Sequence number of the transaction.
    pub seq: u64,
    /// Cause of the transaction.
    pub kind: Kind,
    /// Transaction options.
    pub options: Options,
    /// Time at which work on the transaction started (since the Unix epoch).
    pub start: Duration,
    /// Time at which the transaction completed (since the Unix epoch).
    pub stop: Duration,
    /// Values named by the transaction, in the order in which they were recorded. Empty for a downstream resync.
    pub values: Vec<ValueRecord<K, V>>,
    /// Planned operations, if the transaction was simulated first.
    pub planned: Option<Vec<OperationRecord<K, V>>>,
    /// Operations in completion order, including quiet ones.
    pub operations: Vec<OperationRecord<K, V>>,
    /// Number of operations that are not in the record because they exceed the history limit for a single transaction.
    pub omitted: usize,
    /// Failures, in the order in which they happened.
    pub errors: Vec<KeyError<K>>,
    /// True if the transaction was reverted, that is, the previous values were restored.
    pub reverted: bool,
}

impl<K, V> TransactionRecord<K, V> {
    /// Returns all operations except the quiet ones.
    pub fn executed(&self) -> impl Iterator<Item = &OperationRecord<K, V>> {
        self.operations.iter().filter(|operation| !operation.flags.quiet)
    }
}

/// Merges consecutive operations on a key if one of them only led to PENDING.
///
/// A creation that ended in the state PENDING is merged with a later creation. The deletion of a PENDING value is merged with the
/// preceding deletion.
pub fn compress<K: Key, V>(mut operations: Vec<OperationRecord<K, V>>) -> Vec<OperationRecord<K, V>> {
    let waited = |operation: &OperationRecord<K, V>| [operation.before.state, operation.after.state].contains(&ValueState::Pending);
    if !operations.iter().any(waited) {
        operations.shrink_to_fit();
        return operations;
    }
    let mut compressed: Vec<Option<OperationRecord<K, V>>> = Vec::with_capacity(operations.len());
    let mut latest: FxHashMap<K, usize> = FxHashMap::default();
    for mut operation in operations {
        let earlier = latest.get(operation.key.text()).copied();
        match earlier.and_then(|at| compressed[at].as_mut()) {
            Some(pending)
                if operation.verb == Verb::Create && pending.verb == Verb::Create && pending.after.state == ValueState::Pending =>
            {
                let pending = earlier.and_then(|at| compressed[at].take());
                if let Some(pending) = pending {
                    operation.before = pending.before;
                }
            }
            Some(deleted)
                if operation.verb == Verb::Delete && deleted.verb == Verb::Delete && operation.before.state == ValueState::Pending =>
            {
                deleted.after = operation.after;
                continue;
            }
            _ => {}
        }
        latest.insert(operation.key.clone(), compressed.len());
        compressed.push(Some(operation));
    }
    let mut compressed: Vec<_> = compressed.into_iter().flatten().collect();
    // The list may be kept for a day, so its unused capacity (up to half) is freed.
    compressed.shrink_to_fit();
    compressed
}
