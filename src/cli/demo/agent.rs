//! The agent of the demo: another process of the same program, started as a user would start it.
//!
//! Owns its life and its log. Must never know anything of its inside. Start reading at [`Agent::start`].

use std::{
    fs::{self, File},
    process::Stdio,
    time::Duration,
};

use anyhow::{Context, bail};
use tokio::{
    net::TcpStream,
    process::{Child, Command},
    time::{Instant, sleep},
};

use super::{SHOWN_AS, THIS_PROGRAM, topology::LABEL};

/// Where its store listens. Nothing else listens in the sandbox.
pub const ENDPOINT: &str = "127.0.0.1:2379";
const DATA_DIR: &str = "/run/netns-agent-demo";
const LOG: &str = "/run/netns-agent-demo.log";
/// Lines of the log that are shown when something fails.
const TAIL_LINES: usize = 30;
/// How long the store may take to listen; a debug build on a busy machine takes a tenth of a second.
const START_PATIENCE: Duration = Duration::from_secs(10);
/// There is no event for "somebody listens on this port now", only another try.
const CONNECT_INTERVAL: Duration = Duration::from_millis(2);

/// A running agent; it ends with this value.
pub struct Agent {
    child: Child,
}

impl Agent {
    /// Starts it and waits until its store listens.
    pub async fn start() -> anyhow::Result<Self> {
        let log = File::options()
            .create(true)
            .append(true)
            .open(LOG)
            .with_context(|| format!("cannot open the agent's log {LOG}"))?;
        let child = Command::new(THIS_PROGRAM)
            .arg0(SHOWN_AS)
            .args(arguments())
            // Settings that the user has in the environment are for other agents.
            .env_clear()
            .env("RUST_LOG", "info")
            .stdin(Stdio::null())
            .stdout(log.try_clone().context("cannot share the agent's log")?)
            .stderr(log)
            .kill_on_drop(true)
            .spawn()
            .context("cannot start the agent")?;
        let mut agent = Agent { child };
        agent.listens().await?;
        Ok(agent)
    }

    async fn listens(&mut self) -> anyhow::Result<()> {
        let deadline = Instant::now() + START_PATIENCE;
        loop {
            if TcpStream::connect(ENDPOINT).await.is_ok() {
                return Ok(());
            }
            if let Some(status) = self.child.try_wait().context("cannot look after the agent")? {
                bail!("the agent was expected to run and serve {ENDPOINT}, but it ended ({status})");
            }
            if Instant::now() > deadline {
                bail!(
                    "the agent was expected to serve {ENDPOINT} within {} s, but nothing listens there",
                    START_PATIENCE.as_secs()
                );
            }
            sleep(CONNECT_INTERVAL).await;
        }
    }

    /// SIGKILL, and the end of it.
    pub async fn kill(mut self) -> anyhow::Result<()> {
        self.child.kill().await.context("cannot kill the agent")
    }
}

/// The command, for the reader.
pub fn shown_command() -> String {
    format!("netns-agent {}", arguments().join(" "))
}

fn arguments() -> [&'static str; 9] {
    // There is no Docker in the sandbox; a socket elsewhere than in /run would belong to the machine.
    [
        "run",
        "--microservice-label",
        LABEL,
        "--embedded-listen",
        ENDPOINT,
        "--data-dir",
        DATA_DIR,
        "--docker-host",
        "unix:///run/docker.sock",
    ]
}

/// The end of the agent's log, all starts together.
pub fn log_tail() -> String {
    let text = fs::read_to_string(LOG).unwrap_or_else(|error| format!("({LOG} cannot be read: {error})"));
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(TAIL_LINES)..].join("\n")
}
