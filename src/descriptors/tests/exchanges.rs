//! Host names that change hands, in what is wanted and in the kernel.
//!
//! Owns scenarios of a few values with a known end. Must never look into the scheduler: it compares the machine. Start reading at
//! [`a_pair_waits_for_the_name_of_a_link_on_its_way_out`].

use serde_json::{Value as Json, json};

use super::{
    configuration::{FOREIGN_NAME, interface_key, machine},
    world::{Desired, World},
};
use crate::{kernel::NetnsId, scheduler::ValueState};

/// A link of the namespace that somebody else made, with one address.
fn link(name: &str, kind: &Json, host_name: &str, address: &str) -> Json {
    let mut json = json!({"name": name, "enabled": true, "host_if_name": host_name, "ip_addresses": [address]});
    json["namespace"] = json!({"type": "NSID", "reference": FOREIGN_NAME});
    for (member, value) in kind.as_object().expect("members of the value") {
        json[member] = value.clone();
    }
    json
}

fn veth(name: &str, peer: &str, host_name: &str, address: &str) -> Json {
    link(name, &json!({"type": "VETH", "veth": {"peer_if_name": peer}}), host_name, address)
}

fn dummy(name: &str, host_name: &str, address: &str) -> Json {
    link(name, &json!({"type": "DUMMY"}), host_name, address)
}

fn foreign(world: &World) -> NetnsId {
    world.kernel.names[FOREIGN_NAME]
}

/// The value has the link of this name, and everything of it is in the kernel.
fn assert_has(world: &World, name: &str, host_name: &str) {
    let status = world.status(&interface_key(name));
    assert_eq!(
        status.map(|status| status.state),
        Some(ValueState::Configured),
        "{name}: {status:?}"
    );
    let link = world.kernel.link(foreign(world), host_name);
    let alias = link.map_or("", |link| link.alias.as_str());
    assert!(
        alias.split('/').any(|part| part == name),
        "{host_name} is {alias:?}, not that of {name}"
    );
}

#[test]
fn a_pair_waits_for_the_name_of_a_link_on_its_way_out() {
    let mut world = World::start(machine(), &Desired::new());
    // With an address, so that it takes more than one step to go.
    world.put(&interface_key("z"), &dummy("z", "eth0", "10.0.0.1/24"));
    world.rest();
    world.delete(&interface_key("z"));
    world.put(&interface_key("a"), &veth("a", "b", "eth1", "10.0.1.1/24"));
    world.put(&interface_key("b"), &veth("b", "a", "eth0", "10.0.1.2/24"));
    world.rest();
    assert_has(&world, "a", "eth1");
    assert_has(&world, "b", "eth0");
}
