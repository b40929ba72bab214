//! Tests of the publisher's state against a model of a store that loses, delays and rejects requests.

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
fn only_newest_state_of_a_key_is_written() {
    let mut state = ready();
    for text in ["1", "2", "3"] {
        state.set("a", value(text));
    }
    state.set("b", value("1"));
    state.remove("b");
    let batch = state.take_batch(100);
    assert_eq!(texts(&batch), ["a=3"]);
    assert!(state.settled() < state.sequence());
    state.written(batch, 1);
    assert_eq!(state.settled(), state.sequence());
}

#[test]
fn stored_value_is_not_written_again() {
    let mut state = ready();
    state.set("a", value("1"));
    let batch = state.take_batch(100);
    state.written(batch, 1);
    state.set("a", value("1"));
    state.set("a", value("2"));
    state.set("a", value("1"));
    assert!(state.take_batch(100).is_empty());
    assert_eq!(state.settled(), state.sequence());
}

#[test]
fn change_during_a_write_waits_for_its_end() {
    let mut state = ready();
    state.set("a", value("1"));
    let first = state.take_batch(100);
    state.set("a", value("2"));
    assert!(
        state.take_batch(100).is_empty(),
        "two writes of one key are never in flight together"
    );
    state.written(first, 1);
    let second = state.take_batch(100);
    assert_eq!(texts(&second), ["a=2"]);
    state.remove("a");
    state.written(second, 1);
    assert_eq!(texts(&state.take_batch(100)), ["-a if Lease(1)"]);
}

#[test]
fn externally_deleted_key_is_written_again() {
    let mut state = ready();
    state.set("a", value("1"));
    let batch = state.take_batch(100);
    // The deletion is reported before the response to the write.
    state.deleted("a", 4);
    state.written(batch, 5);
    assert!(state.take_batch(100).is_empty(), "the deletion is older than the write");
    state.deleted("a", 6);
    assert!(state.settled() < state.sequence());
    let batch = state.take_batch(100);
    assert_eq!(texts(&batch), ["a=1"]);
    state.deleted("a", 9);
    state.written(batch, 8);
    assert_eq!(
        texts(&state.take_batch(100)),
        ["a=1"],
        "deleted after the write and reported before the response to it"
    );
    state.deleted("foreign", 10);
    assert!(state.take_batch(100).is_empty());
}

#[test]
fn only_a_new_lease_requires_rewriting_all_keys() {
    let mut state = ready();
    state.set("a", value("1"));
    state.set("b", value("1"));
    let batch = state.take_batch(100);
    state.written(batch, 1);
    assert!(!state.interrupt());
    state.adopt(1, [found("a", "1", 1, 5), found("b", "1", 1, 5)]);
    assert!(state.take_batch(100).is_empty());
    state.interrupt();
    state.adopt(2, [found("a", "1", 1, 5)]);
    assert_eq!(texts(&state.take_batch(100)), ["a=1", "b=1"]);
}

#[test]
fn keys_of_earlier_run_stay_until_retain_only_current() {
    let mut state = State::default();
    state.set("kept", value("1"));
    state.adopt(
        2,
        [found("kept", "1", 1, 5), found("stale", "1", 1, 6), found("removed", "1", 0, 7)],
    );
    state.remove("removed");
    let batch = state.take_batch(100);
    assert_eq!(texts(&batch), ["kept=1", "-removed if Revision(7)"]);
    state.written(batch, 1);
    state.retain_only_current();
    assert_eq!(texts(&state.take_batch(100)), ["-stale if Revision(6)"]);
}

#[test]
fn rejected_value_blocks_no_later_value() {
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
fn batch_is_limited_in_operations_and_bytes() {
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
    Complete(bool),
    Lose {
        carried_out: bool,
    },
    /// Another client deletes a key.
    Vanish(u8),
    /// The store reports all deletions that it has not reported yet.
    Report,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (0..6_u8, 0..4_u8).prop_map(|(key, value)| Step::Set(key, value)),
        2 => (0..6_u8).prop_map(Step::Remove),
        3 => Just(Step::Write),
        3 => any::<bool>().prop_map(Step::Complete),
        1 => any::<bool>().prop_map(|carried_out| Step::Lose { carried_out }),
        1 => (0..6u8).prop_map(Step::Vanish),
        2 => Just(Step::Report),
    ]
}

