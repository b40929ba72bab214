//! Messages to publish. The agent's `report` module creates them, and the publisher encodes them later.

use models::{
    json,
    proto::{
        ligato::{kvscheduler::ValueStatus, linux::interfaces::InterfaceState},
        netns_agent::{Microservice, NamespaceStatus},
        status::{AgentStatus, PluginStatus},
    },
};
use prost::Message;

/// Key of the agent's health, without the agent prefix.
pub const AGENT_HEALTH: &str = "check/status/v1/agent";
/// Prefix of the keys that contain the health of single parts of the agent, without the agent prefix.
pub const PART_HEALTH: &str = "check/status/v1/plugin/";

/// A message to publish.
#[derive(Clone, PartialEq, Debug)]
pub enum Published {
    /// Status of a value, published below `config-status/`.
    Value(Box<ValueStatus>),
    /// State of a link, published below `status/`.
    Link(InterfaceState),
    /// Status of a namespace reference, published below `status/`.
    Namespace(NamespaceStatus),
    /// State of a microservice's container, published below `status/`.
    Microservice(Microservice),
    /// Health of the whole agent, published under [`AGENT_HEALTH`].
    Agent(AgentStatus),
    /// Health of one part of the agent, published below [`PART_HEALTH`].
    Part(PluginStatus),
}

impl Published {
    /// Encodes the message as JSON.
    pub fn json(&self) -> String {
        match self {
            Published::Value(message) => json::encode(message.as_ref()),
            Published::Link(message) => json::encode(message),
            Published::Namespace(message) => json::encode(message),
            Published::Microservice(message) => json::encode(message),
            Published::Agent(message) => json::encode(message),
            Published::Part(message) => json::encode(message),
        }
    }

    /// Returns the length of the message in binary form, in bytes.
    pub(super) fn encoded_len(&self) -> usize {
        match self {
            Published::Value(message) => message.encoded_len(),
            Published::Link(message) => message.encoded_len(),
            Published::Namespace(message) => message.encoded_len(),
            Published::Microservice(message) => message.encoded_len(),
            Published::Agent(message) => message.encoded_len(),
            Published::Part(message) => message.encoded_len(),
        }
    }
}
