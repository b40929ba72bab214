//! Decodes configuration values: converts the bytes stored under a key to a typed message.
//!
//! The key determines the message type, and the content determines the encoding. A value is rejected if any part of its key or content is
//! unknown.

use std::sync::Arc;

use prost::{Message, Name};
use prost_reflect::MessageDescriptor;

use crate::{
    decode::{DecodeError, reason},
    json,
    key::{CONFIG_PREFIX, Key, RouteDestination, TypedKey, join},
    proto::ligato::{
        linux::{
            interfaces::Interface,
            iptables::RuleChain,
            l3::{ArpEntry, Route},
        },
        netalloc::IpAllocation,
    },
    registry::{self, ModelInfo, ModelKind},
    validation::{self, ValidationError},
    wire,
};

/// Configuration value. Clones share the message.
#[derive(Clone, PartialEq, Debug)]
pub enum Model {
    /// An interface.
    Interface(Arc<Interface>),
    /// A permanent neighbour entry.
    Arp(Arc<ArpEntry>),
    /// A route.
    Route(Arc<Route>),
    /// An iptables chain with its rules.
    RuleChain(Arc<RuleChain>),
    /// An allocated address.
    IpAllocation(Arc<IpAllocation>),
}

impl Model {
    /// Decodes the value stored under `key` (without the agent prefix), from protobuf JSON or binary protobuf.
    ///
    /// This function checks only the form and the key of the value. [`Model::validate`] checks all other rules.
    ///
    /// # Errors
    /// Fails if no model has keys of this form, or if the bytes are not a message of the model. Also fails if a key field is invalid, or if the value
    /// belongs under another key.
    pub fn decode(key: &str, value: &[u8]) -> Result<Self, DecodeError> {
        let info = registry::model_of_key(key).ok_or_else(|| unknown_key(key))?;
        let model = Self::decode_message(info.kind, value)?;
        let computed = model.key();
        if computed.as_str() == key {
            return Ok(model);
        }
        // Check the key fields first, so that the error message does not suggest a key that is computed from invalid fields.
        model.validate_key_fields()?;
        let message = format!(
            "the value is stored under the key `{key}`, but belongs under `{computed}`; correct the key or the fields that form it ({})",
            info.key_fields
        );
        Err(DecodeError::new(reason::KEY_MISMATCH, message))
    }

    /// Decodes bytes as a value of a known kind, without a key.
    ///
    /// # Errors
    /// Fails if the bytes are not a message of the model.
    pub fn decode_message(kind: ModelKind, value: &[u8]) -> Result<Self, DecodeError> {
        let model = match kind {
            ModelKind::Interface => Self::Interface(decode_content(value)?),
            ModelKind::Arp => Self::Arp(decode_content(value)?),
            ModelKind::Route => Self::Route(decode_content(value)?),
            ModelKind::RuleChain => Self::RuleChain(decode_content(value)?),
            ModelKind::IpAllocation => Self::IpAllocation(decode_content(value)?),
        };
        Ok(model.without_defaults())
    }

    /// Decodes a binary message of a known kind.
    ///
    /// Unlike [`Model::decode_message`], this function does not accept JSON, and treats empty input as a message without fields.
    ///
    /// # Errors
    /// Fails if the bytes are not a message of the model.
    pub fn from_protobuf(kind: ModelKind, value: &[u8]) -> Result<Self, DecodeError> {
        let model = match kind {
            ModelKind::Interface => Self::Interface(decode_typed(value)?),
            ModelKind::Arp => Self::Arp(decode_typed(value)?),
            ModelKind::Route => Self::Route(decode_typed(value)?),
            ModelKind::RuleChain => Self::RuleChain(decode_typed(value)?),
            ModelKind::IpAllocation => Self::IpAllocation(decode_typed(value)?),
        };
        Ok(model.without_defaults())
    }

