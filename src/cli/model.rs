//! `netns-agent model`: describes the kinds of values and their fields.
//!
//! The descriptions are part of this program, so no agent is needed.

use clap::Subcommand;
use models::{
    descriptor_pool,
    document::member_of,
    reference::{Field, fields, message_text},
    registry::{MODELS, ModelInfo, ModelKind, model_by_name},
};
use prost_reflect::MessageDescriptor;
use serde_json::{Value as Json, json};

use super::{
    failure::{Failure, Outcome},
    output::{Cell, Format, Output, Table, Tone, indented, wrap},
};
use crate::config::suggest::did_you_mean;

/// Width of a page in characters.
const WIDTH: usize = 100;

/// Subcommands of `model`.
#[derive(Subcommand, Debug)]
pub enum ModelCommand {
    /// List the kinds of values and their keys
    #[command(visible_alias = "ls")]
    List,
    /// Show a kind of values: its key, where it belongs in a document, and its fields
    #[command(visible_alias = "inspect")]
    Show {
        /// Model name (linux.l3.route) or kind (route)
        #[arg(value_name = "MODEL")]
        model: String,
    },
}

/// Runs a subcommand of `model`.
pub fn run(command: &ModelCommand, output: &Output) -> Outcome {
    match command {
        ModelCommand::List => list(output)?,
        ModelCommand::Show { model } => show(model, output)?,
    }
    Ok(0)
}

fn list(output: &Output) -> Result<(), Failure> {
    if output.is_document() {
        let documents = MODELS
            .iter()
            .filter_map(|model| Some(document(model, &descriptor_pool().get_message_by_name(model.proto_name)?)));
        return output.document(&documents.collect::<Vec<_>>());
    }
    if output.format == Format::Name {
        return MODELS.iter().try_for_each(|model| output.line(model.name));
    }
    let mut table = Table::new(["KIND", "MODEL", "IN A DOCUMENT", "KEY"]);
    for model in &MODELS {
        table.row([model.type_name.into(), model.name.into(), place(model).into(), key(model).into()]);
    }
    output.table(&table)
}

fn show(name: &str, output: &Output) -> Result<(), Failure> {
    let model = model_by_name(name).or_else(|| MODELS.iter().find(|model| model.type_name == name || model.proto_name == name));
    let model = model.ok_or_else(|| {
        let known: Vec<&str> = MODELS.iter().map(|model| model.type_name).collect();
        let suggestion = did_you_mean(name, known.iter().copied().chain(MODELS.iter().map(|model| model.name)));
        Failure::new(format!("unknown model {name:?}{suggestion}")).next(format!("models are: {}", known.join(", ")))
    })?;
    let message = descriptor_pool().get_message_by_name(model.proto_name);
    let message = message.ok_or_else(|| Failure::new(format!("this version of netns-agent has no message {}", model.proto_name)))?;
    if output.is_document() {
        return output.document(&document(model, &message));
    }
    output.text(&page(model, &message, output))
}

/// Returns the page about a kind of values: description, key, fields and example.
fn page(model: &ModelInfo, message: &MessageDescriptor, output: &Output) -> String {
    let mut page = String::new();
    push_text(&mut page, &message_text(message), 0);
    page.push('\n');
    let mut table = Table::new([]);
    for (label, text) in [
        ("Key", key(model)),
        ("In a document", place(model)),
        ("Message", model.proto_name.to_owned()),
    ] {
        table.row([Cell::new(label, Tone::Strong), text.into()]);
    }
    page.push_str(&output.lay_out(&table, ""));
    page.push_str(&format!("\n{}\n", output.paint("Fields", Tone::Strong)));
    fields(message).iter().for_each(|field| push_field(&mut page, field, 2, output));
    page.push_str(&format!("{}\n", output.paint("Example", Tone::Strong)));
    page.push_str(&indented(example(model.kind), "  "));
    page
}

