//! A simulated agent process, which consists of the agent's core and its work in flight.
//!
//! A kill discards all of this state. The real agent works in threads and tasks, but the simulated agent works in single steps.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use models::proto::ligato::kvscheduler::{ValueState, ValueStatus};
use prost::Message;
use tokio::sync::watch;

use super::{
    connections::{ReaderLink, WriterLink},
    daemon::Tracker,
    following::{Disk, Following},
    kernel::{Killed, OWN},
    machine::SharedMachine,
    mutation::Mutation,
};
use crate::scheduler::Held;
use crate::{
    agent::{
        effects::{NetworkEffects, ReadRequest, Seen, Signal},
        host::StatusStore,
        report::{Health, Reporter},
        startup_scan::{Scan, Scanned},
    },
    descriptors::{Network, alias::Marks},
    engine::{Clock, Core, Done, Event, Work},
    publish::{Content, Published, state::State},
};
use netns_kernel::{Failure, Outcome, Reply, Task};

/// The default of the option `--sweep-interval`.
const SWEEP_INTERVAL: Duration = Duration::from_secs(10);

/// Microservice label of the simulated agent.
pub const AGENT: &str = "vpp1";

/// An event for the agent's core.
pub type AgentEvent = Event<Network, Signal>;

/// Configuration of a simulated agent.
#[derive(Clone, Copy)]
pub struct Manner {
    /// True if the agent uses Docker.
    pub docker: bool,
    /// True if the core receives the outcomes of some tasks before the rest of the batch is complete.
    pub reports_early: bool,
    /// True if the core starts operations one by one instead of in large batches.
    pub one_by_one: bool,
}

/// Contents of an [`Outbox`]: the state of the publisher, and the statuses that the agent has set.
#[derive(Default)]
pub struct OutboxContent {
    /// State of the agent's status publisher.
    pub state: State,
    /// True if a status has changed since the writer was last notified.
    pub changed: bool,
    /// Status keys that must be in the store at the end of a run, each with its encoded status.
    pub shadow: BTreeMap<String, Arc<[u8]>>,
    /// Key and revision of each value that was reported as CONFIGURED since the simulator last checked such reports.
    pub claims: Vec<(String, i64)>,
}

impl OutboxContent {
    /// Returns true if a status has the same state and revision as the previous status of the key, but a different
    /// `removal_held_since`.
    fn has_said(&self, key: &str, status: &ValueStatus) -> bool {
        let former = self.shadow.get(key).and_then(|former| ValueStatus::decode(&**former).ok());
        former.is_some_and(|former| {
            let of_same_version = (former.state(), former.mod_revision) == (status.state(), status.mod_revision);
            of_same_version && former.removal_held_since != status.removal_held_since
        })
    }
}

/// Statuses that the core reports and the writer publishes.
#[derive(Clone, Default)]
pub struct Outbox(Arc<Mutex<OutboxContent>>);

impl Outbox {
    /// Locks the outbox and returns its contents.
    pub fn get(&self) -> MutexGuard<'_, OutboxContent> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Encodes a status in binary form, which is faster than JSON.
fn binary(message: &Published) -> Vec<u8> {
    match message {
        Published::Value(message) => message.as_ref().encode_to_vec(),
        Published::Link(message) => message.encode_to_vec(),
        Published::Namespace(message) => message.encode_to_vec(),
        Published::Microservice(message) => message.encode_to_vec(),
        Published::Agent(message) => message.encode_to_vec(),
        Published::Part(message) => message.encode_to_vec(),
    }
}

impl StatusStore for Outbox {
    fn set(&self, key: String, message: Published) {
        let value: Arc<[u8]> = binary(&message).into();
        let content = &mut *self.get();
        if let Published::Value(status) = &message
            && status.state() == ValueState::Configured
            && !content.has_said(&key, status)
        {
            content.claims.push((status.key.clone(), status.mod_revision));
        }
        content.state.set(&key, Content::Text(value.clone()));
        content.shadow.insert(key, value);
        content.changed = true;
    }

