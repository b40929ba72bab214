//! Tests with many fast changes and with slow, late or dropped watchers. Every active watcher must receive the final state, and memory must stay
//! bounded.

use futures::FutureExt;
use proptest::prelude::*;

use super::*;

/// Watcher, with all states that it has received.
struct Seen {
    watcher: Watcher<u32>,
    view: BTreeMap<Key, u32>,
    sequence: u64,
    complete: bool,
}

impl Seen {
    fn new(updates: &Updates<u32>, selector: Selector) -> Self {
        Seen {
            watcher: updates.watch(selector),
            view: BTreeMap::new(),
            sequence: 0,
            complete: false,
        }
    }

    /// Applies the next update, if there is one.
    fn take(&mut self, at_most: usize) -> bool {
        let Some(batch) = self.watcher.take(at_most) else { return false };
        self.apply(batch);
        true
    }

    fn apply(&mut self, batch: UpdateBatch<u32>) {
        for (key, state) in batch.items {
            match state {
                Some(state) => self.view.insert(key, state),
                None => self.view.remove(&key),
            };
        }
        (self.sequence, self.complete) = (batch.sequence, batch.complete);
    }

    fn drain(&mut self) {
        while self.take(UPDATES_MAX) {}
    }
}

fn remembered<T>(updates: &Updates<T>) -> usize {
    let states = lock(&updates.states);
    assert_eq!(states.entries.len(), states.order.len());
    states.entries.len()
}

fn key(number: usize) -> Key {
    Key::from(format!("key/{number}"))
}

#[test]
fn late_watcher_receives_current_states_and_then_changes() {
    let updates = Updates::new();
    updates.publish([
        (key(1), Some(1)),
        (key(2), Some(2)),
        (key(3), Some(3)),
        (key(2), None),
        (key(1), Some(4)),
    ]);
    let mut watcher = updates.watch(Selector::All);
    let first = watcher.take(UPDATES_MAX).expect("the current states");
    assert_eq!(first.items, [(key(3), Some(3)), (key(1), Some(4))]);
    assert!(first.complete);
    assert_eq!(watcher.take(UPDATES_MAX), None);
    let sequence = updates.publish([(key(3), None)]);
    let items = vec![(key(3), None)];
    let complete = true;
    assert_eq!(watcher.take(UPDATES_MAX), Some(UpdateBatch { items, sequence, complete }));
}

#[test]
fn watcher_of_an_empty_feed_is_complete_immediately() {
    let updates = Updates::<u32>::new();
    let mut watcher = updates.watch(Selector::All);
    let nothing = UpdateBatch {
        items: vec![],
        sequence: 0,
        complete: true,
    };
    assert_eq!(watcher.next().now_or_never(), Some(Some(nothing)));
    assert_eq!(watcher.next().now_or_never(), None);
}

#[test]
fn initial_states_are_complete_with_the_last_part() {
    let updates = Updates::new();
    updates.publish((0..5).map(|number| (key(number), Some(0))));
    let mut watcher = updates.watch(Selector::All);
    let parts: Vec<_> = std::iter::from_fn(|| watcher.take(2)).collect();
    let reported: Vec<_> = parts.iter().map(|batch| (batch.items.len(), batch.complete)).collect();
    assert_eq!(reported, [(2, false), (2, false), (1, true)]);
}

#[test]
fn removal_after_readding_is_reported_as_one_removal() {
    let updates = Updates::new();
    updates.publish([(key(1), Some(1))]);
    let mut watcher = updates.watch(Selector::All);
    watcher.take(UPDATES_MAX).expect("the current states");
    updates.publish([(key(1), None), (key(1), Some(2)), (key(1), None)]);
    let items: Vec<_> = std::iter::from_fn(|| watcher.take(UPDATES_MAX))
        .flat_map(|batch| batch.items)
        .collect();
    assert_eq!(items, [(key(1), None)]);
}

#[test]
fn sequence_advances_without_changes_of_selected_keys() {
    let updates = Updates::new();
    let mut watcher = updates.watch(Selector::Keys(BTreeSet::from([key(1)])));
    watcher.take(UPDATES_MAX).expect("the current states");
    let sequence = updates.publish([(key(2), Some(1))]);
    let batch = watcher.take(UPDATES_MAX).expect("a new sequence number");
    assert_eq!((batch.items, batch.sequence), (vec![], sequence));
}

#[test]
fn selectors_choose_keys_and_prefixes() {
    let updates = Updates::new();
    updates.publish([
        (Key::from("a/1"), Some(1)),
        (Key::from("b/1"), Some(2)),
        (Key::from("c/1"), Some(3)),
    ]);
    let reported = |selector| {
        let mut seen = Seen::new(&updates, selector);
        seen.drain();
        seen.view.into_values().collect::<Vec<_>>()
    };
    assert_eq!(reported(Selector::All), [1, 2, 3]);
    assert_eq!(reported(Selector::Keys(BTreeSet::from([Key::from("b/1"), Key::from("d")]))), [2]);
    assert_eq!(reported(Selector::Prefixes(vec!["a/".to_owned(), "c/".to_owned()])), [1, 3]);
}

