//! One watched reference: when to tell the engine about it and how often to look.
//!
//! Owns the rule and its memory. Must never look at anything or read a clock: observations and `now` are arguments. Start
//! reading at [`Entry::learn`].

use std::time::Duration;

use tokio::time::Instant;

use super::{
    Binding,
    observation::{Observation, Target},
};

/// How often something is looked at that nothing gives an event for: there is none for a new PID.
pub(crate) const POLL_PERIOD: Duration = Duration::from_millis(100);
/// How often something is looked at although an event would come, because some changes give none.
pub(crate) const CHECK_PERIOD: Duration = Duration::from_secs(2);
/// How long a name is watched closely after an event: it is created a moment before the namespace is mounted on it.
const BURST_MAX: Duration = Duration::from_millis(100);
/// First pause between two looks in a burst; it doubles. The finest step that Tokio's timer has.
const BURST_STEP: Duration = Duration::from_millis(1);

/// Close observation for a short time.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Burst {
    until: Instant,
    step: Duration,
}

/// A watched reference.
#[derive(Debug)]
pub(crate) struct Entry {
    pub(crate) target: Target,
    /// What the engine knows, or has been told since.
    known: Observation,
    /// What the engine was last told, and when.
    told: Option<(Observation, Instant)>,
    burst: Option<Burst>,
}

impl Entry {
    /// A reference as the engine knows it. `before` is the entry that it replaces, if any.
    pub(crate) fn new(target: Target, binding: Binding, before: Option<Self>) -> Self {
        let known = match binding {
            Binding::Bound { inode } => Observation::Present { inode, start_time: None },
            Binding::Missing => Observation::Absent,
            Binding::Obstructed => Observation::Obstructed,
        };
        let before = before.filter(|before| before.target == target);
        let (told, burst) = before.map_or((None, None), |before| (before.told, before.burst));
        Self {
            target,
            known,
            told,
            burst,
        }
    }

    /// Takes in what was seen; the result is whether the engine is to be told.
    ///
    /// It is told when what was seen differs from what it knows. When it was told exactly that and nevertheless has another
    /// opinion, it is told again every [`CHECK_PERIOD`], so that a change it happened to miss is never lost; but not for a
    /// process in the agent's own namespace, which it rejects on purpose.
    pub(crate) fn learn(&mut self, seen: Observation, now: Instant, own_inode: u64) -> bool {
        if !matches!(seen, Observation::Absent | Observation::Obstructed) {
            self.burst = None;
        }
        if (seen, self.known) == (Observation::Obstructed, Observation::Absent) {
            // The engine can do as little as before; but when this goes, it may create the namespace.
            self.known = seen;
            return false;
        }
        if !seen.differs_from(self.known) {
            // Keeps a start time once it is known.
            if matches!(seen, Observation::Present { start_time: Some(_), .. }) {
                self.known = seen;
            }
            return false;
        }
        if let Some((told, at)) = self.told
            && !seen.differs_from(told)
        {
            let own_process =
                matches!(self.target, Target::Process(_)) && matches!(seen, Observation::Present { inode, .. } if inode == own_inode);
            if own_process || now.duration_since(at) < CHECK_PERIOD {
                return false;
            }
        }
        self.known = seen;
        self.told = Some((seen, now));
        true
    }

    /// Whether the engine knows what was seen, so that nothing is to be told before something changes.
    #[cfg(any(test, feature = "simulation"))]
    pub(crate) fn agrees(&self, seen: Observation) -> bool {
        !seen.differs_from(self.known)
    }

    /// Looks closely for a moment, because something has just happened.
    pub(crate) fn start_burst(&mut self, now: Instant) {
        self.burst = Some(Burst {
            until: now + BURST_MAX,
            step: BURST_STEP,
        });
    }

