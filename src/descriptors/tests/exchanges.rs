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

#[test]
fn two_links_may_be_asked_to_exchange_their_names() {
    for together in [true, false] {
        let mut world = World::start(machine(), &Desired::new());
        world.put(&interface_key("a"), &dummy("a", "eth0", "10.0.0.1/24"));
        world.put(&interface_key("b"), &dummy("b", "eth1", "10.0.1.1/24"));
        world.rest();
        world.put(&interface_key("a"), &dummy("a", "eth1", "10.0.0.1/24"));
        if !together {
            world.rest();
            let status = world.status(&interface_key("a"));
            assert_eq!(
                status.map(|status| status.state),
                Some(ValueState::Invalid),
                "b has that name still"
            );
        }
        world.put(&interface_key("b"), &dummy("b", "eth0", "10.0.1.1/24"));
        world.rest();
        assert_has(&world, "a", "eth1");
        assert_has(&world, "b", "eth0");
    }
}

#[test]
fn ends_of_three_pairs_may_be_asked_to_pass_their_names_round() {
    let mut world = World::start(machine(), &Desired::new());
    let put = |world: &mut World, host_names: [&str; 3]| {
        for (pair, host_name) in ["a", "b", "c"].into_iter().zip(host_names) {
            let (own, other) = (format!("{pair}0"), format!("{pair}1"));
            world.put(
                &interface_key(&own),
                &veth(&own, &other, host_name, &format!("10.0.{}.1/24", pair.len())),
            );
            world.put(
                &interface_key(&other),
                &veth(&other, &own, &other, &format!("10.0.{}.2/24", pair.len())),
            );
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
    let mut world = World::start(machine(), &Desired::new());
    world.put(&interface_key("a"), &dummy("a", "eth0", "10.0.0.1/24"));
    world.put(&interface_key("b"), &dummy("b", "eth1", "10.0.1.1/24"));
    world.rest();
    let netns = foreign(&world);
    let space = world.kernel.spaces.get_mut(&netns).expect("it is there");
    for link in &mut space.links {
        link.name = match link.name.as_str() {
            "eth0" => "eth1".to_owned(),
            "eth1" => "eth0".to_owned(),
            other => other.to_owned(),
        };
    }
    world.kernel.touched.insert(netns);
    world.rest();
    assert_has(&world, "a", "eth0");
    assert_has(&world, "b", "eth1");
}
