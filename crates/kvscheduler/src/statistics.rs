//! Counts over all transactions since the start, for monitoring.
//!
//! Owns the counters. They only ever grow, and take the same room however much is counted. Must never be part of a decision. Start
//! reading at [`Statistics`].

use std::{collections::BTreeMap, time::Duration};

use super::{
    history::record::TransactionRecord,
    status::{ValueState, Verb},
};

/// Upper bounds of the buckets of durations, in seconds.
pub const DURATION_BOUNDS: [f64; 13] = [0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0];

/// What has been done since the start.
#[derive(Clone, Debug, Default)]
pub struct Statistics {
    /// Transactions that are finished.
    pub transactions: u64,
    /// Transactions that are not finished.
    pub open: usize,
    /// Operations, by what was done.
    pub operations: BTreeMap<Verb, u64>,
    /// Operations, by the state that they led to.
    pub states: BTreeMap<ValueState, u64>,
    /// Events that cannot have happened: see [`super::Scheduler::take_defects`].
    pub defects: u64,
    /// Failures.
    pub errors: u64,
    /// How long transactions took, by their kind.
    pub durations: BTreeMap<&'static str, Durations>,
}

/// A histogram.
#[derive(Clone, Debug, Default)]
pub struct Durations {
    /// How many.
    pub count: u64,
    /// All together.
    pub sum: Duration,
    /// How many were at most as long as each of [`DURATION_BOUNDS`] and longer than the one before.
    pub buckets: [u64; DURATION_BOUNDS.len()],
}

impl Statistics {
    /// Counts a transaction that is finished.
    pub(super) fn count<K, V>(&mut self, record: &TransactionRecord<K, V>) {
        self.transactions += 1;
        for operation in record.executed() {
            *self.operations.entry(operation.verb).or_default() += 1;
            *self.states.entry(operation.after.state).or_default() += 1;
        }
        self.errors += record.errors.len() as u64;
        let took = record.stop.saturating_sub(record.start);
        self.durations.entry(record.kind.text()).or_default().add(took);
    }
}

impl Durations {
    /// Counts one.
    pub fn add(&mut self, duration: Duration) {
        self.count += 1;
        self.sum += duration;
        let seconds = duration.as_secs_f64();
        if let Some(at) = DURATION_BOUNDS.iter().position(|bound| seconds <= *bound) {
            self.buckets[at] += 1;
        }
    }
}
