//! Configuration documents, which contain values of all models in one text. The initial configuration file, the REST API and the CLI use them.
//!
//! A document is a `ligato.configurator.Dynamic_config` message. This message is derived from the table of models, so it is not in `proto/`. It has
//! one member per group, such as `linuxConfig`. Each group has one repeated member per model, such as `interfaces`. Documents can be read from any
//! serde format. They are written as JSON.

use std::sync::LazyLock;

use prost::Message;
use prost_reflect::{DescriptorPool, DynamicMessage, FieldDescriptor, Kind, MessageDescriptor, ReflectMessage, Value};
use prost_types::{
    DescriptorProto, FieldDescriptorProto, FileDescriptorProto,
    field_descriptor_proto::{Label, Type},
};
use serde::de::Deserializer;

use crate::{
    json::{self, ReadError, Spelling},
    model::Model,
    proto::descriptor_pool,
    registry::{MODELS, ModelInfo, ModelKind},
};

mod schema;

pub use schema::{FieldNames, schema};

const PACKAGE: &str = "ligato.configurator";
const MESSAGE: &str = "Dynamic_config";
/// Member for the configuration of a VPP dataplane. Clients include this member in exported documents. The agent accepts the member only if it is
/// empty.
const VPP_MEMBER: &str = "vppConfig";
const VPP_MESSAGE: &str = "ligato.vpp.ConfigData";
const VPP_FILE: &str = "ligato/vpp/vpp.proto";

/// Location of a model's values in a document.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Member {
    /// Member of the document, for example `linuxConfig`. Its spelling is the same in `.proto` files and in documents.
    pub group: &'static str,
    /// Member of the group in the spelling of `.proto` files, for example `arp_entries`.
    pub proto_name: &'static str,
    /// Member of the group in the spelling of documents, for example `arpEntries`.
    pub json_name: &'static str,
}

/// Returns the location of a model's values in a document. The member names are the same as in ligato vpp-agent and do not follow a common rule.
pub fn member_of(kind: ModelKind) -> Member {
    let (group, proto_name, json_name) = match kind {
        ModelKind::Interface => ("linuxConfig", "interfaces", "interfaces"),
        ModelKind::Arp => ("linuxConfig", "arp_entries", "arpEntries"),
        ModelKind::Route => ("linuxConfig", "routes", "routes"),
        ModelKind::RuleChain => ("linuxConfig", "RuleChain", "RuleChain"),
        ModelKind::IpAllocation => ("netallocConfig", "ip_addresses", "ipAddresses"),
    };
    Member {
        group,
        proto_name,
        json_name,
    }
}

/// Value in a document, with its path.
#[derive(Clone, PartialEq, Debug)]
pub struct Item {
    /// Path in the document, for example `linuxConfig.interfaces[2]`.
    pub place: String,
    /// Decoded value. The reader does not validate it.
    pub model: Model,
}

/// Reads a document. Does not validate its values.
///
/// # Errors
/// Fails if a member is unknown or invalid. The error contains the path of the member, and the position if the format reports one.
pub fn read_document<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<Item>, ReadError<D::Error>> {
    let bytes = json::read(&DESCRIPTOR, deserializer)?;
    let wrong = |error: &dyn std::fmt::Display| ReadError {
        reason: None,
        path: String::new(),
        source: serde::de::Error::custom(error),
    };
    let document = DynamicMessage::decode(DESCRIPTOR.clone(), bytes.as_slice()).map_err(|error| wrong(&error))?;
    let mut items = Vec::new();
    for info in &MODELS {
        let member = member_of(info.kind);
        for (index, value) in values_of(&document, member).into_iter().enumerate() {
            let model = Model::from_protobuf(info.kind, &value.encode_to_vec()).map_err(|error| wrong(&error))?;
            let place = format!("{}.{}[{index}]", member.group, member.json_name);
            items.push(Item { place, model });
        }
    }
    Ok(items)
}

fn values_of(document: &DynamicMessage, member: Member) -> Vec<DynamicMessage> {
    let group = document.get_field_by_name(member.group);
    let group = group.as_deref().and_then(Value::as_message);
    let list = group.and_then(|group| group.get_field_by_name(member.proto_name).map(|list| list.into_owned()));
    let values = list.as_ref().and_then(Value::as_list).unwrap_or_default();
    values.iter().filter_map(Value::as_message).cloned().collect()
}

