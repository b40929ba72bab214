//! Processes operation outcomes.
//!
//! `decide` chooses what to do next.

use super::{
    blocked::Blocked,
    descriptor::Domain,
    explanation::LastError,
    in_flight::{Action, InFlight},
    lifecycle::Event,
    nodes::NodeId,
    operation::{Fault, FaultKind, Outcome, Wait},
    queue::TxnId,
    recorder::Ended,
    scheduler::Scheduler,
    status::Verb,
};

impl<D: Domain> Scheduler<D> {
    /// Processes the outcome of an operation.
    pub fn outcome(&mut self, operation: u64, outcome: Outcome<D::Value>) {
        let Some(id) = self.queue.end(operation) else { return };
        let Some(in_flight) = self.graph[id].in_flight.take() else { return };
        let InFlight {
            action,
            recheck,
            notified,
            cause,
            takes,
        } = *in_flight;
        let verb = action.verb();
        // Only a creation can be reported as waiting. For any other operation, this outcome counts as a failure.
        let outcome = match outcome {
            Outcome::Waiting(wait) if verb != Verb::Create => Outcome::Failed(Fault {
                kind: FaultKind::Transient,
                reason: wait.reason,
                message: wait.message,
                kernel: None,
            }),
            outcome => outcome,
        };
        self.queue.act_for(&mut self.graph, id);
        let ended = self.ended(id, &action, &outcome, cause);
        let undone = matches!(outcome, Outcome::Failed(_) | Outcome::Waiting(_));
        if undone {
            self.release_claims_for(action.co_created());
        }
        self.take_over_outcome(id, action, outcome, cause);
        if ended.verb != Verb::Verify {
            self.record_operation(id, cause, ended);
        }
        if notified {
            self.wake(id);
        }
        self.land(id, cause, recheck);
        for taken in takes {
            match undone {
                true => self.stays(taken),
                false => self.outcome(taken, Outcome::Done),
            }
        }
    }

    /// Returns the data to record for a completed operation. Must be called before the outcome is processed.
    fn ended(&self, id: NodeId, action: &Action<D>, outcome: &Outcome<D::Value>, cause: TxnId) -> Ended<D::Value> {
        let kept = self.tracker.has_room(cause);
        let (node, verb) = (&self.graph[id], action.verb());
        Ended {
            verb,
            before: match verb {
                _ if !kept => None,
                Verb::Delete => node.applied().or(node.attempted()).cloned(),
                Verb::Undefined | Verb::Verify | Verb::Create | Verb::Update => node.applied().cloned(),
            },
            value: action.value().filter(|_| kept).cloned(),
            error: match outcome {
                Outcome::Failed(fault) => Some(fault.message.as_str().into()),
                Outcome::Done | Outcome::Became(_) | Outcome::Changed(_) | Outcome::Waiting(_) => None,
            },
        }
    }

    fn take_over_outcome(&mut self, id: NodeId, action: Action<D>, outcome: Outcome<D::Value>, cause: TxnId) {
        match (action, outcome) {
            (Action::Verify, Outcome::Changed(_)) => self.on(id, Event::Condemned),
            (Action::Verify, _) => {}
            (_, Outcome::Waiting(wait)) => self.waits(id, wait),
            (action, Outcome::Failed(fault)) => self.failed(id, action, fault, cause),
            (Action::Delete | Action::Clear, Outcome::Done | Outcome::Became(_) | Outcome::Changed(_)) => {
                self.clear_applied(id);
                self.forget_damage(id);
            }
            (Action::Create { co_created, .. }, Outcome::Became(value)) => {
                self.set_applied(id, value, Event::Applied);
                self.take_co_created(co_created);
            }
            (Action::Update { .. }, Outcome::Became(value)) => self.set_applied(id, value, Event::Applied),
            (
                Action::Create {
                    value,
                    co_created,
                    superseded,
                },
                Outcome::Done | Outcome::Changed(_),
            ) => {
                self.set_applied_by_operation(id, value, superseded);
                self.take_co_created(co_created);
            }
            (Action::Update { value, superseded }, Outcome::Done | Outcome::Changed(_)) => {
                self.set_applied_by_operation(id, value, superseded)
            }
        }
    }

