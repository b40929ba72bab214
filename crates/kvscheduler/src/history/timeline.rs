//! What each key was, and when: the form of a revision, and of what is counted over all of them.
//!
//! Owns the types. They are made by [`Extract`](super::extract::Extract). Must never be part of a decision. Start reading at [`Revision`].

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use super::super::{
    descriptor::{Key, Label},
    status::ValueState,
};

/// What a key was for a while.
#[derive(Clone, Debug)]
pub struct Revision<K, V> {
    /// From this moment (since the Unix epoch; zero: since before the history begins).
    pub since: Duration,
    /// Until this moment; `None`: it still is.
    pub until: Option<Duration>,
    /// The key.
    pub key: K,
    /// Its short name.
    pub label: String,
    /// The value.
    pub value: Option<V>,
    /// Its state.
    pub state: ValueState,
    /// Whether others could rely on it, as far as its state tells.
    pub available: bool,
    /// What was wrong with it.
    pub error: Option<Arc<str>>,
    /// Sequence number of the transaction that made it so; `None` if the history does not go back so far.
    pub seq: Option<u64>,
    /// Name of its descriptor.
    pub descriptor: Option<&'static str>,
    /// The value that it is derived from.
    pub derived_from: Option<K>,
    /// What is known of it besides the value.
    pub metadata: Vec<(&'static str, Vec<String>)>,
    /// What it depends on and what is derived from it.
    pub targets: Vec<RevisionTarget<K>>,
}

/// Another key that a value refers to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RevisionTarget<K> {
    /// How.
    pub relation: Relation,
    /// Label of the dependency, or the derived key.
    pub label: Label,
    /// The key, or the keys in words.
    pub expected: Label,
    /// Keys that match and are available now. Empty in a revision of the past.
    pub matching: Vec<K>,
}

/// How values refer to each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Relation {
    /// It must be there first.
    DependsOn,
    /// It comes and goes with the value.
    Derives,
}

impl Relation {
    /// Its name in the reference.
    pub fn text(self) -> &'static str {
        match self {
            Relation::DependsOn => "depends-on",
            Relation::Derives => "derives",
        }
    }
}

/// What can be told of a node besides its value; numbers and names as in the reference.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Flag {
    /// The transaction that changed it last.
    LastUpdate = 0,
    /// What is wrong with it.
    Error = 1,
    /// Its state.
    ValueState = 2,
    /// Others cannot rely on it.
    Unavailable = 3,
    /// Its descriptor.
    Descriptor = 4,
    /// What it is derived from.
    Derived = 5,
}

impl Flag {
    /// All flags.
    pub const ALL: [Flag; 6] = [
        Flag::LastUpdate,
        Flag::Error,
        Flag::ValueState,
        Flag::Unavailable,
        Flag::Descriptor,
        Flag::Derived,
    ];

    /// Its name.
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

    /// The flag of this name; `None` if there is none.
    pub fn named(name: &str) -> Option<Self> {
        Flag::ALL.into_iter().find(|flag| flag.name() == name)
    }
}

/// How often the texts of a flag occur.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FlagStatistics {
    /// Revisions that have the flag.
    pub total_count: usize,
    /// By its text.
    pub per_value_count: BTreeMap<String, usize>,
}

impl<K: Key, V> Revision<K, V> {
    /// The flags that the node had, with their texts.
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

    /// Whether it held at a moment.
    pub fn covers(&self, time: Duration) -> bool {
        self.since < time && self.until.is_none_or(|until| until > time)
    }
}
