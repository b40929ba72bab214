//! A private Docker daemon for tests. It has its own directories and socket, builds its image locally, and uses neither a bridge
//! nor iptables.
//!
//! Needs root, `dockerd` with `containerd` and `runc`, the `docker` client and a static `busybox` (Debian: docker.io,
//! busybox-static). [`missing_requirement`] says what is missing. Start with [`Daemon::start`]. Dropping a [`Daemon`] ends the
//! daemon and its containers, and unmounts and removes everything.

#![allow(dead_code, reason = "each test uses a part")]

use std::{
    fs,
    io::{self, Write},
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
    thread,
    time::{Duration, Instant},
};

use netns_kernel::ProcessStat;
use nix::{
    mount::{MntFlags, umount2},
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use testbed::process::Awaited;

/// Result of a test helper. The error can have any type.
pub type TestResult<T = ()> = Result<T, Box<dyn std::error::Error>>;

/// Name of the image, which contains only `/bin/busybox`.
pub const IMAGE: &str = "busybox-only";

/// Time limit for the daemon to answer.
///
/// When it starts, the daemon first ends containers that outlived it. That takes 10 s for a container that ignores SIGTERM.
const START_TIME_LIMIT: Duration = Duration::from_secs(40);

/// Time limit for containerd to end after its daemon.
const CONTAINERD_TIME_LIMIT: Duration = Duration::from_secs(5);

/// Returns the first requirement of the daemon that is missing on this machine, or `None` if none is missing.
pub fn missing_requirement() -> Option<String> {
    if !nix::unistd::geteuid().is_root() {
        return Some("root".to_owned());
    }
    let path = std::env::var_os("PATH").unwrap_or_default();
    let exists = |program: &str| std::env::split_paths(&path).any(|directory| directory.join(program).is_file());
    let missing = |program: &&str| !exists(program);
    ["dockerd", "containerd", "runc", "docker", "busybox"]
        .iter()
        .find(|program| missing(program))
        .map(|program| format!("the program {program}"))
}

/// What a restarted daemon does with containers that kept running while it was down.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Survival {
    /// When the daemon starts again, it ends the containers that outlived it (the default of Docker).
    EndedAtStart,
    /// When the daemon starts again, it takes over the containers that outlived it (`--live-restore`).
    TakenOver,
}

/// A Docker daemon with its own directory. Dropping it kills the daemon and removes the directory.
#[derive(Debug)]
pub struct Daemon {
    directory: PathBuf,
    survival: Survival,
    process: Option<Child>,
}

impl Daemon {
    /// Prepares the directory of a daemon without starting the daemon, so its socket does not exist yet.
    pub fn prepare(survival: Survival) -> TestResult<Self> {
        let directory = tempfile::Builder::new().prefix("dockerd-").tempdir()?.keep();
        Ok(Self {
            directory,
            survival,
            process: None,
        })
    }

    /// Starts a daemon and imports the image.
    pub fn start(survival: Survival) -> TestResult<Self> {
        let mut daemon = Self::prepare(survival)?;
        daemon.launch()?;
        daemon.import_image()?;
        Ok(daemon)
    }

    /// Returns the path of the daemon's socket.
    pub fn socket(&self) -> PathBuf {
        self.directory.join("docker.sock")
    }

    /// Returns the daemon's address in the form of `DOCKER_HOST`.
    pub fn host(&self) -> String {
        format!("unix://{}", self.socket().display())
    }

    /// Starts the daemon for the first time or again, and waits until it answers.
    pub fn launch(&mut self) -> TestResult {
        self.launch_without_waiting()?;
        self.wait_until_it_answers()
    }

