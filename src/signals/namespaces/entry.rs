//! State of a watched reference: decides when to notify the engine and when to check the reference again.
//!
//! Performs no I/O and reads no clock: observations and the current time are arguments.

use std::time::Duration;

use tokio::time::Instant;

use super::{
    Binding,
    observation::{Observation, Target},
};

/// Check interval for references that can change without an event. For example, no event reports the start of a process.
pub(crate) const POLL_PERIOD: Duration = Duration::from_millis(100);
/// Check interval for references that usually cause an event when they change. Some changes cause no event, so checks are still
/// needed.
pub(crate) const CHECK_PERIOD: Duration = Duration::from_secs(2);
/// Maximum duration of frequent checks after an event. The checks are needed because a name appears shortly before the namespace
/// is mounted on it.
const BURST_MAX: Duration = Duration::from_millis(100);
/// First pause between two checks in a burst, equal to the resolution of Tokio's timer. The pause doubles after each check.
const BURST_STEP: Duration = Duration::from_millis(1);

/// A short period of frequent checks.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Burst {
    until: Instant,
    step: Duration,
}

/// A watched reference.
#[derive(Debug)]
pub(crate) struct Entry {
    pub(crate) target: Target,
    /// Last known state of the reference. The engine has found this state itself, or has been notified of it.
    known: Observation,
    /// Last state that the engine was notified of, and the time of that notification.
    reported: Option<(Observation, Instant)>,
    burst: Option<Burst>,
}

impl Entry {
    /// Creates an entry for a reference. `before` is the entry that the new one replaces, if any.
    pub(crate) fn new(target: Target, binding: Binding, before: Option<Self>) -> Self {
        let known = match binding {
            Binding::Bound { inode } => Observation::Present { inode, start_time: None },
            Binding::Missing => Observation::Absent,
            Binding::Obstructed => Observation::Obstructed,
        };
        let before = before.filter(|before| before.target == target);
        let (reported, burst) = before.map_or((None, None), |before| (before.reported, before.burst));
        Self {
            target,
            known,
            reported,
            burst,
        }
    }

    /// Processes an observation. Returns whether to notify the engine.
    ///
    /// The engine is notified if the observation differs from the state that the engine has found. The notification is repeated
    /// every [`CHECK_PERIOD`] until the engine has found the new state, so that no change is missed. A notification about a
    /// process in the agent's own namespace is not repeated, because the engine always rejects this namespace.
    pub(crate) fn learn(&mut self, seen: Observation, now: Instant, own_inode: u64) -> bool {
        if !matches!(seen, Observation::Absent | Observation::Obstructed) {
            self.burst = None;
        }
        if (seen, self.known) == (Observation::Obstructed, Observation::Absent) {
            // The engine still cannot use the reference. Once the obstructing object is deleted, the engine is notified, because
            // it can then create the namespace.
            self.known = seen;
            return false;
        }
        if !seen.differs_from(self.known) {
            // Remember the start time of the process as soon as it is known.
            if matches!(seen, Observation::Present { start_time: Some(_), .. }) {
                self.known = seen;
            }
            return false;
        }
        if let Some((reported, at)) = self.reported
            && !seen.differs_from(reported)
        {
            let own_process =
                matches!(self.target, Target::Process(_)) && matches!(seen, Observation::Present { inode, .. } if inode == own_inode);
            if own_process || now.duration_since(at) < CHECK_PERIOD {
                return false;
            }
        }
        self.known = seen;
        self.reported = Some((seen, now));
        true
    }

    /// Returns whether this observation matches the last state that the engine has found or was notified of.
    #[cfg(any(test, feature = "simulation"))]
    pub(crate) fn agrees(&self, seen: Observation) -> bool {
        !seen.differs_from(self.known)
    }

    /// Starts a burst of frequent checks after an event.
    pub(crate) fn start_burst(&mut self, now: Instant) {
        self.burst = Some(Burst {
            until: now + BURST_MAX,
            step: BURST_STEP,
        });
    }

    /// Returns the time of the next check. `evented` is true if changes of the reference usually cause an event.
    ///
    /// Times are aligned to a common grid that starts at `origin`, so many entries are checked in one wake-up.
    pub(crate) fn next_check(&mut self, now: Instant, origin: Instant, evented: bool) -> Instant {
        let period = if evented || self.is_present_file() {
            CHECK_PERIOD
        } else {
            POLL_PERIOD
        };
        let regular = on_grid(now, origin, period);
        match &mut self.burst {
            Some(burst) if now < burst.until => {
                let close = now + burst.step;
                burst.step *= 2;
                close.min(burst.until).min(regular)
            }
            _ => {
                self.burst = None;
                regular
            }
        }
    }

    /// Returns the PID and the observed start time of the process that should be watched through a pidfd. Returns `None` if the
    /// entry does not refer to a running process.
    pub(crate) fn process(&self) -> Option<(i32, Option<u64>)> {
        match (&self.target, self.known) {
            (Target::Process(pid), Observation::Present { start_time, .. }) => Some((*pid, start_time)),
            _ => None,
        }
    }

    fn is_present_file(&self) -> bool {
        !matches!(self.target, Target::Process(_)) && matches!(self.known, Observation::Present { .. })
    }
}

