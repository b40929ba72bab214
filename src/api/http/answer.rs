//! Builds responses: JSON, text and errors, with the headers that clients of ligato vpp-agent expect.
//!
//! JSON is indented and has the content type `application/json; charset=UTF-8`.
//!
//! An error is an object with the members `Error` and `message`. Its content type is exactly `application/json`, without a
//! character set. Otherwise, the command-line client of ligato vpp-agent would print the raw body instead of the member
//! `message`.

use axum::{
    body::Body,
    http::{HeaderName, HeaderValue, StatusCode, header::CONTENT_TYPE},
    response::{IntoResponse, Response},
};
use serde::Serialize;
use serde_json::{Value as Json, json as json_of};

use crate::api::{retrieval::RetrievalError, threads};

/// Content type of JSON responses.
pub const JSON: &str = "application/json; charset=UTF-8";
/// Content type of errors.
pub const ERROR: &str = "application/json";
/// Content type of text responses.
pub const TEXT: &str = "text/plain; charset=UTF-8";
/// Content type of HTML pages.
pub const HTML: &str = "text/html; charset=UTF-8";

/// Result of a handler: a response, or the error to respond with.
pub type Answer = Result<Response, ApiError>;

/// Returns a response with this content type.
pub fn typed(content_type: &'static str, body: impl Into<Body>) -> Response {
    let mut response = Response::new(body.into());
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    response
}

/// Returns a text response.
pub fn text(body: String) -> Response {
    typed(TEXT, body)
}

/// Returns a JSON response.
///
/// # Errors
/// Fails if the value cannot be serialized as JSON.
pub fn json<T: Serialize + ?Sized>(value: &T) -> Answer {
    let mut body = serde_json::to_vec_pretty(value).map_err(|error| ApiError::internal(format!("cannot encode the response: {error}")))?;
    body.push(b'\n');
    Ok(typed(JSON, body))
}

/// Builds a possibly large response in the background pool, so that the threads of the engine are not delayed.
///
/// # Errors
/// Returns the errors of `make`.
pub async fn elsewhere(make: impl FnOnce() -> Answer + Send + 'static) -> Answer {
    let made = threads::run_in_background(make).await;
    made.unwrap_or_else(|error| Err(ApiError::internal(format!("cannot build the response: {error}"))))
}

/// Error to respond with.
#[derive(Debug)]
pub struct ApiError {
    /// Status code.
    pub status: StatusCode,
    /// Error message, which states what failed, why it failed, and what the client can do.
    pub message: String,
    /// Additional members of the JSON body.
    pub members: Vec<(&'static str, Json)>,
    /// Additional response headers.
    pub headers: Vec<(HeaderName, HeaderValue)>,
}

impl ApiError {
    /// Creates an error with this status code.
    pub fn new(status: StatusCode, message: impl Into<String>) -> Self {
        ApiError {
            status,
            message: message.into(),
            members: Vec::new(),
            headers: Vec::new(),
        }
    }

    /// Creates an error with status 500, which ligato vpp-agent uses for invalid parameters as well.
    pub fn internal(message: impl Into<String>) -> Self {
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, message)
    }

    /// Creates an error with status 404.
    pub fn not_found(message: impl Into<String>) -> Self {
        Self::new(StatusCode::NOT_FOUND, message)
    }

    /// Creates an error with status 503, which means that the agent is stopping.
    pub fn stopping() -> Self {
        Self::new(
            StatusCode::SERVICE_UNAVAILABLE,
            "the agent is stopping; try again when it is running",
        )
    }

    /// Adds a member to the JSON body.
    pub fn with_member(mut self, name: &'static str, value: Json) -> Self {
        self.members.push((name, value));
        self
    }

    /// Adds a response header.
    pub fn with_header(mut self, name: HeaderName, value: HeaderValue) -> Self {
        self.headers.push((name, value));
        self
    }
}

impl From<RetrievalError> for ApiError {
    fn from(error: RetrievalError) -> Self {
        match error {
            RetrievalError::Stopping => ApiError::stopping(),
            RetrievalError::Unreadable(message) => ApiError::internal(message),
        }
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let mut body = json_of!({ "Error": self.message, "message": self.message });
        for (name, value) in self.members {
            body[name] = value;
        }
        // A JSON object can always be serialized.
        let mut response = typed(ERROR, format!("{body:#}\n"));
        *response.status_mut() = self.status;
        response.headers_mut().extend(self.headers);
        response
    }
}
