//! Namespaces in the simulated kernel: names, processes, open namespaces, and subscriptions to changes.

use super::{Kernel, OWN, Process, Subscription, failure};
use netns_kernel::{Failure, FailureKind, LinkState, NamespaceRef, NetnsId, Reply, Snapshot};

/// The error number ENOENT (errno(3)).
const ENOENT: i32 = 2;

fn unavailable(message: String) -> Failure {
    failure(FailureKind::Unavailable, ENOENT, message)
}

impl Kernel {
    /// Returns true if a name is used by a namespace or by a dangling symbolic link.
    pub(super) fn is_taken(&self, name: &str) -> bool {
        self.names.contains_key(name) || self.dangling.contains(name)
    }

    /// Creates a dangling symbolic link with this name, unless the name is taken.
    pub fn dangle(&mut self, name: &str) {
        if !self.is_taken(name) {
            self.dangling.insert(name.to_owned());
            self.references += 1;
        }
    }

    /// Adds a foreign namespace (`ip netns add`), or returns the existing namespace with this name.
    pub fn add_named(&mut self, name: &str) -> NetnsId {
        if let Some(netns) = self.names.get(name) {
            return *netns;
        }
        let netns = self.new_space("");
        self.names.insert(name.to_owned(), netns);
        self.references += 1;
        netns
    }

    /// Deletes the name of a namespace (`ip netns del`).
    pub fn remove_named(&mut self, name: &str) {
        self.references += u64::from(self.dangling.remove(name));
        if let Some(netns) = self.names.remove(name) {
            self.references += 1;
            self.collect(netns);
        }
    }

    /// Starts a process in a new namespace. Ends any process that has the same PID first.
    pub fn start_process(&mut self, pid: i32) -> Process {
        self.end_process(pid);
        let netns = self.new_space("");
        let process = Process {
            netns,
            start_time: self.next_start_time,
        };
        self.next_start_time += 1;
        self.processes.insert(pid, process);
        self.references += 1;
        process
    }

    /// Ends a process.
    pub fn end_process(&mut self, pid: i32) {
        if let Some(process) = self.processes.remove(&pid) {
            self.references += 1;
            self.collect(process.netns);
        }
    }

    /// Closes the namespaces and subscriptions of an agent that has ended. Namespaces that only the agent kept open also end.
    pub fn agent_gone(&mut self) {
        self.fuel = None;
        self.reported.clear();
        self.subscriptions.clear();
        self.deaf = false;
        for netns in std::mem::take(&mut self.pins).into_keys() {
            self.collect(netns);
        }
    }

    pub(super) fn new_space(&mut self, alias: &str) -> NetnsId {
        let netns = NetnsId(self.next_netns);
        self.next_netns += 1;
        let lo = LinkState {
            index: 1,
            name: "lo".to_owned(),
            alias: alias.to_owned(),
            up: true,
            mtu: 65536,
            ..LinkState::default()
        };
        let links = vec![lo];
        self.spaces.insert(
            netns,
            Snapshot {
                links,
                ..Snapshot::default()
            },
        );
        netns
    }

    /// Ends a namespace if nothing refers to it any more. [`Self::reap`] deletes its links later.
    fn collect(&mut self, netns: NetnsId) {
        let mut kept_by_process = self.processes.values().map(|process| process.netns);
        let mut kept_by_name = self.names.values();
        let kept = netns == OWN
            || self.pins.contains_key(&netns)
            || kept_by_name.any(|kept| *kept == netns)
            || kept_by_process.any(|kept| kept == netns);
        if !kept && !self.dying.contains(&netns) {
            self.dying.push(netns);
        }
    }

    /// Returns true if the links of any ended namespace still exist.
    pub fn has_dying(&self) -> bool {
        !self.dying.is_empty()
    }

    /// Deletes the links of all ended namespaces, and their peers in other namespaces.
    pub fn reap(&mut self) {
        for netns in std::mem::take(&mut self.dying) {
            let links: Vec<u32> = self
                .spaces
                .get(&netns)
                .map_or(Vec::new(), |space| space.links.iter().map(|link| link.index).collect());
            for index in links.into_iter().filter(|index| *index != 1) {
                self.remove_link(netns, index);
            }
            self.spaces.remove(&netns);
        }
    }

