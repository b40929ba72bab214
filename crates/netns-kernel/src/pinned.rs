//! Manages the pinned namespaces. All references that lead to the same inode share one pinned namespace.
//!
//! Opens and closes namespaces, and keeps track of the process to which each reference is bound. Never changes anything inside a
//! namespace, except sysctls on request.

use std::{
    collections::HashMap,
    os::fd::{OwnedFd, RawFd},
    path::{Path, PathBuf},
    sync::Arc,
};

use nix::errno::Errno;

use super::{
    descriptor_store::StoredNamespaces,
    entrance::Entrance,
    failure, link, link_details,
    monitor::Watches,
    netlink::Refusal,
    opening::{Finder, Found, Sockets, cannot_open, describe},
    operation::{Failure, FailureKind, LinkDetails, NamespaceRef, NetnsId, Reply, Snapshot},
    process::Identity,
    slow_open::Opening,
    sysctl,
    table::{Bounds, Pinned, Table},
};

/// A namespace that was opened through a reference and has not been read yet.
struct Entered {
    netns: NetnsId,
    created: bool,
    process: Option<Identity>,
}

/// All pinned namespaces.
pub(super) struct Namespaces {
    table: Table,
    finder: Finder,
    entrance: Entrance,
    watches: Watches,
    /// Results of [`Namespaces::prepare`], by name.
    prepared: HashMap<String, Result<Found, Failure>>,
    /// Descriptors that are also stored outside this process.
    stored: StoredNamespaces,
}

impl Namespaces {
    /// Returns an empty set of namespaces.
    pub fn new(finder: Finder, entrance: Entrance, watches: Watches, bounds: Bounds, stored: StoredNamespaces) -> Self {
        Self {
            table: Table::new(bounds),
            finder,
            entrance,
            watches,
            prepared: HashMap::new(),
            stored,
        }
    }

    /// Opens named namespaces in advance, and creates missing ones. Opens the sockets of all of them in one visit.
    ///
    /// Each name must be opened with [`Namespaces::open`] afterwards, before any other operation.
    pub fn prepare(&mut self, names: &[(&str, &str)]) {
        // If not all namespaces can be watched, `pin` decides which of them to watch.
        let subscribe = self.watches.room() >= names.len();
        let mut answers = self.finder.open_or_create(names, subscribe);
        let unvisited = |found: &&mut Found| found.sockets.is_none() && !self.table.contains(found.netns);
        let mut unvisited: Vec<&mut Found> = answers.iter_mut().flatten().filter(unvisited).collect();
        let files: Vec<Arc<OwnedFd>> = unvisited.iter().map(|found| Arc::clone(&found.file)).collect();
        let sockets = self.entrance.visit_all(files, move || Sockets::open(subscribe));
        for (found, sockets) in unvisited.iter_mut().zip(sockets) {
            // If the sockets could not be opened, `pin` tries again and reports the failure.
            found.sockets = sockets.ok();
        }
        self.prepared = names.iter().map(|(name, _)| (*name).to_owned()).zip(answers).collect();
    }

    /// Stores the result of opening a file. [`Self::open`] uses this result for references to the file until [`Self::withdraw`]
    /// is called.
    pub fn offer(&mut self, path: &Path, opening: Opening) {
        self.finder.opened.insert(path.to_owned(), opening);
    }

    /// Discards the result that was stored by [`Self::offer`].
    pub fn withdraw(&mut self, path: &Path) {
        self.finder.opened.remove(path);
    }

    /// Finds, pins, watches and reads a namespace. If `mark` is set, a named namespace that does not exist is created.
    pub fn open(&mut self, reference: &NamespaceRef, mark: Option<&str>) -> Result<Reply, Failure> {
        let entered = self.enter(reference, mark)?;
        let contents = self.read(entered.netns);
        self.settle(reference, entered, contents)
    }

    /// Opens several namespaces like [`Self::open`], in order, but reads all of them together at the end.
    pub fn open_all(&mut self, wanted: &[(&NamespaceRef, Option<&str>)]) -> Vec<Result<Reply, Failure>> {
        let entered: Vec<_> = wanted.iter().map(|(reference, mark)| self.enter(reference, *mark)).collect();
        let to_read: Vec<NetnsId> = entered.iter().flatten().map(|entered| entered.netns).collect();
        let mut contents = self.read_all(&to_read);
        let mut settle = |((reference, _), entered): (&(&NamespaceRef, Option<&str>), Result<Entered, Failure>)| {
            let entered = entered?;
            // A namespace that was opened through two references is read once for each reference.
            let contents = contents.remove(&entered.netns).unwrap_or_else(|| self.read(entered.netns));
            self.settle(reference, entered, contents)
        };
        wanted.iter().zip(entered).map(&mut settle).collect()
    }

