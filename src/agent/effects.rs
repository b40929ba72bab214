//! The effects of the product: kernel operations through the executor, status through the publisher.
//!
//! Owns the open namespaces, which of them may have changed, and what was published of links and namespaces. Must never decide
//! what is to be done: it tells the scheduler what came of things. Start reading at [`NetworkEffects`].

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::Arc,
    time::Duration,
};

use models::key::{Key, NamespaceType, TypedKey};
use tracing::{debug, info, warn};

use crate::{
    descriptors::{
        Network,
        alias::Marks,
        inspect::{Findings, host_facts, inspect, is_created_by_agent},
        namespace::microservice_key,
        value::{Microservice, Namespace, NamespaceName, OpenNamespace, Value},
    },
    engine::{Effects, Work},
    kernel::{Executor, FailureKind, KernelOp, NamespaceRef, NetnsId, Outcome as KernelOutcome, Reply, Snapshot, Task},
    scheduler::{Fault, FaultKind, Operation, Outcome, Scheduler, StatusChange},
    signals::{
        docker::MicroserviceChange,
        namespaces::{Binding, Target, Watcher},
    },
};

use super::{report::Reporter, survey::Surveyed};

/// After the first event a namespace is left this long to finish what it is doing, before it is read.
const SETTLE: Duration = Duration::from_millis(5);
/// A namespace is not read more often than this because of events.
const READ_INTERVAL: Duration = Duration::from_millis(30);
/// A namespace that is not watched is read this often.
const SWEEP_INTERVAL: Duration = Duration::from_secs(10);

/// Number of a task whose outcome nobody waits for; operations are numbered from 1.
const NO_OPERATION: u64 = 0;

/// Something below changed.
pub enum Signal {
    /// Something in a namespace changed.
    Namespace(NetnsId),
    /// Docker's news.
    Microservice(MicroserviceChange),
}

/// What came of a piece of work.
pub enum Batch {
    /// Outcomes of operations.
    Operations(Vec<KernelOutcome>),
    /// Namespaces read again.
    Refresh(Vec<(NetnsId, Result<Box<Snapshot>, String>)>),
    /// Namespaces found at start.
    Survey(Vec<Surveyed>),
}

/// An operation under way.
struct Flying {
    key: Key,
    /// Of an operation that opens, checks or closes a namespace: how it is found.
    reference: Option<NamespaceRef>,
    closes: bool,
}

/// See the [module documentation](self).
pub struct NetworkEffects {
    executor: Arc<Executor>,
    marks: Marks,
    watcher: Watcher,
    reporter: Reporter,
    own: NetnsId,
    flying: HashMap<u64, Flying>,
    /// Names under which each namespace is open.
    open: HashMap<NetnsId, BTreeSet<NamespaceName>>,
    /// Namespaces to be read, and from when on.
    suspects: BTreeMap<NetnsId, Duration>,
    last_read: HashMap<NetnsId, Duration>,
    host_facts: BTreeMap<Key, Value>,
    watched: BTreeSet<Key>,
    /// To be done with the next batch: see [`Self::forget_process`].
    forgotten: Vec<Task>,
    now: Duration,
}

