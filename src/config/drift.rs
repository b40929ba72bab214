//! The settings about what others change in managed namespaces: how it is noticed, and what is done about it.
//!
//! Owns their checks. Must never know how anything is noticed or repaired. Start reading at [`DriftSettings`].

use std::time::Duration;

use super::{ConfigError, DRIFT_POLICY, FOREIGN_ADDRESSES, Given, SWEEP_INTERVAL, WATCHED_MAX, or_default};

/// Shortest interval of sweeps; each reads all links, addresses, routes and neighbours of a namespace.
const SWEEP_SECONDS_MIN: f64 = 0.1;
/// Longest one: a day.
const SWEEP_SECONDS_MAX: f64 = 86_400.0;

/// How drift is noticed and what is done about it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DriftSettings {
    /// How many namespaces are watched by events at most; the others are swept.
    pub watched_max: usize,
    /// How often a namespace that is not watched is read.
    pub sweep_interval: Duration,
    /// What is done about drift where the value does not say.
    pub policy: DriftPolicy,
    /// What is done about addresses that nobody asked for.
    pub foreign_addresses: ForeignAddresses,
}

/// What is done about a value that somebody else changed or removed in the kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DriftPolicy {
    /// It is made again as it is wanted.
    Repair,
    /// It is left as it is, and its status says so.
    Report,
}

/// What is done about addresses that nobody asked for, on interfaces that the agent made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ForeignAddresses {
    /// They stay.
    Keep,
    /// They are removed when the namespace is read anew: at the start and at a resync.
    Strict,
}

/// What was given about drift.
pub(super) struct DriftArgs {
    pub watched_max: Option<Given>,
    pub sweep_interval: Option<Given>,
    pub policy: Option<Given>,
    pub foreign_addresses: Option<Given>,
}

impl DriftArgs {
    pub fn check(self) -> Result<DriftSettings, ConfigError> {
        Ok(DriftSettings {
            watched_max: watched_max(&or_default(WATCHED_MAX, self.watched_max, "300"))?,
            sweep_interval: sweep_interval(&or_default(SWEEP_INTERVAL, self.sweep_interval, "10"))?,
            policy: policy(&or_default(DRIFT_POLICY, self.policy, "repair"))?,
            foreign_addresses: foreign_addresses(&or_default(FOREIGN_ADDRESSES, self.foreign_addresses, "keep"))?,
        })
    }
}

fn watched_max(given: &Given) -> Result<usize, ConfigError> {
    let accepted = "a number of namespaces is expected, as 300; 0 watches none";
    let text = given.value.trim();
    text.parse().map_err(|error| given.wrong(format!("{text:?}: {error}"), accepted))
}

fn sweep_interval(given: &Given) -> Result<Duration, ConfigError> {
    let accepted = "seconds from 0.1 to 86400 are expected, as 10 or 0.5";
    let text = given.value.trim();
    let seconds: f64 = text.parse().map_err(|error| given.wrong(format!("{text:?}: {error}"), accepted))?;
    match (SWEEP_SECONDS_MIN..=SWEEP_SECONDS_MAX).contains(&seconds) {
        true => Ok(Duration::from_secs_f64(seconds)),
        false => Err(given.wrong(format!("{text:?} is out of range"), accepted)),
    }
}

fn policy(given: &Given) -> Result<DriftPolicy, ConfigError> {
    match given.value.trim() {
        "repair" => Ok(DriftPolicy::Repair),
        "report" => Ok(DriftPolicy::Report),
        other => Err(given.wrong(format!("{other:?} is no policy"), "repair or report is expected")),
    }
}

fn foreign_addresses(given: &Given) -> Result<ForeignAddresses, ConfigError> {
    match given.value.trim() {
        "keep" => Ok(ForeignAddresses::Keep),
        "strict" => Ok(ForeignAddresses::Strict),
        other => Err(given.wrong(format!("{other:?} is no policy"), "keep or strict is expected")),
    }
}
