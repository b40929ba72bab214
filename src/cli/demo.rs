//! `netns-agent demo`: demonstrates the agent in a sandbox of temporary namespaces.
//!
//! The agent runs in a separate process, which the demo controls only through the etcd API, as a user would. The sandbox must be
//! created before any thread or runtime starts. The module `script` contains the steps of the demo.
//!
//! ```text
//!  netns-agent demo ──(new user, mount, network and PID namespaces)──► netns-agent demo --part inside     runs the steps
//!        waits                                                            ├─► netns-agent run …           the agent
//!                                                                         └─► … demo --part workload      a process with a network
//! ```
//!
//! The inner process is the first process of its PID namespace. When it ends for any reason, the kernel kills all other processes
//! in that namespace. After the last process has ended, the kernel deletes the namespaces with their mounts and files.

mod agent;
mod checker;
mod narration;
mod observer;
mod script;
mod topology;

use std::{
    future::Future,
    io::Read,
    os::unix::process::CommandExt,
    process::{Command, ExitCode, Stdio},
    time::Instant,
};

use anyhow::{Context, bail};
use tokio::{
    runtime::Builder,
    signal::unix::{SignalKind, signal},
};

use netns_kernel::sandbox::{self, Rights};

use self::{narration::Narration, script::Script};

/// Path of this program. The path stays valid even if the program is rebuilt during the demo, or if its file is below `/run`, which
/// the sandbox hides.
const THIS_PROGRAM: &str = "/proc/self/exe";
/// Name under which the child processes appear in process lists.
const SHOWN_AS: &str = "netns-agent";

/// Arguments of `demo`.
#[derive(clap::Args, Clone, Debug)]
pub struct DemoArgs {
    /// Keep everything running at the end until Ctrl-C, to explore it with etcdctl and ip
    #[arg(long)]
    keep: bool,

    /// Role of this process in the demo
    #[arg(long, hide = true, value_enum, default_value_t = Part::Outside)]
    part: Part,

    /// The sandbox has a user namespace, which the printed nsenter commands must enter too
    #[arg(long, hide = true)]
    user_namespace: bool,
}

/// Role of a process in the demo.
#[derive(clap::ValueEnum, Clone, Copy, PartialEq, Eq, Debug)]
enum Part {
    /// Process started by the user
    Outside,
    /// Process in the sandbox that runs the steps
    Inside,
    /// Process that represents a program with a network namespace of its own
    Workload,
}

/// Runs the part of the demo that the arguments select for this process.
pub fn run(args: &DemoArgs) -> ExitCode {
    let done = match args.part {
        Part::Outside => outside(args),
        Part::Inside => inside(args),
        Part::Workload => workload(),
    };
    done.unwrap_or_else(|error| {
        eprintln!("netns-agent demo: {error:#}");
        ExitCode::FAILURE
    })
}

/// Creates the sandbox, starts the inner process in it, and waits until that process exits.
fn outside(args: &DemoArgs) -> anyhow::Result<ExitCode> {
    let rights = sandbox::leave().context("cannot create temporary namespaces for the demo")?;
    let mut command = Command::new(THIS_PROGRAM);
    command.arg0(SHOWN_AS).args(["demo", "--part", "inside"]);
    command.args(args.keep.then_some("--keep"));
    command.args((rights == Rights::UserNamespace).then_some("--user-namespace"));
    let runtime = Builder::new_current_thread()
        .enable_all()
        .build()
        .context("cannot start the runtime")?;
    let status = runtime.block_on(async {
        // The terminal sends Ctrl-C to both processes. This process ignores it and waits for the inner process, which handles it.
        let _interrupts = signal(SignalKind::interrupt())?;
        let mut child = tokio::process::Command::from(command).spawn()?;
        child.wait().await
    });
    let status = status.context("cannot run the demo in the temporary namespaces")?;
    match status.code() {
        Some(0) => Ok(ExitCode::SUCCESS),
        Some(code) => Ok(ExitCode::from(u8::try_from(code).unwrap_or(1))),
        None => bail!("the demo was killed ({status}); its namespaces have been removed"),
    }
}

/// Runs the steps of the demo inside the sandbox.
fn inside(args: &DemoArgs) -> anyhow::Result<ExitCode> {
    let outside_pid = sandbox::set_up().context("cannot set up the temporary namespaces")?;
    let runtime = Builder::new_current_thread()
        .enable_all()
        .build()
        .context("cannot start the runtime")?;
    runtime.block_on(async {
        let mut interrupts = signal(SignalKind::interrupt()).context("cannot wait for Ctrl-C")?;
        let mut interrupted = std::pin::pin!(async move { interrupts.recv().await });
        let began = Instant::now();
        let narration = Narration::new();
        let way_in = way_in(outside_pid, args.user_namespace);
        let Some(mut script) = unless(&mut interrupted, Script::begin(&narration)).await.transpose()? else {
            return Ok(interruption(&narration));
        };
        let shown = unless(&mut interrupted, script.run(args.keep)).await;
        match shown {
            None => return Ok(interruption(&narration)),
            Some(Err(error)) => {
                narration.failure(&format!("{error:#}"), &script.log_tail());
                return Ok(ExitCode::FAILURE);
            }
            Some(Ok(())) => narration.total(began.elapsed()),
        }
        if args.keep {
            narration.kept(&way_in);
            interrupted.await;
            narration.line("\nCtrl-C: the agent, its network and its namespaces have been removed.");
        } else {
            narration.next_commands(args.user_namespace);
        }
        Ok(ExitCode::SUCCESS)
    })
}

/// Returns the result of `work`, or `None` if `stop` completes first.
async fn unless<S: Future + Unpin, W: Future>(stop: &mut S, work: W) -> Option<W::Output> {
    tokio::select! {
        _ = stop => None,
        outcome = work => Some(outcome),
    }
}

fn interruption(narration: &Narration) -> ExitCode {
    narration.line("\nCtrl-C: demo interrupted; everything has been removed.");
    // The exit code is 128 + SIGINT, as shells report it for a command that was stopped with Ctrl-C.
    ExitCode::from(130)
}

/// Returns the command prefix that runs another command inside the sandbox.
fn way_in(outside_pid: u32, user_namespace: bool) -> String {
    let user = if user_namespace { "--user --preserve-credentials " } else { "" };
    format!("nsenter --target {outside_pid} {user}--mount --net --pid")
}

/// Waits until standard input is closed. In the meantime, the demo's agent configures the network namespace of this process.
fn workload() -> anyhow::Result<ExitCode> {
    let mut rest = Vec::new();
    std::io::stdin()
        .read_to_end(&mut rest)
        .context("cannot read standard input, which closes when the demo ends")?;
    Ok(ExitCode::SUCCESS)
}

/// Returns the command that starts a [`Part::Workload`] process. The process runs until its standard input is closed.
fn workload_command() -> Command {
    let mut command = Command::new(THIS_PROGRAM);
    command
        .arg0(SHOWN_AS)
        .args(["demo", "--part", "workload"])
        .stdin(Stdio::piped())
        .stdout(Stdio::null());
    command
}
