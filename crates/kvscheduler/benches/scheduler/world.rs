//! Runs a scheduler and measures its processor time. All operations succeed immediately. The time to create the scheduler's input
//! is not included.

use std::time::Duration;

use kvscheduler::{Change, Outcome, Scheduler};
use rustix::time::{ClockId, clock_gettime};

use crate::toy::{Key, Toy, ToyDomain};

/// Returns the processor time of this thread. Unlike wall-clock time, it does not include the work of other processes.
pub fn cpu_time() -> Duration {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    Duration::new(time.tv_sec.unsigned_abs(), time.tv_nsec as u32)
}

/// Cost of the measured scheduler calls.
#[derive(Clone, Copy, Default, Debug)]
pub struct Cost {
    /// Number of operations that the scheduler started and that completed.
    pub operations: usize,
    /// Processor time of all calls into the scheduler.
    pub time: Duration,
}

pub struct World {
    scheduler: Scheduler<ToyDomain>,
    now: Duration,
    operations: usize,
}

impl World {
    pub fn new() -> Self {
        let mut scheduler = Scheduler::new(ToyDomain);
        scheduler.complete_facts();
        World {
            scheduler,
            now: Duration::from_secs(1_000_000),
            operations: 0,
        }
    }

    /// Performs steps and reports outcomes until nothing is left to do, as an engine would.
    fn settle(&mut self) {
        loop {
            self.now += Duration::from_millis(1);
            let operations = self.scheduler.step(self.now);
            if operations.is_empty() && self.scheduler.idle() {
                break;
            }
            self.operations += operations.len();
            for operation in operations {
                self.scheduler.outcome(operation.id, Outcome::Done);
            }
        }
        self.scheduler.take_status_changes();
    }

    fn measured(&mut self, work: impl FnOnce(&mut Self)) -> Cost {
        self.operations = 0;
        let start = cpu_time();
        work(self);
        Cost {
            time: cpu_time() - start,
            operations: self.operations,
        }
    }

    /// Performs one transaction until nothing is left to do, and returns its cost.
    pub fn transaction(&mut self, changes: Vec<Change<Key, Toy>>, full: bool) -> Cost {
        self.measured(|world| {
            world.scheduler.transaction(changes, full);
            world.settle();
        })
    }

    /// Performs transactions one after another and returns their total cost. A transaction starts when the previous one is
    /// complete.
    pub fn transactions(&mut self, transactions: Vec<Vec<Change<Key, Toy>>>) -> Cost {
        self.measured(|world| {
            for changes in transactions {
                world.scheduler.transaction(changes, false);
                world.settle();
            }
        })
    }

    /// Reports that a fact appears or disappears, and returns the cost of processing this change.
    pub fn fact(&mut self, key: &Key, exists: bool) -> Cost {
        self.measured(|world| {
            world.scheduler.fact(key, exists.then(|| Toy::plain(0)));
            world.settle();
        })
    }

    /// Returns the number of applied values with the given prefix.
    pub fn applied_under(&self, prefix: &str) -> usize {
        self.scheduler.view().applied_under(prefix).count()
    }
}
