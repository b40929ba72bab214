//! The agent against a real kernel, a real store and real containers: each scenario in namespaces of its own.
//!
//! Owns the scenarios, one module per theme, and each of them runs once with etcd and once with the embedded store; must never
//! look into the agent, only at what it publishes and at what the kernel says. Start reading at [`veth`].
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
mod store_loss;
mod veth;
mod waiting;
mod witnesses;
