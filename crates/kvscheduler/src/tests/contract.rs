//! Tests that the scheduler gives the guarantees of ligato vpp-agent and does not have its known weaknesses. Other modules
//! contain further tests for both topics.

use super::*;
use crate::history::record::Origin;

/// Returns the recorded states of a key, oldest first.
fn course(world: &World, text: &str) -> Vec<ValueState> {
    let mut states = vec![ValueState::Nonexistent];
    for record in world.scheduler.history().records() {
        for operation in record.operations.iter().filter(|operation| operation.key.as_str() == text) {
            assert_eq!(states.last(), Some(&operation.before.state), "{text}: {:?}", record.operations);
            let after = match operation.after.state {
                ValueState::Removed => ValueState::Nonexistent,
                state => state,
            };
            states.push(after);
        }
    }
    states
}

fn persistent(message: &str) -> Fault {
    Fault {
        kind: FaultKind::Persistent,
        ..transient(message)
    }
}

#[test]
fn states_and_operations_have_names_and_numbers_of_the_reference() {
    use ValueState::*;
    let states = [
        Nonexistent,
        Missing,
        Unimplemented,
        Removed,
        Configured,
        Obtained,
        Discovered,
        Pending,
        Invalid,
        Failed,
        Retrying,
    ];
    let names = "NONEXISTENT MISSING UNIMPLEMENTED REMOVED CONFIGURED OBTAINED DISCOVERED PENDING INVALID FAILED RETRYING";
    assert_eq!(states.map(|state| state.to_string()).join(" "), names);
    assert_eq!(states.map(|state| state as i32), [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10]);
    let verbs = [Verb::Undefined, Verb::Verify, Verb::Create, Verb::Update, Verb::Delete];
    assert_eq!(
        verbs.map(|verb| verb.to_string()).join(" "),
        "UNDEFINED VALIDATE CREATE UPDATE DELETE"
    );
}

#[test]
fn origin_of_a_value_follows_from_its_state() {
    let texts = [
        ValueState::Nonexistent,
        ValueState::Obtained,
        ValueState::Discovered,
        ValueState::Pending,
    ]
    .map(|state| Origin::of(state).text());
    assert_eq!(texts, ["unknown", "from-SB", "from-NB", "from-NB"]);
}

#[test]
fn value_follows_the_transition_table() {
    use ValueState::*;
    let mut world = World::new();
    let step = |world: &mut World, changes: Vec<Change<Key, Toy>>| {
        world.commit(changes, Options::default());
    };
    step(&mut world, vec![put("a", needing(&["x"]))]);
    step(&mut world, vec![put("x", toy(1))]);
    step(
        &mut world,
        vec![put(
            "a",
            Toy {
                content: 2,
                ..needing(&["x"])
            },
        )],
    );
    step(&mut world, vec![unusable("a", "bad")]);
    step(&mut world, vec![put("a", needing(&["y"]))]);
    step(&mut world, vec![put("a", needing(&["x"]))]);
    step(&mut world, vec![remove("x")]);
    step(&mut world, vec![remove("a")]);
    let expected = [
        Nonexistent,
        Pending,
        Configured,
        Configured,
        Invalid,
        Pending,
        Configured,
        Pending,
        Nonexistent,
    ];
    assert_eq!(course(&world, "a"), expected);
    assert!(world.kernel.is_empty());
}

#[test]
fn failing_value_follows_the_transition_table() {
    use ValueState::*;
    let mut world = World::new();
    world.fail = Box::new(|_, _| Some(transient("busy")));
    world.commit(vec![put("a", toy(1))], Options::default());
    world.fail = Box::new(|_, _| Some(persistent("permanent")));
    world.now += Duration::from_secs(1);
    world.run();
    world.fail = Box::new(|_, _| None);
    world.run_out_retries();
    world.fail = Box::new(|_, verb| (verb == Verb::Update).then(|| transient("busy")));
    world.commit(vec![put("a", toy(2))], Options::default());
    world.fail = Box::new(|_, verb| (verb == Verb::Delete).then(|| transient("busy")));
    world.commit(vec![remove("a")], Options::default());
    world.fail = Box::new(|_, _| None);
    world.run_out_retries();
    assert_eq!(
        course(&world, "a"),
        [Nonexistent, Retrying, Failed, Configured, Retrying, Retrying, Nonexistent]
    );
}

