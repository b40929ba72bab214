//! The settings about the history of transactions: how much of it is kept.
//!
//! Owns their checks. Must never keep anything. Start reading at [`HistoryLimits`].

use std::time::Duration;

use super::{ConfigError, Layers, setting};

/// How much of the history of transactions is kept, in memory; what goes beyond either limit is dropped, the oldest first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HistoryLimits {
    /// Transactions that ended longer ago are dropped.
    pub age: Duration,
    /// Most transactions; with four times as many operations in all. 0: no history.
    pub transactions: usize,
}

pub(super) fn check(layers: &Layers<'_>) -> Result<HistoryLimits, ConfigError> {
    let age = layers.given(setting!(history_age))?;
    let minutes: u32 = age.number("minutes are expected, as 1440 for a day")?;
    let max = layers.given(setting!(history_max))?;
    let transactions: u32 = max.number("a number of transactions is expected, as 10000; 0 keeps none")?;
    Ok(HistoryLimits {
        age: Duration::from_secs(u64::from(minutes) * 60),
        transactions: usize::try_from(transactions).unwrap_or(usize::MAX),
    })
}
