//! The agent under test, as a process.
//!
//! Owns its command line and its life; must never reach into it (the tests know it by the store and by the kernel alone).
//! Start reading at [`Agent::start`].

use std::time::Duration;

use nix::{sys::signal::Signal, time::ClockId, unistd::Pid};

use super::{
    process::Process,
    store::{EMBEDDED_LISTEN, StoreKind},
};

/// Where the agent logs to, over all its lives in a scenario.
pub const LOG: &str = "/run/live/agent.log";

/// A running agent.
pub struct Agent {
    process: Process,
}

/// Path of the program under test.
pub fn program() -> String {
    std::env::var("LIVE_AGENT").unwrap_or_else(|_| env!("CARGO_BIN_EXE_netns-agent").to_owned())
}

impl Agent {
    /// Starts `netns-agent run` for this label; `endpoint` is where a real etcd, or a proxy before it, listens,
    /// `docker_host` where a Docker daemon may come to listen, `filter` what is logged, and `further` what else it is told. The
    /// environment variable `LIVE_AGENT` names another build of the program, such as an optimised one.
    pub fn start(label: &str, kind: StoreKind, endpoint: &str, docker_host: &str, filter: &str, further: &[String]) -> Self {
        let program = program();
        let mut arguments = vec![
            "run",
            "--microservice-label",
            label,
            "--data-dir",
            "/run/live/data",
            "--docker-host",
            docker_host,
            "--log",
            filter,
        ];
        match kind {
            StoreKind::Etcd => arguments.extend(["--etcd-endpoints", endpoint]),
            StoreKind::Embedded => arguments.extend(["--embedded-listen", EMBEDDED_LISTEN]),
        }
        arguments.extend(further.iter().map(String::as_str));
        Self {
            process: Process::start(&program, &arguments, LOG),
        }
    }

    /// PID in the scenario's PID namespace.
    pub fn pid(&self) -> i32 {
        self.process.pid()
    }

    /// Returns the processor time that all threads of the agent have used since its start.
    pub fn processor_time(&self) -> Duration {
        let clock = ClockId::pid_cpu_clock_id(Pid::from_raw(self.pid())).expect("the agent runs");
        clock.now().expect("the agent runs").into()
    }

    /// Whether it still runs.
    pub fn runs(&mut self) -> bool {
        self.process.runs()
    }

    /// Waits until the agent ends by itself.
    pub async fn ended(&mut self) -> std::process::ExitStatus {
        self.process.ended().await
    }

    /// SIGTERM; the agent must leave with exit code 0.
    pub async fn stop(self) {
        let log = self.process.log_tail(40);
        let status = self.process.terminate().await;
        assert!(
            status.success(),
            "the agent ended with {status} after SIGTERM, not with 0; its log before that:\n{log}"
        );
    }

    /// SIGKILL, as a crash.
    pub async fn kill(self) {
        self.process.kill().await;
    }

    /// SIGSTOP: cut off from everything, without a chance to notice.
    pub fn freeze(&self) {
        self.process.signal(Signal::SIGSTOP);
    }

    /// SIGCONT.
    pub fn thaw(&self) {
        self.process.signal(Signal::SIGCONT);
    }
}
