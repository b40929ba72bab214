//! The newest state of each key, for any number of watchers.
//!
//! Owns the order of changes and the place that each watcher has reached in it. Must never wait for a watcher, nor keep anything on
//! behalf of one but its place. Start reading at [`Feed`] and [`Watcher::next`].
//!
//! Each change has a number, and a key stands once in the order of changes: where it changed last. So a watcher needs no queue of
//! its own. It walks along the order from nothing to the end, which brings first all that is there and then what changes; what
//! changed twice before its turn is met once, and the number it has reached says what it knows.
//!
//! # Guarantees
//! Whoever applies all [`News`] up to a number knows, of each selected key that has not changed since, the state at that number.
//! Nothing but states between two looks is left out.
//!
//! What is remembered is bounded by the number of keys: a removal is kept only as long as a watcher that may have met the key has not
//! passed it. For one that stands still these are at most the keys that were there when it stopped.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    ops::Bound,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use models::key::Key;
use tokio::sync::watch;

/// Changes that a watcher is handed at a time.
const NEWS_MAX: usize = 256;
/// Changes that a watcher passes at a time, so that whoever tells waits for the lock for microseconds only.
const STRIDE: usize = 1024;

/// Where states are told. A clone is another handle to the same feed; it ends when all are gone.
pub struct Feed<T> {
    states: Arc<Mutex<States<T>>>,
    /// The number of the last change.
    head: watch::Sender<u64>,
}

/// Which keys a watcher is told of.
#[derive(Clone, Debug)]
pub enum Selector {
    /// All.
    All,
    /// These.
    Keys(BTreeSet<Key>),
    /// Those that begin with one of these.
    Prefixes(Vec<String>),
}

/// One who is told. Dropping it ends the watch.
pub struct Watcher<T> {
    states: Arc<Mutex<States<T>>>,
    head: watch::Receiver<u64>,
    selector: Selector,
    /// Number of the last change when the watch began.
    began: u64,
    /// It has met all changes up to this number.
    reached: u64,
    told: bool,
}

/// What a watcher is told.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct News<T> {
    /// Keys with their state, the oldest change first; `None`: the key was removed (the watcher need not have heard of it before).
    /// Empty if only keys that are not selected changed.
    pub items: Vec<(Key, Option<T>)>,
    /// All changes up to this number (see [`Feed::tell`]) have been told, but for those that a later one has replaced.
    pub sequence: u64,
    /// All that was there when the watch began has been told.
    pub complete: bool,
}

struct Entry<T> {
    /// Number of a change after which the key has been there or was remembered: who has not met that one knows nothing of the key.
    first: u64,
    /// Number of the last change.
    last: u64,
    state: Option<T>,
}

impl<T> Entry<T> {
    /// Whether one who has reached that has to hear of it: of a removal only if it may know the key.
    fn is_news(&self, from: u64) -> bool {
        self.state.is_some() || self.first <= from
    }
}

struct States<T> {
    entries: HashMap<Key, Entry<T>>,
    /// By the number of their last change.
    order: BTreeMap<u64, Key>,
    /// Numbers of the last changes that are removals.
    removals: BTreeSet<u64>,
    /// How many watchers have reached a number.
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

impl<T> Clone for Feed<T> {
    fn clone(&self) -> Self {
        Feed {
            states: self.states.clone(),
            head: self.head.clone(),
        }
    }
}

impl<T> Default for Feed<T> {
    fn default() -> Self {
        Feed::new()
    }
}

impl<T> Feed<T> {
    /// Nothing has been told yet.
    pub fn new() -> Self {
        let states = States {
            entries: HashMap::new(),
            order: BTreeMap::new(),
            removals: BTreeSet::new(),
            reached: BTreeMap::new(),
            sequence: 0,
        };
        Feed {
            states: Arc::new(Mutex::new(states)),
            head: watch::Sender::new(0),
        }
    }

    /// Tells new states (`None`: removed), in order. Returns the number of the last change so far: a watcher that has reached it
    /// knows of these.
    pub fn tell(&self, changes: impl IntoIterator<Item = (Key, Option<T>)>) -> u64 {
        let mut states = lock(&self.states);
        changes.into_iter().for_each(|(key, state)| states.tell(key, state));
        let sequence = states.sequence;
        // With the lock held, so that the number told never goes backwards.
        self.head.send_if_modified(|head| std::mem::replace(head, sequence) != sequence);
        sequence
    }

    /// A watcher of all that is there, and of all that changes from now on.
    pub fn watch(&self, selector: Selector) -> Watcher<T> {
        let mut states = lock(&self.states);
        *states.reached.entry(0).or_default() += 1;
        Watcher {
            states: self.states.clone(),
            head: self.head.subscribe(),
            selector,
            began: states.sequence,
            reached: 0,
            told: false,
        }
    }
}

impl<T: Clone> Feed<T> {
    /// The state of a key now.
    pub fn get(&self, key: &Key) -> Option<T> {
        lock(&self.states).entries.get(key)?.state.clone()
    }
}

impl<T: Clone> Watcher<T> {
    /// Waits for news; `None` when the feed has ended and all was told. The first come at once, even if nothing is there. Nothing is
    /// lost if it is dropped while waiting.
    pub async fn next(&mut self) -> Option<News<T>> {
        loop {
            // What is told from here on wakes.
            self.head.borrow_and_update();
            if let Some(news) = self.take(NEWS_MAX) {
                return Some(news);
            }
            self.head.changed().await.ok()?;
        }
    }

    /// The news there are now, at most so many.
    fn take(&mut self, at_most: usize) -> Option<News<T>> {
        let mut items = Vec::new();
        let reached = lock(&self.states).walk(self.reached, &self.selector, at_most, &mut items);
        if self.told && reached == self.reached {
            return None;
        }
        (self.reached, self.told) = (reached, true);
        Some(News {
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

/// A panic of another holder cannot leave anything half done that matters: a state is there or not.
fn lock<T>(states: &Mutex<States<T>>) -> MutexGuard<'_, States<T>> {
    states.lock().unwrap_or_else(PoisonError::into_inner)
}

impl<T> States<T> {
    fn tell(&mut self, key: Key, state: Option<T>) {
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

    /// Hands what changed after `from` to one who has reached that, and answers what it has reached now.
    fn walk(&mut self, from: u64, selector: &Selector, at_most: usize, items: &mut Vec<(Key, Option<T>)>) -> u64
    where
        T: Clone,
    {
        let reached = match selector {
            // It costs as much as there are keys, however much else has changed.
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
        let mut changed: Vec<(&Key, &Entry<T>)> = entries.filter(|(_, entry)| entry.last > from && entry.is_news(from)).collect();
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
                && entry.is_news(from)
            {
                items.push((key.clone(), entry.state.clone()));
            }
        }
        self.sequence
    }

    /// A watcher is no longer where it was.
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

    /// Forgets a removal that no watcher has still to hear of: none stands between the arrival of the key and its removal.
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
