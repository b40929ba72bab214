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
    descriptors::value::Value,
    kernel::{KernelOp, PROTOCOL},
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
