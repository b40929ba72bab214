//! What the tests against a real kernel share: throw-away namespaces, stores, the agent under test, and witnesses.
//!
//! Owns the set-up and the observation; must never touch the machine outside the namespaces that [`isolation`] made, nor end a
//! process that the test did not start. Start reading at [`bench::Bench`], which every scenario is handed.

// Each test binary compiles this tree and uses its own part of it.
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
pub mod settle;
pub mod status;
pub mod store;
