//! The settings about what others change in managed namespaces: how it is noticed, and what is done about it.
//!
//! Owns their checks. Must never know how anything is noticed or repaired. Start reading at [`DriftSettings`].

use std::time::Duration;

use super::{ConfigError, Given, Layers, setting};

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

pub(super) fn check(layers: &Layers<'_>) -> Result<DriftSettings, ConfigError> {
    let watched_max = layers.given(setting!(watched_max))?;
    let policy = layers.given(setting!(drift_policy))?;
    let foreign_addresses = layers.given(setting!(foreign_addresses))?;
    Ok(DriftSettings {
        watched_max: watched_max.number("a number of namespaces is expected, as 300; 0 watches none")?,
        sweep_interval: sweep_interval(&layers.given(setting!(sweep_interval))?)?,
        policy: policy.policy(
            &[("repair", DriftPolicy::Repair), ("report", DriftPolicy::Report)],
            "repair or report is expected",
        )?,
        foreign_addresses: foreign_addresses.policy(
            &[("keep", ForeignAddresses::Keep), ("strict", ForeignAddresses::Strict)],
            "keep or strict is expected",
        )?,
    })
}

fn sweep_interval(given: &Given) -> Result<Duration, ConfigError> {
    let accepted = "seconds from 0.1 to 86400 are expected, as 10 or 0.5";
    let seconds: f64 = given.number(accepted)?;
    match (SWEEP_SECONDS_MIN..=SWEEP_SECONDS_MAX).contains(&seconds) {
        true => Ok(Duration::from_secs_f64(seconds)),
        false => Err(given.wrong(format!("{:?} is out of range", given.value.trim()), accepted)),
    }
}
