//! Classifies failed kernel operations for the scheduler: either the value is waiting for something, or the operation has failed.

use crate::desired::TENTATIVE;
use crate::scheduler::FaultKind;
use netns_kernel::FailureKind;

/// Class of a kernel or executor failure.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Class {
    /// The operation needs something that is not available yet, such as a namespace.
    Waiting,
    /// The operation failed with this kind of fault.
    Failed(FaultKind),
}

/// Kind of object that an operation acts on.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Subject {
    /// The operation opens, verifies or closes a namespace.
    Namespace,
    /// The operation changes an object in a namespace.
    Object,
}

/// Returns the class of a failure and the reason to publish, in CamelCase.
pub(super) fn classify(kind: FailureKind, subject: Subject) -> (Class, &'static str) {
    let failed = Class::Failed;
    match (kind, subject) {
        (FailureKind::Unavailable, Subject::Namespace) => (Class::Waiting, "Unavailable"),
        (FailureKind::Unusable, Subject::Namespace) => (failed(FaultKind::Refused), "NotANetworkNamespace"),
        (FailureKind::Unavailable | FailureKind::Unusable, Subject::Object) => (failed(FaultKind::Transient), "Unavailable"),
        (FailureKind::Tentative, _) => (Class::Waiting, TENTATIVE),
        (FailureKind::Duplicate, _) => (failed(FaultKind::Persistent), "DuplicateAddress"),
        (FailureKind::KindMissing, _) => (failed(FaultKind::Persistent), "KernelKindMissing"),
        (FailureKind::Exists, _) => (failed(FaultKind::Transient), "ObjectExists"),
        (FailureKind::TimedOut, _) => (failed(FaultKind::Transient), "TimedOut"),
        (FailureKind::Foreign, _) => (failed(FaultKind::Foreign), "ForeignObject"),
        (FailureKind::Unsupported, _) => (failed(FaultKind::Refused), "NotSupportedByLink"),
        (FailureKind::Other, _) => (failed(FaultKind::Transient), "KernelError"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BOTH: &[Subject] = &[Subject::Namespace, Subject::Object];

    /// Generates one test per row. A row lists a failure kind, the subjects of the operation, and the expected class and reason.
    macro_rules! rows {
        ($($name:ident: $kind:ident, $subjects:expr => $class:expr, $reason:expr;)+) => {$(
            #[test]
            fn $name() {
                for subject in $subjects {
                    assert_eq!(classify(FailureKind::$kind, *subject), ($class, $reason), "{subject:?}");
                }
            }
        )+};
    }

    rows! {
        a_namespace_that_does_not_exist_yet_is_waited_for: Unavailable, &[Subject::Namespace] => Class::Waiting, "Unavailable";
        a_link_or_namespace_that_is_gone_is_tried_again: Unavailable, &[Subject::Object] => Class::Failed(FaultKind::Transient), "Unavailable";
        a_file_that_is_no_namespace_is_refused: Unusable, &[Subject::Namespace] => Class::Failed(FaultKind::Refused), "NotANetworkNamespace";
        an_unusable_namespace_of_an_object_is_tried_again: Unusable, &[Subject::Object] => Class::Failed(FaultKind::Transient), "Unavailable";
        duplicate_address_detection_is_waited_for: Tentative, BOTH => Class::Waiting, TENTATIVE;
        a_duplicate_address_stays_one: Duplicate, BOTH => Class::Failed(FaultKind::Persistent), "DuplicateAddress";
        a_missing_kernel_module_stays_missing: KindMissing, BOTH => Class::Failed(FaultKind::Persistent), "KernelKindMissing";
        an_object_in_the_way_may_disappear: Exists, BOTH => Class::Failed(FaultKind::Transient), "ObjectExists";
        an_operation_that_took_too_long_is_tried_again: TimedOut, BOTH => Class::Failed(FaultKind::Transient), "TimedOut";
        a_foreign_object_is_not_touched: Foreign, BOTH => Class::Failed(FaultKind::Foreign), "ForeignObject";
        an_attribute_that_the_link_does_not_support_is_refused: Unsupported, BOTH => Class::Failed(FaultKind::Refused), "NotSupportedByLink";
        any_other_error_of_the_kernel_is_tried_again: Other, BOTH => Class::Failed(FaultKind::Transient), "KernelError";
    }
}
