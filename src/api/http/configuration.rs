//! `/configuration`: reads, changes, validates, plans and confirms the desired state as one document.
//!
//! DELETE, `plan`, and the parameters `atomic`, `confirm-within`, `source`, `description` and `verbose` are additions to the API
//! of ligato vpp-agent. Two differences are deliberate. A document that cannot be parsed is a client error (400 instead of 500),
//! and the agent retries values that fail.

use std::{
    sync::LazyLock,
    time::{Duration, SystemTime},
};

use axum::{
    body::Bytes,
    extract::State,
    http::StatusCode,
    routing::{delete, get, post, put},
};
use models::{
    Model,
    document::{FieldNames, member_of, schema},
    key::Key,
};
use serde::Serialize;
use serde_json::{Value as Json, json};

use super::{
    answer::{self, Answer, ApiError, JSON},
    endpoint::{Endpoint, Form, Parameter, Verb},
    query::{Query, Text},
};
use crate::api::history::json as records;
use crate::scheduler::{TransactionResult, ValueState, history::extract::Scope};
use crate::{
    api::{Api, show::show, threads::run_in_background},
    desired::{ClientRequest, Committed, Confirmation, ConfirmationError, RequestError},
    engine::CommitError,
    sources::{
        clients::{ClientItem, Labels},
        document,
        merge::GRPC,
    },
};

pub(super) const YAML: &str = "application/yaml; charset=UTF-8";

/// Maximum value of `confirm-within`, the time allowed for confirming a change, in seconds (one day).
const CONFIRM_MAX: u64 = 24 * 60 * 60;

const SOURCE: Parameter = Parameter::optional(
    "source",
    "Source to which the values belong; each source has its own values (default: grpc)",
);
const DESCRIPTION: Parameter = Parameter::optional("description", "Text to store with the transaction in the history");
const VERBOSE: Parameter = Parameter::optional("verbose", "Return the resulting state of each value");
const NUMBER: Parameter = Parameter {
    required: true,
    ..Parameter::number(
        "id",
        "Number of the change: the `id` in the response to the change, which is also the sequence number of its transaction",
    )
};
const RESULT: &str = r#"{"seq_num":4,"reverted":false,"errors":[],"waiting":[{"key":"config/linux/interfaces/v2/interface/d1","reason":"AddressTentative","message":"waiting for IPv6 duplicate address detection of fd00::1/64"}],"values":[{"key":"config/linux/interfaces/v2/interface/d1","state":"PENDING","message":"waiting for IPv6 duplicate address detection of fd00::1/64"}]}"#;
const UNREADABLE: (u16, &str) = (400, "the document or a parameter cannot be parsed");
const FAILED: (u16, &str) = (422, "a value failed; the body also contains the members of the verbose response");

