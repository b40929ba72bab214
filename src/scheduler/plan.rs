//! The decisions: what happens to a value next.
//!
//! Owns the work queue and every change of a node. Must never ask for anything but the present state: no decision depends on
//! how that state came about. Start reading at [`Scheduler::step`], then `Scheduler::decide`.

use std::{
    collections::{BTreeSet, VecDeque},
    sync::Arc,
    time::Duration,
};

use models::key::Key;

use super::{
    descriptor::{Claim, DeleteCause, Descriptor, Domain},
    drift::Drift,
    edge::Edge,
    explanation::{KernelError, Mentions},
    graph::Graph,
    ledger::{Ledger, Ticket},
    node::{Flight, Hold},
    node_set::FastMap,
    nodes::NodeId,
    readiness::Readiness,
    ready::Ready,
    status::{Rejection, StatusChange, Verb},
    view::View,
};

/// A change of the desired state.
#[derive(Clone, Debug)]
pub struct Change<V> {
    /// Key of the base value.
    pub key: Key,
    /// Store revision of the change.
    pub revision: i64,
    /// The new value, why it cannot be used, or `None` for a deletion.
    pub value: Option<Result<V, Rejection>>,
}

/// Something to be done for one value.
#[derive(Clone, Debug)]
pub struct Operation<E> {
    /// Number that the outcome must carry.
    pub id: u64,
    /// Key of the value.
    pub key: Key,
    /// What is being done.
    pub verb: Verb,
    /// How.
    pub effect: E,
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
    /// Not done.
    Failed(Fault),
}

/// How a failed operation is treated.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum FaultKind {
    /// What it needs is not there yet: PENDING until a [`Scheduler::probe`], no retry.
    Unavailable,
    /// What it names can never be used: INVALID until it is changed, or until a [`Scheduler::probe`].
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

/// The scheduler. All times are durations since the Unix epoch and must not go backwards.
#[derive(Clone)]
pub struct Scheduler<D: Domain> {
    pub(super) domain: Arc<D>,
    pub(super) graph: Graph<D>,
    pub(super) queue: VecDeque<NodeId>,
    /// Nodes, and prefixes, whose dependents are to be marked when the queue is empty: once, however much happened to them.
    pub(super) stirred: Vec<(NodeId, Ticket)>,
    /// Nodes whose dependencies look unmet; judged when nothing else is left, because the rest of the same event may meet them.
    pub(super) doubtful: BTreeSet<NodeId>,
    /// Nodes that can be created or changed, in key order; done when everything that must go was found, so that nothing is
    /// built on what is about to go.
    pub(super) ready: Ready,
    /// Found values whose dependencies may still come; looked at again with every step.
    pub(super) held_back: BTreeSet<NodeId>,
    /// What others did to applied values.
    pub(super) drift: Drift,
    pub(super) operations: Vec<Operation<D::Effect>>,
    pub(super) flying: FastMap<u64, NodeId>,
    pub(super) next_operation: u64,
    pub(super) retries: BTreeSet<(Duration, NodeId)>,
    pub(super) reported: Vec<NodeId>,
    /// Nodes whose PENDING is held back, and since when.
    pub(super) postponed: VecDeque<(Duration, NodeId)>,
    /// Nodes with something under way elsewhere that decides what is to be told of them: looked at again with the next step.
    pub(super) undecided: Vec<NodeId>,
    pub(super) changes: Vec<StatusChange>,
    pub(super) mentions: Mentions,
    pub(super) now: Duration,
    pub(super) ledger: Ledger<D::Value>,
}

/// A node that a creation brings into being, how, and with which claims.
type Brought<D> = (NodeId, <D as Domain>::Value, Vec<Claim>);

/// In which of the three rounds of a step a node is looked at.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Pass {
    /// Something nearby changed.
    Mark,
    /// Nothing marked is left: unmet dependencies count.
    Doubt,
    /// Nothing doubtful is left: creations and changes are made.
    Ready,
}

/// What is to happen to a node.
enum Decision {
    /// Nothing to do, or something else must happen first.
    Stay,
    /// Applied and wanted are the same.
    Settle,
    /// Take it down, and what hangs on it first.
    Close,
    /// As [`Decision::Close`], because dependencies are not met.
    CloseUnready,
    /// Another member of its dependency cycle is created first.
    After(NodeId),
    /// Nobody wants it any more, and a failed creation may have left something.
    ClearAway,
    Create,
    Update,
}

