//! Reasons why nothing is done for a value at present, and the policy for when that ends.

use std::time::Duration;

use super::{
    descriptor::Refusal,
    operation::{Fault, Wait},
    retry::NEVER,
    status::ValueState,
};

/// Reason, for programs and for people.
#[derive(Clone, PartialEq, Debug)]
pub(super) struct Reason {
    /// Stable CamelCase reason.
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

/// Reason why nothing is done for a value at present.
#[derive(Clone, PartialEq, Debug)]
pub(super) enum Blocked {
    /// The last operation failed. It is retried at `until`, or at `earliest` if a dependency changes.
    BackOff {
        until: Duration,
        earliest: Duration,
        persistent: bool,
        /// A foreign object is in the way, which may stay for ever.
        foreign: bool,
        reason: Reason,
    },
    /// Others keep changing or removing it; repaired at `until`.
    Contended { until: Duration, reason: Reason },
    /// Others changed or removed it, and it is not to be repaired. Ends when the kernel agrees again or the value is put again.
    Drifted(Reason),
    /// Something it needs does not exist, as its operation reported. Ends with a probe or a change of a dependency.
    Unavailable(Reason),
    /// It can never be applied, as its operation reported. Ends only with a probe or a change of the value.
    Unusable(Reason),
    /// It conflicts with another value. Ends with any related change.
    Conflict(Reason),
}

impl Blocked {
    /// Returns whether no retries are left.
    pub fn is_for_ever(&self) -> bool {
        self.until() == Some(NEVER)
    }

    /// Returns when the block ends by itself.
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

    /// Returns the published state.
    pub fn state(&self) -> ValueState {
        match self {
            Blocked::BackOff { persistent: true, .. } | Blocked::Drifted(_) => ValueState::Failed,
            Blocked::BackOff { .. } | Blocked::Contended { .. } => ValueState::Retrying,
            Blocked::Unavailable(_) => ValueState::Pending,
            Blocked::Unusable(_) | Blocked::Conflict(_) => ValueState::Invalid,
        }
    }

    /// Returns whether the value is refused, so that it or another value has to be changed.
    pub fn is_refusal(&self) -> bool {
        match self {
            Blocked::Unusable(_) | Blocked::Conflict(_) => true,
            Blocked::BackOff { .. } | Blocked::Contended { .. } | Blocked::Drifted(_) | Blocked::Unavailable(_) => false,
        }
    }

    /// Returns whether changes made by others are the reason.
    pub fn is_about_drift(&self) -> bool {
        match self {
            Blocked::Drifted(_) | Blocked::Contended { .. } => true,
            Blocked::BackOff { .. } | Blocked::Unavailable(_) | Blocked::Unusable(_) | Blocked::Conflict(_) => false,
        }
    }

    /// Returns when the block ends after a change of a dependency.
    ///
    /// A failed operation is retried, but at most once within [`WAKE_INTERVAL`](super::retry::WAKE_INTERVAL).
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

/// End of a block.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Ends {
    Now,
    At(Duration),
    /// Not affected by the change.
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

    /// For every reason: when it ends after a change, when it ends by itself, and the published state.
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
