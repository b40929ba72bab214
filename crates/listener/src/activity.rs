//! Detects idle connections. See [`Activity::idle`].
//!
//! Rejected calls must not be counted. Otherwise, a client without permissions could keep a connection open.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use tokio::time::{Instant, sleep_until};

/// Number of calls in flight on a connection, and the time at which the last call ended.
pub struct Activity(Mutex<State>);

struct State {
    calls: usize,
    /// Time at which the last call ended, or at which the connection began if no call has ended yet.
    since: Instant,
}

/// Guard for a call in flight. Dropping it ends the call.
pub struct Busy(Arc<Activity>);

impl Activity {
    /// Creates the call counter for a new connection, which has no calls yet.
    pub fn begin() -> Arc<Self> {
        let (calls, since) = (0, Instant::now());
        Arc::new(Activity(Mutex::new(State { calls, since })))
    }

    /// Starts a call, which ends when the returned guard is dropped.
    pub fn busy(self: &Arc<Self>) -> Busy {
        self.change(|state| state.calls += 1);
        Busy(self.clone())
    }

    /// Waits until the connection has had no call in flight for the duration `limit`.
    pub async fn idle(&self, limit: Duration) {
        loop {
            let (calls, since) = self.change(|state| (state.calls, state.since));
            let now = Instant::now();
            let begin = if calls > 0 { now } else { since };
            if begin + limit <= now {
                return;
            }
            sleep_until(begin + limit).await;
        }
    }

    fn change<R>(&self, change: impl FnOnce(&mut State) -> R) -> R {
        change(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        self.0.change(|state| {
            state.calls -= 1;
            state.since = Instant::now();
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn connection_with_call_in_flight_is_not_idle() {
        let activity = Activity::begin();
        let busy = activity.busy();
        let limit = Duration::from_millis(20);
        assert!(tokio::time::timeout(5 * limit, activity.idle(limit)).await.is_err());
        drop(busy);
        activity.idle(limit).await;
    }
}
