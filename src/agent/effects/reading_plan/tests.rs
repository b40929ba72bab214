//! Tests of the schedule for reading namespaces.

use super::*;

const SWEEP: Duration = Duration::from_secs(64);
const RED: NetnsId = NetnsId(64);
const BLUE: NetnsId = NetnsId(65);

const fn ms(milliseconds: u64) -> Duration {
    Duration::from_millis(milliseconds)
}

/// Returns a plan with two open namespaces. The current time of the plan is 1 s.
fn plan() -> ReadingPlan {
    let mut plan = ReadingPlan::new(SWEEP);
    plan.opened(RED);
    plan.opened(BLUE);
    plan.set_time(ms(1_000));
    plan
}

fn watched(_: NetnsId) -> bool {
    true
}

fn swept(_: NetnsId) -> bool {
    false
}

#[test]
fn watched_namespace_is_read_once_after_an_event() {
    let mut plan = plan();
    assert_eq!(plan.next_deadline(), None);
    plan.changed(RED);
    plan.changed(RED);
    assert_eq!(plan.next_deadline(), Some(ms(1_005)));
    assert!(plan.take_due(ms(1_004), watched).is_empty());
    assert_eq!(plan.take_due(ms(1_005), watched), [RED]);
    assert_eq!(plan.next_deadline(), None);
}

#[test]
fn read_interval_grows_with_namespace_size() {
    let mut plan = plan();
    plan.read_now(RED);
    assert_eq!(plan.take_due(ms(1_000), watched), [RED]);
    plan.read(RED, 10);
    plan.changed(RED);
    assert_eq!(plan.next_deadline(), Some(ms(1_030)));
    plan.take_due(ms(1_030), watched);
    plan.read(RED, 10_000);
    plan.set_time(ms(1_031));
    plan.changed(RED);
    assert_eq!(plan.next_deadline(), Some(ms(1_230)));
    plan.read_soon(RED);
    assert_eq!(plan.next_deadline(), Some(ms(1_060)), "this read is not caused by an event");
}

#[test]
fn earlier_of_two_planned_reads_counts() {
    let mut plan = plan();
    plan.retry_later(RED);
    plan.detect_later(RED);
    assert_eq!(plan.next_deadline(), Some(ms(1_500)));
    plan.read_now(RED);
    assert_eq!(plan.next_deadline(), Some(ms(1_000)));
    plan.read_first(BLUE);
    assert_eq!(plan.next_deadline(), Some(Duration::ZERO));
    assert_eq!(plan.take_due(ms(1_000), watched), [RED, BLUE]);
    assert_eq!(plan.next_deadline(), None, "each namespace is planned once");
}

#[test]
fn unwatched_namespaces_are_read_at_different_times() {
    let mut plan = plan();
    plan.sweep(RED);
    plan.sweep(BLUE);
    assert_eq!(plan.take_due(ms(1_000), swept), [RED]);
    assert_eq!(plan.take_due(ms(2_000), swept), [BLUE]);
    assert_eq!(plan.next_deadline(), Some(ms(65_000)));
}

#[test]
fn closed_namespace_is_not_read() {
    let mut plan = plan();
    plan.read_now(RED);
    plan.closed(RED);
    plan.changed(RED);
    plan.retry_later(RED);
    assert_eq!(plan.next_deadline(), None);
    assert!(plan.take_due(ms(9_000), swept).is_empty());
    assert!(!plan.read(RED, 3));
}

#[test]
fn resync_lasts_until_its_read_succeeds() {
    let mut plan = plan();
    assert!(!plan.read_all(ms(1_000)));
    assert_eq!(plan.take_due(ms(1_000), watched), [RED, BLUE]);
    assert!(plan.read(RED, 3));
    assert!(!plan.read(RED, 3));
    plan.retry_later(BLUE);
    plan.take_due(ms(1_500), watched);
    assert!(plan.read(BLUE, 3), "the first attempt failed");
}

#[test]
fn bulk_change_pauses_reads_until_its_end() {
    let mut plan = plan();
    assert!(plan.batch(1_000, ms(1_000)));
    plan.read_now(RED);
    assert!(!plan.idle(ms(1_100), |netns| netns == BLUE) && plan.is_paused());
    assert!(plan.take_due(ms(1_100), watched).is_empty());
    let end = plan.next_deadline().expect("a bulk change ends");
    assert!(plan.idle(end, |netns| netns == BLUE) && !plan.is_paused());
    assert_eq!(plan.take_due(end, watched), [RED, BLUE]);
}

#[test]
fn resync_ends_bulk_change() {
    let mut plan = plan();
    assert!(plan.batch(1_000, ms(1_000)));
    assert!(plan.read_all(ms(1_001)));
    assert_eq!(plan.take_due(ms(1_001), watched), [RED, BLUE]);
}
