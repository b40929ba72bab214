//! Waiting is not failing, a change of what a held value depends on wakes it, and nothing makes a step run for ever.

use super::*;

const SECOND: Duration = Duration::from_secs(1);

/// A value that rests on a namespace which does not exist yet.
fn inside() -> Change<Key, Toy> {
    let value = Toy {
        implies: vec!["ns".into()],
        ..needing(&["ns"])
    };
    put("inside", value)
}

fn waits_for(key: &'static str) -> Missing {
    Box::new(move |at, _| (at == key).then(|| wait("no process 7")))
}

fn reverting() -> Options {
    Options {
        revert: true,
        ..Options::default()
    }
}

/// Key and message of each value that waits.
fn told(result: &TransactionResult<Key>) -> Vec<(&str, &str)> {
    result
        .waiting
        .iter()
        .map(|wait| (wait.key.as_str(), wait.message.as_str()))
        .collect()
}

const WHY: &str = "waiting for needs-ns: ns is not available (no process 7)";

#[test]
fn a_value_that_waits_is_no_error_reverts_nothing_and_is_listed_the_first_time_and_the_second() {
    let mut world = World::new();
    world.waits = waits_for("ns");
    for _ in 0..2 {
        let result = world.commit(vec![inside(), put("other", toy(1))], reverting());
        assert!(result.errors.is_empty() && !result.reverted, "{result:?}");
        assert_eq!(told(&result), [("inside", WHY)]);
        let record = world.record(result.seq);
        assert!(record.errors.is_empty() && record.operations.iter().all(|operation| operation.after.error.is_none()));
        assert_eq!(world.state("inside"), Some(ValueState::Pending));
        assert_eq!(world.state("other"), Some(ValueState::Configured));
    }
}

#[test]
fn a_resync_lists_what_waits_and_reports_no_error() {
    let mut world = World::new();
    world.waits = waits_for("ns");
    world.commit(vec![inside(), put("other", toy(1))], Options::default());
    let options = Options {
        resync: Resync::Downstream,
        ..Options::default()
    };
    let result = world.commit(vec![], options);
    assert!(result.errors.is_empty(), "{result:?}");
    assert_eq!(told(&result), [("inside", WHY)]);
}

#[test]
fn what_waits_for_a_derived_value_or_for_another_value_is_listed_too() {
    let mut world = World::new();
    world.waits = waits_for("a/0");
    let value = Toy {
        derives: vec!["a/0".into()],
        ..toy(1)
    };
    let result = world.commit(vec![put("a", value), put("b", needing(&["a/0"]))], reverting());
    assert!(result.errors.is_empty() && !result.reverted, "{result:?}");
    assert_eq!(
        told(&result),
        [
            ("a", "no process 7"),
            ("b", "waiting for needs-a/0: a/0 is not available (no process 7)")
        ]
    );
}

#[test]
fn a_failure_beside_a_value_that_waits_still_reverts_both() {
    let mut world = World::new();
    world.waits = waits_for("ns");
    world.fail = Box::new(|key, verb| (key == "other" && verb == Verb::Create).then(|| transient("no such luck")));
    let result = world.commit(vec![inside(), put("other", toy(1))], reverting());
    assert!(result.reverted && result.waiting.is_empty(), "{result:?}");
    assert_eq!(result.to_string(), "KeyErrors: [other (CREATE): no such luck]");
    assert_eq!((world.state("inside"), world.state("other")), (None, None));
}

#[test]
fn a_value_that_waits_is_tried_at_once_when_a_dependency_changes() {
    let mut world = World::new();
    world.waits = waits_for("b");
    world.commit(vec![put("a", toy(1)), put("b", needing(&["a"]))], Options::default());
    assert_eq!(world.state("b"), Some(ValueState::Pending));
    world.waits = Box::new(|_, _| None);
    world.put("a", toy(2));
    world.run();
    assert_eq!(world.state("b"), Some(ValueState::Configured));
}

