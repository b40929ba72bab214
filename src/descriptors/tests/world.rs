//! The agent without its process: scheduler, simulated kernel and `inspect`, joined as the engine and its effects join them.
//!
//! Owns the order in which outcomes, snapshots and facts reach the scheduler, and a clock that is turned by hand. Must never
//! decide what is to be done. Start reading at [`World::rest`].

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use models::{Model, key::Key};
use serde_json::Value as Json;

use super::simulated::{Kernel, Killed, OWN};
use crate::{
    descriptors::{
        Network,
        alias::Marks,
        convert::value_of,
        inspect::{has_marks, host_facts, inspect, is_created_by_agent},
        value::{Namespace, NamespaceName, OpenNamespace, Value},
    },
    kernel::{Failure, FailureKind, KernelOp, NamespaceRef, NetnsId, Reply, Snapshot, Task},
    scheduler::{Change, Fault, FaultKind, Operation, Outcome, Rejection, Scheduler, Status, ValueState, Verb},
};

/// Label of the agent.
pub const LABEL: &str = "vpp1";
/// More steps than any test needs before it comes to rest.
const STEPS_MAX: usize = 400;

/// The desired values, as JSON by key after the agent prefix.
pub type Desired = BTreeMap<String, Json>;

/// See the [module documentation](self).
pub struct World {
    pub kernel: Kernel,
    pub scheduler: Scheduler<Network>,
    /// Failures of operations, for messages and for rules about what may fail.
    pub failures: Vec<(Key, Failure)>,
    /// Key, verb and operations of each operation that was performed.
    pub performed: Vec<(Key, Verb, Vec<KernelOp>)>,
    marks: Marks,
    open: BTreeMap<NetnsId, BTreeSet<NamespaceName>>,
    facts: BTreeMap<Key, Value>,
    undecided: BTreeSet<NetnsId>,
    statuses: BTreeMap<Key, Status>,
    pub now: Duration,
}

/// The change of one desired value, decoded and checked as the agent does it; `null` stands for one that cannot be used.
pub fn change(key: &str, json: Option<&Json>) -> Change<Value> {
    let unusable = || Rejection {
        state: ValueState::Invalid,
        reason: "NotJson",
        message: "it cannot be used".to_owned(),
        fields: Vec::new(),
    };
    let value = json.map(|json| {
        if json.is_null() {
            return Err(unusable());
        }
        let model = Model::decode(key, json.to_string().as_bytes()).unwrap_or_else(|error| panic!("{key}: {json}: {}", error.message));
        model.validate().unwrap_or_else(|error| panic!("{key}: {json}: {}", error.message));
        value_of(&model)
    });
    let (key, revision) = (Key::new(key), 1);
    Change { key, revision, value }
}

impl World {
    /// Starts an agent on a machine, up to the look around that every start begins with.
    pub fn start(kernel: Kernel, desired: &Desired) -> Self {
        let mut world = World::start_unsettled(kernel, desired);
        world.scheduler.settle_facts();
        world
    }

    /// As [`World::start`], but Docker has not answered yet.
    pub fn start_unsettled(kernel: Kernel, desired: &Desired) -> Self {
        let mut world = World {
            kernel,
            scheduler: Scheduler::new(Network::new(LABEL)),
            failures: Vec::new(),
            performed: Vec::new(),
            marks: Marks::new(LABEL),
            open: BTreeMap::from([(OWN, BTreeSet::from([NamespaceName::Own]))]),
            facts: BTreeMap::new(),
            undecided: BTreeSet::new(),
            statuses: BTreeMap::new(),
            now: Duration::from_secs(1_000),
        };
        world.kernel.log.clear();
        let open = OpenNamespace {
            netns: OWN,
            reference: NamespaceRef::Own,
            owned: false,
        };
        let own = Namespace {
            name: NamespaceName::Own,
            open: Some(open),
        };
        world.scheduler.fact(&NamespaceName::Own.key(), Some(Value::Namespace(own)));
        let changes = desired.iter().map(|(key, json)| change(key, Some(json))).collect();
        world.scheduler.transaction(changes, true);
        world.survey();
        world
    }

    /// The agent is killed and started again.
    pub fn restart(self, desired: &Desired) -> Self {
        let mut kernel = self.kernel;
        kernel.agent_gone();
        World::start(kernel, desired)
    }

