//! Tests that `/metrics` lists all metrics, and that they count events. See [`metrics_count_events`].

use models::proto::ligato::generic::{GetConfigRequest, GetConfigResponse, SubscribeRequest, SubscribeResponse, item::Id};

use crate::{
    client::{Answer, Request},
    golden,
    grpc_client::{Client, MANAGER},
    on_one_store,
    support::{bench::Bench, command},
    world,
};

async fn read() -> Answer {
    Request::get("/metrics").send().await
}

/// Returns the value of the sample with this name and these labels, if there is one.
fn sample(answer: &Answer, name: &str) -> Option<f64> {
    let line = answer.body.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    line.and_then(|value| value.parse().ok())
}

async fn metrics_count_events(mut bench: Bench) {
    world::converged(&mut bench).await;
    let mut before = read().await;
    // The statuses of a transaction are published before the transaction is complete, so wait until the queue is empty. The test
    // fails at its own time limit if that never happens.
    while sample(&before, "ligato_kvscheduler_queue_length") != Some(0.0) {
        before = read().await;
    }
    assert_eq!(before.content_type(), "text/plain; version=0.0.4; charset=utf-8");
    for (name, expected) in [
        (r#"netns_agent_values{state="CONFIGURED"}"#, 4.0),
        (r#"netns_agent_values{state="PENDING"}"#, 1.0),
        (r#"netns_agent_apply_seconds_count{kind="linux.interfaces.interface"}"#, 2.0),
        (r#"netns_agent_apply_seconds_count{kind="linux.l3.route"}"#, 1.0),
        (r#"netns_agent_apply_seconds_count{kind="linux.l3.arp"}"#, 1.0),
        ("netns_agent_defects", 0.0),
        ("netns_agent_etcd_connected", 1.0),
        ("netns_agent_etcd_lag_revisions", 0.0),
        ("ligato_kvscheduler_txn_dropped", 0.0),
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
        // Wait until the agent has repaired the deletion. The test fails at its own time limit if that never happens.
        repairs = sample(&read().await, repaired);
    }
    assert!(repairs >= Some(1.0), "{repairs:?}");
    bench.stop_agent().await;
}
on_one_store!(metrics_count_events, Embedded, 120);

/// Returns the lines of the metrics whose names begin with `prefix`. Omits sums and all histogram buckets except the last,
/// because these lines depend on time.
fn lines(answer: &Answer, prefix: &str) -> Vec<String> {
    let lines = answer.body.lines().filter(|line| {
        let name = line.strip_prefix("# HELP ").or(line.strip_prefix("# TYPE ")).unwrap_or(line);
        name.starts_with(prefix) && !line.contains("_sum{") && (!line.contains("_bucket{") || line.contains("+Inf"))
    });
    lines.map(str::to_owned).collect()
}

async fn grpc_metrics_match_the_reference(mut bench: Bench) {
    bench.start_agent().await;
    let mut client = Client::connect().await;
    let request = GetConfigRequest::default();
    let answer = client.call::<_, GetConfigResponse>(MANAGER, "GetConfig", request.clone()).await;
    answer.expect("answered");
    let both = GetConfigRequest {
        ids: vec![Id::default()],
        labels: [("a".to_owned(), String::new())].into(),
    };
    let refused = client.call::<_, GetConfigResponse>(MANAGER, "GetConfig", both).await;
    assert_eq!(refused.expect_err("it makes no sense").code(), tonic::Code::InvalidArgument);
    let unknown = client.call::<_, GetConfigResponse>("/made.up/", "Path", request).await;
    assert_eq!(unknown.expect_err("there is none").code(), tonic::Code::Unimplemented);
    bench
        .put(
            world::WAITING,
            r#"{"interface":"absent","ip_address":"10.0.0.2","hw_address":"02:00:00:00:00:02"}"#,
        )
        .await;
    bench.until_state(world::WAITING, "PENDING").await;
    let subscribe = SubscribeRequest::default();
    client.first(MANAGER, "Subscribe", subscribe, |_: &SubscribeResponse| true).await;
    // The agent needs a moment to notice that the client has cancelled the stream.
    let mut answer = read().await;
    while !answer.body.contains("grpc_code=\"Canceled\"") {
        answer = read().await;
    }
    golden::check(
        "metrics-grpc.txt",
        &Answer {
            body: lines(&answer, "grpc_server_").join("\n"),
            ..answer
        },
    );
    bench.stop_agent().await;
}
on_one_store!(grpc_metrics_match_the_reference, Embedded, 120);

async fn one_metric_and_the_health_are_served(mut bench: Bench) {
    world::converged(&mut bench).await;
    golden::check("metrics-values.json", &Request::get("/metrics/netns_agent_values").send().await);
    golden::check(
        "metrics-infinity.json",
        &Request::get("/metrics/ligato_kvscheduler_queue_capacity").send().await,
    );
    golden::check("metrics-unknown.json", &Request::get("/metrics/absent").send().await);
    let histogram = Request::get("/metrics/netns_agent_apply_seconds").send().await;
    let histogram: serde_json::Value = serde_json::from_str(&histogram.body).expect("JSON");
    assert_eq!(histogram["metrics"][0]["count"], 2, "{histogram}");
    assert_eq!(histogram["metrics"][0]["buckets"].as_array().map(Vec::len), Some(14), "{histogram}");
    let version = format!("build_version=\"{}\"", env!("CARGO_PKG_VERSION"));
    let starting = format!("dependency=\"docker\",service=\"{}\"}} 0", bench.label);
    let mut health = Request::get("/health").send().await;
    // No Docker daemon is running here, and the agent needs a moment to find that out.
    while !health.body.contains("service_dependency_health{dependency=\"docker\"") || health.body.contains(&starting) {
        health = Request::get("/health").send().await;
    }
    assert!(health.body.contains(&version), "{}", health.body);
    let label = bench.label.clone();
    golden::check(
        "health.txt",
        &Answer {
            body: health.body.replace(&version, "build_version=\"VERSION\"").replace(&label, "LABEL"),
            ..health
        },
    );
    bench.stop_agent().await;
}
on_one_store!(one_metric_and_the_health_are_served, Embedded, 120);
