//! Opens or creates the namespace to which a reference leads.
//!
//! The module `table` stores the opened namespaces.

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

/// Maximum number of threads that create namespaces.
///
/// More than two threads would not be faster, because the kernel registers namespaces one at a time.
const CREATORS_MAX: usize = 2;

/// Sockets opened in a namespace during one visit.
pub(super) struct Sockets {
    /// Socket for changes and reads.
    pub route: RouteSocket,
    /// Socket for checksum offloading.
    pub ethtool: EthtoolSocket,
    /// Socket subscribed to changes; `None` if the namespace is not to be watched.
    pub events: Option<Socket>,
}

impl Sockets {
    /// Opens the sockets in the namespace of the calling thread.
    ///
    /// Opens the subscribed socket first, so that no change before the first read is missed.
    pub fn open(subscribe: bool) -> io::Result<Self> {
        let events = subscribe.then(monitor::subscribe).transpose()?;
        Ok(Self {
            events,
            route: RouteSocket::open()?,
            ethtool: EthtoolSocket::open()?,
        })
    }
}

/// A namespace that was found through a reference.
pub(super) struct Found {
    /// Open nsfs file of the namespace.
    pub file: Arc<OwnedFd>,
    /// Identity of the namespace.
    pub netns: NetnsId,
    /// True if the namespace was created because it did not exist.
    pub created: bool,
    /// Sockets in the namespace; `None` if they are not open yet.
    pub sockets: Option<Sockets>,
    /// Process through which the namespace was found; `None` if the reference does not name a process.
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

/// Finds namespaces by their references.
pub(super) struct Finder {
    /// Process to which each reference is bound.
    pub bindings: Bindings,
    /// Directory of the named namespaces.
    pub directory: Arc<NamedDirectory>,
    /// Results of opening files. Other threads open the files, because opening a file could hang.
    pub opened: HashMap<PathBuf, Opening>,
    own_file: Arc<OwnedFd>,
    own: NetnsId,
}

impl Finder {
    /// Returns a finder. `own_file` is the agent's own namespace.
    pub fn new(own_file: Arc<OwnedFd>, own: NetnsId, directory: Arc<NamedDirectory>, bindings: Bindings) -> Self {
        Self {
            bindings,
            directory,
            opened: HashMap::new(),
            own_file,
            own,
        }
    }

    /// Opens the namespace of a reference. Never creates a namespace.
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
        let unknown = || Err(failure::other(format!("{} was used before it was opened", path.display())));
        let OpenedFile { file, netns } = self.opened.get(path).cloned().unwrap_or_else(unknown)?;
        Ok(Found {
            file,
            netns,
            created: false,
            sockets: None,
            process: None,
        })
    }

    /// Opens the namespace of the process to which the reference is bound.
    ///
    /// Fails if the process is in the agent's own namespace, because a reference to a process or container must lead to another
    /// namespace.
    fn find_process(&self, reference: &NamespaceRef, path: ProcessPath) -> Result<Found, Failure> {
        let remedy = match reference {
            NamespaceRef::Container { .. } => "the agent retries when the container is started again",
            _ => "to use the new process, delete the value and put it again",
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
                "{} shares the agent's own network namespace ({}): to configure the agent's own namespace, omit `namespace`",
                describe(reference),
                found.netns
            )));
        }
        Ok(Found {
            process: Some(process.process),
            ..found
        })
    }

    /// Opens named namespaces, and creates missing ones. Each element of `names` is a pair of name and ownership mark.
    ///
    /// The results are in the order of the names.
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
        // Some names have no result if no thread could be started.
        answers
            .into_iter()
            .map(|answer| answer.unwrap_or_else(|| Err(cannot_create())))
            .collect()
    }

    /// Creates the missing names on temporary threads.
    ///
    /// Each thread stays in the last namespace that it created until the thread ends. Afterwards, only the names and the
    /// returned files keep the namespaces alive.
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

/// Describes the namespace of a reference, for messages.
pub(super) fn describe(reference: &NamespaceRef) -> String {
    match reference {
        NamespaceRef::Own => "the agent's own network namespace".to_owned(),
        NamespaceRef::Named(name) => format!("network namespace \"{name}\""),
        NamespaceRef::Process(pid) => format!("the network namespace of PID {pid}"),
        NamespaceRef::File(path) => format!("the network namespace {}", path.display()),
        NamespaceRef::Container { label, .. } => format!("the network namespace of microservice \"{label}\""),
    }
}

/// Returns the error for a namespace that was found through this reference but could not be opened.
pub(super) fn cannot_open(reference: &NamespaceRef, error: &io::Error) -> Failure {
    failure::system(&format!("open {}", describe(reference)), &Refusal::from(error))
}

fn cannot_create() -> Failure {
    failure::system("start a thread that creates network namespaces", &Refusal::from(Errno::EAGAIN))
}
