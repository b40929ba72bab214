//! Long work shows itself: a line in the log and a member of the agent's health key, every second.
//!
//! Owns when that is told. Must never hold up the work. Start reading at [`tell`].

use std::{sync::Arc, time::Duration};

use tracing::info;

use super::report::Health;
use netns_kernel::Executor;

/// What takes less than this is not told, and what takes longer is told as often.
const INTERVAL: Duration = Duration::from_secs(1);

/// Tells of each bulk change that takes long, for as long as the agent runs.
pub async fn tell(health: Arc<Health>, executor: Arc<Executor>) {
    let mut bulk = health.bulk();
    loop {
        let Some(since) = bulk.wait_for(Option::is_some).await.ok().and_then(|since| *since) else {
            return;
        };
        let before = executor.changes();
        let changes = || executor.changes() - before;
        let mut seconds = 0_u64;
        // The outcome of the wait for the end only matters when it comes in time.
        while tokio::time::timeout(INTERVAL, bulk.wait_for(Option::is_none)).await.is_err() {
            seconds += INTERVAL.as_secs();
            info!(seconds, changes = changes(), "many changes are being made");
            health.set_bulk_change(Some((since, changes())));
        }
        if seconds > 0 {
            info!(changes = changes(), "the many changes are made");
            health.set_bulk_change(None);
        }
    }
}
