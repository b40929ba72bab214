//! Changes to a single node and their side effects. A change also updates edges, claims, children, implied values and back-off,
//! and marks affected nodes for evaluation.
//!
//! `decide` makes the decisions.

use super::{
    blocked::Blocked,
    descriptor::{Claim, Domain},
    edge::Edges,
    lifecycle::Event,
    node::{Implied, Node},
    node_set::NodeSet,
    nodes::NodeId,
    queue::Notify,
    scheduler::Scheduler,
    status::{CHECKED, Verb},
    view::View,
};

/// Maximum number of derived or implied values of a node that are searched for a key one by one. A key that is not found is
/// looked up in the whole graph.
const FEW: usize = 4;

impl<D: Domain> Scheduler<D> {
    pub(super) fn reopen(&mut self, id: NodeId) {
        if self.graph[id].is_terminating() {
            self.on(id, Event::Resume);
            if self.graph[id].last_operation == Verb::Delete {
                // The deletion failed and is no longer needed. Evaluate the value again without the back-off of the deletion.
                self.graph[id].last_operation = Verb::Undefined;
                self.unblock(id);
                self.mark(id);
            }
            self.refresh_children(id);
            self.wake_interested(id);
            // The value stays, so nodes that were waiting for its deletion are evaluated again.
            self.release_blocked(id);
        }
    }

    /// Records the desired value as applied and updates its derived values, after a comparison has found no difference.
    pub(super) fn settle(&mut self, id: NodeId) {
        let node = &self.graph[id];
        let (Some(applied), Some(desired), false) = (node.applied(), node.desired(), node.is_in_sync()) else {
            return;
        };
        let value = match self.domain.descriptor(&node.key) {
            Some(descriptor) => {
                let value = descriptor.as_applied(&node.key, Some(applied), desired);
                let dependencies = descriptor.dependencies(&node.key, &value);
                let edges = self.graph.resolve(id, dependencies);
                self.graph.set_edges(id, None, Some(edges));
                value
            }
            None => desired.clone(),
        };
        self.on(id, Event::Matched(value));
        self.graph[id].forget_error();
        self.release_blocked(id);
        self.unblock(id);
        self.refresh_children(id);
    }

    /// Sets the applied value. `event` constructs the lifecycle event, which says where the value comes from.
    pub(super) fn set_applied(&mut self, id: NodeId, value: D::Value, event: fn(D::Value) -> Event<D::Value>) {
        let domain = self.domain.clone();
        let key = &self.graph[id].key;
        if let Some(descriptor) = domain.descriptor(key) {
            let dependencies = descriptor.dependencies(key, &value);
            let edges = self.graph.resolve(id, dependencies);
            self.graph.set_edges(id, None, Some(edges));
            let claims = descriptor.claims(&self.graph[id].key, &value, &View::new(&self.graph));
            self.release_claims(id, &claims);
        }
        self.put_in_force(id, value, event);
    }

    /// Returns the claims that a node holds while this value is applied.
    pub(super) fn claims_of(&self, id: NodeId, value: &D::Value) -> Vec<Claim> {
        let key = &self.graph[id].key;
        let descriptor = self.domain.descriptor(key);
        descriptor.map_or_else(Vec::new, |descriptor| descriptor.claims(key, value, &View::new(&self.graph)))
    }

    /// Marks all values that use the same object as `value`, so that they are evaluated. `value` is the current or former applied
    /// value of `id`.
    fn mark_concerned(&mut self, id: NodeId, value: &D::Value) {
        for key in self.domain.concerned(&self.graph[id].key, value, &View::new(&self.graph)) {
            if let Some(concerned) = self.graph.find(&key) {
                self.mark(concerned);
            }
        }
    }

