//! `/info/…`: program version and agent identity.
//!
//! `/info/agent` is an addition to the API of ligato vpp-agent.

use axum::{extract::State, routing::get};
use serde::Serialize;

use super::{
    answer::{self, Answer},
    endpoint::Endpoint,
};
use crate::api::{Api, StoreAddress, build::BUILD};

pub(super) const ENDPOINTS: &[Endpoint] = &[
    Endpoint {
        example: r#"{"label":"vpp1","store":{"endpoints":["127.0.0.1:2379"],"embedded":true}}"#,
        ..Endpoint::get(
            "/info/agent",
            "Microservice label of the agent, and the store that it reads",
            || get(agent),
        )
    },
    Endpoint {
        example: r#"{"App":"netns-agent","Version":"0.1.0","GitCommit":"abc1234","GitBranch":"main","BuildUser":"","BuildHost":"","BuildTime":1696842000,"GoVersion":"","OS":"linux","Arch":"x86_64","APIVersion":"","OSType":""}"#,
        ..Endpoint::get("/info/version", "Version and build of the agent", || get(version))
    },
];

#[derive(Serialize)]
struct Identity<'a> {
    label: &'a str,
    store: &'a StoreAddress,
}

async fn agent(State(api): State<Api>) -> Answer {
    answer::json(&Identity {
        label: &api.label,
        store: &api.store,
    })
}

/// Version information, with the same members as in ligato vpp-agent.
#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Version {
    app: &'static str,
    version: &'static str,
    git_commit: &'static str,
    git_branch: &'static str,
    build_user: &'static str,
    build_host: &'static str,
    build_time: i64,
    /// Always empty, but present because clients of ligato vpp-agent print it.
    go_version: &'static str,
    #[serde(rename = "OS")]
    os: &'static str,
    arch: &'static str,
    #[serde(rename = "APIVersion")]
    api_version: &'static str,
    #[serde(rename = "OSType")]
    os_type: &'static str,
}

async fn version() -> Answer {
    answer::json(&Version {
        app: BUILD.name,
        version: BUILD.version,
        git_commit: BUILD.commit,
        git_branch: BUILD.branch,
        build_user: BUILD.user,
        build_host: BUILD.host,
        build_time: BUILD.time.parse().unwrap_or_default(),
        go_version: "",
        os: std::env::consts::OS,
        arch: std::env::consts::ARCH,
        api_version: "",
        os_type: "",
    })
}
