//! Why bytes from a store are not a value, in words that the writer of the bytes can act on.
//!
//! Owns [`DecodeError`], its reasons, and the path to the field at fault. Must never decode anything itself. Start at
//! [`DecodeError`].

use std::fmt;

use crate::validation::ValidationError;

/// The stable words of [`DecodeError::reason`].
pub mod reason {
    /// No model of the agent has keys of this form.
    pub const UNKNOWN_KEY: &str = "UnknownKey";
    /// Neither JSON nor binary protobuf.
    pub const NOT_JSON: &str = "NotJson";
    /// A field that the message does not have.
    pub const UNKNOWN_FIELD: &str = "UnknownField";
    /// A value of another type than the field has.
    pub const WRONG_TYPE: &str = "WrongType";
    /// An enum has no value of this name.
    pub const UNKNOWN_ENUM_NAME: &str = "UnknownEnumName";
    /// A number that does not fit the field.
    pub const OUT_OF_RANGE: &str = "OutOfRange";
    /// A field that is given twice, be it in two spellings.
    pub const DUPLICATE_FIELD: &str = "DuplicateField";
    /// Two fields of which only one can be set.
    pub const DUPLICATE_ONEOF: &str = "DuplicateOneof";
    /// Binary protobuf that ends too early.
    pub const TRUNCATED_PROTOBUF: &str = "TruncatedProtobuf";
    /// Binary protobuf that breaks the rules of the encoding.
    pub const MALFORMED_PROTOBUF: &str = "MalformedProtobuf";
    /// The value belongs under another key.
    pub const KEY_MISMATCH: &str = "KeyMismatch";
}

/// Bytes that are not the value of the key they stand under.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("{message}")]
pub struct DecodeError {
    /// One of the words of [`mod@reason`]; stable, for programs.
    pub reason: &'static str,
    /// Field path, what is wrong, where, and what would be accepted; for people.
    pub message: String,
    /// Fields of the key that are wrong, as in [`ValidationError::fields`](crate::validation::ValidationError::fields).
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
    /// An error with these words.
    pub fn new(reason: &'static str, message: impl Into<String>) -> Self {
        Self {
            reason,
            message: message.into(),
            fields: Vec::new(),
        }
    }
}

/// Where in a message something is: `namespace.reference`, `ip_addresses[1]`, `labels["a"]`. Fields have the names of the
/// `.proto` file, whatever the spelling in the text.
#[derive(Clone, Default, Debug)]
pub(crate) struct FieldPath(Vec<Segment>);

/// One step of a [`FieldPath`].
#[derive(Clone, Debug)]
pub(crate) enum Segment {
    /// A field of a message.
    Field(String),
    /// An element of a repeated field, counted from 0.
    Index(usize),
    /// An entry of a map field.
    Entry(String),
}

impl FieldPath {
    /// Puts a step in front of those that are known: paths are noted while an error is on its way up.
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
