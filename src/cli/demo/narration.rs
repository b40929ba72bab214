//! What the reader sees: titles, commands, results with their time; colour where there is a terminal for it.
//!
//! Owns the layout. Must never decide what is told. Start reading at [`Narration::result`].

use std::{
    io::{IsTerminal, Write},
    time::Duration,
};

use super::agent::ENDPOINT;

/// Width to which explanations are wrapped.
const WIDTH: usize = 110;
/// Where explanations begin.
const INDENT: usize = 29;

/// What something is, for its colour (SGR parameters of ECMA-48).
#[derive(Clone, Copy)]
enum Tone {
    Title = 1,
    Dim = 2,
    Bad = 31,
    Good = 32,
    Waiting = 33,
}

/// See the [module documentation](self).
pub struct Narration {
    colour: bool,
}

impl Narration {
    /// Colour only for people: on a terminal, and unless `NO_COLOR` says otherwise (no-color.org).
    pub fn new() -> Self {
        let refused = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        Narration {
            colour: std::io::stdout().is_terminal() && !refused,
        }
    }

    /// A line as it is.
    pub fn line(&self, text: &str) {
        // A reader that has gone away (`| head`) is no reason to end: the network is still to be removed in order.
        let _ = writeln!(std::io::stdout(), "{text}");
    }

    /// The title of a step.
    pub fn step(&self, number: usize, title: &str) {
        self.line(&format!("\n{}", self.paint(Tone::Title, &format!("{number}. {title}"))));
    }

    /// A command, or what would do the same.
    pub fn command(&self, text: &str) {
        self.line(&self.paint(Tone::Dim, &format!("   $ {text}")));
    }

    /// A remark.
    pub fn remark(&self, text: &str) {
        self.line(&format!("   {text}"));
    }

    /// What came of it, after how long, and why.
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

    /// How long all took.
    pub fn total(&self, took: Duration) {
        self.line(&format!(
            "\n{} in {:.1} s: every step went as it should.",
            self.paint(Tone::Good, "Done"),
            took.as_secs_f64()
        ));
    }

    /// Something did not go as expected.
    pub fn failure(&self, error: &str, log: &str) {
        let mut stderr = std::io::stderr();
        let _ = writeln!(
            stderr,
            "\n{}\n{error}\n\nThe agent's log ends with:\n{log}",
            self.paint(Tone::Bad, "The demo failed.")
        );
    }

    /// How to reach what is kept.
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
        self.line("etcdctl comes with Debian's etcd-client; the store listens inside the demo's own network namespace only.");
    }

    /// What to do next.
    pub fn next_commands(&self, privileges_missing: bool) {
        let program = shown_program();
        let sudo = if privileges_missing { "sudo " } else { "" };
        self.line(&format!(
            "\n{}",
            self.paint(
                Tone::Title,
                "Next: the same on this machine. Start an agent, and speak to it from a second terminal:"
            )
        ));
        self.line(&format!("  {sudo}{program} run"));
        // The one type that every kernel has and that needs nothing else.
        let value = r#"{"name":"hello","type":"LOOPBACK","enabled":true,"ip_addresses":["10.1.2.3/32"],"namespace":{"type":"NSID","reference":"hello"}}"#;
        self.line(&format!(
            "  etcdctl put /vnf-agent/vpp1/config/linux/interfaces/v2/interface/hello '{value}'"
        ));
        self.line("  etcdctl get --prefix /vnf-agent/vpp1/config-status/");
        self.line("etcdctl comes with Debian's etcd-client. The namespace \"hello\" goes when the key is deleted.");
    }

    fn paint(&self, tone: Tone, text: &str) -> String {
        if self.colour {
            format!("\x1b[{}m{text}\x1b[0m", tone as u8)
        } else {
            text.to_owned()
        }
    }
}

/// Two decimals below one, one below ten, none above.
pub fn milliseconds(time: Duration) -> String {
    let value = time.as_secs_f64() * 1000.0;
    match value {
        ..1.0 => format!("{value:.2} ms"),
        ..10.0 => format!("{value:.1} ms"),
        _ => format!("{value:.0} ms"),
    }
}

/// The path of this program as one would type it here.
fn shown_program() -> String {
    let Ok(program) = std::env::current_exe() else {
        return "netns-agent".to_owned();
    };
    let here = std::env::current_dir().ok();
    let below = here.and_then(|here| program.strip_prefix(here).ok().map(std::path::Path::to_path_buf));
    match below {
        // A name without a slash would be looked for on PATH.
        Some(name) if name.components().count() == 1 => format!("./{}", name.display()),
        Some(path) => path.display().to_string(),
        None => program.display().to_string(),
    }
}

/// Breaks a text at spaces into lines of at most `width` characters; longer words stay whole.
fn wrap(text: &str, width: usize) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for word in text.split_whitespace() {
        match lines.last_mut() {
            Some(line) if line.chars().count() + 1 + word.chars().count() <= width => {
                line.push(' ');
                line.push_str(word);
            }
            _ => lines.push(word.to_owned()),
        }
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_as_long_as_fits_and_words_stay_whole() {
        assert_eq!(wrap("one two three", 7), ["one two", "three"]);
        assert_eq!(wrap("incomprehensible a b", 3), ["incomprehensible", "a b"]);
        assert!(wrap("", 3).is_empty());
    }

    #[test]
    fn times_are_as_exact_as_they_are_short() {
        assert_eq!(milliseconds(Duration::from_micros(41)), "0.04 ms");
        assert_eq!(milliseconds(Duration::from_micros(1230)), "1.2 ms");
        assert_eq!(milliseconds(Duration::from_micros(123_456)), "123 ms");
    }
}
