//! `netns-agent model`: the kinds of values and their fields.
//!
//! The information is part of this program; no agent is needed.

use clap::Subcommand;
use models::{
    descriptor_pool,
    document::member_of,
    registry::{MODELS, ModelInfo, model_by_name},
};
use serde_json::{Value as Json, json};

use super::{
    failure::{Failure, Outcome},
    output::{Cell, Format, Output, Table, Tone},
};
use crate::config::suggest::did_you_mean;

/// Sub-commands of `model`.
#[derive(Subcommand, Debug)]
pub enum ModelCommand {
    /// List the kinds of values and their keys
    #[command(visible_alias = "ls")]
    List,
    /// Show a kind of values: its key, its place in documents, its fields
    #[command(visible_alias = "inspect")]
    Show {
        /// Model name (linux.l3.route) or kind (route)
        #[arg(value_name = "MODEL")]
        model: String,
    },
}

/// Runs a sub-command.
pub fn run(command: &ModelCommand, output: &Output) -> Outcome {
    match command {
        ModelCommand::List => list(output)?,
        ModelCommand::Show { model } => show(model, output)?,
    }
    Ok(0)
}

fn list(output: &Output) -> Result<(), Failure> {
    if output.is_document() {
        return output.document(&MODELS.iter().map(document).collect::<Vec<_>>());
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
        Failure::new(format!("there is no model {name:?}{suggestion}")).next(format!("models are: {}", known.join(", ")))
    })?;
    if output.is_document() {
        return output.document(&document(model));
    }
    let mut table = Table::new([]);
    let rows = [
        ("Model", model.name.to_owned()),
        ("Message", format!("{} ({})", model.proto_name, model.proto_file)),
        ("Key", key(model)),
        ("In a document", place(model)),
    ];
    for (label, text) in rows {
        table.row([Cell::new(label, Tone::Strong), text.into()]);
    }
    output.table(&table)?;
    output.line("")?;
    let mut table = Table::new(["FIELD", "TYPE", "VALUES"]);
    for (name, kind, values) in fields(model) {
        table.row([name.into(), kind.into(), values.join(", ").into()]);
    }
    output.table(&table)
}

/// Returns the key as a template: the prefix, and the names of the fields in capitals.
fn key(model: &ModelInfo) -> String {
    let parts: Vec<String> = model.key_fields.split(", ").map(str::to_uppercase).collect();
    format!("{}{}", model.key_prefix, parts.join("/"))
}

fn place(model: &ModelInfo) -> String {
    let member = member_of(model.kind);
    format!("{}.{}", member.group, member.json_name)
}

/// Returns name, type and enum values of each field.
fn fields(model: &ModelInfo) -> Vec<(String, String, Vec<String>)> {
    let Some(message) = descriptor_pool().get_message_by_name(model.proto_name) else {
        return Vec::new();
    };
    let fields = message.fields().map(|field| {
        let kind = field.kind();
        let values = kind
            .as_enum()
            .map(|kind| kind.values().map(|value| value.name().to_owned()).collect::<Vec<_>>());
        let name = match (kind.as_message(), kind.as_enum()) {
            (Some(message), _) => {
                let members: Vec<String> = message.fields().map(|field| field.name().to_owned()).collect();
                format!("{{{}}}", members.join(", "))
            }
            (None, Some(_)) => "name".to_owned(),
            (None, None) => format!("{kind:?}").to_lowercase(),
        };
        let list = if field.is_list() { "list of " } else { "" };
        (field.name().to_owned(), format!("{list}{name}"), values.unwrap_or_default())
    });
    fields.collect()
}

fn document(model: &ModelInfo) -> Json {
    let fields: Vec<Json> = fields(model)
        .into_iter()
        .map(|(name, kind, values)| json!({ "name": name, "type": kind, "values": values }))
        .collect();
    json!({
        "name": model.name, "kind": model.type_name, "module": model.module, "version": model.version, "class": model.class,
        "proto_name": model.proto_name, "proto_file": model.proto_file, "key_prefix": model.key_prefix,
        "name_template": model.name_template, "document_member": place(model), "fields": fields,
    })
}
