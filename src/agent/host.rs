//! What the agent asks of the machine it runs on, as narrow as it can be, so that a simulated machine can answer as well.
//!
//! Owns the traits between the agent's logic and the threads and tasks around it. Nothing here waits: what does is work for a
//! [`Performer`](crate::engine::Performer). Start reading at [`Host`].

use std::io;

use crate::{
    publish::Published,
    signals::{
        namespaces::{Binding, Target, Watcher},
        process::netns_inode,
    },
};
use netns_kernel::{Executor, Failure, NamedTarget, NetnsId, process_namespaces};

/// The machine, as far as it can be asked at once.
pub trait Host: Send + Sync {
    /// The namespace in which the agent was started.
    fn own_namespace(&self) -> NetnsId;

    /// Whether changes in the namespace are told; otherwise it has to be read from time to time.
    fn is_watched(&self, netns: NetnsId) -> bool;

    /// Lets a change in a namespace be told again; at once, when something happened since the last one.
    fn rearm(&self, netns: NetnsId);

    /// Stops telling of changes in all namespaces, or begins again. What changes meanwhile is not told: all must be read afterwards.
    fn listen(&self, on: bool);

    /// All names of namespaces and what they lead to, sorted by name.
    ///
    /// # Errors
    /// They cannot be listed.
    fn named(&self) -> Result<Vec<(String, NamedTarget)>, Failure>;

    /// Removes a name that an agent with this mark was creating when it was killed. Answers whether there was one.
    ///
    /// # Errors
    /// It cannot be read or removed.
    fn remove_leftover(&self, name: &str, mark: &str) -> Result<bool, Failure>;

    /// The distinct namespaces of all processes, each with one process that is in it.
    ///
    /// # Errors
    /// They cannot be listed.
    fn processes(&self) -> io::Result<Vec<(NetnsId, i32)>>;

    /// The namespace that a process is in; `None` when it has ended.
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

    fn remove_leftover(&self, name: &str, mark: &str) -> Result<bool, Failure> {
        self.remove_leftover(name, mark)
    }

    fn processes(&self) -> io::Result<Vec<(NetnsId, i32)>> {
        process_namespaces()
    }

    fn namespace_of(&self, pid: i32) -> Option<NetnsId> {
        netns_inode(pid).ok().map(NetnsId)
    }
}

/// Who watches what references to namespaces lead to; see [`Watcher`].
pub trait ReferenceWatcher: Send {
    /// Tells when `target` leads to something else than `binding` says, now or later.
    fn watch(&self, key: String, target: Target, binding: Binding);

    /// Forgets a key.
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

/// Where statuses go; see [`Told`](super::statuses::Told).
pub trait StatusStore: Send + Sync {
    /// Publishes a message under a key.
    fn set(&self, key: String, message: Published);

    /// Takes back what was published under a key.
    fn remove(&self, key: &str);

    /// All that is to be published has been set once: whatever an earlier run left can go.
    fn retain_only_current(&self);

    /// All that is wanted has been acted upon, as far as it can be now.
    fn settled(&self) {}
}
