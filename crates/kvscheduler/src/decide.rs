//! Decides what to do with a value next, based only on the current state.
//!
//! The functions in this module do not change anything. `scheduler` calls them, and `carry_out` carries out their decisions.

use std::collections::BTreeSet;

use super::{
    blocked::Blocked,
    descriptor::Domain,
    edge::{Edge, Target},
    lifecycle::{Agreement, Lifecycle},
    node::Desired,
    nodes::NodeId,
    readiness::Readiness,
    scheduler::Scheduler,
    status::Verb,
    view::View,
};

/// Decision about what to do with a value next.
pub(super) enum Decision {
    /// Do nothing now.
    Stay,
    /// Record that the applied value matches the desired one.
    Settle,
    /// Delete the value after everything that depends on it has been deleted.
    Close,
    /// Delete the value because a changed dependency made it obsolete. The deletion takes place even if the dependency changes
    /// back. By then, the kernel may have removed the object of the value along with the object of the dependency.
    Replace,
    /// Delete the value because its dependencies are not met.
    CloseUnready,
    /// Create this other member of the dependency cycle first.
    After(NodeId),
    /// Remove the parts that a failed creation may have left in the kernel.
    ClearAway,
    Create,
    Update,
}

impl<D: Domain> Scheduler<D> {
    /// Decides what to do with a value, based only on the current state.
    pub(super) fn decide(&self, id: NodeId) -> Decision {
        let node = &self.graph[id];
        match node.lifecycle() {
            Lifecycle::Fact(_) => Decision::Stay,
            Lifecycle::Partial { .. } if self.is_in_the_way(id) => match node.blocked.as_deref() {
                Some(blocked) if node.last_operation == Verb::Delete && !blocked.is_conflict() => self.decide_creation(id),
                _ => Decision::ClearAway,
            },
            Lifecycle::Absent | Lifecycle::Partial { .. } => self.decide_creation(id),
            Lifecycle::Present { value, agreement, fate } => match node.desire.resolve() {
                _ if fate.is_obsolete() => Decision::Close,
                Desired::Nothing => Decision::Close,
                Desired::Value(_) if self.is_outdated(id, value) => Decision::Replace,
                _ if !self.graph.satisfied(id, &node.applied_edges) => Decision::CloseUnready,
                Desired::Rejected(_) => Decision::Stay,
                Desired::Value(desired) => self.decide_change(id, value, desired, *agreement),
            },
        }
    }

    /// Decides what to do with a value that is not applied.
    fn decide_creation(&self, id: NodeId) -> Decision {
        let node = &self.graph[id];
        let lingering = node.children.iter().any(|child| self.graph[*child].present());
        // A conflict does not prevent another attempt, because each attempt checks for conflicts again.
        let blocked = node.blocked.as_deref().is_some_and(|blocked| !blocked.is_conflict());
        let unimplemented = node.desire.requested.is_some() && self.domain.descriptor(&node.key).is_none();
        if node.desired().is_none() || lingering || blocked || unimplemented {
            return Decision::Stay;
        }
        match self.graph.readiness(id) {
            Readiness::Ready => Decision::Create,
            Readiness::After(leader) => Decision::After(leader),
            Readiness::Unready => Decision::Stay,
        }
    }

    /// Decides what to do with a value that is applied and whose dependencies are met.
    fn decide_change(&self, id: NodeId, value: &D::Value, desired: &D::Value, agreement: Agreement) -> Decision {
        let node = &self.graph[id];
        let Some(descriptor) = self.domain.descriptor(&node.key) else {
            return Decision::Settle;
        };
        if agreement != Agreement::InSync && !self.graph.satisfied(id, &node.edges) {
            return Decision::CloseUnready;
        }
        let comparison = descriptor.compare(&node.key, value, desired);
        if comparison.is_same() {
            return Decision::Settle;
        }
        let blocked = node.blocked.as_deref();
        if comparison.needs_recreate() && !blocked.is_some_and(Blocked::is_about_drift) {
            return Decision::Close;
        }
        match blocked {
            Some(blocked) if !blocked.is_conflict() => Decision::Stay,
            _ => Decision::Update,
        }
    }

    /// Returns whether the applied value is obsolete because a dependency has changed.
    ///
    /// Returns `false` if the value or one of its dependencies was changed by another program and must not be repaired now.
    fn is_outdated(&self, id: NodeId, value: &D::Value) -> bool {
        let node = &self.graph[id];
        let drifted = node.blocked.as_deref().is_some_and(Blocked::is_about_drift);
        let descriptor = self.domain.descriptor(&node.key);
        descriptor.is_some_and(|descriptor| descriptor.stale(&node.key, value, &View::new(&self.graph)))
            && !drifted
            && !self.rests_on_drifted(id)
    }

