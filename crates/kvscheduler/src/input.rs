//! Processes events: transactions, facts, and kernel observations.
//!
//! Each event changes nodes and marks them for evaluation. `outcome` processes operation outcomes, and `decide` makes decisions.

use super::{
    blocked::Blocked,
    descriptor::Domain,
    effect::Effect,
    explanation::DAMAGE_MAX,
    history::record::{OperationRecord, Origin, ValueRecord},
    in_flight::Action,
    lifecycle::Event,
    node::Requested,
    nodes::NodeId,
    queue::TxnId,
    scheduler::Scheduler,
    status::{ValueState, Verb},
    transaction::Change,
    transaction::{KeyError, Kind, Options, Resync, Retry, Transaction, Unacceptable},
};

/// Result of reading the kernel. The fields are processed in declaration order.
#[derive(Debug)]
pub struct Observation<K, V> {
    /// Values that are no longer in the kernel.
    pub lost: Vec<K>,
    /// Values in the kernel that are new to the scheduler or that differ from the recorded applied values.
    pub observed: Vec<(K, V)>,
    /// Values that may exist only in part, because their creation was interrupted.
    pub unfinished: Vec<K>,
    /// Values to probe, because an event that they were waiting for has now happened.
    pub probes: Vec<K>,
}

impl<K, V> Default for Observation<K, V> {
    fn default() -> Self {
        Observation {
            lost: Vec::new(),
            observed: Vec::new(),
            unfinished: Vec::new(),
            probes: Vec::new(),
        }
    }
}

impl<D: Domain> Scheduler<D> {
    /// Accepts a transaction and returns its sequence number. The next steps return its operations.
    ///
    /// # Errors
    /// Fails if the options cannot be combined. Nothing is changed in this case.
    pub fn transact(&mut self, transaction: Transaction<D::Key, D::Value>) -> Result<u64, Unacceptable> {
        transaction.check()?;
        let planned = match transaction.options.simulate {
            true => {
                let plan = self.simulate(transaction.clone())?;
                Some(plan.into_iter().map(|planned| planned.operation).collect())
            }
            false => None,
        };
        let Transaction { mut changes, options } = transaction;
        changes.sort_by(|a, b| a.key.cmp(&b.key));
        let resync = options.resync;
        let unusable = changes.iter().any(|change| matches!(change.value, Some(Err(_))));
        let retry = options.retry.filter(|retry| *retry != Retry::default());
        let (new_policy, revert) = (options.retry.is_some(), options.revert);
        let txn = self.begin(Kind::Northbound, options);
        let seq = self.tracker.number(txn);
        if let Some(open) = self.tracker.get_mut(txn) {
            open.planned = planned;
        }
        match resync {
            Resync::Full | Resync::Upstream => self.withdraw_all_but(&changes, txn),
            Resync::Downstream => self.apply_again(txn),
            Resync::None => {}
        }
        for change in changes {
            let id = self.graph.obtain(&change.key);
            self.take_over(id, txn);
            self.tracker.name(txn, id);
            if new_policy {
                self.graph[id].set_retry(retry);
            }
            let requested = change.value.map(|value| Requested {
                revision: change.revision,
                value: value.map_err(Box::new),
            });
            self.tracker.keep_value(txn, || ValueRecord {
                key: change.key.clone(),
                value: requested.as_ref().and_then(|requested| requested.value.as_ref().ok().cloned()),
                origin: Origin::FromNB,
            });
            if revert && let Some(open) = self.tracker.get_mut(txn) {
                open.previous.push((change.key, self.graph[id].desire.requested.clone()));
                self.graph[id].make_rare().kept += 1;
            }
            self.request(id, requested);
        }
        if revert && unusable {
            self.refuse_unusable(txn);
        }
        Ok(seq)
    }

    /// Like [`Self::transact`] with default options. If `full` is `true`, the transaction is an upstream resync.
    pub fn transaction(&mut self, changes: Vec<Change<D::Key, D::Value>>, full: bool) {
        let resync = if full { Resync::Upstream } else { Resync::None };
        // A transaction without `revert` and without a downstream resync is never rejected.
        let _ = self.transact(Transaction::resync(resync, changes));
    }

    /// Replaces the value requested under a key.
    pub(super) fn request(&mut self, id: NodeId, requested: Option<Requested<D::Value>>) {
        self.forget_drift(id);
        self.release_children(id);
        let node = &mut self.graph[id];
        let former = std::mem::replace(&mut node.desire.requested, requested);
        if node.desire.requested.is_none()
            && node.applied().is_none()
            && let Some(Ok(value)) = former.map(|former| former.value)
        {
            self.tracker.withdrawn.insert(id, value);
        }
        self.desired_changed(id);
    }

