//! The steps of a script: what users and others do.
//!
//! Owns what each step does to machine, store and daemon. Must never use what the agent believes. Start reading at
//! [`World::interfere`].

use super::{Occurrence, World};
use crate::{
    kernel::{AddressSpec, LinkState, NamespaceRef, NetnsId, PROTOCOL, RouteSpec, Snapshot},
    simulation::{
        configuration::{Item, PID},
        expectation::SQUATTER,
        kernel::{Kernel, OWN},
        scenario::{INVENTORY, KEEPER, Step, Tampering},
    },
};

impl World {
    /// Something happens.
    pub(super) fn interfere(&mut self, step: Step) {
        match step {
            Step::Put(changes) => self.put(changes),
            Step::PutAgain(slot) => {
                if let Some(item) = self.configuration.get(&slot).cloned() {
                    self.put(vec![(slot, Some(item))]);
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
        let kernel = &mut self.machine.get().kernel;
        match step {
            Step::Tamper(tampering, number) => tamper(kernel, tampering, number),
            Step::AddName(name) => drop(kernel.add_named(name)),
            Step::RemoveName(name) => kernel.remove_named(name),
            Step::EndProcess => kernel.end_process(PID),
            Step::StartProcess => start_process(kernel, self.configuration.contains_key(&KEEPER)),
            Step::Squat(slot) => squatted = squat(kernel, slot),
            Step::Foreign => add_foreign(kernel),
            _ => {}
        }
        self.squatted |= squatted;
    }

    fn put(&mut self, changes: Vec<(usize, Option<Item>)>) {
        let mut texts = Vec::new();
        let mut put = Vec::new();
        for (slot, item) in changes {
            match item {
                Some(item) => {
                    texts.push((item.key(), Some(item.json())));
                    put.push((slot, item.clone()));
                    self.configuration.insert(slot, item);
                }
                None => {
                    if let Some(item) = self.configuration.remove(&slot) {
                        texts.push((item.key(), None));
                    }
                }
            }
        }
        if !texts.is_empty() {
            let revision = self.store.transaction(texts);
            self.versions.insert(revision, put);
        }
    }

    fn replace_store(&mut self, lower: bool) {
        let revision = if lower {
            self.store.revision / 2 + 1
        } else {
            self.store.revision + 7
        };
        self.store.replace(revision);
        let all = self.configuration.iter().map(|(slot, item)| (*slot, item.clone()));
        self.versions.insert(revision, all.collect());
        self.cut_reader("the store was replaced");
        self.cut_writer();
    }
}

/// A process starts. While the number has been referred to all the time it is a stranger to whoever was bound to another one.
fn start_process(kernel: &mut Kernel, referred_to: bool) {
    let process = kernel.start_process(PID);
    if referred_to && kernel.bindings.contains_key(&NamespaceRef::Process(PID)) {
        kernel.strangers.insert(process.netns);
    }
}

fn choose<T>(number: usize, mut all: Vec<T>) -> Option<T> {
    (!all.is_empty()).then(|| all.swap_remove(number % all.len()))
}

fn on_any<T>(kernel: &mut Kernel, number: usize, all: impl Fn(&Snapshot) -> Vec<T>, act: impl Fn(&mut Kernel, NetnsId, T)) {
    let of_space = |(netns, space): (&NetnsId, &Snapshot)| all(space).into_iter().map(|found| (*netns, found)).collect::<Vec<_>>();
    let found = kernel.spaces.iter().flat_map(of_space).collect();
    if let Some((netns, state)) = choose(number, found) {
        act(kernel, netns, state);
    }
}

fn own_links(space: &Snapshot) -> Vec<LinkState> {
    let links = space.links.iter();
    links
        .filter(|link| link.alias.starts_with("/vnf-agent/vpp1/") && link.name != "lo")
        .cloned()
        .collect()
}

fn name_of(kernel: &Kernel, netns: NetnsId, index: u32) -> String {
    let links = kernel.spaces.get(&netns).map(|space| space.links.iter());
    let found = links.and_then(|mut links| links.find(|link| link.index == index));
    found.map_or(String::new(), |link| link.name.clone())
}

fn tamper(kernel: &mut Kernel, tampering: Tampering, number: usize) {
    match tampering {
        Tampering::DeleteAddress => {
            let of_agent = |space: &Snapshot| space.addresses.iter().filter(|state| state.protocol == PROTOCOL).cloned().collect();
            on_any(kernel, number, of_agent, |kernel, netns, state| {
                let link = name_of(kernel, netns, state.link);
                kernel.delete_address(netns, &link, state.address);
            });
        }
        Tampering::DeleteRoute => {
            let of_agent = |space: &Snapshot| space.routes.iter().filter(|state| state.protocol == PROTOCOL).cloned().collect();
            on_any(kernel, number, of_agent, |kernel, netns, state| {
                let link = name_of(kernel, netns, state.link);
                kernel.delete_route(netns, &link, &state.route);
            });
        }
        Tampering::DeleteNeighbour => {
            let of_agent = |space: &Snapshot| {
                let entries = space.neighbours.iter();
                entries.filter(|state| state.protocol == PROTOCOL).cloned().collect()
            };
            on_any(kernel, number, of_agent, |kernel, netns, state| {
                let link = name_of(kernel, netns, state.link);
                kernel.delete_neighbour(netns, &link, state.address);
            });
        }
        _ => on_any(kernel, number, own_links, |kernel, netns, link| {
            tamper_with_link(kernel, tampering, netns, &link);
        }),
    }
}

fn tamper_with_link(kernel: &mut Kernel, tampering: Tampering, netns: NetnsId, link: &LinkState) {
    let index = link.index;
    match tampering {
        Tampering::DeleteLink => kernel.remove_link(netns, index),
        Tampering::Down => kernel.set_up(netns, index, false),
        Tampering::Mtu => kernel.link_mut(netns, index).mtu = 1300,
        Tampering::Mac => kernel.set_mac(netns, index, [6; 6]),
        Tampering::Release => kernel.set_master(netns, index, None),
        _ => {
            let name = format!("z{}", link.name);
            if kernel.link(netns, &name).is_none() {
                kernel.link_mut(netns, index).name = name;
            }
        }
    }
}

/// Takes a host name wherever it is free.
fn squat(kernel: &mut Kernel, slot: usize) -> bool {
    let Some(name) = INVENTORY.names.get(slot) else { return false };
    let mut taken = false;
    for netns in kernel.names.values().copied().chain([OWN]).collect::<Vec<_>>() {
        let hosts = ["x", "y"].map(|variant| format!("{variant}{name}"));
        // Where the interface is it stays, and can be renamed.
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

/// Look-alikes that are not the agent's: a link of another agent, and what is on it.
fn add_foreign(kernel: &mut Kernel) {
    for netns in kernel.names.values().copied().chain([OWN]).collect::<Vec<_>>() {
        let link = "foreign0";
        if kernel.link(netns, link).is_some() {
            continue;
        }
        let index = kernel.add_foreign_link(netns, link, "dummy");
        kernel.link_mut(netns, index).alias = "/vnf-agent/vpp10/d0".to_owned();
        let address = AddressSpec {
            address: [10, 99, 0, 1].into(),
            prefix_len: 24,
        };
        let route = RouteSpec {
            destination: [10, 77, 0, 0].into(),
            prefix_len: 24,
            gateway: None,
            table: 254,
            scope: 253,
            metric: 9,
        };
        // The other agent marks what is its own with the same number.
        let done = [
            kernel.add_address(netns, link, address, PROTOCOL),
            kernel.set_neighbour(netns, link, [10, 99, 0, 3].into(), [2; 6], PROTOCOL),
            kernel.add_route(netns, link, &route, false, PROTOCOL),
        ];
        debug_assert!(done.iter().all(Result::is_ok));
    }
}
