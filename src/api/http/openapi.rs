//! `/openapi.json`: the endpoints for programs, made from the same rows as the routes.
//!
//! Owns the document (OpenAPI 3.1). Must never name an endpoint. Start reading at [`document`].

use axum::{response::Response, routing::get};
use serde_json::{Map, Value as Json, json};

use super::{
    ENDPOINTS as ALL,
    answer::{self, ERROR, JSON},
    endpoint::{Endpoint, Parameter},
};
use crate::api::build::BUILD;

pub(super) const ENDPOINTS: &[Endpoint] = &[Endpoint::get(
    "/openapi.json",
    "This API for programs: its OpenAPI document",
    || get(serve),
)];

async fn serve() -> Response {
    answer::typed(JSON, document())
}

/// The document, indented.
pub(super) fn document() -> String {
    let mut paths = Map::new();
    for endpoint in ALL.iter().copied().flatten() {
        let methods = paths.entry(endpoint.path).or_insert_with(|| json!({}));
        methods[endpoint.method.text().to_lowercase()] = operation(endpoint);
    }
    let document = json!({
        "openapi": "3.1.0",
        "info": {
            "title": "netns-agent",
            "version": BUILD.version,
            "description": "What the agent knows and does. GET needs role read, all else role write, where the agent has a tokens file.",
            "license": { "name": env!("CARGO_PKG_LICENSE") },
        },
        "paths": paths,
        "security": [{}, { "token": [] }],
        "components": {
            "securitySchemes": { "token": { "type": "http", "scheme": "bearer" } },
            "schemas": {
                "Error": {
                    "type": "object",
                    "required": ["Error", "message"],
                    "properties": {
                        "Error": { "type": "string", "description": "What is wrong with what, and what to do" },
                        "message": { "type": "string", "description": "The same, where the command line client looks for it" },
                    },
                },
            },
        },
    });
    format!("{document:#}\n")
}

fn operation(endpoint: &Endpoint) -> Json {
    let parameters: Vec<Json> = endpoint.parameters.iter().map(|one| parameter(endpoint, one)).collect();
    let mut responses = Map::from_iter([("200".to_owned(), success(endpoint))]);
    for (code, when) in endpoint.failures {
        let schema = json!({ "$ref": "#/components/schemas/Error" });
        responses.insert(
            code.to_string(),
            json!({ "description": when, "content": { ERROR: { "schema": schema } } }),
        );
    }
    let mut operation = json!({ "summary": endpoint.summary, "responses": responses, "x-role": endpoint.role().to_string() });
    if !parameters.is_empty() {
        operation["parameters"] = Json::Array(parameters);
    }
    if let Some(content_type) = endpoint.body {
        operation["requestBody"] = json!({ "required": true, "content": { content_type: {} } });
    }
    operation
}

fn parameter(endpoint: &Endpoint, parameter: &Parameter) -> Json {
    let Parameter { name, summary, .. } = parameter;
    let place = if endpoint.path.contains(&format!("{{{name}}}")) {
        "path"
    } else {
        "query"
    };
    let mut schema = json!({ "type": "string" });
    if !parameter.values.is_empty() {
        schema["enum"] = json!(parameter.values);
    }
    json!({ "name": name, "in": place, "required": parameter.required, "description": summary, "schema": schema })
}

fn success(endpoint: &Endpoint) -> Json {
    let mut content = Map::new();
    for content_type in endpoint.answers {
        let mut media = json!({});
        if *content_type == JSON && !endpoint.example.is_empty() {
            // An example that is no JSON is a mistake of this program; a test finds it.
            media["example"] = serde_json::from_str(endpoint.example).unwrap_or(Json::Null);
        }
        content.insert((*content_type).to_owned(), media);
    }
    json!({ "description": "The answer", "content": content })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_example_is_json_and_every_path_parameter_is_described() {
        for endpoint in ALL.iter().copied().flatten() {
            let example = serde_json::from_str::<Json>(endpoint.example);
            assert!(endpoint.example.is_empty() || example.is_ok(), "{}: {example:?}", endpoint.path);
            let named = endpoint
                .path
                .split('/')
                .filter_map(|part| part.strip_prefix('{')?.strip_suffix('}'));
            for name in named {
                let described = endpoint
                    .parameters
                    .iter()
                    .any(|parameter| parameter.name == name && parameter.required);
                assert!(described, "{}: {name}", endpoint.path);
            }
        }
    }

    #[test]
    fn no_two_rows_answer_the_same_request() {
        let mut seen = std::collections::BTreeSet::new();
        for endpoint in ALL.iter().copied().flatten() {
            assert!(
                seen.insert((endpoint.method.text(), endpoint.path)),
                "{} {}",
                endpoint.method.text(),
                endpoint.path
            );
        }
    }
}
