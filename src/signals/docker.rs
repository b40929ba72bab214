//! Docker tracker: reports which container a microservice label refers to.
//!
//! Maintains the connection to the daemon, keeps a pidfd for each container's main process open, and sends changes over a
//! channel. If the daemon cannot be reached, the tracker reports the outage and retries forever. [`registry`] makes the
//! decisions, and [`api`] sends the requests.
//!
//! A container is a microservice if its environment contains `MICROSERVICE_LABEL=<label>`, or if it has the container label
//! `io.ligato.microservice-label`. The environment takes precedence. A container in the agent's own network namespace (such as
//! the agent's own container, or one started with `--network host`) is never a microservice.

mod api;
pub(crate) mod registry;
mod socket;

use std::{
    collections::{BTreeMap, VecDeque},
    fmt,
    pin::pin,
    time::{Duration, SystemTime},
};

use futures::{FutureExt, StreamExt, future::BoxFuture, stream::FuturesUnordered};
use tokio::{
    sync::mpsc::UnboundedSender,
    task::JoinHandle,
    time::{Instant, interval_at, sleep},
};
use tracing::{debug, info, warn};

use self::{
    api::{Api, Description, Hint, Host},
    registry::{Action, ContainerRegistry, Input, Inspection, ListedContainer, ProcessIdentity},
    socket::SocketWatch,
};
use super::process::{self, PinnedProcess};

/// First pause before reconnecting to the daemon. The pause doubles with each attempt, up to [`BACKOFF_MAX`].
const BACKOFF_MIN: Duration = Duration::from_millis(100);
/// Maximum pause before reconnecting to the daemon.
const BACKOFF_MAX: Duration = Duration::from_secs(5);
/// Interval at which the daemon's list is compared with the known containers, to notice lost events and dead connections.
const AUDIT_PERIOD: Duration = Duration::from_secs(60);
/// Overlap of consecutive requests for events, in nanoseconds. A request starts this long before the last observed event, or
/// before the current time if no event has been observed yet. The overlap is needed because events can arrive out of order, and
/// because the daemon's clock can differ from the agent's.
const REPLAY_NS: i64 = 1_000_000_000;
/// Maximum number of concurrent inspections.
const INSPECTIONS_MAX: usize = 8;
/// Maximum number of main processes to watch. Each watched process takes one file descriptor.
const PROCESSES_MAX: usize = 4096;

/// Error message for an event stream that the daemon has closed without an error.
const STREAM_CLOSED: &str = "Docker closed the event stream; the daemon was stopped, or a proxy limits the duration of connections";

/// [`Tracker`] configuration.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct TrackerConfig {
    /// Daemon address: `unix:///<path>`, or `tcp://<host>:<port>` without TLS. The daemon must run on this machine, because its
    /// PIDs must refer to the same processes as the agent's.
    pub docker_host: String,
    /// Inode number of the agent's own network namespace. A container in this namespace is never a microservice.
    pub own_netns_inode: u64,
}

/// Error for an unusable daemon address.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("Docker host {docker_host:?}: {reason}; use unix:///<socket path> or tcp://<host>:<port>")]
pub struct HostError {
    /// Configured daemon address.
    pub docker_host: String,
    /// Reason why the address is unusable.
    pub reason: &'static str,
}

/// A running container that has a microservice label.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Microservice {
    /// The microservice label.
    pub label: String,
    /// Full container id.
    pub container_id: String,
    /// Container name, without the leading slash.
    pub container_name: String,
    /// PID of the main process, in the agent's PID namespace.
    pub pid: i32,
    /// Start time of the main process, in clock ticks since boot (field 22 of `/proc/PID/stat`, proc(5)).
    pub process_start_time: u64,
    /// Creation time of the container, by the daemon's clock.
    pub created: SystemTime,
    /// Time at which the container was last started, by the daemon's clock.
    pub started_at: SystemTime,
}

/// Reason why a container no longer has its label.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum GoneReason {
    /// The container's main process ended.
    ProcessEnded,
    /// The daemon reports that the container is not running or does not exist.
    NotRunning,
    /// A newer container with the same label is running.
    Superseded {
        /// Id of the newer container.
        by: String,
    },
}

impl fmt::Display for GoneReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::ProcessEnded => f.write_str("the main process of the container ended"),
            Self::NotRunning => f.write_str("Docker reports that the container is not running"),
            Self::Superseded { by } => write!(f, "the newer container {} has the same label", by.get(..12).unwrap_or(by)),
        }
    }
}

