//! Host names that change hands, in what is wanted and in the kernel.
//!
//! Owns scenarios of a few values with a known end. Must never look into the scheduler: it compares the machine. Start reading at
//! [`a_pair_waits_for_the_name_of_a_link_on_its_way_out`].

use models::proto::ligato::kvscheduler::ValueState;

use super::{strategies::machine, world::World};
use crate::simulation::configuration::{Configuration, FOREIGN_NAME, FOREIGN_PLACE, Interface, Item, Kind, interface_key};
use netns_kernel::NetnsId;

/// A link of the namespace that somebody else made, with one address.
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

/// The value has the link of this name, and everything of it is in the kernel.
fn assert_has(world: &World, name: &str, host_name: &str) {
    assert_eq!(world.state(&interface_key(name)), Some(ValueState::Configured), "{name}");
    let alias = world.link(foreign(world), host_name).map_or(String::new(), |link| link.alias);
    assert!(
        alias.split('/').any(|part| part == name),
        "{host_name} is {alias:?}, not that of {name}"
    );
}

#[test]
fn a_pair_waits_for_the_name_of_a_link_on_its_way_out() {
    let mut world = World::start(machine(), &Configuration::new());
    // With an address, so that it takes more than one step to go.
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
fn two_links_may_be_asked_to_exchange_their_names() {
    for together in [true, false] {
        let mut world = World::start(machine(), &Configuration::new());
        world.put(&dummy("a", "eth0", "10.0.0.1/24"));
        world.put(&dummy("b", "eth1", "10.0.1.1/24"));
        world.rest();
        world.put(&dummy("a", "eth1", "10.0.0.1/24"));
        if !together {
            world.rest();
            assert_eq!(world.state(&interface_key("a")), Some(ValueState::Invalid), "b has that name still");
        }
        world.put(&dummy("b", "eth0", "10.0.1.1/24"));
        world.rest();
        assert_has(&world, "a", "eth1");
        assert_has(&world, "b", "eth0");
    }
}

#[test]
fn ends_of_three_pairs_may_be_asked_to_pass_their_names_round() {
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
fn two_links_whose_names_somebody_exchanged_get_their_own_back() {
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
