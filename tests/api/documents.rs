//! Tests that the OpenAPI document does not change unintentionally.

use crate::{client::Answer, golden};

#[test]
fn openapi_document_is_unchanged() {
    golden::check(
        "openapi.json",
        &Answer {
            status: 200,
            headers: [("content-type".to_owned(), "application/json; charset=UTF-8".to_owned())].into(),
            body: netns_agent::api::http::openapi_document(),
        },
    );
}
