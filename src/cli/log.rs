//! `netns-agent log`: levels of the agent's log, while it runs.
//!
//! Owns nothing but the layout. Start reading at [`run`].

use clap::Subcommand;
use hyper::Method;
use serde::Deserialize;
use serde_json::Value as Json;

use super::{
    answers,
    connection::Agent,
    failure::{Failure, Outcome},
    output::{Format, Output, Table, visible},
};

/// Sub-commands of `log`.
#[derive(Subcommand, Debug)]
pub enum LogCommand {
    /// Loggers and their levels
    #[command(visible_alias = "ls")]
    List {
        /// Only this one
        #[arg(value_name = "LOGGER")]
        logger: Option<String>,
    },
    /// Give a logger a level, until the agent ends
    Set {
        /// A part of the agent, any other target of its log, or default
        #[arg(value_name = "LOGGER")]
        logger: String,
        /// trace, debug, info, warn or error
        #[arg(value_name = "LEVEL")]
        level: String,
    },
}

#[derive(Deserialize)]
struct Logger {
    logger: String,
    level: String,
}

/// Does it.
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
        all.retain(|logger| name_of(logger) == only);
        if all.is_empty() {
            return Err(Failure::new(format!("there is no logger {only:?}")).next("`netns-agent log list` lists those that there are"));
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

async fn set(logger: &str, level: &str, agent: &Agent, output: &Output) -> Outcome {
    let part = |text: &str| form_urlencoded::byte_serialize(text.as_bytes()).collect::<String>();
    let target = format!("/log/{}/{}", part(logger), part(level));
    let answer: Json = agent.json(&target, agent.send(Method::PUT, &target, "").await?)?;
    if output.is_document() {
        output.document(&answer)?;
        return Ok(0);
    }
    let set: Logger = serde_json::from_value(answer).map_err(|error| Failure::new(format!("the answer is not understood: {error}")))?;
    output.line(&format!("{} logs {}", visible(&set.logger), visible(&set.level)))?;
    Ok(0)
}