/// Change reported by the tracker. For each label, `Available` and `Gone` strictly alternate, starting with `Available`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum MicroserviceChange {
    /// The label now refers to this container.
    Available(Microservice),
    /// The label no longer refers to this container. If it now refers to another container, an `Available` for that container
    /// follows.
    Gone {
        /// The microservice label.
        label: String,
        /// Full id of the container that had the label.
        container_id: String,
        /// Reason why the container no longer has the label.
        reason: GoneReason,
    },
    /// The daemon's list of running containers has been processed completely. Sent once for each connection to the daemon.
    Synced,
    /// The daemon cannot be reached. Labels stay available while the main processes of their containers run. The tracker repeats
    /// this change during an outage only if the message differs.
    Disconnected {
        /// Error message from the client.
        message: String,
    },
}

/// Handle to a running tracker. Dropping the handle stops the tracker.
#[derive(Debug)]
pub struct Tracker {
    task: JoinHandle<()>,
}

impl Tracker {
    /// Starts a tracker, which sends changes to `changes` until it is dropped or the receiver is closed.
    ///
    /// Must be called within a Tokio runtime. The daemon does not have to be running.
    ///
    /// # Errors
    ///
    /// Fails if the address is unusable.
    pub fn start(config: TrackerConfig, changes: UnboundedSender<MicroserviceChange>) -> Result<Self, HostError> {
        let host = Host::parse(&config.docker_host)?;
        let driver = Driver {
            host,
            own_netns_inode: config.own_netns_inode,
            changes,
            registry: ContainerRegistry::default(),
            watched: BTreeMap::new(),
            deaths: FuturesUnordered::new(),
            inspections: VecDeque::new(),
            last_event_ns: None,
        };
        Ok(Self {
            task: tokio::spawn(driver.run()),
        })
    }
}

impl Drop for Tracker {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Error that is returned if the receiver of changes is closed.
struct EventsLost;

/// Reason why a connection ended.
enum SessionEnd {
    EventsLost,
    /// The connection was lost. Contains the error message.
    Lost(String),
}

impl From<EventsLost> for SessionEnd {
    fn from(EventsLost: EventsLost) -> Self {
        Self::EventsLost
    }
}

/// Response of the daemon to a list or inspect request.
enum Reply {
    Listed(Result<Vec<ListedContainer>, api::ApiError>),
    Inspected {
        container_id: String,
        found: Inspection,
        pin: Option<PinnedProcess>,
    },
}

/// Task that performs the I/O for the [`ContainerRegistry`].
struct Driver {
    host: Host,
    own_netns_inode: u64,
    changes: UnboundedSender<MicroserviceChange>,
    registry: ContainerRegistry,
    /// Watched main process of each container, by container id. `deaths` contains a future for each of these processes.
    watched: BTreeMap<String, ProcessIdentity>,
    /// One future for each watched process. It completes when the process has ended.
    deaths: FuturesUnordered<BoxFuture<'static, (String, ProcessIdentity)>>,
    /// Inspections to start, each with the container id and the pause before the request.
    inspections: VecDeque<(String, Duration)>,
    /// Time of the newest observed event, in nanoseconds since the Unix epoch.
    last_event_ns: Option<i64>,
}

impl Driver {
    async fn run(mut self) {
        let mut backoff = BACKOFF_MIN;
        loop {
            // Install the watch before the attempt, so that a socket that appears during the attempt is noticed.
            let socket = self.host.socket().and_then(|path| SocketWatch::install(path).ok());
            let began = Instant::now();
            let SessionEnd::Lost(message) = self.session().await else { return };
            // Do not reset the back-off after a short session. For example, a proxy that forbids events ends each session at
            // once.
            if began.elapsed() >= BACKOFF_MAX {
                backoff = BACKOFF_MIN;
            }
            self.inspections.clear();
            if self.step(Input::Disconnected { message }).is_err() {
                return;
            }
            match self.pause(backoff, socket).await {
                Ok(true) => backoff = BACKOFF_MIN,
                Ok(false) => backoff = (backoff * 2).min(BACKOFF_MAX),
                Err(EventsLost) => return,
            }
        }
    }

