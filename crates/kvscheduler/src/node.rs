//! A node: everything known of one key.
//!
//! Owns the shape of a node, and what follows from it alone. Must never look at another node: that is `graph` and `readiness`. Start
//! reading at [`Node`].
//!
//! There may be a million of them, so what few have, or have for a moment only, lies in [`Rare`].

use std::{sync::Arc, time::Duration};

use super::{
    cycle::Component,
    descriptor::{Claim, Domain},
    edge::Edges,
    explanation::LastError,
    ledger::Trace,
    node_set::NodeSet,
    nodes::NodeId,
    queue::{Place, Ticket},
    retry::NEVER,
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

/// An operation under way.
#[derive(Clone)]
pub(super) struct Flight<D: Domain> {
    /// What is being done.
    pub verb: Verb,
    /// The value being brought in; `None` for a deletion or a check.
    pub value: Option<D::Value>,
    /// It is still what is wanted.
    pub as_wanted: bool,
    /// A dependency, or what is wanted, has changed meanwhile: the attempt may have been made too early.
    pub stirred: bool,
    /// What its success brings into being besides.
    pub brings: Vec<(D::Key, D::Value)>,
    /// The transaction that it is done for.
    pub cause: Ticket,
    /// Numbers of the deletions of other values that succeed with this operation.
    pub takes: Vec<u64>,
}

/// Why a value that could be worked on is left alone for now.
#[derive(Clone, PartialEq, Debug)]
pub(super) enum Hold {
    /// The last operation failed; tried again at `until`, or at `earliest` if something that it depends on changes.
    Retry {
        until: Duration,
        earliest: Duration,
        persistent: bool,
        /// Somebody else's object is in the way: there is no telling that it will ever go.
        foreign: bool,
        reason: &'static str,
        message: String,
    },
    /// Others changed or removed it, and it is not to be repaired: until the kernel agrees again, or it is asked for anew.
    Drifted { message: String },
    /// What it needs is not there, says the effect; a probe or a change of a dependency ends the wait.
    Unavailable { reason: &'static str, message: String },
    /// Another value is in the way; any change nearby ends the wait. `by_effect`: the effect said that it can never be; only a
    /// probe ends that wait.
    Refused {
        reason: &'static str,
        message: String,
        by_effect: bool,
    },
}

impl Hold {
    /// All attempts have been made.
    pub fn is_for_ever(&self) -> bool {
        matches!(self, Hold::Retry { until: NEVER, .. })
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
    /// The value of the last creation that failed, as long as it may have left something behind.
    pub attempted: Option<D::Value>,
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
            attempted: None,
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
    /// A fact from below: applied by saying so.
    pub fact: bool,
    /// To be deleted as soon as nothing hangs on it any more; not available to others from this moment.
    pub closing: bool,
    /// The applied value is not what it was.
    pub stale: bool,
    /// Found in the kernel, not yet confirmed by a decision.
    pub discovered: bool,
    /// The applied value, its edges and its children are those of the wanted value.
    pub settled: bool,
    /// What is in the kernel, as far as is known.
    pub applied: Option<D::Value>,
    pub flight: Option<Box<Flight<D>>>,
    pub hold: Option<Box<Hold>>,
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
    /// Brought into being by the creation of another value, and not settled since.
    pub brought: bool,
    /// A failed creation may have left something behind.
    pub partial: bool,
    /// Something happened to what it refers to while an operation was under way.
    pub probe_again: bool,
    /// As told last.
    pub status: Told<D::Key>,
    /// Wanted by the northbound side.
    pub requested: Option<Requested<D::Value>>,
    /// Wanted because the parent is applied.
    pub derived: Option<D::Value>,
    /// Wanted because others imply it.
    pub implied: Option<Box<Implied<D::Value>>>,
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
            requested: None,
            derived: None,
            parent: None,
            implied: None,
            fact: false,
            applied: None,
            edges: Edges::default(),
            applied_edges: Edges::default(),
            implies: NodeSet::default(),
            children: NodeSet::default(),
            dependents: NodeSet::default(),
            below: None,
            prefixes: NodeSet::default(),
            component: Component::default(),
            reported: false,
            closing: false,
            stale: false,
            discovered: false,
            brought: false,
            settled: false,
            flight: None,
            hold: None,
            attempts: 0,
            partial: false,
            probe_again: false,
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
        match &self.requested {
            Some(requested) => requested.value.as_ref().ok(),
            None => self.derived.as_ref().or(self.implied.as_ref().map(|implied| &implied.value)),
        }
    }

    /// The northbound value is unusable; what is applied stays.
    pub fn rejected(&self) -> Option<&Rejection> {
        self.requested.as_ref()?.value.as_ref().err().map(Box::as_ref)
    }

    /// The value whose dependencies and implications hold now: the wanted one, or the applied one while the wanted one is invalid.
    pub fn basis(&self) -> Option<&D::Value> {
        self.wanted()
            .or(if self.requested.is_some() { self.applied.as_ref() } else { None })
    }

    /// Whether others may rely on it.
    pub fn available(&self) -> bool {
        self.applied.is_some() && !self.closing
    }

    /// Whether it is in the kernel as wanted, and nothing is under way or held. Then only a dependency that is no longer available, or was
    /// applied anew, concerns it.
    pub fn at_rest(&self) -> bool {
        let as_wanted = self.applied.is_some() && self.settled && !self.closing && !self.stale && !self.discovered;
        as_wanted && self.flight.is_none() && self.hold.is_none()
    }

    /// The last operation on the value or, if there was none, the one that it waits for; undefined for a value that was found as desired.
    pub fn requested_operation(&self) -> Verb {
        match (self.last_operation, &self.applied) {
            (Verb::Undefined, None) if self.wanted().is_some() || self.rejected().is_some() => Verb::Create,
            (Verb::Undefined, Some(_)) if self.rejected().is_some() => Verb::Update,
            (verb, _) => verb,
        }
    }

    /// Whether it is, or may be about to be, in the kernel.
    pub fn present(&self) -> bool {
        self.applied.is_some() || self.flight.is_some()
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
            (rare.last_error.is_none() && rare.attempted.is_none() && rare.deferred.is_none() && rare.error.is_none())
                && (rare.damage.is_empty() && rare.blocks.is_empty() && rare.kept == 0 && rare.retry.is_none())
        };
        if self.attempts == 0 {
            self.rare.take_if(empty);
        }
    }

    /// Of the last creation that failed: see [`Rare::attempted`].
    pub fn attempted(&self) -> Option<&D::Value> {
        self.rare()?.attempted.as_ref()
    }

    pub fn forget_attempt(&mut self) {
        if let Some(rare) = self.rare_mut() {
            rare.attempted = None;
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
        self.requested.is_none()
            && self.derived.is_none()
            && self.implied.is_none()
            && !self.partial
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
