//! The effects of the product: kernel operations through the executor, status through the publisher.
//!
//! Owns the open namespaces, which of them may have changed, and what was published of links and namespaces. Must never decide
//! what is to be done: it tells the scheduler what came of things. Start reading at [`NetworkEffects`].

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, HashSet},
    sync::Arc,
    time::Duration,
};

use models::key::Key;
use tracing::{debug, info, warn};

use crate::{
    descriptors::{
        Network,
        alias::Marks,
        applied_interface,
        inspect::{Background, Findings, KnownLinks, host_facts, inspect, is_created_by_agent},
        names::bearer,
        namespace::microservice_key,
        netns_of,
        sharing::concerned_by_link,
        value::{Microservice, Namespace, NamespaceName, OpenNamespace, Value, interface_key},
    },
    engine::Effects,
    signals::{
        docker::MicroserviceChange,
        namespaces::{Binding, Target},
    },
};
use kvscheduler::{Fault, FaultKind, KernelError, Observation, Operation, Outcome, Scheduler, StatusChange, Verb, Wait};
use netns_kernel::{AddressSpec, Failure, FailureKind, KernelOp, NamespaceRef, NetnsId, Outcome as KernelOutcome, Reply, Snapshot, Task};

use super::{
    bulk::Bulk,
    failure_class::{Class, classify},
    held::{self, HeldOrphans},
    host::{Host, ReferenceWatcher},
    report::Reporter,
    survey::{self, Survey, Surveyed},
};

/// After the first event a namespace is left this long to finish what it is doing, before it is read.
const SETTLE: Duration = Duration::from_millis(5);
/// A namespace is not read more often than this because of events.
const READ_INTERVAL: Duration = Duration::from_millis(30);
/// Part of that interval for each object in a large namespace: reading takes a few microseconds an object, so a namespace in which
/// events never end costs a quarter of the time at most.
const READ_INTERVAL_PER_OBJECT: Duration = Duration::from_micros(20);
/// A namespace that could not be read is tried again after this.
const RETRY_INTERVAL: Duration = Duration::from_millis(500);

/// Into how many parts an interval of sweeps is divided.
const SWEEP_PARTS: u64 = 64;

/// A namespace that is not watched is read this often while an address in it is tentative.
const DETECTION_INTERVAL: Duration = Duration::from_secs(1);

/// Number of a task whose outcome nobody waits for; operations are numbered from 1.
const NO_OPERATION: u64 = 0;

/// Something below changed.
pub enum Signal {
    /// Something in a namespace changed.
    Namespace(NetnsId),
    /// Docker's news.
    Microservice(MicroserviceChange),
    /// Orphans must stay, or need not stay any more.
    HoldOrphans(bool),
    /// Values that stay because removals are held, and since when.
    HeldValues(BTreeMap<Key, Duration>),
}

/// Namespaces to look into.
pub enum Look {
    /// What is open and may have changed.
    Refresh(Vec<NetnsId>),
    /// What an earlier run may have left something in.
    Survey(Survey),
}

/// What was seen there.
pub enum Seen {
    /// Namespaces read again, or why that failed.
    Refresh(Vec<(NetnsId, Result<Box<Snapshot>, String>)>),
    /// Namespaces found at start.
    Survey(Vec<Surveyed>),
}

impl Look {
    /// What reads namespaces that are open.
    pub fn readings(namespaces: Vec<NetnsId>) -> Vec<Task> {
        let task = |netns: NetnsId| Task {
            id: netns.0,
            key: format!("contents of {netns}"),
            ops: vec![KernelOp::DumpNamespace { netns }],
        };
        namespaces.into_iter().map(task).collect()
    }
}

impl Seen {
    /// What [`Look::readings`] brought.
    pub fn read(outcomes: Vec<KernelOutcome>) -> Self {
        let read = outcomes.into_iter().map(|outcome| match outcome.result {
            Ok(Reply::Contents(snapshot)) => (NetnsId(outcome.id), Ok(snapshot)),
            Ok(other) => (NetnsId(outcome.id), Err(format!("unexpected answer {other:?}"))),
            Err(failure) => (NetnsId(outcome.id), Err(failure.message)),
        });
        Seen::Refresh(read.collect())
    }
}

/// What an operation does with a namespace.
#[derive(Clone, Copy, PartialEq, Eq)]
enum OnNamespace {
    Open,
    Verify(NetnsId),
    Close(NetnsId),
}

/// An operation under way.
struct Flying {
    key: Key,
    verb: Verb,
    /// It replaces what somebody put in the place of the agent's own.
    takes_back: bool,
    /// Of an operation on a namespace: which, how it is found, and what is done.
    namespace: Option<(NamespaceName, NamespaceRef, OnNamespace)>,
}

/// A namespace that an earlier run left something in.
struct Leftover {
    name: NamespaceName,
    open: OpenNamespace,
    /// What of the agent's is or was in it may be that of desired values: if it is in the way, that is not because a value was lost.
    explained: bool,
}

