//! Turns decisions into operations: deletion, creation, update, and removal of partly created objects.
//!
//! This module checks the preconditions of each operation, for example that no other value holds a claim that the operation
//! needs. A value must wait while its preconditions are not met. `decide` makes the decisions.

use std::collections::BTreeSet;

use super::{
    blocked::{Blocked, Reason},
    descriptor::{Claim, DeleteCause, Domain, Key, Taken},
    edge::{Edge, Edges},
    effect::{Effect, INTERNAL_ERROR},
    in_flight::{Action, InFlight},
    lifecycle::{Agreement, Event},
    nodes::NodeId,
    operation::{Fault, FaultKind, Operation, Outcome},
    scheduler::Scheduler,
    status::Verb,
    tracker::Phase,
    view::View,
};

/// Reason why a property needs no operation: it exists only so that other values can depend on it.
const NO_DESCRIPTOR: &str = "the value needs no operation, because it is only a property of the value from which it is derived";

/// Co-created value together with its node and its claims.
type CoCreation<D> = (NodeId, <D as Domain>::Value, Vec<Claim>);

impl<D: Domain> Scheduler<D> {
    /// Deletes a value as soon as nothing depends on it.
    pub(super) fn close(&mut self, id: NodeId) {
        if !self.graph[id].is_terminating() {
            self.on(id, Event::Terminate);
            self.refresh_children(id);
            self.mark_interested(id);
            // Dependents are deleted first. This node is evaluated again afterwards.
            self.mark(id);
            return;
        }
        if self.graph[id].last_operation == Verb::Delete && self.graph[id].is_waiting_for_time() {
            return;
        }
        let blockers = self.graph.deletion_blockers(id);
        if !blockers.is_empty() {
            for blocker in blockers {
                if self.graph[blocker].make_rare().blocks.insert(id) {
                    self.mark(blocker);
                }
            }
            self.await_in_flight(id);
            return;
        }
        let node = &self.graph[id];
        let again = node.desired().is_some();
        let cause = if again { DeleteCause::Again } else { DeleteCause::Unwanted };
        let domain = self.domain.clone();
        let (Some(descriptor), Some(applied)) = (domain.descriptor(&node.key), node.applied()) else {
            self.emit(id, Action::Delete, Effect::Noop(NO_DESCRIPTOR));
            return;
        };
        let effect = descriptor.delete(&node.key, applied, cause, &View::new(&self.graph));
        let applied = applied.clone();
        if let Some(taken) = self.taken_along(id, Verb::Delete, &applied, &effect) {
            let takes = self.depart(taken);
            self.emit(id, Action::Delete, effect);
            self.note_taken(id, takes);
        }
    }

    /// Returns the other applied values that the kernel removes as part of an operation.
    ///
    /// Returns `None` if the operation cannot start yet because another operation must complete first.
    fn taken_along(&mut self, id: NodeId, verb: Verb, value: &D::Value, effect: &Effect<D::Operation>) -> Option<Vec<NodeId>> {
        let key = &self.graph[id].key;
        let taken = match self.domain.descriptor(key).filter(|_| matches!(effect, Effect::Do(_))) {
            Some(descriptor) => descriptor.takes_along(key, value, verb, &View::new(&self.graph)),
            None => Taken::NOTHING,
        };
        let (named, first) = match taken {
            Taken::Values(keys) => (keys, None),
            Taken::After(key) => (Vec::new(), self.graph.find(&key)),
        };
        let named = named.iter().filter_map(|key| self.graph.find(key)).filter(|taken| *taken != id);
        let named: Vec<NodeId> = named.collect();
        let is_changing = |taken: &&NodeId| {
            self.graph[**taken]
                .in_flight
                .as_ref()
                .is_some_and(|in_flight| in_flight.action.verb() != Verb::Delete)
        };
        // The new operation waits while another operation is in flight on a value that the kernel will remove. Without this wait,
        // the order of the two operations would determine whether the value exists afterwards.
        let first = first.or_else(|| named.iter().find(is_changing).copied());
        if let Some(first) = first.filter(|first| self.graph[*first].in_flight.is_some()) {
            self.graph[first].make_rare().blocks.insert(id);
            self.await_in_flight(id);
            return None;
        }
        let goes = |taken: &NodeId| self.graph[*taken].applied().is_some() && self.graph[*taken].in_flight.is_none();
        Some(named.into_iter().filter(goes).collect())
    }

