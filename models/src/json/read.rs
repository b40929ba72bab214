//! Strict reader for the protobuf JSON mapping in any serde format.
//!
//! [`MessageSeed`] reads a message by its descriptor and writes the binary form directly, without an intermediate message.

use std::{
    borrow::Cow,
    cell::{Cell, RefCell},
    collections::BTreeSet,
    fmt,
};

use prost::{
    Message,
    encoding::{self, WireType},
};
use prost_reflect::{DynamicMessage, EnumDescriptor, FieldDescriptor, Kind, MessageDescriptor, OneofDescriptor, ReflectMessage};
use serde::de::{DeserializeSeed, Deserializer, Error, MapAccess, SeqAccess, Visitor};

use crate::decode::{FieldPath, Segment, reason};

/// Error returned when a message cannot be read.
#[derive(Debug)]
pub struct ReadError<E> {
    /// One of [`mod@crate::decode::reason`] if this reader rejected the input; `None` if the format's parser rejected it.
    pub reason: Option<&'static str>,
    /// Path of the invalid field; empty for the message itself.
    pub path: String,
    /// Error reported by the format's parser. It contains the position if the parser reports one.
    pub source: E,
}

/// Reads a message in the protobuf JSON mapping and returns its binary form.
///
/// Field names can have either spelling, enum values can be names or numbers, and `null` means unset. Unknown and duplicate fields are rejected. The
/// binary form can be decoded as a generated type or as a `DynamicMessage`.
///
/// # Errors
/// Fails if the input is invalid. The error contains the path of the field.
pub fn read<'de, D: Deserializer<'de>>(descriptor: &MessageDescriptor, deserializer: D) -> Result<Vec<u8>, ReadError<D::Error>> {
    let context = Context::default();
    let mut out = Vec::with_capacity(128);
    let outcome = MessageSeed {
        descriptor,
        context: &context,
        out: &mut out,
    }
    .deserialize(deserializer);
    outcome.map(|()| out).map_err(|source| ReadError {
        reason: context.reason.get(),
        path: context.path.take().to_string(),
        source,
    })
}

/// Reason and path of the error, if any. The path is built only after an error has occurred, so reading valid input is not slowed
/// down.
#[derive(Default)]
struct Context {
    path: RefCell<FieldPath>,
    reason: Cell<Option<&'static str>>,
}

impl Context {
    fn refuse<E: Error>(&self, reason: &'static str, message: impl fmt::Display) -> E {
        self.reason.set(Some(reason));
        E::custom(message)
    }

    /// Adds `segment` to the front of the path if `outcome` is an error.
    fn within<T, E>(&self, outcome: Result<T, E>, segment: impl FnOnce() -> Segment) -> Result<T, E> {
        outcome.inspect_err(|_| self.path.borrow_mut().prepend(segment()))
    }
}

/// Inserts the length of `out[start..]` as a varint at the position `start`.
fn insert_length(out: &mut Vec<u8>, start: usize) {
    let length = out.len() - start;
    if let (true, Ok(byte)) = (length < 0x80, u8::try_from(length)) {
        out.insert(start, byte);
        return;
    }
    let mut prefix = Vec::with_capacity(10);
    encoding::encode_varint(length as u64, &mut prefix);
    out.splice(start..start, prefix);
}

/// Serde seed that reads a message and appends its fields to `out`.
struct MessageSeed<'a> {
    descriptor: &'a MessageDescriptor,
    context: &'a Context,
    out: &'a mut Vec<u8>,
}

impl<'de> DeserializeSeed<'de> for MessageSeed<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        // prost-reflect implements the special JSON forms of well-known types. For example, a timestamp is a string.
        if self.descriptor.package_name() == "google.protobuf" {
            let message = DynamicMessage::deserialize(self.descriptor.clone(), deserializer)?;
            return message.encode(self.out).map_err(D::Error::custom);
        }
        deserializer.deserialize_map(self)
    }
}