/// See the [module documentation](self).
pub struct NetworkEffects {
    host: Arc<dyn Host>,
    marks: Marks,
    watcher: Box<dyn ReferenceWatcher>,
    reporter: Reporter,
    own: NetnsId,
    flying: HashMap<u64, Flying>,
    /// Names under which each namespace is open.
    open: HashMap<NetnsId, BTreeSet<NamespaceName>>,
    /// Namespaces to be read, and from when on.
    suspects: BTreeMap<NetnsId, Duration>,
    last_read: HashMap<NetnsId, Duration>,
    /// Minimum time between two readings of namespaces in which there is very much.
    read_intervals: HashMap<NetnsId, Duration>,
    /// The managed links of each open namespace as they were seen last.
    known_links: HashMap<NetnsId, KnownLinks>,
    /// Routes and neighbours that vanished while their interface stayed as it was. What is there in their place has replaced them, so
    /// it may be replaced as well.
    dispossessed: BTreeSet<Key>,
    sweep_interval: Duration,
    /// Addresses that nobody asked for are removed at a resync.
    strict: bool,
    /// Namespaces of which the next look is a resync.
    to_resync: BTreeSet<NetnsId>,
    /// Namespaces that held something, when they were read last, which may belong to one that is not open yet.
    undecided: BTreeSet<NetnsId>,
    /// Namespaces of the survey with such a thing in them, under each of their names. The scheduler would close them, so it is told of
    /// them when that is decided.
    undecided_leftovers: BTreeMap<NetnsId, Vec<Leftover>>,
    /// Something was done or decided since those were looked at.
    acted: bool,
    /// Namespaces that the survey left out because they were wanted, or that were closed with something undecided in them: once nobody
    /// wants them, they are surveyed like those that nobody ever wanted.
    unseen: BTreeMap<NamespaceName, NamespaceRef>,
    /// Those of them that nobody wants.
    to_survey: BTreeMap<NamespaceName, NamespaceRef>,
    /// Namespaces that changed while they were not known to be open.
    missed: BTreeSet<NetnsId>,
    host_facts: BTreeMap<Key, Value>,
    /// Addresses that others have on managed links, as the scheduler was told of them.
    observed: HashMap<NetnsId, BTreeSet<Key>>,
    /// EXISTING interfaces that are applied, with the names of their links and with their addresses.
    existing: BTreeMap<Key, (String, Vec<Option<AddressSpec>>)>,
    watched: BTreeSet<Key>,
    /// To be done with the next batch: see [`Self::forget_process`].
    forgotten: Vec<Task>,
    /// Orphans that must stay.
    held: HeldOrphans,
    /// While it goes on, nothing is read.
    bulk: Bulk,
    now: Duration,
}

impl NetworkEffects {
    /// Effects through these parts. `own` is the agent's own namespace, already open.
    /// A namespace that is not watched is read every `sweep_interval`.
    pub fn new(
        host: Arc<dyn Host>,
        marks: Marks,
        watcher: Box<dyn ReferenceWatcher>,
        reporter: Reporter,
        sweep_interval: Duration,
    ) -> Self {
        let own = host.own_namespace();
        NetworkEffects {
            host,
            marks,
            watcher,
            reporter,
            own,
            flying: HashMap::new(),
            open: HashMap::from([(own, BTreeSet::from([NamespaceName::Own]))]),
            suspects: BTreeMap::new(),
            last_read: HashMap::new(),
            read_intervals: HashMap::new(),
            known_links: HashMap::new(),
            dispossessed: BTreeSet::new(),
            sweep_interval,
            strict: false,
            to_resync: BTreeSet::new(),
            undecided: BTreeSet::new(),
            undecided_leftovers: BTreeMap::new(),
            acted: false,
            unseen: BTreeMap::new(),
            to_survey: BTreeMap::new(),
            missed: BTreeSet::new(),
            host_facts: BTreeMap::new(),
            observed: HashMap::new(),
            existing: BTreeMap::new(),
            watched: BTreeSet::new(),
            forgotten: Vec::new(),
            held: HeldOrphans::default(),
            bulk: Bulk::default(),
            now: Duration::ZERO,
        }
    }

    /// Removes, at a resync, foreign addresses from the links that the agent made and from those of EXISTING interfaces.
    pub fn strict(self) -> Self {
        NetworkEffects { strict: true, ..self }
    }

    /// The fact that stands for the agent's own namespace.
    pub fn own_namespace(own: NetnsId) -> (Key, Option<Value>) {
        let open = OpenNamespace {
            netns: own,
            reference: NamespaceRef::Own,
            owned: false,
        };
        (
            NamespaceName::Own.key(),
            Some(Value::Namespace(Namespace {
                name: NamespaceName::Own,
                open: Some(open),
            })),
        )
    }

