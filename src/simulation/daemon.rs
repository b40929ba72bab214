//! A simulated Docker daemon with its containers, and the tracker's way to it.
//!
//! Owns what the daemon knows and tells. Must never decide who holds a label: the product's arbiter does. Start reading at
//! [`Daemon::inspect`].

use std::{
    collections::BTreeMap,
    time::{Duration, SystemTime},
};

use super::{
    configuration::LABEL,
    kernel::{Kernel, OWN},
};
use crate::signals::docker::{
    Microservice,
    arbiter::{Arbiter, Inspection, ListedContainer, ProcessIdentity},
};

/// First PID of the containers; each has its own, and gets it again when it is started again.
const PIDS: i32 = 500;

/// A container.
#[derive(Clone, Debug)]
pub struct Container {
    /// When it was created.
    pub created: u64,
    /// Start time of its main process, while it runs.
    pub running: Option<u64>,
}

/// The daemon.
#[derive(Default)]
pub struct Daemon {
    /// Whether it answers.
    pub up: bool,
    /// By number; all of them have the same label.
    pub containers: BTreeMap<usize, Container>,
    /// It does not tell of the next so many changes.
    pub losing: usize,
    /// It has not told of a change: nobody can know before the next comparison.
    pub untold: bool,
    clock: u64,
}

impl Daemon {
    /// A daemon without containers.
    pub fn new(up: bool) -> Self {
        Daemon { up, ..Daemon::default() }
    }

    /// PID of a container's main process.
    pub fn pid(number: usize) -> i32 {
        PIDS + i32::try_from(number).unwrap_or_default()
    }

    /// Id of a container.
    pub fn id(number: usize) -> String {
        format!("container{number}")
    }

    /// A container starts; one that is there already is started again.
    pub fn start(&mut self, kernel: &mut Kernel, number: usize) {
        let process = kernel.start_process(Self::pid(number));
        self.clock += 1;
        let created = self.clock;
        let container = self.containers.entry(number).or_insert(Container { created, running: None });
        container.running = Some(process.start_time);
    }

    /// A container stops.
    pub fn stop(&mut self, kernel: &mut Kernel, number: usize) {
        if let Some(container) = self.containers.get_mut(&number)
            && container.running.take().is_some()
        {
            kernel.end_process(Self::pid(number));
        }
    }

    /// The containers that run.
    pub fn list(&self) -> Vec<ListedContainer> {
        let running = self.containers.iter().filter(|(_, container)| container.running.is_some());
        let listed = running.map(|(number, _)| ListedContainer {
            container_id: Self::id(*number),
            name: Some(format!("name{number}")),
        });
        listed.collect()
    }

    /// Who is to hold the label: the newest that runs.
    pub fn holder(&self) -> Option<usize> {
        let running = self.containers.iter().filter(|(_, container)| container.running.is_some());
        running.max_by_key(|(_, container)| container.created).map(|(number, _)| *number)
    }

    /// The answer to an inspection, with the process pinned.
    pub fn inspect(&self, kernel: &Kernel, container_id: &str) -> Inspection {
        let found = self.containers.iter().find(|(number, _)| Self::id(**number) == container_id);
        let Some((number, container)) = found else {
            return Inspection::NotRunning;
        };
        let Some(start_time) = container.running else {
            return Inspection::NotRunning;
        };
        let pid = Self::pid(*number);
        match kernel.processes.get(&pid) {
            Some(process) if process.netns == OWN => Inspection::NotMicroservice,
            Some(process) if process.start_time == start_time => Inspection::Running(Microservice {
                label: LABEL.to_owned(),
                container_id: container_id.to_owned(),
                container_name: format!("name{number}"),
                pid,
                process_start_time: start_time,
                created: SystemTime::UNIX_EPOCH + Duration::from_secs(container.created),
                started_at: SystemTime::UNIX_EPOCH,
            }),
            _ => Inspection::Failed("its process has ended".to_owned()),
        }
    }
}

/// The tracker's side.
pub struct Tracker {
    /// The product's own.
    pub arbiter: Arbiter,
    /// Number of the connection; what belongs to an earlier one is lost.
    pub connection: u64,
    /// Whether there is one.
    pub connected: bool,
    /// Pause before the next attempt.
    pub pause: Duration,
    /// The process of each container that is pinned.
    pub pinned: BTreeMap<String, ProcessIdentity>,
}

impl Tracker {
    /// Not connected yet.
    pub fn new() -> Self {
        Tracker {
            arbiter: Arbiter::default(),
            connection: 0,
            connected: false,
            pause: Duration::from_millis(100),
            pinned: BTreeMap::new(),
        }
    }
}

/// What happens between tracker and daemon.
pub enum DockerStep {
    /// A connection is tried.
    Connect,
    /// A list arrives.
    Listed(Vec<ListedContainer>),
    /// All are listed once more.
    Audit,
    /// The daemon tells that something happened to a container.
    Hint(String),
    /// A container is inspected.
    Inspect(String),
    /// The answer arrives.
    Inspected(String, Inspection),
    /// The kernel tells that a pinned process has ended.
    Ended(String, ProcessIdentity),
}
