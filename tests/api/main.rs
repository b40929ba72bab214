//! Tests a real agent's APIs: the exact responses of each endpoint, and the requests that the servers reject.
//!
//! The expected responses are in `golden/`. Each test runs in its own namespaces with the embedded store, and uses only the
//! APIs. [`endpoints`] is a simple example.
//!
//! After changing a response on purpose, run `UPDATE_GOLDEN=1 cargo test --test api` to write the files again, and review
//! the difference.

#[path = "../support/mod.rs"]
mod support;

mod certificates;
mod client;
mod configuration;
mod documents;
mod endpoints;
mod golden;
mod grpc;
mod grpc_client;
mod metrics;
mod reference;
mod reflection_client;
mod scan;
mod security;
mod stalled;
mod world;
