//! Scheduler rules, one per test.

use super::*;

#[test]
fn pending_value_reports_label_and_explanation_of_its_dependency() {
    let mut world = World::new();
    world.put("b", needing(&["a"]));
    world.run();
    let status = &world.statuses["b"];
    assert_eq!(
        (status.state, status.details.as_slice()),
        (ValueState::Pending, &["needs-a".to_owned()][..])
    );
    assert_eq!(status.message, "waiting for needs-a: a does not exist");
    world.put("a", toy(1));
    world.run();
    assert_eq!(world.state("b"), Some(ValueState::Configured));
    assert_eq!(world.state("a"), Some(ValueState::Configured));
}

#[test]
fn explanation_follows_the_chain_of_pending_values() {
    let mut world = World::new();
    world.put("c", needing(&["b"]));
    world.put("b", needing(&["a"]));
    world.run();
    assert_eq!(
        world.statuses["c"].message,
        "waiting for needs-b: b is pending (needs-a: a does not exist)"
    );
}

#[test]
fn dependents_are_deleted_before_their_dependencies() {
    let mut world = World::new();
    world.put("a", toy(1));
    world.put("b", needing(&["a"]));
    world.put("c", needing(&["b"]));
    world.run();
    world.log.clear();
    world.delete("a");
    world.run();
    assert_eq!(world.log, [Do::Delete("c".into()), Do::Delete("b".into()), Do::Delete("a".into())]);
    assert_eq!((world.state("a"), world.state("b")), (None, Some(ValueState::Pending)));
}

#[test]
fn cycle_members_are_created_in_key_order_once_all_dependencies_exist() {
    let mut world = World::new();
    world.put("v2", needing(&["v1", "base"]));
    world.put("v1", needing(&["v2"]));
    world.run();
    assert_eq!(world.state("v1"), Some(ValueState::Pending));
    world.put("base", toy(0));
    world.run();
    assert_eq!(world.kernel.len(), 3);
    let order: Vec<_> = world
        .log
        .iter()
        .map(|step| if let Do::Create(key, _) = step { key.as_str() } else { "?" })
        .collect();
    assert_eq!(order, ["base", "v1", "v2"]);
}

#[test]
fn failed_cycle_member_does_not_delete_the_other() {
    let mut world = World::new();
    world.fail = Box::new(|key, _| (key == "v2").then(|| transient("no")));
    world.put("v1", needing(&["v2"]));
    world.put("v2", needing(&["v1"]));
    world.run();
    assert!(world.kernel.contains_key("v1"), "{:?}", world.log);
    assert_eq!(world.state("v2"), Some(ValueState::Retrying));
    world.fail = Box::new(|_, _| None);
    world.run_out_retries();
    assert_eq!(
        (world.state("v1"), world.state("v2")),
        (Some(ValueState::Configured), Some(ValueState::Configured))
    );
}

#[test]
fn removing_a_cycle_member_deletes_the_other_first() {
    let mut world = World::new();
    world.put("v1", needing(&["v2"]));
    world.put("v2", needing(&["v1"]));
    world.run();
    world.log.clear();
    world.delete("v1");
    world.run();
    assert_eq!(world.log, [Do::Delete("v2".into()), Do::Delete("v1".into())]);
    world.put("v1", needing(&["v2"]));
    world.run();
    assert_eq!(world.kernel.len(), 2);
    world.delete("v1");
    world.delete("v2");
    world.run();
    assert!(world.kernel.is_empty() && world.statuses.is_empty());
}

#[test]
fn recreating_a_cycle_member_recreates_the_other() {
    let mut world = World::new();
    world.put("v1", needing(&["v2"]));
    world.put("v2", needing(&["v1"]));
    world.run();
    world.log.clear();
    world.put(
        "v1",
        Toy {
            shape: 1,
            ..needing(&["v2"])
        },
    );
    world.run();
    assert_eq!(world.kernel.len(), 2);
    assert_eq!(world.log.iter().filter(|step| matches!(step, Do::Delete(_))).count(), 2);
    assert_eq!(world.state("v2"), Some(ValueState::Configured));
}

