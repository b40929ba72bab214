//! Values that very many others hang on: the places where a scheduler becomes quadratic.
//!
//! Owns the scenarios with hubs. Start reading at [`run`].

use crate::{
    report::{Report, Row},
    toy::{Key, Toy, delete, put},
    world::{Cost, World},
};

/// More than this hangs on nothing.
const LARGEST: usize = 100_000;
/// Lengths of a chain; in a real configuration chains have a handful of links.
const LENGTHS: &[usize] = &[10, 100, 1_000];

fn dependent(index: usize) -> Key {
    Key::from(format!("config/toy/v1/dependent/{index:07}"))
}

fn member(index: usize) -> Key {
    Key::from(format!("config/toy/v1/member/{index:07}"))
}

/// A namespace that very many interfaces name: it comes, it goes, it returns, and single ones change meanwhile.
fn one_key(size: usize) -> Vec<(&'static str, Cost)> {
    let hub = Key::from("fact/hub");
    let mut world = World::new();
    let put_one = |index: usize, content: u32| put((dependent(index), Toy::needing(content, hub.clone())));
    let waiting = world.transaction((0..size).map(|index| put_one(index, 1)).collect(), false);
    assert_eq!(waiting.operations, 0, "all wait for the hub");
    let come = world.fact(&hub, true);
    let singles = (0..1_000).map(|index| vec![put_one(index * 7 % size, 2 + index as u32)]).collect();
    let single = world.transactions(singles);
    let gone = world.fact(&hub, false);
    assert_eq!(world.applied_under("config/"), 0, "nothing stays without the hub");
    vec![
        (
            "one key: all wait for it",
            Cost {
                operations: size,
                ..waiting
            },
        ),
        ("one key: it comes", come),
        ("one key: one of its dependents changes", single),
        ("one key: it goes", gone),
    ]
}

/// A prefix with very many values below it, and as many that need any of them.
fn one_prefix(size: usize) -> Vec<(&'static str, Cost)> {
    let mut world = World::new();
    let members = |content: u32| (0..size).map(move |index| put((member(index), Toy::plain(content))));
    let dependents = (0..size).map(|index| {
        let prefix = Key::from("config/toy/v1/member/");
        put((dependent(index), Toy::needing_any(1, prefix)))
    });
    let create = world.transaction(members(1).chain(dependents).collect(), false);
    let update = world.transaction(members(2).collect(), false);
    let delete = world.transaction((0..size).map(|index| delete(member(index))).collect(), false);
    assert_eq!(world.applied_under("config/"), 0, "the last member takes the dependents along");
    vec![
        ("one prefix: members and dependents come", create),
        ("one prefix: all members change", update),
        ("one prefix: all members go, and the dependents with them", delete),
    ]
}

/// A chain in which each value needs the one before.
fn one_chain(size: usize) -> Vec<(&'static str, Cost)> {
    let mut world = World::new();
    let start = Key::from("fact/start");
    let links = (0..size).map(|index| {
        let need = if index == 0 { start.clone() } else { dependent(index - 1) };
        put((dependent(index), Toy::needing(1, need)))
    });
    let waiting = world.transaction(links.collect(), false);
    let come = world.fact(&start, true);
    let gone = world.fact(&start, false);
    assert_eq!(world.applied_under("config/"), 0, "nothing stays without the start");
    vec![
        (
            "one chain: all wait for its start",
            Cost {
                operations: size,
                ..waiting
            },
        ),
        ("one chain: its start comes", come),
        ("one chain: its start goes", gone),
    ]
}

/// All scenarios with hubs, each at all sizes.
pub fn run(sizes: &[usize], report: &mut Report) {
    let sizes: Vec<usize> = sizes.iter().copied().filter(|size| *size <= LARGEST).collect();
    measure(one_key, &sizes, report);
    measure(one_prefix, &sizes, report);
    measure(one_chain, LENGTHS, report);
}

fn measure(scenario: fn(usize) -> Vec<(&'static str, Cost)>, sizes: &[usize], report: &mut Report) {
    for size in sizes {
        let costs = scenario(*size);
        eprintln!("{size} values: {}", costs[0].0);
        costs.into_iter().for_each(|(name, cost)| report.add(Row::new(name, *size, cost)));
    }
}
