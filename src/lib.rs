//! netns-agent: desired network state in etcd becomes real Linux networking, inside network namespaces and containers.
pub mod config;
pub mod kernel;
pub mod publish;
pub mod sources;
pub mod store;