    /// Returns whether a dependency was changed by another program and must not be repaired.
    fn rests_on_drifted(&self, id: NodeId) -> bool {
        let mut targets = self.graph[id].applied_edges.iter().filter_map(Edge::key_target);
        targets.any(|target| self.is_left_drifted(target))
    }

    /// Returns whether a missing dependency of an observed value may be a fact that has not been reported yet.
    ///
    /// Returns `false` for a value that the agent created or has already found to match the desired value.
    pub(super) fn may_be_missing_a_late_fact(&self, id: NodeId) -> bool {
        !self.graph.facts_complete
            && self.unmet_chain_has(id, |scheduler, target| scheduler.domain.is_late_fact(&scheduler.graph[target].key))
    }

    /// Returns whether the deletion of a value is deferred because its missing dependencies may still become available.
    ///
    /// The deletion of an observed value would remove a working object. It is therefore deferred while a missing dependency is in
    /// flight, ready or backing off, or is a fact that has not been reported yet. A dependency that is blocked by a foreign
    /// object does not defer the deletion, because that object may stay forever. The deletion is also deferred if the kernel
    /// keeps the value although other programs damaged its dependencies.
    pub(super) fn may_still_come(&self, id: NodeId) -> bool {
        self.may_be_missing_a_late_fact(id)
            || self.outlives_damage(id)
            || self.unmet_chain_has(id, |scheduler, target| {
                let node = &scheduler.graph[target];
                let coming = node.in_flight.is_some() || node.place.is_ready();
                coming
                    || matches!(
                        node.blocked.as_deref(),
                        Some(Blocked::BackOff { foreign: false, .. } | Blocked::Contended { .. })
                    )
            })
    }

    /// Searches the missing dependencies (direct and transitive) of an observed value. Returns whether `found` returns `true` for
    /// any of them.
    ///
    /// The search also covers values that could satisfy an any-of dependency. It skips these values if the observed value is
    /// being deleted or if another value waits for this deletion, because they may be waiting for the deletion too.
    fn unmet_chain_has(&self, id: NodeId, found: impl Fn(&Self, NodeId) -> bool) -> bool {
        let node = &self.graph[id];
        if !node.is_discovered() {
            return false;
        }
        let follows_choices = !node.is_terminating() && node.rare().is_none_or(|rare| rare.blocks.is_empty());
        let (mut seen, mut stack) = (BTreeSet::from([id]), vec![id]);
        while let Some(id) = stack.pop() {
            let mut targets = self.graph.unmet_key_targets(id);
            if follows_choices {
                let choices = self.graph.unmet_choices(id).into_iter();
                targets.extend(choices.filter(|choice| self.graph[*choice].desired().is_some() && !self.graph[*choice].is_terminating()));
            }
            for target in targets {
                if found(self, target) {
                    return true;
                }
                if seen.insert(target) {
                    stack.push(target);
                }
            }
        }
        false
    }

    /// Returns whether `id` depends on an observed value with a deferred deletion. Ignores deletions that are deferred because of
    /// `id` itself.
    ///
    /// The observed value may still be deleted, and `id` would have to be deleted with it.
    pub(super) fn rests_on_deferred(&self, id: NodeId) -> bool {
        let may_go = |target: NodeId| {
            self.queue.deferred().contains(&target)
                && self.graph[target].is_discovered()
                && !self.unmet_chain_has(target, |_, unmet| unmet == id)
        };
        let mut edges = self.graph[id].edges.iter();
        !self.queue.deferred().is_empty()
            && edges.any(|edge| match &edge.on {
                Target::Key(target) => may_go(*target),
                Target::AnyOf(any) => self.graph.satisfying(any).all(may_go),
            })
    }

    /// Returns whether an object that has not been read yet may hold a claim that the creation of the value needs.
    pub(super) fn claims_may_be_held(&self, id: NodeId) -> bool {
        let node = &self.graph[id];
        let descriptor = self.domain.descriptor(&node.key).zip(node.desired());
        descriptor.is_some_and(|(descriptor, desired)| descriptor.claims_may_be_held(&node.key, desired, &View::new(&self.graph)))
    }

    /// Returns whether a conflict no longer matters, because a dependency of the value is now missing.
    pub(super) fn is_refusal_moot(&self, id: NodeId) -> bool {
        let node = &self.graph[id];
        let refused = node.blocked.as_deref().is_some_and(Blocked::is_conflict);
        refused && node.applied().is_none() && !self.graph.satisfied(id, &node.edges)
    }
}
