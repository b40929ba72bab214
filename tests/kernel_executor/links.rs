//! Kernel tests of links: creation in their final namespaces, changes, protection of foreign links, and deletion.

use std::time::Instant;

use netns_kernel::{FailureKind, Guard, KernelOp, LinkChanges, NamespaceRef, provisional_group};
use nix::libc;

use crate::world::*;

#[test]
fn veth_pair_is_created_in_its_final_namespaces() {
    in_private_namespaces(|world| {
        let (a, b) = (world.open("a"), world.open("b"));
        let mut ends = [new_link(a, "left"), new_link(b, "right")];
        ends[0].mtu = Some(1400);
        ends[0].mac = Some([2, 0, 0, 0, 0, 1]);
        ends[1].mtu = Some(1300);
        ends[1].mac = Some([2, 0, 0, 0, 0, 2]);
        world.op(create_pair(ends[0].clone(), ends[1].clone()));

        for (namespace, name, mtu, mac) in [("a", "left", 1400, "02:00:00:00:00:01"), ("b", "right", 1300, "02:00:00:00:00:02")] {
            let found = &ip(&format!("-n {namespace} link show dev {name}"))[0];
            assert_eq!(found["mtu"], mtu);
            assert_eq!(found["address"], mac);
            assert_eq!(found["operstate"], "DOWN");
            assert_eq!(found["num_tx_queues"], 1);
            assert_eq!(found["num_rx_queues"], 1);
            assert_eq!(found["linkinfo"]["info_kind"], "veth");
        }
        for link in [&world.dump(a).links[1], &world.dump(b).links[1]] {
            assert_eq!(
                link.group,
                provisional_group(PREFIX),
                "the agent must recognize its link after a crash: {link:?}"
            );
        }
        assert_eq!(link_names(None), ["lo"]);
        // Link indexes are assigned in ascending order, so the index of the next link shows whether the pair was ever in the
        // agent's own namespace.
        run("ip", "link add probe0 type veth peer name probe1");
        let index = ip("link show dev probe0")[0]["ifindex"].as_u64().expect("an index");
        assert!(
            index <= 3,
            "no link may have been in the agent's own namespace, but the next index is {index}"
        );
    });
}

#[test]
fn all_link_properties_are_set_and_repeated_changes_are_harmless() {
    in_private_namespaces(|world| {
        let a = world.open("a");
        world.op(create_veth((a, "x"), (a, "y")));
        let changes = LinkChanges {
            alias: Some(format!("{PREFIX}x/y")),
            group: Some(0),
            mtu: Some(1234),
            mac: Some([2, 0, 0, 0, 0, 9]),
            rx_checksum: Some(false),
            tx_checksum: Some(false),
            up: Some(true),
            ..LinkChanges::default()
        };
        world.op(set_link(a, "x", changes.clone()));
        world.op(set_link(a, "x", changes));

        let found = &ip("-n a link show dev x")[0];
        assert_eq!(found["ifalias"], format!("{PREFIX}x/y"));
        assert_eq!(found["mtu"], 1234);
        assert_eq!(found["address"], "02:00:00:00:00:09");
        assert_eq!(found["group"], "default");
        assert!(found["flags"].as_array().expect("flags").contains(&"UP".into()));
        let link = world.dump(a).links.into_iter().find(|link| link.name == "x").expect("x");
        assert_eq!(
            (link.rx_checksum, link.tx_checksum, link.group, link.up),
            (Some(false), Some(false), 0, true)
        );

        world.op(set_link(
            a,
            "x",
            LinkChanges {
                tx_checksum: Some(true),
                alias: Some(PREFIX.to_owned()),
                ..LinkChanges::default()
            },
        ));
        let link = world.dump(a).links.into_iter().find(|link| link.name == "x").expect("x");
        assert_eq!((link.rx_checksum, link.tx_checksum), (Some(false), Some(true)));
    });
}

