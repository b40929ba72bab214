//! Desired state for the API tests: a configuration, and a value that stays pending. See [`converged`].

use crate::support::{bench::Bench, config::Config};

/// Key of a value that stays pending, because its interface is not desired.
pub const WAITING: &str = "linux/l3/v2/arp/absent/10.0.0.2";

/// Starts an agent and waits until it has converged: the configuration is CONFIGURED, and one more value is PENDING.
pub async fn converged(bench: &mut Bench) {
    bench.start_agent().await;
    let revisions = bench.put_together(&Config::between_two_namespaces()).await;
    bench.until_configured(&revisions).await;
    bench
        .put(
            WAITING,
            r#"{"interface":"absent","ip_address":"10.0.0.2","hw_address":"02:00:00:00:00:02"}"#,
        )
        .await;
    bench.until_state(WAITING, "PENDING").await;
}
