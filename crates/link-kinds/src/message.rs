//! Between the message of a kind and its settings.
//!
//! Owns the loops over the table in both directions. Must never know a field that is not in the table. Start reading at [`parse`].

use prost_reflect::{DynamicMessage, Kind, MessageDescriptor, Value};

use super::{
    check::{self, Given, Invalid, number, text},
    link::Link,
    spec::{Attribute, LinkKind, Unset},
};

/// Checks an interface by the rules of its kind, and reads its settings. The names that it refers to are the caller's to check.
///
/// # Errors
/// Says which field cannot be used and why.
pub fn parse(kind: &'static dyn LinkKind, given: &Given<'_>) -> Result<Link, Invalid> {
    check::check(kind, given)?;
    let spec = kind.spec();
    let mut link = Link::bare(kind);
    for (at, reference) in spec.references.iter().enumerate() {
        link.references[at] = given.link.map(|message| text(message, reference.field)).unwrap_or_default();
    }
    for (at, attribute) in spec.attributes.iter().enumerate() {
        let explicit = given.link.and_then(|message| explicit(attribute, message));
        if explicit.is_some() {
            link.explicit |= 1 << at;
        }
        link.settings[at] = explicit.or(match attribute.unset {
            Unset::KernelDefault(number) | Unset::AgentDefault(number) => Some(number),
            Unset::Required | Unset::LeftAlone(_) => None,
        });
    }
    Ok(link)
}

/// The kernel's number of a setting that the message has.
fn explicit(attribute: &Attribute, message: &DynamicMessage) -> Option<u32> {
    let number = number(message, attribute.field)?;
    attribute.scale.to_kernel(number)
}

impl Link {
    /// The settings as the message of the kind; `None` if the kind has none. `member` describes it.
    pub fn message(&self, member: &MessageDescriptor) -> DynamicMessage {
        let mut message = DynamicMessage::new(member.clone());
        let spec = self.kind.spec();
        for (reference, name) in spec.references.iter().zip(&*self.references) {
            let _ = message.try_set_field_by_name(reference.field, Value::String(name.clone()));
        }
        for (at, attribute) in spec.attributes.iter().enumerate() {
            let shown = self.settings[at].filter(|number| !self.is_default(at, *number));
            let (Some(number), Some(field)) = (
                shown.and_then(|number| attribute.scale.to_field(number)),
                member.get_field_by_name(attribute.field),
            ) else {
                continue;
            };
            let value = match field.kind() {
                Kind::Bool => Value::Bool(number != 0),
                Kind::Enum(_) => Value::EnumNumber(number.cast_signed()),
                _ => Value::U32(number),
            };
            let _ = message.try_set_field(&field, value);
        }
        message
    }

    /// Whether a setting is as it would be if it were not set.
    fn is_default(&self, at: usize, number: u32) -> bool {
        match self.kind.spec().attributes[at].unset {
            Unset::KernelDefault(default) | Unset::AgentDefault(default) => number == default,
            Unset::Required | Unset::LeftAlone(_) => false,
        }
    }
}