#[test]
fn link_that_is_up_is_renamed_and_set_up_again() {
    in_private_namespaces(|world| {
        let a = world.open("a");
        world.veth((a, "x"), (a, "y"));
        world.op(set_link(
            a,
            "x",
            LinkChanges {
                rename: Some("z".to_owned()),
                ..LinkChanges::default()
            },
        ));
        let mut names = link_names(Some("a"));
        names.sort();
        assert_eq!(names, ["lo", "y", "z"]);
        assert!(
            ip("-n a link show dev z")[0]["flags"]
                .as_array()
                .expect("flags")
                .contains(&"UP".into())
        );

        let failure = world.refused(set_link(
            a,
            "z",
            LinkChanges {
                rename: Some("y".to_owned()),
                ..LinkChanges::default()
            },
        ));
        assert_eq!(failure.kind, FailureKind::Exists);
        assert!(
            failure.message.contains("\"y\"") && failure.message.contains(&format!("{PREFIX}y")),
            "{failure}"
        );
        assert!(
            ip("-n a link show dev z")[0]["flags"]
                .as_array()
                .expect("flags")
                .contains(&"UP".into()),
            "the link must still be up"
        );
    });
}

#[test]
fn link_moves_to_another_namespace_with_its_alias_and_state() {
    in_private_namespaces(|world| {
        let (a, b) = (world.open("a"), world.open("b"));
        world.veth((a, "x"), (a, "y"));
        let changes = LinkChanges {
            rename: Some("moved".to_owned()),
            move_to: Some(b),
            mtu: Some(1400),
            ..LinkChanges::default()
        };
        world.op(set_link(a, "x", changes));
        let found = &ip("-n b link show dev moved")[0];
        assert_eq!(found["ifalias"], format!("{PREFIX}x"));
        assert_eq!(found["mtu"], 1400);
        assert!(found["flags"].as_array().expect("flags").contains(&"UP".into()));
        assert_eq!(link_names(Some("a")), ["lo", "y"]);
    });
}

#[test]
fn foreign_link_is_neither_changed_nor_deleted() {
    in_private_namespaces(|world| {
        let a = world.open("a");
        run("ip", "-n a link add foreign type veth peer name other");
        run("ip", "-n a link set foreign alias somebody-else");
        let change = LinkChanges {
            mtu: Some(1400),
            ..LinkChanges::default()
        };
        for failure in [
            world.refused(set_link(a, "foreign", change)),
            world.refused(delete_link(a, "foreign")),
        ] {
            assert_eq!(failure.kind, FailureKind::Foreign);
            assert!(
                failure.message.contains("somebody-else") && failure.message.contains("veth"),
                "{failure}"
            );
            assert!(failure.message.contains("network namespace \"a\""), "{failure}");
        }
        let failure = world.refused(create_veth((a, "foreign"), (a, "new")));
        assert_eq!(failure.kind, FailureKind::Foreign);
        assert!(failure.message.contains("somebody-else"), "{failure}");
        assert_eq!(ip("-n a link show dev foreign")[0]["mtu"], 1500);

        // A foreign link must also survive a batch that tries to delete it together with links of the agent.
        world.veth((a, "x"), (a, "y"));
        let results = world.tasks(vec![vec![delete_link(a, "foreign")], vec![delete_link(a, "x")]]);
        assert_eq!(results[0].as_ref().map_err(|failure| failure.kind), Err(FailureKind::Foreign));
        assert!(results[1].is_ok(), "{results:?}");
        let mut names = link_names(Some("a"));
        names.sort();
        assert_eq!(names, ["foreign", "lo", "other"]);
    });
}

#[test]
fn any_link_may_be_changed_with_guard_any() {
    in_private_namespaces(|world| {
        let a = world.open("a");
        let changes = LinkChanges {
            mtu: Some(9000),
            ..LinkChanges::default()
        };
        world.op(KernelOp::SetLink {
            netns: a,
            name: "lo".to_owned(),
            guard: Guard::Any,
            changes: Box::new(changes),
        });
        assert_eq!(ip("-n a link show dev lo")[0]["mtu"], 9000);
    });
}