    /// Starts the deletion of values that the kernel removes along with another value.
    ///
    /// Returns the operation numbers of these deletions, which need no steps of their own.
    fn depart(&mut self, taken: Vec<NodeId>) -> Vec<u64> {
        let mut depart = |id: NodeId| {
            self.on(id, Event::Terminate);
            self.refresh_children(id);
            self.mark_interested(id);
            self.begin_operation(id, Action::Delete)
        };
        taken.into_iter().map(&mut depart).collect()
    }

    fn note_taken(&mut self, id: NodeId, takes: Vec<u64>) {
        if let Some(in_flight) = &mut self.graph[id].in_flight {
            in_flight.takes = takes;
        }
    }

    pub(super) fn create(&mut self, id: NodeId) {
        let Some(desired) = self.graph[id].desired().cloned() else { return };
        let key = self.graph[id].key.clone();
        let domain = self.domain.clone();
        let Some(descriptor) = domain.descriptor(&key) else {
            self.emit(id, Action::create(desired, Vec::new()), Effect::Noop(NO_DESCRIPTOR));
            return;
        };
        let view = View::new(&self.graph);
        let claims = descriptor.claims(&key, &desired, &view);
        let co_creates = descriptor.co_creates(&key, &desired, &view);
        if self.must_await_claim(id, &claims) {
            self.await_in_flight(id);
            return;
        }
        let Some(co_creates) = self.claim_for_co_created(id, co_creates) else {
            return;
        };
        let view = View::new(&self.graph);
        match descriptor.create(&key, &desired, &view) {
            Err(refusal) => self.graph[id].blocked = Some(Box::new(Blocked::Conflict(refusal.into()))),
            Ok(mut effect) => {
                let value = descriptor.as_applied(&key, None, &desired);
                // A failed creation may have left parts of this value or of the co-created values in the kernel. Remove these
                // parts first.
                let comes = co_creates.iter().map(|(id, value, _)| (*id, value)).chain([(id, &value)]);
                for (id, value) in comes.filter(|(id, _)| self.graph[*id].is_partial()) {
                    let node = &self.graph[id];
                    if let Some(descriptor) = domain.descriptor(&node.key) {
                        let clearing = descriptor.recover(&node.key, node.attempted().unwrap_or(value), &view);
                        effect = clearing.then(effect);
                    }
                }
                let Some(taken) = self.taken_along(id, Verb::Create, &value, &effect) else {
                    return;
                };
                self.graph[id].blocked = None;
                self.graph.take_claims(id, claims);
                let mut co_created_values = Vec::new();
                for (id, value, claims) in co_creates {
                    self.graph.take_claims(id, claims);
                    co_created_values.push((self.graph[id].key.clone(), value));
                }
                let takes = self.depart(taken);
                self.emit(id, Action::create(value, co_created_values), effect);
                self.note_taken(id, takes);
            }
        }
    }

    /// Returns the nodes of the co-created values, together with their claims.
    ///
    /// Returns `None` if another value holds one of the claims. In this case, both `id` and the co-created value wait for the
    /// claim.
    fn claim_for_co_created(&mut self, id: NodeId, co_creates: Vec<(D::Key, D::Value)>) -> Option<Vec<CoCreation<D>>> {
        let mut claimed = Vec::new();
        for (key, value) in co_creates {
            let co_created_values = self.graph.obtain(&key);
            let claims = self.claims_of(co_created_values, &value);
            if self.must_await_claim(co_created_values, &claims) {
                self.mark_reported(co_created_values);
                if self.graph[co_created_values].blocked.is_some() {
                    self.mark(id);
                } else {
                    // The holder of the claim is being deleted. `id` is not marked for evaluation, because it would then be
                    // evaluated in a loop until the holder is gone.
                    claims.iter().for_each(|claim| self.graph.await_claim(id, claim));
                    self.await_in_flight(id);
                }
                return None;
            }
            claimed.push((co_created_values, value, claims));
        }
        Some(claimed)
    }

    /// Returns whether the remains of a failed creation must be removed before anything else.
    ///
    /// They must be removed if they do not match the desired value, or if one of their dependencies is not available.
    pub(super) fn is_in_the_way(&self, id: NodeId) -> bool {
        let node = &self.graph[id];
        let (Some(desired), Some(attempted)) = (node.desired(), node.attempted()) else {
            return node.desired().is_none();
        };
        let descriptor = self.domain.descriptor(&node.key);
        descriptor.is_some_and(|descriptor| {
            let comparison = descriptor.compare(&node.key, attempted, desired);
            comparison.needs_recreate() || !comparison.is_same() && !descriptor.recovers_alike(attempted, desired)
        }) || !self.graph.satisfied(id, &node.applied_edges)
    }

