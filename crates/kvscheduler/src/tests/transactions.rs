//! Transactions: options, results, assignment of operations, revert, dry run, and resync scopes.

use super::*;
use crate::history::record::Origin;

fn reverting() -> Options {
    Options {
        revert: true,
        ..Options::default()
    }
}

fn failing_on(key: &'static str, verb: Verb) -> Sabotage {
    Box::new(move |at, doing| (at == key && doing == verb).then(|| transient("simulated failure")))
}

fn never_again() -> Fault {
    Fault {
        kind: FaultKind::Persistent,
        reason: "Toy",
        message: "permanent".into(),
        kernel: None,
    }
}

#[test]
fn transactions_are_numbered_from_zero_in_start_order() {
    let mut world = World::new();
    let first = world.commit(vec![put("a", toy(1))], Options::default());
    let empty = world.commit(vec![], Options::default());
    world.fact("fact/1", true);
    world.run();
    let last = world.commit(vec![remove("a")], Options::default());
    assert_eq!((first.seq, empty.seq, last.seq), (0, 1, 3), "number 2 must be the notification");
    assert_eq!(world.record(2).kind, Kind::Notification);
    assert!(world.record(1).operations.is_empty(), "empty transactions must be recorded");
}

#[test]
fn downstream_resync_with_changes_is_rejected() {
    let mut world = World::new();
    let refused = world
        .scheduler
        .transact(Transaction::resync(Resync::Downstream, vec![put("a", toy(1))]));
    let text = refused.expect_err("rejected").to_string();
    assert_eq!(text, "downstream resync combined with data changes in one transaction");
    world.run();
    assert!(
        world.kernel.is_empty() && world.statuses.is_empty(),
        "a rejected transaction must change nothing"
    );
}

#[test]
fn resync_with_revert_is_rejected() {
    for resync in [Resync::Full, Resync::Upstream, Resync::Downstream] {
        let mut transaction = Transaction::<Key, Toy>::resync(resync, vec![]);
        transaction.options.revert = true;
        let text = transaction.check().expect_err("rejected").to_string();
        assert_eq!(text, "it is not supported to combine resync with revert");
    }
}

#[test]
fn result_has_key_operation_and_error_of_each_failure() {
    let mut world = World::new();
    world.fail = failing_on("b", Verb::Create);
    let result = world.commit(vec![put("a", toy(1)), put("b", toy(1))], Options::default());
    assert_eq!(result.to_string(), "KeyErrors: [b (CREATE): simulated failure]");
    assert_eq!(result.errors[0].state, ValueState::Retrying);
    assert_eq!(world.state("a"), Some(ValueState::Configured), "other values must still be applied");
}

#[test]
fn invalid_value_is_an_error_of_its_transaction() {
    let mut world = World::new();
    let result = world.commit(vec![unusable("a", "bad field")], Options::default());
    assert_eq!(result.to_string(), "KeyErrors: [a (CREATE): bad field]");
    assert_eq!(world.account(result.seq), ["CREATE a NOOP NONEXISTENT -> INVALID"]);
    let again = world.commit(vec![unusable("a", "bad field")], Options::default());
    assert_eq!(again.errors.len(), 1, "the error must be reported again");
}

#[test]
fn transaction_is_finished_after_all_operations_that_it_caused() {
    let mut world = World::new();
    world.put("c", needing(&["b"]));
    world.put("b", needing(&["a"]));
    world.run();
    let options = Options {
        awaited: true,
        ..Options::default()
    };
    let changes = vec![put("a", toy(1))];
    let seq = world.scheduler.transact(Transaction { changes, options }).expect("acceptable");
    for expected in ["a", "b", "c"] {
        assert!(world.scheduler.take_finished().is_empty(), "the result must wait for {expected}");
        world.round();
        assert!(world.kernel.contains_key(expected));
    }
    world.round();
    assert_eq!(
        world.scheduler.take_finished().iter().map(|result| result.seq).collect::<Vec<_>>(),
        [seq]
    );
    assert_eq!(
        world.account(seq),
        [
            "CREATE a NONEXISTENT -> CONFIGURED",
            "CREATE b PENDING -> CONFIGURED",
            "CREATE c PENDING -> CONFIGURED"
        ]
    );
}

