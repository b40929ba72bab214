//! Implements `netns-agent describe` and `netns-agent explain`.
//!
//! `describe` shows all details of a value. `explain` follows unmet dependencies down to the root cause.

use models::key::TypedKey;
use serde_json::Value as Json;

use super::{
    answers::{self, Explanation, Part, Published, Repair, Unmet},
    connection::Agent,
    failure::{Failure, Outcome},
    moment, names,
    output::{Cell, Output, Table, Tone, indented, visible},
};

/// Maximum number of dependencies that `explain` follows in a row to find the root cause.
const DEPTH_MAX: usize = 8;

/// Arguments of `describe` and `explain`.
#[derive(clap::Args, Debug)]
pub struct KeyArgs {
    /// Value: interface/NAME, route/NETWORK/LENGTH/INTERFACE, a full key, or an unambiguous name
    #[arg(value_name = "KEY")]
    key: String,
}

impl KeyArgs {
    /// Returns the full key of the requested value.
    async fn resolve(&self, agent: &Agent) -> Result<String, Failure> {
        let known = match names::is_name(&self.key) {
            true => answers::values(agent).await?,
            false => Vec::new(),
        };
        names::one_key(&self.key, &known)
    }
}

/// Prints all details of a value.
pub async fn describe(args: &KeyArgs, agent: &Agent, output: &Output) -> Outcome {
    let key = args.resolve(agent).await?;
    if output.is_document() {
        let whole = answers::explained(agent, &key).await?;
        output.document(&whole)?;
        return Ok(0);
    }
    let reported = answers::explanation(agent, &key).await?;
    let mut text = summary(&reported, output);
    if let Some(value) = &reported.value {
        let yaml = serde_saphyr::to_string(&value.data).unwrap_or_default();
        text.push_str(&section(output, "Value", &indented(yaml.trim_end(), "  ")));
    }
    let mut needs = Table::new(["LABEL", "MET", "BY"]);
    for dependency in &reported.depends_on {
        let met = if dependency.met {
            Cell::new("yes", Tone::Good)
        } else {
            Cell::new("no", Tone::Waiting)
        };
        let by = if dependency.met {
            dependency.met_by.join(", ")
        } else {
            format!("missing: {}", dependency.name)
        };
        needs.row([dependency.label.as_str().into(), met, by.into()]);
    }
    text.push_str(&table_section(output, "Depends on", &needs));
    text.push_str(&table_section(output, "Derived", &parts(&reported.derived)));
    text.push_str(&table_section(output, "Needed by", &parts(&reported.needed_by)));
    let mut operations = Table::new(["TIME", "TRANSACTION", "OPERATION", "STATE", "KEY"]);
    for one in &reported.last_operations {
        let key = match &one.error {
            Some(error) => format!("{}: {error}", one.key),
            None => one.key.clone(),
        };
        operations.row([
            moment::time_of_day(&one.time).into(),
            one.transaction.to_string().into(),
            one.operation.as_str().into(),
            Cell::state(&one.state),
            key.into(),
        ]);
    }
    text.push_str(&table_section(output, "Last operations", &operations));
    output.text(&text)?;
    Ok(0)
}

fn summary(reported: &Explanation, output: &Output) -> String {
    let mut table = Table::new([]);
    let mut row = |label: &str, cell: Cell| table.row([Cell::new(label, Tone::Strong), cell]);
    row("Name", reported.name.as_str().into());
    row("Key", reported.key.as_str().into());
    row("State", Cell::state(&reported.state));
    let sources: Vec<&str> = reported.sources.iter().map(|name| source_name(name)).collect();
    if let Some((in_effect, overridden)) = sources.split_first() {
        let note = match overridden {
            [] => String::new(),
            others => format!("; overrides the value of {}", others.join(", ")),
        };
        row("Source", format!("{in_effect}{note}").into());
    }
    row("Since", format!("{} ({} ago)", reported.since, moment::ago(&reported.since)).into());
    let status = reported.status.as_ref();
    let mut optional = |label: &str, text: &dyn Fn(&Published) -> String| {
        if let Some(text) = status.map(text).filter(|text| !text.is_empty()) {
            row(label, text.into());
        }
    };
    optional("Reason", &|status| status.reason.clone());
    optional("Message", &|status| status.message.clone());
    optional("Namespace", &|status| status.namespace.clone());
    optional("Next retry", &|status| status.next_retry.clone());
    optional("Attempts", &|status| {
        if status.attempts > 0 {
            status.attempts.to_string()
        } else {
            String::new()
        }
    });
    optional("Adopted", &|status| {
        if status.adopted {
            "yes (the kernel object is deleted together with the value)".to_owned()
        } else {
            String::new()
        }
    });
    optional("Last error", &|status| {
        status.last_error.as_ref().map(member_message).unwrap_or_default()
    });
    optional("Removal held", &|status| match status.removal_held_since.as_str() {
        "" => String::new(),
        since => format!(
            "since {since} ({} ago), because the store may have lost its contents; `netns-agent removals list` shows details",
            moment::ago(since)
        ),
    });
    optional("Last repair", &|status| status.last_repair.as_ref().map(repair).unwrap_or_default());
    output.lay_out(&table, "")
}

