//! Tests commands whose output depends on the machine, shell completions and manual pages. See [`doctor`].

use std::{
    ffi::OsStr,
    os::unix::ffi::OsStrExt,
    process::{Command, Output, Stdio},
};

use serde_json::Value as Json;

use crate::{on_one_store, support::bench::Bench};

const COMMANDS: [&str; 17] = [
    "status", "get", "describe", "explain", "watch", "wait", "history", "graph", "resync", "log", "kvdb", "doctor", "apply", "confirm",
    "delete", "plan", "diff",
];

fn program() -> Command {
    Command::new(env!("CARGO_BIN_EXE_netns-agent"))
}

fn text(arguments: &[&str]) -> String {
    let output = program().args(arguments).output().expect("the program");
    assert!(output.status.success(), "{arguments:?}: {output:?}");
    String::from_utf8(output.stdout).expect("UTF-8")
}

async fn doctor(mut bench: Bench) {
    bench.start_agent().await;
    let Output { status, stdout, stderr } = tokio::task::block_in_place(|| {
        let mut doctor = program();
        doctor.args([
            "doctor",
            "-o",
            "json",
            "--docker-host",
            "unix:///run/docker.sock",
            "--etcd-endpoints",
            "127.0.0.1:2379",
        ]);
        doctor.output().expect("the program")
    });
    let findings: Vec<Json> = serde_json::from_slice(&stdout).unwrap_or_else(|error| panic!("{error}: {stderr:?}"));
    let verdict = |check: &str| {
        let finding = findings.iter().find(|finding| finding["check"] == check);
        finding.unwrap_or_else(|| panic!("no {check} in {findings:?}"))["verdict"].clone()
    };
    // This test itself needs root, veth pairs, a shared /run, an agent and its store, so these checks must succeed.
    for check in ["capabilities", "kernel", "link kind veth", "/run/netns", "etcd", "agent"] {
        assert_eq!(verdict(check), "ok", "{check} in {findings:?}");
    }
    assert_eq!(verdict("Docker"), "note");
    let has_problem = findings.iter().any(|finding| finding["verdict"] == "problem");
    assert_eq!(status.code(), Some(i32::from(has_problem)));
    // Every finding except `ok` and `note` must suggest a remedy.
    for finding in &findings {
        let is_well = matches!(finding["verdict"].as_str(), Some("ok" | "note"));
        assert!(
            is_well || finding["remedy"].as_str().is_some_and(|remedy| !remedy.is_empty()),
            "{finding}"
        );
    }
    assert!(findings.iter().any(|finding| finding["check"] == "link kind vrf"));
    let table = tokio::task::block_in_place(|| program().args(["doctor", "--color", "always"]).output().expect("the program"));
    let table = String::from_utf8_lossy(&table.stdout).into_owned();
    assert!(table.contains("CHECK") && table.contains("\u{1b}[32mok\u{1b}[0m"), "{table}");
    bench.stop_agent().await;
}
on_one_store!(doctor, Embedded, 120);

#[test]
fn argument_that_is_not_utf8_is_a_usage_error() {
    let output = program().arg("run").arg(OsStr::from_bytes(b"--http-listen=\xff")).output();
    let Output { status, stderr, .. } = output.expect("the program");
    assert_eq!(status.code(), Some(2), "{}", String::from_utf8_lossy(&stderr));
}

#[test]
fn completion_scripts_contain_all_commands() {
    for shell in ["bash", "zsh", "fish"] {
        let script = text(&["completion", shell]);
        for command in COMMANDS {
            assert!(script.contains(command), "{shell} does not know {command}");
        }
        assert!(script.contains("no-headers"), "{shell}");
    }
}

#[test]
fn every_command_has_a_manual_page() {
    let folder = tempfile::tempdir().expect("a directory");
    text(&["man", "--dir", folder.path().to_str().expect("UTF-8")]);
    for command in COMMANDS {
        let page = folder.path().join(format!("netns-agent-{command}.1"));
        let page = std::fs::read_to_string(&page).unwrap_or_else(|error| panic!("{}: {error}", page.display()));
        assert!(page.contains(".SH SYNOPSIS"), "{command}");
    }
    assert!(text(&["man"]).contains("EXIT STATUS"));
}

#[test]
fn closed_output_pipe_is_no_failure() {
    let mut child = program()
        .args(["completion", "bash"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the program");
    drop(child.stdout.take());
    let output = child.wait_with_output().expect("wait for the end");
    assert!(output.status.success() && output.stderr.is_empty(), "{output:?}");
}
