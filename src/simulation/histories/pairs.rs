//! Veth pairs whose ends are changed at the worst moment.
//!
//! Owns scenarios of a few values with a known end. Must never look into the scheduler: it compares the machine. Start reading at
//! [`an_end_that_is_put_elsewhere_before_it_is_finished_is_made_there`].

use models::proto::ligato::kvscheduler::ValueState;
use serde_json::{Value as Json, json};

use super::{
    configuration::{CREATED_NAME, FOREIGN_NAME, PID, interface_key, machine},
    world::{Desired, World},
};
use crate::simulation::kernel::OWN;

fn end(name: &str, peer: &str, namespace: Option<&str>) -> Json {
    let mut json = json!({"name": name, "type": "VETH", "enabled": true, "host_if_name": name, "veth": {"peer_if_name": peer}});
    if let Some(reference) = namespace {
        json["namespace"] = json!({"type": "NSID", "reference": reference});
    }
    json
}

fn put(world: &mut World, name: &str, peer: &str, namespace: Option<&str>) {
    world.put(&interface_key(name), &end(name, peer, namespace));
}

fn assert_configured(world: &World, names: &[&str]) {
    for name in names {
        assert_eq!(world.state(&interface_key(name)), Some(ValueState::Configured), "{name}");
    }
}

#[test]
fn an_end_that_is_put_elsewhere_before_it_is_finished_is_made_there() {
    let mut world = World::start(machine(), &Desired::new());
    put(&mut world, "a", "b", None);
    put(&mut world, "b", "a", None);
    while world.link(OWN, "b").is_none() {
        assert!(world.round().expect("nobody kills the agent"), "the pair is never made");
    }
    assert_eq!(
        world.link(OWN, "b").map(|link| link.alias),
        Some(String::new()),
        "b is not finished"
    );
    put(&mut world, "b", "a", Some(FOREIGN_NAME));
    world.settle().expect("nobody kills the agent");
    assert_configured(&world, &["a", "b"]);
    let foreign = world.named(FOREIGN_NAME).expect("it was there before the agent");
    assert!(world.link(foreign, "b").is_some_and(|link| link.alias.ends_with("/b/a")));
    assert!(world.link(OWN, "b").is_none(), "nothing is left where it was");
    assert!(world.link(OWN, "a").is_some());
}

#[test]
fn an_end_that_is_deleted_before_it_is_finished_leaves_nothing() {
    let mut world = World::start(machine(), &Desired::new());
    put(&mut world, "a", "b", None);
    put(&mut world, "b", "a", Some(CREATED_NAME));
    while world.link(OWN, "a").is_none() {
        assert!(world.round().expect("nobody kills the agent"), "the pair is never made");
    }
    world.delete(&interface_key("b"));
    world.settle().expect("nobody kills the agent");
    assert!(world.link(OWN, "a").is_none());
    assert!(world.named(CREATED_NAME).is_none(), "the namespace was made for b alone");
    assert_eq!(world.state(&interface_key("a")), Some(ValueState::Pending));
}

#[test]
fn a_pair_of_which_one_end_moved_while_the_agent_was_down_is_made_anew() {
    let mut desired = Desired::new();
    desired.insert(interface_key("a"), end("a", "b", None));
    desired.insert(interface_key("b"), end("b", "a", None));
    let mut world = World::start(machine(), &desired);
    world.rest();
    desired.insert(interface_key("a"), end("a", "b", Some(FOREIGN_NAME)));
    let mut world = world.restart(&desired);
    world.settle().expect("nobody kills the agent");
    assert_configured(&world, &["a", "b"]);
    let foreign = world.named(FOREIGN_NAME).expect("it was there before the agent");
    assert!(world.link(foreign, "a").is_some());
    assert!(world.link(OWN, "a").is_none() && world.link(OWN, "b").is_some());
}

#[test]
fn a_link_whose_namespace_is_another_since_the_last_run_is_removed_where_it_was() {
    let dummy = |namespace: Option<&str>| {
        let mut json = json!({"name": "d", "type": "DUMMY", "enabled": true, "host_if_name": "d"});
        if let Some(reference) = namespace {
            json["namespace"] = json!({"type": "NSID", "reference": reference});
        }
        json
    };
    let mut desired = Desired::new();
    desired.insert(interface_key("d"), dummy(None));
    let mut world = World::start(machine(), &desired);
    world.rest();
    desired.insert(interface_key("d"), dummy(Some(FOREIGN_NAME)));
    let mut world = world.restart(&desired);
    world.settle().expect("nobody kills the agent");
    assert!(world.link(OWN, "d").is_none());
    assert!(
        world
            .link(world.named(FOREIGN_NAME).expect("it was there before the agent"), "d")
            .is_some()
    );
}

#[test]
fn a_pair_being_moved_when_the_agent_was_killed_is_whole_after_the_next_start() {
    for fuel in 0..20 {
        let mut desired = Desired::new();
        desired.insert(interface_key("a"), end("a", "b", Some(FOREIGN_NAME)));
        desired.insert(interface_key("b"), end("b", "a", Some(FOREIGN_NAME)));
        let mut world = World::start(machine(), &desired);
        world.rest();
        let mut moved = end("a", "b", None);
        moved["namespace"] = json!({"type": "PID", "reference": PID.to_string()});
        desired.insert(interface_key("a"), moved.clone());
        world.machine.get().kernel.fuel = Some(fuel);
        world.put(&interface_key("a"), &moved);
        let killed = world.settle().is_err();
        let mut world = world.restart(&desired);
        world.settle().expect("nobody kills the agent");
        let link = world
            .link(world.named(FOREIGN_NAME).expect("it was there before the agent"), "b")
            .expect("b is there");
        assert!(link.alias.ends_with("/b/a"), "killed: {killed} at {fuel}: {link:?}");
        assert_configured(&world, &["a", "b"]);
    }
}
