//! Finding namespaces: from a reference to an open file.
//!
//! Owns which process a reference means, and the sockets that are opened inside a namespace. Must never keep a namespace: that is
//! the table's part. Start reading at [`Finder::find`].

use std::{
    collections::HashMap,
    fs::File,
    io,
    os::fd::OwnedFd,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
};

use nix::errno::Errno;
use rtnetlink::sys::Socket;

use super::{
    ethtool::EthtoolSocket,
    failure, monitor,
    namespace::{self, NamedDirectory},
    netlink::{Refusal, RouteSocket},
    operation::{Failure, NamespaceRef, NetnsId},
    process::{self, Bindings, Identity, ProcessPath},
    slow_open::{OpenedFile, Opening},
};

/// Threads that create namespaces at the same time; more than two gain nothing, as registering a namespace is serialised.
const CREATORS_MAX: usize = 2;

/// What is opened inside a namespace in one visit.
pub(super) struct Sockets {
    /// Configures and reads.
    pub route: RouteSocket,
    /// Offload flags.
    pub ethtool: EthtoolSocket,
    /// Subscribed to changes, where wanted.
    pub events: Option<Socket>,
}

impl Sockets {
    /// Opens them in the namespace of the calling thread. Subscribes first, so that no change can fall between the subscription
    /// and what is read afterwards.
    pub fn open(subscribe: bool) -> io::Result<Self> {
        let events = subscribe.then(monitor::subscribe).transpose()?;
        Ok(Self {
            events,
            route: RouteSocket::open()?,
            ethtool: EthtoolSocket::open()?,
        })
    }
}

/// A namespace that a reference led to.
pub(super) struct Found {
    /// The nsfs file.
    pub file: Arc<OwnedFd>,
    /// Its identity.
    pub netns: NetnsId,
    /// Whether it was created just now.
    pub created: bool,
    /// Opened in it already.
    pub sockets: Option<Sockets>,
    /// The process that it was found by.
    pub process: Option<Identity>,
}

impl Found {
    fn new(file: File, reference: &NamespaceRef) -> Result<Self, Failure> {
        let netns = namespace::identity(&file).map_err(|error| cannot_open(reference, &error))?;
        Ok(Self {
            file: Arc::new(file.into()),
            netns,
            created: false,
            sockets: None,
            process: None,
        })
    }
}

/// The ways to find namespaces.
pub(super) struct Finder {
    /// Which process a reference means.
    pub bindings: Bindings,
    /// Named namespaces.
    pub directory: Arc<NamedDirectory>,
    /// Files that were opened ahead: opening one here could hang.
    pub opened: HashMap<PathBuf, Opening>,
    own_file: Arc<OwnedFd>,
    own: NetnsId,
}

impl Finder {
    /// `own_file` is the agent's own namespace.
    pub fn new(own_file: Arc<OwnedFd>, own: NetnsId, directory: Arc<NamedDirectory>, bindings: Bindings) -> Self {
        Self {
            bindings,
            directory,
            opened: HashMap::new(),
            own_file,
            own,
        }
    }

    /// Follows a reference; creates nothing.
    pub fn find(&self, reference: &NamespaceRef) -> Result<Found, Failure> {
        match reference {
            NamespaceRef::Own => {
                let file = Arc::clone(&self.own_file);
                Ok(Found {
                    file,
                    netns: self.own,
                    created: false,
                    sockets: None,
                    process: None,
                })
            }
            NamespaceRef::Named(name) => Found::new(self.directory.open(name)?, reference),
            NamespaceRef::Process(pid) | NamespaceRef::Container { pid, .. } => {
                self.find_process(reference, ProcessPath { pid: *pid, tid: None })
            }
            NamespaceRef::File(path) => match ProcessPath::recognise(path) {
                Some(path) => self.find_process(reference, path),
                None => self.opened(path),
            },
        }
    }

    fn opened(&self, path: &Path) -> Result<Found, Failure> {
        let unknown = || Err(failure::other(format!("{} was not opened ahead of its use", path.display())));
        let OpenedFile { file, netns } = self.opened.get(path).cloned().unwrap_or_else(unknown)?;
        Ok(Found {
            file,
            netns,
            created: false,
            sockets: None,
            process: None,
        })
    }

