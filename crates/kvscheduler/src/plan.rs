//! The decisions: what happens to a value next.
//!
//! Owns the work queue and the choice; `carry_out` does what was chosen. Must never ask for anything but the present state: no decision depends on
//! how that state came about. Start reading at [`Scheduler::step`], then `Scheduler::decide`.

use std::{
    collections::{BTreeSet, VecDeque},
    sync::Arc,
    time::Duration,
};

use super::{
    descriptor::{Domain, Key, Place},
    drift::Drift,
    edge::{Edge, Target},
    explanation::{KernelError, Mentions},
    graph::Graph,
    ledger::Ledger,
    lifecycle::{Agreement, Lifecycle},
    node::{Blocked, Desired},
    nodes::NodeId,
    queue::{Next, Pass, WorkQueue},
    readiness::Readiness,
    status::{Rejection, StatusChange, Verb},
    view::View,
};

/// A step evaluates at most this many nodes for each node that there is, and [`EVALUATIONS_MIN`] more. It takes a handful for each; a
/// step that takes more does not come to an end by itself.
const EVALUATIONS_PER_NODE: usize = 64;
const EVALUATIONS_MIN: usize = 10_000;
/// Pause before the next step after one that was cut short.
const OVERRUN_PAUSE: Duration = Duration::from_secs(1);

/// A change of the desired state.
#[derive(Clone, Debug)]
pub struct Change<K, V> {
    /// Key of the base value.
    pub key: K,
    /// Store revision of the change.
    pub revision: i64,
    /// The new value, why it cannot be used, or `None` for a deletion.
    pub value: Option<Result<V, Rejection>>,
}

/// Something to be done for one value.
#[derive(Clone, Debug)]
pub struct Operation<K, E> {
    /// Number that the outcome must carry.
    pub id: u64,
    /// Key of the value.
    pub key: K,
    /// What is being done.
    pub verb: Verb,
    /// How.
    pub effect: E,
    /// Place among the operations of this step, if the order of the keys is not right.
    pub place: Option<Place>,
}

