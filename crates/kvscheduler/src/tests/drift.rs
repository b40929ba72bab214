//! What others do to values: repaired, repaired later, or only told.

use super::*;

impl World {
    /// Somebody removes a value, and that is noticed.
    fn take_away(&mut self, text: &str) {
        self.scheduler.step(self.now);
        self.kernel.remove(text);
        self.scheduler.lost(&[key(text)]);
        self.run();
    }

    /// Somebody changes a value, and that is noticed.
    fn tamper(&mut self, text: &str, value: Toy) {
        self.scheduler.step(self.now);
        self.kernel.insert(text.into(), value.clone());
        self.scheduler.found(vec![(key(text), value)]);
        self.run();
    }

    /// Somebody undoes what was done, and that is noticed.
    fn undo(&mut self, text: &str, value: Toy) {
        self.tamper(text, value);
    }

    /// For how long a value stays broken after it was broken at this moment.
    fn broken_for(&mut self, text: &str) -> Duration {
        let start = self.now;
        while !self.kernel.contains_key(text) {
            self.now = self.scheduler.next_deadline().expect("it will be repaired");
            self.run();
        }
        self.now - start
    }

    fn reason(&self, text: &str) -> &str {
        &self.statuses[text].reason
    }
}

const SECOND: Duration = Duration::from_secs(1);

#[test]
fn what_is_broken_again_and_again_is_repaired_with_doubling_delays_and_says_so() {
    let mut world = World::new();
    world.put("a", toy(1));
    world.run();
    let mut delays = Vec::new();
    for _ in 0..12 {
        world.now += SECOND;
        world.take_away("a");
        if !world.kernel.contains_key("a") {
            let status = &world.statuses["a"];
            assert_eq!((status.state, status.reason.as_str()), (ValueState::Retrying, "Contended"));
            assert!(
                status.message.contains("again and again") && status.next_retry.is_some(),
                "{status:?}"
            );
        }
        delays.push(world.broken_for("a").as_secs());
        assert_eq!(world.state("a"), Some(ValueState::Configured));
    }
    assert_eq!(delays, [0, 0, 0, 1, 2, 4, 8, 16, 32, 60, 60, 60]);
}

#[test]
fn after_a_calm_time_a_repair_is_made_at_once_again() {
    let mut world = World::new();
    world.put("a", toy(1));
    world.run();
    for _ in 0..6 {
        world.take_away("a");
        world.broken_for("a");
    }
    world.now += 11 * SECOND;
    world.take_away("a");
    assert_eq!(world.broken_for("a"), Duration::ZERO);
    world.take_away("a");
    assert_eq!(world.broken_for("a"), Duration::ZERO);
}

#[test]
fn a_contended_value_is_repaired_at_once_when_it_is_put_again_or_put_right() {
    let mut world = World::new();
    world.put("a", toy(1));
    world.run();
    for _ in 0..4 {
        world.tamper("a", toy(2));
    }
    assert_eq!((world.reason("a"), world.kernel["a"].content), ("Contended", 2));
    world.undo("a", toy(1));
    assert_eq!((world.reason("a"), world.state("a")), ("", Some(ValueState::Configured)));
    world.tamper("a", toy(2));
    assert_eq!(world.reason("a"), "Contended");
    world.put("a", toy(1));
    world.run();
    assert_eq!((world.reason("a"), world.kernel["a"].content), ("", 1));
}

#[test]
fn a_fight_about_what_is_derived_is_told_of_its_base_and_outlasts_a_change_of_the_base_from_outside() {
    let mut world = World::new();
    let base = |content| Toy {
        derives: vec!["a/0".into()],
        ..toy(content)
    };
    world.put("a", base(1));
    world.run();
    for _ in 0..4 {
        world.take_away("a/0");
    }
    assert_eq!((world.reason("a"), world.state("a")), ("Contended", Some(ValueState::Retrying)));
    world.tamper("a", base(2));
    assert_eq!(world.kernel["a"].content, 1);
    assert!(!world.kernel.contains_key("a/0"), "its turn has not come");
    assert_eq!(world.broken_for("a/0"), SECOND);
}

#[test]
fn what_vanishes_with_a_namespace_that_is_opened_anew_is_no_fight() {
    let mut world = World::new();
    let inside = Toy {
        needs: vec!["ns".into(), "outside".into()],
        implies: vec!["ns".into()],
        ..toy(1)
    };
    world.put("inside", inside);
    world.put("outside", needing(&["inside"]));
    world.run();
    for _ in 0..8 {
        world.kernel.retain(|key, _| key != "inside" && key != "outside" && key != "ns");
        world.scheduler.lost(&[key("outside"), key("inside"), key("ns")]);
        world.run();
        assert!(world.kernel.contains_key("inside") && world.kernel.contains_key("outside"));
    }
}

