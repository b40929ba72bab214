//! Drift settings: how the agent detects and handles changes by other programs in managed namespaces.

use std::time::Duration;

use super::{ConfigError, Given, Layers, setting};

/// Minimum sweep interval in seconds. Each sweep reads all links, addresses, routes and neighbours of a namespace.
const SWEEP_SECONDS_MIN: f64 = 0.1;
/// Maximum sweep interval in seconds: one day.
const SWEEP_SECONDS_MAX: f64 = 86_400.0;

/// Settings for detecting and handling drift.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DriftSettings {
    /// Maximum number of namespaces monitored with kernel notifications. All other namespaces are read periodically.
    pub watched_max: usize,
    /// Interval at which namespaces without kernel notifications are read.
    pub sweep_interval: Duration,
    /// Policy for values that do not set `drift_policy`.
    pub policy: DriftPolicy,
    /// Action for foreign addresses on managed interfaces: keep or remove.
    pub foreign_addresses: ForeignAddresses,
}

/// Action when another program changes or deletes the kernel object of a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DriftPolicy {
    /// The agent restores the desired value.
    Repair,
    /// The agent only reports the drift in the status.
    Report,
}

/// Action for foreign addresses on managed interfaces. An address is foreign if no value configures it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ForeignAddresses {
    /// The agent keeps foreign addresses.
    Keep,
    /// The agent removes foreign addresses when it reads the whole namespace, at startup and at a resync.
    Strict,
}

pub(super) fn check(layers: &Layers<'_>) -> Result<DriftSettings, ConfigError> {
    let watched_max = layers.given(setting!(watched_max))?;
    let policy = layers.given(setting!(drift_policy))?;
    let foreign_addresses = layers.given(setting!(foreign_addresses))?;
    Ok(DriftSettings {
        watched_max: watched_max.number("expected a number of namespaces, such as 300; 0 disables notifications")?,
        sweep_interval: sweep_interval(&layers.given(setting!(sweep_interval))?)?,
        policy: policy.policy(
            &[("repair", DriftPolicy::Repair), ("report", DriftPolicy::Report)],
            "expected repair or report",
        )?,
        foreign_addresses: foreign_addresses.policy(
            &[("keep", ForeignAddresses::Keep), ("strict", ForeignAddresses::Strict)],
            "expected keep or strict",
        )?,
    })
}

fn sweep_interval(given: &Given) -> Result<Duration, ConfigError> {
    let accepted = "expected a number of seconds from 0.1 to 86400, such as 10 or 0.5";
    let seconds: f64 = given.number(accepted)?;
    match (SWEEP_SECONDS_MIN..=SWEEP_SECONDS_MAX).contains(&seconds) {
        true => Ok(Duration::from_secs_f64(seconds)),
        false => Err(given.wrong(format!("{:?} is out of range", given.value.trim()), accepted)),
    }
}
