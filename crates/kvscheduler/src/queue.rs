//! The work queue. It contains the nodes to evaluate, the timers, the operations in flight, and the pending work of each
//! transaction.
//!
//! No other code changes this state, so a node cannot get lost and a transaction cannot complete too early.
//!
//! A node is marked on behalf of a transaction and stays assigned to it until nothing is left to do for the node. Nodes that are
//! marked while this node is evaluated are assigned to the same transaction. A transaction that names a key takes over the node
//! of that key. Otherwise, a node that still has work for one transaction is not assigned to another transaction. A transaction
//! is complete when none of its nodes is queued, in flight, or waiting for an operation in flight.

use std::{
    collections::{BTreeSet, VecDeque},
    time::Duration,
};

use rustc_hash::FxHashMap;

use super::{
    descriptor::{Domain, Key},
    graph::Graph,
    nodes::NodeId,
    ready::Ready,
};

/// Largest list capacity that is kept for the next step. The memory of a larger list is freed.
pub(super) const ROOM_KEPT: usize = 1024;

/// Id of an open transaction; never reused.
pub(super) type TxnId = u64;

/// Round of a step. A step evaluates nodes in three rounds.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Pass {
    /// First round. Evaluates nodes that have changed or that are affected by a change.
    Mark,
    /// Second round, which starts when no marked nodes are left. Deletes values whose dependencies are still unmet.
    Doubt,
    /// Third round, which starts when the second round is complete. Creates and updates values.
    Ready,
}

/// Next action of a step.
pub(super) enum Next {
    /// Evaluate this node, and then call [`WorkQueue::leave`].
    Look(NodeId, Pass),
    /// Notify the dependents of changed nodes. See [`WorkQueue::take_notified`].
    Spread,
    Nothing,
}

/// Selection of the dependents to evaluate after a change.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Default)]
pub(super) enum Notify {
    #[default]
    No,
    /// The node is still available. Only dependents that have work left are evaluated (see `Node::at_rest`).
    Restless,
    All,
    /// The availability or the value of the node has changed. All dependents are evaluated, and failed or waiting ones are
    /// retried.
    Changed,
}

/// Stage of a node in the queue. A node can be in several stages at once, all for the same transaction.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Stage {
    /// The node is to be evaluated.
    Marked = 1,
    /// The node's dependencies appear to be unmet.
    Doubtful = 2,
    /// The node can be created or updated.
    Ready = 4,
    /// The node is waiting for an operation in flight.
    Waiting = 8,
    /// The node is being evaluated.
    InHand = 16,
}

/// Stages in which a node is queued, and the transaction to which it is assigned.
///
/// Stored in the node, so that no lookup is needed. Only the queue changes these fields.
#[derive(Clone, Debug, Default)]
pub(super) struct Place {
    /// Bit set with one bit per [`Stage`].
    stages: u8,
    notified: Notify,
    cause: TxnId,
}

impl Place {
    /// Returns whether the node is queued or being evaluated.
    pub fn is_taken(&self) -> bool {
        self.stages != 0
    }

    pub fn is_ready(&self) -> bool {
        self.is_at(Stage::Ready)
    }

    /// Returns the transaction of the node's current evaluation. If the node is not being evaluated, returns the transaction of
    /// its last evaluation.
    pub fn cause(&self) -> TxnId {
        self.cause
    }

    fn is_at(&self, stage: Stage) -> bool {
        self.stages & stage as u8 != 0
    }

    fn count(&self) -> usize {
        self.stages.count_ones() as usize
    }
}

/// Amount of pending work for each open transaction.
#[derive(Clone)]
struct Accounts {
    /// Pending counts, indexed by transaction id starting at `first`. `None` means that the transaction is closed.
    pending: VecDeque<Option<usize>>,
    first: TxnId,
    /// Transactions that may be complete. May contain duplicates.
    completable: Vec<TxnId>,
}

impl Accounts {
    fn of(&mut self, txn: TxnId) -> Option<&mut usize> {
        let at = usize::try_from(txn.checked_sub(self.first)?).ok()?;
        self.pending.get_mut(at)?.as_mut()
    }

    fn add_pending(&mut self, txn: TxnId, count: usize) {
        if let Some(pending) = self.of(txn) {
            *pending += count;
        }
    }

    fn remove_pending(&mut self, txn: TxnId, count: usize) {
        if let Some(pending) = self.of(txn) {
            *pending -= count;
            if *pending == 0 {
                self.completable.push(txn);
            }
        }
    }
}

