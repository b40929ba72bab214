//! Traits that separate the agent's logic from the machine it runs on. The simulator implements them as well.
//!
//! No method blocks. Blocking work is done by a [`Performer`](crate::engine::Performer).

use std::io;

use crate::{
    publish::Published,
    signals::{
        namespaces::{Binding, Target, Watcher},
        process::netns_inode,
    },
};
use netns_kernel::{Executor, Failure, NamedTarget, NetnsId, process_namespaces};

/// Machine state that can be read without blocking.
pub trait Host: Send + Sync {
    /// Returns the namespace in which the agent was started.
    fn own_namespace(&self) -> NetnsId;

    /// Returns whether changes in the namespace cause notifications. If not, the namespace has to be read periodically.
    fn is_watched(&self, netns: NetnsId) -> bool;

    /// Enables the next change notification of a namespace. The notification is sent at once if something has changed since the
    /// last notification.
    fn rearm(&self, netns: NetnsId);

    /// Enables or disables change notifications of all namespaces.
    ///
    /// Changes are missed while notifications are disabled, so all namespaces must be read after notifications are enabled again.
    fn listen(&self, on: bool);

    /// Returns the names of all named namespaces with their targets, sorted by name.
    ///
    /// # Errors
    /// Fails if the names cannot be listed.
    fn named(&self) -> Result<Vec<(String, NamedTarget)>, Failure>;

    /// Removes a namespace name that was left behind when the agent with this ownership mark was killed while creating the namespace. Returns
    /// whether a name was removed.
    ///
    /// # Errors
    /// Fails if the name cannot be read or removed.
    fn remove_orphan(&self, name: &str, mark: &str) -> Result<bool, Failure>;

    /// Returns the distinct namespaces of all processes, each with the PID of one process in it.
    ///
    /// # Errors
    /// Fails if the processes cannot be listed.
    fn processes(&self) -> io::Result<Vec<(NetnsId, i32)>>;

    /// Returns the namespace of a process; `None` if the process has ended.
    fn namespace_of(&self, pid: i32) -> Option<NetnsId>;
}

impl Host for Executor {
    fn own_namespace(&self) -> NetnsId {
        self.own_namespace()
    }

    fn is_watched(&self, netns: NetnsId) -> bool {
        self.is_watched(netns)
    }

    fn rearm(&self, netns: NetnsId) {
        self.rearm(netns);
    }

    fn listen(&self, on: bool) {
        self.listen(on);
    }

    fn named(&self) -> Result<Vec<(String, NamedTarget)>, Failure> {
        self.dump_named()
    }

    fn remove_orphan(&self, name: &str, mark: &str) -> Result<bool, Failure> {
        self.remove_orphan(name, mark)
    }

    fn processes(&self) -> io::Result<Vec<(NetnsId, i32)>> {
        process_namespaces()
    }

    fn namespace_of(&self, pid: i32) -> Option<NetnsId> {
        netns_inode(pid).ok().map(NetnsId)
    }
}

/// Watches namespace references; see [`Watcher`].
pub trait ReferenceWatcher: Send {
    /// Sends a notification as soon as `target` resolves to something other than `binding`, or at once if it already does.
    fn watch(&self, key: String, target: Target, binding: Binding);

    /// Stops watching a key.
    fn unwatch(&self, key: &str);
}

impl ReferenceWatcher for Watcher {
    fn watch(&self, key: String, target: Target, binding: Binding) {
        self.watch(key, target, binding);
    }

    fn unwatch(&self, key: &str) {
        self.unwatch(key);
    }
}

/// Destination of published statuses; see [`Told`](super::statuses::Told).
pub trait StatusStore: Send + Sync {
    /// Publishes a message under a key.
    fn set(&self, key: String, message: Published);

    /// Deletes a key.
    fn remove(&self, key: &str);

    /// Deletes the keys that an earlier run published and this run has not set. Called after all current statuses have been set.
    fn retain_only_current(&self);

    /// Called whenever all desired values have been processed as far as possible.
    fn settled(&self) {}
}
