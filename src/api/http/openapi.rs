//! Serves `/openapi.json`, an OpenAPI 3.1 document generated from the same [`Endpoint`] rows as the routes.

use std::sync::LazyLock;

use axum::{body::Bytes, response::Response, routing::get};
use models::document::{FieldNames, document_descriptor, schema};
use serde_json::{Map, Value as Json, json};

use super::{
    ENDPOINTS as ALL,
    answer::{self, ERROR, JSON},
    configuration::YAML,
    endpoint::{Endpoint, Form, Parameter},
};
use crate::api::build::BUILD;

pub(super) const ENDPOINTS: &[Endpoint] = &[Endpoint::get("/openapi.json", "OpenAPI document of this API", || get(serve))];

/// OpenAPI document. Generated on first use.
static DOCUMENT: LazyLock<Bytes> = LazyLock::new(|| document().into());

async fn serve() -> Response {
    answer::typed(JSON, DOCUMENT.clone())
}

/// Failures that any request can cause before an endpoint handles it.
const OF_ANY_REQUEST: [(u16, &str); 7] = [
    (400, "the body or a parameter cannot be parsed"),
    (401, "the token is missing or invalid"),
    (403, "role write is required, or the Origin or Host header does not match the agent"),
    (408, "the body did not arrive in time"),
    (413, "the body is too large"),
    (429, "too many requests"),
    (
        503,
        "the agent is stopping, has not read the store yet, or has too many connections",
    ),
];

/// Prefix of references in the configuration schema. In the OpenAPI document, [`SCHEMAS`] replaces it.
const DEFINITIONS: &str = "#/definitions/";
const SCHEMAS: &str = "#/components/schemas/";
const RESPONSES: &str = "#/components/responses/";

/// Returns the OpenAPI document as indented JSON.
pub(super) fn document() -> String {
    let mut paths = Map::new();
    for endpoint in ALL.iter().copied().flatten() {
        let methods = paths.entry(endpoint.path).or_insert_with(|| json!({}));
        methods[endpoint.method.text().to_lowercase()] = operation(endpoint);
    }
    let mut schemas = configuration();
    schemas.insert(
        "Error".to_owned(),
        json!({
            "type": "object",
            "required": ["Error", "message"],
            "properties": {
                "Error": { "type": "string", "description": "Description of the failure: the object, the reason and the remedy" },
                "message": { "type": "string", "description": "The same text as `Error`; the command-line client reads this member" },
            },
        }),
    );
    let responses: Map<String, Json> = OF_ANY_REQUEST
        .iter()
        .map(|(code, when)| (code.to_string(), failure(when)))
        .collect();
    let document = json!({
        "openapi": "3.1.0",
        "info": {
            "title": "netns-agent",
            "version": BUILD.version,
            "description": "State and control of the agent. With a tokens file, GET requires role read and every other method role write.",
            "license": { "name": env!("CARGO_PKG_LICENSE") },
        },
        "paths": paths,
        "security": [{}, { "token": [] }],
        "components": {
            "securitySchemes": { "token": { "type": "http", "scheme": "bearer" } },
            "schemas": schemas,
            "responses": responses,
        },
    });
    format!("{document:#}\n")
}

/// Returns the schemas of the configuration document, by message name.
///
/// The schemas contain the field names that the agent writes. Unlike in the schema for editors, `null` is allowed for every
/// member, because protobuf JSON reads `null` as absent.
fn configuration() -> Map<String, Json> {
    let text = schema(FieldNames::OnlyJson)["definitions"]
        .to_string()
        .replace(DEFINITIONS, SCHEMAS);
    let mut messages: Map<String, Json> = serde_json::from_str(&text).unwrap_or_default();
    let members = messages.values_mut().filter_map(|message| message["properties"].as_object_mut());
    for form in members.flat_map(Map::values_mut) {
        *form = or_null(form.take());
    }
    messages
}

fn or_null(mut form: Json) -> Json {
    if form["type"].is_string() {
        form["type"] = json!([form["type"], "null"]);
        return form;
    }
    json!({ "anyOf": [form, { "type": "null" }] })
}

fn operation(endpoint: &Endpoint) -> Json {
    let parameters: Vec<Json> = endpoint.parameters.iter().map(|one| parameter(endpoint, one)).collect();
    let mut responses = Map::from_iter([("200".to_owned(), success(endpoint))]);
    for (code, _) in OF_ANY_REQUEST {
        responses.insert(code.to_string(), json!({ "$ref": format!("{RESPONSES}{code}") }));
    }
    for (code, when) in endpoint.failures {
        responses.insert(code.to_string(), failure(when));
    }
    if let Some((code, example)) = endpoint.reported_with
        && let Some(response) = responses.get_mut(&code.to_string())
    {
        // Both content types get the same schema, because they differ only in the `charset` parameter, which many clients ignore.
        let mut media = json_of(&[example]);
        add_form(&mut media, json!({ "$ref": format!("{SCHEMAS}Error") }));
        response["content"] = json!({ JSON: media, ERROR: media });
    }
    let mut operation = json!({ "summary": endpoint.summary, "responses": responses, "x-role": endpoint.role().to_string() });
    if !parameters.is_empty() {
        operation["parameters"] = Json::Array(parameters);
    }
    if let Some(content_type) = endpoint.body {
        // A request without a body is treated like one with an empty document.
        operation["requestBody"] = json!({ "required": false, "content": { content_type: yaml() } });
    }
    operation
}

