//! Tests that `netns-agent demo` prints every step, succeeds, and leaves nothing behind. See [`Demo`].

use std::{
    fs,
    io::{BufRead, BufReader},
    os::unix::{fs::PermissionsExt, process::CommandExt},
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Output, Stdio},
    time::Duration,
};

use nix::{
    sys::signal::{Signal, killpg},
    unistd::Pid,
};
use testbed::process::Awaited;

/// Time limit for the kernel to end the processes of a PID namespace.
const TIME_LIMIT: Duration = Duration::from_secs(10);
/// UID of the user `nobody`.
const NOBODY: u32 = 65534;

/// A copy of the program that every user may execute. Its path identifies the processes of one test.
struct Demo {
    folder: tempfile::TempDir,
    names_before: Vec<PathBuf>,
}

impl Demo {
    fn new() -> Self {
        let folder = tempfile::tempdir().expect("create a temporary directory");
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).expect("make the directory accessible to everybody");
        // Use `cp`, because this process would have the copy open for writing if it created the copy itself. A process that
        // another test starts in the meantime would inherit the descriptor. The kernel does not execute a file that is open for
        // writing (ETXTBSY).
        let copied = Command::new("cp")
            .arg(env!("CARGO_BIN_EXE_netns-agent"))
            .arg(folder.path())
            .status();
        assert!(copied.expect("cp starts").success(), "copying the program failed");
        Demo {
            folder,
            names_before: names("/run/netns"),
        }
    }

    fn program(&self) -> PathBuf {
        self.folder.path().join("netns-agent")
    }

    fn command(&self) -> Command {
        let mut command = Command::new(self.program());
        command.arg("demo").current_dir("/");
        command
    }

    /// Starts `demo --keep` in its own process group, as a shell does. Returns when the demo waits for a signal.
    fn keep(&self) -> Child {
        let mut child = self
            .command()
            .arg("--keep")
            .process_group(0)
            .stdout(Stdio::piped())
            .spawn()
            .expect("start the demo");
        let mut lines = BufReader::new(child.stdout.take().expect("a pipe")).lines();
        let waits = lines.any(|line| line.expect("readable text").contains("the store listens only inside"));
        assert!(waits, "the demo must say how to reach its store before it ends");
        assert_eq!(
            self.processes().len(),
            4,
            "expected four processes: outside, inside, agent, workload"
        );
        child
    }

    /// Returns the `/proc` directories of all processes that run this copy.
    fn processes(&self) -> Vec<PathBuf> {
        let runs_this = |process: &PathBuf| fs::read_link(process.join("exe")).is_ok_and(|exe| exe.starts_with(self.folder.path()));
        names("/proc").into_iter().filter(runs_this).collect()
    }

    fn assert_nothing_is_left(&self) {
        for process in self.processes() {
            let number = process.file_name().and_then(|name| name.to_str()?.parse().ok());
            let awaited = Awaited::begin(number.expect("a directory of /proc"));
            assert!(awaited.ends_within(TIME_LIMIT), "still running: {}", process.display());
        }
        assert_eq!(
            self.processes(),
            [] as [PathBuf; 0],
            "a process of the demo started another one that still runs"
        );
        assert_eq!(names("/run/netns"), self.names_before);
        for file in ["/run/netns-agent-demo", "/run/netns-agent-demo.log"] {
            assert!(!Path::new(file).exists(), "{file} must exist only in the sandbox");
        }
    }
}

/// Returns the sorted paths of all entries of a directory.
fn names(folder: &str) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).map(|entries| entries.flatten().map(|entry| entry.path()).collect());
    let mut names: Vec<PathBuf> = entries.unwrap_or_default();
    names.sort();
    names
}

fn text(output: &Output) -> (String, String) {
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).expect("UTF-8");
    (text(&output.stdout), text(&output.stderr))
}

/// Expected steps of the demo: the beginning of each title, and the results that the step reports, in order.
const STEPS: &[(&str, &[&str])] = &[
    ("1. Put values in the wrong order", &["PENDING"; 4]),
    ("2. Start a process with PID 1000", &["CONFIGURED"; 4]),
    ("3. Test connectivity", &["REPLY"]),
    ("4. Break the network", &["REPAIRED", "CONFIGURED", "REPLY"]),
    ("5. Kill and restart the agent", &["IN SYNC", "CONFIGURED"]),
    ("6. Delete the values", &["REMOVED", "REMOVED"]),
];

