//! Drift: changes that other programs make to applied values. They are repaired immediately, repaired later, or only reported.
//!
//! This module tracks which values are damaged and how often, and blocks repairs that have to wait. `decide` repairs all damaged
//! values that are not blocked.
//!
//! A value that is damaged again soon after its repair is in contention. The first repairs are immediate, and further ones follow
//! after delays that double. Contention ends when the value has stayed intact for some time, when its namespace is opened again,
//! or when the value is put again.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use super::{
    blocked::{Blocked, Reason},
    descriptor::{Domain, Key},
    edge::{Edge, Target},
    nodes::NodeId,
    scheduler::Scheduler,
};

/// Reason reported for a value whose repair is delayed because other programs keep changing it.
pub(super) const CONTENDED: &str = "Contended";
/// Reason reported for a value that another program changed and that must not be repaired.
pub(super) const DRIFTED: &str = "Drifted";

/// Number of repairs that are made without delay when contention starts.
const AT_ONCE: u32 = 3;
/// Delay of the first delayed repair. The delay doubles with each further repair.
const FIRST_DELAY: Duration = Duration::from_secs(1);
/// Longest repair delay.
const LONGEST_DELAY: Duration = Duration::from_secs(60);
/// Minimum time without damage before contention ends. The actual time is at least twice the last repair delay.
const CALM: Duration = Duration::from_secs(10);

/// Damaged values, and the contention over them.
#[derive(Clone)]
pub(super) struct Drift<K> {
    /// Desired values that other programs changed or removed. A value stays in this set until it matches the desired value again.
    damaged: BTreeSet<NodeId>,
    /// Keys of the damaged values and of the values derived from them.
    coming: BTreeSet<K>,
    /// Damaged values found by the current observation. `fresh_keys` contains their keys and the keys of the values derived from
    /// them.
    fresh: BTreeSet<NodeId>,
    fresh_keys: BTreeSet<K>,
    /// True if a value was removed from `damaged` since `coming` was last computed. `coming` may then contain obsolete keys.
    shrunk: bool,
    /// State of the contention over each recently damaged value.
    contentions: BTreeMap<NodeId, Contention>,
}

impl<K> Drift<K> {
    pub fn new() -> Self {
        Drift {
            damaged: BTreeSet::new(),
            coming: BTreeSet::new(),
            fresh: BTreeSet::new(),
            fresh_keys: BTreeSet::new(),
            shrunk: false,
            contentions: BTreeMap::new(),
        }
    }
}

/// Recent damage to one value.
#[derive(Clone)]
struct Contention {
    times: u32,
    first: Duration,
    last: Duration,
    /// Delay of the next repair.
    delay: Duration,
}

impl Contention {
    fn is_over(&self, now: Duration) -> bool {
        now > self.last + CALM.max(2 * self.delay)
    }
}

impl<D: Domain> Scheduler<D> {
    /// Records damage to a value, and decides whether and for how long the repair must be blocked.
    ///
    /// `found` is the value read from the kernel, or `None` if the value disappeared. The caller must pass the result to
    /// [`Self::back_off_damaged`] after it has recorded the observation.
    pub(super) fn judge_damage(&mut self, id: NodeId, found: Option<&D::Value>) -> Option<Blocked> {
        let node = &self.graph[id];
        let (key, was_whole) = (node.key.clone(), node.is_in_sync());
        if let Some(hold) = node.blocked.as_deref().filter(|hold| hold.is_about_drift()) {
            return Some(hold.clone());
        }
        self.note_damaged(id);
        let base = &self.graph[self.base_of(id)];
        if !was_whole || base.desire.requested.is_none() {
            return None;
        }
        let is_repaired = base.desired().is_none_or(|value| self.domain.is_repaired(&base.key, value));
        let name = self.domain.name(&key);
        let what = self.difference(id, found);
        if !is_repaired {
            let message = format!(
                "{name} differs from the desired value: {what}; not repaired because drift_policy is REPORT; put the value again to \
                 re-apply it"
            );
            return Some(Blocked::Drifted(Reason { name: DRIFTED, message }));
        }
        if self.is_collateral(id) {
            return None;
        }
        let now = self.now;
        let contention = self.drift.contentions.entry(id).or_insert(Contention {
            times: 0,
            first: now,
            last: now,
            delay: Duration::ZERO,
        });
        if contention.is_over(now) {
            (contention.times, contention.first) = (0, now);
        }
        (contention.times, contention.last) = (contention.times.saturating_add(1), now);
        let doublings = contention.times.checked_sub(AT_ONCE + 1);
        let delay = doublings.map(|doublings| FIRST_DELAY.saturating_mul(1 << doublings.min(16)).min(LONGEST_DELAY));
        contention.delay = delay.unwrap_or_default();
        let (times, seconds) = (contention.times, (now - contention.first).as_secs().max(1));
        delay.map(|delay| Blocked::Contended {
            until: now + delay,
            reason: Reason { name: CONTENDED, message: format!(
                "another program keeps changing {name}: {times} times within {seconds} s, most recent change: {what}; next repair in {} \
                 s, or at once when the value is put again; the kernel does not report which program makes the changes: look for another \
                 network manager or a program in that namespace",
                delay.as_secs()
            )},
        })
    }

