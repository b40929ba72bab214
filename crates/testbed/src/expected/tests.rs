//! Tests of the oracle with results that can be checked by hand.

use super::*;
use crate::values::{Arp, Interface, Kind, Port, PortVlan, Route};

/// Calls `check` with the expected result for these values. The namespace `red` exists, and there are no foreign objects.
fn of(values: &[Value], check: impl Fn(&Expected<'_, u8>)) {
    let places = [(Reference::Own, 0), (Reference::named("red"), 1)];
    check(&Expected::of(values, &Surroundings::quiet(places.into())));
}

fn red(name: &str, kind: Kind) -> Interface {
    Interface::new(name, kind, Reference::named("red"))
}

fn verdict(expected: &Expected<'_, u8>, name: &str) -> Verdict {
    expected.verdicts()[&crate::values::interface_key(name)]
}

#[test]
fn veth_without_its_peer_is_pending_and_has_no_link() {
    let end = |name: &str, peer: &str| Value::Interface(Interface::veth(name, peer, Reference::named("red")));
    of(&[end("a", "b")], |expected| {
        assert_eq!(verdict(expected, "a"), Verdict::Pending);
        assert_eq!(expected.spaces(), BTreeMap::new());
    });
    of(&[end("a", "b"), end("b", "a")], |expected| {
        assert_eq!(verdict(expected, "a"), Verdict::Configured);
        assert_eq!(expected.spaces()[&1].links["a"].mark, "a/b");
    });
}

#[test]
fn values_in_an_unavailable_namespace_are_pending() {
    let away = Interface::new("d", Kind::Dummy, Reference::Pid(7)).address("10.0.0.1/24");
    let values = [Value::Interface(away), Value::Arp(Arp::new("d", "10.0.0.9", "02:00:00:00:00:09"))];
    of(&values, |expected| {
        assert!(expected.verdicts().values().all(|verdict| *verdict == Verdict::Pending));
        assert_eq!(expected.verdicts().len(), 2);
    });
}

#[test]
fn route_is_pending_until_its_gateway_is_reachable() {
    let dummy = Value::Interface(red("d", Kind::Dummy).address("10.0.0.1/24"));
    let near = Value::Route(Route::new("d", "10.2.0.0/16", "10.0.0.2"));
    let far = Value::Route(Route::new("d", "10.3.0.0/16", "10.4.0.2"));
    let on_link = Value::Route(Route::new("d", "10.4.0.0/16", ""));
    of(&[dummy.clone(), near.clone(), far.clone()], |expected| {
        assert_eq!(expected.verdicts()[&near.key()], Verdict::Configured);
        assert_eq!(expected.verdicts()[&far.key()], Verdict::Pending);
        assert_eq!(expected.spaces()[&1].routes.len(), 1);
    });
    of(&[dummy.clone(), far.clone(), on_link.clone()], |expected| {
        assert_eq!(expected.verdicts()[&far.key()], Verdict::Configured);
        assert_eq!(expected.spaces()[&1].routes.len(), 2);
    });
}

#[test]
fn route_is_in_the_table_of_its_vrf() {
    let vrf = Value::Interface(red("v", Kind::Vrf(10)));
    let member = red("d", Kind::Dummy).address("10.0.0.1/24").vrf("v");
    let route = Value::Route(Route::new("d", "10.2.0.0/16", "10.0.0.2"));
    of(&[vrf, Value::Interface(member.clone()), route.clone()], |expected| {
        let space = &expected.spaces()[&1];
        assert_eq!(space.routes.first().map(|route| route.table), Some(10));
        assert_eq!(space.links["d"].master.as_deref(), Some("v"));
    });
    // Without its VRF, the interface has no addresses, and no value that depends on it can be applied.
    of(&[Value::Interface(member), route.clone()], |expected| {
        assert_eq!(verdict(expected, "d"), Verdict::Pending);
        assert_eq!(expected.verdicts()[&route.key()], Verdict::Pending);
    });
}

#[test]
fn port_is_invalid_with_its_bridge_elsewhere_and_pending_without_it() {
    let vlan = PortVlan {
        vid: 5,
        pvid: true,
        untagged: false,
    };
    let port = Interface {
        port: Some(Port {
            bridge: "b".to_owned(),
            isolated: true,
        }),
        vlans: vec![vlan],
        ..red("d", Kind::Dummy)
    };
    let kind = Kind::Bridge {
        stp: true,
        ageing: 60,
        filtering: true,
    };
    let bridge = |netns| Value::Interface(Interface::new("b", kind.clone(), netns));
    let port = Value::Interface(port);
    of(std::slice::from_ref(&port), |expected| {
        assert_eq!(verdict(expected, "d"), Verdict::Pending)
    });
    of(&[port.clone(), bridge(Reference::Own)], |expected| {
        assert_eq!(verdict(expected, "d"), Verdict::Invalid);
        assert_eq!(expected.spaces()[&1].links["d"].isolated, None);
    });
    of(&[port.clone(), bridge(Reference::named("red"))], |expected| {
        let links = &expected.spaces()[&1].links;
        assert_eq!((links["d"].master.as_deref(), links["d"].isolated), (Some("b"), Some(true)));
        let settings = [("ageing_time", 6_000), ("stp_state", 1), ("vlan_filtering", 1)];
        assert_eq!(links["b"].settings, settings.into());
        assert_eq!(links["d"].vlans, Some([vlan].into()));
        assert_eq!(links["b"].vlans, Some(BTreeSet::new()));
    });
}

#[test]
fn vlan_without_loose_binding_waits_for_its_parent_to_be_up() {
    let parent = Interface {
        enabled: false,
        ..red("d", Kind::Dummy)
    };
    let vlan = |loose| {
        let kind = Kind::Vlan {
            parent: "d".to_owned(),
            id: 5,
            loose,
        };
        Value::Interface(red("n", kind))
    };
    let parent = Value::Interface(parent);
    of(&[parent.clone(), vlan(false)], |expected| {
        assert_eq!(verdict(expected, "n"), Verdict::Pending)
    });
    of(&[parent.clone(), vlan(true)], |expected| {
        assert_eq!(expected.spaces()[&1].links["n"].settings, BTreeMap::from([("flags", 5), ("id", 5)]));
    });
}

#[test]
fn first_of_several_addresses_in_a_subnet_is_primary() {
    let dummy = red("d", Kind::Dummy)
        .address("10.0.0.2/24")
        .address("10.0.0.1/24")
        .address("10.1.0.1/24");
    of(&[Value::Interface(dummy)], |expected| {
        let primary = &expected.spaces()[&1].primary;
        assert_eq!(
            *primary,
            BTreeSet::from([("d".to_owned(), "10.0.0.2".parse().expect("an address"))])
        );
    });
}

#[test]
fn kind_missing_in_the_kernel_is_refused() {
    let values = [Value::Interface(red("d", Kind::Dummy))];
    let mut surroundings = Surroundings::quiet(BTreeMap::from([(Reference::named("red"), 1)]));
    surroundings.lacks.insert("dummy");
    let expected = Expected::of(&values, &surroundings);
    assert_eq!(verdict(&expected, "d"), Verdict::Refused);
    assert!(Verdict::Refused.admits("FAILED") && !Verdict::Refused.admits("CONFIGURED"));
    assert_eq!(expected.spaces(), BTreeMap::new());
}

#[test]
fn one_of_two_conflicting_existing_interfaces_is_applied() {
    let existing = |name: &str, mtu: u32| Value::Interface(Interface::new(name, Kind::Existing, Reference::Own).host_name("nic").mtu(mtu));
    let values = [existing("a", 1400), existing("b", 1300)];
    let mut surroundings = Surroundings::quiet(BTreeMap::from([(Reference::Own, 0)]));
    surroundings.nics.insert("nic".to_owned(), Nic::default());
    assert!(Expected::of(&values, &surroundings).check_conflicts().is_err(), "both are applied");
    surroundings.reported.insert(values[1].key(), "INVALID");
    let expected = Expected::of(&values, &surroundings);
    assert_eq!(expected.check_conflicts(), Ok(()));
    assert_eq!(
        (verdict(&expected, "a"), verdict(&expected, "b")),
        (Verdict::Configured, Verdict::Invalid)
    );
    surroundings.reported.insert(values[0].key(), "INVALID");
    assert!(Expected::of(&values, &surroundings).check_conflicts().is_err(), "none is applied");
}

#[test]
fn one_of_two_vlans_with_the_same_id_and_parent_has_a_link() {
    let vlan = |name: &str, id| {
        let kind = Kind::Vlan {
            parent: "d".to_owned(),
            id,
            loose: false,
        };
        Value::Interface(red(name, kind))
    };
    let values = [Value::Interface(red("d", Kind::Dummy)), vlan("n", 5), vlan("m", 5), vlan("k", 6)];
    let mut surroundings = Surroundings::quiet(BTreeMap::from([(Reference::named("red"), 1)]));
    assert!(Expected::of(&values, &surroundings).check_conflicts().is_err(), "both are applied");
    surroundings.reported.insert(values[1].key(), "INVALID");
    let expected = Expected::of(&values, &surroundings);
    assert_eq!(expected.check_conflicts(), Ok(()));
    assert_eq!(
        (verdict(&expected, "n"), verdict(&expected, "m")),
        (Verdict::Invalid, Verdict::Configured)
    );
    let links: Vec<String> = expected.spaces()[&1].links.keys().cloned().collect();
    assert_eq!(links, ["d", "k", "m"]);
}
