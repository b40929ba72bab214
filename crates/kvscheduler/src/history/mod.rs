//! What was done, when and why: finished transactions, bounded by age, number and operations.
//!
//! Owns the records and the timeline of each key. How they are shown is the caller's. Must never influence what happens
//! to a value. Start reading at [`History`]; [`extract::Extract`] is how others look at all of it.

pub mod extract;
pub mod record;
pub mod timeline;

use std::{collections::VecDeque, sync::Arc, time::Duration};

use record::TransactionRecord;

/// How much is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HistorySettings {
    /// Whether anything is kept at all.
    pub enabled: bool,
    /// Transactions that ended longer ago than this are dropped.
    pub age: Duration,
    /// Most transactions kept.
    pub transactions: usize,
    /// Most operations kept, over all transactions. One transaction alone keeps at most a quarter of this.
    pub operations: usize,
}

impl Default for HistorySettings {
    /// A day, 10,000 transactions, 40,000 operations.
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
    /// Most operations (and most values) kept of one transaction.
    pub(super) fn of_one(&self) -> usize {
        if self.enabled { self.operations / 4 } else { 0 }
    }
}

/// Finished transactions, the oldest first.
#[derive(Clone)]
pub struct History<K, V> {
    settings: HistorySettings,
    /// Shared, so that whoever is shown them needs no copy.
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

    /// How much is kept.
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

    /// Drops what is too old.
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

    /// All that is kept, the oldest first.
    pub fn records(&self) -> impl DoubleEndedIterator<Item = &TransactionRecord<K, V>> {
        self.records.iter().map(Arc::as_ref)
    }

    /// As [`Self::records`], to be kept: whatever is dropped here meanwhile.
    pub fn shared(&self) -> Vec<Arc<TransactionRecord<K, V>>> {
        self.records.iter().cloned().collect()
    }

    /// The transaction with this sequence number.
    pub fn get(&self, seq: u64) -> Option<&TransactionRecord<K, V>> {
        // They end nearly in the order of their numbers, so it is near the end or not there.
        self.records().rev().find(|record| record.seq == seq)
    }
}

fn weight<K, V>(record: &TransactionRecord<K, V>) -> usize {
    let planned = record.planned.as_ref().map_or(0, Vec::len);
    record.operations.len() + planned + record.values.len() + record.errors.len()
}
