//! Feed that delivers the latest state of each key to any number of watchers.
//!
//! [`Updates`] keeps a log in which each key appears once, at the sequence number of its latest change. A [`Watcher`] has no
//! queue of its own. It reads the log from start to end, so it returns all existing states first and later changes afterwards. A
//! key that changes twice before the watcher reaches it is returned once. The feed never waits for a watcher.
//!
//! # Guarantees
//! A watcher that has applied every [`UpdateBatch`] up to a sequence number has the state of each selected key at that number.
//! The only exceptions are keys that have changed again since. A watcher misses only intermediate states, which were replaced
//! before it read them.
//!
//! Memory is bounded by the number of keys: a removal stays in the log only until every watcher that may have received the key
//! has passed the removal. A watcher that makes no progress retains at most one removal for each key that existed when it
//! stopped.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    ops::Bound,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use models::key::Key;
use tokio::sync::watch;

/// Maximum number of changes in one [`UpdateBatch`].
const UPDATES_MAX: usize = 256;
/// Maximum number of log entries that a watcher scans while it holds the lock, so that publishers wait for the lock only for
/// microseconds.
const STRIDE: usize = 1024;

/// Feed of states. Clones are handles to the same feed, which ends when the last handle is dropped.
pub struct Updates<T> {
    states: Arc<Mutex<States<T>>>,
    /// Sequence number of the latest change.
    head: watch::Sender<u64>,
}

/// Selects the keys that a watcher receives.
#[derive(Clone, Debug)]
pub enum Selector {
    /// All keys.
    All,
    /// Exactly these keys.
    Keys(BTreeSet<Key>),
    /// Keys that start with one of these prefixes.
    Prefixes(Vec<String>),
}

/// Subscription to a feed. Dropping it ends the subscription.
pub struct Watcher<T> {
    states: Arc<Mutex<States<T>>>,
    head: watch::Receiver<u64>,
    selector: Selector,
    /// Sequence number of the latest change when the watch began.
    began: u64,
    /// Sequence number of the last change that the watcher has processed.
    reached: u64,
    reported: bool,
}

/// Batch of changes for a watcher.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct UpdateBatch<T> {
    /// Keys with their states, in the order of their latest changes. `None` means that the key was removed; the watcher may never
    /// have received that key. Empty if only unselected keys have changed.
    pub items: Vec<(Key, Option<T>)>,
    /// Sequence number up to which all changes have been reported, except those superseded by a later change (see
    /// [`Updates::publish`]).
    pub sequence: u64,
    /// True if everything that existed when the watch began has been reported.
    pub complete: bool,
}

struct Entry<T> {
    /// Sequence number of the change that created this entry. A watcher that has not reached this number has never received the
    /// key.
    first: u64,
    /// Sequence number of the latest change.
    last: u64,
    state: Option<T>,
}

impl<T> Entry<T> {
    /// Returns whether a watcher at sequence number `from` needs this entry. Only a watcher that may have received the key before
    /// needs a removal.
    fn is_new(&self, from: u64) -> bool {
        self.state.is_some() || self.first <= from
    }
}

struct States<T> {
    entries: HashMap<Key, Entry<T>>,
    /// Keys by the sequence number of their latest change.
    order: BTreeMap<u64, Key>,
    /// Sequence numbers of the changes that removed a key.
    removals: BTreeSet<u64>,
    /// Number of watchers at each sequence number.
    reached: BTreeMap<u64, usize>,
    sequence: u64,
}

impl Selector {
    fn selects(&self, key: &Key) -> bool {
        match self {
            Selector::All => true,
            Selector::Keys(keys) => keys.contains(key),
            Selector::Prefixes(prefixes) => prefixes.iter().any(|prefix| key.starts_with(prefix.as_str())),
        }
    }
}

impl<T> Clone for Updates<T> {
    fn clone(&self) -> Self {
        Updates {
            states: self.states.clone(),
            head: self.head.clone(),
        }
    }
}

impl<T> Default for Updates<T> {
    fn default() -> Self {
        Updates::new()
    }
}

impl<T> Updates<T> {
    /// Creates an empty feed.
    pub fn new() -> Self {
        let states = States {
            entries: HashMap::new(),
            order: BTreeMap::new(),
            removals: BTreeSet::new(),
            reached: BTreeMap::new(),
            sequence: 0,
        };
        Updates {
            states: Arc::new(Mutex::new(states)),
            head: watch::Sender::new(0),
        }
    }

    /// Publishes new states in order; `None` removes a key.
    ///
    /// Returns the sequence number of the last change. A watcher that has reached this number has received the new states.
    pub fn publish(&self, changes: impl IntoIterator<Item = (Key, Option<T>)>) -> u64 {
        let mut states = lock(&self.states);
        changes.into_iter().for_each(|(key, state)| states.publish(key, state));
        let sequence = states.sequence;
        // The number is published while the lock is held, so it never decreases.
        self.head.send_if_modified(|head| std::mem::replace(head, sequence) != sequence);
        sequence
    }

    /// Subscribes to all existing states and to all later changes.
    pub fn watch(&self, selector: Selector) -> Watcher<T> {
        let mut states = lock(&self.states);
        *states.reached.entry(0).or_default() += 1;
        Watcher {
            states: self.states.clone(),
            head: self.head.subscribe(),
            selector,
            began: states.sequence,
            reached: 0,
            reported: false,
        }
    }
}

