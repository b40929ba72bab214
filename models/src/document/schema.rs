//! JSON schema of the configuration document, for editors and clients (JSON Schema draft 4).
//!
//! The schema is derived from the message descriptors, and allows only documents that the agent can read.

use prost_reflect::{FieldDescriptor, Kind, MessageDescriptor};
use serde_json::{Map, Value, json};

use super::document_descriptor;

/// Spellings of field names that the schema allows.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum FieldNames {
    /// The names of the `.proto` files and lower camel case; the reader accepts both.
    #[default]
    Both,
    /// Only the names of the `.proto` files.
    OnlyProto,
    /// Only lower camel case.
    OnlyJson,
}

/// Returns the schema of the configuration document. The schema of each message is in `definitions`, under the full name of the
/// message.
pub fn schema(names: FieldNames) -> Value {
    let root = document_descriptor();
    let mut definitions = Map::new();
    define(root, names, &mut definitions);
    json!({
        "$schema": "http://json-schema.org/draft-04/schema#",
        "$ref": reference(root),
        "definitions": definitions,
    })
}

fn reference(message: &MessageDescriptor) -> String {
    format!("#/definitions/{}", message.full_name())
}

fn define(message: &MessageDescriptor, names: FieldNames, definitions: &mut Map<String, Value>) {
    if definitions.contains_key(message.full_name()) {
        return;
    }
    // Insert a placeholder before visiting the fields, so that a recursive message is defined only once.
    definitions.insert(message.full_name().to_owned(), Value::Null);
    let mut properties = Map::new();
    for field in message.fields() {
        let form = field_schema(&field, names, definitions);
        if names != FieldNames::OnlyJson {
            properties.insert(field.name().to_owned(), form.clone());
        }
        if names != FieldNames::OnlyProto {
            properties.insert(field.json_name().to_owned(), form);
        }
    }
    let definition = json!({"type": "object", "properties": properties, "additionalProperties": false});
    definitions.insert(message.full_name().to_owned(), definition);
}

fn field_schema(field: &FieldDescriptor, names: FieldNames, definitions: &mut Map<String, Value>) -> Value {
    if let (true, Kind::Message(entry)) = (field.is_map(), field.kind()) {
        let value = entry.map_entry_value_field();
        return json!({"type": "object", "additionalProperties": kind_schema(&value.kind(), names, definitions)});
    }
    let one = kind_schema(&field.kind(), names, definitions);
    if field.is_list() {
        return json!({"type": "array", "items": one});
    }
    one
}

fn kind_schema(kind: &Kind, names: FieldNames, definitions: &mut Map<String, Value>) -> Value {
    match kind {
        Kind::Bool => json!({"type": "boolean"}),
        Kind::String => json!({"type": "string"}),
        Kind::Bytes => json!({"type": "string", "format": "binary"}),
        Kind::Double | Kind::Float => json!({"type": ["number", "string"]}),
        Kind::Uint32 | Kind::Fixed32 => json!({"type": "integer", "minimum": 0, "maximum": u32::MAX}),
        Kind::Int32 | Kind::Sint32 | Kind::Sfixed32 => json!({"type": "integer", "minimum": i32::MIN, "maximum": i32::MAX}),
        // Protobuf JSON writes 64-bit integers as strings, and accepts numbers too.
        Kind::Int64 | Kind::Sint64 | Kind::Sfixed64 | Kind::Uint64 | Kind::Fixed64 => json!({"type": ["integer", "string"]}),
        Kind::Enum(choice) => {
            let names: Vec<String> = choice.values().map(|value| value.name().to_owned()).collect();
            json!({"oneOf": [{"type": "string", "enum": names}, {"type": "integer"}]})
        }
        // Well-known types have special JSON forms. Most of these forms are not objects.
        Kind::Message(message) if message.package_name() == "google.protobuf" => json!({}),
        Kind::Message(message) => {
            define(message, names, definitions);
            json!({"$ref": reference(message)})
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn schema_contains_the_requested_spellings() {
        let interface = |names| schema(names)["definitions"]["ligato.linux.interfaces.Interface"]["properties"].clone();
        for (names, proto, camel) in [
            (FieldNames::Both, true, true),
            (FieldNames::OnlyProto, true, false),
            (FieldNames::OnlyJson, false, true),
        ] {
            let properties = interface(names);
            assert_eq!(properties.get("host_if_name").is_some(), proto, "{names:?}");
            assert_eq!(properties.get("hostIfName").is_some(), camel, "{names:?}");
        }
        assert_eq!(schema(FieldNames::Both)["$ref"], "#/definitions/ligato.configurator.Dynamic_config");
    }
}
