//! The table of pinned namespaces: one entry for each inode, whatever references lead to it.
//!
//! Owns the descriptors and sockets of every open namespace, and which process a reference means. Must never change a link
//! or anything else inside a namespace. Start reading at [`Namespaces::open`].

use std::{
    collections::{HashMap, hash_map::Entry},
    fs::File,
    io,
    os::fd::{AsRawFd, OwnedFd, RawFd},
    path::PathBuf,
    sync::Arc,
};

use netlink_sys::Socket;

use super::{
    entrance::Entrance,
    ethtool::EthtoolSocket,
    failure, link,
    monitor::{self, Watches},
    namespace::{self, NamedDirectory},
    netlink::{Refusal, RouteSocket},
    operation::{Failure, FailureKind, NamespaceRef, NetnsId, Reply, Snapshot},
    process::{self, Bindings, ProcessPath},
    snapshot,
};

/// A pinned namespace. While the entry exists, the kernel keeps the namespace and does not reuse its inode number.
pub(super) struct Pinned {
    /// The nsfs file.
    pub file: Arc<OwnedFd>,
    /// Configures and reads.
    pub route: RouteSocket,
    /// Offload flags.
    pub ethtool: EthtoolSocket,
    /// How a person finds it, for messages.
    pub place: String,
    /// How often each reference opened it. Counted by reference, so that a reference that is given back once too often (to be
    /// forgotten, say) does not take the namespace away from another.
    opens: HashMap<NamespaceRef, usize>,
}

impl Pinned {
    /// Number of the nsfs descriptor, for IFLA_NET_NS_FD.
    pub fn descriptor(&self) -> RawFd {
        self.file.as_raw_fd()
    }
}

/// What is opened inside a namespace in one visit.
struct Sockets {
    route: RouteSocket,
    ethtool: EthtoolSocket,
    events: Option<Socket>,
}

impl Sockets {
    /// Subscribes first, so that no change can fall between the subscription and what is read afterwards.
    fn open(subscribe: bool) -> io::Result<Self> {
        let events = if subscribe { Some(monitor::subscribe()?) } else { None };
        Ok(Self {
            events,
            route: RouteSocket::open()?,
            ethtool: EthtoolSocket::open()?,
        })
    }
}

/// A namespace that a reference led to.
struct Resolved {
    file: File,
    netns: NetnsId,
    /// What was opened while it was created; `None` if it was there.
    created: Option<Sockets>,
    /// Start time of the process that it was found by.
    start_time: Option<u64>,
}

/// All pinned namespaces, and the ways to find more.
pub(super) struct Namespaces {
    entries: HashMap<NetnsId, Pinned>,
    bindings: Bindings,
    directory: Arc<NamedDirectory>,
    own_file: Arc<OwnedFd>,
    own: NetnsId,
    /// The thread that enters namespaces.
    pub entrance: Entrance,
    watches: Watches,
}

impl Namespaces {
    /// An empty table. `own_file` is the agent's own namespace, that of the calling thread.
    pub fn new(own_file: Arc<OwnedFd>, own: NetnsId, directory: Arc<NamedDirectory>, watches: Watches) -> io::Result<Self> {
        let entrance = Entrance::start(Arc::clone(&own_file))?;
        Ok(Self {
            entries: HashMap::new(),
            bindings: Bindings::default(),
            directory,
            own_file,
            own,
            entrance,
            watches,
        })
    }

    /// Finds, pins, watches and reads a namespace. A named one that does not exist is created with `mark`.
    pub fn open(&mut self, reference: &NamespaceRef, mark: &str) -> Result<Reply, Failure> {
        let found = self.resolve(reference, Some(mark))?;
        let (netns, created, start_time) = (found.netns, found.created.is_some(), found.start_time);
        let contents = self
            .pin(reference, found)
            .and_then(|()| self.read(netns).inspect_err(|_| self.release(reference, netns)));
        match contents {
            Ok(contents) => {
                if let Some(start_time) = start_time {
                    self.bindings.bind(reference, start_time);
                }
                Ok(Reply::Opened {
                    netns,
                    created,
                    contents: Box::new(contents),
                })
            }
            Err(failure) => {
                if created && let NamespaceRef::Named(name) = reference {
                    // Only its creator knows that it was created now: the next attempt starts anew.
                    let _ = self.directory.remove(name);
                }
                Err(failure)
            }
        }
    }