/// The attempt goes by what the dependency was when it began.
#[test]
fn a_change_of_a_dependency_waits_for_an_attempt_which_is_then_made_again() {
    let mut world = World::new();
    world.put("a", toy(1));
    world.run();
    world.put("b", needing(&["a"]));
    let attempt = world.scheduler.step(world.now).pop().expect("b is created");
    world.put("a", toy(2));
    assert!(world.scheduler.step(world.now).is_empty(), "a is changed after the attempt");
    world
        .scheduler
        .outcome(attempt.id, Outcome::Waiting(wait("a is not as it should be")));
    let change = world.scheduler.step(world.now).pop().expect("a is changed");
    assert_eq!((change.key.as_str(), change.verb), ("a", Verb::Update));
    let outcome = world.perform("a", change.verb, change.steps);
    world.scheduler.outcome(change.id, outcome);
    world.run();
    assert_eq!(world.state("b"), Some(ValueState::Configured));
}

/// A value whose creation fails for as long as `a` has the content 0, which nothing but a change of `a` ends.
fn failing_until_changed(attempts: &Arc<std::sync::atomic::AtomicUsize>) -> Sabotage {
    let attempts = Arc::clone(attempts);
    Box::new(move |key, _| {
        (key == "b").then(|| {
            attempts.fetch_add(1, Ordering::Relaxed);
            transient("not as it is")
        })
    })
}

#[test]
fn a_failed_value_is_tried_again_at_once_when_a_dependency_changes_long_after() {
    let mut world = World::new();
    world.fail = failing_until_changed(&Arc::default());
    world.put("a", toy(1));
    world.put("b", needing(&["a"]));
    world.run();
    while world.scheduler.next_deadline().expect("tried again") < world.now + 30 * SECOND {
        world.now = world.scheduler.next_deadline().expect("tried again");
        world.run();
    }
    world.now += 2 * SECOND;
    world.fail = Box::new(|_, _| None);
    world.put("a", toy(2));
    world.run();
    assert_eq!(world.state("b"), Some(ValueState::Configured), "not after half a minute");
}

#[test]
fn a_dependency_that_changes_all_the_time_costs_one_attempt_a_second_and_keeps_the_back_off() {
    let attempts = Arc::default();
    let mut world = World::new();
    world.fail = failing_until_changed(&attempts);
    world.put("a", toy(0));
    world.put("b", needing(&["a"]));
    world.run();
    for change in 1..=1000 {
        world.now += SECOND / 100;
        world.put("a", toy(change));
        world.run();
    }
    let made = attempts.load(Ordering::Relaxed);
    assert!((10..=11).contains(&made), "{made} attempts in 10 s");
    let next = world.statuses["b"].next_retry.expect("tried again");
    assert!(next > world.now, "{next:?}");
    world.now += 70 * SECOND;
    world.run();
    assert!(
        world.statuses["b"].next_retry > Some(world.now + 50 * SECOND),
        "the back-off goes on"
    );
}

#[test]
fn a_value_without_attempts_left_is_tried_again_when_a_dependency_changes() {
    let mut world = World::new();
    world.fail = failing_until_changed(&Arc::default());
    let never = Options {
        retry: Some(Retry {
            attempts: Some(0),
            ..Retry::default()
        }),
        ..Options::default()
    };
    world.commit(vec![put("a", toy(1)), put("b", needing(&["a"]))], never);
    assert_eq!(
        (world.state("b"), world.scheduler.next_deadline()),
        (Some(ValueState::Failed), None)
    );
    world.now += 2 * SECOND;
    world.fail = Box::new(|_, _| None);
    world.put("a", toy(2));
    world.run();
    assert_eq!(world.state("b"), Some(ValueState::Configured));
}

#[test]
fn a_member_of_a_cycle_that_failed_is_tried_at_once_when_the_other_becomes_usable() {
    let mut world = World::new();
    world.fail = Box::new(|key, _| (key == "c").then(|| transient("no luck yet")));
    world.put("c", needing(&["d"]));
    world.put("d", needing(&["c"]));
    world.run();
    // What the creation may have left cannot be cleared away either, which is tried again and again.
    world.change("d", unusable("d", "bad field").value);
    world.run();
    while world.scheduler.next_deadline().expect("tried again") < world.now + 20 * SECOND {
        world.now = world.scheduler.next_deadline().expect("tried again");
        world.run();
    }
    world.now += 2 * SECOND;
    world.fail = Box::new(|_, _| None);
    world.put("d", needing(&["c"]));
    world.run();
    assert_eq!(
        (world.state("c"), world.state("d")),
        (Some(ValueState::Configured), Some(ValueState::Configured))
    );
}

