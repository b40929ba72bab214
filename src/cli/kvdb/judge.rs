//! Checks of a key and a value before they are put: the store takes everything, and no agent may read it.
//!
//! Start at [`check_key`] and [`check_value`].

use models::{
    Model,
    key::{ALL_AGENTS_PREFIX, CONFIG_PREFIX, check_label},
    registry::{MODELS, model_of_key},
};

use crate::{
    cli::{
        failure::Failure,
        names::{self, Wanted},
    },
    config::suggest::closest,
};

/// Key that accepts removals that the agent holds; it takes any value.
const ACCEPT_REMOVALS: &str = "config/removals/accept";
const NEXT: &str = "nothing was put; --force puts it all the same";

/// Refuses a key that no agent reads.
pub(super) fn check_key(key: &str) -> Result<(), Failure> {
    let wrong = |why: &str| Failure::new(format!("no agent reads {key}: {why}{}", suggestion(key))).next(NEXT);
    let Some((label, below)) = split(key) else {
        return Err(wrong("keys of agents begin with /vnf-agent/LABEL/config/"));
    };
    check_label(label).map_err(|error| wrong(&error.to_string()))?;
    if model_of_key(below).is_some() || below == ACCEPT_REMOVALS {
        return Ok(());
    }
    Err(match below.split('/').next().unwrap_or_default() {
        "config" if below.starts_with("config/vpp/") => wrong("it belongs to a model of VPP, and the agent manages Linux networking only"),
        "config" => wrong("no model has such keys (`netns-agent model list` shows how keys begin)"),
        "config-status" | "status" | "check" | "holder" => wrong("the agent writes such keys itself"),
        first => match Wanted::parse(below) {
            Ok(Wanted::Name(_) | Wanted::Kind(_)) => wrong("a kind and a name are needed, as in interface/NAME"),
            _ => wrong(&format!("there is no kind {first:?}")),
        },
    })
}

/// Refuses a value that the agent would only report as INVALID.
pub(super) fn check_value(key: &str, text: &str) -> Result<(), Failure> {
    let Some((_, below)) = split(key).filter(|(_, below)| model_of_key(below).is_some()) else {
        return Ok(());
    };
    let wrong = |words: String| Failure::new(format!("{key}: {words}")).next(NEXT);
    let model = Model::decode(below, text.as_bytes()).map_err(|error| wrong(error.to_string()))?;
    model.validate().map_err(|error| wrong(error.to_string()))
}

/// Returns `; did you mean KEY?` if a key of this form resembles one that an agent reads.
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

/// The key with the beginning of the model that it resembles most.
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

/// Label, and what follows it.
fn split(key: &str) -> Option<(&str, &str)> {
    key.strip_prefix(ALL_AGENTS_PREFIX)?.split_once('/')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_that_no_agent_reads_are_refused() {
        for (key, words) in [
            (
                "/vnf-agent/x/intrface/zz",
                "there is no kind \"intrface\"; did you mean interface/zz?",
            ),
            ("/vnf-agent/x/left", "a kind and a name are needed"),
            (
                "/vnf-agent/x/config/linux/interface/v2/interface/zz",
                "no model has such keys (`netns-agent model list` shows how keys begin); did you mean config/linux/interfaces/v2/interface/zz?",
            ),
            ("/vnf-agent/x/config/vpp/v2/interfaces/a", "a model of VPP"),
            (
                "/vnf-agent/x/config-status/linux/l3/v2/arp/a/b",
                "the agent writes such keys itself",
            ),
            ("/vnf-agent/a b/config/linux/l3/v2/arp/a/10.0.0.1", "white space"),
            ("/other/key", "keys of agents begin with /vnf-agent/LABEL/config/"),
        ] {
            let failure = check_key(key).expect_err(key);
            assert!(failure.message().contains(words), "{failure}");
        }
        check_key("/vnf-agent/x/config/linux/interfaces/v2/interface/left").expect("a key of a model");
        check_key("/vnf-agent/x/config/removals/accept").expect("a key that the agent reads");
    }

    #[test]
    fn values_that_an_agent_could_not_use_are_refused() {
        let key = "/vnf-agent/x/config/linux/interfaces/v2/interface/left";
        check_value(key, r#"{"name":"left","type":"DUMMY"}"#).expect("usable");
        let failure = check_value(key, r#"{"nme":"left"}"#).expect_err("an unknown field");
        assert!(failure.message().contains("nme"), "{failure}");
        let failure = check_value(key, r#"{"name":"right","type":"DUMMY"}"#).expect_err("another key");
        assert!(failure.message().contains("interface/right"), "{failure}");
    }
}
