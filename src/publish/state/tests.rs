//! The state of the publisher in memory, against a toy store that can lose, delay and refuse.

use proptest::prelude::*;

use super::*;

fn value(text: &str) -> Content {
    text.to_owned().into()
}

fn found(key: &str, text: &str, lease: i64, mod_revision: i64) -> Found {
    Found {
        key: Arc::from(key),
        value: text.into(),
        lease,
        mod_revision,
    }
}

fn ready() -> State {
    let mut state = State::default();
    state.adopt(1, []);
    state
}

fn texts(batch: &Batch) -> Vec<String> {
    let show = |(key, write): &(Arc<str>, Write)| match write {
        Write::Put(value) => format!("{key}={}", String::from_utf8_lossy(&value.text())),
        Write::Delete(guard) => format!("-{key} if {guard:?}"),
    };
    batch.iter().map(show).collect()
}

#[test]
fn only_the_newest_state_of_a_key_is_written() {
    let mut state = ready();
    for text in ["1", "2", "3"] {
        state.set("a", value(text));
    }
    state.set("b", value("1"));
    state.remove("b");
    let batch = state.take_batch(100);
    assert_eq!(texts(&batch), ["a=3"]);
    assert!(state.settled() < state.sequence());
    state.written(batch);
    assert_eq!(state.settled(), state.sequence());
}

#[test]
fn a_value_that_is_stored_already_is_not_written_again() {
    let mut state = ready();
    state.set("a", value("1"));
    let batch = state.take_batch(100);
    state.written(batch);
    state.set("a", value("1"));
    state.set("a", value("2"));
    state.set("a", value("1"));
    assert!(state.take_batch(100).is_empty());
    assert_eq!(state.settled(), state.sequence());
}

#[test]
fn what_is_set_during_a_write_waits_for_its_end() {
    let mut state = ready();
    state.set("a", value("1"));
    let first = state.take_batch(100);
    state.set("a", value("2"));
    assert!(
        state.take_batch(100).is_empty(),
        "two writes of one key are never on their way together"
    );
    state.written(first);
    let second = state.take_batch(100);
    assert_eq!(texts(&second), ["a=2"]);
    state.remove("a");
    state.written(second);
    assert_eq!(texts(&state.take_batch(100)), ["-a if Lease(1)"]);
}

#[test]
fn a_lost_lease_makes_every_key_due_again_and_an_equal_one_none() {
    let mut state = ready();
    state.set("a", value("1"));
    state.set("b", value("1"));
    let batch = state.take_batch(100);
    state.written(batch);
    assert!(!state.interrupt());
    state.adopt(1, [found("a", "1", 1, 5), found("b", "1", 1, 5)]);
    assert!(state.take_batch(100).is_empty());
    state.interrupt();
    state.adopt(2, [found("a", "1", 1, 5)]);
    assert_eq!(texts(&state.take_batch(100)), ["a=1", "b=1"]);
}

#[test]
fn keys_of_an_earlier_run_stay_until_only_the_current_ones_are_wanted() {
    let mut state = State::default();
    state.set("kept", value("1"));
    state.adopt(
        2,
        [found("kept", "1", 1, 5), found("stale", "1", 1, 6), found("removed", "1", 0, 7)],
    );
    state.remove("removed");
    let batch = state.take_batch(100);
    assert_eq!(texts(&batch), ["kept=1", "-removed if Revision(7)"]);
    state.written(batch);
    state.retain_only_current();
    assert_eq!(texts(&state.take_batch(100)), ["-stale if Revision(6)"]);
}

#[test]
fn a_refused_value_holds_up_nothing_and_the_next_one_is_tried() {
    let mut state = ready();
    state.set("a", value("too large"));
    let batch = state.take_batch(1);
    state.refused(&batch[0].0);
    assert_eq!(state.settled(), state.sequence());
    assert!(state.take_batch(1).is_empty());
    state.set("a", value("small"));
    assert_eq!(texts(&state.take_batch(1)), ["a=small"]);
}

