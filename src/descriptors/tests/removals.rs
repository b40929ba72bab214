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
    descriptors::value::{NamespaceName, Value},
    kernel::{KernelOp, PROTOCOL, Task},
    scheduler::{Fault, FaultKind, Operation, Outcome, Verb},
};

fn interface(kind: &str, host_name: &str, addresses: &[&str]) -> Json {
    let namespace = json!({"type": "NSID", "reference": FOREIGN_NAME});
    json!({"name": "i", "type": kind, "enabled": true, "host_if_name": host_name, "namespace": namespace, "ip_addresses": addresses})
}

/// The one operation that is to be done now; nobody has done it yet.
fn next_operation(world: &mut World) -> Operation<Vec<KernelOp>> {
    let mut operations = world.scheduler.step(world.now);
    assert_eq!(operations.len(), 1, "{operations:?}");
    operations.remove(0)
}

#[test]
fn an_address_whose_removal_failed_goes_with_its_interface() {
    let mut world = World::start(machine(), &Desired::new());
    world.put(&interface_key("i"), &interface("LOOPBACK", "lo", &["10.0.0.1/24"]));
    world.rest();
    world.put(&interface_key("i"), &interface("LOOPBACK", "lo", &[]));
    let removal = next_operation(&mut world);
    assert_eq!(removal.verb, Verb::Delete);
    let fault = Fault {
        kind: FaultKind::Persistent,
        reason: "KernelError",
        message: "no".to_owned(),
        kernel: None,
    };
    let failed: Outcome<Value> = Outcome::Failed(fault);
    world.scheduler.outcome(removal.id, failed);
    world.settle().expect("nobody kills the agent");
    world.refresh();
    world.delete(&interface_key("i"));
    world.rest();
    let space = &world.kernel.spaces[&world.kernel.names[FOREIGN_NAME]];
    assert!(
        space.addresses.iter().all(|state| state.protocol != PROTOCOL),
        "{:?}",
        space.addresses
    );
}

#[test]
fn a_name_that_changes_while_its_namespace_is_being_given_up_is_followed_when_it_is_wanted_again() {
    let mut world = World::start(machine(), &Desired::new());
    let key = interface_key("i");
    world.put(&key, &interface("DUMMY", "i", &[]));
    world.rest();
    world.delete(&key);
    let removal = next_operation(&mut world);
    let before = world.kernel.names.remove(FOREIGN_NAME).expect("it is there");
    world.scheduler.probe(&NamespaceName::Named(FOREIGN_NAME.to_owned()).key());
    world.put(&key, &interface("DUMMY", "i", &[]));
    let task = Task {
        id: removal.id,
        key: removal.key.to_string(),
        ops: removal.effect,
    };
    world.kernel.perform(&task).expect("nobody kills the agent");
    world.scheduler.outcome(removal.id, Outcome::Done);
    world.rest();
    assert!(world.kernel.link(before, "i").is_none());
    let now = *world.kernel.names.get(FOREIGN_NAME).expect("the name is made again");
    assert!(world.kernel.link(now, "i").is_some());
}

#[test]
fn what_an_unusable_value_left_in_place_goes_with_it_even_after_a_restart() {
    let (link, route, arp) = (
        interface_key("i"),
        "config/linux/l3/v2/route/10.1.0.0/16/i".to_owned(),
        "config/linux/l3/v2/arp/i/10.0.0.9".to_owned(),
    );
    let mut desired = Desired::from([
        (link, interface("LOOPBACK", "lo", &["10.0.0.1/24"])),
        (
            route.clone(),
            json!({"outgoing_interface": "i", "scope": "GLOBAL", "dst_network": "10.1.0.0/16", "gw_addr": "10.0.0.2", "metric": 5}),
        ),
        (
            arp.clone(),
            json!({"interface": "i", "ip_address": "10.0.0.9", "hw_address": "02:00:00:00:00:09"}),
        ),
    ]);
    let mut world = World::start(machine(), &desired);
    world.rest();
    for restarts in [0, 1, 2] {
        desired.insert(route.clone(), Json::Null);
        desired.insert(arp.clone(), Json::Null);
        world.put(&route, &Json::Null);
        world.put(&arp, &Json::Null);
        world.rest();
        for _ in 0..restarts {
            world = world.restart(&desired);
            world.rest();
        }
        let space = &world.kernel.spaces[&world.kernel.names[FOREIGN_NAME]];
        assert_eq!(
            (space.routes.len(), space.neighbours.len()),
            (1, 1),
            "what was usable stays in place"
        );
        assert!(
            restarts == 0
                || world
                    .performed
                    .iter()
                    .all(|(_, _, ops)| matches!(ops[..], [KernelOp::OpenNamespace { .. }]))
        );
        world.delete(&route);
        world.delete(&arp);
        world.rest();
        let space = &world.kernel.spaces[&world.kernel.names[FOREIGN_NAME]];
        assert_eq!((space.routes.len(), space.neighbours.len()), (0, 0), "after {restarts} restarts");
        let usable = [
            (
                &route,
                json!({"outgoing_interface": "i", "scope": "GLOBAL", "dst_network": "10.1.0.0/16", "gw_addr": "10.0.0.2"}),
            ),
            (
                &arp,
                json!({"interface": "i", "ip_address": "10.0.0.9", "hw_address": "02:00:00:00:00:09"}),
            ),
        ];
        for (key, value) in usable {
            world.put(key, &value);
            desired.insert(key.clone(), value);
        }
        world.rest();
    }
}
