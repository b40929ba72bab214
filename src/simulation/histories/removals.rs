//! What is being taken down when something else happens to it.
//!
//! Owns scenarios of one value with a known end. Must never look into the scheduler: it compares the machine. Start reading at
//! [`an_address_whose_removal_failed_goes_with_its_interface`].

use serde_json::{Value as Json, json};

use super::{
    configuration::{FOREIGN_NAME, interface_key, machine},
    world::{Desired, World},
};
use crate::{
    descriptors::value::NamespaceName,
    kernel::{KernelOp, PROTOCOL},
};

fn interface(kind: &str, host_name: &str, addresses: &[&str]) -> Json {
    let namespace = json!({"type": "NSID", "reference": FOREIGN_NAME});
    json!({"name": "i", "type": kind, "enabled": true, "host_if_name": host_name, "namespace": namespace, "ip_addresses": addresses})
}

/// EBUSY of errno(3).
const EBUSY: i32 = 16;

#[test]
fn an_address_whose_removal_failed_goes_with_its_interface() {
    let mut world = World::start(machine(), &Desired::new());
    world.put(&interface_key("i"), &interface("LOOPBACK", "lo", &["10.0.0.1/24"]));
    world.rest();
    world.put(&interface_key("i"), &interface("LOOPBACK", "lo", &[]));
    world.machine.get().kernel.log.clear();
    world.machine.get().kernel.failing.push((0, EBUSY));
    world.settle().expect("nobody kills the agent");
    let log = std::mem::take(&mut world.machine.get().kernel.log);
    assert!(matches!(log.as_slice(), [KernelOp::DeleteAddress { .. }]), "{log:?}");
    assert_eq!(world.failures.len(), 1, "{:?}", world.failures);
    world.refresh();
    world.delete(&interface_key("i"));
    world.rest();
    let netns = world.named(FOREIGN_NAME).expect("it was there before the agent");
    let addresses = world.machine.get().kernel.spaces[&netns].addresses.clone();
    assert!(addresses.iter().all(|state| state.protocol != PROTOCOL), "{addresses:?}");
}

#[test]
fn a_name_that_changes_while_its_namespace_is_being_given_up_is_followed_when_it_is_wanted_again() {
    let mut world = World::start(machine(), &Desired::new());
    let key = interface_key("i");
    world.put(&key, &interface("DUMMY", "i", &[]));
    world.rest();
    world.delete(&key);
    assert!(world.decide());
    let before = world.named(FOREIGN_NAME).expect("it is there");
    world.machine.get().kernel.remove_named(FOREIGN_NAME);
    world.probe(&NamespaceName::Named(FOREIGN_NAME.to_owned()).key());
    world.put(&key, &interface("DUMMY", "i", &[]));
    assert!(!world.decide(), "the removal is under way");
    assert!(world.link(before, "i").is_some());
    world.perform().expect("nobody kills the agent");
    world.rest();
    assert!(world.link(before, "i").is_none());
    let now = world.named(FOREIGN_NAME).expect("the name is made again");
    assert!(world.link(now, "i").is_some());
}
