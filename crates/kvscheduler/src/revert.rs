//! Reverts transactions: restores the previous values after a failure.
//!
//! The previous values become desired again, in reverse order. The following steps apply them and delete dependents first, as
//! always. Keys named by a later transaction are left alone. Operations that were in flight when the first value failed are
//! completed and then undone. A failure during the revert is reported and then treated like any other failure.

use super::{descriptor::Domain, queue::TxnId, scheduler::Scheduler, tracker::Phase};

impl<D: Domain> Scheduler<D> {
    /// Starts the revert of each transaction that must be reverted after a failure.
    pub(super) fn revert_failed(&mut self) {
        while let Some(txn) = self.tracker.to_revert.pop() {
            self.revert(txn);
        }
    }

    fn revert(&mut self, txn: TxnId) {
        let Some(open) = self.tracker.get_mut(txn).filter(|open| open.phase == Phase::Applying) else {
            return;
        };
        open.phase = Phase::Reverting;
        let failed = open.errors.first().map(|error| error.key.clone());
        let mut previous = std::mem::take(&mut open.previous);
        previous.reverse();
        previous.sort_by_key(|(key, _)| Some(key) != failed.as_ref());
        // A failed operation may have changed part of the object, so the kernel is read again.
        self.tracker.read_at_end(txn);
        self.queue.act_on_behalf_of(txn);
        for (key, requested) in previous {
            if let Some(id) = self.graph.find(&key).filter(|id| self.graph[*id].trace.requested_by == txn) {
                self.take_over(id, txn);
                self.request(id, requested);
            }
            self.release(&key);
        }
    }
}
