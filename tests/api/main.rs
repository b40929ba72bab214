//! The REST API of a real agent: what each endpoint answers, exactly, and what the server refuses.
//!
//! Owns the scenarios and the answers expected (`golden/`). Each runs in namespaces of its own, with the embedded store. Must never look into
//! the agent. Start reading at [`endpoints`].
//!
//! After a wanted change of an answer, `UPDATE_GOLDEN=1 cargo test --test api` writes the files anew; read the difference.

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
