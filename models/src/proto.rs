//! Messages generated from the files in `proto/`, and their descriptors. Each protobuf package has its own Rust module.

use std::sync::LazyLock;

use prost::Message;
use prost_reflect::{DescriptorPool, DynamicMessage, MessageDescriptor, Value};

mod encoded;

pub use encoded::Encoded;

/// Generated code, documented by the comments in the `.proto` files.
#[allow(
    missing_docs,
    clippy::all,
    rustdoc::all,
    reason = "the code is generated, and protobuf packages have no comments"
)]
mod generated {
    include!(concat!(env!("OUT_DIR"), "/packages.rs"));
}

pub use generated::{netns_agent, status};

/// Functions that return the set member of the oneof `link` or `port` of an interface. The build script generates these functions.
mod members {
    use prost::{Message, Name};
    use prost_reflect::DynamicMessage;

    use super::ligato::linux::interfaces::interface::{Link, Port};

    include!(concat!(env!("OUT_DIR"), "/members.rs"));

    /// Converts a message to a dynamic message, or returns `None` if its type is not in the descriptor pool.
    fn by_reflection<M: Message + Name>(message: &M) -> Option<DynamicMessage> {
        let descriptor = super::descriptor_pool().get_message_by_name(&M::full_name())?;
        DynamicMessage::decode(descriptor, message.encode_to_vec().as_slice()).ok()
    }
}

pub(crate) use members::port_member;

/// Returns the field name of a `link` member (such as `veth`), and its message as a dynamic message.
pub fn link_member(link: &ligato::linux::interfaces::interface::Link) -> (&'static str, Option<DynamicMessage>) {
    members::link_member(link)
}

/// Full name of the interface message.
const INTERFACE: &str = "ligato.linux.interfaces.Interface";

/// Returns the message descriptor of a member of `link` or `port` (such as `veth`), or `None` if an interface has no such member.
pub fn member_descriptor(member: &str) -> Option<MessageDescriptor> {
    let interface = descriptor_pool().get_message_by_name(INTERFACE)?;
    interface.get_field_by_name(member)?.kind().as_message().cloned()
}

/// Creates an interface and sets the given fields. Returns an empty interface if a field does not exist or has another type.
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

/// Packages from ligato vpp-agent: all packages below `ligato`, and the package `status`.
pub mod ligato {
    pub use super::generated::{ligato::*, status};
}

/// Encoded `google.protobuf.FileDescriptorSet` of all messages and their imports.
///
/// The set is kept as bytes, because `prost_types::FileDescriptorSet` would drop custom options (`ligato_options`).
pub const FILE_DESCRIPTOR_SET: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/netns_agent.fds"));

static DESCRIPTOR_POOL: LazyLock<DescriptorPool> = LazyLock::new(|| {
    DescriptorPool::decode(FILE_DESCRIPTOR_SET).expect("the descriptor set from the build script must be valid (a test checks this)")
});

/// Returns the descriptors of all messages. They are built on first use.
pub fn descriptor_pool() -> &'static DescriptorPool {
    &DESCRIPTOR_POOL
}
