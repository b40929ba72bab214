//! `GET /`: an HTML page that lists all endpoints.

use std::sync::LazyLock;

use axum::{body::Bytes, response::Response, routing::get};

use super::{
    ENDPOINTS as ALL,
    answer::{self, HTML},
    endpoint::{Endpoint, Verb},
};

pub(super) const ENDPOINTS: &[Endpoint] = &[Endpoint {
    answers: &[HTML],
    ..Endpoint::get("/", "This page: all endpoints", || get(page))
}];

/// HTML page. Generated on first use.
static PAGE: LazyLock<Bytes> = LazyLock::new(|| {
    let rows: String = ALL.iter().copied().flatten().map(row).collect();
    let page = format!(
        "<!DOCTYPE html>\n<html lang=\"en\">\n<head><meta charset=\"utf-8\"><title>netns-agent</title></head>\n<body>\n\
         <h1>netns-agent</h1>\n<table>\n{rows}</table>\n</body>\n</html>\n"
    );
    page.into()
});

async fn page() -> Response {
    answer::typed(HTML, PAGE.clone())
}

/// Returns the table row of an endpoint. A GET endpoint without required parameters is shown as a link.
fn row(endpoint: &Endpoint) -> String {
    let Endpoint { method, path, summary, .. } = endpoint;
    let is_link = *method == Verb::Get && !endpoint.parameters.iter().any(|parameter| parameter.required);
    let parameters: Vec<&str> = endpoint
        .parameters
        .iter()
        .map(|parameter| parameter.name)
        .filter(|name| !path.contains(&format!("{{{name}}}")))
        .collect();
    let query = match parameters.is_empty() {
        true => String::new(),
        false => format!(" <small>?{}</small>", parameters.join("&amp;")),
    };
    let shown = match is_link {
        true => format!("<a href=\"{path}\">{path}</a>"),
        false => path.to_string(),
    };
    format!(
        "<tr><td>{}</td><td>{shown}{query}</td><td>{}</td></tr>\n",
        method.text(),
        escape(summary)
    )
}

/// Escapes text for HTML.
pub(super) fn escape(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
        .replace('"', "&quot;")
}