/// Work queue of the scheduler. See the [module documentation](self).
#[derive(Clone)]
pub(super) struct WorkQueue<K> {
    marked: VecDeque<NodeId>,
    /// Changed nodes and prefixes. Their dependents are marked for evaluation after all marked nodes have been evaluated. A node
    /// that changed several times is listed only once.
    notified: Vec<(NodeId, TxnId)>,
    /// Nodes with unmet dependencies. They are evaluated when no marked nodes are left, because evaluating a marked node may
    /// satisfy their dependencies.
    doubtful: BTreeSet<NodeId>,
    /// Nodes to create or update, in key order. They are processed once all deletions are known, because a new value must not
    /// depend on a value that is about to be deleted.
    ready: Ready<K>,
    /// Observed values whose deletion is deferred because their dependencies may still become available. They are evaluated again
    /// in every step.
    deferred: BTreeSet<NodeId>,
    /// Values that are not created yet, because they depend on a value with a deferred deletion. They are evaluated again in
    /// every step.
    on_deferred: BTreeSet<NodeId>,
    waiting: BTreeSet<NodeId>,
    timers: BTreeSet<(Duration, NodeId)>,
    under_way: FxHashMap<u64, NodeId>,
    next_operation: u64,
    accounts: Accounts,
    /// Current transaction. Nodes that are marked from now on are assigned to it.
    current: TxnId,
}

impl<K: Key> WorkQueue<K> {
    pub fn new() -> Self {
        WorkQueue {
            marked: VecDeque::new(),
            notified: Vec::new(),
            doubtful: BTreeSet::new(),
            ready: Ready::new(),
            deferred: BTreeSet::new(),
            on_deferred: BTreeSet::new(),
            waiting: BTreeSet::new(),
            timers: BTreeSet::new(),
            under_way: FxHashMap::default(),
            next_operation: 1,
            accounts: Accounts {
                pending: VecDeque::new(),
                first: 1,
                completable: Vec::new(),
            },
            current: 0,
        }
    }

    /// Returns the next action, in the order of the rounds (see [`Pass`]).
    pub fn next<D: Domain<Key = K>>(&mut self, graph: &mut Graph<D>) -> Next {
        let (id, from, pass) = if let Some(id) = self.marked.pop_front() {
            (id, Stage::Marked, Pass::Mark)
        } else if !self.notified.is_empty() {
            return Next::Spread;
        } else if let Some(id) = self.doubtful.pop_first() {
            (id, Stage::Doubtful, Pass::Doubt)
        } else if let Some(id) = self.ready.pop_first(graph) {
            (id, Stage::Ready, Pass::Ready)
        } else {
            return Next::Nothing;
        };
        let place = &mut graph[id].place;
        place.stages = place.stages & !(from as u8) | Stage::InHand as u8;
        self.act_for(graph, id);
        Next::Look(id, pass)
    }

    /// Makes the node's transaction the current one. The node no longer waits for operations in flight.
    pub fn act_for<D: Domain<Key = K>>(&mut self, graph: &mut Graph<D>, id: NodeId) {
        let place = &mut graph[id].place;
        if place.is_at(Stage::Waiting) {
            place.stages &= !(Stage::Waiting as u8);
            self.waiting.remove(&id);
            self.accounts.remove_pending(place.cause, 1);
        }
        self.current = place.cause;
    }

    /// Returns whether nothing is left to do for a node after its current evaluation.
    pub fn is_last<D: Domain<Key = K>>(&self, graph: &Graph<D>, id: NodeId) -> bool {
        graph[id].place.stages == Stage::InHand as u8 && graph[id].in_flight.is_none()
    }

    /// Ends the evaluation of a node.
    pub fn leave<D: Domain<Key = K>>(&mut self, graph: &mut Graph<D>, id: NodeId) {
        let place = &mut graph[id].place;
        place.stages &= !(Stage::InHand as u8);
        self.accounts.remove_pending(place.cause, 1);
    }

    /// Queues a node for evaluation.
    pub fn mark<D: Domain<Key = K>>(&mut self, graph: &mut Graph<D>, id: NodeId) {
        if self.enter(graph, id, Stage::Marked) {
            self.marked.push_back(id);
        }
    }

    /// Queues a node whose dependencies appear to be unmet.
    pub fn doubt<D: Domain<Key = K>>(&mut self, graph: &mut Graph<D>, id: NodeId) {
        if self.enter(graph, id, Stage::Doubtful) {
            self.doubtful.insert(id);
        }
    }

