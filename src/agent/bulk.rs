//! Detects bulk changes: periods in which the agent changes a large number of objects.
//!
//! The kernel also notifies the agent of the agent's own changes. Notifications slow down every change, and reading the namespaces after each batch
//! would take half of the time of a large change. Therefore, the agent disables notifications during a bulk change and reads every namespace once
//! at the end. It notices changes by other programs only then, at most [`LONGEST`] after the start of the bulk change.

use std::time::Duration;

/// Minimum number of changes in a batch that starts a bulk change. Opening a namespace is not a change.
const OPERATIONS: usize = 100;
/// Idle time after which a bulk change is over. Must be longer than the gaps between the puts of a client that writes many
/// values.
const QUIET: Duration = Duration::from_millis(40);
/// Maximum duration of a bulk change. The next batch can start another bulk change.
///
/// Ending a bulk change while operations are still being started is expensive, because reading 1,000 namespaces with 20 links each
/// takes 3 s.
const LONGEST: Duration = Duration::from_secs(30);

/// Bulk change in progress; `None` if there is none.
#[derive(Debug, Default)]
pub struct Bulk(Option<Span>);

#[derive(Clone, Copy, Debug)]
struct Span {
    since: Duration,
    /// Time at which the agent became idle; `None` while there is work to do.
    idle: Option<Duration>,
}

impl Span {
    fn over_at(&self) -> Duration {
        let longest = self.since + LONGEST;
        self.idle.map_or(longest, |idle| (idle + QUIET).min(longest))
    }
}

impl Bulk {
    /// Records the start of a batch with this number of changes. Returns whether the batch starts a bulk change.
    pub fn batch(&mut self, operations: usize, now: Duration) -> bool {
        match &mut self.0 {
            Some(span) => {
                span.idle = None;
                false
            }
            None if operations < OPERATIONS => false,
            None => {
                self.0 = Some(Span { since: now, idle: None });
                true
            }
        }
    }

    /// Returns the time at which the bulk change ends if no other batch starts; `None` if there is no bulk change.
    pub fn over_at(&self) -> Option<Duration> {
        self.0.as_ref().map(Span::over_at)
    }

    /// Records that the agent is idle. Returns whether a bulk change has ended.
    pub fn idle(&mut self, now: Duration) -> bool {
        if let Some(span) = &mut self.0 {
            span.idle.get_or_insert(now);
        }
        self.0.take_if(|span| span.over_at() <= now).is_some()
    }

    /// Ends the bulk change at once. Returns whether one was in progress.
    pub fn interrupt(&mut self) -> bool {
        self.0.take().is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn at(milliseconds: u64) -> Duration {
        Duration::from_millis(milliseconds)
    }

    #[test]
    fn small_batches_start_no_bulk_change() {
        let mut bulk = Bulk::default();
        assert!(!bulk.batch(OPERATIONS - 1, at(0)));
        assert_eq!(bulk.over_at(), None);
        assert!(!bulk.idle(at(1_000)));
    }

    #[test]
    fn ends_after_quiet_period() {
        let mut bulk = Bulk::default();
        assert!(bulk.batch(OPERATIONS, at(0)));
        assert!(!bulk.batch(OPERATIONS, at(300)), "it has already started");
        assert!(!bulk.idle(at(600)), "a batch may take any time");
        assert!(!bulk.batch(1, at(630)));
        assert!(!bulk.idle(at(631)));
        assert_eq!(bulk.over_at(), Some(at(671)));
        assert!(!bulk.idle(at(670)));
        assert!(bulk.idle(at(671)));
        assert!(bulk.batch(OPERATIONS, at(680)), "the next bulk change starts");
    }

    #[test]
    fn ends_after_longest_duration() {
        let mut bulk = Bulk::default();
        assert!(bulk.batch(OPERATIONS, at(0)));
        for now in (0..30_000).step_by(20) {
            bulk.batch(OPERATIONS, at(now));
            assert!(!bulk.idle(at(now)));
        }
        bulk.batch(OPERATIONS, at(29_999));
        assert_eq!(bulk.over_at(), Some(at(30_000)));
        assert!(bulk.idle(at(30_000)));
    }

    #[test]
    fn interrupt_ends_bulk_change() {
        let mut bulk = Bulk::default();
        assert!(!bulk.interrupt());
        bulk.batch(OPERATIONS, at(0));
        assert!(bulk.interrupt());
        assert_eq!(bulk.over_at(), None);
    }
}
