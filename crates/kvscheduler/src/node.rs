//! A node: everything known of one key.
//!
//! Owns the shape of a node, and what follows from it alone. Must never look at another node: that is `graph` and `readiness`. Start
//! reading at [`Node`].
//!
//! There may be a million of them, so what few have, or have for a moment only, lies in [`Rare`].

use std::{sync::Arc, time::Duration};

use super::{
    blocked::Blocked,
    cycle::Component,
    descriptor::{Claim, Domain},
    edge::Edges,
    explanation::LastError,
    in_flight::InFlight,
    ledger::Trace,
    lifecycle::{Agreement, Defect, Event, Fate, Lifecycle},
    node_set::NodeSet,
    nodes::NodeId,
    queue::Place,
    status::{Rejection, Told, Verb},
    transaction::Retry,
};

/// What the northbound side asked for under a key.
#[derive(Clone)]
pub(super) struct Requested<V> {
    /// Store revision that asked for it.
    pub revision: i64,
    /// The value, or why it cannot be used.
    pub value: Result<V, Box<Rejection>>,
}

/// What is desired under a key, by origin. A requested value wins over a derived one, a derived one over an implied one.
#[derive(Clone)]
pub(super) struct Desire<V> {
    /// By the northbound side.
    pub requested: Option<Requested<V>>,
    /// Because the parent is applied.
    pub derived: Option<V>,
    /// Because others imply it.
    pub implied: Option<Box<Implied<V>>>,
}

/// What a [`Desire`] comes to.
pub(super) enum Desired<'a, V> {
    Nothing,
    Value(&'a V),
    /// The northbound value is unusable; what is applied stays.
    Rejected(&'a Rejection),
}

impl<V> Desire<V> {
    pub fn resolve(&self) -> Desired<'_, V> {
        match &self.requested {
            Some(Requested { value: Ok(value), .. }) => Desired::Value(value),
            Some(Requested { value: Err(rejection), .. }) => Desired::Rejected(rejection),
            None => match self.derived.as_ref().or(self.implied.as_ref().map(|implied| &implied.value)) {
                Some(value) => Desired::Value(value),
                None => Desired::Nothing,
            },
        }
    }

    fn is_empty(&self) -> bool {
        self.requested.is_none() && self.derived.is_none() && self.implied.is_none()
    }
}

/// What lies below a prefix that dependencies on "any of" name.
#[derive(Clone, Default)]
pub(super) struct Below {
    /// Nodes below it.
    pub members: usize,
    /// Those of them that others may rely on.
    pub available: NodeSet,
    /// Dependents that may be in the kernel and for which any of those will do.
    pub easy: NodeSet,
    /// Dependents that may be in the kernel and to which not all of them count.
    pub choosy: NodeSet,
}

/// That others imply a value.
#[derive(Clone)]
pub(super) struct Implied<V> {
    pub value: V,
    pub by: NodeSet,
}

/// What few nodes have at a time. Nearly all of it belongs to a failure, or to what is being taken down.
#[derive(Clone)]
pub(super) struct Rare<D: Domain> {
    /// The last failure, until it is as wanted or is changed.
    pub last_error: Option<LastError>,
    /// Of a base value: what of it was lost from outside and is not repaired yet.
    pub damage: Vec<D::Key>,
    /// Nodes waiting for this one to be gone.
    pub blocks: NodeSet,
    /// PENDING has been held back since then.
    pub deferred: Option<Duration>,
    /// What was wrong with it when its state was recorded last.
    pub error: Option<Arc<str>>,
    /// How many transactions may still bring back what was wanted of it.
    pub kept: u32,
    /// What a transaction said about its retries.
    pub retry: Option<Retry>,
    /// Sequence number of the transaction in which it failed first; means something after a failed attempt only.
    pub failed_in: u64,
}

impl<D: Domain> Default for Rare<D> {
    fn default() -> Self {
        Rare {
            last_error: None,
            damage: Vec::new(),
            blocks: NodeSet::default(),
            deferred: None,
            error: None,
            kept: 0,
            retry: None,
            failed_in: 0,
        }
    }
}

/// Claims that a node holds; few have any.
#[derive(Clone, Default)]
pub(super) struct Claims(pub Vec<Claim>);