impl<K: Key, E> Operation<K, E> {
    /// Deletions come first and creations last; within each, the order of the keys, except for values that have a place in a group.
    fn order(&self) -> (bool, bool, &str, u32, &K) {
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
    /// [`Scheduler::probe`] is called. This is no failure: no transaction reports it as an error, and none is reverted for it.
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
    pub(super) queue: WorkQueue<D::Key>,
    /// What others did to applied values.
    pub(super) drift: Drift<D::Key>,
    pub(super) operations: Vec<Operation<D::Key, D::Effect>>,
    pub(super) reported: Vec<NodeId>,
    /// Nodes whose PENDING is held back, and since when.
    pub(super) postponed: VecDeque<(Duration, NodeId)>,
    /// Nodes with something under way elsewhere that decides what is to be told of them: looked at again with the next step.
    pub(super) undecided: Vec<NodeId>,
    pub(super) changes: Vec<StatusChange<D::Key>>,
    pub(super) mentions: Mentions<D::Key>,
    pub(super) now: Duration,
    /// The last step was cut short.
    overrun: bool,
    pub(super) ledger: Ledger<D::Key, D::Value>,
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
            queue: WorkQueue::new(),
            drift: Drift::new(),
            operations: Vec::new(),
            reported: Vec::new(),
            postponed: VecDeque::new(),
            undecided: Vec::new(),
            changes: Vec::new(),
            mentions: Mentions::new(),
            now: Duration::ZERO,
            overrun: false,
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

    /// Decides what to do now. Operations of one step do not depend on each other; deletions come first. The number of decisions is
    /// bounded: whatever the values are, other events get their turn. See [`Self::has_overrun`].
    pub fn step(&mut self, now: Duration) -> Vec<Operation<D::Key, D::Effect>> {
        self.now = now;
        self.forget_repaired();
        self.start_transactions();
        self.queue.release_all(&mut self.graph);
        self.wake_retries();
        // Who is concerned by what happened since the last step is looked at once with the rest, not again after it.
        self.mark_stirred();
        let mut evaluations = EVALUATIONS_MIN + EVALUATIONS_PER_NODE * self.graph.count();
        loop {
            self.revert_failed();
            self.overrun = evaluations == 0;
            if self.overrun {
                break;
            }
            evaluations -= 1;
            match self.queue.next(&mut self.graph) {
                Next::Look(id, pass) => {
                    self.judge(id, pass);
                    self.leave(id);
                }
                Next::Spread => self.mark_stirred(),
                Next::Nothing => {
                    if !self.release_held_back() {
                        break;
                    }
                }
            }
        }
        self.report();
        self.finish_transactions();
        let mut operations = std::mem::take(&mut self.operations);
        operations.sort_by(|a, b| a.order().cmp(&b.order()));
        operations
    }

    /// When [`Self::step`] must be called next although nothing happens.
    pub fn next_deadline(&self) -> Option<Duration> {
        let retry = self.queue.next_timer();
        let overrun = self.overrun.then_some(self.now + OVERRUN_PAUSE);
        retry.into_iter().chain(self.postponed_until()).chain(overrun).min()
    }

    /// Whether the last step was cut short because it did not come to an end: a defect of a descriptor or of the scheduler. The rest is
    /// decided in the next steps.
    pub fn has_overrun(&self) -> bool {
        self.overrun
    }

    /// Statuses that changed since the last call, in key order.
    pub fn take_status_changes(&mut self) -> Vec<StatusChange<D::Key>> {
        std::mem::take(&mut self.changes)
    }

    /// Whether nothing is under way and nothing waits to be looked at.
    pub fn idle(&self) -> bool {
        self.queue.is_idle()
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
                let coming = node.in_flight.is_some() || node.place.is_ready();
                coming
                    || matches!(
                        node.blocked.as_deref(),
                        Some(Blocked::BackOff { foreign: false, .. } | Blocked::Contended { .. })
                    )
            })
    }

    /// Whether `found` holds for a value that a found value lacks, directly or through what that value lacks in turn.
    ///
    /// A dependency on any of several follows each of them, except if another value waits for the found one to be deleted: one of
    /// the several may in turn wait for that deletion.
    fn unmet_chain_has(&self, id: NodeId, found: impl Fn(&Self, NodeId) -> bool) -> bool {
        let node = &self.graph[id];
        if !node.is_discovered() {
            return false;
        }
        let follows_choices = !node.is_terminating() && node.rare().is_none_or(|rare| rare.blocks.is_empty());
        let (mut seen, mut stack) = (BTreeSet::from([id]), vec![id]);
        while let Some(id) = stack.pop() {
            let mut targets = self.graph.unmet_key_targets(id);
            if follows_choices {
                let choices = self.graph.unmet_choices(id).into_iter();
                targets.extend(choices.filter(|choice| self.graph[*choice].wanted().is_some() && !self.graph[*choice].is_terminating()));
            }
            for target in targets {
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

    /// A value that it would be created on was found and is held back, for something else than this one: it may have to go, and this one
    /// with it.
    fn rests_on_held_back(&self, id: NodeId) -> bool {
        let may_go = |target: NodeId| {
            self.queue.held_back().contains(&target)
                && self.graph[target].is_discovered()
                && !self.unmet_chain_has(target, |_, unmet| unmet == id)
        };
        let mut edges = self.graph[id].edges.iter();
        !self.queue.held_back().is_empty()
            && edges.any(|edge| match &edge.on {
                Target::Key(target) => may_go(*target),
                Target::AnyOf(any) => self.graph.satisfying(any).all(may_go),
            })
    }

    /// With nothing under way, what was held back for something that will not come after all need not wait for another event.
    fn release_held_back(&mut self) -> bool {
        if !self.operations.is_empty() || self.queue.is_anything_under_way() {
            return false;
        }
        let in_vain: Vec<NodeId> = self
            .queue
            .held_back()
            .iter()
            .copied()
            .filter(|id| !self.may_still_come(*id))
            .collect();
        for id in &in_vain {
            self.queue.release(&mut self.graph, *id);
        }
        !in_vain.is_empty()
    }

    /// A value was in the way of another when all that this one needs was there; now something it needs is missing.
    fn is_refusal_moot(&self, id: NodeId) -> bool {
        let node = &self.graph[id];
        let refused = node.blocked.as_deref().is_some_and(Blocked::is_conflict);
        refused && node.applied().is_none() && !self.graph.satisfied(id, &node.edges)
    }

    fn judge(&mut self, id: NodeId, pass: Pass) {
        if self.graph[id].in_flight.is_some() || self.graph[id].is_fact() {
            self.mark_reported(id);
            return;
        }
        let decision = self.decide(id);
        if !matches!(decision, Decision::Settle) || !self.is_all_said(id) {
            self.mark_reported(id);
        }
        if pass == Pass::Mark && self.graph[id].applied().is_none() {
            // Those that were built on it in advance, as members of its cycle, must see whether the cycle still stands.
            self.graph.built_in_advance_on(id).into_iter().for_each(|member| self.mark(member));
        }
        if matches!(decision, Decision::Stay) && self.is_refusal_moot(id) {
            self.graph[id].blocked = None;
        }
        match decision {
            Decision::CloseUnready if pass != Pass::Doubt => self.queue.doubt(&mut self.graph, id),
            Decision::CloseUnready if self.may_still_come(id) => self.queue.hold_back(id),
            Decision::Close => {
                if self.graph[id].wanted().is_some() {
                    self.graph[id].trace.recreated_in = self.queue.current();
                }
                self.close(id);
            }
            Decision::CloseUnready => self.close(id),
            decision => {
                self.reopen(id);
                let effective = self.domain.descriptor(&self.graph[id].key).is_some();
                match decision {
                    Decision::Create | Decision::Update if effective && pass != Pass::Ready => {
                        self.queue.make_ready(&mut self.graph, id);
                    }
                    Decision::Settle => self.settle(id),
                    Decision::Create | Decision::Update if self.must_await_change_nearby(id) => self.park(id),
                    Decision::Create if self.rests_on_held_back(id) => {
                        self.queue.wait_for_held_back(id);
                        self.park(id);
                    }
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

    /// What is to happen to a value, from the present state alone.
    fn decide(&self, id: NodeId) -> Decision {
        let node = &self.graph[id];
        match node.lifecycle() {
            Lifecycle::Fact(_) => Decision::Stay,
            Lifecycle::Partial { .. } if self.is_in_the_way(id) => match node.blocked.as_deref() {
                Some(blocked) if node.last_operation == Verb::Delete && !blocked.is_conflict() => self.decide_creation(id),
                _ => Decision::ClearAway,
            },
            Lifecycle::Absent | Lifecycle::Partial { .. } => self.decide_creation(id),
            Lifecycle::Present { value, agreement, fate } => match node.desire.resolve() {
                _ if fate.is_obsolete() => Decision::Close,
                Desired::Nothing => Decision::Close,
                Desired::Value(_) if self.is_outdated(id, value) => Decision::Close,
                _ if !self.graph.satisfied(id, &node.applied_edges) => Decision::CloseUnready,
                Desired::Rejected(_) => Decision::Stay,
                Desired::Value(desired) => self.decide_change(id, value, desired, *agreement),
            },
        }
    }

    /// Of a value that does not exist.
    fn decide_creation(&self, id: NodeId) -> Decision {
        let node = &self.graph[id];
        let lingering = node.children.iter().any(|child| self.graph[*child].present());
        // A conflict ends with every look.
        let blocked = node.blocked.as_deref().is_some_and(|blocked| !blocked.is_conflict());
        let unimplemented = node.desire.requested.is_some() && self.domain.descriptor(&node.key).is_none();
        if node.wanted().is_none() || lingering || blocked || unimplemented {
            return Decision::Stay;
        }
        match self.graph.readiness(id) {
            Readiness::Ready => Decision::Create,
            Readiness::After(leader) => Decision::After(leader),
            Readiness::Unready => Decision::Stay,
        }
    }

    /// Of a value that exists and has all that it needs.
    fn decide_change(&self, id: NodeId, value: &D::Value, desired: &D::Value, agreement: Agreement) -> Decision {
        let node = &self.graph[id];
        let Some(descriptor) = self.domain.descriptor(&node.key) else {
            return Decision::Settle;
        };
        if agreement != Agreement::InSync && !self.graph.satisfied(id, &node.edges) {
            return Decision::CloseUnready;
        }
        if descriptor.equivalent(&node.key, value, desired) {
            return Decision::Settle;
        }
        let blocked = node.blocked.as_deref();
        if descriptor.needs_recreate(&node.key, value, desired) && !blocked.is_some_and(Blocked::is_about_drift) {
            return Decision::Close;
        }
        match blocked {
            Some(blocked) if !blocked.is_conflict() => Decision::Stay,
            _ => Decision::Update,
        }
    }

    /// Something that it depends on made it obsolete, and is not left alone because others did that.
    fn is_outdated(&self, id: NodeId, value: &D::Value) -> bool {
        let node = &self.graph[id];
        let drifted = node.blocked.as_deref().is_some_and(Blocked::is_about_drift);
        let descriptor = self.domain.descriptor(&node.key);
        descriptor.is_some_and(|descriptor| descriptor.stale(&node.key, value, &View::new(&self.graph)))
            && !drifted
            && !self.rests_on_drifted(id)
    }

    /// Something that it depends on is damaged and left so.
    fn rests_on_drifted(&self, id: NodeId) -> bool {
        let mut targets = self.graph[id].applied_edges.iter().filter_map(Edge::key_target);
        targets.any(|target| self.is_left_drifted(target))
    }
}
