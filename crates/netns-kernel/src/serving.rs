//! Runs the thread that performs batches one after the other. Other threads open the paths that can hang.
//!
//! The batch thread never waits longer than [`GRACE`] for a path that can hang.
//!
//! The outcomes of all tasks are reported when the batch is done, except for tasks with a path that does not respond. The outcome
//! of a delayed task is reported when its path responds, or after [`LIMIT`]. A large batch reports its available outcomes
//! earlier, so that the caller can process them in the meantime. One thread sends all answers, in the order in which the tasks
//! were performed. An older snapshot of a namespace is therefore never reported after a newer snapshot.

use std::{
    collections::{BTreeSet, VecDeque},
    path::{Path, PathBuf},
    sync::mpsc::{Receiver, RecvTimeoutError, Sender},
    time::{Duration, Instant},
};

use super::{
    failure,
    operation::{Answer, KernelOp, NamespaceRef, Outcome, Part, Task},
    process::ProcessPath,
    slow_open::{LIMIT, Opening, SlowOpens, timed_out},
    worker::Worker,
    write_count,
};

/// Time for which a batch waits for its paths to be opened.
///
/// Most paths respond much faster, so all outcomes are usually reported together.
const GRACE: Duration = Duration::from_millis(20);

/// Message to the thread.
pub(super) enum Message {
    /// A batch of tasks to perform.
    Batch(Batch),
    /// Result of opening a path on another thread.
    Opened(PathBuf, Opening),
    /// All desired namespaces have been opened, so the other descriptors of an earlier run are not needed.
    RemoveUnopenedDescriptors,
    /// No more messages follow, and the thread must end.
    End,
}

/// Tasks, and the caller that waits for their outcomes.
pub(super) struct Batch {
    pub tasks: Vec<Task>,
    pub caller: Caller,
}

/// A caller that waits for outcomes. The outcome of each task is reported exactly once. Dropping the caller reports a failure
/// for each task that has no outcome yet.
pub(super) struct Caller {
    unanswered: BTreeSet<u64>,
    tell: Box<dyn FnMut(Answer) + Send>,
    main_notified: bool,
}

/// Tasks of a batch that are waiting for their paths to be opened.
struct Waiting {
    caller: Caller,
    tasks: Vec<(Task, PathBuf, Instant)>,
}

/// State of the thread that performs batches.
pub(super) struct Serving {
    worker: Worker,
    opens: SlowOpens,
    messages: Receiver<Message>,
    /// Sender that is cloned for each thread that opens a file.
    sender: Sender<Message>,
    /// Messages received while a batch waited for its paths to be opened.
    backlog: VecDeque<Message>,
    waiting: Vec<Waiting>,
}

impl Caller {
    /// Returns a caller that waits for the outcomes of these tasks. `tell` is called on the executor's thread and must not block.
    pub fn new(tasks: &[Task], tell: Box<dyn FnMut(Answer) + Send>) -> Self {
        Caller {
            unanswered: tasks.iter().map(|task| task.id).collect(),
            tell,
            main_notified: false,
        }
    }

    /// Reports outcomes. The first call sends the main answer, and later calls send late answers.
    fn answer(&mut self, outcomes: Vec<Outcome>) {
        let part = match std::mem::replace(&mut self.main_notified, true) {
            false => Part::Main,
            true => Part::Late,
        };
        self.tell(outcomes, part);
    }

    fn tell(&mut self, outcomes: Vec<Outcome>, part: Part) {
        for outcome in &outcomes {
            self.unanswered.remove(&outcome.id);
        }
        (self.tell)(Answer { outcomes, part });
    }
}

impl Drop for Caller {
    fn drop(&mut self) {
        if !self.main_notified || !self.unanswered.is_empty() {
            let ended = || failure::other("the thread that performs kernel operations has ended: restart the agent");
            let unanswered = std::mem::take(&mut self.unanswered).into_iter();
            self.answer(unanswered.map(|id| Outcome { id, result: Err(ended()) }).collect());
        }
    }
}

impl Serving {
    /// Returns the state of a new thread. `sender` must send to `messages`.
    pub fn new(worker: Worker, messages: Receiver<Message>, sender: Sender<Message>) -> Self {
        Serving {
            worker,
            opens: SlowOpens::default(),
            messages,
            sender,
            backlog: VecDeque::new(),
            waiting: Vec::new(),
        }
    }

    /// Performs batches until [`Message::End`]. Tasks that are still waiting for a path at that time fail.
    pub fn run(mut self) {
        loop {
            self.give_up_on_overdue();
            let message = match self.backlog.pop_front() {
                Some(message) => Ok(message),
                None => self.receive(self.deadline()),
            };
            match message {
                Ok(Message::Batch(batch)) => self.perform(batch),
                Ok(Message::Opened(path, opening)) => self.opened(&path, opening),
                Ok(Message::RemoveUnopenedDescriptors) => self.worker.namespaces.remove_unopened_descriptors(),
                Ok(Message::End) | Err(RecvTimeoutError::Disconnected) => return,
                Err(RecvTimeoutError::Timeout) => self.worker.tidy(),
            }
        }
    }

