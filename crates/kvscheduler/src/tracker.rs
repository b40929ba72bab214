//! The transaction tracker: open transactions, their sequence numbers, results and records.
//!
//! The tracker does not influence decisions about values.
//!
//! A transaction gets its sequence number when it is accepted. A notification gets a sequence number only when it has an effect.
//! A notification without an effect is not recorded. The work queue keeps the pending count of each transaction (see
//! [`super::queue`]).

use std::{collections::VecDeque, time::Duration};

use rustc_hash::FxHashMap;

use super::{
    descriptor::{Domain, Key},
    history::{
        History, HistorySettings,
        record::{OperationFlags, OperationRecord, TransactionRecord, ValueRecord, compress},
    },
    moment::Moment,
    node::Requested,
    nodes::NodeId,
    queue::TxnId,
    scheduler::Scheduler,
    statistics::Statistics,
    status::{CHECKED, ValueState, Verb},
    transaction::{KeyError, Kind, Options, Resync, TransactionResult},
};

/// Per-node state of the transaction tracker.
#[derive(Clone, Debug, Default)]
#[repr(C)]
pub(super) struct Trace {
    /// True if the operation in flight restores a previous value.
    pub reverting: bool,
    /// Last recorded state.
    pub state: ValueState,
    /// Last transaction that named the key.
    pub requested_by: TxnId,
    /// Last transaction in which the value was deleted in order to be created again.
    pub recreated_in: TxnId,
    /// Time of the last record (since the Unix epoch).
    pub since: Moment,
    /// Sequence number of the transaction that made the last record.
    pub seq: u64,
}

/// Transaction phase.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Phase {
    Applying,
    Reverting,
}

/// Progress of reading the kernel on behalf of a transaction.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Reading {
    NotNeeded,
    Asked,
    UnderWay,
}

/// Transaction that has not completed yet.
#[derive(Clone)]
pub(super) struct Open<K, V> {
    pub seq: Option<u64>,
    pub kind: Kind,
    pub options: Options,
    start: Option<Duration>,
    pub phase: Phase,
    pub reading: Reading,
    /// True if the kernel must be read once everything is applied.
    read_at_end: bool,
    pub values: Vec<ValueRecord<K, V>>,
    /// Nodes named by the transaction. Recorded only if the caller waits for the result.
    pub named: Vec<NodeId>,
    /// Previous desired values, which are restored if the transaction is reverted.
    pub previous: Vec<(K, Option<Requested<V>>)>,
    pub planned: Option<Vec<OperationRecord<K, V>>>,
    pub operations: Vec<OperationRecord<K, V>>,
    omitted: usize,
    pub errors: Vec<KeyError<K>>,
}

/// All open transactions, and the results of completed ones.
#[derive(Clone)]
pub(super) struct TransactionTracker<K, V> {
    /// Open transactions, indexed by transaction id starting at `first`.
    open: VecDeque<Option<Box<Open<K, V>>>>,
    first: TxnId,
    /// Allocation of an earlier notification transaction that had no effect. It is reused, because nearly every step opens a
    /// notification transaction.
    spare: Option<Box<Open<K, V>>>,
    next_seq: u64,
    /// Transaction to which all notifications until the next step are assigned.
    pub notification: Option<TxnId>,
    pub to_revert: Vec<TxnId>,
    pub finished: Vec<TransactionResult<K>>,
    /// Results of completed transactions, each with the nodes that the transaction named. They move to `finished` when the
    /// scheduler has determined which of these nodes are waiting.
    pub just_finished: Vec<(TransactionResult<K>, Vec<NodeId>)>,
    /// Keys of previous values that no longer have to be kept, because the transactions have completed.
    pub released: Vec<K>,
    /// Values that were withdrawn while they were not applied. They are kept until their deletion is recorded.
    pub withdrawn: FxHashMap<NodeId, V>,
    pub history: History<K, V>,
    pub statistics: Statistics,
}