/// A link with an address, and a neighbour that the kernel removes with either of them.
fn link_with_neighbour() -> World {
    let mut world = World::new();
    let link = Toy {
        derives: vec!["link/address".into()],
        ..toy(1)
    };
    world.put("link", link);
    world.put("neighbour", needing(&["link"]));
    world.run();
    world
}

impl World {
    /// Somebody removes one value, the kernel others with it, and one look shows all of that.
    fn take_together(&mut self, texts: &[&str]) {
        self.scheduler.step(self.now);
        texts.iter().for_each(|text| drop(self.kernel.remove(*text)));
        let keys: Vec<Key> = texts.iter().map(|text| key(text)).collect();
        self.scheduler.lost(&keys);
        self.run();
    }
}

#[test]
fn what_the_kernel_takes_along_with_another_value_is_no_fight() {
    let mut world = link_with_neighbour();
    for _ in 0..6 {
        world.now += SECOND / 2;
        // In either order: which of them is listed first says nothing.
        world.take_together(&["neighbour", "link/address"]);
        world.take_together(&["link", "neighbour", "link/address"]);
        world.now += 11 * SECOND;
        world.run();
    }
    for _ in 0..3 {
        world.take_together(&["neighbour", "link/address"]);
    }
    world.take_together(&["neighbour"]);
    assert_eq!(
        (world.reason("neighbour"), world.state("neighbour")),
        ("", Some(ValueState::Configured))
    );
}

#[test]
fn direct_interference_is_a_fight_whatever_else_is_damaged_elsewhere() {
    let mut world = link_with_neighbour();
    world.put("unrelated", toy(1));
    world.run();
    for _ in 0..4 {
        world.take_together(&["unrelated", "neighbour"]);
    }
    assert_eq!((world.reason("neighbour"), world.reason("unrelated")), ("Contended", "Contended"));
}

#[test]
fn damage_that_is_left_alone_excuses_no_later_interference() {
    let mut world = World::new();
    world.put("link", toy(TOLD_ONLY));
    world.put("neighbour", needing(&["link"]));
    world.run();
    world.tamper("link", toy(2));
    assert_eq!(world.reason("link"), "Drifted");
    for _ in 0..4 {
        world.take_together(&["neighbour"]);
    }
    assert_eq!(world.reason("neighbour"), "Contended");
}

#[test]
fn of_a_pair_that_goes_together_one_end_counts() {
    let mut world = World::new();
    world.put("left", needing(&["right"]));
    world.put("right", needing(&["left"]));
    world.run();
    for _ in 0..4 {
        world.take_together(&["left", "right"]);
    }
    assert_eq!(
        (world.reason("left"), world.state("right")),
        ("Contended", Some(ValueState::Pending))
    );
}

#[test]
fn a_value_that_is_only_told_of_stays_as_others_made_it() {
    let mut world = World::new();
    world.put("a", toy(TOLD_ONLY));
    world.put("b", toy(1));
    world.run();
    world.log.clear();
    world.tamper("a", toy(2));
    world.now += 1000 * SECOND;
    world.run();
    let status = &world.statuses["a"];
    assert_eq!(
        (status.state, status.reason.as_str(), status.next_retry),
        (ValueState::Failed, "Drifted", None)
    );
    assert_eq!((world.log.len(), world.state("b")), (0, Some(ValueState::Configured)));
    world.undo("a", toy(TOLD_ONLY));
    assert_eq!((world.reason("a"), world.state("a")), ("", Some(ValueState::Configured)));
    world.take_away("a");
    assert_eq!((world.reason("a"), world.log.len()), ("Drifted", 0));
    world.put("a", toy(TOLD_ONLY));
    world.run();
    assert_eq!(
        (world.state("a"), world.kernel["a"].content),
        (Some(ValueState::Configured), TOLD_ONLY)
    );
}

#[test]
fn a_value_that_is_only_told_of_can_be_deleted_while_it_is_not_as_wanted() {
    let mut world = World::new();
    world.put("a", toy(TOLD_ONLY));
    world.put("gone", toy(TOLD_ONLY));
    world.run();
    world.tamper("a", toy(2));
    world.take_away("gone");
    world.delete("a");
    world.delete("gone");
    world.run();
    assert!(world.kernel.is_empty() && world.statuses.is_empty(), "{:?}", world.statuses);
}
