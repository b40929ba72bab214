//! Schedules the reads of each open namespace: after events, periodically, after a bulk change, and for a resync.
//!
//! Deals only with times, not with the contents of namespaces.

use std::{
    collections::{BTreeSet, HashMap},
    time::Duration,
};

use super::super::bulk::Bulk;
use netns_kernel::NetnsId;

/// Delay between the first event in a namespace and the read, so that the read also covers changes that follow shortly after.
const SETTLE: Duration = Duration::from_millis(5);
/// Minimum time between two event-triggered reads of a namespace.
const READ_INTERVAL: Duration = Duration::from_millis(30);
/// Minimum time between two event-triggered reads of a large namespace, per object in it. Used if it results in a longer time
/// than [`READ_INTERVAL`].
///
/// Reading takes a few microseconds per object, so reading a namespace with constant events takes at most a quarter of the
/// agent's time.
const READ_INTERVAL_PER_OBJECT: Duration = Duration::from_micros(20);
/// Delay before a failed read of a namespace is retried.
const RETRY_INTERVAL: Duration = Duration::from_millis(500);
/// Read interval of an unwatched namespace while an address in it is tentative.
const DETECTION_INTERVAL: Duration = Duration::from_secs(1);
/// Number of slots in the sweep interval. Namespaces that were opened together are read in different slots, because many reads at
/// once would delay everything else.
const SWEEP_PARTS: u32 = 64;

/// Schedule of the reads of open namespaces.
pub struct ReadingPlan {
    /// Planned and past reads of each open namespace.
    timings: HashMap<NetnsId, Timing>,
    /// Planned reads, earliest first.
    queue: BTreeSet<(Duration, NetnsId)>,
    /// Read interval of a namespace that is not watched.
    sweep_interval: Duration,
    /// Bulk change in progress, during which nothing is read.
    bulk: Bulk,
    now: Duration,
}

/// Read times of one namespace.
struct Timing {
    due: Option<Duration>,
    last_read: Option<Duration>,
    /// Minimum time between two event-triggered reads.
    interval: Duration,
    /// True if the next read is part of a resync.
    resync: bool,
}

impl ReadingPlan {
    /// Creates a plan without namespaces.
    pub fn new(sweep_interval: Duration) -> Self {
        ReadingPlan {
            timings: HashMap::new(),
            queue: BTreeSet::new(),
            sweep_interval,
            bulk: Bulk::default(),
            now: Duration::ZERO,
        }
    }

    /// Sets the current time, on which all delays are based.
    pub fn set_time(&mut self, now: Duration) {
        self.now = now;
    }

    /// Changes the read interval of namespaces that are not watched. Reads that are planned for a later time are brought forward.
    pub fn set_sweep_interval(&mut self, interval: Duration) {
        self.sweep_interval = interval;
        let latest = self.now + interval;
        let late: Vec<NetnsId> = self
            .queue
            .iter()
            .filter(|(due, _)| *due > latest)
            .map(|(_, netns)| *netns)
            .collect();
        for netns in late {
            self.plan(netns, latest);
        }
    }

    /// Adds a namespace that was opened.
    pub fn opened(&mut self, netns: NetnsId) {
        self.timings.entry(netns).or_insert(Timing {
            due: None,
            last_read: None,
            interval: READ_INTERVAL,
            resync: false,
        });
    }

    /// Removes a namespace that was closed.
    pub fn closed(&mut self, netns: NetnsId) {
        if let Some(due) = self.timings.remove(&netns).and_then(|timing| timing.due) {
            self.queue.remove(&(due, netns));
        }
    }

    /// Plans a read at a given time, unless an earlier read is already planned.
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

    /// Plans a read because of an event.
    pub fn changed(&mut self, netns: NetnsId) {
        let Some(timing) = self.timings.get(&netns) else { return };
        let earliest = timing.last_read.map_or(self.now, |last| last + timing.interval);
        self.plan(netns, earliest.max(self.now + SETTLE));
    }

    /// Plans the first read of a namespace that is not watched, at some time within the sweep interval.
    pub fn sweep(&mut self, netns: NetnsId) {
        let part = u32::try_from(netns.0 % u64::from(SWEEP_PARTS)).unwrap_or_default();
        self.plan(netns, self.now + self.sweep_interval * part / SWEEP_PARTS);
    }

    /// Plans an immediate read.
    pub fn read_now(&mut self, netns: NetnsId) {
        self.plan(netns, self.now);
    }

    /// Plans a read that takes place before any operation, because an operation might otherwise create an object that already
    /// exists.
    pub fn read_first(&mut self, netns: NetnsId) {
        self.plan(netns, Duration::ZERO);
    }

    /// Plans a read soon, but not right after the last read. Otherwise, reads that trigger each other would follow without a
    /// pause.
    pub fn read_soon(&mut self, netns: NetnsId) {
        let Some(timing) = self.timings.get(&netns) else { return };
        let earliest = timing.last_read.map_or(self.now, |last| last + READ_INTERVAL);
        self.plan(netns, earliest.max(self.now));
    }

    /// Plans a retry of a failed read.
    pub fn retry_later(&mut self, netns: NetnsId) {
        self.plan(netns, self.now + RETRY_INTERVAL);
    }

    /// Plans a read to notice the end of duplicate address detection in a namespace that is not watched.
    pub fn detect_later(&mut self, netns: NetnsId) {
        self.plan(netns, self.now + DETECTION_INTERVAL);
    }

    /// Plans a read of every namespace for a resync. Returns whether this ends a bulk change.
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

    /// Records a batch with this number of changes. Returns whether the batch starts a bulk change.
    pub fn batch(&mut self, changes: usize, now: Duration) -> bool {
        self.bulk.batch(changes, now)
    }

    /// Records that the agent is idle. Returns whether a bulk change has ended.
    ///
    /// At the end of a bulk change, plans a read of each watched namespace, because notifications were disabled in the meantime.
    pub fn idle(&mut self, now: Duration, is_watched: impl Fn(NetnsId) -> bool) -> bool {
        self.now = now;
        let ended = self.bulk.idle(now);
        if ended {
            self.plan_where(now, is_watched);
        }
        ended
    }

    /// Returns whether reads are paused because of a bulk change.
    pub fn is_paused(&self) -> bool {
        self.bulk.over_at().is_some()
    }

    /// Returns the namespaces to read now, sorted, and marks them as read.
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

    /// Records that a namespace was read and how many objects it has. A large number of objects extends the minimum time until
    /// the next read.
    ///
    /// Returns whether the read was part of a resync.
    pub fn read(&mut self, netns: NetnsId, objects: usize) -> bool {
        let Some(timing) = self.timings.get_mut(&netns) else { return false };
        let interval = READ_INTERVAL_PER_OBJECT * u32::try_from(objects).unwrap_or(u32::MAX);
        timing.interval = interval.max(READ_INTERVAL);
        std::mem::take(&mut timing.resync)
    }

    /// Returns the time at which the bulk change in progress ends. If there is no bulk change, returns the time of the next read.
    pub fn next_deadline(&self) -> Option<Duration> {
        self.bulk.over_at().or_else(|| self.queue.first().map(|(due, _)| *due))
    }
}

#[cfg(test)]
mod tests;
