//! `netns-agent status`: health of the agent, and values that need attention.
//!
//! The exit code depends on the readiness of the agent, not on its health.

use std::{collections::BTreeMap, time::Duration};

use serde::Serialize;
use serde_json::{Value as Json, json};

use super::{
    answers::{self, BaseStatus, Identity, Unconfirmed},
    connection::Agent,
    failure::{FAILED, Failure, Outcome},
    moment,
    names::{is_configuration, short},
    output::{Cell, Output, Table, Tone, visible},
    readiness::{self, Health, Part, Readiness},
};

/// Maximum number of values listed as needing attention.
const ATTENTION_MAX: usize = 20;

/// Returns the name of a numeric `ligato.status.OperationalState`.
fn state_name(state: i32) -> &'static str {
    match state {
        0 => "starting",
        1 => "OK",
        _ => "ERROR",
    }
}

/// Prints the health of the agent. Returns a failure code if the agent is not ready.
pub async fn run(agent: &Agent, output: &Output) -> Outcome {
    let readiness = readiness::ask(agent).await?;
    let ready = readiness.ready;
    let version: Json = agent.get("/info/version").await?;
    let identity = answers::identity(agent).await?;
    let values = answers::values(agent).await?;
    let requested: Vec<&BaseStatus> = values.iter().filter(|base| is_configuration(&base.value.key)).collect();
    let mut states: BTreeMap<&str, usize> = BTreeMap::new();
    for base in &requested {
        *states.entry(base.value.state()).or_default() += 1;
    }
    let attention: Vec<&BaseStatus> = requested
        .iter()
        .filter(|base| base.value.state() != "CONFIGURED")
        .copied()
        .collect();
    let unconfirmed: Vec<Unconfirmed> = answers::list(agent, "/configuration/unconfirmed").await?;
    if output.is_document() {
        let attention: Vec<_> = attention.iter().map(|base| &base.value).collect();
        let health = readiness.health();
        output.document(&json!({
            "ready": ready, "state": state_name(health.state), "address": agent.url(), "label": identity.label, "store": identity.store,
            "started": moment::rfc3339(Duration::from_secs(health.start_time)), "version": Version::of(&version),
            "parts": parts(&health), "values": states, "attention": attention, "unconfirmed": unconfirmed,
        }))?;
        return Ok(code(ready));
    }
    print(agent, output, &readiness, &version, &identity, &states, &unconfirmed)?;
    print_attention(output, &attention)?;
    Ok(code(ready))
}

/// Version and build of the agent, as shown in JSON and YAML output.
#[derive(Serialize)]
struct Version<'a> {
    version: &'a str,
    commit: &'a str,
    branch: &'a str,
    built: String,
    os: &'a str,
    arch: &'a str,
}

impl<'a> Version<'a> {
    /// Selects the members of `/info/version` that are meaningful for this agent.
    fn of(answer: &'a Json) -> Self {
        let text = |member: &str| answer.get(member).and_then(Json::as_str).unwrap_or_default();
        let built = answer.get("BuildTime").and_then(Json::as_u64).filter(|seconds| *seconds > 0);
        Version {
            version: text("Version"),
            commit: text("GitCommit"),
            branch: text("GitBranch"),
            built: built
                .map(|seconds| moment::rfc3339(Duration::from_secs(seconds)))
                .unwrap_or_default(),
            os: text("OS"),
            arch: text("Arch"),
        }
    }
}

/// Returns the parts of the agent with their health, as shown in JSON and YAML output.
fn parts(health: &Health) -> Vec<Json> {
    let part = |(name, part): (&String, &Part)| {
        json!({
            "name": part_name(name), "state": state_name(part.state), "error": part.error,
            "essential": !health.is_dispensable(name),
        })
    };
    health.parts.iter().map(part).collect()
}

/// Returns the name shown for a part of the agent. The published health calls the engine `VPPAgent`, as ligato vpp-agent does.
fn part_name(name: &str) -> &str {
    match name {
        "VPPAgent" => "engine",
        name => name,
    }
}

fn code(ready: bool) -> u8 {
    if ready { 0 } else { FAILED }
}

fn print(
    agent: &Agent,
    output: &Output,
    readiness: &Readiness,
    version: &Json,
    identity: &Identity,
    states: &BTreeMap<&str, usize>,
    unconfirmed: &[Unconfirmed],
) -> Result<(), Failure> {
    let (ready, health) = (readiness.ready, readiness.health());
    let count: usize = states.values().sum();
    let text = |member: &str| version.get(member).and_then(Json::as_str).unwrap_or("?").to_owned();
    let mut table = Table::new([]);
    let label = |text: &str| Cell::new(text, Tone::Strong);
    table.row([
        label("Agent"),
        format!("{} {} at {}", text("App"), text("Version"), agent.url()).into(),
    ]);
    table.row([label("Label"), identity.label.as_str().into()]);
    let whose = if identity.store.embedded { " (embedded in the agent)" } else { "" };
    table.row([label("Store"), format!("{}{whose}", identity.store.endpoints.join(", ")).into()]);
    let up = moment::age(moment::now().saturating_sub(Duration::from_secs(health.start_time)));
    let (state, what) = (state_name(health.state), if ready { "in sync" } else { "not ready" });
    table.row([
        label("State"),
        Cell::new(format!("{state}, {what}, up {up}"), if ready { Tone::Good } else { Tone::Bad }),
    ]);
    let by_state: Vec<String> = states.iter().map(|(state, count)| format!("{count} {state}")).collect();
    table.row([
        label("Values"),
        match count {
            0 => "none".into(),
            _ => format!("{count}: {}", by_state.join(", ")).into(),
        },
    ]);
    for change in unconfirmed {
        let words = format!(
            "change {id} is rolled back in {} s; keep it with: netns-agent confirm {id}",
            change.seconds_left,
            id = change.id
        );
        table.row([label("Unconfirmed"), Cell::new(words, Tone::Waiting)]);
    }
    for (name, part) in &health.parts {
        let dispensable = health.is_dispensable(name);
        let tone = match (part.state, dispensable) {
            (0 | 1, _) => Tone::Plain,
            (_, true) => Tone::Waiting,
            (_, false) => Tone::Bad,
        };
        let mut words = format!("{}: {}", part_name(name), state_name(part.state));
        if !part.error.is_empty() {
            words.push_str(&format!(", {}", part.error));
        }
        if dispensable && part.state > 1 {
            words.push_str(" (not essential)");
        }
        table.row([label("Part"), Cell::new(words, tone)]);
    }
    output.table(&table)
}

fn print_attention(output: &Output, attention: &[&BaseStatus]) -> Result<(), Failure> {
    if attention.is_empty() {
        return Ok(());
    }
    output.line("")?;
    let mut table = Table::new(["VALUE", "STATE", "WHY"]);
    for base in attention.iter().take(ATTENTION_MAX) {
        table.row([
            short(&base.value.key).into(),
            Cell::state(base.value.state()),
            base.value.words().into(),
        ]);
    }
    output.table(&table)?;
    if let Some(more) = attention.len().checked_sub(ATTENTION_MAX).filter(|more| *more > 0) {
        output.line(&format!("… and {more} more: netns-agent get --state '!CONFIGURED'"))?;
    }
    let first = attention.first().map(|base| visible(&short(&base.value.key))).unwrap_or_default();
    output.line(&format!("\n`netns-agent explain {first}` shows details"))
}
