//! Tests of the core with slow operations, which must block only their dependents.
//!
//! A test value is only a list of dependencies. Each test decides when an operation completes.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use super::*;
use crate::scheduler::{
    Change, Comparison, DeleteCause, Dependency, Descriptor, Difference, Effect, Fault, FaultKind, Outcome, Refusal, Resync, Transaction,
    ValueState, Verb, View,
};

/// Test value: the keys that the value depends on.
type Needs = Vec<&'static str>;

#[derive(Clone)]
struct Plain;

impl Domain for Plain {
    type Key = Key;
    type Value = Needs;
    type Operation = Verb;
    fn descriptor(&self, _: &Key) -> Option<&dyn Descriptor<Self>> {
        Some(self)
    }
}

impl Descriptor<Plain> for Plain {
    fn name(&self) -> &'static str {
        "plain"
    }
    fn compare(&self, _: &Key, applied: &Needs, desired: &Needs) -> Comparison {
        let differs = applied != desired;
        differs.then(|| Difference::again("changed in the kernel")).into_iter().collect()
    }
    fn dependencies(&self, _: &Key, value: &Needs) -> Vec<Dependency> {
        value.iter().map(|need| Dependency::key(*need, Key::new(need))).collect()
    }
    fn create(&self, _: &Key, _: &Needs, _: &View<'_, Plain>) -> Result<Effect<Verb>, Refusal> {
        Ok(Effect::one(Verb::Create))
    }
    fn delete(&self, _: &Key, _: &Needs, _: DeleteCause, _: &View<'_, Plain>) -> Effect<Verb> {
        Effect::one(Verb::Delete)
    }
}

/// Effects that pass each outcome to the scheduler unchanged.
#[derive(Default)]
struct Passing {
    states: BTreeMap<String, ValueState>,
    settled: usize,
    refresh_due: bool,
}

impl Effects for Passing {
    type Domain = Plain;
    type Signal = ();
    type Task = (u64, String, Verb);
    type Outcome = (u64, Outcome<Needs>);
    type ReadRequest = ();
    type Seen = ();
    type Place = ();

    fn places(_: &Operation<Verb>) -> Vec<()> {
        vec![()]
    }
    fn goes_together(_: &Operation<Verb>) -> bool {
        false
    }
    fn prepare(&mut self, operations: Vec<Operation<Verb>>, _: Duration) -> Vec<Self::Task> {
        operations.into_iter().map(|op| (op.id, op.key.to_string(), op.verb)).collect()
    }
    fn operation_of(outcome: &Self::Outcome) -> u64 {
        outcome.0
    }
    fn is_plain(operation: &Operation<Verb>) -> bool {
        operation.verb != Verb::Delete
    }
    fn is_success(outcome: &Self::Outcome) -> bool {
        matches!(outcome.1, Outcome::Done)
    }
    fn performed(&mut self, scheduler: &mut Scheduler<Plain>, outcomes: Vec<Self::Outcome>) {
        outcomes.into_iter().for_each(|(id, outcome)| scheduler.outcome(id, outcome));
    }
    fn signal(&mut self, _: &mut Scheduler<Plain>, (): (), _: Duration) {
        self.refresh_due = true;
    }
    fn startup_scan(&mut self, _: &Scheduler<Plain>) -> Option<()> {
        None
    }
    fn refresh(&mut self, _: Duration) -> Option<()> {
        std::mem::take(&mut self.refresh_due).then_some(())
    }
    fn refresh_deadline(&self) -> Option<Duration> {
        None
    }
    fn mark_all_dirty(&mut self, _: Duration) {
        self.refresh_due = true;
    }
    fn seen(&mut self, _: &mut Scheduler<Plain>, (): ()) {}
    fn publish(&mut self, _: &Scheduler<Plain>, changes: Vec<StatusChange>) {
        for change in changes {
            match change.status {
                Some(status) => self.states.insert(change.key.to_string(), status.state),
                None => self.states.remove(change.key.as_str()),
            };
        }
    }
    fn desired_changed(&mut self) {}

    fn settled(&mut self) {
        self.settled += 1;
    }
}

/// Core in which an operation completes late if the name of its value begins with `slow`.
struct World {
    core: Core<Passing>,
    now: Duration,
    /// Late operations in flight, by value key.
    slow: BTreeMap<String, u64>,
    looks: usize,
}