#[test]
fn a_batch_is_bounded_in_operations_and_bytes() {
    let mut state = ready();
    for index in 0..250 {
        state.set(&format!("small{index}"), value("1"));
    }
    assert_eq!(state.take_batch(usize::MAX).len(), 100);
    let mut state = ready();
    for index in 0..10 {
        state.set(&format!("large{index}"), vec![0; 200 << 10].into());
    }
    assert_eq!(state.take_batch(usize::MAX).len(), 2);
}

#[derive(Clone, Debug)]
enum Step {
    Set(u8, u8),
    Remove(u8),
    Write,
    Land(bool),
    Lose { carried_out: bool },
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (0..6_u8, 0..4_u8).prop_map(|(key, value)| Step::Set(key, value)),
        2 => (0..6_u8).prop_map(Step::Remove),
        3 => Just(Step::Write),
        3 => any::<bool>().prop_map(Step::Land),
        1 => any::<bool>().prop_map(|carried_out| Step::Lose { carried_out }),
    ]
}

/// A store that obeys guards, as etcd does.
#[derive(Default)]
struct ToyStore(BTreeMap<String, (Vec<u8>, i64)>);

impl ToyStore {
    fn carry_out(&mut self, batch: &Batch, lease: i64) {
        for (key, write) in batch {
            match write {
                Write::Put(value) => {
                    self.0.insert(key.to_string(), (value.text().into_owned(), lease));
                }
                Write::Delete(guard) => {
                    assert_eq!(
                        self.0.get(&**key).map(|(_, lease)| Guard::Lease(*lease)),
                        Some(*guard),
                        "the guard of {key}"
                    );
                    self.0.remove(&**key);
                }
            }
        }
    }

    fn listing(&self) -> Vec<Found> {
        self.0
            .iter()
            .map(|(key, (value, lease))| found(key, &String::from_utf8_lossy(value), *lease, 0))
            .collect()
    }
}

proptest! {
    /// Whatever is set, lost, refused or written in between: when the queue is empty, the store holds exactly what was last
    /// set, and `settled` says so only then.
    #[test]
    fn the_store_ends_with_the_newest_state(steps in proptest::collection::vec(step(), 1..120)) {
        let (mut state, mut store, mut wanted) = (ready(), ToyStore::default(), BTreeMap::new());
        let mut flying: VecDeque<Batch> = VecDeque::new();
        for step in steps {
            match step {
                Step::Set(key, text) => {
                    let (key, text) = (format!("k{key}"), format!("v{text}"));
                    state.set(&key, value(&text));
                    wanted.insert(key, text.into_bytes());
                }
                Step::Remove(key) => {
                    let key = format!("k{key}");
                    state.remove(&key);
                    wanted.remove(&key);
                }
                Step::Write => flying.push_back(state.take_batch(3)),
                Step::Land(true) => if let Some(batch) = flying.pop_front() {
                    store.carry_out(&batch, 1);
                    state.written(batch);
                },
                Step::Land(false) => if let Some(batch) = flying.pop_back() {
                    state.not_written(batch);
                },
                Step::Lose { carried_out } => {
                    for batch in flying.drain(..).filter(|_| carried_out) {
                        store.carry_out(&batch, 1);
                    }
                    state.interrupt();
                    state.adopt(1, store.listing());
                }
            }
            let stored: BTreeMap<_, _> = store.0.iter().map(|(key, (value, _))| (key.clone(), value.clone())).collect();
            prop_assert!(state.settled() < state.sequence() || stored == wanted, "settled too early");
        }
        flying.drain(..).for_each(|batch| state.not_written(batch));
        loop {
            let batch = state.take_batch(3);
            if batch.is_empty() {
                break;
            }
            store.carry_out(&batch, 1);
            state.written(batch);
        }
        let stored: BTreeMap<_, _> = store.0.iter().map(|(key, (value, _))| (key.clone(), value.clone())).collect();
        prop_assert_eq!(stored, wanted);
        prop_assert_eq!(state.settled(), state.sequence());
    }
}
