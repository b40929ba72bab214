//! Several sources of desired state, made one.
//!
//! Owns what each source asks for, and the rule which of them applies under a key. Must never decode a value, and never forget what
//! a source holds because another one holds something stronger. Start reading at [`Merge`].
//!
//! Sources are ranked by name: of two that hold the same key, the one whose name comes later in the alphabet applies. One source can
//! be preferred over all others, whatever its name. A source that lets go of a key uncovers what the next weaker one holds.

use std::{
    collections::{BTreeMap, BTreeSet},
    ops::Bound,
    sync::Arc,
};

use models::key::Key;

/// The store. Every name here is one by which users of the reference know the source.
pub const DATASYNC: &str = "datasync";
/// The configuration file. Its name makes it the weakest: the store says otherwise, as with the reference.
pub const CONFIG_FILE: &str = "config-file";
/// Clients of the gRPC and REST API that do not say another name.
pub const GRPC: &str = "grpc";
/// Values that the store lost without anybody deleting them. The weakest of all, whatever its name.
pub const HELD: &str = "held";

/// What all sources ask for. `V` is what applies under a key, and may say that a value cannot be used: that too is something that a
/// source holds, and it covers what weaker sources hold. Clones of `V` should be cheap; one is made for each change that is told.
pub struct Merge<V> {
    /// By source, weakest first; none is empty.
    held: BTreeMap<Rank, BTreeMap<Key, V>>,
    preferred: Option<String>,
    /// Sources that have not told their full state yet.
    awaited: BTreeSet<String>,
    begun: bool,
}

/// A source, ordered by strength.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
struct Rank {
    strength: Strength,
    name: Arc<str>,
}

/// What decides before the name.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
enum Strength {
    Held,
    Usual,
    Preferred,
}

/// What became different for whoever acts upon the desired state.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Update<V> {
    /// These are all values that are desired; true exactly once, of the first update that has something to say.
    pub full: bool,
    /// Keys and what applies under them now (`None`: nothing). Nothing that is as it was is told again.
    pub changes: Vec<(Key, Option<V>)>,
}

impl<V> Update<V> {
    /// Whether there is nothing to act upon.
    pub fn is_empty(&self) -> bool {
        !self.full && self.changes.is_empty()
    }
}