    /// Records a value as damaged. It counts as damaged until it matches the desired value again.
    ///
    /// Has no effect if the value is already blocked because of drift.
    pub(super) fn note_damaged(&mut self, id: NodeId) {
        if self.graph[id].blocked.as_deref().is_none_or(|hold| !hold.is_about_drift()) && self.drift.damaged.insert(id) {
            let coming = self.keys_of(id);
            self.drift.coming.extend(coming);
        }
    }

    /// Like [`Self::note_damaged`], for damage found by the current observation.
    pub(super) fn note_fresh_damage(&mut self, id: NodeId) {
        self.note_damaged(id);
        if self.drift.fresh.insert(id) {
            let keys = self.keys_of(id);
            self.drift.fresh_keys.extend(keys);
        }
    }

    /// Ends the current observation. The damage that it found no longer counts as fresh.
    pub(super) fn forget_fresh_damage(&mut self) {
        self.drift.fresh.clear();
        self.drift.fresh_keys.clear();
    }

    /// Returns whether the damage to a value is a consequence of damage to another value.
    ///
    /// The kernel removes routes and neighbours along with their address, or when the link is set down. This damage does not
    /// count as contention. Only damage found by the current observation is accepted as the cause, because older damage may
    /// persist for a long time.
    fn is_collateral(&self, id: NodeId) -> bool {
        let damaged = &self.drift.fresh;
        let parents = std::iter::successors(self.graph[id].parent, |parent| self.graph[*parent].parent);
        if parents.into_iter().any(|parent| damaged.contains(&parent)) {
            return true;
        }
        let own = &self.graph[id].key;
        let base = self.base_of(id);
        self.graph[id].applied_edges.iter().any(|edge| match &edge.on {
            Target::Key(target) => {
                let other = self.base_of(*target);
                // Two values that depend on each other can disappear together, such as the ends of a veth pair. Only one of them
                // counts as the cause.
                other != base
                    && self.is_family_damaged(other)
                    && !(self.graph[base].key < self.graph[other].key && self.rests_on(other, base))
            }
            Target::AnyOf(_) => self.is_met_by(&self.drift.fresh_keys, edge, |key| key != own),
        })
    }

    /// Returns whether the current observation found damage to a value or to a value derived from it.
    fn is_family_damaged(&self, id: NodeId) -> bool {
        self.drift.fresh.contains(&id) || self.graph[id].children.iter().any(|child| self.is_family_damaged(*child))
    }

    /// Returns whether `id` depends on `base` or on a value derived from `base`.
    fn rests_on(&self, id: NodeId, base: NodeId) -> bool {
        let mut targets = self.graph[id].applied_edges.iter().filter_map(Edge::key_target);
        targets.any(|target| self.base_of(target) == base)
    }

    fn difference(&self, id: NodeId, found: Option<&D::Value>) -> String {
        let node = &self.graph[id];
        match (found, node.desired(), self.domain.descriptor(&node.key)) {
            (None, ..) => "deleted from the kernel".to_owned(),
            (Some(found), Some(desired), Some(descriptor)) => descriptor.compare(&node.key, found, desired).to_string(),
            _ => "changed in the kernel".to_owned(),
        }
    }

    /// Blocks the repair of a damaged value.
    pub(super) fn back_off_damaged(&mut self, id: NodeId, hold: Option<Blocked>) {
        let Some(hold) = hold else { return };
        if let Blocked::Contended { until, .. } = &hold {
            self.queue.at(*until, id);
            let seq = self.tracker.number(self.queue.current());
            self.graph[id].make_rare().failed_in = seq;
        }
        self.graph[id].blocked = Some(Box::new(hold));
        self.mark(id);
    }

    /// Returns whether a value has drifted and must not be repaired.
    pub(super) fn is_left_drifted(&self, id: NodeId) -> bool {
        matches!(self.graph[id].blocked.as_deref(), Some(Blocked::Drifted(_)))
    }

    /// Forgets the drift of a value and of the values derived from it, so that all of them are repaired immediately.
    pub(super) fn forget_drift(&mut self, id: NodeId) {
        self.drift.contentions.remove(&id);
        if self.graph[id].blocked.as_deref().is_some_and(Blocked::is_about_drift) {
            self.unblock(id);
            self.mark(id);
        }
        let children: Vec<NodeId> = self.graph[id].children.iter().copied().collect();
        children.into_iter().for_each(|child| self.forget_drift(child));
    }

