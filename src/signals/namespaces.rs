//! Namespace watcher: notifies the engine if a namespace reference may now resolve to a different namespace.
//!
//! Watches names, processes and files for the engine. The watcher only sends the key of a reference, and the engine checks the
//! reference itself. A superfluous notification is therefore harmless, and periodic checks compensate for a missing notification.
//! [`entry::Entry::learn`] decides when to notify.

mod directory;
pub(crate) mod entry;
mod file_checks;
pub(crate) mod observation;

use std::{
    collections::{BTreeMap, BTreeSet},
    io,
    path::{Path, PathBuf},
};

use futures::{
    FutureExt, StreamExt,
    future::{AbortHandle, Abortable, Aborted, BoxFuture},
    stream::FuturesUnordered,
};
use tokio::{
    sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel},
    task::JoinHandle,
    time::{Instant, sleep_until},
};
use tracing::warn;

use self::{
    directory::{Directory, DirectoryEvent},
    entry::Entry,
    file_checks::FileChecks,
    observation::{Observation, observe},
};
use super::process::PinnedProcess;

pub use self::observation::Target;

/// Maximum number of open pidfds, which limits the number of file descriptors. Processes beyond this limit are polled.
const PINS_MAX: usize = 1024;

/// [`Watcher`] configuration.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct WatcherConfig {
    /// Directory of named namespaces, usually `/run/netns`. It need not exist.
    pub netns_dir: PathBuf,
}

/// Result of the last attempt of the engine to resolve a namespace reference.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Binding {
    /// The reference resolved to the namespace with this inode number.
    Bound {
        /// Inode number of the nsfs file.
        inode: u64,
    },
    /// The reference resolved to no namespace that the engine could use.
    Missing,
    /// The engine could not create the namespace, because something other than a namespace has the same name. The engine can
    /// create the namespace once the name is free.
    Obstructed,
}

/// Handle to a running watcher. Dropping the handle stops the watcher.
#[derive(Debug)]
pub struct Watcher {
    commands: UnboundedSender<Command>,
    task: JoinHandle<()>,
}

#[derive(Debug)]
enum Command {
    Watch { key: String, target: Target, binding: Binding },
    Unwatch { key: String },
}

impl Watcher {
    /// Starts a watcher, which sends keys to `changed` until it is dropped or the receiver is closed.
    ///
    /// Must be called within a Tokio runtime.
    ///
    /// # Errors
    ///
    /// Fails if the agent's own namespace cannot be read (`/proc` is not mounted).
    pub fn start(config: WatcherConfig, changed: UnboundedSender<String>) -> io::Result<Self> {
        let own_inode = observation::own_netns_inode()?;
        let (commands, received) = unbounded_channel();
        let watch = Watch {
            config,
            own_inode,
            changed,
            origin: Instant::now(),
            entries: BTreeMap::new(),
            due: BTreeSet::new(),
            directory: None,
            deaths: FuturesUnordered::new(),
            file_checks: FileChecks::default(),
        };
        Ok(Self {
            commands,
            task: tokio::spawn(watch.run(received)),
        })
    }

    /// Watches `target` under `key`. Replaces an earlier target of the key.
    ///
    /// Sends the key when the target no longer resolves to `binding`. Sends it immediately if the target already resolves to
    /// something else.
    pub fn watch(&self, key: String, target: Target, binding: Binding) {
        // This fails only if the watcher task has ended. The task runs until the receiver of keys is closed.
        let _ = self.commands.send(Command::Watch { key, target, binding });
    }

    /// Stops watching a key. A notification that is already queued is still sent.
    pub fn unwatch(&self, key: &str) {
        let _ = self.commands.send(Command::Unwatch { key: key.to_owned() });
    }
}