    fn withdraw_all_but(&mut self, changes: &[Change<D::Key, D::Value>], txn: TxnId) {
        // `changes` and the nodes of the graph are both in key order, so a single pass over `changes` is enough.
        let mut named = changes.iter().map(|change| &change.key).peekable();
        let mut is_named = |key: &D::Key| {
            while named.next_if(|name| *name < key).is_some() {}
            named.peek() == Some(&key)
        };
        let obsolete: Vec<NodeId> = self
            .graph
            .all()
            .filter(|id| self.graph[*id].desire.requested.is_some() && !is_named(&self.graph[*id].key))
            .collect();
        for id in obsolete {
            self.take_over(id, txn);
            self.request(id, None);
        }
    }

    /// Evaluates all desired values, and retries failed ones immediately.
    fn apply_again(&mut self, txn: TxnId) {
        let desired: Vec<NodeId> = self.graph.all().filter(|id| self.graph[*id].desired().is_some()).collect();
        for id in desired {
            if self.graph[id].desire.requested.is_some() {
                self.take_over(id, txn);
                self.tracker.name(txn, id);
            }
            self.unblock(id);
            self.mark(id);
        }
    }

    /// Refuses a transaction with `revert` that contains an unusable value.
    ///
    /// No operation of the transaction has started yet, so only the previous desired values have to be restored.
    fn refuse_unusable(&mut self, txn: TxnId) {
        let changed = self
            .tracker
            .get(txn)
            .map(|open| open.previous.iter().map(|(key, _)| key.clone()).collect());
        let changed: Vec<D::Key> = changed.unwrap_or_default();
        for key in changed {
            if let Some(id) = self.graph.find(&key)
                && self.graph[id].rejected().is_some()
            {
                self.note(id);
            }
        }
        self.revert_failed();
    }

    /// Reports that a descriptor is now available for the keys that start with `prefix`.
    ///
    /// Desired values under these keys that could not be applied without a descriptor are applied now.
    pub fn descriptor_appeared(&mut self, prefix: &str) {
        let waiting: Vec<NodeId> = self.graph.under(prefix).filter(|id| self.graph[*id].desired().is_some()).collect();
        if waiting.is_empty() {
            return;
        }
        let txn = self.begin(Kind::Unimplemented, Options::default());
        for id in waiting {
            let node = &self.graph[id];
            let (key, value) = (node.key.clone(), node.desired().cloned());
            self.tracker.keep_value(txn, || ValueRecord {
                key,
                value,
                origin: Origin::FromNB,
            });
            self.desired_changed(id);
        }
    }

    /// Reports that a fact outside the scheduler exists (`Some`) or does not exist (`None`). No operation is ever performed on a
    /// fact. A fact holds the claims of its value while it exists.
    pub fn fact(&mut self, key: &D::Key, value: Option<D::Value>) {
        self.notify();
        let id = self.graph.obtain(key);
        let former = self.graph[id].applied().cloned();
        let changes = value.is_some() || former.is_some();
        self.on(id, Event::Reported(value));
        if changes {
            self.take_claims_of_fact(id);
            self.record_fact(id, former);
            // An operation that was blocked because an object did not exist may now succeed, or fail for a different reason.
            for interested in self.graph.interested(id) {
                if matches!(self.graph[interested].blocked.as_deref(), Some(Blocked::Unavailable(_))) {
                    self.unblock(interested);
                }
                // The operation in flight was chosen before this fact was reported, so its object must be checked afterwards.
                if let Some(in_flight) = &mut self.graph[interested].in_flight {
                    in_flight.recheck = true;
                }
            }
            self.mark_interested(id);
        }
        self.graph.drop_unused(id);
    }

    fn take_claims_of_fact(&mut self, id: NodeId) {
        let applied = self.graph[id].applied();
        let claims = applied.map_or_else(Vec::new, |value| self.claims_of(id, value));
        self.release_claims(id, &claims);
        self.graph.take_claims(id, claims);
    }

    /// Declares that all facts that exist at startup have been reported.
    ///
    /// Until then, a missing fact does not cause the deletion of any value observed in the kernel.
    pub fn complete_facts(&mut self) {
        if !self.graph.facts_complete {
            self.notify();
            self.graph.facts_complete = true;
            let discovered: Vec<NodeId> = self.graph.all().filter(|id| self.graph[*id].is_discovered()).collect();
            discovered.into_iter().for_each(|id| self.mark(id));
        }
    }

