//! `netns-agent doctor`: checks whether the agent can work on this machine, and suggests a remedy for each problem.
//!
//! The checks never change the machine: test links are created in a temporary network namespace.

mod machine;
mod managers;
mod services;

use std::time::Duration;

use serde::Serialize;

use super::{
    connection::Agent,
    failure::{FAILED, Failure, Outcome},
    output::{Cell, Format, Output, Table, Tone, visible},
};

use self::{machine::Machine, services::ServiceArgs};

/// Timeout for the response of a service.
const TIME_LIMIT: Duration = Duration::from_secs(3);

/// Arguments of `doctor`.
#[derive(clap::Args, Debug)]
pub struct DoctorArgs {
    #[command(flatten)]
    services: ServiceArgs,
}

/// Result of a check.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize)]
#[serde(rename_all = "lowercase")]
enum Verdict {
    /// The check found no problem.
    Ok,
    /// The check found no problem, but has information for the user.
    Note,
    /// The check could not be performed.
    Unknown,
    /// Some features do not work on this machine, or may behave unexpectedly.
    Warning,
    /// The agent cannot work on this machine.
    Problem,
}

impl Verdict {
    fn text(self) -> &'static str {
        match self {
            Verdict::Ok => "ok",
            Verdict::Note => "note",
            Verdict::Unknown => "unknown",
            Verdict::Warning => "warning",
            Verdict::Problem => "problem",
        }
    }

    fn tone(self) -> Tone {
        match self {
            Verdict::Ok => Tone::Good,
            Verdict::Note => Tone::Faint,
            Verdict::Unknown | Verdict::Warning => Tone::Waiting,
            Verdict::Problem => Tone::Bad,
        }
    }
}

/// Result of one check, with a remedy if the user should do something.
#[derive(Clone, Debug, Serialize)]
struct Finding {
    check: String,
    verdict: Verdict,
    finding: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    remedy: String,
}

impl Finding {
    fn new(check: impl Into<String>, verdict: Verdict, finding: impl Into<String>) -> Self {
        Finding {
            check: check.into(),
            verdict,
            finding: finding.into(),
            remedy: String::new(),
        }
    }

    fn ok(check: impl Into<String>, finding: impl Into<String>) -> Self {
        Self::new(check, Verdict::Ok, finding)
    }

    fn remedy(mut self, remedy: impl Into<String>) -> Self {
        self.remedy = remedy.into();
        self
    }
}

/// Checks the machine and prints the results.
///
/// Returns a failure code if the agent cannot work, or if a check could not be performed.
pub async fn run(args: &DoctorArgs, agent: &Agent, output: &Output) -> Outcome {
    let machine = Machine::this();
    let mut findings = machine.findings();
    findings.extend(managers::findings(&machine));
    findings.extend(services::findings(&args.services, agent, TIME_LIMIT).await);
    print(&findings, output)?;
    let is_bad = |finding: &Finding| matches!(finding.verdict, Verdict::Problem | Verdict::Unknown);
    Ok(if findings.iter().any(is_bad) { FAILED } else { 0 })
}

fn print(findings: &[Finding], output: &Output) -> Result<(), Failure> {
    match output.format {
        Format::Json | Format::Yaml => return output.document(findings),
        Format::Name => return findings.iter().try_for_each(|finding| output.line(&visible(&finding.check))),
        Format::Table | Format::Wide => {}
    }
    let mut table = Table::new(["CHECK", "RESULT", "FOUND"]);
    for finding in findings {
        table.row([
            finding.check.as_str().into(),
            Cell::new(finding.verdict.text(), finding.verdict.tone()),
            finding.finding.as_str().into(),
        ]);
    }
    output.table(&table)?;
    let with_remedy: Vec<&Finding> = findings.iter().filter(|finding| !finding.remedy.is_empty()).collect();
    let unknown: Vec<&str> = findings
        .iter()
        .filter(|finding| finding.verdict == Verdict::Unknown)
        .map(|finding| finding.check.as_str())
        .collect();
    if !unknown.is_empty() {
        output.line(&format!("\nIncomplete result: could not check {}.", visible(&unknown.join(", "))))?;
    }
    if with_remedy.is_empty() {
        return output.line("\nNo problems found.");
    }
    output.line(&format!("\n{}", output.paint("What to do", Tone::Strong)))?;
    for finding in with_remedy {
        let check = output.paint(&finding.check, finding.verdict.tone());
        output.line(&format!("  {check}: {}", visible(&finding.remedy)))?;
    }
    Ok(())
}
