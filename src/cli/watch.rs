//! `netns-agent watch` and `netns-agent wait`: follow the states of values.
//!
//! The REST API has no stream of states, so both commands poll. They miss a state that begins and ends between two polls, but
//! `history` lists it.

use std::{collections::BTreeMap, time::Duration};

use serde_json::json;
use tokio::time::{Instant, sleep};

use super::{
    answers::{self, Status},
    connection::Agent,
    failure::{Failure, NOT_IN_TIME, Outcome, remark},
    moment, names,
    names::{Requested, is_configuration, short},
    output::{Format, Output, Tone, visible},
    readiness,
};

/// Interval between polls while waiting for values.
const WAIT_INTERVAL: Duration = Duration::from_millis(100);

/// Time for which a value must stay in a failed state before `apply --wait` gives up. It exceeds the maximum delay with which a
/// busy agent publishes a status (half a second).
const FAILED_FOR: Duration = Duration::from_secs(1);

/// Arguments of `watch`.
#[derive(clap::Args, Debug)]
pub struct WatchArgs {
    /// Kinds, keys or names; without any, all desired values
    #[arg(value_name = "KIND|KEY")]
    requested: Vec<String>,

    /// Polling interval
    #[arg(long, value_name = "DURATION", default_value = "500ms", value_parser = moment::parse_span)]
    interval: Duration,

    /// Exit after this number of lines
    #[arg(long, value_name = "NUMBER")]
    count: Option<u64>,

    /// Print only changes, without the initial states
    #[arg(long)]
    changes_only: bool,
}

/// Prints state changes until the process is interrupted or `--count` is reached.
pub async fn watch(args: &WatchArgs, agent: &Agent, output: &Output) -> Outcome {
    let requested = args
        .requested
        .iter()
        .map(|text| Requested::parse(text))
        .collect::<Result<Vec<Requested>, Failure>>()?;
    let counts = |key: &str| match requested.is_empty() {
        true => is_configuration(key),
        false => requested.iter().any(|requested| requested.matches(key)),
    };
    let mut left = args.count.unwrap_or(u64::MAX);
    let mut before = look(agent, &counts).await?;
    remark_on_absent(agent, &args.requested, &requested).await?;
    let mut is_there = true;
    if !args.changes_only {
        for status in before.values().take(usize::try_from(left).unwrap_or(usize::MAX)) {
            show(output, status)?;
            left -= 1;
        }
    }
    while left > 0 {
        sleep(args.interval).await;
        let now = match look(agent, &counts).await {
            Ok(now) => now,
            // Keep polling after an error, because the agent may be restarting.
            Err(failure) => {
                if is_there {
                    remark(&format!(
                        "{}; retrying every {}",
                        failure.message(),
                        moment::duration(args.interval)
                    ));
                }
                is_there = false;
                continue;
            }
        };
        is_there = true;
        // Do not report removed values until the agent is ready, because an agent that has just started may not have read all
        // desired values yet.
        if before.keys().any(|key| !now.contains_key(key)) && !is_ready(agent).await {
            continue;
        }
        let gone = before
            .values()
            .filter(|status| !now.contains_key(&status.key))
            .map(|status| Status {
                key: status.key.clone(),
                state: "REMOVED".to_owned(),
                ..Status::default()
            });
        let changed = now.values().filter(|status| before.get(&status.key) != Some(status)).cloned();
        for status in gone
            .chain(changed)
            .take(usize::try_from(left).unwrap_or(usize::MAX))
            .collect::<Vec<_>>()
        {
            show(output, &status)?;
            left -= 1;
        }
        before = now;
    }
    Ok(0)
}

/// Prints a note for each requested value that does not exist, because its name may be mistyped.
async fn remark_on_absent(agent: &Agent, texts: &[String], requested: &[Requested]) -> Result<(), Failure> {
    let values = answers::values(agent).await?;
    for (text, requested) in texts.iter().zip(requested) {
        if !requested.matches_any(&values) {
            remark(&format!("there is no value {text:?} yet{}", names::similar(text, &values)));
        }
    }
    Ok(())
}

async fn is_ready(agent: &Agent) -> bool {
    readiness::ask(agent).await.is_ok_and(|readiness| readiness.ready)
}

async fn look(agent: &Agent, counts: &impl Fn(&str) -> bool) -> Result<BTreeMap<String, Status>, Failure> {
    let values = answers::values(agent).await?;
    let all = values
        .into_iter()
        .flat_map(|base| std::iter::once(base.value).chain(base.derived_values));
    Ok(all
        .filter(|status| counts(&status.key))
        .map(|status| (status.key.clone(), status))
        .collect())
}

/// Prints a status on one line, so that JSON output can be parsed line by line.
fn show(output: &Output, status: &Status) -> Result<(), Failure> {
    let time = moment::clock(moment::now());
    match output.format {
        Format::Name => output.line(&visible(&status.key)),
        Format::Json | Format::Yaml => {
            let mut line = json!(status);
            line["state"] = status.state().into();
            line["seen_at"] = time.into();
            output.raw(format!("{line}\n").as_bytes())
        }
        Format::Table | Format::Wide => {
            let state = output.paint(&format!("{:<13}", status.state()), Tone::of_state(status.state()));
            let line = format!("{time}  {state} {}  {}", visible(&short(&status.key)), visible(&status.words()));
            output.line(line.trim_end())
        }
    }
}

/// Arguments of `wait`.
#[derive(clap::Args, Debug)]
pub struct WaitArgs {
    /// Values: interface/NAME, a full key, or an unambiguous name
    #[arg(value_name = "KEY", required_unless_present = "all")]
    keys: Vec<String>,

    /// Wait for all desired values
    #[arg(long, conflicts_with = "keys")]
    all: bool,

