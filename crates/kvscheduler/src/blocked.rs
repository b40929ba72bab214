//! Why a value that could be worked on is left alone for now, and when that ends.
//!
//! Owns the reasons and the whole policy of waits. Must never look at a value. Start reading at [`Blocked`].

use std::time::Duration;

use super::{
    descriptor::Refusal,
    operation::{Fault, Wait},
    retry::NEVER,
    status::ValueState,
};

/// Why, for a program and for a person.
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

/// Why a value that could be worked on is left alone for now.
#[derive(Clone, PartialEq, Debug)]
pub(super) enum Blocked {
    /// The last operation failed; tried again at `until`, or at `earliest` if something that it depends on changes.
    BackOff {
        until: Duration,
        earliest: Duration,
        persistent: bool,
        /// Somebody else's object is in the way: there is no telling that it will ever go.
        foreign: bool,
        reason: Reason,
    },
    /// Others change or remove it again and again; repaired at `until`.
    Contended { until: Duration, reason: Reason },
    /// Others changed or removed it, and it is not to be repaired: until the kernel agrees again, or it is asked for anew.
    Drifted(Reason),
    /// What it needs is not there, says the effect; a probe or a change of a dependency ends the wait.
    Unavailable(Reason),
    /// The effect said that it can never be; only a probe ends that wait.
    Unusable(Reason),
    /// Another value is in the way; any change nearby ends the wait.
    Conflict(Reason),
}

impl Blocked {
    /// All attempts have been made.
    pub fn is_for_ever(&self) -> bool {
        self.until() == Some(NEVER)
    }

    /// When it ends by itself.
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

    /// As it is published.
    pub fn state(&self) -> ValueState {
        match self {
            Blocked::BackOff { persistent: true, .. } | Blocked::Drifted(_) => ValueState::Failed,
            Blocked::BackOff { .. } | Blocked::Contended { .. } => ValueState::Retrying,
            Blocked::Unavailable(_) => ValueState::Pending,
            Blocked::Unusable(_) | Blocked::Conflict(_) => ValueState::Invalid,
        }
    }

    /// Whether the value can hardly be, whatever happens elsewhere, or has to be changed.
    pub fn is_refusal(&self) -> bool {
        match self {
            Blocked::Unusable(_) | Blocked::Conflict(_) => true,
            Blocked::BackOff { .. } | Blocked::Contended { .. } | Blocked::Drifted(_) | Blocked::Unavailable(_) => false,
        }
    }

    /// Whether it is there because of what others did.
    pub fn is_about_drift(&self) -> bool {
        match self {
            Blocked::Drifted(_) | Blocked::Contended { .. } => true,
            Blocked::BackOff { .. } | Blocked::Unavailable(_) | Blocked::Unusable(_) | Blocked::Conflict(_) => false,
        }
    }

    /// When it ends because something that the value depends on has changed. What failed is tried again, but at most once within
    /// [`WAKE_INTERVAL`](super::retry::WAKE_INTERVAL).
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

/// When a value is not blocked any more.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Ends {
    Now,
    At(Duration),
    /// As if nothing had happened.
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

    /// Of every reason: when it ends after a change, when it ends by itself, and as what it is published.
    #[test]
    fn the_policy_row_by_row() {
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
            let told = (blocked.ends_after_change(NOW), blocked.until(), blocked.state());
            assert_eq!(told, (ends, until, state), "{blocked:?}");
        }
    }
}