    /// Unsets `optional` fields that have their default value.
    ///
    /// Protobuf encodes a set `optional` field even if it has its default value. This function unsets these fields, because clients of ligato
    /// vpp-agent do not have any of the `optional` fields.
    fn without_defaults(mut self) -> Self {
        match &mut self {
            Self::Interface(message) => {
                let is_master_empty = message.master_interface.as_deref() == Some("");
                let is_default =
                    message.adopt == Some(false) || message.drift_policy == Some(0) || message.duplicate_address_detection == Some(0);
                if is_default || is_master_empty {
                    let message = Arc::make_mut(message);
                    message.master_interface = message.master_interface.take().filter(|master| !master.is_empty());
                    message.adopt = message.adopt.filter(|adopt| *adopt);
                    message.drift_policy = message.drift_policy.filter(|policy| *policy != 0);
                    message.duplicate_address_detection = message.duplicate_address_detection.filter(|detection| *detection != 0);
                }
            }
            Self::Arp(message) => {
                if message.adopt == Some(false) || message.drift_policy == Some(0) {
                    let message = Arc::make_mut(message);
                    message.adopt = message.adopt.filter(|adopt| *adopt);
                    message.drift_policy = message.drift_policy.filter(|policy| *policy != 0);
                }
            }
            Self::Route(message) => {
                if message.adopt == Some(false) || message.drift_policy == Some(0) {
                    let message = Arc::make_mut(message);
                    message.adopt = message.adopt.filter(|adopt| *adopt);
                    message.drift_policy = message.drift_policy.filter(|policy| *policy != 0);
                }
            }
            Self::RuleChain(_) | Self::IpAllocation(_) => {}
        }
        self
    }

    /// Returns the kind of the value.
    pub fn kind(&self) -> ModelKind {
        match self {
            Self::Interface(_) => ModelKind::Interface,
            Self::Arp(_) => ModelKind::Arp,
            Self::Route(_) => ModelKind::Route,
            Self::RuleChain(_) => ModelKind::RuleChain,
            Self::IpAllocation(_) => ModelKind::IpAllocation,
        }
    }

    /// Returns the description of the value's model.
    pub fn info(&self) -> &'static ModelInfo {
        self.kind().info()
    }

    /// Computes the value's key from its fields. Clients compute the key in the same way.
    ///
    /// Names are joined like paths, so an invalid name such as `..` can result in the key of another model.
    pub fn key(&self) -> Key {
        self.typed_key().to_key()
    }

    /// Computes the value's key like [`Model::key`], but returns it in parsed form.
    pub fn typed_key(&self) -> TypedKey {
        match self {
            Self::Interface(interface) => TypedKey::Interface {
                name: interface.name.clone(),
            },
            Self::Arp(arp) => TypedKey::Arp {
                interface: arp.interface.clone(),
                ip_address: arp.ip_address.clone(),
            },
            Self::Route(route) => TypedKey::Route {
                destination: RouteDestination::of(&route.dst_network),
                outgoing_interface: route.outgoing_interface.clone(),
            },
            Self::RuleChain(chain) => TypedKey::RuleChain { name: chain.name.clone() },
            Self::IpAllocation(allocation) => TypedKey::IpAllocation {
                network: allocation.network_name.clone(),
                interface: allocation.interface_name.clone(),
            },
        }
    }

    /// Checks only the fields that form the key.
    ///
    /// # Errors
    /// Returns an error for the first rule that the value violates.
    pub fn validate_key_fields(&self) -> Result<(), ValidationError> {
        validation::validate_key_fields(self)
    }

    /// Checks all rules that do not depend on a running system.
    ///
    /// # Errors
    /// Returns an error for the first rule that the value violates. The order of the rules is fixed.
    pub fn validate(&self) -> Result<(), ValidationError> {
        validation::validate(self)
    }

    /// Encodes the value in the format of the store: protobuf JSON with the field names of the `.proto` files.
    pub fn to_json(&self) -> String {
        match self {
            Self::Interface(message) => json::encode(message.as_ref()),
            Self::Arp(message) => json::encode(message.as_ref()),
            Self::Route(message) => json::encode(message.as_ref()),
            Self::RuleChain(message) => json::encode(message.as_ref()),
            Self::IpAllocation(message) => json::encode(message.as_ref()),
        }
    }

    /// Encodes the value as binary protobuf.
    pub fn to_protobuf(&self) -> Vec<u8> {
        match self {
            Self::Interface(message) => message.encode_to_vec(),
            Self::Arp(message) => message.encode_to_vec(),
            Self::Route(message) => message.encode_to_vec(),
            Self::RuleChain(message) => message.encode_to_vec(),
            Self::IpAllocation(message) => message.encode_to_vec(),
        }
    }
}

impl From<Interface> for Model {
    fn from(message: Interface) -> Self {
        Self::Interface(Arc::new(message))
    }
}

impl From<ArpEntry> for Model {
    fn from(message: ArpEntry) -> Self {
        Self::Arp(Arc::new(message))
    }
}

impl From<Route> for Model {
    fn from(message: Route) -> Self {
        Self::Route(Arc::new(message))
    }
}

impl From<RuleChain> for Model {
    fn from(message: RuleChain) -> Self {
        Self::RuleChain(Arc::new(message))
    }
}

impl From<IpAllocation> for Model {
    fn from(message: IpAllocation) -> Self {
        Self::IpAllocation(Arc::new(message))
    }
}