    /// Returns the time at which the thread must act even if no message arrives; `None` if it only waits for messages.
    fn deadline(&self) -> Option<Instant> {
        let waiting = self.waiting.iter().flat_map(|waiting| &waiting.tasks);
        waiting.map(|(_, _, since)| *since + LIMIT).chain(self.worker.deadline()).min()
    }

    fn receive(&self, deadline: Option<Instant>) -> Result<Message, RecvTimeoutError> {
        match deadline {
            Some(deadline) => self.messages.recv_timeout(deadline.saturating_duration_since(Instant::now())),
            None => self.messages.recv().map_err(|_| RecvTimeoutError::Disconnected),
        }
    }

    fn perform(&mut self, batch: Batch) {
        let Batch { tasks, caller } = batch;
        let (count, writes, began) = (tasks.len(), write_count::total(), Instant::now());
        let (mut at_once, mut outcomes) = (Vec::with_capacity(tasks.len()), Vec::new());
        let mut waiting = Waiting { caller, tasks: Vec::new() };
        for task in tasks {
            let Some(path) = path_of(&task) else {
                at_once.push(task);
                continue;
            };
            let sender = self.sender.clone();
            // Sending fails only when the agent ends.
            let tell = move |path, opening| drop(sender.send(Message::Opened(path, opening)));
            match self.opens.begin(path, tell) {
                Ok(since) => {
                    let path = path.to_owned();
                    waiting.tasks.push((task, path, since));
                }
                Err(failure) => outcomes.push(Outcome {
                    id: task.id,
                    result: Err(failure),
                }),
            }
        }
        let rest = self.worker.perform(at_once, &mut |early| waiting.caller.tell(early, Part::Early));
        outcomes.extend(rest);
        self.wait_for_openings(&mut waiting, &mut outcomes);
        let writes = write_count::total() - writes;
        if writes > 0 {
            let took_us = began.elapsed().as_micros();
            tracing::debug!(tasks = count, writes, took_us, "sent changes to the kernel");
        }
        outcomes.extend(overdue(&mut waiting.tasks));
        waiting.caller.answer(outcomes);
        if !waiting.tasks.is_empty() {
            self.waiting.push(waiting);
        }
    }

    /// Performs the tasks whose paths respond within [`GRACE`].
    fn wait_for_openings(&mut self, waiting: &mut Waiting, outcomes: &mut Vec<Outcome>) {
        while let Some(latest) = waiting.tasks.iter().map(|(_, _, since)| *since + GRACE).max() {
            if latest <= Instant::now() {
                return;
            }
            match self.receive(Some(latest)) {
                Ok(Message::Opened(path, opening)) => {
                    let tasks = take_tasks(waiting, &path);
                    if !tasks.is_empty() {
                        outcomes.extend(self.worker.perform_opened(tasks, &path, opening.clone()));
                    }
                    self.opened(&path, opening);
                }
                Ok(message) => self.backlog.push_back(message),
                Err(_) => return,
            }
        }
    }

    /// Performs the tasks that were waiting for a path. Called when the path has been opened, or when opening it has failed.
    ///
    /// Closes the opened file without using it if all of these tasks have already timed out.
    fn opened(&mut self, path: &Path, opening: Opening) {
        self.opens.end(path);
        for waiting in &mut self.waiting {
            let tasks = take_tasks(waiting, path);
            if !tasks.is_empty() {
                waiting.caller.answer(self.worker.perform_opened(tasks, path, opening.clone()));
            }
        }
        self.waiting.retain(|waiting| !waiting.tasks.is_empty());
    }

    fn give_up_on_overdue(&mut self) {
        for waiting in &mut self.waiting {
            let outcomes = overdue(&mut waiting.tasks);
            if !outcomes.is_empty() {
                waiting.caller.answer(outcomes);
            }
        }
        self.waiting.retain(|waiting| !waiting.tasks.is_empty());
    }
}

fn take_tasks(waiting: &mut Waiting, path: &Path) -> Vec<Task> {
    let tasks = waiting.tasks.extract_if(.., |(_, waited_for, _)| waited_for == path);
    tasks.map(|(task, _, _)| task).collect()
}

/// Removes the tasks that have waited too long for a path. Returns a failed outcome for each of these tasks.
fn overdue(tasks: &mut Vec<(Task, PathBuf, Instant)>) -> Vec<Outcome> {
    let now = Instant::now();
    let overdue = tasks.extract_if(.., |(_, _, since)| *since + LIMIT <= now);
    let outcome = |(task, path, since): (Task, PathBuf, Instant)| Outcome {
        id: task.id,
        result: Err(timed_out(&path, since)),
    };
    overdue.map(outcome).collect()
}

/// Returns the path that a task must open, or `None` if the task opens no path that could hang. Opening a `/proc` path never
/// hangs.
fn path_of(task: &Task) -> Option<&Path> {
    task.ops.iter().find_map(|op| match op {
        KernelOp::OpenNamespace {
            reference: NamespaceRef::File(path),
            ..
        }
        | KernelOp::VerifyNamespace {
            reference: NamespaceRef::File(path),
            ..
        } => ProcessPath::recognise(path).is_none().then_some(path.as_path()),
        _ => None,
    })
}
