//! Passes desired values from the source to the core, and holds removals after the store has lost its contents.
//!
//! The real agent does this work in `agent::removals` and `desired`. This module does it in single steps, but uses the agent's
//! own code to make the decisions (`agent::hold`) and to merge the sources (`sources::merge`).

use std::{
    cell::RefCell,
    collections::{BTreeMap, BTreeSet, HashMap},
    time::Duration,
};

use models::key::Key;
use tokio::sync::watch;

use super::{agent::AgentEvent, mutation::Mutation};
use crate::scheduler::{Change, Rejection, Resync, Transaction};
use crate::{
    agent::{
        effects::Signal,
        hold::{Action, Hold, Present},
    },
    config::OnStoreLoss,
    descriptors::value::Value,
    desired::{ACCEPT_KEY, CONFIG, decode},
    engine::Event,
    sources::{
        etcd::{RawKey, SourceEvent, note::Note},
        merge::{DATASYNC, HELD, Merge, Update},
        note_file::Remembered,
    },
};

/// A desired value with its revision.
#[derive(Clone, PartialEq)]
struct DesiredValue {
    revision: i64,
    value: Result<Value, Rejection>,
}

/// State that survives a restart of the agent.
#[derive(Default)]
pub struct Disk {
    /// Description of the store as the agent last read it, or `None` if the agent has not written the description yet.
    pub note: Option<Note>,
    held: BTreeMap<Key, DesiredValue>,
}

impl Disk {
    /// Creates the disk of an agent that has read the store with this cluster id while the store was empty. An agent that starts
    /// with this disk holds no removals.
    pub fn of_known_store(cluster_id: u64) -> Self {
        let note = Note {
            cluster: format!("{cluster_id:x}"),
            ..Note::default()
        };
        Disk {
            note: Some(note),
            ..Disk::default()
        }
    }

    /// Returns true if the removal of a value would still be on hold after a restart. `key` is without the `config/` prefix.
    pub fn holds(&self, key: &str) -> bool {
        self.held.keys().any(|held| below_config(held) == key)
    }
}

/// Desired values that the agent has read, and removals that are on hold.
pub struct Following {
    merge: Merge<DesiredValue>,
    hold: Hold,
    /// True if removals are on hold and no user has accepted them yet.
    unaccepted: bool,
    /// Revision of the last store event.
    revision: i64,
    /// Keys of the values whose removals were held at the last check.
    values: BTreeSet<Key>,
    orphans: watch::Receiver<Vec<String>>,
    in_sync: watch::Receiver<bool>,
    mutation: Option<Mutation>,
}

impl Following {
    /// Creates the state of a starting agent from the contents of its disk. Also returns the first events for the core.
    pub fn start(
        disk: &mut Disk,
        orphans: watch::Receiver<Vec<String>>,
        in_sync: watch::Receiver<bool>,
        mutation: Option<Mutation>,
    ) -> (Self, Vec<AgentEvent>) {
        let mut merge = Merge::new([DATASYNC], None);
        merge.replace(HELD, disk.held.clone());
        let mut following = Following {
            merge,
            hold: Hold::new(OnStoreLoss::Hold),
            unaccepted: false,
            revision: 0,
            values: disk.held.keys().cloned().collect(),
            orphans,
            in_sync,
            mutation,
        };
        let remembered = match &disk.note {
            Some(note) => Remembered::Note(note.clone()),
            None => Remembered::Nothing("nothing was written".to_owned()),
        };
        let actions = following.hold.begin(&remembered, !disk.held.is_empty());
        let mut events = Vec::new();
        if !following.values.is_empty() {
            events.push(following.held_values());
        }
        events.extend(following.carry_out(actions, None, None, disk));
        (following, events)
    }

