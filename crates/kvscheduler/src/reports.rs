//! Reports status changes. The same status is never reported twice in a row, and PENDING is reported with a delay.

use std::{collections::VecDeque, time::Duration};

use super::{
    descriptor::{Domain, Key},
    explain::Condition,
    explanation::Mentions,
    node::Node,
    nodes::NodeId,
    queue::ROOM_KEPT,
    scheduler::Scheduler,
    status::{CHECKED, LastReport, Status, StatusChange, ValueState, Verb},
};

/// Maximum time for which a PENDING report is delayed while operations are in flight.
const PENDING_DELAY: Duration = Duration::from_millis(500);

/// Statuses to report, and the data needed to update reported statuses.
#[derive(Clone)]
pub(super) struct Reports<K> {
    /// Base values that need a status check.
    due: Vec<NodeId>,
    /// Nodes with a delayed PENDING report, each with the start time of the delay.
    postponed: VecDeque<(Duration, NodeId)>,
    /// Nodes whose status depends on operations on other nodes. They are checked again in the next step.
    undecided: Vec<NodeId>,
    changes: Vec<StatusChange<K>>,
    mentions: Mentions<K>,
}

impl<K: Key> Reports<K> {
    pub fn new() -> Self {
        Reports {
            due: Vec::new(),
            postponed: VecDeque::new(),
            undecided: Vec::new(),
            changes: Vec::new(),
            mentions: Mentions::new(),
        }
    }

    pub fn take_changes(&mut self) -> Vec<StatusChange<K>> {
        std::mem::take(&mut self.changes)
    }

    /// Returns the time until which the oldest delayed report can wait for operations in flight; `None` if no report is delayed.
    pub fn postponed_until(&self) -> Option<Duration> {
        self.postponed.front().map(|(since, _)| *since + PENDING_DELAY)
    }
}

impl<D: Domain> Scheduler<D> {
    /// Checks the status of each base value that is marked for a status check, and records the changes.
    pub(super) fn report(&mut self) {
        if !self.reports.mentions.is_empty() {
            let mentioning = |id: &NodeId| self.graph.get(*id).into_iter().flat_map(|node| self.reports.mentions.by(&node.key));
            let mentioning: Vec<NodeId> = self.reports.due.iter().flat_map(mentioning).collect();
            mentioning.into_iter().for_each(|id| self.report_later(id));
        }
        self.take_up_postponed();
        for id in std::mem::take(&mut self.reports.undecided) {
            self.report_later(id);
        }
        // Changed nodes and their prefixes. Explanations of other values may refer to them.
        let mut changed = Vec::new();
        while !self.reports.due.is_empty() {
            let mut due = std::mem::take(&mut self.reports.due);
            due.sort_unstable();
            for id in due.drain(..) {
                if let Some(node) = self.graph.get_mut(id) {
                    node.reported = false;
                    self.report_one(id, &mut changed);
                }
            }
            if self.reports.due.is_empty() && due.capacity() <= ROOM_KEPT {
                self.reports.due = due;
            }
            changed.sort_unstable();
            changed.dedup();
            for hub in changed.drain(..) {
                let Some(node) = self.graph.get(hub) else { continue };
                let explained = |id: &NodeId| self.graph[*id].status.is_problem();
                let explained: Vec<NodeId> = node.dependents.iter().copied().filter(explained).collect();
                explained.into_iter().for_each(|id| self.report_later(id));
            }
        }
    }

    /// Marks the base value of a node for a status check at the end of the step.
    pub(super) fn mark_reported(&mut self, id: NodeId) {
        let base = self.base_of(id);
        self.report_later(base);
    }

    fn report_later(&mut self, id: NodeId) {
        if let Some(node) = self.graph.get_mut(id)
            && !std::mem::replace(&mut node.reported, true)
        {
            self.reports.due.push(id);
        }
    }

