//! Prints the titles, commands and results of the demo. The output is coloured on a terminal.

use std::{
    io::{IsTerminal, Write},
    time::Duration,
};

use super::agent::ENDPOINT;
use crate::cli::output::wrap;

/// Line width at which explanations are wrapped.
const WIDTH: usize = 110;
/// Column at which explanations begin.
const INDENT: usize = 29;

/// Style of a text. Each number is an SGR parameter (ECMA-48).
#[derive(Clone, Copy)]
enum Tone {
    Title = 1,
    Dim = 2,
    Bad = 31,
    Good = 32,
    Waiting = 33,
}

/// Writer of the demo's output.
pub struct Narration {
    colour: bool,
}

impl Narration {
    /// Creates the writer, with colours if standard output is a terminal and `NO_COLOR` is not set (no-color.org).
    pub fn new() -> Self {
        let refused = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        Narration {
            colour: std::io::stdout().is_terminal() && !refused,
        }
    }

    /// Prints a line.
    pub fn line(&self, text: &str) {
        // Ignore a closed pipe (`| head`), so that the demo continues to its last step, which deletes the network.
        let _ = writeln!(std::io::stdout(), "{text}");
    }

    /// Prints the title of a step.
    pub fn step(&self, number: usize, title: &str) {
        self.line(&format!("\n{}", self.paint(Tone::Title, &format!("{number}. {title}"))));
    }

    /// Prints a shell command that would have the same effect as the next action of the demo.
    pub fn command(&self, text: &str) {
        self.line(&self.paint(Tone::Dim, &format!("   $ {text}")));
    }

    /// Prints a remark.
    pub fn remark(&self, text: &str) {
        self.line(&format!("   {text}"));
    }

    /// Prints a result: the state, the time that it took to reach it, and an explanation.
    pub fn result(&self, state: &str, took: Duration, explanation: &str) {
        let tone = if state == "PENDING" { Tone::Waiting } else { Tone::Good };
        let head = format!("     {} {:>8}  ", self.paint(tone, &format!("{state:<13}")), milliseconds(took));
        let lines = wrap(explanation, WIDTH - INDENT);
        let mut rest = lines.iter();
        self.line(&format!("{head}{}", rest.next().map_or("", String::as_str)));
        for line in rest {
            self.line(&format!("{:INDENT$}{line}", ""));
        }
    }

    /// Prints the total duration of the demo.
    pub fn total(&self, took: Duration) {
        self.line(&format!(
            "\n{} in {:.1} s: all steps succeeded.",
            self.paint(Tone::Good, "Done"),
            took.as_secs_f64()
        ));
    }

    /// Prints a failure and the end of the agent's log to standard error.
    pub fn failure(&self, error: &str, log: &str) {
        let mut stderr = std::io::stderr();
        let _ = writeln!(
            stderr,
            "\n{}\n{error}\n\nThe agent's log ends with:\n{log}",
            self.paint(Tone::Bad, "The demo failed.")
        );
    }

    /// Prints how to access the agent, which keeps running until Ctrl-C.
    pub fn kept(&self, way_in: &str) {
        self.line(&format!(
            "\n{}",
            self.paint(
                Tone::Title,
                "The agent keeps running until Ctrl-C. From another terminal of the same user:"
            )
        ));
        self.line(&format!("  {way_in} etcdctl --endpoints {ENDPOINT} get --prefix /vnf-agent/demo/"));
        self.line(&format!("  {way_in} ip -n web address"));
        self.line(&format!(
            "  {way_in} etcdctl --endpoints {ENDPOINT} watch --prefix /vnf-agent/demo/config-status/"
        ));
        self.line("etcdctl is in Debian's package etcd-client; the store listens only inside the network namespace of the demo.");
    }

    /// Prints example commands for trying the agent on this machine.
    pub fn next_commands(&self, privileges_missing: bool) {
        let program = shown_program();
        let sudo = if privileges_missing { "sudo " } else { "" };
        self.line(&format!(
            "\n{}",
            self.paint(
                Tone::Title,
                "Next: try it on this machine. Start an agent, and configure it from a second terminal:"
            )
        ));
        self.line(&format!("  {sudo}{program} run"));
        // The example uses a LOOPBACK, because every kernel supports it and it has no dependencies.
        let value = r#"{"name":"hello","type":"LOOPBACK","enabled":true,"ip_addresses":["10.1.2.3/32"],"namespace":{"type":"NSID","reference":"hello"}}"#;
        self.line(&format!(
            "  etcdctl put /vnf-agent/vpp1/config/linux/interfaces/v2/interface/hello '{value}'"
        ));
        self.line("  etcdctl get --prefix /vnf-agent/vpp1/config-status/");
        self.line("etcdctl is in Debian's package etcd-client. The agent deletes the namespace \"hello\" when you delete the key.");
    }

    fn paint(&self, tone: Tone, text: &str) -> String {
        if self.colour {
            format!("\x1b[{}m{text}\x1b[0m", tone as u8)
        } else {
            text.to_owned()
        }
    }
}

/// Formats a duration in milliseconds, with two decimals below 1 ms, one below 10 ms, and none otherwise.
pub fn milliseconds(time: Duration) -> String {
    let value = time.as_secs_f64() * 1000.0;
    match value {
        ..1.0 => format!("{value:.2} ms"),
        ..10.0 => format!("{value:.1} ms"),
        _ => format!("{value:.0} ms"),
    }
}

/// Returns the path of this program as a user would type it in the current directory.
fn shown_program() -> String {
    let Ok(program) = std::env::current_exe() else {
        return "netns-agent".to_owned();
    };
    let here = std::env::current_dir().ok();
    let below = here.and_then(|here| program.strip_prefix(here).ok().map(std::path::Path::to_path_buf));
    match below {
        // Prefix the name with `./`, because the shell searches PATH for a name that contains no slash.
        Some(name) if name.components().count() == 1 => format!("./{}", name.display()),
        Some(path) => path.display().to_string(),
        None => program.display().to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shorter_durations_have_more_decimals() {
        assert_eq!(milliseconds(Duration::from_micros(41)), "0.04 ms");
        assert_eq!(milliseconds(Duration::from_micros(1230)), "1.2 ms");
        assert_eq!(milliseconds(Duration::from_micros(123_456)), "123 ms");
    }
}
