//! What each key was, and when: revisions of nodes, snapshots of the whole graph, statistics of their flags.
//!
//! Owns the reconstruction of revisions from the records of operations and from the graph as it is now. Nothing is kept for it
//! beside the history, so it costs nothing until somebody asks, and is bounded as the history is. Must never be part of a decision.
//! Start reading at [`Scheduler::timeline`].

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use models::key::Key;

use super::{
    super::{
        descriptor::{Domain, Label, On},
        edge::Target,
        nodes::NodeId,
        plan::Scheduler,
        status::ValueState,
    },
    record::{OperationRecord, Side},
};

/// What a key was for a while.
#[derive(Clone, Debug)]
pub struct Revision<V> {
    /// From this moment (since the Unix epoch; zero: since before the history begins).
    pub since: Duration,
    /// Until this moment; `None`: it still is.
    pub until: Option<Duration>,
    /// The key.
    pub key: Key,
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
    pub derived_from: Option<Key>,
    /// What is known of it besides the value.
    pub metadata: Vec<(&'static str, Vec<String>)>,
    /// What it depends on and what is derived from it.
    pub targets: Vec<RevisionTarget>,
}

/// Another key that a value refers to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RevisionTarget {
    /// How.
    pub relation: Relation,
    /// Label of the dependency, or the derived key.
    pub label: Label,
    /// The key, or the keys in words.
    pub expected: Label,
    /// Keys that match and are available now. Empty in a revision of the past.
    pub matching: Vec<Key>,
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
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct FlagStatistics {
    /// Revisions that have the flag.
    pub total_count: usize,
    /// By its text.
    pub per_value_count: BTreeMap<String, usize>,
}

impl<V> Revision<V> {
    /// The flags that the node had, with their texts.
    pub fn flags(&self) -> Vec<(Flag, String)> {
        let flags = [
            (Flag::LastUpdate, self.seq.map(|seq| format!("TXN-{seq}"))),
            (Flag::Error, self.error.as_deref().map(str::to_owned)),
            (Flag::ValueState, Some(self.state.text().to_owned())),
            (Flag::Unavailable, (!self.available).then(String::new)),
            (Flag::Descriptor, self.descriptor.map(str::to_owned)),
            (Flag::Derived, self.derived_from.as_ref().map(Key::to_string)),
        ];
        flags.into_iter().filter_map(|(flag, text)| Some((flag, text?))).collect()
    }

    fn covers(&self, time: Duration) -> bool {
        self.since < time && self.until.is_none_or(|until| until > time)
    }
}

/// Operations by key, each with the number of its transaction.
type Changes<'a, V> = BTreeMap<Key, Vec<(u64, &'a OperationRecord<V>)>>;

impl<D: Domain> Scheduler<D> {
    /// All that is known of a key, the oldest first.
    pub fn timeline(&self, key: &Key) -> Vec<Revision<D::Value>> {
        let mut changes = self.changes_by_key(|other| other == key);
        self.revisions_of(key, &changes.remove(key).unwrap_or_default())
    }

    /// What each key was at a moment (since the Unix epoch), in key order; `None`: what it is now.
    pub fn snapshot(&self, time: Option<Duration>) -> Vec<Revision<D::Value>> {
        let revisions = self.all_revisions();
        match time {
            None => revisions.into_iter().filter(|revision| revision.until.is_none()).collect(),
            Some(time) => revisions.into_iter().filter(|revision| revision.covers(time)).collect(),
        }
    }

    /// How often the texts of a flag occur, over all revisions that are known.
    pub fn flag_statistics(&self, flag: Flag) -> FlagStatistics {
        let mut statistics = FlagStatistics::default();
        for revision in self.all_revisions() {
            for (_, text) in revision.flags().into_iter().filter(|(other, _)| *other == flag) {
                statistics.total_count += 1;
                *statistics.per_value_count.entry(text).or_default() += 1;
            }
        }
        statistics
    }

    fn all_revisions(&self) -> Vec<Revision<D::Value>> {
        let changes = self.changes_by_key(|_| true);
        let current = self.graph.all().map(|id| self.graph[id].key.clone());
        let keys: BTreeSet<Key> = changes.keys().cloned().chain(current).collect();
        let none = Vec::new();
        keys.iter()
            .flat_map(|key| self.revisions_of(key, changes.get(key).unwrap_or(&none)))
            .collect()
    }

