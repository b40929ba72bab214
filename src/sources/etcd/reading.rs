//! Processes listings and watch responses of the store, and decides which events to deliver. Performs no I/O.

use std::collections::BTreeMap;

use super::{
    RawChange, RawItem, RawKey, SnapshotReason, SourceEvent,
    note::{Note, Past, Recognition},
    position::{Comparison, Position, Unconfirmed},
};

/// Result of comparing the revisions of all keys with the delivered revisions.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Compared {
    /// The delivered state matches the store.
    Same,
    /// There are differences, but the watch may still deliver them. Compare again after a short time.
    InDoubt,
    /// A difference was observed twice. Everything must be listed again.
    Different,
}

/// State of the reader: its [`Position`], and the connection state last reported to the receiver.
#[derive(Default)]
pub(crate) struct Reading {
    /// Events to deliver to the receiver, in order.
    events: Vec<SourceEvent>,
    /// Note about the store that an earlier process saved. `None` if there is no saved note.
    note: Option<Note>,
    /// Delivered state. `None` before the first snapshot.
    position: Option<Position>,
    /// Reason to deliver the next listing as a snapshot. `None` if only the differences need to be delivered.
    snapshot_because: Option<SnapshotReason>,
    /// Message of the last reported connection loss. `None` once the store can be reached again.
    reported: Option<String>,
    unconfirmed: Unconfirmed,
    /// Number of times that this process has detected a loss of the store's contents.
    losses: u64,
}

impl Reading {
    /// Creates the initial state. If there is a note, the first listing is compared with the note.
    pub fn recognizing(note: Option<Note>) -> Self {
        Reading {
            note,
            ..Reading::default()
        }
    }

    /// Removes and returns the events to deliver, in order.
    ///
    /// [`Reading::note`] must be published first, because the note must never be older than a delivered event.
    pub fn take_events(&mut self) -> Vec<SourceEvent> {
        std::mem::take(&mut self.events)
    }

    /// Returns the note that a later process uses to recognize the store, or `None` before the first listing.
    pub fn note(&self) -> Option<Note> {
        let note = self.position.as_ref().map(Position::note)?;
        Some(Note {
            losses: self.losses,
            ..note
        })
    }

    /// Returns the earlier revision that must also be listed to interpret the current listing (see [`Past`]). Returns `None` if
    /// the current listing is sufficient.
    pub fn doubts(&self, revision: i64, cluster_id: u64, items: &[RawItem]) -> Option<i64> {
        match (&self.position, &self.note) {
            (Some(position), _) => position.doubts(revision, cluster_id, items),
            (None, Some(note)) => note.doubts(revision, cluster_id, items),
            (None, None) => None,
        }
    }

    /// Processes a complete listing at `revision`, after which the watch starts. `past` is the listing requested by [`Reading::doubts`].
    ///
    /// Returns `true` if the loss of the connection had been reported to the receiver.
    pub fn established(&mut self, revision: i64, cluster_id: u64, items: Vec<RawItem>, past: &Past) -> bool {
        let back = self.reported.take().is_some();
        if back {
            self.events.push(SourceEvent::Reconnected);
        }
        self.unconfirmed.clear();
        self.position = Some(self.adopt(revision, cluster_id, items, past));
        back
    }

    /// Adds the event to deliver for a listing, if any, and returns the new position.
    fn adopt(&mut self, revision: i64, cluster_id: u64, items: Vec<RawItem>, past: &Past) -> Position {
        let reason = match (self.position.take(), self.snapshot_because.take()) {
            (None, _) => match &self.note {
                None => SnapshotReason::Initial,
                Some(note) => match note.recognize(revision, cluster_id, &items, past) {
                    Recognition::Same => SnapshotReason::Initial,
                    Recognition::Restored(evidence) => SnapshotReason::StoreRestored { evidence },
                    Recognition::Replaced(evidence) => SnapshotReason::StoreReplaced { evidence },
                },
            },
            (Some(mut position), wanted) => match (position.compare(revision, cluster_id, &items, past), wanted) {
                (Comparison::Replaced(evidence), _) => SnapshotReason::StoreReplaced { evidence },
                (Comparison::Restored(evidence), _) => SnapshotReason::StoreRestored { evidence },
                (_, Some(reason)) => reason,
                (Comparison::Moved(changes), None) => {
                    position.move_to(revision, &changes);
                    self.events.push(SourceEvent::Changes { revision, items: changes });
                    return position;
                }
                (Comparison::Same, None) => {
                    position.advance(revision);
                    return position;
                }
            },
        };
        self.losses += u64::from(matches!(reason, SnapshotReason::StoreReplaced { .. }));
        let position = Position::of_listing(revision, cluster_id, &items);
        self.events.push(SourceEvent::Snapshot { revision, reason, items });
        position
    }

    /// Processes the changes of one watch response.
    ///
    /// The server never splits one revision across two responses, because `fragment` is not set. One response may contain many revisions.
    pub fn watched(&mut self, answer: Vec<RawChange>) {
        let Some(position) = &mut self.position else { return };
        let mut revision = position.revision();
        let mut changes = Vec::with_capacity(answer.len());
        for change in answer {
            revision = revision.max(change.mod_revision);
            changes.extend(position.apply(change));
        }
        position.advance(revision);
        if !changes.is_empty() {
            self.events.push(SourceEvent::Changes { revision, items: changes });
        }
    }

    /// Processes a listing of keys only, taken at `revision` while the watch runs.
    pub fn compared(&mut self, revision: i64, listed: BTreeMap<RawKey, i64>) -> Compared {
        let Some(position) = &mut self.position else {
            return Compared::Same;
        };
        let found = position.unconfirmed(revision, listed);
        if found.is_empty() {
            // Only keys outside the prefix were written since the last event.
            position.advance(revision);
        }
        let confirmed = found
            .iter()
            .any(|(key, mod_revision)| self.unconfirmed.get(key) == Some(mod_revision));
        self.unconfirmed = found;
        match (confirmed, self.unconfirmed.is_empty()) {
            (true, _) => Compared::Different,
            (false, true) => Compared::Same,
            (false, false) => Compared::InDoubt,
        }
    }

    /// Requests that the next listing be delivered as a snapshot.
    pub fn list_again(&mut self, reason: SnapshotReason) {
        self.snapshot_because = Some(reason);
    }

    /// Records that the connection was lost or could not be established. Returns `true` if `message` differs from the message
    /// reported last.
    pub fn lost(&mut self, message: String) -> bool {
        let news = self.reported.as_ref() != Some(&message);
        if news {
            self.events.push(SourceEvent::Disconnected { message: message.clone() });
            self.reported = Some(message);
        }
        news
    }
}
