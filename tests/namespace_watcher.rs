//! Tests the namespace watcher with the real kernel. Each test runs in its own mount namespace.
//!
//! The tests need root and `unshare` (util-linux). Without root, a test prints a message and passes, or fails if
//! `REQUIRE_ROOT_TESTS` is set.

use std::{
    fs,
    io::{Read, Write},
    os::unix::fs::MetadataExt,
    path::Path,
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use netns_agent::signals::{
    namespaces::{Binding, Target, Watcher, WatcherConfig},
    process,
};
use nix::{
    mount::{MntFlags, MsFlags, mount, umount2},
    sched::{CloneFlags, unshare},
};
use tokio::{
    sync::mpsc::{UnboundedReceiver, unbounded_channel},
    time::timeout,
};

type TestResult<T = ()> = Result<T, Box<dyn std::error::Error + Send + Sync>>;

/// Time limit for a key to arrive. A passing test does not reach it.
const TIME_LIMIT: Duration = Duration::from_secs(10);
/// Time to wait for a key before a test concludes that none arrives.
const SILENCE: Duration = Duration::from_millis(350);

/// Runs a test on a thread with its own mount namespace, so its mounts are neither visible outside nor left behind.
fn isolated<F: Future<Output = TestResult>>(scenario: impl FnOnce() -> F + Send) -> TestResult {
    if !nix::unistd::geteuid().is_root() {
        assert!(std::env::var_os("REQUIRE_ROOT_TESTS").is_none(), "mounting needs root");
        eprintln!("SKIPPED: mounting needs root");
        return Ok(());
    }
    let run = || -> TestResult {
        unshare(CloneFlags::CLONE_NEWNS)?;
        mount(None::<&str>, "/", None::<&str>, MsFlags::MS_REC | MsFlags::MS_PRIVATE, None::<&str>)?;
        tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?
            .block_on(scenario())
    };
    thread::scope(|scope| scope.spawn(run).join().map_err(|_| "the test panicked")?)
}

/// A process that is killed on drop.
struct Process(Child);

impl Process {
    fn spawn(command: &mut Command) -> TestResult<Self> {
        Ok(Self(command.stdin(Stdio::piped()).spawn()?))
    }

    /// Starts a process in a new network namespace.
    fn in_new_namespace() -> TestResult<Self> {
        let mut command = Command::new("unshare");
        let mut process = Self::spawn(
            command
                .args(["--net", "sh", "-c", "echo && exec sleep 3600"])
                .stdout(Stdio::piped()),
        )?;
        // Wait for the line that the process prints once it is in the new namespace.
        let mut inside = process.0.stdout.take().ok_or("no pipe")?;
        inside.read_exact(&mut [0])?;
        Ok(process)
    }

    fn pid(&self) -> i32 {
        i32::try_from(self.0.id()).unwrap_or(-1)
    }

    fn inode(&self) -> TestResult<u64> {
        Ok(process::netns_inode(self.pid())?)
    }

    fn end(&mut self) -> TestResult {
        self.0.kill()?;
        self.0.wait()?;
        Ok(())
    }

    /// Mounts the namespace on a file, as `ip netns add` does.
    fn mount_on(&self, file: &Path) -> TestResult {
        let namespace = format!("/proc/{}/ns/net", self.pid());
        Ok(mount(Some(namespace.as_str()), file, None::<&str>, MsFlags::MS_BIND, None::<&str>)?)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // Ignore errors, because the test may have ended the process already.
        let _ = self.end();
    }
}

/// A watcher and the keys that it sends.
struct Watched {
    watcher: Watcher,
    changed: UnboundedReceiver<String>,
}

impl Watched {
    fn start(netns_dir: &Path) -> TestResult<Self> {
        let (sender, changed) = unbounded_channel();
        Ok(Self {
            watcher: Watcher::start(
                WatcherConfig {
                    netns_dir: netns_dir.to_owned(),
                },
                sender,
            )?,
            changed,
        })
    }

    fn watch(&self, key: &str, target: Target, binding: Binding) {
        self.watcher.watch(key.to_owned(), target, binding);
    }

    /// Waits for a key, and returns the elapsed time.
    async fn expect(&mut self, key: &str) -> TestResult<Duration> {
        let start = Instant::now();
        let sent = timeout(TIME_LIMIT, self.changed.recv())
            .await
            .map_err(|_| format!("{key} was not sent in time"))?;
        assert_eq!(sent.as_deref(), Some(key));
        Ok(start.elapsed())
    }

    async fn expect_silence(&mut self) -> TestResult {
        match timeout(SILENCE, self.changed.recv()).await {
            Err(_) => Ok(()),
            Ok(sent) => Err(format!("expected nothing, got {sent:?}").into()),
        }
    }
}

fn named(name: &str) -> Target {
    Target::Named(name.to_owned())
}

#[test]
fn missing_name_is_reported_when_its_namespace_is_mounted() -> TestResult {
    isolated(|| async {
        let directory = tempfile::tempdir()?;
        let namespace = Process::in_new_namespace()?;
        let mut watched = Watched::start(directory.path())?;
        watched.watch("blue", named("blue"), Binding::Missing);
        watched.expect_silence().await?;
        let mut took = Vec::new();
        for _ in 0..10 {
            fs::write(directory.path().join("blue"), "")?;
            // Give the watcher time to see the plain file, because the watcher runs on this thread. No event shows that it has
            // ignored the file.
            tokio::time::sleep(Duration::from_millis(5)).await;
            assert!(
                watched.changed.try_recv().is_err(),
                "a plain file must not be reported as a namespace"
            );
            namespace.mount_on(&directory.path().join("blue"))?;
            took.push(watched.expect("blue").await?);
            umount2(&directory.path().join("blue"), MntFlags::MNT_DETACH)?;
            fs::remove_file(directory.path().join("blue"))?;
            watched.expect("blue").await?;
        }
        took.sort();
        eprintln!(
            "mount to report, after 5 ms between file and mount: median {:?}, worst {:?}",
            took[5], took[9]
        );
        assert!(took[5] < Duration::from_millis(50), "{took:?}");
        Ok(())
    })
}

#[test]
fn name_is_reported_even_if_its_directory_is_created_later() -> TestResult {
    isolated(|| async {
        let parent = tempfile::tempdir()?;
        let directory = parent.path().join("netns");
        let namespace = Process::in_new_namespace()?;
        let mut watched = Watched::start(&directory)?;
        watched.watch("blue", named("blue"), Binding::Missing);
        watched.expect_silence().await?;
        for _ in 0..2 {
            fs::create_dir(&directory)?;
            fs::write(directory.join("blue"), "")?;
            namespace.mount_on(&directory.join("blue"))?;
            let took = watched.expect("blue").await?;
            assert!(
                took < Duration::from_millis(500),
                "{took:?} is too slow for an event; the periodic check reported it"
            );
            umount2(&directory.join("blue"), MntFlags::MNT_DETACH)?;
            fs::remove_dir_all(&directory)?;
            watched.expect("blue").await?;
        }
        Ok(())
    })
}

#[test]
fn bound_name_is_reported_when_deleted_or_mounted_over() -> TestResult {
    isolated(|| async {
        let directory = tempfile::tempdir()?;
        let (first, second) = (Process::in_new_namespace()?, Process::in_new_namespace()?);
        let file = directory.path().join("blue");
        fs::write(&file, "")?;
        first.mount_on(&file)?;
        let mut watched = Watched::start(directory.path())?;
        watched.watch("blue", named("blue"), Binding::Bound { inode: first.inode()? });
        watched.expect_silence().await?;

        second.mount_on(&file)?;
        let took = watched.expect("blue").await?;
        assert!(
            took < Duration::from_secs(3),
            "a mount sends no event, but {took:?} is too slow even for the periodic check"
        );
        watched.watch("blue", named("blue"), Binding::Bound { inode: second.inode()? });
        watched.expect_silence().await?;

        while umount2(&file, MntFlags::MNT_DETACH).is_ok() {}
        fs::remove_file(&file)?;
        let took = watched.expect("blue").await?;
        assert!(
            took < Duration::from_millis(500),
            "{took:?} is too slow for an event; the periodic check reported it"
        );
        watched.expect_silence().await
    })
}

#[test]
fn outdated_binding_is_reported_at_once() -> TestResult {
    isolated(|| async {
        let directory = tempfile::tempdir()?;
        let process = Process::in_new_namespace()?;
        let inode = process.inode()?;
        let mut watched = Watched::start(directory.path())?;
        watched.watch("name", named("blue"), Binding::Bound { inode });
        watched.expect("name").await?;
        watched.watch("file", Target::File(directory.path().join("red")), Binding::Bound { inode });
        watched.expect("file").await?;
        watched.watch("process", Target::Process(process.pid()), Binding::Bound { inode: inode + 1 });
        watched.expect("process").await?;
        watched.watch("missing", Target::Process(process.pid()), Binding::Missing);
        watched.expect("missing").await?;
        watched.expect_silence().await
    })
}

#[test]
fn end_of_a_bound_process_is_reported_at_once() -> TestResult {
    isolated(|| async {
        let directory = tempfile::tempdir()?;
        let mut watched = Watched::start(directory.path())?;
        for path in [false, true] {
            let mut process = Process::in_new_namespace()?;
            let by_path = Target::File(format!("/proc/{}/ns/net", process.pid()).into());
            let target = if path { by_path } else { Target::Process(process.pid()) };
            watched.watch("process", target, Binding::Bound { inode: process.inode()? });
            watched.expect_silence().await?;
            process.end()?;
            let took = watched.expect("process").await?;
            eprintln!("end of a process to report: {took:?}");
            assert!(
                took < Duration::from_millis(90),
                "{took:?} is too slow for the pidfd; polling reported it"
            );
            watched.expect_silence().await?;
        }
        Ok(())
    })
}

#[test]
fn process_in_the_own_namespace_is_reported_again_when_it_leaves() -> TestResult {
    isolated(|| async {
        let directory = tempfile::tempdir()?;
        let mut watched = Watched::start(directory.path())?;
        let mut process = Process::spawn(Command::new("sh").args(["-c", "read line && exec unshare --net sleep 3600"]))?;
        let target = Target::Process(process.pid());
        watched.watch("process", target.clone(), Binding::Missing);
        watched.expect("process").await?;
        // Watch the process again, as the engine does if the process is still in the agent's own namespace.
        watched.watch("process", target, Binding::Missing);
        watched.expect_silence().await?;
        process.0.stdin.take().ok_or("no standard input")?.write_all(b"go\n")?;
        let took = watched.expect("process").await?;
        assert!(took < Duration::from_secs(1), "{took:?}");
        assert_ne!(process.inode()?, fs::metadata("/proc/self/ns/net")?.ino());
        Ok(())
    })
}

#[test]
fn namespace_file_is_reported_when_it_appears_and_disappears() -> TestResult {
    isolated(|| async {
        let directory = tempfile::tempdir()?;
        let process = Process::in_new_namespace()?;
        let file = directory.path().join("elsewhere");
        let mut watched = Watched::start(&directory.path().join("netns"))?;
        watched.watch("file", Target::File(file.clone()), Binding::Missing);
        watched.expect_silence().await?;
        fs::write(&file, "")?;
        watched.expect_silence().await?;
        process.mount_on(&file)?;
        watched.expect("file").await?;
        umount2(&file, MntFlags::MNT_DETACH)?;
        watched.expect("file").await?;
        Ok(())
    })
}

#[test]
fn unwatched_key_is_not_sent() -> TestResult {
    isolated(|| async {
        let directory = tempfile::tempdir()?;
        let mut process = Process::in_new_namespace()?;
        let mut watched = Watched::start(directory.path())?;
        watched.watch(
            "process",
            Target::Process(process.pid()),
            Binding::Bound { inode: process.inode()? },
        );
        watched.watch("name", named("blue"), Binding::Missing);
        watched.expect_silence().await?;
        watched.watcher.unwatch("process");
        watched.watcher.unwatch("name");
        watched.watcher.unwatch("never watched");
        process.end()?;
        watched.expect_silence().await
    })
}
