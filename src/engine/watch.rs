//! The latest state of each key, for any number of watchers.
//!
//! A [`Updates`] keeps a log in which each key appears once, at the number of its last change. A [`Watcher`] has no queue of its own: it
//! follows the log from the start to the end, which returns all existing states first and changes afterwards. A key that changes twice
//! before the watcher reaches it is returned once. The feed never waits for a watcher.
//!
//! # Guarantees
//! After applying all [`UpdateBatch`] up to a number, a watcher knows the state at that number of each selected key that has not changed since.
//! Only intermediate states between two reads are skipped.
//!
//! Memory is bounded by the number of keys: a removal is kept only until each watcher that may know the key has passed it. For a watcher
//! that makes no progress, these are at most the keys that existed when it stopped.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    ops::Bound,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use models::key::Key;
use tokio::sync::watch;

/// Largest number of changes that a watcher receives at a time.
const UPDATES_MAX: usize = 256;
/// Largest number of changes that a watcher passes at a time, so that publishers wait for the lock for microseconds only.
const STRIDE: usize = 1024;

/// A feed of states. Clones are handles to the same feed, which ends when the last one is dropped.
pub struct Updates<T> {
    states: Arc<Mutex<States<T>>>,
    /// Number of the last change.
    head: watch::Sender<u64>,
}

/// Keys that a watcher selects.
#[derive(Clone, Debug)]
pub enum Selector {
    /// All keys.
    All,
    /// These keys.
    Keys(BTreeSet<Key>),
    /// Keys with one of these prefixes.
    Prefixes(Vec<String>),
}

/// A subscription to a feed. Dropping it ends the subscription.
pub struct Watcher<T> {
    states: Arc<Mutex<States<T>>>,
    head: watch::Receiver<u64>,
    selector: Selector,
    /// Number of the last change when the watch began.
    began: u64,
    /// The watcher has passed all changes up to this number.
    reached: u64,
    reported: bool,
}

/// An update for a watcher.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct UpdateBatch<T> {
    /// Keys with their states, in the order of their changes. `None`: the key was removed; the watcher may not have known it before.
    /// Empty if only keys changed that are not selected.
    pub items: Vec<(Key, Option<T>)>,
    /// All changes up to this number (see [`Updates::publish`]) have been reported, except those that a later one has replaced.
    pub sequence: u64,
    /// Everything that existed when the watch began has been reported.
    pub complete: bool,
}

struct Entry<T> {
    /// Number of the change since which the key has existed, or its removal is remembered. A watcher that has not reached it does not
    /// know the key.
    first: u64,
    /// Number of the last change.
    last: u64,
    state: Option<T>,
}

impl<T> Entry<T> {
    /// Returns whether a watcher that has reached `from` needs this entry. It needs a removal only if it may know the key.
    fn is_new(&self, from: u64) -> bool {
        self.state.is_some() || self.first <= from
    }
}

struct States<T> {
    entries: HashMap<Key, Entry<T>>,
    /// Keys, by the number of their last change.
    order: BTreeMap<u64, Key>,
    /// Numbers of the last changes that are removals.
    removals: BTreeSet<u64>,
    /// Number of watchers that have reached a number.
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

    /// Publishes new states in order; `None` removes a key. Returns the number of the last change: a watcher that has reached it knows
    /// these states.
    pub fn publish(&self, changes: impl IntoIterator<Item = (Key, Option<T>)>) -> u64 {
        let mut states = lock(&self.states);
        changes.into_iter().for_each(|(key, state)| states.publish(key, state));
        let sequence = states.sequence;
        // While the lock is held, so that the published number never goes backwards.
        self.head.send_if_modified(|head| std::mem::replace(head, sequence) != sequence);
        sequence
    }

    /// Subscribes to all existing states and to all changes from now on.
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
    /// Waits for an update; `None` if the feed has ended and everything was reported. The first update is returned immediately, even if it
    /// is empty. Cancel-safe: no update is lost if the future is dropped.
    pub async fn next(&mut self) -> Option<UpdateBatch<T>> {
        loop {
            // Changes that are published from here on wake the watcher.
            self.head.borrow_and_update();
            if let Some(batch) = self.take(UPDATES_MAX) {
                return Some(batch);
            }
            self.head.changed().await.ok()?;
        }
    }

    /// Returns an update if there is one, with at most this many changes.
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

/// Locks the states. Poisoning is ignored, as a panic of another holder leaves no inconsistent state.
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

    /// Collects the changes after `from` for a watcher that has reached it. Returns the number that the watcher has reached now.
    fn walk(&mut self, from: u64, selector: &Selector, at_most: usize, items: &mut Vec<(Key, Option<T>)>) -> u64
    where
        T: Clone,
    {
        let reached = match selector {
            // The cost depends on the number of selected keys only, and not on the number of other changes.
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

    /// Counts one watcher less at a number.
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

    /// Forgets a removal unless a watcher still needs it, having passed the first change of the key but not the removal.
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
