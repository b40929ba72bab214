//! Shared code for tests against a real kernel: private namespaces, stores, the agent under test, and ways to observe it.
//!
//! The tests touch nothing outside the namespaces that [`isolation`] creates, and signal only processes that they started.
//! Every test gets a [`bench::Bench`].

// Each test binary compiles this tree and uses only a part of it.
#![allow(dead_code, unused_imports)]

pub mod agent;
pub mod bench;
pub mod command;
pub mod config;
pub mod container_restarts;
pub mod docker;
pub mod etcd;
pub mod foreign;
pub mod isolation;
pub mod monitor;
pub mod netns_state;
pub mod ping;
pub mod process;
pub mod random_config;
pub mod service_manager;
pub mod settle;
pub mod status;
pub mod store;
