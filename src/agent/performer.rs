//! What the engine wants done, done by the netns executor.
//!
//! Owns the way to the executor and back. Must never decide anything. Start reading at [`KernelPerformer`].

use std::sync::Arc;

use crate::engine::{Done, DoneSender, Performer, Work};
use netns_kernel::{Executor, Part};

use super::effects::{Look, NetworkEffects, Seen};

/// See the [module documentation](self).
pub struct KernelPerformer {
    executor: Arc<Executor>,
}

impl KernelPerformer {
    /// Performs through this executor.
    pub fn new(executor: Arc<Executor>) -> Self {
        KernelPerformer { executor }
    }
}

impl Performer<NetworkEffects> for KernelPerformer {
    fn start(&self, work: Work<NetworkEffects>, done: &DoneSender<NetworkEffects>) {
        let done = done.clone();
        // Whoever no longer listens does not need to know.
        let tell = move |what| drop(done.send(what));
        match work {
            Work::Perform(tasks) => self.executor.submit(tasks, move |answer| {
                tell(match answer.part {
                    Part::Main => Done::Performed(answer.outcomes),
                    Part::Early => Done::Early(answer.outcomes),
                    Part::Late => Done::Late(answer.outcomes),
                })
            }),
            // What is open needs no path, so there is one answer.
            Work::Look(Look::Refresh(namespaces)) => {
                let readings = Look::readings(namespaces);
                self.executor
                    .submit(readings, move |answer| tell(Done::Seen(Seen::read(answer.outcomes))))
            }
            Work::Look(Look::Scan(scan)) => {
                let executor = self.executor.clone();
                tokio::spawn(async move {
                    let (marked, closings) = scan.judge(executor.perform(scan.openings()).await);
                    executor.perform(closings).await;
                    tell(Done::Seen(Seen::Scan(marked)));
                });
            }
        }
    }
}
