//! When something was last asked for on a connection.
//!
//! Owns the judgement that a connection is idle. Must never count a call that was refused: whoever may do nothing is to take no place
//! for long. Start reading at [`Activity::idle`].

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use tokio::time::{Instant, sleep_until};

/// The calls of a connection, as a number.
pub struct Activity(Mutex<State>);

struct State {
    calls: usize,
    /// When the connection began, or the last call ended.
    since: Instant,
}

/// A call under way.
pub struct Busy(Arc<Activity>);

impl Activity {
    /// Of a connection that begins now.
    pub fn begin() -> Arc<Self> {
        let (calls, since) = (0, Instant::now());
        Arc::new(Activity(Mutex::new(State { calls, since })))
    }

    /// A call begins; it ends when what is answered is dropped.
    pub fn busy(self: &Arc<Self>) -> Busy {
        self.change(|state| state.calls += 1);
        Busy(self.clone())
    }

    /// Waits until no call was under way for so long.
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
    async fn a_connection_with_a_call_is_never_idle() {
        let activity = Activity::begin();
        let busy = activity.busy();
        let limit = Duration::from_millis(20);
        assert!(tokio::time::timeout(5 * limit, activity.idle(limit)).await.is_err());
        drop(busy);
        activity.idle(limit).await;
    }
}
