//! Settings of the transaction history.

use std::time::Duration;

use super::{ConfigError, Layers, setting};

/// Limits of the transaction history in memory. If either limit is exceeded, the oldest transactions are dropped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HistoryLimits {
    /// Age at which a transaction is dropped, counted from the end of the transaction.
    pub age: Duration,
    /// Maximum number of transactions. The history can contain up to four times as many operations. 0 disables the history.
    pub transactions: usize,
}

pub(super) fn check(layers: &Layers<'_>) -> Result<HistoryLimits, ConfigError> {
    let age = layers.given(setting!(history_age))?;
    let minutes: u32 = age.number("expected a number of minutes, such as 1440 for one day")?;
    let max = layers.given(setting!(history_max))?;
    let transactions: u32 = max.number("expected a number of transactions, such as 10000; 0 disables the history")?;
    Ok(HistoryLimits {
        age: Duration::from_secs(u64::from(minutes) * 60),
        transactions: usize::try_from(transactions).unwrap_or(usize::MAX),
    })
}
