//! The scheduler and its step, which evaluates marked nodes until none are left.
//!
//! `decide` chooses what happens to each value.

use std::{sync::Arc, time::Duration};

use super::{
    decide::Decision,
    descriptor::Domain,
    drift::Drift,
    graph::Graph,
    lifecycle::Event,
    nodes::NodeId,
    operation::Operation,
    queue::{Next, Pass, WorkQueue},
    reports::Reports,
    status::StatusChange,
    tracker::TransactionTracker,
    view::View,
};

/// Maximum number of evaluations per node in one step, in addition to [`EVALUATIONS_MIN`].
///
/// A node normally needs only a few evaluations. A step that exceeds the limit would probably never end.
const EVALUATIONS_PER_NODE: usize = 64;
const EVALUATIONS_MIN: usize = 10_000;
/// Time until the next step after a step that was cut short.
const OVERRUN_PAUSE: Duration = Duration::from_secs(1);

/// Scheduler for desired values. All times are durations since the Unix epoch and must not go backwards.
#[derive(Clone)]
pub struct Scheduler<D: Domain> {
    pub(super) domain: Arc<D>,
    pub(super) graph: Graph<D>,
    pub(super) queue: WorkQueue<D::Key>,
    /// Changes that other programs made to applied values.
    pub(super) drift: Drift<D::Key>,
    pub(super) operations: Vec<Operation<D::Key, D::Operation>>,
    pub(super) reports: Reports<D::Key>,
    pub(super) now: Duration,
    /// True if the last step was cut short (see [`Self::has_overrun`]).
    overrun: bool,
    /// Defect descriptions, kept until [`Self::take_defects`] is called.
    pub(super) defects: Vec<String>,
    pub(super) tracker: TransactionTracker<D::Key, D::Value>,
}

impl<D: Domain> Scheduler<D> {
    /// Creates an empty scheduler. It expects further facts until [`Self::complete_facts`] is called.
    pub fn new(domain: D) -> Self {
        Scheduler {
            domain: Arc::new(domain),
            graph: Graph::new(),
            queue: WorkQueue::new(),
            drift: Drift::new(),
            operations: Vec::new(),
            reports: Reports::new(),
            now: Duration::ZERO,
            overrun: false,
            defects: Vec::new(),
            tracker: TransactionTracker::new(),
        }
    }

    /// Returns the scheduler's domain.
    pub fn domain(&self) -> &D {
        &self.domain
    }

    /// Returns a read-only view of all values.
    pub fn view(&self) -> View<'_, D> {
        View::new(&self.graph)
    }

    /// Sets the time recorded for the events that follow.
    pub fn set_time(&mut self, now: Duration) {
        self.now = now;
    }

    /// Decides what to do now, and returns the operations to perform.
    ///
    /// The operations of one step do not depend on each other. Deletions come first. The number of decisions per step is bounded,
    /// so a step always ends and other events can be processed. See [`Self::has_overrun`].
    pub fn step(&mut self, now: Duration) -> Vec<Operation<D::Key, D::Operation>> {
        self.now = now;
        self.forget_repaired();
        self.start_transactions();
        self.queue.release_all(&mut self.graph);
        self.wake_retries();
        // Mark all dependents before the first evaluation, so that each of them is evaluated only once per step.
        self.mark_notified();
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
                Next::Spread => self.mark_notified(),
                Next::Nothing => {
                    if !self.release_deferred() {
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

    /// Returns when [`Self::step`] must be called next if no other event happens first.
    pub fn next_deadline(&self) -> Option<Duration> {
        let retry = self.queue.next_timer();
        let overrun = self.overrun.then_some(self.now + OVERRUN_PAUSE);
        retry.into_iter().chain(self.reports.postponed_until()).chain(overrun).min()
    }

    /// Returns whether the last step was cut short because it exceeded the maximum number of evaluations.
    ///
    /// This indicates a defect in a descriptor or in the scheduler. The remaining nodes are evaluated in the next steps.
    pub fn has_overrun(&self) -> bool {
        self.overrun
    }

    /// Returns descriptions of the defects found since the last call.
    ///
    /// A defect is either an impossible event, which the scheduler ignored, or an operation that failed because a descriptor
    /// returned no usable effect. It indicates a bug in the scheduler, in a descriptor or in the caller.
    pub fn take_defects(&mut self) -> Vec<String> {
        std::mem::take(&mut self.defects)
    }

    /// Returns the status changes since the last call, oldest first.
    pub fn take_status_changes(&mut self) -> Vec<StatusChange<D::Key>> {
        self.reports.take_changes()
    }

    /// Returns whether no operation is in flight and no node waits for evaluation.
    pub fn idle(&self) -> bool {
        self.queue.is_idle()
    }

    /// Stops deferring the deletion of a value if its missing dependencies will not become available. Returns `true` if there was
    /// at least one such deletion.
    ///
    /// Does nothing while an operation is in flight. Without this function, these deletions would wait for an unrelated event.
    fn release_deferred(&mut self) -> bool {
        if !self.operations.is_empty() || self.queue.is_anything_under_way() {
            return false;
        }
        let in_vain: Vec<NodeId> = self
            .queue
            .deferred()
            .iter()
            .copied()
            .filter(|id| !self.may_still_come(*id))
            .collect();
        for id in &in_vain {
            self.queue.release(&mut self.graph, *id);
        }
        !in_vain.is_empty()
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
            // Cycle members that were created before this one are evaluated again, because it may no longer be possible to
            // complete the cycle.
            self.graph.built_in_advance_on(id).into_iter().for_each(|member| self.mark(member));
        }
        if matches!(decision, Decision::Stay) && self.is_refusal_moot(id) {
            self.graph[id].blocked = None;
        }
        match decision {
            Decision::CloseUnready if pass != Pass::Doubt => self.queue.doubt(&mut self.graph, id),
            Decision::CloseUnready if self.may_still_come(id) => self.queue.defer(id),
            Decision::Close | Decision::Replace => {
                if matches!(decision, Decision::Replace) {
                    self.on(id, Event::Condemned);
                }
                if self.graph[id].desired().is_some() {
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
                    Decision::Create | Decision::Update if self.must_await_change_nearby(id) => self.await_in_flight(id),
                    Decision::Create if self.rests_on_deferred(id) || self.claims_may_be_held(id) => {
                        self.queue.wait_for_deferred(id);
                        self.await_in_flight(id);
                    }
                    Decision::Create => self.create(id),
                    Decision::Update => self.update(id),
                    Decision::ClearAway => self.clear_away(id),
                    // The event that completed the cycle may have marked only this member. Mark the member that must be created
                    // before it.
                    Decision::After(leader) => self.mark(leader),
                    _ => self.retire(id),
                }
            }
        }
    }
}
