//! What happens in a world, decided by its seed alone: who puts what, who interferes, what fails, when the agent is killed.
//!
//! Owns the choice. Must never look at what the agent does, so that a script without some of its steps is a script as well: that
//! is how a failing one is made smaller. Start reading at [`Scenario::of_seed`].

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

/// The interface that keeps the process referred to, in worlds where its number is given away.
pub const KEEPER: &str = INVENTORY.names[KEEPER_SLOT];
const KEEPER_SLOT: usize = 5;
/// The slot that is sometimes put with a value that cannot be used.
const INVALID: usize = 7;

/// Few interfaces, so that they have much to do with each other.
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
/// Worlds of a hundred in which EXISTING values are put.
const WITH_NICS: usize = 30;
/// The first interface on a foreign link.
const FIRST_EXISTING: usize = 12;
/// Neighbours and routes on interfaces before that one.
const ON_OWN_LINKS: usize = 15;

/// Whether a slot is an interface on a foreign link, or something on one.
fn is_on_nic(slot: usize) -> bool {
    (FIRST_EXISTING..INTERFACES).contains(&slot) || slot >= INTERFACES + ON_OWN_LINKS
}

/// One part of a user's transaction.
#[derive(Clone, PartialEq, Debug)]
pub enum Change {
    /// Puts a value.
    Put(Item),
    /// Deletes the value of a key, if there is one.
    Delete(String),
}

/// One thing that happens.
#[derive(Clone, PartialEq, Debug)]
pub enum Step {
    /// A user's transaction.
    Put(Vec<Change>),
    /// A user puts the value that a key already has.
    PutAgain(String),
    /// Somebody does something to one of the agent's links, or to what is on it; the number chooses.
    Tamper(Tampering, usize),
    /// Somebody adds or removes a named namespace.
    AddName(&'static str),
    /// See [`Self::AddName`].
    RemoveName(&'static str),
    /// Somebody makes the name of a namespace a symbolic link that leads nowhere.
    Dangle(&'static str),
    /// A foreign link appears in the own namespace.
    AddNic(&'static str),
    /// A foreign link of the own namespace is deleted.
    RemoveNic(&'static str),
    /// A program opens the TAP, or closes it.
    SetCarrier(bool),
    /// Somebody makes a VRF device in the own namespace with this table, or makes it again.
    MakeVrf(u32),
    /// Somebody adds an address to a foreign link.
    AddNicAddress(&'static str),
    /// Somebody deletes that address.
    RemoveNicAddress(&'static str),
    /// The process ends.
    EndProcess,
    /// A process with that number starts, be it the first one or a stranger.
    StartProcess,
    /// A container with the label starts (0 or 1), or is started again.
    StartContainer(usize),
    /// A container stops.
    StopContainer(usize),
    /// The daemon stops.
    StopDocker,
    /// The daemon starts.
    StartDocker,
    /// The daemon tells nothing of the next so many changes.
    LoseDockerEvents(usize),
    /// The store cannot be reached for this long.
    CutStore(Duration),
    /// The connection of the reader is cut, with what is on its way.
    CutReader,
    /// The connection of the writer is cut; what is on its way may arrive all the same.
    CutWriter,
    /// The store forgets its history.
    Compact,
    /// The lease of the status keys ends.
    EndLease,
    /// Somebody deletes each status key of a number that this divides.
    LoseStatus(usize),
    /// Somebody writes something else over these status keys.
    OverwriteStatus(usize),
    /// Another agent of the label publishes all status keys as they are, and ends after this time: they are gone with its lease.
    SecondPublisher(Duration),
    /// Another store with the same values takes the place; at a lower or at a higher revision.
    ReplaceStore(bool),
    /// The store loses its content.
    EmptyStore(Loss),
    /// The store goes back to an older snapshot, so many changes ago.
    RestoreStore(usize),
    /// Somebody puts what the store has lost again.
    PutBack,
    /// Somebody accepts the removals that are held.
    AcceptRemovals,
    /// The watch loses what it should tell of the next transaction.
    LoseWatch,
    /// After so many operations one fails with this error.
    Fail(usize, i32),
    /// After so many operations the agent is killed.
    KillAtOperation(usize),
    /// The agent is killed now.
    Kill,
    /// Somebody takes the host name of an interface, with either variant of it.
    Squat(&'static str),
    /// A foreign link with all that one can have appears.
    Foreign,
}

impl Step {
    /// Whether it leaves everything in the kernel and all desired values as they are.
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

/// ENOMEM, EBUSY, ENETDOWN, ENOBUFS and EPERM of errno(3).
const ERRORS: [i32; 5] = [12, 16, 100, 105, 1];

/// A world and its script.
#[derive(Clone, PartialEq, Debug)]
pub struct Scenario {
    /// How long everything takes, and what else is left to chance.
    pub draws: Draws,
    /// The core is told of outcomes while others of the same batch are still to come.
    pub tells_early: bool,
    /// Operations are handed out one by one.
    pub one_by_one: bool,
    /// How many namespaces are watched; the others are only swept.
    pub watched_max: usize,
    /// Whether Docker is asked at all.
    pub docker: bool,
    /// Whether the namespace `red` is there before the agent.
    pub foreign_name: bool,
    /// Whether the process is there before the agent.
    pub process: bool,
    /// Whether the store now and then hangs and goes on later.
    pub slow_store: bool,
    /// Whether the foreign links of the own namespace are there before the agent.
    pub nics: bool,
    /// What a store that lost its content lacks in the end is given up, and not put again.
    pub accepts: bool,
    /// What is in the store before the agent starts.
    pub initial: Vec<Item>,
    /// What happens, each after a pause.
    pub steps: Vec<(Duration, Step)>,
}

/// What a seed allows to happen; a world with everything in it finds less than many with a few things each.
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
    /// How the agent works in this world.
    pub fn manner(&self) -> Manner {
        Manner {
            docker: self.docker,
            tells_early: self.tells_early,
            one_by_one: self.one_by_one,
        }
    }

    /// A world in which nothing happens and every draw is the default.
    pub fn empty() -> Self {
        Scenario {
            draws: Draws::Listed(BTreeMap::new()),
            tells_early: false,
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

    /// The scenario of a seed.
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
            tells_early: seed % 2 == 1,
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

/// Nobody puts anything else after the store was emptied: of an agent that starts then, the links of values that are put again with
/// another host name or address are orphans, and it is not settled yet what becomes of them while orphans are held.
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
        // Not where its links go behind its back: what becomes of its surroundings then is not settled yet.
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

    /// Whether an interface is on one foreign link for ever. Nothing on a foreign link tells which agent has set it: an agent that was
    /// killed does not know it again once no value names the link.
    fn settles(&self, slot: usize) -> bool {
        self.kills && (FIRST_EXISTING..INTERFACES).contains(&slot)
    }

    fn put(&self, random: &mut Random) -> Step {
        let count = random.pick(&[1, 1, 1, 2, 2, 5]);
        let mut slots = Vec::new();
        let mut changes = Vec::new();
        for _ in 0..count {
            let slot = random.below(SLOTS);
            // An interface matters more often than what is on it.
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

    /// Where host names are taken, a link that was renamed could not get its name back. And nowhere yet: a link that is renamed and no
    /// longer wanted before that is noticed stays until the next start.
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

/// With `loses` the store may lose its content. Not beside EXISTING values: nothing on a foreign link tells that it was lost with one.
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
