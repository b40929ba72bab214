//! Answers: JSON, text and errors, with the headers that clients of the contract look at.
//!
//! Owns their form. Must never be where something is decided. Start reading at [`json`] and [`ApiError`].
//!
//! JSON is indented and has the content type `application/json; charset=UTF-8`. An error is an object with the member `Error`, and its
//! content type is exactly `application/json`, without the character set: only then does the command line client of the contract
//! read the member `message` instead of showing the raw body. So an error has both members.

use axum::{
    body::Body,
    http::{HeaderName, HeaderValue, StatusCode, header::CONTENT_TYPE},
    response::{IntoResponse, Response},
};
use serde::Serialize;
use serde_json::{Value as Json, json as json_of};

use crate::api::{retrieval::RetrievalError, threads};

/// Content type of JSON answers.
pub const JSON: &str = "application/json; charset=UTF-8";
/// Content type of errors.
pub const ERROR: &str = "application/json";
/// Content type of text answers.
pub const TEXT: &str = "text/plain; charset=UTF-8";
/// Content type of pages.
pub const HTML: &str = "text/html; charset=UTF-8";

/// An answer, or why there is none.
pub type Answer = Result<Response, ApiError>;

/// An answer of this type.
pub fn typed(content_type: &'static str, body: impl Into<Body>) -> Response {
    let mut response = Response::new(body.into());
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    response
}

/// A text answer.
pub fn text(body: String) -> Response {
    typed(TEXT, body)
}

/// A JSON answer.
///
/// # Errors
/// The value cannot be written as JSON.
pub fn json<T: Serialize + ?Sized>(value: &T) -> Answer {
    let mut body = serde_json::to_vec_pretty(value).map_err(|error| ApiError::internal(format!("cannot write the answer: {error}")))?;
    body.push(b'\n');
    Ok(typed(JSON, body))
}

/// The answer that `make` builds on a thread that gives way to others, for what may be large: those that serve the engine go on meanwhile.
///
/// # Errors
/// Those of `make`.
pub async fn elsewhere(make: impl FnOnce() -> Answer + Send + 'static) -> Answer {
    let made = threads::give_way(make).await;
    made.unwrap_or_else(|error| Err(ApiError::internal(format!("cannot make the answer: {error}"))))
}

/// A request that cannot be answered as it stands.
#[derive(Debug)]
pub struct ApiError {
    /// Status code.
    pub status: StatusCode,
    /// What is wrong with what, and what to do.
    pub message: String,
    /// Further members of the body.
    pub members: Vec<(&'static str, Json)>,
    /// Further headers.
    pub headers: Vec<(HeaderName, HeaderValue)>,
}

impl ApiError {
    /// An error with this code.
    pub fn new(status: StatusCode, message: impl Into<String>) -> Self {
        ApiError {
            status,
            message: message.into(),
            members: Vec::new(),
            headers: Vec::new(),
        }
    }

    /// What the contract answers to a parameter that makes no sense, too.
    pub fn internal(message: impl Into<String>) -> Self {
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, message)
    }

    /// There is no such thing.
    pub fn not_found(message: impl Into<String>) -> Self {
        Self::new(StatusCode::NOT_FOUND, message)
    }

    /// The agent is stopping.
    pub fn stopping() -> Self {
        Self::new(StatusCode::SERVICE_UNAVAILABLE, "the agent is stopping; ask again when it runs")
    }

    /// With another member in the body.
    pub fn with_member(mut self, name: &'static str, value: Json) -> Self {
        self.members.push((name, value));
        self
    }

    /// With another header.
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
        // An object of texts can always be written.
        let mut response = typed(ERROR, format!("{body:#}\n"));
        *response.status_mut() = self.status;
        response.headers_mut().extend(self.headers);
        response
    }
}
