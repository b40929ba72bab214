//! Tracks operations in flight, and reports their outcomes to the scheduler.

use models::key::Key;
use tracing::{debug, info, warn};

use super::{NetworkEffects, housekeeping};
use crate::scheduler::{Fault, FaultKind, KernelError, Operation, Outcome, Scheduler, Verb, Wait};
use crate::{
    descriptors::{
        Network, applied_interface,
        inspect::is_created_by_agent,
        names::provider,
        value::{Namespace, NamespaceName, OpenNamespace, Value},
    },
    signals::namespaces::Binding,
};
use netns_kernel::{Failure, FailureKind, KernelOp, NamespaceRef, NetnsId, Outcome as KernelOutcome, Reply, Snapshot};

use super::super::failure_class::{Class, Subject, classify};

/// An operation in flight.
pub(super) struct InFlight {
    key: Key,
    verb: Verb,
    /// True if the operation may overwrite a foreign object that has replaced an object of the agent.
    replaces_foreign: bool,
    /// Namespace and action, if this is a namespace operation.
    namespace: Option<OfNamespace>,
}

/// Operation on a namespace value.
struct OfNamespace {
    name: NamespaceName,
    reference: NamespaceRef,
    action: NamespaceAction,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum NamespaceAction {
    Open,
    Verify(NetnsId),
    Close(NetnsId),
}

/// A namespace that was opened, with its contents at that time.
pub(super) struct Opened {
    pub name: NamespaceName,
    pub netns: NetnsId,
    pub contents: Box<Snapshot>,
}

impl OfNamespace {
    fn of(key: &Key, ops: &[KernelOp]) -> Option<Self> {
        let (reference, action) = match ops.first()? {
            KernelOp::OpenNamespace { reference, .. } => (reference, NamespaceAction::Open),
            KernelOp::VerifyNamespace { reference, netns } => (reference, NamespaceAction::Verify(*netns)),
            KernelOp::CloseNamespace { reference, netns, .. } => (reference, NamespaceAction::Close(*netns)),
            _ => return None,
        };
        Some(OfNamespace {
            name: NamespaceName::of_key(key)?,
            reference: reference.clone(),
            action,
        })
    }
}

impl InFlight {
    /// Describes an operation that is about to start.
    pub fn new(operation: &Operation<KernelOp>, replaces_foreign: bool) -> Self {
        InFlight {
            key: operation.key.clone(),
            verb: operation.verb,
            replaces_foreign,
            namespace: OfNamespace::of(&operation.key, &operation.steps),
        }
    }

    /// Returns the namespace that the operation closes.
    pub fn closes(&self) -> Option<NetnsId> {
        match self.namespace.as_ref()?.action {
            NamespaceAction::Close(netns) => Some(netns),
            NamespaceAction::Open | NamespaceAction::Verify(_) => None,
        }
    }
}

/// Returns whether an operation changes objects in a namespace.
pub(super) fn is_change(operation: &Operation<KernelOp>) -> bool {
    OfNamespace::of(&operation.key, &operation.steps).is_none()
}

/// Returns whether failures of a value are shown in a published status, either of the value itself or of its interface.
fn has_status(key: &Key) -> bool {
    key.as_str().starts_with("config/") || provider(key).is_some()
}

/// Returns the namespace of the interface on which a value tracks duplicate address detection; `None` for all other values.
fn detected_in(scheduler: &Scheduler<Network>, key: &Key) -> Option<NetnsId> {
    let view = scheduler.view();
    let interface = &view.desired(key)?.detection()?.interface;
    Some(applied_interface(&view, interface)?.1)
}

impl NetworkEffects {
    /// Reports the outcome of an operation to the scheduler. If the operation opened a namespace, returns that namespace.
    pub(super) fn outcome(&mut self, scheduler: &mut Scheduler<Network>, outcome: KernelOutcome) -> Option<Opened> {
        let in_flight = self.in_flight.remove(&outcome.id)?;
        let mut opened = None;
        let result = match (outcome.result, in_flight.namespace) {
            (Ok(Reply::Opened { netns, created, contents }), Some(OfNamespace { name, reference, .. })) => {
                let owned = created || is_created_by_agent(&contents, &self.marks);
                let value = self.opened(&in_flight.key, &name, OpenNamespace { netns, reference, owned });
                opened = Some(Opened { name, netns, contents });
                Outcome::Became(value)
            }
            (Ok(reply), namespace) => self.succeeded(scheduler, InFlight { namespace, ..in_flight }, reply),
            (Err(failure), namespace) => self.failed(scheduler, InFlight { namespace, ..in_flight }, failure),
        };
        scheduler.outcome(outcome.id, result);
        opened
    }

    fn succeeded(&mut self, scheduler: &mut Scheduler<Network>, in_flight: InFlight, reply: Reply) -> Outcome<Value> {
        let key = &in_flight.key;
        match reply {
            Reply::Changed(text) => {
                info!(key = %key, "namespace changed: {text}");
                Outcome::Changed(text)
            }
            Reply::Adopted if in_flight.replaces_foreign => {
                info!(key = %key, "replaced a foreign object");
                Outcome::Done
            }
            Reply::Adopted => {
                let value = scheduler.view().coming(key).map(Value::with_adopted);
                info!(key = %key, "adopted a foreign object");
                value.map_or(Outcome::Done, Outcome::Became)
            }
            _ => {
                if let (Some(netns), Some(namespace)) = (in_flight.closes(), in_flight.namespace) {
                    self.closed(scheduler, &in_flight.key, namespace, netns);
                }
                Outcome::Done
            }
        }
    }

