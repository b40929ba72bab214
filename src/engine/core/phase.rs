//! What the core is doing: waiting for the desired state, reading, performing, or free to decide.
//!
//! The only place that changes it. A transition that cannot be is a [`defect`]. Start reading at [`Phase`].

use crate::telemetry::defect;

/// See the [module documentation](self). Operations that take long may be in flight in each phase but the first two.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Phase {
    /// The first full desired state has not arrived; before that, nothing in the kernel is judged. Events are taken.
    AwaitingDesired,
    /// It has arrived: the startup scan comes first.
    ScanDue,
    /// Nothing is in flight, so anything may be started.
    Free,
    /// Something is being read.
    Reading {
        /// Everything is read, because a transaction asked for it.
        for_resync: bool,
    },
    /// Operations are being performed.
    Performing {
        /// Portions that have not come back.
        portions: usize,
        /// Whether others follow them at once.
        flow: Flow,
        /// Decisions were made since statuses were published last.
        unpublished: bool,
    },
}

/// What follows the portions that are being performed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Flow {
    /// All operations are plain, and since they began nothing happened but that some succeeded: the next portions and decisions follow
    /// at once.
    Streaming {
        /// Outcomes came since the last decisions.
        fresh_outcomes: bool,
    },
    /// Nothing is started before all have come back.
    Draining,
}

impl Flow {
    /// Nothing has come back yet.
    pub const STREAMING: Flow = Flow::Streaming { fresh_outcomes: false };
}

impl Phase {
    /// Returns whether anything may be started. So what happens in quick succession is decided upon together.
    pub fn is_free(&self) -> bool {
        matches!(self, Phase::ScanDue | Phase::Free)
    }

    /// A full desired state has arrived; only the first one matters.
    pub fn desired_is_complete(&mut self) {
        if *self == Phase::AwaitingDesired {
            *self = Phase::ScanDue;
        }
    }

    /// Returns whether the startup scan is due. It is no longer after this.
    pub fn take_scan_due(&mut self) -> bool {
        let due = *self == Phase::ScanDue;
        if due {
            *self = Phase::Free;
        }
        due
    }

    /// A reading begins.
    pub fn read(&mut self, for_resync: bool) {
        match self {
            Phase::Free => *self = Phase::Reading { for_resync },
            _ => defect(&format!("a reading begins in the phase {self:?}")),
        }
    }

    /// A reading has come back. Returns whether it was for a resync.
    pub fn finish_reading(&mut self) -> bool {
        match *self {
            Phase::Reading { for_resync } => {
                *self = Phase::Free;
                for_resync
            }
            _ => {
                defect(&format!("a reading comes back in the phase {self:?}"));
                false
            }
        }
    }

    /// A portion is handed out that is followed by others like this.
    pub fn perform(&mut self, next: Flow) {
        match self {
            Phase::Free => {
                *self = Phase::Performing {
                    portions: 1,
                    flow: next,
                    unpublished: true,
                };
            }
            Phase::Performing {
                portions,
                flow: flow @ Flow::Streaming { .. },
                unpublished,
            } => {
                *portions += 1;
                (*flow, *unpublished) = (next, true);
            }
            _ => defect(&format!("operations are handed out in the phase {self:?}")),
        }
    }

    /// A portion has come back.
    pub fn finish_portion(&mut self) {
        match self {
            Phase::Performing { portions: 1, .. } => *self = Phase::Free,
            Phase::Performing { portions, .. } => *portions -= 1,
            _ => defect(&format!("operations come back in the phase {self:?}")),
        }
    }

    /// Outcomes of plain operations have come. If some succeeded and none failed, the next decisions need not wait for the others.
    pub fn take_outcomes(&mut self, any: bool, all_succeeded: bool) {
        if !all_succeeded {
            self.disturb();
        }
        if let Phase::Performing {
            flow: Flow::Streaming { fresh_outcomes },
            ..
        } = self
        {
            *fresh_outcomes |= any;
        }
    }

