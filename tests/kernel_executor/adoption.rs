//! Kernel tests of foreign links that are adopted, and of links that are not adopted because they do not match the request.

use netns_kernel::{ADOPTED_MARK, FailureKind, Guard, KernelOp, LinkChanges, NetnsId, NewLink, Reply};

use crate::world::*;

/// Returns a veth end to create. If a foreign link with this name exists, the executor adopts it instead.
fn adopting(netns: NetnsId, name: &str) -> NewLink {
    NewLink {
        adopt: Some(format!("{PREFIX}{name}{ADOPTED_MARK}")),
        ..new_link(netns, name)
    }
}

fn pair(a: NewLink, b: NewLink) -> KernelOp {
    create_pair(a, b)
}

/// Returns the operation that follows the creation of a link. It sets the final alias, the group and the MTU, and sets the link
/// up.
fn finish(netns: NetnsId, name: &str) -> KernelOp {
    let changes = LinkChanges {
        alias: Some(format!("{PREFIX}{name}")),
        group: Some(0),
        mtu: Some(1500),
        up: Some(true),
        ..LinkChanges::default()
    };
    set_link(netns, name, changes)
}

fn alias(netns: &str, name: &str) -> serde_json::Value {
    ip(&format!("-n {netns} link show dev {name}"))[0]["ifalias"].clone()
}

#[test]
fn foreign_pair_is_adopted_changed_and_deleted() {
    in_private_namespaces(|world| {
        let (a, b) = (world.open("a"), world.open("b"));
        run("ip", "-n a link add x mtu 1400 type veth peer name y netns b");
        let index = ip("-n a link show dev x")[0]["ifindex"].clone();
        let results = world.tasks(vec![
            vec![pair(adopting(a, "x"), adopting(b, "y")), finish(a, "x")],
            vec![finish(b, "y")],
        ]);
        assert_eq!(results, [Ok(Reply::Adopted), Ok(Reply::Adopted)]);
        let found = &ip("-n a link show dev x")[0];
        assert_eq!((&found["ifindex"], &found["mtu"]), (&index, &1500.into()), "another link");
        assert_eq!(alias("a", "x"), format!("{PREFIX}x{ADOPTED_MARK}"));
        assert_eq!(alias("b", "y"), format!("{PREFIX}y{ADOPTED_MARK}"));
        world.op(delete_link(a, "x"));
        assert_eq!(
            (link_names(Some("a")), link_names(Some("b"))),
            (vec!["lo".to_owned()], vec!["lo".to_owned()])
        );
    });
}

/// Cleaning up after a failed adoption must not delete the adopted links. The test performs the
/// clean-up operation itself.
#[test]
fn failed_adoption_is_repeated_on_the_same_links() {
    in_private_namespaces(|world| {
        let (a, b) = (world.open("a"), world.open("b"));
        run("ip", "-n a link add x type veth peer name y netns b");
        let index = ip("-n a link show dev x")[0]["ifindex"].clone();
        let adopt = || pair(adopting(a, "x"), adopting(b, "y"));
        world.op(adopt());
        world.op(KernelOp::DeleteLink {
            netns: a,
            name: "x".to_owned(),
            guard: Guard::OwnCreation {
                alias_prefix: PREFIX.to_owned(),
            },
        });
        let results = world.tasks(vec![vec![adopt(), finish(a, "x")], vec![finish(b, "y")]]);
        assert_eq!(results, [Ok(Reply::Adopted), Ok(Reply::Adopted)]);
        assert_eq!(ip("-n a link show dev x")[0]["ifindex"], index, "another link");
    });
}

#[test]
fn new_pair_has_no_adoption_mark() {
    in_private_namespaces(|world| {
        let a = world.open("a");
        let results = world.tasks(vec![vec![pair(adopting(a, "x"), adopting(a, "y")), finish(a, "x")]]);
        assert_eq!(results, [Ok(Reply::Done)]);
        assert_eq!(alias("a", "x"), format!("{PREFIX}x"));
    });
}

#[test]
fn interrupted_adoption_of_a_pair_is_completed() {
    in_private_namespaces(|world| {
        let a = world.open("a");
        run("ip", "-n a link add x type veth peer name y");
        run("ip", &format!("-n a link set x alias {PREFIX}x{ADOPTED_MARK}"));
        world.op(pair(adopting(a, "x"), adopting(a, "y")));
        assert_eq!(alias("a", "y"), format!("{PREFIX}y{ADOPTED_MARK}"));
    });
}

#[test]
fn links_that_do_not_match_are_not_adopted_and_the_failure_says_why() {
    in_private_namespaces(|world| {
        let (a, b, c) = (world.open("a"), world.open("b"), world.open("c"));
        // `x` in `a` and `y` in `b` have the indexes that two ends of one pair would have, but they belong to different pairs.
        run("ip", "-n a link add x index 20 type veth peer name elsewhere index 30 netns c");
        run("ip", "-n b link add y index 30 type veth peer name other index 20 netns c");
        run("ip", "-n a link add third type veth peer name fourth");
        run("ip", "-n a link set third alias somebody-else");
        for (op, words) in [
            (pair(adopting(a, "x"), adopting(b, "y")), "not the two ends of the same pair"),
            (pair(adopting(a, "x"), adopting(c, "new")), "link \"new\", does not exist"),
            (
                pair(adopting(a, "third"), new_link(a, "fourth")),
                "other end \"fourth\" does not set `adopt`",
            ),
            (pair(new_link(a, "third"), new_link(a, "fourth")), "alias \"somebody-else\""),
        ] {
            let failure = world.refused(op);
            assert_eq!(failure.kind, FailureKind::Foreign, "{failure}");
            assert!(failure.message.contains(words), "{words} in {failure}");
        }
        let dummy = world.try_op(create_link(adopting(a, "x"), "dummy", &[]));
        // If the kernel has no dummy links, the failure reports the missing kind instead.
        let failure = dummy.expect_err("a veth is no dummy");
        assert!(
            failure.kind == FailureKind::KindMissing || failure.message.contains("the link is of kind veth, not dummy"),
            "{failure}"
        );
        for (netns, name) in [("a", "x"), ("b", "y"), ("a", "fourth")] {
            assert_eq!(alias(netns, name), serde_json::Value::Null);
        }
    });
}

#[test]
fn failure_names_the_agent_of_a_foreign_link_but_own_links_just_exist() {
    in_private_namespaces(|world| {
        let a = world.open("a");
        run("ip", "-n a link add x type veth peer name y");
        run("ip", "-n a link set x alias /vnf-agent/neighbour/x/y");
        let failure = world.refused(create_veth((a, "x"), (a, "z")));
        assert_eq!(failure.kind, FailureKind::Foreign);
        assert!(failure.message.contains("belongs to the agent neighbour"), "{failure}");
        run("ip", &format!("-n a link set x alias {PREFIX}x/y"));
        assert_eq!(world.refused(create_veth((a, "x"), (a, "z"))).kind, FailureKind::Exists);
    });
}