impl Drop for Watcher {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Error that is returned if the receiver of keys is closed.
struct EventsLost;

/// Process that the watcher waits for through a pidfd. Dropping the value closes the pidfd.
struct Pin {
    process: (i32, Option<u64>),
    abort: AbortHandle,
}

impl Drop for Pin {
    fn drop(&mut self) {
        self.abort.abort();
    }
}

/// An entry, with the time of its next check and the pidfd of its process (if any).
struct Watched {
    entry: Entry,
    /// Time of the next check, as in [`Watch::due`].
    due: Instant,
    pin: Option<Pin>,
}

/// State of the watcher task.
struct Watch {
    config: WatcherConfig,
    own_inode: u64,
    changed: UnboundedSender<String>,
    /// Start of the time grid to which periodic checks are aligned.
    origin: Instant,
    entries: BTreeMap<String, Watched>,
    /// Keys of all entries, ordered by the time of their next check.
    due: BTreeSet<(Instant, String)>,
    /// Watch on the directory of named namespaces; `None` while no name is watched or no inotify instance is available.
    directory: Option<Directory>,
    /// One future for each watched process. It completes with the key of its entry when the process has ended.
    deaths: FuturesUnordered<Abortable<BoxFuture<'static, String>>>,
    file_checks: FileChecks,
}

/// Event that wakes the watcher.
enum Event {
    Command(Option<Command>),
    Ended(Result<String, Aborted>),
    Checked(PathBuf, Observation),
    Directory(DirectoryEvent),
    Due,
    EventsLost,
}

impl Watch {
    async fn run(mut self, mut commands: UnboundedReceiver<Command>) {
        loop {
            let next_check = self.due.first().map(|(due, _)| *due);
            let event = tokio::select! {
                biased;
                Some(ended) = self.deaths.next() => Event::Ended(ended),
                (path, seen) = self.file_checks.next() => Event::Checked(path, seen),
                event = next_in(&mut self.directory) => Event::Directory(event),
                command = commands.recv() => Event::Command(command),
                () = sleep_until(next_check.unwrap_or(self.origin)), if next_check.is_some() => Event::Due,
                () = self.changed.closed() => Event::EventsLost,
            };
            let handled = match event {
                Event::Command(Some(command)) => self.obey(command),
                Event::Ended(Ok(key)) => self.process_ended(&key),
                Event::Ended(Err(Aborted)) => Ok(()),
                Event::Checked(path, seen) => self.file_seen(&path, seen),
                Event::Directory(event) => self.directory_changed(&event),
                Event::Due => self.check_due(),
                Event::Command(None) | Event::EventsLost => return,
            };
            if handled.is_err() {
                return;
            }
        }
    }

    fn obey(&mut self, command: Command) -> Result<(), EventsLost> {
        match command {
            Command::Watch { key, target, binding } => {
                let target = target.normalized();
                let before = self.forget(&key);
                if matches!(target, Target::Named(_)) {
                    self.open_directory();
                }
                let entry = Entry::new(target, binding, before);
                let due = Instant::now();
                self.due.insert((due, key.clone()));
                self.entries.insert(key.clone(), Watched { entry, due, pin: None });
                self.check(&key)?;
            }
            Command::Unwatch { key } => {
                self.forget(&key);
            }
        }
        if self.directory.is_some() && !self.entries.values().any(is_named) {
            self.directory = None;
        }
        Ok(())
    }

    fn forget(&mut self, key: &str) -> Option<Entry> {
        let watched = self.entries.remove(key)?;
        self.due.remove(&(watched.due, key.to_owned()));
        Some(watched.entry)
    }

    fn open_directory(&mut self) {
        if self.directory.is_none() {
            let path = &self.config.netns_dir;
            match Directory::watch(path) {
                Ok(directory) => self.directory = Some(directory),
                Err(error) => {
                    warn!(directory = %path.display(), %error, "no inotify instance available, polling namespace names (see fs.inotify.max_user_instances)");
                }
            }
        }
    }

    fn process_ended(&mut self, key: &str) -> Result<(), EventsLost> {
        if let Some(watched) = self.entries.get_mut(key) {
            watched.pin = None;
        }
        self.check(key)
    }

    fn directory_changed(&mut self, event: &DirectoryEvent) -> Result<(), EventsLost> {
        let now = Instant::now();
        let concerned = |target: &Target| match (target, event) {
            (Target::Named(name), DirectoryEvent::Name(changed)) => name == changed,
            (Target::Named(_), DirectoryEvent::Anything) => true,
            _ => false,
        };
        let concerned = self.entries.iter_mut().filter(|(_, watched)| concerned(&watched.entry.target));
        let keys: Vec<String> = concerned
            .map(|(key, watched)| {
                watched.entry.start_burst(now);
                key.clone()
            })
            .collect();
        keys.iter().try_for_each(|key| self.check(key))
    }

