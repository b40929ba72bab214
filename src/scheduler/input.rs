//! What the scheduler is told: desired values, facts, what was found or lost, and what came of operations.
//!
//! Owns the translation of each event into changed nodes and marks. Must never decide what to do about it: that is `plan`. Start
//! reading at [`Scheduler::transaction`] and [`Scheduler::outcome`].

use std::{collections::HashSet, time::Duration};

use models::key::Key;

use super::{
    descriptor::Domain,
    explanation::{DAMAGE_MAX, LastError},
    graph::{Hold, NodeId, Requested},
    plan::{Change, Fault, FaultKind, Outcome, Scheduler},
    status::Verb,
    view::View,
};

/// First delay after a failure; doubled for each further one.
const RETRY_FIRST: Duration = Duration::from_secs(1);
/// Longest delay between two attempts. They never end.
const RETRY_LONGEST: Duration = Duration::from_secs(60);

impl<D: Domain> Scheduler<D> {
    /// Takes over a change of the desired state. With `full`, everything that is not in `changes` is no longer wanted.
    pub fn transaction(&mut self, mut changes: Vec<Change<D::Value>>, full: bool) {
        changes.sort_by(|a, b| a.key.cmp(&b.key));
        if full {
            let named: HashSet<&Key> = changes.iter().map(|change| &change.key).collect();
            let obsolete: Vec<NodeId> = self
                .graph
                .all()
                .filter(|id| self.graph[*id].requested.is_some() && !named.contains(&self.graph[*id].key))
                .collect();
            for id in obsolete {
                self.graph[id].requested = None;
                self.wanted_changed(id);
            }
        }
        for change in changes {
            let id = self.graph.obtain(&change.key);
            self.graph[id].requested = change.value.map(|value| Requested {
                revision: change.revision,
                value,
            });
            self.wanted_changed(id);
        }
    }

    /// Takes over a fact from below: something exists (`Some`) or not. Facts need no operation.
    pub fn fact(&mut self, key: &Key, value: Option<D::Value>) {
        let id = self.graph.obtain(key);
        self.graph[id].fact = true;
        if value.is_some() || self.graph[id].applied.is_some() {
            self.graph[id].applied = value;
            // What was not to be had may be now, or may fail for another reason.
            for interested in self.graph.interested(id) {
                if matches!(self.graph[interested].hold, Some(Hold::Unavailable { .. })) {
                    self.release_hold(interested);
                }
                // What is under way was decided by what was known before.
                self.graph[interested].probe_again |= self.graph[interested].flight.is_some();
            }
            self.mark_interested(id);
        }
        self.graph.drop_unused(id);
    }

    /// Every fact from below that exists at start has been told. Until then nothing that was found in the kernel is taken down
    /// for want of a fact.
    pub fn settle_facts(&mut self) {
        if !self.graph.facts_settled {
            self.graph.facts_settled = true;
            let discovered: Vec<NodeId> = self.graph.all().filter(|id| self.graph[*id].discovered).collect();
            discovered.into_iter().for_each(|id| self.mark(id));
        }
    }

    /// Something happened to what `key` refers to: an applied value is checked, a waiting or failed one is tried at once.
    pub fn probe(&mut self, key: &Key) {
        let Some(id) = self.graph.find(key) else { return };
        if self.graph[id].flight.is_some() {
            // What is under way may have looked before this happened.
            self.graph[id].probe_again = true;
            return;
        }
        self.release_hold(id);
        let node = &self.graph[id];
        if !node.closing
            && let (Some(descriptor), Some(applied)) = (self.domain.descriptor(key), &node.applied)
        {
            let effect = descriptor.verify(key, applied);
            if !D::is_empty(&effect) {
                self.emit(id, Verb::Verify, None, effect);
            }
        }
        self.mark(id);
    }

    /// Values that are in the kernel, as read from it. Those that nobody wants will be deleted.
    pub fn found(&mut self, values: Vec<(Key, D::Value)>) {
        for (key, value) in values {
            let id = self.graph.obtain(&key);
            if self.graph[id].flight.is_some() {
                continue;
            }
            if self.graph[id].applied.is_some() {
                self.damaged(id, Some(&value));
                self.graph[id].applied = Some(value);
                self.graph[id].settled = false;
                self.refresh_children(id);
                self.mark(id);
            } else {
                self.graph[id].discovered = true;
                if let Some(descriptor) = self.domain.descriptor(&key) {
                    let claims = descriptor.claims(&key, &value, &View::new(&self.graph));
                    self.graph.take_claims(id, claims);
                }
                self.set_applied(id, value);
                if self.graph[id].rejected().is_some() {
                    // What is applied is the basis now: it implies things that the unusable value could not.
                    self.wanted_changed(id);
                }
            }
        }
    }

    /// Values that turned out not to be in the kernel any more. Those that are still wanted will be created again.
    pub fn lost(&mut self, keys: &[Key]) {
        for key in keys {
            if let Some(id) = self.graph.find(key)
                && self.graph[id].flight.is_none()
                && self.graph[id].applied.is_some()
            {
                self.damaged(id, None);
                self.clear_applied(id);
            }
        }
    }

