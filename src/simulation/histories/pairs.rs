//! Tests of veth pairs whose ends change while they are created, moved or deleted.

use models::proto::ligato::kvscheduler::ValueState;

use super::{strategies::machine, world::World};
use crate::simulation::{
    configuration::{
        CREATED_NAME, CREATED_PLACE, Configuration, FOREIGN_NAME, FOREIGN_PLACE, Interface, Item, Kind, OWN_PLACE, PROCESS_PLACE,
        interface_key,
    },
    kernel::OWN,
};

fn end(name: &'static str, peer: &'static str, place: usize) -> Item {
    Item::Interface(Interface::plain(name, Kind::Veth(peer), place))
}

/// Returns a veth pair with the ends `a` and `b`. The parameters `a` and `b` are the numbers that stand for the namespaces of
/// these ends.
fn pair(a: usize, b: usize) -> Configuration {
    Configuration::from([end("a", "b", a), end("b", "a", b)].map(|item| (item.key(), item)))
}

fn assert_configured(world: &World, names: &[&str]) {
    for name in names {
        assert_eq!(world.state(&interface_key(name)), Some(ValueState::Configured), "{name}");
    }
}

#[test]
fn end_moved_during_its_creation_is_created_at_its_new_place() {
    let mut world = World::start(machine(), &Configuration::new());
    world.put(&end("a", "b", OWN_PLACE));
    world.put(&end("b", "a", OWN_PLACE));
    while world.link(OWN, "b").is_none() {
        assert!(world.round().expect("the agent must not be killed"), "the pair must be created");
    }
    assert_eq!(
        world.link(OWN, "b").map(|link| link.alias),
        Some(String::new()),
        "b must not have an ownership mark yet"
    );
    world.put(&end("b", "a", FOREIGN_PLACE));
    world.settle().expect("the agent must not be killed");
    assert_configured(&world, &["a", "b"]);
    let foreign = world.named(FOREIGN_NAME);
    assert!(world.link(foreign, "b").is_some_and(|link| link.alias.ends_with("/b/a")));
    assert!(world.link(OWN, "b").is_none(), "b must not exist in its former namespace any more");
    assert!(world.link(OWN, "a").is_some());
}

#[test]
fn end_deleted_during_its_creation_leaves_nothing() {
    let mut world = World::start(machine(), &Configuration::new());
    world.put(&end("a", "b", OWN_PLACE));
    world.put(&end("b", "a", CREATED_PLACE));
    while world.link(OWN, "a").is_none() {
        assert!(world.round().expect("the agent must not be killed"), "the pair must be created");
    }
    world.delete(&interface_key("b"));
    world.settle().expect("the agent must not be killed");
    assert!(world.link(OWN, "a").is_none());
    let names = world.machine.get().kernel.names.clone();
    assert!(!names.contains_key(CREATED_NAME), "the namespace of b must not exist any more");
    assert_eq!(world.state(&interface_key("a")), Some(ValueState::Pending));
}

#[test]
fn pair_with_an_end_moved_while_the_agent_was_down_is_recreated() {
    let mut world = World::start(machine(), &pair(OWN_PLACE, OWN_PLACE));
    world.rest();
    let mut world = world.restart(&pair(FOREIGN_PLACE, OWN_PLACE));
    world.settle().expect("the agent must not be killed");
    assert_configured(&world, &["a", "b"]);
    assert!(world.link(world.named(FOREIGN_NAME), "a").is_some());
    assert!(world.link(OWN, "a").is_none() && world.link(OWN, "b").is_some());
}

#[test]
fn link_moved_while_the_agent_was_down_is_deleted_at_its_old_place() {
    let dummy = |place: usize| Configuration::from([(interface_key("d"), Item::Interface(Interface::plain("d", Kind::Dummy, place)))]);
    let mut world = World::start(machine(), &dummy(OWN_PLACE));
    world.rest();
    let mut world = world.restart(&dummy(FOREIGN_PLACE));
    world.settle().expect("the agent must not be killed");
    assert!(world.link(OWN, "d").is_none());
    assert!(world.link(world.named(FOREIGN_NAME), "d").is_some());
}

#[test]
fn pair_is_complete_after_a_kill_during_its_move() {
    let mut kills = 0;
    for fuel in 0..20 {
        let mut world = World::start(machine(), &pair(FOREIGN_PLACE, FOREIGN_PLACE));
        world.rest();
        world.machine.get().kernel.fuel = Some(fuel);
        world.put(&end("a", "b", PROCESS_PLACE));
        let killed = world.settle().is_err();
        kills += usize::from(killed);
        let mut world = world.restart(&pair(PROCESS_PLACE, FOREIGN_PLACE));
        world.settle().expect("the agent must not be killed");
        let link = world.link(world.named(FOREIGN_NAME), "b").expect("b is there");
        assert!(link.alias.ends_with("/b/a"), "killed: {killed} at {fuel}: {link:?}");
        assert_configured(&world, &["a", "b"]);
    }
    assert!(
        (5..20).contains(&kills),
        "the agent must be killed in 5 to 19 of 20 runs, but was killed in {kills}"
    );
}
