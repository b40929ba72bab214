//! The command line: what the user typed, and which part of the program answers.
//!
//! Owns arguments and sub-commands. Must never contain what a sub-command does. Start reading at [`Arguments`].

pub mod demo;

use clap::{Parser, Subcommand};

use crate::config::RunArgs;

/// Turns desired network state in etcd into real Linux networking, inside network namespaces and containers.
#[derive(Parser, Debug)]
#[command(name = "netns-agent", version, about, max_term_width = 120)]
pub struct Arguments {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// Sub-commands.
#[derive(Subcommand, Debug)]
pub enum Command {
    /// Run the agent until SIGTERM or SIGINT; the network is left as it is.
    Run(Box<RunArgs>),
    /// Watch the agent at work for a few seconds, in throw-away namespaces: nothing on this machine is changed.
    Demo(demo::DemoArgs),
}