#[test]
fn invalid_update_keeps_and_reports_the_old_configuration() {
    let mut world = World::new();
    world.put("a", toy(1));
    world.put("b", needing(&["a"]));
    world.run();
    let rejection = Rejection {
        state: ValueState::Invalid,
        reason: "Bad",
        message: "bad field".into(),
        fields: vec!["f".into()],
    };
    world.change("a", Some(Err(rejection)));
    world.run();
    assert_eq!(world.state("a"), Some(ValueState::Invalid));
    assert_eq!(world.statuses["a"].message, "bad field; the previous configuration stays in place");
    assert_eq!(
        (world.kernel.get("a"), world.state("b")),
        (Some(&toy(1)), Some(ValueState::Configured))
    );
    world.put("a", toy(2));
    world.run();
    assert_eq!(
        (world.kernel.get("a"), world.state("a")),
        (Some(&toy(2)), Some(ValueState::Configured))
    );
    let rejection = Rejection {
        state: ValueState::Invalid,
        reason: "Bad",
        message: "bad".into(),
        fields: vec![],
    };
    world.change("a", Some(Err(rejection)));
    world.run();
    world.delete("a");
    world.run();
    assert!(world.kernel.is_empty(), "an old configuration must not outlive its invalid value");
}

#[test]
fn derived_values_follow_their_base_and_affect_its_status() {
    let mut world = World::new();
    world.fail = Box::new(|key, _| (key == "d2").then(|| transient("refused by the kernel")));
    let base = Toy {
        derives: vec!["d1".into(), "d2".into()],
        ..Toy::default()
    };
    world.put("a", base.clone());
    world.put("x", needing(&["d1"]));
    world.run();
    assert_eq!(world.state("a"), Some(ValueState::Retrying));
    assert_eq!(world.statuses["a"].error, "refused by the kernel");
    assert_eq!(
        world.state("x"),
        Some(ValueState::Configured),
        "a failure must not affect other values"
    );
    world.fail = Box::new(|_, _| None);
    world.run_out_retries();
    assert_eq!(world.state("a"), Some(ValueState::Configured));
    world.log.clear();
    world.put(
        "a",
        Toy {
            derives: vec!["d2".into(), "d3".into()],
            content: 5,
            ..Toy::default()
        },
    );
    world.run();
    let order: Vec<_> = world
        .log
        .iter()
        .map(|step| format!("{step:?}").split('(').next().unwrap_or("").to_owned())
        .collect();
    assert_eq!(
        order,
        ["Delete", "Delete", "Update", "Create"],
        "x and d1 must be deleted, the base updated, and d3 created"
    );
    world.delete("a");
    world.run();
    assert!(world.kernel.is_empty());
}

#[test]
fn retry_delays_double_up_to_a_minute_without_limit() {
    let mut world = World::new();
    world.fail = Box::new(|_, _| Some(transient("never")));
    world.put("a", toy(1));
    world.run();
    let mut delays = Vec::new();
    for _ in 0..10 {
        let deadline = world.scheduler.next_deadline().expect("a retry must be scheduled");
        delays.push((deadline - world.now).as_secs());
        world.now = deadline;
        world.run();
    }
    assert_eq!(delays, [1, 2, 4, 8, 16, 32, 60, 60, 60, 60]);
    assert_eq!(world.statuses["a"].next_retry, world.scheduler.next_deadline());
    world.put("a", toy(2));
    world.run();
    let deadline = world.scheduler.next_deadline().expect("a retry must be scheduled");
    assert_eq!((deadline - world.now).as_secs(), 1, "a new value must reset the back-off");
}

#[test]
fn failed_creation_of_an_immutable_value_waits_for_its_retry() {
    let mut world = World::new();
    world.fail = Box::new(|_, _| Some(transient("never")));
    let fixed = Toy { shape: FIXED, ..toy(1) };
    world.put("a", fixed);
    world.run();
    assert_eq!(world.state("a"), Some(ValueState::Retrying));
    let deadline = world.scheduler.next_deadline().expect("a retry must be scheduled");
    assert_eq!((deadline - world.now).as_secs(), 1);
}

