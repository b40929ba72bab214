//! Scenarios, generated from a seed: changes of desired values, interference, faults, and kills of the agent.
//!
//! A scenario does not depend on what the agent does. Any subset of its steps is also a valid scenario, so failing scenarios can
//! be reduced.

use std::{collections::BTreeMap, time::Duration};

use super::{
    agent::Manner,
    choices::Draws,
    configuration::{
        CONTAINER_PLACE, CREATED_NAME, CREATED_PLACE, FILE_PLACE, FOREIGN_NAME, FOREIGN_PLACE, Inventory, Item, Kind, NICS, OWN_PLACE,
        PROCESS_PLACE, TENANT, TENANT_INTERFACE, TENANT_TABLES, interface_key,
    },
    random::Random,
    store::Loss,
    tampering::Tampering,
};

/// Interface that is always in the namespace of a process, for scenarios in which the process ends and its PID is reused.
pub const KEEPER: &str = INVENTORY.names[KEEPER_SLOT];
const KEEPER_SLOT: usize = 5;
/// Index (in `INVENTORY.names`) of the interface whose value is sometimes invalid.
const INVALID: usize = 7;

/// Possible values. There are only a few interfaces, so they often depend on each other.
pub const INVENTORY: Inventory = Inventory {
    names: &[
        "w0a",
        "w0b",
        "w1a",
        "w1b",
        "d0",
        "d1",
        "v0",
        "d2",
        "l0",
        "b0",
        "n0",
        "n1",
        "e0",
        "e1",
        TENANT_INTERFACE,
    ],
    carriers: &[0, 4, 10, 12, 13],
    settled: &[(KEEPER_SLOT, PROCESS_PLACE), (8, CREATED_PLACE)],
    without_vrf: &[INVALID],
};
const INTERFACES: usize = INVENTORY.interfaces();
const SLOTS: usize = INVENTORY.slots();
/// Percentage of scenarios with EXISTING interfaces.
const WITH_NICS: usize = 30;
/// Index (in `INVENTORY.names`) of the first interface that refers to a foreign link.
const FIRST_EXISTING: usize = 12;
/// Number of neighbours and routes on interfaces that do not refer to foreign links.
const ON_OWN_LINKS: usize = 15;

/// Returns true if the value with the number `slot` is an interface that refers to a foreign link, or a neighbour or route on
/// such an interface.
fn is_on_nic(slot: usize) -> bool {
    (FIRST_EXISTING..INTERFACES).contains(&slot) || slot >= INTERFACES + ON_OWN_LINKS
}

/// Change of one key in a transaction of a user.
#[derive(Clone, PartialEq, Debug)]
pub enum Change {
    /// Puts a value.
    Put(Item),
    /// Deletes a key, if it exists.
    Delete(String),
}