#[test]
fn deleting_a_missing_link_succeeds() {
    in_private_namespaces(|world| {
        let a = world.open("a");
        world.op(delete_link(a, "never"));
        world.veth((a, "x"), (a, "y"));
        world.op(delete_link(a, "x"));
        world.op(delete_link(a, "y"));
        assert_eq!(link_names(Some("a")), ["lo"]);
    });
}

#[test]
fn missing_link_kind_names_its_module() {
    in_private_namespaces(|world| {
        let a = world.open("a");
        let table = 10_u32.to_ne_bytes();
        for (name, data) in [("dummy", &[][..]), ("vrf", &[(1, &table[..])])] {
            match world.try_op(create_link(new_link(a, "d0"), name, data)) {
                // The kernel supports this kind, so the error for a missing kind cannot be tested.
                Ok(_) => world.op(delete_link(a, "d0")),
                Err(failure) => {
                    assert_eq!(failure.kind, FailureKind::KindMissing, "{failure}");
                    let words = format!("the kernel does not know link kind \"{name}\": load the kernel module (modprobe {name})");
                    assert!(failure.message.contains(&words), "{failure}");
                    continue;
                }
            };
        }
    });
}

#[test]
fn many_deletions_across_namespaces_are_batched() {
    in_private_namespaces(|world| {
        let namespaces: Vec<_> = (0..10).map(|index| world.open(&format!("ns{index}"))).collect();
        let name = |index: usize| format!("link{index}");
        for index in 0..100 {
            let (a, b) = (namespaces[index % 10], namespaces[(index * 7 + 3) % 10]);
            world.veth((a, &name(index)), (b, &format!("peer{index}")));
        }
        run("ip", "-n ns3 link add foreign type veth peer name other");
        let both_ends = |index| {
            vec![
                delete_link(namespaces[index % 10], &name(index)),
                delete_link(namespaces[index % 10], "gone"),
            ]
        };
        let started = Instant::now();
        for result in world.tasks((0..100).map(both_ends).collect()) {
            result.expect("deleted");
        }
        println!(
            "100 veth pairs deleted in 10 namespaces: {} µs a pair",
            started.elapsed().as_micros() / 100
        );
        for index in 0..10 {
            let mut names = link_names(Some(&format!("ns{index}")));
            names.sort();
            let expected: &[&str] = if index == 3 { &["foreign", "lo", "other"] } else { &["lo"] };
            assert_eq!(names, expected);
        }
    });
}

#[test]
fn deletions_that_exceed_one_send_are_all_done() {
    in_private_namespaces(|world| {
        let (a, b) = (world.open("a"), world.open("b"));
        let pairs = 450;
        let create = (0..pairs).map(|index| vec![create_veth((a, &format!("x{index}")), (b, &format!("y{index}")))]);
        world
            .tasks(create.collect())
            .into_iter()
            .for_each(|result| assert!(result.is_ok(), "{result:?}"));
        // Delete both ends of each pair, as happens when both values of a pair are deleted.
        let delete = (0..pairs).flat_map(|index| {
            [
                vec![delete_link(a, &format!("x{index}"))],
                vec![delete_link(b, &format!("y{index}"))],
            ]
        });
        world
            .tasks(delete.collect())
            .into_iter()
            .for_each(|result| assert!(result.is_ok(), "{result:?}"));
        assert_eq!(link_names(Some("a")), ["lo"]);
        assert_eq!(link_names(Some("b")), ["lo"]);
    });
}

#[test]
fn failing_task_does_not_affect_the_next_one() {
    in_private_namespaces(|world| {
        let a = world.open("a");
        let results = world.tasks(vec![
            vec![create_veth((a, "a-name-that-is-too-long"), (a, "y"))],
            vec![
                set_link(
                    a,
                    "missing",
                    LinkChanges {
                        mtu: Some(1400),
                        ..LinkChanges::default()
                    },
                ),
                create_veth((a, "not"), (a, "made")),
            ],
            vec![create_veth((a, "x"), (a, "y"))],
        ]);
        assert!(results[0].is_err());
        let failure = results[1].as_ref().expect_err("no such link");
        assert_eq!(failure.errno, Some(libc::ENODEV));
        assert!(failure.message.contains("\"missing\""), "{failure}");
        assert!(results[2].is_ok(), "{results:?}");
        let mut names = link_names(Some("a"));
        names.sort();
        assert_eq!(names, ["lo", "x", "y"], "the first failure must end its task");
    });
}

