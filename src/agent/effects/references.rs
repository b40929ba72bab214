//! Set of watched namespace references, each identified by the key of its namespace value.

use std::collections::BTreeSet;

use models::key::Key;

use crate::scheduler::View;
use crate::{
    descriptors::{Network, value::NamespaceName},
    signals::namespaces::{Binding, Target},
};

use super::super::host::ReferenceWatcher;

/// Set of watched references.
pub struct References {
    watcher: Box<dyn ReferenceWatcher>,
    watched: BTreeSet<Key>,
}

impl References {
    /// Creates an empty set.
    pub fn new(watcher: Box<dyn ReferenceWatcher>) -> Self {
        References {
            watcher,
            watched: BTreeSet::new(),
        }
    }

    /// Watches a reference. The watcher sends a notification when the reference resolves to something other than `binding`.
    pub fn watch(&mut self, key: &Key, name: &NamespaceName, binding: Binding) {
        let target = match name {
            NamespaceName::Named(name) => Some(Target::Named(name.clone())),
            NamespaceName::Process(pid) => Some(Target::Process(*pid)),
            NamespaceName::File(path) => Some(Target::File(path.into())),
            // Changes of containers are reported by the container registry instead.
            NamespaceName::Microservice(_) => None,
            // The agent's own namespace never changes.
            NamespaceName::Own => return,
        };
        self.watched.insert(key.clone());
        if let Some(target) = target {
            self.watcher.watch(key.to_string(), target, binding);
        }
    }

    /// Stops watching a reference.
    pub fn unwatch(&mut self, key: &Key) {
        if self.watched.remove(key) {
            self.watcher.unwatch(key.as_str());
        }
    }

    /// Stops watching references that values no longer use, and returns their keys.
    pub fn unwatch_unused(&mut self, view: &View<'_, Network>) -> Vec<Key> {
        let is_unused = |key: &&Key| view.desired(key).is_none() && view.applied(key).is_none();
        let unused: Vec<Key> = self.watched.iter().filter(is_unused).cloned().collect();
        unused.iter().for_each(|key| self.unwatch(key));
        unused
    }
}