impl World {
    fn new(values: &[(&'static str, &[&'static str])]) -> Self {
        let mut world = World {
            core: Core::new(Plain, Passing::default()),
            now: Duration::from_secs(1_000),
            slow: BTreeMap::new(),
            looks: 0,
        };
        world.core.take(Event::FactsSettled, world.now);
        world.desire(values, true);
        world
    }

    fn desire(&mut self, values: &[(&'static str, &[&'static str])], full: bool) {
        self.want(values, full);
        self.run();
    }

    /// Changes the desired state without starting any work.
    fn want(&mut self, values: &[(&'static str, &[&'static str])], full: bool) {
        let change = |(key, needs): &(&'static str, &[&'static str])| Change {
            key: Key::new(key),
            revision: 1,
            value: Some(Ok(needs.to_vec())),
        };
        let changes = values.iter().map(change).collect();
        let resync = if full { Resync::Upstream } else { Resync::None };
        let transaction = Transaction::resync(resync, changes);
        self.core.take(Event::Desired { transaction, reply: None }, self.now);
    }

    fn delete(&mut self, key: &str) {
        let change = Change {
            key: Key::new(key),
            revision: 2,
            value: None,
        };
        let transaction = Transaction::of(vec![change]);
        self.core.take(Event::Desired { transaction, reply: None }, self.now);
        self.run();
    }

    /// Performs work until the core has no more work to start. Panics if a value has two operations in flight.
    fn run(&mut self) {
        while let Some(work) = self.core.advance(self.now) {
            match work {
                Work::Perform(tasks) => {
                    let mut outcomes = Vec::new();
                    for (id, key, _) in tasks {
                        if key.starts_with("slow") {
                            let before = self.slow.insert(key.clone(), id);
                            assert_eq!(before, None, "{key} already has an operation in flight");
                        } else {
                            outcomes.push((id, Outcome::Done));
                        }
                    }
                    self.core.done(Done::Performed(outcomes));
                }
                Work::ReadRequest(()) => {
                    self.looks += 1;
                    self.core.done(Done::Seen(()));
                }
            }
        }
    }

    /// Returns the ids and keys of the operations that the core starts now. Does not perform the operations.
    fn handed_out(&mut self) -> Option<Vec<(u64, String)>> {
        match self.core.advance(self.now)? {
            Work::Perform(tasks) => Some(tasks.into_iter().map(|(id, key, _)| (id, key)).collect()),
            Work::ReadRequest(()) => panic!("unexpected read"),
        }
    }

    fn comes_back(&mut self, key: &str, outcome: Outcome<Needs>) {
        let id = self.slow.remove(key).expect("an operation in flight");
        self.core.done(Done::Late(vec![(id, outcome)]));
        self.run();
    }

    fn state(&self, key: &str) -> Option<ValueState> {
        self.core.effects().states.get(key).copied()
    }

    fn configured(&self) -> BTreeSet<&str> {
        let states = self.core.effects().states.iter();
        let configured = states.filter(|(_, state)| **state == ValueState::Configured);
        configured.map(|(key, _)| key.as_str()).collect()
    }
}

fn timed_out() -> Outcome<Needs> {
    Outcome::Failed(Fault {
        kind: FaultKind::Transient,
        reason: "TimedOut",
        message: "no response for 5 s".to_owned(),
        kernel: None,
    })
}

#[test]
fn late_operation_blocks_only_its_dependents() {
    let mut world = World::new(&[("slow", &[]), ("on-slow", &["slow"]), ("other", &[])]);
    world.desire(&[("another", &["other"]), ("more", &[])], false);
    assert_eq!(world.configured(), BTreeSet::from(["another", "more", "other"]));
    world.comes_back("slow", Outcome::Done);
    assert!(world.configured().is_superset(&BTreeSet::from(["slow", "on-slow"])));
}

#[test]
fn dependent_of_a_late_operation_becomes_pending_without_another_event() {
    let mut world = World::new(&[("slow", &[]), ("on-slow", &["slow"])]);
    assert_eq!(world.state("on-slow"), None);
    world.now = world.core.deadline().expect("a deadline for the status");
    world.run();
    assert_eq!(world.state("on-slow"), Some(ValueState::Pending));
}

#[test]
fn late_outcome_of_a_timed_out_operation_is_ignored() {
    let mut world = World::new(&[("slow", &[]), ("other", &[])]);
    let first = world.slow["slow"];
    world.comes_back("slow", timed_out());
    assert_eq!(world.state("slow"), Some(ValueState::Retrying));
    world.core.done(Done::Late(vec![(first, Outcome::Done)]));
    world.run();
    assert_eq!(world.state("slow"), Some(ValueState::Retrying));
    world.now = world.core.deadline().expect("a retry");
    world.run();
    world.comes_back("slow", Outcome::Done);
    assert_eq!(world.configured(), BTreeSet::from(["other", "slow"]));
}