    /// Checks all entries that are due.
    fn check_due(&mut self) -> Result<(), EventsLost> {
        let now = Instant::now();
        let keys: Vec<String> = self
            .due
            .iter()
            .take_while(|(due, _)| *due <= now)
            .map(|(_, key)| key.clone())
            .collect();
        if keys.iter().filter_map(|key| self.entries.get(key)).any(is_named) && self.directory.as_mut().is_some_and(Directory::reinstall) {
            self.directory_changed(&DirectoryEvent::Anything)?;
        }
        keys.iter().try_for_each(|key| self.check(key))
    }

    fn file_seen(&mut self, path: &Path, seen: Observation) -> Result<(), EventsLost> {
        let concerned = |watched: &Watched| matches!(&watched.entry.target, Target::File(target) if target == path);
        let concerned = self.entries.iter().filter(|(_, watched)| concerned(watched));
        let keys: Vec<String> = concerned.map(|(key, _)| key.clone()).collect();
        keys.iter().try_for_each(|key| self.take_in(key, seen))
    }

    /// Checks one entry. A file is checked on another thread, so the result of its check arrives later.
    fn check(&mut self, key: &str) -> Result<(), EventsLost> {
        let Some(watched) = self.entries.get(key) else { return Ok(()) };
        if let Target::File(path) = &watched.entry.target {
            self.file_checks.check(path);
            self.plan_next_check(key, Instant::now());
            return Ok(());
        }
        let seen = observe(&watched.entry.target, &self.config.netns_dir);
        self.take_in(key, seen)
    }

    /// Processes an observation: notifies the engine if necessary, and plans the next check.
    fn take_in(&mut self, key: &str, seen: Observation) -> Result<(), EventsLost> {
        let pins = self.deaths.len();
        let Some(watched) = self.entries.get_mut(key) else { return Ok(()) };
        let now = Instant::now();
        if watched.entry.learn(seen, now, self.own_inode) {
            self.changed.send(key.to_owned()).map_err(|_| EventsLost)?;
        }
        let wanted = watched.entry.process().filter(|_| matches!(seen, Observation::Present { .. }));
        if watched.pin.as_ref().map(|pin| pin.process) != wanted {
            watched.pin = wanted.filter(|_| pins < PINS_MAX).and_then(|process| {
                let (pin, ended) = pin(process, key)?;
                self.deaths.push(ended);
                Some(pin)
            });
        }
        self.plan_next_check(key, now);
        Ok(())
    }

    fn plan_next_check(&mut self, key: &str, now: Instant) {
        let Some(watched) = self.entries.get_mut(key) else { return };
        let evented = match watched.entry.target {
            Target::Named(_) => self.directory.is_some(),
            Target::Process(_) => watched.pin.is_some(),
            Target::File(_) => false,
        };
        self.due.remove(&(watched.due, key.to_owned()));
        watched.due = watched.entry.next_check(now, self.origin, evented);
        self.due.insert((watched.due, key.to_owned()));
    }
}

fn is_named(watched: &Watched) -> bool {
    matches!(watched.entry.target, Target::Named(_))
}

/// Opens a pidfd for an observed process. Returns `None` if that fails or if the PID has been reused. The process is then polled.
fn pin(process: (i32, Option<u64>), key: &str) -> Option<(Pin, Abortable<BoxFuture<'static, String>>)> {
    let (pid, start_time) = process;
    let pinned = PinnedProcess::open(pid)
        .ok()
        .filter(|pinned| Some(pinned.start_time()) == start_time)?;
    let key = key.to_owned();
    let ended = async move {
        pinned.ended().await;
        key
    };
    let (abort, registration) = AbortHandle::new_pair();
    Some((Pin { process, abort }, Abortable::new(ended.boxed(), registration)))
}

async fn next_in(directory: &mut Option<Directory>) -> DirectoryEvent {
    match directory {
        Some(directory) => directory.next().await,
        None => futures::future::pending().await,
    }
}