#[test]
fn operation_is_attributed_to_the_transaction_that_caused_it() {
    let mut world = World::new();
    let waiting = world.commit(
        vec![put(
            "b",
            Toy {
                derives: vec!["d".into()],
                ..needing(&["a"])
            },
        )],
        Options::default(),
    );
    assert_eq!(world.account(waiting.seq), ["CREATE b NOOP NONEXISTENT -> PENDING"]);
    let causing = world.commit(vec![put("a", toy(1))], Options::default());
    assert_eq!(
        world.account(causing.seq),
        [
            "CREATE a NONEXISTENT -> CONFIGURED",
            "CREATE b PENDING -> CONFIGURED",
            "CREATE d NONEXISTENT -> CONFIGURED"
        ]
    );
    world.fact("fact/1", true);
    world.run();
    assert!(
        world
            .scheduler
            .history()
            .records()
            .next_back()
            .is_some_and(|record| record.kind == Kind::Notification)
    );
}

#[test]
fn concurrent_transactions_record_their_own_operations() {
    let mut world = World::new();
    let options = || Options {
        awaited: true,
        ..Options::default()
    };
    world.fail = failing_on("b", Verb::Create);
    let first = world
        .scheduler
        .transact(Transaction {
            changes: vec![put("a", toy(1))],
            options: options(),
        })
        .expect("acceptable");
    let second = world
        .scheduler
        .transact(Transaction {
            changes: vec![put("b", toy(1))],
            options: options(),
        })
        .expect("acceptable");
    world.run();
    let finished = world.scheduler.take_finished();
    assert_eq!(
        finished.iter().map(|result| (result.seq, result.errors.len())).collect::<Vec<_>>(),
        [(first, 0), (second, 1)]
    );
    assert_eq!(world.account(first), ["CREATE a NONEXISTENT -> CONFIGURED"]);
}

#[test]
fn later_transaction_takes_over_a_key_and_finishes_the_earlier_one() {
    let mut world = World::new();
    let options = || Options {
        awaited: true,
        ..Options::default()
    };
    let earlier = world
        .scheduler
        .transact(Transaction {
            changes: vec![put("a", toy(1))],
            options: options(),
        })
        .expect("acceptable");
    let later = world
        .scheduler
        .transact(Transaction {
            changes: vec![put("a", toy(2))],
            options: options(),
        })
        .expect("acceptable");
    world.run();
    assert_eq!(world.scheduler.take_finished().len(), 2);
    assert!(world.account(earlier).is_empty());
    assert_eq!(world.account(later), ["CREATE a NONEXISTENT -> CONFIGURED"]);
}

#[test]
fn retry_policy_bounds_the_attempts_before_the_value_is_failed() {
    let mut world = World::new();
    world.fail = Box::new(|_, _| Some(transient("never")));
    let retry = Retry {
        first: Duration::from_secs(3),
        attempts: Some(2),
        ..Retry::default()
    };
    world.commit(
        vec![put("a", toy(1))],
        Options {
            retry: Some(retry),
            ..Options::default()
        },
    );
    let mut delays = Vec::new();
    while let Some(deadline) = world.scheduler.next_deadline() {
        assert_eq!(world.state("a"), Some(ValueState::Retrying));
        delays.push((deadline - world.now).as_secs());
        world.now = deadline;
        world.run();
    }
    assert_eq!(delays, [3, 6]);
    assert_eq!((world.state("a"), world.statuses["a"].next_retry), (Some(ValueState::Failed), None));
    world.fail = Box::new(|_, _| None);
    world.commit(vec![put("a", toy(2))], Options::default());
    assert_eq!(world.state("a"), Some(ValueState::Configured), "a change must reset the retries");
}

