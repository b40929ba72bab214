//! Tests the agent against a real kernel, a real store and real containers, each test in its own namespaces.
//!
//! There is one module per topic, and most tests run once with etcd and once with the embedded store. They observe only
//! what the agent publishes and what the kernel shows, never the agent's internals. [`veth`] is a simple example.
//!
//! Run with `tests/run live`, or `cargo test --test live` as root.

#[path = "../support/mod.rs"]
mod support;

mod bridges;
mod configuration_file;
mod containers;
mod crash;
mod detection;
mod disturbances;
mod drift;
mod drift_policies;
mod drift_table;
mod existing;
mod explanations;
mod foreign;
mod hanging;
mod invalid;
mod kinds;
mod latency;
mod layer3;
mod load;
mod one_agent;
mod open_files;
mod order;
mod outage;
mod primary;
mod privileges;
mod process_refs;
mod published;
mod removal;
mod restart;
mod service_manager;
mod store_loss;
mod veth;
mod waiting;
mod witnesses;