/// A store that checks guards, as etcd does.
#[derive(Default)]
struct ToyStore {
    keys: BTreeMap<String, (Vec<u8>, i64, i64)>,
    revision: i64,
    /// Deletions that have not been reported yet.
    deletions: Vec<(String, i64)>,
}

impl ToyStore {
    /// Carries out a transaction. Returns its revision, or `None` if a guard does not hold.
    fn carry_out(&mut self, batch: &Batch, lease: i64) -> Option<i64> {
        let holds = |(key, write): &(Arc<str>, Write)| match write {
            Write::Delete(guard) => self.keys.get(&**key).map(|(_, lease, _)| Guard::Lease(*lease)) == Some(*guard),
            Write::Put(_) => true,
        };
        if !batch.iter().all(holds) {
            return None;
        }
        self.revision += 1;
        for (key, write) in batch {
            match write {
                Write::Put(value) => {
                    self.keys.insert(key.to_string(), (value.text().into_owned(), lease, self.revision));
                }
                Write::Delete(_) => self.delete(key),
            }
        }
        Some(self.revision)
    }

    fn delete(&mut self, key: &str) {
        if self.keys.remove(key).is_some() {
            self.deletions.push((key.to_owned(), self.revision));
        }
    }

    fn listing(&self) -> Vec<Found> {
        self.keys
            .iter()
            .map(|(key, (value, lease, revision))| found(key, &String::from_utf8_lossy(value), *lease, *revision))
            .collect()
    }

    fn report(&mut self, state: &mut State) {
        for (key, revision) in self.deletions.drain(..) {
            state.deleted(&key, revision);
        }
    }

    fn values(&self) -> BTreeMap<String, Vec<u8>> {
        self.keys.iter().map(|(key, (value, ..))| (key.clone(), value.clone())).collect()
    }
}

/// Carries out a batch, and processes the response in the same way as the writer.
fn complete(state: &mut State, store: &mut ToyStore, batch: Batch, in_flight: &mut VecDeque<Batch>) {
    match store.carry_out(&batch, 1) {
        Some(revision) => state.written(batch, revision),
        None => {
            state.not_written(batch);
            for other in std::mem::take(in_flight) {
                complete(state, store, other, in_flight);
            }
            state.adopt(1, store.listing());
        }
    }
}

proptest! {
    /// Once the queue is empty, the store contains exactly the last state of each key, regardless of the previous steps. `settled` includes the
    /// last change only when the store has it.
    #[test]
    fn store_ends_with_newest_state(steps in proptest::collection::vec(step(), 1..120)) {
        let (mut state, mut store, mut desired) = (ready(), ToyStore::default(), BTreeMap::new());
        let mut in_flight: VecDeque<Batch> = VecDeque::new();
        for step in steps {
            match step {
                Step::Set(key, text) => {
                    let (key, text) = (format!("k{key}"), format!("v{text}"));
                    state.set(&key, value(&text));
                    desired.insert(key, text.into_bytes());
                }
                Step::Remove(key) => {
                    let key = format!("k{key}");
                    state.remove(&key);
                    desired.remove(&key);
                }
                Step::Write => in_flight.push_back(state.take_batch(3)),
                Step::Complete(true) => if let Some(batch) = in_flight.pop_front() {
                    complete(&mut state, &mut store, batch, &mut in_flight);
                },
                Step::Complete(false) => if let Some(batch) = in_flight.pop_back() {
                    state.not_written(batch);
                },
                Step::Lose { carried_out } => {
                    for batch in in_flight.drain(..).filter(|_| carried_out) {
                        store.carry_out(&batch, 1);
                    }
                    state.interrupt();
                    store.deletions.clear();
                    state.adopt(1, store.listing());
                }
                Step::Vanish(key) => {
                    store.revision += 1;
                    store.delete(&format!("k{key}"));
                }
                Step::Report => store.report(&mut state),
            }
            let reported = store.deletions.is_empty();
            prop_assert!(state.settled() < state.sequence() || !reported || store.values() == desired, "settled too early");
        }
        in_flight.drain(..).for_each(|batch| state.not_written(batch));
        store.report(&mut state);
        loop {
            let batch = state.take_batch(3);
            if batch.is_empty() {
                break;
            }
            complete(&mut state, &mut store, batch, &mut VecDeque::new());
            store.report(&mut state);
        }
        prop_assert_eq!(store.values(), desired);
        prop_assert_eq!(state.settled(), state.sequence());
    }
}
