//! Copies of the values, their states and the history, made for readers.
//!
//! Taking a copy is cheap, because values and records are shared. All further work, such as reconstructing revisions from the
//! records, is done outside the scheduler, and only when a reader needs it.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use super::{
    super::{
        descriptor::{Dependency, Domain, Key, On},
        node::Node,
        nodes::NodeId,
        scheduler::Scheduler,
        status::{Status, ValueState, Verb},
    },
    record::{OperationRecord, Side, TransactionRecord},
    timeline::{Flag, FlagStatistics, Relation, Revision, RevisionTarget},
};

/// Scope of a copy: the values to include, and whether to include the history.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Scope<K> {
    /// All values, with the history.
    All,
    /// All values, without the history.
    Values,
    /// The values handled by the descriptor with this name, without the history.
    Kind(&'static str),
    /// These values and everything derived from them, directly or indirectly, without the history.
    Keys(Vec<K>),
    /// Only these values, without the history.
    Exactly(Vec<K>),
}

/// Current state of a value.
#[derive(Clone, Debug)]
pub struct Sighting<K, V> {
    /// Key of the value.
    pub key: K,
    /// State of this value alone, not including its derived values.
    pub state: ValueState,
    /// Applied value, as far as known.
    pub applied: Option<V>,
    /// Desired value, if it is valid.
    pub desired: Option<V>,
    /// Error text of the value when its state was last recorded; `None` if it had no error.
    pub error: Option<Arc<str>>,
    /// Last operation on the value. If there was none, the operation that the value is waiting for.
    pub last_operation: Verb,
    /// Time of the last recorded state change (since the Unix epoch).
    pub since: Duration,
    /// Sequence number of the transaction that last changed the state.
    pub seq: u64,
    /// True if dependents can rely on the value.
    pub available: bool,
    /// True if a transaction requested the value.
    pub requested: bool,
    /// True if the value is a fact reported from outside.
    pub fact: bool,
    /// Key of the value from which this one is derived; `None` for a base value.
    pub parent: Option<K>,
    /// Last reported status, which also covers all derived values. `None` if no status was reported.
    pub status: Option<Status<K>>,
}

/// Copy of values, and of the history if requested.
pub struct Extract<D: Domain> {
    domain: Arc<D>,
    /// Values, sorted by key.
    values: Vec<Sighting<D::Key, D::Value>>,
    /// Completed transactions, oldest first.
    records: Vec<Arc<TransactionRecord<D::Key, D::Value>>>,
}

/// Operation together with the sequence number of its transaction.
type Numbered<'a, K, V> = (u64, &'a OperationRecord<K, V>);
/// Operations by key.
type Changes<'a, K, V> = BTreeMap<K, Vec<Numbered<'a, K, V>>>;

impl<D: Domain> Scheduler<D> {
    /// Returns a copy of the values in `scope`, and of the history if the scope includes it.
    pub fn extract(&self, scope: &Scope<D::Key>) -> Extract<D> {
        self.pick(scope).into_extract()
    }

    /// Like [`Self::extract`], but faster, because the values are not sorted until [`Pick::into_extract`] is called.
    pub fn pick(&self, scope: &Scope<D::Key>) -> Pick<D> {
        let values: Vec<Sighting<D::Key, D::Value>> = match scope {
            Scope::All | Scope::Values => self.graph.all().filter_map(|id| self.sighting(id)).collect(),
            Scope::Kind(name) => {
                let is_one = |id: &NodeId| {
                    let descriptor = self.domain.descriptor(&self.graph[*id].key);
                    descriptor.is_some_and(|descriptor| descriptor.name() == *name)
                };
                self.graph.all().filter(is_one).filter_map(|id| self.sighting(id)).collect()
            }
            Scope::Exactly(keys) => {
                let found = keys.iter().filter_map(|key| self.graph.find(key));
                found.filter_map(|id| self.sighting(id)).collect()
            }
            Scope::Keys(keys) => {
                let mut family: Vec<NodeId> = keys.iter().filter_map(|key| self.graph.find(key)).collect();
                let mut at = 0;
                while let Some(id) = family.get(at).copied() {
                    family.extend(self.graph[id].children.iter().copied());
                    at += 1;
                }
                family.into_iter().filter_map(|id| self.sighting(id)).collect()
            }
        };
        let records = match scope {
            Scope::All => self.tracker.history.shared(),
            _ => Vec::new(),
        };
        Pick(Extract {
            domain: self.domain.clone(),
            values,
            records,
        })
    }

    /// Returns the state of a value; `None` for a key that has no value and is only mentioned by other values.
    fn sighting(&self, id: NodeId) -> Option<Sighting<D::Key, D::Value>> {
        let node = &self.graph[id];
        let state = node.trace.state;
        if state == ValueState::Nonexistent && node.desire.requested.is_none() && !node.present() {
            return None;
        }
        Some(Sighting {
            key: node.key.clone(),
            state,
            applied: node.applied().cloned(),
            desired: node.desired().cloned(),
            error: node.rare().and_then(|rare| rare.error.clone()),
            last_operation: node.requested_operation(),
            since: node.trace.since.into(),
            seq: node.trace.seq,
            available: node.available(),
            requested: node.desire.requested.is_some(),
            fact: node.is_fact(),
            parent: node.parent.map(|parent| self.graph[parent].key.clone()),
            status: reported(node),
        })
    }
}

