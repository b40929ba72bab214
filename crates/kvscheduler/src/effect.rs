//! Effects: the steps that a descriptor returns.
//!
//! An effect is a list of operations, a deliberate no-op, or an impossible request. An impossible request must never count as
//! success.

/// Reason for a failure caused by a program defect.
pub(super) const INTERNAL_ERROR: &str = "InternalError";

/// Effect that creates, updates, deletes or checks a value.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Effect<O> {
    /// Perform these operations in order. An empty list is a defect. Use [`Effect::Noop`] if there is nothing to do.
    Do(Vec<O>),
    /// Do nothing and succeed immediately. The text documents in the code why nothing has to be done.
    Noop(&'static str),
    /// The request is impossible, which indicates a defect. For example, a descriptor is to create an address, but the
    /// interface that the address depends on does not exist.
    ///
    /// The operation fails persistently with reason `InternalError`, and [`super::Scheduler::take_defects`] reports it.
    Impossible(String),
}

impl<O> Effect<O> {
    /// Creates an effect with a single operation.
    pub fn one(operation: O) -> Self {
        Effect::Do(vec![operation])
    }

    /// Returns an effect that performs `self` and then `next`.
    pub fn then(self, next: Self) -> Self {
        match (self, next) {
            (Effect::Do(mut operations), Effect::Do(more)) => {
                operations.extend(more);
                Effect::Do(operations)
            }
            (Effect::Impossible(what), _) | (_, Effect::Impossible(what)) => Effect::Impossible(what),
            (Effect::Noop(_), effect) | (effect, Effect::Noop(_)) => effect,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Effect::{self, Do, Impossible, Noop};

    #[test]
    fn then_concatenates_operations_and_keeps_impossible() {
        let impossible = || Impossible("no".to_owned());
        for (first, next, expected) in [
            (Effect::one(1), Do(vec![2, 3]), Do(vec![1, 2, 3])),
            (Noop("nothing"), Effect::one(1), Effect::one(1)),
            (Effect::one(1), Noop("nothing"), Effect::one(1)),
            (Noop("nothing"), Noop("nothing more"), Noop("nothing more")),
            (impossible(), Effect::one(1), impossible()),
            (Noop("nothing"), impossible(), impossible()),
        ] {
            assert_eq!(first.then(next), expected);
        }
    }
}
