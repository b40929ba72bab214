//! Records completed operations, and state changes that happen without an operation.

use std::sync::Arc;

use super::{
    blocked::Blocked,
    descriptor::Domain,
    history::record::{OperationFlags, OperationRecord, Origin, Side, ValueRecord},
    nodes::NodeId,
    queue::TxnId,
    scheduler::Scheduler,
    status::{ValueState, Verb},
    tracker::Phase,
    transaction::{KeyError, Kind, Resync},
};

/// Data about a completed operation, collected before its outcome is processed.
pub(super) struct Ended<V> {
    pub verb: Verb,
    /// Value that was applied before the operation.
    pub before: Option<V>,
    /// Value that the operation was meant to apply.
    pub value: Option<V>,
    pub error: Option<Arc<str>>,
}

impl<D: Domain> Scheduler<D> {
    /// Records a completed operation. Must be called after its outcome has been processed.
    pub(super) fn record_operation(&mut self, id: NodeId, txn: TxnId, ended: Ended<D::Value>) {
        let state = match self.state_of(id) {
            ValueState::Nonexistent => ValueState::Removed,
            ValueState::Pending if ended.verb == Verb::Delete && self.graph[id].trace.recreated_in == txn => ValueState::Removed,
            // The value was observed in the kernel and now matches the desired value.
            ValueState::Discovered => ValueState::Configured,
            state => state,
        };
        let flags = OperationFlags {
            noop: false,
            revert: self.graph[id].trace.reverting,
            ..self.flags_of(id, txn, ended.verb)
        };
        let error = ended.error.clone();
        self.write(id, txn, state, ended, flags);
        if let Some(error) = error {
            self.add_error(id, txn, state, &error);
        }
    }

    /// Records the current state of a node if the state has changed without an operation.
    pub(super) fn note(&mut self, id: NodeId) {
        let state = self.state_of(id);
        let trace = &self.graph[id].trace;
        if state == trace.state && state != ValueState::Invalid {
            return self.confirm_waiting(id, state);
        }
        let (former, txn) = (trace.state, self.graph[id].place.cause());
        let error = self.error_of(id);
        if state == former && error.as_ref() == self.graph[id].rare().and_then(|rare| rare.error.as_ref()) {
            return;
        }
        let verb = match (former, state) {
            (_, ValueState::Nonexistent) => Verb::Delete,
            (ValueState::Nonexistent | ValueState::Removed | ValueState::Pending, _) => Verb::Create,
            (_, ValueState::Pending) if self.graph[id].applied().is_none() => Verb::Create,
            _ => Verb::Update,
        };
        let flags = OperationFlags {
            noop: true,
            quiet: former == ValueState::Discovered && state == ValueState::Configured,
            revert: self.phase_of(txn) == Some(Phase::Reverting),
            ..self.flags_of(id, txn, verb)
        };
        let node = &self.graph[id];
        let ended = Ended {
            verb,
            before: node.applied().cloned().or(self.tracker.withdrawn.remove(&id)),
            value: node.desired().or(node.applied()).cloned(),
            error: error.clone(),
        };
        let recorded = if state == ValueState::Nonexistent {
            ValueState::Removed
        } else {
            state
        };
        self.write(id, txn, recorded, ended, flags);
        if let (ValueState::Invalid, Some(error)) = (state, error) {
            self.add_error(id, txn, state, &error);
        }
    }

    /// Records that a value is still waiting, but only in a resync that reads the kernel.
    ///
    /// These records show clients which values are missing. If a value is recorded several times, these records are merged when
    /// the resync completes.
    fn confirm_waiting(&mut self, id: NodeId, state: ValueState) {
        let txn = self.graph[id].place.cause();
        let resync = self.tracker.get(txn).map(|open| open.options.resync);
        if state != ValueState::Pending || !matches!(resync, Some(Resync::Downstream | Resync::Full)) {
            return;
        }
        let flags = OperationFlags {
            noop: true,
            confirmation: true,
            ..self.flags_of(id, txn, Verb::Create)
        };
        if !self.tracker.has_room(txn) {
            return self.tracker.omit(txn, Verb::Create, state, flags);
        }
        let node = &self.graph[id];
        let side = Side {
            state,
            value: node.desired().cloned(),
            error: None,
        };
        let operation = OperationRecord {
            at: self.now,
            key: node.key.clone(),
            verb: Verb::Create,
            before: side.clone(),
            after: side,
            flags,
        };
        self.tracker.keep(txn, operation);
    }

    /// Records that a value was observed in the kernel, or that it is no longer in the kernel.
    pub(super) fn record_sight(&mut self, id: NodeId, state: ValueState, before: Option<D::Value>) {
        let txn = self.queue.current();
        let verb = if state == ValueState::Missing { Verb::Delete } else { Verb::Create };
        let flags = OperationFlags {
            noop: true,
            quiet: true,
            ..self.flags_of(id, txn, verb)
        };
        let node = &self.graph[id];
        let ended = Ended {
            verb,
            before,
            value: node.applied().cloned(),
            error: None,
        };
        self.write(id, txn, state, ended, flags);
    }

