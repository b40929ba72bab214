//! What an endpoint is: the one table row from which both its route and its documentation are made.
//!
//! Owns the form of a row. Must never know an endpoint. Start reading at [`Endpoint`]; each file beside this one has its rows in a
//! constant `ENDPOINTS`.

use axum::{Router, http::Method, routing::MethodRouter};

use crate::api::{Api, security::Role};

/// One endpoint.
pub struct Endpoint {
    /// Method; an endpoint with GET answers to HEAD as well.
    pub method: Verb,
    /// Path; parts in braces are parameters.
    pub path: &'static str,
    /// What it is for, in one line.
    pub summary: &'static str,
    /// Parameters of the query and of the path.
    pub parameters: &'static [Parameter],
    /// Content type of the body that it takes.
    pub body: Option<&'static str>,
    /// Content types of its answers.
    pub answers: &'static [&'static str],
    /// An answer as an example of its form; empty if the form needs none.
    pub example: &'static str,
    /// Whether an answer can also be one element of the example, which is a list.
    pub single: bool,
    /// An answer of another form, as an example; empty if there is none.
    pub other_example: &'static str,
    /// Codes of failures, and when they come.
    pub failures: &'static [(u16, &'static str)],
    /// Code and example of a failure whose body is no error but an answer.
    pub told_with: Option<(u16, &'static str)>,
    /// What answers.
    pub handler: fn() -> MethodRouter<Api>,
}

/// A method. (`http::Method` cannot stand in a constant row.)
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Verb {
    /// GET.
    Get,
    /// POST.
    Post,
    /// PUT.
    Put,
    /// DELETE.
    Delete,
}

/// What the value of a parameter can be.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Form {
    /// Any text.
    Text,
    /// A whole number from the first to the second, both included.
    Number(u64, u64),
    /// One of a few texts.
    OneOf(&'static [&'static str]),
}

impl Verb {
    /// Its name.
    pub fn text(self) -> &'static str {
        match self {
            Verb::Get => "GET",
            Verb::Post => "POST",
            Verb::Put => "PUT",
            Verb::Delete => "DELETE",
        }
    }
}

/// A parameter.
pub struct Parameter {
    /// Name.
    pub name: &'static str,
    /// What it does.
    pub summary: &'static str,
    /// Without it there is no answer.
    pub required: bool,
    /// The values that make sense.
    pub form: Form,
}

impl Endpoint {
    /// A row with only what every endpoint has.
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
            told_with: None,
            handler,
        }
    }

    /// Whether a path is one of those that it stands for.
    pub fn matches(&self, path: &str) -> bool {
        let (mut own, mut asked) = (self.path.split('/'), path.split('/'));
        loop {
            match (own.next(), asked.next()) {
                (None, None) => return true,
                (Some(own), Some(asked)) if own == asked || own.starts_with('{') => {}
                _ => return false,
            }
        }
    }

    /// The role that it needs.
    pub fn role(&self) -> Role {
        match self.method {
            Verb::Get => Role::Read,
            Verb::Post | Verb::Put | Verb::Delete => Role::Write,
        }
    }
}

impl Parameter {
    /// One that may be left out.
    pub const fn optional(name: &'static str, summary: &'static str) -> Self {
        Parameter {
            name,
            summary,
            required: false,
            form: Form::Text,
        }
    }

    /// A number, which may be left out.
    pub const fn number(name: &'static str, summary: &'static str) -> Self {
        Parameter {
            form: Form::Number(0, u64::MAX),
            ..Parameter::optional(name, summary)
        }
    }

    /// One that is needed.
    pub const fn required(name: &'static str, summary: &'static str) -> Self {
        Parameter {
            required: true,
            ..Parameter::optional(name, summary)
        }
    }

    /// One of a few values.
    pub const fn one_of(name: &'static str, summary: &'static str, values: &'static [&'static str]) -> Self {
        Parameter {
            form: Form::OneOf(values),
            ..Parameter::optional(name, summary)
        }
    }
}

/// The role that a method needs: looking is reading, all else is writing.
pub fn role_of(method: &Method) -> Role {
    match *method {
        Method::GET | Method::HEAD | Method::OPTIONS => Role::Read,
        _ => Role::Write,
    }
}

/// The routes of some endpoints.
pub fn router(endpoints: &[&'static [Endpoint]]) -> Router<Api> {
    let all = endpoints.iter().copied().flatten();
    all.fold(Router::new(), |router, endpoint| router.route(endpoint.path, (endpoint.handler)()))
}
