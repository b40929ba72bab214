//! [`Executor`]: runs kernel operations on its own thread.
//!
//! Never blocks the calling thread.

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
    descriptor_store::{DescriptorStore, StoredDescriptor, StoredNamespaces},
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

/// Maximum time that dropping the executor waits for the current batch.
///
/// If operations are still running after this time, the network is left in the same state as after a crash of the agent.
const END_LIMIT: Duration = Duration::from_secs(5);

/// Executor settings.
#[derive(Debug)]
pub struct ExecutorConfig {
    /// Directory of named namespaces; `ip netns` uses `/run/netns`.
    pub netns_dir: PathBuf,
    /// Channel for events. An event is the id of a namespace in which a relevant change was made. No further event is sent for
    /// the same namespace until [`Executor::rearm`] is called.
    pub event_sender: UnboundedSender<NetnsId>,
    /// File that stores the process of each bound namespace reference, so that a reused PID is detected after a restart. `None`
    /// disables the record.
    pub bindings_file: Option<PathBuf>,
    /// Maximum number of watched namespaces. Watched namespaces slow down every program that changes networking on the machine:
    /// 1,000 watched namespaces make each operation 38 µs slower.
    pub watched_max: usize,
    /// Maximum number of namespaces whose sockets are kept open, subject to the open-file limit. In other namespaces, sockets are
    /// opened on demand.
    pub awake_max: usize,
    /// Shares into which the open-file limit is divided.
    pub open_files: OpenFiles,
    /// Store outside this process for the descriptors of open namespaces. A restarted agent uses the store to recognise a
    /// namespace. `None` disables the store.
    pub descriptor_store: Option<Box<dyn DescriptorStore>>,
    /// Descriptors that an earlier run left in the store.
    pub stored_descriptors: Vec<StoredDescriptor>,
}

impl ExecutorConfig {
    /// Returns the default settings.
    ///
    /// By default, the executor uses `/run/netns`, keeps no binding record, watches up to 300 namespaces, and keeps sockets
    /// open in up to 4,096 namespaces.
    pub fn new(event_sender: UnboundedSender<NetnsId>) -> Self {
        Self {
            netns_dir: PathBuf::from("/run/netns"),
            event_sender,
            bindings_file: None,
            watched_max: 300,
            awake_max: 4096,
            open_files: OpenFiles::of_process(),
            descriptor_store: None,
            stored_descriptors: Vec::new(),
        }
    }
}

/// Error returned if the executor cannot start.
#[derive(Debug, thiserror::Error)]
#[error("cannot start the netns executor ({step}): {cause}")]
pub struct StartError {
    /// Startup step that failed.
    pub step: &'static str,
    /// Error text of the kernel with the errno(3) name, and a remedy.
    pub cause: String,
}

/// Performs kernel operations in network namespaces, on its own threads.
///
/// # Guarantees
///
/// Batches are performed one after the other, in the order of the calls. The only exception is a task that opens a path on a
/// file system that does not respond. The outcome of such a task is reported later, and the task does not delay other tasks.
///
/// Dropping the executor waits up to 5 s for the current batch, then ends its threads and closes all descriptors. A thread that
/// hangs in a system call ends with the process. Dropping the executor does not change the network.
pub struct Executor {
    messages: mpsc::Sender<Message>,
    thread: Option<JoinHandle<()>>,
    /// Channel that is disconnected when the executor's thread ends.
    ended: Mutex<mpsc::Receiver<()>>,
    monitor: Monitor,
    directory: Arc<NamedDirectory>,
    own: NetnsId,
}

