//! What others do to applied values: is it repaired at once, later, or only told?
//!
//! Owns which values are damaged and how often they were, and the holds that follow. Must never repair anything: `decide` does, as soon
//! as there is no hold. Start reading at [`Scheduler::judge_damage`].
//!
//! A value that is broken again soon after its repair is fought over: the first repairs are made at once, further ones after delays
//! that double. One that has stayed whole for a while is not fought over any more, nor is one whose namespace is opened anew or which
//! is asked for again.

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

/// Reason of a value that is left alone for a while because somebody breaks it again and again.
pub(super) const CONTENDED: &str = "Contended";
/// Reason of a value that is left as others made it.
pub(super) const DRIFTED: &str = "Drifted";

/// So many repairs are made at once.
const AT_ONCE: u32 = 3;
/// Delay of the first repair after those.
const FIRST_DELAY: Duration = Duration::from_secs(1);
/// Longest delay of a repair.
const LONGEST_DELAY: Duration = Duration::from_secs(60);
/// A value that stays whole for so long, and for twice its last delay, is not fought over any more.
const CALM: Duration = Duration::from_secs(10);

/// What is known of damage.
#[derive(Clone)]
pub(super) struct Drift<K> {
    /// Wanted values that vanished or were changed, and are not as wanted again yet.
    damaged: BTreeSet<NodeId>,
    /// Their keys and those of what is derived from them.
    coming: BTreeSet<K>,
    /// Values whose damage the present observation shows, and the keys as in `coming`.
    fresh: BTreeSet<NodeId>,
    fresh_keys: BTreeSet<K>,
    /// A value has left `damaged` and its keys may still be in `coming`.
    shrunk: bool,
    /// Values that were broken lately.
    fights: BTreeMap<NodeId, Fight>,
}

impl<K> Drift<K> {
    pub fn new() -> Self {
        Drift {
            damaged: BTreeSet::new(),
            coming: BTreeSet::new(),
            fresh: BTreeSet::new(),
            fresh_keys: BTreeSet::new(),
            shrunk: false,
            fights: BTreeMap::new(),
        }
    }
}

/// How often a value was broken.
#[derive(Clone)]
struct Fight {
    times: u32,
    first: Duration,
    last: Duration,
    /// Of the repair after the last time.
    delay: Duration,
}

impl Fight {
    fn is_over(&self, now: Duration) -> bool {
        now > self.last + CALM.max(2 * self.delay)
    }
}