    /// Finds, pins and watches a namespace. After success, the caller must always call [`Self::settle`].
    fn enter(&mut self, reference: &NamespaceRef, mark: Option<&str>) -> Result<Entered, Failure> {
        let mut found = self.find_or_create(reference, mark)?;
        if found.process.is_some() && self.leads_elsewhere(reference, found.netns) {
            // The PID was reused while the agent was down, so do not bind the reference to the new process.
            self.finder.bindings.exclude(reference);
            found = self.finder.find(reference)?;
        }
        let entered = Entered {
            netns: found.netns,
            created: found.created,
            process: found.process.take(),
        };
        self.pin(reference, found)
            .inspect_err(|_| self.undo_creation(reference, entered.created))?;
        Ok(entered)
    }

    /// Returns whether the reference led to a different namespace in an earlier run. Returns false if the process of the
    /// reference is known, because the processes are compared instead.
    fn leads_elsewhere(&self, reference: &NamespaceRef, netns: NetnsId) -> bool {
        self.finder.bindings.meant(reference).is_none() && self.stored.earlier(reference).is_some_and(|earlier| earlier != netns)
    }

    /// Removes the stored descriptors of references that have not been opened in this run.
    pub fn remove_unopened_descriptors(&mut self) {
        self.stored.remove_unopened();
    }

    /// Completes [`Self::enter`]: returns the contents of the namespace, or releases the namespace if it could not be read.
    fn settle(&mut self, reference: &NamespaceRef, entered: Entered, contents: Result<Snapshot, Failure>) -> Result<Reply, Failure> {
        let Entered { netns, created, process } = entered;
        let contents = contents.inspect_err(|_| {
            self.release(reference, netns);
            self.undo_creation(reference, created);
        })?;
        if let Some(process) = process {
            self.finder.bindings.bind(reference, process);
        }
        Ok(Reply::Opened {
            netns,
            created,
            contents: Box::new(contents),
        })
    }

    /// Deletes a newly created name, so that the next attempt creates the name again and reports it as created.
    fn undo_creation(&self, reference: &NamespaceRef, created: bool) {
        if created && let NamespaceRef::Named(name) = reference {
            let _ = self.finder.directory.remove(name);
        }
    }

    fn find_or_create(&mut self, reference: &NamespaceRef, mark: Option<&str>) -> Result<Found, Failure> {
        let (NamespaceRef::Named(name), Some(mark)) = (reference, mark) else {
            return self.finder.find(reference);
        };
        if let Some(prepared) = self.prepared.remove(name) {
            return prepared;
        }
        let mut answers = self.finder.open_or_create(&[(name, mark)], self.watches.room() > 0);
        // There is always exactly one result for one name.
        answers.pop().unwrap_or_else(|| self.finder.find(reference))
    }

    /// Checks whether a reference still leads to the given namespace.
    pub fn verify(&self, reference: &NamespaceRef, netns: NetnsId) -> Result<Reply, Failure> {
        match self.finder.find(reference) {
            Ok(found) if found.netns == netns => Ok(Reply::Same),
            Ok(found) => Ok(Reply::Changed(format!(
                "{} now refers to namespace {} instead of {netns}",
                describe(reference),
                found.netns
            ))),
            Err(failure) if matches!(failure.kind, FailureKind::Unavailable | FailureKind::Unusable) => Ok(Reply::Changed(failure.message)),
            Err(failure) => Err(failure),
        }
    }

    /// Releases a namespace that was opened through this reference.
    ///
    /// Also deletes the name of the namespace if the alias of `lo` starts with the prefix in `remove_if_marked`. Also deletes the
    /// binding of the reference if `forget` is true.
    pub fn close(
        &mut self,
        reference: &NamespaceRef,
        netns: NetnsId,
        remove_if_marked: Option<&str>,
        forget: bool,
    ) -> Result<Reply, Failure> {
        // Delete the name before the release, so that a failed deletion can be retried.
        if let (NamespaceRef::Named(name), Some(prefix)) = (reference, remove_if_marked) {
            self.remove_if_marked(name, netns, prefix)?;
        }
        if forget {
            self.finder.bindings.forget(reference);
        }
        self.release(reference, netns);
        Ok(Reply::Done)
    }

    /// Deletes the binding of a reference to a process.
    pub fn forget(&mut self, reference: &NamespaceRef) -> Result<(), Failure> {
        self.finder.bindings.forget(reference);
        self.stored.released(reference);
        Ok(())
    }

    /// Returns a pinned namespace with its sockets. Reopens the sockets if they were closed.
    pub fn get_mut(&mut self, netns: NetnsId) -> Result<&mut Pinned, Failure> {
        self.wake(netns)?;
        self.table.get_mut(netns).ok_or_else(|| not_open(netns))
    }

    fn wake(&mut self, netns: NetnsId) -> Result<(), Failure> {
        let Some((file, place)) = self.table.asleep(netns) else {
            return Ok(());
        };
        let (file, place) = (Arc::clone(file), place.to_owned());
        let sockets = self
            .entrance
            .visit(&file, || Sockets::open(false))
            .map_err(|error| failure::system(&format!("open sockets in {place}"), &Refusal::from(error)))?;
        self.table.insert(netns, file, place, sockets.route, sockets.ethtool);
        Ok(())
    }

