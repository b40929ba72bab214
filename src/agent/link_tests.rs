//! Tests of links that depend on other links, on the simulated kernel: VLAN ids and settings of bridge ports.

use models::proto::ligato::kvscheduler::ValueState;

use super::existing_tests::{Desired, World, interface, machine};
use crate::simulation::kernel::{Kernel, OWN};

/// Numbers of IFLA_BRPORT_* attributes from linux/if_link.h.
const HAIRPIN: u16 = 4;
const LEARNING: u16 = 8;
const ISOLATED: u16 = 33;

fn dummy(name: &str, host_name: &str) -> (String, String) {
    interface(name, &format!(r#""type":"DUMMY","host_if_name":"{host_name}""#))
}

fn existing(name: &str, host_name: &str) -> (String, String) {
    interface(name, &format!(r#""type":"EXISTING","host_if_name":"{host_name}""#))
}

fn vlan(name: &str, parent: &str) -> (String, String) {
    interface(name, &format!(r#""type":"VLAN","vlan":{{"parent_if_name":"{parent}","id":10}}"#))
}

fn put(world: &mut World, (key, value): &(String, String)) {
    world.put(key, value);
    world.rest();
}

fn assert_taken(world: &World, key: &str, by: &str) {
    let (state, error) = world.state(key);
    let expected = format!("is taken by interface {by}; change one of the two");
    assert!(
        state == ValueState::Invalid && error.contains(&expected),
        "{key}: {state:?} {error}"
    );
}

#[test]
fn vlan_id_stays_taken_when_parent_is_renamed() {
    let first = vlan("first", "parent");
    let mut world = World::start(Kernel::new(), &Desired::from([dummy("parent", "old"), first.clone()]));
    put(&mut world, &dummy("parent", "new"));
    let second = vlan("second", "parent");
    put(&mut world, &second);
    assert_taken(&world, &second.0, "first");
    world.assert_configured(&first.0);

    // Another parent can now use the old name of the first parent. A VLAN on this other parent can use the same VLAN id.
    let third = vlan("third", "other");
    put(&mut world, &dummy("other", "old"));
    put(&mut world, &third);
    world.assert_configured(&third.0);

    let (parent, other) = (dummy("parent", "new"), dummy("other", "old"));
    let world = world.restart(&Desired::from([parent, other, first.clone(), second.clone(), third.clone()]));
    world.assert_configured(&first.0);
    assert_taken(&world, &second.0, "first");
    world.assert_configured(&third.0);
}

#[test]
fn vlan_id_is_unique_per_link_of_several_interfaces() {
    let first = vlan("first", "one");
    let mut world = World::start(
        machine(),
        &Desired::from([existing("one", "nic0"), existing("other", "nic0"), first.clone()]),
    );
    world.assert_configured(&first.0);
    let second = vlan("second", "other");
    put(&mut world, &second);
    assert_taken(&world, &second.0, "first");

    let on_made = vlan("on-made", "made");
    for value in [dummy("made", "made"), existing("beside", "made"), on_made.clone()] {
        put(&mut world, &value);
    }
    let on_beside = vlan("on-beside", "beside");
    put(&mut world, &on_beside);
    world.assert_configured(&on_made.0);
    assert_taken(&world, &on_beside.0, "on-made");
}

fn port(settings: &str) -> (String, String) {
    interface("port", &format!(r#""type":"DUMMY","master_interface":"bridge"{settings}"#))
}

/// Returns whether HAIRPIN, LEARNING and ISOLATED are set on the port.
fn settings(world: &World) -> [bool; 3] {
    let kernel = &world.machine.get().kernel;
    let link = kernel.link(OWN, "port").expect("the port exists");
    [HAIRPIN, LEARNING, ISOLATED].map(|number| link.port_attribute(number) == Some(&[1]))
}

#[test]
fn port_settings_are_reset_when_unset_and_applied_when_set() {
    let (unset, set) = (port(""), port(r#","bridge_port":{"isolated":true,"learning":false}"#));
    let bridge = interface("bridge", r#""type":"BRIDGE""#);
    let mut world = World::start(Kernel::new(), &Desired::from([bridge, set.clone()]));
    assert_eq!(settings(&world), [false, false, true]);
    put(&mut world, &unset);
    assert_eq!(settings(&world), [false, true, false], "the kernel's defaults");
    put(&mut world, &port(r#","bridge_port":{"hairpin":true}"#));
    assert_eq!(settings(&world), [true, true, false]);
    put(&mut world, &unset);
    put(&mut world, &set);
    assert_eq!(settings(&world), [false, false, true]);
    world.assert_configured(&set.0);
}

#[test]
fn foreign_port_settings_are_kept_if_value_sets_none() {
    let bridge = interface("bridge", r#""type":"BRIDGE""#);
    let mut world = World::start(Kernel::new(), &Desired::from([bridge, port("")]));
    {
        let kernel = &mut world.machine.get().kernel;
        let index = kernel.link(OWN, "port").expect("the port exists").index;
        let link = kernel.link_mut(OWN, index);
        // One netlink attribute: length including the header, number, value, padding.
        link.port = [5_u16.to_ne_bytes(), ISOLATED.to_ne_bytes(), [1, 0], [0, 0]].concat();
    }
    world.log();
    world.refresh(OWN);
    world.rest();
    assert_eq!(world.log(), []);
    assert_eq!(settings(&world), [false, false, true]);
}
