//! Converts values to the form in which clients see them: the name of the protobuf message, and its content in protobuf JSON
//! (lowerCamelCase, enums by name).

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

/// Message name of values that have no fields to show.
const EMPTY: &str = "google.protobuf.Empty";

/// Converts a value, or returns `None` if the value has no message.
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

/// Converts a desired value to the form in which the client wrote it.
pub fn show_model(model: &Model) -> Option<Shown> {
    match model {
        Model::Interface(message) => shown(message.as_ref()),
        Model::Arp(message) => shown(message.as_ref()),
        Model::Route(message) => shown(message.as_ref()),
        Model::RuleChain(message) => shown(message.as_ref()),
        Model::IpAllocation(message) => shown(message.as_ref()),
    }
}

/// Formats a value on one line.
pub fn print(key: &Key, value: &Value) -> String {
    match show(key, value) {
        Some(shown) => shown.data.to_string(),
        None => "<NIL>".to_owned(),
    }
}

/// Encodes a message for the REST API. Encoding cannot fail, because the models contain nothing that JSON cannot represent.
fn shown<M: prost::Message + Name>(message: &M) -> Option<Shown> {
    let text = try_encode(message, Spelling::LowerCamel).ok()?;
    let data: Json = serde_json::from_str(&text).ok()?;
    Some(Shown {
        message: M::full_name(),
        data,
    })
}
