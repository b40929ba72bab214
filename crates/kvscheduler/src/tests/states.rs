//! All value states: how each is reached, and what is published.

use super::*;
use crate::history::extract::Scope;

/// Name of a state, function that brings the value `a` into this state, and published state (`None` if nothing is published).
type Row = (&'static str, fn(&mut World), Option<ValueState>);

fn claiming(name: &str) -> Toy {
    Toy {
        claims: vec![name.to_owned()],
        ..Toy::default()
    }
}

fn fail_once(world: &mut World, kind: FaultKind) {
    let mut first = true;
    world.fail = Box::new(move |key, _| (key == "a" && std::mem::take(&mut first)).then(|| Fault { kind, ..transient("no") }));
}

fn fail_to_create(world: &mut World, kind: FaultKind) {
    fail_once(world, kind);
    world.put("a", toy(1));
}

fn apply(world: &mut World, value: Toy) {
    world.put("a", value);
    world.run();
}

/// Changes the value in the kernel as another program would, and reports the change to the scheduler.
fn spoil(world: &mut World) {
    world.kernel.insert("a".into(), toy(99));
    world.scheduler.found(vec![(key("a"), toy(99))]);
    world.run();
}

/// States of a value that was never applied or is no longer applied.
fn blocked() -> Vec<Row> {
    use ValueState::{Failed, Invalid, Pending, Retrying};
    vec![
        ("referenced only", |world| world.put("b", needing(&["a"])), None),
        ("pending", |world| world.put("a", needing(&["x"])), Some(Pending)),
        (
            "conflict",
            |world| {
                world.put("z", claiming("name"));
                world.run();
                world.put("a", claiming("name"));
            },
            Some(Invalid),
        ),
        ("unusable", |world| fail_to_create(world, FaultKind::Refused), Some(Invalid)),
        (
            "unavailable",
            |world| {
                world.waits = Box::new(|key, _| (key == "a").then(|| wait("not there")));
                world.put("a", toy(1));
            },
            Some(Pending),
        ),
        ("backing off", |world| fail_to_create(world, FaultKind::Transient), Some(Retrying)),
        (
            "backing off after a persistent fault",
            |world| fail_to_create(world, FaultKind::Persistent),
            Some(Failed),
        ),
        (
            "no attempts left",
            |world| {
                fail_once(world, FaultKind::Transient);
                let retry = Some(Retry {
                    attempts: Some(0),
                    ..Retry::default()
                });
                let options = Options {
                    retry,
                    ..Options::default()
                };
                world.commit(vec![put("a", toy(1))], options);
            },
            Some(Failed),
        ),
        (
            "partial, and no longer desired",
            |world| {
                fail_once(world, FaultKind::Transient);
                apply(world, toy(1));
                world.delete("a");
                world.run();
                assert!(matches!(&world.log[..], [Do::Recover(_)]), "{:?}", world.log);
            },
            None,
        ),
    ]
}

/// States of a value that is, or was, applied.
fn applied() -> Vec<Row> {
    use ValueState::{Configured, Failed, Invalid, Pending, Retrying};
    vec![
        ("in sync", |world| world.put("a", toy(1)), Some(Configured)),
        (
            "out of sync after a failed update",
            |world| {
                apply(world, toy(1));
                fail_once(world, FaultKind::Transient);
                world.put("a", toy(2));
            },
            Some(Retrying),
        ),
        (
            "kept although the new value was rejected",
            |world| {
                apply(world, toy(1));
                world.scheduler.transaction(vec![unusable("a", "bad")], false);
                world.run();
                assert!(world.kernel.contains_key("a") && world.statuses["a"].message.contains("previous configuration stays"));
            },
            Some(Invalid),
        ),
        (
            "drift that is only reported",
            |world| {
                apply(world, toy(REPORT_ONLY));
                spoil(world);
            },
            Some(Failed),
        ),
        (
            "contended",
            |world| {
                apply(world, toy(1));
                (0..4).for_each(|_| spoil(world));
            },
            Some(Retrying),
        ),
        (
            "terminating after a failed deletion",
            |world| {
                apply(world, toy(1));
                fail_once(world, FaultKind::Transient);
                world.delete("a");
            },
            Some(Retrying),
        ),
        (
            "terminating, and desired again",
            |world| {
                apply(world, toy(1));
                fail_once(world, FaultKind::Transient);
                world.delete("a");
                world.run();
                world.put("a", toy(1));
            },
            Some(Configured),
        ),
        (
            "deleted because a dependency disappeared",
            |world| {
                world.fact("fact/1", true);
                apply(world, needing(&["fact/1"]));
                world.fact("fact/1", false);
            },
            Some(Pending),
        ),
    ]
}

#[test]
fn every_state_is_reached_and_published() {
    for (name, reach, expected) in blocked().into_iter().chain(applied()) {
        let mut world = World::new();
        reach(&mut world);
        world.run();
        assert_eq!(world.state("a"), expected, "{name}");
    }
    let mut world = World::new();
    world.put("unknown/a", toy(1));
    world.run();
    assert_eq!(world.state("unknown/a"), Some(ValueState::Unimplemented));
}

#[test]
fn unpublished_states_are_visible_in_an_extract() {
    let mut world = World::new();
    let state = |world: &World, text: &str| {
        let extract = world.scheduler.extract(&Scope::Values);
        extract.value(&key(text)).map(|value| (value.state, value.available))
    };
    world.put("b", needing(&["a"]));
    world.put("a", toy(1));
    world.round_of(0);
    assert_eq!(state(&world, "a"), Some((ValueState::Nonexistent, false)), "being created");
    world.run();
    assert_eq!(state(&world, "a"), Some((ValueState::Configured, true)));
    world.delete("a");
    world.round_of(0);
    assert_eq!(state(&world, "a"), Some((ValueState::Configured, false)), "terminating");
    world.run();
    world.fact("fact/1", true);
    world.run();
    assert_eq!(state(&world, "fact/1"), Some((ValueState::Obtained, true)));
    let mut early = Scheduler::new(ToyDomain::default());
    early.transaction(vec![put("a", needing(&["fact/container/1"]))], false);
    early.found(vec![(key("a"), needing(&["fact/container/1"]))]);
    early.step(Duration::ZERO);
    let seen = early.extract(&Scope::Values);
    assert_eq!(
        seen.value(&key("a")).map(|value| value.state),
        Some(ValueState::Discovered),
        "observed"
    );
}
