//! netns-agent: desired network state in etcd becomes real Linux networking, inside network namespaces and containers.
pub mod kernel;
pub mod signals;
