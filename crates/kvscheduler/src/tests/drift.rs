//! Changes that other programs make to values: repaired immediately, repaired after a delay, or only reported.

use super::*;

impl World {
    /// Removes a value from the kernel and reports the loss to the scheduler.
    fn take_away(&mut self, text: &str) {
        self.scheduler.step(self.now);
        self.kernel.remove(text);
        self.scheduler.lost(&[key(text)]);
        self.run();
    }

    /// Changes a value in the kernel and reports the change to the scheduler.
    fn tamper(&mut self, text: &str, value: Toy) {
        self.scheduler.step(self.now);
        self.kernel.insert(text.into(), value.clone());
        self.scheduler.found(vec![(key(text), value)]);
        self.run();
    }

    /// Restores a value in the kernel and reports this change to the scheduler.
    fn undo(&mut self, text: &str, value: Toy) {
        self.tamper(text, value);
    }

    /// Advances the time until a value is repaired, and returns how much time has passed.
    fn broken_for(&mut self, text: &str) -> Duration {
        let start = self.now;
        while !self.kernel.contains_key(text) {
            self.now = self.scheduler.next_deadline().expect("a repair must be scheduled");
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
fn repeated_damage_is_repaired_with_doubling_delays() {
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
                status.message.contains("another program keeps changing") && status.next_retry.is_some(),
                "{status:?}"
            );
        }
        delays.push(world.broken_for("a").as_secs());
        assert_eq!(world.state("a"), Some(ValueState::Configured));
    }
    assert_eq!(delays, [0, 0, 0, 1, 2, 4, 8, 16, 32, 60, 60, 60]);
}

#[test]
fn repair_is_immediate_again_after_a_quiet_period() {
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
fn contention_ends_when_the_value_is_put_again_or_restored_by_others() {
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
fn contention_of_a_derived_value_is_reported_for_its_base() {
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
    assert!(!world.kernel.contains_key("a/0"), "the repair must still be delayed");
    assert_eq!(world.broken_for("a/0"), SECOND);
}

#[test]
fn loss_together_with_the_namespace_is_not_contention() {
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

/// Creates a link, its address, and a neighbour. The tests remove the neighbour along with the link or the address, as a kernel
/// does.
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
    /// Removes several values from the kernel and reports them as lost in a single observation.
    fn take_together(&mut self, texts: &[&str]) {
        self.scheduler.step(self.now);
        texts.iter().for_each(|text| drop(self.kernel.remove(*text)));
        let keys: Vec<Key> = texts.iter().map(|text| key(text)).collect();
        self.scheduler.lost(&keys);
        self.run();
    }
}

#[test]
fn loss_together_with_another_value_is_not_contention() {
    let mut world = link_with_neighbour();
    for _ in 0..6 {
        world.now += SECOND / 2;
        // The order within an observation must not matter.
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
fn unrelated_damage_does_not_excuse_contention() {
    let mut world = link_with_neighbour();
    world.put("unrelated", toy(1));
    world.run();
    for _ in 0..4 {
        world.take_together(&["unrelated", "neighbour"]);
    }
    assert_eq!((world.reason("neighbour"), world.reason("unrelated")), ("Contended", "Contended"));
}

#[test]
fn unrepaired_damage_does_not_excuse_later_contention() {
    let mut world = World::new();
    world.put("link", toy(REPORT_ONLY));
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
fn pair_lost_together_is_counted_for_one_end() {
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

/// The right end cannot be created without the left end, which must not be repaired.
#[test]
fn other_end_of_an_unrepaired_pair_is_pending() {
    let mut world = World::new();
    let left = Toy {
        content: REPORT_ONLY,
        ..needing(&["right"])
    };
    world.put("left", left);
    world.put("right", needing(&["left"]));
    world.run();
    world.take_together(&["left", "right"]);
    assert_eq!((world.reason("left"), world.state("right")), ("Drifted", Some(ValueState::Pending)));
}

#[test]
fn unrepaired_value_stays_as_changed_until_it_is_put_again() {
    let mut world = World::new();
    world.put("a", toy(REPORT_ONLY));
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
    world.undo("a", toy(REPORT_ONLY));
    assert_eq!((world.reason("a"), world.state("a")), ("", Some(ValueState::Configured)));
    world.take_away("a");
    assert_eq!((world.reason("a"), world.log.len()), ("Drifted", 0));
    world.put("a", toy(REPORT_ONLY));
    world.run();
    assert_eq!(
        (world.state("a"), world.kernel["a"].content),
        (Some(ValueState::Configured), REPORT_ONLY)
    );
}

/// The observation contains the base value, but not its derived value.
#[test]
fn unrepaired_derived_value_stays_away_although_its_base_is_observed() {
    let mut world = World::new();
    let base = |derives: &[&str]| Toy {
        derives: derives.iter().map(|text| (*text).to_owned()).collect(),
        ..toy(REPORT_ONLY)
    };
    world.put("a", base(&["a/0"]));
    world.run();
    world.log.clear();
    world.kernel.remove("a/0");
    world.kernel.insert("a".into(), base(&[]));
    world.scheduler.observe(Observation {
        lost: vec![key("a/0")],
        observed: vec![(key("a"), base(&[]))],
        ..Observation::default()
    });
    world.run();
    assert_eq!((world.log.len(), world.reason("a")), (0, "Drifted"), "{:?}", world.statuses);
    world.put("a", base(&["a/0"]));
    world.run();
    assert!(world.kernel.contains_key("a/0"));
}

#[test]
fn unrepaired_value_can_be_deleted_while_it_differs() {
    let mut world = World::new();
    world.put("a", toy(REPORT_ONLY));
    world.put("gone", toy(REPORT_ONLY));
    world.run();
    world.tamper("a", toy(2));
    world.take_away("gone");
    world.delete("a");
    world.delete("gone");
    world.run();
    assert!(world.kernel.is_empty() && world.statuses.is_empty(), "{:?}", world.statuses);
}
