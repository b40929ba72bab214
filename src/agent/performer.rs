//! What the engine wants done, done by the netns executor.
//!
//! Owns the way to the executor and back. Must never decide anything. Start reading at [`KernelPerformer`].

use std::sync::Arc;

use crate::{
    engine::{Done, Performer, UnderWay, Work},
    kernel::Executor,
};

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
    fn start(&self, work: Work<NetworkEffects>) -> UnderWay<Done<NetworkEffects>> {
        let executor = self.executor.clone();
        Box::pin(async move {
            match work {
                Work::Perform(tasks) => Done::Performed(executor.perform(tasks).await),
                Work::Look(Look::Refresh(namespaces)) => Done::Seen(Seen::read(executor.perform(Look::readings(namespaces)).await)),
                Work::Look(Look::Survey(survey)) => {
                    let (marked, closings) = survey.judge(executor.perform(survey.openings()).await);
                    executor.perform(closings).await;
                    Done::Seen(Seen::Survey(marked))
                }
            }
        })
    }
}
