//! Computes the status of a value and its explanation, without changing anything.
//!
//! The status of a base value covers all values derived from it, so an interface is not CONFIGURED if the kernel refused one of
//! its addresses. A value with an operation in flight gets no new status until the outcome is known.

use super::{
    blocked::Blocked,
    descriptor::{Domain, Key, On},
    edge::{Edge, Target},
    explanation::{Explanation, Repair, SUGGESTIONS_MAX, Suggestion, Unmet, waiting_for},
    lifecycle::{Agreement, Lifecycle},
    node::Node,
    nodes::NodeId,
    scheduler::Scheduler,
    status::{LastReport, Status, ValueState},
    transaction::KeyWait,
    view::View,
};

/// Maximum length of the dependency chain that an explanation follows.
const DEPTH: usize = 4;
/// Maximum number of values under a prefix that are checked for suggestions.
const NEARBY: usize = 8;

/// Condition of a value.
pub(super) enum Condition {
    /// An operation is in flight or about to start.
    Busy,
    /// The value is applied as desired.
    Good,
    /// The value is not as desired.
    Problem(Problem),
}

/// Problem with a value. Finding a problem is cheap. Its explanation is computed only when the problem is reported.
pub(super) struct Problem {
    /// Value that has the problem: the base value or one derived from it.
    of: NodeId,
    pub state: ValueState,
    cause: Cause,
}

pub(super) enum Cause {
    /// The cause is already described in full.
    LastReport {
        reason: &'static str,
        message: String,
        details: Vec<String>,
    },
    /// Indexes of the node's unsatisfied edges.
    Unmet(Vec<usize>),
}

/// Status, and the keys mentioned by its explanation.
type Account<K> = (Status<K>, Vec<K>);

/// State of an explanation under construction.
struct Inquiry<K> {
    /// Nodes that are already described. The search does not follow their dependencies again, so it ends even if they form a
    /// cycle.
    path: Vec<NodeId>,
    /// Keys that the explanation mentions in addition to the dependencies.
    mentioned: Vec<K>,
}

impl<K> Inquiry<K> {
    /// Starts an explanation. Treats `node` as already described.
    fn of(node: Option<NodeId>) -> Self {
        Inquiry {
            path: node.into_iter().collect(),
            mentioned: Vec::new(),
        }
    }
}

impl<D: Domain> Scheduler<D> {
    /// Returns the current status of a base value, and the keys mentioned by its explanation.
    ///
    /// Returns `None` while an operation on the value is in flight or about to start.
    pub(super) fn status_of(&self, id: NodeId, condition: Condition) -> Option<Account<D::Key>> {
        let node = &self.graph[id];
        let mut mentioned = Vec::new();
        let last = match (&node.status, &condition) {
            // Fast path for the most frequent case: the value matches the desired value, and there is nothing to explain.
            (LastReport::Configured { since, .. }, Condition::Good) if node.rare().is_none_or(|rare| rare.damage.is_empty()) => {
                let revision = node.desire.requested.as_ref().map_or(0, |requested| requested.revision);
                return Some((Status::configured(node.last_operation, (*since).into(), revision), mentioned));
            }
            (reported, _) => reported.status(),
        };
        let revision = node.desire.requested.as_ref().map_or(0, |requested| requested.revision);
        let mut status = Status {
            last_repair: last.as_ref().and_then(|last| last.last_repair.clone()),
            ..Status::configured(node.last_operation, self.now, revision)
        };
        let damage = node.rare().map_or(&[][..], |rare| &rare.damage);
        match condition {
            Condition::Busy => return None,
            Condition::Good if !damage.is_empty() => {
                let lost = damage.iter().map(|key| self.domain().name(key)).collect();
                status.last_repair = Some(Repair { at: self.now, lost });
            }
            Condition::Good => {}
            Condition::Problem(problem) => {
                status.last_operation = node.requested_operation();
                mentioned = self.report_problem(&mut status, id, problem);
            }
        }
        if let Some(last) = last
            && last.same_condition(&status)
        {
            status.since = last.since;
        }
        Some((status, mentioned))
    }

