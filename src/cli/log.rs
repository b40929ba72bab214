//! `netns-agent log`: lists and sets the log levels of the running agent.

use clap::Subcommand;
use hyper::Method;
use serde::Deserialize;
use serde_json::Value as Json;

use super::{
    answers,
    connection::Agent,
    failure::{Failure, Outcome, remark},
    output::{Format, Output, Table, visible},
};
use crate::config::suggest::did_you_mean;

/// Subcommands of `log`.
#[derive(Subcommand, Debug)]
pub enum LogCommand {
    /// List loggers and their levels
    #[command(visible_alias = "ls")]
    List {
        /// Show only this logger
        #[arg(value_name = "LOGGER")]
        logger: Option<String>,
    },
    /// Set the level of a logger until the agent exits
    Set {
        /// Logger from `log list`, any other log target, or default
        #[arg(value_name = "LOGGER")]
        logger: String,
        /// trace, debug, info, warn or error
        #[arg(value_name = "LEVEL", value_parser = parse_level)]
        level: String,
    },
}

#[derive(Deserialize)]
struct Logger {
    logger: String,
    level: String,
}

/// Level names that the agent accepts. The last three are aliases of `warn` and `error`.
const LEVELS: [&str; 8] = ["trace", "debug", "info", "warn", "error", "warning", "fatal", "panic"];

fn parse_level(text: &str) -> Result<String, String> {
    let lower = text.to_lowercase();
    match LEVELS.contains(&lower.as_str()) {
        true => Ok(lower),
        false => Err(format!(
            "unknown level {text:?}{} (levels are: {})",
            did_you_mean(text, LEVELS),
            LEVELS[..5].join(", ")
        )),
    }
}

/// Runs a subcommand of `log`.
pub async fn run(command: &LogCommand, agent: &Agent, output: &Output) -> Outcome {
    match command {
        LogCommand::List { logger } => list(logger.as_deref(), agent, output).await,
        LogCommand::Set { logger, level } => set(logger, level, agent, output).await,
    }
}

async fn list(only: Option<&str>, agent: &Agent, output: &Output) -> Outcome {
    let mut all: Vec<Json> = answers::list(agent, "/log/list").await?;
    let name_of = |json: &Json| json.get("logger").and_then(Json::as_str).unwrap_or_default().to_owned();
    if let Some(only) = only {
        let names: Vec<String> = all.iter().map(name_of).collect();
        let suggestion = did_you_mean(only, names.iter().map(String::as_str));
        all.retain(|logger| name_of(logger) == only);
        if all.is_empty() {
            return Err(unknown(only, &suggestion));
        }
    }
    match output.format {
        Format::Json | Format::Yaml => output.document(&all)?,
        Format::Name => all.iter().try_for_each(|logger| output.line(&visible(&name_of(logger))))?,
        Format::Table | Format::Wide => {
            let mut table = Table::new(["LOGGER", "LEVEL"]);
            for logger in all.into_iter().filter_map(|json| serde_json::from_value::<Logger>(json).ok()) {
                table.row([logger.logger.into(), logger.level.into()]);
            }
            output.table(&table)?;
        }
    }
    Ok(0)
}

fn unknown(logger: &str, suggestion: &str) -> Failure {
    Failure::new(format!("unknown logger {logger:?}{suggestion}")).next("`netns-agent log list` lists all loggers")
}

async fn set(logger: &str, level: &str, agent: &Agent, output: &Output) -> Outcome {
    let known: Vec<Logger> = answers::list(agent, "/log/list").await?;
    if !known.iter().any(|known| known.logger == logger) {
        let suggestion = did_you_mean(logger, known.iter().map(|known| known.logger.as_str()));
        if !suggestion.is_empty() {
            return Err(unknown(logger, &suggestion));
        }
        remark(&format!(
            "unknown logger {logger:?}: the level applies only to a log target of this name"
        ));
    }
    let part = |text: &str| form_urlencoded::byte_serialize(text.as_bytes()).collect::<String>();
    let target = format!("/log/{}/{}", part(logger), part(level));
    let answer: Json = agent.json(&target, agent.send(Method::PUT, &target, "").await?)?;
    if output.is_document() {
        output.document(&answer)?;
        return Ok(0);
    }
    let set: Logger = serde_json::from_value(answer).map_err(|error| Failure::new(format!("unexpected response: {error}")))?;
    output.line(&format!("{} set to level {}", visible(&set.logger), visible(&set.level)))?;
    Ok(0)
}
