//! Follows the store, and puts removals on hold if the store lost its contents.
//!
//! [`Hold`] makes the decisions, based on the events of the source. A note about the store is saved to disk before a listing is
//! applied, so that the next process can recognize the store.

use std::{sync::Arc, time::Duration};

use tokio::{
    sync::watch,
    time::{Instant, sleep_until},
};
use tracing::{error, info, warn};

use super::{
    AgentHandle,
    effects::Signal,
    hold::{Action, Hold, Present},
    store_events::StoreEvents,
};
use crate::{
    config::OnStoreLoss,
    desired::{ACCEPT_KEY, Desired},
    engine::{Clock, Event},
    sources::{
        etcd::{RawChange, RawItem, SnapshotReason, SourceEvent, note::Note},
        note_file::{NoteFile, Remembered},
    },
    telemetry::metrics::Metrics,
};

/// Delay between a change in the store and the next save of the note about the store. One save covers all changes during this
/// delay.
const NOTE_INTERVAL: Duration = Duration::from_secs(1);

/// Task that updates the desired state with the contents of the store, and puts removals on hold.
pub struct Removals {
    file: NoteFile,
    remembered: Remembered,
    hold: Hold,
    parts: Parts,
    note_due: Option<Instant>,
    clock: Clock,
}

/// Components of the agent that [`Removals`] uses.
pub struct Parts {
    /// Desired state of all sources.
    pub desired: Arc<Desired>,
    /// Handle to the engine.
    pub handle: AgentHandle,
    /// Metrics, in which reads of the store are recorded.
    pub metrics: Arc<Metrics>,
    /// User-readable descriptions of the orphans that are kept because removals are on hold.
    pub orphans: watch::Receiver<Vec<String>>,
    /// True once everything that was desired at startup has been processed.
    pub in_sync: watch::Receiver<bool>,
}

impl Removals {
    /// Creates the task, and reads the note left by an earlier process.
    pub fn new(policy: OnStoreLoss, mut file: NoteFile, parts: Parts) -> Self {
        let remembered = file.read();
        Removals {
            file,
            remembered,
            hold: Hold::new(policy),
            parts,
            note_due: None,
            clock: Clock::new(),
        }
    }

    /// Returns the note in which an earlier process described the store that it followed most recently.
    pub fn note(&self) -> Option<Note> {
        match &self.remembered {
            Remembered::Note(note) => Some(note.clone()),
            Remembered::Nothing(_) => None,
        }
    }

    /// Follows the store until its source ends.
    pub async fn run(mut self, mut events: StoreEvents) {
        let mut noted = events.noted();
        let mut held = self.parts.desired.held();
        let mut values = held.borrow_and_update().values.clone();
        if !values.is_empty() {
            self.parts.handle.send(Event::Signal(Signal::HeldValues(values.clone())));
        }
        let actions = self.hold.begin(&self.remembered, !values.is_empty());
        self.carry_out(actions, None, &noted).await;
        loop {
            let due = self.note_due;
            let wait = async { sleep_until(due.unwrap_or_else(Instant::now)).await };
            tokio::select! {
                event = events.recv() => match event {
                    Some(event) => self.event(event, &noted).await,
                    None => return,
                },
                Ok(()) = noted.changed() => self.plan_note(),
                Ok(()) = self.parts.orphans.changed() => {
                    let orphans = self.parts.orphans.borrow_and_update().clone();
                    self.parts.desired.hold_orphans(orphans);
                }
                Ok(()) = self.parts.in_sync.changed() => {}
                Ok(()) = held.changed() => {}
                () = wait, if due.is_some() => self.write_note(&noted),
            }
            let now = held.borrow_and_update().clone();
            if now.values != values {
                self.parts.handle.send(Event::Signal(Signal::HeldValues(now.values.clone())));
            }
            if now.values.len() < values.len() && now.evidence.is_some() {
                self.parts.desired.forget_put_again().await;
            }
            values = now.values;
            let present = Present {
                accepted: now.evidence.is_none(),
                something: !values.is_empty() || !self.parts.orphans.borrow().is_empty(),
                in_sync: *self.parts.in_sync.borrow(),
            };
            let actions = self.hold.judge(present);
            self.carry_out(actions, None, &noted).await;
        }
    }

