//! Compact type for points in time. Its size matters because every node stores two of them.
//!
//! Callers see a [`Duration`] since the Unix epoch.

use std::time::Duration;

/// Nanoseconds since the Unix epoch, up to the year 2554.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Moment(u64);

impl From<Duration> for Moment {
    fn from(time: Duration) -> Self {
        Moment(u64::try_from(time.as_nanos()).unwrap_or(u64::MAX))
    }
}

impl From<Moment> for Duration {
    fn from(moment: Moment) -> Self {
        Duration::from_nanos(moment.0)
    }
}
