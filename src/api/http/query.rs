//! Reads query parameters, path parameters and text bodies.
//!
//! The endpoints of ligato vpp-agent treat a repeated parameter in two ways. Some endpoints ignore it ([`Query::once`]), and
//! others reject it ([`Query::single`]).

use std::{convert::Infallible, time::Duration};

use axum::{
    body::Bytes,
    extract::{FromRequest, FromRequestParts, Path, Request},
    http::{StatusCode, request::Parts},
};
use serde::de::DeserializeOwned;

use super::answer::ApiError;

/// Query parameters, in the order of the request.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Query(Vec<(String, String)>);

impl Query {
    /// Parses a query string. `None` means that there are no parameters.
    pub fn of(text: Option<&str>) -> Self {
        let pairs = form_urlencoded::parse(text.unwrap_or_default().as_bytes());
        Query(pairs.into_owned().collect())
    }

    /// Returns all values of a parameter.
    pub fn all(&self, name: &str) -> impl Iterator<Item = &str> {
        self.0
            .iter()
            .filter(move |(given, _)| given == name)
            .map(|(_, value)| value.as_str())
    }

    /// Returns the value of a parameter, or `None` if it is absent or repeated.
    pub fn once(&self, name: &str) -> Option<&str> {
        let mut values = self.all(name);
        values.next().filter(|_| values.next().is_none())
    }

    /// Returns the value of a parameter, or `None` if it is absent or empty.
    ///
    /// # Errors
    /// Fails if the parameter is repeated.
    pub fn single(&self, name: &str) -> Result<Option<&str>, ApiError> {
        let mut values = self.all(name);
        let first = values.next();
        match values.next() {
            Some(_) => Err(ApiError::internal(format!("{name} argument listed more than once"))),
            None => Ok(first.filter(|value| !value.is_empty())),
        }
    }

    /// Returns whether a flag is set (`1` or `true`).
    pub fn is_on(&self, name: &str) -> bool {
        matches!(self.once(name), Some("1" | "true"))
    }

    /// Returns a parameter that is a time in nanoseconds since the Unix epoch.
    ///
    /// # Errors
    /// Fails if the value is not a number.
    pub fn time(&self, name: &str) -> Result<Option<Duration>, ApiError> {
        Ok(self.number(name)?.map(Duration::from_nanos))
    }

    /// Returns a numeric parameter, or `None` if it is absent or repeated.
    ///
    /// # Errors
    /// Fails if the value is not a number.
    pub fn number(&self, name: &str) -> Result<Option<u64>, ApiError> {
        let parse = |text: &str| {
            text.parse()
                .map_err(|error| ApiError::internal(format!("parameter {name}={text}: {error}; a number is expected")))
        };
        self.once(name).map(parse).transpose()
    }
}

impl<S: Sync> FromRequestParts<S> for Query {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Infallible> {
        Ok(Query::of(parts.uri.query()))
    }
}

/// Request body as text. A body that is not UTF-8 is rejected with an [`ApiError`].
pub struct Text(pub String);

impl<S: Send + Sync> FromRequest<S> for Text {
    type Rejection = ApiError;

    async fn from_request(request: Request, state: &S) -> Result<Self, ApiError> {
        let bad = |message: String| ApiError::new(StatusCode::BAD_REQUEST, message);
        let body = Bytes::from_request(request, state).await.map_err(|error| bad(error.to_string()))?;
        let text = String::from_utf8(body.into()).map_err(|error| bad(format!("the body is not UTF-8 text: {error}")))?;
        Ok(Text(text))
    }
}

/// Parameters in the segments of the path. Segments that cannot be parsed are rejected with an [`ApiError`].
pub struct InPath<T>(pub T);

impl<S: Send + Sync, T: DeserializeOwned + Send> FromRequestParts<S> for InPath<T> {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ApiError> {
        let path = Path::from_request_parts(parts, state).await;
        let Path(found) = path.map_err(|error| ApiError::new(StatusCode::BAD_REQUEST, format!("cannot parse the path: {error}")))?;
        Ok(InPath(found))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn repeated_parameters_are_ignored_or_refused_and_empty_ones_may_be_absent() {
        let query = Query::of(Some("a=1&b=x%2Fy&a=2&empty=&retry=true&n=12"));
        assert_eq!(query.once("a"), None);
        assert_eq!(query.once("b"), Some("x/y"));
        assert_eq!(query.all("a").collect::<Vec<_>>(), ["1", "2"]);
        let error = query.single("a").expect_err("the parameter is repeated");
        assert_eq!(error.message, "a argument listed more than once");
        assert_eq!(query.single("empty").expect("once"), None);
        assert_eq!(query.once("empty"), Some(""));
        assert!(query.is_on("retry") && !query.is_on("b") && !query.is_on("absent"));
        assert_eq!(query.number("n").expect("a number"), Some(12));
        let error = query.time("b").expect_err("not a number");
        assert!(error.message.contains("b=x/y"), "{}", error.message);
    }
}
