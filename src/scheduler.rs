//! The scheduler, its types bound to the agent's keys.
//!
//! Owns names only: the crate `kvscheduler` works with any key, the agent with [`Key`]. Must never contain code. Start reading there.

use models::key::Key;

pub use kvscheduler::{
    Claim, Comparison, DeleteCause, Descriptor, Difference, Domain, Effect, Fault, FaultKind, KernelError, Kind, Label, LastError, Options,
    Outcome, Place, Refusal, Rejection, Remedy, Repair, Resync, Retry, Scheduler, Unacceptable, ValueState, Verb, View, Wait, statistics,
};

/// A change of the desired state.
pub type Change<V> = kvscheduler::Change<Key, V>;
/// A condition for a value to be applied.
pub type Dependency = kvscheduler::Dependency<Key>;
/// What failed or waits.
pub type Held = kvscheduler::held::Held<Key>;
/// Why one value of a transaction is not as it was asked for.
pub type KeyError = kvscheduler::KeyError<Key>;
/// Why one value of a transaction is PENDING.
pub type KeyWait = kvscheduler::KeyWait<Key>;
/// What a look at the kernel brought.
pub type Observation<V> = kvscheduler::Observation<Key, V>;
/// The target of a dependency.
pub type On = kvscheduler::On<Key>;
/// Something to be done for one value.
pub type Operation<O> = kvscheduler::Operation<Key, O>;
/// An operation of a dry run.
pub type Planned<V> = kvscheduler::Planned<Key, V>;
/// Which of the keys under a prefix count.
pub type Predicate = kvscheduler::Predicate<Key>;
/// Something that has to do with an unmet dependency.
pub type Relative = kvscheduler::Relative<Key>;
/// What is told about a base value.
pub type Status = kvscheduler::Status<Key>;
/// A status that changed.
pub type StatusChange = kvscheduler::StatusChange<Key>;
/// Other values that the kernel removes by an operation.
pub type Taken = kvscheduler::Taken<Key>;
/// Changes of the desired state that belong together.
pub type Transaction<V> = kvscheduler::Transaction<Key, V>;
/// What came of a transaction.
pub type TransactionResult = kvscheduler::TransactionResult<Key>;
/// A dependency that is not satisfied.
pub type Unmet = kvscheduler::Unmet<Key>;

/// What was done, when and why.
pub mod history {
    use models::key::Key;

    pub use kvscheduler::history::HistorySettings;

    /// A copy of what the scheduler knows.
    pub mod extract {
        use super::Key;

        pub use kvscheduler::history::extract::{Extract, Pick};

        /// How much is copied.
        pub type Scope = kvscheduler::history::extract::Scope<Key>;
        /// A value, as it is now.
        pub type Sighting<V> = kvscheduler::history::extract::Sighting<Key, V>;
    }

    /// Records of transactions and operations.
    pub mod record {
        use super::Key;

        pub use kvscheduler::history::record::{OperationFlags, Origin, Side};

        /// What was done to one value.
        pub type OperationRecord<V> = kvscheduler::history::record::OperationRecord<Key, V>;
        /// A transaction that is finished.
        pub type TransactionRecord<V> = kvscheduler::history::record::TransactionRecord<Key, V>;
        /// A value as it came with a transaction.
        pub type ValueRecord<V> = kvscheduler::history::record::ValueRecord<Key, V>;
    }

    /// What each key was, and when.
    pub mod timeline {
        use super::Key;

        pub use kvscheduler::history::timeline::{Flag, FlagStatistics, Relation};

        /// What a key was for a while.
        pub type Revision<V> = kvscheduler::history::timeline::Revision<Key, V>;
    }
}
