//! Coalescing buffer between the reader of the store and the receiver of its events.
//!
//! Merges events and keeps only the newest state of each key. If the receiver is slow, memory use grows with the number of
//! changed keys, not with the number of changes.

use std::{
    collections::BTreeMap,
    sync::{Mutex, MutexGuard, PoisonError},
};

use tokio::sync::Notify;

use super::{RawChange, RawItem, RawKey, SnapshotReason, SourceEvent};

/// Buffer that merges events. The reader of the store adds events without waiting, and a single receiver removes them.
#[derive(Default)]
pub(crate) struct CoalescingBuffer {
    // A std mutex is sufficient, because it is locked only for a few map operations and never across an await.
    pending: Mutex<Pending>,
    filled: Notify,
}

/// Merged events, at most one of each kind. A newer event replaces or extends the earlier event of its kind.
#[derive(Default)]
struct Pending {
    reconnected: bool,
    snapshot: Option<(i64, SnapshotReason, Vec<RawItem>)>,
    /// Invariant: all changes are newer than the snapshot.
    changes: BTreeMap<RawKey, (i64, Option<Vec<u8>>)>,
    changes_revision: i64,
    disconnected: Option<String>,
}

impl CoalescingBuffer {
    /// Adds events in order, and wakes the receiver.
    pub fn post(&self, events: Vec<SourceEvent>) {
        if events.is_empty() {
            return;
        }
        let mut pending = self.lock();
        events.into_iter().for_each(|event| pending.add(event));
        drop(pending);
        self.filled.notify_one();
    }

    fn lock(&self) -> MutexGuard<'_, Pending> {
        self.pending.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns the next event, if there is one.
    pub fn take(&self) -> Option<SourceEvent> {
        self.lock().take()
    }

    /// Waits until an event is available. Returns `true` if the event contains keys of the store. Cancel-safe.
    pub async fn filled(&self) -> bool {
        loop {
            let filled = self.filled.notified();
            if let Some(has_content) = self.lock().next_has_content() {
                return has_content;
            }
            filled.await;
        }
    }
}

impl Pending {
    fn add(&mut self, event: SourceEvent) {
        match event {
            SourceEvent::Snapshot { revision, reason, items } => self.snapshot(revision, reason, items),
            SourceEvent::Changes { revision, items } => self.changes(revision, items),
            SourceEvent::Disconnected { message } => self.disconnected(message),
            SourceEvent::Reconnected => self.reconnected(),
        }
    }

    fn snapshot(&mut self, revision: i64, reason: SnapshotReason, items: Vec<RawItem>) {
        // The receiver has not seen the earlier snapshot, so the reason for that snapshot is still valid. A replaced or restored
        // store is reported even if another snapshot follows. For a receiver that has no state yet, the reason is always
        // `Initial`.
        let reason = match (self.snapshot.take(), reason) {
            (Some((_, SnapshotReason::Initial, _)), _) => SnapshotReason::Initial,
            (_, replaced @ SnapshotReason::StoreReplaced { .. }) | (Some((_, replaced @ SnapshotReason::StoreReplaced { .. }, _)), _) => {
                replaced
            }
            (_, restored @ SnapshotReason::StoreRestored { .. }) => restored,
            (Some((_, earlier, _)), _) => earlier,
            (None, reason) => reason,
        };
        self.snapshot = Some((revision, reason, items));
        self.changes.clear();
    }

    fn changes(&mut self, revision: i64, changes: Vec<RawChange>) {
        self.changes
            .extend(changes.into_iter().map(|change| (change.key, (change.mod_revision, change.value))));
        self.changes_revision = revision;
    }

    fn disconnected(&mut self, message: String) {
        self.reconnected = false;
        self.disconnected = Some(message);
    }

    fn reconnected(&mut self) {
        self.disconnected = None;
        self.reconnected = true;
    }

