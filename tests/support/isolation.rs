//! Throw-away namespaces around each scenario.
//!
//! Owns the way a test gets a network, mount and PID namespace of its own: the test starts its own binary again, for itself alone,
//! under `unshare`. Inside, `/run` is an empty tmpfs, `lo` is up and ports are free, so every scenario may use the default ones;
//! when the scenario ends, its PID namespace ends, and with it whatever it started. Must never change anything outside.
//! Start reading at [`run`].

use std::{fs::File, future::Future, os::unix::fs::FileExt, process::Stdio, time::Duration};

use nix::mount::MsFlags;

/// Set inside the namespaces, to the full name of the test that may run there.
const INSIDE: &str = "NETNS_AGENT_TEST_INSIDE";

/// How often the output of a running scenario is passed on.
const SHOWN_EVERY: Duration = Duration::from_millis(500);

/// Scratch folder of a scenario, on its own `/run`.
const SCRATCH: &str = "/run/live";

/// Runs `scenario` in namespaces of its own. `test` is the name by which the test binary selects this test (`module::name`),
/// `limit` the wall-clock time after which it is ended and has failed.
pub fn run<F, R>(test: &str, limit: Duration, scenario: F)
where
    F: FnOnce() -> R,
    R: Future<Output = ()>,
{
    if is_inside(test) {
        return block_on(scenario());
    }
    let output = start_again(test, limit, &["--exact", test, "--nocapture", "--include-ignored"]);
    // A name that selects nothing also exits 0; that would be a test that tests nothing.
    assert!(
        output.contains("1 passed"),
        "{test} did not run inside its namespaces: is this its full name?"
    );
}

/// As [`run`], for a program without a test harness (a benchmark), which is started again with the arguments that it was given.
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

/// Whether this process is already in the namespaces made for this test.
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
    // A task of the harness that still waits for the store must not hold up the end of the test.
    runtime.shutdown_background();
}

/// Starts this binary again for one test, inside new namespaces, and reports as it does. Returns what it printed.
fn start_again(test: &str, limit: Duration, arguments: &[&str]) -> String {
    assert!(
        nix::unistd::Uid::effective().is_root(),
        "{test} makes namespaces and needs root: run tests/run as root"
    );
    let log = tempfile::tempfile().expect("a temporary file for the output of the scenario");
    let binary = std::env::current_exe().expect("the path of the test binary");
    // The shell is there to be PID 1: it reaps what the daemons leave behind, which a test binary would not do.
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
        // What the daemons of the scenario keep is memory, too: no write of theirs waits for a disk.
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
            // Woken now and then, so that who runs this with `--nocapture` sees how a long scenario gets on.
            let outcome = tokio::time::timeout(SHOWN_EVERY, child.wait()).await;
            show_new_output(&log, &mut text);
            match outcome {
                Err(_) if tokio::time::Instant::now() < deadline => {}
                Err(_) => {
                    // Ending `unshare` ends PID 1 of the namespace (--kill-child), and that ends everything inside.
                    child.kill().await.expect("the scenario can be ended");
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

/// Prints what the scenario has written since the last call, and adds it to `text`. Read by position: the writers share the file's
/// offset.
fn show_new_output(log: &File, text: &mut Vec<u8>) {
    let mut chunk = [0; 64 * 1024];
    let before = text.len();
    loop {
        let length = log
            .read_at(&mut chunk, text.len() as u64)
            .expect("the output of the scenario is readable");
        if length == 0 {
            break;
        }
        text.extend_from_slice(&chunk[..length]);
    }
    print!("{}", String::from_utf8_lossy(&text[before..]));
}

/// Makes the new namespaces usable: an empty `/run` (and with it `/run/netns`), and loopback.
fn prepare() {
    let none: Option<&str> = None;
    nix::mount::mount(Some("tmpfs"), "/run", Some("tmpfs"), MsFlags::empty(), Some("mode=0755")).expect("a tmpfs on /run");
    // Mounts below /run/netns must reach all processes of this mount namespace's peer group, as on a real machine.
    nix::mount::mount(none, "/run", none, MsFlags::MS_SHARED | MsFlags::MS_REC, none).expect("/run with shared propagation");
    for directory in ["/run/netns", SCRATCH] {
        std::fs::create_dir(directory).unwrap_or_else(|error| panic!("{directory}: {error}"));
    }
    // Docker writes a key below /etc; that goes to memory.
    for folder in ["/run/live/etc-upper", "/run/live/etc-work"] {
        std::fs::create_dir(folder).unwrap_or_else(|error| panic!("{folder}: {error}"));
    }
    let layers = "lowerdir=/etc,upperdir=/run/live/etc-upper,workdir=/run/live/etc-work";
    nix::mount::mount(Some("overlay"), "/etc", Some("overlay"), MsFlags::empty(), Some(layers)).expect("an overlay on /etc");
    super::command::ip("link set lo up");
}

/// Makes one test of `$scenario` (an `async fn(Bench)`) for each store. Both are named after the scenario.
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

/// Makes one test of `$scenario` with one store, for what only that store can show.
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

/// The name by which the test binary knows a test: its path without the crate.
pub fn test_name(path: &'static str) -> &'static str {
    path.split_once("::").map_or(path, |(_, name)| name)
}