impl MessageSeed<'_> {
    fn field<E: Error>(&self, name: &str) -> Result<FieldDescriptor, E> {
        let field = self
            .descriptor
            .get_field_by_json_name(name)
            .or_else(|| self.descriptor.get_field_by_name(name));
        field.ok_or_else(|| {
            let known: Vec<String> = self.descriptor.fields().map(|field| field.name().to_owned()).collect();
            let message = if known.is_empty() {
                format!("unknown field `{name}`; this agent manages Linux networking only, so remove the field")
            } else {
                format!(
                    "unknown field `{name}`; the fields of {} are: {}",
                    self.descriptor.full_name(),
                    known.join(", ")
                )
            };
            self.context.refuse(reason::UNKNOWN_FIELD, message)
        })
    }

    fn member<'de, A: MapAccess<'de>>(&mut self, map: &mut A, field: &FieldDescriptor, seen: &mut Seen) -> Result<(), A::Error> {
        if !seen.first_time(field) {
            let text = format!(
                "the field `{}` is set twice; set it once, with its protobuf name or its JSON name",
                field.name()
            );
            return Err(self.context.refuse(reason::DUPLICATE_FIELD, text));
        }
        let set = map.next_value_seed(FieldSeed {
            field,
            context: self.context,
            out: self.out,
        })?;
        let Some(oneof) = field.containing_oneof().filter(|_| set) else {
            return Ok(());
        };
        match seen.oneof_member(&oneof, field) {
            None => Ok(()),
            Some(earlier) => {
                let text = format!(
                    "`{earlier}` and `{}` cannot both be set (oneof {}); set only one of them",
                    field.name(),
                    oneof.name()
                );
                Err(self.context.refuse(reason::DUPLICATE_ONEOF, text))
            }
        }
    }
}

/// Fields of one message that have been read so far. Messages are small, so a linear search is fast enough.
#[derive(Default)]
struct Seen {
    numbers: Vec<u32>,
    oneofs: Vec<(OneofDescriptor, FieldDescriptor)>,
}

impl Seen {
    fn first_time(&mut self, field: &FieldDescriptor) -> bool {
        let first = !self.numbers.contains(&field.number());
        self.numbers.push(field.number());
        first
    }

    /// Records `field`. If another member of the oneof was read earlier, returns the name of that member.
    fn oneof_member(&mut self, oneof: &OneofDescriptor, field: &FieldDescriptor) -> Option<String> {
        let earlier = self
            .oneofs
            .iter()
            .find(|(other, _)| other == oneof)
            .map(|(_, field)| field.name().to_owned());
        self.oneofs.push((oneof.clone(), field.clone()));
        earlier
    }
}

impl<'de> Visitor<'de> for MessageSeed<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "an object with the fields of {}", self.descriptor.full_name())
    }

    fn visit_map<A: MapAccess<'de>>(mut self, mut map: A) -> Result<(), A::Error> {
        let mut seen = Seen::default();
        while let Some(name) = map.next_key_seed(NameSeed)? {
            let field = self.field(&name)?;
            let outcome = self.member(&mut map, &field, &mut seen);
            self.context.within(outcome, || Segment::Field(field.name().to_owned()))?;
        }
        Ok(())
    }
}

/// Serde seed that reads a field name or a map key, and borrows it from the input if possible.
struct NameSeed;

impl<'de> DeserializeSeed<'de> for NameSeed {
    type Value = Cow<'de, str>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl<'de> Visitor<'de> for NameSeed {
    type Value = Cow<'de, str>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a field name")
    }

    fn visit_borrowed_str<E: Error>(self, text: &'de str) -> Result<Self::Value, E> {
        Ok(Cow::Borrowed(text))
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Self::Value, E> {
        Ok(Cow::Owned(text.to_owned()))
    }

    fn visit_string<E: Error>(self, text: String) -> Result<Self::Value, E> {
        Ok(Cow::Owned(text))
    }
}

/// Serde seed that reads the value of a field. Returns `false` for `null`, which leaves the field unset.
struct FieldSeed<'a> {
    field: &'a FieldDescriptor,
    context: &'a Context,
    out: &'a mut Vec<u8>,
}

impl<'de> DeserializeSeed<'de> for FieldSeed<'_> {
    type Value = bool;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<bool, D::Error> {
        deserializer.deserialize_option(self)
    }
}

