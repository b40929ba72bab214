//! The netns executor as the rest of the program sees it.
//!
//! Owns the thread that performs operations, and the way to it. Must never perform anything on the caller's thread that can
//! wait. Start reading at [`Executor::perform`].

use std::{
    io,
    os::fd::OwnedFd,
    path::PathBuf,
    sync::{Arc, mpsc},
    thread::{self, JoinHandle},
};

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::sync::{mpsc::UnboundedSender, oneshot};

use super::{
    entrance::Entrance,
    failure,
    monitor::Monitor,
    namespace::{self, NamedDirectory, NamedTarget},
    netlink::Refusal,
    opening::Finder,
    operation::{Failure, NetnsId, Outcome, Task},
    pinned::Namespaces,
    worker::Worker,
};

/// Settings of the executor.
#[derive(Debug)]
pub struct ExecutorConfig {
    /// Directory of named namespaces; `ip netns` uses `/run/netns`.
    pub netns_dir: PathBuf,
    /// Receives a namespace when something that matters changed in it, at most once until [`Executor::rearm`].
    pub event_sender: UnboundedSender<NetnsId>,
    /// How many namespaces are watched at most. Each costs every writer on the machine (38 µs an operation at 1000).
    pub watched_max: usize,
}

impl ExecutorConfig {
    /// The usual settings: `/run/netns`, and up to 300 namespaces watched.
    pub fn new(event_sender: UnboundedSender<NetnsId>) -> Self {
        Self {
            netns_dir: PathBuf::from("/run/netns"),
            event_sender,
            watched_max: 300,
        }
    }
}

/// Why the executor could not start.
#[derive(Debug, thiserror::Error)]
#[error("cannot start the netns executor ({step}): {cause}")]
pub struct StartError {
    /// What failed.
    pub step: &'static str,
    /// errno(3) with the kernel's text and the remedy.
    pub cause: String,
}

struct Batch {
    tasks: Vec<Task>,
    answer: oneshot::Sender<Vec<Outcome>>,
}

/// Performs kernel operations in network namespaces, on threads of its own.
///
/// # Guarantees
///
/// Batches are performed one after the other, in the order of the calls. Dropping the executor finishes the batch at hand,
/// ends its threads and closes all descriptors; the network is left as it is.
pub struct Executor {
    batches: Option<mpsc::Sender<Batch>>,
    thread: Option<JoinHandle<()>>,
    monitor: Monitor,
    directory: Arc<NamedDirectory>,
    own: NetnsId,
}

impl Executor {
    /// Starts the threads. The namespace of the calling thread becomes the agent's own; nothing in it is changed.
    ///
    /// # Errors
    /// Without the privilege to create network namespaces (CAP_SYS_ADMIN), or without `/proc`.
    pub fn start(config: ExecutorConfig) -> Result<Self, StartError> {
        raise_descriptor_limit();
        let own_file = namespace::current().map_err(start_error("open its own network namespace"))?;
        let own = namespace::identity(&own_file).map_err(start_error("identify its own network namespace"))?;
        let nursery = namespace::private().map_err(start_error("create a private network namespace"))?;
        let monitor = Monitor::start(config.watched_max, config.event_sender).map_err(start_error("watch namespaces"))?;
        let directory = Arc::new(NamedDirectory::new(config.netns_dir));
        let own_file = Arc::new(OwnedFd::from(own_file));
        let entrance = Entrance::start(Arc::clone(&own_file)).map_err(start_error("start the thread that enters namespaces"))?;
        let finder = Finder::new(own_file, own, Arc::clone(&directory));
        let mut worker = Worker::new(Namespaces::new(finder, entrance, monitor.watches().clone()), nursery);
        let (batches, received) = mpsc::channel::<Batch>();
        let thread = thread::Builder::new()
            .name("netns-executor".to_owned())
            .spawn(move || {
                for batch in received {
                    // Who no longer waits for the outcomes does not need them.
                    let _ = batch.answer.send(worker.perform(batch.tasks));
                }
            })
            .map_err(start_error("start the thread that performs operations"))?;
        Ok(Self {
            batches: Some(batches),
            thread: Some(thread),
            monitor,
            directory,
            own,
        })
    }

    /// Performs tasks and answers each one. Tasks are independent: one that fails never affects another. They are performed in
    /// the given order; the operations of a task too, and its first failure ends it. When the future is dropped, the tasks are
    /// performed all the same.
    pub async fn perform(&self, tasks: Vec<Task>) -> Vec<Outcome> {
        let ids: Vec<u64> = tasks.iter().map(|task| task.id).collect();
        let (answer, answered) = oneshot::channel();
        if let Some(batches) = &self.batches {
            // A failure to send shows as a failure to receive.
            let _ = batches.send(Batch { tasks, answer });
        }
        answered.await.unwrap_or_else(|_| {
            let ended = || failure::other("the thread that performs kernel operations has ended: restart the agent");
            ids.into_iter().map(|id| Outcome { id, result: Err(ended()) }).collect()
        })
    }

    /// Identity of the namespace in which the executor was started.
    pub fn own_namespace(&self) -> NetnsId {
        self.own
    }

    /// Lets a namespace cause an event again; at once, when something happened since the last one.
    pub fn rearm(&self, netns: NetnsId) {
        self.monitor.watches().rearm(netns);
    }

    /// Whether changes in the namespace cause events; otherwise it has to be read from time to time.
    pub fn is_watched(&self, netns: NetnsId) -> bool {
        self.monitor.watches().contains(netns)
    }

    /// All names in the netns directory and what they lead to, sorted by name. Some system calls a name.
    ///
    /// # Errors
    /// When the directory exists but cannot be read.
    pub fn dump_named(&self) -> Result<Vec<(String, NamedTarget)>, Failure> {
        self.directory
            .list()
            .map_err(|error| failure::system("read the directory of named network namespaces", &error.into()))
    }

    /// Removes a name that an agent with this mark was creating when it was killed (see [`NamedTarget::NotANamespace`]). Answers
    /// whether there was one.
    ///
    /// # Errors
    /// When the file cannot be read or removed.
    pub fn remove_leftover(&self, name: &str, mark: &str) -> Result<bool, Failure> {
        self.directory.remove_leftover(name, mark)
    }
}

impl Drop for Executor {
    fn drop(&mut self) {
        self.batches = None;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn start_error(step: &'static str) -> impl Fn(io::Error) -> StartError {
    move |error| StartError {
        step,
        cause: failure::explain(&Refusal::from(error)),
    }
}

/// A namespace takes four descriptors: the default limit of 1024 is soon reached, and programs that do not use select(2) may
/// raise it to the hard limit.
fn raise_descriptor_limit() {
    let limit = getrlimit(Resource::Nofile);
    if limit.current != limit.maximum {
        // Not fatal: what does not fit fails with EMFILE and says so.
        let _ = setrlimit(
            Resource::Nofile,
            Rlimit {
                current: limit.maximum,
                ..limit
            },
        );
    }
}
