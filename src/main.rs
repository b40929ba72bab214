//! The `netns-agent` program: arguments, exit codes and the runtime; nothing else.
//!
//! Exit codes: 0 a clean stop, 1 failure, 2 usage. Commands of the client have more: see `cli::failure`.

use std::process::ExitCode;

mod startup;

use anyhow::Context;
use netns_agent::{
    agent::{Agent, label::LabelLock},
    cli::{self, Arguments, Command, demo},
    config::{RunArgs, Settings},
    telemetry,
};
use netns_kernel::privileges;
use tokio::signal::unix::{SignalKind, signal};

/// The scheduler keeps very many small blocks and gives them back in another order than it took them, which the heap of the C library
/// pays for in every second call: with 100,000 values an operation costs it up to 1.7 times as much.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Exit code for arguments that make no sense.
const USAGE: u8 = 2;

fn main() -> ExitCode {
    let Arguments { client, command } = cli::parse();
    match command {
        Command::Run(args) => run(*args),
        Command::Demo(args) => demo::run(&args),
        Command::Client(command) => cli::run(&command, &client),
    }
}

fn run(args: RunArgs) -> ExitCode {
    let settings = match args.load(&|name| std::env::var_os(name)) {
        Ok(settings) => settings,
        Err(error) => {
            cli::remark(&error.to_string());
            return ExitCode::from(USAGE);
        }
    };
    match serve(&settings) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            cli::remark(&startup::words(
                &error,
                rustix::process::geteuid().is_root() && !settings.keep_privileges,
            ));
            ExitCode::FAILURE
        }
    }
}

/// Runs the agent until it is told to stop.
fn serve(settings: &Settings) -> anyhow::Result<()> {
    // The heap asks for huge pages, of which each counts in full when one block in it is used: at a thousand pairs they more than double
    // what the agent takes, and make nothing faster. A kernel without them has nothing to switch off.
    let _ = nix::sys::prctl::set_thp_disable(true);
    telemetry::start_logging(&settings.log_directives());
    if !settings.keep_privileges {
        give_up_privileges(settings)?;
    }
    let lock = LabelLock::take(&settings.microservice_label)?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .context("cannot start the runtime")?;
    let ended = runtime.block_on(async {
        let mut terminate = signal(SignalKind::terminate())?;
        let mut interrupt = signal(SignalKind::interrupt())?;
        let mut hangup = signal(SignalKind::hangup())?;
        let mut agent = tokio::select! {
            started = Agent::start(settings, &lock) => started?,
            // A start can wait some seconds for the end of another agent's lease.
            _ = terminate.recv() => return Ok(()),
            _ = interrupt.recv() => return Ok(()),
        };
        loop {
            tokio::select! {
                _ = terminate.recv() => break,
                _ = interrupt.recv() => break,
                _ = hangup.recv() => tracing::info!("SIGHUP ignored: changed token, initial configuration and etcd certificate files are used without it; flags and the settings file count at the next start"),
                // Better an end that a supervisor sees than an agent that only seems to live.
                failure = agent.failed() => anyhow::bail!("{failure}; the network stays as it is"),
            }
        }
        tracing::info!("stopping; the network stays as it is");
        agent.shutdown().await;
        Ok(())
    });
    // A look at a file system that does not answer must not hold up the end.
    runtime.shutdown_background();
    ended
}

/// Before there is a second thread.
fn give_up_privileges(settings: &Settings) -> anyhow::Result<()> {
    let reduced = privileges::reduce(settings.has_low_port())
        .context("privileges that are not needed cannot be given up; --keep-privileges starts the agent all the same")?;
    tracing::info!("privileges: {}", reduced.kept.join(", "));
    if !reduced.bounded {
        tracing::debug!("the bounding set stays as it is; no program that is started gets anything from it");
    }
    for capability in reduced.missing {
        tracing::warn!("{} is missing, for {}", capability.name, capability.purpose);
    }
    Ok(())
}
