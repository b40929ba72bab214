//! Kernel tests of addresses, neighbours and routes, and of their snapshots.

use netns_kernel::{
    AddressDetection, AddressState, FailureKind, Guard, KernelOp, LinkChanges, NeighbourState, NetnsId, PROTOCOL, Reply, RouteSpec,
    RouteState, Snapshot,
};
use nix::libc;

use crate::world::*;

pub fn add_address(netns: NetnsId, link: &str, text: &str) -> KernelOp {
    KernelOp::AddAddress {
        netns,
        link: link.to_owned(),
        guard: Guard::Any,
        address: address(text),
        detection: AddressDetection::Default,
        shared: false,
    }
}

pub fn delete_address(netns: NetnsId, link: &str, text: &str) -> KernelOp {
    KernelOp::DeleteAddress {
        netns,
        link: link.to_owned(),
        guard: Guard::Any,
        address: address(text),
        shared: false,
    }
}

pub fn add_route(netns: NetnsId, link: &str, route: RouteSpec) -> KernelOp {
    KernelOp::AddRoute {
        netns,
        link: link.to_owned(),
        guard: Guard::Any,
        route,
        replace: false,
        adopt: false,
    }
}

pub fn delete_route(netns: NetnsId, link: &str, route: RouteSpec) -> KernelOp {
    KernelOp::DeleteRoute {
        netns,
        link: link.to_owned(),
        guard: Guard::Any,
        route,
    }
}

pub fn set_neighbour(netns: NetnsId, link: &str, to: &str, mac: [u8; 6]) -> KernelOp {
    KernelOp::SetNeighbour {
        netns,
        link: link.to_owned(),
        guard: Guard::Any,
        address: ip_address(to),
        mac,
        adopt: false,
    }
}

fn addresses_of<'a>(snapshot: &'a Snapshot, link: &str) -> Vec<&'a AddressState> {
    let index = snapshot.links.iter().find(|found| found.name == link).expect("the link").index;
    snapshot
        .addresses
        .iter()
        .filter(|address| address.link == index && address.scope != 253)
        .collect()
}

#[test]
fn addresses_are_added_with_the_ownership_mark_and_deleted() {
    in_private_namespaces(|world| {
        let a = world.open("a");
        world.veth((a, "x"), (a, "y"));
        world.op(add_address(a, "x", "10.1.2.3/24"));
        world.op(add_address(a, "x", "fd00::1/64"));
        let found = ip("-n a address show dev x");
        let listed: Vec<_> = found[0]["addr_info"]
            .as_array()
            .expect("a list")
            .iter()
            .map(|address| address["local"].clone())
            .collect();
        assert!(
            listed.contains(&"10.1.2.3".into()) && listed.contains(&"fd00::1".into()),
            "{listed:?}"
        );
        let snapshot = world.dump(a);
        for address in addresses_of(&snapshot, "x") {
            assert_eq!(address.protocol, PROTOCOL, "{address:?}");
        }

        for text in ["10.1.2.3/24", "fd00::1/64", "10.9.9.9/24", "fd09::9/64"] {
            world.op(delete_address(a, "x", text));
        }
        world.op(delete_address(a, "missing", "10.1.2.3/24"));
        assert!(addresses_of(&world.dump(a), "x").is_empty());
    });
}

#[test]
fn existing_address_gets_the_ownership_mark() {
    in_private_namespaces(|world| {
        let a = world.open("a");
        world.veth((a, "x"), (a, "y"));
        run("ip", "-n a address add 10.1.2.3/24 dev x");
        run("ip", "-n a address add fd00::1/64 dev x nodad");
        world.op(add_address(a, "x", "10.1.2.3/24"));
        world.op(add_address(a, "x", "fd00::1/64"));
        let snapshot = world.dump(a);
        let found = addresses_of(&snapshot, "x");
        assert_eq!(found.len(), 2);
        assert!(found.iter().all(|address| address.protocol == PROTOCOL), "{found:?}");
    });
}

