//! Performs the engine's work with the netns executor.

use std::sync::Arc;

use crate::engine::{Done, DoneSender, Performer, Work};
use netns_kernel::{Executor, Part};

use super::effects::{NetworkEffects, ReadRequest, Seen};

/// Performer that passes work from the engine to the netns executor, and returns the results to the engine.
pub struct KernelPerformer {
    executor: Arc<Executor>,
}

impl KernelPerformer {
    /// Creates a performer that uses this executor.
    pub fn new(executor: Arc<Executor>) -> Self {
        KernelPerformer { executor }
    }
}

impl Performer<NetworkEffects> for KernelPerformer {
    fn start(&self, work: Work<NetworkEffects>, done: &DoneSender<NetworkEffects>) {
        let done = done.clone();
        // Sending fails only if the engine has ended, and then no results are needed.
        let tell = move |what| drop(done.send(what));
        match work {
            Work::Perform(tasks) => self.executor.submit(tasks, move |answer| {
                tell(match answer.part {
                    Part::Main => Done::Performed(answer.outcomes),
                    Part::Early => Done::Early(answer.outcomes),
                    Part::Late => Done::Late(answer.outcomes),
                })
            }),
            // A refresh has no early or late outcomes. Reading an open namespace requires no path lookup, so no read can hang.
            Work::ReadRequest(ReadRequest::Refresh(namespaces)) => {
                let readings = ReadRequest::readings(namespaces);
                self.executor
                    .submit(readings, move |answer| tell(Done::Seen(Seen::read(answer.outcomes))))
            }
            Work::ReadRequest(ReadRequest::Scan(scan)) => {
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