    /// Whether a reference still leads to a namespace.
    pub fn verify(&self, reference: &NamespaceRef, netns: NetnsId) -> Result<Reply, Failure> {
        match self.resolve(reference, None) {
            Ok(found) if found.netns == netns => Ok(Reply::Same),
            Ok(found) => Ok(Reply::Changed(format!(
                "{} now is {}, it was {netns}",
                describe(reference),
                found.netns
            ))),
            Err(failure) if failure.kind == FailureKind::Unavailable => Ok(Reply::Changed(failure.message)),
            Err(failure) => Err(failure),
        }
    }

    /// Gives back one open of a namespace, and removes its name if asked to and if it is ours.
    pub fn close(
        &mut self,
        reference: &NamespaceRef,
        netns: NetnsId,
        remove_if_marked: Option<&str>,
        forget: bool,
    ) -> Result<Reply, Failure> {
        let removed = match (reference, remove_if_marked) {
            (NamespaceRef::Named(name), Some(prefix)) => self.remove_if_marked(name, netns, prefix),
            _ => Ok(()),
        };
        if forget {
            self.bindings.forget(reference);
        }
        self.release(reference, netns);
        removed.map(|()| Reply::Done)
    }

    /// The entry of a pinned namespace.
    pub fn get_mut(&mut self, netns: NetnsId) -> Result<&mut Pinned, Failure> {
        self.entries.get_mut(&netns).ok_or_else(|| not_open(netns))
    }

    /// Whether the namespace is pinned.
    pub fn contains(&self, netns: NetnsId) -> bool {
        self.entries.contains_key(&netns)
    }

    /// All entries, to work on several at once.
    pub fn iter_mut(&mut self) -> impl Iterator<Item = (NetnsId, &mut Pinned)> {
        self.entries.iter_mut().map(|(netns, pinned)| (*netns, pinned))
    }

    /// Reads a pinned namespace.
    pub fn read(&mut self, netns: NetnsId) -> Result<Snapshot, Failure> {
        let pinned = self.get_mut(netns)?;
        snapshot::read(&mut pinned.route, &pinned.ethtool)
            .map_err(|refusal| failure::refused("read links, addresses, routes and neighbours", &pinned.place, &refusal))
    }

    /// Makes a sysctl have a value inside a pinned namespace.
    pub fn ensure_sysctl(&mut self, netns: NetnsId, path: PathBuf, value: &'static str) -> Result<(), Refusal> {
        let file = self
            .entries
            .get(&netns)
            .map(|pinned| Arc::clone(&pinned.file))
            .ok_or(nix::errno::Errno::ENOENT)?;
        Ok(self.entrance.visit(&file, move || super::sysctl::ensure(&path, value))?)
    }

    /// Follows a reference. Only with a mark, a missing name is created.
    fn resolve(&self, reference: &NamespaceRef, mark: Option<&str>) -> Result<Resolved, Failure> {
        let own = || {
            self.own_file
                .try_clone()
                .map(File::from)
                .map_err(|error| cannot_open(reference, &error))
        };
        let (file, created, start_time) = match reference {
            NamespaceRef::Own => (own()?, None, None),
            NamespaceRef::Named(name) => match mark {
                Some(mark) => {
                    let subscribe = self.watches.has_room();
                    let (file, created) = self.directory.open_or_create(name, mark, &|| Sockets::open(subscribe))?;
                    (file, created, None)
                }
                None => (self.directory.open(name)?, None, None),
            },
            NamespaceRef::Process(pid) => self.process(reference, ProcessPath { pid: *pid, tid: None })?,
            NamespaceRef::Container { pid, .. } => self.process(reference, ProcessPath { pid: *pid, tid: None })?,
            NamespaceRef::File(path) => match ProcessPath::recognise(path) {
                Some(path) => self.process(reference, path)?,
                None => (namespace::open_file(path)?, None, None),
            },
        };
        let netns = namespace::identity(&file).map_err(|error| cannot_open(reference, &error))?;
        if start_time.is_some() && netns == self.own {
            return Err(failure::unavailable(format!(
                "{} shares the agent's own network namespace ({netns}): to configure that one, leave the namespace out",
                describe(reference)
            )));
        }
        Ok(Resolved {
            file,
            netns,
            created,
            start_time,
        })
    }

