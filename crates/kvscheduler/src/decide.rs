//! The decisions: what happens to a value next.
//!
//! Owns the choice, as pure questions; `scheduler` asks them and `carry_out` does what was chosen. Must never change anything, nor ask for
//! anything but the present state: no decision depends on how that state came about. Start reading at `Scheduler::decide`.

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

/// What is to happen to a node.
pub(super) enum Decision {
    /// Nothing to do, or something else must happen first.
    Stay,
    /// Applied and wanted are the same.
    Settle,
    /// Take it down, and what hangs on it first.
    Close,
    /// As [`Decision::Close`], because dependencies are not met.
    CloseUnready,
    /// Another member of its dependency cycle is created first.
    After(NodeId),
    /// Nobody wants it any more, and a failed creation may have left something.
    ClearAway,
    Create,
    Update,
}

impl<D: Domain> Scheduler<D> {
    /// What is to happen to a value, from the present state alone.
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
                Desired::Value(_) if self.is_outdated(id, value) => Decision::Close,
                _ if !self.graph.satisfied(id, &node.applied_edges) => Decision::CloseUnready,
                Desired::Rejected(_) => Decision::Stay,
                Desired::Value(desired) => self.decide_change(id, value, desired, *agreement),
            },
        }
    }

    /// Of a value that does not exist.
    fn decide_creation(&self, id: NodeId) -> Decision {
        let node = &self.graph[id];
        let lingering = node.children.iter().any(|child| self.graph[*child].present());
        // A conflict ends with every look.
        let blocked = node.blocked.as_deref().is_some_and(|blocked| !blocked.is_conflict());
        let unimplemented = node.desire.requested.is_some() && self.domain.descriptor(&node.key).is_none();
        if node.wanted().is_none() || lingering || blocked || unimplemented {
            return Decision::Stay;
        }
        match self.graph.readiness(id) {
            Readiness::Ready => Decision::Create,
            Readiness::After(leader) => Decision::After(leader),
            Readiness::Unready => Decision::Stay,
        }
    }

    /// Of a value that exists and has all that it needs.
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

    /// Something that it depends on made it obsolete, and is not left alone because others did that.
    fn is_outdated(&self, id: NodeId, value: &D::Value) -> bool {
        let node = &self.graph[id];
        let drifted = node.blocked.as_deref().is_some_and(Blocked::is_about_drift);
        let descriptor = self.domain.descriptor(&node.key);
        descriptor.is_some_and(|descriptor| descriptor.stale(&node.key, value, &View::new(&self.graph)))
            && !drifted
            && !self.rests_on_drifted(id)
    }

    /// Something that it depends on is damaged and left so.
    fn rests_on_drifted(&self, id: NodeId) -> bool {
        let mut targets = self.graph[id].applied_edges.iter().filter_map(Edge::key_target);
        targets.any(|target| self.is_left_drifted(target))
    }

    /// Found in the kernel, not confirmed yet, and waiting for something that may only not have been told yet.
    pub(super) fn may_be_missing_a_late_fact(&self, id: NodeId) -> bool {
        !self.graph.facts_settled
            && self.unmet_chain_has(id, |scheduler, target| scheduler.domain.is_late_fact(&scheduler.graph[target].key))
    }

    /// Found in the kernel, not confirmed yet, and what it lacks may still come: it is being made, is about to be, could not be
    /// for now, or is a fact that has not been told. Taking it down would interrupt what works for want of knowledge. What somebody
    /// else's object keeps out is not coming: nobody can tell when that goes, if ever.
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

    /// Whether `found` holds for a value that a found value lacks, directly or through what that value lacks in turn.
    ///
    /// A dependency on any of several follows each of them, except if another value waits for the found one to be deleted: one of
    /// the several may in turn wait for that deletion.
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
                targets.extend(choices.filter(|choice| self.graph[*choice].wanted().is_some() && !self.graph[*choice].is_terminating()));
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

    /// A value that it would be created on was found and is held back, for something else than this one: it may have to go, and this one
    /// with it.
    pub(super) fn rests_on_held_back(&self, id: NodeId) -> bool {
        let may_go = |target: NodeId| {
            self.queue.held_back().contains(&target)
                && self.graph[target].is_discovered()
                && !self.unmet_chain_has(target, |_, unmet| unmet == id)
        };
        let mut edges = self.graph[id].edges.iter();
        !self.queue.held_back().is_empty()
            && edges.any(|edge| match &edge.on {
                Target::Key(target) => may_go(*target),
                Target::AnyOf(any) => self.graph.satisfying(any).all(may_go),
            })
    }

    /// What has not been looked at yet may hold a claim of a value that is to be created.
    pub(super) fn claims_may_be_held(&self, id: NodeId) -> bool {
        let node = &self.graph[id];
        let descriptor = self.domain.descriptor(&node.key).zip(node.wanted());
        descriptor.is_some_and(|(descriptor, wanted)| descriptor.claims_may_be_held(&node.key, wanted, &View::new(&self.graph)))
    }

    /// A value was in the way of another when all that this one needs was there; now something it needs is missing.
    pub(super) fn is_refusal_moot(&self, id: NodeId) -> bool {
        let node = &self.graph[id];
        let refused = node.blocked.as_deref().is_some_and(Blocked::is_conflict);
        refused && node.applied().is_none() && !self.graph.satisfied(id, &node.edges)
    }
}
