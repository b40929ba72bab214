//! A strict look at binary protobuf before it is decoded.
//!
//! Owns the check that every field is one of the message and has its type: the generated decoder passes over unknown
//! fields in silence, and a value that the agent understands only in part must not be applied. Must never build messages.
//! Start at [`check`].

use prost::encoding::decode_varint;
use prost_reflect::{FieldDescriptor, Kind, MessageDescriptor};

use crate::decode::{DecodeError, FieldPath, Segment, reason};

/// Deepest nesting that is looked into; as deep as the generated decoder goes.
const DEPTH_MAX: usize = 100;

/// Checks that `bytes` are a complete message with known fields of the right types.
pub(crate) fn check(descriptor: &MessageDescriptor, bytes: &[u8]) -> Result<(), DecodeError> {
    Walk {
        bytes,
        path: FieldPath::default(),
    }
    .message(descriptor, 0, bytes.len())
}

/// Wire types of the protobuf encoding.
#[derive(Clone, Copy, PartialEq, Eq)]
enum WireType {
    Varint = 0,
    Fixed64 = 1,
    LengthDelimited = 2,
    Fixed32 = 5,
}

impl WireType {
    fn of(number: u64) -> Option<Self> {
        [Self::Varint, Self::Fixed64, Self::LengthDelimited, Self::Fixed32]
            .into_iter()
            .find(|wire_type| *wire_type as u64 == number)
    }

    fn of_kind(kind: &Kind) -> Self {
        match kind {
            Kind::Double | Kind::Fixed64 | Kind::Sfixed64 => Self::Fixed64,
            Kind::Float | Kind::Fixed32 | Kind::Sfixed32 => Self::Fixed32,
            Kind::String | Kind::Bytes | Kind::Message(_) => Self::LengthDelimited,
            Kind::Int32 | Kind::Int64 | Kind::Uint32 | Kind::Uint64 | Kind::Sint32 | Kind::Sint64 | Kind::Bool | Kind::Enum(_) => {
                Self::Varint
            }
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Varint => "varint",
            Self::Fixed64 => "64-bit",
            Self::LengthDelimited => "length-delimited",
            Self::Fixed32 => "32-bit",
        }
    }
}

struct Walk<'a> {
    /// The whole value; positions in messages count from its start.
    bytes: &'a [u8],
    path: FieldPath,
}

impl Walk<'_> {
    fn error(&self, reason: &'static str, at: usize, text: impl std::fmt::Display) -> DecodeError {
        DecodeError::new(reason, self.path.describe(format_args!("{text} at byte {at}")))
    }

    /// Checks the message in `bytes[at..end]`.
    fn message(&mut self, descriptor: &MessageDescriptor, mut at: usize, end: usize) -> Result<(), DecodeError> {
        if self.path.depth() > DEPTH_MAX {
            return Err(self.error(reason::MALFORMED_PROTOBUF, at, "messages are nested too deeply"));
        }
        while at < end {
            let start = at;
            let tag = self.varint(&mut at, end)?;
            let number = u32::try_from(tag >> 3).unwrap_or(0);
            let Some(wire_type) = WireType::of(tag & 7).filter(|_| number != 0) else {
                return Err(self.error(reason::MALFORMED_PROTOBUF, start, "no valid field begins"));
            };
            let Some(field) = descriptor.get_field(number) else {
                let known: Vec<String> = descriptor.fields().map(|field| field.name().to_owned()).collect();
                let text = format!(
                    "unknown field number {number}; a {} has: {}",
                    descriptor.full_name(),
                    known.join(", ")
                );
                return Err(self.error(reason::UNKNOWN_FIELD, start, text));
            };
            self.path.push(Segment::Field(field.name().to_owned()));
            at = self.field(&field, wire_type, start, at, end)?;
            self.path.pop();
        }
        Ok(())
    }

    /// Checks one field, whose tag is at `start` and whose content is at `at`; returns the position after it.
    fn field(
        &mut self,
        field: &FieldDescriptor,
        wire_type: WireType,
        start: usize,
        mut at: usize,
        end: usize,
    ) -> Result<usize, DecodeError> {
        let kind = field.kind();
        let expected = WireType::of_kind(&kind);
        let packed = field.is_list() && wire_type == WireType::LengthDelimited;
        if wire_type != expected && !packed {
            let text = format!("the field is encoded as {}, and not as {}", wire_type.name(), expected.name());
            return Err(self.error(reason::WRONG_TYPE, start, text));
        }
        let length = match wire_type {
            WireType::Varint => {
                self.varint(&mut at, end)?;
                0
            }
            WireType::Fixed64 => 8,
            WireType::Fixed32 => 4,
            WireType::LengthDelimited => self.varint(&mut at, end)?,
        };
        let available = end - at;
        let Some(length) = usize::try_from(length).ok().filter(|length| *length <= available) else {
            let text = format!("the field needs {length} bytes, and {available} are left");
            return Err(self.error(reason::TRUNCATED_PROTOBUF, at, text));
        };
        let content_end = at + length;
        match kind {
            Kind::Message(descriptor) => self.message(&descriptor, at, content_end)?,
            Kind::String if std::str::from_utf8(&self.bytes[at..content_end]).is_err() => {
                return Err(self.error(reason::WRONG_TYPE, at, "the text is not UTF-8"));
            }
            _ => {}
        }
        Ok(content_end)
    }

    fn varint(&self, at: &mut usize, end: usize) -> Result<u64, DecodeError> {
        let mut rest = &self.bytes[*at..end];
        let before = rest.len();
        let number = decode_varint(&mut rest).map_err(|_| {
            // Ten bytes hold every varint, so a longer one is malformed and a shorter one cut off.
            let cut_off = self.bytes[*at..end].iter().take(10).all(|byte| byte & 0x80 != 0) && before < 10;
            let (reason, text) = if cut_off {
                (reason::TRUNCATED_PROTOBUF, "the value ends within a number")
            } else {
                (reason::MALFORMED_PROTOBUF, "a number is too long")
            };
            self.error(reason, *at, text)
        })?;
        *at += before - rest.len();
        Ok(number)
    }
}
