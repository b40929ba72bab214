//! Traits between the agent's logic and the machine that it runs on, which the simulator implements as well.
//!
//! No method blocks; blocking work is done by a [`Performer`](crate::engine::Performer).

use std::io;

use crate::{
    publish::Published,
    signals::{
        namespaces::{Binding, Target, Watcher},
        process::netns_inode,
    },
};
use netns_kernel::{Executor, Failure, NamedTarget, NetnsId, process_namespaces};

/// State of the machine that can be read without blocking.
pub trait Host: Send + Sync {
    /// Returns the namespace in which the agent was started.
    fn own_namespace(&self) -> NetnsId;

    /// Returns whether changes in the namespace are notified; if not, it has to be read periodically.
    fn is_watched(&self, netns: NetnsId) -> bool;

    /// Enables the next change notification of a namespace; it is sent at once if something changed since the last one.
    fn rearm(&self, netns: NetnsId);

    /// Enables or disables change notifications of all namespaces.
    ///
    /// Changes are lost while notifications are disabled: read all namespaces after enabling them.
    fn listen(&self, on: bool);

    /// Returns all named namespaces and what the names refer to, sorted by name.
    ///
    /// # Errors
    /// Fails if they cannot be listed.
    fn named(&self) -> Result<Vec<(String, NamedTarget)>, Failure>;

    /// Removes a name that an agent with this mark was creating when it was killed. Returns whether there was one.
    ///
    /// # Errors
    /// Fails if the name cannot be read or removed.
    fn remove_orphan(&self, name: &str, mark: &str) -> Result<bool, Failure>;

    /// Returns the distinct namespaces of all processes, each with one process that is in it.
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

/// Watches references to namespaces; see [`Watcher`].
pub trait ReferenceWatcher: Send {
    /// Notifies once `target` resolves to something else than `binding`, now or later.
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

/// Destination of statuses; see [`Told`](super::statuses::Told).
pub trait StatusStore: Send + Sync {
    /// Publishes a message under a key.
    fn set(&self, key: String, message: Published);

    /// Deletes a key.
    fn remove(&self, key: &str);

    /// Called once everything to be published has been set, so that keys of an earlier run may be deleted.
    fn retain_only_current(&self);

    /// Called when all desired values have been processed as far as possible.
    fn settled(&self) {}
}
