//! Stores namespace descriptors outside this process, so that they survive a restart of the agent.
//!
//! The service manager can store descriptors of a service while the service restarts (systemd.service(5),
//! `FileDescriptorStoreMax=`). A stored descriptor keeps its namespace alive, so the kernel cannot give the inode number to
//! another namespace. Therefore a restarted agent can detect that a reference leads to a different namespace than before.

use std::{
    collections::HashMap,
    fmt,
    fs::File,
    os::fd::{OwnedFd, RawFd},
    sync::Arc,
};

use nix::unistd::close;

use super::{
    namespace::{self, Probe},
    operation::{NamespaceRef, NetnsId},
};

/// Maximum number of stored descriptors.
///
/// The service manager passes all names in one environment variable, which the kernel limits to 128 KiB (execve(2)). A name has 18
/// bytes.
pub const STORED_MAX: usize = 4096;

/// Stores descriptors outside this process. The methods are called on the executor's thread and must not block.
pub trait DescriptorStore: Send + fmt::Debug {
    /// Stores a descriptor under a name of at most 18 bytes, which contains only letters, digits and `-`.
    fn store(&self, name: &str, file: Arc<OwnedFd>);

    /// Removes the descriptor with this name.
    fn remove(&self, name: &str);
}

/// A namespace descriptor that an earlier run of the agent stored.
#[derive(Debug)]
pub struct StoredDescriptor {
    name: String,
    file: File,
}

impl StoredDescriptor {
    /// Takes over a descriptor that the service manager passed to this process (sd_listen_fds(3)), and closes the original.
    ///
    /// Returns `None` if the descriptor is not open or does not refer to a network namespace.
    pub fn take(name: String, original: RawFd) -> Option<Self> {
        let probed = namespace::probe(format!("/proc/self/fd/{original}").as_ref());
        // Closing fails only if the descriptor is not open.
        let _ = close(original);
        match probed {
            Ok(Probe::Namespace(file)) => Some(StoredDescriptor { name, file }),
            _ => None,
        }
    }
}

/// The descriptors in a [`DescriptorStore`].
pub(super) struct StoredNamespaces {
    store: Option<Box<dyn DescriptorStore>>,
    /// The namespace of each stored descriptor, by name.
    stored: HashMap<String, NetnsId>,
    /// Namespace files that an earlier run stored and this run has not opened yet, by name.
    earlier: HashMap<String, File>,
}

impl StoredNamespaces {
    /// Creates the set of stored namespaces. `earlier` contains the descriptors that an earlier run stored.
    pub fn new(store: Option<Box<dyn DescriptorStore>>, earlier: Vec<StoredDescriptor>) -> Self {
        let mut namespaces = StoredNamespaces {
            store,
            stored: HashMap::new(),
            earlier: HashMap::new(),
        };
        for StoredDescriptor { name, file } in earlier {
            if let Ok(netns) = namespace::identity(&file) {
                namespaces.stored.insert(name.clone(), netns);
                namespaces.earlier.insert(name, file);
            }
        }
        namespaces
    }

    /// Returns the namespace to which the reference led in an earlier run. Returns `None` if the namespace is unknown, or if this
    /// run has already opened the reference.
    pub fn earlier(&self, reference: &NamespaceRef) -> Option<NetnsId> {
        let name = name(reference)?;
        self.earlier.get(&name)?;
        self.stored.get(&name).copied()
    }

    /// Stores the descriptor of a namespace that was opened through this reference.
    pub fn opened(&mut self, reference: &NamespaceRef, netns: NetnsId, file: &Arc<OwnedFd>) {
        let (Some(store), Some(name)) = (&self.store, name(reference)) else {
            return;
        };
        self.earlier.remove(&name);
        let full = self.stored.len() >= STORED_MAX;
        match self.stored.get(&name) {
            Some(known) if *known == netns => return,
            Some(_) => store.remove(&name),
            None if full => return,
            None => {}
        }
        store.store(&name, Arc::clone(file));
        self.stored.insert(name, netns);
    }

    /// Removes the descriptor of a reference that is no longer used.
    pub fn released(&mut self, reference: &NamespaceRef) {
        if let Some(name) = name(reference) {
            self.remove(&name);
        }
    }

    /// Removes the descriptors of all references that have not been opened in this run.
    pub fn remove_unopened(&mut self) {
        let unopened: Vec<String> = self.earlier.keys().cloned().collect();
        for name in unopened {
            self.remove(&name);
        }
    }

    fn remove(&mut self, name: &str) {
        self.earlier.remove(name);
        if let (Some(_), Some(store)) = (self.stored.remove(name), &self.store) {
            store.remove(name);
        }
    }
}

/// Returns the name under which the namespace of a reference is stored; `None` for the agent's own namespace, which is not stored.
///
/// systemd restricts names to printable ASCII characters without `:`, so the name is a hash of the reference.
fn name(reference: &NamespaceRef) -> Option<String> {
    if *reference == NamespaceRef::Own {
        return None;
    }
    let text = reference.recorded_name();
    // FNV-1a, 64 bits. The standard library's hash may differ between versions of the agent.
    let hash = text.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    });
    Some(format!("n-{hash:016x}"))
}