impl<K, V> Open<K, V> {
    /// Returns whether any operation of the transaction was recorded, or omitted because of the history limit.
    pub fn has_acted(&self) -> bool {
        self.omitted > 0 || !self.operations.is_empty()
    }
}

impl<K: Key, V> TransactionTracker<K, V> {
    pub fn new() -> Self {
        TransactionTracker {
            open: VecDeque::new(),
            first: 1,
            spare: None,
            next_seq: 0,
            notification: None,
            to_revert: Vec::new(),
            finished: Vec::new(),
            just_finished: Vec::new(),
            released: Vec::new(),
            withdrawn: FxHashMap::default(),
            history: History::new(HistorySettings::default()),
            statistics: Statistics::default(),
        }
    }

    fn index(&self, txn: TxnId) -> Option<usize> {
        usize::try_from(txn.checked_sub(self.first)?).ok()
    }

    pub fn get(&self, txn: TxnId) -> Option<&Open<K, V>> {
        self.open.get(self.index(txn)?)?.as_deref()
    }

    pub fn get_mut(&mut self, txn: TxnId) -> Option<&mut Open<K, V>> {
        let at = self.index(txn)?;
        self.open.get_mut(at)?.as_deref_mut()
    }

    /// Opens a transaction with the given id, which must be the next unused id.
    pub fn begin(&mut self, txn: TxnId, kind: Kind, options: Options) {
        let reading = match options.resync {
            Resync::Full | Resync::Downstream => Reading::Asked,
            Resync::None | Resync::Upstream => Reading::NotNeeded,
        };
        let open = Open {
            seq: None,
            kind,
            read_at_end: options.verify,
            options,
            start: None,
            phase: Phase::Applying,
            reading,
            values: Vec::new(),
            named: Vec::new(),
            previous: Vec::new(),
            planned: None,
            operations: Vec::new(),
            omitted: 0,
            errors: Vec::new(),
        };
        let open = match self.spare.take() {
            Some(mut spare) => {
                *spare = open;
                spare
            }
            None => Box::new(open),
        };
        self.open.push_back(Some(open));
        if kind != Kind::Notification {
            self.number(txn);
        }
    }

    /// Returns the sequence number of an open transaction, assigning one if necessary.
    pub fn number(&mut self, txn: TxnId) -> u64 {
        let next = self.next_seq;
        let Some(open) = self.get_mut(txn) else { return next };
        if let Some(seq) = open.seq {
            return seq;
        }
        open.seq = Some(next);
        self.next_seq += 1;
        next
    }

    /// Returns the number of open transactions.
    pub fn count_open(&self) -> usize {
        self.open.iter().flatten().count()
    }

    /// Returns whether the history has room for another operation of a transaction. If not, the operation is only counted.
    pub fn has_room(&self, txn: TxnId) -> bool {
        let most = self.history.settings().of_one();
        self.get(txn).is_some_and(|open| open.operations.len() < most)
    }

    /// Adds an operation to the transaction record.
    pub fn keep(&mut self, txn: TxnId, operation: OperationRecord<K, V>) {
        if let Some(open) = self.get_mut(txn) {
            open.operations.push(operation);
        }
    }

    /// Counts an operation that does not fit into the history. The record of the transaction does not contain it.
    pub fn omit(&mut self, txn: TxnId, verb: Verb, state: ValueState, flags: OperationFlags) {
        if let Some(open) = self.get_mut(txn) {
            open.omitted += 1;
        }
        if !flags.quiet {
            self.statistics.add(verb, state);
        }
    }

    /// Records a value that a transaction changes, if the history has room for it.
    pub fn keep_value(&mut self, txn: TxnId, value: impl FnOnce() -> ValueRecord<K, V>) {
        let most = self.history.settings().of_one();
        if let Some(open) = self.get_mut(txn)
            && open.values.len() < most
        {
            open.values.push(value());
        }
    }

    /// Records a node named by a transaction, so that the result can say whether the node was still waiting at the end.
    pub fn name(&mut self, txn: TxnId, id: NodeId) {
        if let Some(open) = self.get_mut(txn)
            && open.options.awaited
        {
            open.named.push(id);
        }
    }

