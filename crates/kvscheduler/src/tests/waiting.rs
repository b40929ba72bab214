//! Waiting values, the events that make the scheduler retry them, and the maximum length of a step.

use super::*;

const SECOND: Duration = Duration::from_secs(1);

/// Returns a change that requests a value in a namespace that does not exist yet.
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

/// Returns the key and message of each waiting value.
fn reported(result: &TransactionResult<Key>) -> Vec<(&str, &str)> {
    result
        .waiting
        .iter()
        .map(|wait| (wait.key.as_str(), wait.message.as_str()))
        .collect()
}

const WHY: &str = "waiting for needs-ns: ns is not available (no process 7)";

#[test]
fn waiting_value_is_no_error_and_is_listed_in_every_result() {
    let mut world = World::new();
    world.waits = waits_for("ns");
    for _ in 0..2 {
        let result = world.commit(vec![inside(), put("other", toy(1))], reverting());
        assert!(result.errors.is_empty() && !result.reverted, "{result:?}");
        assert_eq!(reported(&result), [("inside", WHY)]);
        let record = world.record(result.seq);
        assert!(record.errors.is_empty() && record.operations.iter().all(|operation| operation.after.error.is_none()));
        assert_eq!(world.state("inside"), Some(ValueState::Pending));
        assert_eq!(world.state("other"), Some(ValueState::Configured));
    }
}

#[test]
fn resync_lists_waiting_values_and_reports_no_error() {
    let mut world = World::new();
    world.waits = waits_for("ns");
    world.commit(vec![inside(), put("other", toy(1))], Options::default());
    let options = Options {
        resync: Resync::Downstream,
        ..Options::default()
    };
    let result = world.commit(vec![], options);
    assert!(result.errors.is_empty(), "{result:?}");
    assert_eq!(reported(&result), [("inside", WHY)]);
}

#[test]
fn values_waiting_for_derived_or_other_values_are_listed() {
    let mut world = World::new();
    world.waits = waits_for("a/0");
    let value = Toy {
        derives: vec!["a/0".into()],
        ..toy(1)
    };
    let result = world.commit(vec![put("a", value), put("b", needing(&["a/0"]))], reverting());
    assert!(result.errors.is_empty() && !result.reverted, "{result:?}");
    assert_eq!(
        reported(&result),
        [
            ("a", "no process 7"),
            ("b", "waiting for needs-a/0: a/0 is not available (no process 7)")
        ]
    );
}

#[test]
fn failure_reverts_waiting_values_of_the_transaction_too() {
    let mut world = World::new();
    world.waits = waits_for("ns");
    world.fail = Box::new(|key, verb| (key == "other" && verb == Verb::Create).then(|| transient("simulated failure")));
    let result = world.commit(vec![inside(), put("other", toy(1))], reverting());
    assert!(result.reverted && result.waiting.is_empty(), "{result:?}");
    assert_eq!(result.to_string(), "KeyErrors: [other (CREATE): simulated failure]");
    assert_eq!((world.state("inside"), world.state("other")), (None, None));
}

#[test]
fn waiting_value_is_tried_immediately_when_a_dependency_changes() {
    let mut world = World::new();
    world.waits = waits_for("b");
    world.commit(vec![put("a", toy(1)), put("b", needing(&["a"]))], Options::default());
    assert_eq!(world.state("b"), Some(ValueState::Pending));
    world.waits = Box::new(|_, _| None);
    world.put("a", toy(2));
    world.run();
    assert_eq!(world.state("b"), Some(ValueState::Configured));
}

/// The creation of `b` that is in flight still uses the old content of `a`.
#[test]
fn update_of_a_dependency_waits_for_the_attempt_and_triggers_another() {
    let mut world = World::new();
    world.put("a", toy(1));
    world.run();
    world.put("b", needing(&["a"]));
    let attempt = world.scheduler.step(world.now).pop().expect("b must be created");
    world.put("a", toy(2));
    assert!(world.scheduler.step(world.now).is_empty(), "a must be updated later");
    world
        .scheduler
        .outcome(attempt.id, Outcome::Waiting(wait("a has the wrong content")));
    let change = world.scheduler.step(world.now).pop().expect("a must be changed");
    assert_eq!((change.key.as_str(), change.verb), ("a", Verb::Update));
    let outcome = world.perform("a", change.verb, change.steps);
    world.scheduler.outcome(change.id, outcome);
    world.run();
    assert_eq!(world.state("b"), Some(ValueState::Configured));
}

/// Returns a function that makes every operation on `b` fail and counts the attempts.
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
fn failed_value_is_retried_immediately_when_a_dependency_changes() {
    let mut world = World::new();
    world.fail = failing_until_changed(&Arc::default());
    world.put("a", toy(1));
    world.put("b", needing(&["a"]));
    world.run();
    while world.scheduler.next_deadline().expect("a retry must be scheduled") < world.now + 30 * SECOND {
        world.now = world.scheduler.next_deadline().expect("a retry must be scheduled");
        world.run();
    }
    world.now += 2 * SECOND;
    world.fail = Box::new(|_, _| None);
    world.put("a", toy(2));
    world.run();
    assert_eq!(world.state("b"), Some(ValueState::Configured), "b must be retried immediately");
}

#[test]
fn changing_dependency_causes_one_attempt_per_second_and_keeps_back_off() {
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
    let next = world.statuses["b"].next_retry.expect("a retry must be scheduled");
    assert!(next > world.now, "{next:?}");
    world.now += 70 * SECOND;
    world.run();
    assert!(
        world.statuses["b"].next_retry > Some(world.now + 50 * SECOND),
        "the back-off must continue"
    );
}

#[test]
fn value_without_attempts_left_is_retried_when_a_dependency_changes() {
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
fn failed_cycle_member_is_retried_when_the_other_becomes_valid() {
    let mut world = World::new();
    world.fail = Box::new(|key, _| (key == "c").then(|| transient("not yet")));
    world.put("c", needing(&["d"]));
    world.put("d", needing(&["c"]));
    world.run();
    // The remains of the failed creation cannot be removed either, so the recovery is retried with back-off.
    world.change("d", unusable("d", "bad field").value);
    world.run();
    while world.scheduler.next_deadline().expect("a retry must be scheduled") < world.now + 20 * SECOND {
        world.now = world.scheduler.next_deadline().expect("a retry must be scheduled");
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
fn failed_derived_value_keeps_its_back_off_while_its_base_drifts() {
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
fn value_observed_after_its_deletion_has_no_last_operation() {
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
fn endless_step_is_cut_short_and_other_values_make_progress() {
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

/// After a restart, `b` still exists and holds the claim, but its namespace `place/p` is not open yet. Until it is open, `a` must
/// not get the claim.
#[test]
fn claim_is_reserved_for_values_in_a_place_that_is_being_opened() {
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
fn claim_is_not_reserved_for_a_place_that_cannot_be_opened() {
    let mut world = World::new();
    world.fail = Box::new(|key, _| (key == "place/p").then(|| transient("simulated failure")));
    world.scheduler.transaction(
        vec![put("a", claiming(&[])), put("b", claiming(&["place/p"])), put("place/p", toy(1))],
        false,
    );
    world.run();
    assert_eq!(world.log, [Do::Create("a".into(), claiming(&[]))]);
    assert_eq!(world.state("a"), Some(ValueState::Configured));
}

#[test]
fn claim_is_reserved_while_facts_are_incomplete() {
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
    world.scheduler.complete_facts();
    world.run();
    assert_eq!(world.log, [Do::Create("a".into(), claiming(&[]))]);
}
