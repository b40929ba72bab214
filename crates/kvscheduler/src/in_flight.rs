//! An operation under way: what is being done, and what happened meanwhile.
//!
//! Owns the shape. Must never decide what follows from an outcome: that is `outcome`. Start reading at [`InFlight`].

use super::{descriptor::Domain, queue::Ticket, status::Verb};

/// An operation under way.
#[derive(Clone)]
pub(super) struct InFlight<D: Domain> {
    pub action: Action<D>,
    /// Something happened to what it refers to: it is probed again afterwards.
    pub recheck: bool,
    /// A dependency, or what is wanted, has changed meanwhile: the attempt may have been made too early.
    pub stirred: bool,
    /// The transaction that it is done for.
    pub cause: Ticket,
    /// Numbers of the deletions of other values that succeed with this operation.
    pub takes: Vec<u64>,
}

/// What is being done. `superseded`: something else is desired meanwhile.
#[derive(Clone)]
pub(super) enum Action<D: Domain> {
    /// Of what is absent or partial; brings `co_created` into being besides.
    Create {
        value: D::Value,
        co_created: Vec<(D::Key, D::Value)>,
        superseded: bool,
    },
    /// Of what is present.
    Update { value: D::Value, superseded: bool },
    /// Of what is terminating.
    Delete,
    /// Of what is partial.
    Clear,
    /// Of what is present or terminating.
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

    /// The value being brought in.
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
