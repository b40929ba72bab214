//! When each open namespace is read: after events, from time to time, after a bulk change, for a resync.
//!
//! It knows times only. Must never know what is in a namespace. Start reading at [`ReadingPlan`].

use std::{
    collections::{BTreeSet, HashMap},
    time::Duration,
};

use super::super::bulk::Bulk;
use netns_kernel::NetnsId;

/// After the first event a namespace is left this long to finish what it is doing, before it is read.
const SETTLE: Duration = Duration::from_millis(5);
/// A namespace is not read more often than this because of events.
const READ_INTERVAL: Duration = Duration::from_millis(30);
/// Part of that interval for each object in a large namespace: reading takes a few microseconds an object, so a namespace in which
/// events never end costs a quarter of the time at most.
const READ_INTERVAL_PER_OBJECT: Duration = Duration::from_micros(20);
/// A namespace that could not be read is tried again after this.
const RETRY_INTERVAL: Duration = Duration::from_millis(500);
/// A namespace that is not watched is read this often while an address in it is tentative.
const DETECTION_INTERVAL: Duration = Duration::from_secs(1);
/// Parts into which an interval of sweeps is divided: namespaces that are opened together are not read together, for reading very many
/// would delay everything else.
const SWEEP_PARTS: u32 = 64;

/// See the [module documentation](self).
pub struct ReadingPlan {
    /// The open namespaces.
    timings: HashMap<NetnsId, Timing>,
    /// Index of the due times, the earliest first.
    queue: BTreeSet<(Duration, NetnsId)>,
    /// A namespace that is not watched is read this often.
    sweep_interval: Duration,
    /// While it lasts, nothing is read.
    bulk: Bulk,
    now: Duration,
}

/// The plan for one namespace.
struct Timing {
    due: Option<Duration>,
    last_read: Option<Duration>,
    /// Minimum time between two readings because of events.
    interval: Duration,
    /// The next reading is no answer to an event but part of a resync.
    resync: bool,
}

impl ReadingPlan {
    /// A plan without namespaces.
    pub fn new(sweep_interval: Duration) -> Self {
        ReadingPlan {
            timings: HashMap::new(),
            queue: BTreeSet::new(),
            sweep_interval,
            bulk: Bulk::default(),
            now: Duration::ZERO,
        }
    }

    /// Sets the time from which delays count.
    pub fn set_time(&mut self, now: Duration) {
        self.now = now;
    }

    /// Adds a namespace that is open now.
    pub fn opened(&mut self, netns: NetnsId) {
        self.timings.entry(netns).or_insert(Timing {
            due: None,
            last_read: None,
            interval: READ_INTERVAL,
            resync: false,
        });
    }

    /// Removes a namespace that is no longer open.
    pub fn closed(&mut self, netns: NetnsId) {
        if let Some(due) = self.timings.remove(&netns).and_then(|timing| timing.due) {
            self.queue.remove(&(due, netns));
        }
    }

    /// Plans a reading. One that is planned for an earlier time stays so.
    fn plan(&mut self, netns: NetnsId, due: Duration) {
        let Some(timing) = self.timings.get_mut(&netns) else { return };
        if timing.due.is_some_and(|planned| planned <= due) {
            return;
        }
        if let Some(planned) = timing.due.replace(due) {
            self.queue.remove(&(planned, netns));
        }
        self.queue.insert((due, netns));
    }

    /// Plans a reading because of an event.
    pub fn changed(&mut self, netns: NetnsId) {
        let Some(timing) = self.timings.get(&netns) else { return };
        let earliest = timing.last_read.map_or(self.now, |last| last + timing.interval);
        self.plan(netns, earliest.max(self.now + SETTLE));
    }

    /// Plans the first reading of a namespace that is not watched.
    pub fn sweep(&mut self, netns: NetnsId) {
        let part = u32::try_from(netns.0 % u64::from(SWEEP_PARTS)).unwrap_or_default();
        self.plan(netns, self.now + self.sweep_interval * part / SWEEP_PARTS);
    }

