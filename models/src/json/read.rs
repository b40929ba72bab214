//! The strict reader of protobuf JSON, over any serde format.
//!
//! Owns the walk through a message along its descriptor, with the path to where it stands. Must never accept more than
//! protobuf JSON does. Start at [`read`]; [`MessageSeed`] is the heart.

use std::{
    borrow::Cow,
    cell::{Cell, RefCell},
    collections::{BTreeSet, HashMap},
    fmt,
};

use prost_reflect::{DynamicMessage, EnumDescriptor, FieldDescriptor, Kind, MapKey, MessageDescriptor, ReflectMessage, Value};
use serde::de::{DeserializeSeed, Deserializer, Error, MapAccess, SeqAccess, Visitor};

use crate::decode::{FieldPath, Segment, reason};

/// A message that could not be read.
#[derive(Debug)]
pub struct ReadError<E> {
    /// One of [`mod@crate::decode::reason`] if the reader itself has refused the content; `None` if the format has.
    pub reason: Option<&'static str>,
    /// Path to the field, empty for the message itself.
    pub path: String,
    /// What is wrong and, if the format knows it, where.
    pub source: E,
}

/// Reads a message in the protobuf JSON mapping: fields in either spelling, enums by name or number, `null` as unset, unknown
/// and doubled fields refused.
///
/// # Errors
/// Says which field is at fault.
pub fn read<'de, D: Deserializer<'de>>(descriptor: &MessageDescriptor, deserializer: D) -> Result<DynamicMessage, ReadError<D::Error>> {
    let context = Context::default();
    MessageSeed {
        descriptor,
        context: &context,
    }
    .deserialize(deserializer)
    .map_err(|source| ReadError {
        reason: context.reason.get(),
        path: context.path.borrow().to_string(),
        source,
    })
}

/// Where the reader stands, and why it stopped. The path is not taken back on the way out of an error, so that it tells
/// where the error is.
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

    fn within<T, E>(&self, segment: Segment, step: impl FnOnce() -> Result<T, E>) -> Result<T, E> {
        self.path.borrow_mut().push(segment);
        let value = step()?;
        self.path.borrow_mut().pop();
        Ok(value)
    }
}

struct MessageSeed<'a> {
    descriptor: &'a MessageDescriptor,
    context: &'a Context,
}

impl<'de> DeserializeSeed<'de> for MessageSeed<'_> {
    type Value = DynamicMessage;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<DynamicMessage, D::Error> {
        // The well-known types have JSON forms of their own (a time is a string), which prost-reflect knows.
        if self.descriptor.package_name() == "google.protobuf" {
            return DynamicMessage::deserialize(self.descriptor.clone(), deserializer);
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
            let message = format!(
                "unknown field `{name}`; a {} has: {}",
                self.descriptor.full_name(),
                known.join(", ")
            );
            self.context.refuse(reason::UNKNOWN_FIELD, message)
        })
    }

    /// Refuses a second member of a oneof; `earlier` are the members seen so far.
    fn check_oneof<E: Error>(&self, field: &FieldDescriptor, message: &DynamicMessage) -> Result<(), E> {
        let Some(oneof) = field.containing_oneof() else { return Ok(()) };
        let Some(earlier) = oneof.fields().find(|other| message.has_field(other)) else {
            return Ok(());
        };
        let text = format!(
            "`{}` and `{}` exclude each other (oneof {}); give one of them",
            earlier.name(),
            field.name(),
            oneof.name()
        );
        Err(self.context.refuse(reason::DUPLICATE_ONEOF, text))
    }
}

impl<'de> Visitor<'de> for MessageSeed<'_> {
    type Value = DynamicMessage;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "an object with the fields of {}", self.descriptor.full_name())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<DynamicMessage, A::Error> {
        let mut message = DynamicMessage::new(self.descriptor.clone());
        let mut seen = BTreeSet::new();
        while let Some(name) = map.next_key::<Cow<'_, str>>()? {
            let field = self.field(&name)?;
            self.context.within(Segment::Field(field.name().to_owned()), || {
                if !seen.insert(field.number()) {
                    let text = format!("the field `{}` is given twice; give it once, in either spelling", field.name());
                    return Err(self.context.refuse(reason::DUPLICATE_FIELD, text));
                }
                if let Some(value) = map.next_value_seed(FieldSeed {
                    field: &field,
                    context: self.context,
                })? {
                    self.check_oneof(&field, &message)?;
                    message.set_field(&field, value);
                }
                Ok(())
            })?;
        }
        Ok(message)
    }
}

