//! One agent on a simulated machine, without a store. Desired values arrive immediately, operations take no time, and the clock
//! advances only while the agent waits.

use std::time::Duration;

use models::{
    key::Key,
    proto::ligato::kvscheduler::{ValueState, ValueStatus},
};
use prost::Message;

use crate::{
    agent::effects::Signal,
    engine::{Clock, Effects, Event},
    simulation::{
        agent::{Agent, Manner, Progress},
        configuration::{Configuration, Item},
        expectation,
        following::{Disk, desired_event},
        kernel::{Kernel, Killed},
        machine::{SharedMachine, places},
    },
    sources::etcd::{RawChange, RawItem, RawKey, SnapshotReason, SourceEvent},
};
use netns_kernel::{Failure, LinkState, NetnsId};
use testbed::expected::Surroundings;

/// Maximum number of rounds that the agent may need to become idle.
const STEPS_MAX: usize = 400;
const MANNER: Manner = Manner {
    docker: false,
    reports_early: false,
    one_by_one: false,
};

/// Maximum number of retries to wait for.
const RETRIES_MAX: usize = 8;

/// One agent on a simulated machine.
pub struct World {
    pub machine: SharedMachine,
    /// All failed operations, each with a description. Shown if a test fails.
    pub failures: Vec<(String, Failure)>,
    agent: Agent,
    now: Duration,
}

fn raw(key: &str) -> RawKey {
    RawKey::from(key.as_bytes())
}

impl World {
    /// Starts an agent on a machine and runs its startup scan.
    pub fn start(mut kernel: Kernel, desired: &Configuration) -> Self {
        kernel.log.clear();
        let machine = SharedMachine::new(kernel);
        let now = Duration::from_secs(1_000);
        let mut world = World {
            agent: Agent::start(&machine, Clock::with_clock(move || now), MANNER, &mut Disk::of_known_store(1), None),
            machine,
            failures: Vec::new(),
            now,
        };
        let raw = |item: &Item| RawItem {
            key: raw(&item.key()),
            value: item.json().into_bytes(),
            mod_revision: 1,
        };
        world.tell(SourceEvent::Snapshot {
            revision: 1,
            reason: SnapshotReason::Initial,
            items: desired.values().map(raw).collect(),
        });
        assert!(
            world.round().expect("the startup scan must change nothing"),
            "every start must begin with a startup scan"
        );
        world
    }

    /// Kills and restarts the agent.
    pub fn restart(self, desired: &Configuration) -> Self {
        let mut kernel = {
            let mut machine = self.machine.get();
            machine.agent_gone();
            machine.kernel.clone()
        };
        kernel.reap();
        World::start(kernel, desired)
    }

    fn tell(&mut self, event: SourceEvent) {
        self.agent.events.extend(desired_event(event));
    }

    fn change(&mut self, key: &str, value: Option<Vec<u8>>) {
        let (key, mod_revision) = (raw(key), 1);
        self.tell(SourceEvent::Changes {
            revision: mod_revision,
            items: vec![RawChange { key, mod_revision, value }],
        });
    }

    /// Puts a desired value.
    pub fn put(&mut self, item: &Item) {
        self.change(&item.key(), Some(item.json().into_bytes()));
    }

    /// Deletes a desired value.
    pub fn delete(&mut self, key: &str) {
        self.change(key, None);
    }

    /// Notifies the agent that a referenced namespace may have changed.
    pub fn probe(&mut self, key: &Key) {
        self.agent.events.push_back(Event::Probe(key.clone()));
    }

    /// Notifies the agent of all changes in namespaces, and lets it start work. Returns true if no work was in flight before the
    /// call and some is in flight after it.
    pub fn decide(&mut self) -> bool {
        let reported = std::mem::take(&mut self.machine.get().kernel.reported);
        self.suspect(reported);
        self.agent.wake(self.now)
    }

    /// Performs all work in flight.
    pub fn perform(&mut self) -> Result<(), Killed> {
        loop {
            let progress = self.agent.perform(&self.machine, &mut self.failures)?;
            self.machine.get().kernel.reap();
            if let Progress::Finished = progress {
                return Ok(());
            }
        }
    }