    /// Something happened that must be decided upon together with the outcomes of all operations.
    pub fn disturb(&mut self) {
        if let Phase::Performing { flow, .. } = self {
            *flow = Flow::Draining;
        }
    }

    /// Returns whether decisions are to be made because of fresh outcomes. They count as made, and are to be published.
    pub fn take_fresh_outcomes(&mut self) -> bool {
        match self {
            Phase::Performing {
                flow: Flow::Streaming { fresh_outcomes },
                unpublished,
                ..
            } if *fresh_outcomes => {
                (*fresh_outcomes, *unpublished) = (false, true);
                true
            }
            _ => false,
        }
    }

    /// Returns whether another portion may follow, if there are never more than so many.
    pub fn has_room(&self, portions_max: usize) -> bool {
        matches!(self, Phase::Performing { portions, flow: Flow::Streaming { .. }, .. } if *portions < portions_max)
    }

    /// Returns whether decisions are to be published. They count as published.
    pub fn take_unpublished(&mut self) -> bool {
        match self {
            Phase::Performing { unpublished, .. } => std::mem::take(unpublished),
            _ => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn performing(portions: usize, flow: Flow) -> Phase {
        Phase::Performing {
            portions,
            flow,
            unpublished: false,
        }
    }

    #[test]
    fn the_startup_scan_follows_the_first_complete_desired_state_only() {
        let mut phase = Phase::AwaitingDesired;
        assert!(!phase.is_free() && !phase.take_scan_due());
        phase.desired_is_complete();
        assert!(phase.is_free() && phase.take_scan_due());
        phase.desired_is_complete();
        assert_eq!(phase, Phase::Free);
        assert!(!phase.take_scan_due());
    }

    #[test]
    fn a_reading_returns_what_it_was_for() {
        for for_resync in [true, false] {
            let mut phase = Phase::Free;
            phase.read(for_resync);
            assert!(!phase.is_free());
            assert_eq!(phase.finish_reading(), for_resync);
            assert_eq!(phase, Phase::Free);
        }
    }

    #[test]
    fn portions_follow_one_another_while_all_succeeds() {
        let mut phase = Phase::Free;
        phase.perform(Flow::STREAMING);
        assert!(phase.take_unpublished() && !phase.take_unpublished());
        assert!(phase.has_room(2) && !phase.take_fresh_outcomes());
        phase.perform(Flow::STREAMING);
        assert!(!phase.has_room(2));
        phase.finish_portion();
        phase.take_outcomes(true, true);
        assert!(phase.take_fresh_outcomes() && !phase.take_fresh_outcomes());
        assert!(phase.take_unpublished(), "what was decided");
        phase.finish_portion();
        assert_eq!(phase, Phase::Free);
    }

    #[test]
    fn a_failure_or_another_event_drains() {
        let mut failed = performing(2, Flow::STREAMING);
        failed.take_outcomes(true, false);
        let mut disturbed = performing(2, Flow::STREAMING);
        disturbed.disturb();
        for mut phase in [failed, disturbed] {
            assert_eq!(phase, performing(2, Flow::Draining));
            phase.take_outcomes(true, true);
            assert!(!phase.has_room(9) && !phase.take_fresh_outcomes());
            phase.finish_portion();
            phase.finish_portion();
            assert_eq!(phase, Phase::Free);
        }
    }

    #[test]
    #[should_panic(expected = "operations come back in the phase Free")]
    fn a_portion_that_was_not_handed_out_is_a_defect() {
        Phase::Free.finish_portion();
    }

    #[test]
    #[should_panic(expected = "a reading comes back")]
    fn a_reading_that_was_not_begun_is_a_defect() {
        performing(1, Flow::Draining).finish_reading();
    }

    #[test]
    #[should_panic(expected = "a reading begins")]
    fn a_reading_beside_operations_is_a_defect() {
        performing(1, Flow::Draining).read(false);
    }

    #[test]
    #[should_panic(expected = "operations are handed out")]
    fn operations_after_a_failure_are_a_defect() {
        performing(1, Flow::Draining).perform(Flow::STREAMING);
    }
}
