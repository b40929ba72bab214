//! Transaction history: records, flags, timelines, statistics, and limits.

use super::*;
use crate::history::{
    HistorySettings,
    extract::Scope,
    record::{OperationRecord, Side},
    timeline::{Flag, Relation, Revision},
};

fn flags(world: &World, seq: u64) -> Vec<String> {
    let words = |operation: &OperationRecord<Key, Toy>| operation.flag_names().join(" ");
    world.record(seq).executed().map(words).collect()
}

fn keep(transactions: usize, operations: usize) -> HistorySettings {
    HistorySettings {
        transactions,
        operations,
        ..HistorySettings::default()
    }
}

#[test]
fn records_contain_the_state_before_and_after() {
    let mut world = World::new();
    world.commit(vec![put("a", toy(1))], Options::default());
    world.fail = Box::new(|_, verb| (verb == Verb::Update).then(|| transient("an error")));
    let failed = world.commit(vec![put("a", toy(2))], Options::default());
    let update = &world.record(failed.seq).operations[0];
    let content = |side: &Side<Toy>| side.value.as_ref().map(|value| value.content);
    assert_eq!(
        (update.before.state, update.after.state),
        (ValueState::Configured, ValueState::Retrying)
    );
    assert_eq!((content(&update.before), content(&update.after)), (Some(1), Some(2)));
    assert_eq!(update.after.error.as_deref(), Some("an error"));
    world.fail = Box::new(|_, _| None);
    let gone = world.commit(vec![remove("a")], Options::default());
    let delete = &world.record(gone.seq).operations[0];
    assert_eq!(
        (delete.after.state, delete.before.error.as_deref()),
        (ValueState::Removed, Some("an error"))
    );
    assert!(delete.after.value.is_none());
}

#[test]
fn retry_record_names_the_transaction_and_the_attempt() {
    let mut world = World::new();
    world.commit(vec![], Options::default());
    let mut first = true;
    world.fail = Box::new(move |_, _| std::mem::take(&mut first).then(|| transient("once")));
    world.commit(vec![put("a", toy(1))], Options::default());
    world.run_out_retries();
    assert_eq!(world.record(2).kind, Kind::Retry { of: 1, attempt: 1 });
}

#[test]
fn pending_values_are_flagged() {
    let mut world = World::new();
    let waits = world.commit(vec![put("b", needing(&["a"]))], Options::default());
    assert_eq!(flags(&world, waits.seq), ["NOOP IS-PENDING"]);
    let comes = world.commit(vec![put("a", toy(1))], Options::default());
    assert_eq!(flags(&world, comes.seq), ["", "WAS-PENDING"]);
    let goes = world.commit(vec![remove("a")], Options::default());
    assert_eq!(flags(&world, goes.seq), ["IS-PENDING", ""]);
    let gone = world.commit(vec![remove("b")], Options::default());
    assert_eq!(flags(&world, gone.seq), ["NOOP WAS-PENDING"]);
    assert_eq!(world.account(gone.seq), ["DELETE b NOOP PENDING -> REMOVED"]);
    assert!(
        world.record(gone.seq).operations[0].before.value.is_some(),
        "the record must contain the pending value"
    );
}

#[test]
fn failures_invalid_and_unimplemented_values_are_flagged() {
    let mut world = World::new();
    let fault = || Fault {
        kind: FaultKind::Persistent,
        reason: "Toy",
        message: "no".into(),
        kernel: None,
    };
    world.fail = Box::new(move |_, _| Some(fault()));
    let fails = world.commit(
        vec![put("a", toy(1)), unusable("i", "bad"), put("unknown/u", toy(1))],
        Options::default(),
    );
    assert_eq!(flags(&world, fails.seq), ["NOOP INVALID", "NOOP UNIMPLEMENTED", "FAILED"]);
    let again = world.commit(vec![put("a", toy(2)), unusable("i", "still bad")], Options::default());
    assert_eq!(flags(&world, again.seq), ["NOOP STILL-INVALID", "STILL-FAILING"]);
    world.fail = Box::new(|_, _| None);
    let mended = world.commit(vec![put("a", toy(3)), put("i", toy(1)), remove("unknown/u")], Options::default());
    assert_eq!(flags(&world, mended.seq), ["NOOP WAS-UNIMPLEMENTED", "FIXED", "FIXED"]);
}

