//! Which transaction caused what: sequence numbers, what is still to be done for each, results and records.
//!
//! Owns the open transactions and the history. Must never influence a decision about a value: without it, the same operations
//! would come out. Start reading at [`Ledger`], then `attribution`.
//!
//! Whoever marks a node does so on behalf of a transaction, and the node keeps that cause until nothing is left to do for it; what
//! it marks in turn has the same cause. Two rules settle conflicts: a transaction that names a key takes its node over, and
//! otherwise a node that still has something to do for one transaction is not charged to another. A transaction is finished when
//! nothing of its cause is queued, under way, or waiting for something that is. It has its number from the moment when it is
//! taken (of notifications: when it has an effect; one without any leaves no trace).

use std::{
    collections::{BTreeSet, VecDeque},
    time::Duration,
};

use super::{
    descriptor::Key,
    history::{
        History, HistorySettings,
        record::{OperationRecord, TransactionRecord, ValueRecord, compress},
    },
    moment::Moment,
    node::Requested,
    node_set::FastMap,
    nodes::NodeId,
    statistics::Statistics,
    status::{CHECKED, ValueState},
    transaction::{KeyError, Kind, Options, Resync, TransactionResult},
};

/// Names an open transaction; never used twice.
pub(super) type Ticket = u64;

/// What the ledger knows of a node.
#[derive(Clone, Debug, Default)]
#[repr(C)]
pub(super) struct Trace {
    /// On whose behalf it is looked at.
    pub cause: Ticket,
    /// In how many queues it stands.
    pub places: u32,
    /// It waits for something that is being done.
    pub parked: bool,
    /// The operation under way brings a previous value back.
    pub reverting: bool,
    /// State, as recorded last.
    pub state: ValueState,
    /// On whose behalf the operation under way was started.
    pub flown_for: Ticket,
    /// The transaction that named it last.
    pub asked_by: Ticket,
    /// Within this transaction it is being created anew.
    pub recreated_in: Ticket,
    /// Since when (since the Unix epoch).
    pub since: Moment,
    /// Sequence number of the transaction that did so.
    pub seq: u64,
}

/// How far a transaction is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Phase {
    Applying,
    Reverting,
}

/// Whether a transaction needs the kernel to be read.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Reading {
    NotNeeded,
    Asked,
    UnderWay,
}

/// A transaction that is not finished.
#[derive(Clone)]
pub(super) struct Open<K, V> {
    pub seq: Option<u64>,
    pub kind: Kind,
    pub options: Options,
    start: Option<Duration>,
    /// Places in queues, and operations under way.
    outstanding: usize,
    pub phase: Phase,
    pub reading: Reading,
    /// It is to be read again once everything is applied.
    read_at_end: bool,
    pub values: Vec<ValueRecord<K, V>>,
    /// Nodes that it names; only if somebody waits for its result.
    pub named: Vec<NodeId>,
    /// What was wanted before, if it may have to come back.
    pub previous: Vec<(K, Option<Requested<V>>)>,
    pub planned: Option<Vec<OperationRecord<K, V>>>,
    pub operations: Vec<OperationRecord<K, V>>,
    omitted: usize,
    pub errors: Vec<KeyError<K>>,
}

/// All open transactions, and what became of those that are finished.
#[derive(Clone)]
pub(super) struct Ledger<K, V> {
    /// By ticket, from `first` on.
    open: VecDeque<Option<Box<Open<K, V>>>>,
    first: Ticket,
    /// The room of a notification without any effect: nearly every step has one.
    spare: Option<Box<Open<K, V>>>,
    next_seq: u64,
    /// On whose behalf nodes are marked now.
    pub current: Ticket,
    /// Takes what happens below until the next step.
    pub notification: Option<Ticket>,
    /// To be looked at: they may be finished. Some are named twice.
    pub ripe: Vec<Ticket>,
    pub parked: BTreeSet<NodeId>,
    pub to_revert: Vec<Ticket>,
    pub finished: Vec<TransactionResult<K>>,
    /// As `finished`, with the named nodes; what waits of them is not known yet.
    pub just_finished: Vec<(TransactionResult<K>, Vec<NodeId>)>,
    /// Keys that finished transactions will not bring back any more.
    pub released: Vec<K>,
    /// Values that are no longer wanted and were never applied, until their removal is recorded.
    pub withdrawn: FastMap<NodeId, V>,
    pub history: History<K, V>,
    pub statistics: Statistics,
}

