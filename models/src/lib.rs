//! Messages, typed keys, codec and validation for the agent's configuration values, compatible with ligato vpp-agent.
//!
//! This crate contains all code for values that does not depend on a running system. It performs no I/O. [`Model`] decodes the bytes stored under a
//! key into a typed message and validates it.

pub mod address;
pub mod decode;
pub mod document;
pub mod json;
pub mod key;
pub mod model;
pub mod proto;
pub mod reference;
pub mod registry;
pub mod validation;
mod wire;

pub use decode::DecodeError;
pub use model::Model;
pub use proto::{FILE_DESCRIPTOR_SET, descriptor_pool};
pub use validation::ValidationError;
