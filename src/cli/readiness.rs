//! Readiness of the agent: until it has read its store, and while it cannot reach it, its lists may be incomplete.
//!
//! Start at [`ask`].

use std::collections::BTreeMap;

use hyper::{Method, StatusCode};
use serde::Deserialize;
use serde_json::Value as Json;

use super::{
    connection::Agent,
    failure::{FAILED, Failure},
};

/// Answer of `/readiness`.
#[derive(Deserialize, Default)]
#[serde(default)]
pub struct Health {
    /// Number of `ligato.status.OperationalState`.
    pub state: i32,
    /// Seconds since the Unix epoch.
    pub start_time: u64,
    /// Parts of the agent.
    #[serde(rename = "PluginStatus")]
    pub parts: BTreeMap<String, Part>,
    /// Parts that everything else works without.
    #[serde(rename = "NonFatalPlugins")]
    pub dispensable: Option<Vec<String>>,
}

/// Health of one part of the agent.
#[derive(Deserialize, Default)]
#[serde(default)]
pub struct Part {
    /// Number of `ligato.status.OperationalState`.
    pub state: i32,
    /// What is wrong.
    pub error: String,
}

impl Health {
    /// Returns whether everything else works without this part.
    pub fn is_dispensable(&self, part: &str) -> bool {
        self.dispensable.iter().flatten().any(|other| other == part)
    }
}

/// Readiness of the agent, with the health of its parts.
pub struct Readiness {
    /// The agent has acted upon everything that was desired at its start, and has its store.
    pub ready: bool,
    /// Answer of the agent.
    pub answer: Json,
}

/// Asks the agent.
pub async fn ask(agent: &Agent) -> Result<Readiness, Failure> {
    let answer = agent.send(Method::GET, "/readiness", "").await?;
    let ready = answer.status == StatusCode::OK;
    // An agent that is not ready answers with the same body and another status; any other error has another body.
    let answer = match serde_json::from_slice(&answer.body) {
        Ok(Json::Object(members)) if members.contains_key("start_time") => Json::Object(members),
        _ => agent.json("/readiness", answer)?,
    };
    Ok(Readiness { ready, answer })
}

impl Readiness {
    /// The answer by its members.
    pub fn health(&self) -> Health {
        serde_json::from_value(self.answer.clone()).unwrap_or_default()
    }

    /// Why the agent may not know all that is desired.
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
            true => "the agent has not acted yet upon all that was desired when it started".to_owned(),
            false => format!("the agent is not ready: {}", broken.join("; ")),
        })
    }

    /// Fails if the agent cannot know the answer to a question.
    pub fn refuse_to_guess(&self, question: &str) -> Result<(), Failure> {
        match self.problem() {
            None => Ok(()),
            Some(problem) => Err(Failure::new(format!("it is not known {question}: {problem}"))
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
    fn only_parts_that_are_needed_make_an_answer_uncertain() {
        let parts = json!({"etcd": {"state": 2, "error": "no route"}, "docker": {"state": 2, "error": "absent"}, "VPPAgent": {}});
        let answer = json!({"start_time": 1, "PluginStatus": parts, "NonFatalPlugins": ["docker"]});
        let lost = Readiness {
            ready: false,
            answer: answer.clone(),
        };
        assert_eq!(lost.problem().as_deref(), Some("the agent is not ready: etcd: no route"));
        lost.refuse_to_guess("what is desired").expect_err("it cannot be known");
        assert_eq!(Readiness { ready: true, answer }.problem(), None);
        let starting = Readiness {
            ready: false,
            answer: json!({"start_time": 1}),
        };
        assert!(starting.problem().is_some());
    }
}