pub(super) const ENDPOINTS: &[Endpoint] = &[
    Endpoint {
        answers: &[YAML],
        ..Endpoint::get("/configuration", "Desired state of all sources", || get(show_all))
    },
    Endpoint {
        method: Verb::Put,
        body: Some(YAML),
        parameters: &[
            Parameter::optional("replace", "Delete all other values of the source"),
            Parameter::optional(
                "atomic",
                "Revert all values if one of them fails; a PENDING value does not count as failed",
            ),
            Parameter {
                form: Form::Number(1, CONFIRM_MAX),
                ..Parameter::optional(
                    "confirm-within",
                    "Roll the change back unless it is confirmed within this many seconds",
                )
            },
            SOURCE,
            DESCRIPTION,
            VERBOSE,
        ],
        example: RESULT,
        failures: &[UNREADABLE, FAILED],
        ..Endpoint::get(
            "/configuration",
            "Add or change values and wait until they are applied; values that are still PENDING are listed, but do not count as failures",
            || put(change),
        )
    },
    Endpoint {
        method: Verb::Delete,
        body: Some(YAML),
        parameters: &[SOURCE, DESCRIPTION, VERBOSE],
        example: RESULT,
        failures: &[UNREADABLE, FAILED],
        ..Endpoint::get("/configuration", "Delete values; only their key fields are used", || delete(remove))
    },
    Endpoint {
        method: Verb::Post,
        body: Some(YAML),
        example: "{}",
        failures: &[(
            400,
            "a value is invalid (the body is a list of errors), or the document cannot be parsed",
        )],
        reported_with: Some((
            400,
            r#"[{"path":"linuxConfig.arpEntries*.hwAddress","error":"Linux ARP entry defined without MAC address","error_config_part":"interface: veth1\n"}]"#,
        )),
        ..Endpoint::get("/configuration/validate", "Validate values without applying them", || {
            post(validate)
        })
    },
    Endpoint {
        method: Verb::Post,
        body: Some(YAML),
        parameters: &[
            Parameter::optional("replace", "Plan the deletion of all other values of the source as well"),
            Parameter::optional("delete", "Plan the deletion of these values"),
            SOURCE,
        ],
        failures: &[UNREADABLE],
        ..Endpoint::get(
            "/configuration/plan",
            "Show the operations of a change without executing them",
            || post(plan),
        )
    },
    Endpoint {
        method: Verb::Post,
        parameters: &[NUMBER],
        example: r#"{"state":"CONFIRMED"}"#,
        failures: &[
            UNREADABLE,
            (409, "the change was already rolled back"),
            (404, "no change with this id is waiting for confirmation"),
        ],
        ..Endpoint::get("/configuration/confirm", "Confirm a change", || post(confirm))
    },
    Endpoint {
        parameters: &[NUMBER],
        example: r#"{"state":"WAITING"}"#,
        failures: &[UNREADABLE, (404, "no change with this id required confirmation")],
        ..Endpoint::get("/configuration/confirm", "State of a change that needs confirmation", || {
            get(confirmation)
        })
    },
    Endpoint {
        example: r#"[{"id":"7","seconds_left":42,"source":"grpc","description":"","keys":["config/linux/interfaces/v2/interface/a"]}]"#,
        ..Endpoint::get(
            "/configuration/unconfirmed",
            "Changes that wait for confirmation, oldest first",
            || get(unconfirmed),
        )
    },
    Endpoint {
        parameters: &[Parameter::one_of(
            "fieldnames",
            "Spelling of the field names: `onlyproto` (protobuf names) or `onlyjson` (JSON names); if absent, both are allowed",
            &["onlyproto", "onlyjson"],
        )],
        ..Endpoint::get(
            "/info/configuration/jsonschema",
            "JSON schema of the configuration document",
            || get(json_schema),
        )
    },
];

async fn show_all(State(api): State<Api>) -> Answer {
    // Read the items here and not in the low-priority background pool, because reading holds a lock that the sources also need.
    let items = api.desired.items();
    answer::elsewhere(move || {
        let models: Vec<Model> = items.into_iter().filter_map(|item| item.model).collect();
        let text = document::write(&models).map_err(|error| ApiError::internal(error.to_string()))?;
        Ok(answer::typed(YAML, text))
    })
    .await
}

async fn change(State(api): State<Api>, query: Query, Text(body): Text) -> Answer {
    let confirm_within = number(&query, "confirm-within")?.map(Duration::from_secs);
    if confirm_within.is_some_and(|within| within.is_zero() || within > Duration::from_secs(CONFIRM_MAX)) {
        return Err(bad(format!("confirm-within: must be 1 to {CONFIRM_MAX} seconds")));
    }
    let request = ClientRequest {
        replace: flag(&query, "replace"),
        atomic: flag(&query, "atomic"),
        confirm_within,
        ..request(&query, body, Some).await?
    };
    commit(&api, &query, request).await
}

async fn remove(State(api): State<Api>, query: Query, Text(body): Text) -> Answer {
    let request = request(&query, body, |_| None).await?;
    commit(&api, &query, request).await
}

/// Builds a client request from the values in a document.
async fn request(query: &Query, body: String, desired: impl Fn(ClientItem) -> Option<ClientItem>) -> Result<ClientRequest, ApiError> {
    let items = parse(body).await?.into_iter().map(|item| {
        let labels = Labels::new();
        let (key, model) = (item.model.key(), item.model);
        (key, desired(ClientItem { model, labels }))
    });
    let source = query.once("source").filter(|name| !name.is_empty()).unwrap_or(GRPC);
    Ok(ClientRequest {
        description: query.once("description").unwrap_or_default().to_owned(),
        ..ClientRequest::of(source.to_owned(), items.collect())
    })
}

async fn parse(body: String) -> Result<Vec<models::document::Item>, ApiError> {
    let parsed = run_in_background(move || document::parse(&body)).await;
    let parsed = parsed.map_err(|error| ApiError::internal(format!("cannot parse the configuration: {error}")))?;
    parsed.map_err(|error| bad(format!("cannot parse the configuration: {error}")))
}

/// Returns whether a query parameter is present, with or without a value.
fn flag(query: &Query, name: &str) -> bool {
    query.all(name).next().is_some()
}

