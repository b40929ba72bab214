//! The work queue: which nodes are to be looked at and in which order, what is under way, and which transaction has nothing left to do.
//!
//! Owns the place of each node, the timers, the operations under way and the account of every open transaction. Nothing else changes any of
//! these, so nothing else can lose a node or finish a transaction too early. Must never decide what happens to a value. Start reading at
//! [`WorkQueue::next`].
//!
//! Whoever marks a node does so on behalf of a transaction, and the node keeps that cause until nothing is left to do for it; what
//! it marks in turn has the same cause. Two rules settle conflicts: a transaction that names a key takes its node over, and
//! otherwise a node that still has something to do for one transaction is not charged to another. A transaction is finished when
//! nothing of its cause stands in the queue, is under way, or waits for something that is.

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

/// A list with room for so many keeps it from step to step; what a larger one took is given back.
pub(super) const ROOM_KEPT: usize = 1024;

/// Names an open transaction; never used twice.
pub(super) type Ticket = u64;

/// In which of the three rounds of a step a node is looked at.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Pass {
    /// Something nearby changed.
    Mark,
    /// Nothing marked is left: unmet dependencies count.
    Doubt,
    /// Nothing doubtful is left: creations and changes are made.
    Ready,
}

/// What is to be done next.
pub(super) enum Next {
    /// Look at this node; [`WorkQueue::leave`] ends that.
    Look(NodeId, Pass),
    /// Tell the dependents of what has changed: see [`WorkQueue::take_stirred`].
    Spread,
    Nothing,
}

/// Whose look a change nearby is worth.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Default)]
pub(super) enum Stirred {
    #[default]
    No,
    /// What others may rely on stays; only those care that have something left to do: see `Node::at_rest`.
    Restless,
    All,
    /// What others depend on has changed: those that are held because they failed or wait are tried again.
    Changed,
}

/// Where a node stands; it may stand in several places. Each of them is on the account of the same transaction.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Stand {
    /// Among those to be looked at.
    Marked = 1,
    /// Among those whose dependencies look unmet.
    Doubtful = 2,
    /// Among those that can be created or changed.
    Ready = 4,
    /// Waits for something that is being done.
    Parked = 8,
    /// Is being looked at.
    InHand = 16,
}

/// Where a node stands, and for which transaction. Lies in the node, where it is found without a search; only the queue changes it.
#[derive(Clone, Debug, Default)]
pub(super) struct Place {
    /// Each [`Stand`] is a bit.
    stands: u8,
    stirred: Stirred,
    cause: Ticket,
}

impl Place {
    /// Whether the queue knows the node.
    pub fn is_taken(&self) -> bool {
        self.stands != 0
    }

    pub fn is_ready(&self) -> bool {
        self.is_at(Stand::Ready)
    }

    /// The transaction that it is, or was, looked at for.
    pub fn cause(&self) -> Ticket {
        self.cause
    }

    fn is_at(&self, stand: Stand) -> bool {
        self.stands & stand as u8 != 0
    }

    fn count(&self) -> usize {
        self.stands.count_ones() as usize
    }
}

/// What is left to do for each open transaction.
#[derive(Clone)]
struct Accounts {
    /// By ticket, from `first` on; `None`: closed.
    pending: VecDeque<Option<usize>>,
    first: Ticket,
    /// To be looked at: they may be finished. Some are named twice.
    ripe: Vec<Ticket>,
}

impl Accounts {
    fn of(&mut self, ticket: Ticket) -> Option<&mut usize> {
        let at = usize::try_from(ticket.checked_sub(self.first)?).ok()?;
        self.pending.get_mut(at)?.as_mut()
    }

    fn charge(&mut self, ticket: Ticket, count: usize) {
        if let Some(pending) = self.of(ticket) {
            *pending += count;
        }
    }

    fn discharge(&mut self, ticket: Ticket, count: usize) {
        if let Some(pending) = self.of(ticket) {
            *pending -= count;
            if *pending == 0 {
                self.ripe.push(ticket);
            }
        }
    }
}

