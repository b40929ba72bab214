//! Records of transactions and of the operations within them.
//!
//! Owns the shape of a record, and the compression of what led nowhere. Values are kept as they are; callers render
//! them. Must never ask the graph. Start reading at [`TransactionRecord`].

use std::{sync::Arc, time::Duration};

use rustc_hash::FxHashMap;

use super::super::{
    descriptor::Key,
    status::{ValueState, Verb},
    transaction::{KeyError, Kind, Options},
};

/// What was done to one value.
#[derive(Clone, Debug, PartialEq)]
pub struct OperationRecord<K, V> {
    /// When (since the Unix epoch; to the precision of a step).
    pub at: Duration,
    /// Key of the value.
    pub key: K,
    /// What was done.
    pub verb: Verb,
    /// State and value before.
    pub before: Side<V>,
    /// State and value after.
    pub after: Side<V>,
    /// How it came about.
    pub flags: OperationFlags,
}

impl<K, V> OperationRecord<K, V> {
    /// What its flags and its states are called, in the order of the reference.
    pub fn flag_names(&self) -> Vec<&'static str> {
        use ValueState::{Discovered, Failed, Invalid, Missing, Obtained, Pending, Removed, Unimplemented};
        let OperationRecord { before, after, flags, .. } = self;
        let was = |state: ValueState| before.state == state;
        let is = |state: ValueState| after.state == state;
        // What a state that was or is there is called: before and after, only before, only after.
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

/// A value at one moment.
#[derive(Clone, Debug, PartialEq)]
pub struct Side<V> {
    /// Its state.
    pub state: ValueState,
    /// The value; `None` when there was none.
    pub value: Option<V>,
    /// What was wrong with it.
    pub error: Option<Arc<str>>,
}

/// How an operation came about.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct OperationFlags {
    /// Nothing was done in the kernel.
    pub noop: bool,
    /// The value is derived from another and has a descriptor.
    pub derived: bool,
    /// The value has no descriptor: others depend on it, and that is all.
    pub property: bool,
    /// It brought a previous value back.
    pub revert: bool,
    /// It was a further attempt.
    pub retry: bool,
    /// It is one half of a re-creation.
    pub recreate: bool,
    /// Only a change of what is known, such as "found in the kernel": part of the timeline of its key, not of the transaction.
    pub quiet: bool,
    /// A resync confirmed that the value still waits: part of the transaction, not of the timeline of its key.
    pub confirmation: bool,
}

/// A value as it came with a transaction.
#[derive(Clone, Debug, PartialEq)]
pub struct ValueRecord<K, V> {
    /// Its key.
    pub key: K,
    /// The value; `None` for a deletion, or for one that cannot be used.
    pub value: Option<V>,
    /// `FromNB` or `FromSB`.
    pub origin: Origin,
}

/// Where a value comes from; numbers as in the reference.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// There is no such value.
    Unknown = 0,
    /// Somebody asked for it.
    FromNB = 1,
    /// It exists by itself.
    FromSB = 2,
}

impl Origin {
    /// The origin that follows from a state.
    pub fn of(state: ValueState) -> Self {
        match state {
            ValueState::Nonexistent => Origin::Unknown,
            ValueState::Obtained => Origin::FromSB,
            _ => Origin::FromNB,
        }
    }

    /// As shown to users.
    pub fn text(self) -> &'static str {
        match self {
            Origin::Unknown => "unknown",
            Origin::FromNB => "from-NB",
            Origin::FromSB => "from-SB",
        }
    }
}

/// A transaction that is finished.
#[derive(Clone, Debug)]
pub struct TransactionRecord<K, V> {
    /// Sequence number.
    pub seq: u64,
    /// What started it.
    pub kind: Kind,
    /// The options it came with.
    pub options: Options,
    /// When it was first acted upon (since the Unix epoch).
    pub start: Duration,
    /// When nothing of it was left to do.
    pub stop: Duration,
    /// The values it came with, by key; empty for a downstream resync.
    pub values: Vec<ValueRecord<K, V>>,
    /// What a simulation before it said.
    pub planned: Option<Vec<OperationRecord<K, V>>>,
    /// What was done, in the order in which it was completed; with quiet entries.
    pub operations: Vec<OperationRecord<K, V>>,
    /// How many more operations there were than the history keeps of one transaction.
    pub omitted: usize,
    /// What failed.
    pub errors: Vec<KeyError<K>>,
    /// The previous values were brought back.
    pub reverted: bool,
}

impl<K, V> TransactionRecord<K, V> {
    /// What was done, without the quiet entries.
    pub fn executed(&self) -> impl Iterator<Item = &OperationRecord<K, V>> {
        self.operations.iter().filter(|operation| !operation.flags.quiet)
    }
}

/// Merges what led nowhere: a creation that ended PENDING with a later creation, and a deletion of a PENDING value with the
/// deletion before it. Only neighbours among the operations of a key are merged.
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
    // It is kept for a day, in what may be the room of twice as many.
    compressed.shrink_to_fit();
    compressed
}
