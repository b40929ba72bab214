//! netns-agent: declarative networking for Linux network namespaces and containers, driven by etcd or a file.
#![doc = include_str!("ARCHITECTURE.md")]

pub mod agent;
pub mod api;
pub mod cli;
pub mod config;
pub mod descriptors;
pub mod desired;
pub mod engine;
pub mod publish;
pub mod scheduler;
pub mod service_manager;
pub mod signals;
#[cfg(any(test, feature = "simulation"))]
pub mod simulation;
pub mod sources;
pub mod store;
pub mod telemetry;
mod yaml;