/// Everything known of one key. With very many nodes nearly every look at one has to be fetched from memory, so the order is not left
/// to the compiler: what a neighbour's decision reads lies in the first cache line, beside the version of the place, then what a
/// decision of its own reads, and what few read at the end.
#[derive(Clone)]
#[repr(C)]
pub(super) struct Node<D: Domain> {
    /// What is in the kernel, as far as is known. Changed by [`Self::on`] alone.
    lifecycle: Lifecycle<D::Value>,
    pub in_flight: Option<Box<InFlight<D>>>,
    pub blocked: Option<Box<Blocked>>,
    /// The value it is, or until its removal was, derived from.
    pub parent: Option<NodeId>,
    /// To be read by [`Node::rare`].
    rare: Option<Box<Rare<D>>>,
    /// Dependencies of the applied value, of one that is being created, or of what a failed creation may have left.
    pub applied_edges: Edges<D::Key>,
    /// Dependencies of the wanted value (of the applied one while the wanted one is invalid).
    pub edges: Edges<D::Key>,
    /// Nodes with an edge to this one.
    pub dependents: NodeSet,
    /// The prefixes, of those that dependencies name, that it lies below.
    pub prefixes: NodeSet,
    pub children: NodeSet,
    pub place: Place,
    pub trace: Trace,
    pub key: D::Key,
    /// Failed attempts in a row.
    pub attempts: u32,
    pub last_operation: Verb,
    /// In the list of base values whose status is to be looked at.
    pub reported: bool,
    /// As told last.
    pub status: Told<D::Key>,
    pub desire: Desire<D::Value>,
    pub implies: NodeSet,
    /// Of a prefix that dependencies name.
    pub below: Option<Box<Below>>,
    /// The dependency cycle that it is part of, as last found.
    pub component: Component,
    pub claims: Option<Box<Claims>>,
}

impl<D: Domain> Node<D> {
    pub fn new(key: D::Key) -> Self {
        Node {
            key,
            desire: Desire {
                requested: None,
                derived: None,
                implied: None,
            },
            parent: None,
            lifecycle: Lifecycle::Absent,
            edges: Edges::default(),
            applied_edges: Edges::default(),
            implies: NodeSet::default(),
            children: NodeSet::default(),
            dependents: NodeSet::default(),
            below: None,
            prefixes: NodeSet::default(),
            component: Component::default(),
            reported: false,
            in_flight: None,
            blocked: None,
            attempts: 0,
            claims: None,
            last_operation: Verb::Undefined,
            status: Told::Nothing,
            place: Place::default(),
            trace: Trace::default(),
            rare: None,
        }
    }

    /// The valid value that should be applied.
    pub fn wanted(&self) -> Option<&D::Value> {
        match self.desire.resolve() {
            Desired::Value(value) => Some(value),
            Desired::Nothing | Desired::Rejected(_) => None,
        }
    }

    /// The northbound value is unusable; what is applied stays.
    pub fn rejected(&self) -> Option<&Rejection> {
        match self.desire.resolve() {
            Desired::Rejected(rejection) => Some(rejection),
            Desired::Nothing | Desired::Value(_) => None,
        }
    }

    /// The value whose dependencies and implications hold now: the wanted one, or the applied one while the wanted one is invalid.
    pub fn basis(&self) -> Option<&D::Value> {
        match self.desire.resolve() {
            Desired::Value(value) => Some(value),
            Desired::Rejected(_) => self.applied(),
            Desired::Nothing => None,
        }
    }

    pub fn lifecycle(&self) -> &Lifecycle<D::Value> {
        &self.lifecycle
    }

    /// As [`Lifecycle::on`].
    pub fn on(&mut self, event: Event<D::Value>) -> Result<(), Defect> {
        self.lifecycle.on(event)
    }

    /// What is in the kernel, as far as is known.
    pub fn applied(&self) -> Option<&D::Value> {
        self.lifecycle.value()
    }

    /// Whether others may rely on it.
    pub fn available(&self) -> bool {
        self.lifecycle.is_available()
    }

    /// Whether it is to be deleted as soon as nothing hangs on it any more.
    pub fn is_terminating(&self) -> bool {
        self.lifecycle.fate().is_some_and(Fate::is_terminating)
    }

    /// Whether the applied value, its edges and its children are those of the wanted value.
    pub fn is_in_sync(&self) -> bool {
        self.lifecycle.agreement() == Some(Agreement::InSync)
    }

    /// Whether it was found in the kernel and is not confirmed by a decision yet.
    pub fn is_discovered(&self) -> bool {
        self.lifecycle.agreement() == Some(Agreement::Observed)
    }

