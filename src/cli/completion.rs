//! `netns-agent completion`: shell completion, generated from the command-line definition.

use clap_complete::Shell;

use super::{command, failure::Outcome, output::Output};

const PROGRAM: &str = "netns-agent";

/// Arguments of `completion`.
#[derive(clap::Args, Debug)]
#[command(after_help = "For bash, run: source <(netns-agent completion bash), or write the script to /etc/bash_completion.d/netns-agent")]
pub struct CompletionArgs {
    /// Shell to generate the script for
    #[arg(value_name = "SHELL")]
    shell: Shell,
}

/// Prints the completion script for a shell.
pub fn completion(args: &CompletionArgs, output: &Output) -> Outcome {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut command(), PROGRAM, &mut script);
    output.raw(&script)?;
    Ok(0)
}