    /// What an earlier run left in namespaces that nobody names.
    fn survey(&mut self) {
        let wanted = |name: &NamespaceName| self.scheduler.view().wanted(&name.key()).is_some();
        let mut candidates = Vec::new();
        let mut known = BTreeSet::from([OWN]);
        for (text, netns) in &self.kernel.names {
            known.insert(*netns);
            candidates.push((NamespaceName::Named(text.clone()), NamespaceRef::Named(text.clone())));
        }
        for (pid, netns) in &self.kernel.processes {
            if known.insert(*netns) {
                candidates.push((NamespaceName::Process(*pid), NamespaceRef::Process(*pid)));
            }
        }
        candidates.retain(|(name, _)| !wanted(name));
        let snapshot = self.kernel.read(OWN);
        self.look_under_all_names(OWN, &snapshot);
        for (name, reference) in candidates {
            let mark = self.marks.created_namespace(None);
            let Ok(Reply::Opened { netns, contents, .. }) = self.ask(KernelOp::OpenNamespace {
                reference: reference.clone(),
                mark,
            }) else {
                continue;
            };
            if !has_marks(&contents, &self.marks) {
                let remove_if_marked = None;
                let close = KernelOp::CloseNamespace {
                    reference,
                    netns,
                    remove_if_marked,
                    forget: true,
                };
                self.ask(close).expect("closing succeeds");
                continue;
            }
            let owned = is_created_by_agent(&contents, &self.marks);
            self.open.entry(netns).or_default().insert(name.clone());
            let open = Some(OpenNamespace { netns, reference, owned });
            let value = Value::Namespace(Namespace { name: name.clone(), open });
            self.scheduler.found(vec![(name.key(), value)]);
            self.look(&name, netns, &contents);
        }
    }

    fn ask(&mut self, op: KernelOp) -> Result<Reply, Failure> {
        let task = Task {
            id: 0,
            key: String::new(),
            ops: vec![op],
        };
        self.kernel.perform(&task).expect("looking costs no fuel").result
    }

    /// Puts a desired value.
    pub fn put(&mut self, key: &str, json: &Json) {
        self.scheduler.transaction(vec![change(key, Some(json))], false);
    }

    /// Deletes a desired value.
    pub fn delete(&mut self, key: &str) {
        self.scheduler.transaction(vec![change(key, None)], false);
    }

    /// One round of the engine: false when there was nothing to do.
    pub fn round(&mut self) -> Result<bool, Killed> {
        let operations = self.scheduler.step(self.now);
        for change in self.scheduler.take_status_changes() {
            match change.status {
                Some(status) => self.statuses.insert(change.key, status),
                None => self.statuses.remove(&change.key),
            };
        }
        if operations.is_empty() {
            return Ok(false);
        }
        self.perform(operations)?;
        Ok(true)
    }

    /// Works until nothing is to be done, and looks at every namespace in which something changed, until nothing changes.
    pub fn settle(&mut self) -> Result<(), Killed> {
        let mut acted = true;
        for _ in 0..STEPS_MAX {
            if self.round()? {
                acted = true;
                continue;
            }
            let mut touched = std::mem::take(&mut self.kernel.touched);
            if std::mem::take(&mut acted) {
                touched.append(&mut self.undecided);
            }
            if touched.is_empty() {
                return Ok(());
            }
            for netns in touched
                .into_iter()
                .filter(|netns| self.open.contains_key(netns))
                .collect::<Vec<_>>()
            {
                let snapshot = self.kernel.read(netns);
                self.look_under_all_names(netns, &snapshot);
            }
        }
        panic!(
            "does not come to rest; last operations: {:#?}",
            self.performed.iter().rev().take(12).collect::<Vec<_>>()
        );
    }

    /// As [`World::settle`], and lets a few retries pass.
    pub fn rest(&mut self) {
        self.try_rest().expect("nobody kills the agent");
    }

    /// As [`World::rest`], unless the agent is killed before.
    pub fn try_rest(&mut self) -> Result<(), Killed> {
        self.settle()?;
        for _ in 0..8 {
            let Some(deadline) = self.scheduler.next_deadline() else { break };
            self.now = self.now.max(deadline);
            self.settle()?;
        }
        Ok(())
    }

    /// The status of a base value, as told last.
    pub fn status(&self, key: &str) -> Option<&Status> {
        self.statuses.get(key)
    }

    /// Reads every open namespace again, as the sweeps do.
    pub fn refresh(&mut self) {
        for netns in self.open.keys().copied().collect::<Vec<_>>() {
            let snapshot = self.kernel.read(netns);
            self.look_under_all_names(netns, &snapshot);
        }
    }