impl NetworkEffects {
    /// Effects through these parts. `own` is the agent's own namespace, already open.
    pub fn new(executor: Arc<Executor>, marks: Marks, watcher: Watcher, reporter: Reporter) -> Self {
        let own = executor.own_namespace();
        NetworkEffects {
            executor,
            marks,
            watcher,
            reporter,
            own,
            flying: HashMap::new(),
            open: HashMap::from([(own, BTreeSet::from([NamespaceName::Own]))]),
            suspects: BTreeMap::new(),
            last_read: HashMap::new(),
            host_facts: BTreeMap::new(),
            watched: BTreeSet::new(),
            forgotten: Vec::new(),
            now: Duration::ZERO,
        }
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
        let Flying { key, reference, closes } = self.flying.remove(&outcome.id)?;
        let namespace = || {
            scheduler
                .view()
                .wanted(&key)
                .or(scheduler.view().applied(&key))
                .and_then(Value::namespace)
                .cloned()
        };
        match outcome.result {
            Ok(Reply::Opened { netns, created, contents }) => {
                let name = namespace()?.name;
                let owned = created || is_created_by_agent(&contents, &self.marks);
                let open = OpenNamespace {
                    netns,
                    reference: reference?,
                    owned,
                };
                let value = Value::Namespace(Namespace {
                    name: name.clone(),
                    open: Some(open),
                });
                self.opened(&key, &name, netns, owned);
                scheduler.outcome(outcome.id, Outcome::Became(value));
                return Some((name, netns, contents));
            }
            Ok(Reply::Changed(text)) => {
                info!(key = %key, "the namespace changed: {text}");
                scheduler.outcome(outcome.id, Outcome::Changed(text));
            }
            Ok(Reply::Done | Reply::Same | Reply::Contents(_)) => {
                if closes && let Some(Namespace { name, open: Some(open) }) = scheduler.view().applied(&key).and_then(Value::namespace) {
                    self.closed(&key, name, open.netns);
                }
                scheduler.outcome(outcome.id, Outcome::Done);
            }
            Err(failure) => {
                let kind = match failure.kind {
                    FailureKind::Unavailable if reference.is_some() => FaultKind::Unavailable,
                    FailureKind::Unusable if reference.is_some() => FaultKind::Refused,
                    FailureKind::KindMissing => FaultKind::Persistent,
                    _ => FaultKind::Transient,
                };
                let reason = match failure.kind {
                    FailureKind::Unavailable => "Unavailable",
                    FailureKind::Unusable => "NotANetworkNamespace",
                    FailureKind::KindMissing => "KernelKindMissing",
                    FailureKind::Exists => "ObjectExists",
                    FailureKind::Other => "KernelError",
                };
                if matches!(kind, FaultKind::Unavailable | FaultKind::Refused) {
                    if let Some(namespace) = namespace() {
                        self.watch(&key, &namespace.name, Binding::Missing);
                        self.reporter.namespace(&namespace.name, None, &failure.message);
                    }
                    debug!(key = %key, "waiting: {}", failure.message);
                } else {
                    warn!(key = %key, errno = failure.errno, "failed: {}", failure.message);
                }
                scheduler.outcome(
                    outcome.id,
                    Outcome::Failed(Fault {
                        kind,
                        reason,
                        message: failure.message,
                    }),
                );
            }
        }
        None
    }

    fn opened(&mut self, key: &Key, name: &NamespaceName, netns: NetnsId, owned: bool) {
        self.open.entry(netns).or_default().insert(name.clone());
        if !self.executor.is_watched(netns) {
            self.suspects.insert(netns, self.now + SWEEP_INTERVAL);
        }
        self.watch(key, name, Binding::Bound { inode: netns.0 });
        self.reporter.namespace(name, Some((netns, owned)), "");
        info!(namespace = %name, %netns, owned, "namespace opened");
    }

    fn closed(&mut self, key: &Key, name: &NamespaceName, netns: NetnsId) {
        if let Some(names) = self.open.get_mut(&netns) {
            names.remove(name);
            if names.is_empty() {
                self.open.remove(&netns);
                self.suspects.remove(&netns);
                self.last_read.remove(&netns);
                self.reporter.links_of(netns, &[]);
            }
        }
        self.unwatch(key);
        self.reporter.namespace_gone(name);
        info!(namespace = %name, %netns, "namespace closed");
    }

