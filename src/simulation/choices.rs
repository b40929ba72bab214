//! Delays and choices of a running world, each drawn at a named site.
//!
//! A seed draws every delay at random. A scenario file lists only the draws that matter; all others take the default of their
//! site. Draws are counted per site, so a site that is added elsewhere does not change what a file means.

use std::{collections::BTreeMap, time::Duration};

use super::{random::Random, text::kebab};

/// Place in the simulator where a delay or a choice is drawn.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Site {
    /// Delay of a namespace notification.
    Told,
    /// Time that duplicate address detection takes beyond a second.
    Detected,
    /// Delay until the links of an ended namespace are deleted.
    Reap,
    /// Delay until the writer looks for status to write.
    Write,
    /// Delay of the reader's first connection.
    StartReader,
    /// Delay of the writer's first connection.
    StartWriter,
    /// Delay of the first connection to Docker.
    StartDocker,
    /// Time that a killed agent is down.
    Restart,
    /// Delay until the core takes its events.
    Wake,
    /// Delay until the first operation of a batch.
    Perform,
    /// Delay until the next batch.
    PerformNext,
    /// Delay until the next operation after a pause within a batch.
    PerformLater,
    /// Delay of a reference event.
    Probe,
    /// Delay until the watcher looks at a reference.
    Look,
    /// Delay of a listing of desired values.
    Listed,
    /// Delay of a comparison of revisions.
    Compared,
    /// Delay of an answer of the watch.
    WatchAnswer,
    /// Delay until the core is handed desired values.
    Deliver,
    /// Delay of a request of the writer.
    Request,
    /// Time beyond the time limit that a hanging request takes.
    LateRequest,
    /// Delay of an answer to the writer.
    WriterAnswer,
    /// Delay until the writer hears of deleted keys.
    DeletionTold,
    /// Delay of a lease renewal.
    Renewal,
    /// Delay of the answer to a lease renewal.
    RenewalAnswer,
    /// Delay of a list of containers.
    DockerList,
    /// Delay of the answer to an inspection.
    DockerAnswer,
    /// Delay of an inspection.
    Inspect,
    /// Delay of an event of the Docker daemon.
    Hint,
    /// Delay of the notification that a process ended.
    Ended,
    /// Whether another host has the address.
    Duplicate,
    /// Whether an answer of the watch holds one revision only.
    PartialAnswer,
    /// Whether an answer of the watch repeats earlier revisions.
    RepeatedAnswer,
    /// Whether a request of the writer hangs.
    HangingRequest,
    /// Whether other events come between two operations of a batch.
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
        Site::Look,
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

    /// Whether a yes or no is drawn here instead of a delay.
    pub fn is_choice(self) -> bool {
        matches!(
            self,
            Site::Duplicate | Site::PartialAnswer | Site::RepeatedAnswer | Site::HangingRequest | Site::Pause
        )
    }

    /// Number of the name (FNV-1a): it stays when other sites come or go.
    fn salt(self) -> u64 {
        let mix = |hash: u64, byte: u8| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
        kebab(&self).bytes().fold(0xcbf2_9ce4_8422_2325, mix)
    }

    /// Draw of a scenario file that does not list one: microseconds, or 0 for no.
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

/// Draws of a scenario file by site and number; the first of each site has the number 1.
pub type Listed = BTreeMap<(Site, u32), u64>;

/// Source of all draws of a world.
#[derive(Clone, PartialEq, Debug)]
pub enum Draws {
    /// At random, from this seed.
    OfSeed(u64),
    /// As listed, else the default of the site.
    Listed(Listed),
}

enum Source {
    /// One generator for each site, so that a draw that is added at one site moves none at another.
    Random(Vec<Random>),
    Listed(Listed),
}

/// Draws delays and choices, and keeps a record of them.
pub struct Choices {
    source: Source,
    counts: [u32; Site::ALL.len()],
    /// Everything that was drawn, if it is recorded.
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

    /// Draws a delay below a limit in microseconds.
    pub fn delay(&mut self, site: Site, below: usize) -> Duration {
        Duration::from_micros(self.draw(site, |random| random.below(below) as u64))
    }

    /// Draws a delay below a limit in milliseconds.
    pub fn millis(&mut self, site: Site, below: usize) -> Duration {
        Duration::from_micros(self.draw(site, |random| 1000 * random.below(below) as u64))
    }

    /// Draws a short delay, now and then a longer one; none is very long when nothing interferes any more.
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

    /// Draws whether other events come between two operations of a batch: mostly not.
    pub fn pause(&mut self) -> bool {
        self.draw(Site::Pause, |random| (!random.percent(85)).into()) != 0
    }

    /// Draws a yes in so many of a hundred cases.
    pub fn choose(&mut self, site: Site, percent: usize) -> bool {
        self.draw(site, |random| random.percent(percent).into()) != 0
    }
}