    fn remove(&self, key: &str) {
        let content = &mut *self.get();
        content.state.remove(key);
        content.shadow.remove(key);
        content.changed = true;
    }

    fn retain_only_current(&self) {
        let content = &mut *self.get();
        content.state.retain_only_current();
        content.changed = true;
    }
}

/// The reason why tasks in flight were started.
enum Purpose {
    Operations,
    Refresh,
    Scan(Scan),
    /// The agent closes the namespaces that the startup scan opened and that are no longer needed. The variant contains the
    /// namespaces that stay open.
    Closing(Vec<Scanned>),
}

/// Tasks in flight, with their results so far.
struct UnderWay {
    purpose: Purpose,
    tasks: VecDeque<Task>,
    /// Number of completed operations of the first task.
    position: usize,
    answer: Result<Reply, Failure>,
    outcomes: Vec<Outcome>,
}

/// The result of one call of [`Agent::perform`].
pub enum Progress {
    /// More operations remain.
    More,
    /// More operations remain. The core has already received the outcomes of the completed tasks.
    Told,
    /// No operation remains, and the core has received all outcomes.
    Finished,
}

/// A simulated agent process.
pub struct Agent {
    /// The agent's core.
    pub core: Core<NetworkEffects>,
    /// Events that the core has not processed yet.
    pub events: VecDeque<AgentEvent>,
    /// Time of the core's next planned wake-up.
    pub wake_at: Option<Duration>,
    /// Time of the next planned check of the watched namespace references.
    pub look_at: Option<Duration>,
    /// Statuses that the writer publishes.
    pub outbox: Outbox,
    /// Connection of the reader of desired values.
    pub reader: ReaderLink,
    /// Desired values that the agent has read, and removals that are on hold.
    pub following: Following,
    /// Connection of the writer of statuses.
    pub writer: WriterLink,
    /// The Docker tracker.
    pub tracker: Tracker,
    /// Work in flight, in the order of its execution.
    work: VecDeque<UnderWay>,
    reports_early: bool,
    mutation: Option<Mutation>,
    /// True once the core has received the first desired values.
    pub begun: bool,
    /// Values that were blocked when the simulator last checked the rules for retries.
    pub held: Vec<Held>,
}

impl Agent {
    /// Starts the agent.
    pub fn start(machine: &SharedMachine, clock: Clock, manner: Manner, disk: &mut Disk, mutation: Option<Mutation>) -> Self {
        let outbox = Outbox::default();
        let store: Arc<dyn StatusStore> = Arc::new(outbox.clone());
        let health = Health::new(store.clone(), clock.clone());
        let (in_sync, reported_in_sync) = watch::channel(false);
        let orphans = health.held_orphans();
        let reporter = Reporter::new(store, health, clock, in_sync);
        let effects = NetworkEffects::new(
            Arc::new(machine.clone()),
            Marks::new(AGENT),
            Box::new(machine.clone()),
            reporter,
            SWEEP_INTERVAL,
        );
        let mut events = VecDeque::from([Event::Facts(vec![NetworkEffects::own_namespace(OWN)])]);
        if !manner.docker {
            events.push_back(Event::FactsSettled);
        }
        let core = Core::new(Network::new(AGENT), effects);
        let (following, first) = Following::start(disk, orphans, reported_in_sync, mutation);
        events.extend(first);
        Agent {
            core: match manner.one_by_one {
                true => core.with_portion(1),
                false => core,
            },
            events,
            wake_at: None,
            look_at: None,
            outbox,
            reader: ReaderLink::new(disk.note.clone()),
            following,
            writer: WriterLink::new(),
            tracker: Tracker::new(),
            work: VecDeque::new(),
            reports_early: manner.reports_early,
            mutation,
            begun: false,
            held: Vec::new(),
        }
    }

    /// Lets the core process its events and start work. Returns true if no work was in flight before the call and some is in
    /// flight after it.
    pub fn wake(&mut self, now: Duration) -> bool {
        while let Some(event) = self.events.pop_front() {
            self.core.take(event, now);
        }
        let idle = self.work.is_empty();
        while let Some(work) = self.core.advance(now) {
            self.begin(work);
        }
        idle && !self.work.is_empty()
    }