fn push_field(page: &mut String, field: &Field, indent: usize, output: &Output) {
    let name = output.paint(&field.name, Tone::Strong);
    page.push_str(&format!("{:indent$}{name} <{}>\n", "", field.kind));
    push_text(page, &field.text, indent + 4);
    for (value, text) in &field.values {
        push_text(page, &format!("{value}: {text}"), indent + 6);
    }
    page.push('\n');
    field.fields.iter().for_each(|field| push_field(page, field, indent + 4, output));
}

/// Appends text to a page, wrapped at spaces.
fn push_text(page: &mut String, text: &str, indent: usize) {
    for line in text.lines().flat_map(|paragraph| wrap(paragraph, WIDTH.saturating_sub(indent))) {
        page.push_str(&format!("{:indent$}{line}\n", ""));
    }
}

/// Returns an example document that `apply` accepts, with values of this kind.
fn example(kind: ModelKind) -> &'static str {
    match kind {
        ModelKind::Interface => include_str!("model/interface.yaml"),
        ModelKind::Arp => include_str!("model/arp.yaml"),
        ModelKind::Route => include_str!("model/route.yaml"),
        ModelKind::RuleChain => include_str!("model/rulechain.yaml"),
        ModelKind::IpAllocation => include_str!("model/ip.yaml"),
    }
}

/// Returns the key as a template: the prefix, followed by field names in capitals.
fn key(model: &ModelInfo) -> String {
    let fields: Vec<&str> = model.key_fields.split(", ").collect();
    let camel_case = |field: &str| {
        field
            .split('_')
            .map(|word| word[..1].to_uppercase() + &word[1..])
            .collect::<String>()
    };
    let replace = |name: String, field: &&str| name.replace(&format!("{{{{.{}}}}}", camel_case(field)), &field.to_uppercase());
    let name = match model.name_template.contains(' ') {
        // Template functions are not evaluated here. Every template with functions joins its fields with `/`, so do the same.
        true => fields.join("/").to_uppercase(),
        false => fields.iter().fold(model.name_template.to_owned(), replace),
    };
    format!("{}{name}", model.key_prefix)
}

fn place(model: &ModelInfo) -> String {
    let member = member_of(model.kind);
    format!("{}.{}", member.group, member.json_name)
}

fn document(model: &ModelInfo, message: &MessageDescriptor) -> Json {
    json!({
        "name": model.name, "kind": model.type_name, "module": model.module, "version": model.version, "class": model.class,
        "proto_name": model.proto_name, "proto_file": model.proto_file, "key_prefix": model.key_prefix,
        "name_template": model.name_template, "document_member": place(model), "description": message_text(message),
        "fields": fields_document(&fields(message)), "example": example(model.kind),
    })
}

fn fields_document(fields: &[Field]) -> Json {
    let one = |field: &Field| {
        let values = field.values.iter().map(|(name, text)| json!({ "name": name, "description": text }));
        let mut document = json!({ "name": field.name, "type": field.kind, "description": field.text });
        if !field.values.is_empty() {
            document["values"] = values.collect();
        }
        if !field.fields.is_empty() {
            document["fields"] = fields_document(&field.fields);
        }
        document
    };
    fields.iter().map(one).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::document::Document;

    #[test]
    fn every_example_is_a_valid_document_with_values_of_its_kind() {
        for model in &MODELS {
            let document = Document::parse(model.name, example(model.kind).to_owned()).expect("it can be read");
            assert!(document.report_mistakes(), "{}", model.name);
            assert!(document.values().any(|value| value.kind() == model.kind), "{}", model.name);
        }
    }

    #[test]
    fn keys_are_shown_as_templates() {
        let keys: Vec<String> = MODELS.iter().map(key).collect();
        assert_eq!(
            keys,
            [
                "config/linux/interfaces/v2/interface/NAME",
                "config/linux/l3/v2/arp/INTERFACE/IP_ADDRESS",
                "config/linux/l3/v2/route/DST_NETWORK/OUTGOING_INTERFACE",
                "config/linux/iptables/v2/rulechain/NAME",
                "config/netalloc/v1/ip/network/NETWORK_NAME/interface/INTERFACE_NAME",
            ]
        );
    }
}
