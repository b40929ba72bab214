//! Phase of the core: waiting for the desired state, reading, performing, or free to decide.
//!
//! Only the methods of [`Phase`] change the phase. An impossible transition is a [`defect`].

use crate::telemetry::defect;

/// Phase of the core. Slow operations that complete late may be in flight in every phase except the first two.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Phase {
    /// The core waits for the first full desired state. It accepts events, but does not compare the kernel with the desired state
    /// yet.
    AwaitingDesired,
    /// The first full desired state has arrived, and the startup scan has not been started yet.
    ScanDue,
    /// Nothing is in flight except slow operations that complete late, so new work can be started.
    Free,
    /// A read is in flight.
    Reading {
        /// True if a transaction requested a full read.
        for_resync: bool,
    },
    /// Operations are in flight.
    Performing {
        /// Number of portions (groups of operations that were started together) in flight.
        portions: usize,
        /// Work that may start before these portions have completed.
        flow: Flow,
        /// True if decisions have been made since statuses were last published.
        unpublished: bool,
    },
}

/// Work that may start while portions are in flight.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Flow {
    /// Further portions and decisions may follow at once, because all operations in flight are plain and every outcome so far was
    /// a success.
    Streaming {
        /// True if outcomes have arrived since the last decision.
        fresh_outcomes: bool,
    },
    /// No work may start until all operations in flight have completed.
    Draining,
}

impl Flow {
    /// Initial state of [`Flow::Streaming`], before any outcome has arrived.
    pub const STREAMING: Flow = Flow::Streaming { fresh_outcomes: false };
}

impl Phase {
    /// Returns whether new work may be started. If not, the core only records events, and decides on all of them together later.
    pub fn is_free(&self) -> bool {
        matches!(self, Phase::ScanDue | Phase::Free)
    }

    /// Records that a full desired state has arrived. Only the first call has an effect.
    pub fn desired_is_complete(&mut self) {
        if *self == Phase::AwaitingDesired {
            *self = Phase::ScanDue;
        }
    }

    /// Returns whether the startup scan is due, and marks it as started.
    pub fn take_scan_due(&mut self) -> bool {
        let due = *self == Phase::ScanDue;
        if due {
            *self = Phase::Free;
        }
        due
    }

    /// Records that a read has started.
    pub fn read(&mut self, for_resync: bool) {
        match self {
            Phase::Free => *self = Phase::Reading { for_resync },
            _ => defect(&format!("a read must not start in phase {self:?}")),
        }
    }

    /// Records that a read has completed. Returns whether the read was for a resync.
    pub fn finish_reading(&mut self) -> bool {
        match *self {
            Phase::Reading { for_resync } => {
                *self = Phase::Free;
                for_resync
            }
            _ => {
                defect(&format!("no read can complete in phase {self:?}"));
                false
            }
        }
    }

    /// Records that a portion (a group of operations) was started. `next` is the work that may start while the portion is in
    /// flight.
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
            _ => defect(&format!("operations must not start in phase {self:?}")),
        }
    }

    /// Records that a portion of operations has completed.
    pub fn finish_portion(&mut self) {
        match self {
            Phase::Performing { portions: 1, .. } => *self = Phase::Free,
            Phase::Performing { portions, .. } => *portions -= 1,
            _ => defect(&format!("no operations can complete in phase {self:?}")),
        }
    }

    /// Records that outcomes of operations have arrived.
    ///
    /// `any` is true if there is at least one outcome. If all outcomes are successes, the core may decide again without waiting
    /// for the operations that are still in flight.
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

    /// Records an event or failure. All operations in flight must complete before the core makes further decisions.
    pub fn disturb(&mut self) {
        if let Phase::Performing { flow, .. } = self {
            *flow = Flow::Draining;
        }
    }

    /// Returns whether outcomes have arrived since the last decision, so that the core must decide again. If so, records that the
    /// core has decided and that statuses have to be published.
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

    /// Returns whether another portion may be started, given that at most `portions_max` may be in flight.
    pub fn has_room(&self, portions_max: usize) -> bool {
        matches!(self, Phase::Performing { portions, flow: Flow::Streaming { .. }, .. } if *portions < portions_max)
    }

    /// Returns whether statuses have to be published, and marks them as published.
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
    fn startup_scan_follows_only_the_first_complete_desired_state() {
        let mut phase = Phase::AwaitingDesired;
        assert!(!phase.is_free() && !phase.take_scan_due());
        phase.desired_is_complete();
        assert!(phase.is_free() && phase.take_scan_due());
        phase.desired_is_complete();
        assert_eq!(phase, Phase::Free);
        assert!(!phase.take_scan_due());
    }

    #[test]
    fn finished_read_returns_whether_it_was_for_a_resync() {
        for for_resync in [true, false] {
            let mut phase = Phase::Free;
            phase.read(for_resync);
            assert!(!phase.is_free());
            assert_eq!(phase.finish_reading(), for_resync);
            assert_eq!(phase, Phase::Free);
        }
    }

    #[test]
    fn portions_follow_each_other_while_all_operations_succeed() {
        let mut phase = Phase::Free;
        phase.perform(Flow::STREAMING);
        assert!(phase.take_unpublished() && !phase.take_unpublished());
        assert!(phase.has_room(2) && !phase.take_fresh_outcomes());
        phase.perform(Flow::STREAMING);
        assert!(!phase.has_room(2));
        phase.finish_portion();
        phase.take_outcomes(true, true);
        assert!(phase.take_fresh_outcomes() && !phase.take_fresh_outcomes());
        assert!(phase.take_unpublished(), "the statuses of the decision must still be unpublished");
        phase.finish_portion();
        assert_eq!(phase, Phase::Free);
    }

    #[test]
    fn failure_or_event_drains_the_operations_in_flight() {
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
    #[should_panic(expected = "no operations can complete in phase Free")]
    fn finished_portion_without_a_start_is_a_defect() {
        Phase::Free.finish_portion();
    }

    #[test]
    #[should_panic(expected = "no read can complete")]
    fn finished_read_without_a_start_is_a_defect() {
        performing(1, Flow::Draining).finish_reading();
    }

    #[test]
    #[should_panic(expected = "a read must not start")]
    fn read_during_operations_is_a_defect() {
        performing(1, Flow::Draining).read(false);
    }

    #[test]
    #[should_panic(expected = "operations must not start")]
    fn operations_handed_out_while_draining_are_a_defect() {
        performing(1, Flow::Draining).perform(Flow::STREAMING);
    }
}