impl<V: Clone + PartialEq> Merge<V> {
    /// Nothing is held yet. Until each of `awaited` has told its full state once, nothing is told on: what only seems to be no longer
    /// desired, because a source is late, must not be taken down. `preferred` beats all others (`resync-data-source-override` of the
    /// reference).
    pub fn new<'a>(awaited: impl IntoIterator<Item = &'a str>, preferred: Option<&str>) -> Self {
        Merge {
            held: BTreeMap::new(),
            preferred: preferred.map(str::to_owned),
            awaited: awaited.into_iter().map(str::to_owned).collect(),
            begun: false,
        }
    }

    /// A source tells all that it asks for; what it asked for before and does not name is let go. Others keep theirs.
    pub fn replace(&mut self, source: &str, items: impl IntoIterator<Item = (Key, V)>) -> Update<V> {
        let rank = self.rank(source);
        let now: BTreeMap<Key, V> = items.into_iter().collect();
        let before = self.held.remove(&rank).unwrap_or_default();
        let mut changes = Vec::new();
        if self.begun {
            for (key, value) in now.iter().filter(|(key, _)| !self.covered(&rank, key)) {
                if before.get(key).or_else(|| self.weaker(&rank, key)) != Some(value) {
                    changes.push((key.clone(), Some(value.clone())));
                }
            }
            for (key, value) in before.iter().filter(|(key, _)| !now.contains_key(*key)) {
                changes.extend(self.uncover(&rank, key, value));
            }
        }
        if !now.is_empty() {
            self.held.insert(rank, now);
        }
        self.awaited.remove(source);
        self.update(changes)
    }

    /// A source tells what is different (`None`: it lets go of the key), in order.
    pub fn change(&mut self, source: &str, items: impl IntoIterator<Item = (Key, Option<V>)>) -> Update<V> {
        let rank = self.rank(source);
        let mut own = self.held.remove(&rank).unwrap_or_default();
        let mut changes = Vec::new();
        for (key, value) in items {
            match value {
                Some(value) => {
                    let before = own.get(&key).or_else(|| self.weaker(&rank, &key));
                    if self.begun && before != Some(&value) && !self.covered(&rank, &key) {
                        changes.push((key.clone(), Some(value.clone())));
                    }
                    own.insert(key, value);
                }
                None => {
                    if let Some(value) = own.remove(&key)
                        && self.begun
                    {
                        changes.extend(self.uncover(&rank, &key, &value));
                    }
                }
            }
        }
        if !own.is_empty() {
            self.held.insert(rank, own);
        }
        self.update(changes)
    }

    /// The store tells all that it has. What it has again is held no longer.
    pub fn stored(&mut self, items: Vec<(Key, V)>) -> Update<V> {
        let put_again = self.put_again(items.iter().map(|(key, _)| key));
        let update = self.replace(DATASYNC, items);
        // Covered from now on, so it changes nothing.
        self.change(HELD, put_again);
        update
    }

    /// The store tells what is different. What it has again is held no longer.
    pub fn store_changed(&mut self, items: Vec<(Key, Option<V>)>) -> Update<V> {
        let put = items.iter().filter(|(_, item)| item.is_some()).map(|(key, _)| key);
        let put_again = self.put_again(put);
        let update = self.change(DATASYNC, items);
        self.change(HELD, put_again);
        update
    }

    /// As [`Merge::stored`], but of a store that lost its content: what it lacks is held from now on.
    pub fn stored_without_removals(&mut self, items: Vec<(Key, V)>) -> Update<V> {
        let lost: Vec<_> = self.lost(&items).into_iter().map(|(key, value)| (key, Some(value))).collect();
        self.change(HELD, lost);
        self.stored(items)
    }

    /// What the store had and a listing lacks.
    pub fn lost(&self, items: &[(Key, V)]) -> Vec<(Key, V)> {
        let present: BTreeSet<&Key> = items.iter().map(|(key, _)| key).collect();
        let lost = self.held_by(DATASYNC).filter(|(key, _)| !present.contains(key));
        lost.map(|(key, value)| (key.clone(), value.clone())).collect()
    }

    /// Takes the keys that are put again out of the held ones.
    fn put_again<'a>(&self, keys: impl Iterator<Item = &'a Key>) -> Vec<(Key, Option<V>)> {
        if self.held_by(HELD).next().is_none() {
            return Vec::new();
        }
        keys.map(|key| (key.clone(), None)).collect()
    }

    /// Who holds something under a key and what, the source that applies first.
    pub fn holders(&self, key: &Key) -> impl Iterator<Item = (&str, &V)> {
        self.held
            .iter()
            .rev()
            .filter_map(move |(rank, held)| held.get(key).map(|value| (&*rank.name, value)))
    }

    /// What would apply under a key if a source asked for this (`None`: for nothing); `None` if nothing would change.
    pub fn would_apply<'a>(&'a self, source: &str, key: &Key, value: Option<&'a V>) -> Option<Option<&'a V>> {
        let rank = self.rank(source);
        if self.covered(&rank, key) {
            return None;
        }
        let now = self.holders(key).next().map(|(_, value)| value);
        let then = value.or_else(|| self.weaker(&rank, key));
        (now != then).then_some(then)
    }

    /// All that a source asks for, whether it applies or not.
    pub fn held_by(&self, source: &str) -> impl Iterator<Item = (&Key, &V)> {
        self.held.get(&self.rank(source)).into_iter().flatten()
    }

    /// Whether a source asks for something under a key.
    pub fn holds(&self, source: &str, key: &Key) -> bool {
        self.held.get(&self.rank(source)).is_some_and(|held| held.contains_key(key))
    }

    /// All that applies, in key order.
    pub fn applying(&self) -> BTreeMap<&Key, &V> {
        // From the weakest on, so that what comes later replaces it.
        self.held.values().flatten().collect()
    }

    fn rank(&self, source: &str) -> Rank {
        let strength = match self.preferred.as_deref() {
            _ if source == HELD => Strength::Held,
            Some(preferred) if preferred == source => Strength::Preferred,
            _ => Strength::Usual,
        };
        Rank {
            strength,
            name: source.into(),
        }
    }

    /// Whether a stronger source holds the key.
    fn covered(&self, rank: &Rank, key: &Key) -> bool {
        let stronger = self.held.range::<Rank, _>((Bound::Excluded(rank), Bound::Unbounded));
        stronger.into_iter().any(|(_, held)| held.contains_key(key))
    }

    /// What applies under the key without this source and the stronger ones.
    fn weaker(&self, rank: &Rank, key: &Key) -> Option<&V> {
        self.held.range(..rank).rev().find_map(|(_, held)| held.get(key))
    }

    /// What changes when a source lets go of a value.
    fn uncover(&self, rank: &Rank, key: &Key, value: &V) -> Option<(Key, Option<V>)> {
        let uncovered = self.weaker(rank, key);
        (uncovered != Some(value) && !self.covered(rank, key)).then(|| (key.clone(), uncovered.cloned()))
    }

    fn update(&mut self, changes: Vec<(Key, Option<V>)>) -> Update<V> {
        if self.begun || !self.awaited.is_empty() {
            return Update { full: false, changes };
        }
        self.begun = true;
        self.everything()
    }

    /// All that applies, as a full update.
    pub fn everything(&self) -> Update<V> {
        let all = self.applying().into_iter();
        Update {
            full: true,
            changes: all.map(|(key, value)| (key.clone(), Some(value.clone()))).collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn key(name: &str) -> Key {
        Key::from(name)
    }

    fn begun() -> Merge<i32> {
        let mut merge = Merge::new([], None);
        assert!(merge.replace(DATASYNC, []).full);
        merge
    }

    #[test]
    fn the_source_that_comes_later_in_the_alphabet_applies() {
        let mut merge = begun();
        merge.change(GRPC, [(key("a"), Some(1))]);
        assert!(merge.change(DATASYNC, [(key("a"), Some(2))]).is_empty());
        assert_eq!(merge.holders(&key("a")).collect::<Vec<_>>(), [("grpc", &1), ("datasync", &2)]);
    }

    #[test]
    fn a_preferred_source_applies_whatever_its_name() {
        let mut merge = Merge::new([], Some(DATASYNC));
        merge.change(GRPC, [(key("a"), Some(1))]);
        assert_eq!(merge.change(DATASYNC, [(key("a"), Some(2))]).changes, [(key("a"), Some(2))]);
        assert!(merge.change(GRPC, [(key("a"), Some(3))]).is_empty());
    }

    #[test]
    fn held_values_are_weaker_than_those_of_any_source() {
        let mut merge = begun();
        merge.change(DATASYNC, [(key("a"), Some(1))]);
        assert!(merge.change(HELD, [(key("a"), Some(1))]).is_empty());
        assert!(merge.replace(DATASYNC, []).is_empty(), "the value stays as it is");
        assert_eq!(merge.change(CONFIG_FILE, [(key("a"), Some(2))]).changes, [(key("a"), Some(2))]);
    }

    #[test]
    fn a_lost_value_that_the_store_has_again_is_held_no_longer() {
        let mut merge = begun();
        merge.stored(vec![(key("a"), 1), (key("b"), 1)]);
        assert!(merge.stored_without_removals(vec![(key("b"), 1)]).is_empty());
        assert_eq!(merge.held_by(HELD).collect::<Vec<_>>(), [(&key("a"), &1)]);
        // The backup is another cluster again.
        assert!(merge.stored_without_removals(vec![(key("a"), 1), (key("b"), 1)]).is_empty());
        assert_eq!(merge.held_by(HELD).count(), 0);
        assert_eq!(merge.store_changed(vec![(key("a"), None)]).changes, [(key("a"), None)]);
    }

    #[test]
    fn deleting_in_one_source_falls_back_to_what_another_holds() {
        let mut merge = begun();
        merge.change(DATASYNC, [(key("a"), Some(1))]);
        merge.change(GRPC, [(key("a"), Some(2))]);
        assert_eq!(merge.change(GRPC, [(key("a"), None)]).changes, [(key("a"), Some(1))]);
        assert_eq!(merge.change(DATASYNC, [(key("a"), None)]).changes, [(key("a"), None)]);
    }

    #[test]
    fn a_full_state_of_one_source_leaves_what_others_hold() {
        let mut merge = begun();
        merge.change(DATASYNC, [(key("a"), Some(1)), (key("b"), Some(1))]);
        merge.change(GRPC, [(key("b"), Some(2)), (key("c"), Some(2))]);
        let update = merge.replace(GRPC, [(key("d"), 3)]);
        assert_eq!(update.changes, [(key("d"), Some(3)), (key("b"), Some(1)), (key("c"), None)]);
        assert!(!update.full);
    }

    #[test]
    fn a_full_state_that_changes_nothing_tells_nothing() {
        let mut merge = begun();
        merge.change(DATASYNC, [(key("a"), Some(1)), (key("b"), Some(1))]);
        assert!(merge.replace(DATASYNC, [(key("a"), 1), (key("b"), 1)]).is_empty());
    }

    #[test]
    fn nothing_is_told_before_every_awaited_source_has_told_its_full_state() {
        let mut merge = Merge::new([DATASYNC, "file"], None);
        assert!(merge.replace("file", [(key("a"), 1)]).is_empty());
        assert!(merge.change(GRPC, [(key("b"), Some(2))]).is_empty());
        let update = merge.replace(DATASYNC, [(key("a"), 3), (key("c"), 3)]);
        let all = [(key("a"), Some(1)), (key("b"), Some(2)), (key("c"), Some(3))];
        assert_eq!((update.full, update.changes.as_slice()), (true, all.as_slice()));
    }

    #[derive(Clone, Debug)]
    enum Step {
        Replace(usize, Vec<(u8, u8)>),
        Change(usize, Vec<(u8, Option<u8>)>),
    }

    /// `m` is the preferred one in half of the cases, and not the last of the alphabet.
    const SOURCES: [&str; 4] = ["a", "m", "m2", "z"];

    fn step() -> impl Strategy<Value = Step> {
        let source = || 0..SOURCES.len();
        prop_oneof![
            1 => (source(), prop::collection::vec((0..6u8, 0..3u8), 0..5)).prop_map(|(source, items)| Step::Replace(source, items)),
            3 => (source(), prop::collection::vec((0..6u8, prop::option::of(0..3u8)), 0..4))
                .prop_map(|(source, items)| Step::Change(source, items)),
        ]
    }

    /// The union, computed anew each time.
    fn union(held: &[BTreeMap<u8, u8>; 4], preferred: bool) -> BTreeMap<Key, u8> {
        let mut order = vec![0, 1, 2, 3];
        if preferred {
            order = vec![0, 2, 3, 1];
        }
        let items = order.into_iter().flat_map(|source| &held[source]);
        items.map(|(name, value)| (key(&name.to_string()), *value)).collect()
    }

    proptest! {
        #[test]
        fn whoever_applies_the_updates_has_the_union(
            steps in prop::collection::vec(step(), 1..40), preferred: bool, awaited in 0..3usize
        ) {
            let mut merge = Merge::new(SOURCES[..awaited].iter().copied(), preferred.then_some("m"));
            let mut held: [BTreeMap<u8, u8>; 4] = Default::default();
            let (mut missing, mut seen, mut begun) = (BTreeSet::from_iter(0..awaited), BTreeMap::new(), false);
            for step in steps {
                let named = |name: u8| key(&name.to_string());
                let update = match step {
                    Step::Replace(source, items) => {
                        missing.remove(&source);
                        held[source] = items.iter().copied().collect();
                        merge.replace(SOURCES[source], items.into_iter().map(|(name, value)| (named(name), value)))
                    }
                    Step::Change(source, items) => {
                        for (name, value) in &items {
                            match value {
                                Some(value) => held[source].insert(*name, *value),
                                None => held[source].remove(name),
                            };
                        }
                        merge.change(SOURCES[source], items.into_iter().map(|(name, value)| (named(name), value)))
                    }
                };
                prop_assert_eq!(update.full, !begun && missing.is_empty());
                begun |= update.full;
                for (name, value) in update.changes {
                    prop_assert_ne!(seen.get(&name), value.as_ref(), "told again: {}", name);
                    match value {
                        Some(value) => seen.insert(name, value),
                        None => seen.remove(&name),
                    };
                }
                prop_assert_eq!(&seen, &if begun { union(&held, preferred) } else { BTreeMap::new() });
                prop_assert!(merge.held.values().all(|held| !held.is_empty()));
            }
        }
    }
}