/// Returns the first grid point after `now`. The grid starts at `origin`, and its points are `period` apart.
fn on_grid(now: Instant, origin: Instant, period: Duration) -> Instant {
    let elapsed = now.saturating_duration_since(origin).as_nanos();
    let into_period = elapsed % period.as_nanos();
    // The remainder is smaller than the period, so it fits in a u64.
    now + period - Duration::from_nanos(u64::try_from(into_period).unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    const OWN: u64 = 1;
    const OTHER: u64 = 2;

    fn named(binding: Binding) -> Entry {
        Entry::new(Target::Named("blue".to_owned()), binding, None)
    }

    fn present(inode: u64) -> Observation {
        Observation::Present { inode, start_time: None }
    }

    fn run(inode: u64, start_time: u64) -> Observation {
        Observation::Present {
            inode,
            start_time: Some(start_time),
        }
    }

    #[test]
    fn each_change_is_notified_once() {
        let now = Instant::now();
        let mut entry = named(Binding::Missing);
        let reported: Vec<bool> = [
            Observation::Absent,
            present(OTHER),
            present(OTHER),
            Observation::Absent,
            Observation::Absent,
            present(OTHER),
        ]
        .map(|seen| entry.learn(seen, now, OWN))
        .into();
        assert_eq!(reported, [false, true, false, true, false, true]);
    }

    #[test]
    fn name_that_becomes_free_is_notified() {
        let now = Instant::now();
        let mut entry = named(Binding::Obstructed);
        assert!(!entry.learn(Observation::Obstructed, now, OWN));
        assert!(entry.learn(Observation::Absent, now, OWN), "the engine can create it now");
        let mut entry = named(Binding::Missing);
        assert!(!entry.learn(Observation::Obstructed, now, OWN), "it still cannot create one");
        assert!(entry.learn(Observation::Absent, now, OWN));
        assert!(named(Binding::Obstructed).learn(present(OTHER), now, OWN));
    }

    #[test]
    fn only_differences_from_bound_namespace_are_notified() {
        let now = Instant::now();
        assert!(!named(Binding::Bound { inode: OTHER }).learn(present(OTHER), now, OWN));
        assert!(named(Binding::Bound { inode: OTHER }).learn(present(OTHER + 1), now, OWN));
        assert!(named(Binding::Bound { inode: OTHER }).learn(Observation::Absent, now, OWN));
        assert!(named(Binding::Bound { inode: OTHER }).learn(Observation::Unreadable(13), now, OWN));
    }

    #[test]
    fn missed_notification_is_repeated_after_check_period() {
        let start = Instant::now();
        let mut entry = named(Binding::Missing);
        assert!(entry.learn(present(OTHER), start, OWN));
        entry = Entry::new(entry.target.clone(), Binding::Missing, Some(entry));
        assert!(!entry.learn(present(OTHER), start + POLL_PERIOD, OWN));
        assert!(
            entry.learn(present(OTHER + 1), start + POLL_PERIOD, OWN),
            "another observation is notified at once"
        );
        entry = Entry::new(entry.target.clone(), Binding::Missing, Some(entry));
        assert!(entry.learn(present(OTHER + 1), start + POLL_PERIOD + CHECK_PERIOD, OWN));
    }

    #[test]
    fn process_in_own_namespace_is_notified_once() {
        let start = Instant::now();
        let mut entry = Entry::new(Target::Process(42), Binding::Missing, None);
        let again = |entry: Entry| Entry::new(entry.target.clone(), Binding::Missing, Some(entry));
        assert!(entry.learn(run(OWN, 5), start, OWN));
        entry = again(entry);
        assert!(!entry.learn(run(OWN, 5), start + CHECK_PERIOD * 10, OWN));
        assert!(entry.learn(run(OWN, 6), start + CHECK_PERIOD * 10, OWN));
        entry = again(entry);
        assert!(entry.learn(run(OTHER, 6), start + CHECK_PERIOD * 10, OWN));
    }

    #[test]
    fn reused_pid_is_notified_even_in_same_namespace() {
        let now = Instant::now();
        let mut entry = Entry::new(Target::Process(42), Binding::Bound { inode: OTHER }, None);
        assert!(!entry.learn(run(OTHER, 5), now, OWN));
        assert!(entry.learn(run(OTHER, 6), now, OWN));
    }

    #[test]
    fn targets_without_events_are_checked_more_often() {
        let origin = Instant::now();
        let now = origin + Duration::from_millis(130);
        let next = |mut entry: Entry, evented| entry.next_check(now, origin, evented) - origin;
        let missing = |target| Entry::new(target, Binding::Missing, None);
        assert_eq!(next(missing(Target::Process(42)), false), Duration::from_millis(200));
        assert_eq!(next(missing(Target::File("/x".into())), false), Duration::from_millis(200));
        assert_eq!(next(named(Binding::Missing), true), CHECK_PERIOD);
        assert_eq!(next(named(Binding::Missing), false), Duration::from_millis(200));
        assert_eq!(next(named(Binding::Bound { inode: OTHER }), false), CHECK_PERIOD);
    }

    #[test]
    fn burst_checks_within_1_ms_and_ends_after_100_ms() {
        let origin = Instant::now();
        let mut entry = named(Binding::Missing);
        entry.start_burst(origin);
        let (mut now, mut checks) = (origin, Vec::new());
        while now < origin + CHECK_PERIOD {
            now = entry.next_check(now, origin, true);
            checks.push((now - origin).as_millis());
        }
        assert_eq!(checks, [1, 3, 7, 15, 31, 63, 100, 2000]);
    }

    #[test]
    fn burst_ends_when_namespace_exists() {
        let origin = Instant::now();
        let mut entry = named(Binding::Missing);
        entry.start_burst(origin);
        assert!(entry.learn(present(OTHER), origin, OWN));
        assert_eq!(entry.next_check(origin, origin, true) - origin, CHECK_PERIOD);
    }
}
