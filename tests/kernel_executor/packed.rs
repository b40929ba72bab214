//! Kernel tests of large batches. Tasks that are packed into a few requests must have the same results as tasks that are
//! performed one by one.

use std::sync::mpsc;

use netns_kernel::{FailureKind, Guard, KernelOp, LinkChanges, NetnsId, Part, Reply, Task};

use super::{
    objects::{add_address, add_route, delete_address, delete_route, set_neighbour},
    world::{PREFIX, World, create_veth, in_private_namespaces, link_names, owned, route, run, set_link},
};

/// Number of veth pairs. The requests for so many pairs do not fit into a single send call.
const PAIRS: usize = 250;

fn finish(netns: NetnsId, name: &str) -> KernelOp {
    let changes = LinkChanges {
        alias: Some(format!("{PREFIX}{name}")),
        group: Some(0),
        up: Some(true),
        ..LinkChanges::default()
    };
    set_link(netns, name, changes)
}

fn guarded(mut op: KernelOp) -> KernelOp {
    match &mut op {
        KernelOp::AddAddress { guard, .. }
        | KernelOp::DeleteAddress { guard, .. }
        | KernelOp::SetNeighbour { guard, .. }
        | KernelOp::AddRoute { guard, .. }
        | KernelOp::DeleteRoute { guard, .. } => *guard = owned(),
        other => panic!("{other:?}"),
    }
    op
}

/// Creates veth pairs with an owned link `xN` in `a` and an owned link `yN` in `b`, and sets them up.
fn make_pairs(world: &World, a: NetnsId, b: NetnsId, count: usize) {
    let make = |number: usize| {
        let (x, y) = (format!("x{number}"), format!("y{number}"));
        vec![create_veth((a, &x), (b, &y)), finish(a, &x), finish(b, &y)]
    };
    for result in world.tasks((0..count).map(make).collect()) {
        assert_eq!(result, Ok(Reply::Done));
    }
}

/// Returns enough tasks to make the executor pack them together with the tasks of the test. Each task adds an address to an owned
/// link.
fn fillers(netns: NetnsId, link: &str) -> Vec<Vec<KernelOp>> {
    let address = |number: usize| vec![guarded(add_address(netns, link, &format!("10.100.{number}.1/24")))];
    (0..10).map(address).collect()
}

#[test]
fn large_batch_performs_all_operations() {
    in_private_namespaces(|world| {
        let (a, b) = (world.open("a"), world.open("b"));
        make_pairs(world, a, b, PAIRS);
        let on = |number: usize| {
            let name = format!("x{number}");
            vec![
                add_address(a, &name, &format!("10.1.{number}.1/24")),
                add_route(a, &name, route(&format!("10.2.{number}.0/24"), Some(&format!("10.1.{number}.2")))),
                set_neighbour(a, &name, &format!("10.1.{number}.9"), [2, 0, 0, 0, 0, 9]),
            ]
        };
        for result in world.tasks((0..PAIRS).map(|number| on(number).into_iter().map(guarded).collect()).collect()) {
            assert_eq!(result, Ok(Reply::Done));
        }
        let snapshot = world.dump(a);
        assert_eq!(
            snapshot
                .links
                .iter()
                .filter(|link| link.up && link.alias.starts_with(PREFIX))
                .count(),
            PAIRS
        );
        assert_eq!((snapshot.routes.len(), snapshot.neighbours.len()), (PAIRS, PAIRS));
        let addresses = run("ip", "-n a -4 -o address show");
        assert_eq!(addresses.lines().filter(|line| line.contains("10.1.")).count(), PAIRS);

        let away = (0..PAIRS).map(|number| {
            let name = format!("x{number}");
            vec![guarded(delete_address(a, &name, &format!("10.1.{number}.1/24")))]
        });
        // When the kernel removes an address, it also removes routes whose gateway is in the subnet of that address. So nothing
        // is left to delete.
        let routes = (0..PAIRS).map(|number| {
            let gone = route(&format!("10.2.{number}.0/24"), Some(&format!("10.1.{number}.2")));
            vec![guarded(delete_route(a, &format!("x{number}"), gone))]
        });
        for result in world.tasks(away.chain(routes).collect()) {
            assert_eq!(result, Ok(Reply::Done));
        }
        let snapshot = world.dump(a);
        assert_eq!(snapshot.routes, []);
        assert!(!run("ip", "-n a -4 address show").contains("10.1."));
    });
}

#[test]
fn link_replaced_by_a_foreign_one_between_batches_is_noticed() {
    in_private_namespaces(|world| {
        let (a, b) = (world.open("a"), world.open("b"));
        make_pairs(world, a, b, PAIRS);
        run("ip", "-n a link del x7");
        run("ip", "-n a link add x7 up type veth peer name stranger");
        let on = |number: usize| vec![guarded(add_address(a, &format!("x{number}"), &format!("10.1.{number}.1/24")))];
        for (number, result) in world.tasks((0..PAIRS).map(on).collect()).into_iter().enumerate() {
            match number {
                7 => assert_eq!(result.map_err(|failure| failure.kind), Err(FailureKind::Foreign)),
                _ => assert_eq!(result, Ok(Reply::Done), "{number}"),
            }
        }
        assert!(!run("ip", "-n a -4 address show dev x7").contains("10.1."));
    });
}

