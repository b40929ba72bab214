//! Implements `netns-agent apply`, `delete`, `plan` and `confirm`, which change the desired values or show what would change.
//!
//! The agent computes the plan. This module prints the plan and derives the exit code from it.

use std::{collections::BTreeSet, path::PathBuf, time::Duration};

use hyper::{Method, StatusCode};
use models::key::TypedKey;
use serde::Deserialize;
use serde_json::Value as Json;

use super::{
    answers::{self, Difference, Operation, Unconfirmed},
    connection::{Agent, target},
    difference::configuration,
    document::{Document, FileArgs},
    failure::{CHANGES, FAILED, Failure, Outcome, remark},
    moment, names,
    names::{is_configuration, short},
    output::{Cell, Format, Output, Table, Tone, visible},
    readiness, watch,
};

/// Arguments of `apply`.
#[derive(clap::Args, Debug)]
pub struct ApplyArgs {
    #[command(flatten)]
    file: FileArgs,

    /// Delete values of this source that are not in the file
    #[arg(long)]
    replace: bool,

    /// Roll back all changes if a value fails; PENDING values do not count as failed
    #[arg(long)]
    atomic: bool,

    /// Wait until all values in the file are CONFIGURED, or one has failed (see --timeout)
    #[arg(long)]
    wait: bool,

    /// Roll back after this time unless confirmed with `netns-agent confirm`; with --wait, confirm once all values are CONFIGURED,
    /// provided that the agent is still reachable
    #[arg(long, value_name = "DURATION", value_parser = moment::parse_span)]
    confirm_within: Option<Duration>,

    #[command(flatten)]
    source: SourceArgs,
}

#[derive(clap::Args, Debug)]
struct SourceArgs {
    /// Name of the source that owns the values; documents of one source never change values of another
    #[arg(long, value_name = "NAME")]
    source: Option<String>,

    /// Description of the transaction in the history
    #[arg(long, value_name = "TEXT")]
    description: Option<String>,
}

/// Arguments of `delete`.
#[derive(clap::Args, Debug)]
pub struct DeleteArgs {
    /// File with the values to delete; - reads standard input
    #[arg(short, long, value_name = "FILE", required_unless_present = "keys")]
    file: Option<PathBuf>,

    /// Values to delete: interface/NAME, a full key, or an unambiguous name
    #[arg(value_name = "KEY", conflicts_with = "file")]
    keys: Vec<String>,

    /// Wait until the values are deleted (see --timeout)
    #[arg(long)]
    wait: bool,

    #[command(flatten)]
    source: SourceArgs,
}

/// Arguments of `plan`.
#[derive(clap::Args, Debug)]
pub struct PlanArgs {
    #[command(flatten)]
    file: FileArgs,

    /// Show what `apply --replace` would do
    #[arg(long, conflicts_with = "delete")]
    replace: bool,

    /// Show what `delete` would do
    #[arg(long)]
    delete: bool,

    /// Name of the source that would own the values
    #[arg(long, value_name = "NAME")]
    source: Option<String>,
}

/// Arguments of `confirm`.
#[derive(clap::Args, Debug)]
pub struct ConfirmArgs {
    /// Number of the change, as printed by `apply --confirm-within`; without it, list the changes that wait for confirmation
    #[arg(value_name = "SEQ")]
    seq: Option<u64>,
}

/// The agent's response to a change of the desired values.
#[derive(Deserialize, Debug, Default)]
#[serde(default)]
struct Changed {
    seq_num: u64,
    reverted: bool,
    errors: Vec<Failed>,
    waiting: Vec<Waiting>,
    values: Vec<Value>,
    confirm: Option<Confirm>,
    /// Reason why the agent has saved the change but has not applied it yet. Empty if the change is applied.
    message: String,
}

#[derive(Deserialize, Debug, Default)]
#[serde(default)]
struct Failed {
    key: String,
    operation: String,
    error: String,
    in_revert: bool,
}

/// PENDING value, and the reason why it is pending.
#[derive(Deserialize, Debug, Default)]
#[serde(default)]
struct Waiting {
    key: String,
    message: String,
}

#[derive(Deserialize, Debug, Default)]
#[serde(default)]
struct Value {
    key: String,
    state: String,
    message: String,
}

impl Value {
    fn is_absent(&self) -> bool {
        matches!(self.state.as_str(), "" | "NONEXISTENT" | "REMOVED")
    }
}

#[derive(Deserialize, Debug, Default, Clone)]
#[serde(default)]
struct Confirm {
    id: String,
    within_seconds: u64,
}

