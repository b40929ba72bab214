//! The wire contract in Rust: generated messages, typed keys, codec and validation.
//!
//! Owns everything about a value that can be said without looking at a system: its key, its text and binary form, and
//! whether it makes sense. Must never do I/O. Start reading at [`model`]: bytes under a key go in there, a validated
//! message comes out.

pub mod address;
pub mod decode;
pub mod document;
pub mod json;
pub mod key;
pub mod model;
pub mod proto;
pub mod registry;
pub mod validation;
mod wire;

pub use decode::DecodeError;
pub use model::Model;
pub use proto::{FILE_DESCRIPTOR_SET, descriptor_pool};
pub use validation::ValidationError;
