//! Tests how kernel names move from one interface to another, in the desired state and in the kernel.

use models::proto::ligato::kvscheduler::ValueState;

use super::{strategies::machine, world::World};
use crate::simulation::configuration::{Configuration, FOREIGN_NAME, FOREIGN_PLACE, Interface, Item, Kind, interface_key};
use netns_kernel::NetnsId;

/// Returns an interface in the foreign namespace, with one address.
fn link(name: &'static str, kind: Kind, host: &'static str, address: &'static str) -> Item {
    Item::Interface(Interface {
        host: host.to_owned(),
        enabled: true,
        addresses: vec![address.to_owned()],
        ..Interface::plain(name, kind, FOREIGN_PLACE)
    })
}

fn veth(name: &'static str, peer: &'static str, host: &'static str, address: &'static str) -> Item {
    link(name, Kind::Veth(peer), host, address)
}

fn dummy(name: &'static str, host: &'static str, address: &'static str) -> Item {
    link(name, Kind::Dummy, host, address)
}

fn foreign(world: &World) -> NetnsId {
    world.named(FOREIGN_NAME)
}

/// Asserts that an interface is CONFIGURED and that the link `host_name` belongs to it.
fn assert_has(world: &World, name: &str, host_name: &str) {
    assert_eq!(world.state(&interface_key(name)), Some(ValueState::Configured), "{name}");
    let alias = world.link(foreign(world), host_name).map_or(String::new(), |link| link.alias);
    assert!(
        alias.split('/').any(|part| part == name),
        "{host_name} has the alias {alias:?}, so it is not the link of {name}"
    );
}

#[test]
fn pair_waits_for_the_name_of_a_link_in_deletion() {
    let mut world = World::start(machine(), &Configuration::new());
    // Because the link has an address, its deletion takes more than one step.
    world.put(&dummy("z", "eth0", "10.0.0.1/24"));
    world.rest();
    world.delete(&interface_key("z"));
    world.put(&veth("a", "b", "eth1", "10.0.1.1/24"));
    world.put(&veth("b", "a", "eth0", "10.0.1.2/24"));
    world.rest();
    assert_has(&world, "a", "eth1");
    assert_has(&world, "b", "eth0");
}

#[test]
fn two_links_can_exchange_their_names() {
    for together in [true, false] {
        let mut world = World::start(machine(), &Configuration::new());
        world.put(&dummy("a", "eth0", "10.0.0.1/24"));
        world.put(&dummy("b", "eth1", "10.0.1.1/24"));
        world.rest();
        world.put(&dummy("a", "eth1", "10.0.0.1/24"));
        if !together {
            world.rest();
            assert_eq!(world.state(&interface_key("a")), Some(ValueState::Invalid), "b still has the name");
        }
        world.put(&dummy("b", "eth0", "10.0.1.1/24"));
        world.rest();
        assert_has(&world, "a", "eth1");
        assert_has(&world, "b", "eth0");
    }
}

#[test]
fn three_pairs_can_rotate_their_names() {
    let mut world = World::start(machine(), &Configuration::new());
    let put = |world: &mut World, host_names: [&'static str; 3]| {
        for ([own, other], host_name) in [["a0", "a1"], ["b0", "b1"], ["c0", "c1"]].into_iter().zip(host_names) {
            world.put(&veth(own, other, host_name, "10.0.1.1/24"));
            world.put(&veth(other, own, other, "10.0.1.2/24"));
        }
    };
    put(&mut world, ["eth0", "eth1", "eth2"]);
    world.rest();
    put(&mut world, ["eth1", "eth2", "eth0"]);
    world.rest();
    assert_has(&world, "a0", "eth1");
    assert_has(&world, "b0", "eth2");
    assert_has(&world, "c0", "eth0");
}

#[test]
fn names_exchanged_by_others_are_restored() {
    let mut world = World::start(machine(), &Configuration::new());
    world.put(&dummy("a", "eth0", "10.0.0.1/24"));
    world.put(&dummy("b", "eth1", "10.0.1.1/24"));
    world.rest();
    let netns = foreign(&world);
    {
        let kernel = &mut world.machine.get().kernel;
        let indexes = ["eth0", "eth1"].map(|name| kernel.link(netns, name).expect("it is there").index);
        for (index, name) in indexes.into_iter().zip(["eth1", "eth0"]) {
            kernel.link_mut(netns, index).name = name.to_owned();
        }
    }
    world.refresh();
    world.rest();
    assert_has(&world, "a", "eth0");
    assert_has(&world, "b", "eth1");
}