impl<D: Domain> Scheduler<D> {
    /// A wanted value is not, or no longer, as it was applied: it became `found`, or vanished. Answers how it is to be held, which is to
    /// be passed to [`Self::hold_damaged`] when that has been taken over.
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
        let is_repaired = base.wanted().is_none_or(|value| self.domain.is_repaired(&base.key, value));
        let name = self.domain.name(&key);
        let what = self.difference(id, found);
        if !is_repaired {
            let message = format!(
                "{name} is not as it was asked for: {what}. It is left so, for the drift policy is to report; it is CONFIGURED again when \
                 this is undone, and applied when the value is put again"
            );
            return Some(Blocked::Drifted(Reason { name: DRIFTED, message }));
        }
        if self.is_collateral(id) {
            return None;
        }
        let now = self.now;
        let fight = self.drift.fights.entry(id).or_insert(Fight {
            times: 0,
            first: now,
            last: now,
            delay: Duration::ZERO,
        });
        if fight.is_over(now) {
            (fight.times, fight.first) = (0, now);
        }
        (fight.times, fight.last) = (fight.times.saturating_add(1), now);
        let doublings = fight.times.checked_sub(AT_ONCE + 1);
        let delay = doublings.map(|doublings| FIRST_DELAY.saturating_mul(1 << doublings.min(16)).min(LONGEST_DELAY));
        fight.delay = delay.unwrap_or_default();
        let (times, seconds) = (fight.times, (now - fight.first).as_secs().max(1));
        delay.map(|delay| Blocked::Contended {
            until: now + delay,
            reason: Reason { name: CONTENDED, message: format!(
                "somebody else changes or removes {name} again and again: {times} times within {seconds} s, at last: {what}. It is repaired \
                 again after {} s, and at once when the value is put again. The kernel does not tell who does it: look for another \
                 network manager or a program in that namespace",
                delay.as_secs()
            )},
        })
    }

    /// Notes that a value is damaged until it is as wanted again. One that is left alone for drift is noted already.
    pub(super) fn note_damaged(&mut self, id: NodeId) {
        if self.graph[id].blocked.as_deref().is_none_or(|hold| !hold.is_about_drift()) && self.drift.damaged.insert(id) {
            let coming = self.keys_of(id);
            self.drift.coming.extend(coming);
        }
    }

    /// As [`Self::note_damaged`], of damage that the present observation shows.
    pub(super) fn note_fresh_damage(&mut self, id: NodeId) {
        self.note_damaged(id);
        if self.drift.fresh.insert(id) {
            let keys = self.keys_of(id);
            self.drift.fresh_keys.extend(keys);
        }
    }

    /// The observation is over.
    pub(super) fn forget_fresh_damage(&mut self) {
        self.drift.fresh.clear();
        self.drift.fresh_keys.clear();
    }

    /// Whether the damage follows from that of another value, which the kernel takes it along with: routes and neighbours go with the
    /// address or when the link is set down. Only damage that somebody did to the value itself makes a fight of it. Damage of earlier
    /// observations excuses nothing: it may be left alone for a long time.
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
                // Of two values that go together, such as the ends of a pair, one is the cause.
                other != base
                    && self.is_family_damaged(other)
                    && !(self.graph[base].key < self.graph[other].key && self.rests_on(other, base))
            }
            Target::AnyOf(_) => self.is_met_by(&self.drift.fresh_keys, edge, |key| key != own),
        })
    }

    /// Whether the observation shows damage of a value or of something that is derived from it.
    fn is_family_damaged(&self, id: NodeId) -> bool {
        self.drift.fresh.contains(&id) || self.graph[id].children.iter().any(|child| self.is_family_damaged(*child))
    }

    /// Whether a value depends on another one or on something that is derived from it.
    fn rests_on(&self, id: NodeId, base: NodeId) -> bool {
        let mut targets = self.graph[id].applied_edges.iter().filter_map(Edge::key_target);
        targets.any(|target| self.base_of(target) == base)
    }

    fn difference(&self, id: NodeId, found: Option<&D::Value>) -> String {
        let node = &self.graph[id];
        match (found, node.wanted(), self.domain.descriptor(&node.key)) {
            (None, ..) => "it was removed".to_owned(),
            (Some(found), Some(wanted), Some(descriptor)) => descriptor.compare(&node.key, found, wanted).to_string(),
            _ => "it was changed".to_owned(),
        }
    }

    /// Leaves a damaged value alone.
    pub(super) fn hold_damaged(&mut self, id: NodeId, hold: Option<Blocked>) {
        let Some(hold) = hold else { return };
        if let Blocked::Contended { until, .. } = &hold {
            self.queue.at(*until, id);
            let seq = self.ledger.number(self.queue.current());
            self.graph[id].make_rare().failed_in = seq;
        }
        self.graph[id].blocked = Some(Box::new(hold));
        self.mark(id);
    }

    /// Whether a value that others left damaged is of no concern to repairs.
    pub(super) fn is_left_drifted(&self, id: NodeId) -> bool {
        matches!(self.graph[id].blocked.as_deref(), Some(Blocked::Drifted(_)))
    }

    /// The value is asked for anew: whatever others did to it and to what is derived from it is forgotten.
    pub(super) fn forget_drift(&mut self, id: NodeId) {
        self.drift.fights.remove(&id);
        if self.graph[id].blocked.as_deref().is_some_and(Blocked::is_about_drift) {
            self.release_hold(id);
            self.mark(id);
        }
        let children: Vec<NodeId> = self.graph[id].children.iter().copied().collect();
        children.into_iter().for_each(|child| self.forget_drift(child));
    }

    /// The value is asked for again: what failed of what is derived from it is tried at once.
    pub(super) fn release_children(&mut self, id: NodeId) {
        let children: Vec<NodeId> = self.graph[id].children.iter().copied().collect();
        for child in children {
            if self.graph[child].blocked.is_some() {
                self.release_hold(child);
                self.mark(child);
            }
            self.release_children(child);
        }
    }

    /// A namespace was opened anew: what it took with it when it went was nobody's fight, be it the other end of a link elsewhere.
    pub(super) fn forgive_damage_by(&mut self, id: NodeId) {
        let Some(implied) = self.graph[id].desire.implied.as_ref().filter(|_| !self.drift.fights.is_empty()) else {
            return;
        };
        let mut concerned: BTreeSet<NodeId> = implied.by.iter().copied().collect();
        for by in implied.by.iter() {
            concerned.extend(self.graph[*by].dependents.iter().copied());
        }
        let fights: Vec<NodeId> = self.drift.fights.keys().copied().collect();
        for id in fights {
            if self.graph.get(id).is_some() && concerned.contains(&self.base_of(id)) {
                self.forget_drift(id);
            }
        }
    }

    /// The agent itself has deleted a value: it is not missing because of others any more, and its dependents went with it. Keeping
    /// them until it is repaired would keep them for ever if its own dependencies are gone.
    pub(super) fn forget_damage(&mut self, id: NodeId) {
        self.drift.shrunk |= self.drift.damaged.remove(&id);
    }

    /// Forgets what is whole again, and fights that are over.
    pub(super) fn forget_repaired(&mut self) {
        let (graph, now) = (&self.graph, self.now);
        self.drift
            .fights
            .retain(|id, fight| graph.get(*id).is_some() && !fight.is_over(now));
        let before = self.drift.damaged.len();
        self.drift.damaged.retain(|id| {
            let damaged = |node: &super::node::Node<D>| node.wanted().is_some() && !node.is_in_sync();
            graph.get(*id).is_some_and(damaged)
        });
        if std::mem::take(&mut self.drift.shrunk) || self.drift.damaged.len() < before {
            self.drift.coming = self.drift.damaged.iter().flat_map(|id| self.keys_of(*id)).collect();
        }
    }

    /// The key of a value and those of what is derived from it when it is as wanted.
    fn keys_of(&self, id: NodeId) -> Vec<D::Key> {
        let node = &self.graph[id];
        let derived = match (node.wanted(), self.domain.descriptor(&node.key)) {
            (Some(wanted), Some(descriptor)) => descriptor.derived(&node.key, wanted),
            _ => Vec::new(),
        };
        let derived = derived.into_iter().map(|(key, _)| key);
        std::iter::once(node.key.clone()).chain(derived).collect()
    }

    /// All that an applied value lacks was damaged by others, and the kernel keeps the value without it: it stays as it is.
    pub(super) fn outlives_damage(&self, id: NodeId) -> bool {
        // What is being taken down waits for those that rest on it.
        let is_in_the_way = self.graph[id].rare().is_some_and(|rare| !rare.blocks.is_empty());
        // What has begun to go, perhaps without success so far, goes on.
        if self.drift.damaged.is_empty() || is_in_the_way || self.graph[id].is_terminating() {
            return false;
        }
        let edges = self.graph[id].applied_edges.iter();
        let mut unmet = edges.filter(|edge| !self.graph.edge_satisfied(id, edge)).peekable();
        unmet.peek().is_some() && unmet.all(|edge| edge.outlived && self.is_met_by(&self.drift.coming, edge, |_| true))
    }

    /// Whether one of the `coming` keys that counts meets a dependency.
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