/// Returns the display name of a source. Adds `(the store)` to the source name `datasync`, which comes from ligato vpp-agent.
fn source_name(name: &str) -> &str {
    match name {
        "datasync" => "datasync (the store)",
        name => name,
    }
}

fn repair(repair: &Repair) -> String {
    format!(
        "{} ({} ago): restored {}",
        repair.time,
        moment::ago(&repair.time),
        repair.lost.join(", ")
    )
}

fn member_message(error: &Json) -> String {
    error
        .get("message")
        .and_then(Json::as_str)
        .map_or_else(|| error.to_string(), str::to_owned)
}

fn parts(list: &[Part]) -> Table {
    let mut table = Table::new(["KEY", "STATE", "WHY"]);
    for part in list {
        table.row([
            part.key.as_str().into(),
            Cell::state(&part.state),
            part.error.as_deref().unwrap_or_default().into(),
        ]);
    }
    table
}

fn section(output: &Output, title: &str, body: &str) -> String {
    format!("\n{}\n{body}", output.paint(title, Tone::Strong))
}

fn table_section(output: &Output, title: &str, table: &Table) -> String {
    match table.is_empty() {
        true => String::new(),
        false => section(output, title, &output.lay_out(table, "  ")),
    }
}

/// Explains why a value is in its state.
pub async fn explain(args: &KeyArgs, agent: &Agent, output: &Output) -> Outcome {
    let key = args.resolve(agent).await?;
    if output.is_document() {
        let whole = answers::explained(agent, &key).await?;
        output.document(whole.get("status").filter(|status| !status.is_null()).unwrap_or(&whole))?;
        return Ok(0);
    }
    let mut reasons = Reasons {
        agent,
        output,
        reported: Vec::new(),
        text: String::new(),
        remedies: Vec::new(),
    };
    let first = answers::explanation(agent, &key).await?;
    reasons.tell(first, 0).await?;
    let mut text = reasons.text;
    if !reasons.remedies.is_empty() {
        text.push_str(&format!("\n{}\n", output.paint("What to do", Tone::Strong)));
        for remedy in &reasons.remedies {
            text.push_str(&format!("  {remedy}\n"));
        }
    }
    output.text(&text)?;
    Ok(0)
}

/// State of `explain` while it follows the chain of causes.
struct Reasons<'a> {
    agent: &'a Agent,
    output: &'a Output,
    /// Keys of the values explained so far. Each value is explained only once, because values can wait for each other in a cycle.
    reported: Vec<String>,
    text: String,
    remedies: Vec<String>,
}

