//! The messages of the wire contract, generated from `proto/` when the crate is built.
//!
//! Owns the generated types, one Rust module for each protobuf package, and their descriptors. Must never hold logic of
//! its own. Start reading in `proto/ligato/linux/interfaces/interface.proto`.

use std::sync::LazyLock;

use prost_reflect::DescriptorPool;

mod encoded;

pub use encoded::Encoded;

/// Generated code; its documentation is that of the `.proto` files.
#[allow(
    missing_docs,
    clippy::all,
    rustdoc::all,
    reason = "the generator decides on form, and the packages have no comments"
)]
mod generated {
    include!(concat!(env!("OUT_DIR"), "/packages.rs"));
}

pub use generated::{netns_agent, status};

/// The packages below `ligato`, and `status`, which belongs to them though its package has no prefix.
pub mod ligato {
    pub use super::generated::{ligato::*, status};
}

/// The encoded `google.protobuf.FileDescriptorSet` of all messages and of what they import.
///
/// Bytes and not a `prost_types::FileDescriptorSet`, because that type drops custom options (`ligato_options`).
pub const FILE_DESCRIPTOR_SET: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/netns_agent.fds"));

static DESCRIPTOR_POOL: LazyLock<DescriptorPool> = LazyLock::new(|| {
    DescriptorPool::decode(FILE_DESCRIPTOR_SET).expect("the descriptor set was encoded by the build of this crate; a test decodes it")
});

/// Descriptors of all messages, for reflection; built on first use.
pub fn descriptor_pool() -> &'static DescriptorPool {
    &DESCRIPTOR_POOL
}
