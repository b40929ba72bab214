//! `/log/…`: reads log levels and changes them at run time.

use axum::{
    extract::State,
    routing::{get, put},
};
use serde::Serialize;

use super::{
    answer::{self, Answer, ApiError},
    endpoint::{Endpoint, Parameter, Verb},
    query::InPath,
};
use crate::api::Api;

pub(super) const ENDPOINTS: &[Endpoint] = &[
    Endpoint {
        example: r#"[{"logger":"default","level":"info"}]"#,
        ..Endpoint::get("/log/list", "Loggers and their levels", || get(list))
    },
    Endpoint {
        method: Verb::Put,
        parameters: &[
            Parameter::required("logger", "Name of a part of the agent, any other log target, or `default`"),
            Parameter {
                required: true,
                ..Parameter::one_of(
                    "level",
                    "Log level",
                    &["trace", "debug", "info", "warn", "warning", "error", "fatal", "panic"],
                )
            },
        ],
        example: r#"{"logger":"engine","level":"debug"}"#,
        failures: &[
            (400, "the path is not valid UTF-8"),
            (500, "unknown log level, or invalid logger name"),
        ],
        ..Endpoint::get("/log/{logger}/{level}", "Set the level of a logger until the agent exits", || {
            put(set)
        })
    },
];

#[derive(Serialize)]
struct Logger {
    logger: String,
    level: String,
}

async fn list(State(api): State<Api>) -> Answer {
    let loggers = api.log.list().into_iter().map(|(logger, level)| Logger { logger, level });
    answer::json(&loggers.collect::<Vec<_>>())
}

async fn set(State(api): State<Api>, InPath((logger, level)): InPath<(String, String)>) -> Answer {
    let level = api
        .log
        .set(&logger, &level)
        .map_err(|error| ApiError::internal(error.to_string()))?
        .to_owned();
    answer::json(&Logger { logger, level })
}