impl Reasons<'_> {
    async fn tell(&mut self, first: Explanation, depth: usize) -> Result<(), Failure> {
        let mut left = vec![(first, depth)];
        while let Some((reported, depth)) = left.pop() {
            if self.reported.contains(&reported.key) {
                continue;
            }
            self.reported.push(reported.key.clone());
            let unmet = reported.status.as_ref().map(|status| status.unmet.as_slice()).unwrap_or_default();
            if depth > 0 && unmet.is_empty() && sentence(&reported).is_empty() {
                // Some values, such as namespaces, have no explanation of their own. The reason was already printed for the value
                // that depends on them.
                self.advise(format!("make sure that {} exists", visible(&names::short(&reported.key))));
                continue;
            }
            let indent = "  ".repeat(depth);
            let state = self.output.paint(&reported.state, Tone::of_state(&reported.state));
            let since = moment::ago(&reported.since);
            let waits = if unmet.is_empty() { "" } else { ", waiting for" };
            self.text
                .push_str(&format!("{indent}{} is {state} for {since}{waits}\n", visible(&reported.name)));
            if unmet.is_empty() {
                self.text.push_str(&format!("{indent}  {}\n", visible(&sentence(&reported))));
            }
            for same in unmet.chunk_by(|one, next| one.state == next.state) {
                self.because(same, &indent);
            }
            // Push the causes in reverse order, because the last element of `left` is explained first.
            for one in unmet.iter().rev().filter(|one| !one.expected.is_empty() && depth < DEPTH_MAX) {
                left.extend(self.cause(one).await.map(|cause| (cause, depth + 1)));
            }
        }
        Ok(())
    }

    /// Writes a list of dependencies that are unmet for the same reason, and then the reason.
    fn because(&mut self, same: &[Unmet], indent: &str) {
        for one in same {
            self.text
                .push_str(&format!("{indent}  - {}: {}\n", visible(&one.label), visible(&one.name)));
        }
        let Some(reason) = same.first().map(|one| &one.state) else { return };
        self.text.push_str(&format!("{indent}    because {}\n", visible(reason)));
        let mut near: Vec<&str> = same
            .iter()
            .flat_map(|one| &one.suggestions)
            .map(|suggestion| suggestion.text.as_str())
            .collect();
        near.retain(|text| text != reason);
        near.dedup();
        for text in near {
            self.text.push_str(&format!("{indent}    note: {}\n", visible(text)));
        }
    }

    /// Returns the value that must change to satisfy a dependency. If the agent does not have this value, adds a remedy and
    /// returns `None`.
    async fn cause(&mut self, unmet: &Unmet) -> Option<Explanation> {
        let provider = TypedKey::provider(&unmet.expected).map(|provider| provider.to_key().to_string());
        let key = provider.unwrap_or_else(|| unmet.expected.clone());
        if let Ok(cause) = answers::explanation(self.agent, &key).await {
            return Some(cause);
        }
        let remedy = match names::is_configuration(&key) {
            true => {
                let create = format!("create {}, which is not desired yet", visible(&names::short(&key)));
                match unmet.suggestions.iter().find(|suggestion| names::is_configuration(&suggestion.key)) {
                    Some(similar) => format!("refer to {} instead, or {create}", visible(&names::short(&similar.key))),
                    None => format!("{create}, or refer to another value"),
                }
            }
            false => format!("make sure that {} exists", visible(&names::short(&key))),
        };
        self.advise(remedy);
        None
    }

    fn advise(&mut self, remedy: String) {
        if !self.remedies.contains(&remedy) {
            self.remedies.push(remedy);
        }
    }
}

/// Describes the state of a value. Returns an empty string if there is nothing to add to the name of the state.
fn sentence(reported: &Explanation) -> String {
    let status = reported.status.as_ref();
    let message = status.map(|status| status.message.as_str()).unwrap_or_default();
    if !message.is_empty() {
        return match status.map(|status| status.next_retry.as_str()).filter(|time| !time.is_empty()) {
            Some(time) => format!("{message}; next retry at {}", moment::time_of_day(time)),
            None => message.to_owned(),
        };
    }
    match reported.state.as_str() {
        "CONFIGURED" => {
            let met: Vec<&str> = reported
                .depends_on
                .iter()
                .filter(|one| one.met)
                .map(|one| one.label.as_str())
                .collect();
            let needs = if met.is_empty() { "none".to_owned() } else { met.join(", ") };
            let last = reported
                .last_operations
                .first()
                .map(|last| format!("; last operation: {} in transaction {}", last.operation, last.transaction));
            format!(
                "applied; dependencies: {needs}{}",
                last.unwrap_or_else(|| "; the object already existed".to_owned())
            )
        }
        "OBTAINED" => "observed by the agent".to_owned(),
        _ => String::new(),
    }
}
