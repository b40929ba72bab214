//! Describes each endpoint in one row of a table. Routes and documentation are generated from the rows.
//!
//! Each module that has endpoints lists their rows in a constant `ENDPOINTS`.

use axum::{Router, http::Method, routing::MethodRouter};

use crate::api::{Api, security::Role};

/// Endpoint of the REST API.
pub struct Endpoint {
    /// HTTP method. An endpoint with GET also accepts HEAD.
    pub method: Verb,
    /// Path of the endpoint. Segments in braces are parameters.
    pub path: &'static str,
    /// Purpose of the endpoint, in one line.
    pub summary: &'static str,
    /// Query and path parameters.
    pub parameters: &'static [Parameter],
    /// Content type of the request body. `None` if the endpoint reads no body.
    pub body: Option<&'static str>,
    /// Content types of the responses.
    pub answers: &'static [&'static str],
    /// Example response, from which the schema is derived. Empty if no schema is needed.
    pub example: &'static str,
    /// True if the example is a list, and the response can also be a single element of it.
    pub single: bool,
    /// Example of a response with another schema. Empty if there is none.
    pub other_example: &'static str,
    /// Status codes of failures, each with the condition that causes it.
    pub failures: &'static [(u16, &'static str)],
    /// Status code and example of a failure that is reported with a regular response body instead of an error.
    pub reported_with: Option<(u16, &'static str)>,
    /// Function that creates the handler of the endpoint.
    pub handler: fn() -> MethodRouter<Api>,
}

/// HTTP method of an endpoint. The tables of endpoints are constants, which cannot contain an `http::Method`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Verb {
    Get,
    Post,
    Put,
    Delete,
}

/// Allowed values of a parameter.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Form {
    /// Any string.
    Text,
    /// An integer in this inclusive range.
    Number(u64, u64),
    /// One of these strings.
    OneOf(&'static [&'static str]),
}

impl Verb {
    /// Returns the name of the method.
    pub fn text(self) -> &'static str {
        match self {
            Verb::Get => "GET",
            Verb::Post => "POST",
            Verb::Put => "PUT",
            Verb::Delete => "DELETE",
        }
    }
}

/// Parameter in the query or in the path of a request.
pub struct Parameter {
    pub name: &'static str,
    /// Description of the parameter, for the documentation.
    pub summary: &'static str,
    /// True if a request without the parameter fails.
    pub required: bool,
    /// Allowed values.
    pub form: Form,
}

impl Endpoint {
    /// Creates a row for a GET endpoint, with defaults for all optional fields.
    pub const fn get(path: &'static str, summary: &'static str, handler: fn() -> MethodRouter<Api>) -> Self {
        Endpoint {
            method: Verb::Get,
            path,
            summary,
            parameters: &[],
            body: None,
            answers: &[super::answer::JSON],
            example: "",
            single: false,
            other_example: "",
            failures: &[],
            reported_with: None,
            handler,
        }
    }

    /// Returns whether a path matches the path of this endpoint.
    pub fn matches(&self, path: &str) -> bool {
        let (mut own, mut requested) = (self.path.split('/'), path.split('/'));
        loop {
            match (own.next(), requested.next()) {
                (None, None) => return true,
                (Some(own), Some(requested)) if own == requested || own.starts_with('{') => {}
                _ => return false,
            }
        }
    }

    /// Returns the role that a client needs to use the endpoint.
    pub fn role(&self) -> Role {
        match self.method {
            Verb::Get => Role::Read,
            Verb::Post | Verb::Put | Verb::Delete => Role::Write,
        }
    }
}

impl Parameter {
    /// Creates an optional parameter that accepts any string.
    pub const fn optional(name: &'static str, summary: &'static str) -> Self {
        Parameter {
            name,
            summary,
            required: false,
            form: Form::Text,
        }
    }

    /// Creates an optional numeric parameter.
    pub const fn number(name: &'static str, summary: &'static str) -> Self {
        Parameter {
            form: Form::Number(0, u64::MAX),
            ..Parameter::optional(name, summary)
        }
    }

    /// Creates a required parameter that accepts any string.
    pub const fn required(name: &'static str, summary: &'static str) -> Self {
        Parameter {
            required: true,
            ..Parameter::optional(name, summary)
        }
    }

    /// Creates an optional parameter with a fixed set of values.
    pub const fn one_of(name: &'static str, summary: &'static str, values: &'static [&'static str]) -> Self {
        Parameter {
            form: Form::OneOf(values),
            ..Parameter::optional(name, summary)
        }
    }
}

/// Returns the role that a request needs: `read` for GET, HEAD and OPTIONS, and `write` for all other methods.
pub fn role_of(method: &Method) -> Role {
    match *method {
        Method::GET | Method::HEAD | Method::OPTIONS => Role::Read,
        _ => Role::Write,
    }
}

/// Creates a router with the routes of these endpoints.
pub fn router(endpoints: &[&'static [Endpoint]]) -> Router<Api> {
    let all = endpoints.iter().copied().flatten();
    all.fold(Router::new(), |router, endpoint| router.route(endpoint.path, (endpoint.handler)()))
}