    fn perform(&mut self, operations: Vec<Operation<Vec<KernelOp>>>) -> Result<(), Killed> {
        let mut outcomes = Vec::new();
        for operation in operations {
            let task = Task {
                id: operation.id,
                key: operation.key.to_string(),
                ops: operation.effect,
            };
            let outcome = self.kernel.perform(&task)?;
            self.performed.push((operation.key.clone(), operation.verb, task.ops.clone()));
            outcomes.push((operation.key, task.ops, outcome));
        }
        let opened: Vec<_> = outcomes
            .into_iter()
            .filter_map(|(key, ops, outcome)| self.outcome(key, &ops, outcome.id, outcome.result))
            .collect();
        for (name, netns, contents) in opened {
            self.look(&name, netns, &contents);
        }
        Ok(())
    }

    fn outcome(
        &mut self,
        key: Key,
        ops: &[KernelOp],
        id: u64,
        result: Result<Reply, Failure>,
    ) -> Option<(NamespaceName, NetnsId, Box<Snapshot>)> {
        let view = self.scheduler.view();
        match result {
            Ok(Reply::Opened { netns, created, contents }) => {
                let name = view.wanted(&key).or(view.applied(&key)).and_then(Value::namespace)?.name.clone();
                let Some(KernelOp::OpenNamespace { reference, .. }) = ops.first().cloned() else {
                    return None;
                };
                let owned = created || is_created_by_agent(&contents, &self.marks);
                self.open.entry(netns).or_default().insert(name.clone());
                let open = Some(OpenNamespace { netns, reference, owned });
                let value = Value::Namespace(Namespace { name: name.clone(), open });
                self.scheduler.outcome(id, Outcome::Became(value));
                return Some((name, netns, contents));
            }
            Ok(Reply::Changed(text)) => self.scheduler.outcome(id, Outcome::Changed(text)),
            Ok(_) => {
                if matches!(ops.first(), Some(KernelOp::CloseNamespace { .. }))
                    && let Some(Namespace { name, open: Some(open) }) = view.applied(&key).and_then(Value::namespace)
                    && let Some(names) = self.open.get_mut(&open.netns)
                {
                    names.remove(name);
                    if names.is_empty() {
                        self.open.remove(&open.netns);
                    }
                }
                self.scheduler.outcome(id, Outcome::Done);
            }
            Err(failure) => {
                let about_namespace = matches!(ops.first(), Some(KernelOp::OpenNamespace { .. } | KernelOp::VerifyNamespace { .. }));
                let (kind, reason) = match failure.kind {
                    FailureKind::Unavailable if about_namespace => (FaultKind::Unavailable, "Unavailable"),
                    FailureKind::Exists => (FaultKind::Transient, "ObjectExists"),
                    FailureKind::Foreign => (FaultKind::Foreign, "ForeignObject"),
                    _ => (FaultKind::Transient, "KernelError"),
                };
                let (message, kernel) = (failure.message.clone(), None);
                self.failures.push((key, failure));
                self.scheduler.outcome(
                    id,
                    Outcome::Failed(Fault {
                        kind,
                        reason,
                        message,
                        kernel,
                    }),
                );
            }
        }
        None
    }

    fn look(&mut self, name: &NamespaceName, netns: NetnsId, snapshot: &Snapshot) {
        let findings = inspect(&self.scheduler.view(), &self.marks, name, netns, snapshot);
        self.scheduler.lost(&findings.lost);
        self.scheduler.found(findings.found);
        self.scheduler.unfinished(&findings.unfinished);
        if findings.undecided {
            self.undecided.insert(netns);
        }
    }

    fn look_under_all_names(&mut self, netns: NetnsId, snapshot: &Snapshot) {
        for name in self.open.get(&netns).cloned().unwrap_or_default() {
            self.look(&name, netns, snapshot);
        }
        if netns == OWN {
            let facts = host_facts(snapshot, &self.marks);
            let gone: Vec<Key> = self.facts.keys().filter(|key| !facts.contains_key(*key)).cloned().collect();
            gone.iter().for_each(|key| self.scheduler.fact(key, None));
            for (key, value) in &facts {
                if !self.facts.contains_key(key) {
                    self.scheduler.fact(key, Some(value.clone()));
                }
            }
            self.facts = facts;
        }
    }
}