    fn begin(&mut self, work: Work<NetworkEffects>) {
        let (purpose, mut tasks) = match work {
            Work::Perform(tasks) => (Purpose::Operations, tasks),
            Work::ReadRequest(ReadRequest::Refresh(namespaces)) => (Purpose::Refresh, ReadRequest::readings(namespaces)),
            Work::ReadRequest(ReadRequest::Scan(scan)) => {
                let mut tasks = scan.openings();
                if self.mutation == Some(Mutation::SkipStartupScan) {
                    tasks.retain(|task| task.id == 0);
                }
                (Purpose::Scan(scan), tasks)
            }
        };
        if let Some(mutation) = self.mutation {
            mutation.tasks(&mut tasks);
        }
        self.work.push_back(UnderWay::new(purpose, tasks));
    }

    /// Performs one operation of the work in flight, and adds failures to `failed`.
    ///
    /// # Errors
    /// Fails if the agent was killed.
    pub fn perform(&mut self, machine: &SharedMachine, failed: &mut Vec<(String, Failure)>) -> Result<Progress, Killed> {
        let Some(work) = self.work.front_mut() else {
            return Ok(Progress::Finished);
        };
        if let Some(task) = work.tasks.front() {
            if let Some(op) = task.ops.get(work.position) {
                let mut reply = machine.get().kernel.op(op)?;
                if let Some(mutation) = self.mutation {
                    reply = mutation.answer(reply);
                }
                work.position += 1;
                match reply {
                    Ok(Reply::Done) => {}
                    Ok(reply) => work.answer = Ok(reply),
                    Err(failure) => {
                        failed.push((format!("{}: {op:?}", task.key), failure.clone()));
                        work.answer = Err(failure);
                    }
                }
            }
            if work.position < task.ops.len() && work.answer.is_ok() {
                return Ok(Progress::More);
            }
            let id = task.id;
            work.end_task();
            if self.reports_early && id % 3 == 0 && matches!(work.purpose, Purpose::Operations) && !work.tasks.is_empty() {
                self.core.done(Done::Early(std::mem::take(&mut work.outcomes)));
                return Ok(Progress::Told);
            }
            return Ok(Progress::More);
        }
        let Some(UnderWay { purpose, outcomes, .. }) = self.work.pop_front() else {
            return Ok(Progress::Finished);
        };
        let done = match purpose {
            Purpose::Operations => Done::Performed(outcomes),
            Purpose::Refresh => Done::Seen(Seen::read(outcomes)),
            Purpose::Scan(scan) => {
                let (marked, closings) = scan.judge(outcomes);
                self.work.push_front(UnderWay::new(Purpose::Closing(marked), closings));
                return Ok(Progress::More);
            }
            Purpose::Closing(marked) => Done::Seen(Seen::Scan(marked)),
        };
        self.core.done(done);
        Ok(Progress::Finished)
    }

    /// Returns true if there is work to [perform](Self::perform).
    pub fn has_work(&self) -> bool {
        !self.work.is_empty()
    }

    /// Returns true if no work is in flight, no event is waiting for the core, and the core's scheduler is idle.
    pub fn is_idle(&self) -> bool {
        self.work.is_empty() && self.events.is_empty() && self.core.scheduler().idle()
    }
}

impl UnderWay {
    fn new(purpose: Purpose, tasks: Vec<Task>) -> Self {
        UnderWay {
            purpose,
            tasks: tasks.into(),
            position: 0,
            answer: Ok(Reply::Done),
            outcomes: Vec::new(),
        }
    }

    fn end_task(&mut self) {
        if let Some(task) = self.tasks.pop_front() {
            let result = std::mem::replace(&mut self.answer, Ok(Reply::Done));
            self.outcomes.push(Outcome { id: task.id, result });
            self.position = 0;
        }
    }
}
