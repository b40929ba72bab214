//! `/removals`: lists the removals that are on hold because the store may have lost its contents, and accepts them.

use axum::{
    extract::State,
    routing::{get, post},
};
use serde::Serialize;

use super::{
    answer::{self, Answer, ApiError},
    endpoint::{Endpoint, Verb},
};
use crate::{api::Api, desired::Held};

const EXAMPLE: &str = r#"{"held":true,"evidence":"the revision is 1; it was 48 before","values":["config/linux/interfaces/v2/interface/d1"],"orphans":["link/eth0 in nsid/red"]}"#;
const ACCEPTED: &str = r#"{"values":1,"orphans":1}"#;

pub(super) const ENDPOINTS: &[Endpoint] = &[
    Endpoint {
        example: EXAMPLE,
        ..Endpoint::get(
            "/removals",
            "Removals that are on hold because the store may have lost its contents",
            || get(removals),
        )
    },
    Endpoint {
        method: Verb::Post,
        example: ACCEPTED,
        ..Endpoint::get(
            "/removals/accept",
            "Accept the held removals: delete the values and orphans, and return the number of each",
            || post(accept),
        )
    },
];

#[derive(Serialize)]
struct Removals {
    held: bool,
    evidence: String,
    values: Vec<String>,
    orphans: Vec<String>,
}

#[derive(Serialize)]
struct Accepted {
    values: usize,
    orphans: usize,
}

async fn removals(State(api): State<Api>) -> Answer {
    let held: Held = api.desired.held().borrow().clone();
    let is_held = held.message().is_some();
    answer::json(&Removals {
        held: is_held,
        evidence: held.evidence.filter(|_| is_held).unwrap_or_default(),
        values: held.values.keys().map(ToString::to_string).collect(),
        orphans: held.orphans,
    })
}

async fn accept(State(api): State<Api>) -> Answer {
    let accepted = api.desired.accept_removals().await;
    let accepted = accepted.map_err(|error| ApiError::internal(error.to_string()))?;
    answer::json(&Accepted {
        values: accepted.values,
        orphans: accepted.orphans,
    })
}
