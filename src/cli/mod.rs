//! The command line: what the user typed, and which part of the program answers.
//!
//! Owns arguments and sub-commands. Must never contain what a sub-command does. Commands other than `run` speak to a running agent
//! over the wire, as any other program would. Start reading at [`Arguments`].

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

/// Turns desired network state in etcd into real Linux networking, inside network namespaces and containers.
#[derive(Parser, Debug)]
#[command(name = "netns-agent", version, about, max_term_width = 120, after_help = failure::EXIT_CODES)]
pub struct Arguments {
    /// For the commands that speak to an agent.
    #[command(flatten)]
    pub client: ClientArgs,
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// Options that all commands have which speak to an agent; before the command or after it.
#[derive(clap::Args, Debug)]
pub struct ClientArgs {
    #[command(flatten)]
    connection: ConnectionArgs,
    #[command(flatten)]
    output: OutputArgs,
}

/// Sub-commands.
#[derive(Subcommand, Debug)]
pub enum Command {
    /// Run the agent until SIGTERM or SIGINT; the network is left as it is.
    Run(Box<RunArgs>),
    /// Watch the agent at work for a few seconds, in throw-away namespaces: nothing on this machine is changed.
    Demo(demo::DemoArgs),
    /// Speak to an agent.
    #[command(flatten)]
    Client(ClientCommand),
}

/// Sub-commands that answer for themselves and speak to no agent.
const STANDALONE: [&str; 2] = ["run", "demo"];

/// Commands for which 2 means something else than usage.
const TELLING_BY_CODE: [&str; 2] = ["plan", "diff"];

/// The whole command line. Options of the client are not shown where they mean nothing.
pub(crate) fn command() -> clap::Command {
    let mut command = Arguments::command();
    let global: Vec<clap::Arg> = command.get_arguments().filter(|one| one.is_global_set()).cloned().collect();
    for name in STANDALONE {
        command = command.mut_subcommand(name, |standalone| standalone.args(global.iter().cloned().map(|one| one.hide(true))));
    }
    command
}

/// Reads the arguments of this process. Ends it where they make no sense, or when help was asked for.
pub fn parse() -> Arguments {
    let matches = command()
        .try_get_matches()
        .and_then(|mut matches| Arguments::from_arg_matches_mut(&mut matches));
    matches.unwrap_or_else(|error| {
        let mut words = std::env::args_os().skip(1);
        if error.use_stderr() && words.any(|word| TELLING_BY_CODE.iter().any(|telling| word == *telling)) {
            // If not even this can be printed, the code still tells.
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
    fn the_command_line_fits_together() {
        command().debug_assert();
    }

    /// clap would mix them up, and say so only when the command is used.
    #[test]
    fn no_argument_of_a_command_has_the_name_of_an_option_of_the_client() {
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
    fn options_of_the_client_stand_before_the_command_or_after_it() {
        for line in [
            ["netns-agent", "-H", "a", "get", "-o", "json"],
            ["netns-agent", "-o", "json", "get", "-H", "a"],
        ] {
            command().try_get_matches_from(line).expect("a command line");
        }
    }

    #[test]
    fn options_of_the_client_are_not_shown_where_they_mean_nothing() {
        let mut command = command();
        command.build();
        for (name, shown) in [("run", false), ("demo", false), ("get", true)] {
            let one = command.find_subcommand_mut(name).expect("the command");
            assert_eq!(one.render_long_help().to_string().contains("--http-port"), shown, "{name}");
        }
    }
}