    /// Returns the reason why a base value is PENDING; `None` if it is in another state.
    pub(super) fn wait_of(&self, id: NodeId) -> Option<KeyWait<D::Key>> {
        let node = self.graph.get(id).filter(|node| node.desire.requested.is_some())?;
        let condition = self.condition(id);
        if !matches!(&condition, Condition::Problem(problem) if problem.state == ValueState::Pending) {
            return None;
        }
        let (status, _) = self.status_of(id, condition)?;
        Some(KeyWait {
            key: node.key.clone(),
            reason: status.reason,
            message: status.message,
        })
    }

    /// Writes a problem into the status, and returns the keys that the explanation mentions.
    fn report_problem(&self, status: &mut Status<D::Key>, id: NodeId, problem: Problem) -> Vec<D::Key> {
        let node = &self.graph[problem.of];
        let mut inquiry = Inquiry::of(Some(problem.of));
        let mut explanation = Explanation {
            derived: (problem.of != id).then(|| node.key.clone()),
            attempts: node.attempts,
            last_error: node.rare().and_then(|rare| rare.last_error.clone()),
            ..Explanation::default()
        };
        status.state = problem.state;
        match problem.cause {
            Cause::LastReport { reason, message, details } => {
                if problem.state != ValueState::Pending {
                    status.error = message.clone();
                }
                (status.reason, status.message, status.details) = (reason.to_owned(), message, details);
            }
            Cause::Unmet(edges) => {
                let last = self.graph[id].status.status();
                let before = last.as_ref().and_then(|last| last.explanation.as_deref());
                let edges = edges.into_iter().map(|at| &node.edges[at]);
                explanation.unmet = edges.map(|edge| self.unmet(edge, before, &mut inquiry)).collect();
                status.reason = "DependencyUnmet".to_owned();
                status.message = waiting_for(&explanation.unmet);
                status.details = explanation.unmet.iter().map(|unmet| unmet.label.to_string()).collect();
            }
        }
        if let Some(blocked) = node.blocked.as_deref().filter(|blocked| !blocked.is_for_ever()) {
            status.next_retry = blocked.until();
        }
        status.explanation = (explanation != Explanation::default()).then(|| Box::new(explanation));
        inquiry.mentioned
    }

    pub(super) fn worst_block(&self, id: NodeId) -> Option<&Blocked> {
        let node = &self.graph[id];
        node.blocked
            .as_deref()
            .or_else(|| node.children.iter().find_map(|child| self.worst_block(*child)))
    }

