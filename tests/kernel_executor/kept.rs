//! Kernel tests of writes: each write either takes effect completely as requested, or fails with a reason.

use std::time::{Duration, Instant};

use netns_kernel::{Failure, FailureKind, Guard, KernelOp, NetnsId, PROTOCOL, Reply, RouteSpec, Snapshot, routes_of_address};

use crate::{
    objects::{add_address, add_route},
    world::{World, in_private_namespaces, ip_address, route, run},
};

/// Returns the connected and local routes that belong to the agent's addresses but are missing from the snapshot.
fn missing_routes(snapshot: &Snapshot) -> Vec<String> {
    let mut missing = Vec::new();
    for state in snapshot.addresses.iter().filter(|state| state.protocol == PROTOCOL) {
        let link = snapshot.links.iter().find(|link| link.index == state.link).expect("its link");
        let routes = routes_of_address(link, state, None);
        missing.extend(
            routes
                .into_iter()
                .filter(|route| !snapshot.address_routes.contains(route))
                .map(|route| format!("{}/{} on {}", route.destination, route.prefix_len, link.name)),
        );
    }
    missing
}

/// Adds addresses with different prefix lengths to a veth end and to `lo`, and returns pairs of link and address.
fn addresses_of_all_forms(world: &World, a: NetnsId) -> Vec<(&'static str, &'static str)> {
    world.veth((a, "x"), (a, "y"));
    let all = vec![
        ("x", "10.1.0.1/24"),
        ("x", "10.1.0.2/24"),
        ("x", "10.2.0.1/32"),
        ("x", "10.3.0.0/31"),
        ("x", "fd00:1::1/64"),
        ("x", "fd00:2::1/128"),
        ("lo", "10.4.0.1/24"),
        ("lo", "10.5.0.1/32"),
        ("lo", "fd00:3::1/128"),
    ];
    for (link, address) in &all {
        world.op(without_detection(add_address(a, link, address)));
    }
    all
}

fn without_detection(mut op: KernelOp) -> KernelOp {
    if let KernelOp::AddAddress { detection, .. } = &mut op {
        *detection = netns_kernel::AddressDetection::Off;
    }
    op
}

#[test]
fn kernel_makes_exactly_the_expected_routes_of_an_address() {
    in_private_namespaces(|world| {
        let a = world.open("a");
        addresses_of_all_forms(world, a);
        assert_eq!(missing_routes(&world.dump(a)), Vec::<String>::new());
        run("ip", "-n a link set x down");
        assert_eq!(
            missing_routes(&world.dump(a)),
            Vec::<String>::new(),
            "a route is expected while the link is down"
        );
    });
}

/// The executor does not read the routes of an address family if no address of the agent needs them. A single address of any
/// prefix length and any scope must be enough for the executor to read them.
#[test]
fn routes_are_read_for_a_single_address_of_any_form() {
    in_private_namespaces(|world| {
        let forms = [
            ("x", "10.1.0.1/24"),
            ("x", "10.2.0.1/32"),
            ("x", "10.3.0.1/0"),
            ("x", "127.0.0.5/8"),
            ("x", "169.254.0.1/16"),
            ("x", "fd00:1::1/64"),
            ("x", "fd00:2::1/128"),
            ("x", "fe80::99/64"),
            ("x", "fe80::98/128"),
            ("x", "fe80::97/10"),
            ("lo", "127.0.0.5/8"),
            ("lo", "10.4.0.1/24"),
            ("lo", "fd00:3::1/128"),
            ("lo", "fe80::99/64"),
        ];
        for (index, (link, address)) in forms.into_iter().enumerate() {
            let netns = world.open(&format!("n{index}"));
            world.veth((netns, "x"), (netns, "y"));
            world.op(without_detection(add_address(netns, link, address)));
            assert_eq!(missing_routes(&world.dump(netns)), Vec::<String>::new(), "{address} on {link}");
        }
    });
}

