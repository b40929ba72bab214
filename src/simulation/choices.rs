//! Delays and random yes/no choices of a simulated run. Each is drawn at a site, which is a named place in the simulator.
//!
//! With a seed, every draw is random. A scenario file lists some draws, and every other draw has the default of its site. Draws
//! are numbered separately for each site, so that a new site does not change the meaning of existing scenario files.

use std::{collections::BTreeMap, time::Duration};

use super::{random::Random, text::kebab};

/// Place in the simulator where a delay or a choice is drawn.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Site {
    /// Delay until the agent is notified of a change in a namespace.
    Told,
    /// Time that duplicate address detection takes beyond one second.
    Detected,
    /// Delay until the links of an ended namespace are deleted.
    Reap,
    /// Delay until the writer checks for statuses to write.
    Write,
    /// Delay of the reader's first connection.
    StartReader,
    /// Delay of the writer's first connection.
    StartWriter,
    /// Delay of the first connection to Docker.
    StartDocker,
    /// Time that a killed agent stays down.
    Restart,
    /// Delay until the core processes its events.
    Wake,
    /// Delay until the first operation of a batch is performed.
    Perform,
    /// Delay until the next batch begins.
    PerformNext,
    /// Delay before a batch continues that was interrupted at [`Site::Pause`].
    PerformLater,
    /// Delay until the agent is notified that a namespace reference may have changed.
    Probe,
    /// Delay until the watcher checks a reference.
    Check,
    /// Delay until the reader receives a listing of all desired values.
    Listed,
    /// Delay until the reader receives the revisions of all keys, which it compares with those that it knows.
    Compared,
    /// Delay of a watch response.
    WatchAnswer,
    /// Delay until the core receives desired values.
    Deliver,
    /// Delay until a writer request reaches the store.
    Request,
    /// Time from the timeout of a hanging request until the request reaches the store.
    LateRequest,
    /// Delay of a response to the writer.
    WriterAnswer,
    /// Delay until the writer is notified of deleted status keys.
    DeletionTold,
    /// Delay until a lease renewal reaches the store.
    Renewal,
    /// Delay of the response to a lease renewal.
    RenewalAnswer,
    /// Delay until the Docker tracker receives a list of containers.
    DockerList,
    /// Delay of the response to an inspection.
    DockerAnswer,
    /// Delay until the tracker requests an inspection.
    Inspect,
    /// Delay of a container event from the Docker daemon.
    Hint,
    /// Delay of the notification that a process ended.
    Ended,
    /// Yes if duplicate address detection finds the address on another host.
    Duplicate,
    /// Yes if a watch response contains only one revision.
    PartialAnswer,
    /// Yes if a watch response repeats earlier revisions.
    RepeatedAnswer,
    /// Yes if a request of the writer hangs.
    HangingRequest,
    /// Yes if other events occur between two operations of a batch.
    Pause,
}

impl Site {
    /// All sites.
    pub const ALL: [Site; 34] = [
        Site::Told,
        Site::Detected,
        Site::Reap,
        Site::Write,
        Site::StartReader,
        Site::StartWriter,
        Site::StartDocker,
        Site::Restart,
        Site::Wake,
        Site::Perform,
        Site::PerformNext,
        Site::PerformLater,
        Site::Probe,
        Site::Check,
        Site::Listed,
        Site::Compared,
        Site::WatchAnswer,
        Site::Deliver,
        Site::Request,
        Site::LateRequest,
        Site::WriterAnswer,
        Site::DeletionTold,
        Site::Renewal,
        Site::RenewalAnswer,
        Site::DockerList,
        Site::DockerAnswer,
        Site::Inspect,
        Site::Hint,
        Site::Ended,
        Site::Duplicate,
        Site::PartialAnswer,
        Site::RepeatedAnswer,
        Site::HangingRequest,
        Site::Pause,
    ];

    /// Returns true if a draw at this site is a yes/no decision, and false if it is a delay.
    pub fn is_choice(self) -> bool {
        matches!(
            self,
            Site::Duplicate | Site::PartialAnswer | Site::RepeatedAnswer | Site::HangingRequest | Site::Pause
        )
    }

