//! What is told about values: states, and why they are what they are.
//!
//! Owns the computation of statuses. Must never change what happens to a value. Start reading at [`Scheduler::report`].
//!
//! The status of a base value covers everything derived from it, so that CONFIGURED is never said of an interface whose address
//! the kernel refused. While operations are under way nothing new is said: the next outcome decides.

use std::time::Duration;

use super::{
    descriptor::{Domain, On},
    graph::{Edge, Hold, Node, NodeId},
    plan::Scheduler,
    status::{Status, StatusChange, ValueState},
};

/// How far an explanation follows the chain of what waits for what.
const DEPTH: usize = 4;
/// How long PENDING is held back while operations are under way.
const PENDING_DELAY: Duration = Duration::from_millis(500);

/// What can be said of one node by itself.
enum Condition {
    /// Something is under way, or about to be.
    Busy,
    /// In the kernel, as wanted.
    Good,
    /// Not as wanted.
    Problem(Problem),
}

struct Problem {
    state: ValueState,
    reason: String,
    message: String,
    details: Vec<String>,
}

impl<D: Domain> Scheduler<D> {
    /// Turns the marked base values into status changes.
    pub(super) fn report(&mut self) {
        let mut due = std::mem::take(&mut self.reported);
        due.append(&mut self.postponed);
        while let Some(id) = due.pop_first() {
            let Some(node) = self.graph.get(id) else { continue };
            let told = node.status.is_some();
            if node.requested.is_none() && !node.present() {
                if told {
                    self.graph[id].status = None;
                    let key = self.graph[id].key.clone();
                    self.changes.push(StatusChange { key, status: None });
                }
                self.graph.drop_unused(id);
                continue;
            }
            if node.requested.is_none() && (!told || !matches!(self.worst_hold(id), Some(Hold::Retry { .. }))) {
                continue;
            }
            let status = self.status_of(id);
            if status.as_ref().is_some_and(|status| status.state == ValueState::Pending) && self.defer(id) {
                continue;
            }
            self.graph[id].deferred = None;
            if let Some(status) = status
                && self.graph[id].status.as_ref().is_none_or(|last| !last.same(&status))
            {
                self.graph[id].status = Some(status.clone());
                // Others may explain themselves by this one.
                due.extend(self.graph.interested(id));
                let key = self.graph[id].key.clone();
                self.changes.push(StatusChange { key, status: Some(status) });
            }
        }
    }

    /// While operations are under way a pending value may become ready any moment: wait a little before saying that it is not.
    fn defer(&mut self, id: NodeId) -> bool {
        let since = *self.graph[id].deferred.get_or_insert(self.now);
        let defer = self.under_way() && self.now < since + PENDING_DELAY;
        if defer {
            self.postponed.insert(id);
        }
        defer
    }

    /// The status of a base value now; `None` while something is under way.
    fn status_of(&self, id: NodeId) -> Option<Status> {
        let node = &self.graph[id];
        let mut status = Status {
            state: ValueState::Configured,
            last_operation: node.last_operation,
            details: Vec::new(),
            error: String::new(),
            reason: String::new(),
            message: String::new(),
            since: self.now,
            revision: node.requested.as_ref().map_or(0, |requested| requested.revision),
            next_retry: None,
        };
        match self.condition(id) {
            Condition::Busy => return None,
            Condition::Good => {}
            Condition::Problem(problem) => {
                status.state = problem.state;
                if problem.state != ValueState::Pending {
                    status.error = problem.message.clone();
                }
                (status.reason, status.message, status.details) = (problem.reason, problem.message, problem.details);
                if let Some(Hold::Retry { until, .. }) = self.worst_hold(id) {
                    status.next_retry = Some(*until);
                }
            }
        }
        if let Some(last) = &node.status
            && last.state == status.state
            && last.message == status.message
        {
            status.since = last.since;
        }
        Some(status)
    }

    fn worst_hold(&self, id: NodeId) -> Option<&Hold> {
        let node = &self.graph[id];
        node.hold
            .as_ref()
            .or_else(|| node.children.iter().find_map(|child| self.worst_hold(*child)))
    }

    fn condition(&self, id: NodeId) -> Condition {
        match self.own_condition(&self.graph[id], id) {
            Condition::Good => {}
            other => return other,
        }
        let (mut busy, mut waiting) = (false, None);
        for child in &self.graph[id].children {
            match self.condition(*child) {
                Condition::Good => {}
                Condition::Busy => busy = true,
                // What waits may only wait for another one that has a worse problem.
                Condition::Problem(problem) if problem.state == ValueState::Pending => drop(waiting.get_or_insert(problem)),
                problem => return problem,
            }
        }
        match (waiting, busy) {
            (Some(problem), _) => Condition::Problem(problem),
            (None, true) => Condition::Busy,
            (None, false) => Condition::Good,
        }
    }

