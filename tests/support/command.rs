//! Runs short commands, such as `ip`, and returns their output. [`super::process`] starts long-running programs.

use std::{
    io::Write,
    path::Path,
    process::{Command, Output, Stdio},
};

/// Runs a command to its end and returns its output, whatever its exit code.
pub fn output(program: &str, arguments: &[&str]) -> Output {
    Command::new(program)
        .args(arguments)
        .stdin(Stdio::null())
        .output()
        .unwrap_or_else(|error| {
            panic!(
                "cannot run `{program} {}`: {error}; tests/run installs what the tests need",
                arguments.join(" ")
            )
        })
}

/// Runs a command that must succeed, and returns its standard output.
pub fn run(program: &str, arguments: &[&str]) -> String {
    let output = output(program, arguments);
    assert!(
        output.status.success(),
        "`{program} {}` ended with {}: {}",
        arguments.join(" "),
        output.status,
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// Runs `ip` with these arguments, split at whitespace. Panics if the command fails.
pub fn ip(arguments: &str) -> String {
    run("ip", &arguments.split_whitespace().collect::<Vec<_>>())
}

/// Runs `ip` in the namespace of this file. Panics if the command fails.
pub fn ip_in(netns: &Path, arguments: &str) -> String {
    let netns = format!("--net={}", netns.display());
    let mut words = vec![netns.as_str(), "ip"];
    words.extend(arguments.split_whitespace());
    run("nsenter", &words)
}

/// Runs a program with its arguments in the namespace of this file. Panics if the program fails.
pub fn run_in(netns: &Path, words: &[&str]) -> String {
    let netns = format!("--net={}", netns.display());
    run("nsenter", &[&[netns.as_str()], words].concat())
}

/// Runs these lines in a namespace with a single `ip -batch` process. Panics if any line fails.
pub fn ip_batch(netns: &Path, lines: &[&str]) {
    let mut child = Command::new("nsenter")
        .arg(format!("--net={}", netns.display()))
        .args(["ip", "-batch", "-"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap_or_else(|error| panic!("cannot run nsenter: {error}"));
    if let Some(mut input) = child.stdin.take() {
        // Ignore errors, because `nsenter` may have ended already, and its own error output is more helpful.
        let _ = input.write_all((lines.join("\n") + "\n").as_bytes());
    }
    let output = child.wait_with_output().expect("read the output of ip");
    assert!(
        output.status.success(),
        "`ip` in {}: {lines:?}: {}{}",
        netns.display(),
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
}

/// Returns lines that show whether receive and transmit checksums are offloaded for a link.
pub fn offloads(netns: &Path, link: &str) -> Result<Vec<String>, String> {
    let netns = format!("--net={}", netns.display());
    let output = output("nsenter", &[&netns, "ethtool", "-k", link]);
    if !output.status.success() {
        return Err(String::from_utf8_lossy(&output.stderr).into_owned());
    }
    let text = String::from_utf8_lossy(&output.stdout);
    let lines = text
        .lines()
        .filter(|line| line.starts_with("rx-checksumming:") || line.starts_with("tx-checksumming:"));
    Ok(lines.map(|line| format!("offload {link} {line}")).collect())
}

/// Runs one `ip -json -details -batch` process in a namespace, and returns the output of each line in order.
///
/// Using one process for all lines keeps hundreds of comparisons cheap.
pub fn ip_batch_json(netns: &Path, lines: &str) -> Result<Vec<serde_json::Value>, String> {
    let mut child = Command::new("nsenter")
        .arg(format!("--net={}", netns.display()))
        .args(["ip", "-json", "-details", "-batch", "-"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(|error| format!("cannot run nsenter: {error}"))?;
    if let Some(mut input) = child.stdin.take() {
        // Ignore errors, because `nsenter` ends early if the namespace does not exist, and its own error output is more helpful.
        let _ = input.write_all(lines.as_bytes());
    }
    let output = child.wait_with_output().map_err(|error| error.to_string())?;
    if !output.status.success() {
        return Err(format!(
            "`ip` in {}: {}",
            netns.display(),
            String::from_utf8_lossy(&output.stderr).trim()
        ));
    }
    serde_json::Deserializer::from_slice(&output.stdout)
        .into_iter::<serde_json::Value>()
        .collect::<Result<_, _>>()
        .map_err(|error| format!("output of ip -json: {error}"))
}

/// Returns the names in `/run/netns`, sorted.
pub fn named_namespaces() -> Vec<String> {
    let mut names: Vec<String> = match std::fs::read_dir("/run/netns") {
        Ok(entries) => entries
            .flatten()
            .map(|entry| entry.file_name().to_string_lossy().into_owned())
            .collect(),
        Err(_) => Vec::new(),
    };
    names.sort();
    names
}
