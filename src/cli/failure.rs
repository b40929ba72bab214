//! Exit codes and error messages of commands. Messages go to standard error only.

use std::{fmt, io, process::ExitCode};

use super::output::visible;

/// Exit code of a failure, such as an unreachable agent, a rejected request, or a check that found a problem.
pub const FAILED: u8 = 1;
/// Exit code of `plan` and `diff` if there are changes. For other commands, 2 is a usage error (clap's default).
pub const CHANGES: u8 = 2;
/// Exit code of a timeout while waiting for values.
pub const NOT_IN_TIME: u8 = 3;

/// Description of the exit codes, shown by `--help`.
pub const EXIT_CODES: &str = "Exit codes: 0 success; 1 failure; 2 usage error; 3 timeout while waiting for values.
`plan` and `diff`: 0 no changes, 1 failure or usage error, 2 changes.
A closed output pipe (as with `head`) is not an error.";

/// Result of a command: its exit code, or a failure.
pub type Outcome = Result<u8, Failure>;

/// Failure of a command: error message, hint and exit code.
#[derive(Debug)]
pub struct Failure {
    message: String,
    next: String,
    code: u8,
}

impl Failure {
    /// Creates a failure with an error message, without a hint.
    pub fn new(message: impl Into<String>) -> Self {
        Failure {
            message: message.into(),
            next: String::new(),
            code: FAILED,
        }
    }

    /// Sets the hint, which tells the user what to do next.
    #[must_use]
    pub fn next(mut self, next: impl Into<String>) -> Self {
        self.next = next.into();
        self
    }

    /// Sets the exit code, which is [`FAILED`] by default.
    #[must_use]
    pub fn code(mut self, code: u8) -> Self {
        self.code = code;
        self
    }

    /// Creates the failure for a closed output pipe. It has no message, and its exit code is 0.
    fn unread() -> Self {
        Failure {
            message: String::new(),
            next: String::new(),
            code: 0,
        }
    }

    /// Returns the error message.
    pub fn message(&self) -> &str {
        &self.message
    }

    /// Prints the message and the hint, and returns the exit code.
    pub fn report(&self) -> ExitCode {
        if !self.message.is_empty() {
            eprintln!("netns-agent: {self}");
        }
        ExitCode::from(self.code)
    }
}

/// Escapes control characters, because a message can quote untrusted keys and values, and a terminal would interpret the control
/// characters in them.
impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&visible(&self.message))?;
        match self.next.is_empty() {
            true => Ok(()),
            false => write!(f, "\n  {}", visible(&self.next)),
        }
    }
}

/// Prints a note to standard error, with control characters escaped.
pub fn remark(text: &str) {
    eprintln!("netns-agent: {}", visible(text));
}

/// Converts an error that occurred during a write to standard output. A closed pipe becomes exit code 0 without a message.
impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::BrokenPipe => Failure::unread(),
            _ => Failure::new(format!("cannot write the output: {error}")),
        }
    }
}
