//! Runs each test in its own network, mount and PID namespaces, by starting the test binary again under `unshare`.
//!
//! Inside the namespaces, `/run` is an empty tmpfs, `lo` is up and all ports are free, so every test may use the default ports.
//! When the test ends, its PID namespace ends with all processes that the test started. Nothing changes outside. See [`run`].

use std::{fs::File, future::Future, os::unix::fs::FileExt, process::Stdio, time::Duration};

use nix::mount::MsFlags;

/// Environment variable that is set inside the namespaces. Its value is the full name of the test that runs there.
const INSIDE: &str = "NETNS_AGENT_TEST_INSIDE";

/// Interval at which the output of a running test is shown.
const SHOWN_EVERY: Duration = Duration::from_millis(500);

/// Scratch directory of a test, on the private `/run` of the test.
const SCRATCH: &str = "/run/live";

/// Runs `scenario` in its own namespaces.
///
/// `test` is the name by which the test binary selects this test (`module::name`). If the test is still running after the
/// wall-clock time `limit`, it is killed and fails.
pub fn run<F, R>(test: &str, limit: Duration, scenario: F)
where
    F: FnOnce() -> R,
    R: Future<Output = ()>,
{
    if is_inside(test) {
        return block_on(scenario());
    }
    let output = start_again(test, limit, &["--exact", test, "--nocapture", "--include-ignored"]);
    // Detect a wrong test name, because the exit code is 0 even if the name selects no test.
    assert!(
        output.contains("1 passed"),
        "{test} did not run inside its namespaces: is this its full name?"
    );
}

/// Runs a program without a test harness, such as a benchmark, in its own namespaces. Starts the program again with its own
/// arguments.
pub fn run_program<F, R>(name: &str, limit: Duration, program: F)
where
    F: FnOnce() -> R,
    R: Future<Output = ()>,
{
    if is_inside(name) {
        return block_on(program());
    }
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    start_again(name, limit, &arguments.iter().map(String::as_str).collect::<Vec<_>>());
}

/// Returns true if this process is already in the namespaces of this test.
fn is_inside(test: &str) -> bool {
    std::env::var(INSIDE).is_ok_and(|name| name == test)
}

fn block_on(scenario: impl Future<Output = ()>) {
    prepare();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .expect("a tokio runtime");
    runtime.block_on(scenario);
    // Do not wait for tasks of the test harness that are still waiting for the store.
    runtime.shutdown_background();
}

/// Starts this binary again for one test in new namespaces, and returns its output. Panics if the test fails.
fn start_again(test: &str, limit: Duration, arguments: &[&str]) -> String {
    assert!(
        nix::unistd::Uid::effective().is_root(),
        "{test} creates namespaces, which needs root: run tests/run as root"
    );
    let log = tempfile::tempfile().expect("create a temporary file for the output of the test");
    let binary = std::env::current_exe().expect("get the path of the test binary");
    // Run the test under a shell with PID 1. The shell reaps orphaned processes of daemons, which a test binary would not do.
    let mut command = tokio::process::Command::new("setpriv");
    command
        .args([
            "--pdeathsig",
            "KILL",
            "unshare",
            "--mount",
            "--net",
            "--pid",
            "--fork",
            "--kill-child",
            "--mount-proc",
        ])
        .args(["--propagation", "private", "/bin/sh", "-c", "\"$@\"; exit $?", "sh"])
        .arg(binary)
        .args(arguments)
        .env(INSIDE, test)
        // Keep the data of the test's daemons in memory, so that their writes do not wait for a disk.
        .env("TMPDIR", SCRATCH)
        .env("RUST_BACKTRACE", "0")
        .stdin(Stdio::null())
        .stdout(log.try_clone().expect("a second handle of the log"))
        .stderr(log.try_clone().expect("a third handle of the log"))
        .kill_on_drop(true);
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a tokio runtime");
    let mut text = Vec::new();
    let outcome = runtime.block_on(async {
        let mut child = command.spawn().expect("setpriv and unshare (util-linux) start the scenario");
        let deadline = tokio::time::Instant::now() + limit;
        loop {
            // Wake up regularly, so that new output of a long-running test is shown (with `--nocapture`).
            let outcome = tokio::time::timeout(SHOWN_EVERY, child.wait()).await;
            show_new_output(&log, &mut text);
            match outcome {
                Err(_) if tokio::time::Instant::now() < deadline => {}
                Err(_) => {
                    // Killing `unshare` kills PID 1 of the namespace (--kill-child), and with it everything inside.
                    child.kill().await.expect("kill the test");
                    return outcome;
                }
                Ok(_) => return outcome,
            }
        }
    });
    show_new_output(&log, &mut text);
    match outcome {
        Err(_) => panic!(
            "{test} was still running after {} s and was ended; its output is above",
            limit.as_secs()
        ),
        Ok(Err(error)) => panic!("waiting for {test}: {error}"),
        Ok(Ok(status)) => assert!(
            status.success(),
            "{test} failed inside its namespaces ({status}); its output is above"
        ),
    }
    String::from_utf8_lossy(&text).into_owned()
}