impl<K, V> Open<K, V> {
    /// Whether anything has been done for it.
    pub fn has_acted(&self) -> bool {
        self.omitted > 0 || !self.operations.is_empty()
    }
}

impl<K: Key, V> Ledger<K, V> {
    pub fn new() -> Self {
        Ledger {
            open: VecDeque::new(),
            first: 1,
            spare: None,
            next_seq: 0,
            current: 0,
            notification: None,
            ripe: Vec::new(),
            parked: BTreeSet::new(),
            to_revert: Vec::new(),
            finished: Vec::new(),
            just_finished: Vec::new(),
            released: Vec::new(),
            withdrawn: FastMap::default(),
            history: History::new(HistorySettings::default()),
            statistics: Statistics::default(),
        }
    }

    fn index(&self, ticket: Ticket) -> Option<usize> {
        usize::try_from(ticket.checked_sub(self.first)?).ok()
    }

    pub fn get(&self, ticket: Ticket) -> Option<&Open<K, V>> {
        self.open.get(self.index(ticket)?)?.as_deref()
    }

    pub fn get_mut(&mut self, ticket: Ticket) -> Option<&mut Open<K, V>> {
        let at = self.index(ticket)?;
        self.open.get_mut(at)?.as_deref_mut()
    }

    /// Opens a transaction and makes it the current one.
    pub fn begin(&mut self, kind: Kind, options: Options) -> Ticket {
        let reading = match options.resync {
            Resync::Full | Resync::Downstream => Reading::Asked,
            Resync::None | Resync::Upstream => Reading::NotNeeded,
        };
        let ticket = self.first + self.open.len() as u64;
        let open = Open {
            seq: None,
            kind,
            read_at_end: options.verify,
            options,
            start: None,
            outstanding: 0,
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
            self.number(ticket);
        }
        self.ripe.push(ticket);
        self.current = ticket;
        ticket
    }

    /// The sequence number of an open transaction, given now if it has none yet.
    pub fn number(&mut self, ticket: Ticket) -> u64 {
        let next = self.next_seq;
        let Some(open) = self.get_mut(ticket) else { return next };
        if let Some(seq) = open.seq {
            return seq;
        }
        open.seq = Some(next);
        self.next_seq += 1;
        next
    }

    /// From now on, things happen on behalf of a notification from below.
    pub fn notify(&mut self) -> Ticket {
        match self.notification {
            Some(ticket) => self.current = ticket,
            None => self.notification = Some(self.begin(Kind::Notification, Options::default())),
        }
        self.current
    }

    pub fn charge(&mut self, ticket: Ticket, count: usize) {
        if let Some(open) = self.get_mut(ticket) {
            open.outstanding += count;
        }
    }

    pub fn discharge(&mut self, ticket: Ticket, count: usize) {
        if let Some(open) = self.get_mut(ticket) {
            open.outstanding -= count;
            if open.outstanding == 0 {
                self.ripe.push(ticket);
            }
        }
    }

    /// How many transactions are not finished.
    pub fn count_open(&self) -> usize {
        self.open.iter().flatten().count()
    }

    /// Whether the history has room for another operation of a transaction; if not, what is done is only counted.
    pub fn has_room(&self, ticket: Ticket) -> bool {
        let most = self.history.settings().of_one();
        self.get(ticket).is_some_and(|open| open.operations.len() < most)
    }

    /// Keeps what was done.
    pub fn keep(&mut self, ticket: Ticket, operation: OperationRecord<K, V>) {
        if let Some(open) = self.get_mut(ticket) {
            open.operations.push(operation);
        }
    }