impl<'de> Visitor<'de> for FieldSeed<'_> {
    type Value = bool;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "a value for {}", self.field.full_name())
    }

    fn visit_none<E: Error>(self) -> Result<bool, E> {
        Ok(false)
    }

    fn visit_unit<E: Error>(self) -> Result<bool, E> {
        Ok(false)
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<bool, D::Error> {
        let (kind, number) = (self.field.kind(), self.field.number());
        let mut target = Target {
            kind: &kind,
            number,
            context: self.context,
            out: self.out,
        };
        if self.field.is_map() {
            deserializer.deserialize_map(MapVisitor(target))?;
        } else if self.field.is_list() {
            deserializer.deserialize_seq(ListVisitor(target))?;
        } else {
            target.seed().deserialize(deserializer)?;
        }
        Ok(true)
    }
}

/// Output buffer for the values of one field, with the number and the kind of the field.
struct Target<'a> {
    kind: &'a Kind,
    number: u32,
    context: &'a Context,
    out: &'a mut Vec<u8>,
}

impl Target<'_> {
    fn seed(&mut self) -> KindSeed<'_> {
        KindSeed {
            kind: self.kind,
            number: self.number,
            context: self.context,
            out: self.out,
        }
    }
}

struct ListVisitor<'a>(Target<'a>);

impl<'de> Visitor<'de> for ListVisitor<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an array")
    }

    fn visit_seq<A: SeqAccess<'de>>(mut self, mut elements: A) -> Result<(), A::Error> {
        for index in 0.. {
            let outcome = elements.next_element_seed(self.0.seed());
            if self.0.context.within(outcome, || Segment::Index(index))?.is_none() {
                break;
            }
        }
        Ok(())
    }
}

struct MapVisitor<'a>(Target<'a>);

impl MapVisitor<'_> {
    /// Writes one map entry as a message with the key as field 1 and the value as field 2.
    fn entry<'de, A: MapAccess<'de>>(&mut self, map: &mut A, text: &str, keys: &mut BTreeSet<Vec<u8>>) -> Result<(), A::Error> {
        let Target {
            kind,
            number,
            context,
            out,
        } = &mut self.0;
        let Some(entry) = kind.as_message() else {
            return Err(A::Error::custom("the map field has no entry message"));
        };
        encoding::encode_key(*number, WireType::LengthDelimited, out);
        let start = out.len();
        let key_kind = entry.map_entry_key_field().kind();
        if encode_map_key(&key_kind, text, out).is_none() {
            return Err(context.refuse(reason::WRONG_TYPE, format!("the key `{text}` is not of type {key_kind:?}")));
        }
        if !keys.insert(out[start..].to_vec()) {
            return Err(context.refuse(reason::DUPLICATE_FIELD, format!("the key `{text}` occurs twice")));
        }
        map.next_value_seed(KindSeed {
            kind: &entry.map_entry_value_field().kind(),
            number: 2,
            context,
            out,
        })?;
        insert_length(out, start);
        Ok(())
    }
}

impl<'de> Visitor<'de> for MapVisitor<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(mut self, mut map: A) -> Result<(), A::Error> {
        let mut keys = BTreeSet::new();
        while let Some(text) = map.next_key_seed(NameSeed)? {
            let outcome = self.entry(&mut map, &text, &mut keys);
            self.0.context.within(outcome, || Segment::Entry(text.into_owned()))?;
        }
        Ok(())
    }
}

/// Encodes a map key. JSON keys are always strings, but protobuf keys can also be integers or booleans.
fn encode_map_key(kind: &Kind, text: &str, out: &mut Vec<u8>) -> Option<()> {
    match kind {
        Kind::String => encoding::string::encode(1, &text.to_owned(), out),
        Kind::Bool => encoding::bool::encode(1, &text.parse().ok()?, out),
        Kind::Int32 => encoding::int32::encode(1, &text.parse().ok()?, out),
        Kind::Sint32 => encoding::sint32::encode(1, &text.parse().ok()?, out),
        Kind::Sfixed32 => encoding::sfixed32::encode(1, &text.parse().ok()?, out),
        Kind::Int64 => encoding::int64::encode(1, &text.parse().ok()?, out),
        Kind::Sint64 => encoding::sint64::encode(1, &text.parse().ok()?, out),
        Kind::Sfixed64 => encoding::sfixed64::encode(1, &text.parse().ok()?, out),
        Kind::Uint32 => encoding::uint32::encode(1, &text.parse().ok()?, out),
        Kind::Fixed32 => encoding::fixed32::encode(1, &text.parse().ok()?, out),
        Kind::Uint64 => encoding::uint64::encode(1, &text.parse().ok()?, out),
        Kind::Fixed64 => encoding::fixed64::encode(1, &text.parse().ok()?, out),
        Kind::Double | Kind::Float | Kind::Bytes | Kind::Message(_) | Kind::Enum(_) => return None,
    }
    Some(())
}

