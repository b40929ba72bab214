//! Starts and kills the demo's agent. The agent is a separate process, with the command line that a user would type.

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

/// Address of the agent's embedded store.
pub const ENDPOINT: &str = "127.0.0.1:2379";
const DATA_DIR: &str = "/run/netns-agent-demo";
const LOG: &str = "/run/netns-agent-demo.log";
/// Number of log lines shown after a failure.
const TAIL_LINES: usize = 30;
/// Timeout for the store to start listening. A debug build on a busy machine needs about 0.1 s.
const START_TIME_LIMIT: Duration = Duration::from_secs(10);
/// Interval between connection attempts. The demo has to poll, because no event reports that the store has started to listen.
const CONNECT_INTERVAL: Duration = Duration::from_millis(2);

/// Running agent, which is killed when this value is dropped.
pub struct Agent {
    child: Child,
}

impl Agent {
    /// Starts the agent and waits until its store listens.
    pub async fn start() -> anyhow::Result<Self> {
        let log = File::options()
            .create(true)
            .append(true)
            .open(LOG)
            .with_context(|| format!("cannot open the agent's log {LOG}"))?;
        let child = Command::new(THIS_PROGRAM)
            .arg0(SHOWN_AS)
            .args(arguments())
            // Clear the environment, because the user's environment can contain settings for another agent.
            .env_clear()
            .env("RUST_LOG", "info")
            .stdin(Stdio::null())
            .stdout(log.try_clone().context("cannot duplicate the file descriptor of the agent's log")?)
            .stderr(log)
            .kill_on_drop(true)
            .spawn()
            .context("cannot start the agent")?;
        let mut agent = Agent { child };
        agent.listens().await?;
        Ok(agent)
    }

    async fn listens(&mut self) -> anyhow::Result<()> {
        let deadline = Instant::now() + START_TIME_LIMIT;
        loop {
            if TcpStream::connect(ENDPOINT).await.is_ok() {
                return Ok(());
            }
            if let Some(status) = self.child.try_wait().context("cannot read the exit status of the agent")? {
                bail!("expected the agent to serve {ENDPOINT}, but it exited ({status})");
            }
            if Instant::now() > deadline {
                bail!(
                    "expected the agent to serve {ENDPOINT} within {} s, but nothing listens there",
                    START_TIME_LIMIT.as_secs()
                );
            }
            sleep(CONNECT_INTERVAL).await;
        }
    }

    /// Kills the agent with SIGKILL and waits until it has exited.
    pub async fn kill(mut self) -> anyhow::Result<()> {
        self.child.kill().await.context("cannot kill the agent")
    }
}

/// Returns the command line of the agent, for display.
pub fn shown_command() -> String {
    format!("netns-agent {}", arguments().join(" "))
}

fn arguments() -> [&'static str; 9] {
    // Use a Docker socket path below `/run`, because the sandbox has its own `/run`, which contains no Docker socket. Any other
    // path could lead to a socket of the host.
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

/// Returns the last lines of the log file, to which every agent of this demo appends.
pub fn log_tail() -> String {
    let text = fs::read_to_string(LOG).unwrap_or_else(|error| format!("(cannot read {LOG}: {error})"));
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(TAIL_LINES)..].join("\n")
}