    /// Returns `true` if the next event contains keys of the store, and `None` if there is no event.
    fn next_has_content(&self) -> Option<bool> {
        let has_content = self.snapshot.is_some() || !self.changes.is_empty();
        match (self.reconnected, has_content) {
            (true, _) => Some(false),
            (false, true) => Some(true),
            (false, false) => self.disconnected.as_ref().map(|_| false),
        }
    }

    /// Takes the next event. Keys are delivered after [`SourceEvent::Reconnected`] and before [`SourceEvent::Disconnected`].
    fn take(&mut self) -> Option<SourceEvent> {
        if std::mem::take(&mut self.reconnected) {
            return Some(SourceEvent::Reconnected);
        }
        if let Some((revision, reason, items)) = self.snapshot.take() {
            return Some(SourceEvent::Snapshot { revision, reason, items });
        }
        if !self.changes.is_empty() {
            let changes = std::mem::take(&mut self.changes).into_iter();
            let items = changes
                .map(|(key, (mod_revision, value))| RawChange { key, mod_revision, value })
                .collect();
            return Some(SourceEvent::Changes {
                revision: self.changes_revision,
                items,
            });
        }
        self.disconnected.take().map(|message| SourceEvent::Disconnected { message })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn change(key: &str, mod_revision: i64, value: Option<&str>) -> RawChange {
        RawChange {
            key: RawKey::from(key.as_bytes()),
            mod_revision,
            value: value.map(Into::into),
        }
    }

    fn drain(pending: &mut Pending) -> Vec<SourceEvent> {
        std::iter::from_fn(|| pending.take()).collect()
    }

    #[test]
    fn revisions_are_merged_and_last_write_of_a_key_wins() {
        let mut pending = Pending::default();
        pending.changes(5, vec![change("a", 5, Some("1")), change("b", 5, Some("1"))]);
        pending.changes(6, vec![change("a", 6, None)]);
        let items = vec![change("a", 6, None), change("b", 5, Some("1"))];
        assert_eq!(drain(&mut pending), [SourceEvent::Changes { revision: 6, items }]);
        assert_eq!(pending.next_has_content(), None);
    }

    #[test]
    fn snapshot_replaces_pending_changes() {
        let mut pending = Pending::default();
        pending.changes(5, vec![change("a", 5, Some("1"))]);
        pending.snapshot(7, SnapshotReason::Difference, Vec::new());
        pending.changes(8, vec![change("b", 8, None)]);
        let events = drain(&mut pending);
        let snapshot = SourceEvent::Snapshot {
            revision: 7,
            reason: SnapshotReason::Difference,
            items: Vec::new(),
        };
        assert_eq!(
            events,
            [
                snapshot,
                SourceEvent::Changes {
                    revision: 8,
                    items: vec![change("b", 8, None)]
                }
            ]
        );
    }

    #[test]
    fn newest_connection_state_is_reported_after_content() {
        let mut pending = Pending::default();
        pending.reconnected();
        pending.changes(5, vec![change("a", 5, None)]);
        pending.disconnected("cut".into());
        let events = drain(&mut pending);
        assert!(
            matches!(events[..], [SourceEvent::Changes { .. }, SourceEvent::Disconnected { .. }]),
            "{events:?}"
        );
        pending.disconnected("cut".into());
        pending.reconnected();
        assert_eq!(drain(&mut pending), [SourceEvent::Reconnected]);
    }

    #[test]
    fn merging_keeps_store_replacement() {
        let mut pending = Pending::default();
        let replaced = SnapshotReason::StoreReplaced {
            evidence: "revision 1 < 9".into(),
        };
        pending.snapshot(1, replaced.clone(), Vec::new());
        pending.snapshot(2, SnapshotReason::Compacted, Vec::new());
        assert_eq!(
            drain(&mut pending),
            [SourceEvent::Snapshot {
                revision: 2,
                reason: replaced,
                items: Vec::new()
            }]
        );
    }
}
