//! The messages that are published, before they become text.
//!
//! Owns their forms. Must never know how they come about: that is the agent's `report`. Start reading at [`Published`].

use models::{
    json,
    proto::{
        ligato::{kvscheduler::ValueStatus, linux::interfaces::InterfaceState},
        netns_agent::{Microservice, NamespaceStatus},
        status::{AgentStatus, PluginStatus},
    },
};
use prost::Message;

/// Key of the health of the agent, after its prefix.
pub const AGENT_HEALTH: &str = "check/status/v1/agent";
/// What the keys of the health of its parts begin with.
pub const PART_HEALTH: &str = "check/status/v1/plugin/";

/// Something to be published.
#[derive(Clone, PartialEq, Debug)]
pub enum Published {
    /// Below `config-status/`.
    Value(Box<ValueStatus>),
    /// A link, below `status/`.
    Link(InterfaceState),
    /// A reference to a namespace, below `status/`.
    Namespace(NamespaceStatus),
    /// A container, below `status/`.
    Microservice(Microservice),
    /// Health of the agent.
    Agent(AgentStatus),
    /// Health of a part.
    Part(PluginStatus),
}

impl Published {
    /// Its JSON form.
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

    /// Length of its binary form in bytes.
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