/// Step of a scenario.
#[derive(Clone, PartialEq, Debug)]
pub enum Step {
    /// A user makes these changes in one transaction.
    Put(Vec<Change>),
    /// A user puts the value of a key again, unchanged.
    PutAgain(String),
    /// A user tampers with one of the agent's objects. The number selects the object.
    Tamper(Tampering, usize),
    /// A user adds a named namespace, unless the name is in use.
    AddName(&'static str),
    /// A user removes a named namespace.
    RemoveName(&'static str),
    /// A user creates a dangling symbolic link with this name, unless the name is in use.
    Dangle(&'static str),
    /// A foreign link appears in the agent's own namespace.
    AddNic(&'static str),
    /// A foreign link in the agent's own namespace is deleted.
    RemoveNic(&'static str),
    /// A program opens the TAP (true) or closes it (false).
    SetCarrier(bool),
    /// A user creates the foreign VRF device with this table, or re-creates it with another table.
    MakeVrf(u32),
    /// A user adds an address to a foreign link.
    AddNicAddress(&'static str),
    /// A user deletes the address that [`Step::AddNicAddress`] adds.
    RemoveNicAddress(&'static str),
    /// The process that has its own namespace ends.
    EndProcess,
    /// A process starts in a new namespace, with the PID of the process that ended.
    StartProcess,
    /// The container with this number (0 or 1) starts. Both containers have the same label.
    StartContainer(usize),
    /// The container with this number stops.
    StopContainer(usize),
    /// The Docker daemon stops.
    StopDocker,
    /// The Docker daemon starts.
    StartDocker,
    /// The Docker daemon sends no events for this number of upcoming changes.
    LoseDockerEvents(usize),
    /// The store is unreachable for this long.
    CutStore(Duration),
    /// The reader's connection is cut, and messages in flight are lost.
    CutReader,
    /// The writer's connection is cut. Requests in flight may still arrive.
    CutWriter,
    /// The store compacts its history.
    Compact,
    /// The lease of the status keys is revoked.
    EndLease,
    /// A user deletes every n-th status key.
    LoseStatus(usize),
    /// A user overwrites every n-th status key.
    OverwriteStatus(usize),
    /// Another agent with the same label writes all status keys again, unchanged. After this time, that agent shuts down, and the
    /// keys are deleted with its lease.
    SecondPublisher(Duration),
    /// The store is replaced with another one that has the same values at a lower (true) or higher (false) revision.
    ReplaceStore(bool),
    /// The store loses its contents.
    EmptyStore(Loss),
    /// The store is restored from a snapshot that was taken this many changes ago.
    RestoreStore(usize),
    /// A user puts the lost values again.
    PutBack,
    /// A user accepts the held removals.
    AcceptRemovals,
    /// The watch loses the event for the next transaction.
    LoseWatch,
    /// After this number of changing operations, the next one fails with this errno.
    Fail(usize, i32),
    /// The agent is killed after this number of changing operations.
    KillAtOperation(usize),
    /// The agent is killed.
    Kill,
    /// Foreign links appear with both possible kernel names of an interface.
    Squat(&'static str),
    /// Foreign links with addresses, neighbours and routes appear.
    Foreign,
}

impl Step {
    /// Returns true if the step leaves the kernel and all desired values unchanged.
    pub fn is_about_connections(&self) -> bool {
        matches!(
            self,
            Step::CutReader
                | Step::CutWriter
                | Step::CutStore(_)
                | Step::Compact
                | Step::EndLease
                | Step::ReplaceStore(_)
                | Step::LoseStatus(_)
                | Step::OverwriteStatus(_)
                | Step::SecondPublisher(_)
                | Step::LoseWatch
                | Step::Kill
        )
    }
}

/// Error numbers for failing operations: ENOMEM, EBUSY, ENETDOWN, ENOBUFS and EPERM (errno(3)).
const ERRORS: [i32; 5] = [12, 16, 100, 105, 1];

/// Initial state of a simulated world, and the steps that happen in it.
#[derive(Clone, PartialEq, Debug)]
pub struct Scenario {
    /// Delays and random choices.
    pub draws: Draws,
    /// True if the core receives the outcomes of some tasks before the rest of the batch is complete.
    pub reports_early: bool,
    /// True if the core starts operations one by one instead of in large batches.
    pub one_by_one: bool,
    /// Maximum number of namespaces that are watched for events. All others are read periodically.
    pub watched_max: usize,
    /// True if the agent uses Docker.
    pub docker: bool,
    /// True if the namespace `red` exists before the agent starts.
    pub foreign_name: bool,
    /// True if the process with its own namespace exists before the agent starts.
    pub process: bool,
    /// True if requests to the store sometimes hang.
    pub slow_store: bool,
    /// True if the foreign links exist before the agent starts.
    pub nics: bool,
    /// True if the removal of lost values is accepted at the end of the run. Otherwise, the lost values are put again.
    pub accepts: bool,
    /// Desired values that are in the store before the agent starts.
    pub initial: Vec<Item>,
    /// Steps of the scenario, each with the pause that precedes it.
    pub steps: Vec<(Duration, Step)>,
}

/// Kinds of events in a scenario. Scenarios with a few kinds of events find more bugs than scenarios with all kinds.
struct Repertoire {
    kernel: bool,
    failures: bool,
    store: bool,
    docker: bool,
    process: bool,
    kills: bool,
    squat: bool,
    nics: bool,
    places: Vec<usize>,
}

impl Scenario {
    /// Returns the configuration of the agent in this scenario.
    pub fn manner(&self) -> Manner {
        Manner {
            docker: self.docker,
            reports_early: self.reports_early,
            one_by_one: self.one_by_one,
        }
    }

    /// Creates a scenario without events, in which all delays and decisions have their defaults.
    pub fn empty() -> Self {
        Scenario {
            draws: Draws::Listed(BTreeMap::new()),
            reports_early: false,
            one_by_one: false,
            watched_max: 300,
            docker: false,
            foreign_name: false,
            process: false,
            slow_store: false,
            nics: false,
            accepts: false,
            initial: Vec::new(),
            steps: Vec::new(),
        }
    }

    /// Generates the scenario that belongs to a seed.
    pub fn of_seed(seed: u64) -> Self {
        let mut random = Random::new(seed);
        let docker = random.percent(40);
        let mut places = vec![OWN_PLACE, FOREIGN_PLACE, CREATED_PLACE];
        if random.percent(50) {
            places.push(PROCESS_PLACE);
        }
        if docker {
            places.extend([CONTAINER_PLACE; 2]);
        }
        if random.percent(30) {
            places.push(FILE_PLACE);
        }
        let repertoire = Repertoire {
            kernel: random.percent(45),
            failures: random.percent(40),
            store: random.percent(40),
            docker,
            process: places.contains(&PROCESS_PLACE) && random.percent(60),
            kills: random.percent(40),
            squat: random.percent(15),
            nics: random.percent(WITH_NICS),
            places,
        };
        let density = random.pick(&[15, 40, 70]);
        let slots: Vec<usize> = (0..SLOTS)
            .filter(|slot| repertoire.nics || !is_on_nic(*slot))
            .filter(|_| random.percent(density))
            .collect();
        let mut initial: Vec<Item> = slots
            .into_iter()
            .filter(|slot| *slot != KEEPER_SLOT)
            .map(|slot| repertoire.value(slot, &mut random))
            .collect();
        if repertoire.process {
            initial.push(repertoire.value(KEEPER_SLOT, &mut random));
        }
        let count = 2 + random.below(20);
        let fast = random.percent(60);
        let steps = (0..count).map(|_| (pause(fast, &mut random), repertoire.step(&mut random)));
        let mut steps: Vec<_> = steps.collect();
        if repertoire.kills {
            leave_lost_values(&mut steps);
        }
        Scenario {
            draws: Draws::OfSeed(seed),
            reports_early: seed % 2 == 1,
            watched_max: random.pick(&[300, 300, 300, 3, 1]),
            docker,
            foreign_name: random.percent(70),
            process: random.percent(80),
            slow_store: repertoire.store,
            nics: random.percent(70),
            accepts: random.percent(50),
            one_by_one: random.percent(25),
            initial,
            steps,
        }
    }
}

/// Removes the steps that would change values after the store has been emptied or restored.
///
/// A lost value that is put again after a restart can have another kernel name or address. The link of its earlier version is
/// then an orphan. While removals of orphans are held, the required treatment of this link is not specified yet.
fn leave_lost_values(steps: &mut Vec<(Duration, Step)>) {
    let mut emptied = false;
    steps.retain(|(_, step)| {
        let stays = !emptied || step.is_about_connections() || *step == Step::PutBack;
        emptied |= matches!(step, Step::EmptyStore(_) | Step::RestoreStore(_));
        stays
    });
}

fn pause(fast: bool, random: &mut Random) -> Duration {
    let millis = match random.below(if fast { 8 } else { 12 }) {
        0..=2 => random.below(4),
        3..=5 => random.below(40),
        6 => random.below(400),
        7 | 8 => random.below(2_500),
        _ => random.below(15_000),
    };
    Duration::from_millis(millis as u64)
}

impl Repertoire {
    fn value(&self, slot: usize, random: &mut Random) -> Item {
        // Invalid values are not combined with tampering. If the link of an invalid value is deleted, the required state of its
        // dependents is not specified yet.
        if slot == INVALID && !self.kernel && random.percent(30) {
            return Item::Unusable(interface_key(INVENTORY.names[slot]));
        }
        let mut item = INVENTORY.item(slot, &self.places, random);
        if let Item::Interface(interface) = &mut item
            && self.nics
        {
            if self.settles(slot) && interface.host != TENANT {
                NICS[0].clone_into(&mut interface.host);
            }
            let plain = matches!(interface.kind, Kind::Veth(_) | Kind::Dummy);
            if plain && interface.place == OWN_PLACE && random.percent(40) {
                (interface.vrf, interface.bridge) = (Some(TENANT_INTERFACE), None);
            }
        }
        item
    }

    /// Returns true if the interface with the number `slot` must always stay on the same foreign link.
    ///
    /// Foreign links have no ownership mark. A restarted agent therefore cannot recognize the objects that it added to a foreign
    /// link if no value names the link any more.
    fn settles(&self, slot: usize) -> bool {
        self.kills && (FIRST_EXISTING..INTERFACES).contains(&slot)
    }

    fn put(&self, random: &mut Random) -> Step {
        let count = random.pick(&[1, 1, 1, 2, 2, 5]);
        let mut slots = Vec::new();
        let mut changes = Vec::new();
        for _ in 0..count {
            let slot = random.below(SLOTS);
            // Choose interfaces more often than neighbours and routes.
            let slot = if random.percent(30) { slot % INTERFACES } else { slot };
            let keep = slot == KEEPER_SLOT;
            if slots.contains(&slot) || (is_on_nic(slot) && !self.nics) || (keep && !self.process) {
                continue;
            }
            let delete = !keep && random.percent(35) && !self.settles(slot);
            slots.push(slot);
            changes.push(if delete {
                Change::Delete(INVENTORY.key(slot))
            } else {
                Change::Put(self.value(slot, random))
            });
        }
        Step::Put(changes)
    }

    fn step(&self, random: &mut Random) -> Step {
        loop {
            let step = match random.below(40) {
                0..=9 => Some(self.put(random)),
                10 => Some(Step::PutAgain(INVENTORY.key(random.below(SLOTS)))),
                11..=15 if self.kernel => Some(self.tamper(random)),
                16 if self.kernel => Some(Step::RemoveName(random.pick(&[FOREIGN_NAME, CREATED_NAME]))),
                17 if self.kernel => Some(Step::AddName(random.pick(&[FOREIGN_NAME, CREATED_NAME]))),
                18 if self.kernel => Some(if random.percent(60) {
                    Step::Foreign
                } else {
                    Step::Dangle(random.pick(&[FOREIGN_NAME, CREATED_NAME]))
                }),
                19 | 20 if self.process => Some(if random.percent(50) { Step::EndProcess } else { Step::StartProcess }),
                21..=24 if self.docker => Some(self.docker_step(random)),
                25..=29 if self.store => Some(store_step(!self.nics, random)),
                30..=33 if self.failures => Some(Step::Fail(random.below(12), random.pick(&ERRORS))),
                34..=36 if self.kills => Some(if random.percent(60) {
                    Step::KillAtOperation(random.below(15))
                } else {
                    Step::Kill
                }),
                38 | 39 if self.nics => Some(nic_step(random)),
                37 if self.squat => Some(Step::Squat(INVENTORY.names[random.below(FIRST_EXISTING - 1)])),
                _ => None,
            };
            if let Some(step) = step {
                return step;
            }
        }
    }

    /// Returns a random kind of tampering, except for `Rename`.
    ///
    /// The agent cannot restore the name of a renamed link if a foreign link has taken the name. Open issue: if a link is renamed
    /// and its value is deleted before the agent notices, the link remains until the agent is restarted.
    fn tamper(&self, random: &mut Random) -> Step {
        let tampering = random.pick(&Tampering::ALL);
        let tampering = match tampering {
            Tampering::Rename => Tampering::Down,
            other => other,
        };
        Step::Tamper(tampering, random.below(1000))
    }

    fn docker_step(&self, random: &mut Random) -> Step {
        match random.below(9) {
            0..=3 => Step::StartContainer(random.below(2)),
            4 | 5 => Step::StopContainer(random.below(2)),
            6 => Step::StopDocker,
            7 => Step::StartDocker,
            _ => Step::LoseDockerEvents(1 + random.below(3)),
        }
    }
}

fn nic_step(random: &mut Random) -> Step {
    let name = random.pick(&NICS);
    match random.below(12) {
        9 | 10 => Step::SetCarrier(true),
        11 => Step::SetCarrier(false),
        6 | 7 => Step::MakeVrf(random.pick(&TENANT_TABLES)),
        8 => Step::RemoveNic(TENANT),
        0 => Step::RemoveNic(name),
        1 | 2 => Step::AddNic(name),
        3 => Step::RemoveNicAddress(name),
        _ => Step::AddNicAddress(name),
    }
}

/// Returns a random store fault. If `loses` is true, the fault can be a loss of the store's contents.
///
/// Losses are not combined with EXISTING interfaces, because foreign links have no ownership mark that shows which values were
/// lost.
fn store_step(loses: bool, random: &mut Random) -> Step {
    match random.below(if loses { 20 } else { 14 }) {
        0 | 1 => Step::CutReader,
        2..=4 => Step::CutWriter,
        5 => Step::CutStore(Duration::from_millis(random.below(20_000) as u64)),
        6 => Step::Compact,
        7 => Step::EndLease,
        8 => Step::ReplaceStore(random.percent(50)),
        9 | 10 => Step::LoseStatus(random.pick(&[1, 1, 2, 3, 7])),
        11 => Step::OverwriteStatus(random.pick(&[1, 2, 3])),
        14 | 15 => Step::EmptyStore(random.pick(&Loss::ALL)),
        16 => Step::RestoreStore(1 + random.below(4)),
        17 => Step::PutBack,
        18 => Step::AcceptRemovals,
        12 => Step::SecondPublisher(Duration::from_millis(random.below(3_000) as u64)),
        _ => Step::LoseWatch,
    }
}