    fn set_applied_by_operation(&mut self, id: NodeId, value: D::Value, superseded: bool) {
        if superseded {
            self.set_applied(id, value, Event::Applied);
        } else {
            self.set_applied_as_desired(id, value);
        }
    }

    /// Marks all nodes that a completed operation may affect, so that they are evaluated again.
    fn land(&mut self, id: NodeId, cause: TxnId, recheck: bool) {
        self.mark(id);
        self.mark_interested(id);
        self.queue.settle(cause);
        if recheck {
            let key = self.graph[id].key.clone();
            self.probe(&key);
        }
    }

    /// Cancels the deletion of a value that the kernel was expected to remove as part of another operation. Called when that
    /// operation has failed.
    fn stays(&mut self, operation: u64) {
        let Some(id) = self.queue.end(operation) else { return };
        let Some(in_flight) = self.graph[id].in_flight.take() else { return };
        self.reopen(id);
        self.land(id, in_flight.cause, in_flight.recheck);
    }

    /// Records that the values created together with another value are now applied.
    fn take_co_created(&mut self, co_created: Vec<(D::Key, D::Value)>) {
        for (key, value) in co_created {
            let id = self.graph.obtain(&key);
            if !self.graph[id].present() {
                self.set_applied(id, value, Event::CoCreated);
            }
        }
    }

    fn release_claims_for(&mut self, co_creates: &[(D::Key, D::Value)]) {
        for (key, _) in co_creates {
            if let Some(id) = self.graph.find(key).filter(|id| !self.graph[*id].present()) {
                self.release_claims(id, &[]);
                self.graph.drop_unused(id);
            }
        }
    }

    /// Blocks a value that cannot be created yet, because a required object does not exist. The attempt has changed nothing in
    /// the kernel.
    fn waits(&mut self, id: NodeId, wait: Wait) {
        self.release_claims(id, &[]);
        self.release_blocked(id);
        self.note_edges_left(id);
        self.graph[id].blocked = Some(Box::new(Blocked::Unavailable(wait.into())));
    }

    fn failed(&mut self, id: NodeId, action: Action<D>, fault: Fault, cause: TxnId) {
        let creates = action.verb() == Verb::Create;
        let leaves_parts = !matches!(fault.kind, FaultKind::Refused | FaultKind::Foreign);
        if creates && !leaves_parts {
            self.release_claims(id, &[]);
        }
        self.release_blocked(id);
        if let Action::Create { value, .. } = action {
            // A creation that failed halfway may have left parts behind. These parts still need the dependencies of the creation.
            self.on(
                id,
                Event::CreationFailed {
                    attempted: Some(value),
                    leaves_parts,
                },
            );
            self.note_edges_left(id);
        }
        let node = &mut self.graph[id];
        if fault.kind == FaultKind::Refused && creates {
            node.blocked = Some(Box::new(Blocked::Unusable(fault.into())));
            return;
        }
        let last_error = LastError {
            at: self.now,
            message: fault.message.clone(),
            kernel: fault.kernel.clone(),
        };
        node.make_rare().last_error = Some(last_error);
        self.back_off(id, fault, cause);
    }

    /// Keeps only the dependencies of the parts that a failed creation may have left behind.
    fn note_edges_left(&mut self, id: NodeId) {
        let node = &self.graph[id];
        let left = match (node.attempted(), self.domain.descriptor(&node.key)) {
            (Some(attempted), Some(descriptor)) => descriptor.dependencies(&node.key, attempted),
            _ => Vec::new(),
        };
        let edges = self.graph.resolve(id, left);
        self.graph.set_edges(id, None, Some(edges));
    }
}