    fn outcome(&mut self, scheduler: &mut Scheduler<Network>, outcome: KernelOutcome) -> Option<(NamespaceName, NetnsId, Box<Snapshot>)> {
        let Flying {
            key,
            verb,
            takes_back,
            namespace,
        } = self.flying.remove(&outcome.id)?;
        match (outcome.result, namespace) {
            (Ok(Reply::Opened { netns, created, contents }), Some((name, reference, _))) => {
                let owned = created || is_created_by_agent(&contents, &self.marks);
                let open = OpenNamespace { netns, reference, owned };
                self.opened(&key, &name, netns, owned);
                let value = Value::Namespace(Namespace {
                    name: name.clone(),
                    open: Some(open),
                });
                scheduler.outcome(outcome.id, Outcome::Became(value));
                return Some((name, netns, contents));
            }
            (Ok(Reply::Changed(text)), _) => {
                info!(key = %key, "the namespace changed: {text}");
                scheduler.outcome(outcome.id, Outcome::Changed(text));
            }
            (Ok(Reply::Adopted), _) if takes_back => {
                info!(key = %key, "replaced what somebody had put in its place");
                scheduler.outcome(outcome.id, Outcome::Done);
            }
            (Ok(Reply::Adopted), _) => {
                let value = scheduler.view().coming(&key).map(|value| value.with_adopted(true));
                info!(key = %key, "adopted what somebody else had made");
                scheduler.outcome(outcome.id, value.map_or(Outcome::Done, Outcome::Became));
            }
            (Ok(_), namespace) => {
                if let Some((name, reference, OnNamespace::Close(netns))) = namespace {
                    self.closed(&key, &name, reference, netns);
                    if !self.open.contains_key(&netns) {
                        self.report_observed(scheduler, netns, BTreeSet::new());
                    }
                }
                scheduler.outcome(outcome.id, Outcome::Done);
            }
            // What is there now is somebody else's, so what was to be removed is gone.
            (Err(failure), _) if verb == Verb::Delete && failure.kind == FailureKind::Foreign => {
                debug!(key = %key, "nothing to remove: {}", failure.message);
                scheduler.outcome(outcome.id, Outcome::Done);
            }
            (Err(failure), namespace) => {
                if matches!(failure.kind, FailureKind::Tentative | FailureKind::Duplicate)
                    && let Some(netns) = detected_in(scheduler, &key)
                {
                    self.look_for_detection(netns);
                }
                if takes_back {
                    self.dispossessed.insert(key.clone());
                }
                let failed = self.failed(&key, namespace, failure);
                scheduler.outcome(outcome.id, failed);
            }
        }
        None
    }

    /// What a failure means for the scheduler; publishes it if a namespace could not be opened.
    fn failed(&mut self, key: &Key, namespace: Option<(NamespaceName, NamespaceRef, OnNamespace)>, failure: Failure) -> Outcome<Value> {
        let (class, reason) = classify(failure.kind, namespace.is_some());
        let timed_out = failure.kind == FailureKind::TimedOut;
        match namespace {
            // The watcher asks again as soon as it can see the namespace.
            Some((name, _, OnNamespace::Open)) if timed_out || matches!(class, Class::Waiting | Class::Failed(FaultKind::Refused)) => {
                debug!(key = %key, "waiting: {}", failure.message);
                // A named namespace that does not exist is created, so something else has its name.
                let obstructed = matches!(name, NamespaceName::Named(_));
                self.watch(key, &name, if obstructed { Binding::Obstructed } else { Binding::Missing });
                self.reporter.namespace(&name, None, &failure.message);
            }
            Some((name, _, OnNamespace::Verify(netns))) => {
                // Nothing is known: what is applied stays, and the watcher, told anew what it is bound to, asks again.
                warn!(key = %key, errno = failure.errno, "cannot check the namespace: {}", failure.message);
                self.watch(key, &name, Binding::Bound { inode: netns.0 });
            }
            _ if class == Class::Waiting => debug!(key = %key, "waiting: {}", failure.message),
            // Its status says so, and the report of the status is logged.
            _ if has_status(key) => debug!(key = %key, errno = failure.errno, "failed: {}", failure.message),
            _ => warn!(key = %key, errno = failure.errno, "failed: {}", failure.message),
        }
        let message = failure.message;
        match class {
            Class::Waiting => Outcome::Waiting(Wait { reason, message }),
            Class::Failed(kind) => Outcome::Failed(Fault {
                kind,
                reason,
                message,
                kernel: failure.errno.map(|errno| KernelError {
                    errno,
                    text: failure.kernel_text,
                }),
            }),
        }
    }

    fn opened(&mut self, key: &Key, name: &NamespaceName, netns: NetnsId, owned: bool) {
        self.open.entry(netns).or_default().insert(name.clone());
        self.unseen.remove(name);
        self.plan_first_look(netns);
        self.watch(key, name, Binding::Bound { inode: netns.0 });
        self.reporter.namespace(name, Some((netns, owned)), "");
        info!(namespace = %name, %netns, owned, "namespace opened");
    }

    /// Namespaces that are opened together are not swept together: a sweep of very many would hold up everything else.
    fn first_sweep(&self, netns: NetnsId) -> Duration {
        let part = u32::try_from(netns.0 % SWEEP_PARTS).unwrap_or_default();
        self.sweep_interval * part / SWEEP_PARTS as u32
    }

    /// What changed meanwhile is looked at now, and what is not listened to in a while.
    fn plan_first_look(&mut self, netns: NetnsId) {
        if self.missed.remove(&netns) {
            self.read_by(netns, self.now);
        } else if !self.host.is_watched(netns) {
            self.read_by(netns, self.now + self.first_sweep(netns));
        }
    }

    fn closed(&mut self, key: &Key, name: &NamespaceName, reference: NamespaceRef, netns: NetnsId) {
        if self.undecided.contains(&netns) {
            self.unseen.insert(name.clone(), reference);
        }
        self.no_longer_open(name, netns);
        self.unwatch(key);
        self.reporter.namespace_gone(name);
        info!(namespace = %name, %netns, "namespace closed");
    }