fn bad(message: String) -> ApiError {
    ApiError::new(StatusCode::BAD_REQUEST, message)
}

/// Returns a numeric query parameter. Unlike [`Query::number`], reports an invalid number as a client error (400).
fn number(query: &Query, name: &str) -> Result<Option<u64>, ApiError> {
    query.number(name).map_err(|error| bad(error.message))
}

async fn commit(api: &Api, query: &Query, request: ClientRequest) -> Answer {
    let keys: Vec<Key> = request.changes.iter().map(|(key, _)| key.clone()).collect();
    let within = request.confirm_within;
    let committed = api.desired.commit(request).await.map_err(refused)?;
    let (result, confirm) = match committed {
        Committed::Applied(result) => (result, None),
        Committed::Unconfirmed(result) => (result, within),
        Committed::Kept => {
            let answer = json!({ "kept": true, "message": "the change was saved; it is applied as soon as the agent has read the store" });
            return if flag(query, "verbose") { answer::json(&answer) } else { nothing() };
        }
    };
    if result.errors.is_empty() && confirm.is_none() && !flag(query, "verbose") {
        return nothing();
    }
    let mut body = outcome(api, &result, &keys).await?;
    if let Some(within) = confirm {
        body["confirm"] = json!({ "id": result.seq.to_string(), "within_seconds": within.as_secs() });
    }
    if result.errors.is_empty() {
        return answer::json(&body);
    }
    let error = ApiError::new(StatusCode::UNPROCESSABLE_ENTITY, result.to_string());
    let members = ["seq_num", "reverted", "errors", "waiting", "values", "confirm"];
    let present = members.into_iter().filter_map(|name| Some((name, body.get(name)?.clone())));
    Err(present.fold(error, |error, (name, value)| error.with_member(name, value)))
}

/// Returns an empty JSON object, which ligato vpp-agent also returns on success.
fn nothing() -> Answer {
    answer::json(&json!({}))
}

fn refused(error: RequestError) -> ApiError {
    match error {
        RequestError::NotCommitted(CommitError::Closed) => ApiError::stopping(),
        RequestError::NotKept(error) => ApiError::internal(error.to_string()),
        error @ RequestError::TooEarly => ApiError::new(StatusCode::SERVICE_UNAVAILABLE, error.to_string()),
        error => bad(error.to_string()),
    }
}

/// Formats the result of a transaction, with the current states of its values.
async fn outcome(api: &Api, result: &TransactionResult, keys: &[Key]) -> Result<Json, ApiError> {
    let extract = api.extract(Scope::Keys(keys.to_vec())).await.ok_or_else(ApiError::stopping)?;
    let value = |key: &Key| {
        let reported = extract.value(key).and_then(|value| value.status.as_ref());
        let reported = reported.map_or((ValueState::Nonexistent, ""), |status| (status.state, status.message.as_str()));
        // The published status might be out of date, because PENDING is published with a delay while other operations are in
        // flight.
        let waits = result.waiting.iter().find(|wait| wait.key == *key);
        let (state, message) = waits.map_or(reported, |wait| (ValueState::Pending, wait.message.as_str()));
        json!({ "key": key.as_str(), "state": state.text(), "message": message })
    };
    let errors: Vec<Json> = result
        .errors
        .iter()
        .map(|error| {
            json!({
                "key": error.key.as_str(),
                "operation": error.operation.text(),
                "state": error.state.text(),
                "error": error.error,
                "in_revert": error.in_revert,
            })
        })
        .collect();
    let waiting = result.waiting.iter();
    let waiting: Vec<Json> = waiting
        .map(|wait| json!({ "key": wait.key.as_str(), "reason": wait.reason, "message": wait.message }))
        .collect();
    Ok(json!({
        "seq_num": result.seq,
        "reverted": result.reverted,
        "errors": errors,
        "waiting": waiting,
        "values": keys.iter().map(value).collect::<Vec<_>>(),
    }))
}

/// Validation error of one value.
#[derive(Serialize)]
struct Fault {
    path: String,
    error: String,
    error_config_part: String,
}

async fn validate(Text(body): Text) -> Answer {
    let mut faults = Vec::new();
    for item in parse(body).await? {
        if let Err(error) = item.model.validate() {
            let part = document::write_value(&item.model).map_err(|error| ApiError::internal(error.to_string()))?;
            faults.push(Fault {
                path: path_of(&item.model, &error.fields),
                error: error.message,
                error_config_part: part,
            });
        }
    }
    if faults.is_empty() {
        return nothing();
    }
    let mut response = answer::json(&faults)?;
    *response.status_mut() = StatusCode::BAD_REQUEST;
    Ok(response)
}