/// Writes values as a JSON document, with field names in lower camel case. Omits fields that have their default value. The values
/// of each model stay in the given order.
///
/// # Errors
/// Fails if a value has no JSON form. This cannot happen for values that were read from a document.
pub fn write_document<'a>(models: impl IntoIterator<Item = &'a Model>) -> Result<String, serde_json::Error> {
    let mut document = DynamicMessage::new(DESCRIPTOR.clone());
    for model in models {
        push(&mut document, model).map_err(serde::ser::Error::custom)?;
    }
    json::encode_dynamic(&document, Spelling::LowerCamel)
}

fn push(document: &mut DynamicMessage, model: &Model) -> Result<(), String> {
    let member = member_of(model.kind());
    let missing = || format!("{MESSAGE} has no {}.{}", member.group, member.proto_name);
    let group = document.get_field_by_name_mut(member.group).and_then(Value::as_message_mut);
    let group = group.ok_or_else(missing)?;
    let field: FieldDescriptor = group.descriptor().get_field_by_name(member.proto_name).ok_or_else(missing)?;
    let Kind::Message(descriptor) = field.kind() else {
        return Err(missing());
    };
    let value = DynamicMessage::decode(descriptor, model.to_protobuf().as_slice()).map_err(|error| error.to_string())?;
    let list = group.get_field_mut(&field).as_list_mut().ok_or_else(missing)?;
    list.push(Value::Message(value));
    Ok(())
}

/// Converts a field path to the spelling of documents: `hw_address` becomes `hwAddress`.
///
/// Path elements that are not message fields stay unchanged.
pub fn json_path(message: Option<&MessageDescriptor>, path: &str) -> String {
    let mut message = message.cloned();
    let parts = path.split('.').map(|part| {
        let field = message.as_ref().and_then(|message| message.get_field_by_name(part));
        message = field.as_ref().and_then(|field| match field.kind() {
            Kind::Message(inner) => Some(inner),
            _ => None,
        });
        field.map_or(part.to_owned(), |field| field.json_name().to_owned())
    });
    parts.collect::<Vec<_>>().join(".")
}

/// Completes the path of a field from a validation error: `peer_if_name` becomes `veth.peer_if_name`.
///
/// [Validation errors](crate::validation) omit the member of `link` or `port` that contains the field. Both paths use the names
/// of the `.proto` file.
pub fn field_path(kind: ModelKind, field: &str) -> String {
    let first = field.split(['.', '[']).next().unwrap_or(field);
    let message = descriptor_pool().get_message_by_name(kind.info().proto_name);
    let holder = message
        .filter(|message| message.get_field_by_name(first).is_none())
        .and_then(|message| {
            message.fields().find(|outer| match outer.kind() {
                Kind::Message(inner) => !outer.is_list() && inner.get_field_by_name(first).is_some(),
                _ => false,
            })
        });
    holder.map_or_else(|| field.to_owned(), |outer| format!("{}.{field}", outer.name()))
}

/// Returns the message descriptor of the document.
pub fn document_descriptor() -> &'static MessageDescriptor {
    &DESCRIPTOR
}

static DESCRIPTOR: LazyLock<MessageDescriptor> = LazyLock::new(|| {
    let mut pool: DescriptorPool = descriptor_pool().clone();
    pool.add_file_descriptor_proto(file())
        .expect("the file must refer only to messages in the pool (a test checks this)");
    let message = pool.get_message_by_name(&format!("{PACKAGE}.{MESSAGE}"));
    message.expect("the message was just added")
});

fn file() -> FileDescriptorProto {
    let mut groups: Vec<(&str, Vec<&ModelInfo>)> = Vec::new();
    for info in &MODELS {
        let group = member_of(info.kind).group;
        match groups.iter_mut().find(|(name, _)| *name == group) {
            Some((_, models)) => models.push(info),
            None => groups.push((group, vec![info])),
        }
    }
    let message_of = |group: &str| format!("{MESSAGE}_{group}");
    let mut messages = vec![DescriptorProto {
        name: Some(MESSAGE.to_owned()),
        field: numbered(
            groups
                .iter()
                .map(|(group, _)| {
                    let kind = format!("{PACKAGE}.{}", message_of(group));
                    message_field(group, group, &kind, Label::Optional)
                })
                .chain([message_field(VPP_MEMBER, VPP_MEMBER, VPP_MESSAGE, Label::Optional)]),
        ),
        ..Default::default()
    }];
    messages.extend(groups.iter().map(|(group, models)| DescriptorProto {
        name: Some(message_of(group)),
        field: numbered(models.iter().map(|info| {
            let member = member_of(info.kind);
            message_field(member.proto_name, member.json_name, info.proto_name, Label::Repeated)
        })),
        ..Default::default()
    }));
    let files = MODELS.iter().map(|info| info.proto_file).chain([VPP_FILE]);
    let mut dependencies: Vec<String> = files.map(str::to_owned).collect();
    dependencies.sort();
    dependencies.dedup();
    FileDescriptorProto {
        name: Some("ligato/configurator/dynamicconfigurator.proto".to_owned()),
        package: Some(PACKAGE.to_owned()),
        dependency: dependencies,
        message_type: messages,
        syntax: Some("proto3".to_owned()),
        ..Default::default()
    }
}

