//! A real single-member etcd, for comparison.

use std::io::{BufRead, BufReader, Read};
use std::net::TcpListener;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use tempfile::TempDir;

pub struct RealEtcd {
    pub endpoint: String,
    process: Child,
    _directory: TempDir,
}

impl RealEtcd {
    /// Starts etcd and waits until it serves. Returns `None` if etcd is not installed.
    pub fn start() -> Option<RealEtcd> {
        RealEtcd::start_with(&[])
    }

    /// Starts etcd with additional arguments.
    pub fn start_with(further: &[&str]) -> Option<RealEtcd> {
        if !super::installed("etcd") {
            return None;
        }
        Some(RealEtcd::on_free_ports(|| {
            let directory = tempfile::tempdir().expect("a temporary directory");
            RealEtcd::run(directory, free_port(), further)
        }))
    }

    /// Retries if another process takes a port before etcd does, because a free port cannot be reserved.
    fn on_free_ports(start: impl Fn() -> Result<RealEtcd, String>) -> RealEtcd {
        for _ in 0..5 {
            match start() {
                Ok(etcd) => return etcd,
                Err(log) => assert!(log.contains("address already in use"), "etcd ended before it served:\n{log}"),
            }
        }
        panic!("etcd found no free ports");
    }

    /// Starts etcd with the contents of a snapshot.
    pub fn restore(snapshot: &Path) -> RealEtcd {
        RealEtcd::on_free_ports(|| RealEtcd::restore_once(snapshot))
    }

    fn restore_once(snapshot: &Path) -> Result<RealEtcd, String> {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let peer = free_port();
        let output = Command::new("etcdctl")
            .env("ETCDCTL_API", "3")
            .args(["snapshot", "restore"])
            .arg(snapshot)
            .args(["--name", "only", "--initial-advertise-peer-urls"])
            .arg(format!("http://127.0.0.1:{peer}"))
            .arg(format!("--initial-cluster=only=http://127.0.0.1:{peer}"))
            .arg("--data-dir")
            .arg(directory.path().join("data"))
            .output()
            .expect("etcdctl starts");
        assert!(
            output.status.success(),
            "etcdctl snapshot restore: {}",
            String::from_utf8_lossy(&output.stderr)
        );
        RealEtcd::run(directory, peer, &[])
    }

    /// Runs etcd and waits until it serves. If etcd ends before that, returns its log as the error.
    fn run(directory: TempDir, peer: u16, further: &[&str]) -> Result<RealEtcd, String> {
        let client = free_port();
        let (client, peer) = (format!("http://127.0.0.1:{client}"), format!("http://127.0.0.1:{peer}"));
        let mut process = Command::new("etcd")
            .arg("--data-dir")
            .arg(directory.path().join("data"))
            .args([
                "--name",
                "only",
                "--listen-client-urls",
                &client,
                "--advertise-client-urls",
                &client,
            ])
            .args(["--listen-peer-urls", &peer, "--initial-advertise-peer-urls", &peer])
            .arg(format!("--initial-cluster=only={peer}"))
            .args(further)
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .expect("etcd starts");
        let mut lines = BufReader::new(process.stderr.take().expect("a pipe"));
        let mut log = String::new();
        while !log.contains("ready to serve client requests") {
            if lines.read_line(&mut log).expect("read the log of etcd") == 0 {
                process.wait().expect("etcd has ended");
                return Err(log);
            }
        }
        // Drain the pipe, because etcd would block if it were full.
        std::thread::spawn(move || lines.read_to_end(&mut Vec::new()));
        Ok(RealEtcd {
            endpoint: client,
            process,
            _directory: directory,
        })
    }
}

impl Drop for RealEtcd {
    fn drop(&mut self) {
        self.process.kill().expect("kill etcd");
        self.process.wait().expect("etcd ends");
    }
}

fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0")
        .and_then(|listener| listener.local_addr())
        .expect("a free port")
        .port()
}