/// Returns the path of fields in a document, in the notation of ligato vpp-agent: `linuxConfig.arpEntries*.hwAddress`.
fn path_of(model: &Model, fields: &[String]) -> String {
    let member = member_of(model.kind());
    let fields = match fields {
        [] => "<unknown field>".to_owned(),
        [field] => {
            let descriptor = models::descriptor_pool().get_message_by_name(model.info().proto_name);
            models::document::json_path(descriptor.as_ref(), field)
        }
        several => format!("[{}]", several.join(",")),
    };
    format!("{}.{}*.{fields}", member.group, member.json_name)
}

async fn plan(State(api): State<Api>, query: Query, Text(body): Text) -> Answer {
    let given = flag(&query, "delete");
    let request = ClientRequest {
        replace: flag(&query, "replace"),
        ..request(&query, body, |item| (!given).then_some(item)).await?
    };
    let operations = api.desired.plan(&request).await.map_err(|error| refused(error.into()))?;
    answer::elsewhere(move || answer::json(&records::plan(&operations, &show))).await
}

fn id(query: &Query) -> Result<u64, ApiError> {
    number(query, "id")?
        .ok_or_else(|| bad("missing id argument; the id is in the response to the change and in /configuration/unconfirmed".to_owned()))
}

async fn confirm(State(api): State<Api>, query: Query) -> Answer {
    let number = id(&query)?;
    api.desired.confirm(number).await.map_err(|error| match error {
        ConfirmationError::Late(_) => ApiError::new(StatusCode::CONFLICT, error.to_string()),
        ConfirmationError::Unknown(_) => ApiError::not_found(error.to_string()),
        ConfirmationError::NotKept(error) => refused(error),
    })?;
    answer::json(&json!({ "state": "CONFIRMED" }))
}

async fn confirmation(State(api): State<Api>, query: Query) -> Answer {
    let number = id(&query)?;
    let state = api.desired.confirmation(number);
    let body = match state.ok_or_else(|| ApiError::not_found(ConfirmationError::Unknown(number).to_string()))? {
        Confirmation::Waiting => json!({ "state": "WAITING" }),
        Confirmation::Confirmed => json!({ "state": "CONFIRMED" }),
        Confirmation::RolledBack => json!({ "state": "ROLLED_BACK" }),
        Confirmation::PartlyRolledBack(errors) => {
            let texts: Vec<String> = errors.iter().map(|error| format!("{}: {}", error.key, error.error)).collect();
            json!({ "state": "PARTLY_ROLLED_BACK", "errors": texts })
        }
        Confirmation::RollbackFailed(error) => json!({ "state": "ROLLBACK_FAILED", "errors": [error] }),
    };
    answer::json(&body)
}

async fn unconfirmed(State(api): State<Api>) -> Answer {
    let now = SystemTime::now();
    let changes = api.desired.unconfirmed().into_iter().map(|change| {
        let left = change.deadline.duration_since(now).unwrap_or_default();
        let keys: Vec<&str> = change.keys.iter().map(Key::as_str).collect();
        json!({
            "id": change.seq.to_string(),
            "seconds_left": left.as_secs(),
            "source": change.source,
            "description": change.description,
            "keys": keys,
        })
    });
    answer::json(&changes.collect::<Vec<_>>())
}

async fn json_schema(query: Query) -> Answer {
    let names = match query.once("fieldnames") {
        None | Some("") => FieldNames::Both,
        Some("onlyproto") => FieldNames::OnlyProto,
        Some("onlyjson") => FieldNames::OnlyJson,
        Some(other) => return Err(bad(format!("fieldnames={other}: expected onlyproto or onlyjson"))),
    };
    match SCHEMAS.iter().find(|(known, _)| *known == names) {
        Some((_, text)) => Ok(answer::typed(JSON, text.clone())),
        None => answer::json(&schema(names)),
    }
}

/// JSON schemas, one for each accepted spelling of the field names. Generated on first use.
static SCHEMAS: LazyLock<Vec<(FieldNames, Bytes)>> = LazyLock::new(|| {
    let all = [FieldNames::Both, FieldNames::OnlyProto, FieldNames::OnlyJson].into_iter();
    all.map(|names| (names, format!("{:#}\n", schema(names)).into())).collect()
});
