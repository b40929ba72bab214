//! What is told about values, and when: nothing twice, and PENDING not at once.
//!
//! Owns the statuses that were told last, and what is to be told. Must never change what happens to a value. Start reading at
//! [`Scheduler::report`].

use std::{collections::VecDeque, time::Duration};

use super::{
    descriptor::{Domain, Key},
    explain::Condition,
    explanation::Mentions,
    node::Node,
    nodes::NodeId,
    queue::ROOM_KEPT,
    scheduler::Scheduler,
    status::{CHECKED, Status, StatusChange, Told, ValueState, Verb},
};

/// How long PENDING is held back while operations are under way.
const PENDING_DELAY: Duration = Duration::from_millis(500);

/// What is to be told, and what was told that may have to be told anew. Only this module looks inside.
#[derive(Clone)]
pub(super) struct Reports<K> {
    /// Base values whose status is to be looked at.
    due: Vec<NodeId>,
    /// Nodes whose PENDING is held back, and since when.
    postponed: VecDeque<(Duration, NodeId)>,
    /// Nodes with something under way elsewhere that decides what is to be told of them: looked at again with the next step.
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

    /// When something is told although what is under way has not come back.
    pub fn postponed_until(&self) -> Option<Duration> {
        self.postponed.front().map(|(since, _)| *since + PENDING_DELAY)
    }
}

impl<D: Domain> Scheduler<D> {
    /// Turns the marked base values into status changes.
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
        // Nodes, and prefixes, that others may explain themselves by.
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

    /// Marks the base value of a node for a look at its status.
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
        let told = !matches!(node.status, Told::Nothing);
        if node.desire.requested.is_none() && !node.present() {
            if told {
                self.graph[id].status = Told::Nothing;
                self.reports.mentions.set(id, Vec::new());
                self.tell_change(id, None);
            }
            self.graph.drop_unused(id);
            return;
        }
        if node.desire.requested.is_none() && (!told || self.worst_block(id).is_none_or(|blocked| blocked.until().is_none())) {
            return;
        }
        let condition = self.condition(id);
        if matches!(&condition, Condition::Problem(problem) if problem.state == ValueState::Pending) && self.defer(id, deferred) {
            return;
        }
        if matches!(condition, Condition::Good) && self.is_told_as_configured(id) {
            return;
        }
        let Some((status, mentioned)) = self.status_of(id, condition) else {
            if self.graph[id].in_flight.is_none() {
                // What it is about to be may still be prevented by something that does not concern it directly.
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
            "{} is CONFIGURED by a deletion",
            self.graph[id].key
        );
        let told = match &self.graph[id].status {
            Told::Nothing => false,
            // Otherwise there would be nothing to add.
            Told::Configured { .. } if status.state == ValueState::Configured && status.last_repair.is_none() => false,
            told => told.status().is_some_and(|last| last.same(&status)),
        };
        if !told {
            self.graph[id].status = Told::from(&status);
            self.reports.mentions.set(id, mentioned);
            changed.push(id);
            changed.extend(self.graph[id].prefixes.iter().copied());
            self.tell_change(id, Some(status));
        }
    }

    /// Whether that was told last, and there is nothing to add: by far the most frequent answer, and found without words.
    fn is_told_as_configured(&self, id: NodeId) -> bool {
        let node = &self.graph[id];
        let now = (
            node.last_operation,
            node.desire.requested.as_ref().map_or(0, |requested| requested.revision),
        );
        let told = matches!(&node.status, Told::Configured { last_operation, revision, .. } if (*last_operation, *revision) == now);
        told && node.rare().is_none_or(|rare| rare.damage.is_empty())
    }

    /// Whether nothing is new of a node that is at rest, and its base value was told to be CONFIGURED: what else is derived from that
    /// speaks for itself.
    pub(super) fn is_all_said(&self, id: NodeId) -> bool {
        self.graph[id].at_rest() && self.is_told_as_configured(self.base_of(id))
    }

    fn tell_change(&mut self, id: NodeId, status: Option<Status<D::Key>>) {
        let key = self.graph[id].key.clone();
        if !self.reports.mentions.is_empty() {
            let mentioning: Vec<NodeId> = self.reports.mentions.by(&key).collect();
            mentioning.into_iter().for_each(|id| self.report_later(id));
        }
        self.reports.changes.push(StatusChange { key, status });
    }

    /// While operations are under way a pending value may become ready any moment: wait a little before saying that it is not.
    /// `since`: it has been held back since then.
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

    /// Those whose PENDING was held back for long enough, or for whom there is nothing to wait for any more.
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