#[test]
fn retry_policy_without_attempts_fails_immediately() {
    let mut world = World::new();
    world.fail = Box::new(|_, _| Some(transient("never")));
    let retry = Some(Retry {
        attempts: Some(0),
        ..Retry::default()
    });
    let result = world.commit(
        vec![put("a", toy(1))],
        Options {
            retry,
            ..Options::default()
        },
    );
    assert_eq!(
        (result.errors[0].state, world.scheduler.next_deadline()),
        (ValueState::Failed, None)
    );
}

#[test]
fn transaction_without_retry_option_keeps_the_retry_policy() {
    let mut world = World::new();
    world.fail = Box::new(|_, _| Some(transient("never")));
    let retry = Retry {
        first: Duration::from_secs(7),
        doubling: false,
        ..Retry::default()
    };
    world.commit(
        vec![put("a", toy(1)), put("b", toy(1))],
        Options {
            retry: Some(retry),
            ..Options::default()
        },
    );
    world.commit(vec![put("a", toy(2))], Options::default());
    world
        .scheduler
        .transact(Transaction::resync(Resync::Downstream, vec![]))
        .expect("acceptable");
    world.run();
    for text in ["a", "b"] {
        let next = world.statuses[text].next_retry.expect("a retry must be scheduled");
        assert_eq!(
            (world.state(text), (next - world.now).as_secs()),
            (Some(ValueState::Retrying), 7),
            "{text}"
        );
    }
}

#[test]
fn retry_policy_is_per_value_and_inherited_by_derived_values() {
    let mut world = World::new();
    world.fail = Box::new(|key, _| (key != "a").then(|| transient("never")));
    let retry = Some(Retry {
        first: Duration::from_secs(5),
        ..Retry::default()
    });
    world.commit(
        vec![put(
            "a",
            Toy {
                derives: vec!["d".into()],
                ..Toy::default()
            },
        )],
        Options {
            retry,
            ..Options::default()
        },
    );
    world.commit(vec![put("b", toy(1))], Options::default());
    let delay = |world: &World, text: &str| (world.statuses[text].next_retry.expect("planned") - world.now).as_secs();
    assert_eq!((delay(&world, "a"), delay(&world, "b")), (5, 1));
}

#[test]
fn retry_is_a_transaction_that_names_the_failed_one() {
    let mut world = World::new();
    let failed = {
        let mut left = 2;
        world.fail = Box::new(move |_, _| {
            left -= 1;
            (left >= 0).then(|| transient("not yet"))
        });
        world.commit(vec![put("a", toy(1))], Options::default())
    };
    world.run_out_retries();
    let kinds: Vec<Kind> = world.scheduler.history().records().map(|record| record.kind).collect();
    let retry = |attempt| Kind::Retry { of: failed.seq, attempt };
    assert_eq!(kinds, [Kind::Northbound, retry(1), retry(2)]);
    assert_eq!(world.account(1), ["CREATE a RETRYING -> RETRYING"]);
    assert_eq!(world.account(2), ["CREATE a RETRYING -> CONFIGURED"]);
    assert!(world.record(2).operations[0].flags.retry);
}

#[test]
fn unimplemented_values_are_applied_when_their_descriptor_appears() {
    let mut world = World::new();
    let domain = world.scheduler.domain().clone();
    world.put("unknown/a", toy(1));
    world.run();
    assert_eq!(world.state("unknown/a"), Some(ValueState::Unimplemented));
    domain.knows_all.store(true, std::sync::atomic::Ordering::Relaxed);
    world.scheduler.descriptor_appeared("unknown/");
    world.run();
    assert_eq!(world.state("unknown/a"), Some(ValueState::Configured));
    let last = world.scheduler.history().records().next_back().expect("recorded");
    assert_eq!((last.kind, last.values.len()), (Kind::Unimplemented, 1));
    assert_eq!(world.account(last.seq), ["CREATE unknown/a UNIMPLEMENTED -> CONFIGURED"]);
}