fn assert_every_step_is_told(reported: &str) {
    let mut chapters = reported.split("\n\n").skip(1);
    for (title, results) in STEPS {
        let chapter = chapters
            .find(|chapter| chapter.starts_with(title))
            .unwrap_or_else(|| panic!("no step {title:?} in:\n{reported}"));
        // A line with a result has the form `     STATE   1.2 ms  explanation`.
        let states = chapter.lines().filter(|line| line.starts_with("     ") && line.contains(" ms  "));
        let states: Vec<&str> = states
            .map(|line| line.trim_start().split("  ").next().unwrap_or_default())
            .collect();
        assert_eq!(&states, results, "in step {title:?}:\n{chapter}");
    }
    for reported_too in [
        "for namespace-available: namespace of process 1000 is not available",
        "none lost",
        "all steps succeeded",
        "config-status/",
    ] {
        let one_line = reported.split_whitespace().collect::<Vec<_>>().join(" ");
        assert!(one_line.contains(reported_too), "{reported_too:?} is missing in:\n{reported}");
    }
}

fn assert_success(output: &Output) {
    let (reported, complaints) = text(output);
    assert!(output.status.success(), "{}:\n{reported}\n{complaints}", output.status);
    assert_eq!(complaints, "");
    assert!(
        !reported.contains('\x1b'),
        "output must not be coloured without a terminal:\n{reported}"
    );
    assert_every_step_is_told(&reported);
}

#[test]
fn every_step_is_printed_and_nothing_is_left() {
    let demo = Demo::new();
    // The user's settings for real agents must not affect the agent of the demo.
    let output = demo
        .command()
        .env("ETCD_ENDPOINTS", "http://192.0.2.1:2379")
        .env("MICROSERVICE_LABEL", "mine")
        .output();
    assert_success(&output.expect("start the demo"));
    demo.assert_nothing_is_left();
}

#[test]
fn demo_works_without_privileges() {
    if fs::read_to_string("/proc/sys/kernel/apparmor_restrict_unprivileged_userns").is_ok_and(|value| value.trim() == "1") {
        panic!("this machine forbids user namespaces: sysctl -w kernel.apparmor_restrict_unprivileged_userns=0");
    }
    let demo = Demo::new();
    let output = demo.command().uid(NOBODY).gid(NOBODY).output().expect("start the demo");
    assert_success(&output);
    demo.assert_nothing_is_left();
}

#[test]
fn kept_demo_ends_with_ctrl_c() {
    let demo = Demo::new();
    let mut child = demo.keep();
    // Send the signal to the whole process group, as a terminal does.
    killpg(Pid::from_raw(i32::try_from(child.id()).expect("a PID")), Signal::SIGINT).expect("the group exists");
    let status: ExitStatus = child.wait().expect("the demo ends");
    assert_eq!(status.code(), Some(0));
    demo.assert_nothing_is_left();
}

#[test]
fn kept_processes_do_not_outlive_a_killed_demo() {
    let demo = Demo::new();
    let mut child = demo.keep();
    child.kill().expect("the demo runs");
    child.wait().expect("the demo ends");
    demo.assert_nothing_is_left();
}

#[test]
fn demo_fails_with_the_reason_if_namespaces_are_not_allowed() {
    let demo = Demo::new();
    // Run the demo without capabilities, in a user namespace in which no more user namespaces can be created.
    let script = "echo 0 > /proc/sys/user/max_user_namespaces && exec setpriv --bounding-set=-all --inh-caps=-all \"$0\" demo";
    let output = Command::new("unshare")
        .args(["--user", "--map-root-user", "sh", "-c", script])
        .arg(demo.program())
        .output();
    let output = output.expect("unshare (util-linux) starts");
    let (reported, complaint) = text(&output);
    assert_eq!(output.status.code(), Some(1), "{reported}\n{complaint}");
    assert!(
        complaint.contains("cannot create a user namespace") && complaint.contains("run the command as root"),
        "{complaint}"
    );
    demo.assert_nothing_is_left();
}

#[test]
fn failed_step_ends_the_demo_with_the_expectation_and_the_log() {
    let demo = Demo::new();
    // The agent cannot open all files that it needs, so it does not start.
    let output = Command::new("prlimit")
        .args(["--nofile=16:16"])
        .arg(demo.program())
        .arg("demo")
        .output();
    let output = output.expect("prlimit (util-linux) starts");
    let (reported, complaint) = text(&output);
    assert_eq!(output.status.code(), Some(1), "{reported}\n{complaint}");
    assert!(complaint.contains("expected") && complaint.contains("log ends with"), "{complaint}");
    demo.assert_nothing_is_left();
}
