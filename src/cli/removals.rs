//! `netns-agent removals`: removals that the agent has put on hold because the store may have lost its contents.

use clap::Subcommand;
use hyper::Method;
use serde::Deserialize;
use serde_json::Value as Json;

use super::{
    connection::Agent,
    failure::{Failure, Outcome},
    output::{Format, Output, Table, visible},
};

/// Subcommands of `removals`.
#[derive(Subcommand, Debug)]
pub enum RemovalsCommand {
    /// List values and orphans whose removal is on hold
    #[command(visible_alias = "ls")]
    List,
    /// Delete the values and orphans whose removal is on hold
    Accept,
}

#[derive(Deserialize)]
struct Held {
    held: bool,
    evidence: String,
    values: Vec<String>,
    orphans: Vec<String>,
}

#[derive(Deserialize)]
struct Accepted {
    values: usize,
    orphans: usize,
}

/// Runs a subcommand of `removals`.
pub async fn run(command: &RemovalsCommand, agent: &Agent, output: &Output) -> Outcome {
    match command {
        RemovalsCommand::List => list(agent, output).await,
        RemovalsCommand::Accept => accept(agent, output).await,
    }
}

async fn list(agent: &Agent, output: &Output) -> Outcome {
    let json: Json = agent.get("/removals").await?;
    let held: Held = understood(json.clone())?;
    match output.format {
        Format::Json | Format::Yaml => output.document(&json)?,
        Format::Name => held.values.iter().try_for_each(|key| output.line(&visible(key)))?,
        Format::Table | Format::Wide if !held.held => output.line("no removals are on hold")?,
        Format::Table | Format::Wide => {
            let mut table = Table::new(["HELD", "WHAT"]);
            held.values.iter().for_each(|key| table.row(["value".into(), visible(key).into()]));
            held.orphans
                .iter()
                .for_each(|orphan| table.row(["orphan".into(), visible(orphan).into()]));
            output.table(&table)?;
            output.line(&format!(
                "\nThe store may have lost its contents: {}.\nRestore the store or put the keys again, or run `netns-agent removals accept` \
                 to delete the listed objects.",
                visible(&held.evidence)
            ))?;
        }
    }
    Ok(0)
}

async fn accept(agent: &Agent, output: &Output) -> Outcome {
    let target = "/removals/accept";
    let json: Json = agent.json(target, agent.send(Method::POST, target, "").await?)?;
    if output.is_document() {
        output.document(&json)?;
        return Ok(0);
    }
    let accepted: Accepted = understood(json)?;
    match accepted.values + accepted.orphans {
        0 => output.line("no removals were on hold")?,
        _ => output.line(&format!(
            "accepted: the agent deletes {} and {}",
            counted(accepted.values, "value"),
            counted(accepted.orphans, "orphan")
        ))?,
    }
    Ok(0)
}

fn understood<T: for<'a> Deserialize<'a>>(json: Json) -> Result<T, Failure> {
    serde_json::from_value(json).map_err(|error| Failure::new(format!("unexpected response: {error}")))
}

/// Returns a number with its noun, in the plural unless the number is 1.
fn counted(number: usize, noun: &str) -> String {
    match number {
        1 => format!("1 {noun}"),
        _ => format!("{number} {noun}s"),
    }
}
