//! Support of the integration tests.

pub mod docker;
pub mod etcd;
