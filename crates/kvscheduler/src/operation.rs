//! What the scheduler hands out and what comes back: operations and their outcomes.
//!
//! Owns these types and the order of the operations of a step. Must never know a node. Start reading at [`Operation`].

use super::{
    descriptor::{Key, Place},
    explanation::KernelError,
    status::Verb,
};

/// Something to be done for one value.
#[derive(Clone, Debug)]
pub struct Operation<K, O> {
    /// Number that the outcome must carry.
    pub id: u64,
    /// Key of the value.
    pub key: K,
    /// What is being done.
    pub verb: Verb,
    /// How: one after another, at least one.
    pub steps: Vec<O>,
    /// Place among the operations of this step, if the order of the keys is not right.
    pub place: Option<Place>,
}

impl<K: Key, O> Operation<K, O> {
    /// Deletions come first and creations last; within each, the order of the keys, except for values that have a place in a group.
    pub(super) fn order(&self) -> (bool, bool, &str, u32, &K) {
        let group = self.place.and_then(|place| self.key.text().get(..place.group));
        let position = self.place.map_or(0, |place| place.position);
        let group = group.unwrap_or(self.key.text());
        (self.verb != Verb::Delete, self.verb == Verb::Create, group, position, &self.key)
    }
}

/// What came of an operation.
#[derive(Debug)]
pub enum Outcome<V> {
    /// Done (or, of a check: unchanged).
    Done,
    /// Done, and what is applied now is this value.
    Became(V),
    /// Of a check: no longer what was applied; the text says why.
    Changed(String),
    /// Not done, because what the operation needs is not there yet. The value is PENDING until a dependency changes or
    /// [`super::Scheduler::probe`] is called. This is no failure: no transaction reports it as an error, and none is reverted for it.
    Waiting(Wait),
    /// Not done.
    Failed(Fault),
}

/// Why an operation has to wait.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Wait {
    /// Stable CamelCase reason.
    pub reason: &'static str,
    /// For the person who reads it.
    pub message: String,
}

/// How a failed operation is treated.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum FaultKind {
    /// What it names can never be used: INVALID until it is changed, or until a [`super::Scheduler::probe`].
    Refused,
    /// Somebody else's object is in the way: nothing was done, RETRYING with back-off.
    Foreign,
    /// Trying again by itself will hardly help: FAILED, tried again at the longest interval.
    Persistent,
    /// RETRYING with back-off.
    Transient,
}

/// Why an operation failed.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Fault {
    /// How to treat it.
    pub kind: FaultKind,
    /// Stable CamelCase reason.
    pub reason: &'static str,
    /// For the person who reads it.
    pub message: String,
    /// What the kernel said; `None` if it was not asked.
    pub kernel: Option<KernelError>,
}
