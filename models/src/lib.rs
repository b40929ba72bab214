//! Messages, typed keys, codec and validation of the agent's configuration values, compatible with ligato vpp-agent.
//!
//! This crate covers everything about a value that does not depend on a running system, and does no I/O. [`Model`] turns the bytes
//! under a key into a validated message.

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
