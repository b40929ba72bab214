//! `POST /scheduler/downstream-resync`: reads the kernel again and repairs the differences from the desired state.

use axum::{extract::State, http::StatusCode, routing::post};
use serde_json::Value as Json;

use super::{
    answer::{self, Answer, ApiError},
    endpoint::{Endpoint, Parameter, Verb},
    query::Query,
};
use crate::api::history::json;
use crate::scheduler::{Resync, Retry, Transaction};
use crate::{
    api::{Api, show::show},
    engine::CommitError,
};

pub(super) const ENDPOINTS: &[Endpoint] = &[Endpoint {
    method: Verb::Post,
    parameters: &[
        Parameter::one_of(
            "retry",
            "Retry values that fail in this transaction; default: keep the retry options of each value",
            &["1", "true"],
        ),
        Parameter::one_of("verbose", "Marker to record with the transaction in the history", &["1", "true"]),
    ],
    failures: &[(
        500,
        "an operation failed; `Error` contains the reason and `Record` the transaction record",
    )],
    ..Endpoint::get(
        "/scheduler/downstream-resync",
        "Read the kernel again and repair differences; returns the transaction record",
        || post(resync),
    )
}];

async fn resync(State(api): State<Api>, query: Query) -> Answer {
    let mut transaction = Transaction::resync(Resync::Downstream, Vec::new());
    transaction.options.verbose = query.is_on("verbose");
    transaction.options.retry = query.is_on("retry").then(Retry::default);
    let result = api.engine.commit(transaction).await.map_err(|error| match error {
        CommitError::Closed => ApiError::stopping(),
        CommitError::Refused(refused) => ApiError::new(StatusCode::BAD_REQUEST, refused.to_string()),
    })?;
    let number = result.seq;
    let records = api
        .engine
        .ask(|scheduler| scheduler.history().shared())
        .await
        .ok_or_else(ApiError::stopping)?;
    answer::elsewhere(move || {
        let record = records.iter().rev().find(|record| record.seq == number);
        let record = record.map(|record| json::Transaction::of(record, &show));
        if result.errors.is_empty() {
            return answer::json(&record);
        }
        let record = serde_json::to_value(&record).unwrap_or(Json::Null);
        Err(ApiError::internal(result.to_string()).with_member("Record", record))
    })
    .await
}
