//! Orphans that stay because the store lost its content: nobody is known to have deleted their values.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use models::key::Key;

use crate::descriptors::value::{NamespaceName, Orphan, Value};
use netns_kernel::{KernelOp, NetnsId};

/// Orphans found while removals are held.
#[derive(Default)]
pub struct HeldOrphans {
    holding: bool,
    found: BTreeMap<(NetnsId, NamespaceName), BTreeMap<Key, Arc<Orphan>>>,
    /// Empty namespaces that an earlier run made.
    empty: BTreeSet<(NetnsId, NamespaceName)>,
}

impl HeldOrphans {
    /// Whether removals are held.
    pub fn is_holding(&self) -> bool {
        self.holding
    }

    /// Begins or ends to hold removals. Returns whether that is a change.
    pub fn hold(&mut self, holding: bool) -> bool {
        let changed = std::mem::replace(&mut self.holding, holding) != holding;
        // What was found stays when the store is lost once more.
        if changed {
            self.found.clear();
            self.empty.clear();
        }
        changed
    }

    /// Records whether an empty namespace of an earlier run stays. Returns whether that is a change.
    pub fn keep_empty(&mut self, netns: NetnsId, name: &NamespaceName, stays: bool) -> bool {
        let place = (netns, name.clone());
        match stays {
            true => self.empty.insert(place),
            false => self.empty.remove(&place),
        }
    }

    /// Takes the orphans out of what was found in a namespace, but for those of values that are desired. Returns whether the set of
    /// held orphans changed.
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

    /// A namespace is no longer open under a name. Returns whether the set of held orphans changed.
    pub fn closed(&mut self, netns: NetnsId, name: &NamespaceName) -> bool {
        let place = (netns, name.clone());
        self.empty.remove(&place) | self.found.remove(&place).is_some()
    }

    /// Whether a namespace contains held orphans.
    pub fn are_in(&self, netns: NetnsId) -> bool {
        self.found.keys().any(|(place, _)| *place == netns)
    }

    /// What removes the held orphans that nothing tells from foreign objects once an interface is gone.
    pub fn removals_before(&self, interface: &Key) -> Vec<KernelOp> {
        let orphans = self.found.values().flat_map(BTreeMap::values);
        let borne = orphans.filter(|orphan| orphan.bearer.as_ref() == Some(interface));
        borne.flat_map(|orphan| orphan.removal.clone()).collect()
    }

    /// Each held orphan once, for people.
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

/// Changes the closing of a namespace so that it survives although the agent created it.
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
    fn orphans_stay_known_when_the_store_is_lost_once_more() {
        let (netns, name) = (NetnsId(7), NamespaceName::Named("red".to_owned()));
        let orphan = Orphan {
            namespace: name.clone(),
            removal: Vec::new(),
            claim: None,
            bearer: None,
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
    fn an_empty_namespace_that_stays_is_listed_until_it_may_go() {
        let (netns, name) = (NetnsId(7), NamespaceName::Named("red".to_owned()));
        let mut held = HeldOrphans::default();
        assert!(held.hold(true));
        assert!(held.keep_empty(netns, &name, true));
        assert!(!held.keep_empty(netns, &name, true), "it is listed already");
        assert_eq!(held.texts(), ["namespace NSID:red"]);
        assert!(held.closed(netns, &name) && held.texts().is_empty());
        assert!(held.keep_empty(netns, &name, true));
        assert!(held.hold(false));
        assert!(held.texts().is_empty());
    }
}
