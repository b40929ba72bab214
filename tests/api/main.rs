//! Tests of the APIs of a real agent: the exact answers of each endpoint, and what the servers reject.
//!
//! The expected answers are in `golden/`. Each test runs in namespaces of its own, with the embedded store, and uses only
//! the APIs. [`endpoints`] is a simple example.
//!
//! After an intended change of an answer, `UPDATE_GOLDEN=1 cargo test --test api` writes the files again; review the
//! difference.

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