#[test]
fn observed_value_becomes_the_desired_value() {
    let mut world = World::new();
    world.fact("unknown/x", true);
    world.put("a", needing(&["unknown/x"]));
    world.run();
    assert_eq!(world.state("a"), Some(ValueState::Configured));
    world.kernel.insert("b".into(), toy(1));
    world.scheduler.found(vec![(key("b"), toy(1))]);
    world.put("b", toy(2));
    world.run();
    assert_eq!(
        course(&world, "b"),
        [ValueState::Nonexistent, ValueState::Discovered, ValueState::Configured]
    );
    assert_eq!(world.kernel["b"].content, 2);
}

#[test]
fn deletions_precede_updates_precede_creations_in_key_order() {
    let mut world = World::new();
    world.commit(
        vec![put("b", toy(1)), put("c", toy(1)), put("e", toy(1)), put("f", toy(1))],
        Options::default(),
    );
    world.log.clear();
    world.commit(
        vec![
            put("a", toy(1)),
            put("b", toy(2)),
            remove("c"),
            put("d", toy(1)),
            put("e", toy(2)),
            remove("f"),
        ],
        Options::default(),
    );
    let expected = [
        Do::Delete("c".into()),
        Do::Delete("f".into()),
        Do::Update("b".into(), toy(2)),
        Do::Update("e".into(), toy(2)),
        Do::Create("a".into(), toy(1)),
        Do::Create("d".into(), toy(1)),
    ];
    assert_eq!(world.log, expected);
}

#[test]
fn explicit_value_overrides_a_derived_one() {
    let mut world = World::new();
    world.put("d", toy(7));
    world.put(
        "a",
        Toy {
            derives: vec!["d".into()],
            ..toy(1)
        },
    );
    world.run();
    assert_eq!(world.kernel["d"].content, 7);
    world.delete("a");
    world.run();
    assert_eq!(world.kernel.keys().collect::<Vec<_>>(), ["d"]);
}

#[test]
fn update_that_derives_a_new_value_configures_its_dependents() {
    let mut world = World::new();
    world.put(
        "b",
        Toy {
            needs_any: vec!["d/".into()],
            ..toy(1)
        },
    );
    world.put("c", needing(&["d/2"]));
    world.put(
        "a",
        Toy {
            derives: vec!["x".into()],
            ..toy(1)
        },
    );
    world.run();
    assert_eq!(
        (world.state("b"), world.state("c")),
        (Some(ValueState::Pending), Some(ValueState::Pending))
    );
    let update = world.commit(
        vec![put(
            "a",
            Toy {
                derives: vec!["d/2".into()],
                ..toy(2)
            },
        )],
        Options::default(),
    );
    assert_eq!(
        (world.state("b"), world.state("c")),
        (Some(ValueState::Configured), Some(ValueState::Configured))
    );
    assert!(world.account(update.seq).contains(&"UPDATE a CONFIGURED -> CONFIGURED".to_owned()));
}

#[test]
fn dependents_of_a_half_created_value_are_created_after_its_repair() {
    let mut world = World::new();
    let mut first = true;
    world.fail = Box::new(move |key, _| (key == "a" && std::mem::take(&mut first)).then(|| transient("half done")));
    world.put("a", toy(1));
    world.put("b", needing(&["a"]));
    world.run();
    world.kernel.insert("a".into(), toy(0));
    world.scheduler.found(vec![(key("a"), toy(0))]);
    world.run_out_retries();
    assert_eq!((world.kernel["a"].content, world.state("b")), (1, Some(ValueState::Configured)));
}

#[test]
fn deleting_a_value_cancels_its_retry() {
    let mut world = World::new();
    world.fail = Box::new(|_, verb| (verb == Verb::Create).then(|| transient("busy")));
    world.put("a", toy(1));
    world.run();
    assert!(world.scheduler.next_deadline().is_some());
    world.delete("a");
    world.run();
    assert_eq!((world.scheduler.next_deadline(), world.state("a")), (None, None));
}

#[test]
fn no_notification_is_lost_and_the_last_one_per_fact_counts() {
    let mut world = World::new();
    for number in 0..1000 {
        world.put(&format!("v/{number}"), needing(&[&format!("fact/{number}")]));
    }
    world.run();
    for number in 0..1000 {
        world.fact(&format!("fact/{number}"), true);
        world.fact(&format!("fact/{number}"), number % 2 == 0);
    }
    world.run();
    assert_eq!(world.kernel.len(), 500);
    assert!(
        world.log.iter().all(|step| matches!(step, Do::Create(..))),
        "transient facts must have no effect"
    );
}

#[test]
fn transaction_uses_all_facts_that_were_reported_before() {
    let mut world = World::new();
    world.fact("fact/1", true);
    let result = world.commit(vec![put("a", needing(&["fact/1"]))], Options::default());
    assert_eq!(world.account(result.seq), ["CREATE a NONEXISTENT -> CONFIGURED"]);
}