#[test]
fn ipv6_address_enables_ipv6_on_its_link() {
    in_private_namespaces(|world| {
        let a = world.open("a");
        world.veth((a, "x"), (a, "y"));
        run("ip", "netns exec a sysctl -q -w net.ipv6.conf.x.disable_ipv6=1");
        world.op(add_address(a, "x", "fd00::1/64"));
        assert_eq!(run("ip", "netns exec a sysctl -n net.ipv6.conf.x.disable_ipv6").trim(), "0");
        assert_eq!(run("ip", "netns exec a sysctl -n net.ipv6.conf.y.disable_ipv6").trim(), "0");
        assert_eq!(addresses_of(&world.dump(a), "x").len(), 1);
    });
}

#[test]
fn neighbour_is_permanent_marked_and_replaced_in_place() {
    in_private_namespaces(|world| {
        let a = world.open("a");
        world.veth((a, "x"), (a, "y"));
        world.op(set_neighbour(a, "x", "10.0.0.9", [2, 0, 0, 0, 0, 1]));
        world.op(set_neighbour(a, "x", "10.0.0.9", [2, 0, 0, 0, 0, 2]));
        world.op(set_neighbour(a, "x", "fd00::9", [2, 0, 0, 0, 0, 3]));
        let found = ip("-n a neighbour show dev x");
        let entry = found
            .as_array()
            .expect("a list")
            .iter()
            .find(|entry| entry["dst"] == "10.0.0.9")
            .expect("the entry");
        assert_eq!(entry["lladdr"], "02:00:00:00:00:02");
        assert_eq!(entry["state"][0], "PERMANENT");
        assert_eq!(entry["protocol"], "158");
        assert_eq!(world.dump(a).neighbours.len(), 2);
        for _ in 0..2 {
            world.op(KernelOp::DeleteNeighbour {
                netns: a,
                link: "x".to_owned(),
                guard: Guard::Any,
                address: ip_address("10.0.0.9"),
            });
        }
        assert_eq!(world.dump(a).neighbours.len(), 1);
    });
}

#[test]
fn routes_with_tables_and_metrics_are_added_and_deleted() {
    in_private_namespaces(|world| {
        let a = world.open("a");
        world.veth((a, "x"), (a, "y"));
        world.op(add_address(a, "x", "10.1.0.1/24"));
        world.op(add_address(a, "x", "fd00::1/64"));
        let routes = [
            route("10.2.0.0/16", Some("10.1.0.2")),
            route("10.3.0.0/16", None),
            route("0.0.0.0/0", Some("10.1.0.2")),
            RouteSpec {
                table: 1000,
                metric: 77,
                ..route("10.2.0.0/16", Some("10.1.0.2"))
            },
            route("fd02::/64", Some("fd00::2")),
            route("::/0", Some("fd00::2")),
            RouteSpec {
                metric: 5,
                ..route("fd03::/64", None)
            },
            route("10.4.0.0/16", Some("fd00::2")),
        ];
        for route in &routes {
            world.op(add_route(a, "x", route.clone()));
        }
        let via = &ip("-n a route show 10.2.0.0/16")[0];
        assert_eq!(
            (&via["gateway"], &via["dev"], &via["protocol"]),
            (&"10.1.0.2".into(), &"x".into(), &"158".into())
        );
        assert_eq!(ip("-n a route show 10.3.0.0/16")[0]["scope"], "link");
        assert_eq!(ip("-n a route show table 1000")[0]["metric"], 77);
        assert_eq!(ip("-n a -6 route show fd02::/64")[0]["metric"], 1024);
        assert_eq!(ip("-n a route show default")[0]["gateway"], "10.1.0.2");

        let index = world.dump(a).links.iter().find(|link| link.name == "x").expect("x").index;
        let found = world.dump(a).routes;
        assert_eq!(found.len(), routes.len());
        for mut route in routes.clone() {
            if route.destination.is_ipv6() && route.metric == 0 {
                route.metric = 1024;
            }
            let state = RouteState {
                link: index,
                route,
                protocol: PROTOCOL,
            };
            assert!(found.contains(&state), "{state:?} in {found:?}");
        }
        for route in routes.iter().chain(&routes) {
            world.op(delete_route(a, "x", route.clone()));
        }
        assert_eq!(world.dump(a).routes, []);
    });
}