    /// The namespace of the process that the reference means. The agent's own one is no answer: whoever names a process or a
    /// container means another.
    fn find_process(&self, reference: &NamespaceRef, path: ProcessPath) -> Result<Found, Failure> {
        let remedy = match reference {
            NamespaceRef::Container { .. } => "it is tried again when the container is started again",
            _ => "put the value again after deleting it, to accept that one",
        };
        let process = process::open_namespace(path, self.bindings.meant(reference), remedy).map_err(|mut failure| {
            if let NamespaceRef::Container { label, .. } = reference {
                failure.message = format!("main process of microservice \"{label}\": {}", failure.message);
            }
            failure
        })?;
        let found = Found::new(process.file, reference)?;
        if found.netns == self.own {
            return Err(failure::unavailable(format!(
                "{} shares the agent's own network namespace ({}): to configure that one, leave the namespace out",
                describe(reference),
                found.netns
            )));
        }
        Ok(Found {
            process: Some(process.process),
            ..found
        })
    }

    /// Opens names, and creates those that do not exist, each with its mark. The answers are in the order of the names.
    pub fn open_or_create(&self, names: &[(&str, &str)], subscribe: bool) -> Vec<Result<Found, Failure>> {
        let open = |name: &str| match self.directory.existing(name) {
            Ok(file) => file.map(|file| Found::new(file, &NamespaceRef::Named(name.to_owned()))),
            Err(failure) => Some(Err(failure)),
        };
        let mut answers: Vec<Option<Result<Found, Failure>>> = names.iter().map(|(name, _)| open(name)).collect();
        let missing: Vec<usize> = (0..names.len()).filter(|index| answers[*index].is_none()).collect();
        for (index, answer) in self.create(names, &missing, subscribe) {
            answers[index] = Some(answer);
        }
        // Without any thread there are no answers.
        answers
            .into_iter()
            .map(|answer| answer.unwrap_or_else(|| Err(cannot_create())))
            .collect()
    }

    /// Creates some of the names on threads that end afterwards: each one takes its last namespace with it, and only the names
    /// and the answers keep them.
    fn create(&self, names: &[(&str, &str)], missing: &[usize], subscribe: bool) -> Vec<(usize, Result<Found, Failure>)> {
        let turn = AtomicUsize::new(0);
        let work = || {
            let mut answers = Vec::new();
            while let Some(index) = missing.get(turn.fetch_add(1, Ordering::Relaxed)) {
                let (name, mark) = names[*index];
                answers.push((*index, self.create_one(name, mark, subscribe)));
            }
            answers
        };
        thread::scope(|scope| {
            let spawn = |_| {
                thread::Builder::new()
                    .name("netns-create".to_owned())
                    .spawn_scoped(scope, work)
                    .ok()
            };
            let threads: Vec<_> = (0..missing.len().min(CREATORS_MAX)).filter_map(spawn).collect();
            threads.into_iter().filter_map(|thread| thread.join().ok()).flatten().collect()
        })
    }

    fn create_one(&self, name: &str, mark: &str, subscribe: bool) -> Result<Found, Failure> {
        let (file, sockets) = self.directory.open_or_create(name, mark, || Sockets::open(subscribe))?;
        let found = Found::new(file, &NamespaceRef::Named(name.to_owned()))?;
        Ok(Found {
            created: sockets.is_some(),
            sockets,
            ..found
        })
    }
}

/// A reference in words.
pub(super) fn describe(reference: &NamespaceRef) -> String {
    match reference {
        NamespaceRef::Own => "the agent's own network namespace".to_owned(),
        NamespaceRef::Named(name) => format!("network namespace \"{name}\""),
        NamespaceRef::Process(pid) => format!("the network namespace of PID {pid}"),
        NamespaceRef::File(path) => format!("the network namespace {}", path.display()),
        NamespaceRef::Container { label, .. } => format!("the network namespace of microservice \"{label}\""),
    }
}

/// A system call on a namespace that was found failed.
pub(super) fn cannot_open(reference: &NamespaceRef, error: &io::Error) -> Failure {
    failure::system(&format!("open {}", describe(reference)), &Refusal::from(error))
}

fn cannot_create() -> Failure {
    failure::system("start a thread that creates network namespaces", &Refusal::from(Errno::EAGAIN))
}
