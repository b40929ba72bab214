//! Processes that a test starts and ends: daemons with a log file, and sleeping processes in their own network namespace.
//!
//! Signals are sent only to these processes. See [`Process`] and [`Holder`].

use std::{
    fs::File,
    path::{Path, PathBuf},
    process::{ExitStatus, Stdio},
    time::Duration,
};

use nix::{
    sched::CloneFlags,
    sys::signal::{Signal, kill},
    unistd::Pid,
};

/// Time limit for a process to end after SIGTERM.
const TERMINATION_TIME_LIMIT: Duration = Duration::from_secs(20);

/// A started program whose output goes to a log file. It is killed on drop.
pub struct Process {
    child: tokio::process::Child,
    name: String,
    log: PathBuf,
}

impl Process {
    /// Starts `program` and appends its output to the file `log`.
    pub fn start(program: &str, arguments: &[&str], log: &str) -> Self {
        let file = File::options()
            .create(true)
            .append(true)
            .open(log)
            .unwrap_or_else(|error| panic!("log file {log}: {error}"));
        let child = tokio::process::Command::new(program)
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(file.try_clone().expect("a second handle of the log"))
            .stderr(file)
            .kill_on_drop(true)
            .spawn()
            .unwrap_or_else(|error| panic!("cannot start `{program}`: {error}"));
        Self {
            child,
            name: program.to_owned(),
            log: PathBuf::from(log),
        }
    }

    /// Returns the PID in the test's PID namespace.
    pub fn pid(&self) -> i32 {
        self.child
            .id()
            .and_then(|id| i32::try_from(id).ok())
            .unwrap_or_else(|| panic!("{} has ended; its log:\n{}", self.name, self.log_tail(60)))
    }

    /// Sends a signal to the process.
    pub fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(self.pid()), signal).unwrap_or_else(|error| panic!("{signal} to {}: {error}", self.name));
    }

    /// Returns true if the process is still running.
    pub fn runs(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }

    /// Sends SIGTERM, waits for the end of the process, and returns its exit status.
    pub async fn terminate(mut self) -> ExitStatus {
        self.signal(Signal::SIGTERM);
        self.wait().await
    }

    /// Waits without a time limit until the process ends.
    pub async fn ended(&mut self) -> ExitStatus {
        self.child
            .wait()
            .await
            .unwrap_or_else(|error| panic!("waiting for {}: {error}", self.name))
    }

    /// Waits until the process has ended after a signal. Panics after a time limit.
    pub async fn wait(&mut self) -> ExitStatus {
        match tokio::time::timeout(TERMINATION_TIME_LIMIT, self.child.wait()).await {
            Ok(status) => status.unwrap_or_else(|error| panic!("waiting for {}: {error}", self.name)),
            Err(_) => panic!(
                "{} is still running after {TERMINATION_TIME_LIMIT:?}; its log:\n{}",
                self.name,
                self.log_tail(60)
            ),
        }
    }

    /// Kills the process with SIGKILL.
    pub async fn kill(mut self) {
        self.child
            .kill()
            .await
            .unwrap_or_else(|error| panic!("killing {}: {error}", self.name));
    }

    /// Returns the last lines of the log.
    pub fn log_tail(&self, lines: usize) -> String {
        tail(&self.log, lines)
    }
}

/// Returns the last lines of a file.
pub fn tail(path: &Path, lines: usize) -> String {
    let text = std::fs::read_to_string(path).unwrap_or_else(|error| format!("(cannot read {}: {error})", path.display()));
    let all: Vec<&str> = text.lines().collect();
    all[all.len().saturating_sub(lines)..].join("\n")
}

/// A sleeping process in its own network namespace.
pub struct Holder {
    child: std::process::Child,
}

impl Holder {
    /// Starts a process. If `pid` is given, the process gets exactly this PID, which must be free.
    ///
    /// A thread creates the namespace and then forks, so the process is in this namespace from the start. The kernel assigns the
    /// PID that follows `ns_last_pid`. If another process or thread gets this PID first, the function tries again.
    pub fn start(pid: Option<i32>) -> Self {
        for _ in 0..200 {
            let child = std::thread::spawn(move || {
                nix::sched::unshare(CloneFlags::CLONE_NEWNET).expect("create a network namespace");
                if let Some(pid) = pid {
                    std::fs::write("/proc/sys/kernel/ns_last_pid", (pid - 1).to_string())
                        .expect("set ns_last_pid in the PID namespace of the test");
                }
                std::process::Command::new("sleep")
                    .arg("infinity")
                    .stdin(Stdio::null())
                    .spawn()
                    .expect("start sleep")
            })
            .join()
            .expect("the thread that starts the process");
            let mut holder = Self { child };
            match pid {
                Some(pid) if holder.pid() != pid => holder.end(),
                _ => return holder,
            }
        }
        panic!("cannot get PID {pid:?} in 200 tries");
    }

    /// Returns the PID in the test's PID namespace.
    pub fn pid(&self) -> i32 {
        i32::try_from(self.child.id()).expect("a PID fits into an i32")
    }

    /// Returns the path of the process's network namespace file.
    pub fn netns(&self) -> PathBuf {
        PathBuf::from(format!("/proc/{}/ns/net", self.pid()))
    }

    /// Kills and reaps the process, which frees its PID.
    pub fn end(&mut self) {
        self.child.kill().expect("kill the holder");
        self.child.wait().expect("reap the holder");
    }
}

impl Drop for Holder {
    fn drop(&mut self) {
        // Ignore errors, because the process ends with the test's PID namespace anyway.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
