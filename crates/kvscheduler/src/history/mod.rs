//! Transaction history, limited by age, number of transactions and number of operations.
//!
//! [`History`] stores the records. [`extract::Extract`] is a copy of the records and the current values, for readers.

pub mod extract;
pub mod record;
pub mod timeline;

use std::{collections::VecDeque, sync::Arc, time::Duration};

use record::TransactionRecord;

/// Limits of the transaction history.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HistorySettings {
    /// True if completed transactions are recorded.
    pub enabled: bool,
    /// Maximum age of a transaction, counted from its end. Older transactions are dropped.
    pub age: Duration,
    /// Maximum number of transactions to keep.
    pub transactions: usize,
    /// Maximum number of operations to keep for all transactions together. Planned operations, values named by transactions, and
    /// errors also count towards this limit. A single transaction keeps at most a quarter of this number of operations.
    pub operations: usize,
}

impl Default for HistorySettings {
    /// Returns the default limits: one day, 10,000 transactions and 40,000 operations.
    fn default() -> Self {
        HistorySettings {
            enabled: true,
            age: Duration::from_secs(24 * 60 * 60),
            transactions: 10_000,
            operations: 40_000,
        }
    }
}

impl HistorySettings {
    /// Returns the maximum number of operations (and of values) to keep for a single transaction.
    pub(super) fn of_one(&self) -> usize {
        if self.enabled { self.operations / 4 } else { 0 }
    }
}

/// Completed transactions, oldest first.
#[derive(Clone)]
pub struct History<K, V> {
    settings: HistorySettings,
    /// The records are shared, so that readers need not copy them.
    records: VecDeque<Arc<TransactionRecord<K, V>>>,
    operations: usize,
}

impl<K, V> History<K, V> {
    pub(super) fn new(settings: HistorySettings) -> Self {
        History {
            settings,
            records: VecDeque::new(),
            operations: 0,
        }
    }

    /// Returns the history limits.
    pub fn settings(&self) -> HistorySettings {
        self.settings
    }

    pub(super) fn set_settings(&mut self, settings: HistorySettings) {
        self.settings = settings;
        self.trim();
    }

    pub(super) fn push(&mut self, record: TransactionRecord<K, V>) {
        if !self.settings.enabled {
            return;
        }
        self.operations += weight(&record);
        self.expire(record.stop);
        self.records.push_back(Arc::new(record));
        self.trim();
    }

    /// Drops transactions that are too old.
    pub(super) fn expire(&mut self, now: Duration) {
        let age = self.settings.age;
        while self.records.front().is_some_and(|record| record.stop + age < now) {
            self.drop_oldest();
        }
    }

    fn trim(&mut self) {
        let limits = self.settings;
        while !self.records.is_empty()
            && (!limits.enabled || self.records.len() > limits.transactions || self.operations > limits.operations)
        {
            self.drop_oldest();
        }
    }

    fn drop_oldest(&mut self) {
        if let Some(record) = self.records.pop_front() {
            self.operations -= weight(&record);
        }
    }

    /// Returns all transactions, oldest first.
    pub fn records(&self) -> impl DoubleEndedIterator<Item = &TransactionRecord<K, V>> {
        self.records.iter().map(Arc::as_ref)
    }

    /// Like [`Self::records`], but returns shared references, which stay valid when the history drops transactions.
    pub fn shared(&self) -> Vec<Arc<TransactionRecord<K, V>>> {
        self.records.iter().cloned().collect()
    }

    /// Returns the transaction with this sequence number.
    pub fn get(&self, seq: u64) -> Option<&TransactionRecord<K, V>> {
        // The records are in completion order, which can differ from the order of the sequence numbers. Recent records are at the
        // end.
        self.records().rev().find(|record| record.seq == seq)
    }
}

fn weight<K, V>(record: &TransactionRecord<K, V>) -> usize {
    let planned = record.planned.as_ref().map_or(0, Vec::len);
    record.operations.len() + planned + record.values.len() + record.errors.len()
}
