//! The OpenAPI document: it says what the routes are, and changes only when somebody wants it to.

use crate::{client::Answer, golden};

#[test]
fn the_openapi_document_is_as_it_was() {
    golden::check(
        "openapi.json",
        &Answer {
            status: 200,
            headers: [("content-type".to_owned(), "application/json; charset=UTF-8".to_owned())].into(),
            body: netns_agent::api::http::openapi_document(),
        },
    );
}
