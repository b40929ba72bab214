//! Sections of the reference's contract, and its weaknesses, that no other test here is named after.

use super::*;
use crate::history::record::Origin;

/// The states of a key in the order in which the records tell them.
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
fn states_and_operations_have_the_names_and_numbers_of_the_reference() {
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
fn the_origin_of_a_value_follows_from_its_state() {
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
fn a_value_runs_through_the_states_of_the_transition_table() {
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
fn a_failing_value_runs_through_the_states_of_the_transition_table() {
    use ValueState::*;
    let mut world = World::new();
    world.fail = Box::new(|_, _| Some(transient("busy")));
    world.commit(vec![put("a", toy(1))], Options::default());
    world.fail = Box::new(|_, _| Some(persistent("hopeless")));
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
fn a_value_below_that_is_also_asked_for_becomes_what_is_asked_for() {
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
fn deletions_come_first_then_changes_then_creations_each_in_key_order() {
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
fn a_derived_key_that_is_asked_for_itself_is_left_to_who_asked() {
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
fn an_update_wakes_dependents() {
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
fn dependents_of_what_was_found_half_made_come_when_it_is_finished() {
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
fn a_retry_is_forgotten_with_its_value() {
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
fn no_notification_is_lost_however_many_there_are_and_the_last_word_counts() {
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
        "what came and went is not built on"
    );
}

#[test]
fn a_transaction_is_decided_upon_with_all_that_was_told_before_it() {
    let mut world = World::new();
    world.fact("fact/1", true);
    let result = world.commit(vec![put("a", needing(&["fact/1"]))], Options::default());
    assert_eq!(world.account(result.seq), ["CREATE a NONEXISTENT -> CONFIGURED"]);
}

#[test]
fn what_is_seen_twice_counts_as_seen_last_and_is_made_as_wanted() {
    let mut world = World::new();
    world.put("a", toy(1));
    world.run();
    world.kernel.insert("a".into(), toy(3));
    world.scheduler.found(vec![(key("a"), toy(2)), (key("a"), toy(3))]);
    world.run();
    assert_eq!(world.kernel["a"].content, 1);
}

#[test]
fn a_key_without_an_owner_is_of_nobody_however_it_came_by_its_name() {
    let mut world = World::new();
    world.commit(vec![put("a", toy(1))], Options::default());
    world.commit(vec![remove("a")], Options::default());
    // Something foreign under the key of old is not told as found: what is found is what carries the mark.
    world.kernel.insert("a".into(), toy(9));
    world
        .scheduler
        .transact(Transaction::resync(Resync::Upstream, vec![]))
        .expect("acceptable");
    world.run();
    assert_eq!(world.kernel["a"].content, 9);
}

#[test]
fn an_error_within_a_dependency_cycle_is_told() {
    let mut world = World::new();
    world.fail = Box::new(|key, _| (key == "v2").then(|| transient("no")));
    let result = world.commit(vec![put("v1", needing(&["v2"])), put("v2", needing(&["v1"]))], Options::default());
    assert_eq!(result.to_string(), "KeyErrors: [v2 (CREATE): no]");
}

#[test]
fn a_failing_look_never_causes_a_deletion() {
    let mut world = World::new();
    world.commit(vec![put("a", toy(1)), put("b", needing(&["a"]))], Options::default());
    world.log.clear();
    world
        .scheduler
        .transact(Transaction::resync(Resync::Downstream, vec![]))
        .expect("acceptable");
    world.scheduler.step(world.now);
    assert!(world.scheduler.take_reading());
    // Nothing could be read, so nothing is told.
    world.scheduler.read_again();
    world.run();
    assert!(world.log.is_empty());
    assert_eq!(world.state("b"), Some(ValueState::Configured));
}

#[test]
fn the_desired_and_the_applied_side_can_be_listed_by_prefix() {
    let mut world = World::new();
    world.commit(
        vec![put("v/1", toy(1)), put("v/2", needing(&["nothing"])), put("w", toy(1))],
        Options::default(),
    );
    let view = world.scheduler.view();
    let wanted: Vec<&str> = view.wanted_under("v/").map(|(key, _)| key.as_str()).collect();
    let applied: Vec<&str> = view.applied_under("v/").map(|(key, _)| key.as_str()).collect();
    assert_eq!((wanted, applied), (vec!["v/1", "v/2"], vec!["v/1"]));
}

#[test]
fn a_transaction_waits_for_a_deletion_that_another_one_has_begun() {
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
    assert!(world.scheduler.take_finished().is_empty(), "b is still going");
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
fn without_a_history_the_same_operations_come_out() {
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
