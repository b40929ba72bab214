//! Scheduler statistics since startup, for monitoring.
//!
//! The totals only grow, and memory use is constant.

use std::{collections::BTreeMap, time::Duration};

use super::{
    history::record::TransactionRecord,
    status::{ValueState, Verb},
};

/// Upper bounds of the duration histogram buckets, in seconds.
pub const DURATION_BOUNDS: [f64; 13] = [0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0];

/// Scheduler statistics since startup.
#[derive(Clone, Debug, Default)]
pub struct Statistics {
    /// Number of completed transactions.
    pub transactions: u64,
    /// Number of open transactions.
    pub open: usize,
    /// Number of recorded operations in completed transactions, by verb.
    pub operations: BTreeMap<Verb, u64>,
    /// Number of recorded operations in completed transactions, by resulting state.
    pub states: BTreeMap<ValueState, u64>,
    /// Number of defects found (see [`super::Scheduler::take_defects`]).
    pub defects: u64,
    /// Number of recorded failures of single values in completed transactions.
    pub errors: u64,
    /// Durations of completed transactions, by transaction kind.
    pub durations: BTreeMap<&'static str, Durations>,
}

/// Duration histogram.
#[derive(Clone, Debug, Default)]
pub struct Durations {
    /// Number of recorded durations.
    pub count: u64,
    /// Sum of the recorded durations.
    pub sum: Duration,
    /// Number of durations in each bucket. A bucket covers the durations that are greater than the previous bound in
    /// [`DURATION_BOUNDS`] and at most its own bound.
    pub buckets: [u64; DURATION_BOUNDS.len()],
}

impl Statistics {
    /// Counts a completed transaction.
    pub(super) fn count<K, V>(&mut self, record: &TransactionRecord<K, V>) {
        self.transactions += 1;
        for operation in record.executed() {
            self.add(operation.verb, operation.after.state);
        }
        self.errors += record.errors.len() as u64;
        let took = record.stop.saturating_sub(record.start);
        self.durations.entry(record.kind.text()).or_default().add(took);
    }

    /// Counts an operation by its verb and by the resulting state.
    pub(super) fn add(&mut self, verb: Verb, state: ValueState) {
        *self.operations.entry(verb).or_default() += 1;
        *self.states.entry(state).or_default() += 1;
    }
}

impl Durations {
    /// Records a duration.
    pub fn add(&mut self, duration: Duration) {
        self.count += 1;
        self.sum += duration;
        let seconds = duration.as_secs_f64();
        if let Some(at) = DURATION_BOUNDS.iter().position(|bound| seconds <= *bound) {
            self.buckets[at] += 1;
        }
    }
}