#[test]
fn adding_an_existing_address_again_restores_only_its_routes() {
    in_private_namespaces(|world| {
        let a = world.open("a");
        let all = addresses_of_all_forms(world, a);
        world.op(add_route(a, "x", route("10.9.0.0/16", Some("10.1.0.9"))));
        for damage in [
            "route del 10.1.0.0/24 dev x",
            "route del local 10.1.0.1 dev x table local",
            "route flush dev x proto kernel",
            "route flush dev x table local",
            "route flush dev lo table local",
            "-6 route del fd00:1::/64 dev x",
            "-6 route flush dev x",
        ] {
            run("ip", &format!("-n a {damage}"));
            assert_ne!(missing_routes(&world.dump(a)), Vec::<String>::new(), "{damage}");
            for (link, address) in &all {
                world.op(without_detection(add_address(a, link, address)));
            }
            let snapshot = world.dump(a);
            assert_eq!(missing_routes(&snapshot), Vec::<String>::new(), "{damage}");
            assert_eq!(snapshot.routes.len(), 1, "{damage}: the route through a gateway was deleted");
        }
        for (link, address) in all.iter().rev() {
            run("ip", &format!("-n a address del {address} dev {link}"));
        }
        let left = world.dump(a).address_routes;
        let left = run("ip", "-n a route show table all proto kernel") + &format!("{left:?}");
        assert!(
            !left.contains("10.1.0.") && !left.contains("fd00:1:"),
            "restored routes outlived their address: {left}"
        );
    });
}

/// The agent usually reads all routes of a namespace. If a namespace has very many foreign routes, the agent lets the kernel
/// filter them out.
#[test]
fn snapshot_does_not_depend_on_the_number_of_foreign_routes() {
    in_private_namespaces(|world| {
        let a = world.open("a");
        addresses_of_all_forms(world, a);
        world.op(add_route(a, "x", route("10.9.0.0/16", Some("10.1.0.9"))));
        world.op(add_route(a, "x", route("fd00:9::/64", Some("fd00:1::9"))));
        let of_agent = |snapshot: Snapshot| {
            let mut address_routes = snapshot.address_routes;
            // Skip routes that the kernel adds a moment later: local IPv6 routes, and IPv6 routes with prefix length 64, such as
            // those of link-local addresses.
            address_routes.retain(|route| route.destination.is_ipv4() || !route.local && route.prefix_len != 64);
            address_routes.sort_unstable();
            (snapshot.routes, address_routes)
        };
        let alone = of_agent(world.dump(a));
        assert_eq!(alone.0.len(), 2);
        assert!(alone.1.len() >= 8, "{:?}", alone.1);
        let foreign = |number: u32| {
            format!(
                "route add 10.{}.{}.0/24 via 10.1.0.8 proto static\n",
                64 + number / 256,
                number % 256
            )
        };
        let batch: String = (0..600).map(foreign).collect();
        let file = std::path::Path::new("/run/foreign-routes.batch");
        std::fs::write(file, batch).expect("write the batch");
        run("ip", &format!("-n a -batch {}", file.display()));
        // The first read counts the routes. The second one uses this count to choose how to read.
        for reading in ["first", "second"] {
            assert_eq!(of_agent(world.dump(a)), alone, "{reading} read with foreign routes");
        }
    });
}

#[test]
fn kernel_route_is_not_adopted_and_the_failure_does_not_suggest_adopt() {
    in_private_namespaces(|world| {
        let a = world.open("a");
        world.veth((a, "x"), (a, "y"));
        world.op(add_address(a, "x", "10.1.0.1/24"));
        let connected = RouteSpec {
            scope: 253,
            ..route("10.1.0.0/24", None)
        };
        for (replace, adopt) in [(false, false), (false, true), (true, true)] {
            let failure = world.refused(KernelOp::AddRoute {
                netns: a,
                link: "x".to_owned(),
                guard: Guard::Any,
                route: connected.clone(),
                replace,
                adopt,
            });
            assert_eq!(failure.kind, FailureKind::Foreign);
            assert!(failure.message.contains("the kernel itself added this route"), "{failure}");
            assert!(failure.message.contains("which is not needed"), "{failure}");
            assert!(!failure.message.contains("adopt"), "{failure}");
        }
        let other = world.refused(add_route(a, "y", connected));
        assert!(other.message.contains("for an address of another link"), "{other}");
        assert!(run("ip", "-n a route show 10.1.0.0/24").contains("proto kernel"));
    });
}

fn set_neighbour(netns: NetnsId, link: &str, address: &str) -> KernelOp {
    KernelOp::SetNeighbour {
        netns,
        link: link.to_owned(),
        guard: Guard::Any,
        address: ip_address(address),
        mac: [2, 0, 0, 0, 0, 9],
        adopt: false,
    }
}