    fn no_longer_open(&mut self, name: &NamespaceName, netns: NetnsId) {
        if self.held.closed(netns, name) {
            self.reporter.held_orphans(self.held.texts());
        }
        let Some(names) = self.open.get_mut(&netns) else { return };
        names.remove(name);
        if names.is_empty() {
            self.open.remove(&netns);
            self.suspects.remove(&netns);
            self.last_read.remove(&netns);
            self.read_intervals.remove(&netns);
            self.known_links.remove(&netns);
            self.to_resync.remove(&netns);
            self.undecided.remove(&netns);
            self.reporter.links_of(netns, Vec::new());
        }
    }

    fn watch(&mut self, key: &Key, name: &NamespaceName, binding: Binding) {
        let target = match name {
            NamespaceName::Named(name) => Target::Named(name.clone()),
            NamespaceName::Process(pid) => Target::Process(*pid),
            NamespaceName::File(path) => Target::File(path.into()),
            // Docker's tracker tells of containers, and the own namespace does not change.
            NamespaceName::Microservice(_) => {
                self.watched.insert(key.clone());
                return;
            }
            NamespaceName::Own => return,
        };
        self.watched.insert(key.clone());
        self.watcher.watch(key.to_string(), target, binding);
    }

    fn unwatch(&mut self, key: &Key) {
        if self.watched.remove(key) {
            self.watcher.unwatch(key.as_str());
        }
    }

    /// Stops watching references that nobody names any more.
    fn drop_unused_watches(&mut self, scheduler: &Scheduler<Network>) {
        let view = scheduler.view();
        let unused: Vec<Key> = self
            .watched
            .iter()
            .filter(|key| view.wanted(key).is_none() && view.applied(key).is_none())
            .cloned()
            .collect();
        for key in unused {
            self.unwatch(&key);
            self.reporter.namespace_key_gone(&key);
            self.forget_process(&key);
        }
    }

    /// What was not looked into because it was wanted, and is wanted no longer, may hold something that nobody knows of.
    fn note_unseen(&mut self, scheduler: &Scheduler<Network>) {
        let view = scheduler.view();
        let needed = |name: &NamespaceName| {
            let key = name.key();
            view.wanted(&key).is_some() || view.applied(&key).is_some() || view.in_flight(&key)
        };
        let to_survey = &mut self.to_survey;
        self.unseen.retain(|name, reference| {
            let needed = needed(name);
            if !needed {
                to_survey.insert(name.clone(), reference.clone());
            }
            needed
        });
    }

    /// Nobody names a process any more that was never found, or is gone: whoever names it again means the process of then.
    fn forget_process(&mut self, key: &Key) {
        let reference = match NamespaceName::of_key(key) {
            Some(NamespaceName::Process(pid)) => Some(NamespaceRef::Process(pid)),
            Some(NamespaceName::File(path)) => Some(NamespaceRef::File(path.into())),
            _ => None,
        };
        let Some(reference) = reference else { return };
        // With the next batch and first in it, so before any later attempt to open the reference.
        self.forgotten.push(Task {
            id: NO_OPERATION,
            key: key.to_string(),
            ops: vec![KernelOp::ForgetProcess { reference }],
        });
    }

    /// Tells the scheduler what a look at a namespace brought. `resync`: it is no answer to an event.
    fn look(
        &mut self,
        scheduler: &mut Scheduler<Network>,
        name: &NamespaceName,
        netns: NetnsId,
        snapshot: &Snapshot,
        resync: bool,
    ) -> Findings {
        let nothing = KnownLinks::default();
        let background = Background {
            known: self.known_links.get(&netns).unwrap_or(&nothing),
            strict: self.strict && resync,
            holding: self.held.is_holding(),
        };
        let mut findings = inspect(&scheduler.view(), &self.marks, name, netns, snapshot, &background);
        if self.held.take(netns, name, &mut findings.found) {
            self.reporter.held_orphans(self.held.texts());
        }
        self.note_dispossessed(scheduler, &findings);
        self.look_at_other_ends(scheduler, netns, &findings);
        for key in &findings.lost {
            debug!(key = %key, %netns, "is no longer in the kernel");
        }
        for (key, value) in &findings.found {
            if value.orphan().is_some() {
                info!(namespace = %name, object = %orphan_text(key), "deleting an orphan: no desired value names it");
            }
            debug!(key = %key, %netns, ?value, "found in the kernel");
        }
        scheduler.observe(Observation {
            lost: std::mem::take(&mut findings.lost),
            observed: std::mem::take(&mut findings.found),
            unfinished: std::mem::take(&mut findings.unfinished),
            probes: std::mem::take(&mut findings.probes),
        });
        if findings.tentative {
            self.look_for_detection(netns);
        }
        if findings.undecided {
            self.undecided.insert(netns);
        }
        findings
    }

    /// The other end of a pair counts as gone because this one is; should it be there all the same, it is in the way of a new pair.
    fn look_at_other_ends(&mut self, scheduler: &Scheduler<Network>, netns: NetnsId, findings: &Findings) {
        let view = scheduler.view();
        let interfaces = findings.lost.iter().filter_map(|key| view.applied(key)?.interface());
        let elsewhere = interfaces.filter_map(|interface| netns_of(&view, &interface.namespace));
        for other in elsewhere.filter(|other| *other != netns) {
            self.read_by(other, self.now);
        }
    }

