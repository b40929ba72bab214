//! What a listing or an answer of the watch means: the decisions of the reader, without any connection.
//!
//! Owns the [`Position`] and what the receiver was told of the connection. Must never do I/O. Start reading at
//! [`Reading::established`].

use std::collections::BTreeMap;

use super::{
    RawChange, RawItem, RawKey, SnapshotReason, SourceEvent,
    note::{Note, Past, Recognition},
    position::{Comparison, Position, Suspects},
};

/// What a comparison of all keys' revisions has shown.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Compared {
    /// What was delivered is what the store has.
    Same,
    /// There are differences, which may be on their way: to be compared once more soon.
    InDoubt,
    /// The same differences twice: all must be listed again.
    Different,
}

/// See the [module documentation](self).
#[derive(Default)]
pub(crate) struct Reading {
    /// What the receiver is to be told.
    events: Vec<SourceEvent>,
    /// What an earlier process remembered of the store.
    note: Option<Note>,
    /// `None` until the first snapshot.
    position: Option<Position>,
    /// Set when the next listing must be delivered as a whole.
    snapshot_because: Option<SnapshotReason>,
    /// The loss of the connection that the receiver knows of.
    told: Option<String>,
    suspects: Suspects,
    /// Losses of the store's content that were noticed.
    losses: u64,
}

impl Reading {
    /// Nothing is known yet. The store must be the one of this note, if there is one.
    pub fn recognizing(note: Option<Note>) -> Self {
        Reading {
            note,
            ..Reading::default()
        }
    }

    /// Takes what the receiver is to be told, in order. It must not be delivered before [`Reading::note`] is: the note is never older than
    /// an event that was delivered.
    pub fn take_events(&mut self) -> Vec<SourceEvent> {
        std::mem::take(&mut self.events)
    }

    /// What a later process needs to recognize the store; `None` before the first listing.
    pub fn note(&self) -> Option<Note> {
        let note = self.position.as_ref().map(Position::note)?;
        Some(Note {
            losses: self.losses,
            ..note
        })
    }

    /// The revision whose keys must be listed as well before the listing can be judged, if any; see [`Past`].
    pub fn doubts(&self, revision: i64, cluster_id: u64, items: &[RawItem]) -> Option<i64> {
        match (&self.position, &self.note) {
            (Some(position), _) => position.doubts(revision, cluster_id, items),
            (None, Some(note)) => note.doubts(revision, cluster_id, items),
            (None, None) => None,
        }
    }

    /// Everything was listed at `revision`, and is being watched from the next one on; `past` is the answer to [`Reading::doubts`].
    /// Returns whether the store is back after a loss that was reported.
    pub fn established(&mut self, revision: i64, cluster_id: u64, items: Vec<RawItem>, past: &Past) -> bool {
        let back = self.told.take().is_some();
        if back {
            self.events.push(SourceEvent::Reconnected);
        }
        self.suspects.clear();
        self.position = Some(self.adopt(revision, cluster_id, items, past));
        back
    }

    /// Delivers what a listing has brought, and returns the position after it.
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

    /// Takes the changes of one answer of the watch. The server never splits one revision over two answers, as splitting
    /// (`fragment`) is not asked for; an answer may hold many revisions.
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

    /// Takes a listing of the keys alone, made at `revision` while the watch runs.
    pub fn compared(&mut self, revision: i64, listed: BTreeMap<RawKey, i64>) -> Compared {
        let Some(position) = &mut self.position else {
            return Compared::Same;
        };
        let found = position.suspects(revision, listed);
        if found.is_empty() {
            // Nothing below the prefix changed; others have written elsewhere.
            position.advance(revision);
        }
        let confirmed = found.iter().any(|(key, mod_revision)| self.suspects.get(key) == Some(mod_revision));
        self.suspects = found;
        match (confirmed, self.suspects.is_empty()) {
            (true, _) => Compared::Different,
            (false, true) => Compared::Same,
            (false, false) => Compared::InDoubt,
        }
    }

    /// The next listing must be delivered as a whole.
    pub fn list_again(&mut self, reason: SnapshotReason) {
        self.snapshot_because = Some(reason);
    }

    /// The connection is lost, or could not be made. The result is whether that is news.
    pub fn lost(&mut self, message: String) -> bool {
        let news = self.told.as_ref() != Some(&message);
        if news {
            self.events.push(SourceEvent::Disconnected { message: message.clone() });
            self.told = Some(message);
        }
        news
    }
}
