//! What a failed kernel operation means for the scheduler: a wait or a failure.
//!
//! Start reading at [`classify`].

use crate::desired::TENTATIVE;
use kvscheduler::FaultKind;
use netns_kernel::FailureKind;

/// What a failure of the kernel or the executor is to the scheduler.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Class {
    /// What was needed is not there yet.
    Waiting,
    /// It failed.
    Failed(FaultKind),
}

/// Classifies a failure of an operation (`on_namespace`: of one that opens, verifies or closes a namespace), with its reason.
pub(super) fn classify(kind: FailureKind, on_namespace: bool) -> (Class, &'static str) {
    let failed = Class::Failed;
    match (kind, on_namespace) {
        (FailureKind::Unavailable, true) => (Class::Waiting, "Unavailable"),
        (FailureKind::Tentative, _) => (Class::Waiting, TENTATIVE),
        (FailureKind::Unusable, true) => (failed(FaultKind::Refused), "NotANetworkNamespace"),
        (FailureKind::Unavailable | FailureKind::Unusable, false) => (failed(FaultKind::Transient), "Unavailable"),
        (FailureKind::KindMissing, _) => (failed(FaultKind::Persistent), "KernelKindMissing"),
        (FailureKind::Exists, _) => (failed(FaultKind::Transient), "ObjectExists"),
        (FailureKind::Duplicate, _) => (failed(FaultKind::Persistent), "DuplicateAddress"),
        (FailureKind::TimedOut, _) => (failed(FaultKind::Transient), "TimedOut"),
        (FailureKind::Foreign, _) => (failed(FaultKind::Foreign), "ForeignObject"),
        (FailureKind::Unsupported, _) => (failed(FaultKind::Refused), "NotSupportedByLink"),
        (FailureKind::Other, _) => (failed(FaultKind::Transient), "KernelError"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_appears_by_itself_is_waited_for() {
        let waiting = |kind, on_namespace| classify(kind, on_namespace).0 == Class::Waiting;
        assert!(
            waiting(FailureKind::Unavailable, true),
            "a process, file or container that does not exist yet"
        );
        assert!(waiting(FailureKind::Tentative, false), "duplicate address detection");
        for kind in [
            FailureKind::Unusable,
            FailureKind::KindMissing,
            FailureKind::Exists,
            FailureKind::Duplicate,
            FailureKind::TimedOut,
            FailureKind::Foreign,
            FailureKind::Other,
        ] {
            assert!(!waiting(kind, true) && !waiting(kind, false), "{kind:?}");
        }
        assert!(
            !waiting(FailureKind::Unavailable, false),
            "a link or namespace that is gone although it was applied"
        );
    }

    #[test]
    fn each_failure_has_its_treatment_and_reason() {
        let rows = [
            (FailureKind::Unusable, true, FaultKind::Refused, "NotANetworkNamespace"),
            (FailureKind::Unusable, false, FaultKind::Transient, "Unavailable"),
            (FailureKind::Unavailable, false, FaultKind::Transient, "Unavailable"),
            (FailureKind::KindMissing, false, FaultKind::Persistent, "KernelKindMissing"),
            (FailureKind::Exists, false, FaultKind::Transient, "ObjectExists"),
            (FailureKind::Duplicate, false, FaultKind::Persistent, "DuplicateAddress"),
            (FailureKind::TimedOut, true, FaultKind::Transient, "TimedOut"),
            (FailureKind::Foreign, false, FaultKind::Foreign, "ForeignObject"),
            (FailureKind::Other, false, FaultKind::Transient, "KernelError"),
        ];
        for (kind, on_namespace, treatment, reason) in rows {
            assert_eq!(classify(kind, on_namespace), (Class::Failed(treatment), reason), "{kind:?}");
        }
    }
}