    /// The namespace of the process that the reference means.
    fn process(&self, reference: &NamespaceRef, path: ProcessPath) -> Result<(File, Option<Sockets>, Option<u64>), Failure> {
        let remedy = match reference {
            NamespaceRef::Container { .. } => "it is tried again when the container is started again",
            _ => "put the value again after deleting it, to accept that one",
        };
        let found = process::open_namespace(path, self.bindings.bound(reference), remedy).map_err(|mut failure| {
            if let NamespaceRef::Container { label, .. } = reference {
                failure.message = format!("main process of microservice \"{label}\": {}", failure.message);
            }
            failure
        })?;
        Ok((found.file, None, Some(found.start_time)))
    }

    /// Enters a namespace into the table, or counts one more open of it.
    fn pin(&mut self, reference: &NamespaceRef, found: Resolved) -> Result<(), Failure> {
        let netns = found.netns;
        let watch = self.watches.wants(netns);
        if !watch && let Some(pinned) = self.entries.get_mut(&netns) {
            *pinned.opens.entry(reference.clone()).or_default() += 1;
            return Ok(());
        }
        let file = namespace::shared(found.file);
        let sockets = match found.created {
            Some(sockets) => sockets,
            None => self
                .entrance
                .visit(&file, move || Sockets::open(watch))
                .map_err(|error| cannot_open(reference, &error))?,
        };
        if let Some(events) = sockets.events {
            self.watches.add(netns, events).map_err(|error| cannot_open(reference, &error))?;
        }
        let pinned = self.entries.entry(netns).or_insert_with(|| {
            let place = format!("{} ({netns})", describe(reference));
            Pinned {
                file,
                route: sockets.route,
                ethtool: sockets.ethtool,
                place,
                opens: HashMap::new(),
            }
        });
        *pinned.opens.entry(reference.clone()).or_default() += 1;
        Ok(())
    }

    /// Gives back one open by a reference; with the last one, the namespace.
    fn release(&mut self, reference: &NamespaceRef, netns: NetnsId) {
        let Some(pinned) = self.entries.get_mut(&netns) else { return };
        if let Entry::Occupied(mut opens) = pinned.opens.entry(reference.clone()) {
            *opens.get_mut() -= 1;
            if *opens.get() == 0 {
                opens.remove();
            }
        }
        if pinned.opens.is_empty() {
            self.entries.remove(&netns);
            self.watches.remove(netns);
        }
    }

    fn remove_if_marked(&mut self, name: &str, netns: NetnsId, prefix: &str) -> Result<(), Failure> {
        let Some(pinned) = self.entries.get_mut(&netns) else {
            return Ok(());
        };
        let lo = link::find(&mut pinned.route, "lo").map_err(|refusal| failure::refused("read link \"lo\"", &pinned.place, &refusal))?;
        if !lo.is_some_and(|lo| lo.alias.starts_with(prefix)) {
            return Ok(());
        }
        match self
            .directory
            .open(name)
            .and_then(|file| namespace::identity(&file).map_err(|error| cannot_open_name(name, &error)))
        {
            Ok(now) if now == netns => self.directory.remove(name),
            // It leads elsewhere, or nowhere any more: not ours to remove.
            Ok(_) => Ok(()),
            Err(failure) if failure.kind == FailureKind::Unavailable => Ok(()),
            Err(failure) => Err(failure),
        }
    }
}

/// A reference in words.
fn describe(reference: &NamespaceRef) -> String {
    match reference {
        NamespaceRef::Own => "the agent's own network namespace".to_owned(),
        NamespaceRef::Named(name) => format!("network namespace \"{name}\""),
        NamespaceRef::Process(pid) => format!("the network namespace of PID {pid}"),
        NamespaceRef::File(path) => format!("the network namespace {}", path.display()),
        NamespaceRef::Container { label, .. } => format!("the network namespace of microservice \"{label}\""),
    }
}

fn not_open(netns: NetnsId) -> Failure {
    failure::other(format!("network namespace {netns} is not open: it was released or never found"))
}

fn cannot_open(reference: &NamespaceRef, error: &io::Error) -> Failure {
    failure::system(&format!("open {}", describe(reference)), &Refusal::from(error))
}

fn cannot_open_name(name: &str, error: &io::Error) -> Failure {
    failure::system(&format!("open network namespace \"{name}\""), &Refusal::from(error))
}
