//! Events between the Docker tracker and the daemon, and notifications from the tracker's pidfds about ended processes.

use std::time::Duration;

use super::{Occurrence, World};
use crate::{
    agent::effects::Signal,
    engine::Event,
    signals::docker::registry::{Action, Input, Inspection, ProcessIdentity},
    simulation::{
        choices::Site,
        daemon::{Daemon, DockerStep},
        mutation::Mutation,
    },
};

/// Maximum delay between connection attempts, the same as in the agent.
const PAUSE_MAX: Duration = Duration::from_secs(5);
/// Interval between audits, the same as in the agent.
const AUDIT_PERIOD: Duration = Duration::from_secs(60);

impl World {
    fn plan_docker(&mut self, after: Duration, step: DockerStep) {
        if let Some(agent) = &self.agent {
            let connection = agent.tracker.connection;
            self.plan(after, Occurrence::Docker(self.life, connection, step));
        }
    }

    /// Executes a step between the tracker and the daemon.
    pub(super) fn docker(&mut self, connection: u64, step: DockerStep) {
        let after = match step {
            DockerStep::Connect | DockerStep::Audit => self.moment(Site::DockerList),
            DockerStep::Inspect(_) => self.moment(Site::DockerAnswer),
            _ => Duration::ZERO,
        };
        let Some(agent) = &mut self.agent else { return };
        let tracker = &mut agent.tracker;
        // The kernel reports ended processes even without a connection.
        if connection != tracker.connection && !matches!(step, DockerStep::Ended(..)) {
            return;
        }
        match step {
            DockerStep::Connect if !self.daemon.up => self.docker_lost(),
            DockerStep::Connect => {
                (tracker.connected, tracker.pause) = (true, Duration::from_millis(100));
                self.step_registry(Input::Connected);
                self.list(after);
                self.plan_docker(AUDIT_PERIOD, DockerStep::Audit);
            }
            DockerStep::Listed(listed) => self.step_registry(Input::Listed(listed)),
            DockerStep::Audit => {
                self.list(after);
                self.plan_docker(AUDIT_PERIOD, DockerStep::Audit);
            }
            DockerStep::Hint(container_id) => self.step_registry(Input::Hint { container_id }),
            DockerStep::Inspect(container_id) => {
                let found = self.daemon.inspect(&self.machine.get().kernel, &container_id);
                self.plan_docker(after, DockerStep::Inspected(container_id, found));
            }
            DockerStep::Inspected(container_id, found) => self.inspected(container_id, found),
            DockerStep::Ended(container_id, process) => {
                if tracker.pinned.get(&container_id) == Some(&process) {
                    tracker.pinned.remove(&container_id);
                }
                if self.mutation != Some(Mutation::MissProcessEnd) {
                    self.step_registry(Input::ProcessEnded { container_id, process });
                }
            }
        }
    }

    /// Plans the response to a list request. The list also reflects changes for which the daemon sent no event.
    fn list(&mut self, after: Duration) {
        if std::mem::take(&mut self.daemon.untold) {
            self.disturbed = self.now;
        }
        self.plan_docker(after, DockerStep::Listed(self.daemon.list()));
    }

    fn inspected(&mut self, container_id: String, mut found: Inspection) {
        let Some(agent) = &mut self.agent else { return };
        if let Inspection::Running(microservice) = &found {
            let alive = self
                .machine
                .get()
                .kernel
                .processes
                .get(&microservice.pid)
                .map(|process| process.start_time);
            if alive == Some(microservice.process_start_time) {
                agent.tracker.pinned.insert(container_id.clone(), ProcessIdentity::of(microservice));
            } else {
                found = Inspection::Failed("the main process ended during the inspection".to_owned());
            }
        }
        self.step_registry(Input::Inspected { container_id, found });
    }

    fn step_registry(&mut self, input: Input) {
        let Some(agent) = &mut self.agent else { return };
        for action in agent.tracker.registry.step(input) {
            match action {
                Action::Announce(change) => self.event(Event::Signal(Signal::Microservice(change))),
                Action::Inspect { container_id, pause } => {
                    let after = pause + self.moment(Site::Inspect);
                    self.plan_docker(after, DockerStep::Inspect(container_id));
                }
                Action::GiveUp { .. } => {}
            }
        }
    }

    fn docker_lost(&mut self) {
        // The tracker may have missed recent changes, and cannot detect them while the daemon is down.
        self.daemon.untold |= !self.is_undisturbed();
        let Some(agent) = &mut self.agent else { return };
        let tracker = &mut agent.tracker;
        tracker.connection += 1;
        tracker.connected = false;
        let after = tracker.pause;
        tracker.pause = (after * 2).min(PAUSE_MAX);
        self.step_registry(Input::Disconnected {
            message: "the daemon is gone".to_owned(),
        });
        self.plan_docker(after, DockerStep::Connect);
    }

    /// Stops or starts the daemon.
    pub(super) fn set_docker(&mut self, up: bool) {
        if std::mem::replace(&mut self.daemon.up, up) && !up {
            self.docker_lost();
        }
    }

    /// Starts or stops a container.
    pub(super) fn set_container(&mut self, number: usize, runs: bool) {
        self.disturbed = self.now;
        {
            let kernel = &mut self.machine.get().kernel;
            // Only a running daemon can start containers, but containers can also stop while the daemon is down.
            match runs && self.daemon.up {
                true => self.daemon.start(kernel, number),
                false if runs => return,
                false => self.daemon.stop(kernel, number),
            }
        }
        self.processes_changed();
        let lost = self.daemon.losing > 0;
        self.daemon.losing = self.daemon.losing.saturating_sub(1);
        let connected = self.agent.as_ref().is_some_and(|agent| agent.tracker.connected);
        if connected && self.daemon.up && !lost {
            let after = self.moment(Site::Hint);
            self.plan_docker(after, DockerStep::Hint(Daemon::id(number)));
        } else if self.daemon.up {
            // The tracker can detect this change only with its next list of containers.
            self.daemon.untold = true;
        }
    }

    /// Plans a notification for each ended process that the tracker observes through an open pidfd.
    fn processes_changed(&mut self) {
        let Some(agent) = &self.agent else { return };
        let ended = |process: &ProcessIdentity| {
            let now = self.machine.get().kernel.processes.get(&process.pid).map(|now| now.start_time);
            now != Some(process.start_time)
        };
        let ended: Vec<_> = agent.tracker.pinned.iter().filter(|(_, process)| ended(process)).collect();
        let ended: Vec<_> = ended.into_iter().map(|(id, process)| (id.clone(), *process)).collect();
        for (container_id, process) in ended {
            let after = self.moment(Site::Ended);
            self.plan_docker(after, DockerStep::Ended(container_id, process));
        }
    }
}