impl<D: Domain> Scheduler<D> {
    /// An empty scheduler. Facts from below are not settled: see [`Self::settle_facts`].
    pub fn new(domain: D) -> Self {
        Scheduler {
            domain: Arc::new(domain),
            graph: Graph::new(),
            queue: VecDeque::new(),
            stirred: Vec::new(),
            doubtful: BTreeSet::new(),
            ready: Ready::default(),
            held_back: BTreeSet::new(),
            drift: Drift::default(),
            operations: Vec::new(),
            flying: FastMap::default(),
            next_operation: 1,
            retries: BTreeSet::new(),
            reported: Vec::new(),
            postponed: VecDeque::new(),
            undecided: Vec::new(),
            changes: Vec::new(),
            mentions: Mentions::default(),
            now: Duration::ZERO,
            ledger: Ledger::new(),
        }
    }

    /// The domain it was made with.
    pub fn domain(&self) -> &D {
        &self.domain
    }

    /// Read access to all values.
    pub fn view(&self) -> View<'_, D> {
        View::new(&self.graph)
    }

    /// What is told from now on happened at this moment, and is recorded so.
    pub fn tell_time(&mut self, now: Duration) {
        self.now = now;
    }

    /// Decides what to do now. Operations of one step do not depend on each other; deletions come first.
    pub fn step(&mut self, now: Duration) -> Vec<Operation<D::Effect>> {
        self.now = now;
        self.forget_repaired();
        self.start_transactions();
        for id in std::mem::take(&mut self.held_back) {
            self.mark(id);
        }
        self.wake_retries();
        // Who is concerned by what happened since the last step is looked at once with the rest, not again after it.
        self.mark_stirred();
        loop {
            self.revert_failed();
            if let Some(id) = self.queue.pop_front() {
                if let Some(node) = self.graph.get_mut(id) {
                    node.queued = false;
                    self.evaluate(id, Pass::Mark);
                }
            } else if !self.stirred.is_empty() {
                self.mark_stirred();
            } else if let Some(id) = self.doubtful.pop_first() {
                self.evaluate(id, Pass::Doubt);
            } else if let Some(id) = self.ready.pop_first(&mut self.graph) {
                self.evaluate(id, Pass::Ready);
            } else if !self.release_held_back() {
                break;
            }
        }
        self.report();
        self.finish_transactions();
        let mut operations = std::mem::take(&mut self.operations);
        operations.sort_by(|a, b| {
            (a.verb != Verb::Delete, a.verb == Verb::Create, &a.key).cmp(&(b.verb != Verb::Delete, b.verb == Verb::Create, &b.key))
        });
        operations
    }

    /// When [`Self::step`] must be called next although nothing happens.
    pub fn next_deadline(&self) -> Option<Duration> {
        let retry = self.retries.first().map(|(until, _)| *until);
        retry.into_iter().chain(self.postponed_until()).min()
    }

    /// Statuses that changed since the last call, in key order.
    pub fn take_status_changes(&mut self) -> Vec<StatusChange> {
        std::mem::take(&mut self.changes)
    }

    /// Whether nothing is under way and nothing waits to be looked at.
    pub fn idle(&self) -> bool {
        self.flying.is_empty() && self.queue.is_empty() && self.stirred.is_empty() && self.doubtful.is_empty() && self.ready.is_empty()
    }

    pub(super) fn under_way(&self) -> bool {
        !self.flying.is_empty()
    }

    /// Found in the kernel, not confirmed yet, and waiting for something that may only not have been told yet.
    pub(super) fn may_be_missing_a_late_fact(&self, id: NodeId) -> bool {
        !self.graph.facts_settled
            && self.unmet_chain_has(id, |scheduler, target| scheduler.domain.is_late_fact(&scheduler.graph[target].key))
    }

    /// Found in the kernel, not confirmed yet, and what it lacks may still come: it is being made, is about to be, could not be
    /// for now, or is a fact that has not been told. Taking it down would interrupt what works for want of knowledge. What somebody
    /// else's object keeps out is not coming: nobody can tell when that goes, if ever.
    fn may_still_come(&self, id: NodeId) -> bool {
        self.may_be_missing_a_late_fact(id)
            || self.outlives_damage(id)
            || self.unmet_chain_has(id, |scheduler, target| {
                let node = &scheduler.graph[target];
                let coming = node.flight.is_some() || node.ready;
                coming || matches!(node.hold.as_deref(), Some(Hold::Retry { foreign: false, .. }))
            })
    }

    /// Whether something in the chain of what a found value lacks is like this.
    fn unmet_chain_has(&self, id: NodeId, found: impl Fn(&Self, NodeId) -> bool) -> bool {
        let node = &self.graph[id];
        if !node.discovered || node.applied.is_none() {
            return false;
        }
        let (mut seen, mut stack) = (BTreeSet::from([id]), vec![id]);
        while let Some(id) = stack.pop() {
            for target in self.graph.unmet_key_targets(id) {
                if found(self, target) {
                    return true;
                }
                if seen.insert(target) {
                    stack.push(target);
                }
            }
        }
        false
    }

    /// With nothing under way, what was held back for something that will not come after all need not wait for another event.
    fn release_held_back(&mut self) -> bool {
        if !self.operations.is_empty() || !self.flying.is_empty() {
            return false;
        }
        let in_vain: Vec<NodeId> = self.held_back.iter().copied().filter(|id| !self.may_still_come(*id)).collect();
        for id in &in_vain {
            self.held_back.remove(id);
            self.mark(*id);
        }
        !in_vain.is_empty()
    }

    /// A value was in the way of another when all that this one needs was there; now something it needs is missing.
    fn is_refusal_moot(&self, id: NodeId) -> bool {
        let node = &self.graph[id];
        let refused = matches!(node.hold.as_deref(), Some(Hold::Refused { by_effect: false, .. }));
        refused && node.applied.is_none() && !self.graph.satisfied(id, &node.edges)
    }

    fn evaluate(&mut self, id: NodeId, pass: Pass) {
        if self.graph.get(id).is_none() {
            return;
        }
        self.act_for(id);
        self.judge(id, pass);
        self.discharge(id);
    }

    fn judge(&mut self, id: NodeId, pass: Pass) {
        self.mark_reported(id);
        if self.graph[id].flight.is_some() || self.graph[id].fact {
            return;
        }
        let decision = self.decide(id);
        if pass == Pass::Mark && self.graph[id].applied.is_none() {
            // Those that were built on it in advance, as members of its cycle, must see whether the cycle still stands.
            self.graph.built_in_advance_on(id).into_iter().for_each(|member| self.mark(member));
        }
        if matches!(decision, Decision::Stay) && self.is_refusal_moot(id) {
            self.graph[id].hold = None;
        }
        match decision {
            Decision::CloseUnready if pass != Pass::Doubt => {
                if self.doubtful.insert(id) {
                    self.charge(id);
                }
            }
            Decision::CloseUnready if self.may_still_come(id) => {
                self.held_back.insert(id);
            }
            Decision::Close => {
                if self.graph[id].wanted().is_some() {
                    self.graph[id].trace.recreated_in = self.ledger.current;
                }
                self.close(id);
            }
            Decision::CloseUnready => self.close(id),
            decision => {
                self.reopen(id);
                let effective = self.domain.descriptor(&self.graph[id].key).is_some();
                match decision {
                    Decision::Create | Decision::Update if effective && pass != Pass::Ready => {
                        if self.ready.insert(&mut self.graph, id) {
                            self.charge(id);
                        }
                    }
                    Decision::Settle => self.settle(id),
                    Decision::Create | Decision::Update if self.must_await_change_nearby(id) => self.park(id),
                    Decision::Create => self.create(id),
                    Decision::Update => self.update(id),
                    Decision::ClearAway => self.clear_away(id),
                    // What completed the cycle may concern this member only, so the first one is told here.
                    Decision::After(leader) => self.mark(leader),
                    _ => self.retire(id),
                }
            }
        }
    }

    fn decide(&self, id: NodeId) -> Decision {
        let node = &self.graph[id];
        let held = matches!(
            node.hold.as_deref(),
            Some(Hold::Retry { .. } | Hold::Drifted { .. } | Hold::Unavailable { .. } | Hold::Refused { by_effect: true, .. })
        );
        let contended = node.hold.as_deref().is_some_and(Hold::is_about_drift);
        let Some(applied) = &node.applied else {
            if node.partial && self.is_in_the_way(id) && !(node.last_operation == Verb::Delete && held) {
                return Decision::ClearAway;
            }
            let lingering = node.children.iter().any(|child| self.graph[*child].present());
            if node.wanted().is_none() || lingering || held || (node.requested.is_some() && self.domain.descriptor(&node.key).is_none()) {
                return Decision::Stay;
            }
            return match self.graph.readiness(id) {
                Readiness::Ready => Decision::Create,
                Readiness::After(leader) => Decision::After(leader),
                Readiness::Unready => Decision::Stay,
            };
        };
        if node.stale || (node.wanted().is_none() && node.rejected().is_none()) {
            return Decision::Close;
        }
        let descriptor = self.domain.descriptor(&node.key);
        let stale = |descriptor: &dyn Descriptor<D>| descriptor.stale(&node.key, applied, &View::new(&self.graph));
        if node.wanted().is_some() && descriptor.is_some_and(stale) && !contended && !self.rests_on_drifted(id) {
            return Decision::Close;
        }
        if !self.graph.satisfied(id, &node.applied_edges) {
            return Decision::CloseUnready;
        }
        let Some(wanted) = node.wanted() else { return Decision::Stay };
        let Some(descriptor) = descriptor else { return Decision::Settle };
        if !node.settled && !self.graph.satisfied(id, &node.edges) {
            return Decision::CloseUnready;
        }
        match (descriptor.equivalent(&node.key, applied, wanted), held) {
            (true, _) => Decision::Settle,
            _ if descriptor.needs_recreate(&node.key, applied, wanted) && !contended => Decision::Close,
            (false, true) => Decision::Stay,
            (false, false) => Decision::Update,
        }
    }

    /// Something that it depends on is damaged and left so.
    fn rests_on_drifted(&self, id: NodeId) -> bool {
        let mut targets = self.graph[id].applied_edges.iter().filter_map(Edge::key_target);
        targets.any(|target| self.is_left_drifted(target))
    }

    /// Takes a value down, as soon as nothing hangs on it any more.
    fn close(&mut self, id: NodeId) {
        if !self.graph[id].closing {
            self.graph[id].closing = true;
            self.refresh_children(id);
            self.mark_interested(id);
            // Whoever can go without help goes first; this node is looked at again after them.
            self.mark(id);
            return;
        }
        if self.graph[id].last_operation == Verb::Delete && matches!(self.graph[id].hold.as_deref(), Some(Hold::Retry { .. })) {
            return;
        }
        let blockers = self.graph.deletion_blockers(id);
        if !blockers.is_empty() {
            for blocker in blockers {
                if self.graph[blocker].make_rare().blocks.insert(id) {
                    self.mark(blocker);
                }
            }
            self.park(id);
            return;
        }
        let node = &self.graph[id];
        let again = node.wanted().is_some();
        let cause = if again { DeleteCause::Again } else { DeleteCause::Unwanted };
        let effect = match (self.domain.descriptor(&node.key), &node.applied) {
            (Some(descriptor), Some(applied)) => descriptor.delete(&node.key, applied, cause, &View::new(&self.graph)),
            _ => D::Effect::default(),
        };
        self.emit(id, Verb::Delete, None, effect);
    }

    fn create(&mut self, id: NodeId) {
        let Some(wanted) = self.graph[id].wanted().cloned() else { return };
        let key = self.graph[id].key.clone();
        let domain = self.domain.clone();
        let Some(descriptor) = domain.descriptor(&key) else {
            self.emit(id, Verb::Create, Some(wanted), D::Effect::default());
            return;
        };
        let view = View::new(&self.graph);
        let claims = descriptor.claims(&key, &wanted, &view);
        let brings = descriptor.brings(&key, &wanted, &view);
        if self.must_await_claim(id, &claims) {
            self.park(id);
            return;
        }
        let Some(brings) = self.claim_for_brought(id, brings) else { return };
        let view = View::new(&self.graph);
        match descriptor.create(&key, &wanted, &view) {
            Err(refusal) => {
                self.graph[id].hold = Some(Box::new(Hold::Refused {
                    reason: refusal.reason,
                    message: refusal.message,
                    by_effect: false,
                }))
            }
            Ok(mut effect) => {
                // What it brings into being may have been left half-made as well.
                let comes = brings.iter().map(|(id, value, _)| (*id, value)).chain([(id, &wanted)]);
                for (id, value) in comes.filter(|(id, _)| self.graph[*id].partial) {
                    let node = &self.graph[id];
                    if let Some(descriptor) = domain.descriptor(&node.key) {
                        let clearing = descriptor.recover(&node.key, node.attempted().unwrap_or(value), &view);
                        effect = D::chain(clearing, effect);
                    }
                }
                self.graph[id].hold = None;
                self.graph.take_claims(id, claims);
                let mut brought = Vec::new();
                for (id, value, claims) in brings {
                    self.graph.take_claims(id, claims);
                    brought.push((self.graph[id].key.clone(), value));
                }
                self.emit_bringing(id, Verb::Create, Some(wanted), brought, effect);
            }
        }
    }

    /// The nodes of what a creation brings into being, with their claims; `None` when one of the claims is taken, which that value
    /// then has to wait for, and this one for it.
    fn claim_for_brought(&mut self, id: NodeId, brings: Vec<(Key, D::Value)>) -> Option<Vec<Brought<D>>> {
        let domain = self.domain.clone();
        let mut claimed = Vec::new();
        for (key, value) in brings {
            let brought = self.graph.obtain(&key);
            let descriptor = domain.descriptor(&key);
            let claims = descriptor.map_or(Vec::new(), |descriptor| descriptor.claims(&key, &value, &View::new(&self.graph)));
            if self.must_await_claim(brought, &claims) {
                self.mark_reported(brought);
                if self.graph[brought].hold.is_some() {
                    self.mark(id);
                } else {
                    // The holder is on its way out: this one could be looked at for ever until then.
                    claims.iter().for_each(|claim| self.graph.await_claim(id, claim));
                    self.park(id);
                }
                return None;
            }
            claimed.push((brought, value, claims));
        }
        Some(claimed)
    }

    /// Whether what a failed creation may have left must be cleared away before anything else: it is not a part of what is wanted
    /// now, or what it needs is being taken away.
    fn is_in_the_way(&self, id: NodeId) -> bool {
        let node = &self.graph[id];
        let (Some(wanted), Some(attempted)) = (node.wanted(), node.attempted()) else {
            return node.wanted().is_none();
        };
        let descriptor = self.domain.descriptor(&node.key);
        descriptor.is_some_and(|descriptor| {
            let same = descriptor.equivalent(&node.key, attempted, wanted);
            !same && descriptor.needs_recreate(&node.key, attempted, wanted)
        }) || !self.graph.satisfied(id, &node.applied_edges)
    }

    fn clear_away(&mut self, id: NodeId) {
        let node = &self.graph[id];
        let effect = match (self.domain.descriptor(&node.key), node.attempted()) {
            (Some(descriptor), Some(attempted)) => descriptor.recover(&node.key, attempted, &View::new(&self.graph)),
            _ => D::Effect::default(),
        };
        self.emit(id, Verb::Delete, None, effect);
    }

    fn update(&mut self, id: NodeId) {
        let (Some(applied), Some(wanted)) = (self.graph[id].applied.clone(), self.graph[id].wanted().cloned()) else {
            return;
        };
        let key = self.graph[id].key.clone();
        let domain = self.domain.clone();
        let Some(descriptor) = domain.descriptor(&key) else { return };
        let mut obsolete: Vec<NodeId> = self.graph[id].children.iter().copied().collect();
        if !obsolete.is_empty() {
            let keep: BTreeSet<Key> = descriptor.derived(&key, &wanted).into_iter().map(|(key, _)| key).collect();
            obsolete.retain(|child| !keep.contains(&self.graph[*child].key));
        }
        let mut waiting = false;
        for child in obsolete {
            self.abandon_child(child);
            if self.graph.get(child).is_some_and(|node| node.present()) {
                self.graph[child].make_rare().blocks.insert(id);
                waiting = true;
            }
        }
        let claims = descriptor.claims(&key, &wanted, &View::new(&self.graph));
        if waiting || self.must_await_claim(id, &claims) {
            if !waiting && self.waits_in_a_circle(id, &claims) {
                // One of them has to let go of what it holds, and this one is as good as any.
                self.graph[id].stale = true;
                self.mark(id);
            }
            self.park(id);
            return;
        }
        match descriptor.update(&key, &applied, &wanted, &View::new(&self.graph)) {
            Err(refusal) => {
                self.graph[id].hold = Some(Box::new(Hold::Refused {
                    reason: refusal.reason,
                    message: refusal.message,
                    by_effect: false,
                }))
            }
            Ok(effect) => {
                self.graph[id].hold = None;
                self.graph.take_claims(id, claims);
                self.emit(id, Verb::Update, Some(descriptor.settled(&applied, &wanted)), effect);
                if self.graph[id].brought {
                    // To the one who asked for it, this is what made it.
                    self.graph[id].last_operation = Verb::Create;
                }
            }
        }
    }

    /// Whether something that this value rests on is being changed, perhaps into what has another name, or what it replaces is not
    /// gone: it is looked at again after.
    fn must_await_change_nearby(&mut self, id: NodeId) -> bool {
        let changing = self.graph.changing_below(id).or_else(|| self.graph.sibling_on_its_way_out(id));
        if let Some(changing) = changing {
            self.graph[changing].make_rare().blocks.insert(id);
        }
        changing.is_some()
    }

    /// Whether those who hold the claims would give them up, but for what they wait for in turn: a claim of this one, in the end.
    fn waits_in_a_circle(&self, id: NodeId, claims: &[Claim]) -> bool {
        let mut closes = false;
        let (mut seen, mut open) = (BTreeSet::from([id]), vec![(id, claims.to_vec())]);
        while let Some((waiting, claims)) = open.pop() {
            for claim in claims {
                let Some(holder) = self.graph.holder(&claim).filter(|holder| *holder != waiting) else {
                    continue;
                };
                let node = &self.graph[holder];
                let wanted = match (node.wanted(), self.domain.descriptor(&node.key)) {
                    (Some(wanted), Some(descriptor)) => descriptor.claims(&node.key, wanted, &View::new(&self.graph)),
                    _ => return false,
                };
                if wanted.contains(&claim) {
                    return false;
                }
                closes |= holder == id;
                if seen.insert(holder) {
                    open.push((holder, wanted));
                }
            }
        }
        closes
    }

    /// Whether another value holds one of the claims; if so this one waits for it, with an explanation if it may take for ever.
    fn must_await_claim(&mut self, id: NodeId, claims: &[Claim]) -> bool {
        for claim in claims {
            let Some(holder) = self.graph.holder(claim).filter(|holder| *holder != id) else {
                continue;
            };
            self.graph.await_claim(id, claim);
            let node = &self.graph[holder];
            self.graph[id].hold = if node.closing || node.basis().is_none() {
                None
            } else {
                let message = format!("{} is taken by {}; change one of the two", claim.name, self.domain.name(&node.key));
                Some(Box::new(Hold::Refused {
                    reason: claim.reason,
                    message,
                    by_effect: false,
                }))
            };
            return true;
        }
        false
    }

    pub(super) fn emit(&mut self, id: NodeId, verb: Verb, value: Option<D::Value>, effect: D::Effect) {
        self.emit_bringing(id, verb, value, Vec::new(), effect);
    }

    fn emit_bringing(&mut self, id: NodeId, verb: Verb, value: Option<D::Value>, brings: Vec<(Key, D::Value)>, effect: D::Effect) {
        if verb != Verb::Verify {
            self.graph[id].last_operation = verb;
        }
        let operation = self.next_operation;
        self.next_operation += 1;
        self.take_off(id);
        self.graph[id].flight = Some(Box::new(Flight {
            verb,
            value,
            brings,
            as_wanted: verb != Verb::Verify,
        }));
        self.flying.insert(operation, id);
        if verb == Verb::Create {
            let edges = self.graph[id].edges.clone();
            self.graph.note_leaning(id, &edges);
        }
        if D::is_empty(&effect) {
            self.outcome(operation, Outcome::Done);
        } else {
            self.operations.push(Operation {
                id: operation,
                key: self.graph[id].key.clone(),
                verb,
                effect,
            });
        }
    }
}
