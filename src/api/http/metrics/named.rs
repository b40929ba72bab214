//! `/metrics/{name}`: one metric as JSON, for clients of ligato vpp-agent and for scripts.
//!
//! Ligato vpp-agent serves only data plane metrics at this endpoint. This agent has no data plane, so the endpoint serves the
//! same metrics as `/metrics`.

use std::collections::BTreeMap;

use axum::extract::State;
use prometheus::proto::{LabelPair, Metric, MetricFamily, MetricType};
use serde::Serialize;
use serde_json::Value as Json;

use super::families;
use crate::api::{
    Api,
    http::{
        answer::{self, Answer, ApiError},
        query::InPath,
    },
};

/// Example response.
pub const EXAMPLE: &str = r#"{"name":"netns_agent_values","help":"Desired values, by state","type":"gauge","metrics":[{"labels":{"state":"CONFIGURED"},"value":4.0}]}"#;

#[derive(Serialize)]
struct Named {
    name: String,
    help: String,
    #[serde(rename = "type")]
    kind: &'static str,
    metrics: Vec<Sample>,
}

#[derive(Serialize)]
struct Sample {
    labels: BTreeMap<String, String>,
    #[serde(flatten)]
    value: Value,
}

#[derive(Serialize)]
#[serde(untagged)]
enum Value {
    One {
        value: Json,
    },
    Many {
        count: u64,
        sum: Json,
        #[serde(skip_serializing_if = "Vec::is_empty")]
        buckets: Vec<Below>,
    },
}

/// Cumulative bucket of a histogram: the number of samples that are at most `le`.
#[derive(Serialize)]
struct Below {
    le: Json,
    count: u64,
}

/// Returns the metric with this name.
pub async fn named(State(api): State<Api>, InPath(name): InPath<String>) -> Answer {
    let families = families(&api).await?;
    let family = families.into_iter().find(|family| family.name() == name);
    let family = family.ok_or_else(|| {
        ApiError::not_found(format!(
            "metric {name:?} does not exist or has no value yet; GET /metrics lists all metrics"
        ))
    })?;
    answer::json(&shown(&family))
}

fn shown(family: &MetricFamily) -> Named {
    let kind = family.get_field_type();
    Named {
        name: family.name().to_owned(),
        help: family.help().to_owned(),
        kind: match kind {
            MetricType::COUNTER => "counter",
            MetricType::GAUGE => "gauge",
            MetricType::HISTOGRAM => "histogram",
            MetricType::SUMMARY => "summary",
            MetricType::UNTYPED => "untyped",
        },
        metrics: family.get_metric().iter().map(|metric| sample(kind, metric)).collect(),
    }
}

fn sample(kind: MetricType, metric: &Metric) -> Sample {
    let pair = |label: &LabelPair| (label.name().to_owned(), label.value().to_owned());
    let one = |value| Value::One { value: number(value) };
    Sample {
        labels: metric.get_label().iter().map(pair).collect(),
        value: match kind {
            MetricType::COUNTER => one(metric.get_counter().get_value()),
            // No metric of this agent is untyped.
            MetricType::GAUGE | MetricType::UNTYPED => one(metric.get_gauge().get_value()),
            MetricType::SUMMARY => Value::Many {
                count: metric.get_summary().sample_count(),
                sum: number(metric.get_summary().sample_sum()),
                buckets: Vec::new(),
            },
            MetricType::HISTOGRAM => {
                let histogram = metric.get_histogram();
                let below = histogram.get_bucket().iter().map(|bucket| Below {
                    le: number(bucket.upper_bound()),
                    count: bucket.cumulative_count(),
                });
                Value::Many {
                    count: histogram.get_sample_count(),
                    sum: number(histogram.get_sample_sum()),
                    buckets: below.collect(),
                }
            }
        },
    }
}

/// Encodes a number. Infinity and NaN do not exist in JSON, so they become the strings of the Prometheus text format.
fn number(value: f64) -> Json {
    let word = if value.is_nan() {
        "NaN"
    } else if value > 0.0 {
        "+Inf"
    } else {
        "-Inf"
    };
    serde_json::Number::from_f64(value).map_or_else(|| word.into(), Json::Number)
}
