//! Implements `netns-agent completion` and `netns-agent man`, which generate shell completion scripts and manual pages from the
//! command-line definition.

use std::path::PathBuf;

use clap_complete::Shell;

use super::{
    command,
    failure::{Failure, Outcome},
    output::Output,
};

const PROGRAM: &str = "netns-agent";

/// Arguments of `completion`.
#[derive(clap::Args, Debug)]
#[command(after_help = "For bash, run: source <(netns-agent completion bash), or write the script to /etc/bash_completion.d/netns-agent")]
pub struct CompletionArgs {
    /// Shell to generate the script for
    #[arg(value_name = "SHELL")]
    shell: Shell,
}

/// Arguments of `man`.
#[derive(clap::Args, Debug)]
pub struct ManArgs {
    /// Existing directory to write the pages to, one per command, such as netns-agent-get.1; by default, the main page is printed
    #[arg(long, value_name = "DIRECTORY")]
    dir: Option<PathBuf>,
}

/// Prints the completion script for a shell.
pub fn completion(args: &CompletionArgs, output: &Output) -> Outcome {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut command(), PROGRAM, &mut script);
    output.raw(&script)?;
    Ok(0)
}

/// Prints the main manual page, or writes one page per command to a directory.
pub fn man(args: &ManArgs, output: &Output) -> Outcome {
    match &args.dir {
        None => {
            let mut page = Vec::new();
            clap_mangen::Man::new(command()).render(&mut page)?;
            output.raw(&page)?;
        }
        Some(directory) => {
            let wrong =
                |error: std::io::Error| Failure::new(format!("{}: {error}", directory.display())).next("expected an existing directory");
            clap_mangen::generate_to(command(), directory).map_err(wrong)?;
        }
    }
    Ok(0)
}