/// Sets a neighbour. If the request succeeds, asserts that the kernel has stored the neighbour as requested.
fn is_kept(world: &World, netns: NetnsId, link: &str, address: &str) -> Result<(), Failure> {
    world.try_op(set_neighbour(netns, link, address))?;
    let snapshot = world.dump(netns);
    let index = snapshot.links.iter().find(|found| found.name == link).expect("the link").index;
    let mut entries = snapshot.neighbours.iter();
    let kept = entries.any(|entry| (entry.link, entry.address, entry.mac) == (index, ip_address(address), [2, 0, 0, 0, 0, 9]));
    assert!(kept, "{address} on {link} counts as set: {:?}", snapshot.neighbours);
    Ok(())
}

#[test]
fn neighbour_on_any_kind_of_link_is_set_or_fails_with_a_reason() {
    in_private_namespaces(|world| {
        let a = world.open("a");
        world.veth((a, "x"), (a, "y"));
        run("ip", "-n a link set lo up");
        for (link, command) in [
            ("tun0", "tuntap add tun0 mode tun"),
            ("tap0", "tuntap add tap0 mode tap"),
            ("bridge0", "link add bridge0 type bridge"),
        ] {
            run("ip", &format!("-n a {command}"));
            run("ip", &format!("-n a link set {link} up"));
        }
        let all = ["10.77.0.9", "224.0.0.5", "255.255.255.255", "fd00::9", "ff02::5"];
        for link in ["x", "tap0", "bridge0", "lo", "tun0"] {
            for address in all {
                match (is_kept(world, a, link, address), link) {
                    (Ok(()), "lo" | "tun0") => assert!(link == "lo" && address.contains(':'), "{address} on {link}"),
                    (Ok(()), _) => {}
                    (Err(failure), _) => {
                        assert!(matches!(link, "lo" | "tun0"), "{failure}");
                        assert_eq!(failure.kind, FailureKind::Unsupported, "{failure}");
                        let reason = if link == "lo" {
                            "a single entry, 0.0.0.0"
                        } else {
                            "no MAC address"
                        };
                        assert!(failure.message.contains(reason), "{failure}");
                    }
                }
            }
        }
        assert!(
            !run("ip", "-n a neighbour show dev tun0 nud all").contains("proto 158"),
            "a refused neighbour must not be left behind"
        );
        let together = (0..8)
            .map(|number| vec![set_neighbour(a, "lo", &format!("10.78.0.{number}"))])
            .collect();
        for result in world.tasks(together) {
            assert_eq!(
                result.map_err(|failure| failure.kind),
                Err(FailureKind::Unsupported),
                "the failure must also be reported in a batch"
            );
        }
    });
}

#[test]
fn ipv6_address_with_another_prefix_length_fails() {
    in_private_namespaces(|world| {
        let a = world.open("a");
        world.veth((a, "x"), (a, "y"));
        world.op(add_address(a, "x", "fd00::1/64"));
        let failure = world.refused(add_address(a, "x", "fd00::1/128"));
        assert_eq!(failure.kind, FailureKind::Exists);
        assert!(failure.message.contains("already has fd00::1/64"), "{failure}");
    });
}

#[test]
fn changing_many_routes_does_not_read_the_table_for_each() {
    const COUNT: u32 = 4_000;
    in_private_namespaces(|world| {
        let a = world.open("a");
        world.veth((a, "x"), (a, "y"));
        world.op(add_address(a, "x", "10.1.0.1/24"));
        let change = |gateway: &str, replace| {
            let op = |number: u32| {
                let destination = std::net::Ipv4Addr::from_bits(0x1400_0000 + (number << 8));
                KernelOp::AddRoute {
                    netns: a,
                    link: "x".to_owned(),
                    guard: Guard::Any,
                    route: route(&format!("{destination}/24"), Some(gateway)),
                    replace,
                    adopt: false,
                }
            };
            (0..COUNT).map(|number| vec![op(number)]).collect::<Vec<_>>()
        };
        assert!(world.tasks(change("10.1.0.2", false)).iter().all(Result::is_ok));
        let began = Instant::now();
        let changed = world.tasks(change("10.1.0.3", true));
        let took = began.elapsed();
        println!("changed {COUNT} routes in {took:?}");
        assert!(changed.iter().all(|result| *result == Ok(Reply::Done)));
        assert!(took < Duration::from_secs(10), "{took:?}");
        let gateways = world.dump(a).routes;
        assert_eq!(gateways.len(), COUNT as usize);
        assert!(gateways.iter().all(|state| state.route.gateway == Some(ip_address("10.1.0.3"))));
    });
}