    /// Records a failure. In a transaction with `revert`, the first failure with `of_the_transaction` set starts the revert.
    pub fn keep_error(&mut self, txn: TxnId, error: KeyError<K>, of_the_transaction: bool) {
        let Some(open) = self.get_mut(txn) else { return };
        let first = open.options.revert && open.phase == Phase::Applying && of_the_transaction;
        open.errors.push(error);
        if first && !self.to_revert.contains(&txn) {
            self.to_revert.push(txn);
        }
    }

    /// Requests that the kernel be read before the transaction completes.
    pub fn read_at_end(&mut self, txn: TxnId) {
        if let Some(open) = self.get_mut(txn) {
            open.read_at_end = true;
        }
    }

    /// Returns the most recent transaction for which the kernel is being read.
    pub fn reader(&self) -> Option<TxnId> {
        let last = self.first + self.open.len() as u64;
        (self.first..last)
            .rev()
            .find(|txn| self.get(*txn).is_some_and(|open| open.reading == Reading::UnderWay))
    }

    pub fn all_open(&mut self) -> impl Iterator<Item = (TxnId, &mut Open<K, V>)> {
        let first = self.first;
        let numbered = self.open.iter_mut().enumerate();
        numbered.filter_map(move |(at, open)| Some((first + at as u64, open.as_deref_mut()?)))
    }

    pub fn asks_for_reading(&self) -> bool {
        self.open.iter().flatten().any(|open| open.reading == Reading::Asked)
    }

    pub fn start_all(&mut self, now: Duration) {
        // Only the most recent transactions can lack a start time.
        for open in self.open.iter_mut().rev().map_while(Option::as_mut) {
            if open.start.is_some() {
                break;
            }
            open.start = Some(now);
        }
    }

    /// Completes a transaction that has nothing left to do, unless it needs a kernel read. Returns `true` if it completed.
    pub fn finish(&mut self, txn: TxnId, now: Duration) -> bool {
        let Some(open) = self.get_mut(txn).filter(|open| open.reading == Reading::NotNeeded) else {
            return false;
        };
        if std::mem::take(&mut open.read_at_end) {
            open.reading = Reading::Asked;
            return false;
        }
        let at = self.index(txn).unwrap_or_default();
        match self.open[at].take() {
            Some(open) if open.seq.is_none() => self.spare = Some(open),
            Some(open) => self.close(*open, now),
            None => {}
        }
        while matches!(self.open.front(), Some(None)) {
            self.open.pop_front();
            self.first += 1;
        }
        true
    }

    fn close(&mut self, open: Open<K, V>, now: Duration) {
        self.released.extend(open.previous.into_iter().map(|(key, _)| key));
        let Some(seq) = open.seq else { return };
        let reverted = open.phase == Phase::Reverting;
        assert!(
            !CHECKED || open.errors.iter().all(|error| error.state != ValueState::Pending),
            "errors must not name PENDING values: {:?}",
            open.errors
        );
        if open.options.awaited {
            let result = TransactionResult {
                seq,
                errors: open.errors.clone(),
                waiting: Vec::new(),
                reverted,
            };
            self.just_finished.push((result, open.named));
        }
        let mut errors = open.errors;
        errors.truncate(self.history.settings().of_one());
        let record = TransactionRecord {
            seq,
            kind: open.kind,
            options: open.options,
            start: open.start.unwrap_or(now),
            stop: now,
            values: open.values,
            planned: open.planned,
            operations: compress(open.operations),
            omitted: open.omitted,
            errors,
            reverted,
        };
        self.statistics.count(&record);
        self.history.push(record);
    }
}

impl<D: Domain> Scheduler<D> {
    /// Returns the results of the awaited transactions that completed since the last call, in completion order.
    pub fn take_finished(&mut self) -> Vec<TransactionResult<D::Key>> {
        std::mem::take(&mut self.tracker.finished)
    }

    /// Returns the transaction history.
    pub fn history(&self) -> &History<D::Key, D::Value> {
        &self.tracker.history
    }