/// Regression, simulator seed 20019034: a partly created link was never removed.
#[test]
fn remains_of_an_interrupted_creation_are_removed_when_no_longer_desired() {
    let mut world = World::new();
    world.put("a", needing(&["b"]));
    world.run();
    world.scheduler.observe(Observation {
        unfinished: vec![key("a")],
        ..Observation::default()
    });
    world.run();
    assert_eq!(world.log, []);
    world.delete("a");
    world.run();
    assert_eq!(world.log, [Do::Recover("a".into())]);
}

#[test]
fn retry_of_a_failed_creation_recovers_first() {
    let mut world = World::new();
    let mut first = true;
    world.fail = Box::new(move |_, _| std::mem::take(&mut first).then(|| transient("half done")));
    world.put("a", toy(1));
    world.run_out_retries();
    assert_eq!(world.log, [Do::Recover("a".into()), Do::Create("a".into(), toy(1))]);
}

#[test]
fn failed_deletion_of_a_dependent_blocks_deletion_of_its_dependency() {
    let mut world = World::new();
    world.put("a", toy(1));
    world.put("b", needing(&["a"]));
    world.run();
    world.fail = Box::new(|key, verb| (key == "b" && verb == Verb::Delete).then(|| transient("busy")));
    world.delete("a");
    world.run();
    assert_eq!(world.kernel.len(), 2, "a value must not be deleted before its dependents");
    assert_eq!(world.state("b"), Some(ValueState::Retrying));
    world.fail = Box::new(|_, _| None);
    world.run_out_retries();
    assert!(world.kernel.is_empty());
    assert_eq!(world.state("b"), Some(ValueState::Pending));
}

#[test]
fn implied_value_exists_as_long_as_any_value_implies_it() {
    let mut world = World::new();
    let user = |content| Toy {
        content,
        implies: vec!["ns".into()],
        ..needing(&["ns"])
    };
    world.put("a", user(1));
    world.put("b", user(1));
    world.run();
    assert_eq!(world.kernel.len(), 3);
    world.delete("a");
    world.run();
    assert!(world.kernel.contains_key("ns"));
    world.delete("b");
    world.run();
    assert!(world.kernel.is_empty());
    assert_eq!(world.log.last(), Some(&Do::Delete("ns".into())));
}

#[test]
fn second_claimant_is_invalid_until_the_first_is_deleted() {
    let mut world = World::new();
    let claimer = || Toy {
        claims: vec!["eth0 in ns1".into()],
        ..Toy::default()
    };
    world.put("a", claimer());
    world.run();
    world.put("b", claimer());
    world.run();
    assert_eq!(
        (world.state("b"), world.statuses["b"].reason.as_str()),
        (Some(ValueState::Invalid), "Conflict")
    );
    assert_eq!(world.statuses["b"].message, "eth0 in ns1 is taken by a; change one of the two");
    world.delete("a");
    world.run();
    assert_eq!(world.state("b"), Some(ValueState::Configured));
}

#[test]
fn claim_can_move_to_another_value_in_one_transaction() {
    let mut world = World::new();
    let claimer = || Toy {
        claims: vec!["eth0".into()],
        ..Toy::default()
    };
    world.put("a", claimer());
    world.run();
    world.put("b", claimer());
    world.delete("a");
    world.run();
    assert_eq!((world.state("a"), world.state("b")), (None, Some(ValueState::Configured)));
}

#[test]
fn observed_value_equal_to_desired_is_adopted_without_an_operation() {
    let mut world = World::new();
    world.kernel.insert("a".into(), toy(1));
    world.kernel.insert("b".into(), needing(&["a"]));
    world.put("a", toy(1));
    world.put("b", needing(&["a"]));
    world.scheduler.found(vec![(key("b"), needing(&["a"])), (key("a"), toy(1))]);
    world.run();
    assert!(world.log.is_empty(), "{:?}", world.log);
    assert_eq!(
        (world.state("a"), world.state("b")),
        (Some(ValueState::Configured), Some(ValueState::Configured))
    );
}