    /// Returns the nsfs descriptor of a pinned namespace, for IFLA_NET_NS_FD.
    pub fn descriptor(&self, netns: NetnsId) -> Result<RawFd, Failure> {
        self.table.descriptor(netns).ok_or_else(|| not_open(netns))
    }

    /// Returns whether the namespace is pinned.
    pub fn contains(&self, netns: NetnsId) -> bool {
        self.table.contains(netns)
    }

    /// Returns the number of namespaces that [`Self::several_mut`] can return at once.
    pub fn together_max(&self) -> usize {
        self.table.together_max()
    }

    /// Returns several pinned namespaces at once, at most [`Self::together_max`].
    ///
    /// Leaves out namespaces that are not pinned or whose sockets cannot be opened.
    pub fn several_mut(&mut self, wanted: &[NetnsId]) -> Vec<(NetnsId, &mut Pinned)> {
        for netns in wanted {
            // Opening the sockets of one of these namespaces does not close the sockets of another, because this call marks each
            // namespace as recently used. A caller that needs the reason for a failure requests the namespace separately.
            let _ = self.get_mut(*netns);
        }
        self.table.several_mut(wanted)
    }

    /// Reads a pinned namespace.
    pub fn read(&mut self, netns: NetnsId) -> Result<Snapshot, Failure> {
        self.get_mut(netns)?.read()
    }

    /// Reads the links of a pinned namespace with all details.
    pub fn read_links(&mut self, netns: NetnsId) -> Result<Vec<LinkDetails>, Failure> {
        let pinned = self.get_mut(netns)?;
        link_details::dump(&mut pinned.route).map_err(|refusal| failure::refused("read links", &pinned.place, &refusal))
    }

    /// Sets a sysctl inside a pinned namespace. Returns whether the sysctl had another value before.
    pub fn ensure_sysctl(&mut self, netns: NetnsId, path: PathBuf, value: &'static str) -> Result<bool, Refusal> {
        let file = self.table.file(netns).cloned().ok_or(Errno::ENOENT)?;
        Ok(self.entrance.visit(&file, move || sysctl::ensure(&path, value))?)
    }

    /// Adds a namespace to the table, and increments its open count for this reference. Watches the namespace if possible.
    fn pin(&mut self, reference: &NamespaceRef, found: Found) -> Result<(), Failure> {
        let (netns, file) = (found.netns, found.file);
        let watch = self.watches.wants(netns);
        if !watch && self.table.contains(netns) {
            self.table.count(netns, reference);
            self.stored.opened(reference, netns, &file);
            return Ok(());
        }
        if let Some(most) = self.table.full_at().filter(|_| !self.table.contains(netns)) {
            return Err(failure::system(
                &format!(
                    "keep {} open: the maximum of {most} network namespaces is already open",
                    describe(reference)
                ),
                &Refusal::from(Errno::EMFILE),
            ));
        }
        let sockets = match found.sockets {
            Some(sockets) if sockets.events.is_some() || !watch => sockets,
            _ => self
                .entrance
                .visit(&file, move || Sockets::open(watch))
                .map_err(|error| cannot_open(reference, &error))?,
        };
        if let Some(events) = sockets.events.filter(|_| watch) {
            self.watches.add(netns, events).map_err(|error| cannot_open(reference, &error))?;
        }
        let place = format!("{} ({netns})", describe(reference));
        self.stored.opened(reference, netns, &file);
        self.table.insert(netns, file, place, sockets.route, sockets.ethtool);
        self.table.count(netns, reference);
        Ok(())
    }

    /// Decrements the open count of a namespace for this reference. Closes the namespace if no reference has it open any more.
    fn release(&mut self, reference: &NamespaceRef, netns: NetnsId) {
        if self.table.release(netns, reference) {
            self.watches.remove(netns);
        }
        if !self.table.is_open(netns, reference) {
            self.stored.released(reference);
        }
    }

    fn remove_if_marked(&mut self, name: &str, netns: NetnsId, prefix: &str) -> Result<(), Failure> {
        if !self.contains(netns) {
            return Ok(());
        }
        let pinned = self.get_mut(netns)?;
        let lo = link::find(&mut pinned.route, "lo").map_err(|refusal| failure::refused("read link \"lo\"", &pinned.place, &refusal))?;
        if !lo.is_some_and(|lo| lo.alias.starts_with(prefix)) {
            return Ok(());
        }
        match self.finder.find(&NamespaceRef::Named(name.to_owned())) {
            Ok(now) if now.netns == netns => self.finder.directory.remove(name),
            // The name now refers to another namespace, so keep the name.
            Ok(_) => Ok(()),
            Err(failure) if matches!(failure.kind, FailureKind::Unavailable | FailureKind::Unusable) => Ok(()),
            Err(failure) => Err(failure),
        }
    }
}

fn not_open(netns: NetnsId) -> Failure {
    failure::other(format!("network namespace {netns} is not open: it was closed or never opened"))
}