    /// Processes an event from the source, and returns events for the core. `note` describes the store from which the event was
    /// read.
    pub fn take(&mut self, event: SourceEvent, note: Option<&Note>, disk: &mut Disk) -> Vec<AgentEvent> {
        match event {
            SourceEvent::Snapshot { revision, reason, items } => {
                let (accepts, items): (Vec<_>, Vec<_>) = items.into_iter().partition(|item| item.key.as_bytes() == ACCEPT_KEY);
                let accepted_at = accepts.iter().map(|accept| accept.mod_revision).max();
                let items = items.into_iter().map(|item| {
                    let (key, value) = desired_update(&item.key, item.mod_revision, Some(item.value));
                    (key, value.expect("it has a value"))
                });
                let items = items.collect();
                self.revision = revision;
                let actions = self.hold.listed(revision, &reason, accepted_at, note);
                self.carry_out(actions, Some((revision, items)), note, disk)
            }
            SourceEvent::Changes { revision, items } => {
                let (accepts, items): (Vec<_>, Vec<_>) = items.into_iter().partition(|item| item.key.as_bytes() == ACCEPT_KEY);
                let items = items
                    .into_iter()
                    .map(|item| desired_update(&item.key, item.mod_revision, item.value));
                self.revision = revision;
                if disk.note.as_ref().is_none_or(|note| note.keys == 0) {
                    self.write_note(note, disk);
                }
                let update = self.merge.store_changed(items.collect());
                let mut events = Vec::from_iter(self.desired(update, revision));
                if accepts.iter().any(|accept| accept.value.is_some()) {
                    let actions = self.hold.accepted();
                    events.extend(self.carry_out(actions, None, note, disk));
                }
                events
            }
            SourceEvent::Disconnected { .. } | SourceEvent::Reconnected => Vec::new(),
        }
    }

    /// Releases the held removals if the reason for holding them is gone, and returns events for the core. Must be called after
    /// every event that can remove the reason.
    pub fn judge(&mut self, note: Option<&Note>, disk: &mut Disk) -> Vec<AgentEvent> {
        let mut events = Vec::new();
        if !self.merge.held_by(HELD).map(|(key, _)| key).eq(&self.values) {
            let values: BTreeSet<Key> = self.merge.held_by(HELD).map(|(key, _)| key.clone()).collect();
            let before = std::mem::replace(&mut self.values, values);
            if self.values.len() < before.len() && self.unaccepted {
                self.keep(disk);
            }
            events.push(self.held_values());
        }
        if self.hold.reason().is_none() {
            return events;
        }
        let present = Present {
            accepted: !self.unaccepted,
            something: self.has_something(),
            in_sync: *self.in_sync.borrow(),
        };
        let actions = self.hold.judge(present);
        events.extend(self.carry_out(actions, None, note, disk));
        events
    }

    /// Returns the event that reports the held values. The times in the event are zero, because no test checks them.
    fn held_values(&self) -> AgentEvent {
        let values = self.values.iter().map(|key| (key.clone(), Duration::ZERO));
        Event::Signal(Signal::HeldValues(values.collect()))
    }

    /// Writes the note that identifies the store after a restart of the agent.
    pub fn write_note(&self, note: Option<&Note>, disk: &mut Disk) {
        if let Some(note) = note.and_then(|note| self.hold.note(note)) {
            disk.note = Some(note);
        }
    }

    /// Returns true if removals are on hold.
    pub fn is_holding(&self) -> bool {
        self.hold.reason().is_some()
    }

    /// Returns true if the removal of any value or orphan is on hold.
    pub fn has_something(&self) -> bool {
        self.merge.held_by(HELD).next().is_some() || !self.orphans.borrow().is_empty()
    }

    /// Returns true if the removal of any orphan is on hold.
    pub fn has_orphans(&self) -> bool {
        !self.orphans.borrow().is_empty()
    }