    /// When to look next. `evented` says that an event will come for the usual changes. Times are put on a common grid that
    /// begins at `origin`, so that many entries are looked at in one wake-up.
    pub(crate) fn next_look(&mut self, now: Instant, origin: Instant, evented: bool) -> Instant {
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

    /// The process that is to be pinned for this entry, with the start time that was seen.
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

/// The first instant after `now` that is a multiple of `period` after `origin`.
fn on_grid(now: Instant, origin: Instant, period: Duration) -> Instant {
    let elapsed = now.saturating_duration_since(origin).as_nanos();
    let into_period = elapsed % period.as_nanos();
    // A remainder is smaller than the period, which is far below the range of u64.
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
    fn a_difference_is_told_once_and_so_is_the_way_back() {
        let now = Instant::now();
        let mut entry = named(Binding::Missing);
        let told: Vec<bool> = [
            Observation::Absent,
            present(OTHER),
            present(OTHER),
            Observation::Absent,
            Observation::Absent,
            present(OTHER),
        ]
        .map(|seen| entry.learn(seen, now, OWN))
        .into();
        assert_eq!(told, [false, true, false, true, false, true]);
    }

    #[test]
    fn a_name_that_becomes_free_is_reported() {
        let now = Instant::now();
        let mut entry = named(Binding::Obstructed);
        assert!(!entry.learn(Observation::Obstructed, now, OWN));
        assert!(entry.learn(Observation::Absent, now, OWN), "the engine can create it now");
        let mut entry = named(Binding::Missing);
        assert!(!entry.learn(Observation::Obstructed, now, OWN), "nothing has become possible");
        assert!(entry.learn(Observation::Absent, now, OWN));
        assert!(named(Binding::Obstructed).learn(present(OTHER), now, OWN));
    }

    #[test]
    fn what_the_engine_bound_is_no_news_but_anything_else_is() {
        let now = Instant::now();
        assert!(!named(Binding::Bound { inode: OTHER }).learn(present(OTHER), now, OWN));
        assert!(named(Binding::Bound { inode: OTHER }).learn(present(OTHER + 1), now, OWN));
        assert!(named(Binding::Bound { inode: OTHER }).learn(Observation::Absent, now, OWN));
        assert!(named(Binding::Bound { inode: OTHER }).learn(Observation::Unreadable(13), now, OWN));
    }

    #[test]
    fn an_engine_that_still_misses_what_it_was_told_of_is_told_again_but_slowly() {
        let start = Instant::now();
        let mut entry = named(Binding::Missing);
        assert!(entry.learn(present(OTHER), start, OWN));
        entry = Entry::new(entry.target.clone(), Binding::Missing, Some(entry));
        assert!(!entry.learn(present(OTHER), start + POLL_PERIOD, OWN));
        assert!(
            entry.learn(present(OTHER + 1), start + POLL_PERIOD, OWN),
            "something else is news at once"
        );
        entry = Entry::new(entry.target.clone(), Binding::Missing, Some(entry));
        assert!(entry.learn(present(OTHER + 1), start + POLL_PERIOD + CHECK_PERIOD, OWN));
    }

    #[test]
    fn a_process_in_the_agents_own_namespace_is_told_once_until_it_moves_or_is_another_one() {
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
    fn a_pid_that_is_used_again_is_news_even_in_the_same_namespace() {
        let now = Instant::now();
        let mut entry = Entry::new(Target::Process(42), Binding::Bound { inode: OTHER }, None);
        assert!(!entry.learn(run(OTHER, 5), now, OWN));
        assert!(entry.learn(run(OTHER, 6), now, OWN));
    }

    #[test]
    fn what_gives_no_event_is_looked_at_often_and_the_rest_slowly_on_a_common_grid() {
        let origin = Instant::now();
        let now = origin + Duration::from_millis(130);
        let next = |mut entry: Entry, evented| entry.next_look(now, origin, evented) - origin;
        let missing = |target| Entry::new(target, Binding::Missing, None);
        assert_eq!(next(missing(Target::Process(42)), false), Duration::from_millis(200));
        assert_eq!(next(missing(Target::File("/x".into())), false), Duration::from_millis(200));
        assert_eq!(next(named(Binding::Missing), true), CHECK_PERIOD);
        assert_eq!(next(named(Binding::Missing), false), Duration::from_millis(200));
        assert_eq!(next(named(Binding::Bound { inode: OTHER }), false), CHECK_PERIOD);
    }

    #[test]
    fn a_burst_looks_within_a_millisecond_and_ends_after_a_hundred() {
        let origin = Instant::now();
        let mut entry = named(Binding::Missing);
        entry.start_burst(origin);
        let (mut now, mut looks) = (origin, Vec::new());
        while now < origin + CHECK_PERIOD {
            now = entry.next_look(now, origin, true);
            looks.push((now - origin).as_millis());
        }
        assert_eq!(looks, [1, 3, 7, 15, 31, 63, 100, 2000]);
    }

    #[test]
    fn a_burst_ends_when_the_namespace_is_there() {
        let origin = Instant::now();
        let mut entry = named(Binding::Missing);
        entry.start_burst(origin);
        assert!(entry.learn(present(OTHER), origin, OWN));
        assert_eq!(entry.next_look(origin, origin, true) - origin, CHECK_PERIOD);
    }
}
