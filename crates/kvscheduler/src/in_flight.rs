//! Operations in flight, with their actions and the changes that have happened since they started.
//!
//! `outcome` processes the outcomes.

use super::{descriptor::Domain, queue::TxnId, status::Verb};

/// Operation in flight.
#[derive(Clone)]
pub(super) struct InFlight<D: Domain> {
    pub action: Action<D>,
    /// True if an event may have changed the object since the operation started. The object is then probed when the operation has
    /// completed.
    pub recheck: bool,
    /// True if a dependency or the desired value has changed since the operation started. If the operation does not succeed, it
    /// is retried sooner than usual.
    pub notified: bool,
    /// Transaction to which the operation is assigned.
    pub cause: TxnId,
    /// Numbers of the deletion operations for values that the kernel removes as part of this operation. These deletions succeed or
    /// fail together with the operation.
    pub takes: Vec<u64>,
}

/// Action of an operation. `superseded` means that the desired value has changed since the operation started.
#[derive(Clone)]
pub(super) enum Action<D: Domain> {
    /// Creates an absent or partly created value together with the `co_created` values.
    Create {
        value: D::Value,
        co_created: Vec<(D::Key, D::Value)>,
        superseded: bool,
    },
    /// Updates a present value.
    Update { value: D::Value, superseded: bool },
    /// Deletes a terminating value.
    Delete,
    /// Removes the parts of a partly created value.
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

    /// Returns the value that a creation or update applies. Returns `None` for other actions.
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
