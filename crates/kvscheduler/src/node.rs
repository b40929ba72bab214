//! Node state: everything known about one key.
//!
//! A graph can contain a million nodes. State that most nodes lack most of the time is therefore stored separately in [`Rare`].

use std::{sync::Arc, time::Duration};

use super::{
    blocked::Blocked,
    cycle::Component,
    descriptor::{Claim, Domain},
    edge::Edges,
    explanation::LastError,
    in_flight::InFlight,
    lifecycle::{Agreement, Defect, Event, Fate, Lifecycle},
    node_set::NodeSet,
    nodes::NodeId,
    queue::Place,
    status::{LastReport, Rejection, Verb},
    tracker::Trace,
    transaction::Retry,
};

/// Value that a transaction requested under a key.
#[derive(Clone)]
pub(super) struct Requested<V> {
    /// Store revision of the request.
    pub revision: i64,
    /// The value, or the reason why it cannot be used.
    pub value: Result<V, Box<Rejection>>,
}

/// Desired values of a key, one for each origin. A requested value takes precedence over a derived value, and a derived value
/// takes precedence over an implied value.
#[derive(Clone)]
pub(super) struct Desire<V> {
    /// Value requested by a transaction.
    pub requested: Option<Requested<V>>,
    /// Value derived from the applied parent.
    pub derived: Option<V>,
    /// Value implied by other values.
    pub implied: Option<Box<Implied<V>>>,
}

