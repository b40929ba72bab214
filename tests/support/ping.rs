//! Uses `ping` to test that namespaces reach each other, and that a running stream loses no packets.
//!
//! See [`reaches`] and [`Stream`].

use std::{collections::BTreeSet, path::Path};

use nix::sys::signal::Signal;

use super::{
    command,
    process::{Process, tail},
};

/// Panics if an echo request from this namespace is not answered.
pub fn reaches(netns: &Path, address: &str) {
    let netns_option = format!("--net={}", netns.display());
    let output = command::output(
        "nsenter",
        &[&netns_option, "ping", "-n", "-c", "2", "-i", "0.2", "-W", "2", address],
    );
    assert!(
        output.status.success(),
        "no answer from {address} in {}: {}{}\n{}",
        netns.display(),
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr),
        command::ip_in(netns, "addr")
    );
}

/// A `ping` that runs in the background.
pub struct Stream {
    process: Process,
    log: String,
}

impl Stream {
    /// Starts a `ping` in this namespace that sends 100 echo requests per second. `name` distinguishes its log from other logs.
    pub fn start(netns: &Path, address: &str, name: &str) -> Self {
        Self::start_every("0.01", netns, address, name)
    }

    /// Starts a `ping` like [`Stream::start`], but with this interval between requests, in seconds.
    pub fn start_every(interval: &str, netns: &Path, address: &str, name: &str) -> Self {
        let log = format!("/run/live/ping-{name}.log");
        let netns = format!("--net={}", netns.display());
        let process = Process::start("nsenter", &[&netns, "ping", "-n", "-i", interval, address], &log);
        Self { process, log }
    }

    /// Stops the `ping` and returns the number of replies. Panics if a reply between the first and the last one is missing.
    pub async fn finish_without_loss(mut self) -> usize {
        assert!(self.process.runs(), "ping ended by itself:\n{}", tail(Path::new(&self.log), 20));
        self.process.signal(Signal::SIGINT);
        self.process.wait().await;
        self.answers_without_loss()
    }

    /// Returns the number of replies so far. Panics if a reply between the first and the last one is missing.
    ///
    /// A request that has not been answered yet is not considered lost.
    pub fn answers_without_loss(&self) -> usize {
        let text = std::fs::read_to_string(&self.log).expect("read the log of ping");
        let answered: BTreeSet<u32> = text
            .lines()
            .filter(|line| line.contains("bytes from"))
            .filter_map(|line| line.split("icmp_seq=").nth(1)?.split_whitespace().next()?.parse().ok())
            .collect();
        let last = *answered
            .last()
            .unwrap_or_else(|| panic!("ping got no answer at all:\n{}", tail(Path::new(&self.log), 20)));
        let lost: Vec<u32> = (1..=last).filter(|number| !answered.contains(number)).collect();
        assert!(lost.is_empty(), "ping lost {lost:?} of {last}:\n{}", tail(Path::new(&self.log), 20));
        answered.len()
    }
}
