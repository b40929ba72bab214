//! Merges the values of several sources into one desired state.
//!
//! Sources are ranked by name. If several sources have a value for a key, the source that comes last in alphabetical order takes
//! precedence. One source can be preferred over all others, regardless of its name. If a source deletes its value, the value of the next
//! weaker source takes effect.
//!
//! The values of all sources are kept, including those that another source overrides. Values are not decoded.

use std::{
    collections::{BTreeMap, BTreeSet},
    ops::Bound,
    sync::Arc,
};

use models::key::Key;

/// Source name of the store, as in ligato vpp-agent.
pub const DATASYNC: &str = "datasync";
/// Source name of the configuration file, as in ligato vpp-agent. This name makes the file weaker than the store.
pub const CONFIG_FILE: &str = "config-file";
/// Source name of gRPC and REST clients that do not set another name.
pub const GRPC: &str = "grpc";
/// Source name of values that the store lost although no client deleted them. This source is weaker than every other source,
/// regardless of the name.
pub const HELD: &str = "held";

/// Values of all sources, merged by precedence.
///
/// `V` is the type of the values. It can also represent an invalid value, which takes precedence over values of weaker sources
/// like any other value. Clones of `V` should be cheap, because each reported change contains a clone.
pub struct Merge<V> {
    /// Values by source, weakest source first. Contains only sources that have values.
    held: BTreeMap<Rank, BTreeMap<Key, V>>,
    preferred: Option<String>,
    /// Sources that have not reported their full state yet.
    awaited: BTreeSet<String>,
    begun: bool,
}

/// Rank of a source. The source with the greater rank takes precedence.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
struct Rank {
    strength: Strength,
    name: Arc<str>,
}

/// Strength of a source. Sources of the same strength are ranked by name.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
enum Strength {
    Held,
    Usual,
    Preferred,
}

/// Changes of the desired state.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Update<V> {
    /// `true` if `changes` contains all desired values, as in the first update and in [`Merge::everything`]. `false` if `changes`
    /// contains only differences.
    pub full: bool,
    /// Keys with the values that are now in effect. The value is `None` if no source has a value for the key.
    pub changes: Vec<(Key, Option<V>)>,
}

impl<V> Update<V> {
    /// Returns `true` if the update changes nothing. A full update always counts as a change.
    pub fn is_empty(&self) -> bool {
        !self.full && self.changes.is_empty()
    }
}

