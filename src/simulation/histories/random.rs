//! Checks two properties of random histories: the machine converges to the desired state, and a restart after that changes
//! nothing.

use proptest::prelude::*;

use super::{
    difference::{affected, concerns},
    strategies::{SLOTS, configuration, item, key, machine, tampering},
    world::World,
};
use crate::simulation::{
    configuration::{Configuration, FOREIGN_NAME, Item, PID},
    kernel::{Kernel, OWN},
    tampering::add_look_alikes,
};
use netns_kernel::{LinkState, NetnsId, Snapshot};

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
    Put(Box<Item>),
    Delete(usize),
    Round,
    Rest,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => (0..SLOTS).prop_flat_map(|slot| item(slot).prop_map(|item| Step::Put(item.into()))),
        3 => (0..SLOTS).prop_map(Step::Delete),
        2 => Just(Step::Round),
        1 => Just(Step::Rest),
    ]
}

fn history() -> impl Strategy<Value = Vec<Step>> {
    prop::collection::vec(step(), 0..25)
}

/// Runs a history of changes. Returns false if the agent was killed.
fn live(world: &mut World, configuration: &mut Configuration, history: &[Step]) -> bool {
    for step in history {
        let alive = match step {
            Step::Put(item) => {
                world.put(item);
                configuration.insert(item.key(), (**item).clone());
                true
            }
            Step::Delete(slot) => {
                if let Some(item) = configuration.remove(&key(*slot)) {
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
    let judged = world.judge(configuration);
    prop_assert!(judged.is_ok(), "{}; failures: {:#?}", judged.unwrap_err(), world.failures);
    Ok(())
}

fn check_idle(world: &World, when: &str) -> Result<(), TestCaseError> {
    let log = &world.machine.get().kernel.log;
    prop_assert!(log.is_empty(), "{}: {:#?}", when, log);
    Ok(())
}

/// Returns the namespaces that exist before the agent starts.
fn inhabited(kernel: &Kernel) -> [NetnsId; 3] {
    [OWN, kernel.names[FOREIGN_NAME], kernel.processes[&PID].netns]
}

fn place_foreign(kernel: &mut Kernel) {
    for netns in inhabited(kernel) {
        add_look_alikes(kernel, netns);
    }
}

/// Returns the foreign links and everything on them.
fn foreign(kernel: &Kernel) -> Vec<(Vec<LinkState>, Snapshot)> {
    let of_space = |snapshot: &Snapshot| {
        let mut snapshot = snapshot.clone();
        let links: Vec<LinkState> = snapshot
            .links
            .iter()
            .filter(|link| link.name.starts_with("foreign"))
            .cloned()
            .collect();
        let is_foreign = |index: u32| links.iter().any(|link| link.index == index);
        snapshot.links.clear();
        snapshot.bridge_vlans.retain(|vlan| is_foreign(vlan.link));
        snapshot.addresses.retain(|state| is_foreign(state.link));
        snapshot.neighbours.retain(|state| is_foreign(state.link));
        snapshot.routes.retain(|state| is_foreign(state.link));
        (links, snapshot)
    };
    inhabited(kernel).map(|netns| of_space(&kernel.spaces[&netns])).to_vec()
}

proptest! {
    #![proptest_config(cases(300))]

    #[test]
    fn any_history_converges_and_a_restart_changes_nothing(start in configuration(), history in history()) {
        let mut configuration = start;
        let mut world = World::start(machine(), &configuration);
        prop_assert!(live(&mut world, &mut configuration, &history));
        check(&world, &configuration)?;
        world.machine.get().kernel.log.clear();
        world.refresh();
        world.rest();
        check_idle(&world, "a second read")?;
        let mut world = world.restart(&configuration);
        world.rest();
        check_idle(&world, "a restart")?;
        check(&world, &configuration)?;
    }

    #[test]
    fn restart_deletes_only_what_is_no_longer_desired(start in configuration(), gone in prop::collection::btree_set(0..SLOTS, 0..20)) {
        let mut kernel = machine();
        place_foreign(&mut kernel);
        let before = foreign(&kernel);
        let mut configuration = start;
        let mut world = World::start(kernel, &configuration);
        world.rest();
        gone.into_iter().for_each(|slot| drop(configuration.remove(&key(slot))));
        let mut world = world.restart(&configuration);
        world.rest();
        check(&world, &configuration)?;
        prop_assert_eq!(foreign(&world.machine.get().kernel), before);
        let mut world = world.restart(&configuration);
        world.rest();
        check_idle(&world, "the next restart")?;
    }

    #[test]
    fn restart_without_desired_values_deletes_everything(start in configuration()) {
        let mut kernel = machine();
        place_foreign(&mut kernel);
        let before = foreign(&kernel);
        let mut world = World::start(kernel, &start);
        world.rest();
        let mut world = world.restart(&Configuration::new());
        world.rest();
        check(&world, &Configuration::new())?;
        prop_assert_eq!(foreign(&world.machine.get().kernel), before);
    }

    #[test]
    fn agent_killed_at_any_operation_converges_after_a_restart(
        start in configuration(), history in history(), fuel in 0..120usize, gone in prop::collection::btree_set(0..SLOTS, 0..8)
    ) {
        let mut kernel = machine();
        kernel.fuel = Some(fuel);
        place_foreign(&mut kernel);
        let before = foreign(&kernel);
        let mut configuration = start;
        let mut world = World::start(kernel, &configuration);
        live(&mut world, &mut configuration, &history);
        gone.into_iter().for_each(|slot| drop(configuration.remove(&key(slot))));
        let mut world = world.restart(&configuration);
        world.rest();
        check(&world, &configuration)?;
        prop_assert_eq!(foreign(&world.machine.get().kernel), before);
        let mut world = world.restart(&configuration);
        world.rest();
        check_idle(&world, "the next restart")?;
    }

    #[test]
    fn tampering_is_repaired_without_touching_other_links(start in configuration(), tamperings in prop::collection::vec(tampering(), 1..6)) {
        let mut world = World::start(machine(), &start);
        world.rest();
        let before = world.machine.get().kernel.clone();
        for (tampering, number) in &tamperings {
            tampering.apply(&mut world.machine.get().kernel, *number);
        }
        let affected = affected(&before, &world.machine.get().kernel);
        world.machine.get().kernel.log.clear();
        world.refresh();
        world.rest();
        check(&world, &start)?;
        let log = world.machine.get().kernel.log.clone();
        let stray: Vec<_> = log.iter().filter(|op| !concerns(op, &affected)).collect();
        prop_assert!(stray.is_empty(), "tampered: {:?}; all: {:#?}; stray: {:#?}", affected, log, stray);
        world.machine.get().kernel.log.clear();
        world.refresh();
        world.rest();
        check_idle(&world, "a second read")?;
    }
}