impl Executor {
    /// Starts the threads. The current namespace of the calling thread becomes the agent's own namespace.
    ///
    /// # Errors
    /// Fails if the process is not allowed to create network namespaces (CAP_SYS_ADMIN), or if `/proc` is not mounted.
    pub fn start(config: ExecutorConfig) -> Result<Self, StartError> {
        let open_files = config.open_files;
        let bounds = Bounds {
            awake: config.awake_max,
            descriptors: open_files.namespaces,
        };
        let own_file = namespace::current().map_err(start_error("open the agent's own network namespace"))?;
        let own = namespace::identity(&own_file).map_err(start_error("identify the agent's own network namespace"))?;
        let creation_socket = namespace::private().map_err(start_error("create a private network namespace"))?;
        let monitor =
            Monitor::start(config.watched_max.min(open_files.watches), config.event_sender).map_err(start_error("watch namespaces"))?;
        let directory = Arc::new(NamedDirectory::new(config.netns_dir));
        let own_file = Arc::new(OwnedFd::from(own_file));
        let entrance = Entrance::start(Arc::clone(&own_file)).map_err(start_error("start the thread that enters namespaces"))?;
        let bindings = Bindings::recorded(BindingRecord::open(config.bindings_file));
        let finder = Finder::new(own_file, own, Arc::clone(&directory), bindings);
        let stored = StoredNamespaces::new(config.descriptor_store, config.stored_descriptors);
        let worker = Worker::new(
            Namespaces::new(finder, entrance, monitor.watches().clone(), bounds, stored),
            creation_socket,
        );
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

    /// Performs tasks and reports the outcome of each.
    ///
    /// Tasks are performed in the given order, except that tasks that open a file are performed last. A failed task does not
    /// affect the others. The operations of a task run in order until the first failure.
    ///
    /// Usually, a single main answer contains all outcomes. Some outcomes of a large batch can be reported earlier, and the
    /// outcomes of long-running tasks are reported later. Answers arrive in the order in which the tasks were performed, even
    /// if several callers submit tasks.
    ///
    /// `tell` is called on the executor's thread, or on the calling thread if the executor's thread has ended. It must not
    /// block.
    pub fn submit(&self, tasks: Vec<Task>, tell: impl FnMut(Answer) + Send + 'static) {
        let caller = Caller::new(&tasks, Box::new(tell));
        // `send` returns the batch if the thread has ended. Dropping the batch reports the failure to the caller.
        let _ = self.messages.send(Message::Batch(Batch { tasks, caller }));
    }

    /// Performs tasks in the same way as [`Self::submit`], and returns all outcomes in the order of the tasks.
    ///
    /// Dropping the future does not cancel the tasks.
    pub async fn perform(&self, tasks: Vec<Task>) -> Vec<Outcome> {
        let places: HashMap<u64, usize> = tasks.iter().enumerate().map(|(place, task)| (task.id, place)).collect();
        let (sender, mut answers) = unbounded_channel();
        // Sending fails only if the future was dropped. In that case, nobody needs the outcomes.
        self.submit(tasks, move |answer| drop(sender.send(answer)));
        let mut outcomes = Vec::with_capacity(places.len());
        while let Some(answer) = answers.recv().await {
            outcomes.extend(answer.outcomes);
        }
        outcomes.sort_by_key(|outcome| places.get(&outcome.id).copied());
        outcomes
    }

    /// Removes the descriptors of an earlier run from the descriptor store, except those of namespaces that have been opened again.
    ///
    /// Called once all desired namespaces have been opened.
    pub fn remove_unopened_descriptors(&self) {
        // Sending fails if the thread has ended. The process then ends soon, and the next run removes the descriptors.
        let _ = self.messages.send(Message::RemoveUnopenedDescriptors);
    }

    /// Returns the identity of the namespace in which the executor was started.
    pub fn own_namespace(&self) -> NetnsId {
        self.own
    }

    /// Enables the next event for a namespace. If the namespace has changed since the last event, the next event is sent
    /// immediately.
    pub fn rearm(&self, netns: NetnsId) {
        self.monitor.watches().rearm(netns);
    }

    /// Stops or resumes listening for changes in all namespaces.
    ///
    /// Changes during the pause cause no events, so the caller must read all watched namespaces after resuming. A pause saves 3.5
    /// µs per operation if 100 namespaces are watched.
    pub fn listen(&self, on: bool) {
        self.monitor.watches().listen(on);
    }

    /// Returns the number of changes that this process has requested from the kernel since its start.
    pub fn changes(&self) -> u64 {
        write_count::total()
    }

    /// Returns whether changes in the namespace cause events. If not, the namespace must be read periodically.
    pub fn is_watched(&self, netns: NetnsId) -> bool {
        self.monitor.watches().contains(netns)
    }

    /// Returns all names in the netns directory and their targets, sorted by name.
    ///
    /// Makes a few system calls for each name.
    ///
    /// # Errors
    /// Fails if the directory exists but cannot be read.
    pub fn dump_named(&self) -> Result<Vec<(String, NamedTarget)>, Failure> {
        self.directory
            .list()
            .map_err(|error| failure::system("read the directory of named network namespaces", &error.into()))
    }

    /// Deletes a namespace name that an agent with this mark left behind because it was killed during the creation.
    ///
    /// [`Self::dump_named`] lists such a name as [`NamedTarget::NotANamespace`]. Returns whether the name was deleted.
    ///
    /// # Errors
    /// Fails if the file cannot be read or deleted.
    pub fn remove_orphan(&self, name: &str, mark: &str) -> Result<bool, Failure> {
        self.directory.remove_orphan(name, mark)
    }
}

impl Drop for Executor {
    fn drop(&mut self) {
        // Sending fails if the thread has already ended.
        let _ = self.messages.send(Message::End);
        let ended = self.ended.get_mut().unwrap_or_else(PoisonError::into_inner).recv_timeout(END_LIMIT);
        if ended == Err(mpsc::RecvTimeoutError::Timeout) {
            tracing::warn!("executor stopped without waiting for operations that the kernel did not finish within {END_LIMIT:?}");
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
