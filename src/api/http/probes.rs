//! `/liveness` and `/readiness`: report the health of the agent to supervisors, and to clients that wait until the agent is
//! ready.
//!
//! The responses contain the health that the agent publishes (see `agent::report`).

use std::collections::BTreeMap;

use axum::{
    extract::State,
    http::StatusCode,
    response::{IntoResponse, Response},
    routing::get,
};
use models::{
    key::Key,
    proto::status::{AgentStatus, OperationalState, PluginStatus},
};
use serde::Serialize;

use super::{
    answer::{self, ApiError},
    endpoint::Endpoint,
};
use crate::{
    api::Api,
    publish::{AGENT_HEALTH, PART_HEALTH, Published},
};

const EXAMPLE: &str = r#"{"build_version":"0.1.0","state":1,"start_time":1696842000,"last_change":1696842003,"last_update":1696842010,"plugins":[{"name":"VPPAgent","state":1}],"PluginStatus":{"VPPAgent":{"state":1,"last_change":1696842003,"last_update":1696842010}},"NonFatalPlugins":null}"#;

pub(super) const ENDPOINTS: &[Endpoint] = &[
    Endpoint {
        example: EXAMPLE,
        failures: &[(
            500,
            "an essential part of the agent is failing; the body has the same format as with status 200",
        )],
        reported_with: Some((500, EXAMPLE)),
        ..Endpoint::get(
            "/liveness",
            "Health of the agent: 200 while it is starting (state omitted) or running (state 1)",
            || get(liveness),
        )
    },
    Endpoint {
        example: EXAMPLE,
        failures: &[(
            500,
            "the agent is not in sync yet, or is failing; the body has the same format as with status 200",
        )],
        reported_with: Some((500, EXAMPLE)),
        ..Endpoint::get(
            "/readiness",
            "Readiness: 200 once the desired state at startup has been processed",
            || get(readiness),
        )
    },
];

/// Agent health, with the same members as in ligato vpp-agent. Members with value 0 are omitted.
#[derive(Serialize)]
struct Health {
    #[serde(skip_serializing_if = "String::is_empty")]
    build_version: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    build_date: String,
    #[serde(skip_serializing_if = "is_zero_state")]
    state: i32,
    start_time: i64,
    #[serde(skip_serializing_if = "is_zero")]
    last_change: i64,
    last_update: i64,
    #[serde(skip_serializing_if = "Option::is_none")]
    interface_stats: Option<BTreeMap<String, String>>,
    #[serde(skip_serializing_if = "String::is_empty")]
    commit_hash: String,
    plugins: Vec<Part>,
    #[serde(rename = "PluginStatus")]
    plugin_status: BTreeMap<String, Part>,
    /// Names of the optional plugins, without which the agent can run. Only `docker` is listed.
    #[serde(rename = "NonFatalPlugins")]
    non_fatal_plugins: Option<Vec<String>>,
}

#[derive(Default, Serialize)]
struct Part {
    #[serde(skip_serializing_if = "String::is_empty")]
    name: String,
    #[serde(skip_serializing_if = "is_zero_state")]
    state: i32,
    #[serde(skip_serializing_if = "is_zero")]
    last_change: i64,
    #[serde(skip_serializing_if = "is_zero")]
    last_update: i64,
    #[serde(skip_serializing_if = "String::is_empty")]
    error: String,
}

fn is_zero(number: &i64) -> bool {
    *number == 0
}

fn is_zero_state(state: &i32) -> bool {
    *state == OperationalState::Init as i32
}

async fn liveness(State(api): State<Api>) -> Response {
    answer(&api, false)
}

async fn readiness(State(api): State<Api>) -> Response {
    answer(&api, true)
}

fn answer(api: &Api, ready: bool) -> Response {
    let Some(Published::Agent(agent)) = api.statuses.get(&Key::new(AGENT_HEALTH)).as_deref().cloned() else {
        return ApiError::internal("the health of the agent is not known yet; try again").into_response();
    };
    let state = agent.state();
    let good = state == OperationalState::Ok || (!ready && is_alive(&agent));
    // The body is not indented, as in ligato vpp-agent.
    let body = serde_json::to_string(&health(api, agent, ready)).unwrap_or_default();
    let mut response = answer::typed(answer::JSON, body);
    if !good {
        *response.status_mut() = StatusCode::INTERNAL_SERVER_ERROR;
    }
    response
}

/// Returns false if an essential component has failed, so that a supervisor restarts the agent.
///
/// While removals are on hold, the agent reports etcd as failed. This failure is ignored, because a restart would not help.
fn is_alive(agent: &AgentStatus) -> bool {
    let fails = |part: &PluginStatus| {
        let is_needed = part.name != "docker" && !(part.name == "etcd" && agent.held_removals.is_some());
        is_needed && part.state() == OperationalState::Error
    };
    !agent.plugins.iter().any(fails)
}

fn health(api: &Api, agent: AgentStatus, ready: bool) -> Health {
    let names: Vec<String> = agent.plugins.iter().map(|part| part.name.clone()).collect();
    let part_of = |name: &String| match api.statuses.get(&Key::from(format!("{PART_HEALTH}{name}"))).as_deref() {
        Some(Published::Part(part)) => Some((name.clone(), part_of(part))),
        _ => None,
    };
    Health {
        build_version: agent.build_version,
        build_date: agent.build_date,
        state: agent.state,
        start_time: agent.start_time,
        last_change: agent.last_change,
        last_update: agent.last_update,
        interface_stats: ready.then(BTreeMap::new),
        commit_hash: agent.commit_hash,
        plugins: agent.plugins.iter().map(part_of_list).collect(),
        plugin_status: names.iter().filter_map(part_of).collect(),
        non_fatal_plugins: names.iter().any(|name| name == "docker").then(|| vec!["docker".to_owned()]),
    }
}

fn part_of_list(part: &PluginStatus) -> Part {
    Part {
        name: part.name.clone(),
        state: part.state,
        ..Part::default()
    }
}

fn part_of(part: &PluginStatus) -> Part {
    Part {
        name: String::new(),
        state: part.state,
        last_change: part.last_change,
        last_update: part.last_update,
        error: part.error.clone(),
    }
}