#[test]
fn observed_difference_is_updated_and_orphan_is_deleted() {
    let mut world = World::new();
    world.kernel.insert("a".into(), toy(1));
    world.kernel.insert("old".into(), toy(1));
    world.put("a", toy(2));
    world.scheduler.found(vec![(key("a"), toy(1)), (key("old"), toy(1))]);
    world.run();
    assert_eq!(world.log, [Do::Delete("old".into()), Do::Update("a".into(), toy(2))]);
}

#[test]
fn observed_value_is_not_deleted_before_facts_are_complete() {
    let mut world = World::new();
    world.scheduler = Scheduler::new(ToyDomain::default());
    world.kernel.insert("a".into(), needing(&["fact/container"]));
    world.put("a", needing(&["fact/container"]));
    world.scheduler.found(vec![(key("a"), needing(&["fact/container"]))]);
    world.run();
    assert!(world.log.is_empty(), "{:?}", world.log);
    world.fact("fact/container", true);
    world.scheduler.complete_facts();
    world.run();
    assert!(world.log.is_empty(), "{:?}", world.log);
    assert_eq!(world.state("a"), Some(ValueState::Configured));
    world.fact("fact/container", false);
    world.run();
    assert_eq!((world.kernel.len(), world.state("a")), (0, Some(ValueState::Pending)));
}

#[test]
fn observed_value_stays_while_a_provider_is_about_to_be_created() {
    let user = Toy {
        needs_any: vec!["p/".into()],
        ..Toy::default()
    };
    // The provider is created immediately, after a retry, or after its own dependency.
    for (fails, needs) in [(false, None), (true, None), (false, Some("z"))] {
        let mut world = World::new();
        world.kernel.insert("b".into(), user.clone());
        world.put("b", user.clone());
        world.put("p/x", needing(needs.as_slice()));
        world.put("z", toy(1));
        let mut left = u32::from(fails);
        world.fail = Box::new(move |key, _| {
            let refused = key == "p/x" && left > 0;
            left = left.saturating_sub(1);
            refused.then(|| transient("not yet"))
        });
        world.scheduler.found(vec![(key("b"), user.clone())]);
        world.run_out_retries();
        assert_eq!(world.state("b"), Some(ValueState::Configured));
        let touched = world
            .log
            .iter()
            .any(|step| matches!(step, Do::Delete(key) | Do::Create(key, _) if key == "b"));
        assert!(!touched, "{:?}", world.log);
    }
}

#[test]
fn observed_value_is_deleted_if_no_provider_can_be_created_before() {
    let user = Toy {
        needs_any: vec!["p/".into()],
        ..Toy::default()
    };
    let deriving = |child: &str, content| Toy {
        derives: vec![child.into()],
        content,
        ..Toy::default()
    };
    let mut world = World::new();
    for (key, value) in [("a", deriving("p/old", 1)), ("p/old", Toy::default()), ("b", user.clone())] {
        world.kernel.insert(key.into(), value);
    }
    world.put("a", deriving("p/new", 2));
    world.put("b", user.clone());
    let found = world.kernel.iter().map(|(text, value)| (key(text), value.clone())).collect();
    world.scheduler.found(found);
    world.run();
    assert_eq!(world.kernel.keys().collect::<Vec<_>>(), ["a", "b", "p/new"], "{:?}", world.log);
    assert_eq!(world.state("b"), Some(ValueState::Configured));
}

#[test]
fn lost_values_are_recreated_with_their_dependents() {
    let mut world = World::new();
    world.put(
        "a",
        Toy {
            derives: vec!["d".into()],
            ..Toy::default()
        },
    );
    world.put("x", needing(&["d"]));
    world.run();
    world.log.clear();
    for gone in ["a", "d", "x"] {
        world.kernel.remove(gone);
    }
    world.scheduler.lost(&[key("x"), key("a"), key("d")]);
    world.run();
    assert_eq!(world.kernel.len(), 3, "{:?}", world.log);
    assert_eq!(world.log.len(), 3, "lost values must not be deleted: {:?}", world.log);
}