fn message_field(name: &str, json_name: &str, kind: &str, label: Label) -> FieldDescriptorProto {
    FieldDescriptorProto {
        name: Some(name.to_owned()),
        json_name: Some(json_name.to_owned()),
        label: Some(label.into()),
        r#type: Some(Type::Message.into()),
        type_name: Some(format!(".{kind}")),
        ..Default::default()
    }
}

fn numbered(fields: impl Iterator<Item = FieldDescriptorProto>) -> Vec<FieldDescriptorProto> {
    let numbered = fields.zip(1..).map(|(field, number)| FieldDescriptorProto {
        number: Some(number),
        ..field
    });
    numbered.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Vec<Item>, String> {
        let mut deserializer = serde_json::Deserializer::from_str(text);
        read_document(&mut deserializer).map_err(|error| format!("{}: {}", error.path, error.source))
    }

    #[test]
    fn document_is_read_in_both_spellings_and_written_in_camel_case() {
        let text = r#"{"linuxConfig":{"interfaces":[{"name":"d","type":"DUMMY","ip_addresses":["10.0.0.1/24"]}],
            "arp_entries":[{"interface":"d","ipAddress":"10.0.0.2","hwAddress":"02:00:00:00:00:01"}],
            "routes":[{"outgoingInterface":"d","dstNetwork":"10.1.0.0/16"}],"RuleChain":[{"name":"c"}]},
            "netallocConfig":{"ipAddresses":[{"networkName":"n","interfaceName":"d","address":"10.0.0.1/24"}]}}"#;
        let items = read(text).expect("a document");
        let places: Vec<&str> = items.iter().map(|item| item.place.as_str()).collect();
        let want = [
            "linuxConfig.interfaces[0]",
            "linuxConfig.arpEntries[0]",
            "linuxConfig.routes[0]",
            "linuxConfig.RuleChain[0]",
            "netallocConfig.ipAddresses[0]",
        ];
        assert_eq!(places, want);
        let written = write_document(items.iter().map(|item| &item.model)).expect("writable");
        assert!(
            written.contains(r#""arpEntries":[{"interface":"d","ipAddress":"10.0.0.2""#),
            "{written}"
        );
        assert_eq!(read(&written).expect("a written document must be readable"), items);
    }

    #[test]
    fn errors_name_the_path_of_the_member() {
        for (text, parts) in [
            (r#"{"linux_config":{}}"#, ["linux_config", "linuxConfig, netallocConfig"]),
            (
                r#"{"vppConfig":{"interfaces":[]}}"#,
                ["vppConfig", "`interfaces`; this agent manages Linux networking only"],
            ),
            (
                r#"{"linuxConfig":{"interfaces":[{"name":"a"},{"nme":"b"}]}}"#,
                ["linuxConfig.interfaces[1]", "nme"],
            ),
            (
                r#"{"linuxConfig":{"routes":[{"scope":"NEAR"}]}}"#,
                ["linuxConfig.routes[0].scope", "NEAR"],
            ),
        ] {
            let error = read(text).expect_err("rejected");
            for part in parts {
                assert!(error.contains(part), "{error} does not contain {part}");
            }
        }
    }

    #[test]
    fn empty_vpp_config_is_read_and_not_written() {
        let text = r#"{"vppConfig":{},"linuxConfig":{"interfaces":[{"name":"d"}]},"netallocConfig":{}}"#;
        let items = read(text).expect("a document exported by a client must be readable");
        let written = write_document(items.iter().map(|item| &item.model)).expect("writable");
        assert_eq!(written, r#"{"linuxConfig":{"interfaces":[{"name":"d"}]}}"#);
        assert_eq!(read(r#"{"vppConfig":null}"#), Ok(vec![]));
    }

    #[test]
    fn empty_document_has_no_values() {
        assert_eq!(read("{}"), Ok(vec![]));
        assert_eq!(write_document([]).expect("writable"), "{}");
    }
}
