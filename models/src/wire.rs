//! Strict check of binary protobuf messages before they are decoded.
//!
//! The generated decoder ignores unknown fields. The agent must not silently drop fields of a value, so this check rejects unknown fields and wrong
//! types.

use prost::encoding::decode_varint;
use prost_reflect::{FieldDescriptor, Kind, MessageDescriptor};

use crate::decode::{DecodeError, FieldPath, Segment, reason};

/// Maximum nesting depth of messages, equal to the limit of the generated decoder.
const DEPTH_MAX: usize = 100;

/// Checks that `bytes` is a complete message in which all fields are known and have the right types.
pub(crate) fn check(descriptor: &MessageDescriptor, bytes: &[u8]) -> Result<(), DecodeError> {
    check_message(descriptor, bytes, Span { at: 0, end: bytes.len() }, 0).map_err(|failure| {
        let place = if failure.path.is_empty() {
            String::new()
        } else {
            format!("{}: ", failure.path)
        };
        DecodeError::new(failure.reason, format!("{place}{} at byte {}", failure.text, failure.at))
    })
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

/// Range of bytes within the value, as offsets from the start of the value.
#[derive(Clone, Copy)]
struct Span {
    at: usize,
    end: usize,
}

struct Failure {
    reason: &'static str,
    at: usize,
    text: String,
    path: FieldPath,
}

fn failure(reason: &'static str, at: usize, text: impl Into<String>) -> Failure {
    Failure {
        reason,
        at,
        text: text.into(),
        path: FieldPath::default(),
    }
}

fn check_message(descriptor: &MessageDescriptor, bytes: &[u8], mut span: Span, depth: usize) -> Result<(), Failure> {
    if depth > DEPTH_MAX {
        return Err(failure(reason::MALFORMED_PROTOBUF, span.at, "messages are nested too deeply"));
    }
    while span.at < span.end {
        let start = span.at;
        let tag = varint(bytes, &mut span)?;
        let number = u32::try_from(tag >> 3).unwrap_or(0);
        let Some(wire_type) = WireType::of(tag & 7).filter(|_| number != 0) else {
            return Err(failure(reason::MALFORMED_PROTOBUF, start, "invalid field tag"));
        };
        let Some(field) = descriptor.get_field(number) else {
            let known: Vec<String> = descriptor.fields().map(|field| field.name().to_owned()).collect();
            let text = format!(
                "unknown field number {number}; the fields of {} are: {}",
                descriptor.full_name(),
                known.join(", ")
            );
            return Err(failure(reason::UNKNOWN_FIELD, start, text));
        };
        check_field(&field, wire_type, bytes, &mut span, depth).map_err(|mut failure| {
            failure.path.prepend(Segment::Field(field.name().to_owned()));
            failure
        })?;
    }
    Ok(())
}

/// Checks the content of the field at `span.at`, and advances `span` past this content.
fn check_field(field: &FieldDescriptor, wire_type: WireType, bytes: &[u8], span: &mut Span, depth: usize) -> Result<(), Failure> {
    let kind = field.kind();
    let expected = WireType::of_kind(&kind);
    let packed = field.is_list() && wire_type == WireType::LengthDelimited;
    if wire_type != expected && !packed {
        let text = format!("the field is encoded as {}, expected {}", wire_type.name(), expected.name());
        return Err(failure(reason::WRONG_TYPE, span.at, text));
    }
    let length = match wire_type {
        WireType::Varint => varint(bytes, span).map(|_| 0)?,
        WireType::Fixed64 => 8,
        WireType::Fixed32 => 4,
        WireType::LengthDelimited => varint(bytes, span)?,
    };
    let available = span.end - span.at;
    let Some(length) = usize::try_from(length).ok().filter(|length| *length <= available) else {
        let text = format!("the field needs {length} bytes, but only {available} are left");
        return Err(failure(reason::TRUNCATED_PROTOBUF, span.at, text));
    };
    let content = Span {
        at: span.at,
        end: span.at + length,
    };
    span.at = content.end;
    match kind {
        Kind::Message(descriptor) => check_message(&descriptor, bytes, content, depth + 1),
        Kind::String if std::str::from_utf8(&bytes[content.at..content.end]).is_err() => {
            Err(failure(reason::WRONG_TYPE, content.at, "the text is not UTF-8"))
        }
        _ => Ok(()),
    }
}

/// Reads the varint at `span.at`, and advances `span` past the varint.
fn varint(bytes: &[u8], span: &mut Span) -> Result<u64, Failure> {
    let all = &bytes[span.at..span.end];
    let mut rest = all;
    let number = decode_varint(&mut rest).map_err(|_| {
        // A varint has at most ten bytes. A longer varint is malformed, and a shorter varint without a final byte is truncated.
        if all.len() < 10 && all.iter().all(|byte| byte & 0x80 != 0) {
            failure(reason::TRUNCATED_PROTOBUF, span.at, "the value ends in the middle of a number")
        } else {
            failure(reason::MALFORMED_PROTOBUF, span.at, "a number is too long")
        }
    })?;
    span.at = span.end - rest.len();
    Ok(number)
}
