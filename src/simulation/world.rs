//! A simulated world: one agent on one machine, with a store, Docker and a clock, driven by a queue of timed events.
//!
//! The scenario's delays determine the order of events. `judgement` contains the rules for the agent's behaviour.

mod docker;
mod interference;
mod judgement;
mod losses;
mod store_links;

use std::{
    cmp::{Ordering, Reverse},
    collections::{BTreeMap, BTreeSet, BinaryHeap},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use self::losses::Losses;
use super::{
    agent::{Agent, AgentEvent, Progress},
    choices::{Choices, Listed, Site},
    configuration::{Configuration, FOREIGN_NAME, Item, NICS, PID, TENANT_TABLES},
    connections::{ReaderStep, WriterStep},
    daemon::{Daemon, DockerStep},
    following::Disk,
    kernel::{Asked, Kernel},
    machine::SharedMachine,
    mutation::Mutation,
    scenario::Scenario,
    store::Store,
};
use crate::{
    agent::effects::Signal,
    engine::{Clock, Event},
};
use netns_kernel::NetnsId;

/// Simulated time at which every run begins, counted from the Unix epoch.
const BEGINNING: Duration = Duration::from_secs(1_000_000);

/// Maximum delay before a failed operation is retried.
const LONGEST_RETRY: Duration = Duration::from_secs(61);

/// Minimum duration of duplicate address detection.
const DETECTION: Duration = Duration::from_secs(1);

/// Planned event. The first `u64` of a variant is the number of the agent's run to which the event belongs, and the second `u64`
/// is the number of the connection.
enum Occurrence {
    /// The scenario step with this index is executed.
    Step(usize),
    /// The agent starts.
    Start,
    /// The core processes its events.
    Wake(u64),
    /// An operation is performed.
    Perform(u64),
    /// The monitor reports a change in a namespace.
    Told(u64, NetnsId),
    /// The core receives an event.
    Event(u64, Box<AgentEvent>),
    /// The watcher checks namespace references.
    ReadRequest(u64),
    /// The links of ended namespaces are deleted.
    Reap,
    /// Duplicate address detection ends.
    Detected(Asked),
    /// Leases that were not renewed in time expire.
    Expire,
    /// The store is reachable again.
    StoreBack,
    /// A second publisher shuts down, and its lease is revoked.
    Leave(i64),
    /// Event on the reader's connection.
    Reader(u64, u64, ReaderStep),
    /// The next desired values are delivered to the core.
    Deliver(u64),
    /// The agent writes the note that identifies the store after a restart.
    Note(u64),
    /// Event on the writer's connection.
    Writer(u64, u64, WriterStep),
    /// Event between the tracker and the Docker daemon.
    Docker(u64, u64, DockerStep),
}

struct Due {
    at: Duration,
    number: u64,
    occurrence: Occurrence,
}

impl PartialEq for Due {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Due {}

impl PartialOrd for Due {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Due {
    fn cmp(&self, other: &Self) -> Ordering {
        (self.at, self.number).cmp(&(other.at, other.number))
    }
}

/// A simulated world with at most one agent.
pub struct World {
    scenario: Scenario,
    mutation: Option<Mutation>,
    choices: Choices,
    now: Duration,
    clock: Arc<AtomicU64>,
    queue: BinaryHeap<Reverse<Due>>,
    number: u64,
    machine: SharedMachine,
    store: Store,
    daemon: Daemon,
    /// Values that are in the store, and values that the store has lost although no user deleted them.
    configuration: Configuration,
    /// Values that the store has lost.
    losses: Losses,
    /// State that survives a restart of the agent.
    disk: Disk,
    /// Values that were put at each revision. A replaced store can use the same revisions again, so a revision can have values
    /// from several stores.
    versions: BTreeMap<i64, Vec<Item>>,
    agent: Option<Agent>,
    /// Number of the agent's current run, or of its next run while the agent is not running.
    life: u64,
    /// True if the watch loses the event for the next transaction.
    losing_watch: bool,
    reaping: bool,
    /// Time at which the scenario and all faults ended, or `None` before that.
    calm_since: Option<Duration>,
    /// Time of the agent's last start.
    started: Duration,
    /// Time of the last event that disturbed the agent, such as tampering or a kill.
    disturbed: Duration,
    /// True if a foreign link has permanently taken the kernel name of an interface.
    squatted: bool,
    /// First violated rule.
    failure: Option<String>,
    /// Trace of all events, if requested.
    trace: Option<Vec<String>>,
    /// Number of events so far.
    pub events: u64,
}

impl World {
    /// Creates the world of a scenario, optionally with a deliberate bug in the agent. If `traced` is true, all events, delays
    /// and decisions are recorded.
    pub fn new(scenario: Scenario, mutation: Option<Mutation>, traced: bool) -> Self {
        let mut kernel = Kernel::new();
        kernel.watched_max = scenario.watched_max;
        kernel.forgetful = mutation == Some(Mutation::ForgetBindings);
        if scenario.foreign_name {
            kernel.add_named(FOREIGN_NAME);
        }
        if scenario.nics {
            NICS.iter().for_each(|name| kernel.add_nic(name));
            kernel.make_vrf(TENANT_TABLES[0]);
        }
        if scenario.process {
            kernel.start_process(PID);
        }
        let mut store = Store::new();
        let initial = scenario.initial.clone();
        let disk = Disk::of_known_store(store.cluster_id);
        let changes = initial.iter().map(|item| (item.key(), Some(item.json())));
        let revision = store.transaction(changes.collect());
        let mut world = World {
            mutation,
            choices: Choices::new(&scenario.draws, traced),
            now: BEGINNING,
            clock: Arc::default(),
            queue: BinaryHeap::new(),
            number: 0,
            machine: SharedMachine::new(kernel),
            store,
            daemon: Daemon::new(scenario.docker),
            configuration: initial.iter().map(|item| (item.key(), item.clone())).collect(),
            losses: Losses::default(),
            disk,
            versions: BTreeMap::from([(revision, initial)]),
            agent: None,
            life: 0,
            losing_watch: false,
            reaping: false,
            calm_since: None,
            started: Duration::ZERO,
            disturbed: BEGINNING,
            squatted: false,
            failure: None,
            trace: traced.then(Vec::new),
            events: 0,
            scenario,
        };
        world.set_clock();
        world.plan(Duration::ZERO, Occurrence::Start);
        let mut at = Duration::ZERO;
        for index in 0..world.scenario.steps.len() {
            at += world.scenario.steps[index].0;
            world.plan(at, Occurrence::Step(index));
        }
        world
    }

    /// Runs the scenario, waits without faults until the world has converged, and restarts the agent.
    ///
    /// # Errors
    /// Fails with a description of the first violated rule.
    pub fn run(&mut self) -> Result<(), String> {
        let script: Duration = self.scenario.steps.iter().map(|(pause, _)| *pause).sum();
        self.run_until(BEGINNING + script + Duration::from_millis(1))?;
        self.calm_down();
        self.end_losses()?;
        self.come_to_rest()?;
        if self.expect_idle().is_err() {
            // A failed deletion may still be waiting for its retry, although its object has disappeared in the meantime.
            self.run_until(self.now + LONGEST_RETRY)?;
            self.come_to_rest()?;
        }
        self.expect_idle()?;
        let contested = self.contested();
        self.restart(&contested)?;
        match contested.is_empty() {
            true => Ok(()),
            // A second restart makes the same decisions as the first, so it must not change any link.
            false => self.restart(&BTreeSet::new()),
        }
    }

    /// Restarts the agent, and checks that it then changes nothing. `but_for` names links in the agent's own namespace that are
    /// allowed to change.
    fn restart(&mut self, but_for: &BTreeSet<String>) -> Result<(), String> {
        self.tell(|| "restart".to_owned());
        self.machine.get().kernel.log.clear();
        self.kill();
        self.plan(Duration::from_millis(20), Occurrence::Start);
        self.run_until(self.now + Duration::from_secs(4))?;
        self.expect_no_operation(but_for)?;
        self.come_to_rest()
    }

    /// Returns the recorded delays and decisions that differ from their defaults.
    pub fn draws(&self) -> Listed {
        self.choices.record.clone().unwrap_or_default()
    }

    /// Returns the trace, or an empty slice if it was not requested.
    pub fn trace(&self) -> &[String] {
        self.trace.as_deref().unwrap_or_default()
    }

    fn tell(&mut self, text: impl FnOnce() -> String) {
        let now = self.now - BEGINNING;
        if let Some(trace) = &mut self.trace {
            trace.push(format!("{:>10.3} ms  {}", now.as_secs_f64() * 1000.0, text()));
        }
    }

    fn fail(&mut self, text: String) {
        self.tell(|| format!("FAILURE: {text}"));
        self.failure.get_or_insert(text);
    }

    fn plan(&mut self, after: Duration, occurrence: Occurrence) {
        self.number += 1;
        let (at, number) = (self.now + after, self.number);
        self.queue.push(Reverse(Due { at, number, occurrence }));
    }

    fn moment(&mut self, site: Site) -> Duration {
        self.choices.moment(site, self.calm_since.is_some())
    }

    fn set_clock(&self) {
        let nanos = u64::try_from(self.now.as_nanos()).unwrap_or(u64::MAX);
        self.clock.store(nanos, Relaxed);
    }

    fn agent_clock(&self) -> Clock {
        let clock = self.clock.clone();
        Clock::with_clock(move || Duration::from_nanos(clock.load(Relaxed)))
    }

    /// Processes all events until `end`.
    fn run_until(&mut self, end: Duration) -> Result<(), String> {
        while self.failure.is_none() && self.queue.peek().is_some_and(|Reverse(due)| due.at <= end) {
            let Some(Reverse(due)) = self.queue.pop() else { break };
            self.now = due.at;
            self.events += 1;
            self.set_clock();
            self.machine.get().pass_time(self.now, &mut self.choices);
            self.happen(due.occurrence);
            self.follow_up();
        }
        self.now = end;
        self.set_clock();
        match self.failure.take() {
            Some(failure) => Err(failure),
            None => Ok(()),
        }
    }

    fn happen(&mut self, occurrence: Occurrence) {
        let life = self.life;
        match occurrence {
            Occurrence::Step(index) if self.calm_since.is_none() => {
                let step = self.scenario.steps[index].1.clone();
                self.tell(|| format!("{step:?}"));
                self.interfere(step);
            }
            Occurrence::Start if self.agent.is_none() => self.start(),
            Occurrence::Wake(of) if of == life => self.wake(),
            Occurrence::Perform(of) if of == life => self.perform(),
            Occurrence::Told(of, netns) if of == life => self.event(Event::Signal(Signal::Namespace(netns))),
            Occurrence::Event(of, event) if of == life => self.event(*event),
            Occurrence::ReadRequest(of) if of == life => self.look(),
            Occurrence::Reap => {
                self.reaping = false;
                self.disturbed = self.now;
                self.machine.get().kernel.reap();
            }
            Occurrence::Detected(of) => self.end_detection(of),
            Occurrence::Expire => self.store.expire(self.now),
            Occurrence::StoreBack => self.store.reachable = true,
            Occurrence::Leave(lease) => self.store.revoke(lease),
            Occurrence::Reader(of, connection, step) if of == life => self.read(connection, step),
            Occurrence::Deliver(of) if of == life => self.deliver(),
            Occurrence::Note(of) if of == life => self.write_note(),
            Occurrence::Writer(of, connection, step) => self.write(of, connection, step),
            Occurrence::Docker(of, connection, step) if of == life => self.docker(connection, step),
            _ => {}
        }
    }

    /// Ends a duplicate address detection. Until all faults have ended, 5 % of addresses are duplicates.
    fn end_detection(&mut self, of: Asked) {
        let duplicate = self.choices.choose(Site::Duplicate, 5) && self.calm_since.is_none();
        if duplicate {
            self.tell(|| format!("{of:?} is a duplicate"));
            self.disturbed = self.now;
        }
        self.machine.get().kernel.end_detection(of, duplicate);
    }

    /// Plans the consequences of an event: notifications, wake-ups and checks.
    fn follow_up(&mut self) {
        let (reported, dying, asking) = {
            let kernel = &mut self.machine.get().kernel;
            if std::mem::take(&mut kernel.side_effects) {
                self.disturbed = self.now;
            }
            if let Some(violation) = kernel.violations.pop() {
                self.failure.get_or_insert(violation);
            }
            let asking = std::mem::take(&mut kernel.asking);
            (std::mem::take(&mut kernel.reported), kernel.has_dying(), asking)
        };
        let deaf = self.mutation == Some(Mutation::DeafToNamespaces);
        for netns in reported.into_iter().filter(|_| !deaf) {
            let after = self.moment(Site::Told);
            self.plan(after, Occurrence::Told(self.life, netns));
        }
        for of in asking {
            let after = DETECTION + self.choices.delay(Site::Detected, 1_000_000);
            self.plan(after, Occurrence::Detected(of));
        }
        if dying && !std::mem::replace(&mut self.reaping, true) {
            let after = self.moment(Site::Reap) * 2;
            self.plan(after, Occurrence::Reap);
        }
        self.judge_hold();
        self.wake_reader();
        self.wake_writer();
        let Some(agent) = &self.agent else { return };
        let changed = std::mem::take(&mut agent.outbox.get().changed);
        if changed {
            let (connection, after) = (agent.writer.connection, self.choices.moment(Site::Write, self.calm_since.is_some()));
            self.plan(after, Occurrence::Writer(self.life, connection, WriterStep::Write));
        }
        let claims = match &self.agent {
            Some(agent) => std::mem::take(&mut agent.outbox.get().claims),
            None => Vec::new(),
        };
        self.judge_claims(&claims);
        self.plan_check();
    }

    fn plan_check(&mut self) {
        let next = self.machine.get().next_check();
        if let Some(at) = next {
            let known = self.agent.as_ref().and_then(|agent| agent.look_at);
            if known.is_none_or(|known| known > at || known < self.now)
                && let Some(agent) = &mut self.agent
            {
                agent.look_at = Some(at);
                let after = at.saturating_sub(self.now);
                self.plan(after, Occurrence::ReadRequest(self.life));
            }
        }
    }

    fn start(&mut self) {
        self.tell(|| "the agent starts".to_owned());
        self.started = self.now;
        let (clock, manner) = (self.agent_clock(), self.scenario.manner());
        let agent = Agent::start(&self.machine, clock, manner, &mut self.disk, self.mutation);
        self.agent = Some(agent);
        self.wake_soon();
        let after = self.moment(Site::StartReader);
        self.plan(after, Occurrence::Reader(self.life, 0, ReaderStep::Connect));
        let after = self.moment(Site::StartWriter);
        self.plan(after, Occurrence::Writer(self.life, 0, WriterStep::Connect));
        if self.scenario.docker {
            let after = self.moment(Site::StartDocker);
            self.plan(after, Occurrence::Docker(self.life, 0, DockerStep::Connect));
        }
    }

    /// Kills the agent.
    fn kill(&mut self) {
        self.tell(|| "the agent is killed".to_owned());
        self.note_kill();
        self.agent = None;
        self.life += 1;
        self.disturbed = self.now;
        self.machine.get().agent_gone();
    }

    fn kill_and_restart(&mut self) {
        if self.agent.is_some() {
            self.kill();
            let after = self.choices.millis(Site::Restart, 3000);
            self.plan(after, Occurrence::Start);
        }
    }

    fn event(&mut self, event: AgentEvent) {
        if let Some(agent) = &mut self.agent {
            agent.events.push_back(event);
            self.wake_soon();
        }
    }

    fn wake_soon(&mut self) {
        let after = self.choices.delay(Site::Wake, 100);
        self.plan(after, Occurrence::Wake(self.life));
    }

    fn wake(&mut self) {
        self.take_wake();
        self.judge_held();
    }

    fn take_wake(&mut self) {
        let Some(agent) = &mut self.agent else { return };
        if agent.wake_at.is_some_and(|at| at <= self.now) {
            agent.wake_at = None;
        }
        if agent.wake(self.now) {
            let after = self.moment(Site::Perform);
            self.plan(after, Occurrence::Perform(self.life));
            return;
        }
        let lazy = self.mutation == Some(Mutation::NeverRetry) && agent.core.scheduler().next_deadline().is_some();
        if let Some(deadline) = agent.core.deadline().filter(|_| !lazy)
            && agent.wake_at.is_none_or(|at| at > deadline)
        {
            agent.wake_at = Some(deadline);
            let after = deadline.saturating_sub(self.now).max(Duration::from_micros(1));
            self.plan(after, Occurrence::Wake(self.life));
        }
    }

    fn perform(&mut self) {
        let mut failed = Vec::new();
        let before = self.machine.get().kernel.log.len();
        loop {
            let Some(agent) = &mut self.agent else { return };
            match agent.perform(&self.machine, &mut failed) {
                Err(_) => {
                    self.kill_and_restart();
                    break;
                }
                Ok(Progress::Finished | Progress::Told) => {
                    let more = agent.has_work();
                    self.wake_soon();
                    if more {
                        let after = self.moment(Site::PerformNext);
                        self.plan(after, Occurrence::Perform(self.life));
                    }
                    break;
                }
                // In most cases, the agent performs several operations without other events in between.
                Ok(Progress::More) if !self.choices.pause() => {}
                Ok(Progress::More) => {
                    let after = self.moment(Site::PerformLater);
                    self.plan(after, Occurrence::Perform(self.life));
                    break;
                }
            }
        }
        if self.trace.is_some() {
            let done = self.machine.get().kernel.log[before..].to_vec();
            done.into_iter().for_each(|op| self.tell(|| format!("  {op:?}")));
        }
        self.judge_failures(failed);
    }

    fn look(&mut self) {
        if let Some(agent) = &mut self.agent {
            agent.look_at = None;
        }
        let reported = self.machine.get().look();
        let deaf = self.mutation == Some(Mutation::DeafToReferences);
        for key in reported.into_iter().filter(|_| !deaf) {
            let after = self.moment(Site::Probe);
            self.plan(after, Occurrence::Event(self.life, Box::new(Event::Probe(key.into()))));
        }
    }
}