    fn note_dispossessed(&mut self, scheduler: &Scheduler<Network>, findings: &Findings) {
        let view = scheduler.view();
        let found = findings.found.iter().map(|(key, _)| key);
        let changed: HashSet<&Key> = findings.lost.iter().chain(found).collect();
        for key in &findings.lost {
            let interface = match view.applied(key) {
                Some(Value::Route(route)) => &route.interface,
                Some(Value::Arp(arp)) => &arp.interface,
                _ => continue,
            };
            if view.wanted(key).is_some() && !changed.contains(&interface_key(interface)) {
                self.dispossessed.insert(key.clone());
            }
        }
    }

    /// Judges a namespace of the survey again that was undecided.
    fn decide_leftover(&mut self, scheduler: &mut Scheduler<Network>, netns: NetnsId, contents: &Snapshot) {
        for leftover in self.undecided_leftovers.remove(&netns).unwrap_or_default() {
            self.leftover(scheduler, leftover, contents);
        }
    }

    /// The kernel tells when duplicate address detection is over, where it is listened to.
    fn look_for_detection(&mut self, netns: NetnsId) {
        if !self.host.is_watched(netns) {
            self.read_by(netns, self.now + DETECTION_INTERVAL);
        }
    }

    fn look_under_all_names(&mut self, scheduler: &mut Scheduler<Network>, netns: NetnsId, snapshot: &Snapshot) {
        if netns == self.own {
            self.report_host_facts(scheduler, snapshot);
        }
        self.undecided.remove(&netns);
        self.decide_leftover(scheduler, netns, snapshot);
        self.note_size(netns, snapshot);
        let resync = self.to_resync.remove(&netns);
        let (mut links, mut observed) = (Vec::new(), BTreeSet::new());
        // What the startup scan found is not known to the scheduler before it is decided whose it is.
        let leftovers = self.undecided_leftovers.get(&netns).into_iter().flatten();
        let undecided: BTreeSet<NamespaceName> = leftovers.map(|leftover| leftover.name.clone()).collect();
        for name in self.open.get(&netns).cloned().unwrap_or_default() {
            if undecided.contains(&name) {
                continue;
            }
            let findings = self.look(scheduler, &name, netns, snapshot, resync);
            links.extend(findings.links);
            observed.extend(findings.observed);
        }
        self.report_observed(scheduler, netns, observed);
        let mut known = KnownLinks::default();
        known.add(&links);
        self.known_links.insert(netns, known);
        self.reporter.links_of(netns, links);
    }

    /// Reports the facts about the agent's own namespace. Findings are judged by them, so this comes before each inspection.
    fn report_host_facts(&mut self, scheduler: &mut Scheduler<Network>, snapshot: &Snapshot) {
        let facts = host_facts(snapshot, &self.marks);
        let gone: Vec<Key> = self.host_facts.keys().filter(|key| !facts.contains_key(*key)).cloned().collect();
        gone.iter().for_each(|key| scheduler.fact(key, None));
        for (key, value) in &facts {
            let known = self.host_facts.get(key);
            if known != Some(value) {
                scheduler.fact(key, Some(value.clone()));
            }
            if known.is_some_and(|known| known != value) {
                let concerned = concerned_by_link(&scheduler.view(), key);
                concerned.iter().for_each(|key| scheduler.probe(key));
            }
        }
        self.host_facts = facts;
    }

    /// Reports to the scheduler which addresses of others appeared on managed links and which are gone.
    fn report_observed(&mut self, scheduler: &mut Scheduler<Network>, netns: NetnsId, observed: BTreeSet<Key>) {
        let known = self.observed.remove(&netns).unwrap_or_default();
        known.difference(&observed).for_each(|key| scheduler.fact(key, None));
        observed
            .difference(&known)
            .for_each(|key| scheduler.fact(key, Some(Value::Present)));
        if !observed.is_empty() {
            self.observed.insert(netns, observed);
        }
    }

    /// The larger a namespace, the longer its next reading may wait.
    fn note_size(&mut self, netns: NetnsId, snapshot: &Snapshot) {
        let objects = snapshot.links.len() + snapshot.addresses.len() + snapshot.routes.len() + snapshot.neighbours.len();
        let interval = READ_INTERVAL_PER_OBJECT * u32::try_from(objects).unwrap_or(u32::MAX);
        match interval > READ_INTERVAL {
            true => self.read_intervals.insert(netns, interval),
            false => self.read_intervals.remove(&netns),
        };
    }

    fn survey_found(&mut self, scheduler: &mut Scheduler<Network>, surveyed: Surveyed) {
        let Surveyed {
            name,
            reference,
            netns,
            contents,
        } = surveyed;
        if name == NamespaceName::Own {
            if !self.host.is_watched(netns) {
                self.read_by(netns, self.now + self.first_sweep(netns));
            }
            self.to_resync.insert(netns);
            return self.look_under_all_names(scheduler, netns, &contents);
        }
        let owned = is_created_by_agent(&contents, &self.marks);
        let open = OpenNamespace { netns, reference, owned };
        self.open.entry(netns).or_default().insert(name.clone());
        self.plan_first_look(netns);
        let leftover = Leftover {
            name,
            open,
            explained: false,
        };
        self.leftover(scheduler, leftover, &contents);
    }

