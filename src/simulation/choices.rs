//! Delays and yes/no decisions of a simulated run. Each is drawn at a [`Site`], which is a named point in the simulator's code.
//!
//! If the run has a seed, all delays and decisions are random. If the run uses a scenario file, the file lists some of the delays
//! and decisions, and all others have the default value of their site. Draws are numbered separately for each site, so that a new
//! site does not change the meaning of existing scenario files.

use std::{collections::BTreeMap, time::Duration};

use super::{random::Random, text::kebab};

/// Point in the simulator's code at which a delay or a yes/no decision is drawn.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Site {
    /// Delay until the agent is notified of a change in a namespace.
    Told,
    /// Time that duplicate address detection takes in addition to one second.
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
    /// Time for which a killed agent stays down.
    Restart,
    /// Delay until the core processes its events.
    Wake,
    /// Delay until the first operation of a batch is performed.
    Perform,
    /// Delay until the next batch begins.
    PerformNext,
    /// Delay until a batch that was interrupted at [`Site::Pause`] continues.
    PerformLater,
    /// Delay until the agent is notified that a namespace reference may have changed.
    Probe,
    /// Delay until the watcher checks a reference.
    Check,
    /// Delay until the reader receives a listing of all desired values.
    Listed,
    /// Delay until the reader receives the revisions of all keys, to compare them with the revisions that it has read earlier.
    Compared,
    /// Delay of a watch response.
    WatchAnswer,
    /// Delay until the core receives desired values.
    Deliver,
    /// Delay until a writer request reaches the store.
    Request,
    /// Time between the timeout of a hanging request and the arrival of the request at the store.
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
    /// All variants.
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

    /// Returns true for a yes/no decision, and false for a delay.
    pub fn is_choice(self) -> bool {
        matches!(
            self,
            Site::Duplicate | Site::PartialAnswer | Site::RepeatedAnswer | Site::HangingRequest | Site::Pause
        )
    }

    /// Returns the FNV-1a hash of the variant's name. Unlike its index, the hash does not change when variants are added.
    fn salt(self) -> u64 {
        let mix = |hash: u64, byte: u8| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
        kebab(&self).bytes().fold(0xcbf2_9ce4_8422_2325, mix)
    }

    /// Returns the value to use if a scenario file lists none: a delay in microseconds, or 0 (no) for a yes/no decision.
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

/// Delays (in microseconds) and decisions (0 or 1) that a scenario file lists. The key consists of the [`Site`] and the number of
/// the draw at this site, starting at 1.
pub type Listed = BTreeMap<(Site, u32), u64>;

/// Source of all delays and yes/no decisions of a simulated run.
#[derive(Clone, PartialEq, Debug)]
pub enum Draws {
    /// Random values, generated from this seed.
    OfSeed(u64),
    /// Values listed in a scenario file. Values that are not listed have the default of their [`Site`].
    Listed(Listed),
}

enum Source {
    /// One generator for each [`Site`]. If more values are drawn at one site, the values at all other sites stay the same.
    Random(Vec<Random>),
    Listed(Listed),
}

/// Draws delays and yes/no decisions, and records them.
pub struct Choices {
    source: Source,
    counts: [u32; Site::ALL.len()],
    /// Delays and decisions that were drawn so far and differ from their defaults, or `None` if recording is off.
    pub record: Option<Listed>,
}

impl Choices {
    /// Creates the source of all delays and decisions of a run. If `recorded` is true, values that differ from their defaults are
    /// recorded.
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

    /// Draws a delay of less than 600 ms. Most of these delays are much shorter. If `calm` is true because all faults have ended,
    /// the delay is less than 60 ms.
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