    fn put_in_force(&mut self, id: NodeId, value: D::Value, event: fn(D::Value) -> Event<D::Value>) {
        self.forgive_damage_by(id);
        self.mark_concerned(id, &value);
        self.on(id, event(value));
        let node = &mut self.graph[id];
        node.forget_error();
        if node.last_operation == Verb::Delete {
            // The value was not applied by an operation of its own: it was observed in the kernel, or created along with another
            // value.
            node.last_operation = Verb::Undefined;
        }
        self.unblock(id);
        self.release_blocked(id);
        self.refresh_children(id);
        self.mark(id);
        self.wake_interested(id);
    }

    /// Like [`Self::set_applied`], but for the desired value. Its dependencies are already resolved.
    pub(super) fn set_applied_as_desired(&mut self, id: NodeId, value: D::Value) {
        let node = &self.graph[id];
        let edges = node.edges.clone();
        let claims = self.claims_of(id, &value);
        self.graph.set_edges(id, None, Some(edges));
        self.release_claims(id, &claims);
        self.put_in_force(id, value, Event::AppliedAsDesired);
    }

    pub(super) fn clear_applied(&mut self, id: NodeId) {
        let former = self.graph[id].applied().cloned();
        self.on(id, Event::Gone);
        let parent = self.graph[id].parent;
        self.release_blocked(id);
        self.unblock(id);
        self.graph.set_edges(id, None, Some(Edges::default()));
        self.release_claims(id, &[]);
        self.refresh_children(id);
        if self.graph[id].rejected().is_some() {
            // The value is no longer applied, so the values that it implied (such as its namespace) are no longer desired.
            self.desired_changed(id);
        }
        self.mark(id);
        self.wake_interested(id);
        parent.into_iter().for_each(|id| self.mark(id));
        if let Some(former) = former {
            self.mark_concerned(id, &former);
        }
    }

    /// Processes a lifecycle event of a value.
    pub(super) fn on(&mut self, id: NodeId, event: Event<D::Value>) {
        let node = &mut self.graph[id];
        if let Err(defect) = node.on(event) {
            if CHECKED {
                panic!("{}: {defect}", node.key);
            }
            let what = format!("{defect}: {}", node.key);
            self.defect(what);
        }
    }

    /// Records a defect.
    pub(super) fn defect(&mut self, what: String) {
        self.tracker.statistics.defects += 1;
        self.defects.push(what);
    }

    /// Releases every claim that is not in `keep`, and evaluates the nodes that were waiting for one of the released claims.
    pub(super) fn release_claims(&mut self, id: NodeId, keep: &[Claim]) {
        for waiter in self.graph.release_claims(id, keep) {
            if let Some(node) = self.graph.get(waiter) {
                if node.blocked.as_deref().is_some_and(Blocked::is_conflict) {
                    self.unblock(waiter);
                }
                self.mark(waiter);
            }
        }
    }

    /// Makes the derived values match the applied value. A value that is being deleted has no derived values.
    pub(super) fn refresh_children(&mut self, id: NodeId) {
        let node = &self.graph[id];
        let derived = match (node.applied(), self.domain.descriptor(&node.key)) {
            (Some(applied), Some(descriptor)) if !node.is_terminating() => descriptor.derived(&node.key, applied),
            _ => Vec::new(),
        };
        if derived.is_empty() && node.children.is_empty() {
            return;
        }
        let mut obsolete: Vec<NodeId> = node.children.iter().copied().collect();
        for (key, value) in derived {
            let known = obsolete.iter().take(FEW).find(|child| self.graph[**child].key == key);
            let child = known.copied().unwrap_or_else(|| self.graph.obtain(&key));
            let node = &mut self.graph[child];
            if node.desire.requested.is_some() || node.parent.is_some_and(|parent| parent != id) || child == id {
                continue;
            }
            obsolete.retain(|obsolete| *obsolete != child);
            // A block caused by drift is always kept. A back-off is kept only if the derived value is unchanged.
            let descriptor = self.domain.descriptor(&key).filter(|_| node.blocked.is_some());
            let same = (node.desire.derived.as_ref().zip(descriptor)).is_some_and(|(old, descriptor)| {
                let old = descriptor.as_applied(&key, None, old);
                descriptor.compare(&key, &old, &value).is_same()
            });
            let is_kept = |blocked: &mut Box<Blocked>| blocked.is_about_drift() || same && blocked.until().is_some();
            let (kept, attempts) = (node.blocked.take_if(is_kept), node.attempts);
            node.desire.derived = Some(value);
            if node.parent.replace(id).is_none() {
                self.graph.forget_cycles(child);
            }
            self.graph[id].children.insert(child);
            self.desired_changed(child);
            if kept.is_some() {
                self.graph[child].attempts = attempts;
                self.graph[child].blocked = kept;
                self.wake(child);
            }
        }
        for child in obsolete {
            if !self.is_left_damaged(id, child) {
                self.abandon_child(child);
            }
        }
    }

