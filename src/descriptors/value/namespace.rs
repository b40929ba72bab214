//! Network namespaces, and the containers by which some are named.
//!
//! Owns the way between a name and its key. Must never know whether a namespace exists. Start reading at [`NamespaceName`].

use models::key::{Key, NamespaceType, TypedKey};

use netns_kernel::{NamespaceRef, NetnsId};

/// A way to name a namespace in a model; `None` in a model is [`NamespaceName::Own`].
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum NamespaceName {
    /// The namespace in which the agent was started.
    Own,
    /// NSID: a name of `ip netns`.
    Named(String),
    /// PID of a process.
    Process(i32),
    /// FD: path of a namespace file.
    File(String),
    /// MICROSERVICE: label of a container.
    Microservice(String),
}

impl NamespaceName {
    /// The type and the reference.
    pub fn parts(&self) -> (NamespaceType, String) {
        match self {
            NamespaceName::Own => (NamespaceType::Own, String::new()),
            NamespaceName::Named(name) => (NamespaceType::Nsid, name.clone()),
            NamespaceName::Process(pid) => (NamespaceType::Pid, pid.to_string()),
            NamespaceName::File(path) => (NamespaceType::Fd, path.clone()),
            NamespaceName::Microservice(label) => (NamespaceType::Microservice, label.clone()),
        }
    }

    /// The name in a key of the scheduler; `None` if the key is not that of a namespace.
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

    /// Key of the namespace in the scheduler.
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

/// A namespace that is open, or being opened.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Namespace {
    /// The name.
    pub name: NamespaceName,
    /// What the name led to; `None` while the executor is opening it.
    pub open: Option<OpenNamespace>,
}

impl Namespace {
    /// The agent's own, open.
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

/// What an open namespace is.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct OpenNamespace {
    /// Identity.
    pub netns: NetnsId,
    /// How the executor was told to find it.
    pub reference: NamespaceRef,
    /// The agent created it (the alias of its `lo` says so), and removes it when nobody needs it any more.
    pub owned: bool,
}

/// The container that runs a microservice.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Microservice {
    /// The label.
    pub label: String,
    /// Docker's id of the container.
    pub container_id: String,
    /// Docker's name of the container.
    pub container_name: String,
    /// PID of its main process.
    pub pid: i32,
    /// Start time of that process, in clock ticks after boot.
    pub start_time: u64,
}
