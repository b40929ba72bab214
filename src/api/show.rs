//! Values as clients see them: the name of a message, and its content in protobuf JSON.
//!
//! Owns the choice of the dialect (lowerCamelCase, enums by name). Must never know a field. Start reading at [`show`].

use models::{
    Model,
    json::{Spelling, try_encode},
    key::Key,
};
use prost::Name;
use serde_json::{Value as Json, json};

use crate::api::history::json::Shown;
use crate::descriptors::{
    message::{Message, message_of},
    value::Value,
};

/// What a property or a fact is.
const EMPTY: &str = "google.protobuf.Empty";

/// The value under a key; `None` for what the agent does not handle.
pub fn show(_: &Key, value: &Value) -> Option<Shown> {
    match message_of(value)? {
        Message::Interface(message) => shown(message.as_ref()),
        Message::Arp(message) => shown(&message),
        Message::Route(message) => shown(&message),
        Message::Empty => Some(Shown {
            message: EMPTY.to_owned(),
            data: json!({}),
        }),
    }
}

/// A model as it was written.
pub fn show_model(model: &Model) -> Option<Shown> {
    match model {
        Model::Interface(message) => shown(message.as_ref()),
        Model::Arp(message) => shown(message.as_ref()),
        Model::Route(message) => shown(message.as_ref()),
        Model::RuleChain(message) => shown(message.as_ref()),
        Model::IpAllocation(message) => shown(message.as_ref()),
    }
}

/// The same on one line, for texts.
pub fn print(key: &Key, value: &Value) -> String {
    match show(key, value) {
        Some(shown) => shown.data.to_string(),
        None => "<NIL>".to_owned(),
    }
}

/// A message in the dialect of REST. The models have nothing that JSON cannot hold.
fn shown<M: prost::Message + Name>(message: &M) -> Option<Shown> {
    let text = try_encode(message, Spelling::LowerCamel).ok()?;
    let data: Json = serde_json::from_str(&text).ok()?;
    Some(Shown {
        message: M::full_name(),
        data,
    })
}
