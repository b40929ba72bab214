//! Validates keys and values before they are put, because the store would also accept keys that no agent reads.

use models::{
    Model,
    key::{ALL_AGENTS_PREFIX, CONFIG_PREFIX, check_label},
    registry::{MODELS, model_of_key},
};

use crate::{
    cli::{
        failure::Failure,
        names::{self, Requested},
    },
    config::suggest::closest,
};

/// Key for accepting the removals that are on hold. A client puts it with an arbitrary value.
const ACCEPT_REMOVALS: &str = "config/removals/accept";
const NEXT: &str = "nothing was written; use --force to put the key anyway";

/// Rejects a key that no agent reads.
pub(super) fn check_key(key: &str) -> Result<(), Failure> {
    let wrong = |why: &str| Failure::new(format!("no agent reads {key}: {why}{}", suggestion(key))).next(NEXT);
    let Some((label, below)) = split(key) else {
        return Err(wrong("agent keys begin with /vnf-agent/LABEL/config/"));
    };
    check_label(label).map_err(|error| wrong(&error.to_string()))?;
    if model_of_key(below).is_some() || below == ACCEPT_REMOVALS {
        return Ok(());
    }
    Err(match below.split('/').next().unwrap_or_default() {
        "config" if below.starts_with("config/vpp/") => wrong("VPP models are not supported"),
        "config" => wrong("no model has this key prefix (`netns-agent model list` shows all prefixes)"),
        "config-status" | "status" | "check" | "holder" => wrong("only the agent writes keys with this prefix"),
        first => match Requested::parse(below) {
            Ok(Requested::Name(_) | Requested::Kind(_)) => wrong("expected a kind and a name, such as interface/NAME"),
            _ => wrong(&format!("unknown kind {first:?}")),
        },
    })
}

/// Rejects a value that the agent would report as INVALID.
pub(super) fn check_value(key: &str, text: &str) -> Result<(), Failure> {
    let Some((_, below)) = split(key).filter(|(_, below)| model_of_key(below).is_some()) else {
        return Ok(());
    };
    let wrong = |words: String| Failure::new(format!("{key}: {words}")).next(NEXT);
    let model = Model::decode(below, text.as_bytes()).map_err(|error| wrong(error.to_string()))?;
    model.validate().map_err(|error| wrong(error.to_string()))
}

/// Returns `; did you mean KEY?` if a key resembles one that an agent reads, and an empty string otherwise.
pub(super) fn suggestion(key: &str) -> String {
    let Some((_, below)) = split(key).filter(|(_, below)| model_of_key(below).is_none()) else {
        return String::new();
    };
    let found = match below.starts_with(CONFIG_PREFIX) {
        true => similar_prefix(below),
        false => {
            let (kind, name) = below.split_once('/').unwrap_or((below, "NAME"));
            closest(kind, names::kinds()).map(|kind| format!("{kind}/{name}"))
        }
    };
    found.map_or_else(String::new, |key| format!("; did you mean {key}?"))
}

/// Returns the key with its prefix replaced by the most similar key prefix of any model.
fn similar_prefix(below: &str) -> Option<String> {
    let beginnings = MODELS.iter().filter_map(|model| {
        let parts = model.key_prefix.matches('/').count();
        let end = below.match_indices('/').nth(parts - 1)?.0;
        let (beginning, name) = below.split_at(end + 1);
        closest(beginning, [model.key_prefix]).map(|prefix| (prefix, name))
    });
    let nearest = beginnings.min_by_key(|(prefix, name)| prefix.len().abs_diff(below.len() - name.len()));
    nearest.map(|(prefix, name)| format!("{prefix}{name}"))
}

/// Splits a full key into the agent's label and the text after the label.
fn split(key: &str) -> Option<(&str, &str)> {
    key.strip_prefix(ALL_AGENTS_PREFIX)?.split_once('/')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_that_no_agent_reads_are_rejected() {
        for (key, words) in [
            (
                "/vnf-agent/x/intrface/zz",
                ": unknown kind \"intrface\"; did you mean interface/zz?",
            ),
            ("/vnf-agent/x/left", "expected a kind and a name"),
            (
                "/vnf-agent/x/config/linux/interface/v2/interface/zz",
                "no model has this key prefix (`netns-agent model list` shows all prefixes); did you mean config/linux/interfaces/v2/interface/zz?",
            ),
            ("/vnf-agent/x/config/vpp/v2/interfaces/a", "VPP models are not supported"),
            (
                "/vnf-agent/x/config-status/linux/l3/v2/arp/a/b",
                "only the agent writes keys with this prefix",
            ),
            ("/vnf-agent/a b/config/linux/l3/v2/arp/a/10.0.0.1", "whitespace"),
            ("/other/key", "agent keys begin with /vnf-agent/LABEL/config/"),
        ] {
            let failure = check_key(key).expect_err(key);
            assert!(failure.message().contains(words), "{failure}");
        }
        check_key("/vnf-agent/x/config/linux/interfaces/v2/interface/left").expect("a key of a model");
        check_key("/vnf-agent/x/config/removals/accept").expect("a key that the agent reads");
    }

    #[test]
    fn invalid_values_are_rejected() {
        let key = "/vnf-agent/x/config/linux/interfaces/v2/interface/left";
        check_value(key, r#"{"name":"left","type":"DUMMY"}"#).expect("usable");
        let failure = check_value(key, r#"{"nme":"left"}"#).expect_err("an unknown field");
        assert!(failure.message().contains("nme"), "{failure}");
        let failure = check_value(key, r#"{"name":"right","type":"DUMMY"}"#).expect_err("another key");
        assert!(failure.message().contains("interface/right"), "{failure}");
    }
}
