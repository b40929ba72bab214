//! The cause of each mark and each operation: which transaction a node is looked at for.
//!
//! Owns the rules by which a cause is given, kept and taken over, and what callers may ask of transactions. Must never influence
//! a decision about a value. Start reading at `Scheduler::act_for`; the rules are told in `ledger`.

use super::{
    descriptor::Domain,
    history::{History, HistorySettings},
    ledger::{Phase, Reading, Ticket},
    nodes::NodeId,
    plan::Scheduler,
    statistics::Statistics,
    status::ValueState,
    transaction::TransactionResult,
};

impl<D: Domain> Scheduler<D> {
    /// Results of awaited transactions that were finished since the last call, in the order of their numbers.
    pub fn take_finished(&mut self) -> Vec<TransactionResult<D::Key>> {
        std::mem::take(&mut self.ledger.finished)
    }

    /// What was done.
    pub fn history(&self) -> &History<D::Key, D::Value> {
        &self.ledger.history
    }

    /// What has been done since the start, in numbers.
    pub fn statistics(&self) -> Statistics {
        Statistics {
            open: self.ledger.count_open(),
            ..self.ledger.statistics.clone()
        }
    }

    /// Changes how much history is kept; what is too much is dropped at once.
    pub fn set_history(&mut self, settings: HistorySettings) {
        self.ledger.history.set_settings(settings);
    }

    /// Whether a transaction waits for everything in the kernel to be read again.
    pub fn is_reading_asked(&self) -> bool {
        self.ledger.asks_for_reading()
    }

    /// As [`Self::is_reading_asked`], and the transactions take it as begun. Says so once: whoever asks must tell what was
    /// found and lost, and then call [`Self::read_again`].
    pub fn take_reading(&mut self) -> bool {
        if !self.ledger.asks_for_reading() {
            return false;
        }
        for (_, open) in self.ledger.all_open() {
            if open.reading == Reading::Asked {
                open.reading = Reading::UnderWay;
            }
        }
        true
    }

    /// Everything in the kernel has been read again, and what was found and lost has been told. The next step goes on from there.
    pub fn read_again(&mut self) {
        let mut read = Vec::new();
        for (ticket, open) in self.ledger.all_open() {
            if open.reading == Reading::UnderWay {
                open.reading = Reading::NotNeeded;
                read.push(ticket);
            }
        }
        self.ledger.ripe.extend(read);
    }

    /// From now on, nodes are marked on behalf of the transaction that a node belongs to.
    pub(super) fn act_for(&mut self, id: NodeId) {
        let trace = &mut self.graph[id].trace;
        let cause = trace.cause;
        if std::mem::take(&mut trace.parked) {
            trace.places -= 1;
            self.ledger.parked.remove(&id);
            self.ledger.discharge(cause, 1);
        }
        self.ledger.current = cause;
    }

    /// A node was put into a queue.
    pub(super) fn charge(&mut self, id: NodeId) {
        if self.graph.get(id).is_none() {
            return;
        }
        let current = self.ledger.current;
        let node = &mut self.graph[id];
        if node.trace.places == 0 && node.flight.is_none() {
            node.trace.cause = current;
        }
        node.trace.places += 1;
        let cause = node.trace.cause;
        self.ledger.charge(cause, 1);
    }

    /// A node that was taken from a queue has been dealt with. With nothing left to do for it, its state counts.
    pub(super) fn discharge(&mut self, id: NodeId) {
        if self.graph.get(id).is_none() {
            return;
        }
        if self.graph[id].trace.places == 1 && self.graph[id].flight.is_none() {
            self.note(id);
        }
        let node = &mut self.graph[id];
        node.trace.places -= 1;
        node.shed_rare();
        let cause = node.trace.cause;
        self.ledger.discharge(cause, 1);
        self.graph.drop_unused(id);
    }

    /// A node has to wait for something that may be under way: its transaction waits with it.
    pub(super) fn park(&mut self, id: NodeId) {
        if !self.graph[id].trace.parked {
            self.charge(id);
            self.graph[id].trace.parked = true;
            self.ledger.parked.insert(id);
        }
    }

    /// An operation on a node is being started.
    pub(super) fn take_off(&mut self, id: NodeId) {
        let current = self.ledger.current;
        let node = &mut self.graph[id];
        if node.trace.places == 0 {
            node.trace.cause = current;
        }
        let cause = node.trace.cause;
        node.trace.flown_for = cause;
        self.ledger.charge(cause, 1);
        self.graph[id].trace.reverting = self.phase_of(cause) == Some(Phase::Reverting);
    }

    /// A transaction names a key: what is still to be done for it is done for this transaction.
    pub(super) fn take_over(&mut self, id: NodeId, ticket: Ticket) {
        let trace = &mut self.graph[id].trace;
        let places = trace.places as usize;
        let former = std::mem::replace(&mut trace.cause, ticket);
        trace.asked_by = ticket;
        if trace.state == ValueState::Invalid {
            // Whoever asks again is told again.
            self.graph[id].replace_error(None);
        }
        self.ledger.charge(ticket, places);
        self.ledger.discharge(former, places);
    }

    /// At the begin of a step.
    pub(super) fn start_transactions(&mut self) {
        self.ledger.notify();
        self.ledger.start_all(self.now);
    }

    /// At the end of a step: what has nothing left to do is finished.
    pub(super) fn finish_transactions(&mut self) {
        self.ledger.notification = None;
        if self.idle() && self.operations.is_empty() {
            // Nothing moves any more, so nobody waits for anything but time or news.
            for id in std::mem::take(&mut self.ledger.parked) {
                if self.graph.get(id).is_some_and(|node| node.trace.parked) {
                    self.graph[id].trace.parked = false;
                    self.discharge(id);
                }
            }
        }
        self.harvest();
        self.ledger.history.expire(self.now);
    }

    fn harvest(&mut self) {
        self.ledger.harvest(self.now);
        for (mut result, named) in std::mem::take(&mut self.ledger.just_finished) {
            result.waiting = named.into_iter().filter_map(|id| self.wait_of(id)).collect();
            self.ledger.finished.push(result);
        }
        let released = std::mem::take(&mut self.ledger.released);
        released.iter().for_each(|key| self.release(key));
    }

    /// A transaction will not bring back what was wanted under a key any more.
    pub(super) fn release(&mut self, key: &D::Key) {
        if let Some(id) = self.graph.find(key) {
            if let Some(rare) = self.graph[id].rare_mut() {
                rare.kept -= 1;
            }
            self.graph.drop_unused(id);
        }
    }
}
