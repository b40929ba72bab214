//! Protobuf JSON: the text form of messages in the store, in REST bodies and in files.
//!
//! [`encode`] writes JSON, [`decode`] reads JSON, and [`read()`] reads any serde format such as YAML. The readers are stricter than `prost-reflect`.
//! Like ligato vpp-agent, they reject duplicate fields and two members of the same oneof. Errors contain the path of the field.

mod read;

use prost::{Message, Name};
use prost_reflect::{DynamicMessage, MessageDescriptor, SerializeOptions};

pub use read::{ReadError, read};

use crate::{
    decode::{DecodeError, reason},
    proto::descriptor_pool,
};

/// Field name spelling. Readers accept both spellings.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Spelling {
    /// `host_if_name`, as in the `.proto` files. Used in the store.
    Proto,
    /// `hostIfName`. Used in REST and files.
    LowerCamel,
}

/// Error returned for a message that has no JSON form.
#[derive(Debug, thiserror::Error)]
pub enum EncodeError {
    /// The message is not defined in `proto/`.
    #[error("the agent does not define the message {0}")]
    UnknownMessage(String),
    /// The message contains an out-of-range timestamp, or an `Any` of an unknown type.
    #[error("a message of type {message} cannot be written as JSON")]
    NotRepresentable {
        /// Full message name.
        message: String,
        /// Error reported by the serializer.
        source: serde_json::Error,
    },
}

/// Encodes a message as JSON, with the field names of the `.proto` file. Omits fields that have their default value. Writes
/// 64-bit integers as strings, and enum values by name.
///
/// # Panics
/// Panics if the message is not defined in `proto/`, or if it contains an out-of-range timestamp or an `Any` of an unknown type. Model messages
/// never contain a timestamp or an `Any`. Use [`try_encode`] for any other message that comes from a client.
pub fn encode<M: Message + Name>(message: &M) -> String {
    match try_encode(message, Spelling::Proto) {
        Ok(text) => text,
        Err(error) => panic!("{error}: {:?}", std::error::Error::source(&error)),
    }
}

/// Encodes a message as JSON, with the given spelling of field names. Unlike [`encode`], returns an error instead of panicking.
///
/// # Errors
/// Fails if the message is not defined in `proto/`, or if it contains an out-of-range timestamp or an `Any` of an unknown type.
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

/// Encodes a dynamic message as JSON.
///
/// # Errors
/// Fails if the message contains an out-of-range timestamp or an `Any` of an unknown type.
pub fn encode_dynamic(message: &DynamicMessage, spelling: Spelling) -> Result<String, serde_json::Error> {
    let options = SerializeOptions::new().use_proto_field_name(spelling == Spelling::Proto);
    let mut text = Vec::with_capacity(128);
    message.serialize_with_options(&mut serde_json::Serializer::new(&mut text), &options)?;
    String::from_utf8(text).map_err(serde::ser::Error::custom)
}

/// Decodes a message from JSON.
///
/// # Errors
/// Fails if the text is not valid JSON or not a message of this type. The error contains the field path, the position and the accepted
/// values.
pub fn decode<M: Message + Name + Default>(text: &[u8]) -> Result<M, DecodeError> {
    let descriptor = descriptor_of::<M>()
        .ok_or_else(|| DecodeError::new(reason::WRONG_TYPE, EncodeError::UnknownMessage(M::full_name()).to_string()))?;
    let message = decode_dynamic(&descriptor, text)?;
    message
        .transcode_to()
        .map_err(|error| DecodeError::new(reason::WRONG_TYPE, format!("not a {}: {error}", M::full_name())))
}

/// Decodes a message of the given type from JSON.
///
/// # Errors
/// Returns the errors of [`decode`].
pub fn decode_dynamic(descriptor: &MessageDescriptor, text: &[u8]) -> Result<DynamicMessage, DecodeError> {
    let message = to_binary(descriptor, text).map_err(|failure| failure.error)?;
    DynamicMessage::decode(descriptor.clone(), message.as_slice())
        .map_err(|error| DecodeError::new(reason::WRONG_TYPE, format!("not a {}: {error}", descriptor.full_name())))
}

/// Returns the descriptor of a generated message.
pub(crate) fn descriptor_of<M: Name>() -> Option<MessageDescriptor> {
    descriptor_pool().get_message_by_name(&M::full_name())
}

/// Error for text that cannot be converted. `syntactic` is `true` if the text is not valid JSON.
pub(crate) struct TextFailure {
    pub(crate) error: DecodeError,
    pub(crate) syntactic: bool,
}

/// Converts a message from JSON to its binary form.
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
