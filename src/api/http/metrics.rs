//! `/metrics` for Prometheus, single metrics as JSON ([`named`]), and the health metrics ([`health`]).
//!
//! Some metrics are counted in `telemetry::metrics`. Others are read from the scheduler and from the process on each request.
//!
//! Metrics with the name prefix `ligato_kvscheduler` exist in ligato vpp-agent as well, with the same types. Ligato vpp-agent
//! queues transactions for a worker. This agent accepts a transaction at once, so no transaction waits or is dropped. Therefore,
//! `queue_length` is the number of unfinished transactions, `queue_capacity` is infinite, and `queue_wait_seconds` does not exist.

use axum::{extract::State, response::Response, routing::get};
use prometheus::{
    TextEncoder,
    proto::{Bucket, Counter, Gauge, Histogram, LabelPair, Metric, MetricFamily, MetricType, Summary},
};

use super::{
    answer::{self, ApiError},
    endpoint::{Endpoint, Parameter},
};
use crate::api::{Api, build::BUILD};
use crate::scheduler::statistics::{DURATION_BOUNDS, Durations, Statistics};

mod health;
mod named;
mod process;

/// Content type of the Prometheus text format.
const METRICS: &str = "text/plain; version=0.0.4; charset=utf-8";

pub(super) const ENDPOINTS: &[Endpoint] = &[
    Endpoint {
        answers: &[METRICS],
        ..Endpoint::get("/metrics", "Metrics for Prometheus", || get(metrics))
    },
    Endpoint {
        parameters: &[Parameter::required("name", "Name of a metric, as listed by /metrics")],
        example: named::EXAMPLE,
        failures: &[(404, "no metric with this name has a value")],
        ..Endpoint::get("/metrics/{name}", "One metric as JSON", || get(named::named))
    },
    Endpoint {
        answers: &[METRICS],
        ..Endpoint::get("/health", "Health of the agent and of its dependencies, for Prometheus", || {
            get(health::health)
        })
    },
];

async fn metrics(State(api): State<Api>) -> Result<Response, ApiError> {
    text(&families(&api).await?)
}

/// Returns all metric families, sorted by name.
async fn families(api: &Api) -> Result<Vec<MetricFamily>, ApiError> {
    let statistics = api
        .engine
        .ask(|scheduler| scheduler.statistics())
        .await
        .ok_or_else(ApiError::stopping)?;
    let mut families = of_scheduler(&statistics);
    families.extend(api.metrics.gather());
    families.push(build());
    families.extend(process::families(api.started));
    families.sort_by(|one, other| one.name().cmp(other.name()));
    Ok(families)
}

/// Returns metric families in the Prometheus text format.
fn text(families: &[MetricFamily]) -> Result<Response, ApiError> {
    let text = TextEncoder::new().encode_to_string(families);
    let text = text.map_err(|error| ApiError::internal(format!("cannot encode the metrics: {error}")))?;
    Ok(answer::typed(METRICS, text))
}

fn of_scheduler(statistics: &Statistics) -> Vec<MetricFamily> {
    let number = |number: u64| number as f64;
    let mut total = Durations::default();
    for durations in statistics.durations.values() {
        total.count += durations.count;
        total.sum += durations.sum;
    }
    vec![
        counter(
            "ligato_kvscheduler_txn_processed",
            "Finished transactions",
            number(statistics.transactions),
        ),
        counter("ligato_kvscheduler_txn_dropped", "Dropped transactions; always 0", 0.0),
        gauge("ligato_kvscheduler_queue_length", "Unfinished transactions", statistics.open as f64),
        gauge(
            "ligato_kvscheduler_queue_capacity",
            "Maximum number of unfinished transactions",
            f64::INFINITY,
        ),
        family(
            "ligato_kvscheduler_txn_process_duration_seconds",
            "Duration of transactions",
            MetricType::SUMMARY,
            vec![summary(&total)],
        ),
        family(
            "ligato_kvscheduler_txn_duration_seconds",
            "Duration of transactions, by kind",
            MetricType::HISTOGRAM,
            statistics
                .durations
                .iter()
                .map(|(kind, durations)| histogram(kind, durations))
                .collect(),
        ),
    ]
}

fn family(name: &str, help: &str, kind: MetricType, metrics: Vec<Metric>) -> MetricFamily {
    let mut family = MetricFamily::default();
    family.set_name(name.to_owned());
    family.set_help(help.to_owned());
    family.set_field_type(kind);
    family.set_metric(metrics);
    family
}

fn label(name: &str, value: &str) -> LabelPair {
    let mut label = LabelPair::default();
    label.set_name(name.to_owned());
    label.set_value(value.to_owned());
    label
}

fn counter(name: &str, help: &str, value: f64) -> MetricFamily {
    let mut counter = Counter::default();
    counter.set_value(value);
    let mut metric = Metric::default();
    metric.set_counter(counter);
    family(name, help, MetricType::COUNTER, vec![metric])
}

fn gauge(name: &str, help: &str, value: f64) -> MetricFamily {
    family(name, help, MetricType::GAUGE, vec![gauge_metric(value, Vec::new())])
}

fn gauge_metric(value: f64, labels: Vec<LabelPair>) -> Metric {
    let mut gauge = Gauge::default();
    gauge.set_value(value);
    let mut metric = Metric::from_gauge(gauge);
    metric.set_label(labels);
    metric
}

fn summary(durations: &Durations) -> Metric {
    let mut summary = Summary::default();
    summary.set_sample_count(durations.count);
    summary.set_sample_sum(durations.sum.as_secs_f64());
    let mut metric = Metric::default();
    metric.set_label(vec![label("slice", "total")]);
    metric.set_summary(summary);
    metric
}

fn histogram(kind: &str, durations: &Durations) -> Metric {
    let mut cumulative = 0;
    let buckets = DURATION_BOUNDS.iter().zip(durations.buckets).map(|(bound, count)| {
        cumulative += count;
        let mut bucket = Bucket::default();
        bucket.set_upper_bound(*bound);
        bucket.set_cumulative_count(cumulative);
        bucket
    });
    let mut histogram = Histogram::default();
    histogram.set_bucket(buckets.collect());
    histogram.set_sample_count(durations.count);
    histogram.set_sample_sum(durations.sum.as_secs_f64());
    let mut metric = Metric::default();
    metric.set_label(vec![label("txn_type", kind)]);
    metric.set_histogram(histogram);
    metric
}

fn build() -> MetricFamily {
    let labels = vec![
        label("version", BUILD.version),
        label("revision", BUILD.commit),
        label("build_date", BUILD.time),
        label("built_by", BUILD.user),
    ];
    family(
        "ligato_build_info",
        "Build information; always 1",
        MetricType::GAUGE,
        vec![gauge_metric(1.0, labels)],
    )
}
