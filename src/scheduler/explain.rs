//! What is told about values: states, and why they are what they are.
//!
//! Owns the computation of statuses. Must never change what happens to a value. Start reading at [`Scheduler::report`].
//!
//! The status of a base value covers everything derived from it, so that CONFIGURED is never said of an interface whose address
//! the kernel refused. While operations are under way nothing new is said: the next outcome decides.

use super::{
    descriptor::{Domain, On},
    graph::{Edge, Hold, Node, NodeId},
    plan::Scheduler,
    status::{Status, StatusChange, ValueState},
};

/// How far an explanation follows the chain of what waits for what.
const DEPTH: usize = 4;

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
        for id in std::mem::take(&mut self.reported) {
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
            if node.requested.is_none() && (!told || !matches!(node.hold, Some(Hold::Retry { .. }))) {
                continue;
            }
            if let Some(status) = self.status_of(id)
                && self.graph[id].status.as_ref().is_none_or(|last| !last.same(&status))
            {
                self.graph[id].status = Some(status.clone());
                let key = self.graph[id].key.clone();
                self.changes.push(StatusChange { key, status: Some(status) });
            }
        }
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
        let mut busy = false;
        for child in &self.graph[id].children {
            match self.condition(*child) {
                Condition::Good => {}
                Condition::Busy => busy = true,
                problem => return problem,
            }
        }
        if busy { Condition::Busy } else { Condition::Good }
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
        match &node.hold {
            Some(Hold::Retry {
                persistent,
                reason,
                message,
                ..
            }) => {
                let state = if *persistent { ValueState::Failed } else { ValueState::Retrying };
                return Condition::Problem(Problem {
                    state,
                    reason: (*reason).into(),
                    message: message.clone(),
                    details: vec![],
                });
            }
            Some(Hold::Refused { reason, message }) => {
                let (reason, message) = ((*reason).to_owned(), message.clone());
                return Condition::Problem(Problem {
                    state: ValueState::Invalid,
                    reason,
                    message,
                    details: vec![],
                });
            }
            Some(Hold::Unavailable { message }) => {
                let (reason, message) = ("Unavailable".to_owned(), message.clone());
                return Condition::Problem(Problem {
                    state: ValueState::Pending,
                    reason,
                    message,
                    details: vec![],
                });
            }
            None => {}
        }
        match (&node.applied, node.closing) {
            (Some(_), false) if node.settled || node.fact || self.domain().descriptor(&node.key).is_none() => Condition::Good,
            (Some(_), _) => Condition::Busy,
            (None, _) => self.waiting(node, id),
        }
    }

    fn waiting(&self, node: &Node<D>, id: NodeId) -> Condition {
        let unmet: Vec<&Edge> = node.edges.iter().filter(|edge| !self.graph.edge_satisfied(id, edge)).collect();
        if unmet.is_empty() {
            return self.waiting_for_leader(node, id);
        }
        let details = unmet.iter().map(|edge| edge.dependency.label.to_string()).collect();
        let texts: Vec<String> = unmet.iter().map(|edge| self.describe_edge(edge, DEPTH)).collect();
        let (reason, message) = ("DependencyUnmet".to_owned(), format!("waiting for {}", texts.join("; and for ")));
        Condition::Problem(Problem {
            state: ValueState::Pending,
            reason,
            message,
            details,
        })
    }

    /// Ready as part of a cycle: either its turn comes, or the member that must go first cannot be created.
    fn waiting_for_leader(&self, node: &Node<D>, _id: NodeId) -> Condition {
        let failing = node.edges.iter().find(|edge| {
            let target = &self.graph[edge.targets[0]];
            matches!(edge.dependency.on, On::Key(_)) && !target.available() && matches!(target.hold, Some(Hold::Retry { .. }))
        });
        match failing {
            None => Condition::Busy,
            Some(edge) => Condition::Problem(Problem {
                state: ValueState::Pending,
                reason: "DependencyUnmet".to_owned(),
                message: format!("waiting for {}", self.describe_edge(edge, DEPTH)),
                details: vec![edge.dependency.label.to_string()],
            }),
        }
    }

    fn describe_edge(&self, edge: &Edge, depth: usize) -> String {
        let label = &edge.dependency.label;
        match &edge.dependency.on {
            On::AnyOf { describe, .. } => format!("{label}: {describe}"),
            On::Key(key) => format!("{label}: {key} {}", self.describe_target(edge.targets[0], depth)),
        }
    }

    /// Why a key cannot be relied on, as the end of a sentence that starts with the key.
    fn describe_target(&self, id: NodeId, depth: usize) -> String {
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
        let unmet = node.edges.iter().find(|edge| !self.graph.edge_satisfied(id, edge));
        match (node.wanted(), unmet) {
            (None, _) => "does not exist".to_owned(),
            (Some(_), Some(edge)) if depth > 0 => format!("is pending ({})", self.describe_edge(edge, depth - 1)),
            _ => "is not ready yet".to_owned(),
        }
    }
}