    /// Unblocks all values derived from a value that was put again, and marks them for evaluation.
    pub(super) fn release_children(&mut self, id: NodeId) {
        let children: Vec<NodeId> = self.graph[id].children.iter().copied().collect();
        for child in children {
            if self.graph[child].blocked.is_some() {
                self.unblock(child);
                self.mark(child);
            }
            self.release_children(child);
        }
    }

    /// Ends the contention over all values that disappeared together with a namespace. Called when the namespace is open again.
    ///
    /// The affected values are those in the namespace and those that depend on them, for example a veth peer in another
    /// namespace.
    pub(super) fn forgive_damage_by(&mut self, id: NodeId) {
        let Some(implied) = self.graph[id]
            .desire
            .implied
            .as_ref()
            .filter(|_| !self.drift.contentions.is_empty())
        else {
            return;
        };
        let mut concerned: BTreeSet<NodeId> = implied.by.iter().copied().collect();
        for by in implied.by.iter() {
            concerned.extend(self.graph[*by].dependents.iter().copied());
        }
        let contentions: Vec<NodeId> = self.drift.contentions.keys().copied().collect();
        for id in contentions {
            if self.graph.get(id).is_some() && concerned.contains(&self.base_of(id)) {
                self.forget_drift(id);
            }
        }
    }

    /// Forgets the damage to a value after the agent itself has deleted the value.
    ///
    /// Dependents of a damaged value stay in place until the value is repaired. Without this call, they would stay forever if
    /// the value could not be created again.
    pub(super) fn forget_damage(&mut self, id: NodeId) {
        self.drift.shrunk |= self.drift.damaged.remove(&id);
    }

    /// Forgets damage that has been repaired, and contention that has ended.
    pub(super) fn forget_repaired(&mut self) {
        let (graph, now) = (&self.graph, self.now);
        self.drift
            .contentions
            .retain(|id, contention| graph.get(*id).is_some() && !contention.is_over(now));
        let before = self.drift.damaged.len();
        self.drift.damaged.retain(|id| {
            let damaged = |node: &super::node::Node<D>| node.desired().is_some() && !node.is_in_sync();
            graph.get(*id).is_some_and(damaged)
        });
        if std::mem::take(&mut self.drift.shrunk) || self.drift.damaged.len() < before {
            self.drift.coming = self.drift.damaged.iter().flat_map(|id| self.keys_of(*id)).collect();
        }
    }

    /// Returns the key of a value and the keys of the values derived from its desired value.
    fn keys_of(&self, id: NodeId) -> Vec<D::Key> {
        let node = &self.graph[id];
        let derived = match (node.desired(), self.domain.descriptor(&node.key)) {
            (Some(desired), Some(descriptor)) => descriptor.derived(&node.key, desired),
            _ => Vec::new(),
        };
        let derived = derived.into_iter().map(|(key, _)| key);
        std::iter::once(node.key.clone()).chain(derived).collect()
    }

    /// Returns whether an applied value stays in place although some of its dependencies are missing.
    ///
    /// The value stays in place if the kernel keeps it and other programs have changed or removed every missing dependency.
    pub(super) fn outlives_damage(&self, id: NodeId) -> bool {
        // True if another value is waiting for this one to be deleted.
        let is_in_the_way = self.graph[id].rare().is_some_and(|rare| !rare.blocks.is_empty());
        // A deletion that has started continues, even if its first attempts failed.
        if self.drift.damaged.is_empty() || is_in_the_way || self.graph[id].is_terminating() {
            return false;
        }
        let edges = self.graph[id].applied_edges.iter();
        let mut unmet = edges.filter(|edge| !self.graph.edge_satisfied(id, edge)).peekable();
        unmet.peek().is_some() && unmet.all(|edge| edge.outlived && self.is_met_by(&self.drift.coming, edge, |_| true))
    }

    /// Returns whether a value under one of the `coming` keys would satisfy a dependency.
    ///
    /// For an any-of dependency, only keys for which `counts` returns `true` are considered.
    fn is_met_by(&self, coming: &BTreeSet<D::Key>, edge: &Edge<D::Key>, counts: impl Fn(&D::Key) -> bool) -> bool {
        match &edge.on {
            Target::Key(target) => coming.contains(self.graph[*target].key.text()),
            Target::AnyOf(any) => any.prefixes.iter().any(|prefix| {
                let prefix = &self.graph[*prefix].key;
                let below = coming
                    .range::<D::Key, _>(prefix..)
                    .take_while(|key| key.text().starts_with(prefix.text()));
                let mut below = below.filter(|key| counts(key));
                below.any(|key| any.predicate.as_ref().is_none_or(|passes| passes(key)))
            }),
        }
    }
}