    pub(super) fn clear_away(&mut self, id: NodeId) {
        let node = &self.graph[id];
        let effect = match (self.domain.descriptor(&node.key), node.attempted()) {
            (Some(descriptor), Some(attempted)) => descriptor.recover(&node.key, attempted, &View::new(&self.graph)),
            _ => Effect::Noop("the attempted value is unknown, so anything that its creation left behind is treated as an orphan"),
        };
        self.emit(id, Action::Clear, effect);
    }

    pub(super) fn update(&mut self, id: NodeId) {
        let (Some(applied), Some(desired)) = (self.graph[id].applied().cloned(), self.graph[id].desired().cloned()) else {
            return;
        };
        let key = self.graph[id].key.clone();
        let domain = self.domain.clone();
        let Some(descriptor) = domain.descriptor(&key) else { return };
        let mut obsolete: Vec<NodeId> = self.graph[id].children.iter().copied().collect();
        if !obsolete.is_empty() {
            let keep: BTreeSet<D::Key> = descriptor.derived(&key, &desired).into_iter().map(|(key, _)| key).collect();
            obsolete.retain(|child| !keep.contains(self.graph[*child].key.text()));
        }
        let mut waiting = false;
        for child in obsolete {
            self.abandon_child(child);
            if self.graph.get(child).is_some_and(|node| node.present()) {
                self.graph[child].make_rare().blocks.insert(id);
                waiting = true;
            }
        }
        let claims = descriptor.claims(&key, &desired, &View::new(&self.graph));
        if waiting || self.must_await_claim(id, &claims) {
            if !waiting && self.waits_in_a_circle(id, &claims) {
                // The values wait for each other's claims in a cycle. One value must release its claim, and any value in the
                // cycle can do so.
                self.on(id, Event::Condemned);
                self.mark(id);
            }
            self.await_in_flight(id);
            return;
        }
        match descriptor.update(&key, &applied, &desired, &View::new(&self.graph)) {
            Err(refusal) => self.graph[id].blocked = Some(Box::new(Blocked::Conflict(refusal.into()))),
            Ok(effect) => {
                self.graph[id].blocked = None;
                self.graph.take_claims(id, claims);
                let value = descriptor.as_applied(&key, Some(&applied), &desired);
                self.emit(id, Action::Update { value, superseded: false }, effect);
                if self.graph[id].lifecycle().agreement() == Some(Agreement::CoCreated) {
                    // Clients see this update as the creation of the value.
                    self.graph[id].last_operation = Verb::Create;
                }
            }
        }
    }

    /// Returns whether a value must wait for an operation on a related value. The value is evaluated again after that operation.
    ///
    /// A value waits for the update of a dependency, because the update may change the dependency's name. It also waits for a
    /// creation that depends on this value, and for the deletion of an obsolete value that was derived from the same parent.
    pub(super) fn must_await_change_nearby(&mut self, id: NodeId) -> bool {
        let changing = self.graph.changing_below(id).or_else(|| self.graph.creation_above(id));
        let changing = changing.or_else(|| self.graph.sibling_on_its_way_out(id));
        if let Some(changing) = changing {
            self.graph[changing].make_rare().blocks.insert(id);
        }
        changing.is_some()
    }

    /// Returns whether `id`, which needs `claims`, is part of a cycle of values that wait for each other's claims. Returns
    /// `false` if one of the holders still needs the claim that it holds.
    fn waits_in_a_circle(&self, id: NodeId, claims: &[Claim]) -> bool {
        let mut closes = false;
        let (mut seen, mut open) = (BTreeSet::from([id]), vec![(id, claims.to_vec())]);
        while let Some((waiting, claims)) = open.pop() {
            for claim in claims {
                let Some(holder) = self.graph.holder(&claim).filter(|holder| *holder != waiting) else {
                    continue;
                };
                let node = &self.graph[holder];
                let desired = match (node.desired(), self.domain.descriptor(&node.key)) {
                    (Some(desired), Some(descriptor)) => descriptor.claims(&node.key, desired, &View::new(&self.graph)),
                    _ => return false,
                };
                if desired.contains(&claim) {
                    return false;
                }
                closes |= holder == id;
                if seen.insert(holder) {
                    open.push((holder, desired));
                }
            }
        }
        closes
    }