/// The value of a field, or nothing for `null`.
struct FieldSeed<'a> {
    field: &'a FieldDescriptor,
    context: &'a Context,
}

impl<'de> DeserializeSeed<'de> for FieldSeed<'_> {
    type Value = Option<Value>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Option<Value>, D::Error> {
        deserializer.deserialize_option(self)
    }
}

impl<'de> Visitor<'de> for FieldSeed<'_> {
    type Value = Option<Value>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "a value of {}", self.field.full_name())
    }

    fn visit_none<E: Error>(self) -> Result<Option<Value>, E> {
        Ok(None)
    }

    fn visit_unit<E: Error>(self) -> Result<Option<Value>, E> {
        Ok(None)
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<Option<Value>, D::Error> {
        let kind = self.field.kind();
        let value = if self.field.is_map() {
            deserializer.deserialize_map(MapVisitor {
                entry: &kind,
                context: self.context,
            })?
        } else if self.field.is_list() {
            deserializer.deserialize_seq(ListVisitor {
                kind: &kind,
                context: self.context,
            })?
        } else {
            KindSeed {
                kind: &kind,
                context: self.context,
            }
            .deserialize(deserializer)?
        };
        Ok(Some(value))
    }
}

struct ListVisitor<'a> {
    kind: &'a Kind,
    context: &'a Context,
}

impl<'de> Visitor<'de> for ListVisitor<'_> {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an array")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut elements: A) -> Result<Value, A::Error> {
        let mut list = Vec::new();
        let seed = || KindSeed {
            kind: self.kind,
            context: self.context,
        };
        while let Some(value) = self
            .context
            .within(Segment::Index(list.len()), || elements.next_element_seed(seed()))?
        {
            list.push(value);
        }
        Ok(Value::List(list))
    }
}

struct MapVisitor<'a> {
    /// The message that stands for an entry of the map.
    entry: &'a Kind,
    context: &'a Context,
}

impl<'de> Visitor<'de> for MapVisitor<'_> {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Value, A::Error> {
        let mut entries = HashMap::new();
        let Some(entry) = self.entry.as_message() else {
            return Err(A::Error::custom("a map field without an entry message"));
        };
        let (key_kind, value_kind) = (entry.map_entry_key_field().kind(), entry.map_entry_value_field().kind());
        while let Some(text) = map.next_key::<Cow<'_, str>>()? {
            self.context.within(Segment::Entry(text.to_string()), || {
                let key = map_key(&key_kind, &text).ok_or_else(|| {
                    let message = format!("the key `{text}` is not of type {key_kind:?}");
                    self.context.refuse(reason::WRONG_TYPE, message)
                })?;
                let value = map.next_value_seed(KindSeed {
                    kind: &value_kind,
                    context: self.context,
                })?;
                if entries.insert(key, value).is_some() {
                    return Err(self
                        .context
                        .refuse(reason::DUPLICATE_FIELD, format!("the key `{text}` is given twice")));
                }
                Ok(())
            })?;
        }
        Ok(Value::Map(entries))
    }
}

/// In JSON every key is text; protobuf allows integers and booleans as well.
fn map_key(kind: &Kind, text: &str) -> Option<MapKey> {
    Some(match kind {
        Kind::String => MapKey::String(text.to_owned()),
        Kind::Bool => MapKey::Bool(text.parse().ok()?),
        Kind::Int32 | Kind::Sint32 | Kind::Sfixed32 => MapKey::I32(text.parse().ok()?),
        Kind::Int64 | Kind::Sint64 | Kind::Sfixed64 => MapKey::I64(text.parse().ok()?),
        Kind::Uint32 | Kind::Fixed32 => MapKey::U32(text.parse().ok()?),
        Kind::Uint64 | Kind::Fixed64 => MapKey::U64(text.parse().ok()?),
        Kind::Double | Kind::Float | Kind::Bytes | Kind::Message(_) | Kind::Enum(_) => return None,
    })
}

/// One value that is neither repeated nor a map.
struct KindSeed<'a> {
    kind: &'a Kind,
    context: &'a Context,
}

impl KindSeed<'_> {
    fn integer<'de, D: Deserializer<'de>>(&self, deserializer: D, min: i128, max: i128) -> Result<i128, D::Error> {
        let number = deserializer.deserialize_any(IntegerVisitor { context: self.context })?;
        if (min..=max).contains(&number) {
            return Ok(number);
        }
        Err(self.context.refuse(
            reason::OUT_OF_RANGE,
            format!("{number} is out of range; give an integer from {min} to {max}"),
        ))
    }
}

