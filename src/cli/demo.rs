//! `netns-agent demo`: the agent at work, in namespaces that nothing outside can see.
//!
//! Owns the way into the sandbox and out of it. Must never start a thread or a runtime before the sandbox is made, and never
//! reach into the agent: the agent is another process, and is spoken to by the etcd API as any user would. Start reading at
//! [`run`]; what is shown is in `story`.
//!
//! ```text
//!  netns-agent demo ──(new user, mount, network and PID namespaces)──► netns-agent demo --part inside     tells the story
//!        waits                                                            ├─► netns-agent run …           the agent
//!                                                                         └─► … demo --part workload      a process with a network
//! ```
//!
//! The one inside is the first process of its PID namespace: when it ends, for whatever reason, the kernel ends all others, and
//! with the last of them the namespaces, the mounts and the files on them are gone.

mod agent;
mod narration;
mod observer;
mod story;
mod topology;
mod witness;

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

use self::{narration::Narration, story::Story};

/// This very program, also when it was built anew meanwhile or lies below the `/run` that the sandbox covers.
const THIS_PROGRAM: &str = "/proc/self/exe";
/// As which it shows in a list of processes.
const SHOWN_AS: &str = "netns-agent";

/// Arguments of `demo`.
#[derive(clap::Args, Clone, Debug)]
pub struct DemoArgs {
    /// Leave everything running at the end, for etcdctl and a look around, until Ctrl-C
    #[arg(long)]
    keep: bool,

    /// What this process is in the demo.
    #[arg(long, hide = true, value_enum, default_value_t = Part::Outside)]
    part: Part,

    /// How the sandbox was made; for the commands that lead into it.
    #[arg(long, hide = true)]
    user_namespace: bool,
}

/// The processes of a demo.
#[derive(clap::ValueEnum, Clone, Copy, PartialEq, Eq, Debug)]
enum Part {
    /// The one that the user started.
    Outside,
    /// The one that tells the story.
    Inside,
    /// One that stands for a program with a network namespace of its own.
    Workload,
}

/// Runs this process's part.
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

/// Makes the sandbox and waits for the process in it.
fn outside(args: &DemoArgs) -> anyhow::Result<ExitCode> {
    let rights = sandbox::leave().context("no throw-away namespaces for the demo")?;
    let mut command = Command::new(THIS_PROGRAM);
    command.arg0(SHOWN_AS).args(["demo", "--part", "inside"]);
    command.args(args.keep.then_some("--keep"));
    command.args((rights == Rights::UserNamespace).then_some("--user-namespace"));
    let runtime = Builder::new_current_thread()
        .enable_all()
        .build()
        .context("cannot start the runtime")?;
    let status = runtime.block_on(async {
        // A terminal sends Ctrl-C to both processes. The one inside decides what it means; this one waits to tell how that ended.
        let _interrupts = signal(SignalKind::interrupt())?;
        let mut child = tokio::process::Command::from(command).spawn()?;
        child.wait().await
    });
    let status = status.context("cannot run the demo in its namespaces")?;
    match status.code() {
        Some(0) => Ok(ExitCode::SUCCESS),
        Some(code) => Ok(ExitCode::from(u8::try_from(code).unwrap_or(1))),
        None => bail!("the process that tells the story was ended from outside ({status}); nothing is left of it"),
    }
}

/// Tells the story.
fn inside(args: &DemoArgs) -> anyhow::Result<ExitCode> {
    let outside_pid = sandbox::furnish().context("the throw-away namespaces cannot be used")?;
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
        let Some(mut story) = unless(&mut interrupted, Story::begin(&narration)).await.transpose()? else {
            return Ok(interruption(&narration));
        };
        let told = unless(&mut interrupted, story.tell(args.keep)).await;
        match told {
            None => return Ok(interruption(&narration)),
            Some(Err(error)) => {
                narration.failure(&format!("{error:#}"), &story.log_tail());
                return Ok(ExitCode::FAILURE);
            }
            Some(Ok(())) => narration.total(began.elapsed()),
        }
        if args.keep {
            narration.kept(&way_in);
            interrupted.await;
            narration.line("\nCtrl-C: the agent, its network and its namespaces are gone.");
        } else {
            narration.next_commands(args.user_namespace);
        }
        Ok(ExitCode::SUCCESS)
    })
}

/// The outcome of `work`; `None` when `stop` came first.
async fn unless<S: Future + Unpin, W: Future>(stop: &mut S, work: W) -> Option<W::Output> {
    tokio::select! {
        _ = stop => None,
        outcome = work => Some(outcome),
    }
}

fn interruption(narration: &Narration) -> ExitCode {
    narration.line("\nCtrl-C: the demo ends here; nothing is left of it.");
    // 128 + SIGINT, as shells count it.
    ExitCode::from(130)
}

/// The command that runs another one inside the sandbox.
fn way_in(outside_pid: u32, user_namespace: bool) -> String {
    let user = if user_namespace { "--user --preserve-credentials " } else { "" };
    format!("nsenter --target {outside_pid} {user}--mount --net --pid")
}

/// Does nothing, in a network namespace of its own, as long as the story is told.
fn workload() -> anyhow::Result<ExitCode> {
    let mut rest = Vec::new();
    std::io::stdin().read_to_end(&mut rest).context("the workload lost the story")?;
    Ok(ExitCode::SUCCESS)
}

/// The command that starts a [`Part::Workload`]; it runs until its standard input ends.
fn workload_command() -> Command {
    let mut command = Command::new(THIS_PROGRAM);
    command
        .arg0(SHOWN_AS)
        .args(["demo", "--part", "workload"])
        .stdin(Stdio::piped())
        .stdout(Stdio::null());
    command
}
