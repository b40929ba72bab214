//! When very much is changed at once: what is put off meanwhile.
//!
//! Owns when a bulk change begins and when it is over. Must never look at what is changed. Start reading at [`Bulk`].
//!
//! The agent hears of its own changes as of those of others, each listener costs every writer, and reading the namespaces again after each
//! batch took half of the time of a large change. So during one nobody listens, and at its end every namespace is read once. What
//! somebody else does meanwhile is noticed then: [`LONGEST`] after the beginning at the latest.

use std::time::Duration;

/// So many operations that change something in a namespace, in one batch, are a bulk change.
const OPERATIONS: usize = 100;
/// It is over when there was no batch for so long: a client that puts many values leaves gaps.
const QUIET: Duration = Duration::from_millis(40);
/// It counts as over after this time, and the next batch may begin another. Reading 1,000 namespaces with 20 links each takes 3 s, so an
/// end in the midst of it is dear.
const LONGEST: Duration = Duration::from_secs(30);

/// See the [module documentation](self).
#[derive(Debug, Default)]
pub struct Bulk(Option<Span>);

#[derive(Clone, Copy, Debug)]
struct Span {
    since: Duration,
    /// Since when nothing is left to do; unknown while something is.
    idle: Option<Duration>,
}

impl Span {
    fn over_at(&self) -> Duration {
        let longest = self.since + LONGEST;
        self.idle.map_or(longest, |idle| (idle + QUIET).min(longest))
    }
}

impl Bulk {
    /// A batch with so many changes is about to be performed. Answers whether a bulk change begins with it.
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

    /// When it will be over, if there is one and nothing comes.
    pub fn over_at(&self) -> Option<Duration> {
        self.0.as_ref().map(Span::over_at)
    }

    /// There is nothing to do now. Answers whether that ends one.
    pub fn idle(&mut self, now: Duration) -> bool {
        if let Some(span) = &mut self.0 {
            span.idle.get_or_insert(now);
        }
        self.0.take_if(|span| span.over_at() <= now).is_some()
    }

    /// Ends it, whether it is over or not. Answers whether there was one.
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
    fn small_batches_begin_nothing() {
        let mut bulk = Bulk::default();
        assert!(!bulk.batch(OPERATIONS - 1, at(0)));
        assert_eq!(bulk.over_at(), None);
        assert!(!bulk.idle(at(1_000)));
    }

    #[test]
    fn it_is_over_when_there_was_nothing_to_do_for_a_while() {
        let mut bulk = Bulk::default();
        assert!(bulk.batch(OPERATIONS, at(0)));
        assert!(!bulk.batch(OPERATIONS, at(300)), "it has begun already");
        assert!(!bulk.idle(at(600)), "however long a batch takes");
        assert!(!bulk.batch(1, at(630)));
        assert!(!bulk.idle(at(631)));
        assert_eq!(bulk.over_at(), Some(at(671)));
        assert!(!bulk.idle(at(670)));
        assert!(bulk.idle(at(671)));
        assert!(bulk.batch(OPERATIONS, at(680)), "the next one");
    }

    #[test]
    fn it_does_not_last_for_ever() {
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
    fn a_reading_of_everything_ends_it() {
        let mut bulk = Bulk::default();
        assert!(!bulk.interrupt());
        bulk.batch(OPERATIONS, at(0));
        assert!(bulk.interrupt());
        assert_eq!(bulk.over_at(), None);
    }
}
