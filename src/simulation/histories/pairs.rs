//! Veth pairs whose ends are changed at the worst moment.
//!
//! Owns scenarios of a few values with a known end. Must never look into the scheduler: it compares the machine. Start reading at
//! [`an_end_that_is_put_elsewhere_before_it_is_finished_is_made_there`].

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

/// The pair of `a` and `b`, in these places.
fn pair(a: usize, b: usize) -> Configuration {
    Configuration::from([end("a", "b", a), end("b", "a", b)].map(|item| (item.key(), item)))
}

fn assert_configured(world: &World, names: &[&str]) {
    for name in names {
        assert_eq!(world.state(&interface_key(name)), Some(ValueState::Configured), "{name}");
    }
}

#[test]
fn an_end_that_is_put_elsewhere_before_it_is_finished_is_made_there() {
    let mut world = World::start(machine(), &Configuration::new());
    world.put(&end("a", "b", OWN_PLACE));
    world.put(&end("b", "a", OWN_PLACE));
    while world.link(OWN, "b").is_none() {
        assert!(world.round().expect("nobody kills the agent"), "the pair is never made");
    }
    assert_eq!(
        world.link(OWN, "b").map(|link| link.alias),
        Some(String::new()),
        "b is not finished"
    );
    world.put(&end("b", "a", FOREIGN_PLACE));
    world.settle().expect("nobody kills the agent");
    assert_configured(&world, &["a", "b"]);
    let foreign = world.named(FOREIGN_NAME);
    assert!(world.link(foreign, "b").is_some_and(|link| link.alias.ends_with("/b/a")));
    assert!(world.link(OWN, "b").is_none(), "nothing is left where it was");
    assert!(world.link(OWN, "a").is_some());
}

#[test]
fn an_end_that_is_deleted_before_it_is_finished_leaves_nothing() {
    let mut world = World::start(machine(), &Configuration::new());
    world.put(&end("a", "b", OWN_PLACE));
    world.put(&end("b", "a", CREATED_PLACE));
    while world.link(OWN, "a").is_none() {
        assert!(world.round().expect("nobody kills the agent"), "the pair is never made");
    }
    world.delete(&interface_key("b"));
    world.settle().expect("nobody kills the agent");
    assert!(world.link(OWN, "a").is_none());
    let names = world.machine.get().kernel.names.clone();
    assert!(!names.contains_key(CREATED_NAME), "the namespace was made for b alone");
    assert_eq!(world.state(&interface_key("a")), Some(ValueState::Pending));
}

#[test]
fn a_pair_of_which_one_end_moved_while_the_agent_was_down_is_made_anew() {
    let mut world = World::start(machine(), &pair(OWN_PLACE, OWN_PLACE));
    world.rest();
    let mut world = world.restart(&pair(FOREIGN_PLACE, OWN_PLACE));
    world.settle().expect("nobody kills the agent");
    assert_configured(&world, &["a", "b"]);
    assert!(world.link(world.named(FOREIGN_NAME), "a").is_some());
    assert!(world.link(OWN, "a").is_none() && world.link(OWN, "b").is_some());
}

#[test]
fn a_link_whose_namespace_is_another_since_the_last_run_is_removed_where_it_was() {
    let dummy = |place: usize| Configuration::from([(interface_key("d"), Item::Interface(Interface::plain("d", Kind::Dummy, place)))]);
    let mut world = World::start(machine(), &dummy(OWN_PLACE));
    world.rest();
    let mut world = world.restart(&dummy(FOREIGN_PLACE));
    world.settle().expect("nobody kills the agent");
    assert!(world.link(OWN, "d").is_none());
    assert!(world.link(world.named(FOREIGN_NAME), "d").is_some());
}

#[test]
fn a_pair_being_moved_when_the_agent_was_killed_is_whole_after_the_next_start() {
    let mut kills = 0;
    for fuel in 0..20 {
        let mut world = World::start(machine(), &pair(FOREIGN_PLACE, FOREIGN_PLACE));
        world.rest();
        world.machine.get().kernel.fuel = Some(fuel);
        world.put(&end("a", "b", PROCESS_PLACE));
        let killed = world.settle().is_err();
        kills += usize::from(killed);
        let mut world = world.restart(&pair(PROCESS_PLACE, FOREIGN_PLACE));
        world.settle().expect("nobody kills the agent");
        let link = world.link(world.named(FOREIGN_NAME), "b").expect("b is there");
        assert!(link.alias.ends_with("/b/a"), "killed: {killed} at {fuel}: {link:?}");
        assert_configured(&world, &["a", "b"]);
    }
    assert!(
        (5..20).contains(&kills),
        "killed at each operation of the move, and after it: {kills}"
    );
}