    /// Queues a node that can be created or updated.
    pub fn make_ready<D: Domain<Key = K>>(&mut self, graph: &mut Graph<D>, id: NodeId) {
        if self.enter(graph, id, Stage::Ready) {
            self.ready.insert(&graph[id].key, id);
        }
    }

    /// Makes a node wait for operations in flight. Its transaction cannot complete until the wait is over.
    pub fn await_in_flight<D: Domain<Key = K>>(&mut self, graph: &mut Graph<D>, id: NodeId) {
        if self.enter(graph, id, Stage::Waiting) {
            self.waiting.insert(id);
        }
    }

    /// Returns all nodes that wait for operations in flight, and ends their wait. Until [`Self::leave`] is called, they count as
    /// being evaluated.
    pub fn take_waiting<D: Domain<Key = K>>(&mut self, graph: &mut Graph<D>) -> BTreeSet<NodeId> {
        let waiting = std::mem::take(&mut self.waiting);
        for id in &waiting {
            let place = &mut graph[*id].place;
            place.stages = place.stages & !(Stage::Waiting as u8) | Stage::InHand as u8;
        }
        waiting
    }

    /// Adds a stage to a node. Returns `true` if the node was not in this stage already.
    fn enter<D: Domain<Key = K>>(&mut self, graph: &mut Graph<D>, id: NodeId, stage: Stage) -> bool {
        let Some(node) = graph.get_mut(id).filter(|node| !node.place.is_at(stage)) else {
            return false;
        };
        if !node.place.is_taken() && node.in_flight.is_none() {
            node.place.cause = self.current;
        }
        node.place.stages |= stage as u8;
        self.accounts.add_pending(node.place.cause, 1);
        true
    }

    /// Records that the deletion of an observed value is deferred, because its dependencies may still become available.
    pub fn defer(&mut self, id: NodeId) {
        self.deferred.insert(id);
    }

    /// Records that a value cannot be created yet, because it depends on a value whose deletion is deferred.
    pub fn wait_for_deferred(&mut self, id: NodeId) {
        self.on_deferred.insert(id);
    }

    pub fn deferred(&self) -> &BTreeSet<NodeId> {
        &self.deferred
    }

    /// Stops deferring the deletion of a value, and marks the value for evaluation.
    pub fn release<D: Domain<Key = K>>(&mut self, graph: &mut Graph<D>, id: NodeId) {
        self.deferred.remove(&id);
        self.mark(graph, id);
    }

    /// Stops deferring all deletions. Marks the affected values, and the values that wait for them, for evaluation.
    pub fn release_all<D: Domain<Key = K>>(&mut self, graph: &mut Graph<D>) {
        let deferred = std::mem::take(&mut self.deferred).into_iter();
        for id in deferred.chain(std::mem::take(&mut self.on_deferred)) {
            self.mark(graph, id);
        }
    }

    /// Schedules a notification of the dependents of a node or a prefix.
    pub fn notify_dependents<D: Domain<Key = K>>(&mut self, graph: &mut Graph<D>, hub: NodeId, whom: Notify) {
        let node = &mut graph[hub];
        if node.dependents.is_empty() {
            return;
        }
        let before = node.place.notified;
        node.place.notified = before.max(whom);
        if before == Notify::No {
            // The notification is assigned to the transaction of the first change.
            self.notified.push((hub, self.current));
            self.accounts.add_pending(self.current, 1);
        }
    }

    pub fn has_notified(&self) -> bool {
        !self.notified.is_empty()
    }

    /// Returns the changed nodes and prefixes, each with its transaction. The caller must notify their dependents.
    ///
    /// Pass each node to [`Self::spread`], and then the list to [`Self::give_back`].
    pub fn take_notified(&mut self) -> Vec<(NodeId, TxnId)> {
        std::mem::take(&mut self.notified)
    }

    /// Starts notifying the dependents of `hub`, and returns which of them to notify. [`Self::spread_over`] ends the notification.
    pub fn spread<D: Domain<Key = K>>(&mut self, graph: &mut Graph<D>, hub: NodeId, txn: TxnId) -> Notify {
        self.current = txn;
        let node = graph.get_mut(hub);
        node.map_or(Notify::No, |node| std::mem::take(&mut node.place.notified))
    }

    pub fn spread_over(&mut self, txn: TxnId) {
        self.accounts.remove_pending(txn, 1);
    }

    /// Takes back the list returned by [`Self::take_notified`], so that its allocation is reused. `notified` is still empty,
    /// because notifying dependents adds nothing to it.
    pub fn give_back(&mut self, mut room: Vec<(NodeId, TxnId)>) {
        if room.capacity() <= ROOM_KEPT {
            room.clear();
            self.notified = room;
        }
    }

