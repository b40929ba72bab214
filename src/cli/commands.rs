//! The commands of the client: everything that speaks to a running agent, or tells of the machine.
//!
//! Owns which command is answered by which module. Must never contain what a command does. Start reading at [`run`].

use std::process::ExitCode;

use clap::Subcommand;

use super::{
    ClientArgs,
    completion::{self, CompletionArgs, ManArgs},
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
    model::{self, ModelCommand},
    output::Output,
    removals::{self, RemovalsCommand},
    status,
    watch::{self, WaitArgs, WatchArgs},
};

/// Commands that speak to an agent.
#[derive(Subcommand, Debug)]
pub enum ClientCommand {
    /// How the agent is, and which values need attention; fails when it is not ready
    Status,
    /// Values with their states
    Get(GetArgs),
    /// Everything about one value
    Describe(KeyArgs),
    /// Why a value is in its state, down to what is really missing
    Explain(KeyArgs),
    /// Print each change of a state
    Watch(WatchArgs),
    /// Wait until values are in a state
    Wait(WaitArgs),
    /// Ask for the values of a file
    Apply(ApplyArgs),
    /// Keep what was applied with --confirm-within
    Confirm(ConfirmArgs),
    /// Let go of values
    Delete(DeleteArgs),
    /// What `apply` or `delete` would do, without doing it; the exit code tells whether that is anything
    Plan(PlanArgs),
    /// How a file differs from what is asked for; the exit code tells whether it does
    Diff(DiffArgs),
    /// Transactions that were done, or one in full
    History(HistoryArgs),
    /// What depends on what
    Graph(GraphArgs),
    /// Have the kernel read again, and what differs repaired
    Resync(ResyncArgs),
    /// What is not deleted because the store may have lost its content
    #[command(subcommand)]
    Removals(RemovalsCommand),
    /// Levels of the agent's log
    #[command(subcommand)]
    Log(LogCommand),
    /// Keys of the store, as etcd has them
    Kvdb(KvdbArgs),
    /// Kinds of values, and what can be said in each
    #[command(subcommand)]
    Model(ModelCommand),
    /// Whether this machine lets the agent work, and what to do where it does not
    Doctor(DoctorArgs),
    /// Completion of commands for a shell
    Completion(CompletionArgs),
    /// Manual pages
    #[command(hide = true)]
    Man(ManArgs),
}

/// Runs a command to its end.
pub fn run(command: &ClientCommand, args: &ClientArgs) -> ExitCode {
    let output = Output::new(&args.output);
    let outcome = match command {
        ClientCommand::Model(command) => model::run(command, &output),
        ClientCommand::Completion(args) => completion::completion(args, &output),
        ClientCommand::Man(args) => completion::man(args, &output),
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
    let patience = args.connection.timeout;
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
        ClientCommand::Wait(args) => watch::wait(args, &agent, output, patience).await,
        ClientCommand::Apply(args) => configuration::apply(args, &agent, output, patience).await,
        ClientCommand::Confirm(args) => configuration::confirm(args, &agent, output).await,
        ClientCommand::Delete(args) => configuration::delete(args, &agent, output, patience).await,
        ClientCommand::Plan(args) => configuration::plan(args, &agent, output).await,
        ClientCommand::Diff(args) => difference::run(args, &agent, output).await,
        ClientCommand::History(args) => history::history(args, &agent, output).await,
        ClientCommand::Doctor(args) => doctor::run(args, &agent, output).await,
        ClientCommand::Graph(args) => graph::run(args, &agent, output).await,
        ClientCommand::Resync(args) => history::resync(args, &agent, output).await,
        ClientCommand::Removals(command) => removals::run(command, &agent, output).await,
        ClientCommand::Log(command) => log::run(command, &agent, output).await,
        // Answered without an agent.
        ClientCommand::Kvdb(_) | ClientCommand::Model(_) | ClientCommand::Completion(_) | ClientCommand::Man(_) => Ok(0),
    }
}