/// See the [module documentation](self).
#[derive(Clone)]
pub(super) struct WorkQueue<K> {
    marked: VecDeque<NodeId>,
    /// Nodes, and prefixes, whose dependents are to be marked when nothing is marked: once, however much happened to them.
    stirred: Vec<(NodeId, Ticket)>,
    /// Judged when nothing else is left, because the rest of the same event may meet the dependencies.
    doubtful: BTreeSet<NodeId>,
    /// In key order; done when everything that must go was found, so that nothing is built on what is about to go.
    ready: Ready<K>,
    /// Found values whose dependencies may still come; looked at again with every step.
    held_back: BTreeSet<NodeId>,
    /// Values that wait to be created because what they rest on is held back; looked at again with every step.
    on_held_back: BTreeSet<NodeId>,
    parked: BTreeSet<NodeId>,
    timers: BTreeSet<(Duration, NodeId)>,
    under_way: FxHashMap<u64, NodeId>,
    next_operation: u64,
    accounts: Accounts,
    /// On whose behalf nodes are marked now.
    current: Ticket,
}

impl<K: Key> WorkQueue<K> {
    pub fn new() -> Self {
        WorkQueue {
            marked: VecDeque::new(),
            stirred: Vec::new(),
            doubtful: BTreeSet::new(),
            ready: Ready::new(),
            held_back: BTreeSet::new(),
            on_held_back: BTreeSet::new(),
            parked: BTreeSet::new(),
            timers: BTreeSet::new(),
            under_way: FxHashMap::default(),
            next_operation: 1,
            accounts: Accounts {
                pending: VecDeque::new(),
                first: 1,
                ripe: Vec::new(),
            },
            current: 0,
        }
    }

    /// What is to be done next. The order of the rounds is kept: see [`Pass`].
    pub fn next<D: Domain<Key = K>>(&mut self, graph: &mut Graph<D>) -> Next {
        let (id, from, pass) = if let Some(id) = self.marked.pop_front() {
            (id, Stand::Marked, Pass::Mark)
        } else if !self.stirred.is_empty() {
            return Next::Spread;
        } else if let Some(id) = self.doubtful.pop_first() {
            (id, Stand::Doubtful, Pass::Doubt)
        } else if let Some(id) = self.ready.pop_first(graph) {
            (id, Stand::Ready, Pass::Ready)
        } else {
            return Next::Nothing;
        };
        let place = &mut graph[id].place;
        place.stands = place.stands & !(from as u8) | Stand::InHand as u8;
        self.act_for(graph, id);
        Next::Look(id, pass)
    }

    /// From now on, nodes are marked on behalf of the transaction that a node belongs to; it waits no more.
    pub fn act_for<D: Domain<Key = K>>(&mut self, graph: &mut Graph<D>, id: NodeId) {
        let place = &mut graph[id].place;
        if place.is_at(Stand::Parked) {
            place.stands &= !(Stand::Parked as u8);
            self.parked.remove(&id);
            self.accounts.discharge(place.cause, 1);
        }
        self.current = place.cause;
    }

    /// Whether nothing is left to do for a node that is being looked at, once that has ended.
    pub fn is_last<D: Domain<Key = K>>(&self, graph: &Graph<D>, id: NodeId) -> bool {
        graph[id].place.stands == Stand::InHand as u8 && graph[id].in_flight.is_none()
    }

    /// A node has been looked at.
    pub fn leave<D: Domain<Key = K>>(&mut self, graph: &mut Graph<D>, id: NodeId) {
        let place = &mut graph[id].place;
        place.stands &= !(Stand::InHand as u8);
        self.accounts.discharge(place.cause, 1);
    }

    /// A node is to be looked at.
    pub fn mark<D: Domain<Key = K>>(&mut self, graph: &mut Graph<D>, id: NodeId) {
        if self.enter(graph, id, Stand::Marked) {
            self.marked.push_back(id);
        }
    }

    /// Its dependencies look unmet.
    pub fn doubt<D: Domain<Key = K>>(&mut self, graph: &mut Graph<D>, id: NodeId) {
        if self.enter(graph, id, Stand::Doubtful) {
            self.doubtful.insert(id);
        }
    }

    /// It can be created or changed.
    pub fn make_ready<D: Domain<Key = K>>(&mut self, graph: &mut Graph<D>, id: NodeId) {
        if self.enter(graph, id, Stand::Ready) {
            self.ready.insert(&graph[id].key, id);
        }
    }