    /// Returns true if the agent has read exactly these store contents, and all changes up to `revision`.
    pub fn has_read<'a>(&self, stored: impl Iterator<Item = (&'a RawKey, i64, &'a [u8])>, revision: i64) -> bool {
        let stored = stored.map(|(raw, revision, value)| desired_update(raw, revision, Some(value.to_vec())));
        let mut stored = stored.filter_map(|(key, desired_update)| Some((key, desired_update?)));
        let mut read = self.merge.held_by(DATASYNC);
        let same = read.by_ref().all(|(key, desired_update)| {
            stored
                .next()
                .is_some_and(|(other, value)| other == *key && value == *desired_update)
        });
        same && stored.next().is_none() && self.revision >= revision
    }

    /// Returns the keys of the held values, without the `config/` prefix.
    pub fn held(&self) -> impl Iterator<Item = &str> {
        let held = self.merge.held_by(HELD);
        held.map(|(key, _)| below_config(key))
    }

    fn carry_out(
        &mut self,
        actions: Vec<Action>,
        mut listed: Option<(i64, Vec<(Key, DesiredValue)>)>,
        note: Option<&Note>,
        disk: &mut Disk,
    ) -> Vec<AgentEvent> {
        let mut events = Vec::new();
        let deaf = self.mutation == Some(Mutation::FollowLostStore);
        for action in actions {
            match action {
                Action::Hold(_) => {
                    self.unaccepted = true;
                    if !deaf {
                        events.push(Event::Signal(Signal::HoldOrphans(true)));
                    }
                }
                Action::Date(_) => {}
                Action::WriteNote => self.write_note(note, disk),
                Action::ApplyWithoutRemovals if !deaf => {
                    if let Some((revision, items)) = listed.take() {
                        let update = self.merge.stored_without_removals(items);
                        self.keep(disk);
                        events.extend(self.desired(update, revision));
                    }
                }
                Action::Apply | Action::ApplyWithoutRemovals => {
                    if let Some((revision, items)) = listed.take() {
                        let update = self.merge.stored(items);
                        events.extend(self.desired(update, revision));
                    }
                }
                Action::Accept => {
                    disk.held.clear();
                    let update = self.merge.replace(HELD, []);
                    events.extend(self.desired(update, 0));
                    self.unaccepted = false;
                }
                Action::Release => {
                    self.unaccepted = false;
                    events.push(Event::Signal(Signal::HoldOrphans(false)));
                }
            }
        }
        events
    }

    /// Converts an update to an event for the core. Returns `None` if the update changes nothing.
    ///
    /// While removals of orphans are held, the event is a full resync. When a lost value is put again, the resync lets the agent
    /// find the value's existing objects instead of creating them.
    fn desired(&self, update: Update<DesiredValue>, revision: i64) -> Option<AgentEvent> {
        if update.is_empty() || self.orphans.borrow().is_empty() {
            return desired(update, revision);
        }
        desired(self.merge.everything(), revision)
    }

    /// Writes the held values to the disk, except for invalid ones.
    fn keep(&self, disk: &mut Disk) {
        let held = self.merge.held_by(HELD).filter(|(_, desired_update)| desired_update.value.is_ok());
        let kept = |(key, desired_update): (&Key, &DesiredValue)| {
            let desired_update = DesiredValue {
                revision: 0,
                ..desired_update.clone()
            };
            (key.clone(), desired_update)
        };
        disk.held = held.map(kept).collect();
    }
}

fn below_config(key: &Key) -> &str {
    key.as_str().strip_prefix(CONFIG).unwrap_or(key.as_str())
}

type Decoded = HashMap<(RawKey, Vec<u8>), Result<Value, Rejection>>;

thread_local! {
    /// Cache of decoded values. Decoding is the most expensive part of a run, and there are only a few distinct values.
    static DECODED: RefCell<Decoded> = RefCell::new(HashMap::new());
}

/// Maximum number of entries in the cache of decoded values.
const DECODED_MAX: usize = 50_000;

fn decoded(raw: &RawKey, key: &Key, value: Vec<u8>) -> Result<Value, Rejection> {
    DECODED.with_borrow_mut(|known| {
        if known.len() > DECODED_MAX {
            known.clear();
        }
        let entry = known.entry((raw.clone(), value));
        let value = entry.key().1.clone();
        entry.or_insert_with(|| decode(raw, key, &value)).clone()
    })
}

fn desired_update(raw: &RawKey, revision: i64, value: Option<Vec<u8>>) -> (Key, Option<DesiredValue>) {
    let key = Key::from(format!("{CONFIG}{raw}"));
    let desired_update = value.map(|value| DesiredValue {
        revision,
        value: decoded(raw, &key, value),
    });
    (key, desired_update)
}

/// Converts an update to an event for the core. Returns `None` if the update changes nothing. Removals have no revision of their
/// own, so they get `revision`.
fn desired(update: Update<DesiredValue>, revision: i64) -> Option<AgentEvent> {
    if update.is_empty() {
        return None;
    }
    let changes = update.changes.into_iter().map(|(key, desired_update)| {
        let revision = desired_update.as_ref().map_or(revision, |desired_update| desired_update.revision);
        let value = desired_update.map(|desired_update| desired_update.value);
        Change { key, revision, value }
    });
    let resync = if update.full { Resync::Full } else { Resync::None };
    let transaction = Transaction::resync(resync, changes.collect());
    Some(Event::Desired { transaction, reply: None })
}

/// Converts an event from a single source to an event for the core. Returns `None` if the event contains no values.
#[cfg(test)]
pub fn desired_event(event: SourceEvent) -> Option<AgentEvent> {
    let (full, items): (_, Vec<_>) = match event {
        SourceEvent::Snapshot { items, .. } => {
            let items = items
                .into_iter()
                .map(|item| desired_update(&item.key, item.mod_revision, Some(item.value)));
            (true, items.collect())
        }
        SourceEvent::Changes { items, .. } => {
            let items = items
                .into_iter()
                .map(|item| desired_update(&item.key, item.mod_revision, item.value));
            (false, items.collect())
        }
        SourceEvent::Disconnected { .. } | SourceEvent::Reconnected => return None,
    };
    desired(Update { full, changes: items }, 1)
}