    /// Something was done for which there is no room.
    pub fn omit(&mut self, ticket: Ticket) {
        if let Some(open) = self.get_mut(ticket) {
            open.omitted += 1;
        }
    }

    /// Keeps a value that a transaction came with.
    pub fn keep_value(&mut self, ticket: Ticket, value: impl FnOnce() -> ValueRecord<K, V>) {
        let most = self.history.settings().of_one();
        if let Some(open) = self.get_mut(ticket)
            && open.values.len() < most
        {
            open.values.push(value());
        }
    }

    /// Keeps which nodes a transaction names, to tell at its end which of them wait.
    pub fn name(&mut self, ticket: Ticket, id: NodeId) {
        if let Some(open) = self.get_mut(ticket)
            && open.options.awaited
        {
            open.named.push(id);
        }
    }

    /// Keeps a failure; the first one of a transaction that is to be reverted has consequences.
    pub fn keep_error(&mut self, ticket: Ticket, error: KeyError<K>, of_the_transaction: bool) {
        let Some(open) = self.get_mut(ticket) else { return };
        let first = open.options.revert && open.phase == Phase::Applying && of_the_transaction;
        open.errors.push(error);
        if first && !self.to_revert.contains(&ticket) {
            self.to_revert.push(ticket);
        }
    }

    /// The kernel is to be read once more before the transaction is finished.
    pub fn read_at_end(&mut self, ticket: Ticket) {
        if let Some(open) = self.get_mut(ticket) {
            open.read_at_end = true;
        }
    }

    /// The newest transaction for which the kernel is being read.
    pub fn reader(&self) -> Option<Ticket> {
        let last = self.first + self.open.len() as u64;
        (self.first..last)
            .rev()
            .find(|ticket| self.get(*ticket).is_some_and(|open| open.reading == Reading::UnderWay))
    }

    pub fn all_open(&mut self) -> impl Iterator<Item = (Ticket, &mut Open<K, V>)> {
        let first = self.first;
        let numbered = self.open.iter_mut().enumerate();
        numbered.filter_map(move |(at, open)| Some((first + at as u64, open.as_deref_mut()?)))
    }

    pub fn asks_for_reading(&self) -> bool {
        self.open.iter().flatten().any(|open| open.reading == Reading::Asked)
    }

    pub fn start_all(&mut self, now: Duration) {
        // Only the newest can be without a start.
        for open in self.open.iter_mut().rev().map_while(Option::as_mut) {
            if open.start.is_some() {
                break;
            }
            open.start = Some(now);
        }
    }

    /// Finishes what is ripe.
    pub fn harvest(&mut self, now: Duration) {
        let mut ripe = std::mem::take(&mut self.ripe);
        ripe.sort_unstable();
        for ticket in ripe.drain(..) {
            let Some(open) = self.get_mut(ticket) else { continue };
            if open.outstanding > 0 || open.reading != Reading::NotNeeded {
                continue;
            }
            if std::mem::take(&mut open.read_at_end) {
                open.reading = Reading::Asked;
                continue;
            }
            let at = self.index(ticket).unwrap_or_default();
            match self.open[at].take() {
                Some(open) if open.seq.is_none() => self.spare = Some(open),
                Some(open) => self.finish(*open, now),
                None => {}
            }
        }
        // The room is used again: there is something ripe in every step.
        self.ripe = ripe;
        while matches!(self.open.front(), Some(None)) {
            self.open.pop_front();
            self.first += 1;
        }
    }

    fn finish(&mut self, open: Open<K, V>, now: Duration) {
        self.released.extend(open.previous.into_iter().map(|(key, _)| key));
        let Some(seq) = open.seq else { return };
        let reverted = open.phase == Phase::Reverting;
        assert!(
            !CHECKED || open.errors.iter().all(|error| error.state != ValueState::Pending),
            "an error names a PENDING value: {:?}",
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