    /// It has to wait for something that may be under way: its transaction waits with it.
    pub fn park<D: Domain<Key = K>>(&mut self, graph: &mut Graph<D>, id: NodeId) {
        if self.enter(graph, id, Stand::Parked) {
            self.parked.insert(id);
        }
    }

    /// Those that wait for something that is being done, taken in hand, for nothing is.
    pub fn unpark_all<D: Domain<Key = K>>(&mut self, graph: &mut Graph<D>) -> BTreeSet<NodeId> {
        let parked = std::mem::take(&mut self.parked);
        for id in &parked {
            let place = &mut graph[*id].place;
            place.stands = place.stands & !(Stand::Parked as u8) | Stand::InHand as u8;
        }
        parked
    }

    /// Says whether it was not there before.
    fn enter<D: Domain<Key = K>>(&mut self, graph: &mut Graph<D>, id: NodeId, stand: Stand) -> bool {
        let Some(node) = graph.get_mut(id).filter(|node| !node.place.is_at(stand)) else {
            return false;
        };
        if !node.place.is_taken() && node.in_flight.is_none() {
            node.place.cause = self.current;
        }
        node.place.stands |= stand as u8;
        self.accounts.charge(node.place.cause, 1);
        true
    }

    /// A found value lacks what may still come.
    pub fn hold_back(&mut self, id: NodeId) {
        self.held_back.insert(id);
    }

    /// A value waits for one that is held back.
    pub fn wait_for_held_back(&mut self, id: NodeId) {
        self.on_held_back.insert(id);
    }

    pub fn held_back(&self) -> &BTreeSet<NodeId> {
        &self.held_back
    }

    /// Marks one that is held back.
    pub fn release<D: Domain<Key = K>>(&mut self, graph: &mut Graph<D>, id: NodeId) {
        self.held_back.remove(&id);
        self.mark(graph, id);
    }

    /// Marks all that is held back, and what waits for it.
    pub fn release_all<D: Domain<Key = K>>(&mut self, graph: &mut Graph<D>) {
        let held_back = std::mem::take(&mut self.held_back).into_iter();
        for id in held_back.chain(std::mem::take(&mut self.on_held_back)) {
            self.mark(graph, id);
        }
    }

    /// The dependents of a node, or of a prefix, are to be told of a change.
    pub fn stir<D: Domain<Key = K>>(&mut self, graph: &mut Graph<D>, hub: NodeId, whom: Stirred) {
        let node = &mut graph[hub];
        if node.dependents.is_empty() {
            return;
        }
        let before = node.place.stirred;
        node.place.stirred = before.max(whom);
        if before == Stirred::No {
            // What comes of it is done on behalf of whoever stirred it first.
            self.stirred.push((hub, self.current));
            self.accounts.charge(self.current, 1);
        }
    }

    pub fn is_stirred(&self) -> bool {
        !self.stirred.is_empty()
    }

    /// What was stirred, and on whose behalf; each is to be passed to [`Self::spread`], and the list to [`Self::give_back`].
    pub fn take_stirred(&mut self) -> Vec<(NodeId, Ticket)> {
        std::mem::take(&mut self.stirred)
    }

    /// From now on the dependents of `hub` are told; says which of them. [`Self::spread_over`] ends that.
    pub fn spread<D: Domain<Key = K>>(&mut self, graph: &mut Graph<D>, hub: NodeId, ticket: Ticket) -> Stirred {
        self.current = ticket;
        let node = graph.get_mut(hub);
        node.map_or(Stirred::No, |node| std::mem::take(&mut node.place.stirred))
    }

    pub fn spread_over(&mut self, ticket: Ticket) {
        self.accounts.discharge(ticket, 1);
    }

    /// The room of the list can be used again: telling stirs nobody.
    pub fn give_back(&mut self, mut room: Vec<(NodeId, Ticket)>) {
        if room.capacity() <= ROOM_KEPT {
            room.clear();
            self.stirred = room;
        }
    }

    /// A node is looked at again at that time.
    pub fn at(&mut self, time: Duration, id: NodeId) {
        self.timers.insert((time, id));
    }