    /// Returns the FNV-1a hash of the site's name, which stays the same when other sites are added.
    fn salt(self) -> u64 {
        let mix = |hash: u64, byte: u8| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
        kebab(&self).bytes().fold(0xcbf2_9ce4_8422_2325, mix)
    }

    /// Returns the default draw of the site: a delay in microseconds, or 0 (no) for a yes/no decision.
    fn default_draw(self) -> u64 {
        match self {
            Site::Wake => 50,
            Site::Restart => 500_000,
            Site::Detected => 0,
            _ if self.is_choice() => 0,
            _ => 200,
        }
    }
}

/// Draws listed in a scenario file, by site and number. The first draw at each site has the number 1.
pub type Listed = BTreeMap<(Site, u32), u64>;

/// Source of all draws of a world.
#[derive(Clone, PartialEq, Debug)]
pub enum Draws {
    /// Random draws with this seed.
    OfSeed(u64),
    /// Listed draws. A draw that is not listed has the default of its site.
    Listed(Listed),
}

enum Source {
    /// One generator per site, so that an additional draw at one site does not change the draws at others.
    Random(Vec<Random>),
    Listed(Listed),
}

/// Draws delays and choices, and records them.
pub struct Choices {
    source: Source,
    counts: [u32; Site::ALL.len()],
    /// Recorded draws that differ from their defaults; `None` if draws are not recorded.
    pub record: Option<Listed>,
}

impl Choices {
    /// Creates the source of all draws of a run. If `recorded` is true, it records the draws that differ from their defaults.
    pub fn new(draws: &Draws, recorded: bool) -> Self {
        let source = match draws {
            Draws::OfSeed(seed) => Source::Random(Site::ALL.iter().map(|site| Random::new(seed ^ site.salt())).collect()),
            Draws::Listed(listed) => Source::Listed(listed.clone()),
        };
        Choices {
            source,
            counts: [0; Site::ALL.len()],
            record: recorded.then(Listed::new),
        }
    }

    fn draw(&mut self, site: Site, random: impl FnOnce(&mut Random) -> u64) -> u64 {
        let count = &mut self.counts[site as usize];
        *count += 1;
        let drawn = match &mut self.source {
            Source::Random(generators) => random(&mut generators[site as usize]),
            Source::Listed(listed) => listed.get(&(site, *count)).copied().unwrap_or_else(|| site.default_draw()),
        };
        if let Some(record) = &mut self.record
            && drawn != site.default_draw()
        {
            record.insert((site, *count), drawn);
        }
        drawn
    }

    /// Draws a delay of less than `below` microseconds.
    pub fn delay(&mut self, site: Site, below: usize) -> Duration {
        Duration::from_micros(self.draw(site, |random| random.below(below) as u64))
    }

    /// Draws a delay of less than `below` milliseconds.
    pub fn millis(&mut self, site: Site, below: usize) -> Duration {
        Duration::from_micros(self.draw(site, |random| 1000 * random.below(below) as u64))
    }

    /// Draws a delay that is usually short. The delay is below 600 ms, or below 60 ms if `calm` is true, which means that all
    /// faults have ended.
    pub fn moment(&mut self, site: Site, calm: bool) -> Duration {
        let micros = |random: &mut Random| match random.below(16) {
            0..=9 => random.below(300) as u64,
            10..=13 => random.below(5_000) as u64,
            14 => random.below(60_000) as u64,
            _ if !calm => random.below(600_000) as u64,
            _ => 1_000,
        };
        Duration::from_micros(self.draw(site, micros))
    }

    /// Decides whether the current batch is interrupted, so that other events can occur. The probability is 15 %.
    pub fn pause(&mut self) -> bool {
        self.draw(Site::Pause, |random| (!random.percent(85)).into()) != 0
    }

    /// Returns true with a probability of `percent` %.
    pub fn choose(&mut self, site: Site, percent: usize) -> bool {
        self.draw(site, |random| random.percent(percent).into()) != 0
    }
}