/// Returns the key for a model name and an instance name. Clients of the generic gRPC API identify values by these two names.
///
/// Returns `None` if there is no model with this name.
pub fn key_of_item(model_name: &str, instance_name: &str) -> Option<Key> {
    let info = registry::model_by_name(model_name)?;
    Some(Key::from(join(info.key_prefix, instance_name)))
}

fn unknown_key(key: &str) -> DecodeError {
    let known: Vec<&str> = registry::MODELS.iter().map(|model| model.key_prefix).collect();
    let what = match key.strip_prefix(CONFIG_PREFIX) {
        Some(rest) if rest == "vpp" || rest.starts_with("vpp/") => {
            "belongs to a VPP model, but this agent supports Linux networking models only"
        }
        Some(_) => "does not belong to any model of this agent",
        None => "is not the key of a configuration value",
    };
    DecodeError::new(
        reason::UNKNOWN_KEY,
        format!("the key `{key}` {what}; the agent has models for {}", known.join(", ")),
    )
}

/// Decodes JSON or binary protobuf, depending on the content.
///
/// Content that begins with `{`, possibly after whitespace, is decoded as JSON. If the content begins with whitespace and is not valid JSON, it is
/// decoded as binary. The reason is that a newline is also the tag of a string field with number 1.
///
/// All other content is decoded as binary. If that fails and the content is text, the error says that a JSON object was expected.
fn decode_content<M: Message + Name + Default>(value: &[u8]) -> Result<Arc<M>, DecodeError> {
    let descriptor = json::descriptor_of::<M>().ok_or_else(|| {
        DecodeError::new(
            reason::UNKNOWN_KEY,
            format!("the message {} is not part of the agent's models", M::full_name()),
        )
    })?;
    let first = value.iter().position(|byte| !byte.is_ascii_whitespace());
    if first.is_some_and(|first| value[first] == b'{') {
        let failure = match json::to_binary(&descriptor, value) {
            Ok(message) => {
                let typed = M::decode(message.as_slice());
                return typed
                    .map(Arc::new)
                    .map_err(|error| DecodeError::new(reason::WRONG_TYPE, error.to_string()));
            }
            Err(failure) => failure,
        };
        let may_be_binary = failure.syntactic && first != Some(0);
        return decode_binary(&descriptor, value)
            .ok()
            .filter(|_| may_be_binary)
            .ok_or(failure.error);
    }
    if first.is_none() {
        return Err(DecodeError::new(
            reason::NOT_JSON,
            "the value is empty; expected a JSON object or a binary protobuf message",
        ));
    }
    match decode_binary(&descriptor, value) {
        Ok(message) => Ok(message),
        Err(error) => Err(as_text(value).map_or(error, |text| not_an_object(&descriptor, text))),
    }
}

fn decode_binary<M: Message + Default>(descriptor: &MessageDescriptor, value: &[u8]) -> Result<Arc<M>, DecodeError> {
    wire::check(descriptor, value)?;
    decode_typed(value)
}

fn decode_typed<M: Message + Default>(value: &[u8]) -> Result<Arc<M>, DecodeError> {
    M::decode(value)
        .map(Arc::new)
        .map_err(|error| DecodeError::new(reason::MALFORMED_PROTOBUF, error.to_string()))
}

/// Returns the value as text if it is UTF-8 without control characters other than whitespace.
fn as_text(value: &[u8]) -> Option<&str> {
    std::str::from_utf8(value)
        .ok()
        .filter(|text| !text.chars().any(|c| c.is_control() && !c.is_ascii_whitespace()))
}

/// Returns the error for text that does not begin like a JSON object.
fn not_an_object(descriptor: &MessageDescriptor, text: &str) -> DecodeError {
    match serde_json::from_str::<serde_json::Value>(text) {
        Ok(other) => {
            let kind = match other {
                serde_json::Value::Null => "null",
                serde_json::Value::Bool(_) => "a boolean",
                serde_json::Value::Number(_) => "a number",
                serde_json::Value::String(_) => "a string",
                serde_json::Value::Array(_) => "an array",
                serde_json::Value::Object(_) => "an object",
            };
            DecodeError::new(
                reason::WRONG_TYPE,
                format!(
                    "the value is {kind}; expected a JSON object with the fields of {}",
                    descriptor.full_name()
                ),
            )
        }
        Err(error) => {
            let message = format!(
                "not valid JSON: {error}; expected a JSON object with the fields of {}",
                descriptor.full_name()
            );
            DecodeError::new(reason::NOT_JSON, message)
        }
    }
}