    /// Returns whether another value holds one of the claims. If so, `id` waits for that claim.
    ///
    /// If the holder is not about to release the claim, `id` is also blocked because of the conflict.
    fn must_await_claim(&mut self, id: NodeId, claims: &[Claim]) -> bool {
        for claim in claims {
            let Some(holder) = self.graph.holder(claim).filter(|holder| *holder != id) else {
                continue;
            };
            self.graph.await_claim(id, claim);
            let node = &self.graph[holder];
            let is_obsolete = node.basis().is_none() && !node.is_fact();
            self.graph[id].blocked = if node.is_terminating() || is_obsolete {
                None
            } else {
                let message = format!("{} is taken by {}; change one of the two", claim.name, self.domain.name(&node.key));
                Some(Box::new(Blocked::Conflict(Reason {
                    name: claim.reason,
                    message,
                })))
            };
            return true;
        }
        false
    }

    pub(super) fn emit(&mut self, id: NodeId, action: Action<D>, effect: Effect<D::Operation>) {
        let key = &self.graph[id].key;
        let descriptor = self.domain.descriptor(key).zip(action.value());
        let place = descriptor.and_then(|(descriptor, value)| descriptor.place(key, value));
        let verb = action.verb();
        let operation = self.begin_operation(id, action);
        match effect {
            Effect::Do(steps) if !steps.is_empty() => self.operations.push(Operation {
                id: operation,
                key: self.graph[id].key.clone(),
                verb,
                steps,
                place,
            }),
            Effect::Do(_) => self.fail_impossible(id, operation, "the descriptor returned an empty list of operations"),
            Effect::Noop(_) => self.outcome(operation, Outcome::Done),
            Effect::Impossible(what) => self.fail_impossible(id, operation, &what),
        }
    }

    /// Fails an operation for which the descriptor returned no usable effect, and records a defect.
    ///
    /// The operation is retried at the longest interval.
    fn fail_impossible(&mut self, id: NodeId, operation: u64, what: &str) {
        let node = &self.graph[id];
        let name = self.domain.name(&node.key);
        self.defect(format!("{}: {what}", node.key));
        self.outcome(
            operation,
            Outcome::Failed(Fault {
                kind: FaultKind::Persistent,
                reason: INTERNAL_ERROR,
                message: format!("internal error while processing {name}, please report it: {what}"),
                kernel: None,
            }),
        );
    }

    /// Returns the applied value that results from creating a desired value.
    pub(super) fn as_created(&self, key: &D::Key, desired: &D::Value) -> D::Value {
        let descriptor = self.domain.descriptor(key);
        descriptor.map_or_else(|| desired.clone(), |descriptor| descriptor.as_applied(key, None, desired))
    }

    /// Returns the dependencies that must stay until a creation has completed, even if the created value is no longer desired.
    ///
    /// These are the dependencies of the value itself, of the co-created values, and of a partly created object that the
    /// operation removes first.
    fn edges_in_flight(&self, id: NodeId) -> Edges<D::Key> {
        let node = &self.graph[id];
        let co_created_values = node.in_flight.as_ref().map_or(&[][..], |in_flight| in_flight.action.co_created());
        let co_created_values: Vec<NodeId> = co_created_values.iter().filter_map(|(key, _)| self.graph.find(key)).collect();
        if co_created_values.is_empty() && !node.is_partial() {
            return node.edges.clone();
        }
        let comes = |edge: &&Edge<D::Key>| {
            edge.key_target()
                .is_none_or(|target| target != id && !co_created_values.contains(&target))
        };
        let of_co_created = co_created_values.iter().flat_map(|id| self.graph[*id].edges.iter()).filter(comes);
        let mut edges: Vec<Edge<D::Key>> = node.edges.iter().chain(of_co_created).cloned().collect();
        if node.is_partial() {
            edges.extend(node.applied_edges.iter().cloned());
        }
        edges.into()
    }

    /// Records the start of an operation on a value, and returns the operation number.
    fn begin_operation(&mut self, id: NodeId, action: Action<D>) -> u64 {
        let verb = action.verb();
        if verb != Verb::Verify {
            self.graph[id].last_operation = verb;
        }
        let (operation, cause) = self.queue.start(&mut self.graph, id);
        self.graph[id].trace.reverting = self.phase_of(cause) == Some(Phase::Reverting);
        self.graph[id].in_flight = Some(Box::new(InFlight {
            action,
            recheck: false,
            notified: false,
            cause,
            takes: Vec::new(),
        }));
        if verb == Verb::Create {
            let edges = self.edges_in_flight(id);
            self.graph.set_edges(id, None, Some(edges));
        }
        operation
    }
}
