//! The thread that performs batches: in turn, but for what may hang.
//!
//! Owns the order of batches and of their answers, and the time limit of openings. Must never wait for something that may hang longer
//! than [`GRACE`]. Start reading at [`Serving::run`].
//!
//! A batch is answered at the end, with the outcomes of all tasks but those whose path does not answer; of a large one, the outcomes
//! that are there are told before, so that what they mean is thought about meanwhile. Those whose path does not answer are answered
//! later, each when its path has answered or after [`LIMIT`]. All answers come from one thread, in the order in which the tasks were
//! performed; so what was read in a namespace is never told after something newer.

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

/// How long a batch waits for its openings. A path that answers at all does it much sooner, and then all outcomes come together.
const GRACE: Duration = Duration::from_millis(20);

/// What the thread is told.
pub(super) enum Message {
    /// Tasks to perform.
    Batch(Batch),
    /// A path has answered.
    Opened(PathBuf, Opening),
    /// No more will come.
    End,
}

/// Tasks and who wants to know what came of them.
pub(super) struct Batch {
    pub tasks: Vec<Task>,
    pub caller: Caller,
}

/// Who waits for outcomes. Each task is answered once, at the latest when this is dropped.
pub(super) struct Caller {
    unanswered: BTreeSet<u64>,
    tell: Box<dyn FnMut(Answer) + Send>,
    told_main: bool,
}

/// Tasks of a batch whose path has not answered yet.
struct Waiting {
    caller: Caller,
    tasks: Vec<(Task, PathBuf, Instant)>,
}

/// See the [module documentation](self).
pub(super) struct Serving {
    worker: Worker,
    opens: SlowOpens,
    messages: Receiver<Message>,
    /// For the threads that open.
    sender: Sender<Message>,
    /// Received while a batch waited for its openings.
    backlog: VecDeque<Message>,
    waiting: Vec<Waiting>,
}

impl Caller {
    /// `tell` is called on the performing thread, and must not wait.
    pub fn new(tasks: &[Task], tell: Box<dyn FnMut(Answer) + Send>) -> Self {
        Caller {
            unanswered: tasks.iter().map(|task| task.id).collect(),
            tell,
            told_main: false,
        }
    }

    /// The main answer, then those that are late.
    fn answer(&mut self, outcomes: Vec<Outcome>) {
        let part = match std::mem::replace(&mut self.told_main, true) {
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
        if !self.told_main || !self.unanswered.is_empty() {
            let ended = || failure::other("the thread that performs kernel operations has ended: restart the agent");
            let unanswered = std::mem::take(&mut self.unanswered).into_iter();
            self.answer(unanswered.map(|id| Outcome { id, result: Err(ended()) }).collect());
        }
    }
}

impl Serving {
    /// `sender` leads to `messages`.
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

    /// Performs until told to end. What waits then is answered with a failure.
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
                Ok(Message::End) | Err(RecvTimeoutError::Disconnected) => return,
                Err(RecvTimeoutError::Timeout) => self.worker.tidy(),
            }
        }
    }

    /// When something is to be done although no message comes.
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
            // Nobody is there any more when the agent ends.
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
            tracing::debug!(tasks = count, writes, took_us, "asked the kernel for changes");
        }
        outcomes.extend(overdue(&mut waiting.tasks));
        waiting.caller.answer(outcomes);
        if !waiting.tasks.is_empty() {
            self.waiting.push(waiting);
        }
    }

    /// Performs the tasks whose paths answer soon.
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

    /// A path has answered: whoever still waits for it goes on. If nobody does, it comes after its time-out, and nothing has happened:
    /// the file is closed again.
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

/// Ends the tasks whose time is over.
fn overdue(tasks: &mut Vec<(Task, PathBuf, Instant)>) -> Vec<Outcome> {
    let now = Instant::now();
    let overdue = tasks.extract_if(.., |(_, _, since)| *since + LIMIT <= now);
    let outcome = |(task, path, since): (Task, PathBuf, Instant)| Outcome {
        id: task.id,
        result: Err(timed_out(&path, since)),
    };
    overdue.map(outcome).collect()
}

/// The path that a task has to open, if there is one that may hang. What is below /proc does not.
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