/// Serde seed that reads one value (a singular field, or one element of a list or map), and writes it as the field with the number `number`.
struct KindSeed<'a> {
    kind: &'a Kind,
    number: u32,
    context: &'a Context,
    out: &'a mut Vec<u8>,
}

impl KindSeed<'_> {
    fn integer<'de, T, D>(&self, deserializer: D, min: T, max: T) -> Result<T, D::Error>
    where
        T: TryFrom<i128> + fmt::Display,
        D: Deserializer<'de>,
    {
        let number = deserializer.deserialize_any(IntegerVisitor { context: self.context })?;
        T::try_from(number).map_err(|_| {
            let message = format!("{number} is out of range; expected an integer from {min} to {max}");
            self.context.refuse(reason::OUT_OF_RANGE, message)
        })
    }

    fn message<'de, D: Deserializer<'de>>(self, descriptor: &MessageDescriptor, deserializer: D) -> Result<(), D::Error> {
        encoding::encode_key(self.number, WireType::LengthDelimited, self.out);
        let start = self.out.len();
        MessageSeed {
            descriptor,
            context: self.context,
            out: self.out,
        }
        .deserialize(deserializer)?;
        insert_length(self.out, start);
        Ok(())
    }
}

impl<'de> DeserializeSeed<'de> for KindSeed<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, from: D) -> Result<(), D::Error> {
        let number = self.number;
        match self.kind {
            Kind::String => encoding::string::encode(number, &from.deserialize_string(StringVisitor)?, self.out),
            Kind::Bool => encoding::bool::encode(number, &from.deserialize_bool(BoolVisitor)?, self.out),
            Kind::Int32 => encoding::int32::encode(number, &self.integer(from, i32::MIN, i32::MAX)?, self.out),
            Kind::Sint32 => encoding::sint32::encode(number, &self.integer(from, i32::MIN, i32::MAX)?, self.out),
            Kind::Sfixed32 => encoding::sfixed32::encode(number, &self.integer(from, i32::MIN, i32::MAX)?, self.out),
            Kind::Int64 => encoding::int64::encode(number, &self.integer(from, i64::MIN, i64::MAX)?, self.out),
            Kind::Sint64 => encoding::sint64::encode(number, &self.integer(from, i64::MIN, i64::MAX)?, self.out),
            Kind::Sfixed64 => encoding::sfixed64::encode(number, &self.integer(from, i64::MIN, i64::MAX)?, self.out),
            Kind::Uint32 => encoding::uint32::encode(number, &self.integer(from, u32::MIN, u32::MAX)?, self.out),
            Kind::Fixed32 => encoding::fixed32::encode(number, &self.integer(from, u32::MIN, u32::MAX)?, self.out),
            Kind::Uint64 => encoding::uint64::encode(number, &self.integer(from, u64::MIN, u64::MAX)?, self.out),
            Kind::Fixed64 => encoding::fixed64::encode(number, &self.integer(from, u64::MIN, u64::MAX)?, self.out),
            Kind::Enum(descriptor) => {
                let value = from.deserialize_any(EnumVisitor {
                    descriptor,
                    context: self.context,
                })?;
                encoding::int32::encode(number, &value, self.out);
            }
            Kind::Double => encoding::double::encode(number, &wrapped(from)?, self.out),
            Kind::Float => encoding::float::encode(number, &wrapped(from)?, self.out),
            Kind::Bytes => encoding::bytes::encode(number, &wrapped::<Vec<u8>, D>(from)?, self.out),
            Kind::Message(descriptor) => self.message(descriptor, from)?,
        }
        Ok(())
    }
}