    fn changes_by_key(&self, wanted: impl Fn(&Key) -> bool) -> Changes<'_, D::Value> {
        let mut changes: Changes<'_, D::Value> = BTreeMap::new();
        for record in self.ledger.history.records() {
            for operation in record.operations.iter().filter(|operation| wanted(&operation.key)) {
                changes.entry(operation.key.clone()).or_default().push((record.seq, operation));
            }
        }
        // Transactions are kept in the order of their ends.
        changes
            .values_mut()
            .for_each(|list| list.sort_by_key(|(_, operation)| operation.at));
        changes
    }

    fn revisions_of(&self, key: &Key, changes: &[(u64, &OperationRecord<D::Value>)]) -> Vec<Revision<D::Value>> {
        let mut revisions = Vec::new();
        if let Some((_, first)) = changes.first()
            && first.before.state != ValueState::Nonexistent
        {
            revisions.push(self.revision(key, Duration::ZERO, Some(first.at), None, &first.before));
        }
        for (at, (seq, change)) in changes.iter().enumerate() {
            let until = changes.get(at + 1).map(|(_, next)| next.at);
            if change.after.state != ValueState::Removed {
                revisions.push(self.revision(key, change.at, until, Some(*seq), &change.after));
            }
        }
        if let Some(id) = self.graph.find(key) {
            self.complete(id, &mut revisions);
        }
        revisions
    }

    /// Makes the last revision that of the graph, which knows more, or adds one if the history has lost it.
    fn complete(&self, id: NodeId, revisions: &mut Vec<Revision<D::Value>>) {
        let node = &self.graph[id];
        let state = node.trace.state;
        if state == ValueState::Nonexistent {
            return;
        }
        let side = Side {
            state,
            value: node.applied.as_ref().or(node.wanted()).cloned(),
            error: node.rare().and_then(|rare| rare.error.clone()),
        };
        let last = revisions.pop_if(|last| last.until.is_none());
        let since = last.as_ref().map_or(node.trace.since.into(), |last| last.since);
        let mut current = self.revision(&node.key, since, None, Some(node.trace.seq), &side);
        current.available = node.available();
        current.derived_from = node.parent.map(|parent| self.graph[parent].key.clone());
        for target in &mut current.targets {
            target.matching = self.matching(id, target);
        }
        revisions.push(current);
    }

    fn matching(&self, id: NodeId, target: &RevisionTarget) -> Vec<Key> {
        let available = |key: &Key| self.graph.find(key).is_some_and(|id| self.graph[id].available());
        if target.relation == Relation::Derives {
            let key = Key::new(&target.expected);
            return if available(&key) { vec![key] } else { vec![] };
        }
        let node = &self.graph[id];
        let Some(edge) = node
            .edges
            .iter()
            .chain(node.applied_edges.iter())
            .find(|edge| edge.label == target.label)
        else {
            return Vec::new();
        };
        let candidates: Vec<NodeId> = match &edge.on {
            Target::Key(target) => vec![*target],
            Target::AnyOf(any) => {
                let prefixes = any.prefixes.iter();
                prefixes
                    .flat_map(|prefix| self.graph.under(self.graph[*prefix].key.as_str()))
                    .collect()
            }
        };
        let counts = |key: &Key| match &edge.on {
            Target::AnyOf(any) => any.predicate.as_ref().is_none_or(|passes| passes(key)),
            Target::Key(_) => true,
        };
        let nodes = candidates.iter().map(|id| &self.graph[*id]);
        nodes
            .filter(|node| node.available() && counts(&node.key))
            .map(|node| node.key.clone())
            .collect()
    }

    fn revision(&self, key: &Key, since: Duration, until: Option<Duration>, seq: Option<u64>, side: &Side<D::Value>) -> Revision<D::Value> {
        let descriptor = self.domain.descriptor(key);
        let (mut targets, mut metadata) = (Vec::new(), Vec::new());
        if let (Some(descriptor), Some(value)) = (descriptor, &side.value) {
            targets.extend(descriptor.dependencies(key, value).into_iter().map(|dependency| RevisionTarget {
                relation: Relation::DependsOn,
                expected: match &dependency.on {
                    On::Key(key) => key.to_string().into(),
                    On::AnyOf { describe, .. } => describe.clone(),
                },
                label: dependency.label,
                matching: Vec::new(),
            }));
            targets.extend(descriptor.derived(key, value).into_iter().map(|(derived, _)| RevisionTarget {
                relation: Relation::Derives,
                label: derived.to_string().into(),
                expected: derived.to_string().into(),
                matching: Vec::new(),
            }));
            metadata = self.domain.metadata(key, value);
        }
        Revision {
            since,
            until,
            key: key.clone(),
            label: descriptor.map_or_else(|| key.to_string(), |descriptor| descriptor.label(key)),
            value: side.value.clone(),
            state: side.state,
            available: matches!(side.state, ValueState::Configured | ValueState::Obtained | ValueState::Discovered),
            error: side.error.clone(),
            seq,
            descriptor: descriptor.map(|descriptor| descriptor.name()),
            derived_from: None,
            metadata,
            targets,
        }
    }
}
