//! From what the source reports to the core, and the removals that are held when the store has lost its content.
//!
//! Does in one step each what the product's `agent::removals` and `desired` do; both share the decisions (`agent::hold`) and the
//! sources of desired values (`sources::merge`) with it.

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
struct Wanted {
    revision: i64,
    value: Result<Value, Rejection>,
}

/// What the agent keeps over a restart.
#[derive(Default)]
pub struct Disk {
    /// The store as it was read last.
    pub note: Option<Note>,
    held: BTreeMap<Key, Wanted>,
}

impl Disk {
    /// The agent has seen this cluster without keys, so it holds nothing when it starts.
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

    /// Whether a value is held over a restart; its key is one below `config/`.
    pub fn holds(&self, key: &str) -> bool {
        self.held.keys().any(|held| below_config(held) == key)
    }
}

/// See the [module documentation](self).
pub struct Following {
    merge: Merge<Wanted>,
    hold: Hold,
    /// Held removals that nobody has accepted yet.
    unaccepted: bool,
    /// Revision of the store at which it was heard of last.
    revision: i64,
    /// Keys of the held values when that was last looked at.
    values: BTreeSet<Key>,
    orphans: watch::Receiver<Vec<String>>,
    in_sync: watch::Receiver<bool>,
    mutation: Option<Mutation>,
}

impl Following {
    /// As an agent that starts with this disk; with the first events for its core.
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

    /// Takes an event of the source; `note` is the note of the store.
    pub fn take(&mut self, event: SourceEvent, note: Option<&Note>, disk: &mut Disk) -> Vec<AgentEvent> {
        match event {
            SourceEvent::Snapshot { revision, reason, items } => {
                let (accepts, items): (Vec<_>, Vec<_>) = items.into_iter().partition(|item| item.key.as_bytes() == ACCEPT_KEY);
                let accepted_at = accepts.iter().map(|accept| accept.mod_revision).max();
                let items = items.into_iter().map(|item| {
                    let (key, value) = wanted(&item.key, item.mod_revision, Some(item.value));
                    (key, value.expect("it has a value"))
                });
                let items = items.collect();
                self.revision = revision;
                let actions = self.hold.listed(revision, &reason, accepted_at, note);
                self.carry_out(actions, Some((revision, items)), note, disk)
            }
            SourceEvent::Changes { revision, items } => {
                let (accepts, items): (Vec<_>, Vec<_>) = items.into_iter().partition(|item| item.key.as_bytes() == ACCEPT_KEY);
                let items = items.into_iter().map(|item| wanted(&item.key, item.mod_revision, item.value));
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

    /// After anything that can end the hold.
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

    /// The event that reports the held values. Nobody compares the times.
    fn held_values(&self) -> AgentEvent {
        let values = self.values.iter().map(|key| (key.clone(), Duration::ZERO));
        Event::Signal(Signal::HeldValues(values.collect()))
    }

    /// Writes what a later process needs to recognize the store.
    pub fn write_note(&self, note: Option<&Note>, disk: &mut Disk) {
        if let Some(note) = note.and_then(|note| self.hold.note(note)) {
            disk.note = Some(note);
        }
    }

    /// Whether removals are held.
    pub fn is_holding(&self) -> bool {
        self.hold.reason().is_some()
    }

    /// Whether there are values or orphans that stay for no other reason.
    pub fn has_something(&self) -> bool {
        self.merge.held_by(HELD).next().is_some() || !self.orphans.borrow().is_empty()
    }

    /// Whether orphans stay.
    pub fn has_orphans(&self) -> bool {
        !self.orphans.borrow().is_empty()
    }

    /// Returns whether the agent was given exactly this content of the store, and everything that was said until `revision`.
    pub fn has_read<'a>(&self, stored: impl Iterator<Item = (&'a RawKey, i64, &'a [u8])>, revision: i64) -> bool {
        let stored = stored.map(|(raw, revision, value)| wanted(raw, revision, Some(value.to_vec())));
        let mut stored = stored.filter_map(|(key, wanted)| Some((key, wanted?)));
        let mut read = self.merge.held_by(DATASYNC);
        let same = read
            .by_ref()
            .all(|(key, wanted)| stored.next().is_some_and(|(other, value)| other == *key && value == *wanted));
        same && stored.next().is_none() && self.revision >= revision
    }

    /// Keys of held values.
    pub fn held(&self) -> impl Iterator<Item = &str> {
        let held = self.merge.held_by(HELD);
        held.map(|(key, _)| below_config(key))
    }

    fn carry_out(
        &mut self,
        actions: Vec<Action>,
        mut listed: Option<(i64, Vec<(Key, Wanted)>)>,
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

    /// The event for the core that an update becomes, if any. While orphans are held all is read again, so that what is put again is
    /// found and not created a second time.
    fn desired(&self, update: Update<Wanted>, revision: i64) -> Option<AgentEvent> {
        if update.is_empty() || self.orphans.borrow().is_empty() {
            return desired(update, revision);
        }
        desired(self.merge.everything(), revision)
    }

    /// Held values survive the agent; those that cannot be used do not.
    fn keep(&self, disk: &mut Disk) {
        let held = self.merge.held_by(HELD).filter(|(_, wanted)| wanted.value.is_ok());
        let kept = |(key, wanted): (&Key, &Wanted)| {
            let wanted = Wanted {
                revision: 0,
                ..wanted.clone()
            };
            (key.clone(), wanted)
        };
        disk.held = held.map(kept).collect();
    }
}

fn below_config(key: &Key) -> &str {
    key.as_str().strip_prefix(CONFIG).unwrap_or(key.as_str())
}

type Decoded = HashMap<(RawKey, Vec<u8>), Result<Value, Rejection>>;

thread_local! {
    /// Decoding is the costliest part of a world, and worlds have few values: each is decoded once.
    static DECODED: RefCell<Decoded> = RefCell::new(HashMap::new());
}

/// Decoded values that are kept.
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

fn wanted(raw: &RawKey, revision: i64, value: Option<Vec<u8>>) -> (Key, Option<Wanted>) {
    let key = Key::from(format!("{CONFIG}{raw}"));
    let wanted = value.map(|value| Wanted {
        revision,
        value: decoded(raw, &key, value),
    });
    (key, wanted)
}

/// The event for the core that an update becomes, if any; `revision` is that of values that go away.
fn desired(update: Update<Wanted>, revision: i64) -> Option<AgentEvent> {
    if update.is_empty() {
        return None;
    }
    let changes = update.changes.into_iter().map(|(key, wanted)| {
        let revision = wanted.as_ref().map_or(revision, |wanted| wanted.revision);
        let value = wanted.map(|wanted| wanted.value);
        Change { key, revision, value }
    });
    let resync = if update.full { Resync::Full } else { Resync::None };
    let transaction = Transaction::resync(resync, changes.collect());
    Some(Event::Desired { transaction, reply: None })
}

/// The event for the core that an event of the only source becomes, if any.
#[cfg(test)]
pub fn desired_event(event: SourceEvent) -> Option<AgentEvent> {
    let (full, items): (_, Vec<_>) = match event {
        SourceEvent::Snapshot { items, .. } => {
            let items = items.into_iter().map(|item| wanted(&item.key, item.mod_revision, Some(item.value)));
            (true, items.collect())
        }
        SourceEvent::Changes { items, .. } => {
            let items = items.into_iter().map(|item| wanted(&item.key, item.mod_revision, item.value));
            (false, items.collect())
        }
        SourceEvent::Disconnected { .. } | SourceEvent::Reconnected => return None,
    };
    desired(Update { full, changes: items }, 1)
}