    /// Reports an event that may have changed the object of the value under `key`.
    ///
    /// An applied value is checked. A waiting or failed value is retried immediately.
    pub fn probe(&mut self, key: &D::Key) {
        let Some(id) = self.graph.find(key) else { return };
        self.notify();
        if let Some(in_flight) = &mut self.graph[id].in_flight {
            // The operation in flight may have read the object before the event.
            in_flight.recheck = true;
            return;
        }
        self.unblock(id);
        let node = &self.graph[id];
        // A value that is being deleted is checked as well, because it may become desired again before it is deleted.
        if let (Some(descriptor), Some(applied)) = (self.domain.descriptor(key), node.applied()) {
            match descriptor.verify(key, applied) {
                Effect::Noop(_) => {}
                effect => self.emit(id, Action::Verify, effect),
            }
        }
        self.mark(id);
    }

    /// Processes the result of reading the kernel.
    ///
    /// The caller must report changed facts first, because the values depend on them. All damage is recorded before any of it is
    /// judged. Otherwise, a value that the kernel removed along with another value could be mistaken for a value that another
    /// program removed.
    pub fn observe(&mut self, observation: Observation<D::Key, D::Value>) {
        let Observation {
            lost,
            observed,
            unfinished,
            probes,
        } = observation;
        self.see();
        self.note_damage(&lost, &observed);
        self.take_lost(&lost);
        self.take_observed(observed);
        self.forget_fresh_damage();
        self.unfinished(&unfinished);
        probes.iter().for_each(|key| self.probe(key));
    }

    /// Like [`Self::observe`], but only for values in the kernel. Values that are not desired will be deleted.
    pub fn found(&mut self, values: Vec<(D::Key, D::Value)>) {
        self.observe(Observation {
            observed: values,
            ..Observation::default()
        });
    }

    /// Like [`Self::observe`], but only for values that are no longer in the kernel.
    pub fn lost(&mut self, keys: &[D::Key]) {
        self.observe(Observation {
            lost: keys.to_vec(),
            ..Observation::default()
        });
    }

    /// Records damage to each applied value that is missing from the kernel or differs from the desired value. Must be called
    /// before the applied values are replaced.
    fn note_damage(&mut self, lost: &[D::Key], observed: &[(D::Key, D::Value)]) {
        let lost = lost.iter().map(|key| (key, None));
        for (key, value) in lost.chain(observed.iter().map(|(key, value)| (key, Some(value)))) {
            let Some(id) = self.graph.find(key) else { continue };
            let node = &self.graph[id];
            let concerns = node.in_flight.is_none() && node.applied().is_some() && node.desired().is_some();
            if concerns && value.is_none_or(|value| !self.is_as_desired(id, value)) {
                self.note_fresh_damage(id);
            }
        }
    }

    /// Records observed values as applied.
    fn take_observed(&mut self, values: Vec<(D::Key, D::Value)>) {
        for (key, value) in values {
            let id = self.graph.obtain(&key);
            if self.graph[id].in_flight.is_some() {
                continue;
            }
            if self.graph[id].applied().is_some() {
                if !self.is_as_desired(id, &value) {
                    self.contradict(id, "the applied value differs from the value read back");
                }
                let hold = self.damaged(id, Some(&value));
                // The observed value holds these claims even if the desired value does not need them. The former claims are kept
                // as well, because the repair may need them again.
                self.graph.take_claims(id, self.claims_of(id, &value));
                self.on(id, Event::Observed(value));
                self.refresh_children(id);
                self.properties_lost(id);
                self.mark(id);
                self.back_off_damaged(id, hold);
            } else {
                let hold = self.drift_left_by(id, &value);
                if self.graph[id].desired().is_none() {
                    self.contradict(id, "the deleted value still exists");
                }
                self.graph.take_claims(id, self.claims_of(id, &value));
                self.set_applied(id, value, Event::Observed);
                self.back_off_damaged(id, hold);
                self.record_sight(id, ValueState::Discovered, None);
                if self.graph[id].rejected().is_some() {
                    // The desired value is unusable, so the dependencies and implied values now follow from the applied value.
                    self.desired_changed(id);
                }
            }
        }
    }