#[test]
fn foreign_route_is_replaced_only_when_adopted_and_never_deleted() {
    in_private_namespaces(|world| {
        let a = world.open("a");
        world.veth((a, "x"), (a, "y"));
        world.op(add_address(a, "x", "10.1.0.1/24"));
        run("ip", "-n a route add 10.2.0.0/16 via 10.1.0.9 dev x");
        run("ip", "-n a route add 10.5.0.0/16 via 10.1.0.9 dev x");
        let ours = route("10.2.0.0/16", Some("10.1.0.9"));
        let failure = world.refused(add_route(a, "x", ours.clone()));
        assert_eq!(failure.kind, FailureKind::Foreign);
        assert!(
            failure.message.contains("via 10.1.0.9, protocol 3") && failure.message.contains("adopt"),
            "{failure}"
        );
        world.op(delete_route(a, "x", ours.clone()));
        assert_eq!(
            ip("-n a route show 10.2.0.0/16")[0]["gateway"],
            "10.1.0.9",
            "the foreign route must stay"
        );

        let route = RouteSpec {
            gateway: Some(ip_address("10.1.0.3")),
            ..ours
        };
        let replace = |adopt| KernelOp::AddRoute {
            netns: a,
            link: "x".to_owned(),
            guard: Guard::Any,
            route: route.clone(),
            replace: true,
            adopt,
        };
        assert_eq!(world.refused(replace(false)).kind, FailureKind::Foreign);
        assert_eq!(
            ip("-n a route show 10.2.0.0/16")[0]["gateway"],
            "10.1.0.9",
            "the foreign route must not be replaced"
        );
        assert_eq!(world.op(replace(true)), Reply::Adopted);
        assert_eq!(ip("-n a route show 10.2.0.0/16")[0]["gateway"], "10.1.0.3");
        assert_eq!(world.dump(a).routes.len(), 1, "foreign routes must not be in the snapshot");
        assert_eq!(world.op(replace(false)), Reply::Done, "the route must belong to the agent now");
    });
}

#[test]
fn foreign_ipv6_route_or_route_in_a_table_is_not_replaced() {
    in_private_namespaces(|world| {
        let a = world.open("a");
        world.veth((a, "x"), (a, "y"));
        world.op(add_address(a, "x", "10.1.0.1/24"));
        world.op(add_address(a, "x", "fd00::1/64"));
        run("ip", "-n a -6 route add fd02::/64 via fd00::9 dev x");
        run("ip", "-n a route add 10.2.0.0/16 via 10.1.0.9 dev x table 1000 metric 7");
        let in_table = RouteSpec {
            table: 1000,
            metric: 7,
            ..route("10.2.0.0/16", Some("10.1.0.3"))
        };
        for route in [route("fd02::/64", Some("fd00::3")), in_table] {
            for (replace, adopt, foreign) in [(false, false, true), (true, false, true), (false, true, false)] {
                let done = world.try_op(KernelOp::AddRoute {
                    netns: a,
                    link: "x".to_owned(),
                    guard: Guard::Any,
                    route: route.clone(),
                    replace,
                    adopt,
                });
                match foreign {
                    true => assert_eq!(done.map_err(|failure| failure.kind), Err(FailureKind::Foreign)),
                    false => assert_eq!(done, Ok(Reply::Adopted)),
                }
            }
        }
        assert_eq!(world.dump(a).routes.len(), 2);
    });
}