    fn report_one(&mut self, id: NodeId, changed: &mut Vec<NodeId>) {
        let deferred = self.graph[id].rare_mut().and_then(|rare| rare.deferred.take());
        let node = &self.graph[id];
        let reported = !matches!(node.status, LastReport::Nothing);
        if node.desire.requested.is_none() && !node.present() {
            if reported {
                self.graph[id].status = LastReport::Nothing;
                self.reports.mentions.set(id, Vec::new());
                self.report_change(id, None);
            }
            self.graph.drop_unused(id);
            return;
        }
        if node.desire.requested.is_none() && (!reported || self.worst_block(id).is_none_or(|blocked| blocked.until().is_none())) {
            return;
        }
        let condition = self.condition(id);
        if matches!(&condition, Condition::Problem(problem) if problem.state == ValueState::Pending) && self.defer(id, deferred) {
            return;
        }
        if matches!(condition, Condition::Good) && self.is_reported_as_configured(id) {
            return;
        }
        let Some((status, mentioned)) = self.status_of(id, condition) else {
            if self.graph[id].in_flight.is_none() {
                // Operations on other values may still delay this value, so its status is checked again in the next step.
                self.reports.undecided.push(id);
            }
            return;
        };
        if status.state == ValueState::Configured
            && let Some(rare) = self.graph[id].rare_mut()
        {
            rare.damage.clear();
        }
        assert!(
            !CHECKED || status.state != ValueState::Configured || status.last_operation != Verb::Delete,
            "{} must not be CONFIGURED after a deletion",
            self.graph[id].key
        );
        let reported = match &self.graph[id].status {
            LastReport::Nothing => false,
            // An equal status was already excluded above by `is_reported_as_configured`.
            LastReport::Configured { .. } if status.state == ValueState::Configured && status.last_repair.is_none() => false,
            reported => reported.status().is_some_and(|last| last.same(&status)),
        };
        if !reported {
            self.graph[id].status = LastReport::from(&status);
            self.reports.mentions.set(id, mentioned);
            changed.push(id);
            changed.extend(self.graph[id].prefixes.iter().copied());
            self.report_change(id, Some(status));
        }
    }

    /// Returns whether the last reported status is CONFIGURED and still correct.
    ///
    /// This is true for nearly all values, so the check does not build a status.
    fn is_reported_as_configured(&self, id: NodeId) -> bool {
        let node = &self.graph[id];
        let now = (
            node.last_operation,
            node.desire.requested.as_ref().map_or(0, |requested| requested.revision),
        );
        let reported =
            matches!(&node.status, LastReport::Configured { last_operation, revision, .. } if (*last_operation, *revision) == now);
        reported && node.rare().is_none_or(|rare| rare.damage.is_empty())
    }

    /// Returns whether nothing is left to report for a node. This means that the node is at rest and its base value was already
    /// reported as CONFIGURED.
    ///
    /// Other values derived from the same base value are evaluated separately.
    pub(super) fn is_all_said(&self, id: NodeId) -> bool {
        self.graph[id].at_rest() && self.is_reported_as_configured(self.base_of(id))
    }

    fn report_change(&mut self, id: NodeId, status: Option<Status<D::Key>>) {
        let key = self.graph[id].key.clone();
        if !self.reports.mentions.is_empty() {
            let mentioning: Vec<NodeId> = self.reports.mentions.by(&key).collect();
            mentioning.into_iter().for_each(|id| self.report_later(id));
        }
        self.reports.changes.push(StatusChange { key, status });
    }

    /// Delays a PENDING report while operations are in flight, because the value may become ready at any moment. Returns `true` if
    /// the report is delayed.
    ///
    /// `since` is the start of the delay if it has already begun.
    fn defer(&mut self, id: NodeId, since: Option<Duration>) -> bool {
        let start = since.unwrap_or(self.now);
        let defer = self.queue.is_anything_under_way() && self.now < start + PENDING_DELAY;
        if defer {
            self.graph[id].make_rare().deferred = Some(start);
            if since.is_none() {
                self.reports.postponed.push_back((start, id));
            }
        }
        defer
    }

    /// Requests a status check for each node whose PENDING report has been delayed long enough. If no operation is in flight,
    /// requests a check for all delayed nodes.
    fn take_up_postponed(&mut self) {
        while let Some((since, id)) = self.reports.postponed.front().copied()
            && (!self.queue.is_anything_under_way() || self.now >= since + PENDING_DELAY)
        {
            self.reports.postponed.pop_front();
            if self
                .graph
                .get(id)
                .and_then(Node::rare)
                .is_some_and(|rare| rare.deferred == Some(since))
            {
                self.report_later(id);
            }
        }
    }
}