#[test]
fn derived_values_properties_recreations_reverts_and_retries_are_flagged() {
    let mut world = World::new();
    let base = |shape| Toy {
        shape,
        derives: vec!["d".into(), "unknown/p".into()],
        ..Toy::default()
    };
    let created = world.commit(vec![put("a", base(0))], Options::default());
    assert_eq!(flags(&world, created.seq), ["", "PROPERTY", "DERIVED"]);
    let again = world.commit(vec![put("a", base(1))], Options::default());
    let mut expected = vec![
        "PROPERTY RECREATE",
        "DERIVED RECREATE",
        "RECREATE",
        "RECREATE",
        "PROPERTY RECREATE",
        "DERIVED RECREATE",
    ];
    let mut reported = flags(&world, again.seq);
    reported.sort();
    expected.sort_unstable();
    assert_eq!(reported, expected);
    let mut first = true;
    world.fail = Box::new(move |key, _| (key == "z" && std::mem::take(&mut first)).then(|| transient("once")));
    let revert = Options {
        revert: true,
        ..Options::default()
    };
    let reverted = world.commit(vec![put("n", toy(1)), put("z", toy(1))], revert);
    assert_eq!(flags(&world, reverted.seq), ["", "", "REVERT", "REVERT"]);
    let mut first = true;
    world.fail = Box::new(move |_, _| std::mem::take(&mut first).then(|| transient("once")));
    world.commit(vec![put("r", toy(1))], Options::default());
    world.run_out_retries();
    let last = world.scheduler.history().records().next_back().expect("recorded").seq;
    assert_eq!(flags(&world, last), ["RETRY"]);
}

#[test]
fn discovered_missing_and_obtained_values_are_flagged() {
    let mut world = World::new();
    world.kernel.insert("old".into(), toy(1));
    world.kernel.insert("a".into(), toy(1));
    world.put("a", toy(2));
    world.scheduler.found(vec![(key("a"), toy(1)), (key("old"), toy(1))]);
    world.run();
    let last = |world: &World| world.scheduler.history().records().next_back().expect("recorded").seq;
    let all: Vec<String> = world
        .scheduler
        .history()
        .records()
        .flat_map(|record| {
            record
                .executed()
                .map(|operation| operation.flag_names().join(" "))
                .collect::<Vec<_>>()
        })
        .collect();
    assert_eq!(all, ["DISCOVERED", "DISCOVERED"]);
    world.kernel.remove("a");
    world.scheduler.lost(&[key("a")]);
    world.run();
    assert_eq!(flags(&world, last(&world)), ["WAS-MISSING"]);
    world.fact("fact/1", true);
    world.run();
    assert_eq!(flags(&world, last(&world)), ["OBTAINED"]);
    world.fact("fact/1", false);
    world.run();
    assert_eq!(flags(&world, last(&world)), ["WAS-OBTAINED"]);
}

#[test]
fn deletion_of_a_lost_value_is_flagged_already_missing() {
    let mut world = World::new();
    world.commit(vec![put("a", toy(1))], Options::default());
    world.kernel.remove("a");
    world.scheduler.lost(&[key("a")]);
    let result = world.commit(vec![remove("a")], Options::default());
    assert_eq!(flags(&world, result.seq), ["NOOP ALREADY-MISSING"]);
    assert!(world.log.iter().all(|step| !matches!(step, Do::Delete(_))));
}

#[test]
fn discovered_value_as_desired_is_confirmed_without_a_record() {
    let mut world = World::new();
    world.kernel.insert("a".into(), toy(1));
    world.put("a", toy(1));
    world.scheduler.found(vec![(key("a"), toy(1))]);
    world.run();
    assert_eq!(
        world
            .scheduler
            .history()
            .records()
            .map(|record| record.executed().count())
            .sum::<usize>(),
        0
    );
    let states: Vec<ValueState> = world
        .scheduler
        .extract(&Scope::All)
        .timeline(&key("a"))
        .iter()
        .map(|revision| revision.state)
        .collect();
    assert_eq!(states, [ValueState::Discovered, ValueState::Configured], "must be in the timeline");
}

#[test]
fn creation_that_waited_is_one_operation() {
    let mut world = World::new();
    let result = world.commit(vec![put("b", needing(&["z"])), put("z", toy(1))], Options::default());
    assert_eq!(
        world.account(result.seq),
        ["CREATE z NONEXISTENT -> CONFIGURED", "CREATE b NONEXISTENT -> CONFIGURED"]
    );
}