/// Applies the values in a file.
pub async fn apply(args: &ApplyArgs, agent: &Agent, output: &Output, time_limit: Duration) -> Outcome {
    let document = Document::read(&args.file.file)?;
    let keys = document.keys();
    let within = args.confirm_within.map(|span| span.as_secs().max(1).to_string());
    let mut parameters = vec![("verbose", "1")];
    parameters.extend(args.replace.then_some(("replace", "1")));
    parameters.extend(args.atomic.then_some(("atomic", "1")));
    parameters.extend(within.iter().map(|within| ("confirm-within", within.as_str())));
    parameters.extend(args.source.parameters());
    let target = target("/configuration", &parameters);
    let (changed, whole) = change(agent, Method::PUT, &target, document.text).await?;
    report(&changed, &whole, "absent", output)?;
    let has_failed = changed.reverted || !changed.errors.is_empty();
    if has_failed || !args.wait {
        if !has_failed {
            report_waiting(&changed, output);
        }
        if let Some(confirm) = &changed.confirm {
            ask_to_confirm(confirm);
        }
        return Ok(if has_failed { FAILED } else { 0 });
    }
    let keys: Vec<&str> = keys.iter().map(String::as_str).collect();
    let time_limit = args.confirm_within.map_or(time_limit, |within| within.min(time_limit));
    let waited = watch::until_configured(agent, &keys, time_limit).await;
    if let (Err(_), Some(confirm)) = (&waited, &changed.confirm) {
        ask_to_confirm(confirm);
    }
    waited?;
    if let Some(confirm) = &changed.confirm {
        keep(agent, &confirm.id).await?;
    }
    if !output.is_document() {
        output.line(&format!("{} of {} CONFIGURED", keys.len(), keys.len()))?;
    }
    Ok(0)
}

impl SourceArgs {
    fn parameters(&self) -> impl Iterator<Item = (&'static str, &str)> {
        let source = self.source.as_deref().map(|text| ("source", text));
        source
            .into_iter()
            .chain(self.description.as_deref().map(|text| ("description", text)))
    }
}

/// Reports PENDING values on standard error.
///
/// The reason for each PENDING value is printed only in the output format `name`, because the other formats already contain the
/// reasons.
fn report_waiting(changed: &Changed, output: &Output) {
    if matches!(output.format, Format::Name) {
        for wait in &changed.waiting {
            eprintln!("netns-agent: {} is PENDING: {}", visible(&short(&wait.key)), visible(&wait.message));
        }
    }
    if let Some(first) = changed.waiting.first() {
        eprintln!(
            "{} of {} PENDING, none failed; `netns-agent wait {}` waits until this value is CONFIGURED",
            changed.waiting.len(),
            changed.values.len(),
            visible(&short(&first.key))
        );
    }
}

fn ask_to_confirm(confirm: &Confirm) {
    eprintln!(
        "the previous values are restored in {} s unless you confirm the change:\n  netns-agent confirm {}",
        confirm.within_seconds,
        visible(&confirm.id)
    );
}

/// Confirms a change that would otherwise be rolled back, or lists all unconfirmed changes.
pub async fn confirm(args: &ConfirmArgs, agent: &Agent, output: &Output) -> Outcome {
    let Some(seq) = args.seq else {
        return unconfirmed(agent, output).await;
    };
    keep(agent, &seq.to_string()).await?;
    if !output.is_document() {
        output.line("confirmed")?;
    }
    Ok(0)
}

async fn unconfirmed(agent: &Agent, output: &Output) -> Outcome {
    let target = "/configuration/unconfirmed";
    if output.is_document() {
        let changes: Json = agent.get(target).await?;
        output.document(&changes)?;
        return Ok(0);
    }
    let changes: Vec<Unconfirmed> = answers::list(agent, target).await?;
    if changes.is_empty() {
        output.line("no change is waiting for confirmation")?;
        return Ok(0);
    }
    let mut table = Table::new(["SEQ", "ROLLED BACK IN", "SOURCE", "VALUES", "DESCRIPTION"]);
    for change in changes {
        let values: Vec<String> = change.keys.iter().map(|key| short(key)).collect();
        table.row([
            change.id.into(),
            format!("{}s", change.seconds_left).into(),
            change.source.into(),
            values.join(", ").into(),
            Cell::from(change.description),
        ]);
    }
    output.table(&table)?;
    Ok(0)
}

async fn keep(agent: &Agent, id: &str) -> Result<(), Failure> {
    let target = target("/configuration/confirm", &[("id", id)]);
    let answer = agent.send(Method::POST, &target, "").await?;
    let kept = agent.success(&target, answer);
    kept.map(|_| ())
        .map_err(|failure| failure.next("the previous values are restored after the timeout; then apply the file again"))
}