    pub fn is_fact(&self) -> bool {
        matches!(self.lifecycle, Lifecycle::Fact(_))
    }

    /// Whether a creation may have left something behind.
    pub fn is_partial(&self) -> bool {
        matches!(self.lifecycle, Lifecycle::Partial { .. })
    }

    /// The value of the last creation that failed, as long as it may have left something behind.
    pub fn attempted(&self) -> Option<&D::Value> {
        match &self.lifecycle {
            Lifecycle::Partial { attempted } => attempted.as_ref(),
            Lifecycle::Absent | Lifecycle::Present { .. } | Lifecycle::Fact(_) => None,
        }
    }

    /// Whether it is in the kernel as wanted, and nothing is under way or held. Then only a dependency that is no longer available, or was
    /// applied anew, concerns it.
    pub fn at_rest(&self) -> bool {
        let as_wanted = self.is_in_sync() && self.lifecycle.fate() == Some(Fate::Stays);
        as_wanted && self.in_flight.is_none() && self.blocked.is_none()
    }

    /// The last operation on the value or, if there was none, the one that it waits for; undefined for a value that was found as desired.
    pub fn requested_operation(&self) -> Verb {
        match (self.last_operation, self.applied(), self.desire.resolve()) {
            (Verb::Undefined, None, Desired::Value(_) | Desired::Rejected(_)) => Verb::Create,
            (Verb::Undefined, Some(_), Desired::Rejected(_)) => Verb::Update,
            (verb, ..) => verb,
        }
    }

    /// Whether it is tried again after a while.
    pub fn is_waiting_for_time(&self) -> bool {
        self.blocked.as_deref().is_some_and(|blocked| blocked.until().is_some())
    }

    /// Whether it was found that it cannot be, as things are.
    pub fn is_impossible(&self) -> bool {
        let refused = |blocked: &Blocked| blocked.is_refusal() || matches!(blocked, Blocked::Unavailable(_));
        self.blocked.as_deref().is_some_and(refused)
    }

    /// Whether it is, or may be about to be, in the kernel.
    pub fn present(&self) -> bool {
        self.applied().is_some() || self.in_flight.is_some()
    }

    /// What few nodes have, if this one has any of it.
    pub fn rare(&self) -> Option<&Rare<D>> {
        self.rare.as_deref()
    }

    /// As [`Self::rare`], to take something away from it.
    pub fn rare_mut(&mut self) -> Option<&mut Rare<D>> {
        self.rare.as_deref_mut()
    }

    /// As [`Self::rare`], to put something there.
    pub fn make_rare(&mut self) -> &mut Rare<D> {
        self.rare.get_or_insert_default()
    }

    /// Gives the room back if there is nothing there.
    pub fn shed_rare(&mut self) {
        let empty = |rare: &mut Box<Rare<_>>| {
            (rare.last_error.is_none() && rare.deferred.is_none() && rare.error.is_none())
                && (rare.damage.is_empty() && rare.blocks.is_empty() && rare.kept == 0 && rare.retry.is_none())
        };
        if self.attempts == 0 {
            self.rare.take_if(empty);
        }
    }

    pub fn forget_error(&mut self) {
        if let Some(rare) = self.rare_mut() {
            rare.last_error = None;
        }
    }

    /// When it is tried again, as a transaction said.
    pub fn set_retry(&mut self, retry: Option<Retry>) {
        if retry.is_some() || self.rare.is_some() {
            self.make_rare().retry = retry;
        }
    }

    /// What was recorded last as wrong with it is replaced.
    pub fn replace_error(&mut self, error: Option<Arc<str>>) -> Option<Arc<str>> {
        match &mut self.rare {
            None if error.is_none() => None,
            rare => std::mem::replace(&mut rare.get_or_insert_default().error, error),
        }
    }

    /// Nobody needs it.
    pub fn unused(&self) -> bool {
        self.desire.is_empty()
            && !self.is_partial()
            && !self.present()
            && self.parent.is_none()
            && matches!(self.status, Told::Nothing)
            && self.claims.is_none()
            && !self.place.is_taken()
            && self.rare().is_none_or(|rare| rare.kept == 0)
            && self.dependents.is_empty()
            && self.children.is_empty()
            && self.below.as_ref().is_none_or(|below| below.members == 0)
    }
}
