//! Timelines: the revisions of a key, and statistics over all revisions.
//!
//! [`Extract`](super::extract::Extract) computes the timelines and the statistics.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use super::super::{
    descriptor::{Key, Label},
    status::ValueState,
};

/// State of a key during a period of time.
#[derive(Clone, Debug)]
pub struct Revision<K, V> {
    /// Start of the period (since the Unix epoch). Zero means that the period began before the recorded history.
    pub since: Duration,
    /// End of the period (since the Unix epoch). `None` means that this is the current state.
    pub until: Option<Duration>,
    /// Key of the value.
    pub key: K,
    /// Short display name.
    pub label: String,
    /// Value in this period; `None` if there was none.
    pub value: Option<V>,
    /// State of the value.
    pub state: ValueState,
    /// True if dependents could rely on the value in this period. For a past revision, this flag is derived from the state alone.
    pub available: bool,
    /// Error text of the value; `None` if it had no error.
    pub error: Option<Arc<str>>,
    /// Sequence number of the transaction that created this revision; `None` if the history does not go back that far.
    pub seq: Option<u64>,
    /// Name of the descriptor; `None` if the key has none.
    pub descriptor: Option<&'static str>,
    /// Key of the value from which this one is derived. Known only for the current revision.
    pub derived_from: Option<K>,
    /// Information that the applied value has in addition to the desired value, such as the inode of a namespace.
    pub metadata: Vec<(&'static str, Vec<String>)>,
    /// Dependencies and derived values.
    pub targets: Vec<RevisionTarget<K>>,
}

/// Reference from a value to another key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RevisionTarget<K> {
    /// Kind of the reference.
    pub relation: Relation,
    /// Label of the dependency, or the key of the derived value.
    pub label: Label,
    /// Key of the target, or a description of the keys that would satisfy the dependency.
    pub expected: Label,
    /// Matching keys that are available now. Empty for a past revision.
    pub matching: Vec<K>,
}

/// Kind of a reference between values.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Relation {
    /// The value depends on the target.
    DependsOn,
    /// The target is derived from the value.
    Derives,
}

impl Relation {
    /// Returns the name used by ligato vpp-agent.
    pub fn text(self) -> &'static str {
        match self {
            Relation::DependsOn => "depends-on",
            Relation::Derives => "derives",
        }
    }
}

/// Property of a revision, other than the value itself. Numbers and names match those of the node flags of ligato vpp-agent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Flag {
    /// Last transaction that changed the value.
    LastUpdate = 0,
    /// Error of the value.
    Error = 1,
    /// State of the value.
    ValueState = 2,
    /// The value is not available to its dependents.
    Unavailable = 3,
    /// Name of the descriptor.
    Descriptor = 4,
    /// Value from which this one is derived.
    Derived = 5,
}

impl Flag {
    /// All flags, in the order of their numbers.
    pub const ALL: [Flag; 6] = [
        Flag::LastUpdate,
        Flag::Error,
        Flag::ValueState,
        Flag::Unavailable,
        Flag::Descriptor,
        Flag::Derived,
    ];

    /// Returns the name of the flag.
    pub fn name(self) -> &'static str {
        match self {
            Flag::LastUpdate => "last-update",
            Flag::Error => "error",
            Flag::ValueState => "value-state",
            Flag::Unavailable => "unavailable",
            Flag::Descriptor => "descriptor",
            Flag::Derived => "derived",
        }
    }

    /// Returns the flag with this name, if there is one.
    pub fn named(name: &str) -> Option<Self> {
        Flag::ALL.into_iter().find(|flag| flag.name() == name)
    }
}

/// Statistics of one flag over a set of revisions.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FlagStatistics {
    /// Number of revisions that have the flag.
    pub total_count: usize,
    /// Number of revisions for each text of the flag.
    pub per_value_count: BTreeMap<String, usize>,
}

impl<K: Key, V> Revision<K, V> {
    /// Returns the flags of the revision, each with its text.
    pub fn flags(&self) -> Vec<(Flag, String)> {
        let flags = [
            (Flag::LastUpdate, self.seq.map(|seq| format!("TXN-{seq}"))),
            (Flag::Error, self.error.as_deref().map(str::to_owned)),
            (Flag::ValueState, Some(self.state.text().to_owned())),
            (Flag::Unavailable, (!self.available).then(String::new)),
            (Flag::Descriptor, self.descriptor.map(str::to_owned)),
            (Flag::Derived, self.derived_from.as_ref().map(K::to_string)),
        ];
        flags.into_iter().filter_map(|(flag, text)| Some((flag, text?))).collect()
    }

    /// Returns whether the revision covers this point in time.
    pub fn covers(&self, time: Duration) -> bool {
        self.since < time && self.until.is_none_or(|until| until > time)
    }
}
