//! Orphans that stay because the store lost its content: nobody is known to have deleted their values.

use std::collections::{BTreeMap, BTreeSet};

use models::key::Key;

use crate::{
    descriptors::value::{NamespaceName, Value},
    kernel::{KernelOp, NetnsId},
};

/// Orphans found while removals are held.
#[derive(Default)]
pub struct HeldOrphans {
    holding: bool,
    found: BTreeMap<(NetnsId, NamespaceName), BTreeSet<Key>>,
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
        }
        changed
    }

    /// Takes the orphans out of what was found in a namespace. Returns whether the set of held orphans changed.
    pub fn take(&mut self, netns: NetnsId, name: &NamespaceName, found: &mut Vec<(Key, Value)>) -> bool {
        if !self.holding {
            return false;
        }
        let is_orphan = |value: &Value| value.orphan().is_some();
        let orphans: BTreeSet<Key> = found
            .iter()
            .filter(|(_, value)| is_orphan(value))
            .map(|(key, _)| key.clone())
            .collect();
        found.retain(|(_, value)| !is_orphan(value));
        let place = (netns, name.clone());
        if orphans.is_empty() {
            return self.found.remove(&place).is_some();
        }
        let changed = self.found.get(&place) != Some(&orphans);
        self.found.insert(place, orphans);
        changed
    }

    /// A namespace is no longer open under a name. Returns whether the set of held orphans changed.
    pub fn closed(&mut self, netns: NetnsId, name: &NamespaceName) -> bool {
        self.found.remove(&(netns, name.clone())).is_some()
    }

    /// Whether a namespace contains held orphans.
    pub fn are_in(&self, netns: NetnsId) -> bool {
        self.found.keys().any(|(place, _)| *place == netns)
    }

    /// Each held orphan once, for people.
    pub fn texts(&self) -> Vec<String> {
        let places = self
            .found
            .iter()
            .flat_map(|((_, name), keys)| keys.iter().map(move |key| (key, name)));
        let by_key: BTreeMap<&Key, &NamespaceName> = places.collect();
        let text = |(key, name): (&Key, &NamespaceName)| {
            let what = key.as_str().splitn(4, '/').last().unwrap_or_default();
            format!("{what} in {name}")
        };
        by_key.into_iter().map(text).collect()
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
    use std::sync::Arc;

    use super::*;
    use crate::descriptors::value::Orphan;

    #[test]
    fn orphans_stay_known_when_the_store_is_lost_once_more() {
        let (netns, name) = (NetnsId(7), NamespaceName::Named("red".to_owned()));
        let orphan = Orphan {
            namespace: name.clone(),
            removal: Vec::new(),
            claim: None,
            bearer: None,
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
}