    pub(super) fn condition(&self, id: NodeId) -> Condition {
        match self.own_condition(&self.graph[id], id) {
            Condition::Good => {}
            other => return other,
        }
        let (mut busy, mut waiting) = (false, None);
        for child in &self.graph[id].children {
            match self.condition(*child) {
                Condition::Good => {}
                Condition::Busy => busy = true,
                // A PENDING child may be waiting for another child. The problem of that other child is then the actual cause.
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
        if node.in_flight.is_some() {
            return Condition::Busy;
        }
        let reported = |state, reason, message, details| {
            let cause = Cause::LastReport { reason, message, details };
            Condition::Problem(Problem { of: id, state, cause })
        };
        if let Some(rejection) = node.rejected() {
            let mut message = rejection.message.clone();
            if node.applied().is_some() {
                message.push_str("; the previous configuration stays in place");
            }
            return reported(rejection.state, rejection.reason, message, rejection.fields.clone());
        }
        if node.desire.requested.is_some() && self.domain().descriptor(&node.key).is_none() {
            let message = "this agent has no descriptor for this kind of value".to_owned();
            return reported(ValueState::Unimplemented, "Unimplemented", message, vec![]);
        }
        if let Some(hold) = node.blocked.as_deref() {
            return Condition::Problem(problem_of(id, hold));
        }
        if self.may_be_missing_a_late_fact(id) && !self.graph.satisfied(id, &node.applied_edges) {
            let message = "the object was found in the kernel and is left unchanged until Docker reports the running containers".to_owned();
            return reported(ValueState::Discovered, "FactsUnknown", message, vec![]);
        }
        match node.lifecycle() {
            Lifecycle::Fact(Some(_)) => Condition::Good,
            Lifecycle::Present { agreement, fate, .. } => {
                let is_good = *agreement == Agreement::InSync || self.domain().descriptor(&node.key).is_none();
                if is_good && !fate.is_terminating() {
                    Condition::Good
                } else {
                    Condition::Busy
                }
            }
            Lifecycle::Absent | Lifecycle::Partial { .. } | Lifecycle::Fact(None) => self.waiting(node, id),
        }
    }

    fn waiting(&self, node: &Node<D>, id: NodeId) -> Condition {
        for implied in &node.implies {
            if let Some(blocked) = self.graph[*implied].blocked.as_deref().filter(|blocked| blocked.is_refusal()) {
                return Condition::Problem(problem_of(id, blocked));
            }
        }
        let unmet: Vec<usize> = (0..node.edges.len())
            .filter(|at| !self.graph.edge_satisfied(id, &node.edges[*at]))
            .collect();
        // An unmet dependency in the same cycle is not the cause if it waits only for this value, so it is ignored.
        let causes: Vec<usize> = unmet
            .iter()
            .copied()
            .filter(|at| !self.graph.waits_only_for(id, &node.edges[*at]))
            .collect();
        let unmet = if causes.is_empty() { unmet } else { causes };
        if unmet.is_empty() {
            return self.waiting_for_leader(node, id);
        }
        Condition::Problem(Problem {
            of: id,
            state: ValueState::Pending,
            cause: Cause::Unmet(unmet),
        })
    }

    /// Returns the condition of a value that waits until other members of its dependency cycle have been created.
    ///
    /// Returns a problem if a member that must be created first has failed or is not being repaired, and [`Condition::Busy`]
    /// otherwise.
    fn waiting_for_leader(&self, node: &Node<D>, id: NodeId) -> Condition {
        let failing = node.edges.iter().position(|edge| {
            let target = edge.key_target().map(|target| &self.graph[target]);
            let is_left = |target: &Node<D>| target.blocked.as_deref().is_some_and(Blocked::is_about_drift);
            target.is_some_and(|target| !target.available() && (target.is_waiting_for_time() || is_left(target)))
        });
        match failing {
            None => Condition::Busy,
            Some(edge) => Condition::Problem(Problem {
                of: id,
                state: ValueState::Pending,
                cause: Cause::Unmet(vec![edge]),
            }),
        }
    }

    /// Describes an unmet dependency in full.
    ///
    /// If the last reported explanation (`before`) contains the same dependency, its start time is kept.
    fn unmet(&self, edge: &Edge<D::Key>, before: Option<&Explanation<D::Key>>, inquiry: &mut Inquiry<D::Key>) -> Unmet<D::Key> {
        let dependency = self.graph.dependency(edge);
        let mut suggestions = self.domain().suggestions(&dependency, &View::new(&self.graph));
        let (expected, name) = match &dependency.on {
            On::Key(key) => (Some(key.clone()), self.domain().name(key)),
            On::AnyOf { describe, .. } => {
                suggestions.extend(self.nearby(edge));
                (None, describe.to_string())
            }
        };
        suggestions.truncate(SUGGESTIONS_MAX);
        let depth = inquiry.path.len();
        let state = self.describe(edge, &suggestions, inquiry);
        inquiry.path.truncate(depth);
        let known = before.into_iter().flat_map(|before| &before.unmet);
        let mut since = known.filter(|known| (&known.label, &known.expected, &known.name) == (&edge.label, &expected, &name));
        inquiry
            .mentioned
            .extend(suggestions.iter().map(|suggestion| suggestion.key.clone()));
        Unmet {
            label: edge.label.clone(),
            since: since.next().map_or(self.now, |known| known.since),
            expected,
            name,
            state,
            suggestions,
        }
    }

    /// Describes the state of an unmet dependency as a clause. Does not follow dependencies on nodes that are already in
    /// `inquiry.path`.
    fn describe(&self, edge: &Edge<D::Key>, suggestions: &[Suggestion<D::Key>], inquiry: &mut Inquiry<D::Key>) -> String {
        let provider = edge
            .targets()
            .iter()
            .find_map(|target| self.domain().provider(&self.graph[*target].key));
        if let Some(provider) = provider
            && edge.targets().iter().all(|target| self.graph[*target].desired().is_none())
        {
            inquiry.mentioned.push(provider.clone());
            let reported = match self.graph.find(&provider) {
                None => Some("does not exist".to_owned()),
                Some(id) => self.describe_node(id, inquiry),
            };
            if let Some(reported) = reported {
                return format!("{} {reported}", self.domain().name(&provider));
            }
            if let Some(suggestion) = suggestions.iter().find(|suggestion| suggestion.key == provider) {
                return suggestion.text.clone();
            }
        }
        match &edge.on {
            Target::AnyOf(any) => format!("there is no {} yet", any.describe),
            Target::Key(target) => {
                let reported = self.describe_node(*target, inquiry);
                let name = self.domain().name(&self.graph[*target].key);
                format!("{name} {}", reported.as_deref().unwrap_or("is not ready yet"))
            }
        }
    }

    /// Returns why a value is not available, as the end of a clause that starts with the value's name. Returns `None` if the
    /// value is available.
    fn describe_node(&self, id: NodeId, inquiry: &mut Inquiry<D::Key>) -> Option<String> {
        let node = &self.graph[id];
        if let Some(rejection) = node.rejected() {
            return Some(format!("is invalid ({})", rejection.message));
        }
        if let Some(blocked) = node.blocked.as_deref() {
            let what = match blocked {
                Blocked::BackOff { .. } | Blocked::Contended { .. } => "failed",
                Blocked::Drifted(_) => "has drifted",
                Blocked::Unusable(_) | Blocked::Conflict(_) => "is refused",
                Blocked::Unavailable(_) => "is not available",
            };
            return Some(format!("{what} ({})", blocked.reason().message));
        }
        if node.available() {
            return None;
        }
        inquiry.path.push(id);
        let news = |edge: &&Edge<D::Key>| !edge.targets().iter().any(|target| inquiry.path.contains(target));
        let unmet = node.edges.iter().filter(news).find(|edge| !self.graph.edge_satisfied(id, edge));
        Some(match (node.desired(), unmet) {
            (None, _) => "does not exist".to_owned(),
            (Some(_), Some(edge)) if inquiry.path.len() <= DEPTH => {
                format!("is pending ({}: {})", edge.label, self.describe(edge, &[], inquiry))
            }
            _ => "is not ready yet".to_owned(),
        })
    }

    /// Returns suggestions for an unmet any-of dependency: values below its prefixes that are of the wrong kind or not applied
    /// yet.
    fn nearby(&self, edge: &Edge<D::Key>) -> Vec<Suggestion<D::Key>> {
        let under = |target: &NodeId| self.graph.under(self.graph[*target].key.text()).take(NEARBY);
        let values = edge.targets().iter().flat_map(under).filter_map(|id| {
            let node = &self.graph[id];
            let what = match (node.blocked.as_deref(), node.available(), node.desired().is_some()) {
                (Some(_), _, true) => self.describe_node(id, &mut Inquiry::of(None))?,
                (_, true, _) => "exists".to_owned(),
                (_, false, true) => "does not exist yet".to_owned(),
                (_, false, false) => return None,
            };
            let text = format!("{} {what}", self.domain().name(&node.key));
            Some(Suggestion {
                key: node.key.clone(),
                text,
            })
        });
        values.take(SUGGESTIONS_MAX).collect()
    }
}

/// Returns the problem of a blocked value.
fn problem_of(of: NodeId, blocked: &Blocked) -> Problem {
    let reason = blocked.reason();
    let cause = Cause::LastReport {
        reason: reason.name,
        message: reason.message.clone(),
        details: Vec::new(),
    };
    let state = blocked.state();
    Problem { of, state, cause }
}
