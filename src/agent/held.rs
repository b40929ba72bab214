//! Orphans that are kept after the store lost its contents, because their values may have been lost rather than deleted on
//! purpose.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use models::key::Key;

use crate::descriptors::{
    orphan::held_orphan_key,
    value::{NamespaceName, Orphan, Value},
};
use netns_kernel::{KernelOp, NetnsId};

/// Orphans observed while removals are on hold.
#[derive(Default)]
pub struct HeldOrphans {
    holding: bool,
    found: BTreeMap<(NetnsId, NamespaceName), BTreeMap<Key, Arc<Orphan>>>,
    /// Empty namespaces of an earlier run that are kept.
    empty: BTreeSet<(NetnsId, NamespaceName)>,
    /// Held orphans that were reported to the scheduler as facts, because they have claims.
    reported: BTreeMap<(NetnsId, NamespaceName), BTreeMap<Key, Arc<Orphan>>>,
}

impl HeldOrphans {
    /// Returns whether removals are on hold.
    pub fn is_holding(&self) -> bool {
        self.holding
    }

    /// Puts removals on hold or ends the hold. Returns whether the state has changed.
    pub fn hold(&mut self, holding: bool) -> bool {
        let changed = std::mem::replace(&mut self.holding, holding) != holding;
        // If the store loses its contents again during a hold, the recorded orphans must not be cleared.
        if changed {
            self.found.clear();
            self.empty.clear();
        }
        changed
    }

    /// Records whether an empty namespace of an earlier run is kept. Returns whether the set of kept namespaces changed.
    pub fn keep_empty(&mut self, netns: NetnsId, name: &NamespaceName, stays: bool) -> bool {
        let place = (netns, name.clone());
        match stays {
            true => self.empty.insert(place),
            false => self.empty.remove(&place),
        }
    }

    /// Moves orphans from the values observed in a namespace to the held orphans. Superseded orphans are not moved.
    ///
    /// Returns whether the set of held orphans changed.
    pub fn take(&mut self, netns: NetnsId, name: &NamespaceName, found: &mut Vec<(Key, Value)>) -> bool {
        if !self.holding {
            return false;
        }
        let mut orphans = BTreeMap::new();
        found.retain(|(key, value)| match value {
            Value::Orphan(orphan) if !orphan.superseded => {
                orphans.insert(key.clone(), orphan.clone());
                false
            }
            _ => true,
        });
        let place = (netns, name.clone());
        if orphans.is_empty() {
            return self.found.remove(&place).is_some();
        }
        let before = self.found.insert(place, orphans.clone());
        !before.is_some_and(|before| before.keys().eq(orphans.keys()))
    }

    /// Returns the facts about the held orphans of a namespace that have changed since the last call. `None` means that the fact no longer
    /// exists.
    ///
    /// Call this only after the findings in the namespace have been reported. The scheduler then has a value for each orphan that is no longer
    /// on hold. This value keeps the claims reserved when the fact is removed.
    pub fn changed_facts(&mut self, netns: NetnsId, name: &NamespaceName) -> Vec<(Key, Option<Value>)> {
        let place = (netns, name.clone());
        let found = self.found.get(&place).into_iter().flatten();
        let now: BTreeMap<Key, Arc<Orphan>> = found
            .filter(|(_, orphan)| !orphan.claims.is_empty())
            .map(|(key, orphan)| (held_orphan_key(key), orphan.clone()))
            .collect();
        let before = self.reported.remove(&place).unwrap_or_default();
        let gone = before.keys().filter(|key| !now.contains_key(*key)).map(|key| (key.clone(), None));
        let new = now.iter().filter(|(key, orphan)| before.get(*key) != Some(*orphan));
        let new = new.map(|(key, orphan)| (key.clone(), Some(Value::Orphan(orphan.clone()))));
        let changes = gone.chain(new).collect();
        if !now.is_empty() {
            self.reported.insert(place, now);
        }
        changes
    }

    /// Forgets the orphans of a namespace that is no longer open under this name. Returns whether the set of held orphans
    /// changed.
    pub fn closed(&mut self, netns: NetnsId, name: &NamespaceName) -> bool {
        let place = (netns, name.clone());
        self.empty.remove(&place) | self.found.remove(&place).is_some()
    }

    /// Returns whether a namespace contains held orphans.
    pub fn are_in(&self, netns: NetnsId) -> bool {
        self.found.keys().any(|(place, _)| *place == netns)
    }

    /// Returns the operations that delete the held orphans that depend on `interface`. They must run before the interface is deleted.
    ///
    /// Deleting the interface removes the ownership mark from its link. Without the mark, the agent would treat these orphans as foreign objects.
    pub fn removals_before(&self, interface: &Key) -> Vec<KernelOp> {
        let orphans = self.found.values().flat_map(BTreeMap::values);
        let borne = orphans.filter(|orphan| orphan.provider.as_ref() == Some(interface));
        borne.flat_map(|orphan| orphan.removal.clone()).collect()
    }

    /// Returns user-readable descriptions of all held orphans, including empty namespaces.
    pub fn texts(&self) -> Vec<String> {
        let places = self
            .found
            .iter()
            .flat_map(|((_, name), orphans)| orphans.keys().map(move |key| (key, name)));
        let by_key: BTreeMap<&Key, &NamespaceName> = places.collect();
        let text = |(key, name): (&Key, &NamespaceName)| {
            let what = key.as_str().splitn(4, '/').last().unwrap_or_default();
            format!("{what} in {name}")
        };
        let empty = self.empty.iter().map(|(_, name)| format!("namespace {name}"));
        by_key.into_iter().map(text).chain(empty).collect()
    }
}

/// Changes the operations that close a namespace so that the namespace is not deleted, even if the agent created it.
pub fn keep_namespace(ops: &mut [KernelOp]) {
    for op in ops {
        if let KernelOp::CloseNamespace { remove_if_marked, .. } = op {
            *remove_if_marked = None;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn second_store_loss_keeps_held_orphans() {
        let (netns, name) = (NetnsId(7), NamespaceName::Named("red".to_owned()));
        let orphan = Orphan {
            namespace: name.clone(),
            removal: Vec::new(),
            claims: Vec::new(),
            provider: None,
            superseded: false,
        };
        let mut found = vec![(Key::from("linux/orphan/7/link x"), Value::Orphan(Arc::new(orphan)))];
        let mut held = HeldOrphans::default();
        assert!(held.hold(true));
        assert!(held.take(netns, &name, &mut found) && found.is_empty());
        assert!(!held.hold(true));
        assert!(held.are_in(netns), "the namespace is kept");
        assert!(held.hold(false));
        assert!(!held.are_in(netns));
    }

    #[test]
    fn empty_namespace_is_listed_until_release() {
        let (netns, name) = (NetnsId(7), NamespaceName::Named("red".to_owned()));
        let mut held = HeldOrphans::default();
        assert!(held.hold(true));
        assert!(held.keep_empty(netns, &name, true));
        assert!(!held.keep_empty(netns, &name, true), "it is already listed");
        assert_eq!(held.texts(), ["namespace NSID:red"]);
        assert!(held.closed(netns, &name) && held.texts().is_empty());
        assert!(held.keep_empty(netns, &name, true));
        assert!(held.hold(false));
        assert!(held.texts().is_empty());
    }
}
