//! Effects of scenario steps on the machine, the store and the Docker daemon. They do not depend on the agent's state.

use super::{Occurrence, World};
use crate::simulation::{
    configuration::{PID, interface_key},
    expectation::SQUATTER,
    kernel::{Kernel, OWN},
    scenario::{Change, KEEPER, Step},
    tampering::add_look_alikes,
};
use netns_kernel::{NamespaceRef, NetnsId};

impl World {
    /// Executes a scenario step.
    pub(super) fn interfere(&mut self, step: Step) {
        self.losses.note_step(&step);
        match step {
            Step::Put(changes) => self.put(changes),
            Step::PutAgain(key) => {
                if let Some(item) = self.configuration.get(&key).cloned() {
                    self.put(vec![Change::Put(item)]);
                }
            }
            Step::CutStore(how_long) => {
                self.store.reachable = false;
                self.cut_reader("the connection was cut");
                self.cut_writer();
                self.plan(how_long, Occurrence::StoreBack);
            }
            Step::CutReader => self.cut_reader("the connection was cut"),
            Step::CutWriter => self.cut_writer(),
            Step::Compact => self.store.compact(),
            Step::EndLease => self.store.revoke_any(),
            Step::EmptyStore(loss) => self.empty_store(loss),
            Step::RestoreStore(changes) => self.restore_store(changes),
            Step::PutBack => self.put_back(),
            Step::AcceptRemovals => self.accept_removals(),
            Step::LoseStatus(every) => self.store.lose_status(every),
            Step::OverwriteStatus(every) => self.store.overwrite_status(every),
            Step::SecondPublisher(stays) => {
                let lease = self.store.take_status(self.now);
                self.plan(stays, Occurrence::Leave(lease));
            }
            Step::ReplaceStore(lower) => self.replace_store(lower),
            Step::LoseWatch => self.losing_watch = true,
            Step::Fail(after, errno) => self.machine.get().kernel.failing.push((after, errno)),
            Step::KillAtOperation(after) => self.machine.get().kernel.fuel = Some(after),
            Step::Kill => self.kill_and_restart(),
            Step::StartContainer(number) => self.set_container(number, true),
            Step::StopContainer(number) => self.set_container(number, false),
            Step::StopDocker => self.set_docker(false),
            Step::StartDocker => self.set_docker(true),
            Step::LoseDockerEvents(count) => self.daemon.losing = count,
            below => self.interfere_below(below),
        }
    }

    fn interfere_below(&mut self, step: Step) {
        self.disturbed = self.now;
        let mut squatted = false;
        let keeps = self.configuration.contains_key(&interface_key(KEEPER)) && !self.losses.may_be_given_up();
        let kernel = &mut self.machine.get().kernel;
        match step {
            Step::Tamper(tampering, number) => tampering.apply(kernel, number),
            Step::AddName(name) if kernel.dangling.contains(name) => {}
            Step::AddName(name) => drop(kernel.add_named(name)),
            Step::Dangle(name) => kernel.dangle(name),
            Step::AddNic(name) => kernel.add_nic(name),
            Step::RemoveNic(name) => kernel.remove_nic(name),
            Step::SetCarrier(carrier) => kernel.set_tap_carrier(carrier),
            Step::MakeVrf(table) => kernel.make_vrf(table),
            Step::AddNicAddress(name) => kernel.set_nic_address(name, true),
            Step::RemoveNicAddress(name) => kernel.set_nic_address(name, false),
            Step::RemoveName(name) => kernel.remove_named(name),
            Step::EndProcess => kernel.end_process(PID),
            Step::StartProcess => start_process(kernel, keeps),
            Step::Squat(name) => squatted = squat(kernel, name),
            Step::Foreign => {
                for netns in named_and_own(kernel) {
                    add_look_alikes(kernel, netns);
                }
            }
            _ => {}
        }
        self.squatted |= squatted;
    }

    pub(super) fn put(&mut self, changes: Vec<Change>) {
        let mut texts = Vec::new();
        let mut put = Vec::new();
        for change in changes {
            match change {
                Change::Put(item) => {
                    texts.push((item.key(), Some(item.json())));
                    put.push(item.clone());
                    self.losses.put(&item.key());
                    self.configuration.insert(item.key(), item);
                }
                Change::Delete(key) => {
                    if self.losses.can_delete(&key) && self.configuration.remove(&key).is_some() {
                        texts.push((key, None));
                    }
                }
            }
        }
        if !texts.is_empty() {
            let revision = self.store.transaction(texts);
            if self
                .versions
                .get(&revision)
                .is_some_and(|before| put.iter().any(|item| before.contains(item)))
            {
                self.losses.note_look_alike();
            }
            self.versions.entry(revision).or_default().extend(put);
        }
    }

    fn replace_store(&mut self, lower: bool) {
        let revision = if lower {
            self.store.revision / 2 + 1
        } else {
            self.store.revision + 7
        };
        self.store.replace(revision);
        let all = self.configuration.values().cloned();
        self.versions.entry(revision).or_default().extend(all);
        self.cut_reader("the store was replaced");
        self.cut_writer();
    }
}

/// Starts a process. `referred_to` is true if a value has referred to the PID since the previous process ended. In that case, a
/// reference stays bound to the previous process, and the new process is foreign to the agent.
fn start_process(kernel: &mut Kernel, referred_to: bool) {
    let process = kernel.start_process(PID);
    if referred_to && kernel.bindings.contains_key(&NamespaceRef::Process(PID)) {
        kernel.foreign_processes.insert(process.netns);
    }
}

fn named_and_own(kernel: &Kernel) -> Vec<NetnsId> {
    kernel.names.values().copied().chain([OWN]).collect()
}

/// Adds foreign links with both kernel names of an interface to all namespaces in which neither name is in use. Returns true if
/// any link was added.
fn squat(kernel: &mut Kernel, name: &str) -> bool {
    let mut taken = false;
    for netns in named_and_own(kernel) {
        let hosts = ["x", "y"].map(|variant| format!("{variant}{name}"));
        // The interface's own link may be in this namespace, and must still be able to change its name.
        if hosts.iter().any(|host| kernel.link(netns, host).is_some()) {
            continue;
        }
        for host in hosts {
            let index = kernel.add_foreign_link(netns, &host, "dummy");
            kernel.link_mut(netns, index).alias = SQUATTER.to_owned();
            taken = true;
        }
    }
    taken
}