fn reported<D: Domain>(node: &Node<D>) -> Option<Status<D::Key>> {
    node.status.status().map(std::borrow::Cow::into_owned)
}

/// [`Extract`] with values that are not sorted yet.
pub struct Pick<D: Domain>(Extract<D>);

impl<D: Domain> Pick<D> {
    /// Returns all values, in no particular order.
    pub fn values(&self) -> &[Sighting<D::Key, D::Value>] {
        &self.0.values
    }

    /// Sorts the values by key.
    pub fn into_extract(self) -> Extract<D> {
        let Pick(mut extract) = self;
        extract.values.sort_unstable_by(|one, other| one.key.cmp(&other.key));
        // A value is listed twice if its key was selected and it is also derived from another selected value.
        extract.values.dedup_by(|one, other| one.key == other.key);
        extract
    }
}

impl<D: Domain> Extract<D> {
    /// Returns all values, sorted by key.
    pub fn values(&self) -> &[Sighting<D::Key, D::Value>] {
        &self.values
    }

    /// Returns the recorded transactions, oldest first.
    pub fn records(&self) -> &[Arc<TransactionRecord<D::Key, D::Value>>] {
        &self.records
    }

    /// Returns the domain of the scheduler from which this extract was taken.
    pub fn domain(&self) -> &D {
        &self.domain
    }

    /// Returns the current state of the value under a key.
    pub fn value(&self, key: &D::Key) -> Option<&Sighting<D::Key, D::Value>> {
        self.position(key.text()).ok().map(|at| &self.values[at])
    }

    /// Returns the base value from which `value` is derived, directly or indirectly, or `value` itself if it is not derived.
    ///
    /// A parent that is not part of the extract is ignored.
    pub fn base_of<'a>(&'a self, value: &'a Sighting<D::Key, D::Value>) -> &'a Sighting<D::Key, D::Value> {
        let mut base = value;
        while let Some(parent) = base.parent.as_ref().and_then(|parent| self.value(parent)) {
            base = parent;
        }
        base
    }

    fn position(&self, key: &str) -> Result<usize, usize> {
        self.values.binary_search_by(|value| value.key.text().cmp(key))
    }

    /// Returns the values whose key starts with `prefix`, in key order.
    pub fn under(&self, prefix: &str) -> impl Iterator<Item = &Sighting<D::Key, D::Value>> {
        let start = self.values.partition_point(|value| value.key.text() < prefix);
        self.values[start..]
            .iter()
            .take_while(move |value| value.key.text().starts_with(prefix))
    }

    /// Returns the revisions of a key, oldest first.
    pub fn timeline(&self, key: &D::Key) -> Vec<Revision<D::Key, D::Value>> {
        let mut changes = self.changes_by_key(|other| other == key);
        self.revisions_of(key, &changes.remove(key.text()).unwrap_or_default())
    }

    /// Returns the revisions of all values that are, or were, derived from the value under `key`. The revisions are sorted by key
    /// and then by time.
    pub fn timelines_of_derived(&self, key: &D::Key) -> Vec<Revision<D::Key, D::Value>> {
        let Some(descriptor) = self.domain.descriptor(key) else {
            return Vec::new();
        };
        // No operation on the value itself is recorded when only its derived values are added or removed. Therefore, the values
        // in the transaction records are considered too.
        let operations = self.records.iter().flat_map(|record| &record.operations);
        let operations = operations.filter(|operation| operation.key == *key);
        let recorded = operations.flat_map(|operation| [&operation.before.value, &operation.after.value]);
        let requested = self.records.iter().flat_map(|record| &record.values);
        let requested = requested.filter(|value| value.key == *key).map(|value| &value.value);
        let current = self.value(key).into_iter().flat_map(|value| [&value.applied, &value.desired]);
        let values = recorded.chain(requested).chain(current).flatten();
        let derived: BTreeSet<D::Key> = values
            .flat_map(|value| descriptor.derived(key, value))
            .map(|(derived, _)| derived)
            .collect();
        let changes = self.changes_by_key(|other| derived.contains(other.text()));
        let none = Vec::new();
        let timelines = derived
            .iter()
            .map(|key| self.revisions_of(key, changes.get(key.text()).unwrap_or(&none)));
        timelines.flatten().collect()
    }

    /// Returns the revision of each key at `time` (since the Unix epoch), in key order. If `time` is `None`, returns the current
    /// revisions.
    pub fn snapshot(&self, time: Option<Duration>) -> Vec<Revision<D::Key, D::Value>> {
        let revisions = self.all_revisions();
        match time {
            None => revisions.into_iter().filter(|revision| revision.until.is_none()).collect(),
            Some(time) => revisions.into_iter().filter(|revision| revision.covers(time)).collect(),
        }
    }