#[test]
fn a_failed_derived_value_keeps_its_back_off_while_others_change_its_base() {
    let attempts: Arc<std::sync::atomic::AtomicUsize> = Arc::default();
    let mut world = World::new();
    let counted = Arc::clone(&attempts);
    world.fail = Box::new(move |key, _| {
        (key == "a/0").then(|| {
            counted.fetch_add(1, Ordering::Relaxed);
            transient("refused")
        })
    });
    let value = |content| Toy {
        derives: vec!["a/0".into()],
        ..toy(content)
    };
    world.put("a", value(1));
    world.run();
    for _ in 0..100 {
        world.now += SECOND / 100;
        world.scheduler.found(vec![(key("a"), value(2))]);
        world.run();
    }
    let made = attempts.load(Ordering::Relaxed);
    assert!(made <= 3, "{made} attempts in a second");
}

#[test]
fn what_is_read_back_after_a_deletion_has_no_last_operation() {
    let mut world = World::new();
    world.commit(vec![put("a", toy(1))], Options::default());
    world.commit(vec![remove("a"), put("b", needing(&["a"]))], Options::default());
    world.put("a", needing(&["missing"]));
    world.run();
    world.kernel.insert("a".into(), toy(1));
    world.scheduler.found(vec![(key("a"), toy(1))]);
    world.put("a", toy(1));
    world.run();
    let status = &world.statuses["a"];
    assert_eq!((status.state, status.last_operation), (ValueState::Configured, Verb::Undefined));
}

#[test]
fn a_step_that_does_not_come_to_an_end_is_cut_short_and_others_get_their_turn() {
    let mut world = World::new();
    world.put("restless/a", toy(1));
    world.put("b", toy(1));
    world.round();
    assert!(world.scheduler.has_overrun());
    assert_eq!(world.scheduler.next_deadline(), Some(world.now + SECOND));
    world.put("c", toy(1));
    world.delete("restless/a");
    world.run();
    assert!(!world.scheduler.has_overrun() && world.scheduler.next_deadline().is_none());
    assert!(world.kernel.contains_key("b") && world.kernel.contains_key("c"));
}

fn claiming(needs: &[&str]) -> Toy {
    Toy {
        claims: vec!["id 7".into()],
        ..needing(needs)
    }
}

/// After a restart: `b` is in the kernel, in a place that takes longer to open than `a` takes to be created.
#[test]
fn a_claim_is_left_to_what_turns_up_in_a_place_that_is_being_opened() {
    let mut world = World::new();
    world.kernel.insert("b".into(), claiming(&["place/p"]));
    world.scheduler.transaction(
        vec![
            put("a", claiming(&[])),
            put("b", claiming(&["place/p"])),
            put("other", toy(1)),
            put("place/p", toy(1)),
        ],
        false,
    );
    world.round();
    let created = |key: &str| Do::Create(key.into(), toy(1));
    assert_eq!(world.log, [created("other"), created("place/p")]);
    world.scheduler.found(vec![(key("b"), claiming(&["place/p"]))]);
    world.run();
    assert_eq!(world.log.len(), 2, "{:?}", world.log);
    assert_eq!(world.state("b"), Some(ValueState::Configured));
    assert_eq!(world.state("a"), Some(ValueState::Invalid));
}

#[test]
fn a_claim_is_not_kept_for_a_place_that_cannot_be_opened() {
    let mut world = World::new();
    world.fail = Box::new(|key, _| (key == "place/p").then(|| transient("no such luck")));
    world.scheduler.transaction(
        vec![put("a", claiming(&[])), put("b", claiming(&["place/p"])), put("place/p", toy(1))],
        false,
    );
    world.run();
    assert_eq!(world.log, [Do::Create("a".into(), claiming(&[]))]);
    assert_eq!(world.state("a"), Some(ValueState::Configured));
}

#[test]
fn a_claim_is_kept_for_a_place_that_may_be_told_late() {
    let mut world = World::new();
    world.scheduler = Scheduler::new(ToyDomain::default());
    world.scheduler.transaction(
        vec![
            put("a", claiming(&[])),
            put("b", claiming(&["place/p"])),
            put("place/p", needing(&["fact/container"])),
        ],
        false,
    );
    world.run();
    assert_eq!(world.log, []);
    world.scheduler.settle_facts();
    world.run();
    assert_eq!(world.log, [Do::Create("a".into(), claiming(&[]))]);
}