/// Result of resolving a [`Desire`] to the value that takes effect.
pub(super) enum Desired<'a, V> {
    Nothing,
    Value(&'a V),
    /// The requested value is unusable. The applied value stays in place.
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

/// Index of the nodes below a prefix that is used by any-of dependencies.
#[derive(Clone, Default)]
pub(super) struct Below {
    /// Number of nodes below the prefix.
    pub members: usize,
    /// Available nodes below the prefix.
    pub available: NodeSet,
    /// Dependents that may be in the kernel and accept any node below the prefix.
    pub easy: NodeSet,
    /// Dependents that may be in the kernel and accept only some of the nodes below the prefix.
    pub choosy: NodeSet,
}

/// Value implied by other values.
#[derive(Clone)]
pub(super) struct Implied<V> {
    pub value: V,
    pub by: NodeSet,
}

/// State that only a few nodes have at a time, mostly because of a failure or a deletion.
#[derive(Clone)]
pub(super) struct Rare<D: Domain> {
    /// Last failure, kept until the value is changed or matches the desired value.
    pub last_error: Option<LastError>,
    /// Keys of the values that other programs changed or removed, until they are repaired. Stored only in the node of the base
    /// value.
    pub damage: Vec<D::Key>,
    /// Nodes waiting for this one to be deleted or changed.
    pub blocks: NodeSet,
    /// Time at which the delay of a PENDING report started; `None` if no report is delayed.
    pub deferred: Option<Duration>,
    /// Error text of the value when its state was last recorded; `None` if it had no error.
    pub error: Option<Arc<str>>,
    /// Number of open transactions that can still restore the previous desired value of this key.
    pub kept: u32,
    /// Retry policy set by a transaction. If it is `None`, the policy of the base value applies. If the base value has no policy,
    /// the default policy applies.
    pub retry: Option<Retry>,
    /// Sequence number of the transaction in which the value first failed. Valid only after a failed attempt.
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

/// Claims held by a node. Most nodes hold no claims.
#[derive(Clone, Default)]
pub(super) struct Claims(pub Vec<Claim>);

/// State of one key.
///
/// In a large graph, most accesses are cache misses, so the field order is fixed (`repr(C)`). The first cache line starts with
/// the version of the slot and contains the fields needed to evaluate a neighbour of the node. The fields needed to evaluate the
/// node itself come next. The rarely used fields come last.
#[derive(Clone)]
#[repr(C)]
pub(super) struct Node<D: Domain> {
    /// Existence in the kernel, as far as known. Changed only by [`Self::on`].
    lifecycle: Lifecycle<D::Value>,
    pub in_flight: Option<Box<InFlight<D>>>,
    pub blocked: Option<Box<Blocked>>,
    /// Value from which this one is derived. Kept until this value has been deleted.
    pub parent: Option<NodeId>,
    /// State that only a few nodes have; see [`Node::rare`].
    rare: Option<Box<Rare<D>>>,
    /// Dependencies of the applied value, of the value being created, or of the parts that a failed creation may have left
    /// behind.
    pub applied_edges: Edges<D::Key>,
    /// Dependencies of the desired value or, while the desired value is invalid, of the applied one.
    pub edges: Edges<D::Key>,
    /// Nodes with an edge to this one.
    pub dependents: NodeSet,
    /// Prefixes of this key that are used by dependencies.
    pub prefixes: NodeSet,
    pub children: NodeSet,
    pub place: Place,
    pub trace: Trace,
    pub key: D::Key,
    /// Number of consecutive failed attempts.
    pub attempts: u32,
    pub last_operation: Verb,
    /// True if the node is already in the list of base values that need a status check.
    pub reported: bool,
    /// Last reported status.
    pub status: LastReport<D::Key>,
    pub desire: Desire<D::Value>,
    pub implies: NodeSet,
    /// Index of the nodes below this key. Present only if the key is a prefix used by dependencies.
    pub below: Option<Box<Below>>,
    /// Strongly connected component of the node when last computed. Used to find dependency cycles.
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
            status: LastReport::Nothing,
            place: Place::default(),
            trace: Trace::default(),
            rare: None,
        }
    }

    /// Returns the desired value, if it is valid.
    pub fn desired(&self) -> Option<&D::Value> {
        match self.desire.resolve() {
            Desired::Value(value) => Some(value),
            Desired::Nothing | Desired::Rejected(_) => None,
        }
    }

    /// Returns the reason why the requested value is unusable. The applied value then stays in place.
    pub fn rejected(&self) -> Option<&Rejection> {
        match self.desire.resolve() {
            Desired::Rejected(rejection) => Some(rejection),
            Desired::Nothing | Desired::Value(_) => None,
        }
    }

    /// Returns the value that currently determines the dependencies and the implied values.
    ///
    /// This is the desired value or, while the desired value is invalid, the applied one.
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

    /// Applies a lifecycle event. Fails if the event is impossible in the current state.
    pub fn on(&mut self, event: Event<D::Value>) -> Result<(), Defect> {
        self.lifecycle.on(event)
    }

    /// Returns the applied value, as far as known.
    pub fn applied(&self) -> Option<&D::Value> {
        self.lifecycle.value()
    }

    /// Returns whether dependents can rely on the value.
    pub fn available(&self) -> bool {
        self.lifecycle.is_available()
    }

    /// Returns whether the value is to be deleted as soon as nothing depends on it any more.
    pub fn is_terminating(&self) -> bool {
        self.lifecycle.fate().is_some_and(Fate::is_terminating)
    }

    /// Returns whether the applied value, its dependencies and its derived values match the desired value.
    pub fn is_in_sync(&self) -> bool {
        self.lifecycle.agreement() == Some(Agreement::InSync)
    }

    /// Returns whether the value was observed in the kernel and has not been found to match the desired value yet.
    pub fn is_discovered(&self) -> bool {
        self.lifecycle.agreement() == Some(Agreement::Observed)
    }

    pub fn is_fact(&self) -> bool {
        matches!(self.lifecycle, Lifecycle::Fact(_))
    }

    /// Returns whether a creation may have left parts of the value behind.
    pub fn is_partial(&self) -> bool {
        matches!(self.lifecycle, Lifecycle::Partial { .. })
    }

    /// Returns the value that the last failed creation attempted; `None` if no parts of it can exist any more.
    pub fn attempted(&self) -> Option<&D::Value> {
        match &self.lifecycle {
            Lifecycle::Partial { attempted } => attempted.as_ref(),
            Lifecycle::Absent | Lifecycle::Present { .. } | Lifecycle::Fact(_) => None,
        }
    }

    /// Returns whether the value is applied as desired, is not blocked, and has no operation in flight.
    ///
    /// Such a node needs an evaluation only if a dependency becomes unavailable or is applied again.
    pub fn at_rest(&self) -> bool {
        let as_wanted = self.is_in_sync() && self.lifecycle.fate() == Some(Fate::Stays);
        as_wanted && self.in_flight.is_none() && self.blocked.is_none()
    }

    /// Returns the last operation on the value or, if there was none, the operation that the value is waiting for.
    ///
    /// Returns [`Verb::Undefined`] for a value that already matched the desired value when it was observed.
    pub fn requested_operation(&self) -> Verb {
        match (self.last_operation, self.applied(), self.desire.resolve()) {
            (Verb::Undefined, None, Desired::Value(_) | Desired::Rejected(_)) => Verb::Create,
            (Verb::Undefined, Some(_), Desired::Rejected(_)) => Verb::Update,
            (verb, ..) => verb,
        }
    }

    /// Returns whether the value is blocked until a certain time.
    pub fn is_waiting_for_time(&self) -> bool {
        self.blocked.as_deref().is_some_and(|blocked| blocked.until().is_some())
    }

    /// Returns whether the value cannot be applied now, because it was refused or because a required object does not exist.
    pub fn is_impossible(&self) -> bool {
        let refused = |blocked: &Blocked| blocked.is_refusal() || matches!(blocked, Blocked::Unavailable(_));
        self.blocked.as_deref().is_some_and(refused)
    }

    /// Returns whether the value is applied or an operation on it is in flight.
    pub fn present(&self) -> bool {
        self.applied().is_some() || self.in_flight.is_some()
    }

    /// Returns the rarely needed state ([`Rare`]) if the node has any.
    pub fn rare(&self) -> Option<&Rare<D>> {
        self.rare.as_deref()
    }

    /// Returns a mutable reference to the rarely needed state ([`Rare`]); `None` if the node has none.
    pub fn rare_mut(&mut self) -> Option<&mut Rare<D>> {
        self.rare.as_deref_mut()
    }

    /// Returns a mutable reference to the rarely needed state ([`Rare`]). Creates an empty state if the node has none.
    pub fn make_rare(&mut self) -> &mut Rare<D> {
        self.rare.get_or_insert_default()
    }

    /// Frees the rarely needed state ([`Rare`]) if all its entries are empty.
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

    /// Sets the retry policy given by a transaction.
    pub fn set_retry(&mut self, retry: Option<Retry>) {
        if retry.is_some() || self.rare.is_some() {
            self.make_rare().retry = retry;
        }
    }

    /// Replaces the recorded error and returns the previous one.
    pub fn replace_error(&mut self, error: Option<Arc<str>>) -> Option<Arc<str>> {
        match &mut self.rare {
            None if error.is_none() => None,
            rare => std::mem::replace(&mut rare.get_or_insert_default().error, error),
        }
    }

    /// Returns whether the node is no longer needed.
    pub fn unused(&self) -> bool {
        self.desire.is_empty()
            && !self.is_partial()
            && !self.present()
            && self.parent.is_none()
            && matches!(self.status, LastReport::Nothing)
            && self.claims.is_none()
            && !self.place.is_taken()
            && self.rare().is_none_or(|rare| rare.kept == 0)
            && self.dependents.is_empty()
            && self.children.is_empty()
            && self.below.as_ref().is_none_or(|below| below.members == 0)
    }
}
