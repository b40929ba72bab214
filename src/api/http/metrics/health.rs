//! `/health`: health of the agent and of its dependencies, for Prometheus.
//!
//! The metric names are the same as in ligato vpp-agent. The values come from the health that this agent publishes.

use axum::{extract::State, response::Response};
use models::{
    key::Key,
    proto::status::{AgentStatus, PluginStatus},
};
use prometheus::proto::{MetricFamily, MetricType};

use super::{family, gauge_metric, label, text};
use crate::{
    api::{Api, http::answer::ApiError},
    publish::{AGENT_HEALTH, Published},
};

/// Returns the published health of the agent as metrics.
pub async fn health(State(api): State<Api>) -> Result<Response, ApiError> {
    let Some(Published::Agent(agent)) = api.statuses.get(&Key::new(AGENT_HEALTH)).as_deref().cloned() else {
        return Err(ApiError::internal("the health of the agent is not known yet; try again"));
    };
    text(&families(&api.label, &agent))
}

fn families(service: &str, agent: &AgentStatus) -> Vec<MetricFamily> {
    let service = || label("service", service);
    let state = |state: i32, labels| gauge_metric(f64::from(state), labels);
    let part = |part: &PluginStatus| state(part.state, vec![label("dependency", &part.name), service()]);
    let build = vec![
        label("build_date", &agent.build_date),
        label("build_version", &agent.build_version),
        service(),
    ];
    vec![
        family(
            "service_dependency_health",
            "Health of a dependency: 0 starting, 1 running, 2 failing",
            MetricType::GAUGE,
            agent.plugins.iter().map(part).collect(),
        ),
        family(
            "service_health",
            "Health of the agent: 0 starting, 1 running, 2 failing",
            MetricType::GAUGE,
            vec![state(agent.state, vec![service()])],
        ),
        family(
            "service_info",
            "Build information; always 1",
            MetricType::GAUGE,
            vec![gauge_metric(1.0, build)],
        ),
    ]
}