#[test]
fn consecutive_operations_on_a_key_are_merged() {
    use crate::history::record::{OperationFlags, compress};
    let side = |state| Side {
        state,
        value: Some(toy(1)),
        error: None,
    };
    let operation = |key_text: &str, verb, before, after| OperationRecord {
        at: Duration::ZERO,
        key: key(key_text),
        verb,
        before: side(before),
        after: side(after),
        flags: OperationFlags::default(),
    };
    use ValueState::{Configured, Pending, Removed};
    let merged = compress(vec![
        operation("a", Verb::Create, Removed, Pending),
        operation("b", Verb::Create, Removed, Configured),
        operation("a", Verb::Create, Pending, Configured),
        operation("c", Verb::Delete, Configured, Pending),
        operation("c", Verb::Delete, Pending, Removed),
    ]);
    let words: Vec<String> = merged
        .iter()
        .map(|operation| {
            format!(
                "{} {} {} {}",
                operation.verb, operation.key, operation.before.state, operation.after.state
            )
        })
        .collect();
    assert_eq!(
        words,
        [
            "CREATE b REMOVED CONFIGURED",
            "CREATE a REMOVED CONFIGURED",
            "DELETE c CONFIGURED REMOVED"
        ]
    );
}

#[test]
fn history_is_bounded_by_transactions_operations_and_age() {
    let mut world = World::new();
    world.scheduler.set_history(keep(3, 1000));
    for content in 0..10 {
        world.commit(vec![put("a", toy(content))], Options::default());
    }
    let kept = |world: &World| world.scheduler.history().records().map(|record| record.seq).collect::<Vec<_>>();
    assert_eq!(kept(&world), [7, 8, 9]);
    world.scheduler.set_history(keep(3, 2));
    assert_eq!(kept(&world), [9], "operations and values must count against the limit");
    world.now += Duration::from_secs(24 * 60 * 60 + 1);
    world.run();
    assert!(kept(&world).is_empty());
    world.scheduler.set_history(HistorySettings {
        enabled: false,
        ..HistorySettings::default()
    });
    let result = world.commit(vec![put("a", toy(99))], Options::default());
    assert!(kept(&world).is_empty() && result.errors.is_empty());
}

#[test]
fn large_transaction_does_not_fill_the_history() {
    let mut world = World::new();
    world.scheduler.set_history(keep(10, 40));
    let changes = (0..100).map(|at| put(&format!("v/{at:03}"), toy(1))).collect();
    let result = world.commit(changes, Options::default());
    let record = world.record(result.seq);
    assert_eq!((record.operations.len(), record.omitted, record.values.len()), (10, 90, 10));
    let statistics = world.scheduler.statistics();
    assert_eq!(
        (statistics.operations[&Verb::Create], statistics.states[&ValueState::Configured]),
        (100, 100)
    );
}

#[test]
fn operations_are_counted_without_a_history() {
    let mut world = World::new();
    world.scheduler.set_history(HistorySettings {
        enabled: false,
        ..HistorySettings::default()
    });
    world.commit(vec![put("a", toy(1))], Options::default());
    let statistics = world.scheduler.statistics();
    assert_eq!(
        (statistics.operations[&Verb::Create], statistics.states[&ValueState::Configured]),
        (1, 1)
    );
}

#[test]
fn timelines_of_derived_values_show_failures_that_the_timeline_of_the_base_does_not() {
    let mut world = World::new();
    world.fail = Box::new(|key, _| (key == "a/1").then(|| transient("refused")));
    let derives = vec!["a/0".into(), "a/1".into()];
    world.commit(vec![put("a", Toy { derives, ..toy(1) })], Options::default());
    world.now += Duration::from_secs(60);
    world.commit(vec![put("a", toy(1))], Options::default());
    let extract = world.scheduler.extract(&Scope::All);
    let states = |revisions: Vec<Revision<Key, Toy>>| -> Vec<(String, ValueState)> {
        let states = revisions.into_iter().map(|revision| (revision.key, revision.state));
        states.collect()
    };
    assert!(
        states(extract.timeline(&key("a")))
            .iter()
            .all(|(_, state)| *state == ValueState::Configured)
    );
    let derived = states(extract.timelines_of_derived(&key("a")));
    assert!(derived.contains(&("a/0".into(), ValueState::Configured)), "{derived:?}");
    assert!(derived.contains(&("a/1".into(), ValueState::Retrying)), "{derived:?}");
    assert!(extract.timelines_of_derived(&key("a/0")).is_empty());
}