#[test]
fn revert_restores_the_previous_values() {
    let mut world = World::new();
    world.commit(vec![put("a", toy(1)), put("b", toy(1)), put("gone", toy(1))], Options::default());
    world.fail = failing_on("z", Verb::Create);
    let changes = vec![put("a", toy(2)), put("new", toy(1)), put("z", needing(&["a"])), remove("gone")];
    let result = world.commit(changes, reverting());
    assert_eq!(
        result.to_string(),
        "KeyErrors: [z (CREATE): simulated failure]",
        "the result must contain the original failure"
    );
    assert!(result.reverted);
    let kernel: Vec<(&str, u32)> = world.kernel.iter().map(|(key, value)| (key.as_str(), value.content)).collect();
    assert_eq!(kernel, [("a", 1), ("b", 1), ("gone", 1)]);
    let reverts: Vec<String> = world
        .record(result.seq)
        .executed()
        .filter(|operation| operation.flags.revert)
        .map(|operation| format!("{} {}", operation.verb, operation.key))
        .collect();
    assert_eq!(
        reverts,
        ["DELETE new", "DELETE z", "UPDATE a", "CREATE gone"],
        "deletions must come first, except those of dependencies of other values"
    );
    assert_eq!(world.scheduler.next_deadline(), None);
}

#[test]
fn revertible_transaction_with_invalid_value_applies_nothing() {
    let mut world = World::new();
    world.commit(vec![put("a", toy(1))], Options::default());
    world.log.clear();
    let result = world.commit(vec![put("a", toy(2)), unusable("b", "bad"), put("c", toy(1))], reverting());
    assert_eq!(result.to_string(), "KeyErrors: [b (CREATE): bad]");
    assert!(world.log.is_empty(), "{:?}", world.log);
    assert_eq!(
        (world.state("a"), world.state("b"), world.state("c")),
        (Some(ValueState::Configured), None, None)
    );
}

#[test]
fn pending_value_does_not_cause_a_revert() {
    let mut world = World::new();
    let result = world.commit(vec![put("a", toy(1)), put("b", needing(&["nothing"]))], reverting());
    assert!(result.errors.is_empty() && !result.reverted);
    assert_eq!(world.state("b"), Some(ValueState::Pending));
}

#[test]
fn failed_dependent_outside_the_transaction_does_not_cause_a_revert() {
    let mut world = World::new();
    world.commit(vec![put("b", needing(&["a"]))], Options::default());
    world.fail = failing_on("b", Verb::Create);
    let result = world.commit(vec![put("a", toy(1))], reverting());
    assert_eq!(
        (result.to_string().as_str(), result.reverted),
        ("KeyErrors: [b (CREATE): simulated failure]", false)
    );
    assert_eq!(world.state("a"), Some(ValueState::Configured));
}

#[test]
fn failed_derived_value_reverts_the_transaction_of_its_base() {
    let mut world = World::new();
    world.fail = failing_on("d", Verb::Create);
    let result = world.commit(
        vec![put(
            "a",
            Toy {
                derives: vec!["d".into()],
                ..Toy::default()
            },
        )],
        reverting(),
    );
    assert!(result.reverted && world.kernel.is_empty() && world.statuses.is_empty());
}

#[test]
fn failed_revert_is_reported_and_does_not_loop() {
    let mut world = World::new();
    world.commit(vec![put("a", toy(1))], Options::default());
    world.fail = Box::new(|key, verb| match (key, verb) {
        ("z", Verb::Create) => Some(transient("original")),
        ("b", Verb::Delete) => Some(transient("busy")),
        _ => None,
    });
    let result = world.commit(vec![put("a", toy(2)), put("b", toy(1)), put("z", needing(&["b"]))], reverting());
    let reported: Vec<(String, bool)> = result.errors.iter().map(|error| (error.error.clone(), error.in_revert)).collect();
    assert_eq!(reported, [("original".to_owned(), false), ("busy".to_owned(), true)]);
    assert_eq!(world.kernel["a"].content, 1);
    world.fail = Box::new(|_, _| None);
    world.run_out_retries();
    assert_eq!(
        world.kernel.keys().collect::<Vec<_>>(),
        ["a"],
        "the rest of the revert must be retried like other values"
    );
}