    /// Tells the scheduler of a namespace that an earlier run left something in, unless that may still turn out to be wanted.
    fn leftover(&mut self, scheduler: &mut Scheduler<Network>, mut leftover: Leftover, contents: &Snapshot) {
        let Leftover { name, open, .. } = &leftover;
        let key = name.key();
        let is_open = scheduler.view().applied(&key).is_some();
        if is_open || scheduler.view().wanted(&key).is_some() {
            if self.held.keep_empty(open.netns, name, false) {
                self.reporter.held_orphans(self.held.texts());
            }
            // Named meanwhile, and opened once more or about to be: one of the two goes back with the next batch.
            let close = KernelOp::CloseNamespace {
                reference: open.reference.clone(),
                netns: open.netns,
                remove_if_marked: None,
                forget: false,
            };
            self.forgotten.push(Task {
                id: NO_OPERATION,
                key: key.to_string(),
                ops: vec![close],
            });
            if !is_open {
                self.no_longer_open(name, open.netns);
                self.unseen.insert(leftover.name, leftover.open.reference);
            }
            return;
        }
        let netns = open.netns;
        let background = Background {
            known: &KnownLinks::default(),
            strict: false,
            holding: self.held.is_holding(),
        };
        let mut findings = inspect(&scheduler.view(), &self.marks, name, netns, contents, &background);
        let is_superseded = |value: &Value| value.orphan().is_some_and(|orphan| orphan.superseded);
        leftover.explained |= findings.undecided || findings.found.iter().any(|(_, value)| is_superseded(value));
        if findings.undecided {
            self.undecided.insert(netns);
            self.undecided_leftovers.entry(netns).or_default().push(leftover);
            return;
        }
        let mut changed = self.held.take(netns, &leftover.name, &mut findings.found);
        let has_orphans = self.held.are_in(netns);
        // The agent cannot know for which value an empty namespace was made; it may be one that the store lost.
        let stays = self.held.is_holding() && (has_orphans || !leftover.explained);
        changed |= self
            .held
            .keep_empty(netns, &leftover.name, stays && !has_orphans && leftover.open.owned);
        if changed {
            self.reporter.held_orphans(self.held.texts());
        }
        if stays {
            self.undecided_leftovers.entry(netns).or_default().push(leftover);
            return;
        }
        let Leftover { name, open, .. } = leftover;
        info!(namespace = %name, %netns, owned = open.owned, "left by an earlier run; what nobody wants is removed");
        // It may be wanted before it is given back, and then stays open.
        self.watch(&key, &name, Binding::Bound { inode: netns.0 });
        self.reporter.namespace(&name, Some((netns, open.owned)), "");
        let (name, open) = (name.clone(), Some(open));
        scheduler.found(vec![(key, Value::Namespace(Namespace { name: name.clone(), open }))]);
        self.look(scheduler, &name, netns, contents, true);
    }
}

/// Returns whether a failure of the value shows in a published status: its own, or that of the interface that it is derived from.
fn has_status(key: &Key) -> bool {
    key.as_str().starts_with("config/") || bearer(key).is_some()
}

/// What an orphan is, from its key.
fn orphan_text(key: &Key) -> &str {
    key.as_str().splitn(4, '/').last().unwrap_or_default()
}

/// The namespace of the address that a detection is about.
fn detected_in(scheduler: &Scheduler<Network>, key: &Key) -> Option<NetnsId> {
    let view = scheduler.view();
    let interface = &view.wanted(key)?.detection()?.interface;
    Some(applied_interface(&view, interface)?.1)
}

/// A route or a neighbour is to be made even where another one is.
fn replace_whatever_is_there(op: &mut KernelOp) {
    if let KernelOp::AddRoute { adopt, .. } | KernelOp::SetNeighbour { adopt, .. } = op {
        *adopt = true;
    }
}

/// What the operations of a namespace value do with it.
fn on_namespace(key: &Key, ops: &[KernelOp]) -> Option<(NamespaceName, NamespaceRef, OnNamespace)> {
    let (reference, on) = match ops.first()? {
        KernelOp::OpenNamespace { reference, .. } => (reference, OnNamespace::Open),
        KernelOp::VerifyNamespace { reference, netns } => (reference, OnNamespace::Verify(*netns)),
        KernelOp::CloseNamespace { reference, netns, .. } => (reference, OnNamespace::Close(*netns)),
        _ => return None,
    };
    Some((NamespaceName::of_key(key)?, reference.clone(), on))
}

impl Effects for NetworkEffects {
    type Domain = Network;
    type Signal = Signal;
    type Task = Task;
    type Outcome = KernelOutcome;
    type Look = Look;
    type Seen = Seen;
    type Place = NetnsId;

    fn places(operation: &Operation<Vec<KernelOp>>) -> Vec<NetnsId> {
        operation.effect.iter().flat_map(KernelOp::works_in).collect()
    }

    fn goes_together(operation: &Operation<Vec<KernelOp>>) -> bool {
        // Only with all namespaces that are opened together known can links be told from those that belong elsewhere.
        !Self::is_change(operation)
    }

