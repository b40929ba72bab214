//! Bringing the previous values back after a failure.
//!
//! Owns the second phase of a transaction that asked for it. Must never start over: what fails in a revert is reported and
//! then treated as any failure. Start reading at [`Scheduler::revert_failed`].
//!
//! The wanted values become the previous ones, in reverse order; the usual step does the rest, dependents first. Only keys that no
//! later transaction has named meanwhile are touched. What had been started when the first value failed is awaited and undone.

use super::{descriptor::Domain, ledger::Phase, queue::Ticket, scheduler::Scheduler};

impl<D: Domain> Scheduler<D> {
    /// Starts the revert of transactions in which something has failed.
    pub(super) fn revert_failed(&mut self) {
        while let Some(ticket) = self.ledger.to_revert.pop() {
            self.revert(ticket);
        }
    }

    fn revert(&mut self, ticket: Ticket) {
        let Some(open) = self.ledger.get_mut(ticket).filter(|open| open.phase == Phase::Applying) else {
            return;
        };
        open.phase = Phase::Reverting;
        let failed = open.errors.first().map(|error| error.key.clone());
        let mut previous = std::mem::take(&mut open.previous);
        previous.reverse();
        previous.sort_by_key(|(key, _)| Some(key) != failed.as_ref());
        // An operation that failed may have done half of its work.
        self.ledger.read_at_end(ticket);
        self.queue.act_on_behalf_of(ticket);
        for (key, requested) in previous {
            if let Some(id) = self.graph.find(&key).filter(|id| self.graph[*id].trace.asked_by == ticket) {
                self.take_over(id, ticket);
                self.request(id, requested);
            }
            self.release(&key);
        }
    }
}
