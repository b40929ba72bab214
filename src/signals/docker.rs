//! The Docker tracker: which container is behind a microservice label, now.
//!
//! Owns the connection to the daemon and the pidfds of the containers' main processes, and tells of changes over a channel.
//! Must never change a container, and never needs a daemon: without one it says so and tries again for ever. Start reading at
//! [`Tracker::start`]; the decisions are in [`arbiter`], the requests in [`api`].
//!
//! A container is a microservice when its environment has `MICROSERVICE_LABEL=<label>`, or else when it has the container
//! label `io.ligato.microservice-label`; the environment wins. A container in the agent's own network namespace (such as the
//! agent's own container, or one with `--network host`) never is one.

mod api;
pub(crate) mod arbiter;
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
    arbiter::{Action, Arbiter, Input, Inspection, ListedContainer, ProcessIdentity},
    socket::SocketWatch,
};
use super::process::{self, PinnedProcess};

/// First pause before the daemon is tried again; it doubles up to [`BACKOFF_MAX`].
const BACKOFF_MIN: Duration = Duration::from_millis(100);
/// Longest pause before the daemon is tried again.
const BACKOFF_MAX: Duration = Duration::from_secs(5);
/// How often the daemon's list is compared with what is known, in case an event was lost or the connection died silently.
const AUDIT_PERIOD: Duration = Duration::from_secs(60);
/// How far events are asked for before the last one seen: daemons keep their own clock and order.
const REPLAY_NS: i64 = 1_000_000_000;
/// Inspections under way at the same time.
const INSPECTIONS_MAX: usize = 8;
/// Main processes watched at the same time; each holds one file descriptor.
const PROCESSES_MAX: usize = 4096;

/// What is said when the daemon ends the stream of events in good order.
const STREAM_CLOSED: &str = "Docker closed the stream of events; it was stopped, or a proxy in between limits connections";

/// What the tracker needs to know.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct TrackerConfig {
    /// Where the daemon listens: `unix:///<path>`, or `tcp://<host>:<port>` without TLS. As PIDs have to mean the same on both
    /// sides, it must be a daemon of this machine.
    pub docker_host: String,
    /// Inode number of the agent's own network namespace, which is never taken for a container's.
    pub own_netns_inode: u64,
}

/// The daemon's address is not usable.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("Docker host {docker_host:?}: {reason}; use unix:///<path of the socket> or tcp://<host>:<port>")]
pub struct HostError {
    /// What was given.
    pub docker_host: String,
    /// What is wrong with it.
    pub reason: &'static str,
}

/// A running container that holds a label.
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
    /// When that process was started, in clock ticks after boot (field 22 of `/proc/PID/stat`, proc(5)).
    pub process_start_time: u64,
    /// When the container was created, by the daemon's clock.
    pub created: SystemTime,
    /// When the container was last started, by the daemon's clock.
    pub started_at: SystemTime,
}

/// Why a container does not hold its label any more.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum GoneReason {
    /// Its main process ended.
    ProcessEnded,
    /// The daemon says that it does not run, or does not exist.
    NotRunning,
    /// A newer container with the same label runs.
    Superseded {
        /// Id of the newer container.
        by: String,
    },
}

impl fmt::Display for GoneReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::ProcessEnded => f.write_str("its main process ended"),
            Self::NotRunning => f.write_str("Docker says that it is not running"),
            Self::Superseded { by } => write!(f, "the newer container {} has the same label", by.get(..12).unwrap_or(by)),
        }
    }
}

/// What the tracker tells. For each label, `Available` and `Gone` strictly alternate, beginning with `Available`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum MicroserviceChange {
    /// The label leads to this container now.
    Available(Microservice),
    /// The label does not lead to this container any more. When another one takes over, its `Available` follows.
    Gone {
        /// The microservice label.
        label: String,
        /// Full id of the container that held it.
        container_id: String,
        /// Why it does not any more.
        reason: GoneReason,
    },
    /// The complete list of the daemon has been processed: what was not announced does not run. Said after each connection.
    Synced,
    /// The daemon cannot be reached. Labels stay available as long as their processes live. Said once for each message.
    Disconnected {
        /// What failed, in the words of the client.
        message: String,
    },
}