    /// Returns the scheduler statistics since startup.
    pub fn statistics(&self) -> Statistics {
        Statistics {
            open: self.tracker.count_open(),
            ..self.tracker.statistics.clone()
        }
    }

    /// Changes the history limits. Transactions that exceed the new limits are dropped immediately.
    pub fn set_history(&mut self, settings: HistorySettings) {
        self.tracker.history.set_settings(settings);
    }

    /// Returns whether a transaction is waiting for a full read of the kernel.
    pub fn is_reading_requested(&self) -> bool {
        self.tracker.asks_for_reading()
    }

    /// Like [`Self::is_reading_requested`], but also records that the read has started.
    ///
    /// Returns `true` once per read. The caller must then report the observed and lost values, and call [`Self::read_again`].
    pub fn take_reading(&mut self) -> bool {
        if !self.tracker.asks_for_reading() {
            return false;
        }
        for (_, open) in self.tracker.all_open() {
            if open.reading == Reading::Asked {
                open.reading = Reading::UnderWay;
            }
        }
        true
    }

    /// Reports that the kernel read is complete, after all observed and lost values have been reported.
    ///
    /// The transactions that waited for the read continue in the next step.
    pub fn read_again(&mut self) {
        for (txn, open) in self.tracker.all_open() {
            if open.reading == Reading::UnderWay {
                open.reading = Reading::NotNeeded;
                self.queue.reconsider(txn);
            }
        }
    }

    /// Assigns the pending work of a node to a transaction that changes the same key.
    pub(super) fn take_over(&mut self, id: NodeId, txn: TxnId) {
        self.queue.reassign(&mut self.graph, id, txn);
        let trace = &mut self.graph[id].trace;
        trace.requested_by = txn;
        if trace.state == ValueState::Invalid {
            // If the same invalid value is requested again, the error must be reported again.
            self.graph[id].replace_error(None);
        }
    }

    /// Opens a transaction and makes it the current one.
    pub(super) fn begin(&mut self, kind: Kind, options: Options) -> TxnId {
        let txn = self.queue.open();
        self.tracker.begin(txn, kind, options);
        txn
    }

    /// Makes the open notification the current transaction. Opens a notification if there is none.
    pub(super) fn notify(&mut self) {
        match self.tracker.notification {
            Some(txn) => self.queue.act_on_behalf_of(txn),
            None => self.tracker.notification = Some(self.begin(Kind::Notification, Options::default())),
        }
    }

    /// Sets the start time of new transactions. Called at the start of each step.
    pub(super) fn start_transactions(&mut self) {
        self.notify();
        self.tracker.start_all(self.now);
    }

    /// Completes transactions that have nothing left to do. Called at the end of each step.
    pub(super) fn finish_transactions(&mut self) {
        self.tracker.notification = None;
        if self.idle() && self.operations.is_empty() {
            // No operation is in flight, so the nodes that were waiting for one can now change only because of timers or later
            // events.
            for id in self.queue.take_waiting(&mut self.graph) {
                self.leave(id);
            }
        }
        self.complete_transactions();
        self.tracker.history.expire(self.now);
    }

    fn complete_transactions(&mut self) {
        for txn in self.queue.take_completable() {
            if self.tracker.finish(txn, self.now) {
                self.queue.close(txn);
            }
        }
        for (mut result, named) in std::mem::take(&mut self.tracker.just_finished) {
            result.waiting = named.into_iter().filter_map(|id| self.wait_of(id)).collect();
            self.tracker.finished.push(result);
        }
        let released = std::mem::take(&mut self.tracker.released);
        released.iter().for_each(|key| self.release(key));
    }

    /// Records that a transaction will no longer restore the previous value of a key.
    pub(super) fn release(&mut self, key: &D::Key) {
        if let Some(id) = self.graph.find(key) {
            if let Some(rare) = self.graph[id].rare_mut() {
                rare.kept -= 1;
            }
            self.graph.drop_unused(id);
        }
    }
}
