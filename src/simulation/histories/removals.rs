//! Tests of deletions that fail or overlap with other changes.

use super::{strategies::machine, world::World};
use crate::{
    descriptors::value::NamespaceName,
    simulation::configuration::{Arp, Configuration, FOREIGN_NAME, FOREIGN_PLACE, Interface, Item, Kind, Route, interface_key},
};
use netns_kernel::{KernelOp, PROTOCOL};

/// The error number EBUSY (errno(3)).
const EBUSY: i32 = 16;

fn loopback(addresses: &[&str]) -> Item {
    Item::Interface(Interface {
        addresses: addresses.iter().map(ToString::to_string).collect(),
        ..Interface::plain("i", Kind::Loopback, FOREIGN_PLACE)
    })
}

#[test]
fn address_whose_deletion_failed_is_deleted_with_its_interface() {
    let mut world = World::start(machine(), &Configuration::new());
    world.put(&loopback(&["10.0.0.1/24"]));
    world.rest();
    world.put(&loopback(&[]));
    world.machine.get().kernel.log.clear();
    world.machine.get().kernel.failing.push((0, EBUSY));
    world.settle().expect("the agent must not be killed");
    let log = std::mem::take(&mut world.machine.get().kernel.log);
    assert!(matches!(log.as_slice(), [KernelOp::DeleteAddress { .. }]), "{log:?}");
    assert_eq!(world.failures.len(), 1, "{:?}", world.failures);
    world.refresh();
    world.delete(&interface_key("i"));
    world.rest();
    let netns = world.named(FOREIGN_NAME);
    let addresses = world.machine.get().kernel.spaces[&netns].addresses.clone();
    assert!(addresses.iter().all(|state| state.protocol != PROTOCOL), "{addresses:?}");
}

#[test]
fn namespace_removed_during_deletion_of_its_link_is_created_again() {
    let mut world = World::start(machine(), &Configuration::new());
    let dummy = Item::Interface(Interface::plain("i", Kind::Dummy, FOREIGN_PLACE));
    world.put(&dummy);
    world.rest();
    world.delete(&dummy.key());
    assert!(world.decide());
    let before = world.named(FOREIGN_NAME);
    world.machine.get().kernel.remove_named(FOREIGN_NAME);
    world.probe(&NamespaceName::Named(FOREIGN_NAME.to_owned()).key());
    world.put(&dummy);
    assert!(!world.decide(), "no new work must start while the deletion is in flight");
    assert!(world.link(before, "i").is_some());
    world.perform().expect("the agent must not be killed");
    world.rest();
    assert!(world.link(before, "i").is_none());
    assert!(
        world.link(world.named(FOREIGN_NAME), "i").is_some(),
        "the link must exist in the namespace that was created again"
    );
}

#[test]
fn objects_of_an_invalid_value_are_deleted_with_it_after_restarts() {
    let route = |metric| {
        Item::Route(Route {
            interface: "i",
            destination: "10.1.0.0/16".to_owned(),
            gateway: Some("10.0.0.2".to_owned()),
            scope: "GLOBAL",
            metric,
            adopt: false,
        })
    };
    let arp = Item::Arp(Arp {
        interface: "i",
        address: "10.0.0.9".to_owned(),
        mac: 9,
        adopt: false,
    });
    let keys = [route(5).key(), arp.key()];
    let mut desired = Configuration::from([loopback(&["10.0.0.1/24"]), route(5), arp.clone()].map(|item| (item.key(), item)));
    let mut world = World::start(machine(), &desired);
    world.rest();
    let left = |world: &World| {
        let netns = world.named(FOREIGN_NAME);
        let space = world.machine.get().kernel.spaces[&netns].clone();
        (space.routes.len(), space.neighbours.len())
    };
    for restarts in [0, 1, 2] {
        for key in &keys {
            let unusable = Item::Unusable(key.clone());
            world.put(&unusable);
            desired.insert(key.clone(), unusable);
        }
        world.rest();
        for _ in 0..restarts {
            world = world.restart(&desired);
            world.rest();
            let log = world.machine.get().kernel.log.clone();
            assert_eq!(log, [], "a restart must change nothing");
        }
        assert_eq!(left(&world), (1, 1), "the last valid version must stay applied");
        keys.iter().for_each(|key| world.delete(key));
        world.rest();
        assert_eq!(left(&world), (0, 0), "after {restarts} restarts");
        for item in [route(0), arp.clone()] {
            world.put(&item);
            desired.insert(item.key(), item);
        }
        world.rest();
    }
}