    /// Waits before the next connection attempt, and handles ended processes in the meantime. Returns true if the daemon's socket
    /// appeared during the wait.
    async fn pause(&mut self, backoff: Duration, mut socket: Option<SocketWatch>) -> Result<bool, EventsLost> {
        let mut over = pin!(sleep(backoff));
        let changes = self.changes.clone();
        loop {
            tokio::select! {
                Some(ended) = self.deaths.next() => self.process_ended(ended)?,
                () = &mut over => return Ok(false),
                () = SocketWatch::appeared(&mut socket) => return Ok(true),
                () = changes.closed() => return Err(EventsLost),
            }
        }
    }

    /// Runs one connection to the daemon, from the first request until the connection is lost.
    async fn session(&mut self) -> SessionEnd {
        let host = self.host.clone();
        let mut connecting = pin!(Api::connect(&host));
        let api = loop {
            tokio::select! {
                Some(ended) = self.deaths.next() => {
                    if self.process_ended(ended).is_err() {
                        return SessionEnd::EventsLost;
                    }
                }
                connected = &mut connecting => match connected {
                    Ok(api) => break api,
                    Err(error) => return SessionEnd::Lost(error.to_string()),
                }
            }
        };
        self.follow(&api).await.unwrap_or_else(|end| end)
    }

    /// Requests the events and then the container list, and processes the responses until the connection is lost.
    ///
    /// The daemon sends the response header before it subscribes the client to events. Therefore, the agent requests all events
    /// since a time before the list. The daemon replays the events that have already happened, so no event is missed.
    async fn follow(&mut self, api: &Api) -> Result<SessionEnd, SessionEnd> {
        let changes = self.changes.clone();
        let since = self.last_event_ns.unwrap_or_else(now_ns).saturating_sub(REPLAY_NS);
        let mut events = pin!(api.events(since));
        let mut replies: FuturesUnordered<BoxFuture<'static, Reply>> = FuturesUnordered::new();
        let mut audit = interval_at(Instant::now() + AUDIT_PERIOD, AUDIT_PERIOD);
        let mut lists = 1_usize;
        replies.push(list(api.clone()));
        self.step(Input::Connected)?;
        loop {
            while replies.len() < INSPECTIONS_MAX + lists {
                let Some((container_id, pause)) = self.inspections.pop_front() else {
                    break;
                };
                replies.push(inspect(api.clone(), container_id, pause, self.own_netns_inode));
            }
            tokio::select! {
                biased;
                Some(ended) = self.deaths.next() => self.process_ended(ended)?,
                event = events.next() => match event {
                    Some(Ok(hint)) => self.hint(hint)?,
                    Some(Err(error)) => return Ok(SessionEnd::Lost(error.to_string())),
                    None => return Ok(SessionEnd::Lost(STREAM_CLOSED.to_owned())),
                },
                Some(reply) = replies.next() => match reply {
                    Reply::Listed(Ok(listed)) => {
                        lists -= 1;
                        self.step(Input::Listed(listed))?;
                    }
                    Reply::Listed(Err(error)) => return Ok(SessionEnd::Lost(error.to_string())),
                    Reply::Inspected { container_id, found, pin } => self.inspected(container_id, found, pin)?,
                },
                _ = audit.tick(), if lists == 0 => {
                    lists += 1;
                    replies.push(list(api.clone()));
                }
                () = changes.closed() => return Ok(SessionEnd::EventsLost),
            }
        }
    }

    fn hint(&mut self, hint: Hint) -> Result<(), EventsLost> {
        self.last_event_ns = self.last_event_ns.max(hint.time_ns);
        self.step(Input::Hint {
            container_id: hint.container_id,
        })
    }

    fn process_ended(&mut self, (container_id, process): (String, ProcessIdentity)) -> Result<(), EventsLost> {
        if self.watched.get(&container_id) == Some(&process) {
            self.watched.remove(&container_id);
        }
        self.step(Input::ProcessEnded { container_id, process })
    }

    fn inspected(&mut self, container_id: String, mut found: Inspection, pin: Option<PinnedProcess>) -> Result<(), EventsLost> {
        if let (Inspection::Running(microservice), Some(pin)) = (&found, pin) {
            let identity = ProcessIdentity::of(microservice);
            if pin.has_ended() {
                found = Inspection::Failed(format!("the main process {} ended while the container was inspected", pin.pid()));
            } else if self.watched.get(&container_id) != Some(&identity) {
                if self.deaths.len() < PROCESSES_MAX {
                    self.watched.insert(container_id.clone(), identity);
                    let ended = (container_id.clone(), identity);
                    self.deaths.push(async move { pin.ended().await }.map(|()| ended).boxed());
                } else {
                    found = Inspection::Failed(format!(
                        "the agent already watches {PROCESSES_MAX} containers, which is the maximum"
                    ));
                }
            }
        }
        self.step(Input::Inspected { container_id, found })
    }