#[test]
fn failure_names_the_property_that_the_kernel_rejects() {
    in_private_namespaces(|world| {
        let a = world.open("a");
        world.veth((a, "x"), (a, "y"));
        let failure = world.refused(set_link(
            a,
            "x",
            LinkChanges {
                mtu: Some(10),
                up: Some(false),
                ..LinkChanges::default()
            },
        ));
        assert!(failure.message.contains("set MTU 10"), "{failure}");
        assert!(failure.message.contains("the kernel says"), "{failure}");
    });
}

#[test]
fn print_the_cost_of_a_veth_pair() {
    in_private_namespaces(|world| {
        let (a, b) = (world.open("a"), world.open("b"));
        let pairs = 200;
        let names: Vec<_> = (0..pairs).map(|index| (format!("l{index}"), format!("r{index}"))).collect();
        let create = names.iter().map(|(left, right)| vec![create_veth((a, left), (b, right))]).collect();
        let started = Instant::now();
        world
            .tasks(create)
            .into_iter()
            .for_each(|result| assert!(result.is_ok(), "{result:?}"));
        println!("veth pair created: {} µs", started.elapsed().as_micros() / pairs);
        let up = || LinkChanges {
            alias: Some(format!("{PREFIX}l")),
            group: Some(0),
            up: Some(true),
            ..LinkChanges::default()
        };
        let complete = names
            .iter()
            .map(|(left, right)| vec![set_link(a, left, up()), set_link(b, right, up())])
            .collect();
        let started = Instant::now();
        world
            .tasks(complete)
            .into_iter()
            .for_each(|result| assert!(result.is_ok(), "{result:?}"));
        println!(
            "its two ends completed (look-up, alias, group, up): {} µs",
            started.elapsed().as_micros() / pairs
        );
        let own = NamespaceRef::Own;
        assert_eq!(world.try_open(own).expect("own").2.links.len(), 1);
    });
}

#[test]
fn failure_names_the_link_with_a_conflicting_alternative_name() {
    in_private_namespaces(|world| {
        let a = world.open("a");
        run("ip", "-n a link add nic0 type veth peer name nic1");
        run("ip", "-n a link property add dev nic0 altname uplink");
        for ends in [[(a, "uplink"), (a, "other")], [(a, "other"), (a, "uplink")]] {
            let failure = world.refused(create_veth(ends[0], ends[1]));
            assert_eq!(failure.kind, FailureKind::Foreign, "{failure}");
            let reported = "\"uplink\" is an alternative name of link \"nic0\"";
            assert!(
                failure.message.contains(reported) && failure.message.contains("altname uplink"),
                "{failure}"
            );
        }
    });
}

#[test]
fn ipv6_on_a_link_with_a_small_mtu_fails_with_the_reason() {
    in_private_namespaces(|world| {
        let a = world.open("a");
        world.op(create_veth((a, "x"), (a, "y")));
        world.op(set_link(
            a,
            "y",
            LinkChanges {
                up: Some(true),
                ..LinkChanges::default()
            },
        ));
        let changes = LinkChanges {
            mtu: Some(1000),
            up: Some(true),
            ..LinkChanges::default()
        };
        world.op(set_link(a, "x", changes));
        for operation in [
            KernelOp::AddRoute {
                netns: a,
                link: "x".to_owned(),
                guard: owned(),
                route: route("fd01::/64", None),
                replace: false,
                adopt: false,
            },
            KernelOp::SetNeighbour {
                netns: a,
                link: "x".to_owned(),
                guard: owned(),
                address: ip_address("fd01::9"),
                mac: [2, 0, 0, 0, 0, 9],
                adopt: false,
            },
        ] {
            let failure = world.refused(operation);
            let reported = "the link has an MTU of 1000, and the kernel does not support IPv6 with an MTU below 1280";
            assert!(failure.message.contains(reported), "{failure}");
        }
    });
}
