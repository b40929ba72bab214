//! Runs the agent under test as a process.
//!
//! Tests observe the agent only through the store and the kernel.

use std::time::Duration;

use nix::{sys::signal::Signal, time::ClockId, unistd::Pid};

use super::{
    process::Process,
    store::{EMBEDDED_LISTEN, StoreKind},
};

/// Log file of the agents that a test starts one after the other.
pub const LOG: &str = "/run/live/agent.log";

/// A running agent.
pub struct Agent {
    process: Process,
}

/// Returns the path of the program under test. `LIVE_AGENT` names another build, such as an optimized one.
pub fn program() -> String {
    std::env::var("LIVE_AGENT").unwrap_or_else(|_| env!("CARGO_BIN_EXE_netns-agent").to_owned())
}

impl Agent {
    /// Starts `netns-agent run` like [`Self::start_with`], without a launcher.
    pub fn start(label: &str, kind: StoreKind, endpoint: &str, docker_host: &str, filter: &str, further: &[String]) -> Self {
        Self::start_with(&[], label, kind, endpoint, docker_host, filter, further)
    }

    /// Starts `netns-agent run` for this label. `launcher` is a command that executes its arguments; empty for none.
    ///
    /// `endpoint` is the address of a real etcd, or of a proxy in front of it. `docker_host` is the address of a Docker daemon,
    /// which may start later. `filter` is the value of `--log`, and `further` contains additional arguments.
    pub fn start_with(
        launcher: &[String],
        label: &str,
        kind: StoreKind,
        endpoint: &str,
        docker_host: &str,
        filter: &str,
        further: &[String],
    ) -> Self {
        let program = program();
        let mut arguments: Vec<&str> = launcher.iter().map(String::as_str).collect();
        arguments.extend([
            program.as_str(),
            "run",
            "--microservice-label",
            label,
            "--data-dir",
            "/run/live/data",
            "--docker-host",
            docker_host,
            "--log",
            filter,
        ]);
        match kind {
            StoreKind::Etcd => arguments.extend(["--etcd-endpoints", endpoint]),
            StoreKind::Embedded => arguments.extend(["--embedded-listen", EMBEDDED_LISTEN]),
        }
        arguments.extend(further.iter().map(String::as_str));
        Self {
            process: Process::start(arguments[0], &arguments[1..], LOG),
        }
    }

    /// Returns the PID in the test's PID namespace.
    pub fn pid(&self) -> i32 {
        self.process.pid()
    }

    /// Returns the CPU time that all threads of the agent have used since its start.
    pub fn processor_time(&self) -> Duration {
        let clock = ClockId::pid_cpu_clock_id(Pid::from_raw(self.pid())).expect("the agent runs");
        clock.now().expect("the agent runs").into()
    }

    /// Returns true if the agent is still running.
    pub fn runs(&mut self) -> bool {
        self.process.runs()
    }

    /// Waits until the agent ends by itself.
    pub async fn ended(&mut self) -> std::process::ExitStatus {
        self.process.ended().await
    }

    /// Sends SIGTERM and asserts that the agent ends with exit code 0.
    pub async fn stop(self) {
        let log = self.process.log_tail(40);
        let status = self.process.terminate().await;
        assert!(
            status.success(),
            "the agent must end with exit code 0 after SIGTERM, but ended with {status}; its log before that:\n{log}"
        );
    }

    /// Sends SIGKILL, as in a crash.
    pub async fn kill(self) {
        self.process.kill().await;
    }

    /// Sends a signal to the agent.
    pub fn signal(&self, signal: Signal) {
        self.process.signal(signal);
    }

    /// Suspends the agent with SIGSTOP, which a process cannot catch or ignore.
    pub fn freeze(&self) {
        self.process.signal(Signal::SIGSTOP);
    }

    /// Resumes the agent with SIGCONT.
    pub fn thaw(&self) {
        self.process.signal(Signal::SIGCONT);
    }
}
