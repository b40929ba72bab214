//! Protobuf JSON: the text form of messages in the store, in REST bodies and in files.
//!
//! Owns the writer ([`encode`]) and a strict reader ([`decode`], or [`read()`] for any serde format such as YAML). The reader is
//! stricter than the one of `prost-reflect`: it refuses a field that is given twice and two members of one oneof, as the
//! clients of the contract expect, and it says where it stopped. Must never know about single models.

mod read;

use prost::{Message, Name};
use prost_reflect::{DynamicMessage, MessageDescriptor, SerializeOptions};

pub use read::{ReadError, read};

use crate::{
    decode::{DecodeError, reason},
    proto::descriptor_pool,
};

/// How the names of fields are written. Readers accept both.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Spelling {
    /// `host_if_name`, as in the `.proto` files: the store.
    Proto,
    /// `hostIfName`: REST and files.
    LowerCamel,
}

/// A message that has no JSON form.
#[derive(Debug, thiserror::Error)]
pub enum EncodeError {
    /// The message is not one of `proto/`.
    #[error("the message {0} is not part of the agent's contract")]
    UnknownMessage(String),
    /// A time out of range, or an `Any` of an unknown type.
    #[error("a {message} cannot be written as JSON")]
    NotRepresentable {
        /// Full name of the message.
        message: String,
        /// What the serializer said.
        source: serde_json::Error,
    },
}

/// The JSON form of a message: names of the `.proto` file, defaults left out, 64-bit integers as strings, enums by name.
///
/// # Panics
/// For a message that is not generated from `proto/`, or that holds a time out of range or an `Any` of an unknown type. The
/// models hold neither; for messages that came from outside and do, use [`try_encode`].
pub fn encode<M: Message + Name>(message: &M) -> String {
    match try_encode(message, Spelling::Proto) {
        Ok(text) => text,
        Err(error) => panic!("{error}: {:?}", std::error::Error::source(&error)),
    }
}

/// As [`encode`], in a spelling of choice and without a panic.
///
/// # Errors
/// The message is not one of `proto/`, or a part of it has no JSON form.
pub fn try_encode<M: Message + Name>(message: &M, spelling: Spelling) -> Result<String, EncodeError> {
    let descriptor = descriptor_of::<M>().ok_or_else(|| EncodeError::UnknownMessage(M::full_name()))?;
    let mut dynamic = DynamicMessage::new(descriptor);
    let not_representable = |source| EncodeError::NotRepresentable {
        message: M::full_name(),
        source,
    };
    dynamic
        .transcode_from(message)
        .map_err(|error| not_representable(serde::ser::Error::custom(error)))?;
    encode_dynamic(&dynamic, spelling).map_err(not_representable)
}

/// The JSON form of a message that is known by its descriptor only.
///
/// # Errors
/// A part of the message has no JSON form.
pub fn encode_dynamic(message: &DynamicMessage, spelling: Spelling) -> Result<String, serde_json::Error> {
    let options = SerializeOptions::new().use_proto_field_name(spelling == Spelling::Proto);
    let mut text = Vec::with_capacity(128);
    message.serialize_with_options(&mut serde_json::Serializer::new(&mut text), &options)?;
    String::from_utf8(text).map_err(serde::ser::Error::custom)
}

/// Reads the JSON form of a message of a known type.
///
/// # Errors
/// Names the field and the position, and says what would be accepted.
pub fn decode<M: Message + Name + Default>(text: &[u8]) -> Result<M, DecodeError> {
    let descriptor = descriptor_of::<M>()
        .ok_or_else(|| DecodeError::new(reason::WRONG_TYPE, EncodeError::UnknownMessage(M::full_name()).to_string()))?;
    let message = decode_dynamic(&descriptor, text)?;
    message
        .transcode_to()
        .map_err(|error| DecodeError::new(reason::WRONG_TYPE, format!("not a {}: {error}", M::full_name())))
}

/// Reads the JSON form of the message that `descriptor` describes.
///
/// # Errors
/// As [`decode`].
pub fn decode_dynamic(descriptor: &MessageDescriptor, text: &[u8]) -> Result<DynamicMessage, DecodeError> {
    let message = to_binary(descriptor, text).map_err(|failure| failure.error)?;
    DynamicMessage::decode(descriptor.clone(), message.as_slice())
        .map_err(|error| DecodeError::new(reason::WRONG_TYPE, format!("not a {}: {error}", descriptor.full_name())))
}

/// The descriptor of a generated message.
pub(crate) fn descriptor_of<M: Name>() -> Option<MessageDescriptor> {
    descriptor_pool().get_message_by_name(&M::full_name())
}

/// A failed reading, and whether it already failed as JSON of any kind.
pub(crate) struct TextFailure {
    pub(crate) error: DecodeError,
    pub(crate) syntactic: bool,
}

/// Turns the JSON form of a message into its binary form.
pub(crate) fn to_binary(descriptor: &MessageDescriptor, text: &[u8]) -> Result<Vec<u8>, TextFailure> {
    let mut deserializer = serde_json::Deserializer::from_slice(text);
    let message = match read(descriptor, &mut deserializer) {
        Ok(message) => message,
        Err(ReadError {
            reason: Some(reason),
            path,
            source,
        }) => {
            let message = if path.is_empty() {
                source.to_string()
            } else {
                format!("{path}: {source}")
            };
            return Err(TextFailure {
                error: DecodeError::new(reason, message),
                syntactic: false,
            });
        }
        Err(ReadError {
            reason: None,
            path,
            source,
        }) => return Err(serde_failure(&path, &source)),
    };
    deserializer.end().map_err(|error| serde_failure("", &error))?;
    Ok(message)
}

fn serde_failure(path: &str, error: &serde_json::Error) -> TextFailure {
    let syntactic = !error.is_data();
    let place = if path.is_empty() { String::new() } else { format!("{path}: ") };
    let error = if syntactic {
        DecodeError::new(reason::NOT_JSON, format!("{place}not valid JSON: {error}"))
    } else {
        DecodeError::new(reason::WRONG_TYPE, format!("{place}{error}"))
    };
    TextFailure { error, syntactic }
}
