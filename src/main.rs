//! The `netns-agent` program: parses arguments, starts the runtime and sets the exit code.
//!
//! The exit code is 0 after a clean stop, 1 after a failure and 2 after a usage error. Client commands use further codes; see `cli::failure`.

use std::process::ExitCode;

mod startup;

use anyhow::Context;
use netns_agent::{
    agent::{Agent, label::LabelLock},
    cli::{self, Arguments, Command, demo},
    config::{ConfigError, RunArgs, Settings},
    service_manager::ServiceManager,
    telemetry,
};
use netns_kernel::privileges;
use tokio::signal::unix::{SignalKind, signal};

/// Global allocator. mimalloc is faster than the C library's allocator, because the scheduler allocates many small blocks and frees them in a
/// different order. With 100,000 values, an operation takes up to 1.7 times as long with the C library's allocator.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Exit code for invalid arguments or settings.
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
    let settings = match load(&args) {
        Ok(settings) => settings,
        Err(error) => {
            cli::remark(&error.to_string());
            return ExitCode::from(USAGE);
        }
    };
    match serve(&args, &settings) {
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

/// Merges the given arguments with the environment and the settings file.
fn load(args: &RunArgs) -> Result<Settings, ConfigError> {
    args.clone().load(&|name| std::env::var_os(name))
}

/// Runs the agent until it receives SIGTERM or SIGINT, or fails. SIGHUP makes it read the settings again, from the same arguments.
fn serve(args: &RunArgs, settings: &Settings) -> anyhow::Result<()> {
    // Disable huge pages, which the allocator requests. A huge page occupies its full size in memory as soon as one block in it is used. With 1,000
    // veth pairs, huge pages more than double the agent's memory usage without making it faster. A failure is harmless, because the agent then only
    // needs more memory.
    let _ = nix::sys::prctl::set_thp_disable(true);
    telemetry::start_logging(&settings.log_directives());
    if !settings.keep_privileges {
        give_up_privileges(settings)?;
    }
    let lock = LabelLock::take(&settings.microservice_label)?;
    let manager = ServiceManager::connect();
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
            started = Agent::start(settings, &lock, manager.clone()) => started?,
            // Starting can take some seconds if another agent's lease must expire first, so signals must be handled here as well.
            _ = terminate.recv() => return Ok(()),
            _ = interrupt.recv() => return Ok(()),
        };
        loop {
            tokio::select! {
                _ = terminate.recv() => break,
                _ = interrupt.recv() => break,
                _ = hangup.recv() => {
                    manager.reloading();
                    match load(args) {
                        Ok(settings) => agent.reload(&settings),
                        Err(error) => tracing::error!("SIGHUP: {error}; the settings stay as they were"),
                    }
                    manager.ready();
                }
                // Exit, so that the service manager restarts the agent. It would not restart an agent that keeps running but no
                // longer works.
                failure = agent.failed() => anyhow::bail!("{failure}; the network stays as it is"),
            }
        }
        tracing::info!("stopping; the network stays as it is");
        manager.stopping();
        agent.shutdown().await;
        Ok(())
    });
    // A thread that is blocked in a file system access must not delay the exit.
    runtime.shutdown_background();
    ended
}

/// Drops the privileges that the agent does not need. Must be called before a second thread is started.
fn give_up_privileges(settings: &Settings) -> anyhow::Result<()> {
    let reduced = privileges::reduce(settings.has_low_port())
        .context("cannot drop unneeded privileges; start the agent with --keep-privileges to keep them")?;
    tracing::info!("privileges: {}", reduced.kept.join(", "));
    if !reduced.bounded {
        tracing::debug!(
            "capability bounding set not reduced; this is harmless, because programs that the agent starts gain no capabilities"
        );
    }
    for capability in reduced.missing {
        tracing::warn!("{} is missing; it is needed for {}", capability.name, capability.purpose);
    }
    Ok(())
}
