//! Operations that the scheduler returns, and their outcomes.

use super::{
    descriptor::{Key, Place},
    explanation::KernelError,
    status::Verb,
};

/// Operation on one value.
#[derive(Clone, Debug)]
pub struct Operation<K, O> {
    /// Number of the operation, for [`super::Scheduler::outcome`].
    pub id: u64,
    /// Key of the value.
    pub key: K,
    /// Kind of the operation.
    pub verb: Verb,
    /// Steps, performed one after another; at least one.
    pub steps: Vec<O>,
    /// Position among the operations of this step, if it is not by key order.
    pub place: Option<Place>,
}

impl<K: Key, O> Operation<K, O> {
    /// Returns the sort key within a step.
    ///
    /// Deletions come first and creations last; each in key order, except for values that have a position in a group.
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
    /// Success; for a check: unchanged.
    Done,
    /// Success, and this value is applied now.
    Became(V),
    /// For a check: no longer as it was applied; the text says why.
    Changed(String),
    /// Not done, because something that the operation needs does not exist yet.
    ///
    /// The value is PENDING until a dependency changes or [`super::Scheduler::probe`] is called. This is not a failure: no
    /// transaction reports it as an error, and none is reverted because of it.
    Waiting(Wait),
    /// Failure.
    Failed(Fault),
}

/// Reason why an operation has to wait.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Wait {
    /// Stable CamelCase reason.
    pub reason: &'static str,
    /// Message for people.
    pub message: String,
}

/// Treatment of a failed operation.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum FaultKind {
    /// The value can never be applied: INVALID until it is changed, or until a [`super::Scheduler::probe`].
    Refused,
    /// A foreign object is in the way, and nothing was done: RETRYING with back-off.
    Foreign,
    /// A retry alone will hardly help: FAILED, retried at the longest interval.
    Persistent,
    /// Any other failure: RETRYING with back-off.
    Transient,
}

/// Failure of an operation.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Fault {
    /// Treatment of the failure.
    pub kind: FaultKind,
    /// Stable CamelCase reason.
    pub reason: &'static str,
    /// Message for people.
    pub message: String,
    /// Error of the kernel; `None` if the kernel was not involved.
    pub kernel: Option<KernelError>,
}