#[test]
fn value_without_descriptor_is_unimplemented_and_affects_no_other() {
    let mut world = World::new();
    world.put("unknown/a", toy(1));
    world.put("b", toy(1));
    world.run();
    assert_eq!(
        (world.state("unknown/a"), world.state("b")),
        (Some(ValueState::Unimplemented), Some(ValueState::Configured))
    );
    world.delete("unknown/a");
    world.run();
    assert_eq!(world.state("unknown/a"), None);
}

#[test]
fn putting_the_same_value_again_updates_only_the_revision() {
    let mut world = World::new();
    world.put("a", toy(1));
    world.run();
    world.log.clear();
    world.scheduler.transaction(
        vec![Change {
            key: key("a"),
            revision: 7,
            value: Some(Ok(toy(1))),
        }],
        false,
    );
    world.run();
    assert_eq!((world.statuses["a"].revision, world.log.len()), (7, 0));
}

#[test]
fn unavailable_value_waits_for_a_probe_without_retries() {
    let mut world = World::new();
    world.waits = Box::new(|key, _| (key == "ns").then(|| wait("no process 7")));
    world.put(
        "a",
        Toy {
            implies: vec!["ns".into()],
            ..needing(&["ns"])
        },
    );
    world.run();
    assert_eq!(
        (world.state("a"), world.scheduler.next_deadline()),
        (Some(ValueState::Pending), None)
    );
    assert_eq!(
        world.statuses["a"].message,
        "waiting for needs-ns: ns is not available (no process 7)"
    );
    world.waits = Box::new(|_, _| None);
    world.scheduler.probe(&key("ns"));
    world.run();
    assert_eq!(world.state("a"), Some(ValueState::Configured));
}

#[test]
fn full_resync_deletes_values_that_it_does_not_contain() {
    let mut world = World::new();
    world.put("a", toy(1));
    world.put("b", toy(1));
    world.run();
    world.log.clear();
    world.scheduler.transaction(
        vec![Change {
            key: key("b"),
            revision: 2,
            value: Some(Ok(toy(1))),
        }],
        true,
    );
    world.run();
    assert_eq!(world.log, [Do::Delete("a".into())]);
    assert_eq!((world.state("a"), world.state("b")), (None, Some(ValueState::Configured)));
}

#[test]
fn base_is_deleted_after_deletion_of_its_derived_value_is_retried() {
    let mut world = World::new();
    world.put(
        "v/00",
        Toy {
            derives: vec!["d/00/0".into()],
            implies: vec!["shared".into()],
            ..Toy::default()
        },
    );
    world.run();
    world.delete("v/00");
    let mut first = true;
    world.fail = Box::new(move |_, _| std::mem::take(&mut first).then(|| transient("busy")));
    world.put(
        "v/02",
        Toy {
            needs_any: vec!["d/00/".into()],
            implies: vec!["shared".into()],
            ..Toy::default()
        },
    );
    world.round();
    world.run();
    world.run_out_retries();
    assert_eq!(world.kernel.keys().collect::<Vec<_>>(), ["shared"]);
}

#[test]
fn values_that_form_a_cycle_only_when_updated_are_deleted_in_any_order() {
    let mut world = World::new();
    let any = |needs: &[&str]| Toy {
        needs_any: vec!["d/".into()],
        ..needing(needs)
    };
    world.put(
        "a",
        Toy {
            derives: vec!["d/0".into()],
            ..Toy::default()
        },
    );
    world.put("b", any(&[]));
    world.put("c", any(&[]));
    world.run();
    world.put("b", needing(&["c"]));
    world.put("c", any(&["b"]));
    world.put(
        "a",
        Toy {
            content: 2,
            derives: vec!["d/0".into()],
            ..needing(&["fact/1"])
        },
    );
    world.run();
    assert!(world.kernel.is_empty(), "{:?}", world.kernel.keys());
}

