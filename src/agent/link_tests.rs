//! Links on other links, on the simulated kernel: VLAN ids.

use models::proto::ligato::kvscheduler::ValueState;

use super::existing_tests::{Desired, World, interface, machine};
use crate::simulation::kernel::Kernel;

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
fn a_vlan_id_stays_taken_when_its_parent_is_renamed() {
    let first = vlan("first", "parent");
    let mut world = World::start(Kernel::new(), &Desired::from([dummy("parent", "old"), first.clone()]));
    put(&mut world, &dummy("parent", "new"));
    let second = vlan("second", "parent");
    put(&mut world, &second);
    assert_taken(&world, &second.0, "first");
    world.assert_configured(&first.0);

    // The former name is free, also for a parent with such a VLAN.
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
fn a_vlan_id_is_taken_once_on_the_link_of_several_interfaces() {
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
