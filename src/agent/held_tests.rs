//! Tests of held orphans on the simulated kernel.

use models::proto::ligato::kvscheduler::ValueState;

use super::existing_tests::{Desired, World, interface};
use crate::simulation::kernel::{Kernel, OWN};
use netns_kernel::{KernelOp, PROTOCOL};

fn desired(values: &[&(String, String)]) -> Desired {
    values.iter().map(|value| (*value).clone()).collect()
}

fn end(name: &str, peer: &str) -> (String, String) {
    interface(
        name,
        &format!(r#""type":"VETH","veth":{{"peer_if_name":"{peer}"}},"ip_addresses":["10.1.0.1/24"]"#),
    )
}

fn route(interface: &str, network: &str, metric: u32) -> (String, String) {
    let key = format!("linux/l3/v2/route/{network}/{interface}");
    let value = format!(r#"{{"outgoing_interface":"{interface}","scope":"LINK","dst_network":"{network}","metric":{metric}}}"#);
    (key, value)
}

/// Returns the destinations of the agent's routes.
fn routes(world: &World) -> Vec<String> {
    let routes = &world.machine.get().kernel.spaces[&OWN].routes;
    let own = routes.iter().filter(|state| state.protocol == PROTOCOL);
    own.map(|state| state.route.destination.to_string()).collect()
}

#[test]
fn veth_pair_stays_while_one_end_is_held() {
    let (left, right) = (end("left", "right"), end("right", "left"));
    let all = desired(&[&left, &right]);
    let world = World::start(Kernel::new(), &all);

    let mut world = world.restart_holding(&desired(&[&left]));
    assert_eq!(world.log(), [], "deleting this end would delete the held one");
    assert_eq!(world.state(&left.0).0, ValueState::Pending);

    world.list(&all);
    assert_eq!(world.log(), []);
    all.keys().for_each(|key| world.assert_configured(key));
}

#[test]
fn interface_with_the_vlan_id_or_host_name_of_a_held_orphan_is_invalid_until_the_orphan_is_deleted() {
    let parent = interface("d", r#""type":"DUMMY""#);
    let vlan = |name: &str, host: &str, id: u16| {
        let rest = format!(r#""type":"VLAN","vlan":{{"parent_if_name":"d","id":{id}}},"host_if_name":"{host}""#);
        interface(name, &rest)
    };
    let lost = vlan("lost", "x", 7);
    let world = World::start(Kernel::new(), &desired(&[&parent, &lost]));

    let (same_id, same_host) = (vlan("id", "y", 7), vlan("host", "x", 8));
    let mut world = world.restart_holding(&desired(&[&parent, &same_id, &same_host]));
    for key in [&same_id.0, &same_host.0] {
        let (state, error) = world.state(key);
        assert_eq!(state, ValueState::Invalid, "{error}");
        assert!(error.contains("kept because removals are on hold"), "{error}");
    }
    assert_eq!(world.log(), [], "nothing is attempted");

    // The value of the orphan is put again, and then deleted on purpose.
    world.list(&desired(&[&parent, &lost]));
    world.assert_configured(&lost.0);
    assert_eq!(world.log(), []);
    world.list(&desired(&[&parent, &same_id, &same_host]));
    world.assert_configured(&same_id.0);
    world.assert_configured(&same_host.0);
}

#[test]
fn held_veth_pair_is_deleted_if_one_end_is_desired_with_another_type() {
    let (left, right) = (end("left", "right"), end("right", "left"));
    let world = World::start(Kernel::new(), &desired(&[&left, &right]));

    let dummy = interface("left", r#""type":"DUMMY""#);
    let world = world.restart_holding(&desired(&[&dummy]));
    world.assert_configured(&dummy.0);
    assert!(world.machine.get().kernel.link(OWN, "right").is_none());
}

#[test]
fn held_route_on_lo_is_deleted_with_its_interface() {
    let lo = interface("lo1", r#""type":"LOOPBACK","host_if_name":"lo","ip_addresses":["10.1.0.1/24"]"#);
    let route = route("lo1", "20.0.0.0/16", 0);
    let world = World::start(Kernel::new(), &desired(&[&lo, &route]));
    world.assert_configured(&route.0);

    let mut world = world.restart_holding(&desired(&[&lo]));
    assert_eq!(routes(&world), ["20.0.0.0"]);
    world.list(&desired(&[]));
    assert_eq!(routes(&world), [""; 0]);
    let log = world.log();
    let position = |is_it: fn(&KernelOp) -> bool| log.iter().position(is_it);
    let route_goes = position(|op| matches!(op, KernelOp::DeleteRoute { .. }));
    let mark_goes = position(|op| matches!(op, KernelOp::SetLink { changes, .. } if changes.alias.is_some()));
    assert!(
        route_goes.is_some() && route_goes < mark_goes,
        "the route must be deleted before the ownership mark of its interface: {log:#?}"
    );
}

#[test]
fn route_is_not_held_if_it_is_desired_with_other_attributes() {
    let dummy = interface("d", r#""type":"DUMMY","ip_addresses":["10.1.0.1/24"]"#);
    let (one, other) = (route("d", "20.0.0.0/16", 0), route("d", "21.0.0.0/16", 0));
    let world = World::start(Kernel::new(), &desired(&[&dummy, &one, &other]));

    let changed = route("d", "20.0.0.0/16", 7);
    let world = world.restart_holding(&desired(&[&dummy, &changed]));
    world.assert_configured(&changed.0);
    let mut left = routes(&world);
    left.sort();
    assert_eq!(left, ["20.0.0.0", "21.0.0.0"]);
}

/// The name of a held namespace is reused for a new namespace while the agent still keeps the held namespace open.
#[test]
fn read_of_former_namespace_does_not_affect_new_one_with_the_same_name() {
    let in_red = |name: &str| interface(name, r#""type":"DUMMY","namespace":{"type":"NSID","reference":"red"}"#);
    let (lost, kept) = (in_red("lost"), in_red("kept"));
    let world = World::start(Kernel::new(), &desired(&[&lost]));

    let mut world = world.restart_holding(&desired(&[]));
    let former = world.machine.get().kernel.names["red"];
    {
        let kernel = &mut world.machine.get().kernel;
        assert!(kernel.link(former, "lost").is_some(), "the link is held");
        kernel.remove_named("red");
        kernel.add_named("red");
    }
    world.put(&kept.0, &kept.1);
    world.rest();
    world.assert_configured(&kept.0);
    world.log();
    world.refresh(former);
    world.rest();
    world.assert_configured(&kept.0);
    assert_eq!(world.log(), []);
}
