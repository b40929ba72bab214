//! Explanations of values that are not as desired.

use super::*;

/// Creates a toy value that needs any value with the given prefix.
fn needing_any(prefix: &str) -> Toy {
    Toy {
        needs_any: vec![prefix.to_owned()],
        ..Toy::default()
    }
}

fn explanation<'a>(world: &'a World, text: &str) -> &'a Explanation<Key> {
    world.statuses[text].explanation.as_deref().expect("must be explained")
}

fn suggestions(world: &World, text: &str) -> Vec<String> {
    let unmet = &explanation(world, text).unmet;
    unmet
        .iter()
        .flat_map(|unmet| unmet.suggestions.iter().map(|suggestion| suggestion.text.clone()))
        .collect()
}

#[test]
fn unmet_dependency_has_key_name_and_start_time() {
    let mut world = World::new();
    world.put("b", needing(&["a"]));
    world.run();
    let status = &world.statuses["b"];
    let expected = Unmet {
        label: "needs-a".into(),
        expected: Some(key("a")),
        name: "a".into(),
        since: world.now,
        state: "a does not exist".into(),
        suggestions: vec![],
    };
    assert_eq!(explanation(&world, "b").unmet, [expected]);
    assert_eq!(status.message, "waiting for needs-a: a does not exist");
    world.put("a", toy(1));
    world.run();
    assert_eq!(world.statuses["b"].explanation, None);
}

#[test]
fn derived_value_is_explained_by_its_provider_and_follows_its_changes() {
    let mut world = World::new();
    world.put("b", needing(&["eth/state", "other"]));
    world.run();
    let message = |world: &World| world.statuses["b"].message.clone();
    let rest = "; and for needs-other: other does not exist";
    assert_eq!(message(&world), format!("waiting for needs-eth/state: eth does not exist{rest}"));
    // `b` is notified of changes to `eth`, although no value depends on `eth` itself.
    world.put("eth", needing(&["base"]));
    world.run();
    assert_eq!(
        message(&world),
        format!("waiting for needs-eth/state: eth is pending (needs-base: base does not exist){rest}")
    );
    world.put("base", toy(1));
    world.run();
    assert_eq!(
        message(&world),
        format!("waiting for needs-eth/state: eth exists in another state{rest}")
    );
    assert_eq!(suggestions(&world, "b"), ["eth exists in another state"]);
    world.delete("eth");
    world.run();
    assert_eq!(message(&world), format!("waiting for needs-eth/state: eth does not exist{rest}"));
}

#[test]
fn unmet_dependency_keeps_its_start_time_while_others_change() {
    let mut world = World::new();
    let began = world.now;
    world.put("c", needing(&["a", "b"]));
    world.run();
    let since = |world: &World| -> Vec<(String, Duration)> {
        let unmet = &explanation(world, "c").unmet;
        unmet.iter().map(|unmet| (unmet.label.to_string(), unmet.since)).collect()
    };
    assert_eq!(since(&world), [("needs-a".into(), began), ("needs-b".into(), began)]);
    world.now += Duration::from_secs(5);
    world.put("a", toy(1));
    world.run();
    assert_eq!(since(&world), [("needs-b".into(), began)]);
    world.now += Duration::from_secs(5);
    world.delete("a");
    world.run();
    assert_eq!(since(&world), [("needs-a".into(), world.now), ("needs-b".into(), began)]);
}

#[test]
fn unavailable_values_with_the_prefix_are_suggested_up_to_a_limit() {
    let mut world = World::new();
    world.put("b", needing_any("p/"));
    for number in 0..20 {
        world.put(&format!("p/{number:02}"), needing(&["base"]));
    }
    world.run();
    assert_eq!(
        suggestions(&world, "b"),
        ["p/00 does not exist yet", "p/01 does not exist yet", "p/02 does not exist yet"]
    );
    assert_eq!(SUGGESTIONS_MAX, 3);
}

#[test]
fn similar_name_is_suggested() {
    let mut world = World::new();
    world.put("typo-right", toy(1));
    world.put("b", needing(&["typo-rigth"]));
    world.run();
    assert_eq!(suggestions(&world, "b"), ["typo-right is similar"]);
}

#[test]
fn failure_reports_attempts_time_and_kernel_error_until_it_is_resolved() {
    let mut world = World::new();
    let kernel = KernelError {
        errno: 22,
        text: "no such thing".into(),
    };
    let fault = Fault {
        kernel: Some(kernel.clone()),
        ..transient("cannot do it")
    };
    world.fail = Box::new(move |_, _| Some(fault.clone()));
    world.put("a", toy(1));
    world.run();
    let retry = world.scheduler.next_deadline().expect("a retry must be scheduled");
    assert_eq!(explanation(&world, "a").attempts, 1);
    world.now = retry;
    world.run();
    let last_error = LastError {
        at: world.now,
        message: "cannot do it".into(),
        kernel: Some(kernel),
    };
    assert_eq!(
        (explanation(&world, "a").attempts, &explanation(&world, "a").last_error),
        (2, &Some(last_error))
    );
    assert_eq!(world.statuses["a"].next_retry, world.scheduler.next_deadline());
    world.fail = Box::new(|_, _| None);
    world.run_out_retries();
    assert_eq!(
        (world.state("a"), &world.statuses["a"].explanation),
        (Some(ValueState::Configured), &None)
    );
}

#[test]
fn failed_derived_value_is_named() {
    let mut world = World::new();
    world.fail = Box::new(|key, _| (key == "a/1").then(|| transient("refused")));
    let derives = vec!["a/0".into(), "a/1".into()];
    world.put("a", Toy { derives, ..Toy::default() });
    world.run();
    assert_eq!(explanation(&world, "a").derived, Some(key("a/1")));
    assert_eq!(world.statuses["a"].next_retry, world.scheduler.next_deadline());
}

#[test]
fn repaired_damage_is_reported_in_the_status() {
    let mut world = World::new();
    let derives = vec!["a/0".into()];
    world.put("a", Toy { derives, ..toy(1) });
    world.run();
    assert_eq!(world.statuses["a"].last_repair, None);
    world.now += Duration::from_secs(60);
    world.kernel.remove("a/0");
    world.scheduler.lost(&[key("a/0")]);
    world.run();
    let repair = Repair {
        at: world.now,
        lost: vec!["a/0".into()],
    };
    assert_eq!(world.statuses["a"].last_repair, Some(repair.clone()));
    // The derived value already matches the desired value when it is observed, so no repair is reported.
    world.scheduler.found(vec![(key("a/0"), Toy::default())]);
    world.run();
    assert_eq!(world.statuses["a"].last_repair, Some(repair));
    world.now += Duration::from_secs(60);
    let derives = vec!["a/0".into()];
    world.scheduler.found(vec![(key("a"), Toy { derives, ..toy(2) })]);
    world.run();
    let last = world.statuses["a"].last_repair.clone().expect("the repair must be reported");
    assert_eq!((last.at, last.lost), (world.now, vec!["a".to_owned()]));
}
