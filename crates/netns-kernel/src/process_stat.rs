//! Parses `/proc/PID/stat` (proc_pid_stat(5)).
//!
//! The command name can contain spaces and parentheses. The later fields are therefore counted from the *last* closing
//! parenthesis.

use std::{fs, io, path::Path, time::Duration};

/// Length of a clock tick in milliseconds. It is the same on every architecture, because USER_HZ is always 100.
const TICK_MS: u64 = 10;

/// State of a process, as in `/proc/PID/stat`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ProcessStat {
    /// Command name of at most 15 bytes. It can contain any character.
    pub comm: String,
    /// State letter: R, S, D, Z (zombie), …
    pub state: char,
    /// PID of the parent process.
    pub parent: i32,
    /// CPU time (user and system) used by all threads, in clock ticks.
    pub processor_ticks: u64,
    /// Start time in clock ticks after boot.
    pub start_time: u64,
}

impl ProcessStat {
    /// Reads the state of a process.
    ///
    /// # Errors
    /// Returns the kernel's error if the file cannot be read (`NotFound` if there is no such process), or `InvalidData` if the
    /// file cannot be parsed.
    pub fn of(pid: i32) -> io::Result<Self> {
        Self::read(Path::new(&format!("/proc/{pid}/stat")))
    }

    /// Reads the state of this process.
    ///
    /// # Errors
    /// Returns the same errors as [`of`](Self::of).
    pub fn of_this_process() -> io::Result<Self> {
        Self::read(Path::new("/proc/self/stat"))
    }

    pub(super) fn read(file: &Path) -> io::Result<Self> {
        let line = fs::read(file)?;
        let line = String::from_utf8_lossy(&line);
        let wrong = || io::Error::new(io::ErrorKind::InvalidData, format!("{} has no field 22: {line:?}", file.display()));
        Self::parse(&line).ok_or_else(wrong)
    }

    fn parse(line: &str) -> Option<Self> {
        let (open, close) = (line.find('(')?, line.rfind(')')?);
        let comm = line.get(open + 1..close)?.to_owned();
        let fields: Vec<&str> = line.get(close + 1..)?.split_ascii_whitespace().collect();
        // The first item of `fields` is field 3.
        let field = |number: usize| fields.get(number - 3);
        Some(Self {
            comm,
            state: field(3)?.chars().next()?,
            parent: field(4)?.parse().ok()?,
            processor_ticks: field(14)?.parse::<u64>().ok()? + field(15)?.parse::<u64>().ok()?,
            start_time: field(22)?.parse().ok()?,
        })
    }

    /// Returns whether the process has ended, even if it has not been reaped yet.
    pub fn ended(&self) -> bool {
        matches!(self.state, 'Z' | 'X' | 'x')
    }

    /// Returns the CPU time (user and system) used by all threads.
    pub fn processor_time(&self) -> Duration {
        Duration::from_millis(self.processor_ticks.saturating_mul(TICK_MS))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn command_name_may_contain_spaces_and_parentheses() {
        for (name, comm) in [("(a) R (b c)", "a) R (b c"), ("(a) R 1 (b))", "a) R 1 (b)")] {
            let line = format!("4321 {name} S 1 4321 4321 0 -1 4194560 1 0 0 0 20 3 0 0 20 0 1 0 987654 0 0 18446744073709551615");
            let stat = ProcessStat::parse(&line).expect("valid line");
            let expected = ProcessStat {
                comm: comm.to_owned(),
                state: 'S',
                parent: 1,
                processor_ticks: 23,
                start_time: 987_654,
            };
            assert_eq!(stat, expected);
            assert_eq!(stat.processor_time(), Duration::from_millis(230));
        }
    }

    #[test]
    fn truncated_line_is_rejected() {
        for line in ["4321 (a) S 1 2 3", "", ")("] {
            assert_eq!(ProcessStat::parse(line), None);
        }
    }

    #[test]
    fn reads_the_state_of_this_process() {
        let this = ProcessStat::of_this_process().expect("readable /proc");
        let pid = i32::try_from(std::process::id()).expect("PID that fits");
        assert_eq!(ProcessStat::of(pid).expect("running process").start_time, this.start_time);
        assert!(!this.ended());
    }
}