impl<T: Clone> Updates<T> {
    /// Returns the current state of a key.
    pub fn get(&self, key: &Key) -> Option<T> {
        lock(&self.states).entries.get(key)?.state.clone()
    }
}

impl<T: Clone> Watcher<T> {
    /// Waits for an update. Returns `None` once the feed has ended and everything has been reported. The first update is returned
    /// immediately, even if it is empty. Cancel-safe: no update is lost if the future is dropped.
    pub async fn next(&mut self) -> Option<UpdateBatch<T>> {
        loop {
            // A change that is published after this line wakes the watcher.
            self.head.borrow_and_update();
            if let Some(batch) = self.take(UPDATES_MAX) {
                return Some(batch);
            }
            self.head.changed().await.ok()?;
        }
    }

    /// Returns an update with at most `at_most` changes, if there is one.
    fn take(&mut self, at_most: usize) -> Option<UpdateBatch<T>> {
        let mut items = Vec::new();
        let reached = lock(&self.states).walk(self.reached, &self.selector, at_most, &mut items);
        if self.reported && reached == self.reached {
            return None;
        }
        (self.reached, self.reported) = (reached, true);
        Some(UpdateBatch {
            items,
            sequence: reached,
            complete: reached >= self.began,
        })
    }
}

impl<T> Drop for Watcher<T> {
    fn drop(&mut self) {
        let mut states = lock(&self.states);
        states.leave(self.reached);
        states.forget_passed(self.reached, u64::MAX);
    }
}

/// Locks the states. Ignores poisoning, because a panic while the lock is held leaves the states consistent.
fn lock<T>(states: &Mutex<States<T>>) -> MutexGuard<'_, States<T>> {
    states.lock().unwrap_or_else(PoisonError::into_inner)
}

impl<T> States<T> {
    fn publish(&mut self, key: Key, state: Option<T>) {
        let number = self.sequence + 1;
        let removed = state.is_none();
        match self.entries.get_mut(&key) {
            Some(entry) => {
                if removed && entry.state.is_none() {
                    return;
                }
                self.order.remove(&entry.last);
                self.removals.remove(&entry.last);
                (entry.last, entry.state) = (number, state);
            }
            None if removed => return,
            None => {
                let entry = Entry {
                    first: number,
                    last: number,
                    state,
                };
                self.entries.insert(key.clone(), entry);
            }
        }
        self.sequence = number;
        self.order.insert(number, key);
        if removed {
            self.removals.insert(number);
            self.forget_if_passed(number);
        }
    }

    /// Collects changes for a watcher at sequence number `from`. Returns the sequence number that the watcher reaches.
    fn walk(&mut self, from: u64, selector: &Selector, at_most: usize, items: &mut Vec<(Key, Option<T>)>) -> u64
    where
        T: Clone,
    {
        let reached = match selector {
            // The cost of a lookup depends only on the number of selected keys, not on the number of changes to other keys.
            Selector::Keys(keys) if keys.len() <= at_most => self.look_up(from, keys, items),
            _ => self.walk_along(from, selector, at_most, items),
        };
        if reached > from {
            self.leave(from);
            *self.reached.entry(reached).or_default() += 1;
            self.forget_passed(from, reached);
        }
        reached
    }

    fn look_up(&self, from: u64, keys: &BTreeSet<Key>, items: &mut Vec<(Key, Option<T>)>) -> u64
    where
        T: Clone,
    {
        let entries = keys.iter().filter_map(|key| Some((key, self.entries.get(key)?)));
        let mut changed: Vec<(&Key, &Entry<T>)> = entries.filter(|(_, entry)| entry.last > from && entry.is_new(from)).collect();
        changed.sort_by_key(|(_, entry)| entry.last);
        items.extend(changed.into_iter().map(|(key, entry)| (key.clone(), entry.state.clone())));
        self.sequence
    }

    fn walk_along(&self, from: u64, selector: &Selector, at_most: usize, items: &mut Vec<(Key, Option<T>)>) -> u64
    where
        T: Clone,
    {
        let changes = self.order.range((Bound::Excluded(from), Bound::Unbounded));
        for (passed, (number, key)) in changes.enumerate() {
            if passed == STRIDE || items.len() == at_most {
                return number - 1;
            }
            if let Some(entry) = self.entries.get(key)
                && selector.selects(key)
                && entry.is_new(from)
            {
                items.push((key.clone(), entry.state.clone()));
            }
        }
        self.sequence
    }

    /// Decrements the number of watchers at a sequence number.
    fn leave(&mut self, place: u64) {
        if let Some(count) = self.reached.get_mut(&place) {
            *count -= 1;
            if *count == 0 {
                self.reached.remove(&place);
            }
        }
    }

    fn forget_passed(&mut self, after: u64, up_to: u64) {
        let range = (Bound::Excluded(after), Bound::Included(up_to));
        let removals: Vec<u64> = self.removals.range(range).copied().collect();
        removals.into_iter().for_each(|number| self.forget_if_passed(number));
    }

    /// Forgets a removal if every watcher that may have received the key has passed the removal.
    fn forget_if_passed(&mut self, number: u64) {
        let Some(key) = self.order.get(&number) else { return };
        let Some(entry) = self.entries.get(key) else { return };
        if self.reached.range(entry.first..number).next().is_none() {
            self.entries.remove(key);
            self.order.remove(&number);
            self.removals.remove(&number);
        }
    }
}

#[cfg(test)]
mod tests;
