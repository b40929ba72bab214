//! A dry run: what a transaction would do, without doing it.
//!
//! Owns the copy of the scheduler that lives for one simulation, where every operation succeeds at once. Must never let anything
//! of it out but the plan. Start reading at [`Scheduler::simulate`].
//!
//! It is the real scheduler with the real descriptors, so it predicts what is pending, invalid, in conflict or re-created; only
//! what the kernel would say is unknown.

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

/// Most steps of a simulation. Each does at least one operation, and chains of dependencies are much shorter.
const STEPS_MAX: usize = 100_000;

/// An operation of a dry run.
#[derive(Clone, Debug, PartialEq)]
pub struct Planned<K, V> {
    /// What would be done, and what would come of it.
    pub operation: OperationRecord<K, V>,
    /// What it is done for: how the value before differs from the desired one. Empty for what is new, for what nobody desires, and for later
    /// operations on the same value.
    pub comparison: Comparison,
}

/// The operations of a dry run, in their order.
pub type Plan<D> = Vec<Planned<<D as Domain>::Key, <D as Domain>::Value>>;

impl<D: Domain> Scheduler<D> {
    /// The operations that a transaction would lead to if nothing failed. Costs a copy of the graph: its time and memory grow
    /// with the number of all values, not with that of the changes.
    ///
    /// # Errors
    /// As for [`Scheduler::transact`].
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
        // What an operation of the plan leaves undone for another one is no difference that anybody has seen.
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

    /// How a value, before an operation that has been done, differed from the one that is desired.
    fn difference_before(&self, operation: &OperationRecord<D::Key, D::Value>) -> Comparison {
        let descriptor = self.domain.descriptor(&operation.key);
        let desired = self.graph.find(&operation.key).and_then(|id| self.graph[id].wanted());
        match (descriptor, &operation.before.value, desired) {
            (Some(descriptor), Some(before), Some(desired)) if matches!(operation.verb, Verb::Update | Verb::Delete) => {
                descriptor.compare(&operation.key, before, desired)
            }
            _ => Comparison::same(),
        }
    }

    /// Lets everything that can be done succeed.
    fn work_off(&mut self) {
        for operation in self.queue.operations() {
            let outcome = self.supposed_outcome(operation);
            self.outcome(operation, outcome);
        }
        for _ in 0..STEPS_MAX {
            let operations = self.step(self.now);
            if self.take_reading() {
                // Nothing is read: what is believed to be in the kernel counts as being there.
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