#[test]
fn incomplete_cycle_is_deleted_with_its_last_dependency() {
    let mut world = World::new();
    world.put("v/06", needing(&["v/07"]));
    world.put(
        "v/04",
        Toy {
            derives: vec!["d/04/0".into()],
            ..Toy::default()
        },
    );
    world.round();
    world.put(
        "v/07",
        Toy {
            content: 2,
            needs_any: vec!["d/04/".into()],
            derives: vec!["d/07/0".into(), "d/07/1".into()],
            ..needing(&["v/06"])
        },
    );
    world.round();
    world.round();
    world.put(
        "v/04",
        Toy {
            content: 1,
            needs_any: vec!["d/02/".into()],
            derives: vec!["d/04/0".into(), "d/04/1".into()],
            ..Toy::default()
        },
    );
    world.run();
    assert!(world.kernel.is_empty(), "{:?}", world.kernel.keys());
}

#[test]
fn dependents_are_created_after_an_update_in_flight_completes() {
    let mut world = World::new();
    world.put("v/base", deriving(1, &["d/base/1"]));
    world.run();
    world.log.clear();
    // All changes are in one transaction. The update may rename the object that the dependents refer to.
    world.put("v/base", deriving(2, &["d/base/1"]));
    world.put("w/direct", needing(&["v/base"]));
    world.put("w/indirect", needing(&["d/base/1"]));
    world.round();
    assert_eq!(world.log, [Do::Update("v/base".into(), deriving(2, &["d/base/1"]))]);
    world.run();
    assert_eq!(
        (world.state("w/direct"), world.state("w/indirect")),
        (Some(ValueState::Configured), Some(ValueState::Configured))
    );
}

#[test]
fn obsolete_derived_value_is_deleted_before_its_replacement_is_created() {
    let mut world = World::new();
    world.put("v/base", deriving(1, &["d/base/old"]));
    world.put("w", needing(&["d/base/old"]));
    world.run();
    world.log.clear();
    world.put("v/base", deriving(1, &["d/base/new"]));
    world.run();
    assert_eq!(
        world.log,
        [
            Do::Delete("w".into()),
            Do::Delete("d/base/old".into()),
            Do::Create("d/base/new".into(), Toy::default())
        ]
    );
}

#[test]
fn failed_deletion_of_derived_value_does_not_block_its_replacement() {
    let mut world = World::new();
    world.put("v/base", deriving(1, &["d/base/old"]));
    world.run();
    world.fail = Box::new(|_, verb| (verb == Verb::Delete).then(|| transient("no")));
    world.put("v/base", deriving(1, &["d/base/new"]));
    world.run();
    assert!(world.kernel.contains_key("d/base/new"), "{:?}", world.log);
    world.fail = Box::new(|_, _| None);
    world.run_out_retries();
    assert!(!world.kernel.contains_key("d/base/old"));
}

fn deriving(content: u32, derives: &[&str]) -> Toy {
    Toy {
        derives: derives.iter().map(|text| (*text).to_owned()).collect(),
        ..toy(content)
    }
}

/// Creates a world in which the kernel removes two other values along with `address`. The second of these values depends on the
/// first.
fn world_with_taken() -> World {
    let mut world = World::new();
    let taken = ["gateway", "route"].map(str::to_owned).to_vec();
    let address = Toy {
        takes: taken,
        ..Toy::default()
    };
    world.put("address", address);
    world.put("gateway", Toy::default());
    world.put("route", needing(&["gateway"]));
    world.run();
    world.log.clear();
    world
}

#[test]
fn values_taken_along_by_a_deletion_are_recreated_after_it() {
    let mut world = world_with_taken();
    world.delete("address");
    // The dependency `gateway` exists, but is about to be removed.
    world.put("later", needing(&["gateway"]));
    world.run();
    let done: Vec<String> = world.log.iter().map(|step| format!("{step:?}")).collect();
    let verbs: Vec<&str> = done.iter().map(|step| step.split(", Toy").next().unwrap_or_default()).collect();
    assert_eq!(
        verbs,
        ["Delete(\"address\")", "Create(\"gateway\"", "Create(\"later\"", "Create(\"route\""]
    );
    for text in ["gateway", "later", "route"] {
        assert_eq!(world.state(text), Some(ValueState::Configured), "{text}");
    }
}