    /// Runs one round of the engine. Returns false if there was no work.
    pub fn round(&mut self) -> Result<bool, Killed> {
        let decided = self.decide();
        if decided {
            self.perform()?;
        }
        Ok(decided)
    }

    /// Runs until there is no work left and all changed namespaces have been read.
    pub fn settle(&mut self) -> Result<(), Killed> {
        for _ in 0..STEPS_MAX {
            if self.round()? {
                continue;
            }
            if self.end_detections() {
                continue;
            }
            let Some(reading) = self.agent.core.effects().refresh_deadline() else {
                return Ok(());
            };
            self.now = self.now.max(reading);
        }
        let log = &self.machine.get().kernel.log;
        panic!(
            "the agent did not become idle; last operations: {:#?}",
            &log[log.len().saturating_sub(12)..]
        );
    }

    /// Completes all duplicate address detection without finding duplicates. Returns false if none was in progress.
    fn end_detections(&mut self) -> bool {
        let kernel = &mut self.machine.get().kernel;
        let asking = std::mem::take(&mut kernel.asking);
        asking.iter().for_each(|of| kernel.end_detection(*of, false));
        !asking.is_empty()
    }

    /// Runs until the agent is idle, including a few retries. Panics if the agent is killed.
    pub fn rest(&mut self) {
        self.try_rest().expect("the agent must not be killed");
    }

    /// Runs like [`World::rest`], but does not panic if the agent is killed.
    ///
    /// # Errors
    /// Fails if the agent was killed.
    pub fn try_rest(&mut self) -> Result<(), Killed> {
        self.settle()?;
        for _ in 0..RETRIES_MAX {
            let Some(deadline) = self.agent.core.scheduler().next_deadline() else {
                break;
            };
            self.now = self.now.max(deadline);
            self.settle()?;
        }
        Ok(())
    }

    /// Returns the last published state of a desired value.
    pub fn state(&self, key: &str) -> Option<ValueState> {
        let outbox = self.agent.outbox.get();
        let published = outbox.shadow.get(&format!("config-status/{key}"))?;
        let status = ValueStatus::decode(&**published).expect("a status");
        Some(status.state())
    }

    /// Returns a link by namespace and name.
    pub fn link(&self, netns: NetnsId, name: &str) -> Option<LinkState> {
        self.machine.get().kernel.link(netns, name).cloned()
    }

    /// Returns the namespace with this name, which must exist.
    pub fn named(&self, name: &str) -> NetnsId {
        self.machine.get().kernel.names[name]
    }

    /// Compares the machine and the published states with the expected result of a configuration.
    pub fn judge(&self, configuration: &Configuration) -> Result<(), String> {
        let kernel = &self.machine.get().kernel;
        if let Some(violation) = kernel.violations.first() {
            return Err(violation.clone());
        }
        let state = |key: &String| Some((key.clone(), self.state(key)?.as_str_name()));
        let surroundings = Surroundings {
            reported: configuration.keys().filter_map(state).collect(),
            ..expectation::surroundings(kernel, &places(kernel, None))
        };
        let verdicts = expectation::judge(kernel, configuration, &surroundings)?;
        let reported = self
            .agent
            .outbox
            .get()
            .shadow
            .keys()
            .filter(|key| key.starts_with("config-status/"))
            .count();
        if reported != verdicts.len() {
            return Err(format!("{reported} values have a status, but {} should have one", verdicts.len()));
        }
        if !self.agent.is_idle() {
            return Err("the core is not idle".to_owned());
        }
        for (key, verdict) in verdicts {
            let state = self.state(&key);
            if !state.is_some_and(|state| verdict.admits(state.as_str_name())) {
                return Err(format!("the state of {key} should be {verdict:?}, but is {state:?}"));
            }
        }
        Ok(())
    }

    /// Makes the agent read every namespace again, as in a sweep.
    pub fn refresh(&mut self) {
        let all = self.machine.get().kernel.spaces.keys().copied().collect();
        self.suspect(all);
    }

    fn suspect(&mut self, namespaces: Vec<NetnsId>) {
        let signals = namespaces.into_iter().map(|netns| Event::Signal(Signal::Namespace(netns)));
        self.agent.events.extend(signals);
    }
}
