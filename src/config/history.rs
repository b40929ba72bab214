//! The settings about the history of transactions: how much of it is kept.
//!
//! Owns their checks. Must never keep anything. Start reading at [`HistoryLimits`].

use std::time::Duration;

use super::{ConfigError, Given, HISTORY_AGE, HISTORY_MAX, or_default};

/// How much of the history of transactions is kept, in memory; what goes beyond either limit is dropped, the oldest first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HistoryLimits {
    /// Transactions that ended longer ago are dropped.
    pub age: Duration,
    /// Most transactions; with four times as many operations in all. 0: no history.
    pub transactions: usize,
}

/// What was given about the history.
pub(super) struct HistoryArgs {
    pub age: Option<Given>,
    pub max: Option<Given>,
}

impl HistoryArgs {
    pub fn check(self) -> Result<HistoryLimits, ConfigError> {
        let age = or_default(HISTORY_AGE, self.age, "1440");
        let minutes = number(&age, "minutes are expected, as 1440 for a day")?;
        let max = or_default(HISTORY_MAX, self.max, "10000");
        let transactions = number(&max, "a number of transactions is expected, as 10000; 0 keeps none")?;
        Ok(HistoryLimits {
            age: Duration::from_secs(u64::from(minutes) * 60),
            transactions: usize::try_from(transactions).unwrap_or(usize::MAX),
        })
    }
}

fn number(given: &Given, accepted: &'static str) -> Result<u32, ConfigError> {
    let text = given.value.trim();
    text.parse().map_err(|error| given.wrong(format!("{text:?}: {error}"), accepted))
}
