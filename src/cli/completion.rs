//! `netns-agent completion` and `netns-agent man`: what shells and manual readers want, made from the same arguments.
//!
//! Owns where it goes. Start reading at [`completion`] and [`man`].

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
#[command(after_help = "For bash: source <(netns-agent completion bash), or write it to /etc/bash_completion.d/netns-agent")]
pub struct CompletionArgs {
    /// The shell
    #[arg(value_name = "SHELL")]
    shell: Shell,
}

/// Arguments of `man`.
#[derive(clap::Args, Debug)]
pub struct ManArgs {
    /// Write a page for each command there, as netns-agent-get.1; without, the first page goes to the output
    #[arg(long, value_name = "DIRECTORY")]
    dir: Option<PathBuf>,
}

/// Prints the script for a shell.
pub fn completion(args: &CompletionArgs, output: &Output) -> Outcome {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut command(), PROGRAM, &mut script);
    output.raw(&script)?;
    Ok(0)
}

/// Writes the manual pages.
pub fn man(args: &ManArgs, output: &Output) -> Outcome {
    match &args.dir {
        None => {
            let mut page = Vec::new();
            clap_mangen::Man::new(command()).render(&mut page)?;
            output.raw(&page)?;
        }
        Some(directory) => {
            let wrong =
                |error: std::io::Error| Failure::new(format!("{}: {error}", directory.display())).next("an existing directory is expected");
            clap_mangen::generate_to(command(), directory).map_err(wrong)?;
        }
    }
    Ok(0)
}