    /// Returns whether a child is derived from the desired value, but was damaged and is currently not repaired.
    ///
    /// The damage is the only reason why the child is missing from the values derived from the applied value.
    fn is_left_damaged(&self, id: NodeId, child: NodeId) -> bool {
        let node = &self.graph[id];
        let is_damaged = self.graph[child].blocked.as_deref().is_some_and(Blocked::is_about_drift) && !node.is_terminating();
        let desired = self.domain.descriptor(&node.key).zip(node.desired().filter(|_| is_damaged));
        desired.is_some_and(|(descriptor, desired)| {
            let mut derived = descriptor.derived(&node.key, desired).into_iter();
            derived.any(|(key, _)| key == self.graph[child].key)
        })
    }

    pub(super) fn abandon_child(&mut self, child: NodeId) {
        if self.graph[child].desire.derived.take().is_some() {
            self.desired_changed(child);
        }
        self.mark(child);
    }

    /// Unlinks a child that no longer exists from its parent, and drops the node if nothing needs it.
    ///
    /// A child stays linked until it has been deleted, so that the parent can wait for the deletion.
    pub(super) fn retire(&mut self, id: NodeId) {
        let node = &mut self.graph[id];
        if node.desire.derived.is_none()
            && !node.present()
            && let Some(parent) = node.parent.take()
        {
            self.graph.forget_cycles(id);
            self.graph[parent].children.remove(&id);
            self.mark(parent);
        }
        self.graph.drop_unused(id);
    }

    /// Updates dependencies and implied values after a change of the desired value.
    pub(super) fn desired_changed(&mut self, id: NodeId) {
        self.unblock(id);
        self.on(id, Event::DesireChanged);
        self.graph[id].forget_error();
        if let Some(in_flight) = &mut self.graph[id].in_flight {
            in_flight.action.supersede();
            in_flight.notified = true;
        }
        let node = &self.graph[id];
        let descriptor = self.domain.descriptor(&node.key);
        let (dependencies, implied) = match (node.basis(), descriptor) {
            (Some(value), Some(descriptor)) => (descriptor.dependencies(&node.key, value), descriptor.implied(&node.key, value)),
            _ => (Vec::new(), Vec::new()),
        };
        let edges = self.graph.resolve(id, dependencies);
        self.graph.set_edges(id, Some(edges), None);
        let mut implies = NodeSet::default();
        for (key, value) in implied {
            let known = self.graph[id]
                .implies
                .iter()
                .take(FEW)
                .find(|target| self.graph[**target].key == key);
            let target = known.copied().unwrap_or_else(|| self.graph.obtain(&key));
            implies.insert(target);
            if let Some(implied) = &mut self.graph[target].desire.implied {
                implied.by.insert(id);
            } else {
                let by = NodeSet::from_iter([id]);
                self.graph[target].desire.implied = Some(Box::new(Implied { value, by }));
                self.desired_changed(target);
            }
        }
        let before = std::mem::take(&mut self.graph[id].implies);
        for target in before.iter().filter(|target| !implies.contains(target)) {
            if let Some(node) = self.graph.get_mut(*target)
                && let Some(implied) = &mut node.desire.implied
            {
                implied.by.remove(&id);
                if implied.by.is_empty() {
                    node.desire.implied = None;
                    self.desired_changed(*target);
                }
            }
        }
        self.graph[id].implies = implies;
        self.mark(id);
        let node = &self.graph[id];
        if let (Some(_), Some(applied)) = (node.desired(), node.applied()) {
            let applied = applied.clone();
            self.mark_concerned(id, &applied);
        }
        let stays = self.graph[id].available();
        self.notify_around(id, if stays { Notify::Restless } else { Notify::Changed });
    }