    /// Records that values are no longer in the kernel. Values that are still desired will be created again.
    fn take_lost(&mut self, keys: &[D::Key]) {
        for key in keys {
            if let Some(id) = self.graph.find(key)
                && self.graph[id].in_flight.is_none()
                && self.graph[id].applied().is_some()
            {
                self.contradict(id, "value is not actually configured");
                let hold = self.damaged(id, None);
                let former = self.graph[id].applied().cloned();
                self.clear_applied(id);
                self.properties_lost(id);
                self.back_off_damaged(id, hold);
                self.record_sight(id, ValueState::Missing, former);
            }
        }
    }

    /// Marks all properties that are no longer derived from `id` as absent. No operation is needed, because properties have no
    /// descriptor.
    fn properties_lost(&mut self, id: NodeId) {
        let children: Vec<NodeId> = self.graph[id].children.iter().copied().collect();
        for child in children {
            let node = &self.graph[child];
            if node.desire.derived.is_none() && node.applied().is_some() && self.domain.descriptor(&node.key).is_none() {
                self.clear_applied(child);
            }
        }
    }

    /// Attributes the following changes to the transaction that requested the kernel read. If no transaction requested it, the
    /// changes are attributed to a notification.
    fn see(&mut self) {
        match self.tracker.reader() {
            Some(txn) => self.queue.act_on_behalf_of(txn),
            None => self.notify(),
        }
    }

    /// Records an error in a transaction with `verify` if the kernel contradicts the result of the transaction.
    fn contradict(&mut self, id: NodeId, text: &str) {
        let txn = self.queue.current();
        let Some(open) = self.tracker.get(txn).filter(|open| open.options.verify) else {
            return;
        };
        let key = &self.graph[id].key;
        let removed = |operation: &OperationRecord<D::Key, D::Value>| operation.key == *key && operation.verb == Verb::Delete;
        let requested = self.graph[self.base_of(id)].trace.requested_by == txn && open.has_acted();
        if requested || open.operations.iter().any(removed) {
            let node = &self.graph[id];
            let error = KeyError {
                key: node.key.clone(),
                operation: Verb::Verify,
                state: ValueState::Missing,
                error: text.to_owned(),
                in_revert: false,
            };
            self.tracker.keep_error(txn, error, true);
        }
    }

    /// Records damage to a desired value, so that the status can report the repair. Returns the block that delays or prevents the
    /// repair, if any.
    ///
    /// `found` is the new value, or `None` if the value was lost.
    fn damaged(&mut self, id: NodeId, found: Option<&D::Value>) -> Option<Blocked> {
        let node = &self.graph[id];
        if node.desired().is_none() || found.is_some_and(|value| self.is_as_desired(id, value)) {
            return None;
        }
        let (key, base) = (node.key.clone(), self.base_of(id));
        let hold = self.judge_damage(id, found);
        let base = &mut self.graph[base];
        if base.desire.requested.is_some() && !matches!(hold, Some(Blocked::Drifted(_))) {
            let damage = &mut base.make_rare().damage;
            if damage.len() < DAMAGE_MAX && !damage.contains(&key) {
                damage.push(key);
            }
        }
        hold
    }

    fn is_as_desired(&self, id: NodeId, value: &D::Value) -> bool {
        let node = &self.graph[id];
        node.desired().is_some_and(|desired| {
            let descriptor = self.domain.descriptor(&node.key);
            descriptor.is_none_or(|descriptor| descriptor.compare(&node.key, value, desired).is_same())
        })
    }

    /// Returns the block to keep for a drifted value that must not be repaired and now exists in the kernel as `value`.
    ///
    /// Returns `None` if `value` matches the desired value, because the drift is then over.
    fn drift_left_by(&self, id: NodeId, value: &D::Value) -> Option<Blocked> {
        let hold = self.graph[id].blocked.as_deref().filter(|_| self.is_left_drifted(id));
        hold.filter(|_| !self.is_as_desired(id, value)).cloned()
    }

    /// Records that interrupted creations may have left parts of these values behind. Values that are applied or in flight are
    /// skipped. The next attempt removes the parts first.
    fn unfinished(&mut self, keys: &[D::Key]) {
        for key in keys {
            if let Some(id) = self.graph.find(key)
                && !self.graph[id].present()
            {
                // The next attempt uses `attempted` to remove the parts if the value is no longer desired by then.
                let node = &self.graph[id];
                let attempted = node.desired().map(|desired| self.as_created(&node.key, desired));
                self.on(id, Event::PartsFound { attempted });
                self.mark(id);
            }
        }
    }
}
