//! Dry runs, which compute the operations of a transaction without performing them.
//!
//! A simulation runs a copy of the scheduler with the real descriptors, and every operation succeeds immediately. It predicts
//! which values will be pending, invalid, in conflict or re-created. Only kernel errors cannot be predicted.

use std::collections::HashSet;

use super::{
    comparison::Comparison,
    descriptor::Domain,
    history::{HistorySettings, record::OperationRecord},
    operation::Outcome,
    scheduler::Scheduler,
    status::Verb,
    transaction::{Transaction, Unacceptable},
};

/// Maximum number of steps in a simulation. Each step performs at least one operation, and dependency chains are much shorter.
const STEPS_MAX: usize = 100_000;

/// Operation of a dry run.
#[derive(Clone, Debug, PartialEq)]
pub struct Planned<K, V> {
    /// Operation and its expected result.
    pub operation: OperationRecord<K, V>,
    /// Differences between the value before the operation and the desired value. These differences are the reason for the
    /// operation.
    ///
    /// Empty for new values, for values that are no longer desired, and for later operations on the same value.
    pub comparison: Comparison,
}

/// Planned operations of a dry run, in order.
pub type Plan<D> = Vec<Planned<<D as Domain>::Key, <D as Domain>::Value>>;

impl<D: Domain> Scheduler<D> {
    /// Returns the operations that a transaction would cause if no operation failed.
    ///
    /// This method copies the whole graph, so its time and memory use grow with the total number of values, not with the number
    /// of changes.
    ///
    /// # Errors
    /// Fails for the same reasons as [`Scheduler::transact`].
    pub fn simulate(&self, transaction: Transaction<D::Key, D::Value>) -> Result<Plan<D>, Unacceptable> {
        transaction.check()?;
        let mut copy = self.clone();
        copy.set_history(HistorySettings {
            operations: usize::MAX,
            transactions: usize::MAX,
            ..HistorySettings::default()
        });
        copy.work_off();
        let mut plain = transaction;
        plain.options.simulate = false;
        plain.options.verify = false;
        let seq = copy.transact(plain)?;
        copy.work_off();
        let planned = copy.history().get(seq).into_iter().flat_map(|record| record.executed());
        // Only the first operation on a value can remove a difference that existed before the transaction.
        let mut looked_at = HashSet::new();
        let explained = planned.map(|operation| Planned {
            operation: operation.clone(),
            comparison: match self.view().applied(&operation.key).is_some() && looked_at.insert(&operation.key) {
                true => copy.difference_before(operation),
                false => Comparison::same(),
            },
        });
        Ok(explained.collect())
    }

    /// Compares the value before a completed operation with the desired value.
    fn difference_before(&self, operation: &OperationRecord<D::Key, D::Value>) -> Comparison {
        let descriptor = self.domain.descriptor(&operation.key);
        let desired = self.graph.find(&operation.key).and_then(|id| self.graph[id].desired());
        match (descriptor, &operation.before.value, desired) {
            (Some(descriptor), Some(before), Some(desired)) if matches!(operation.verb, Verb::Update | Verb::Delete) => {
                descriptor.compare(&operation.key, before, desired)
            }
            _ => Comparison::same(),
        }
    }

    /// Runs steps until nothing is left to do, and reports success for every operation.
    fn work_off(&mut self) {
        for operation in self.queue.operations() {
            let outcome = self.supposed_outcome(operation);
            self.outcome(operation, outcome);
        }
        for _ in 0..STEPS_MAX {
            let operations = self.step(self.now);
            if self.take_reading() {
                // The kernel is not read, because the applied values are assumed to be in place.
                self.read_again();
            } else if operations.is_empty() && self.idle() {
                return;
            }
            for operation in operations {
                let outcome = self.supposed_outcome(operation.id);
                self.outcome(operation.id, outcome);
            }
        }
    }

    fn supposed_outcome(&self, operation: u64) -> Outcome<D::Value> {
        let node = self.queue.node_of(operation).and_then(|id| self.graph.get(id));
        match node.and_then(|node| Some((node, node.in_flight.as_ref()?))) {
            Some((node, flight)) if flight.action.verb() != Verb::Verify => match flight.action.value() {
                Some(value) => Outcome::Became(self.domain.supposed(&node.key, value, &self.view())),
                None => Outcome::Done,
            },
            _ => Outcome::Done,
        }
    }
}