    pub fn cancel(&mut self, time: Duration, id: NodeId) {
        self.timers.remove(&(time, id));
    }

    /// A timer that has run out.
    pub fn take_due(&mut self, now: Duration) -> Option<(Duration, NodeId)> {
        self.timers.first().filter(|(time, _)| *time <= now)?;
        self.timers.pop_first()
    }

    pub fn next_timer(&self) -> Option<Duration> {
        self.timers.first().map(|(time, _)| *time)
    }

    /// An operation on a node begins; returns its number, and the transaction that it is done for.
    pub fn start<D: Domain<Key = K>>(&mut self, graph: &mut Graph<D>, id: NodeId) -> (u64, Ticket) {
        let place = &mut graph[id].place;
        if !place.is_taken() {
            place.cause = self.current;
        }
        self.accounts.charge(place.cause, 1);
        let operation = self.next_operation;
        self.next_operation += 1;
        self.under_way.insert(operation, id);
        (operation, place.cause)
    }

    /// The node of an operation that has ended; [`Self::settle`] when its outcome has been taken over.
    pub fn end(&mut self, operation: u64) -> Option<NodeId> {
        self.under_way.remove(&operation)
    }

    /// Nothing is left to do for an operation.
    pub fn settle(&mut self, ticket: Ticket) {
        self.accounts.discharge(ticket, 1);
    }

    /// The node of an operation under way.
    pub fn node_of(&self, operation: u64) -> Option<NodeId> {
        self.under_way.get(&operation).copied()
    }

    /// The operations under way, in the order in which they were started.
    pub fn operations(&self) -> Vec<u64> {
        let mut operations: Vec<u64> = self.under_way.keys().copied().collect();
        operations.sort_unstable();
        operations
    }

    pub fn is_anything_under_way(&self) -> bool {
        !self.under_way.is_empty()
    }

    /// Whether nothing is under way and nothing waits to be looked at.
    pub fn is_idle(&self) -> bool {
        let nothing_waits = self.marked.is_empty() && self.stirred.is_empty() && self.doubtful.is_empty() && self.ready.is_empty();
        nothing_waits && !self.is_anything_under_way()
    }

    /// On whose behalf nodes are marked now.
    pub fn current(&self) -> Ticket {
        self.current
    }

    /// From now on, nodes are marked on behalf of this transaction.
    pub fn act_on_behalf_of(&mut self, ticket: Ticket) {
        self.current = ticket;
    }

    /// What is left to do for a node is done for this transaction.
    pub fn reassign<D: Domain<Key = K>>(&mut self, graph: &mut Graph<D>, id: NodeId, ticket: Ticket) {
        let place = &mut graph[id].place;
        let former = std::mem::replace(&mut place.cause, ticket);
        self.accounts.charge(ticket, place.count());
        self.accounts.discharge(former, place.count());
    }

    /// Opens the account of the transaction with the next ticket, and acts on its behalf.
    pub fn open(&mut self) -> Ticket {
        let ticket = self.accounts.first + self.accounts.pending.len() as u64;
        self.accounts.pending.push_back(Some(0));
        self.accounts.ripe.push(ticket);
        self.current = ticket;
        ticket
    }

    /// The transaction is finished.
    pub fn close(&mut self, ticket: Ticket) {
        let accounts = &mut self.accounts;
        let at = ticket.checked_sub(accounts.first).and_then(|at| usize::try_from(at).ok());
        if let Some(pending) = at.and_then(|at| accounts.pending.get_mut(at)) {
            *pending = None;
        }
        while matches!(accounts.pending.front(), Some(None)) {
            accounts.pending.pop_front();
            accounts.first += 1;
        }
    }

    /// Says of a transaction, if nothing is left to do for it, that it may be finished now.
    pub fn reconsider(&mut self, ticket: Ticket) {
        self.accounts.ripe.push(ticket);
    }

    /// Transactions for which nothing is left to do, the oldest first.
    pub fn take_ripe(&mut self) -> Vec<Ticket> {
        let mut ripe = std::mem::take(&mut self.accounts.ripe);
        ripe.sort_unstable();
        ripe.dedup();
        ripe.retain(|ticket| self.accounts.of(*ticket).is_some_and(|pending| *pending == 0));
        ripe
    }
}