    fn watch(&mut self, key: &Key, name: &NamespaceName, binding: Binding) {
        let target = match name {
            NamespaceName::Named(name) => Target::Named(name.clone()),
            NamespaceName::Process(pid) => Target::Process(*pid),
            NamespaceName::File(path) => Target::File(path.into()),
            // Docker's tracker tells of containers, and the own namespace does not change.
            NamespaceName::Own | NamespaceName::Microservice(_) => return,
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

    /// Nobody names a process any more that was never found, or is gone: whoever names it again means the process of then.
    fn forget_process(&mut self, key: &Key) {
        let Ok(TypedKey::Namespace { reference_type, reference }) = TypedKey::parse(key.as_str()) else {
            return;
        };
        let reference = match reference_type {
            NamespaceType::Pid => reference.parse().ok().map(NamespaceRef::Process),
            NamespaceType::Fd => Some(NamespaceRef::File(reference.into())),
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

    /// Tells the scheduler what a look at a namespace brought.
    fn look(&mut self, scheduler: &mut Scheduler<Network>, name: &NamespaceName, netns: NetnsId, snapshot: &Snapshot) -> Findings {
        let mut findings = inspect(&scheduler.view(), &self.marks, name, netns, snapshot);
        for key in &findings.lost {
            debug!(key = %key, %netns, "is no longer in the kernel");
        }
        for (key, value) in &findings.found {
            debug!(key = %key, %netns, ?value, "found in the kernel");
        }
        scheduler.lost(&findings.lost);
        scheduler.found(std::mem::take(&mut findings.found));
        scheduler.unfinished(&findings.unfinished);
        findings
    }

    fn look_under_all_names(&mut self, scheduler: &mut Scheduler<Network>, netns: NetnsId, snapshot: &Snapshot) {
        let mut links = Vec::new();
        for name in self.open.get(&netns).cloned().unwrap_or_default() {
            links.extend(self.look(scheduler, &name, netns, snapshot).links);
        }
        self.reporter.links_of(netns, &links);
        if netns == self.own {
            let facts = host_facts(snapshot, &self.marks);
            let gone: Vec<Key> = self.host_facts.keys().filter(|key| !facts.contains_key(*key)).cloned().collect();
            gone.iter().for_each(|key| scheduler.fact(key, None));
            for (key, value) in &facts {
                if !self.host_facts.contains_key(key) {
                    scheduler.fact(key, Some(value.clone()));
                }
            }
            self.host_facts = facts;
        }
    }

    fn survey_found(&mut self, scheduler: &mut Scheduler<Network>, surveyed: Surveyed) {
        let Surveyed {
            name,
            reference,
            netns,
            contents,
        } = surveyed;
        if name == NamespaceName::Own {
            return self.look_under_all_names(scheduler, netns, &contents);
        }
        let key = name.key();
        let owned = is_created_by_agent(&contents, &self.marks);
        let open = OpenNamespace { netns, reference, owned };
        self.open.entry(netns).or_default().insert(name.clone());
        scheduler.found(vec![(
            key,
            Value::Namespace(Namespace {
                name: name.clone(),
                open: Some(open),
            }),
        )]);
        self.look(scheduler, &name, netns, &contents);
        info!(namespace = %name, %netns, owned, "left by an earlier run; what nobody wants is removed");
    }
}

fn reference_of(ops: &[KernelOp]) -> (Option<NamespaceRef>, bool) {
    match ops.first() {
        Some(KernelOp::OpenNamespace { reference, .. } | KernelOp::VerifyNamespace { reference, .. }) => (Some(reference.clone()), false),
        Some(KernelOp::CloseNamespace { reference, .. }) => (Some(reference.clone()), true),
        _ => (None, false),
    }
}

impl Effects for NetworkEffects {
    type Domain = Network;
    type Signal = Signal;
    type Batch = Batch;

    fn perform(&mut self, operations: Vec<Operation<Vec<KernelOp>>>) -> Work<Batch> {
        let mut tasks = std::mem::take(&mut self.forgotten);
        for operation in operations {
            debug!(key = %operation.key, verb = ?operation.verb, ops = ?operation.effect, "operation");
            let (reference, closes) = reference_of(&operation.effect);
            self.flying.insert(
                operation.id,
                Flying {
                    key: operation.key.clone(),
                    reference,
                    closes,
                },
            );
            tasks.push(Task {
                id: operation.id,
                key: operation.key.to_string(),
                ops: operation.effect,
            });
        }
        let executor = self.executor.clone();
        Box::pin(async move { Batch::Operations(executor.perform(tasks).await) })
    }

    fn integrate(&mut self, scheduler: &mut Scheduler<Network>, batch: Batch) {
        match batch {
            Batch::Operations(outcomes) => {
                let opened: Vec<_> = outcomes
                    .into_iter()
                    .filter_map(|outcome| self.outcome(scheduler, outcome))
                    .collect();
                // Only when all namespaces of the batch are known can links be told from those that belong elsewhere.
                for (name, netns, contents) in opened {
                    let links = self.look(scheduler, &name, netns, &contents).links;
                    self.reporter.links_of(netns, &links);
                }
            }
            Batch::Refresh(read) => {
                for (netns, contents) in read {
                    match contents {
                        Ok(snapshot) => self.look_under_all_names(scheduler, netns, &snapshot),
                        // An error never means that something is gone: look again later.
                        Err(message) => {
                            warn!(%netns, "cannot read the namespace: {message}");
                            self.suspects.insert(netns, self.now + SWEEP_INTERVAL);
                        }
                    }
                }
            }
            Batch::Survey(surveyed) => surveyed.into_iter().for_each(|surveyed| self.survey_found(scheduler, surveyed)),
        }
    }

    fn signal(&mut self, scheduler: &mut Scheduler<Network>, signal: Signal, now: Duration) {
        self.now = now;
        match signal {
            Signal::Namespace(netns) if self.open.contains_key(&netns) => {
                let earliest = self.last_read.get(&netns).map_or(now, |last| *last + READ_INTERVAL);
                self.suspects.entry(netns).or_insert((now + SETTLE).max(earliest));
            }
            // Not the scheduler's any more, or not yet: it is read when it is opened.
            Signal::Namespace(netns) => self.executor.rearm(netns),
            Signal::Microservice(change) => self.microservice(scheduler, change),
        }
    }

    fn survey(&mut self, scheduler: &Scheduler<Network>) -> Option<Work<Batch>> {
        let view = scheduler.view();
        let wanted = |name: &NamespaceName| view.wanted(&name.key()).is_some();
        let survey = super::survey::plan(&self.executor, &self.marks, wanted);
        let executor = self.executor.clone();
        Some(Box::pin(async move { Batch::Survey(survey.run(&executor).await) }))
    }

    fn refresh(&mut self, now: Duration) -> Option<Work<Batch>> {
        self.now = now;
        let due: Vec<NetnsId> = self
            .suspects
            .iter()
            .filter(|(_, from)| **from <= now)
            .map(|(netns, _)| *netns)
            .collect();
        if due.is_empty() {
            return None;
        }
        let mut tasks = Vec::new();
        for netns in due {
            self.suspects.remove(&netns);
            self.last_read.insert(netns, now);
            if netns != self.own && !self.executor.is_watched(netns) {
                self.suspects.insert(netns, now + SWEEP_INTERVAL);
            }
            // Before it is read, so that nothing falls between.
            self.executor.rearm(netns);
            tasks.push(Task {
                id: netns.0,
                key: format!("contents of {netns}"),
                ops: vec![KernelOp::DumpNamespace { netns }],
            });
        }
        let executor = self.executor.clone();
        Some(Box::pin(async move {
            let outcomes = executor.perform(tasks).await;
            let read = outcomes.into_iter().map(|outcome| match outcome.result {
                Ok(Reply::Contents(snapshot)) => (NetnsId(outcome.id), Ok(snapshot)),
                Ok(other) => (NetnsId(outcome.id), Err(format!("unexpected answer {other:?}"))),
                Err(failure) => (NetnsId(outcome.id), Err(failure.message)),
            });
            Batch::Refresh(read.collect())
        }))
    }

    fn refresh_deadline(&self) -> Option<Duration> {
        self.suspects.values().min().copied()
    }

    fn publish(&mut self, scheduler: &Scheduler<Network>, changes: Vec<StatusChange>) {
        // Before a status goes away, for that is the sign to the user that the value is forgotten.
        self.drop_unused_watches(scheduler);
        for change in changes {
            self.reporter.status(&scheduler.view(), &change);
        }
    }

    fn settled(&mut self) {
        self.reporter.settled();
    }
}

impl NetworkEffects {
    fn microservice(&mut self, scheduler: &mut Scheduler<Network>, change: MicroserviceChange) {
        match change {
            MicroserviceChange::Available(service) => {
                info!(label = %service.label, container = %service.container_name, pid = service.pid, "microservice available");
                self.reporter.microservice(&service);
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
            }
            MicroserviceChange::Disconnected { message } => {
                debug!("Docker cannot be reached: {message}");
                self.reporter.docker(Err(message));
            }
        }
    }
}