    fn prepare(&mut self, operations: Vec<Operation<Vec<KernelOp>>>, now: Duration) -> Vec<Task> {
        // Opening a namespace changes nothing in one. So a restart that finds everything in order reads each namespace once.
        let changes = operations.iter().filter(|operation| Self::is_change(operation)).count();
        if self.bulk.batch(changes, now) {
            self.host.listen(false);
            self.reporter.bulk(Some(now));
        }
        let mut tasks = std::mem::take(&mut self.forgotten);
        self.acted = true;
        for mut operation in operations {
            let takes_back = self.dispossessed.remove(&operation.key) && operation.verb == Verb::Create;
            if takes_back {
                operation.effect.iter_mut().for_each(replace_whatever_is_there);
            }
            if operation.verb == Verb::Delete {
                operation.effect.splice(..0, self.held.removals_before(&operation.key));
            }
            debug!(key = %operation.key, verb = ?operation.verb, ops = ?operation.effect, "operation");
            let namespace = on_namespace(&operation.key, &operation.effect);
            if let Some((_, _, OnNamespace::Close(netns))) = namespace
                && self.held.are_in(netns)
            {
                held::keep_namespace(&mut operation.effect);
                // So that the startup scan returns to it.
                self.undecided.insert(netns);
            }
            self.flying.insert(
                operation.id,
                Flying {
                    key: operation.key.clone(),
                    verb: operation.verb,
                    takes_back,
                    namespace,
                },
            );
            tasks.push(Task {
                id: operation.id,
                key: operation.key.to_string(),
                ops: operation.effect,
            });
        }
        tasks
    }

    fn operation_of(outcome: &KernelOutcome) -> u64 {
        outcome.id
    }

    fn is_plain(operation: &Operation<Vec<KernelOp>>) -> bool {
        operation.verb != Verb::Delete && !Self::goes_together(operation)
    }

    fn is_success(outcome: &KernelOutcome) -> bool {
        matches!(outcome.result, Ok(Reply::Done))
    }

    fn performed(&mut self, scheduler: &mut Scheduler<Network>, outcomes: Vec<KernelOutcome>) {
        let opened: Vec<_> = outcomes
            .into_iter()
            .filter_map(|outcome| self.outcome(scheduler, outcome))
            .collect();
        // Only when all namespaces that were opened together are known can links be told from those that belong elsewhere.
        for (name, netns, contents) in opened {
            // An invalid value is found under the name that is looked at first: that must be the one that keeps the namespace.
            self.decide_leftover(scheduler, netns, &contents);
            let Findings { links, observed, .. } = self.look(scheduler, &name, netns, &contents, true);
            // The namespace may be open under other names, too.
            let known = self.observed.get(&netns).cloned().unwrap_or_default();
            self.report_observed(scheduler, netns, known.into_iter().chain(observed).collect());
            self.known_links.entry(netns).or_default().add(&links);
            self.reporter.links_of(netns, links);
        }
        self.note_unseen(scheduler);
    }

    fn seen(&mut self, scheduler: &mut Scheduler<Network>, seen: Seen) {
        match seen {
            Seen::Refresh(read) => {
                for (netns, contents) in read {
                    match contents {
                        Ok(snapshot) => self.look_under_all_names(scheduler, netns, &snapshot),
                        // An error never means that something is gone: look again later.
                        Err(message) => {
                            warn!(%netns, "cannot read the namespace: {message}");
                            self.read_by(netns, self.now + RETRY_INTERVAL);
                        }
                    }
                }
            }
            Seen::Survey(surveyed) => surveyed.into_iter().for_each(|surveyed| self.survey_found(scheduler, surveyed)),
        }
    }

    fn signal(&mut self, scheduler: &mut Scheduler<Network>, signal: Signal, now: Duration) {
        self.now = now;
        match signal {
            Signal::Namespace(netns) if self.open.contains_key(&netns) => {
                let interval = self.read_intervals.get(&netns).copied().unwrap_or(READ_INTERVAL);
                let earliest = self.last_read.get(&netns).map_or(now, |last| *last + interval);
                self.read_by(netns, (now + SETTLE).max(earliest));
            }
            // Not the scheduler's any more, or not yet: when its opening is told, what was read then may be old.
            Signal::Namespace(netns) => {
                self.missed.insert(netns);
                self.host.rearm(netns);
            }
            Signal::Microservice(change) => self.microservice(scheduler, change),
            Signal::HeldValues(held) => self.reporter.held_values(&scheduler.view(), held),
            Signal::HoldOrphans(holding) => {
                if self.held.hold(holding) && !holding {
                    self.reporter.held_orphans(Vec::new());
                    // What was passed over is found when it is read again.
                    self.suspect_all(now);
                }
            }
        }
    }

    fn survey(&mut self, scheduler: &Scheduler<Network>) -> Option<Look> {
        let view = scheduler.view();
        let wanted = |name: &NamespaceName| view.wanted(&name.key()).is_some();
        let survey = survey::plan(&*self.host, &self.marks, wanted);
        self.unseen.extend(survey.left_out().iter().cloned());
        Some(Look::Survey(survey))
    }

