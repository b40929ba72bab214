//! Counters over all transactions since the start, for monitoring.
//!
//! They only grow, and use constant memory.

use std::{collections::BTreeMap, time::Duration};

use super::{
    history::record::TransactionRecord,
    status::{ValueState, Verb},
};

/// Upper bounds of the buckets of durations, in seconds.
pub const DURATION_BOUNDS: [f64; 13] = [0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0];

/// Counters since the start.
#[derive(Clone, Debug, Default)]
pub struct Statistics {
    /// Complete transactions.
    pub transactions: u64,
    /// Open transactions.
    pub open: usize,
    /// Operations by verb.
    pub operations: BTreeMap<Verb, u64>,
    /// Operations by the state that they led to.
    pub states: BTreeMap<ValueState, u64>,
    /// Impossible events: see [`super::Scheduler::take_defects`].
    pub defects: u64,
    /// Failures.
    pub errors: u64,
    /// Durations of transactions by kind.
    pub durations: BTreeMap<&'static str, Durations>,
}

/// Histogram of durations.
#[derive(Clone, Debug, Default)]
pub struct Durations {
    /// Number of durations.
    pub count: u64,
    /// Sum of the durations.
    pub sum: Duration,
    /// Number of durations up to each of [`DURATION_BOUNDS`] and longer than the bound before.
    pub buckets: [u64; DURATION_BOUNDS.len()],
}

impl Statistics {
    /// Counts a complete transaction.
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
    /// Adds a duration.
    pub fn add(&mut self, duration: Duration) {
        self.count += 1;
        self.sum += duration;
        let seconds = duration.as_secs_f64();
        if let Some(at) = DURATION_BOUNDS.iter().position(|bound| seconds <= *bound) {
            self.buckets[at] += 1;
        }
    }
}