    /// Schedules an evaluation of a node at the given time.
    pub fn at(&mut self, time: Duration, id: NodeId) {
        self.timers.insert((time, id));
    }

    pub fn cancel(&mut self, time: Duration, id: NodeId) {
        self.timers.remove(&(time, id));
    }

    /// Removes the first timer that has expired, and returns its time and its node.
    pub fn take_due(&mut self, now: Duration) -> Option<(Duration, NodeId)> {
        self.timers.first().filter(|(time, _)| *time <= now)?;
        self.timers.pop_first()
    }

    pub fn next_timer(&self) -> Option<Duration> {
        self.timers.first().map(|(time, _)| *time)
    }

    /// Starts an operation on a node. Returns the operation number, and the transaction to which the operation is assigned.
    pub fn start<D: Domain<Key = K>>(&mut self, graph: &mut Graph<D>, id: NodeId) -> (u64, TxnId) {
        let place = &mut graph[id].place;
        if !place.is_taken() {
            place.cause = self.current;
        }
        self.accounts.add_pending(place.cause, 1);
        let operation = self.next_operation;
        self.next_operation += 1;
        self.under_way.insert(operation, id);
        (operation, place.cause)
    }

    /// Ends an operation and returns its node. The caller must call [`Self::settle`] after it has processed the outcome.
    pub fn end(&mut self, operation: u64) -> Option<NodeId> {
        self.under_way.remove(&operation)
    }

    /// Decrements the pending count of a transaction after an operation has completed.
    pub fn settle(&mut self, txn: TxnId) {
        self.accounts.remove_pending(txn, 1);
    }

    /// Returns the node of an operation in flight.
    pub fn node_of(&self, operation: u64) -> Option<NodeId> {
        self.under_way.get(&operation).copied()
    }

    /// Returns the operations in flight, in start order.
    pub fn operations(&self) -> Vec<u64> {
        let mut operations: Vec<u64> = self.under_way.keys().copied().collect();
        operations.sort_unstable();
        operations
    }

    pub fn is_anything_under_way(&self) -> bool {
        !self.under_way.is_empty()
    }

    /// Returns whether no operation is in flight and no node waits for evaluation.
    pub fn is_idle(&self) -> bool {
        let nothing_waits = self.marked.is_empty() && self.notified.is_empty() && self.doubtful.is_empty() && self.ready.is_empty();
        nothing_waits && !self.is_anything_under_way()
    }

    /// Returns the current transaction, to which newly marked nodes are assigned.
    pub fn current(&self) -> TxnId {
        self.current
    }

    /// Makes this transaction the current one. Nodes that are marked from now on are assigned to it.
    pub fn act_on_behalf_of(&mut self, txn: TxnId) {
        self.current = txn;
    }

    /// Assigns the pending work of a node to a transaction.
    pub fn reassign<D: Domain<Key = K>>(&mut self, graph: &mut Graph<D>, id: NodeId, txn: TxnId) {
        let place = &mut graph[id].place;
        let former = std::mem::replace(&mut place.cause, txn);
        self.accounts.add_pending(txn, place.count());
        self.accounts.remove_pending(former, place.count());
    }

    /// Opens the next transaction, makes it the current one, and returns its id.
    pub fn open(&mut self) -> TxnId {
        let txn = self.accounts.first + self.accounts.pending.len() as u64;
        self.accounts.pending.push_back(Some(0));
        self.accounts.completable.push(txn);
        self.current = txn;
        txn
    }

    /// Closes a complete transaction.
    pub fn close(&mut self, txn: TxnId) {
        let accounts = &mut self.accounts;
        let at = txn.checked_sub(accounts.first).and_then(|at| usize::try_from(at).ok());
        if let Some(pending) = at.and_then(|at| accounts.pending.get_mut(at)) {
            *pending = None;
        }
        while matches!(accounts.pending.front(), Some(None)) {
            accounts.pending.pop_front();
            accounts.first += 1;
        }
    }

    /// Records that a transaction may now be complete.
    pub fn reconsider(&mut self, txn: TxnId) {
        self.accounts.completable.push(txn);
    }

    /// Returns the transactions that have no pending work, oldest first.
    pub fn take_completable(&mut self) -> Vec<TxnId> {
        let mut completable = std::mem::take(&mut self.accounts.completable);
        completable.sort_unstable();
        completable.dedup();
        completable.retain(|txn| self.accounts.of(*txn).is_some_and(|pending| *pending == 0));
        completable
    }
}
