//! A simulated Docker daemon with its containers, and the tracker's connection to it.
//!
//! The agent's container registry decides which container has a label.

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
    registry::{ContainerRegistry, Inspection, ListedContainer, ProcessIdentity},
};

/// PID of the main process of the first container. Each container has a unique PID, which stays the same across restarts.
const PIDS: i32 = 500;

/// A simulated container.
#[derive(Clone, Debug)]
pub struct Container {
    /// Creation time, in seconds since the Unix epoch.
    pub created: u64,
    /// Start time of the main process, or `None` while the container is stopped.
    pub running: Option<u64>,
}

/// A simulated Docker daemon.
#[derive(Default)]
pub struct Daemon {
    /// True while the daemon runs.
    pub up: bool,
    /// Containers by number. All containers have the same label.
    pub containers: BTreeMap<usize, Container>,
    /// Number of upcoming changes for which the daemon sends no event.
    pub losing: usize,
    /// True if the daemon sent no event for a change. The agent then notices the change only when it lists the containers again.
    pub untold: bool,
    clock: u64,
}

impl Daemon {
    /// Creates a daemon without containers.
    pub fn new(up: bool) -> Self {
        Daemon { up, ..Daemon::default() }
    }

    /// Returns the PID of a container's main process.
    pub fn pid(number: usize) -> i32 {
        PIDS + i32::try_from(number).unwrap_or_default()
    }

    /// Returns the id of a container.
    pub fn id(number: usize) -> String {
        format!("container{number}")
    }

    /// Starts a container, and creates it first if it does not exist.
    pub fn start(&mut self, kernel: &mut Kernel, number: usize) {
        let process = kernel.start_process(Self::pid(number));
        self.clock += 1;
        let created = self.clock;
        let container = self.containers.entry(number).or_insert(Container { created, running: None });
        container.running = Some(process.start_time);
    }

    /// Stops a container.
    pub fn stop(&mut self, kernel: &mut Kernel, number: usize) {
        if let Some(container) = self.containers.get_mut(&number)
            && container.running.take().is_some()
        {
            kernel.end_process(Self::pid(number));
        }
    }

    /// Returns the running containers.
    pub fn list(&self) -> Vec<ListedContainer> {
        let running = self.containers.iter().filter(|(_, container)| container.running.is_some());
        let listed = running.map(|(number, _)| ListedContainer {
            container_id: Self::id(*number),
            name: Some(format!("name{number}")),
        });
        listed.collect()
    }

    /// Returns the number of the newest running container, which is the container that should have the label.
    pub fn holder(&self) -> Option<usize> {
        let running = self.containers.iter().filter(|(_, container)| container.running.is_some());
        running.max_by_key(|(_, container)| container.created).map(|(number, _)| *number)
    }

    /// Returns the result of inspecting a container and opening a pidfd for its main process.
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

/// State of the agent's Docker tracker.
pub struct Tracker {
    /// The agent's container registry.
    pub registry: ContainerRegistry,
    /// Number of the current connection. Messages from earlier connections are discarded.
    pub connection: u64,
    /// True while the tracker is connected.
    pub connected: bool,
    /// Delay before the next connection attempt.
    pub pause: Duration,
    /// Main processes for which the tracker has an open pidfd, by container id.
    pub pinned: BTreeMap<String, ProcessIdentity>,
}

impl Tracker {
    /// Creates a tracker without a connection.
    pub fn new() -> Self {
        Tracker {
            registry: ContainerRegistry::default(),
            connection: 0,
            connected: false,
            pause: Duration::from_millis(100),
            pinned: BTreeMap::new(),
        }
    }
}

/// Event between the tracker and the daemon.
pub enum DockerStep {
    /// The tracker tries to connect.
    Connect,
    /// A list of containers arrives.
    Listed(Vec<ListedContainer>),
    /// The tracker lists all containers again.
    Audit,
    /// The daemon reports a container event.
    Hint(String),
    /// The tracker inspects a container.
    Inspect(String),
    /// The response to an inspection arrives.
    Inspected(String, Inspection),
    /// The kernel reports, through a pidfd, that a process has ended.
    Ended(String, ProcessIdentity),
}