#[test]
fn values_taken_along_stay_if_the_deletion_fails() {
    let mut world = world_with_taken();
    let mut once = Some(transient("busy"));
    world.fail = Box::new(move |key, verb| once.take_if(|_| key == "address" && verb == Verb::Delete));
    world.delete("address");
    world.run();
    assert_eq!(world.log, []);
    for text in ["gateway", "route"] {
        assert_eq!(world.state(text), Some(ValueState::Configured), "{text}");
    }
    world.run_out_retries();
    assert!(!world.kernel.contains_key("address") && world.kernel.contains_key("gateway") && world.kernel.contains_key("route"));
    assert_eq!(world.log.len(), 3, "{:?}", world.log);
}

/// An operation in flight completes even if its value is no longer desired. The dependencies of the value must stay until the
/// operation completes.
#[test]
fn dependencies_of_a_creation_in_flight_stay_until_it_completes() {
    let mut world = World::new();
    let on_shared = Toy {
        implies: vec!["shared".into()],
        needs: vec!["shared".into()],
        ..Toy::default()
    };
    world.put("a", on_shared.clone());
    world.put("b", on_shared);
    world.round();
    // Both creations are in flight. Perform one of them.
    world.round_of(1);
    assert_eq!(world.kernel.keys().collect::<Vec<_>>(), ["a", "shared"]);
    world.delete("a");
    world.delete("b");
    world.round_of(0);
    world.run();
    assert!(world.kernel.is_empty());
    let deleted = world.log.iter().filter(|step| matches!(step, Do::Delete(_)));
    assert_eq!(deleted.count(), 3, "{:?}", world.log);
}

/// The kernel removes both ends of a pair together, so the values on either end must be deleted first.
#[test]
fn cycle_member_is_deleted_after_derived_values_of_the_others() {
    let mut world = World::new();
    let other = Toy {
        needs: vec!["a".into()],
        derives: vec!["b/1".into(), "b/2".into()],
        ..Toy::default()
    };
    world.put("a", needing(&["b"]));
    world.put("b", other);
    while !world.kernel.contains_key("b/1") {
        world.round_of(1);
    }
    world.delete("b");
    world.run();
    let deleted = world.log.iter().filter_map(|step| match step {
        Do::Delete(key) => Some(key.as_str()),
        _ => None,
    });
    assert_eq!(deleted.collect::<Vec<_>>(), ["b/1", "b/2", "a", "b"]);
    assert!(world.kernel.is_empty());
    assert_eq!(world.state("a"), Some(ValueState::Pending));
}

#[test]
fn cycle_member_is_deleted_after_dependents_of_the_others() {
    let mut world = World::new();
    let above = Toy {
        needs: vec!["b".into()],
        derives: vec!["c/1".into()],
        ..Toy::default()
    };
    world.put("a", needing(&["b"]));
    world.put("b", needing(&["a"]));
    world.put("c", above);
    world.run();
    world.delete("b");
    world.run();
    let deleted = world.log.iter().filter_map(|step| match step {
        Do::Delete(key) => Some(key.as_str()),
        _ => None,
    });
    assert_eq!(deleted.collect::<Vec<_>>(), ["c/1", "c", "a", "b"]);
    assert!(world.kernel.is_empty());
}

#[test]
fn values_taken_along_stay_while_the_creation_waits() {
    let mut world = World::new();
    world.put("gateway", Toy::default());
    world.put("route", needing(&["gateway"]));
    world.run();
    world.log.clear();
    world.waits = Box::new(|key, _| (key == "enter/vrf").then(|| wait("not there")));
    let takes = ["gateway", "route"].map(str::to_owned).to_vec();
    world.put("enter/vrf", Toy { takes, ..Toy::default() });
    world.run();
    assert_eq!(world.log, [], "no value was removed, so none must be re-created");
    assert_eq!(world.state("enter/vrf"), Some(ValueState::Pending));
    for text in ["gateway", "route"] {
        assert_eq!(world.state(text), Some(ValueState::Configured), "{text}");
    }
}
