//! Generates the agent's gRPC services from `proto/`, and determines the version text of the program.
//!
//! The message types are generated in the `models` crate.

use std::{env, error::Error, path::Path, process::Command};

const SERVICES: [&str; 4] = [
    "ligato/configurator/configurator.proto",
    "ligato/configurator/statspoller.proto",
    "ligato/generic/manager.proto",
    "ligato/generic/meta.proto",
];

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo:rustc-env=NETNS_AGENT_VERSION={}", version());
    println!("cargo:rerun-if-changed=proto");
    let descriptors = protox::compile(SERVICES, ["proto"])?;
    tonic_prost_build::configure()
        .build_client(false)
        .extern_path(".ligato", "::models::proto::ligato")
        .extern_path(".netns_agent", "::models::proto::netns_agent")
        .compile_fds(descriptors)?;
    Ok(())
}

/// Returns the version with the commit and its date, such as `0.1.0 (b8eb276f1 2026-11-30)`, or only the version if the commit is
/// unknown.
///
/// `NETNS_AGENT_COMMIT` replaces the text in parentheses, for builds without a git checkout. If it is empty, only the version remains.
fn version() -> String {
    println!("cargo:rerun-if-env-changed=NETNS_AGENT_COMMIT");
    let version = env::var("CARGO_PKG_VERSION").unwrap_or_default();
    let commit = env::var("NETNS_AGENT_COMMIT").ok().or_else(checked_out_commit);
    match commit.as_deref().map(str::trim) {
        None | Some("") => version,
        Some(commit) => format!("{version} ({commit})"),
    }
}

/// Returns the commit that is checked out, and its date. `None` if this directory is not the root of a checkout, or if git fails.
fn checked_out_commit() -> Option<String> {
    let root = Path::new(&git(&["rev-parse", "--show-toplevel"])?).canonicalize().ok()?;
    // The source may be an archive that was unpacked inside the checkout of another project.
    if root != Path::new(&env::var("CARGO_MANIFEST_DIR").ok()?).canonicalize().ok()? {
        return None;
    }
    let branch = git(&["symbolic-ref", "--quiet", "HEAD"]);
    // In a worktree, these files are in different directories. The log changes with each commit, also if the branch is in `packed-refs`.
    for name in ["HEAD", "logs/HEAD", "packed-refs"].into_iter().chain(branch.as_deref()) {
        // Cargo would always run the build script again if one of the files did not exist.
        if let Some(path) = git(&["rev-parse", "--git-path", name]).filter(|path| Path::new(path).exists()) {
            println!("cargo:rerun-if-changed={path}");
        }
    }
    git(&["log", "-1", "--no-show-signature", "--abbrev=9", "--format=%h %cs"])
}

/// Runs git in this directory and returns its output. `None` if git is not installed or fails.
fn git(arguments: &[&str]) -> Option<String> {
    let output = Command::new("git").args(arguments).output().ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    output.status.success().then(|| text.trim().to_owned())
}
