//! Validation of the log filter, such as `info,netns_agent::sources=debug`.
//!
//! `Targets` treats every unknown word as a target name, so a mistyped level would switch off the whole log. This module therefore
//! checks levels and targets first.

use tracing_subscriber::filter::Targets;

use super::{ConfigError, Given, Origin, suggest::did_you_mean};
use crate::telemetry::LOGGERS;

/// Log level names, and `off`.
const LEVELS: [&str; 6] = ["error", "warn", "info", "debug", "trace", "off"];
/// Names of the crates that log: the agent and its libraries.
const CRATES: [&str; 16] = [
    "netns_agent",
    "axum",
    "bollard",
    "etcd_client",
    "h2",
    "hyper",
    "hyper_util",
    "mio",
    "netlink_proto",
    "redb",
    "rtnetlink",
    "rustls",
    "tokio",
    "tokio_rustls",
    "tonic",
    "tower",
];
/// Modules of the agent that have log output, but no log level that can be changed at run time.
const OTHER_MODULES: [&str; 2] = ["desired", "telemetry"];
const ACCEPTED: &str = "expected error, warn, info, debug, trace, or a list such as info,netns_agent::sources=debug";

/// Validates the filter, and expands short logger names, such as `engine` to `netns_agent::engine`.
pub(super) fn filter(given: Given) -> Result<String, ConfigError> {
    // Other programs may read the same RUST_LOG, so it may contain targets that this agent does not have.
    let is_shared = matches!(given.origin, Origin::Environment(_));
    let directives = given.value.split(',').map(str::trim).filter(|directive| !directive.is_empty());
    let checked: Result<Vec<Option<String>>, String> = directives.map(|text| directive(text, is_shared)).collect();
    let wrong = |problem: String| given.wrong(format!("{:?}: {problem}", given.value), ACCEPTED);
    let text = checked.map_err(wrong)?.into_iter().flatten().collect::<Vec<_>>().join(",");
    text.parse::<Targets>().map_err(|error| wrong(error.to_string()))?;
    Ok(text)
}

/// Returns the directive with the full name of its target; `None` if the directive is meant for other programs.
fn directive(text: &str, is_shared: bool) -> Result<Option<String>, String> {
    if text.contains(['[', '{']) {
        return match is_shared {
            true => Ok(None),
            false => Err(format!("{text:?} filters by span or field, and the agent logs none")),
        };
    }
    let Some((target, level)) = text.split_once('=') else {
        let known = LEVELS.into_iter().chain(LOGGERS.iter().copied());
        return match is_level(text) {
            true => Ok(Some(text.to_owned())),
            false if is_target(text) => Ok(Some(full_name(text))),
            false => Err(format!("unknown level {text:?}{}", did_you_mean(text, known))),
        };
    };
    if !is_level(level) {
        return Err(format!("unknown level {level:?}{}", did_you_mean(level, LEVELS)));
    }
    if !is_target(target) {
        let known = LOGGERS.iter().copied().chain(CRATES);
        let last = target.rsplit("::").next().unwrap_or(target);
        let suggestion = did_you_mean(last, known);
        if !is_shared || !suggestion.is_empty() || target.starts_with("netns_agent") {
            return Err(format!("unknown log target {target:?}{suggestion}"));
        }
    }
    Ok(Some(format!("{}={level}", full_name(target))))
}

fn is_level(text: &str) -> bool {
    // `Targets` accepts levels as numbers, too.
    LEVELS.iter().any(|level| level.eq_ignore_ascii_case(text)) || matches!(text, "0" | "1" | "2" | "3" | "4" | "5")
}

fn is_target(target: &str) -> bool {
    let mut parts = target.split("::");
    match (parts.next().unwrap_or_default(), parts.next()) {
        ("netns_agent", Some(module)) => LOGGERS.contains(&module) || OTHER_MODULES.contains(&module),
        (first, None) => LOGGERS.contains(&first) || CRATES.contains(&first),
        (first, Some(_)) => CRATES.contains(&first),
    }
}

fn full_name(target: &str) -> String {
    match LOGGERS.contains(&target) {
        true => format!("netns_agent::{target}"),
        false => target.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Origin;

    fn checked_from(origin: Origin, text: &str) -> Result<String, String> {
        let value = text.to_owned();
        filter(Given { value, origin }).map_err(|error| error.to_string())
    }

    fn checked(text: &str) -> Result<String, String> {
        checked_from(Origin::Flag("log"), text)
    }

    #[test]
    fn existing_levels_and_targets_are_accepted() {
        for (text, filter) in [
            ("info", "info"),
            ("WARN", "WARN"),
            ("off", "off"),
            ("info, netns_agent::sources=debug", "info,netns_agent::sources=debug"),
            ("warn,engine=trace", "warn,netns_agent::engine=trace"),
            ("info,h2=warn", "info,h2=warn"),
            ("netns_agent=debug", "netns_agent=debug"),
            ("info,netns_agent::signals::docker=debug", "info,netns_agent::signals::docker=debug"),
        ] {
            assert_eq!(checked(text).as_deref(), Ok(filter), "{text}");
        }
    }

    #[test]
    fn the_environment_may_name_targets_of_other_programs() {
        let environment = || Origin::Environment("RUST_LOG".to_owned());
        assert_eq!(checked_from(environment(), "info,sqlx=warn").as_deref(), Ok("info,sqlx=warn"));
        for text in ["sqlx", "info,netns_agnet=debug", "info,netns_agent::nothing=debug"] {
            checked_from(environment(), text).expect_err(text);
        }
        assert_eq!(checked_from(environment(), "info,[request{id=7}]=debug").as_deref(), Ok("info"));
        assert!(checked("info,sqlx=warn").expect_err("a flag").contains("log target \"sqlx\""));
        assert!(checked("info,[request]=debug").expect_err("a flag").contains("by span or field"));
    }

    #[test]
    fn mistyped_levels_and_targets_are_rejected_with_a_suggestion() {
        for (text, words) in [
            ("inof", "unknown level \"inof\"; did you mean info?"),
            (
                "info,netns_agent::surces=debug",
                "unknown log target \"netns_agent::surces\"; did you mean sources?",
            ),
            ("engin=debug", "unknown log target \"engin\"; did you mean engine?"),
            ("netns_agent=loud", "unknown level \"loud\""),
            ("engine=debgu", "unknown level \"debgu\"; did you mean debug?"),
        ] {
            let error = checked(text).expect_err(text);
            assert!(error.contains(words) && error.contains("--log"), "{text}: {error}");
        }
    }
}