    /// Carries out the actions of a decision. `listed` is the listing of the store that led to the decision.
    async fn carry_out(&mut self, actions: Vec<Action>, mut listed: Option<(i64, Vec<RawItem>)>, noted: &watch::Receiver<Option<Note>>) {
        for action in actions {
            match action {
                Action::Hold(reason) => {
                    self.parts.desired.hold(Some(reason.evidence), reason.revision);
                    self.parts.handle.send(Event::Signal(Signal::HoldOrphans(true)));
                }
                Action::Date(reason) => self.parts.desired.hold(Some(reason.evidence), reason.revision),
                Action::WriteNote => self.write_note(noted),
                Action::Apply => {
                    if let Some((revision, items)) = listed.take() {
                        self.parts.desired.stored(revision, items);
                    }
                }
                Action::ApplyWithoutRemovals => {
                    if let Some((revision, items)) = listed.take() {
                        let since = self.clock.now();
                        self.parts.desired.stored_without_removals(since, revision, items).await;
                    }
                }
                Action::Accept => self.accept().await,
                Action::Release => {
                    self.parts.desired.hold(None, 0);
                    self.parts.handle.send(Event::Signal(Signal::HoldOrphans(false)));
                }
            }
        }
    }

    fn plan_note(&mut self) {
        self.note_due.get_or_insert_with(|| Instant::now() + NOTE_INTERVAL);
    }

    fn write_note(&mut self, noted: &watch::Receiver<Option<Note>>) {
        self.note_due = None;
        let Some(note) = noted.borrow().as_ref().and_then(|note| self.hold.note(note)) else {
            return;
        };
        if let Err(error) = self.file.write(&note) {
            warn!(
                "cannot write {}: {error}; without this file, the agent cannot detect a store loss at its next start",
                self.file.path().display()
            );
        }
    }

    async fn event(&mut self, event: SourceEvent, noted: &watch::Receiver<Option<Note>>) {
        match event {
            SourceEvent::Snapshot { revision, reason, items } => self.snapshot(revision, reason, items, noted).await,
            SourceEvent::Changes { revision, items } => {
                self.parts
                    .metrics
                    .read_changes(revision, items.iter().map(|item| item.mod_revision));
                let (accepts, items): (Vec<RawChange>, _) = items.into_iter().partition(|item| item.key.as_bytes() == ACCEPT_KEY);
                // If the saved note lists no keys, a loss of keys could not be detected later. Therefore, a new note is saved
                // before the first keys are applied.
                if self.file.is_of_nothing() {
                    self.write_note(noted);
                }
                self.parts.desired.changed(revision, items);
                if accepts.iter().any(|accept| accept.value.is_some()) {
                    self.carry_out(self.hold.accepted(), None, noted).await;
                }
            }
            SourceEvent::Disconnected { message } => {
                warn!("no changes from the store, so the last desired state stays in effect: {message}")
            }
            SourceEvent::Reconnected => info!("changes from the store arrive again"),
        }
    }

    async fn snapshot(&mut self, revision: i64, reason: SnapshotReason, items: Vec<RawItem>, noted: &watch::Receiver<Option<Note>>) {
        let (accepts, items): (Vec<RawItem>, Vec<RawItem>) = items.into_iter().partition(|item| item.key.as_bytes() == ACCEPT_KEY);
        let count = items.len();
        self.parts.metrics.read_all(revision);
        match &reason {
            SnapshotReason::StoreReplaced { evidence } if self.hold.holds(&reason) => error!(
                revision,
                count, %evidence, "the store may have lost its contents; missing values stay applied until you run `netns-agent removals \
                                   accept`"
            ),
            SnapshotReason::StoreReplaced { evidence } => warn!(
                revision,
                count, %evidence, "the store may have lost its contents; missing values are deleted (--on-store-loss=apply)"
            ),
            SnapshotReason::StoreRestored { evidence } => warn!(
                revision,
                count, %evidence, "the store was restored from an older snapshot; the restored values are applied"
            ),
            reason => info!(revision, count, ?reason, "read the desired state"),
        }
        let accepted_at = accepts.iter().map(|accept| accept.mod_revision).max();
        let actions = self.hold.listed(revision, &reason, accepted_at, noted.borrow().as_ref());
        self.carry_out(actions, Some((revision, items)), noted).await;
    }

    async fn accept(&self) {
        if let Err(error) = self.parts.desired.accept_removals().await {
            error!("cannot accept the removals: {error}");
        }
    }
}