    pub(super) fn unblock(&mut self, id: NodeId) {
        let node = &mut self.graph[id];
        node.attempts = 0;
        if let Some(until) = node.blocked.take().and_then(|blocked| blocked.until()) {
            self.queue.cancel(until, id);
        }
    }

    /// Marks the nodes that were waiting for this node to be deleted or changed, so that they are evaluated.
    pub(super) fn release_blocked(&mut self, id: NodeId) {
        let Some(rare) = self.graph[id].rare_mut() else { return };
        let waiting = std::mem::take(&mut rare.blocks);
        waiting.iter().for_each(|waiting| self.mark(*waiting));
    }

    pub(super) fn mark(&mut self, id: NodeId) {
        self.queue.mark(&mut self.graph, id);
    }

    /// Makes a node wait for operations in flight.
    pub(super) fn await_in_flight(&mut self, id: NodeId) {
        self.queue.await_in_flight(&mut self.graph, id);
    }

    /// Ends the evaluation of a node, and records its state if nothing is left to do for it.
    pub(super) fn leave(&mut self, id: NodeId) {
        if self.queue.is_last(&self.graph, id) {
            self.note(id);
        }
        self.queue.leave(&mut self.graph, id);
        self.graph[id].shed_rare();
        self.graph.drop_unused(id);
    }

    /// Notifies the dependents of a node that the node's availability may have changed.
    pub(super) fn mark_interested(&mut self, id: NodeId) {
        self.graph.note_availability(id);
        self.notify_around(id, Notify::All);
    }

    /// Like [`Self::mark_interested`], for a node whose availability or value has definitely changed. Blocked dependents are
    /// retried.
    fn wake_interested(&mut self, id: NodeId) {
        self.graph.note_availability(id);
        self.notify_around(id, Notify::Changed);
    }

    fn notify_around(&mut self, id: NodeId, whom: Notify) {
        self.queue.notify_dependents(&mut self.graph, id, whom);
        let prefixes = std::mem::take(&mut self.graph[id].prefixes);
        prefixes
            .iter()
            .for_each(|prefix| self.queue.notify_dependents(&mut self.graph, *prefix, whom));
        self.graph[id].prefixes = prefixes;
    }

    pub(super) fn mark_notified(&mut self) {
        let notified = self.queue.take_notified();
        for (hub, txn) in notified.iter().copied() {
            let whom = self.queue.spread(&mut self.graph, hub, txn);
            if whom != Notify::No {
                // The set can be taken out of the node for the loop, because marking does not change the set of dependents.
                let dependents = std::mem::take(&mut self.graph[hub].dependents);
                for dependent in &dependents {
                    if whom == Notify::Changed {
                        self.wake(*dependent);
                    }
                    if whom >= Notify::All || !self.graph.get(*dependent).is_some_and(Node::at_rest) {
                        self.mark(*dependent);
                    }
                }
                self.graph[hub].dependents = dependents;
            }
            self.queue.spread_over(txn);
        }
        self.queue.give_back(notified);
    }

    /// Returns the base value from which a node is derived, directly or indirectly, or the node itself if it is not derived.
    pub(super) fn base_of(&self, id: NodeId) -> NodeId {
        let mut base = id;
        while let Some(parent) = self.graph[base].parent {
            base = parent;
        }
        base
    }
}