#[test]
fn revert_keeps_values_of_a_later_transaction() {
    let mut world = World::new();
    world.commit(vec![put("a", toy(1))], Options::default());
    world.fail = failing_on("z", Verb::Create);
    let changes = vec![put("a", toy(2)), put("z", toy(1))];
    world
        .scheduler
        .transact(Transaction {
            changes,
            options: reverting(),
        })
        .expect("acceptable");
    let operations = world.scheduler.step(world.now);
    world.put("a", toy(3));
    for operation in operations {
        let outcome = world.perform(operation.key.as_str(), operation.verb, operation.steps);
        world.scheduler.outcome(operation.id, outcome);
    }
    world.run();
    assert_eq!(
        world
            .kernel
            .iter()
            .map(|(key, value)| (key.as_str(), value.content))
            .collect::<Vec<_>>(),
        [("a", 3)]
    );
}

#[test]
fn revert_restores_pending_values() {
    let mut world = World::new();
    world.commit(vec![put("a", toy(1)), put("p", needing(&["nothing"]))], Options::default());
    world.fail = failing_on("a", Verb::Delete);
    let result = world.commit(vec![remove("a"), remove("p")], reverting());
    assert!(result.reverted);
    assert_eq!(
        (world.state("a"), world.state("p")),
        (Some(ValueState::Configured), Some(ValueState::Pending))
    );
}

#[test]
fn dry_run_returns_the_operations_and_changes_nothing() {
    let mut world = World::new();
    world.commit(vec![put("a", toy(1)), put("b", needing(&["a"]))], Options::default());
    let changes = vec![
        put("a", Toy { shape: 1, ..toy(1) }),
        put("c", needing(&["nothing"])),
        unusable("e", "bad"),
        remove("gone"),
    ];
    let planned = world.scheduler.simulate(Transaction::of(changes)).expect("acceptable");
    let planned: Vec<_> = planned.into_iter().map(|planned| planned.operation).collect();
    let words: Vec<String> = planned
        .iter()
        .map(|operation| format!("{} {} {}", operation.verb, operation.key, operation.after.state))
        .collect();
    assert_eq!(
        words,
        [
            "CREATE c PENDING",
            "CREATE e INVALID",
            "DELETE b PENDING",
            "DELETE a REMOVED",
            "CREATE a CONFIGURED",
            "CREATE b CONFIGURED"
        ],
        "the plan must include validation failures"
    );
    assert!(
        planned
            .iter()
            .filter(|operation| operation.key.as_str() == "a")
            .all(|operation| operation.flags.recreate)
    );
    world.log.clear();
    world.run();
    assert!(world.log.is_empty() && world.state("c").is_none());
    assert_eq!(world.scheduler.history().records().count(), 1);
}

#[test]
fn dry_run_returns_the_differences() {
    let mut world = World::new();
    world.commit(vec![put("a", toy(1)), put("b", toy(1)), put("c", toy(1))], Options::default());
    let changes = vec![
        put("a", toy(2)),
        put("b", Toy { shape: 1, ..toy(1) }),
        put("d", toy(1)),
        remove("c"),
    ];
    let planned = world.scheduler.simulate(Transaction::of(changes)).expect("acceptable");
    let words = planned.iter().map(|planned| {
        let remake = if planned.comparison.needs_recreate() { " (again)" } else { "" };
        format!(
            "{} {}: {}{remake}",
            planned.operation.verb, planned.operation.key, planned.comparison
        )
    });
    assert_eq!(
        words.collect::<Vec<_>>(),
        [
            "DELETE b: its shape was changed (again)",
            "DELETE c: ",
            "UPDATE a: its content was changed",
            "CREATE d: ",
            "CREATE b: ",
        ]
    );
}

