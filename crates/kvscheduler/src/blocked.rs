//! Reasons why a value is currently blocked, and the policy that determines when a block ends.

use std::time::Duration;

use super::{
    descriptor::Refusal,
    operation::{Fault, Wait},
    retry::NEVER,
    status::ValueState,
};

/// Reason why a value is blocked: a stable name for programs and a message for people.
#[derive(Clone, PartialEq, Debug)]
pub(super) struct Reason {
    /// Stable CamelCase name of the reason.
    pub name: &'static str,
    pub message: String,
}

impl From<Fault> for Reason {
    fn from(fault: Fault) -> Self {
        Reason {
            name: fault.reason,
            message: fault.message,
        }
    }
}

impl From<Wait> for Reason {
    fn from(wait: Wait) -> Self {
        Reason {
            name: wait.reason,
            message: wait.message,
        }
    }
}

impl From<Refusal> for Reason {
    fn from(refusal: Refusal) -> Self {
        Reason {
            name: refusal.reason,
            message: refusal.message,
        }
    }
}

/// Reason why a value is currently blocked.
#[derive(Clone, PartialEq, Debug)]
pub(super) enum Blocked {
    /// The last operation failed. The operation is retried at `until`, or as early as `earliest` if a dependency changes.
    BackOff {
        until: Duration,
        earliest: Duration,
        persistent: bool,
        /// True if a foreign object prevents the operation. The object may stay forever.
        foreign: bool,
        reason: Reason,
    },
    /// Other programs keep changing or removing the value. It is repaired at `until`.
    Contended { until: Duration, reason: Reason },
    /// Another program changed or removed the value, and the agent must not repair it. The block ends when the kernel state
    /// matches the desired value again, or when the value is put again.
    Drifted(Reason),
    /// An object that the operation needs does not exist. The block ends when the value is probed or when a dependency changes.
    Unavailable(Reason),
    /// The kernel refused the value. The block ends when the value is probed or put again, or when a downstream resync starts.
    Unusable(Reason),
    /// The value conflicts with another value. The conflict is checked again in every evaluation.
    Conflict(Reason),
}

impl Blocked {
    /// Returns whether a failed operation has no retries left.
    pub fn is_for_ever(&self) -> bool {
        self.until() == Some(NEVER)
    }

    /// Returns the time at which the block ends by itself, or `None` if it ends only on an event.
    pub fn until(&self) -> Option<Duration> {
        match self {
            Blocked::BackOff { until, .. } | Blocked::Contended { until, .. } => Some(*until),
            Blocked::Drifted(_) | Blocked::Unavailable(_) | Blocked::Unusable(_) | Blocked::Conflict(_) => None,
        }
    }

    pub fn reason(&self) -> &Reason {
        match self {
            Blocked::BackOff { reason, .. } | Blocked::Contended { reason, .. } => reason,
            Blocked::Drifted(reason) | Blocked::Unavailable(reason) | Blocked::Unusable(reason) | Blocked::Conflict(reason) => reason,
        }
    }

    pub fn is_conflict(&self) -> bool {
        match self {
            Blocked::Conflict(_) => true,
            Blocked::BackOff { .. } | Blocked::Contended { .. } => false,
            Blocked::Drifted(_) | Blocked::Unavailable(_) | Blocked::Unusable(_) => false,
        }
    }

    /// Returns the published state of a blocked value.
    pub fn state(&self) -> ValueState {
        match self {
            Blocked::BackOff { persistent: true, .. } | Blocked::Drifted(_) => ValueState::Failed,
            Blocked::BackOff { .. } | Blocked::Contended { .. } => ValueState::Retrying,
            Blocked::Unavailable(_) => ValueState::Pending,
            Blocked::Unusable(_) | Blocked::Conflict(_) => ValueState::Invalid,
        }
    }

    /// Returns whether the kernel refused the value or the value conflicts with another value. Waiting alone resolves neither
    /// problem.
    pub fn is_refusal(&self) -> bool {
        match self {
            Blocked::Unusable(_) | Blocked::Conflict(_) => true,
            Blocked::BackOff { .. } | Blocked::Contended { .. } | Blocked::Drifted(_) | Blocked::Unavailable(_) => false,
        }
    }

    /// Returns whether the block is due to changes made by other programs.
    pub fn is_about_drift(&self) -> bool {
        match self {
            Blocked::Drifted(_) | Blocked::Contended { .. } => true,
            Blocked::BackOff { .. } | Blocked::Unavailable(_) | Blocked::Unusable(_) | Blocked::Conflict(_) => false,
        }
    }

    /// Returns when the block ends after a dependency has changed.
    ///
    /// A failed operation is retried at most once per [`WAKE_INTERVAL`](super::retry::WAKE_INTERVAL).
    pub fn ends_after_change(&self, now: Duration) -> Ends {
        match self {
            Blocked::Unavailable(_) => Ends::Now,
            Blocked::BackOff { earliest, until, .. } => match (*earliest).max(now).min(*until) {
                due if due <= now => Ends::Now,
                due => Ends::At(due),
            },
            Blocked::Contended { .. } | Blocked::Drifted(_) | Blocked::Unusable(_) | Blocked::Conflict(_) => Ends::Later,
        }
    }
}

/// Effect of a changed dependency on a block.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Ends {
    Now,
    At(Duration),
    /// The change has no effect on the block.
    Later,
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Duration = Duration::from_secs(100);

    fn reason() -> Reason {
        Reason {
            name: "Test",
            message: String::new(),
        }
    }

    fn back_off(earliest: u64, until: Duration, persistent: bool) -> Blocked {
        Blocked::BackOff {
            until,
            earliest: Duration::from_secs(earliest),
            persistent,
            foreign: false,
            reason: reason(),
        }
    }

    /// Checks each kind of block: the effect of a changed dependency, the time at which the block ends by itself, and the
    /// published state.
    #[test]
    fn each_reason_has_its_end_and_published_state() {
        let later = NOW + Duration::from_secs(60);
        let contended = Blocked::Contended {
            until: later,
            reason: reason(),
        };
        let rows = [
            (back_off(99, later, false), Ends::Now, Some(later), ValueState::Retrying),
            (
                back_off(101, later, false),
                Ends::At(Duration::from_secs(101)),
                Some(later),
                ValueState::Retrying,
            ),
            (back_off(101, NOW, false), Ends::Now, Some(NOW), ValueState::Retrying),
            (back_off(99, later, true), Ends::Now, Some(later), ValueState::Failed),
            (
                back_off(101, NEVER, true),
                Ends::At(Duration::from_secs(101)),
                Some(NEVER),
                ValueState::Failed,
            ),
            (contended, Ends::Later, Some(later), ValueState::Retrying),
            (Blocked::Drifted(reason()), Ends::Later, None, ValueState::Failed),
            (Blocked::Unavailable(reason()), Ends::Now, None, ValueState::Pending),
            (Blocked::Unusable(reason()), Ends::Later, None, ValueState::Invalid),
            (Blocked::Conflict(reason()), Ends::Later, None, ValueState::Invalid),
        ];
        for (blocked, ends, until, state) in rows {
            let reported = (blocked.ends_after_change(NOW), blocked.until(), blocked.state());
            assert_eq!(reported, (ends, until, state), "{blocked:?}");
        }
    }
}