    /// State to wait for: configured, pending, …, or deleted
    #[arg(long = "for", value_name = "STATE", default_value = "configured", value_parser = names::parse_awaited_state)]
    state: String,
}

/// Waits until all selected values are in the requested state, or until the timeout expires.
pub async fn wait(args: &WaitArgs, agent: &Agent, output: &Output, time_limit: Duration) -> Outcome {
    let deadline = Instant::now() + time_limit;
    // Wait until the agent accepts connections, because a script can start the agent and run `wait` immediately afterwards.
    while !agent.is_listening().await && Instant::now() < deadline {
        sleep(WAIT_INTERVAL).await;
    }
    let keys = keys(args, agent, deadline).await?;
    let keys: Vec<&str> = keys.iter().map(String::as_str).collect();
    let left = deadline.saturating_duration_since(Instant::now());
    until(agent, Some(output), &keys, &args.state, if args.all { left } else { time_limit }).await
}

async fn keys(args: &WaitArgs, agent: &Agent, deadline: Instant) -> Result<Vec<String>, Failure> {
    if args.all {
        until_ready(agent, deadline).await?;
    }
    let known = match args.all || args.keys.iter().any(|key| names::is_name(key)) {
        true => answers::values(agent).await?,
        false => Vec::new(),
    };
    if args.all {
        return Ok(known
            .into_iter()
            .map(|base| base.value.key)
            .filter(|key| is_configuration(key))
            .collect());
    }
    args.keys.iter().map(|key| names::one_key(key, &known)).collect()
}

/// Waits until the agent has read all desired values. Before that, the agent's list of values can be incomplete.
async fn until_ready(agent: &Agent, deadline: Instant) -> Result<(), Failure> {
    loop {
        let readiness = readiness::ask(agent).await?;
        if readiness.ready {
            return Ok(());
        }
        if Instant::now() >= deadline {
            return readiness
                .refuse_to_guess("the desired values")
                .map_err(|failure| failure.code(NOT_IN_TIME));
        }
        sleep(WAIT_INTERVAL).await;
    }
}

/// Waits until all keys have the given state. A key without a value has the state `DELETED`.
///
/// If `output` is given, prints each key as soon as it has this state.
pub async fn until(agent: &Agent, output: Option<&Output>, keys: &[&str], state: &str, time_limit: Duration) -> Outcome {
    until_unless(agent, output, keys, state, time_limit, &|_| false).await
}

/// Waits until all keys are CONFIGURED. Fails early if a value is in a state that it will not leave by itself.
pub async fn until_configured(agent: &Agent, keys: &[&str], time_limit: Duration) -> Outcome {
    let has_failed = |status: &Status| matches!(status.state(), "FAILED" | "INVALID" | "UNIMPLEMENTED");
    until_unless(agent, None, keys, "CONFIGURED", time_limit, &has_failed).await
}

async fn until_unless(
    agent: &Agent,
    output: Option<&Output>,
    keys: &[&str],
    state: &str,
    time_limit: Duration,
    has_failed: &(dyn Fn(&Status) -> bool + Sync),
) -> Outcome {
    let deadline = Instant::now() + time_limit;
    let mut left: Vec<&str> = keys.to_vec();
    let mut failed_since: Option<Instant> = None;
    loop {
        let now = match look(agent, &|key| keys.contains(&key)).await {
            Err(_) if Instant::now() < deadline && !agent.is_listening().await => {
                // Keep polling, because the agent may merely be restarting.
                sleep(WAIT_INTERVAL).await;
                continue;
            }
            values => values?,
        };
        let found = |key: &str| {
            now.get(key).cloned().unwrap_or_else(|| Status {
                key: key.to_owned(),
                ..Status::default()
            })
        };
        let is_so = |key: &str| match state {
            "DELETED" => matches!(found(key).state(), "NONEXISTENT" | "REMOVED"),
            _ => found(key).state() == state,
        };
        let done: Vec<&str> = left.iter().copied().filter(|key| is_so(key)).collect();
        left.retain(|key| !done.contains(key));
        for (key, output) in done.iter().flat_map(|key| output.map(|output| (key, output))) {
            let state = match state {
                "DELETED" => "deleted".to_owned(),
                _ => output.paint(state, Tone::of_state(state)),
            };
            output.line(&format!("{} {state}", visible(&short(key))))?;
        }
        if left.is_empty() {
            return Ok(0);
        }
        let failed = left.iter().map(|key| found(key)).find(|status| has_failed(status));
        failed_since = failed.as_ref().map(|_| failed_since.unwrap_or_else(Instant::now));
        if let (Some(status), Some(since)) = (failed, failed_since)
            && since.elapsed() >= FAILED_FOR
        {
            return Err(
                Failure::new(describe(&status)).next(format!("`netns-agent explain {}` shows the reason", visible(&short(&status.key))))
            );
        }
        if Instant::now() >= deadline {
            let reported: Vec<String> = left.iter().map(|key| describe(&found(key))).collect();
            let first = left.first().map(|key| short(key)).unwrap_or_default();
            return Err(Failure::new(format!(
                "not {} within {}: {}",
                state.to_lowercase(),
                moment::duration(time_limit),
                reported.join("; ")
            ))
            .next(format!(
                "`netns-agent explain {first}` shows the reason; --timeout sets a longer timeout"
            ))
            .code(NOT_IN_TIME));
        }
        sleep(WAIT_INTERVAL).await;
    }
}

fn describe(status: &Status) -> String {
    let (key, state, words) = (visible(&short(&status.key)), status.state(), visible(&status.words()));
    match words.is_empty() {
        true => format!("{key} is {state}"),
        false => format!("{key} is {state} ({words})"),
    }
}
