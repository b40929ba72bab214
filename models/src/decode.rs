//! Decoding errors, with a stable reason and the path of the invalid field.

use std::fmt;

use crate::validation::ValidationError;

/// Possible values of [`DecodeError::reason`].
pub mod reason {
    /// No model has a key of this form.
    pub const UNKNOWN_KEY: &str = "UnknownKey";
    /// The value is neither JSON nor binary protobuf.
    pub const NOT_JSON: &str = "NotJson";
    /// The message has no such field.
    pub const UNKNOWN_FIELD: &str = "UnknownField";
    /// The value does not have the type of the field.
    pub const WRONG_TYPE: &str = "WrongType";
    /// The enum has no value with this name.
    pub const UNKNOWN_ENUM_NAME: &str = "UnknownEnumName";
    /// The number is out of range for the field.
    pub const OUT_OF_RANGE: &str = "OutOfRange";
    /// The field is set twice, possibly in two spellings.
    pub const DUPLICATE_FIELD: &str = "DuplicateField";
    /// More than one field of a oneof is set.
    pub const DUPLICATE_ONEOF: &str = "DuplicateOneof";
    /// The binary protobuf message is truncated.
    pub const TRUNCATED_PROTOBUF: &str = "TruncatedProtobuf";
    /// The binary protobuf message violates the rules of the encoding.
    pub const MALFORMED_PROTOBUF: &str = "MalformedProtobuf";
    /// The key computed from the value's fields differs from the key under which the value is stored.
    pub const KEY_MISMATCH: &str = "KeyMismatch";
}

/// Error returned for bytes that are not a valid value for their key.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("{message}")]
pub struct DecodeError {
    /// Stable reason for programs, one of [`mod@reason`].
    pub reason: &'static str,
    /// Message for people. It describes the problem and contains the field path, the position and the accepted values.
    pub message: String,
    /// Invalid key fields, named as in [`ValidationError::fields`](crate::validation::ValidationError::fields). Empty if the
    /// error is not about key fields.
    pub fields: Vec<String>,
}

impl From<ValidationError> for DecodeError {
    fn from(error: ValidationError) -> Self {
        Self {
            reason: error.reason,
            message: error.message,
            fields: error.fields,
        }
    }
}

impl DecodeError {
    /// Creates an error with empty `fields`.
    pub fn new(reason: &'static str, message: impl Into<String>) -> Self {
        Self {
            reason,
            message: message.into(),
            fields: Vec::new(),
        }
    }
}

/// Path of a field in a message: `namespace.reference`, `ip_addresses[1]`, `labels["a"]`.
///
/// Fields have their `.proto` names, even if the input spells them in another way.
#[derive(Clone, Default, Debug)]
pub(crate) struct FieldPath(Vec<Segment>);

/// Element of a [`FieldPath`].
#[derive(Clone, Debug)]
pub(crate) enum Segment {
    /// A message field.
    Field(String),
    /// Position in a repeated field, starting at 0.
    Index(usize),
    /// Key of an entry in a map field.
    Entry(String),
}

impl FieldPath {
    /// Adds an element at the front. The path is built from the innermost element outwards while an error is passed up the call stack.
    pub(crate) fn prepend(&mut self, segment: Segment) {
        self.0.insert(0, segment);
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl fmt::Display for FieldPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (position, segment) in self.0.iter().enumerate() {
            match segment {
                Segment::Field(name) if position == 0 => f.write_str(name)?,
                Segment::Field(name) => write!(f, ".{name}")?,
                Segment::Index(index) => write!(f, "[{index}]")?,
                Segment::Entry(key) => write!(f, "[{key:?}]")?,
            }
        }
        Ok(())
    }
}