/// Deletes the values in a file, or the values with the given keys.
pub async fn delete(args: &DeleteArgs, agent: &Agent, output: &Output, time_limit: Duration) -> Outcome {
    let document = match &args.file {
        Some(path) => Document::read(path)?,
        None => named(&args.keys, agent).await?,
    };
    let keys = document.keys();
    let mut parameters = vec![("verbose", "1")];
    parameters.extend(args.source.parameters());
    let target = target("/configuration", &parameters);
    let (changed, whole) = change(agent, Method::DELETE, &target, document.text).await?;
    report(&changed, &whole, "deleted", output)?;
    if changed.reverted || !changed.errors.is_empty() {
        return Ok(FAILED);
    }
    if let Some(kept) = changed.values.iter().find(|value| !value.is_absent()) {
        return Err(Failure::new(format!(
            "{} is still desired: it is in the store, in a file, or in another source",
            short(&kept.key)
        ))
        .next("`netns-agent kvdb del KEY` deletes a value from the store; --source selects another source"));
    }
    if args.wait {
        let keys: Vec<&str> = keys.iter().map(String::as_str).collect();
        watch::until(agent, None, &keys, "DELETED", time_limit).await?;
    }
    Ok(0)
}

/// Returns a document with the desired values that have the given keys or names.
async fn named(texts: &[String], agent: &Agent) -> Result<Document, Failure> {
    let known = answers::values(agent).await?;
    let requested = configuration(agent).await?;
    let mut values = Vec::new();
    for text in texts {
        let key = names::one_key(text, &known)?;
        let value = requested.values().find(|value| value.key().as_str() == key);
        values.push(value.cloned().ok_or_else(|| {
            Failure::new(format!("there is no desired value {}", visible(&short(&key))))
                .next("`netns-agent get -o name` lists all desired values")
        })?);
    }
    Document::of(values)
}

/// Sends a document to the agent and returns the response. A response with status 422, which reports failed values, is not treated
/// as an error.
async fn change(agent: &Agent, method: Method, target: &str, text: String) -> Result<(Changed, Json), Failure> {
    let answer = agent.send(method, target, text).await?;
    let reported: Option<Json> = serde_json::from_slice(&answer.body).ok();
    let whole = match reported.filter(|reported| answer.status == StatusCode::UNPROCESSABLE_ENTITY && reported.get("seq_num").is_some()) {
        Some(whole) => whole,
        None => agent.json(target, answer)?,
    };
    let changed = serde_json::from_value(whole.clone());
    changed
        .map(|changed| (changed, whole))
        .map_err(|error| Failure::new(format!("unexpected response: {error}")))
}

/// Prints the result of a change. `absent` is the state shown for values that do not exist.
fn report(changed: &Changed, whole: &Json, absent: &str, output: &Output) -> Result<(), Failure> {
    match output.format {
        Format::Json | Format::Yaml => output.document(whole)?,
        Format::Name => changed.values.iter().try_for_each(|value| output.line(&visible(&value.key)))?,
        Format::Table | Format::Wide => {
            let mut table = Table::new(["VALUE", "STATE", "WHY"]);
            for value in &changed.values {
                let state = if value.is_absent() {
                    Cell::from(absent)
                } else {
                    Cell::state(&value.state)
                };
                table.row([short(&value.key).into(), state, value.message.as_str().into()]);
            }
            if !table.is_empty() {
                output.table(&table)?;
            }
        }
    }
    // The agent has saved the change but has not applied it yet, so there is no result to print.
    if changed.seq_num == 0 && !changed.message.is_empty() {
        remark(&changed.message);
    }
    for failed in &changed.errors {
        let when = if failed.in_revert { " during rollback" } else { "" };
        let what = format!("{} of {}{when}: {}", failed.operation, short(&failed.key), failed.error);
        remark(&what);
    }
    if changed.reverted {
        eprintln!(
            "netns-agent: all changes were rolled back (transaction {}); `netns-agent history {}` shows the operations",
            changed.seq_num, changed.seq_num
        );
    } else if let Some(failed) = changed.errors.first() {
        eprintln!("  `netns-agent explain {}` shows details", visible(&short(&failed.key)));
    }
    Ok(())
}