    fn failed(&mut self, scheduler: &Scheduler<Network>, in_flight: InFlight, failure: Failure) -> Outcome<Value> {
        let key = &in_flight.key;
        // The object in the kernel is foreign, so the agent's object is already gone.
        if in_flight.verb == Verb::Delete && failure.kind == FailureKind::Foreign {
            debug!(key = %key, "nothing to delete: {}", failure.message);
            return Outcome::Done;
        }
        if matches!(failure.kind, FailureKind::Tentative | FailureKind::Duplicate)
            && let Some(netns) = detected_in(scheduler, key)
        {
            self.await_detection(netns);
        }
        if in_flight.replaces_foreign {
            self.displaced.insert(key.clone());
        }
        let subject = match in_flight.namespace {
            Some(_) => Subject::Namespace,
            None => Subject::Object,
        };
        let (class, reason) = classify(failure.kind, subject);
        self.note_failure(&in_flight, class, &failure);
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

    /// Logs a failure. If a namespace could not be opened or checked, watches the reference to the namespace. If it could not be opened, also
    /// publishes the failure.
    fn note_failure(&mut self, in_flight: &InFlight, class: Class, failure: &Failure) {
        let (key, message) = (&in_flight.key, &failure.message);
        let may_appear = failure.kind == FailureKind::TimedOut || matches!(class, Class::Waiting | Class::Failed(FaultKind::Refused));
        match in_flight.namespace.as_ref().map(|namespace| (&namespace.name, namespace.action)) {
            // The watcher triggers another attempt as soon as the reference can be resolved.
            Some((name, NamespaceAction::Open)) if may_appear => {
                debug!(key = %key, "waiting: {message}");
                // A named namespace does not have to exist, because the agent creates it. If a named namespace still cannot be
                // opened, something other than a namespace has this name.
                let obstructed = matches!(name, NamespaceName::Named(_));
                let binding = if obstructed { Binding::Obstructed } else { Binding::Missing };
                self.references.watch(key, name, binding);
                self.reporter.namespace(name, None, message);
            }
            Some((name, NamespaceAction::Verify(netns))) => {
                // It is unknown whether the namespace still exists. The value stays applied, and the watcher triggers another
                // check once the reference can be resolved.
                warn!(key = %key, errno = failure.errno, "cannot check the namespace: {message}");
                self.references.watch(key, name, Binding::Bound { inode: netns.0 });
            }
            _ if class == Class::Waiting => debug!(key = %key, "waiting: {message}"),
            // A warning is logged later, when the status with this failure is published.
            _ if has_status(key) => debug!(key = %key, errno = failure.errno, "failed: {message}"),
            _ => warn!(key = %key, errno = failure.errno, "failed: {message}"),
        }
    }

    fn opened(&mut self, key: &Key, name: &NamespaceName, open: OpenNamespace) -> Value {
        let (netns, owned) = (open.netns, open.owned);
        let announced = self.namespaces.open(netns, name.clone());
        self.scan.opened(name);
        self.plan_first_reading(netns, announced);
        self.references.watch(key, name, Binding::Bound { inode: netns.0 });
        self.reporter.namespace(name, Some((netns, owned)), "");
        info!(namespace = %name, %netns, owned, "namespace opened");
        Value::AppliedNamespace(Namespace {
            name: name.clone(),
            open: Some(open),
        })
    }

    /// Plans the first read of a namespace after it was opened. The namespace is read at once if a change was reported before it was open.
    /// Otherwise, an unwatched namespace is read within the sweep interval.
    pub(super) fn plan_first_reading(&mut self, netns: NetnsId, announced: bool) {
        self.plan.opened(netns);
        if announced {
            self.plan.read_now(netns);
        } else if !self.host.is_watched(netns) {
            self.plan.sweep(netns);
        }
    }

    fn closed(&mut self, scheduler: &mut Scheduler<Network>, key: &Key, namespace: OfNamespace, netns: NetnsId) {
        let OfNamespace { name, reference, .. } = namespace;
        if self.namespaces.is_unattributed(netns) {
            self.scan.skip(name.clone(), reference);
        }
        self.close(scheduler, &name, netns);
        self.references.unwatch(key);
        self.reporter.namespace_gone(&name);
        info!(namespace = %name, %netns, "namespace closed");
    }

    /// Forgets that a namespace is open under a name.
    pub(super) fn close(&mut self, scheduler: &mut Scheduler<Network>, name: &NamespaceName, netns: NetnsId) {
        if self.held.closed(netns, name) {
            self.report_held();
        }
        self.report_held_claims(scheduler, netns, name);
        if let Some(foreign_addresses) = self.namespaces.close(netns, name) {
            self.plan.closed(netns);
            self.reporter.links_of(netns, Vec::new());
            foreign_addresses.iter().for_each(|key| scheduler.fact(key, None));
        }
    }

    /// Plans a read to notice the end of duplicate address detection. A watched namespace needs no such read, because the kernel
    /// sends an event.
    pub(super) fn await_detection(&mut self, netns: NetnsId) {
        if !self.host.is_watched(netns) {
            self.plan.detect_later(netns);
        }
    }

    /// Stops watching references that values no longer use.
    pub(super) fn drop_unused_references(&mut self, scheduler: &Scheduler<Network>) {
        for key in self.references.unwatch_unused(&scheduler.view()) {
            self.reporter.namespace_key_gone(&key);
            // If a value later refers to the same PID, it refers to whichever process has the PID at that time.
            self.housekeeping.extend(housekeeping::forget_process(&key));
        }
    }

    /// Makes the startup scan read skipped namespaces that are no longer referenced by any value, because they may contain
    /// orphans.
    pub(super) fn update_scan(&mut self, scheduler: &Scheduler<Network>) {
        let view = scheduler.view();
        self.scan.update(|name| {
            let key = name.key();
            view.desired(&key).is_some() || view.applied(&key).is_some() || view.in_flight(&key)
        });
    }
}
