//! The messages of the wire contract, generated from `proto/` when the crate is built.
//!
//! Owns the generated types, one Rust module for each protobuf package, and their descriptors. Must never hold logic of
//! its own. Start reading in `proto/ligato/linux/interfaces/interface.proto`.

use std::sync::LazyLock;

use prost::Message;
use prost_reflect::{DescriptorPool, DynamicMessage, MessageDescriptor, Value};

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

/// The members of the oneofs `link` and `port`, made when the crate is built.
mod members {
    use prost::{Message, Name};
    use prost_reflect::DynamicMessage;

    use super::ligato::linux::interfaces::interface::{Link, Port};

    include!(concat!(env!("OUT_DIR"), "/members.rs"));

    /// A message by reflection; `None` if its type were not in the pool.
    fn by_reflection<M: Message + Name>(message: &M) -> Option<DynamicMessage> {
        let descriptor = super::descriptor_pool().get_message_by_name(&M::full_name())?;
        DynamicMessage::decode(descriptor, message.encode_to_vec().as_slice()).ok()
    }
}

pub(crate) use members::port_member;

/// The member of the oneof `link` by name and by reflection.
pub fn link_member(link: &ligato::linux::interfaces::interface::Link) -> (&'static str, Option<DynamicMessage>) {
    members::link_member(link)
}

/// Name of the message of an interface.
const INTERFACE: &str = "ligato.linux.interfaces.Interface";

/// Describes the message of a member of the oneof `link` or `port` of an interface; `None` if there is no such member.
pub fn member_descriptor(member: &str) -> Option<MessageDescriptor> {
    let interface = descriptor_pool().get_message_by_name(INTERFACE)?;
    interface.get_field_by_name(member)?.kind().as_message().cloned()
}

/// An interface with nothing but members of its oneofs; those that it does not have are left out.
pub fn interface_with(members: Vec<(&str, DynamicMessage)>) -> ligato::linux::interfaces::Interface {
    let with = || {
        let mut interface = DynamicMessage::new(descriptor_pool().get_message_by_name(INTERFACE)?);
        for (member, message) in members {
            interface.try_set_field_by_name(member, Value::Message(message)).ok()?;
        }
        ligato::linux::interfaces::Interface::decode(interface.encode_to_vec().as_slice()).ok()
    };
    with().unwrap_or_default()
}

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
