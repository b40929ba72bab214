//! Tests of interfaces that share a link but have conflicting values for MTU, MAC address or admin state.

use models::proto::ligato::kvscheduler::ValueState;

use super::{Desired, World, arp, interface, machine, route};
use crate::simulation::kernel::OWN;

/// Returns an EXISTING interface on `nic0` with additional fields.
fn existing(name: &str, rest: &str) -> (String, String) {
    interface(name, &format!(r#""type":"EXISTING","host_if_name":"nic0"{rest}"#))
}

/// Returns a VETH pair in the agent's own namespace.
fn pair(mtu: u32) -> [(String, String); 2] {
    [
        interface("left", &format!(r#""type":"VETH","veth":{{"peer_if_name":"right"}},"mtu":{mtu}"#)),
        interface("right", r#""type":"VETH","veth":{"peer_if_name":"left"}"#),
    ]
}

/// Returns an EXISTING interface on the link of the VETH `left`.
fn beside(mtu: u32) -> (String, String) {
    interface(
        "beside",
        &format!(r#""type":"EXISTING","host_if_name":"left","mtu":{mtu},"ip_addresses":["10.2.0.1/24"]"#),
    )
}

/// Test case with a second value that conflicts with the first of the initial values. `corrected` is the second value without the
/// conflict, and `message` is the expected error message.
struct Conflict {
    first: Vec<(String, String)>,
    second: (String, String),
    corrected: (String, String),
    message: &'static str,
}

fn conflicts() -> [Conflict; 5] {
    let conflict = |first: &[(String, String)], second, corrected, message| Conflict {
        first: first.to_vec(),
        second,
        corrected,
        message,
    };
    let disabled = |name: &str| {
        let (key, value) = existing(name, "");
        (key, value.replace(r#""enabled":true,"#, ""))
    };
    let addressed = |name: &str, mtu: &str, address: &str| existing(name, &format!(r#"{mtu},"ip_addresses":["{address}/24"]"#));
    let mac = |name: &str, last: u8| existing(name, &format!(r#","phys_address":"02:00:00:00:00:0{last}""#));
    [
        conflict(
            &[addressed("a", r#","mtu":1400"#, "10.1.0.1")],
            addressed("b", r#","mtu":9000"#, "10.2.0.1"),
            addressed("b", "", "10.2.0.1"),
            "interface b asks for MTU 9000 on link nic0, but interface a has MTU 1400; change one of the two",
        ),
        conflict(
            &[addressed("b", r#","mtu":1400"#, "10.2.0.1")],
            addressed("a", r#","mtu":9000"#, "10.1.0.1"),
            addressed("a", r#","mtu":1400"#, "10.1.0.1"),
            "interface a asks for MTU 9000 on link nic0, but interface b has MTU 1400; change one of the two",
        ),
        conflict(
            &[mac("a", 1)],
            mac("b", 2),
            mac("b", 1),
            "interface b asks for MAC address 02:00:00:00:00:02 on link nic0, but interface a has MAC address 02:00:00:00:00:01; \
             change one of the two",
        ),
        conflict(
            &[existing("a", "")],
            disabled("b"),
            existing("b", ""),
            "interface b asks for admin state DOWN on link nic0, but interface a has admin state UP; change one of the two",
        ),
        conflict(
            &pair(1400),
            beside(1500),
            beside(1400),
            "interface beside asks for MTU 1500 on link left, but interface left has MTU 1400; change one of the two",
        ),
    ]
}

/// The second value reports which other value it conflicts with, and causes no operation, not even after a restart.
#[test]
fn second_conflicting_value_on_a_link_is_invalid() {
    for Conflict {
        first,
        second,
        corrected,
        message,
    } in conflicts()
    {
        let mut desired: Desired = first.iter().cloned().collect();
        let mut world = World::start(machine(), &desired);
        world.log();
        let assert_conflict = |world: &World| {
            assert_eq!(world.state(&second.0), (ValueState::Invalid, message.to_owned()));
            first.iter().for_each(|(key, _)| world.assert_configured(key));
            assert_eq!(world.log(), [], "{message}");
        };
        world.put(&second.0, &second.1);
        world.rest();
        assert_conflict(&world);
        world.refresh(OWN);
        world.rest();
        assert_conflict(&world);
        desired.extend([second.clone()]);
        for _ in 0..2 {
            world = world.restart(&desired);
            assert_conflict(&world);
        }

        // The conflict ends as soon as the values agree or the other value is deleted.
        world.put(&corrected.0, &corrected.1);
        world.rest();
        world.assert_configured(&second.0);
        world.log();
        if first.len() == 1 {
            world.put(&second.0, &second.1);
            world.rest();
            assert_conflict(&world);
            world.delete(&first[0].0);
            world.rest();
            world.assert_configured(&second.0);
        }
    }
}

/// A conflict also ends when the other value changes. A change that leads to a conflict leaves the applied value unchanged.
#[test]
fn change_of_other_value_ends_or_starts_conflict() {
    let addressed = |name: &str, mtu: u32, address: &str| existing(name, &format!(r#","mtu":{mtu},"ip_addresses":["{address}/24"]"#));
    let (a, b) = (|mtu| addressed("a", mtu, "10.1.0.1"), |mtu| addressed("b", mtu, "10.2.0.1"));
    let mut world = World::start(machine(), &[a(1400), b(9000)].into());
    assert_eq!(world.state(&b(0).0).0, ValueState::Invalid);
    let both = ["10.1.0.1", "10.2.0.1", "10.5.5.1"];
    assert_eq!(world.addresses("nic0"), ["10.1.0.1", "10.5.5.1"]);
    world.put(&a(9000).0, &a(9000).1);
    world.rest();
    world.assert_configured(&a(0).0);
    world.assert_configured(&b(0).0);
    assert_eq!(world.addresses("nic0"), both);

    world.log();
    world.put(&b(1400).0, &b(1400).1);
    world.rest();
    let desired: Desired = [a(9000), b(1400)].into();
    for _ in 0..2 {
        let (state, message) = world.state(&b(0).0);
        assert_eq!(state, ValueState::Invalid);
        assert!(message.contains("interface a has MTU 9000"), "{message}");
        world.assert_configured(&a(0).0);
        assert_eq!(world.log(), []);
        assert_eq!(world.addresses("nic0"), both);
        world = world.restart(&desired);
    }
    world.put(&a(1400).0, &a(1400).1);
    world.rest();
    world.assert_configured(&a(0).0);
    world.assert_configured(&b(0).0);
    assert_eq!(world.log(), []);
}

/// Two interfaces that are changed in the same way do not block each other, whether they change together or one after the other.
#[test]
fn same_change_of_two_values_is_no_conflict() {
    let value = |name: &str, mtu: u32| existing(name, &format!(r#","mtu":{mtu},"ip_addresses":["10.1.0.1/24"]"#));
    let ((a, before_a), (b, before_b)) = (value("a", 1400), value("b", 1400));
    let ((_, after_a), (_, after_b)) = (value("a", 9000), value("b", 9000));
    for at_once in [true, false] {
        let desired: Desired = [(a.clone(), before_a.clone()), (b.clone(), before_b.clone())].into();
        let mut world = World::start(machine(), &desired);
        if at_once {
            world.change(&[(&a, Some(&after_a)), (&b, Some(&after_b))]);
        } else {
            world.put(&a, &after_a);
            world.rest();
            assert_eq!(world.state(&a).0, ValueState::Invalid);
            world.put(&b, &after_b);
        }
        world.rest();
        world.assert_configured(&a);
        world.assert_configured(&b);
    }
}

/// If changes of two interfaces conflict, the interface that comes first in key order wins. The order of the requests does not
/// matter.
#[test]
fn first_key_wins_if_two_changes_conflict() {
    let value = |name: &str, mtu: u32| existing(name, &format!(r#","mtu":{mtu},"ip_addresses":["10.1.0.1/24"]"#));
    let ((a, before_a), (b, before_b)) = (value("a", 1400), value("b", 1400));
    let ((_, after_a), (_, after_b)) = (value("a", 9000), value("b", 1500));
    let (change_a, change_b) = ((a.as_str(), Some(after_a.as_str())), (b.as_str(), Some(after_b.as_str())));
    for transactions in [
        vec![vec![change_a, change_b]],
        vec![vec![change_a], vec![change_b]],
        vec![vec![change_b], vec![change_a]],
    ] {
        let desired: Desired = [(a.clone(), before_a.clone()), (b.clone(), before_b.clone())].into();
        let mut world = World::start(machine(), &desired);
        for changes in &transactions {
            world.change(changes);
            world.rest();
        }
        world.assert_configured(&a);
        let (state, message) = world.state(&b);
        assert_eq!(state, ValueState::Invalid);
        assert!(
            message.contains("asks for MTU 1500 on link nic0, but interface a has MTU 9000"),
            "{message}"
        );
        world.delete(&a);
        world.rest();
        world.assert_configured(&b);
    }
}

/// A change that keeps the link settings of an interface does not conflict with a simultaneous change of another interface.
#[test]
fn change_of_addresses_only_is_no_conflict() {
    let a = existing("a", r#","ip_addresses":["10.1.0.1/24"]"#);
    let a_down = existing("a", "").1.replace(r#""enabled":true,"#, "");
    let b = existing("b", r#","link_only":true,"ip_addresses":["10.5.5.1/24"]"#);
    let b_changed = existing("b", r#","ip_addresses":["10.2.0.1/24"]"#);
    let mut world = World::start(machine(), &[a.clone(), b.clone()].into());
    world.change(&[(&a.0, Some(&a_down)), (&b.0, Some(&b_changed.1))]);
    world.rest();
    world.assert_configured(&b.0);
    let (state, message) = world.state(&a.0);
    assert_eq!(state, ValueState::Invalid);
    assert!(message.contains("interface b has admin state UP"), "{message}");
}

/// An interface with a refused change does not block other interfaces on its link. If its old value is desired again, the old
/// value takes precedence over interfaces with later keys. An interface with a later key that was configured in the meantime is
/// removed from the link if it conflicts with the old value.
#[test]
fn value_that_returns_to_applied_state_takes_precedence_by_key() {
    let addressed = |name: &str, rest: &str, address: &str| existing(name, &format!(r#"{rest},"ip_addresses":["{address}/24"]"#));
    let [before, after] = ["01", "02"].map(|mac| format!(r#","mtu":1400,"phys_address":"02:00:00:00:00:{mac}""#));
    let (a, after) = (addressed("a", &before, "10.1.0.1"), addressed("a", &after, "10.1.0.1"));
    let b = addressed("b", r#","phys_address":"02:00:00:00:00:01""#, "10.2.0.1");
    let c = addressed("c", r#","mtu":9000"#, "10.3.0.1");
    let mut world = World::start(machine(), &[a.clone(), b.clone()].into());
    world.put(&after.0, &after.1);
    world.put(&c.0, &c.1);
    world.rest();
    assert_eq!(world.state(&a.0).0, ValueState::Invalid);
    [&b.0, &c.0].into_iter().for_each(|key| world.assert_configured(key));
    assert_eq!(world.addresses("nic0"), ["10.1.0.1", "10.2.0.1", "10.3.0.1", "10.5.5.1"]);
    world.put(&a.0, &a.1);
    world.rest();
    [&a.0, &b.0].into_iter().for_each(|key| world.assert_configured(key));
    let (state, message) = world.state(&c.0);
    assert_eq!(state, ValueState::Invalid);
    assert!(message.contains("interface a has MTU 1400"), "{message}");
    assert_eq!(world.addresses("nic0"), ["10.1.0.1", "10.2.0.1", "10.5.5.1"]);
}

/// After a restart, objects of an interface in conflict are removed, because nothing shows that the interface was applied before.
#[test]
fn restart_removes_objects_of_interface_in_conflict() {
    let first = existing("a", r#","mtu":1400,"ip_addresses":["10.1.0.1/24"]"#);
    let before = existing("b", r#","ip_addresses":["10.2.0.1/24"]"#);
    let after = existing("b", r#","mtu":9000"#);
    let on_it = [route("b", "10.8.0.0/16", "10.5.5.9"), arp("b", "10.5.5.7")];
    let mut desired: Desired = [first, before].into_iter().chain(on_it.clone()).collect();
    let mut world = World::start(machine(), &desired);
    on_it.iter().for_each(|(key, _)| world.assert_configured(key));
    desired.extend([after.clone()]);
    world.put(&after.0, &after.1);
    world.rest();
    world = world.restart(&desired);
    assert_eq!(world.state(&after.0).0, ValueState::Invalid);
    on_it
        .iter()
        .for_each(|(key, _)| assert_eq!(world.state(key).0, ValueState::Pending));
    assert_eq!(world.tables(), []);
    assert_eq!(world.machine.get().kernel.spaces[&OWN].neighbours, []);
    world.log();
    world = world.restart(&desired);
    assert_eq!(world.log(), []);
}

/// The interface that creates a link takes precedence over other interfaces on the link. A change of its desired value can cause a conflict, but a
/// foreign change of the link cannot.
#[test]
fn interface_that_creates_the_link_wins_conflicts() {
    let desired: Desired = pair(1400).into_iter().chain([beside(1400)]).collect();
    let mut world = World::start(machine(), &desired);
    world.assert_configured(&beside(0).0);
    assert_eq!(world.addresses("left"), ["10.2.0.1"]);
    world.log();
    let index = world.machine.get().kernel.link(OWN, "left").expect("the object exists").index;
    world.machine.get().kernel.link_mut(OWN, index).mtu = 1300;
    world.refresh(OWN);
    world.rest();
    world.assert_configured(&beside(0).0);
    assert_eq!(world.log().len(), 1, "only the MTU is repaired");

    // Both values change in one transaction, so there is no conflict in between.
    let ([left, _], value) = (pair(1500), beside(1500));
    world.change(&[(&left.0, Some(&left.1)), (&value.0, Some(&value.1))]);
    world.rest();
    world.assert_configured(&value.0);
    assert_eq!(world.log().len(), 1, "only the MTU is changed");

    world.put(&left.0, &pair(1400)[0].1);
    world.rest();
    world.assert_configured(&left.0);
    let (state, message) = world.state(&value.0);
    assert_eq!(state, ValueState::Invalid);
    assert!(message.contains("interface left has MTU 1400"), "{message}");
    assert_eq!(world.addresses("left"), [""; 0]);
    world.put(&left.0, &left.1);
    world.rest();
    world.assert_configured(&value.0);
    assert_eq!(world.addresses("left"), ["10.2.0.1"]);
}