    /// Passes an input to the container registry and carries out the actions that the registry returns.
    fn step(&mut self, input: Input) -> Result<(), EventsLost> {
        for action in self.registry.step(input) {
            match action {
                Action::Announce(change) => {
                    log(&change);
                    self.changes.send(change).map_err(|_| EventsLost)?;
                }
                Action::Inspect { container_id, pause } => self.inspections.push_back((container_id, pause)),
                Action::GiveUp { container_id, message } => {
                    warn!(container = container_id, "container not tracked until its next event: {message}");
                }
            }
        }
        Ok(())
    }
}

fn log(change: &MicroserviceChange) {
    match change {
        MicroserviceChange::Available(microservice) => {
            let Microservice {
                label,
                container_id,
                container_name,
                pid,
                ..
            } = microservice;
            info!(
                label,
                container = container_id,
                name = container_name,
                pid,
                "microservice available"
            );
        }
        MicroserviceChange::Gone {
            label,
            container_id,
            reason,
        } => info!(label, container = container_id, %reason, "microservice gone"),
        MicroserviceChange::Synced => debug!("processed Docker's container list"),
        MicroserviceChange::Disconnected { message } => {
            warn!("no connection to Docker, so new microservices are not detected: {message}")
        }
    }
}

fn list(api: Api) -> BoxFuture<'static, Reply> {
    async move { Reply::Listed(api.list().await) }.boxed()
}

fn inspect(api: Api, container_id: String, pause: Duration, own_netns_inode: u64) -> BoxFuture<'static, Reply> {
    async move {
        if !pause.is_zero() {
            sleep(pause).await;
        }
        let (found, pin) = match inspect_container(&api, &container_id, own_netns_inode).await {
            Ok(inspection) => inspection,
            Err(message) => (Inspection::Failed(message), None),
        };
        Reply::Inspected { container_id, found, pin }
    }
    .boxed()
}

/// Inspects a container and opens a pidfd for its main process. The error is a message for users.
async fn inspect_container(api: &Api, container_id: &str, own_netns_inode: u64) -> Result<(Inspection, Option<PinnedProcess>), String> {
    let Some(found) = describe(api, container_id).await? else {
        return Ok((Inspection::NotRunning, None));
    };
    let (Some(pid), Some(label)) = (found.pid, found.label.clone()) else {
        let verdict = if found.pid.is_some() {
            Inspection::NotMicroservice
        } else {
            Inspection::NotRunning
        };
        return Ok((verdict, None));
    };
    let pin = PinnedProcess::open(pid).map_err(|error| error.to_string())?;
    // The PID may have been reused before the pidfd was opened. The process belongs to the container if its control group is
    // named after the container. Otherwise, inspect the container a second time.
    if !is_in_cgroup_of(pid, container_id) && describe(api, container_id).await?.as_ref() != Some(&found) {
        return Err(format!("the container changed while its main process {pid} was inspected"));
    }
    let inode = process::netns_inode(pid).map_err(|error| format!("cannot read the network namespace of process {pid}: {error}"))?;
    if inode == own_netns_inode {
        info!(
            label,
            container = container_id,
            "container is not a microservice because it is in the agent's own network namespace"
        );
        return Ok((Inspection::NotMicroservice, None));
    }
    let Description {
        name, created, started_at, ..
    } = found;
    let container_id = container_id.to_owned();
    let process_start_time = pin.start_time();
    let microservice = Microservice {
        label,
        container_id,
        container_name: name,
        pid,
        process_start_time,
        created,
        started_at,
    };
    Ok((Inspection::Running(microservice), Some(pin)))
}

async fn describe(api: &Api, container_id: &str) -> Result<Option<Description>, String> {
    api.inspect(container_id).await.map_err(|error| error.to_string())
}

/// Returns whether a process is in a container's control group (cgroups(7)). Docker names the group after the container id with
/// every cgroup driver.
fn is_in_cgroup_of(pid: i32, container_id: &str) -> bool {
    std::fs::read_to_string(format!("/proc/{pid}/cgroup")).is_ok_and(|groups| groups.contains(container_id))
}

/// Returns the current time, in nanoseconds since the epoch.
fn now_ns() -> i64 {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    i64::try_from(now.as_nanos()).unwrap_or(i64::MAX)
}
