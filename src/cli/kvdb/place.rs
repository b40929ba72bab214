//! Determines the store endpoints and the agent label from the options. Options that are not given are read from the running agent.
//!
//! There is no default label, because values put under the label of another agent would have no effect.

use std::{net::IpAddr, time::Duration};

use tokio::time::timeout;

use super::KvdbArgs;
use crate::cli::{
    answers::{self, Identity},
    connection::{Agent, ConnectionArgs},
    failure::Failure,
};

/// Timeout for the request to the agent, which responds from memory.
const TIME_LIMIT: Duration = Duration::from_secs(5);
/// Default address of the embedded store.
const DEFAULT_ENDPOINTS: &str = "127.0.0.1:2379";

/// Store endpoints and agent label.
pub(super) struct Place {
    /// Endpoints of the store, separated by commas.
    pub endpoints: String,
    /// Label of the agent to which keys without a leading `/` belong. Can be empty if every key starts with `/`.
    pub label: String,
}

impl Place {
    /// Reads the endpoints and the label from the options. Requests missing endpoints or a missing label from the running agent.
    pub async fn find(args: &KvdbArgs, key: Option<&str>, connection: &ConnectionArgs) -> Result<Self, Failure> {
        let is_short = key.is_some_and(|key| !key.starts_with('/'));
        let (endpoints, label) = (given(args.etcd_endpoints.as_ref()), given(args.microservice_label.as_ref()));
        if endpoints.is_some() && (label.is_some() || !is_short) {
            return Ok(Place {
                endpoints: endpoints.unwrap_or_default(),
                label: label.unwrap_or_default(),
            });
        }
        let identity = ask(connection).await;
        let label = match (label, &identity) {
            (Some(label), _) => label,
            (None, Ok(identity)) => identity.label.clone(),
            (None, Err(_)) if !is_short => String::new(),
            (None, Err(failure)) => {
                let key = key.unwrap_or_default();
                return Err(
                    Failure::new(format!("cannot determine which agent {key} belongs to: {}", failure.message()))
                        .next("set the label of the agent with --microservice-label, or specify the full key: /vnf-agent/LABEL/config/…"),
                );
            }
        };
        let endpoints = match (endpoints, identity) {
            (Some(endpoints), _) => endpoints,
            (None, Ok(identity)) => reachable(&identity, connection)?,
            (None, Err(_)) => DEFAULT_ENDPOINTS.to_owned(),
        };
        Ok(Place { endpoints, label })
    }
}

/// Returns the trimmed text of an option. An empty flag or variable counts as unset.
fn given(text: Option<&String>) -> Option<String> {
    text.map(|text| text.trim().to_owned()).filter(|text| !text.is_empty())
}

async fn ask(connection: &ConnectionArgs) -> Result<Identity, Failure> {
    let agent = Agent::new(connection)?;
    let limit = TIME_LIMIT.min(connection.timeout);
    let late = || {
        Failure::new(format!(
            "the agent at {} did not respond within {} s",
            agent.url(),
            limit.as_secs_f32()
        ))
    };
    timeout(limit, answers::identity(&agent)).await.unwrap_or_else(|_| Err(late()))
}

/// Returns the endpoints of the agent's store. Fails if they are loopback addresses of another machine.
fn reachable(identity: &Identity, connection: &ConnectionArgs) -> Result<String, Failure> {
    let endpoints = identity.store.endpoints.join(",");
    if !connection.is_local() && identity.store.endpoints.iter().any(|url| is_loopback(url)) {
        return Err(Failure::new(format!(
            "the agent's store listens on {endpoints}, which is reachable only from the agent's machine"
        ))
        .next("set a reachable address with --etcd-endpoints"));
    }
    Ok(endpoints)
}

/// Returns whether a URL or `host:port` has a loopback or unspecified address.
pub(super) fn is_loopback(url: &str) -> bool {
    let authority = url.split_once("://").map_or(url, |(_, rest)| rest);
    let host = authority.rsplit_once(':').map_or(authority, |(host, _)| host);
    let host = host.trim_matches(['[', ']']);
    host == "localhost"
        || host
            .parse::<IpAddr>()
            .is_ok_and(|address| address.is_loopback() || address.is_unspecified())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_of_this_machine_are_recognized() {
        for url in ["127.0.0.1:2379", "http://localhost:2379", "https://[::1]:2379", "0.0.0.0:2379"] {
            assert!(is_loopback(url), "{url}");
        }
        for url in ["10.0.0.1:2379", "https://etcd.example:2379", "[fd00::1]:2379"] {
            assert!(!is_loopback(url), "{url}");
        }
    }
}