/// Prints what the test has written since the last call, and adds it to `text`.
///
/// Reads at an explicit position, because the file offset is shared with the writers.
fn show_new_output(log: &File, text: &mut Vec<u8>) {
    let mut chunk = [0; 64 * 1024];
    let before = text.len();
    loop {
        let length = log
            .read_at(&mut chunk, text.len() as u64)
            .expect("read the output of the running test");
        if length == 0 {
            break;
        }
        text.extend_from_slice(&chunk[..length]);
    }
    print!("{}", String::from_utf8_lossy(&text[before..]));
}

/// Prepares the new namespaces. Mounts an empty tmpfs on `/run` and an overlay on `/etc`, creates `/run/netns`, and sets `lo` up.
fn prepare() {
    let none: Option<&str> = None;
    nix::mount::mount(Some("tmpfs"), "/run", Some("tmpfs"), MsFlags::empty(), Some("mode=0755")).expect("mount a tmpfs on /run");
    // Mounts below /run/netns must propagate to this mount namespace's peer group, as on a real machine.
    nix::mount::mount(none, "/run", none, MsFlags::MS_SHARED | MsFlags::MS_REC, none).expect("make /run a shared mount");
    for directory in ["/run/netns", SCRATCH] {
        std::fs::create_dir(directory).unwrap_or_else(|error| panic!("{directory}: {error}"));
    }
    // Docker writes a key below /etc, which the overlay keeps in memory.
    for folder in ["/run/live/etc-upper", "/run/live/etc-work"] {
        std::fs::create_dir(folder).unwrap_or_else(|error| panic!("{folder}: {error}"));
    }
    let layers = "lowerdir=/etc,upperdir=/run/live/etc-upper,workdir=/run/live/etc-work";
    nix::mount::mount(Some("overlay"), "/etc", Some("overlay"), MsFlags::empty(), Some(layers)).expect("mount an overlay on /etc");
    super::command::ip("link set lo up");
}

/// Defines one test of `$scenario` (an `async fn(Bench)`) for each store, in a module named after the function.
#[macro_export]
macro_rules! on_both_stores {
    ($scenario:ident) => {
        $crate::on_both_stores!($scenario, 180);
    };
    ($scenario:ident, $seconds:expr) => {
        mod $scenario {
            use $crate::support::{bench::Bench, isolation, store::StoreKind};

            #[test]
            fn with_etcd() {
                let test = isolation::test_name(concat!(module_path!(), "::with_etcd"));
                isolation::run(test, std::time::Duration::from_secs($seconds), || async {
                    super::$scenario(Bench::new(StoreKind::Etcd).await).await;
                });
            }

            #[test]
            fn with_the_embedded_store() {
                let test = isolation::test_name(concat!(module_path!(), "::with_the_embedded_store"));
                isolation::run(test, std::time::Duration::from_secs($seconds), || async {
                    super::$scenario(Bench::new(StoreKind::Embedded).await).await;
                });
            }
        }
    };
}

/// Defines one test of `$scenario` with one store, for behaviour that does not depend on the store or exists only with this
/// store.
#[macro_export]
macro_rules! on_one_store {
    ($scenario:ident, $kind:ident, $seconds:expr $(, #[$attribute:meta])*) => {
        mod $scenario {
            use $crate::support::{bench::Bench, isolation, store::StoreKind};

            #[test]
            $(#[$attribute])*
            fn alone() {
                let test = isolation::test_name(concat!(module_path!(), "::alone"));
                isolation::run(test, std::time::Duration::from_secs($seconds), || async {
                    super::$scenario(Bench::new(StoreKind::$kind).await).await;
                });
            }
        }
    };
}

/// Returns the name by which the test binary selects a test: its path without the crate.
pub fn test_name(path: &'static str) -> &'static str {
    path.split_once("::").map_or(path, |(_, name)| name)
}
