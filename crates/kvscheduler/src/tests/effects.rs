//! Tests of the effects that a descriptor returns (operations, a no-op, or an error), and of the values that are recorded as
//! applied.
//!
//! In the domain used by these tests, an applied value contains more than the desired one.

use std::time::Duration;

use crate::*;

/// Domain with text values. An applied value ends with one `|` for each write.
#[derive(Clone)]
struct Counter;

fn text(value: &str) -> &str {
    value.trim_end_matches('|')
}

impl Domain for Counter {
    type Key = String;
    type Value = String;
    type Operation = String;
    fn descriptor(&self, _: &String) -> Option<&dyn Descriptor<Self>> {
        Some(self)
    }
}

impl Descriptor<Counter> for Counter {
    fn name(&self) -> &'static str {
        "counter"
    }
    fn compare(&self, _: &String, applied: &String, desired: &String) -> Comparison {
        let from_to = || Difference::in_place(format!("it says {} instead of {desired}", text(applied)));
        (text(applied) != desired).then(from_to).into_iter().collect()
    }
    fn as_applied(&self, _: &String, former: Option<&String>, desired: &String) -> String {
        let strokes = former.map_or("", |former| &former[text(former).len()..]);
        match former {
            Some(former) if text(former) == desired => former.clone(),
            _ => format!("{desired}{strokes}|"),
        }
    }
    fn create(&self, key: &String, value: &String, _: &View<'_, Self>) -> Result<Effect<String>, Refusal> {
        Ok(match value.as_str() {
            "empty" => Effect::Do(Vec::new()),
            "impossible" => Effect::Impossible("cannot be created".to_owned()),
            "nothing" => Effect::Noop("already exists"),
            _ => Effect::one(format!("create {key} {value}")),
        })
    }
    fn update(&self, key: &String, applied: &String, desired: &String, _: &View<'_, Self>) -> Result<Effect<String>, Refusal> {
        Ok(Effect::one(format!("change {key} {applied} to {desired}")))
    }
    fn delete(&self, key: &String, applied: &String, _: DeleteCause, _: &View<'_, Self>) -> Effect<String> {
        match text(applied) {
            "stays" => Effect::Impossible("cannot be deleted".to_owned()),
            _ => Effect::one(format!("delete {key} {applied}")),
        }
    }
}

struct World(Scheduler<Counter>);

impl World {
    fn new() -> Self {
        let mut scheduler = Scheduler::new(Counter);
        scheduler.complete_facts();
        World(scheduler)
    }

    /// Sets or deletes the desired value of `a`, and returns the resulting operations.
    fn want(&mut self, value: Option<&str>) -> Vec<String> {
        let change = Change {
            key: "a".to_owned(),
            revision: 1,
            value: value.map(|value| Ok(value.to_owned())),
        };
        self.0.transaction(vec![change], false);
        self.run()
    }

    fn run(&mut self) -> Vec<String> {
        let mut done = Vec::new();
        loop {
            let operations = self.0.step(Duration::ZERO);
            if operations.is_empty() {
                return done;
            }
            for operation in operations {
                done.extend(operation.steps);
                self.0.outcome(operation.id, Outcome::Done);
            }
        }
    }

    fn applied(&self) -> Option<&str> {
        self.0.view().applied(&"a".to_owned()).map(String::as_str)
    }

    fn status(&self) -> Status<String> {
        let status = self.0.view().status(&"a".to_owned()).expect("reported");
        status.into_owned()
    }
}

#[test]
fn applied_value_is_computed_from_the_previous_applied_value() {
    let mut world = World::new();
    assert_eq!(world.want(Some("x")), ["create a x"]);
    assert_eq!(world.applied(), Some("x|"));
    assert_eq!(world.want(Some("y")), ["change a x| to y"]);
    assert_eq!(world.applied(), Some("y||"));
    assert_eq!(world.status().state, ValueState::Configured);
    // An observed value that matches the desired value is recorded as applied, without an operation.
    world.0.found(vec![("a".to_owned(), "y|||".to_owned())]);
    assert!(world.run().is_empty());
    assert_eq!(world.applied(), Some("y|||"));
    assert_eq!(world.want(None), ["delete a y|||"]);
    assert_eq!(world.applied(), None);
}

#[test]
fn only_an_explicit_noop_succeeds_without_an_operation() {
    let mut world = World::new();
    assert!(world.want(Some("nothing")).is_empty());
    assert_eq!(world.status().state, ValueState::Configured);
    assert!(world.0.take_defects().is_empty());
    for (value, reported) in [("empty", "an empty list"), ("impossible", "cannot be created")] {
        let mut world = World::new();
        assert!(world.want(Some(value)).is_empty());
        let status = world.status();
        assert_eq!(status.state, ValueState::Failed, "{value}");
        assert_eq!(status.reason, "InternalError");
        assert!(status.message.contains(reported), "{}", status.message);
        let defects = world.0.take_defects();
        assert!(defects.len() == 1 && defects[0].contains(reported), "{defects:?}");
        assert_eq!(world.0.statistics().defects, 1);
        // The error is not permanent: another value can be applied.
        assert_eq!(world.want(Some("x")), ["create a x"]);
        assert_eq!(world.status().state, ValueState::Configured);
    }
}

#[test]
fn impossible_deletion_keeps_the_value_applied() {
    let mut world = World::new();
    world.want(Some("stays"));
    assert!(world.want(None).is_empty());
    assert_eq!(world.applied(), Some("stays|"));
    assert_eq!(world.0.take_defects().len(), 1);
    assert_eq!(world.status().state, ValueState::Failed);
    assert_eq!(world.want(Some("stays")), [""; 0]);
    assert_eq!(world.status().state, ValueState::Configured);
}