#[test]
fn stuck_watcher_costs_bounded_memory_and_misses_nothing() {
    let updates = Updates::new();
    updates.publish((0..10).map(|number| (key(number), Some(0))));
    let mut stuck = Seen::new(&updates, Selector::All);
    stuck.drain();
    // Unlike `stuck`, this watcher does not even read the first ten changes.
    let dead = updates.watch(Selector::All);
    let mut lively = Seen::new(&updates, Selector::All);
    for number in 0..10_000 {
        updates.publish([(key(number), Some(1))]);
        lively.drain();
        updates.publish([(key(number), None)]);
        lively.drain();
        assert!(remembered(&updates) <= 11);
    }
    assert_eq!((lively.view.len(), stuck.view.len()), (0, 10));
    stuck.drain();
    assert!(stuck.view.is_empty());
    drop(dead);
    assert_eq!(remembered(&updates), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn concurrent_changes_of_several_publishers_reach_all_watchers() {
    const CHANGES: u32 = 20_000;
    let updates = Updates::new();
    let watchers: Vec<_> = (0..3)
        .map(|_| {
            let mut seen = Seen::new(&updates, Selector::All);
            tokio::spawn(async move {
                let mut looks = 0;
                while let Some(batch) = seen.watcher.next().await {
                    assert!(looks == 0 || batch.sequence > seen.sequence);
                    seen.apply(batch);
                    looks += 1;
                }
                (seen.view, seen.sequence)
            })
        })
        .collect();
    let stuck = updates.watch(Selector::All);
    let tellers: Vec<_> = (0..2)
        .map(|teller| {
            let updates = updates.clone();
            tokio::spawn(async move {
                for change in 0..CHANGES {
                    // Every seventh change removes its key, except for the last 100 changes, which leave a state for every key.
                    let state = (change % 7 != 0 || change > CHANGES - 100).then_some(change);
                    updates.publish([(Key::from(format!("{teller}/{}", change % 50)), state)]);
                    tokio::task::consume_budget().await;
                }
            })
        })
        .collect();
    for teller in tellers {
        teller.await.expect("publisher task");
    }
    assert_eq!(remembered(&updates), 100);
    let sequence = lock(&updates.states).sequence;
    drop((updates, stuck));
    let expected: BTreeMap<Key, u32> = (0..2)
        .flat_map(|teller| (CHANGES - 50..CHANGES).map(move |change| (Key::from(format!("{teller}/{}", change % 50)), change)))
        .collect();
    for watcher in watchers {
        assert_eq!(watcher.await.expect("watcher task"), (expected.clone(), sequence));
    }
}

#[derive(Clone, Debug)]
enum Step {
    Tell(Vec<(usize, Option<u32>)>),
    Come(usize),
    Take(usize, usize),
    Leave(usize),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => prop::collection::vec((0..8usize, prop::option::of(any::<u32>())), 1..5).prop_map(Step::Tell),
        1 => (0..3usize).prop_map(Step::Come),
        4 => (0..4usize, 1..4usize).prop_map(|(who, at_most)| Step::Take(who, at_most)),
        1 => (0..4usize).prop_map(Step::Leave),
    ]
}

/// Returns a selector of all keys, of four keys, or of one prefix.
fn selector(kind: usize) -> Selector {
    match kind {
        0 => Selector::All,
        1 => Selector::Keys((0..4).map(key).collect()),
        _ => Selector::Prefixes(vec!["key/7".to_owned()]),
    }
}

proptest! {
    #[test]
    fn watchers_know_all_keys_unchanged_since_their_sequence_number(steps in prop::collection::vec(step(), 1..80)) {
        let updates = Updates::new();
        let mut watchers: Vec<Seen> = Vec::new();
        // All states at each sequence number, and the sequence number at which each key last changed.
        let mut truth: BTreeMap<u64, BTreeMap<Key, u32>> = BTreeMap::from([(0, BTreeMap::new())]);
        let mut changed: BTreeMap<Key, u64> = BTreeMap::new();
        let mut now = BTreeMap::new();
        for step in steps {
            match step {
                Step::Tell(changes) => for (number, state) in changes {
                    let before = truth.keys().next_back().copied().unwrap_or_default();
                    match state {
                        Some(state) => now.insert(key(number), state),
                        None => now.remove(&key(number)),
                    };
                    let sequence = updates.publish([(key(number), state)]);
                    if sequence > before {
                        truth.insert(sequence, now.clone());
                        changed.insert(key(number), sequence);
                    }
                },
                Step::Come(kind) => watchers.push(Seen::new(&updates, selector(kind))),
                Step::Take(who, at_most) => if let Some(seen) = watchers.get_mut(who) {
                    seen.take(at_most);
                    let (_, then) = truth.range(..=seen.sequence).next_back().expect("a state");
                    for number in 0..8 {
                        let settled = changed.get(&key(number)).is_none_or(|last| *last <= seen.sequence);
                        if settled && seen.watcher.selector.selects(&key(number)) {
                            prop_assert_eq!(seen.view.get(&key(number)), then.get(&key(number)), "key {}", number);
                        }
                    }
                },
                Step::Leave(who) => if who < watchers.len() {
                    watchers.remove(who);
                },
            }
            prop_assert!(remembered(&updates) >= now.len());
            if watchers.is_empty() {
                prop_assert_eq!(remembered(&updates), now.len());
            }
        }
        for seen in &mut watchers {
            seen.drain();
            let selected = now.iter().filter(|(key, _)| seen.watcher.selector.selects(key));
            let expected: BTreeMap<Key, u32> = selected.map(|(key, state)| (key.clone(), *state)).collect();
            prop_assert_eq!(&seen.view, &expected);
            prop_assert!(seen.complete);
        }
        prop_assert_eq!(remembered(&updates), now.len());
    }
}
