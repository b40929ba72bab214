//! Reports the progress of long-running bulk changes every second, in the log and in the agent's health key.

use std::{sync::Arc, time::Duration};

use tracing::info;

use super::report::Health;
use netns_kernel::Executor;

/// Interval between progress reports. A bulk change that ends within this time is not reported.
const INTERVAL: Duration = Duration::from_secs(1);

/// Reports the progress of each long-running bulk change. Runs until the agent stops.
pub async fn report(health: Arc<Health>, executor: Arc<Executor>) {
    let mut bulk = health.bulk();
    loop {
        let Some(since) = bulk.wait_for(Option::is_some).await.ok().and_then(|since| *since) else {
            return;
        };
        let before = executor.changes();
        let changes = || executor.changes() - before;
        let mut seconds = 0_u64;
        // The loop ends when the bulk change is over, so the result of the wait does not matter.
        while tokio::time::timeout(INTERVAL, bulk.wait_for(Option::is_none)).await.is_err() {
            seconds += INTERVAL.as_secs();
            info!(seconds, changes = changes(), "bulk change in progress");
            health.set_bulk_change(Some((since, changes())));
        }
        if seconds > 0 {
            info!(changes = changes(), "bulk change complete");
            health.set_bulk_change(None);
        }
    }
}