    /// Plans a reading at once.
    pub fn read_now(&mut self, netns: NetnsId) {
        self.plan(netns, self.now);
    }

    /// Plans a reading before any operation, as if it were long overdue: an operation may make what is there already.
    pub fn read_first(&mut self, netns: NetnsId) {
        self.plan(netns, Duration::ZERO);
    }

    /// Plans a reading soon. Its consequences must not lead to the next one without a pause.
    pub fn read_soon(&mut self, netns: NetnsId) {
        let Some(timing) = self.timings.get(&netns) else { return };
        let earliest = timing.last_read.map_or(self.now, |last| last + READ_INTERVAL);
        self.plan(netns, earliest.max(self.now));
    }

    /// Plans another attempt to read a namespace that could not be read.
    pub fn retry_later(&mut self, netns: NetnsId) {
        self.plan(netns, self.now + RETRY_INTERVAL);
    }

    /// Plans a reading that may find the end of duplicate address detection, which is not notified in a namespace that is not watched.
    pub fn detect_later(&mut self, netns: NetnsId) {
        self.plan(netns, self.now + DETECTION_INTERVAL);
    }

    /// Plans a reading of every namespace for a resync. Returns whether that ends a bulk change.
    pub fn read_all(&mut self, now: Duration) -> bool {
        let ended = self.bulk.interrupt();
        self.timings.values_mut().for_each(|timing| timing.resync = true);
        self.plan_where(now, |_| true);
        ended
    }

    fn plan_where(&mut self, due: Duration, is_meant: impl Fn(NetnsId) -> bool) {
        let meant: Vec<NetnsId> = self.timings.keys().copied().filter(|netns| is_meant(*netns)).collect();
        meant.into_iter().for_each(|netns| self.plan(netns, due));
    }

    /// Records a batch with this number of changes. Returns whether a bulk change begins with it.
    pub fn batch(&mut self, changes: usize, now: Duration) -> bool {
        self.bulk.batch(changes, now)
    }

    /// Records that nothing else is left to do now. Returns whether that ends a bulk change: each watched namespace is then to be read,
    /// for nobody has listened.
    pub fn idle(&mut self, now: Duration, is_watched: impl Fn(NetnsId) -> bool) -> bool {
        self.now = now;
        let ended = self.bulk.idle(now);
        if ended {
            self.plan_where(now, is_watched);
        }
        ended
    }

    /// Returns whether nothing is to be read now because of a bulk change.
    pub fn is_paused(&self) -> bool {
        self.bulk.over_at().is_some()
    }

    /// Returns the namespaces to read now, sorted. They count as read.
    pub fn take_due(&mut self, now: Duration, is_watched: impl Fn(NetnsId) -> bool) -> Vec<NetnsId> {
        let mut due: Vec<NetnsId> = Vec::new();
        while let Some((_, netns)) = self.queue.first().copied().filter(|(from, _)| *from <= now && !self.is_paused()) {
            self.queue.pop_first();
            if let Some(timing) = self.timings.get_mut(&netns) {
                (timing.due, timing.last_read) = (None, Some(now));
            }
            due.push(netns);
        }
        for netns in due.iter().copied().filter(|netns| !is_watched(*netns)) {
            self.plan(netns, now + self.sweep_interval);
        }
        due.sort_unstable();
        due
    }

    /// Records that a namespace was read, and the number of objects in it: the larger it is, the longer the next reading may wait.
    /// Returns whether the reading was part of a resync.
    pub fn read(&mut self, netns: NetnsId, objects: usize) -> bool {
        let Some(timing) = self.timings.get_mut(&netns) else { return false };
        let interval = READ_INTERVAL_PER_OBJECT * u32::try_from(objects).unwrap_or(u32::MAX);
        timing.interval = interval.max(READ_INTERVAL);
        std::mem::take(&mut timing.resync)
    }

    /// Returns the time at which there may be something to read.
    pub fn next_deadline(&self) -> Option<Duration> {
        self.bulk.over_at().or_else(|| self.queue.first().map(|(due, _)| *due))
    }
}

#[cfg(test)]
mod tests;
