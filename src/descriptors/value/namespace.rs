//! References to network namespaces, open network namespaces, and the containers that run microservices.
//!
//! [`NamespaceName`] converts between a name and its key, even if the namespace does not exist.

use models::key::{Key, NamespaceType, TypedKey};

use netns_kernel::{NamespaceRef, NetnsId};

/// Reference to a namespace in a model. A model without a namespace refers to [`NamespaceName::Own`].
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum NamespaceName {
    /// Namespace in which the agent was started.
    Own,
    /// NSID: name of a named namespace, as in `ip netns`.
    Named(String),
    /// PID: process id.
    Process(i32),
    /// FD: path to a namespace file.
    File(String),
    /// MICROSERVICE: label of a microservice that runs in a container.
    Microservice(String),
}

impl NamespaceName {
    /// Returns the type of the reference and its text.
    pub fn parts(&self) -> (NamespaceType, String) {
        match self {
            NamespaceName::Own => (NamespaceType::Own, String::new()),
            NamespaceName::Named(name) => (NamespaceType::Nsid, name.clone()),
            NamespaceName::Process(pid) => (NamespaceType::Pid, pid.to_string()),
            NamespaceName::File(path) => (NamespaceType::Fd, path.clone()),
            NamespaceName::Microservice(label) => (NamespaceType::Microservice, label.clone()),
        }
    }

    /// Parses the scheduler key of a namespace. Returns `None` for other keys.
    pub fn of_key(key: &Key) -> Option<Self> {
        let Ok(TypedKey::Namespace { reference_type, reference }) = TypedKey::parse(key.as_str()) else {
            return None;
        };
        Some(match reference_type {
            NamespaceType::Own => NamespaceName::Own,
            NamespaceType::Nsid => NamespaceName::Named(reference),
            NamespaceType::Pid => NamespaceName::Process(reference.parse().ok()?),
            NamespaceType::Fd => NamespaceName::File(reference),
            NamespaceType::Microservice => NamespaceName::Microservice(reference),
        })
    }

    /// Returns the scheduler key of the namespace.
    pub fn key(&self) -> Key {
        let (reference_type, reference) = self.parts();
        TypedKey::Namespace { reference_type, reference }.to_key()
    }
}

impl std::fmt::Display for NamespaceName {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            NamespaceName::Own => f.write_str("the agent's own namespace"),
            other => {
                let (reference_type, reference) = other.parts();
                write!(f, "{}:{reference}", reference_type.as_str())
            }
        }
    }
}

/// Applied namespace, which is open or being opened.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Namespace {
    /// Name by which values refer to the namespace.
    pub name: NamespaceName,
    /// Namespace that the name refers to; `None` while the executor is opening the namespace.
    pub open: Option<OpenNamespace>,
}

impl Namespace {
    /// Returns the agent's own namespace, which is always open.
    pub fn own(netns: NetnsId) -> Self {
        let open = OpenNamespace {
            netns,
            reference: NamespaceRef::Own,
            owned: false,
        };
        Namespace {
            name: NamespaceName::Own,
            open: Some(open),
        }
    }
}

/// Namespace that the executor keeps open.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct OpenNamespace {
    /// Identity of the namespace, from its inode number.
    pub netns: NetnsId,
    /// Reference that the executor used to open the namespace.
    pub reference: NamespaceRef,
    /// True if the agent created the namespace. The alias of the namespace's `lo` records this fact. The agent deletes the
    /// namespace when no value needs it any more.
    pub owned: bool,
}

/// Container that runs a microservice.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Microservice {
    /// Label by which values refer to the microservice.
    pub label: String,
    /// Container id in Docker.
    pub container_id: String,
    /// Container name in Docker.
    pub container_name: String,
    /// PID of the container's main process.
    pub pid: i32,
    /// Start time of the main process, in clock ticks since boot.
    pub start_time: u64,
}