    /// Records that a fact appeared, changed or disappeared.
    pub(super) fn record_fact(&mut self, id: NodeId, before: Option<D::Value>) {
        let txn = self.queue.current();
        let node = &self.graph[id];
        let (key, after) = (node.key.clone(), node.applied().cloned());
        let verb = match (&before, &after) {
            (None, _) => Verb::Create,
            (Some(_), None) => Verb::Delete,
            _ => Verb::Update,
        };
        self.tracker.keep_value(txn, || ValueRecord {
            key,
            value: after.clone(),
            origin: Origin::FromSB,
        });
        let state = if after.is_some() {
            ValueState::Obtained
        } else {
            ValueState::Removed
        };
        let flags = self.flags_of(id, txn, verb);
        let ended = Ended {
            verb,
            before,
            value: after,
            error: None,
        };
        self.write(id, txn, state, ended, flags);
    }

    fn write(&mut self, id: NodeId, txn: TxnId, state: ValueState, ended: Ended<D::Value>, flags: OperationFlags) {
        let seq = self.tracker.number(txn);
        let now = self.now;
        let node = &mut self.graph[id];
        let lasting = if state == ValueState::Removed {
            ValueState::Nonexistent
        } else {
            state
        };
        let before = Side {
            state: std::mem::replace(&mut node.trace.state, lasting),
            value: ended.before,
            error: node.replace_error(ended.error.clone()),
        };
        (node.trace.since, node.trace.seq) = (now.into(), seq);
        if !self.tracker.has_room(txn) {
            return self.tracker.omit(txn, ended.verb, state, flags);
        }
        let operation = OperationRecord {
            at: now,
            key: self.graph[id].key.clone(),
            verb: ended.verb,
            before,
            after: Side {
                state,
                value: if ended.verb == Verb::Delete && state != ValueState::Pending {
                    None
                } else {
                    ended.value
                },
                error: ended.error,
            },
            flags,
        };
        self.tracker.keep(txn, operation);
    }

    fn flags_of(&self, id: NodeId, txn: TxnId, verb: Verb) -> OperationFlags {
        let node = &self.graph[id];
        let described = self.domain.descriptor(&node.key).is_some();
        let recreated = |id: NodeId| self.graph[id].trace.recreated_in == txn;
        OperationFlags {
            derived: node.parent.is_some() && described,
            property: node.parent.is_some() && !described,
            retry: matches!(self.tracker.get(txn).map(|open| open.kind), Some(Kind::Retry { .. })),
            recreate: verb != Verb::Update && (recreated(id) || node.parent.is_some_and(recreated)),
            ..OperationFlags::default()
        }
    }

    pub(super) fn phase_of(&self, txn: TxnId) -> Option<Phase> {
        Some(self.tracker.get(txn)?.phase)
    }

    /// Returns the error of a value. Waiting does not count as an error.
    fn error_of(&self, id: NodeId) -> Option<Arc<str>> {
        let node = &self.graph[id];
        match (node.rejected(), node.blocked.as_deref()) {
            (Some(rejection), _) => Some(rejection.message.as_str().into()),
            (None, Some(Blocked::Unavailable(_)) | None) => None,
            (None, Some(blocked)) => Some(blocked.reason().message.as_str().into()),
        }
    }

    fn add_error(&mut self, id: NodeId, txn: TxnId, state: ValueState, error: &str) {
        let Some(phase) = self.phase_of(txn) else { return };
        let node = &self.graph[id];
        let operation = match node.last_operation {
            Verb::Undefined if node.applied().is_some() => Verb::Update,
            Verb::Undefined => Verb::Create,
            verb => verb,
        };
        let in_revert = phase == Phase::Reverting && node.trace.reverting;
        let error = KeyError {
            key: node.key.clone(),
            operation,
            state,
            error: error.to_owned(),
            in_revert,
        };
        let requested_by = self.graph[self.base_of(id)].trace.requested_by;
        self.tracker.keep_error(txn, error, requested_by == txn);
    }

    /// Returns the state of a single value, not including its derived values.
    pub(super) fn state_of(&self, id: NodeId) -> ValueState {
        let node = &self.graph[id];
        if let Some(rejection) = node.rejected() {
            return rejection.state;
        }
        match (node.blocked.as_deref(), node.applied(), node.desired()) {
            (Some(blocked), ..) => blocked.state(),
            (None, Some(_), _) if node.is_fact() => ValueState::Obtained,
            (None, Some(_), _) if node.is_discovered() => ValueState::Discovered,
            (None, Some(_), _) => ValueState::Configured,
            (None, None, None) => ValueState::Nonexistent,
            (None, None, Some(_)) if node.desire.requested.is_some() && self.domain.descriptor(&node.key).is_none() => {
                ValueState::Unimplemented
            }
            (None, None, Some(_)) => ValueState::Pending,
        }
    }
}
