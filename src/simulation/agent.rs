//! One life of the agent in a simulated world: its core, and what is under way for it.
//!
//! Owns the parts that die with a kill. Must never decide anything of its own: what the product's shell does with threads and
//! tasks is done here one step at a time. Start reading at [`Agent::start`].

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
        effects::{Look, NetworkEffects, Seen, Signal},
        host::StatusStore,
        report::{Health, Reporter},
        startup_scan::{Scan, Scanned},
    },
    descriptors::{Network, alias::Marks},
    engine::{Clock, Core, Done, Event, Work},
    publish::{Content, Published, state::State},
};
use netns_kernel::{Failure, Outcome, Reply, Task};

/// As in the product, unless it is told otherwise.
const SWEEP_INTERVAL: Duration = Duration::from_secs(10);

/// Label of the agent.
pub const AGENT: &str = "vpp1";

/// An event for the agent's core.
pub type AgentEvent = Event<Network, Signal>;

/// How an agent works.
#[derive(Clone, Copy)]
pub struct Manner {
    /// It asks Docker.
    pub docker: bool,
    /// The core is told of outcomes while others of the same batch are still to come.
    pub tells_early: bool,
    /// Operations are handed out one by one.
    pub one_by_one: bool,
}

/// What the agent wants to be published, and what was said.
#[derive(Default)]
pub struct OutboxContent {
    /// The product's own.
    pub state: State,
    /// Something was set or removed since the writer was told.
    pub changed: bool,
    /// What must be in the store in the end.
    pub shadow: BTreeMap<String, Arc<[u8]>>,
    /// Values of which CONFIGURED was said since this was last emptied, with the revision.
    pub claims: Vec<(String, i64)>,
}

impl OutboxContent {
    /// Whether CONFIGURED was said before, and a status is written again only to say since when the removal of its value is held.
    fn has_said(&self, key: &str, status: &ValueStatus) -> bool {
        let former = self.shadow.get(key).and_then(|former| ValueStatus::decode(&**former).ok());
        former.is_some_and(|former| {
            let of_same_version = (former.state(), former.mod_revision) == (status.state(), status.mod_revision);
            of_same_version && former.removal_held_since != status.removal_held_since
        })
    }
}

/// The way to the writer.
#[derive(Clone, Default)]
pub struct Outbox(Arc<Mutex<OutboxContent>>);

impl Outbox {
    /// The content.
    pub fn get(&self) -> MutexGuard<'_, OutboxContent> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// In the simulation a status is its binary form: that is quick.
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

/// What the outcomes of the tasks under way are for.
enum Purpose {
    Operations,
    Refresh,
    Scan(Scan),
    /// The scanned namespaces that are kept, while the others are closed.
    Closing(Vec<Scanned>),
}

/// Tasks under way.
struct UnderWay {
    purpose: Purpose,
    tasks: VecDeque<Task>,
    /// Operations of the first task that are done.
    position: usize,
    answer: Result<Reply, Failure>,
    outcomes: Vec<Outcome>,
}

/// What became of a step of the work under way.
pub enum Progress {
    /// There is more to do.
    More,
    /// There is more to do, and the core has been told of what is done.
    Told,
    /// It has come back to the core.
    Finished,
}

/// See the [module documentation](self).
pub struct Agent {
    /// The product's own.
    pub core: Core<NetworkEffects>,
    /// Events that the core has not taken yet.
    pub events: VecDeque<AgentEvent>,
    /// The next wake-up that is planned.
    pub wake_at: Option<Duration>,
    /// The next look at references that is planned.
    pub look_at: Option<Duration>,
    /// Status on its way out.
    pub outbox: Outbox,
    /// Desired values on their way in.
    pub reader: ReaderLink,
    /// Desired values that have come in.
    pub following: Following,
    /// Status on its way out.
    pub writer: WriterLink,
    /// The Docker tracker.
    pub tracker: Tracker,
    /// What is under way first.
    work: VecDeque<UnderWay>,
    tells_early: bool,
    mutation: Option<Mutation>,
    /// The first desired values have been handed over.
    pub begun: bool,
    /// The values that were held when that was last looked at.
    pub held: Vec<Held>,
}

impl Agent {
    /// The agent starts.
    pub fn start(machine: &SharedMachine, clock: Clock, manner: Manner, disk: &mut Disk, mutation: Option<Mutation>) -> Self {
        let outbox = Outbox::default();
        let store: Arc<dyn StatusStore> = Arc::new(outbox.clone());
        let health = Health::new(store.clone(), clock.clone());
        let (in_sync, told_in_sync) = watch::channel(false);
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
        let (following, first) = Following::start(disk, orphans, told_in_sync, mutation);
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
            tells_early: manner.tells_early,
            mutation,
            begun: false,
            held: Vec::new(),
        }
    }

    /// The core takes its events, and starts what it wants to. The result is whether there is work to perform
    /// and was none before.
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
            Work::Look(Look::Refresh(namespaces)) => (Purpose::Refresh, Look::readings(namespaces)),
            Work::Look(Look::Scan(scan)) => {
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

    /// One operation of the work under way; what failed goes to `failed`.
    ///
    /// # Errors
    /// The agent is killed on the way.
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
            if self.tells_early && id % 3 == 0 && matches!(work.purpose, Purpose::Operations) && !work.tasks.is_empty() {
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

    /// Whether there is something to [perform](Self::perform).
    pub fn has_work(&self) -> bool {
        !self.work.is_empty()
    }

    /// Whether nothing is under way in the core.
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
