//! `/metrics`: every name is there, and what happens is counted.
//!
//! Owns one scenario. Start reading at [`what_happens_is_counted`].

use crate::{
    client::{Answer, Request},
    golden, on_one_store,
    support::{bench::Bench, command},
    world,
};

async fn read() -> Answer {
    Request::get("/metrics").send().await
}

/// The value of a sample.
fn sample(answer: &Answer, name: &str) -> Option<f64> {
    let line = answer.body.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    line.and_then(|value| value.parse().ok())
}

async fn what_happens_is_counted(mut bench: Bench) {
    world::converged(&mut bench).await;
    let before = read().await;
    assert_eq!(before.content_type(), "text/plain; version=0.0.4; charset=utf-8");
    for (name, expected) in [
        (r#"netns_agent_values{state="CONFIGURED"}"#, 4.0),
        (r#"netns_agent_values{state="PENDING"}"#, 1.0),
        (r#"netns_agent_apply_seconds_count{kind="linux.interfaces.interface"}"#, 2.0),
        (r#"netns_agent_apply_seconds_count{kind="linux.l3.route"}"#, 1.0),
        (r#"netns_agent_apply_seconds_count{kind="linux.l3.arp"}"#, 1.0),
        ("netns_agent_etcd_connected", 1.0),
        ("netns_agent_etcd_lag_revisions", 0.0),
        ("ligato_kvscheduler_txn_dropped", 0.0),
        ("ligato_kvscheduler_queue_length", 0.0),
    ] {
        assert_eq!(sample(&before, name), Some(expected), "{name} in\n{}", before.body);
    }
    let names: Vec<&str> = before
        .body
        .lines()
        .map(|line| {
            if line.starts_with('#') {
                line
            } else {
                line.rsplit_once(' ').map_or(line, |(name, _)| name)
            }
        })
        .collect();
    let shown = Answer {
        body: names.join("\n"),
        ..before
    };
    golden::check("metrics.txt", &shown);

    command::ip("-n red link del eth0");
    let repaired = r#"netns_agent_drift_repairs{kind="linux.interfaces.interface"}"#;
    let mut repairs = None;
    while repairs.is_none() {
        // The agent hears of it from the kernel; the test binary's own limit ends the wait.
        repairs = sample(&read().await, repaired);
    }
    assert!(repairs >= Some(1.0), "{repairs:?}");
    bench.stop_agent().await;
}
on_one_store!(what_happens_is_counted, Embedded, 120);
