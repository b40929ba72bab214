//! How a command ends: with an exit code, or with a sentence that says what failed and what to do next.
//!
//! Owns the exit codes. Must never print anything but to standard error. Start reading at [`Failure`].

use std::{fmt, io, process::ExitCode};

use super::output::visible;

/// It failed: the agent cannot be reached, it refused, or what was asked for is not so.
pub const FAILED: u8 = 1;
/// For `plan` and `diff`: there is something to do. (Elsewhere 2 is usage, as clap has it.)
pub const CHANGES: u8 = 2;
/// What was waited for did not come in time.
pub const NOT_IN_TIME: u8 = 3;

/// The same for people; shown by `--help`.
pub const EXIT_CODES: &str = "Exit codes: 0 done; 1 failure; 2 usage; 3 what was waited for did not come in time.
`plan` and `diff`: 0 nothing to do, 1 failure or usage, 2 there are changes.
A reader of the output that goes away (as `head` does) is no failure.";

/// What a command comes to.
pub type Outcome = Result<u8, Failure>;

/// Why a command failed.
#[derive(Debug)]
pub struct Failure {
    message: String,
    next: String,
    code: u8,
}

impl Failure {
    /// What failed, on what, in whose words.
    pub fn new(message: impl Into<String>) -> Self {
        Failure {
            message: message.into(),
            next: String::new(),
            code: FAILED,
        }
    }

    /// With what to do next.
    #[must_use]
    pub fn next(mut self, next: impl Into<String>) -> Self {
        self.next = next.into();
        self
    }

    /// With another exit code than [`FAILED`].
    #[must_use]
    pub fn code(mut self, code: u8) -> Self {
        self.code = code;
        self
    }

    /// Nobody reads the output any more: the command ends, and that is all right.
    fn unread() -> Self {
        Failure {
            message: String::new(),
            next: String::new(),
            code: 0,
        }
    }

    /// What failed.
    pub fn message(&self) -> &str {
        &self.message
    }

    /// Prints the failure, and returns the exit code.
    pub fn report(&self) -> ExitCode {
        if !self.message.is_empty() {
            eprintln!("netns-agent: {self}");
        }
        ExitCode::from(self.code)
    }
}

/// Control characters are escaped: a failure may quote keys and values of others, and a terminal would obey them.
impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&visible(&self.message))?;
        match self.next.is_empty() {
            true => Ok(()),
            false => write!(f, "\n  {}", visible(&self.next)),
        }
    }
}

/// Prints a remark on standard error, with control characters escaped.
pub fn remark(text: &str) {
    eprintln!("netns-agent: {}", visible(text));
}

/// Of writing to standard output.
impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::BrokenPipe => Failure::unread(),
            _ => Failure::new(format!("cannot write the output: {error}")),
        }
    }
}
