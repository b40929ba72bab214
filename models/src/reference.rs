//! Configuration reference: message fields, with their types and their comments from the `.proto` files.
//!
//! `netns-agent model show` and the pages about values in `docs/` are generated from this reference.

use prost_reflect::{FieldDescriptor, Kind, MessageDescriptor};

include!(concat!(env!("OUT_DIR"), "/comments.rs"));

/// Field of a message, with its documentation.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Field {
    /// Name in YAML, JSON and protobuf.
    pub name: String,
    /// Type: a protobuf scalar type, `enum`, or a message name; `list of …` for repeated fields.
    pub kind: String,
    /// Comment in the `.proto` file: meaning, unit, default, and effect of a change. One line per paragraph.
    pub text: String,
    /// Names and meanings of the enum's values, in the order of their numbers. Empty if the field is not an enum.
    pub values: Vec<(String, String)>,
    /// Fields of the message type. Empty if the field is not a message.
    pub fields: Vec<Field>,
}

/// Returns the comment on a message from its `.proto` file.
pub fn message_text(message: &MessageDescriptor) -> String {
    text_of(message.full_name())
}

/// Returns the fields of a message in the order of their numbers, including the fields of nested messages.
pub fn fields(message: &MessageDescriptor) -> Vec<Field> {
    message.fields().map(|field| read_field(&field)).collect()
}

fn read_field(field: &FieldDescriptor) -> Field {
    let kind = field.kind();
    let (name, values, inner) = match &kind {
        Kind::Message(message) => (message.name().to_owned(), Vec::new(), fields(message)),
        Kind::Enum(declared) => {
            let values = declared.values().map(|value| {
                let text = text_of(&format!("{}.{}", declared.full_name(), value.name()));
                (value.name().to_owned(), text)
            });
            ("enum".to_owned(), values.collect(), Vec::new())
        }
        scalar => (format!("{scalar:?}").to_lowercase(), Vec::new(), Vec::new()),
    };
    Field {
        name: field.name().to_owned(),
        kind: if field.is_list() { format!("list of {name}") } else { name },
        text: text_of(field.full_name()),
        values,
        fields: inner,
    }
}

/// Returns the comment on the element with this full name, with one line per paragraph. The result is empty if there is no comment.
fn text_of(full_name: &str) -> String {
    let found = COMMENTS.binary_search_by_key(&full_name, |(name, _)| name);
    let comment = found.map(|at| COMMENTS[at].1).unwrap_or_default();
    let paragraphs = comment
        .split("\n\n")
        .map(|text| text.split_whitespace().collect::<Vec<_>>().join(" "));
    paragraphs.filter(|text| !text.is_empty()).collect::<Vec<_>>().join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{descriptor_pool, registry::MODELS};

    fn undocumented(scope: &str, fields: &[Field]) -> Vec<String> {
        let mut found = Vec::new();
        for field in fields {
            let name = format!("{scope}.{}", field.name);
            let values = field.values.iter().filter(|(_, text)| text.is_empty());
            found.extend(values.map(|(value, _)| format!("{name} {value}")));
            found.extend(field.text.is_empty().then(|| name.clone()));
            found.extend(undocumented(&name, &field.fields));
        }
        found
    }

    #[test]
    fn every_field_and_enum_value_of_every_model_is_documented() {
        for model in &MODELS {
            let message = descriptor_pool().get_message_by_name(model.proto_name).expect("a message");
            assert_ne!(message_text(&message), "", "{}", model.name);
            assert_eq!(undocumented(model.name, &fields(&message)), [""; 0]);
        }
    }

    #[test]
    fn comments_are_joined_to_one_line_for_each_paragraph() {
        let message = descriptor_pool()
            .get_message_by_name("ligato.linux.interfaces.Interface")
            .expect("a message");
        assert!(message_text(&message).lines().count() > 1);
        let mtu = fields(&message).into_iter().find(|field| field.name == "mtu").expect("a field");
        assert_eq!(mtu.kind, "uint32");
        assert!(mtu.text.starts_with("MTU in bytes.") && !mtu.text.contains('\n'), "{}", mtu.text);
    }
}
