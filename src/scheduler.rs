//! Aliases for the types of the crate `kvscheduler`. The crate is generic over the key type, and the aliases use the agent's [`Key`].

use models::key::Key;

pub use kvscheduler::{
    Claim, Comparison, DeleteCause, Descriptor, Difference, Domain, Effect, Fault, FaultKind, KernelError, Kind, Label, LastError, Options,
    Outcome, Place, Refusal, Rejection, Remedy, Repair, Resync, Retry, Scheduler, Unacceptable, ValueState, Verb, View, Wait, statistics,
};

/// Change to one desired value.
pub type Change<V> = kvscheduler::Change<Key, V>;
/// Condition that must be met while a value is applied.
pub type Dependency = kvscheduler::Dependency<Key>;
/// Value that has failed and will be retried, or that waits for a missing dependency.
pub type Held = kvscheduler::held::Held<Key>;
/// Error of one value in a transaction.
pub type KeyError = kvscheduler::KeyError<Key>;
/// Reason why one value in a transaction is PENDING.
pub type KeyWait = kvscheduler::KeyWait<Key>;
/// Result of reading the kernel.
pub type Observation<V> = kvscheduler::Observation<Key, V>;
/// Target of a dependency.
pub type On = kvscheduler::On<Key>;
/// Operation on one value.
pub type Operation<O> = kvscheduler::Operation<Key, O>;
/// Operation that a dry run predicts.
pub type Planned<V> = kvscheduler::Planned<Key, V>;
/// Function that returns whether a key can satisfy a dependency.
pub type Predicate = kvscheduler::Predicate<Key>;
/// Suggestion for an unmet dependency.
pub type Suggestion = kvscheduler::Suggestion<Key>;
/// Published status of a value that is not derived from another value.
pub type Status = kvscheduler::Status<Key>;
/// Change of the status of a value.
pub type StatusChange = kvscheduler::StatusChange<Key>;
/// Other values that the kernel removes as part of an operation.
pub type Taken = kvscheduler::Taken<Key>;
/// Changes to the desired state that are applied together.
pub type Transaction<V> = kvscheduler::Transaction<Key, V>;
/// Result of a finished transaction.
pub type TransactionResult = kvscheduler::TransactionResult<Key>;
/// Unsatisfied dependency of a value.
pub type Unmet = kvscheduler::Unmet<Key>;

/// History of transactions and operations.
pub mod history {
    use models::key::Key;

    pub use kvscheduler::history::HistorySettings;

    /// Copies of the scheduler state.
    pub mod extract {
        use super::Key;

        pub use kvscheduler::history::extract::{Extract, Pick};

        /// Scope of a copy: the values to include, and whether to include the history.
        pub type Scope = kvscheduler::history::extract::Scope<Key>;
        /// Copy of the current state of a value.
        pub type Sighting<V> = kvscheduler::history::extract::Sighting<Key, V>;
    }

    /// Records of transactions and operations.
    pub mod record {
        use super::Key;

        pub use kvscheduler::history::record::{OperationFlags, Origin, Side};

        /// Record of an operation on one value.
        pub type OperationRecord<V> = kvscheduler::history::record::OperationRecord<Key, V>;
        /// Record of a finished transaction.
        pub type TransactionRecord<V> = kvscheduler::history::record::TransactionRecord<Key, V>;
        /// Record of one value in a transaction.
        pub type ValueRecord<V> = kvscheduler::history::record::ValueRecord<Key, V>;
    }

    /// History of each key.
    pub mod timeline {
        use super::Key;

        pub use kvscheduler::history::timeline::{Flag, FlagStatistics, Relation};

        /// State of a key over a period of time.
        pub type Revision<V> = kvscheduler::history::timeline::Revision<Key, V>;
    }
}
