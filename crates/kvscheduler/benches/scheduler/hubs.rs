//! Scenarios with hubs, which are values with very many dependents. A badly designed scheduler has quadratic cost in these
//! scenarios.

use crate::{
    report::{Report, Row},
    toy::{Key, Toy, delete, put},
    world::{Cost, World},
};

/// Largest graph size that the hub scenarios measure.
const LARGEST: usize = 100_000;
/// Lengths of the measured dependency chains. Chains in a real configuration consist of only a few values.
const LENGTHS: &[usize] = &[10, 100, 1_000];

fn dependent(index: usize) -> Key {
    Key::from(format!("config/toy/v1/dependent/{index:07}"))
}

fn member(index: usize) -> Key {
    Key::from(format!("config/toy/v1/member/{index:07}"))
}

/// Measures a fact with many dependents, like a namespace with many interfaces. The fact appears, dependents are updated one at a
/// time, and the fact disappears.
fn one_key(size: usize) -> Vec<(&'static str, Cost)> {
    let hub = Key::from("fact/hub");
    let mut world = World::new();
    let put_one = |index: usize, content: u32| put((dependent(index), Toy::needing(content, hub.clone())));
    let waiting = world.transaction((0..size).map(|index| put_one(index, 1)).collect(), false);
    assert_eq!(waiting.operations, 0, "all values must wait for the hub");
    let come = world.fact(&hub, true);
    let singles = (0..1_000).map(|index| vec![put_one(index * 7 % size, 2 + index as u32)]).collect();
    let single = world.transactions(singles);
    let gone = world.fact(&hub, false);
    assert_eq!(world.applied_under("config/"), 0, "all dependents must be deleted with the hub");
    vec![
        (
            "one key: all dependents wait for the key",
            Cost {
                operations: size,
                ..waiting
            },
        ),
        ("one key: the key appears", come),
        ("one key: update of a single dependent", single),
        ("one key: the key disappears", gone),
    ]
}

/// Measures a prefix with many values and the same number of dependents. Each dependent needs any one of the values.
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
    assert_eq!(world.applied_under("config/"), 0, "dependents must be deleted with the last member");
    vec![
        ("one prefix: create members and dependents", create),
        ("one prefix: update all members", update),
        ("one prefix: delete all members and therefore all dependents", delete),
    ]
}

/// Measures a chain in which each value needs the previous one.
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
    assert_eq!(
        world.applied_under("config/"),
        0,
        "every element must be deleted together with the first one"
    );
    vec![
        (
            "one chain: every element waits for the first one",
            Cost {
                operations: size,
                ..waiting
            },
        ),
        ("one chain: the first element appears", come),
        ("one chain: the first element disappears", gone),
    ]
}

/// Runs all hub scenarios, each with several graph sizes.
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