impl<'de> DeserializeSeed<'de> for KindSeed<'_> {
    type Value = Value;

    #[allow(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "`integer` has checked the range"
    )]
    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        Ok(match self.kind {
            Kind::String => Value::String(deserializer.deserialize_string(StringVisitor)?),
            Kind::Bool => Value::Bool(deserializer.deserialize_bool(BoolVisitor)?),
            Kind::Int32 | Kind::Sint32 | Kind::Sfixed32 => {
                Value::I32(self.integer(deserializer, i128::from(i32::MIN), i128::from(i32::MAX))? as i32)
            }
            Kind::Int64 | Kind::Sint64 | Kind::Sfixed64 => {
                Value::I64(self.integer(deserializer, i128::from(i64::MIN), i128::from(i64::MAX))? as i64)
            }
            Kind::Uint32 | Kind::Fixed32 => Value::U32(self.integer(deserializer, 0, i128::from(u32::MAX))? as u32),
            Kind::Uint64 | Kind::Fixed64 => Value::U64(self.integer(deserializer, 0, i128::from(u64::MAX))? as u64),
            Kind::Enum(descriptor) => Value::EnumNumber(deserializer.deserialize_any(EnumVisitor {
                descriptor,
                context: self.context,
            })?),
            Kind::Message(descriptor) => Value::Message(
                MessageSeed {
                    descriptor,
                    context: self.context,
                }
                .deserialize(deserializer)?,
            ),
            Kind::Double => wrapped(f64::default().descriptor(), deserializer)?,
            Kind::Float => wrapped(f32::default().descriptor(), deserializer)?,
            Kind::Bytes => wrapped(Vec::<u8>::default().descriptor(), deserializer)?,
        })
    }
}

/// Reads a scalar as the content of its wrapper message, which has the same JSON form.
fn wrapped<'de, D: Deserializer<'de>>(wrapper: MessageDescriptor, deserializer: D) -> Result<Value, D::Error> {
    let mut message = DynamicMessage::deserialize(wrapper, deserializer)?;
    let content = message
        .descriptor()
        .get_field(1)
        .ok_or_else(|| D::Error::custom("a wrapper message without its field"))?;
    Ok(message
        .take_field(&content)
        .unwrap_or_else(|| Value::default_value_for_field(&content)))
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

/// An integer as a number or as text; `1.5e3` is one, too.
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

    #[allow(clippy::cast_possible_truncation, reason = "the bound keeps whole numbers within i128")]
    fn visit_f64<E: Error>(self, number: f64) -> Result<i128, E> {
        if number.fract() == 0.0 && number.abs() < 1e30 {
            Ok(number as i128)
        } else {
            Err(self.wrong(number))
        }
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<i128, E> {
        if let Ok(number) = text.parse::<i128>() {
            // `i128::from_str` would take a plus sign, JSON has none.
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
        write!(f, "the name or the number of a {}", self.descriptor.full_name())
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<i32, E> {
        if let Some(value) = self.descriptor.get_value_by_name(text) {
            return Ok(value.number());
        }
        let known: Vec<String> = self.descriptor.values().map(|value| value.name().to_owned()).collect();
        let message = format!("`{text}` is not a {}; it has: {}", self.descriptor.full_name(), known.join(", "));
        Err(self.context.refuse(reason::UNKNOWN_ENUM_NAME, message))
    }

    fn visit_i64<E: Error>(self, number: i64) -> Result<i32, E> {
        // Numbers without a name pass here, as protobuf demands; validation refuses them.
        i32::try_from(number).map_err(|_| {
            self.context
                .refuse(reason::OUT_OF_RANGE, format!("{number} is out of range of an enum"))
        })
    }

    fn visit_u64<E: Error>(self, number: u64) -> Result<i32, E> {
        i32::try_from(number).map_err(|_| {
            self.context
                .refuse(reason::OUT_OF_RANGE, format!("{number} is out of range of an enum"))
        })
    }

    fn visit_f64<E: Error>(self, number: f64) -> Result<i32, E> {
        let whole = IntegerVisitor { context: self.context }.visit_f64::<E>(number)?;
        i32::try_from(whole).map_err(|_| {
            self.context
                .refuse(reason::OUT_OF_RANGE, format!("{number} is out of range of an enum"))
        })
    }
}