/// Prints what `apply` or `delete` would do.
pub async fn plan(args: &PlanArgs, agent: &Agent, output: &Output) -> Outcome {
    let document = Document::read(&args.file.file)?;
    // `delete` uses only the fields that are part of the key, so invalid values in other fields do not matter.
    let usable = args.delete || document.report_mistakes();
    let readiness = readiness::ask(agent).await?;
    readiness.refuse_to_guess("the changes")?;
    let mut parameters = Vec::new();
    parameters.extend(args.replace.then_some(("replace", "1")));
    parameters.extend(args.delete.then_some(("delete", "1")));
    parameters.extend(args.source.iter().map(|name| ("source", name.as_str())));
    let target = target("/configuration/plan", &parameters);
    let answer = agent.send(Method::POST, &target, document.text).await?;
    let whole: Json = agent.json(&target, answer)?;
    let operations: Option<Vec<Operation>> =
        serde_json::from_value(whole.clone()).map_err(|error| Failure::new(format!("unexpected response: {error}")))?;
    let steps = with_changed_interfaces(steps(&operations.unwrap_or_default()));
    match output.format {
        Format::Json | Format::Yaml => output.document(&whole)?,
        Format::Name => steps.iter().try_for_each(|step| output.line(&visible(&step.key)))?,
        Format::Table | Format::Wide => print_plan(&steps, output)?,
    }
    Ok(match (usable, steps.is_empty()) {
        (false, _) => FAILED,
        (true, true) => 0,
        (true, false) => CHANGES,
    })
}

/// Net effect of a plan's operations on one value.
#[derive(PartialEq, Eq, Debug)]
struct Step {
    key: String,
    sign: char,
    /// State of the value after the change.
    state: String,
    /// True if the value is deleted and created again.
    is_recreated: bool,
    /// Differences between the applied and the desired value.
    differences: Vec<Difference>,
}

/// Combines all operations on the same value into one step.
///
/// A deletion followed by a creation becomes a change. A creation followed by a deletion is left out.
fn steps(operations: &[Operation]) -> Vec<Step> {
    let mut steps: Vec<Step> = Vec::new();
    for operation in operations {
        let sign = match operation.operation.as_str() {
            "CREATE" => '+',
            "DELETE" => '-',
            _ => '~',
        };
        let state = operation.new_state.clone();
        let Some(at) = steps.iter().position(|step| step.key == operation.key) else {
            let (key, differences) = (operation.key.clone(), operation.differences.clone());
            steps.push(Step {
                key,
                sign,
                state,
                is_recreated: false,
                differences,
            });
            continue;
        };
        steps[at].state = state;
        match (steps[at].sign, sign) {
            ('+', '-') => drop(steps.remove(at)),
            ('-', '+') => (steps[at].sign, steps[at].is_recreated) = ('~', true),
            (_, '-') => steps[at].sign = '-',
            _ => {}
        }
    }
    steps
}

/// Returns the key of the interface that a value is derived from, and a description of the derived value.
fn part_of_interface(key: &str) -> Option<(String, String)> {
    let part = match TypedKey::parse(key).ok()? {
        TypedKey::InterfaceAddress { address, .. } => format!("address {address}"),
        TypedKey::InterfaceMaster { master, .. } => format!("membership in {master}"),
        TypedKey::InterfaceVrf { vrf, .. } => format!("membership in VRF {vrf}"),
        TypedKey::InterfaceVlan { vlans, .. } => format!("VLAN {vlans}"),
        _ => return None,
    };
    Some((TypedKey::provider(key)?.to_key().to_string(), part))
}

/// Adds a step for each interface that is itself unchanged but has changed derived values, such as addresses.
///
/// The differences of the added step describe the changes to the derived values.
fn with_changed_interfaces(steps: Vec<Step>) -> Vec<Step> {
    let mut shown: Vec<Step> = Vec::new();
    let planned: BTreeSet<String> = steps.iter().map(|step| step.key.clone()).collect();
    for step in steps {
        let part = part_of_interface(&step.key).filter(|(interface, _)| !planned.contains(interface) && step.differences.is_empty());
        let Some((interface, part)) = part else {
            shown.push(step);
            continue;
        };
        let difference = Difference {
            text: format!("{} {part}", step.sign),
            is_recreate: false,
        };
        match shown.iter_mut().find(|shown| shown.key == interface) {
            Some(changed) => changed.differences.push(difference),
            None => shown.push(Step {
                key: interface,
                sign: '~',
                state: String::new(),
                is_recreated: false,
                differences: vec![difference],
            }),
        }
        shown.push(step);
    }
    shown
}