    /// Counts how often each text of `flag` occurs in the known revisions. Includes only keys for which `counts` returns `true`.
    pub fn flag_statistics(&self, flag: Flag, counts: impl Fn(&D::Key) -> bool) -> FlagStatistics {
        let mut statistics = FlagStatistics::default();
        for revision in self.all_revisions().iter().filter(|revision| counts(&revision.key)) {
            for (_, text) in revision.flags().into_iter().filter(|(other, _)| *other == flag) {
                statistics.total_count += 1;
                *statistics.per_value_count.entry(text).or_default() += 1;
            }
        }
        statistics
    }

    fn all_revisions(&self) -> Vec<Revision<D::Key, D::Value>> {
        let changes = self.changes_by_key(|_| true);
        let current = self.values.iter().map(|value| value.key.clone());
        let keys: BTreeSet<D::Key> = changes.keys().cloned().chain(current).collect();
        let none = Vec::new();
        keys.iter()
            .flat_map(|key| self.revisions_of(key, changes.get(key.text()).unwrap_or(&none)))
            .collect()
    }

    fn changes_by_key(&self, desired: impl Fn(&D::Key) -> bool) -> Changes<'_, D::Key, D::Value> {
        let mut changes: Changes<'_, D::Key, D::Value> = BTreeMap::new();
        for record in &self.records {
            let changed = record.operations.iter().filter(|operation| !operation.flags.confirmation);
            for operation in changed.filter(|operation| desired(&operation.key)) {
                changes.entry(operation.key.clone()).or_default().push((record.seq, operation));
            }
        }
        // The records are in the order in which the transactions completed. The operations on each key must be sorted by time
        // first.
        changes
            .values_mut()
            .for_each(|list| list.sort_by_key(|(_, operation)| operation.at));
        changes
    }

    fn revisions_of(&self, key: &D::Key, changes: &[Numbered<'_, D::Key, D::Value>]) -> Vec<Revision<D::Key, D::Value>> {
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
        if let Some(value) = self.value(key) {
            self.complete(value, &mut revisions);
        }
        revisions
    }

    /// Completes the last revision with the current state of the value. Adds a revision if the history no longer contains the
    /// current one.
    fn complete(&self, value: &Sighting<D::Key, D::Value>, revisions: &mut Vec<Revision<D::Key, D::Value>>) {
        if value.state == ValueState::Nonexistent {
            return;
        }
        let side = Side {
            state: value.state,
            value: value.applied.as_ref().or(value.desired.as_ref()).cloned(),
            error: value.error.clone(),
        };
        let last = revisions.pop_if(|last| last.until.is_none());
        let since = last.as_ref().map_or(value.since, |last| last.since);
        let mut current = self.revision(&value.key, since, None, Some(value.seq), &side);
        current.available = value.available;
        current.derived_from = value.parent.clone();
        let dependencies = self.dependencies(&value.key, side.value.as_ref());
        for target in &mut current.targets {
            target.matching = match target.relation {
                Relation::Derives => self
                    .position(&target.expected)
                    .ok()
                    .map(|at| &self.values[at])
                    .filter(|value| value.available)
                    .map(|value| value.key.clone())
                    .into_iter()
                    .collect(),
                Relation::DependsOn => {
                    let named = dependencies.iter().find(|dependency| dependency.label == target.label);
                    named.map(|dependency| self.matching(dependency)).unwrap_or_default()
                }
            };
        }
        revisions.push(current);
    }

    fn available(&self, key: &D::Key) -> bool {
        self.value(key).is_some_and(|value| value.available)
    }

    /// Returns the dependencies of `value` under `key`. Returns an empty list if `value` is `None` or the key has no descriptor.
    pub fn dependencies(&self, key: &D::Key, value: Option<&D::Value>) -> Vec<Dependency<D::Key>> {
        match (self.domain.descriptor(key), value) {
            (Some(descriptor), Some(value)) => descriptor.dependencies(key, value),
            _ => Vec::new(),
        }
    }

    /// Returns the keys that currently satisfy a dependency.
    pub fn matching(&self, dependency: &Dependency<D::Key>) -> Vec<D::Key> {
        match &dependency.on {
            On::Key(key) => self.available(key).then(|| key.clone()).into_iter().collect(),
            On::AnyOf { prefixes, predicate, .. } => {
                let below = prefixes.iter().flat_map(|prefix| self.under(prefix.text()));
                let matching = below.filter(|value| value.available && predicate.as_ref().is_none_or(|passes| passes(&value.key)));
                matching.map(|value| value.key.clone()).collect()
            }
        }
    }

    fn revision(
        &self,
        key: &D::Key,
        since: Duration,
        until: Option<Duration>,
        seq: Option<u64>,
        side: &Side<D::Value>,
    ) -> Revision<D::Key, D::Value> {
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
