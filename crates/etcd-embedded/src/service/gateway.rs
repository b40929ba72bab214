//! Serves `/version` and `/health` over HTTP/1.1, as etcd does. Requests to etcd's JSON gateway fail with an explanation.

use http_body_util::Full;
use hyper::{
    Method, Response, StatusCode,
    body::Bytes,
    header::{CONTENT_TYPE, HeaderValue},
};
use serde_json::{Value, json};

use super::maintenance::VERSION;
use crate::shared::Shared;

/// etcd API version that `/version` reports in the JSON field `etcdcluster`.
const API_VERSION: &str = "3.4.0";
/// gRPC code for an unimplemented method, as reported by etcd's gateway.
const UNIMPLEMENTED: u32 = 12;
/// Error message for all requests to etcd's HTTP/JSON gateway.
const NO_GATEWAY: &str = "the embedded store serves gRPC only, without etcd's HTTP/JSON gateway; use a gRPC client such as etcdctl, \
                          or connect the agent to an etcd server with --etcd-endpoints";

/// Returns the response to an HTTP/1.1 request.
pub(super) fn answer(shared: &Shared, method: &Method, path: &str) -> Response<Full<Bytes>> {
    let is_read = method == Method::GET;
    match path {
        "/version" if is_read => json_answer(StatusCode::OK, &json!({"etcdserver": VERSION, "etcdcluster": API_VERSION})),
        "/health" if is_read => match shared.read(|state, _| state.quota.alarm) {
            false => json_answer(StatusCode::OK, &json!({"health": "true"})),
            true => json_answer(
                StatusCode::SERVICE_UNAVAILABLE,
                &json!({"health": "false", "reason": "ALARM NOSPACE"}),
            ),
        },
        _ => json_answer(
            StatusCode::NOT_IMPLEMENTED,
            &json!({"error": NO_GATEWAY, "message": NO_GATEWAY, "code": UNIMPLEMENTED}),
        ),
    }
}

fn json_answer(status: StatusCode, body: &Value) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::from(format!("{body}\n")));
    *response.status_mut() = status;
    response
        .headers_mut()
        .insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}