/// Returns a response with an error as its body.
fn failure(when: &str) -> Json {
    let schema = json!({ "$ref": format!("{SCHEMAS}Error") });
    json!({ "description": when, "content": { ERROR: { "schema": schema } } })
}

fn yaml() -> Json {
    let name = document_descriptor().full_name();
    json!({ "schema": { "$ref": format!("{SCHEMAS}{name}") } })
}

fn parameter(endpoint: &Endpoint, parameter: &Parameter) -> Json {
    let Parameter { name, summary, .. } = parameter;
    let place = if endpoint.path.contains(&format!("{{{name}}}")) {
        "path"
    } else {
        "query"
    };
    let schema = match parameter.form {
        Form::Text => json!({ "type": "string" }),
        Form::Number(first, last) => json!({ "type": "integer", "minimum": first, "maximum": last }),
        Form::OneOf(texts) => json!({ "type": "string", "enum": texts }),
    };
    json!({ "name": name, "in": place, "required": parameter.required, "description": summary, "schema": schema })
}

fn success(endpoint: &Endpoint) -> Json {
    let mut content = Map::new();
    for content_type in endpoint.answers {
        let media = match *content_type {
            JSON => json_of(&[endpoint.example, endpoint.other_example]),
            YAML => yaml(),
            _ => json!({ "schema": { "type": "string" } }),
        };
        content.insert((*content_type).to_owned(), media);
    }
    if let Some(media) = content.get_mut(JSON).filter(|_| endpoint.single) {
        let one = media["example"][0].clone();
        add_form(media, form_of(&one));
        add_form(media, json!({ "type": "null" }));
    }
    json!({ "description": "Success", "content": content })
}

/// Returns the OpenAPI media type object of a JSON response. It contains the first example, and a schema that covers all
/// examples.
fn json_of(examples: &[&str]) -> Json {
    let mut media = json!({});
    for example in examples.iter().filter(|example| !example.is_empty()) {
        // Every example is valid JSON. A test checks this.
        let example = serde_json::from_str(example).unwrap_or(Json::Null);
        add_form(&mut media, form_of(&example));
        if example.is_array() {
            // Ligato vpp-agent encodes an empty list as `null`.
            add_form(&mut media, json!({ "type": "null" }));
        }
        if media.get("example").is_none() {
            media["example"] = example;
        }
    }
    media
}

fn add_form(media: &mut Json, form: Json) {
    if media["schema"]["anyOf"].is_null() {
        media["schema"] = json!({ "anyOf": [] });
    }
    if let Some(forms) = media["schema"]["anyOf"].as_array_mut()
        && !forms.contains(&form)
    {
        forms.push(form);
    }
}

/// Derives a JSON schema from an example. Each member must have the same type as in the example.
///
/// Members may be missing, and additional ones may be present. A `null` in the example allows any type, and an empty list allows
/// elements of any type. A member that is an object may also be `null`, because ligato vpp-agent encodes an absent object that
/// way.
fn form_of(example: &Json) -> Json {
    match example {
        Json::Null => json!({}),
        Json::Bool(_) => json!({ "type": "boolean" }),
        Json::Number(number) if number.is_f64() => json!({ "type": "number" }),
        Json::Number(_) => json!({ "type": "integer" }),
        Json::String(_) => json!({ "type": "string" }),
        Json::Array(elements) => json!({ "type": "array", "items": elements.first().map_or(json!({}), form_of) }),
        Json::Object(members) => {
            let form_of_member = |member: &Json| match form_of(member) {
                form if member.is_object() => or_null(form),
                form => form,
            };
            let properties: Map<String, Json> = members
                .iter()
                .map(|(name, member)| (name.clone(), form_of_member(member)))
                .collect();
            json!({ "type": "object", "properties": properties })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn examples_are_json_and_path_parameters_are_documented() {
        for endpoint in ALL.iter().copied().flatten() {
            let reported_with = endpoint.reported_with.map_or("", |(_, example)| example);
            for example in [endpoint.example, endpoint.other_example, reported_with] {
                let read = serde_json::from_str::<Json>(example);
                assert!(example.is_empty() || read.is_ok(), "{}: {read:?}", endpoint.path);
            }
            assert!(!endpoint.single || endpoint.example.starts_with('['), "{}", endpoint.path);
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
    fn method_and_path_of_each_endpoint_are_unique() {
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