#[test]
fn timeline_contains_states_and_times_of_a_key() {
    let mut world = World::new();
    let start = world.now;
    let minute = Duration::from_secs(60);
    world.commit(vec![put("b", needing(&["a"]))], Options::default());
    world.now += minute;
    world.commit(
        vec![put(
            "a",
            Toy {
                derives: vec!["unknown/p".into()],
                ..toy(1)
            },
        )],
        Options::default(),
    );
    world.now += minute;
    world.commit(vec![remove("a")], Options::default());
    let reported: Vec<_> = world
        .scheduler
        .extract(&Scope::All)
        .timeline(&key("b"))
        .iter()
        .map(|revision| (revision.state, revision.since, revision.until, revision.seq))
        .collect();
    assert_eq!(
        reported,
        [
            (ValueState::Pending, start, Some(start + minute), Some(0)),
            (ValueState::Configured, start + minute, Some(start + 2 * minute), Some(1)),
            (ValueState::Pending, start + 2 * minute, None, Some(2)),
        ]
    );
    let keys = |time| {
        world
            .scheduler
            .extract(&Scope::All)
            .snapshot(Some(time))
            .into_iter()
            .map(|revision| revision.key.to_string())
            .collect::<Vec<_>>()
    };
    assert_eq!(keys(start + minute / 2), ["b"]);
    assert_eq!(keys(start + minute + minute / 2), ["a", "b", "unknown/p"]);
    assert!(keys(start).is_empty());
    let now = world.scheduler.extract(&Scope::All).snapshot(None);
    assert_eq!(now.len(), 1);
    assert_eq!(
        (now[0].targets[0].relation, now[0].targets[0].expected.as_ref()),
        (Relation::DependsOn, "a")
    );
}

#[test]
fn current_snapshot_does_not_depend_on_the_history() {
    let mut world = World::new();
    world.scheduler.set_history(keep(1, 1000));
    world.commit(
        vec![put(
            "a",
            Toy {
                derives: vec!["d".into()],
                ..toy(1)
            },
        )],
        Options::default(),
    );
    world.commit(vec![put("b", needing(&["d"]))], Options::default());
    let snapshot = world.scheduler.extract(&Scope::All).snapshot(None);
    let keys: Vec<&str> = snapshot.iter().map(|revision| revision.key.as_str()).collect();
    assert_eq!(keys, ["a", "b", "d"]);
    assert_eq!((snapshot[2].derived_from.clone(), snapshot[0].seq), (Some(key("a")), Some(0)));
    assert_eq!(snapshot[1].targets[0].matching, [key("d")]);
    assert_eq!(snapshot[0].targets[0].relation.text(), "derives");
}

#[test]
fn flags_are_counted_and_unknown_flag_names_rejected() {
    let mut world = World::new();
    world.commit(vec![put("a", toy(1)), put("b", needing(&["x"]))], Options::default());
    world.commit(vec![put("a", toy(2))], Options::default());
    let states = world.scheduler.extract(&Scope::All).flag_statistics(Flag::ValueState, |_| true);
    let counts: Vec<(&str, usize)> = states.per_value_count.iter().map(|(text, count)| (text.as_str(), *count)).collect();
    assert_eq!((states.total_count, counts), (3, vec![("CONFIGURED", 2), ("PENDING", 1)]));
    assert_eq!(
        world
            .scheduler
            .extract(&Scope::All)
            .flag_statistics(Flag::Descriptor, |_| true)
            .per_value_count["toy"],
        3
    );
    let unavailable = world.scheduler.extract(&Scope::All).flag_statistics(Flag::Unavailable, |_| true);
    assert_eq!((unavailable.total_count, unavailable.per_value_count[""]), (1, 1));
    assert_eq!(
        (Flag::named("value-state"), Flag::named("no such flag")),
        (Some(Flag::ValueState), None)
    );
    let names: Vec<&str> = Flag::ALL.iter().map(|flag| flag.name()).collect();
    assert_eq!(
        names,
        ["last-update", "error", "value-state", "unavailable", "descriptor", "derived"]
    );
}
