//! Defines the client commands, and dispatches each command to the module that implements it.

use std::process::ExitCode;

use clap::Subcommand;

use super::{
    ClientArgs,
    completion::{self, CompletionArgs},
    configuration::{self, ApplyArgs, ConfirmArgs, DeleteArgs, PlanArgs},
    connection::Agent,
    describe::{self, KeyArgs},
    difference::{self, DiffArgs},
    doctor::{self, DoctorArgs},
    failure::{Failure, Outcome},
    get::{self, GetArgs},
    graph::{self, GraphArgs},
    history::{self, HistoryArgs, ResyncArgs},
    kvdb::{self, KvdbArgs},
    log::{self, LogCommand},
    manual::{self, ManArgs},
    model::{self, ModelCommand},
    output::Output,
    removals::{self, RemovalsCommand},
    status,
    watch::{self, WaitArgs, WatchArgs},
};

/// Commands of the client.
#[derive(Subcommand, Debug)]
pub enum ClientCommand {
    /// Show the health of the agent and values that need attention; exit code 1 if the agent is not ready
    Status,
    /// List values and their states
    Get(GetArgs),
    /// Show details of a value
    Describe(KeyArgs),
    /// Explain the state of a value, down to the root cause
    Explain(KeyArgs),
    /// Print state changes of values as they happen
    Watch(WatchArgs),
    /// Wait until values reach a state
    Wait(WaitArgs),
    /// Apply the values in a file
    Apply(ApplyArgs),
    /// Confirm values applied with --confirm-within
    Confirm(ConfirmArgs),
    /// Delete values by key, or all values in a file
    Delete(DeleteArgs),
    /// Show what `apply` or `delete` would do; exit code 2 if there are changes
    Plan(PlanArgs),
    /// Compare a file with the desired values; exit code 2 if they differ
    Diff(DiffArgs),
    /// Show recent transactions, or one in detail
    History(HistoryArgs),
    /// Show the dependencies between values
    Graph(GraphArgs),
    /// Read the kernel state again and repair differences
    Resync(ResyncArgs),
    /// List or accept removals that are on hold because the store may have lost its contents
    #[command(subcommand)]
    Removals(RemovalsCommand),
    /// List or set the log levels of the agent
    #[command(subcommand)]
    Log(LogCommand),
    /// Read and write keys of the store
    Kvdb(KvdbArgs),
    /// Show the kinds of values and their fields
    #[command(subcommand)]
    Model(ModelCommand),
    /// Check whether the agent can work on this machine
    Doctor(DoctorArgs),
    /// Generate a shell completion script
    Completion(CompletionArgs),
    /// Generate manual pages
    #[command(hide = true)]
    Man(ManArgs),
}

/// Runs a client command and returns its exit code.
pub fn run(command: &ClientCommand, args: &ClientArgs) -> ExitCode {
    let output = Output::new(&args.output);
    let outcome = match command {
        ClientCommand::Model(command) => model::run(command, &output),
        ClientCommand::Completion(args) => completion::completion(args, &output),
        ClientCommand::Man(args) => manual::man(args, &output),
        _ => tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(|error| Failure::new(format!("cannot start the runtime: {error}")))
            .and_then(|runtime| runtime.block_on(answer(command, args, &output))),
    };
    match outcome {
        Ok(code) => ExitCode::from(code),
        Err(failure) => failure.report(),
    }
}

async fn answer(command: &ClientCommand, args: &ClientArgs, output: &Output) -> Outcome {
    let time_limit = args.connection.timeout;
    if let ClientCommand::Kvdb(kvdb) = command {
        return kvdb::run(kvdb, &args.connection, output).await;
    }
    let agent = Agent::new(&args.connection)?;
    match command {
        ClientCommand::Status => status::run(&agent, output).await,
        ClientCommand::Get(args) => get::run(args, &agent, output).await,
        ClientCommand::Describe(args) => describe::describe(args, &agent, output).await,
        ClientCommand::Explain(args) => describe::explain(args, &agent, output).await,
        ClientCommand::Watch(args) => watch::watch(args, &agent, output).await,
        ClientCommand::Wait(args) => watch::wait(args, &agent, output, time_limit).await,
        ClientCommand::Apply(args) => configuration::apply(args, &agent, output, time_limit).await,
        ClientCommand::Confirm(args) => configuration::confirm(args, &agent, output).await,
        ClientCommand::Delete(args) => configuration::delete(args, &agent, output, time_limit).await,
        ClientCommand::Plan(args) => configuration::plan(args, &agent, output).await,
        ClientCommand::Diff(args) => difference::run(args, &agent, output).await,
        ClientCommand::History(args) => history::history(args, &agent, output).await,
        ClientCommand::Doctor(args) => doctor::run(args, &agent, output).await,
        ClientCommand::Graph(args) => graph::run(args, &agent, output).await,
        ClientCommand::Resync(args) => history::resync(args, &agent, output).await,
        ClientCommand::Removals(command) => removals::run(command, &agent, output).await,
        ClientCommand::Log(command) => log::run(command, &agent, output).await,
        // This arm is unreachable, because `kvdb` is handled above and `run` handles the other three commands.
        ClientCommand::Kvdb(_) | ClientCommand::Model(_) | ClientCommand::Completion(_) | ClientCommand::Man(_) => Ok(0),
    }
}
