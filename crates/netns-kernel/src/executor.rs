//! The netns executor as the rest of the program sees it.
//!
//! Owns the thread that performs operations, and the way to it. Must never perform anything on the caller's thread that can
//! wait. Start reading at [`Executor::submit`].

use std::{
    collections::HashMap,
    io,
    os::fd::OwnedFd,
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError, mpsc},
    thread::{self, JoinHandle},
    time::Duration,
};

use tokio::sync::mpsc::{UnboundedSender, unbounded_channel};

use super::{
    binding_record::BindingRecord,
    entrance::Entrance,
    failure,
    monitor::Monitor,
    namespace::{self, NamedDirectory, NamedTarget},
    netlink::Refusal,
    open_files::OpenFiles,
    opening::Finder,
    operation::{Answer, Failure, NetnsId, Outcome, Task},
    pinned::Namespaces,
    process::Bindings,
    serving::{Batch, Caller, Message, Serving},
    table::Bounds,
    worker::Worker,
    write_count,
};

/// How long a drop waits for the batch at hand. What the kernel does not finish by then it finishes, or not, as after a crash.
const END_LIMIT: Duration = Duration::from_secs(5);

/// Settings of the executor.
#[derive(Debug)]
pub struct ExecutorConfig {
    /// Directory of named namespaces; `ip netns` uses `/run/netns`.
    pub netns_dir: PathBuf,
    /// Receives a namespace when something that matters changed in it, at most once until [`Executor::rearm`].
    pub event_sender: UnboundedSender<NetnsId>,
    /// Where it is kept which process a PID was bound to, so that a restart does not take a stranger for it; `None`: nowhere.
    pub bindings_file: Option<PathBuf>,
    /// How many namespaces are watched at most. Each costs every writer on the machine (38 µs an operation at 1000).
    pub watched_max: usize,
    /// In how many namespaces sockets are kept open at most, as far as the limit of open files allows for so many. In others they are
    /// opened when they are needed.
    pub awake_max: usize,
    /// How the limit of open files is divided.
    pub open_files: OpenFiles,
}

impl ExecutorConfig {
    /// The usual settings: `/run/netns`, no record of bindings, up to 300 namespaces watched, and sockets open in up to
    /// 4,096.
    pub fn new(event_sender: UnboundedSender<NetnsId>) -> Self {
        Self {
            netns_dir: PathBuf::from("/run/netns"),
            event_sender,
            bindings_file: None,
            watched_max: 300,
            awake_max: 4096,
            open_files: OpenFiles::of_process(),
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

/// Performs kernel operations in network namespaces, on threads of its own.
///
/// # Guarantees
///
/// Batches are performed one after the other, in the order of the calls. Only an opening whose path does not answer stands back: it
/// is answered later, and holds up nobody. Dropping the executor finishes the batch at hand if that takes no more than 5 s, ends its
/// threads (but for those that hang in a system call; they end with the process) and closes all descriptors; the network is left as
/// it is.
pub struct Executor {
    messages: mpsc::Sender<Message>,
    thread: Option<JoinHandle<()>>,
    /// Disconnected when the thread has ended.
    ended: Mutex<mpsc::Receiver<()>>,
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
        let open_files = config.open_files;
        let bounds = Bounds {
            awake: config.awake_max,
            descriptors: open_files.namespaces,
        };
        let own_file = namespace::current().map_err(start_error("open its own network namespace"))?;
        let own = namespace::identity(&own_file).map_err(start_error("identify its own network namespace"))?;
        let nursery = namespace::private().map_err(start_error("create a private network namespace"))?;
        let monitor =
            Monitor::start(config.watched_max.min(open_files.watches), config.event_sender).map_err(start_error("watch namespaces"))?;
        let directory = Arc::new(NamedDirectory::new(config.netns_dir));
        let own_file = Arc::new(OwnedFd::from(own_file));
        let entrance = Entrance::start(Arc::clone(&own_file)).map_err(start_error("start the thread that enters namespaces"))?;
        let bindings = Bindings::recorded(BindingRecord::open(config.bindings_file));
        let finder = Finder::new(own_file, own, Arc::clone(&directory), bindings);
        let worker = Worker::new(Namespaces::new(finder, entrance, monitor.watches().clone(), bounds), nursery);
        let (messages, received) = mpsc::channel();
        let serving = Serving::new(worker, received, messages.clone());
        let (running, ended) = mpsc::channel();
        let thread = thread::Builder::new()
            .name("netns-executor".to_owned())
            .spawn(move || {
                serving.run();
                drop(running);
            })
            .map_err(start_error("start the thread that performs operations"))?;
        Ok(Self {
            messages,
            thread: Some(thread),
            ended: Mutex::new(ended),
            monitor,
            directory,
            own,
        })
    }

    /// Performs tasks and tells what came of each one, in one answer; only what takes long is answered later. Tasks are independent:
    /// one that fails never affects another. They are performed in the given order, those that open a file last; the operations of a
    /// task too, and its first failure ends it. `tell` is called on the performing thread (on this one, if that has ended) and must
    /// not wait. The answers of all callers come in the order in which their tasks were performed.
    pub fn submit(&self, tasks: Vec<Task>, tell: impl FnMut(Answer) + Send + 'static) {
        let caller = Caller::new(&tasks, Box::new(tell));
        // When the thread has ended, the batch comes back, and the caller hears of that by its drop.
        let _ = self.messages.send(Message::Batch(Batch { tasks, caller }));
    }

    /// As [`Self::submit`], and waits for all outcomes, which are in the order of the tasks. When the future is dropped, the tasks are
    /// performed all the same.
    pub async fn perform(&self, tasks: Vec<Task>) -> Vec<Outcome> {
        let places: HashMap<u64, usize> = tasks.iter().enumerate().map(|(place, task)| (task.id, place)).collect();
        let (sender, mut answers) = unbounded_channel();
        // Who no longer waits for the outcomes does not need them.
        self.submit(tasks, move |answer| drop(sender.send(answer)));
        let mut outcomes = Vec::with_capacity(places.len());
        while let Some(answer) = answers.recv().await {
            outcomes.extend(answer.outcomes);
        }
        outcomes.sort_by_key(|outcome| places.get(&outcome.id).copied());
        outcomes
    }

    /// Identity of the namespace in which the executor was started.
    pub fn own_namespace(&self) -> NetnsId {
        self.own
    }

    /// Lets a namespace cause an event again; at once, when something happened since the last one.
    pub fn rearm(&self, netns: NetnsId) {
        self.monitor.watches().rearm(netns);
    }

    /// Goes deaf for all changes, or listens again. Who listens again must read all watched namespaces afterwards, for what changed
    /// meanwhile caused no events. While nobody listens, each operation costs less (3.5 µs with 100 namespaces).
    pub fn listen(&self, on: bool) {
        self.monitor.watches().listen(on);
    }

    /// How often this process has asked the kernel for a change so far.
    pub fn changes(&self) -> u64 {
        write_count::total()
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
        // It has ended already if this fails.
        let _ = self.messages.send(Message::End);
        let ended = self.ended.get_mut().unwrap_or_else(PoisonError::into_inner).recv_timeout(END_LIMIT);
        if ended == Err(mpsc::RecvTimeoutError::Timeout) {
            tracing::warn!("the kernel has not finished the operations at hand for {END_LIMIT:?}: the executor ends without them");
        } else if let Some(thread) = self.thread.take() {
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
