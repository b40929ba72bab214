//! Operations in flight: what is being done, and what happened in the meantime.
//!
//! `outcome` processes their outcomes.

use super::{descriptor::Domain, queue::TxnId, status::Verb};

/// Operation in flight.
#[derive(Clone)]
pub(super) struct InFlight<D: Domain> {
    pub action: Action<D>,
    /// Something happened to its object in the meantime: it is probed again after completion.
    pub recheck: bool,
    /// A dependency or the desired value has changed in the meantime: the attempt may have been made too early.
    pub notified: bool,
    /// Transaction that the operation is done for.
    pub cause: TxnId,
    /// Numbers of the deletions of other values that succeed with this operation.
    pub takes: Vec<u64>,
}

/// Action of an operation. `superseded`: the desired value has changed since its start.
#[derive(Clone)]
pub(super) enum Action<D: Domain> {
    /// Creates an absent or partial value, and `co_created` as well.
    Create {
        value: D::Value,
        co_created: Vec<(D::Key, D::Value)>,
        superseded: bool,
    },
    /// Updates a present value.
    Update { value: D::Value, superseded: bool },
    /// Deletes a terminating value.
    Delete,
    /// Removes the parts of a partial value.
    Clear,
    /// Checks a present or terminating value.
    Verify,
}

impl<D: Domain> Action<D> {
    pub fn create(value: D::Value, co_created: Vec<(D::Key, D::Value)>) -> Self {
        Action::Create {
            value,
            co_created,
            superseded: false,
        }
    }

    pub fn verb(&self) -> Verb {
        match self {
            Action::Create { .. } => Verb::Create,
            Action::Update { .. } => Verb::Update,
            Action::Delete | Action::Clear => Verb::Delete,
            Action::Verify => Verb::Verify,
        }
    }

    /// Returns the value that is being created or updated to.
    pub fn value(&self) -> Option<&D::Value> {
        match self {
            Action::Create { value, .. } | Action::Update { value, .. } => Some(value),
            Action::Delete | Action::Clear | Action::Verify => None,
        }
    }

    pub fn co_created(&self) -> &[(D::Key, D::Value)] {
        match self {
            Action::Create { co_created, .. } => co_created,
            Action::Update { .. } | Action::Delete | Action::Clear | Action::Verify => &[],
        }
    }

    pub fn supersede(&mut self) {
        match self {
            Action::Create { superseded, .. } | Action::Update { superseded, .. } => *superseded = true,
            Action::Delete | Action::Clear | Action::Verify => {}
        }
    }
}