#[test]
fn dry_run_predicts_a_conflict() {
    let mut world = World::new();
    let claimer = || Toy {
        claims: vec!["eth0".into()],
        ..Toy::default()
    };
    world.commit(vec![put("a", claimer())], Options::default());
    let planned = world
        .scheduler
        .simulate(Transaction::of(vec![put("b", claimer())]))
        .expect("acceptable");
    assert_eq!(
        planned[0].operation.after.error.as_deref(),
        Some("eth0 is taken by a; change one of the two")
    );
}

#[test]
fn record_of_a_simulated_transaction_contains_its_plan() {
    let mut world = World::new();
    world.fail = failing_on("a", Verb::Create);
    let result = world.commit(
        vec![put("a", toy(1))],
        Options {
            simulate: true,
            ..Options::default()
        },
    );
    let record = world.record(result.seq);
    let planned = record.planned.as_ref().expect("the record must contain the plan");
    assert_eq!((planned.len(), planned[0].after.state), (1, ValueState::Configured));
    assert_eq!(record.operations[0].after.state, ValueState::Retrying);
}

#[test]
fn full_resync_reads_the_kernel_and_upstream_resync_does_not() {
    let mut world = World::new();
    world.commit(vec![put("a", toy(1)), put("b", toy(1))], Options::default());
    world.kernel.remove("a");
    let upstream = Options {
        resync: Resync::Upstream,
        ..Options::default()
    };
    world.commit(vec![put("a", toy(1))], upstream);
    assert!(world.kernel.is_empty(), "b must be deleted, and the loss of a must go unnoticed");
    let full = Options {
        resync: Resync::Full,
        verbose: true,
        ..Options::default()
    };
    let result = world.commit(vec![put("a", toy(1))], full);
    assert_eq!(world.account(result.seq), ["CREATE a MISSING -> CONFIGURED"]);
}

#[test]
fn downstream_resync_repairs_drift_and_retries_failed_values() {
    let mut world = World::new();
    world.fail = failing_on("c", Verb::Create);
    world.commit(vec![put("a", toy(1)), put("b", toy(1)), put("c", toy(1))], Options::default());
    world.fail = Box::new(|_, _| None);
    world.kernel.remove("a");
    world.kernel.insert("b".into(), toy(9));
    world.kernel.insert("left".into(), toy(1));
    let result = world.commit(
        vec![],
        Options {
            resync: Resync::Downstream,
            ..Options::default()
        },
    );
    let kernel: Vec<(&str, u32)> = world.kernel.iter().map(|(key, value)| (key.as_str(), value.content)).collect();
    assert_eq!(kernel, [("a", 1), ("b", 1), ("c", 1)]);
    let mut account = world.account(result.seq);
    account.sort();
    assert_eq!(
        account,
        [
            "CREATE a MISSING -> CONFIGURED",
            "CREATE c RETRYING -> CONFIGURED",
            "DELETE left DISCOVERED -> REMOVED",
            "UPDATE b CONFIGURED -> CONFIGURED"
        ]
    );
    assert!(world.record(result.seq).values.is_empty(), "the desired values must be unchanged");
}

#[test]
fn resync_without_differences_does_nothing() {
    let mut world = World::new();
    world.commit(vec![put("a", toy(1)), put("b", needing(&["a"]))], Options::default());
    world.log.clear();
    for resync in [Resync::Full, Resync::Upstream, Resync::Downstream] {
        let changes = if resync == Resync::Downstream {
            vec![]
        } else {
            vec![put("a", toy(1)), put("b", needing(&["a"]))]
        };
        let result = world.commit(
            changes,
            Options {
                resync,
                ..Options::default()
            },
        );
        assert!(
            world.record(result.seq).operations.is_empty(),
            "{resync:?}: {:?}",
            world.account(result.seq)
        );
    }
    assert!(world.log.is_empty());
}

