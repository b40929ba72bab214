//! Operations returned by the scheduler, and their outcomes.

use super::{
    descriptor::{Key, Place},
    explanation::KernelError,
    status::Verb,
};

/// Operation on a single value.
#[derive(Clone, Debug)]
pub struct Operation<K, O> {
    /// Operation number, to be passed to [`super::Scheduler::outcome`] together with the outcome.
    pub id: u64,
    /// Key of the value.
    pub key: K,
    /// Kind of the operation.
    pub verb: Verb,
    /// Steps to perform, in order. The list is never empty.
    pub steps: Vec<O>,
    /// Position of the value in a group that is processed in a fixed order; `None` if key order is used.
    pub place: Option<Place>,
}

impl<K: Key, O> Operation<K, O> {
    /// Returns the sort key for ordering the operations of a step.
    ///
    /// Deletions come first and creations last. Operations of the same kind are in key order, except for values that have a
    /// position in a group.
    pub(super) fn order(&self) -> (bool, bool, &str, u32, &K) {
        let group = self.place.and_then(|place| self.key.text().get(..place.group));
        let position = self.place.map_or(0, |place| place.position);
        let group = group.unwrap_or(self.key.text());
        (self.verb != Verb::Delete, self.verb == Verb::Create, group, position, &self.key)
    }
}

/// Outcome of an operation.
#[derive(Debug)]
pub enum Outcome<V> {
    /// The operation succeeded. For a check, this means that the value is unchanged.
    Done,
    /// The operation succeeded, and this value is now applied.
    Became(V),
    /// A check found that the value differs from the applied value. The text describes the difference.
    Changed(String),
    /// The operation was not performed, because an object that it needs does not exist yet.
    ///
    /// The value stays PENDING until a dependency changes or [`super::Scheduler::probe`] is called. This outcome is not a
    /// failure: no transaction reports it as an error or is reverted because of it.
    Waiting(Wait),
    /// The operation failed.
    Failed(Fault),
}

/// Reason why an operation must wait.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Wait {
    /// Stable CamelCase reason.
    pub reason: &'static str,
    /// Human-readable message.
    pub message: String,
}

/// Failure kind, which determines how the scheduler treats the value.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum FaultKind {
    /// The value can never be applied. It is INVALID until it is changed or [`super::Scheduler::probe`] is called.
    Refused,
    /// A foreign object prevents the operation, and nothing was changed. The value is RETRYING with back-off.
    Foreign,
    /// A retry alone is unlikely to help. The value is FAILED and retried at the longest interval.
    Persistent,
    /// Any other failure. The value is RETRYING with back-off.
    Transient,
}

/// Failure of an operation.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Fault {
    /// Kind of the failure, which determines how the value is treated.
    pub kind: FaultKind,
    /// Stable CamelCase reason.
    pub reason: &'static str,
    /// Human-readable message.
    pub message: String,
    /// Kernel error; `None` if the kernel was not involved.
    pub kernel: Option<KernelError>,
}