#[test]
fn value_deleted_during_a_late_creation_is_deleted_after_it() {
    let mut world = World::new(&[("slow", &[])]);
    world.delete("slow");
    let creation = world.slow["slow"];
    world.comes_back("slow", Outcome::Done);
    assert_ne!(world.slow["slow"], creation, "the deletion must follow the creation");
    world.comes_back("slow", Outcome::Done);
    assert_eq!(world.core.scheduler().view().applied(&Key::new("slow")), None);
    assert_eq!(world.core.in_flight().count(), 0);
}

/// Returns a core that has started operations on the values `first` and `rest`, and the ids of these operations. Three other
/// values depend on `first`, on `rest`, or on both.
fn two_under_way() -> (World, [u64; 2]) {
    let mut world = World::new(&[]);
    let values: [(&str, &[&str]); 5] = [
        ("first", &[]),
        ("rest", &[]),
        ("on-first", &["first"]),
        ("on-rest", &["rest"]),
        ("on-both", &["on-first", "rest"]),
    ];
    world.want(&values, false);
    let tasks = world.handed_out().expect("operations to start");
    let ids: Vec<u64> = tasks.iter().map(|(id, _)| *id).collect();
    (world, ids.try_into().expect("two operations"))
}

#[test]
fn large_change_continues_after_early_outcomes() {
    let (mut world, [first, rest]) = two_under_way();
    let settled = world.core.effects().settled;
    world.core.done(Done::Early(vec![(first, Outcome::Done)]));
    let (on_first, key) = world.handed_out().expect("the dependent of first").remove(0);
    assert_eq!(key, "on-first");
    assert_eq!(world.handed_out(), None);
    world.core.done(Done::Performed(vec![(rest, Outcome::Done)]));
    let (on_rest, key) = world.handed_out().expect("the dependent of rest").remove(0);
    assert_eq!(key, "on-rest");
    assert_eq!(world.core.deadline(), None, "an operation is in flight");
    world.core.done(Done::Performed(vec![(on_first, Outcome::Done)]));
    let (on_both, key) = world.handed_out().expect("the dependent of both").remove(0);
    assert_eq!(key, "on-both");
    for id in [on_rest, on_both] {
        assert_eq!(world.core.effects().settled, settled);
        world.core.done(Done::Performed(vec![(id, Outcome::Done)]));
        assert_eq!(world.handed_out(), None);
    }
    assert_eq!(
        world.configured(),
        BTreeSet::from(["first", "on-both", "on-first", "on-rest", "rest"])
    );
    assert_eq!((world.core.effects().settled, world.core.in_flight().count()), (settled + 1, 0));
}

#[test]
fn failure_makes_a_change_wait_for_all_operations_in_flight() {
    let (mut world, [first, rest]) = two_under_way();
    world.core.done(Done::Early(vec![(first, timed_out())]));
    assert_eq!(world.handed_out(), None);
    world.core.done(Done::Performed(vec![(rest, Outcome::Done)]));
    assert_eq!(world.handed_out().map(|tasks| tasks.len()), Some(1), "on-rest");
}

#[test]
fn deletion_completes_before_other_operations_start() {
    let mut world = World::new(&[("gone", &[]), ("base", &[])]);
    let change = |key: &str, value: Option<Needs>| Change {
        key: Key::new(key),
        revision: 2,
        value: value.map(Ok),
    };
    let changes = vec![
        change("gone", None),
        change("new", Some(vec![])),
        change("on-new", Some(vec!["new"])),
    ];
    let transaction = Transaction::of(changes);
    world.core.take(Event::Desired { transaction, reply: None }, world.now);
    let tasks = world.handed_out().expect("operations to start");
    let [(gone, _), (new, key)] = tasks.as_slice() else {
        panic!("{tasks:?}")
    };
    assert_eq!(key, "new");
    world.core.done(Done::Early(vec![(*new, Outcome::Done)]));
    assert_eq!(world.handed_out(), None);
    world.core.done(Done::Performed(vec![(*gone, Outcome::Done)]));
    assert_eq!(world.handed_out().map(|tasks| tasks.len()), Some(1), "on-new");
}

#[test]
fn event_makes_a_change_wait_for_all_operations_in_flight() {
    let (mut world, [first, rest]) = two_under_way();
    world.want(&[("other", &[])], false);
    world.core.done(Done::Early(vec![(first, Outcome::Done)]));
    assert_eq!(world.handed_out(), None);
    world.core.done(Done::Performed(vec![(rest, Outcome::Done)]));
    assert_eq!(world.handed_out().map(|tasks| tasks.len()), Some(3), "on-first, on-rest and other");
}

#[test]
fn reads_continue_during_a_late_operation_without_a_settled_report() {
    let mut world = World::new(&[("slow", &[])]);
    world.core.take(Event::Signal(()), world.now);
    world.run();
    assert_eq!((world.looks, world.core.effects().settled), (1, 0));
    world.comes_back("slow", Outcome::Done);
    assert!(world.core.effects().settled > 0);
}
