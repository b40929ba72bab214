//! A scheduler whose operations all succeed at once, and the clock that its work is measured with.
//!
//! Owns the loop that an engine would run. Must never measure the making of its input. Start reading at [`World::settle`].

use std::time::Duration;

use kvscheduler::{Change, Outcome, Scheduler};
use rustix::time::{ClockId, clock_gettime};

use crate::toy::{Key, Toy, ToyDomain};

/// Time that this thread was running. Unlike a wall clock it does not count the work of others on the same machine.
pub fn cpu_time() -> Duration {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    Duration::new(time.tv_sec.unsigned_abs(), time.tv_nsec as u32)
}

/// What a piece of work took.
#[derive(Clone, Copy, Default, Debug)]
pub struct Cost {
    /// Operations that the scheduler gave out and got an outcome of.
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
        scheduler.settle_facts();
        World {
            scheduler,
            now: Duration::from_secs(1_000_000),
            operations: 0,
        }
    }

    /// Steps and outcomes until nothing is left to do.
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

    /// One transaction, until nothing is left to do.
    pub fn transaction(&mut self, changes: Vec<Change<Key, Toy>>, full: bool) -> Cost {
        self.measured(|world| {
            world.scheduler.transaction(changes, full);
            world.settle();
        })
    }

    /// Transactions one after another, until nothing is left to do after each.
    pub fn transactions(&mut self, transactions: Vec<Vec<Change<Key, Toy>>>) -> Cost {
        self.measured(|world| {
            for changes in transactions {
                world.scheduler.transaction(changes, false);
                world.settle();
            }
        })
    }

    /// A fact comes or goes.
    pub fn fact(&mut self, key: &Key, exists: bool) -> Cost {
        self.measured(|world| {
            world.scheduler.fact(key, exists.then(|| Toy::plain(0)));
            world.settle();
        })
    }

    /// How many values are applied below a prefix.
    pub fn applied_under(&self, prefix: &str) -> usize {
        self.scheduler.view().applied_under(prefix).count()
    }
}