#[test]
fn permanent_foreign_neighbour_is_replaced_only_when_adopted() {
    in_private_namespaces(|world| {
        let a = world.open("a");
        world.veth((a, "x"), (a, "y"));
        let mac = [2, 0, 0, 0, 0, 7];
        run("ip", "-n a neighbour add 10.1.0.7 dev x lladdr 02:00:00:00:00:99 nud permanent");
        run("ip", "-n a neighbour add 10.1.0.8 dev x lladdr 02:00:00:00:00:98 nud stale");
        let set = |to: &str, adopt| KernelOp::SetNeighbour {
            netns: a,
            link: "x".to_owned(),
            guard: Guard::Any,
            address: ip_address(to),
            mac,
            adopt,
        };
        let failure = world.refused(set("10.1.0.7", false));
        assert_eq!(failure.kind, FailureKind::Foreign);
        assert!(failure.message.contains("02:00:00:00:00:99"), "{failure}");
        assert_eq!(world.op(set("10.1.0.8", false)), Reply::Done);
        assert_eq!(world.op(set("10.1.0.7", true)), Reply::Adopted);
        assert_eq!(
            world.op(set("10.1.0.7", false)),
            Reply::Done,
            "the neighbour must belong to the agent now"
        );
        assert_eq!(world.dump(a).neighbours.len(), 2);
    });
}

#[test]
fn failure_contains_the_kernel_message_and_a_remedy() {
    in_private_namespaces(|world| {
        let a = world.open("a");
        world.veth((a, "x"), (a, "y"));
        let failure = world.refused(add_route(a, "x", route("10.2.0.0/16", Some("10.77.0.1"))));
        assert_eq!(failure.errno, Some(libc::ENETUNREACH));
        println!("{failure}");
        for part in [
            "10.2.0.0/16 via 10.77.0.1",
            "\"x\"",
            "network namespace \"a\"",
            "ENETUNREACH",
            "Nexthop has invalid gateway",
            "gateway must",
        ] {
            assert!(failure.message.contains(part), "{part} in {failure}");
        }
        let failure = world.refused(add_route(a, "x", route("fd02::/64", Some("10.1.0.1"))));
        assert!(failure.message.contains("IPv4 gateway"), "{failure}");
        let failure = world.refused(add_address(a, "missing", "10.0.0.1/24"));
        assert_eq!(failure.errno, Some(libc::ENODEV));
        assert!(failure.message.contains("no link \"missing\""), "{failure}");
    });
}

#[test]
fn snapshot_contains_exactly_the_own_objects_and_all_links() {
    in_private_namespaces(|world| {
        let (a, b) = (world.open("a"), world.open("b"));
        world.veth((a, "x"), (b, "y"));
        world.op(set_link(
            a,
            "x",
            LinkChanges {
                tx_checksum: Some(false),
                mtu: Some(1400),
                ..LinkChanges::default()
            },
        ));
        world.op(add_address(a, "x", "10.1.0.1/24"));
        world.op(add_route(a, "x", route("10.2.0.0/16", Some("10.1.0.2"))));
        world.op(set_neighbour(a, "x", "10.1.0.2", [2, 0, 0, 0, 0, 7]));
        // Add foreign objects. The snapshot must contain the foreign links, but no other foreign objects.
        run("ip", "-n a neighbour add 10.1.0.3 lladdr 02:00:00:00:00:08 dev x nud permanent");
        run("ip", "-n a route add 10.3.0.0/16 via 10.1.0.2 dev x");
        run("ip", "-n a link add foreign type veth peer name other");

        let snapshot = world.dump(a);
        let witness = ip("-n a link show");
        for (link, seen) in snapshot.links.iter().zip(witness.as_array().expect("a list")) {
            assert_eq!(seen["ifindex"], link.index);
            assert_eq!(seen["ifname"], link.name);
            assert_eq!(seen["mtu"], link.mtu);
            assert_eq!(seen["linkinfo"]["info_kind"].as_str().unwrap_or_default(), link.kind);
            assert_eq!(seen["ifalias"].as_str().unwrap_or_default(), link.alias);
            assert_eq!(seen["flags"].as_array().expect("flags").contains(&"UP".into()), link.up);
        }
        assert_eq!(snapshot.links.len(), 4);
        let x = snapshot.links.iter().find(|link| link.name == "x").expect("x");
        let peer = ip("-n b link show dev y")[0]["ifindex"].as_u64();
        assert_eq!(x.linked.map(u64::from), peer);
        assert_eq!((x.oper_state, x.rx_checksum, x.tx_checksum), (6, Some(true), Some(false)));
        let foreign = snapshot.links.iter().find(|link| link.name == "foreign").expect("foreign");
        assert_eq!(
            (foreign.rx_checksum, foreign.tx_checksum),
            (None, None),
            "checksum settings must not be read for a foreign link"
        );

        let lo = snapshot.links.iter().find(|link| link.name == "lo").expect("lo");
        assert_eq!((lo.alias.as_str(), lo.up, lo.kind.as_str()), (MARK, true, ""));
        let of_lo: Vec<_> = snapshot
            .addresses
            .iter()
            .filter(|address| address.link == lo.index)
            .map(|address| address.address)
            .collect();
        assert_eq!(of_lo, [address("127.0.0.1/8"), address("::1/128")]);
        let of_x: Vec<_> = addresses_of(&snapshot, "x").iter().map(|address| address.address).collect();
        assert_eq!(of_x, [address("10.1.0.1/24")]);
        let route = route("10.2.0.0/16", Some("10.1.0.2"));
        assert_eq!(
            snapshot.routes,
            [RouteState {
                link: x.index,
                route,
                protocol: PROTOCOL
            }]
        );
        let entry = NeighbourState {
            link: x.index,
            address: ip_address("10.1.0.2"),
            mac: [2, 0, 0, 0, 0, 7],
            protocol: PROTOCOL,
        };
        assert_eq!(snapshot.neighbours, [entry]);
    });
}