fn print_plan(steps: &[Step], output: &Output) -> Result<(), Failure> {
    // By default, hide the changes to derived values that follow from other changes. Show in-place changes, such as new port
    // settings, because they do not follow from another change.
    let is_changed = |step: &Step| step.sign == '~' && step.differences.iter().all(|difference| !difference.is_recreate);
    let is_counted = |step: &Step| is_configuration(&step.key) || !step.differences.is_empty() && is_changed(step);
    let is_shown = |step: &Step| output.is_wide() || is_counted(step);
    for step in steps.iter().filter(|step| is_shown(step)) {
        let tone = match step.sign {
            '+' => Tone::Good,
            '-' => Tone::Bad,
            _ => Tone::Waiting,
        };
        let note = match step.state.as_str() {
            "PENDING" => "  (will be pending)",
            "INVALID" => "  (invalid)",
            "UNIMPLEMENTED" => "  (not supported)",
            _ if step.is_recreated && step.differences.is_empty() => "  (will be re-created)",
            _ => "",
        };
        let line = output.paint(&format!("{} {}", step.sign, short(&step.key)), tone);
        output.line(&format!("{line}{note}"))?;
        for difference in &step.differences {
            let again = if difference.is_recreate { " (requires re-creation)" } else { "" };
            output.line(&format!("    {}{again}", visible(&difference.text)))?;
        }
    }
    if steps.is_empty() {
        return output.line("no changes");
    }
    let count = |sign: char| steps.iter().filter(|step| is_counted(step) && step.sign == sign).count();
    let hidden = match steps.iter().filter(|step| !is_counted(step)).count() {
        0 => String::new(),
        more if output.is_wide() => format!("; {more} more as a consequence of these"),
        more => format!("; {more} more as a consequence of these (show with -o wide)"),
    };
    output.line(&format!(
        "{} to create, {} to change, {} to delete{hidden}",
        count('+'),
        count('~'),
        count('-')
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn response_to_a_change_is_parsed_with_all_members_or_none() {
        let answer = r#"{"seq_num":7,"reverted":true,"errors":[{"key":"k","operation":"CREATE","state":"FAILED","error":"no","in_revert":false}],
            "values":[{"key":"k","state":"PENDING","message":"waits"}],"confirm":{"id":"x","within_seconds":60}}"#;
        let changed: Changed = serde_json::from_str(answer).expect("understood");
        assert_eq!(
            (changed.seq_num, changed.reverted, changed.errors.len(), changed.values.len()),
            (7, true, 1, 1)
        );
        assert_eq!(changed.confirm.map(|confirm| confirm.within_seconds), Some(60));
        let changed: Changed = serde_json::from_str("{}").expect("understood");
        assert!(!changed.reverted && changed.errors.is_empty() && changed.confirm.is_none());
    }

    fn operation(operation: &str, key: &str, new_state: &str) -> Operation {
        Operation {
            operation: operation.to_owned(),
            key: key.to_owned(),
            new_state: new_state.to_owned(),
            ..Operation::default()
        }
    }

    #[test]
    fn interface_of_changed_addresses_is_shown_as_changed() {
        let operations = [
            operation("DELETE", "linux/interface/a/address/static/10.1.0.1/24", ""),
            operation("CREATE", "linux/interface/a/address/static/10.1.0.9/24", "CONFIGURED"),
            operation("CREATE", "config/linux/interfaces/v2/interface/new", "CONFIGURED"),
            operation("CREATE", "linux/interface/new/address/static/10.2.0.1/24", "CONFIGURED"),
        ];
        let steps = with_changed_interfaces(steps(&operations));
        let shown = steps.iter().filter(|step| is_configuration(&step.key));
        let shown: Vec<String> = shown
            .map(|step| {
                let texts: Vec<&str> = step.differences.iter().map(|difference| difference.text.as_str()).collect();
                format!("{} {}: {}", step.sign, short(&step.key), texts.join(", "))
            })
            .collect();
        assert_eq!(
            shown,
            ["~ interface/a: - address 10.1.0.1/24, + address 10.1.0.9/24", "+ interface/new: "]
        );
    }

    #[test]
    fn plan_combines_the_operations_of_each_value() {
        let operations = [
            operation("CREATE", "made", "PENDING"),
            operation("DELETE", "remade", ""),
            operation("CREATE", "passing", "CONFIGURED"),
            operation("DELETE", "passing", ""),
            operation("UPDATE", "changed", "CONFIGURED"),
            operation("CREATE", "remade", "CONFIGURED"),
            operation("UPDATE", "made", "CONFIGURED"),
            operation("CREATE", "waiting", "PENDING"),
            operation("DELETE", "gone", ""),
        ];
        let reported: Vec<String> = steps(&operations)
            .iter()
            .map(|step| format!("{}{}{}", step.sign, step.key, if step.state == "PENDING" { "?" } else { "" }))
            .collect();
        assert_eq!(reported, ["+made", "~remade", "~changed", "+waiting?", "-gone"]);
    }
}
