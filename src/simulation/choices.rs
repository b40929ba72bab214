//! Delays and choices of a running world, each drawn at a named site.
//!
//! With a seed, every delay is drawn at random. A scenario file lists only the draws that matter; all others use the site's default.
//! Draws are counted per site, so that a new site does not change the meaning of a file.

use std::{collections::BTreeMap, time::Duration};

use super::{random::Random, text::kebab};

/// Place in the simulator where a delay or a choice is drawn.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Site {
    /// Delay of a namespace notification.
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
    /// Delay until the next operation after a pause within a batch.
    PerformLater,
    /// Delay of a reference event.
    Probe,
    /// Delay until the watcher checks a reference.
    Check,
    /// Delay before a listing of desired values arrives.
    Listed,
    /// Delay of a comparison of revisions.
    Compared,
    /// Delay of a watch response.
    WatchAnswer,
    /// Delay until the core receives desired values.
    Deliver,
    /// Delay of a writer request.
    Request,
    /// Extra time that a hanging request takes beyond its timeout.
    LateRequest,
    /// Delay of a response to the writer.
    WriterAnswer,
    /// Delay of a notification about deleted keys.
    DeletionTold,
    /// Delay of a lease renewal.
    Renewal,
    /// Delay of the response to a lease renewal.
    RenewalAnswer,
    /// Delay before a list of containers arrives.
    DockerList,
    /// Delay of the response to an inspection.
    DockerAnswer,
    /// Delay of an inspection.
    Inspect,
    /// Delay of a Docker daemon event.
    Hint,
    /// Delay of the notification that a process ended.
    Ended,
    /// Choice: another host has the address.
    Duplicate,
    /// Choice: a watch response contains only one revision.
    PartialAnswer,
    /// Choice: a watch response repeats earlier revisions.
    RepeatedAnswer,
    /// Choice: a writer request hangs.
    HangingRequest,
    /// Choice: other events occur between two operations of a batch.
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

    /// Returns true if this site draws yes or no instead of a delay.
    pub fn is_choice(self) -> bool {
        matches!(
            self,
            Site::Duplicate | Site::PartialAnswer | Site::RepeatedAnswer | Site::HangingRequest | Site::Pause
        )
    }

    /// Returns a hash of the site's name (FNV-1a), which does not depend on other sites.
    fn salt(self) -> u64 {
        let mix = |hash: u64, byte: u8| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
        kebab(&self).bytes().fold(0xcbf2_9ce4_8422_2325, mix)
    }

    /// Returns the draw to use if a scenario file does not list one: microseconds, or 0 for no.
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
    /// Listed draws; a draw that is not listed has the site's default.
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
    /// Creates the choices of a world.
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

    /// Draws a delay below `below` microseconds.
    pub fn delay(&mut self, site: Site, below: usize) -> Duration {
        Duration::from_micros(self.draw(site, |random| random.below(below) as u64))
    }

    /// Draws a delay below `below` milliseconds.
    pub fn millis(&mut self, site: Site, below: usize) -> Duration {
        Duration::from_micros(self.draw(site, |random| 1000 * random.below(below) as u64))
    }

    /// Draws a delay that is usually short and sometimes longer. With `calm` (after all faults have ended), no delay is very long.
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

    /// Draws, with a probability of 15 %, that other events occur between two operations of a batch.
    pub fn pause(&mut self) -> bool {
        self.draw(Site::Pause, |random| (!random.percent(85)).into()) != 0
    }

    /// Draws true with a probability of `percent` %.
    pub fn choose(&mut self, site: Site, percent: usize) -> bool {
        self.draw(site, |random| random.percent(percent).into()) != 0
    }
}