    /// Remembers for the status that something of a wanted value was lost (or became `found`).
    fn damaged(&mut self, id: NodeId, found: Option<&D::Value>) {
        let node = &self.graph[id];
        let as_wanted = |wanted, value| {
            let descriptor = self.domain.descriptor(&node.key);
            descriptor.is_none_or(|descriptor| descriptor.equivalent(&node.key, value, wanted))
        };
        if node
            .wanted()
            .is_none_or(|wanted| found.is_some_and(|value| as_wanted(wanted, value)))
        {
            return;
        }
        let (key, base) = (node.key.clone(), self.base_of(id));
        let base = &mut self.graph[base];
        if base.requested.is_some() && base.damage.len() < DAMAGE_MAX && !base.damage.contains(&key) {
            base.damage.push(key);
        }
    }

    /// An interrupted creation left something of a value that is not applied: the next attempt starts by clearing it away.
    pub fn unfinished(&mut self, keys: &[Key]) {
        for key in keys {
            if let Some(id) = self.graph.find(key)
                && !self.graph[id].present()
            {
                self.graph[id].partial = true;
                self.mark(id);
            }
        }
    }

    /// Takes over what came of an operation.
    pub fn outcome(&mut self, operation: u64, outcome: Outcome<D::Value>) {
        let Some(id) = self.flying.remove(&operation) else { return };
        let Some(flight) = self.graph[id].flight.take() else { return };
        if matches!(outcome, Outcome::Failed(_)) {
            self.release_claims_for(&flight.brings);
        }
        match (flight.verb, outcome) {
            (Verb::Verify, Outcome::Changed(text)) => self.graph[id].stale = Some(text),
            (Verb::Verify, _) => {}
            (verb, Outcome::Failed(fault)) => self.failed(id, verb, fault),
            (Verb::Delete, _) => self.clear_applied(id),
            (_, outcome) => {
                let value = if let Outcome::Became(value) = outcome {
                    Some(value)
                } else {
                    flight.value
                };
                if let Some(value) = value {
                    self.set_applied(id, value);
                }
                flight.brings.into_iter().for_each(|(key, value)| self.brought(&key, value));
            }
        }
        self.mark(id);
        self.mark_interested(id);
        if std::mem::take(&mut self.graph[id].probe_again) {
            let key = self.graph[id].key.clone();
            self.probe(&key);
        }
    }

    /// The creation of another value has brought this one into being too.
    fn brought(&mut self, key: &Key, value: D::Value) {
        let id = self.graph.obtain(key);
        if !self.graph[id].present() {
            self.graph[id].brought = true;
            self.set_applied(id, value);
        }
    }

    fn release_claims_for(&mut self, brings: &[(Key, D::Value)]) {
        for (key, _) in brings {
            if let Some(id) = self.graph.find(key).filter(|id| !self.graph[*id].present()) {
                self.release_claims(id, &[]);
                self.graph.drop_unused(id);
            }
        }
    }

    pub(super) fn failed(&mut self, id: NodeId, verb: Verb, fault: Fault) {
        if verb == Verb::Create {
            self.release_claims(id, &[]);
        }
        self.release_blocked(id);
        self.note_partial(id, verb, &fault);
        let node = &mut self.graph[id];
        match fault.kind {
            FaultKind::Unavailable if verb == Verb::Create => {
                node.hold = Some(Hold::Unavailable { message: fault.message });
                return;
            }
            FaultKind::Refused if verb == Verb::Create => {
                node.hold = Some(Hold::Refused {
                    reason: fault.reason,
                    message: fault.message,
                    by_effect: true,
                });
                return;
            }
            _ => {}
        }
        let last_error = LastError {
            at: self.now,
            message: fault.message.clone(),
            kernel: fault.kernel,
        };
        node.last_error = Some(Box::new(last_error));
        let delay = match fault.kind {
            FaultKind::Persistent => RETRY_LONGEST,
            _ => RETRY_FIRST.saturating_mul(1 << node.attempts.min(6)).min(RETRY_LONGEST),
        };
        node.attempts = node.attempts.saturating_add(1);
        let until = self.now + delay;
        node.hold = Some(Hold::Retry {
            until,
            persistent: fault.kind == FaultKind::Persistent,
            reason: fault.reason,
            message: fault.message,
        });
        self.retries.insert((until, id));
    }

    /// A creation that failed half-way may have left something, which stays in need of what the creation depended on.
    fn note_partial(&mut self, id: NodeId, verb: Verb, fault: &Fault) {
        if verb != Verb::Create || matches!(fault.kind, FaultKind::Unavailable | FaultKind::Refused | FaultKind::Foreign) {
            return;
        }
        let node = &self.graph[id];
        let attempted = match (&node.attempted, self.domain.descriptor(&node.key)) {
            (Some(attempted), Some(descriptor)) => descriptor.dependencies(&node.key, attempted),
            _ => Vec::new(),
        };
        let edges = self.graph.resolve(attempted);
        self.graph.set_edges(id, None, Some(edges));
        self.graph[id].partial = true;
    }
}