    /// Resolves a reference. If it refers to a process, also returns the start time of the process.
    pub fn find(&self, reference: &NamespaceRef) -> Result<(NetnsId, Option<u64>), Failure> {
        let missing = || unavailable(format!("{reference:?} does not exist"));
        match reference {
            NamespaceRef::Own => Ok((OWN, None)),
            NamespaceRef::Named(name) => self.names.get(name).map(|netns| (*netns, None)).ok_or_else(missing),
            NamespaceRef::File(path) => {
                let name = path.to_str().and_then(|path| path.strip_prefix("/run/netns/"));
                let netns = name.and_then(|name| self.names.get(name));
                netns.map(|netns| (*netns, None)).ok_or_else(missing)
            }
            NamespaceRef::Process(pid) | NamespaceRef::Container { pid, .. } => {
                let process = self.processes.get(pid).ok_or_else(missing)?;
                let meant = match reference {
                    NamespaceRef::Container { start_time, .. } => Some(*start_time),
                    _ => self.bindings.get(reference).copied(),
                };
                if meant.is_some_and(|meant| meant != process.start_time) && !self.forgetful {
                    return Err(unavailable(format!("PID {pid} was reused and now belongs to another process")));
                }
                if process.netns == OWN {
                    return Err(unavailable(format!("PID {pid} shares the agent's own network namespace")));
                }
                Ok((process.netns, Some(process.start_time)))
            }
        }
    }

    pub(super) fn open(&mut self, reference: &NamespaceRef, mark: Option<&str>) -> Result<Reply, Failure> {
        let found = self.find(reference);
        let created = found.is_err();
        let (netns, process) = match (found, reference, mark) {
            (Ok(found), ..) => found,
            (Err(_), NamespaceRef::Named(name), Some(mark)) if !self.is_taken(name) => {
                let netns = self.new_space(mark);
                self.names.insert(name.clone(), netns);
                self.references += 1;
                // A reference to the namespace file of this name now resolves to the new namespace as well.
                self.side_effects = true;
                (netns, None)
            }
            (Err(failure), ..) => return Err(failure),
        };
        if let (Some(start_time), NamespaceRef::Process(_)) = (process, reference) {
            self.bindings.entry(reference.clone()).or_insert(start_time);
        }
        *self.pins.entry(netns).or_default() += 1;
        if self.subscriptions.len() < self.watched_max {
            let fresh = Subscription {
                armed: true,
                pending: false,
            };
            self.subscriptions.entry(netns).or_insert(fresh);
        }
        Ok(Reply::Opened {
            netns,
            created,
            contents: Box::new(self.read(netns)),
        })
    }

    pub(super) fn close(&mut self, reference: &NamespaceRef, netns: NetnsId, remove_if_marked: Option<&str>, forget: bool) {
        if let (NamespaceRef::Named(name), Some(prefix)) = (reference, remove_if_marked) {
            let lo = self.spaces.get(&netns).and_then(|space| space.links.first());
            if lo.is_some_and(|lo| lo.alias.starts_with(prefix)) && self.names.get(name) == Some(&netns) {
                self.names.remove(name);
                self.references += 1;
                self.side_effects = true;
            }
        }
        if forget {
            self.bindings.remove(reference);
        }
        if let Some(pins) = self.pins.get_mut(&netns) {
            *pins -= 1;
            if *pins == 0 {
                self.pins.remove(&netns);
                self.subscriptions.remove(&netns);
                self.collect(netns);
            }
        }
    }

    /// Records a change in a namespace. A subscription reports only the first change until it is re-armed.
    pub(super) fn changed(&mut self, netns: NetnsId) {
        if let Some(subscription) = self.subscriptions.get_mut(&netns).filter(|_| !self.deaf) {
            if std::mem::take(&mut subscription.armed) {
                self.reported.push(netns);
            } else {
                subscription.pending = true;
            }
        }
    }

    /// Re-arms the subscription to a namespace. If the namespace has changed in the meantime, reports the change immediately
    /// instead.
    pub fn rearm(&mut self, netns: NetnsId) {
        if let Some(subscription) = self.subscriptions.get_mut(&netns) {
            if std::mem::take(&mut subscription.pending) {
                self.reported.push(netns);
            } else {
                subscription.armed = true;
            }
        }
    }

    /// Returns true if the agent has a subscription to the changes in a namespace.
    pub fn is_watched(&self, netns: NetnsId) -> bool {
        self.subscriptions.contains_key(&netns)
    }
}