#[test]
fn snapshot_larger_than_one_datagram_is_complete() {
    in_private_namespaces(|world| {
        let a = world.open("a");
        world.veth((a, "x"), (a, "y"));
        world.op(add_address(a, "x", "10.0.0.1/8"));
        let tasks = (0..2000u32).map(|index| {
            let destination = format!("172.16.{}.{}/32", index / 250, index % 250);
            vec![
                add_route(a, "x", route(&destination, Some("10.0.0.2"))),
                add_address(a, "x", &format!("10.1.{}.{}/8", index / 250, index % 250)),
            ]
        });
        world
            .tasks(tasks.collect())
            .into_iter()
            .for_each(|result| assert!(result.is_ok(), "{result:?}"));
        let snapshot = world.dump(a);
        assert_eq!(snapshot.routes.len(), 2000);
        assert_eq!(addresses_of(&snapshot, "x").len(), 2001);
    });
}

/// Covers the case in which the link of a value is deleted and another link takes its name before the agent notices.
#[test]
fn nothing_is_added_to_a_foreign_link_with_the_name_of_ours() {
    in_private_namespaces(|world| {
        let a = world.open("a");
        run("ip", "-n a link add x up type veth peer name y");
        run("ip", "-n a address add 10.1.2.1/24 dev x");
        run("ip", "-n a neighbour add 10.1.2.9 dev x lladdr 02:00:00:00:00:09 nud permanent");
        let before = [run("ip", "-n a address"), run("ip", "-n a route"), run("ip", "-n a neighbour")];
        let guarded = |mut op: KernelOp| {
            match &mut op {
                KernelOp::AddAddress { guard, .. }
                | KernelOp::DeleteAddress { guard, .. }
                | KernelOp::SetNeighbour { guard, .. }
                | KernelOp::AddRoute { guard, .. } => *guard = owned(),
                other => panic!("{other:?}"),
            }
            op
        };
        for op in [
            add_address(a, "x", "10.1.3.1/24"),
            delete_address(a, "x", "10.1.2.1/24"),
            set_neighbour(a, "x", "10.1.2.9", [2, 0, 0, 0, 0, 1]),
            add_route(a, "x", route("10.2.0.0/16", Some("10.1.2.9"))),
        ] {
            let failure = world.refused(guarded(op));
            assert_eq!(failure.kind, FailureKind::Foreign, "{failure}");
            assert!(failure.message.contains("the link does not belong to the agent"), "{failure}");
        }
        assert_eq!(
            [run("ip", "-n a address"), run("ip", "-n a route"), run("ip", "-n a neighbour")],
            before
        );
    });
}
