//! What a descriptor wants done.
//!
//! Owns the difference between doing something, doing nothing on purpose, and not knowing what to do. Must never let the last pass for
//! success. Start reading at [`Effect`].

/// Reason of what failed because of a defect of the program.
pub(super) const INTERNAL_ERROR: &str = "InternalError";

/// What is done to create, change, delete or check a value.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Effect<O> {
    /// These operations, one after another. An empty list is a defect: whoever has nothing to do says so by [`Effect::Noop`].
    Do(Vec<O>),
    /// Nothing, and this is why: a sentence for whoever reads the descriptor. It succeeds at once.
    Noop(&'static str),
    /// The descriptor was asked for what cannot be, such as an address on an interface that does not exist although it depends on one.
    /// The operation fails persistently with the reason `InternalError`, and [`super::Scheduler::take_defects`] tells of it.
    Impossible(String),
}

impl<O> Effect<O> {
    /// A single operation.
    pub fn one(operation: O) -> Self {
        Effect::Do(vec![operation])
    }

    /// This, then `next`.
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
    fn one_effect_after_another_is_both_and_what_is_impossible_stays_so() {
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