#[test]
fn last_of_several_observations_of_a_value_counts() {
    let mut world = World::new();
    world.put("a", toy(1));
    world.run();
    world.kernel.insert("a".into(), toy(3));
    world.scheduler.found(vec![(key("a"), toy(2)), (key("a"), toy(3))]);
    world.run();
    assert_eq!(world.kernel["a"].content, 1);
}

#[test]
fn foreign_object_under_a_former_key_is_left_alone() {
    let mut world = World::new();
    world.commit(vec![put("a", toy(1))], Options::default());
    world.commit(vec![remove("a")], Options::default());
    // Only objects with the ownership mark are reported as observed. This foreign object does not have the mark.
    world.kernel.insert("a".into(), toy(9));
    world
        .scheduler
        .transact(Transaction::resync(Resync::Upstream, vec![]))
        .expect("acceptable");
    world.run();
    assert_eq!(world.kernel["a"].content, 9);
}

#[test]
fn error_in_a_dependency_cycle_is_reported() {
    let mut world = World::new();
    world.fail = Box::new(|key, _| (key == "v2").then(|| transient("no")));
    let result = world.commit(vec![put("v1", needing(&["v2"])), put("v2", needing(&["v1"]))], Options::default());
    assert_eq!(result.to_string(), "KeyErrors: [v2 (CREATE): no]");
}

#[test]
fn failed_read_never_causes_a_deletion() {
    let mut world = World::new();
    world.commit(vec![put("a", toy(1)), put("b", needing(&["a"]))], Options::default());
    world.log.clear();
    world
        .scheduler
        .transact(Transaction::resync(Resync::Downstream, vec![]))
        .expect("acceptable");
    world.scheduler.step(world.now);
    assert!(world.scheduler.take_reading());
    // The read failed, so nothing is reported.
    world.scheduler.read_again();
    world.run();
    assert!(world.log.is_empty());
    assert_eq!(world.state("b"), Some(ValueState::Configured));
}

#[test]
fn desired_and_applied_values_are_listed_by_prefix() {
    let mut world = World::new();
    world.commit(
        vec![put("v/1", toy(1)), put("v/2", needing(&["nothing"])), put("w", toy(1))],
        Options::default(),
    );
    let view = world.scheduler.view();
    let desired: Vec<&str> = view.desired_under("v/").map(|(key, _)| key.as_str()).collect();
    let applied: Vec<&str> = view.applied_under("v/").map(|(key, _)| key.as_str()).collect();
    assert_eq!((desired, applied), (vec!["v/1", "v/2"], vec!["v/1"]));
}

#[test]
fn transaction_waits_for_a_deletion_started_by_another_one() {
    let mut world = World::new();
    world.commit(vec![put("a", toy(1)), put("b", needing(&["a"]))], Options::default());
    world.delete("b");
    let operations = world.scheduler.step(world.now);
    assert_eq!(operations.len(), 1);
    let options = Options {
        awaited: true,
        ..Options::default()
    };
    let changes = vec![remove("a")];
    world.scheduler.transact(Transaction { changes, options }).expect("acceptable");
    world.scheduler.step(world.now);
    assert!(world.scheduler.take_finished().is_empty(), "b must be deleted first");
    for operation in operations {
        let outcome = world.perform(operation.key.as_str(), operation.verb, operation.steps);
        world.scheduler.outcome(operation.id, outcome);
    }
    world.run();
    let finished = world.scheduler.take_finished();
    assert_eq!((finished.len(), finished[0].errors.len()), (1, 0));
    assert_eq!(world.account(finished[0].seq), ["DELETE a CONFIGURED -> REMOVED"]);
}

#[test]
fn operations_do_not_depend_on_the_history() {
    let run = |settings: Option<crate::history::HistorySettings>| {
        let mut world = World::new();
        if let Some(settings) = settings {
            world.scheduler.set_history(settings);
        }
        world.commit(
            vec![
                put("b", needing(&["a"])),
                put(
                    "a",
                    Toy {
                        derives: vec!["d".into()],
                        ..toy(1)
                    },
                ),
            ],
            Options::default(),
        );
        world.commit(vec![put("a", Toy { shape: 1, ..toy(1) })], Options::default());
        world.commit(vec![remove("a")], Options::default());
        world.log
    };
    let none = crate::history::HistorySettings {
        enabled: false,
        ..Default::default()
    };
    assert_eq!(run(None), run(Some(none)));
}
