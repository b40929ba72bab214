//! The command line: arguments and subcommands.
//!
//! Most commands are clients of a running agent, over the REST API.

pub mod demo;

mod answers;
mod commands;
mod completion;
mod configuration;
mod connection;
mod describe;
mod difference;
mod doctor;
mod document;
mod failure;
mod get;
mod graph;
mod history;
mod kvdb;
mod log;
mod manual;
mod model;
mod moment;
mod names;
mod output;
mod readiness;
mod removals;
mod status;
mod watch;

pub use commands::{ClientCommand, run};
pub use failure::remark;

use clap::{CommandFactory, FromArgMatches, Parser, Subcommand};

use self::{connection::ConnectionArgs, output::OutputArgs};
use crate::config::RunArgs;

/// Version of the program with its commit, as printed by `--version`. Determined by `build.rs`.
const VERSION: &str = env!("NETNS_AGENT_VERSION");

/// Declarative networking for Linux network namespaces and containers.
#[derive(Parser, Debug)]
#[command(name = "netns-agent", version = VERSION, about, max_term_width = 120, after_help = failure::EXIT_CODES)]
pub struct Arguments {
    /// Options of the client commands.
    #[command(flatten)]
    pub client: ClientArgs,
    /// The subcommand.
    #[command(subcommand)]
    pub command: Command,
}

/// Options shared by all client commands, accepted before and after the command.
#[derive(clap::Args, Debug)]
pub struct ClientArgs {
    #[command(flatten)]
    connection: ConnectionArgs,
    #[command(flatten)]
    output: OutputArgs,
}

/// Subcommands.
#[derive(Subcommand, Debug)]
pub enum Command {
    /// Run the agent until SIGTERM or SIGINT; the network stays in place when it exits
    Run(Box<RunArgs>),
    /// Demonstrate the agent for a few seconds in temporary namespaces, without changing this machine
    Demo(demo::DemoArgs),
    /// Client commands.
    #[command(flatten)]
    Client(ClientCommand),
}

/// Subcommands that do not use the client options.
const STANDALONE: [&str; 2] = ["run", "demo"];

/// Commands for which exit code 2 means that there are changes. For these commands, the exit code of a usage error is 1.
const TELLING_BY_CODE: [&str; 2] = ["plan", "diff"];

/// Returns the command-line definition. Client options are hidden for commands that do not use them.
pub(crate) fn command() -> clap::Command {
    let mut command = Arguments::command();
    let global: Vec<clap::Arg> = command.get_arguments().filter(|one| one.is_global_set()).cloned().collect();
    for name in STANDALONE {
        command = command.mut_subcommand(name, |standalone| standalone.args(global.iter().cloned().map(|one| one.hide(true))));
    }
    command
}

/// Parses the arguments of this process. Prints a usage error or the help text if necessary, and then exits.
pub fn parse() -> Arguments {
    let matches = command()
        .try_get_matches()
        .and_then(|mut matches| Arguments::from_arg_matches_mut(&mut matches));
    matches.unwrap_or_else(|error| {
        let mut words = std::env::args_os().skip(1);
        if error.use_stderr() && words.any(|word| TELLING_BY_CODE.iter().any(|telling| word == *telling)) {
            // If the message cannot be printed, the exit code still reports the error.
            let _ = error.print();
            std::process::exit(i32::from(failure::FAILED));
        }
        error.exit()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn command_line_definition_is_consistent() {
        command().debug_assert();
    }

    /// clap confuses arguments that have the same id, and reports the conflict only when the command is used.
    #[test]
    fn arguments_of_commands_do_not_clash_with_options_of_the_client() {
        fn look(command: &clap::Command, global: &[clap::Id]) {
            for one in command.get_arguments() {
                assert!(!global.contains(one.get_id()), "{} {}", command.get_name(), one.get_id());
            }
            command.get_subcommands().for_each(|inner| look(inner, global));
        }
        let command = Arguments::command();
        let global: Vec<clap::Id> = command.get_arguments().map(|one| one.get_id().clone()).collect();
        command.get_subcommands().for_each(|inner| look(inner, &global));
    }

    #[test]
    fn options_of_the_client_are_accepted_before_and_after_the_command() {
        for line in [
            ["netns-agent", "-H", "a", "get", "-o", "json"],
            ["netns-agent", "-o", "json", "get", "-H", "a"],
        ] {
            command().try_get_matches_from(line).expect("a command line");
        }
    }

    #[test]
    fn options_of_the_client_are_hidden_for_commands_without_them() {
        let mut command = command();
        command.build();
        for (name, shown) in [("run", false), ("demo", false), ("get", true)] {
            let one = command.find_subcommand_mut(name).expect("the command");
            assert_eq!(one.render_long_help().to_string().contains("--http-port"), shown, "{name}");
        }
    }
}