#[test]
fn verification_reports_differences_to_the_kernel() {
    let mut world = World::new();
    let verifying = || Options {
        verify: true,
        awaited: true,
        ..Options::default()
    };
    world.commit(vec![put("gone", toy(1))], Options::default());
    let changes = vec![put("a", toy(1)), put("b", toy(1)), put("c", toy(1)), remove("gone")];
    world
        .scheduler
        .transact(Transaction {
            changes,
            options: verifying(),
        })
        .expect("acceptable");
    let operations = world.scheduler.step(world.now);
    for operation in operations {
        let outcome = world.perform(operation.key.as_str(), operation.verb, operation.steps);
        world.scheduler.outcome(operation.id, outcome);
    }
    world.kernel.remove("a");
    world.kernel.insert("b".into(), toy(7));
    world.kernel.insert("gone".into(), toy(1));
    world.run();
    let result = world.scheduler.take_finished().remove(0);
    let mut reported: Vec<String> = result
        .errors
        .iter()
        .map(|error| format!("{}: {}", error.key, error.error))
        .collect();
    reported.sort();
    assert_eq!(
        reported,
        [
            "a: value is not actually configured",
            "b: the applied value differs from the value read back",
            "gone: the deleted value still exists"
        ]
    );
    let kernel: Vec<(&str, u32)> = world.kernel.iter().map(|(key, value)| (key.as_str(), value.content)).collect();
    assert_eq!(kernel, [("a", 1), ("b", 1), ("c", 1)], "differences must be repaired");
}

/// The kernel chooses the settings that a value leaves unset. These settings are part of the observed value, but do not count as
/// a difference.
#[test]
fn verification_accepts_an_observed_value_that_is_as_desired() {
    let mut world = World::new();
    let options = Options {
        verify: true,
        awaited: true,
        ..Options::default()
    };
    let changes = vec![put("a", toy(1))];
    world.scheduler.transact(Transaction { changes, options }).expect("acceptable");
    for operation in world.scheduler.step(world.now) {
        let outcome = world.perform(operation.key.as_str(), operation.verb, operation.steps);
        world.scheduler.outcome(operation.id, outcome);
    }
    let chosen = Toy {
        claims: vec!["chosen by the kernel".into()],
        ..toy(1)
    };
    world.kernel.insert("a".into(), chosen);
    world.run();
    let result = world.scheduler.take_finished().remove(0);
    assert!(result.errors.is_empty(), "{result:?}");
}

#[test]
fn verification_without_differences_reports_nothing() {
    let mut world = World::new();
    let result = world.commit(
        vec![put("a", toy(1))],
        Options {
            verify: true,
            ..Options::default()
        },
    );
    assert!(result.errors.is_empty());
}

#[test]
fn notification_records_only_the_facts_that_changed() {
    let mut world = World::new();
    world.put("a", needing(&["fact/2"]));
    world.run();
    world.fact("fact/1", false);
    world.fact("fact/2", true);
    world.fact("fact/3", true);
    world.run();
    assert_eq!(world.state("a"), Some(ValueState::Configured));
    let record = world.scheduler.history().records().next_back().expect("recorded");
    let values: Vec<(&str, Origin)> = record.values.iter().map(|value| (value.key.as_str(), value.origin)).collect();
    assert_eq!(
        values,
        [("fact/2", Origin::FromSB), ("fact/3", Origin::FromSB)],
        "an unchanged fact must not be recorded"
    );
    assert_eq!(world.account(record.seq)[0], "CREATE fact/2 NONEXISTENT -> OBTAINED");
}

#[test]
fn failed_deletion_of_a_dependent_is_an_error_of_the_transaction() {
    let mut world = World::new();
    world.commit(vec![put("a", toy(1)), put("b", needing(&["a"]))], Options::default());
    world.fail = Box::new(|key, verb| (key == "b" && verb == Verb::Delete).then(never_again));
    let result = world.commit(vec![remove("a")], Options::default());
    assert_eq!(result.to_string(), "KeyErrors: [b (DELETE): permanent]");
    assert_eq!(world.kernel.len(), 2);
}