/// A running tracker; dropping it stops it.
#[derive(Debug)]
pub struct Tracker {
    task: JoinHandle<()>,
}

impl Tracker {
    /// Starts a tracker, which sends what it finds to `changes` until it is dropped or nobody receives any more. Must be called
    /// inside a Tokio runtime. The daemon need not exist.
    ///
    /// # Errors
    ///
    /// The address is not one that can be used.
    pub fn start(config: TrackerConfig, changes: UnboundedSender<MicroserviceChange>) -> Result<Self, HostError> {
        let host = Host::parse(&config.docker_host)?;
        let driver = Driver {
            host,
            own_netns_inode: config.own_netns_inode,
            changes,
            arbiter: Arbiter::default(),
            watched: BTreeMap::new(),
            deaths: FuturesUnordered::new(),
            wanted: VecDeque::new(),
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

/// Nobody receives changes any more.
struct Unheard;

/// Why a connection was given up.
enum SessionEnd {
    Unheard,
    /// The message says what failed.
    Lost(String),
}

impl From<Unheard> for SessionEnd {
    fn from(Unheard: Unheard) -> Self {
        Self::Unheard
    }
}

/// The answer to a request.
enum Reply {
    Listed(Result<Vec<ListedContainer>, api::ApiError>),
    Inspected {
        container_id: String,
        found: Inspection,
        pin: Option<PinnedProcess>,
    },
}

/// The I/O around the [`Arbiter`].
struct Driver {
    host: Host,
    own_netns_inode: u64,
    changes: UnboundedSender<MicroserviceChange>,
    arbiter: Arbiter,
    /// Which process of a container is in `deaths`.
    watched: BTreeMap<String, ProcessIdentity>,
    /// One future for each pinned process, which resolves when it has ended.
    deaths: FuturesUnordered<BoxFuture<'static, (String, ProcessIdentity)>>,
    /// Inspections to be made.
    wanted: VecDeque<(String, Duration)>,
    /// Time of the newest event seen, in nanoseconds after the epoch.
    last_event_ns: Option<i64>,
}

impl Driver {
    async fn run(mut self) {
        let mut backoff = BACKOFF_MIN;
        loop {
            // Installed before the attempt, so that a socket which appears during it is noticed.
            let socket = self.host.socket().and_then(|path| SocketWatch::install(path).ok());
            let began = Instant::now();
            let SessionEnd::Lost(message) = self.session().await else { return };
            // A daemon that answers and breaks off at once, such as a proxy that forbids events, must not be tried at full speed.
            if began.elapsed() >= BACKOFF_MAX {
                backoff = BACKOFF_MIN;
            }
            self.wanted.clear();
            if self.step(Input::Disconnected { message }).is_err() {
                return;
            }
            match self.pause(backoff, socket).await {
                Ok(true) => backoff = BACKOFF_MIN,
                Ok(false) => backoff = (backoff * 2).min(BACKOFF_MAX),
                Err(Unheard) => return,
            }
        }
    }

    /// Waits before the next attempt; the result is whether the socket has appeared. Ends of processes are noticed meanwhile.
    async fn pause(&mut self, backoff: Duration, mut socket: Option<SocketWatch>) -> Result<bool, Unheard> {
        let mut over = pin!(sleep(backoff));
        let changes = self.changes.clone();
        loop {
            tokio::select! {
                Some(ended) = self.deaths.next() => self.process_ended(ended)?,
                () = &mut over => return Ok(false),
                () = SocketWatch::appeared(&mut socket) => return Ok(true),
                () = changes.closed() => return Err(Unheard),
            }
        }
    }

    /// One connection, from the first request to its loss.
    async fn session(&mut self) -> SessionEnd {
        let host = self.host.clone();
        let mut connecting = pin!(Api::connect(&host));
        let api = loop {
            tokio::select! {
                Some(ended) = self.deaths.next() => {
                    if self.process_ended(ended).is_err() {
                        return SessionEnd::Unheard;
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

    /// Events first, the list after: the daemon subscribes us only after it has sent the head of its answer, so the first
    /// events are asked for from a moment before the list, and what falls in between is replayed.
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
                let Some((container_id, pause)) = self.wanted.pop_front() else {
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
                () = changes.closed() => return Ok(SessionEnd::Unheard),
            }
        }
    }

    fn hint(&mut self, hint: Hint) -> Result<(), Unheard> {
        self.last_event_ns = self.last_event_ns.max(hint.time_ns);
        self.step(Input::Hint {
            container_id: hint.container_id,
        })
    }

    fn process_ended(&mut self, (container_id, process): (String, ProcessIdentity)) -> Result<(), Unheard> {
        if self.watched.get(&container_id) == Some(&process) {
            self.watched.remove(&container_id);
        }
        self.step(Input::ProcessEnded { container_id, process })
    }

    fn inspected(&mut self, container_id: String, mut found: Inspection, pin: Option<PinnedProcess>) -> Result<(), Unheard> {
        if let (Inspection::Running(microservice), Some(pin)) = (&found, pin) {
            let identity = ProcessIdentity::of(microservice);
            if pin.has_ended() {
                found = Inspection::Failed(format!("its main process {} ended while it was inspected", pin.pid()));
            } else if self.watched.get(&container_id) != Some(&identity) {
                if self.deaths.len() < PROCESSES_MAX {
                    self.watched.insert(container_id.clone(), identity);
                    let ended = (container_id.clone(), identity);
                    self.deaths.push(async move { pin.ended().await }.map(|()| ended).boxed());
                } else {
                    found = Inspection::Failed(format!(
                        "{PROCESSES_MAX} containers are watched already, which is the most that the agent allows"
                    ));
                }
            }
        }
        self.step(Input::Inspected { container_id, found })
    }

    /// Feeds one fact to the arbiter and carries out what it decides.
    fn step(&mut self, input: Input) -> Result<(), Unheard> {
        for action in self.arbiter.step(input) {
            match action {
                Action::Announce(change) => {
                    log(&change);
                    self.changes.send(change).map_err(|_| Unheard)?;
                }
                Action::Inspect { container_id, pause } => self.wanted.push_back((container_id, pause)),
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
        MicroserviceChange::Synced => debug!("Docker's list of containers processed"),
        MicroserviceChange::Disconnected { message } => {
            warn!("no connection to Docker; microservices cannot appear until there is one: {message}")
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
        let (found, pin) = match look(&api, &container_id, own_netns_inode).await {
            Ok(looked) => looked,
            Err(message) => (Inspection::Failed(message), None),
        };
        Reply::Inspected { container_id, found, pin }
    }
    .boxed()
}

/// Inspects a container and pins its main process; the error is a message.
async fn look(api: &Api, container_id: &str, own_netns_inode: u64) -> Result<(Inspection, Option<PinnedProcess>), String> {
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
    // Between the inspection and the pinning the process may have ended and its PID may have been given away. A process in a
    // control group named after the container belongs to it; where that cannot be seen, the daemon is asked once more.
    if !is_in_cgroup_of(pid, container_id) && describe(api, container_id).await?.as_ref() != Some(&found) {
        return Err(format!("it changed while its process {pid} was looked at"));
    }
    let inode = process::netns_inode(pid).map_err(|error| format!("cannot look at the network namespace of its process {pid}: {error}"))?;
    if inode == own_netns_inode {
        info!(
            label,
            container = container_id,
            "not a microservice, because the container is in the agent's own network namespace"
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

/// Docker names a container's control group after its id, whatever the driver (cgroups(7)).
fn is_in_cgroup_of(pid: i32, container_id: &str) -> bool {
    std::fs::read_to_string(format!("/proc/{pid}/cgroup")).is_ok_and(|groups| groups.contains(container_id))
}

/// Now, in nanoseconds after the epoch.
fn now_ns() -> i64 {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    i64::try_from(now.as_nanos()).unwrap_or(i64::MAX)
}
