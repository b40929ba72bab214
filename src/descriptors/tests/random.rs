//! Properties that hold for any configuration and any history: the machine ends as desired, a restart changes nothing.
//!
//! Owns the histories. Must never know how a value is applied: it compares machines. Start reading at
//! [`any_history_ends_as_desired_and_a_restart_then_does_nothing`].

use proptest::prelude::*;

use super::{
    configuration::{Configuration, Item, SLOTS, configuration, desired, item, machine},
    expectation::{actual, expected},
    world::World,
};

fn cases(default: u32) -> ProptestConfig {
    ProptestConfig {
        cases: std::env::var("DESCRIPTOR_CASES")
            .ok()
            .and_then(|cases| cases.parse().ok())
            .unwrap_or(default),
        failure_persistence: None,
        ..ProptestConfig::default()
    }
}

#[derive(Clone, Debug)]
enum Step {
    Put(usize, Box<Item>),
    Delete(usize),
    Round,
    Rest,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => (0..SLOTS).prop_flat_map(|slot| item(slot).prop_map(move |item| Step::Put(slot, item.into()))),
        3 => (0..SLOTS).prop_map(Step::Delete),
        2 => Just(Step::Round),
        1 => Just(Step::Rest),
    ]
}

fn history() -> impl Strategy<Value = Vec<Step>> {
    prop::collection::vec(step(), 0..25)
}

/// Lets a history happen; the agent may be killed on the way.
fn live(world: &mut World, configuration: &mut Configuration, history: &[Step]) -> bool {
    for step in history {
        let alive = match step {
            Step::Put(slot, item) => {
                world.put(&item.key(), &item.json());
                configuration.insert(*slot, (**item).clone());
                true
            }
            Step::Delete(slot) => {
                if let Some(item) = configuration.remove(slot) {
                    world.delete(&item.key());
                }
                true
            }
            Step::Round => world.round().is_ok(),
            Step::Rest => world.try_rest().is_ok(),
        };
        if !alive {
            return false;
        }
    }
    world.try_rest().is_ok()
}

fn check(world: &World, configuration: &Configuration) -> Result<(), TestCaseError> {
    let expected = expected(configuration);
    let actual = actual(&world.kernel, &expected);
    for place in 0..super::configuration::PLACES {
        prop_assert_eq!(
            actual.get(&place),
            expected.get(&place),
            "place {} (actual, expected); failures: {:#?}",
            place,
            world.failures
        );
    }
    Ok(())
}

fn check_idle(world: &World, when: &str) -> Result<(), TestCaseError> {
    prop_assert!(world.kernel.log.is_empty(), "{}: {:#?}", when, world.kernel.log);
    Ok(())
}

proptest! {
    #![proptest_config(cases(300))]

    #[test]
    fn any_history_ends_as_desired_and_a_restart_then_does_nothing(start in configuration(), history in history()) {
        let mut configuration = start;
        let mut world = World::start(machine(), &desired(&configuration));
        prop_assert!(live(&mut world, &mut configuration, &history));
        check(&world, &configuration)?;
        world.kernel.log.clear();
        world.refresh();
        world.rest();
        check_idle(&world, "a second look")?;
        let mut world = world.restart(&desired(&configuration));
        world.rest();
        check_idle(&world, "a restart")?;
        check(&world, &configuration)?;
    }
}
