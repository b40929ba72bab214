//! Retries of failed values.
//!
//! A derived value uses the retry policy of its base value. A value with no retries left stays FAILED until it is changed,
//! resynced or probed, or until a dependency changes (see [`Scheduler::wake`]).

use std::{collections::BTreeMap, time::Duration};

use super::{
    blocked::{Blocked, Ends},
    descriptor::Domain,
    history::record::{Origin, ValueRecord},
    nodes::NodeId,
    operation::{Fault, FaultKind},
    queue::TxnId,
    scheduler::Scheduler,
    transaction::{Kind, Options, Retry},
};

/// Retry time of a value that has no retries left.
pub(super) const NEVER: Duration = Duration::MAX;
/// Minimum time between a failure and a retry triggered by a changed dependency.
pub(super) const WAKE_INTERVAL: Duration = Duration::from_secs(1);

impl<D: Domain> Scheduler<D> {
    fn retry_of(&self, id: NodeId) -> Retry {
        let base = self.base_of(id);
        let reported = |id: NodeId| self.graph[id].rare()?.retry;
        reported(id).or(reported(base)).unwrap_or_default()
    }

    /// Blocks a value after a failure. The retry policy of the value determines the duration.
    pub(super) fn back_off(&mut self, id: NodeId, fault: Fault, txn: TxnId) {
        let retry = self.retry_of(id);
        let persistent = fault.kind == FaultKind::Persistent;
        if self.graph[id].attempts == 0 {
            self.graph[id].make_rare().failed_in = self.tracker.number(txn);
        }
        let node = &mut self.graph[id];
        let delay = retry
            .delay(node.attempts)
            .map(|delay| if persistent { retry.longest } else { delay });
        node.attempts = node.attempts.saturating_add(1);
        let until = delay.map_or(NEVER, |delay| self.now + delay);
        node.blocked = Some(Box::new(Blocked::BackOff {
            until,
            earliest: self.now + WAKE_INTERVAL,
            persistent: persistent || until == NEVER,
            foreign: fault.kind == FaultKind::Foreign,
            reason: fault.into(),
        }));
        if until != NEVER {
            self.queue.at(until, id);
        }
    }

    /// Retries a blocked value because a dependency has changed.
    ///
    /// A waiting value is retried immediately, and a failed value at most once per [`WAKE_INTERVAL`]. The number of attempts is
    /// kept, so a dependency that keeps changing does not reset the back-off. If an operation is in flight, the retry takes place
    /// after that operation has failed.
    pub(super) fn wake(&mut self, id: NodeId) {
        let now = self.now;
        let Some(node) = self.graph.get_mut(id) else { return };
        if let Some(flight) = &mut node.in_flight {
            flight.notified = true;
            return;
        }
        let Some(blocked) = node.blocked.as_deref_mut() else { return };
        match blocked.ends_after_change(now) {
            Ends::Later => {}
            Ends::Now => {
                if let Some(until) = blocked.until() {
                    self.queue.cancel(until, id);
                }
                node.blocked = None;
            }
            Ends::At(due) => {
                if let Blocked::BackOff { until, .. } = blocked {
                    self.queue.cancel(*until, id);
                    *until = due;
                    self.queue.at(due, id);
                }
            }
        }
    }

    /// Starts the retries that are due. One transaction retries all values that first failed in the same transaction and have the
    /// same number of attempts.
    pub(super) fn wake_retries(&mut self) {
        let mut attempts: BTreeMap<(u64, u32), TxnId> = BTreeMap::new();
        while let Some((until, id)) = self.queue.take_due(self.now) {
            let Some(node) = self.graph.get(id) else { continue };
            if node.blocked.as_deref().and_then(Blocked::until) != Some(until) {
                continue;
            }
            let (of, attempt) = (node.rare().map_or(0, |rare| rare.failed_in), node.attempts);
            let value = ValueRecord {
                key: node.key.clone(),
                value: node.desired().cloned(),
                origin: Origin::FromNB,
            };
            let txn = *attempts
                .entry((of, attempt))
                .or_insert_with(|| self.begin(Kind::Retry { of, attempt }, Options::default()));
            self.tracker.keep_value(txn, || value);
            self.queue.act_on_behalf_of(txn);
            self.graph[id].blocked = None;
            self.mark(id);
        }
    }
}