/// Reads a scalar by reading its wrapper message (such as `BytesValue`), which has the same JSON form.
fn wrapped<'de, T: ReflectMessage + Default, D: Deserializer<'de>>(deserializer: D) -> Result<T, D::Error> {
    let message = DynamicMessage::deserialize(T::default().descriptor(), deserializer)?;
    message.transcode_to().map_err(D::Error::custom)
}

struct StringVisitor;

impl Visitor<'_> for StringVisitor {
    type Value = String;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a string")
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<String, E> {
        Ok(text.to_owned())
    }

    fn visit_string<E: Error>(self, text: String) -> Result<String, E> {
        Ok(text)
    }
}

struct BoolVisitor;

impl Visitor<'_> for BoolVisitor {
    type Value = bool;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("true or false")
    }

    fn visit_bool<E: Error>(self, value: bool) -> Result<bool, E> {
        Ok(value)
    }
}

/// Serde visitor that reads an integer from a number or a string. A number without a fraction, such as `1.5e3`, is an integer.
struct IntegerVisitor<'a> {
    context: &'a Context,
}

impl IntegerVisitor<'_> {
    fn wrong<E: Error>(&self, text: impl fmt::Display) -> E {
        self.context.refuse(reason::WRONG_TYPE, format!("{text} is not an integer"))
    }
}

impl Visitor<'_> for IntegerVisitor<'_> {
    type Value = i128;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an integer, as a number or as a string")
    }

    fn visit_i64<E: Error>(self, number: i64) -> Result<i128, E> {
        Ok(i128::from(number))
    }

    fn visit_u64<E: Error>(self, number: u64) -> Result<i128, E> {
        Ok(i128::from(number))
    }

    fn visit_f64<E: Error>(self, number: f64) -> Result<i128, E> {
        // The limit keeps the number within the range of `i128`.
        if number.fract() == 0.0 && number.abs() < 1e30 {
            Ok(number as i128)
        } else {
            Err(self.wrong(number))
        }
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<i128, E> {
        if let Ok(number) = text.parse::<i128>() {
            // JSON does not allow a plus sign, but `i128::from_str` accepts it.
            return if text.starts_with('+') {
                Err(self.wrong(format!("`{text}`")))
            } else {
                Ok(number)
            };
        }
        match text.parse::<f64>() {
            Ok(number) if text.starts_with(|c: char| c.is_ascii_digit() || c == '-') => self.visit_f64(number),
            _ => Err(self.wrong(format!("`{text}`"))),
        }
    }
}

struct EnumVisitor<'a> {
    descriptor: &'a EnumDescriptor,
    context: &'a Context,
}

impl Visitor<'_> for EnumVisitor<'_> {
    type Value = i32;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the name or number of a {}", self.descriptor.full_name())
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<i32, E> {
        if let Some(value) = self.descriptor.get_value_by_name(text) {
            return Ok(value.number());
        }
        let known: Vec<String> = self.descriptor.values().map(|value| value.name().to_owned()).collect();
        let message = format!("`{text}` is not a {}; expected: {}", self.descriptor.full_name(), known.join(", "));
        Err(self.context.refuse(reason::UNKNOWN_ENUM_NAME, message))
    }

    fn visit_i64<E: Error>(self, number: i64) -> Result<i32, E> {
        // Accept enum numbers that have no name, as protobuf requires. Validation rejects such numbers later.
        i32::try_from(number).map_err(|_| {
            self.context
                .refuse(reason::OUT_OF_RANGE, format!("{number} is out of range for an enum"))
        })
    }

    fn visit_u64<E: Error>(self, number: u64) -> Result<i32, E> {
        i32::try_from(number).map_err(|_| {
            self.context
                .refuse(reason::OUT_OF_RANGE, format!("{number} is out of range for an enum"))
        })
    }

    fn visit_f64<E: Error>(self, number: f64) -> Result<i32, E> {
        let whole = IntegerVisitor { context: self.context }.visit_f64::<E>(number)?;
        i32::try_from(whole).map_err(|_| {
            self.context
                .refuse(reason::OUT_OF_RANGE, format!("{number} is out of range for an enum"))
        })
    }
}