impl<V: Clone + PartialEq> Merge<V> {
    /// Creates an empty merge.
    ///
    /// Updates stay empty until each source in `awaited` has reported its full state once. Otherwise, the agent would delete
    /// the values of sources that have not reported yet. The source `preferred` takes precedence over all others, like
    /// `resync-data-source-override` in ligato vpp-agent.
    pub fn new<'a>(awaited: impl IntoIterator<Item = &'a str>, preferred: Option<&str>) -> Self {
        Merge {
            held: BTreeMap::new(),
            preferred: preferred.map(str::to_owned),
            awaited: awaited.into_iter().map(str::to_owned).collect(),
            begun: false,
        }
    }

    /// Replaces all values of a source. Values of other sources stay.
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

    /// Changes values of a source, in order. The value `None` deletes a key.
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

    /// Replaces all values of the store. A key in the source [`HELD`] is removed from that source if the store has the key again.
    pub fn stored(&mut self, items: Vec<(Key, V)>) -> Update<V> {
        let put_again = self.put_again(items.iter().map(|(key, _)| key));
        let update = self.replace(DATASYNC, items);
        // The store takes precedence over held values, so this change has no effect on the desired state.
        self.change(HELD, put_again);
        update
    }

    /// Changes values of the store. A key in the source [`HELD`] is removed from that source if the store has the key again.
    pub fn store_changed(&mut self, items: Vec<(Key, Option<V>)>) -> Update<V> {
        let put = items.iter().filter(|(_, item)| item.is_some()).map(|(key, _)| key);
        let put_again = self.put_again(put);
        let update = self.change(DATASYNC, items);
        self.change(HELD, put_again);
        update
    }

    /// Replaces all values of a store that has lost its contents. Like [`Merge::stored`], but moves missing values to the source
    /// [`HELD`].
    pub fn stored_without_removals(&mut self, items: Vec<(Key, V)>) -> Update<V> {
        let lost: Vec<_> = self.lost(&items).into_iter().map(|(key, value)| (key, Some(value))).collect();
        self.change(HELD, lost);
        self.stored(items)
    }

    /// Returns the values of the store that are missing from a new listing.
    pub fn lost(&self, items: &[(Key, V)]) -> Vec<(Key, V)> {
        let present: BTreeSet<&Key> = items.iter().map(|(key, _)| key).collect();
        let lost = self.held_by(DATASYNC).filter(|(key, _)| !present.contains(key));
        lost.map(|(key, value)| (key.clone(), value.clone())).collect()
    }

    /// Returns the changes that remove these keys from the source [`HELD`].
    fn put_again<'a>(&self, keys: impl Iterator<Item = &'a Key>) -> Vec<(Key, Option<V>)> {
        if self.held_by(HELD).next().is_none() {
            return Vec::new();
        }
        keys.map(|key| (key.clone(), None)).collect()
    }

    /// Returns the sources that have a value for a key, with their values, strongest source first.
    pub fn holders(&self, key: &Key) -> impl Iterator<Item = (&str, &V)> {
        self.held
            .iter()
            .rev()
            .filter_map(move |(rank, held)| held.get(key).map(|value| (&*rank.name, value)))
    }

    /// Returns the keys that a source stronger than `source` overrides, each with the name of the strongest source.
    pub fn overridden<'a>(&'a self, source: &str, keys: impl Iterator<Item = &'a Key>) -> Vec<(&'a Key, &'a str)> {
        let stronger = (Bound::Excluded(self.rank(source)), Bound::Unbounded);
        let stronger: Vec<_> = self.held.range::<Rank, _>(stronger).rev().collect();
        if stronger.is_empty() {
            return Vec::new();
        }
        let overridden = keys.filter_map(|key| {
            let (rank, _) = stronger.iter().find(|(_, held)| held.contains_key(key))?;
            Some((key, &*rank.name))
        });
        overridden.collect()
    }

    /// Returns the value that would be in effect for a key if `source` had `value` for the key. The outer `None` means that
    /// nothing would change. The inner `None` means that no source would have a value.
    pub fn would_apply<'a>(&'a self, source: &str, key: &Key, value: Option<&'a V>) -> Option<Option<&'a V>> {
        let rank = self.rank(source);
        if self.covered(&rank, key) {
            return None;
        }
        let now = self.holders(key).next().map(|(_, value)| value);
        let then = value.or_else(|| self.weaker(&rank, key));
        (now != then).then_some(then)
    }

    /// Returns all values of a source, including those that another source overrides.
    pub fn held_by(&self, source: &str) -> impl Iterator<Item = (&Key, &V)> {
        self.held.get(&self.rank(source)).into_iter().flatten()
    }

    /// Returns `true` if a source has a value for a key.
    pub fn holds(&self, source: &str, key: &Key) -> bool {
        self.held.get(&self.rank(source)).is_some_and(|held| held.contains_key(key))
    }

    /// Returns all values that are in effect, in key order.
    pub fn applying(&self) -> BTreeMap<&Key, &V> {
        // Sources are in ascending order of precedence, so values of stronger sources replace values of weaker sources.
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

    /// Returns `true` if a source stronger than `rank` has a value for the key.
    fn covered(&self, rank: &Rank, key: &Key) -> bool {
        let stronger = self.held.range::<Rank, _>((Bound::Excluded(rank), Bound::Unbounded));
        stronger.into_iter().any(|(_, held)| held.contains_key(key))
    }

    /// Returns the value of the strongest source that is weaker than `rank`.
    fn weaker(&self, rank: &Rank, key: &Key) -> Option<&V> {
        self.held.range(..rank).rev().find_map(|(_, held)| held.get(key))
    }

    /// Returns how the desired state changes if the source with the rank `rank` deletes `value`. Returns `None` if nothing changes.
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

    /// Returns all values that are currently in effect, as a full update.
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
    fn source_later_in_alphabetical_order_applies() {
        let mut merge = begun();
        merge.change(GRPC, [(key("a"), Some(1))]);
        assert!(merge.change(DATASYNC, [(key("a"), Some(2))]).is_empty());
        assert_eq!(merge.holders(&key("a")).collect::<Vec<_>>(), [("grpc", &1), ("datasync", &2)]);
        let keys = [key("a"), key("b")];
        assert_eq!(merge.overridden(DATASYNC, keys.iter()), [(&keys[0], GRPC)]);
        assert_eq!(merge.overridden(GRPC, keys.iter()), []);
    }

    #[test]
    fn preferred_source_applies_whatever_its_name() {
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
        assert!(merge.replace(DATASYNC, []).is_empty(), "the value does not change");
        assert_eq!(merge.change(CONFIG_FILE, [(key("a"), Some(2))]).changes, [(key("a"), Some(2))]);
    }

    #[test]
    fn lost_value_that_store_has_again_is_no_longer_held() {
        let mut merge = begun();
        merge.stored(vec![(key("a"), 1), (key("b"), 1)]);
        assert!(merge.stored_without_removals(vec![(key("b"), 1)]).is_empty());
        assert_eq!(merge.held_by(HELD).collect::<Vec<_>>(), [(&key("a"), &1)]);
        // The store returns as a new cluster that was restored from a backup.
        assert!(merge.stored_without_removals(vec![(key("a"), 1), (key("b"), 1)]).is_empty());
        assert_eq!(merge.held_by(HELD).count(), 0);
        assert_eq!(merge.store_changed(vec![(key("a"), None)]).changes, [(key("a"), None)]);
    }

    #[test]
    fn deletion_in_one_source_falls_back_to_weaker_one() {
        let mut merge = begun();
        merge.change(DATASYNC, [(key("a"), Some(1))]);
        merge.change(GRPC, [(key("a"), Some(2))]);
        assert_eq!(merge.change(GRPC, [(key("a"), None)]).changes, [(key("a"), Some(1))]);
        assert_eq!(merge.change(DATASYNC, [(key("a"), None)]).changes, [(key("a"), None)]);
    }

    #[test]
    fn full_state_of_one_source_keeps_values_of_others() {
        let mut merge = begun();
        merge.change(DATASYNC, [(key("a"), Some(1)), (key("b"), Some(1))]);
        merge.change(GRPC, [(key("b"), Some(2)), (key("c"), Some(2))]);
        let update = merge.replace(GRPC, [(key("d"), 3)]);
        assert_eq!(update.changes, [(key("d"), Some(3)), (key("b"), Some(1)), (key("c"), None)]);
        assert!(!update.full);
    }

    #[test]
    fn full_state_without_changes_causes_no_update() {
        let mut merge = begun();
        merge.change(DATASYNC, [(key("a"), Some(1)), (key("b"), Some(1))]);
        assert!(merge.replace(DATASYNC, [(key("a"), 1), (key("b"), 1)]).is_empty());
    }

    #[test]
    fn no_update_before_all_awaited_sources_have_reported() {
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

    /// Source names. In half of the cases, `m` is preferred, although it is not the last in alphabetical order.
    const SOURCES: [&str; 4] = ["a", "m", "m2", "z"];

    fn step() -> impl Strategy<Value = Step> {
        let source = || 0..SOURCES.len();
        prop_oneof![
            1 => (source(), prop::collection::vec((0..6u8, 0..3u8), 0..5)).prop_map(|(source, items)| Step::Replace(source, items)),
            3 => (source(), prop::collection::vec((0..6u8, prop::option::of(0..3u8)), 0..4))
                .prop_map(|(source, items)| Step::Change(source, items)),
        ]
    }

    /// Computes the merged values from scratch.
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
        fn applying_all_updates_gives_the_union(
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
                    prop_assert_ne!(seen.get(&name), value.as_ref(), "reported again: {}", name);
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
