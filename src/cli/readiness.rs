//! Reads the readiness of the agent. An agent that is not ready can return incomplete lists, because it has not read its store yet
//! or cannot reach it.

use std::collections::BTreeMap;

use hyper::{Method, StatusCode};
use serde::Deserialize;
use serde_json::Value as Json;

use super::{
    connection::Agent,
    failure::{FAILED, Failure},
};

/// Response of `/readiness`.
#[derive(Deserialize, Default)]
#[serde(default)]
pub struct Health {
    /// State of the agent, as a number of `ligato.status.OperationalState`.
    pub state: i32,
    /// Start time of the agent, in seconds since the Unix epoch.
    pub start_time: u64,
    /// Health of each part of the agent, by name of the part.
    #[serde(rename = "PluginStatus")]
    pub parts: BTreeMap<String, Part>,
    /// Names of the parts that the agent can run without.
    #[serde(rename = "NonFatalPlugins")]
    pub dispensable: Option<Vec<String>>,
}

/// Health of one part of the agent.
#[derive(Deserialize, Default)]
#[serde(default)]
pub struct Part {
    /// State of the part, as a number of `ligato.status.OperationalState`.
    pub state: i32,
    /// Error message. Empty if the part has no error.
    pub error: String,
}

impl Health {
    /// Returns whether the agent can run without this part.
    pub fn is_dispensable(&self, part: &str) -> bool {
        self.dispensable.iter().flatten().any(|other| other == part)
    }
}

/// Readiness of the agent, with the health of its parts.
pub struct Readiness {
    /// True if the agent is connected to its store and has applied the values that were desired when it started.
    pub ready: bool,
    /// Response of `/readiness`, as JSON.
    pub answer: Json,
}

/// Reads the readiness of the agent.
pub async fn ask(agent: &Agent) -> Result<Readiness, Failure> {
    let answer = agent.send(Method::GET, "/readiness", "").await?;
    let ready = answer.status == StatusCode::OK;
    // An agent that is not ready sends the same body with an error status. The body of any other error is different.
    let answer = match serde_json::from_slice(&answer.body) {
        Ok(Json::Object(members)) if members.contains_key("start_time") => Json::Object(members),
        _ => agent.json("/readiness", answer)?,
    };
    Ok(Readiness { ready, answer })
}

impl Readiness {
    /// Returns the parsed response, or default values if it cannot be parsed.
    pub fn health(&self) -> Health {
        serde_json::from_value(self.answer.clone()).unwrap_or_default()
    }

    /// Returns the reason why the agent may not have read all desired values, or `None` if the agent is ready.
    pub fn problem(&self) -> Option<String> {
        if self.ready {
            return None;
        }
        let health = self.health();
        let broken = health
            .parts
            .iter()
            .filter(|(name, part)| part.state > 1 && !health.is_dispensable(name))
            .map(|(name, part)| format!("{name}: {}", part.error));
        let broken: Vec<String> = broken.collect();
        Some(match broken.is_empty() {
            true => "the agent is still applying the values that were desired when it started".to_owned(),
            false => format!("the agent is not ready: {}", broken.join("; ")),
        })
    }

    /// Fails if the agent is not ready. `question` completes the message "cannot determine …".
    pub fn refuse_to_guess(&self, question: &str) -> Result<(), Failure> {
        match self.problem() {
            None => Ok(()),
            Some(problem) => Err(Failure::new(format!("cannot determine {question}: {problem}"))
                .next("`netns-agent status` shows the parts of the agent; `netns-agent doctor` checks the machine")
                .code(FAILED)),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn only_essential_parts_make_the_agent_not_ready() {
        let parts = json!({"etcd": {"state": 2, "error": "no route"}, "docker": {"state": 2, "error": "absent"}, "VPPAgent": {}});
        let answer = json!({"start_time": 1, "PluginStatus": parts, "NonFatalPlugins": ["docker"]});
        let lost = Readiness {
            ready: false,
            answer: answer.clone(),
        };
        assert_eq!(lost.problem().as_deref(), Some("the agent is not ready: etcd: no route"));
        lost.refuse_to_guess("the desired values").expect_err("the agent is not ready");
        assert_eq!(Readiness { ready: true, answer }.problem(), None);
        let starting = Readiness {
            ready: false,
            answer: json!({"start_time": 1}),
        };
        assert!(starting.problem().is_some());
    }
}