    fn refresh(&mut self, now: Duration) -> Option<Look> {
        self.now = now;
        if self.bulk.idle(now) {
            self.host.listen(true);
            self.reporter.bulk(None);
            let unheard: Vec<NetnsId> = self.open.keys().copied().filter(|netns| self.host.is_watched(*netns)).collect();
            unheard.into_iter().for_each(|netns| self.read_by(netns, now));
        }
        if self.bulk.over_at().is_some() {
            return None;
        }
        let due: Vec<NetnsId> = self
            .suspects
            .iter()
            .filter(|(_, from)| **from <= now)
            .map(|(netns, _)| *netns)
            .collect();
        if due.is_empty() {
            let unwanted = std::mem::take(&mut self.to_survey);
            return (!unwanted.is_empty()).then(|| Look::Survey(survey::again(&self.marks, unwanted.into_iter().collect())));
        }
        for netns in &due {
            self.suspects.remove(netns);
            self.last_read.insert(*netns, now);
            if !self.host.is_watched(*netns) {
                self.suspects.insert(*netns, now + self.sweep_interval);
            }
            // Before it is read, so that nothing falls between.
            self.host.rearm(*netns);
        }
        Some(Look::Refresh(due))
    }

    fn desired_changed(&mut self) {
        // Long overdue, so that it is done before anything is made that may be there already.
        self.suspects.extend(self.undecided.iter().map(|netns| (*netns, Duration::ZERO)));
    }

    fn suspect_all(&mut self, now: Duration) {
        if self.bulk.interrupt() {
            self.host.listen(true);
            self.reporter.bulk(None);
        }
        let open: Vec<NetnsId> = self.open.keys().copied().collect();
        open.into_iter().for_each(|netns| self.read_by(netns, now));
        self.to_resync.extend(self.open.keys());
    }

    fn refresh_deadline(&self) -> Option<Duration> {
        self.bulk.over_at().or_else(|| self.suspects.values().min().copied())
    }

    fn publish(&mut self, scheduler: &Scheduler<Network>, changes: Vec<StatusChange>) {
        // Before a status goes away, for that is the sign to the user that the value is forgotten.
        self.drop_unused_watches(scheduler);
        self.note_unseen(scheduler);
        self.acted = true;
        for change in changes {
            if change.status.is_none() {
                self.dispossessed.remove(&change.key);
            }
            self.note_existing(scheduler, &change.key);
            self.reporter.status(&scheduler.view(), &change);
        }
    }

    fn settled(&mut self) {
        if std::mem::take(&mut self.acted) {
            for netns in self.undecided.clone() {
                self.read_again(netns);
            }
        }
        self.reporter.settled();
    }
}

impl NetworkEffects {
    /// Whether an operation changes something in a namespace.
    fn is_change(operation: &Operation<Vec<KernelOp>>) -> bool {
        on_namespace(&operation.key, &operation.effect).is_none()
    }

    /// Plans a reading. One that is planned for an earlier time stays so.
    fn read_by(&mut self, netns: NetnsId, due: Duration) {
        let planned = self.suspects.entry(netns).or_insert(due);
        *planned = due.min(*planned);
    }

    /// As [`Self::read_by`], soon. Its consequences must not lead to the next one without a pause.
    fn read_again(&mut self, netns: NetnsId) {
        let earliest = self.last_read.get(&netns).map_or(self.now, |last| *last + READ_INTERVAL);
        self.read_by(netns, self.now.max(earliest));
    }

    /// Reads the agent's own namespace after an EXISTING interface became applied or was changed: that takes no operation, so the kernel
    /// reports nothing, and which addresses on its link count as those of others is not known yet.
    fn note_existing(&mut self, scheduler: &Scheduler<Network>, key: &Key) {
        let view = scheduler.view();
        let interface = view.applied(key).and_then(Value::interface);
        match interface.filter(|interface| interface.is_existing()) {
            Some(interface) => {
                let addresses = interface.addresses.iter().map(|address| address.spec).collect();
                let now = (interface.host_name.clone(), addresses);
                if self.existing.get(key) != Some(&now) {
                    self.existing.insert(key.clone(), now);
                    self.read_again(self.own);
                }
            }
            None => {
                self.existing.remove(key);
            }
        }
    }

    fn microservice(&mut self, scheduler: &mut Scheduler<Network>, change: MicroserviceChange) {
        match change {
            MicroserviceChange::Available(service) => {
                info!(label = %service.label, container = %service.container_name, pid = service.pid, "microservice available");
                self.reporter.microservice(&service, self.host.namespace_of(service.pid));
                let value = Microservice {
                    label: service.label.clone(),
                    container_id: service.container_id,
                    container_name: service.container_name,
                    pid: service.pid,
                    start_time: service.process_start_time,
                };
                scheduler.fact(&microservice_key(&service.label), Some(Value::Microservice(value.into())));
            }
            MicroserviceChange::Gone { label, reason, .. } => {
                info!(%label, "microservice gone: {reason}");
                self.reporter.microservice_gone(&label);
                scheduler.fact(&microservice_key(&label), None);
            }
            MicroserviceChange::Synced => {
                self.reporter.docker(Ok(()));
                scheduler.settle_facts();
                self.acted = true;
            }
            MicroserviceChange::Disconnected { message } => {
                debug!("Docker cannot be reached: {message}");
                self.reporter.docker(Err(message));
            }
        }
    }
}