    /// Starts the daemon for the first time or again, without waiting.
    pub fn launch_without_waiting(&mut self) -> TestResult {
        // Remove stale files. After SIGKILL, they contain the PIDs of processes that have ended, and other processes may have
        // these PIDs now.
        for stale in ["dockerd.pid", "exec/containerd/containerd.pid", "docker.sock"] {
            remove_if_there(&self.directory.join(stale))?;
        }
        let log = fs::File::options()
            .create(true)
            .append(true)
            .open(self.directory.join("dockerd.log"))?;
        let mut command = Command::new("dockerd");
        command.arg("--data-root").arg(self.directory.join("data"));
        command.arg("--exec-root").arg(self.directory.join("exec"));
        command.arg("--pidfile").arg(self.directory.join("dockerd.pid"));
        command.arg("--config-file").arg(self.directory.join("none.json"));
        command.args([
            "--host",
            &self.host(),
            "--iptables=false",
            "--ip6tables=false",
            "--bridge=none",
            "--storage-driver=vfs",
        ]);
        if self.survival == Survival::TakenOver {
            command.arg("--live-restore");
        }
        fs::write(self.directory.join("none.json"), "{}")?;
        self.process = Some(command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log).spawn()?);
        Ok(())
    }

    /// Waits until the daemon answers.
    pub fn wait_until_it_answers(&mut self) -> TestResult {
        let deadline = Instant::now() + START_TIME_LIMIT;
        while self.docker(&["version"]).is_err() {
            let ended = self.process.as_mut().is_none_or(|process| !matches!(process.try_wait(), Ok(None)));
            if ended || Instant::now() > deadline {
                let log = fs::read_to_string(self.directory.join("dockerd.log")).unwrap_or_default();
                let tail: Vec<&str> = log.lines().rev().take(15).collect();
                return Err(format!("dockerd does not answer; its last log lines, latest first:\n{}", tail.join("\n")).into());
            }
            // Poll, because no event shows that the daemon is listening.
            thread::sleep(Duration::from_millis(50));
        }
        Ok(())
    }

    /// Kills the daemon with SIGKILL, as in a crash. Its containerd is killed with it, but its containers keep running.
    pub fn crash(&mut self) -> TestResult {
        self.end(Signal::SIGKILL)
    }

    /// Stops the daemon with SIGTERM. The daemon ends its containers first, unless it was started with [`Survival::TakenOver`].
    pub fn stop(&mut self) -> TestResult {
        self.end(Signal::SIGTERM)
    }

    fn end(&mut self, signal: Signal) -> TestResult {
        let containerd = self.containerd().map(Awaited::begin);
        if let Some(mut process) = self.process.take() {
            kill(Pid::from_raw(i32::try_from(process.id())?), signal)?;
            process.wait()?;
        }
        // The kernel kills containerd when its parent ends, but not at the same instant.
        match containerd.is_none_or(|containerd| containerd.ends_within(CONTAINERD_TIME_LIMIT)) {
            true => Ok(()),
            false => Err("containerd is still running after the daemon has ended".into()),
        }
    }

    fn containerd(&self) -> Option<i32> {
        fs::read_to_string(self.directory.join("exec/containerd/containerd.pid"))
            .ok()?
            .trim()
            .parse()
            .ok()
    }

    /// Imports [`IMAGE`].
    pub fn import_image(&self) -> TestResult {
        let root = self.directory.join("image");
        fs::create_dir_all(root.join("bin"))?;
        let path = std::env::var_os("PATH").unwrap_or_default();
        let busybox = std::env::split_paths(&path)
            .map(|directory| directory.join("busybox"))
            .find(|candidate| candidate.is_file());
        fs::copy(busybox.ok_or("busybox is not installed")?, root.join("bin/busybox"))?;
        let archive = succeeded(Command::new("tar").arg("-C").arg(&root).args(["-c", "."]).output()?, "tar")?;
        let mut import = self.command(&["import", "-", IMAGE]);
        let mut import = import.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
        import.stdin.take().ok_or("no standard input")?.write_all(&archive.stdout)?;
        succeeded(import.wait_with_output()?, "docker import")?;
        Ok(())
    }

    /// Runs a container that has no network and sleeps until it is ended. Returns the container ID.
    ///
    /// `options` are passed to `docker run`, for example `["--env", "MICROSERVICE_LABEL=web"]`.
    pub fn run_idle(&self, options: &[&str]) -> TestResult<String> {
        let mut arguments = vec!["run", "--detach", "--network", "none", "--init=false", "--stop-timeout", "0"];
        arguments.extend(options);
        arguments.extend([IMAGE, "/bin/busybox", "sleep", "864000"]);
        self.docker(&arguments)
    }

    /// Returns the host PID of a container's main process.
    pub fn pid(&self, container: &str) -> TestResult<i32> {
        Ok(self.docker(&["inspect", "--format", "{{.State.Pid}}", container])?.parse()?)
    }

    /// Runs the `docker` client, and returns its trimmed output.
    pub fn docker(&self, arguments: &[&str]) -> TestResult<String> {
        let output = self.command(arguments).output()?;
        let output = succeeded(output, &format!("docker {}", arguments.join(" ")))?;
        Ok(String::from_utf8(output.stdout)?.trim().to_owned())
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new("docker");
        // Ignore the user's Docker contexts and configuration, which could redirect the client.
        command.env_clear().env("PATH", std::env::var_os("PATH").unwrap_or_default());
        command
            .env("DOCKER_CONFIG", self.directory.join("client"))
            .arg("--host")
            .arg(self.host())
            .args(arguments);
        command.stdin(Stdio::null());
        command
    }

    fn clean_up(&mut self) -> TestResult {
        if self.process.is_some() {
            let containers = self.docker(&["ps", "--all", "--quiet", "--no-trunc"])?;
            let mut arguments = vec!["rm", "--force"];
            arguments.extend(containers.lines());
            if arguments.len() > 2 {
                self.docker(&arguments)?;
            }
            self.stop()?;
        }
        self.end_leftover_processes()?;
        let mounts = fs::read_to_string("/proc/self/mounts")?;
        let points = mounts.lines().filter_map(|line| line.split(' ').nth(1)).map(Path::new);
        for point in points
            .filter(|point| point.starts_with(&self.directory))
            .collect::<Vec<_>>()
            .into_iter()
            .rev()
        {
            umount2(point, MntFlags::MNT_DETACH)?;
        }
        fs::remove_dir_all(&self.directory)?;
        Ok(())
    }

    /// Ends the shims that outlived a crashed daemon, and their containers.
    ///
    /// Recognizes these processes by the daemon's directory in their arguments.
    fn end_leftover_processes(&self) -> TestResult {
        let directory = self.directory.to_string_lossy().into_owned();
        let all: Vec<i32> = fs::read_dir("/proc")?
            .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
            .collect();
        let is_our_shim = |pid: &i32| {
            let arguments = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
            let arguments = String::from_utf8_lossy(&arguments);
            let program = arguments.split('\0').next().unwrap_or_default();
            program.contains("containerd-shim") && arguments.contains(&directory)
        };
        let shims: Vec<i32> = all.iter().copied().filter(|pid| is_our_shim(pid)).collect();
        let below = all
            .iter()
            .copied()
            .filter(|pid| parent(*pid).is_some_and(|parent| shims.contains(&parent)));
        for pid in shims.iter().copied().chain(below).collect::<Vec<_>>() {
            // Ignore errors, because the process may have ended by itself.
            let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
        }
        Ok(())
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        if let Err(error) = self.clean_up() {
            eprintln!("cannot clean up {}: {error}", self.directory.display());
            let _ = self.end(Signal::SIGKILL);
        }
    }
}

fn succeeded(output: Output, what: &str) -> TestResult<Output> {
    if output.status.success() {
        Ok(output)
    } else {
        Err(format!("{what}: {}: {}", output.status, String::from_utf8_lossy(&output.stderr).trim()).into())
    }
}

fn remove_if_there(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

fn parent(pid: i32) -> Option<i32> {
    ProcessStat::of(pid).ok().map(|stat| stat.parent)
}