    fn own_condition(&self, node: &Node<D>, id: NodeId) -> Condition {
        if node.flight.is_some() {
            return Condition::Busy;
        }
        if let Some(rejection) = node.rejected() {
            let mut message = rejection.message.clone();
            if node.applied.is_some() {
                message.push_str("; the previous configuration stays in place");
            }
            let (state, reason) = (rejection.state, rejection.reason.to_owned());
            return Condition::Problem(Problem {
                state,
                reason,
                message,
                details: rejection.fields.clone(),
            });
        }
        if node.requested.is_some() && self.domain().descriptor(&node.key).is_none() {
            let message = "this agent has no descriptor for this kind of value".to_owned();
            return Condition::Problem(Problem {
                state: ValueState::Unimplemented,
                reason: "Unimplemented".into(),
                message,
                details: vec![],
            });
        }
        if let Some(hold) = &node.hold {
            return Condition::Problem(problem_of(hold));
        }
        if self.may_be_missing_a_late_fact(id) && !self.graph.satisfied(id, &node.applied_edges) {
            let message = "found in the kernel and left as it is until Docker has been asked which containers run".to_owned();
            return Condition::Problem(Problem {
                state: ValueState::Discovered,
                reason: "FactsUnknown".into(),
                message,
                details: vec![],
            });
        }
        match (&node.applied, node.closing) {
            (Some(_), false) if node.settled || node.fact || self.domain().descriptor(&node.key).is_none() => Condition::Good,
            (Some(_), _) => Condition::Busy,
            (None, _) => self.waiting(node, id),
        }
    }

    fn waiting(&self, node: &Node<D>, id: NodeId) -> Condition {
        for implied in &node.implies {
            if let Some(Hold::Refused { reason, message, .. }) = &self.graph[*implied].hold {
                let (reason, message) = ((*reason).to_owned(), message.clone());
                return Condition::Problem(Problem {
                    state: ValueState::Invalid,
                    reason,
                    message,
                    details: vec![],
                });
            }
        }
        let unmet: Vec<&Edge> = node.edges.iter().filter(|edge| !self.graph.edge_satisfied(id, edge)).collect();
        // Another member of its cycle that waits for nothing but this value is not what this value waits for.
        let causes: Vec<&Edge> = unmet.iter().copied().filter(|edge| !self.graph.waits_only_for(id, edge)).collect();
        let unmet = if causes.is_empty() { unmet } else { causes };
        if unmet.is_empty() {
            return self.waiting_for_leader(node, id);
        }
        let details = unmet.iter().map(|edge| edge.dependency.label.to_string()).collect();
        let texts: Vec<String> = unmet.iter().map(|edge| self.describe_edge(edge, &mut vec![id])).collect();
        let (reason, message) = ("DependencyUnmet".to_owned(), format!("waiting for {}", texts.join("; and for ")));
        Condition::Problem(Problem {
            state: ValueState::Pending,
            reason,
            message,
            details,
        })
    }

    /// Ready as part of a cycle: either its turn comes, or the member that must go first cannot be created.
    fn waiting_for_leader(&self, node: &Node<D>, id: NodeId) -> Condition {
        let failing = node.edges.iter().find(|edge| {
            let target = &self.graph[edge.targets[0]];
            matches!(edge.dependency.on, On::Key(_)) && !target.available() && matches!(target.hold, Some(Hold::Retry { .. }))
        });
        match failing {
            None => Condition::Busy,
            Some(edge) => Condition::Problem(Problem {
                state: ValueState::Pending,
                reason: "DependencyUnmet".to_owned(),
                message: format!("waiting for {}", self.describe_edge(edge, &mut vec![id])),
                details: vec![edge.dependency.label.to_string()],
            }),
        }
    }

    /// `path`: what the explanation has already mentioned.
    fn describe_edge(&self, edge: &Edge, path: &mut Vec<NodeId>) -> String {
        let label = &edge.dependency.label;
        match &edge.dependency.on {
            On::AnyOf { describe, .. } => format!("{label}: {describe}"),
            On::Key(key) => format!("{label}: {key} {}", self.describe_target(edge.targets[0], path)),
        }
    }

    /// Why a key cannot be relied on, as the end of a sentence that starts with the key.
    fn describe_target(&self, id: NodeId, path: &mut Vec<NodeId>) -> String {
        let node = &self.graph[id];
        if let Some(rejection) = node.rejected() {
            return format!("is invalid ({})", rejection.message);
        }
        match &node.hold {
            Some(Hold::Retry { message, .. }) => return format!("failed ({message})"),
            Some(Hold::Refused { message, .. }) => return format!("is refused ({message})"),
            Some(Hold::Unavailable { message }) => return format!("is not available ({message})"),
            None => {}
        }
        path.push(id);
        let news = |edge: &&Edge| !edge.targets.iter().any(|target| path.contains(target));
        let unmet = node.edges.iter().filter(news).find(|edge| !self.graph.edge_satisfied(id, edge));
        match (node.wanted(), unmet) {
            (None, _) => "does not exist".to_owned(),
            (Some(_), Some(edge)) if path.len() <= DEPTH => format!("is pending ({})", self.describe_edge(edge, path)),
            _ => "is not ready yet".to_owned(),
        }
    }
}

/// What is told of a value that is left alone for now.
fn problem_of(hold: &Hold) -> Problem {
    let (state, reason, message) = match hold {
        Hold::Retry {
            persistent: true,
            reason,
            message,
            ..
        } => (ValueState::Failed, *reason, message),
        Hold::Retry { reason, message, .. } => (ValueState::Retrying, *reason, message),
        Hold::Refused { reason, message, .. } => (ValueState::Invalid, *reason, message),
        Hold::Unavailable { message } => (ValueState::Pending, "Unavailable", message),
    };
    Problem {
        state,
        reason: reason.to_owned(),
        message: message.clone(),
        details: Vec::new(),
    }
}
