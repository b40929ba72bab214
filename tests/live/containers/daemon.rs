//! A Docker daemon of the scenario's own, and containers made from one static program.
//!
//! Owns the daemon and its containers; they live in the scenario's namespaces and end with it. Must never speak to a daemon of the
//! machine: the socket lies on the scenario's own `/run`. Start reading at [`Daemon::start`].

use std::path::{Path, PathBuf};

use crate::support::{agent::DOCKER_HOST, command, process::Process};

/// The image: busybox and nothing else.
const IMAGE: &str = "local/busybox";

/// A running daemon.
pub struct Daemon {
    process: Option<Process>,
}

impl Daemon {
    /// Starts the daemon, waits until it answers, and makes the image.
    pub async fn start() -> Self {
        keep_etc_as_it_is();
        let mut daemon = Self { process: None };
        daemon.start_again().await;
        std::fs::create_dir_all("/run/live/image/bin").expect("a folder for the image");
        std::fs::copy("/usr/bin/busybox", "/run/live/image/bin/busybox").expect("busybox (Debian: busybox-static)");
        command::run("tar", &["-C", "/run/live/image", "-cf", "/run/live/image.tar", "."]);
        docker(&["import", "/run/live/image.tar", IMAGE]);
        daemon
    }

    /// Starts the daemon on what an earlier one left.
    pub async fn start_again(&mut self) {
        // Without a bridge and packet filter: the scenarios bring their own network. Live restore lets containers outlive a crash.
        let arguments = [
            ["--host", DOCKER_HOST].as_slice(),
            &[
                "--data-root",
                "/run/live/docker",
                "--exec-root",
                "/run/live/docker-exec",
                "--pidfile",
                "/run/live/docker.pid",
            ],
            &["--bridge", "none", "--iptables=false", "--ip6tables=false", "--live-restore"],
        ];
        let mut process = Process::start("dockerd", &arguments.concat(), "/run/live/dockerd.log");
        let deadline = tokio::time::Instant::now() + std::time::Duration::from_secs(20);
        while !command::output("docker", &["--host", DOCKER_HOST, "version"]).status.success() {
            let in_time = process.runs() && tokio::time::Instant::now() < deadline;
            assert!(in_time, "dockerd does not answer:\n{}", process.log_tail(40));
            // A daemon tells by answering that it is ready, and by nothing else.
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        }
        self.process = Some(process);
    }

    /// Ends the daemon in order; with live restore its containers go on.
    pub async fn stop(&mut self) {
        let status = self.process.take().expect("the daemon runs").terminate().await;
        assert!(status.success(), "dockerd ended with {status}");
    }

    /// Ends the daemon as a crash would.
    pub async fn kill(&mut self) {
        self.process.take().expect("the daemon runs").kill().await;
        // Its own containerd ends with it but may leave these files, which would keep the next one from starting.
        let _ = std::fs::remove_file("/run/live/docker.pid");
    }

    /// Removes all containers, so that nothing of them stays behind in the machine's control groups, and ends the daemon.
    pub async fn finish(mut self) {
        let all = docker(&["ps", "-aq"]);
        for container in all.split_whitespace() {
            docker(&["rm", "-f", container]);
        }
        self.stop().await;
    }
}

/// The daemon writes a key below `/etc`; in the scenario's mount namespace that goes to memory.
fn keep_etc_as_it_is() {
    for folder in ["/run/live/etc-upper", "/run/live/etc-work"] {
        std::fs::create_dir(folder).unwrap_or_else(|error| panic!("{folder}: {error}"));
    }
    let layers = "lowerdir=/etc,upperdir=/run/live/etc-upper,workdir=/run/live/etc-work";
    nix::mount::mount(Some("overlay"), "/etc", Some("overlay"), nix::mount::MsFlags::empty(), Some(layers)).expect("an overlay on /etc");
}

/// `docker` with these arguments against the scenario's daemon; must succeed.
pub fn docker(arguments: &[&str]) -> String {
    let mut words = vec!["--host", DOCKER_HOST];
    words.extend_from_slice(arguments);
    command::run("docker", &words)
}

/// Starts a new container that is a microservice with this label.
pub fn run_container(name: &str, label: &str) {
    let variable = format!("MICROSERVICE_LABEL={label}");
    docker(&[
        "run",
        "--detach",
        "--network",
        "none",
        "--name",
        name,
        "--env",
        &variable,
        IMAGE,
        "/bin/busybox",
        "sleep",
        "100000",
    ]);
}

/// The namespace file of a running container.
pub fn netns_of(name: &str) -> PathBuf {
    let pid = docker(&["inspect", "--format", "{{.State.Pid}}", name]);
    let pid = pid.trim();
    assert_ne!(pid, "0", "container {name} does not run");
    Path::new("/proc").join(pid).join("ns/net")
}