#[test]
fn failure_in_a_batch_affects_only_its_task() {
    in_private_namespaces(|world| {
        let (a, b) = (world.open("a"), world.open("b"));
        make_pairs(world, a, b, 3);
        run("ip", "-n a link add foreign type veth peer name other");
        run("ip", "-n a address add 10.9.0.1/24 dev x0");
        run("ip", "-n a route add 10.8.0.0/16 via 10.9.0.2 proto static");
        let mut tasks = vec![
            vec![create_veth((a, "new"), (b, "new")), finish(a, "new")],
            vec![create_veth((a, "foreign"), (b, "f"))],
            vec![create_veth((a, "x1"), (b, "z"))],
            vec![finish(a, "missing"), create_veth((a, "never"), (b, "never"))],
            vec![guarded(add_address(a, "foreign", "10.7.0.1/24"))],
            vec![guarded(add_route(a, "x0", route("10.8.0.0/16", Some("10.9.0.2"))))],
            vec![guarded(add_route(a, "x0", route("10.6.0.0/16", Some("10.5.0.1"))))],
            vec![guarded(add_address(a, "x2", "10.4.0.1/24"))],
        ];
        tasks.extend(fillers(a, "x2"));
        let mut results = world.tasks(tasks);
        assert!(results.split_off(8).iter().all(Result::is_ok));
        let kinds: Vec<Option<FailureKind>> = results
            .iter()
            .map(|result| result.as_ref().err().map(|failure| failure.kind))
            .collect();
        let (foreign, exists, other) = (Some(FailureKind::Foreign), Some(FailureKind::Exists), Some(FailureKind::Other));
        assert_eq!(kinds, [None, foreign, exists, other, foreign, foreign, other, None], "{results:#?}");
        let unreachable = results[6].as_ref().expect_err("the gateway is unreachable");
        assert!(unreachable.message.contains("10.6.0.0/16 via 10.5.0.1"), "{unreachable}");
        assert!(!unreachable.kernel_text.is_empty(), "{unreachable:?}");
        assert!(link_names(Some("a")).contains(&"new".to_owned()));
        assert!(
            !link_names(Some("b")).contains(&"never".to_owned()),
            "a task must end with its first failure"
        );
        assert!(run("ip", "-n a -4 address show dev x2").contains("10.4.0.1/24"));
        assert!(!run("ip", "-n a -4 address show dev foreign").contains("10.7."));
        assert!(
            run("ip", "-n a route show 10.8.0.0/16").contains("proto static"),
            "the foreign route must stay"
        );
    });
}

#[test]
fn batch_adds_nothing_to_a_foreign_link_with_the_name_of_ours() {
    in_private_namespaces(|world| {
        let (a, b) = (world.open("a"), world.open("b"));
        make_pairs(world, a, b, 2);
        run("ip", "-n a link del x0");
        run("ip", "-n a link add x0 up type veth peer name other");
        let tasks = |name: &str| vec![guarded(add_address(a, name, "10.1.0.1/24"))];
        let results = world.tasks([vec![tasks("x0"), vec![finish(a, "x0")], tasks("x1")], fillers(a, "x1")].concat());
        for result in &results[..2] {
            assert_eq!(result.as_ref().expect_err("it is foreign").kind, FailureKind::Foreign);
        }
        assert_eq!(results[2], Ok(Reply::Done));
        assert!(!run("ip", "-n a -4 address show dev x0").contains("10.1."));
        assert!(!run("ip", "-n a link show dev x0").contains(PREFIX));
    });
}

#[test]
fn adopted_link_is_reported_as_adopted_in_a_batch() {
    in_private_namespaces(|world| {
        let (a, b) = (world.open("a"), world.open("b"));
        make_pairs(world, a, b, 1);
        run("ip", "-n a link add x9 type veth peer name y9");
        run("ip", &format!("-n a link set x9 alias {PREFIX}x9//adopted"));
        let results = world.tasks([vec![vec![finish(a, "x0")], vec![finish(a, "x9")]], fillers(a, "x0")].concat());
        assert_eq!(results[..2], [Ok(Reply::Done), Ok(Reply::Adopted)]);
        let guard = Guard::Any;
        let deletion = KernelOp::DeleteNeighbour {
            netns: a,
            link: "gone".to_owned(),
            guard,
            address: "10.1.1.1".parse().expect("an address"),
        };
        let results = world.tasks(vec![vec![deletion]; 10]);
        assert!(
            results.iter().all(|result| *result == Ok(Reply::Done)),
            "deleting a missing object must succeed"
        );
    });
}

#[test]
fn very_large_batch_reports_outcomes_early_and_each_once() {
    in_private_namespaces(|world| {
        let (a, b) = (world.open("a"), world.open("b"));
        world.veth((a, "x"), (b, "y"));
        let task = |id: u64| Task {
            id,
            key: format!("config/test/{id}"),
            ops: vec![guarded(set_neighbour(
                a,
                "x",
                &format!("10.1.{}.{}", id / 200, id % 200 + 1),
                [2, 0, 0, 0, 0, 9],
            ))],
        };
        let (sender, answers) = mpsc::channel();
        world
            .executor
            .submit((0..1_000).map(task).collect(), move |answer| drop(sender.send(answer)));
        let answers: Vec<_> = answers.iter().collect();
        let parts: Vec<Part> = answers.iter().map(|answer| answer.part).collect();
        assert_eq!(parts, [Part::Early, Part::Early, Part::Early, Part::Main]);
        let outcomes = answers.into_iter().flat_map(|answer| answer.outcomes);
        let done: Vec<_> = outcomes.map(|outcome| (outcome.id, outcome.result)).collect();
        assert_eq!(done, (0..1_000).map(|id| (id, Ok(Reply::Done))).collect::<Vec<_>>());
        assert_eq!(world.dump(a).neighbours.len(), 1_000);
    });
}
