//! Rolls back a client's request if one of its changes failed or if it was not confirmed in time.
//!
//! The previous values are kept while a rollback is possible. A rollback does not restore values that clients have changed since the request.
//!
//! A change that waits for confirmation is applied but not yet saved to disk. If the agent stops before the confirmation, it
//! restores the previous values when it starts again. Clients identify the change by the sequence number of its transaction,
//! which is also its number in the history.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, SystemTime},
};

use models::key::Key;
use tokio::sync::oneshot;
use tracing::{info, warn};

use super::{ClientRequest, Committed, Desired, Item, RequestError, model_of};
use crate::scheduler::{KeyError, TransactionResult};
use crate::sources::clients::{ClientItem, ClientStore};

/// Maximum number of changes for which the confirmation state is stored.
const REMEMBERED: usize = 1000;

/// State of a change that requires confirmation.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Confirmation {
    /// The change is applied and can still be confirmed.
    Waiting,
    /// The change was confirmed and stays applied.
    Confirmed,
    /// The change was not confirmed in time, and the previous values were restored.
    RolledBack,
    /// The change was not confirmed in time, and some of the previous values could not be restored. The agent retries these
    /// values.
    PartlyRolledBack(Vec<KeyError>),
    /// The change was not confirmed in time and could not be rolled back. It stays applied until the next restart.
    RollbackFailed(String),
}

/// Change that is applied and waits for confirmation.
#[derive(Clone, Debug)]
pub struct UnconfirmedChange {
    /// Sequence number of the change's transaction. Clients confirm the change by this number.
    pub seq: u64,
    /// Name of the source that was changed.
    pub source: String,
    /// Description given by the client.
    pub description: String,
    /// Keys that the request names. Keys that were deleted only because the request replaces all values are not included.
    pub keys: Vec<Key>,
    /// Time at which the change is rolled back unless it has been confirmed.
    pub deadline: SystemTime,
}

/// Reason why a change cannot be confirmed.
#[derive(Debug, thiserror::Error)]
pub enum ConfirmationError {
    /// The change had already been rolled back when the confirmation arrived.
    #[error("change {0} was not confirmed in time and has been rolled back; apply it again")]
    Late(u64),
    /// No change with this number is waiting for confirmation.
    #[error("change {0} is not waiting for confirmation: it was already confirmed, or the agent was restarted and rolled it back")]
    Unknown(u64),
    /// The confirmed request could not be saved to disk.
    #[error(transparent)]
    NotKept(#[from] RequestError),
}

/// All changes that require confirmation, including those already confirmed or rolled back, by the sequence number of their transaction.
#[derive(Default)]
pub(super) struct Confirmations(Mutex<BTreeMap<u64, Entry>>);

struct Entry {
    state: Confirmation,
    /// Wakes the task that waits for the confirmation; `None` once the change was confirmed or the rollback has ended.
    confirmed: Option<oneshot::Sender<()>>,
    /// Number of the request that made the change.
    number: u64,
    /// Request to save to disk when the change is confirmed; `None` once the change can no longer be confirmed.
    request: Option<ClientRequest>,
    before: Before,
    deadline: SystemTime,
}

/// Values that a source had before a request. They are restored if the request is rolled back.
pub(super) struct Undo {
    source: String,
    /// Number of the request.
    pub number: u64,
    /// True if the request was saved to disk before it was applied.
    is_saved: bool,
    before: Before,
}

/// Previous values of the keys that a request changes.
///
/// Each map is shared with the entry in [`Confirmations`]. The rollback of an earlier request changes the values that a later request must
/// restore.
type Before = Arc<Mutex<BTreeMap<Key, Previous>>>;

/// Previous value of a key that a request changes.
#[derive(Clone)]
struct Previous {
    /// The value; `None` if the key had no value.
    item: Option<ClientItem>,
    /// Number of the request that put the value; 0 if the value does not come from a request since the agent started.
    request: u64,
}

impl Desired {
    /// Returns the current values of all keys that a request is about to change.
    pub(super) fn undo_of(&self, request: &ClientRequest, number: u64) -> Undo {
        let absent = Previous { item: None, request: 0 };
        let mut before: BTreeMap<Key, Previous> = request.changes.iter().map(|(key, _)| (key.clone(), absent.clone())).collect();
        let merged = self.merge.lock().unwrap_or_else(PoisonError::into_inner);
        for (key, item) in merged.held_by(&request.source) {
            if request.replace || before.contains_key(key) {
                let previous = Previous {
                    item: client_item(key, item),
                    request: item.request,
                };
                before.insert(key.clone(), previous);
            }
        }
        drop(merged);
        Undo {
            source: request.source.clone(),
            number,
            is_saved: request.confirm_within.is_none(),
            before: Arc::new(Mutex::new(before)),
        }
    }

    /// Restores the values from before a request, except for keys that clients have changed since the request.
    ///
    /// `seq` is the sequence number of the request's transaction.
    pub(super) async fn roll_back(
        &self,
        clients: &Arc<ClientStore>,
        undo: Undo,
        seq: u64,
    ) -> Result<Option<TransactionResult>, RequestError> {
        let changes = self.still_of(&undo);
        let back = ClientRequest {
            description: format!("rollback of change {seq}"),
            ..ClientRequest::of(undo.source, changes)
        };
        // A request that waits for confirmation has not been saved, so its rollback does not have to be saved either.
        let kept = if undo.is_saved { self.keep(clients, &back).await } else { Ok(()) };
        // Restore the values in memory even if the rollback cannot be saved, because the engine has already rolled back the
        // kernel.
        let result = match self.transaction_of(&back, self.next_number()) {
            Some(transaction) => Some(transaction.await?),
            None => None,
        };
        kept.map(|()| result)
    }

    /// Returns the previous values of the keys that have not changed since the request.
    ///
    /// A later request that waits for confirmation may have put the same key. The previous value is then passed to that request, which restores it
    /// if it is rolled back.
    fn still_of(&self, undo: &Undo) -> Vec<(Key, Option<ClientItem>)> {
        let merged = self.merge.lock().unwrap_or_else(PoisonError::into_inner);
        let now: BTreeMap<&Key, &Item> = merged.held_by(&undo.source).collect();
        // Clone the map, because `inherit` locks the maps of all waiting requests, possibly including this map.
        let before = undo.before.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let mut changes = Vec::new();
        for (key, previous) in &before {
            match now.get(key) {
                Some(item) if item.request != undo.number => self.confirmations.inherit(undo.number, key, previous),
                _ => changes.push((key.clone(), previous.item.clone())),
            }
        }
        changes
    }

    /// Starts the wait for confirmation if the request requires one. The request is rolled back if it is not confirmed in time.
    pub(super) fn await_confirmation(self: &Arc<Self>, request: ClientRequest, result: TransactionResult, undo: Undo) -> Committed {
        let Some(within) = request.confirm_within else {
            return Committed::Applied(result);
        };
        let (sender, confirmed) = oneshot::channel();
        let entry = Entry {
            state: Confirmation::Waiting,
            confirmed: Some(sender),
            number: undo.number,
            request: Some(request),
            before: undo.before.clone(),
            deadline: SystemTime::now() + within,
        };
        self.confirmations.insert(result.seq, entry);
        tokio::spawn(self.clone().roll_back_unless(confirmed, within, undo, result.seq));
        Committed::Unconfirmed(result)
    }

    async fn roll_back_unless(self: Arc<Self>, confirmed: oneshot::Receiver<()>, within: Duration, undo: Undo, seq: u64) {
        if tokio::time::timeout(within, confirmed).await.is_ok() {
            return;
        }
        let clients = self.clients.lock().await;
        // A client may have confirmed the change while this task waited for the lock.
        if !self.confirmations.time_is_over(seq) {
            return;
        }
        let state = match self.roll_back(&clients, undo, seq).await {
            Ok(Some(result)) if !result.errors.is_empty() => Confirmation::PartlyRolledBack(result.errors),
            Ok(_) => Confirmation::RolledBack,
            Err(error) => Confirmation::RollbackFailed(error.to_string()),
        };
        let within = within.as_secs_f32();
        match &state {
            Confirmation::RolledBack => info!(change = seq, within, "change not confirmed in time and rolled back"),
            Confirmation::PartlyRolledBack(errors) => {
                let errors: Vec<String> = errors.iter().map(|error| format!("{}: {}", error.key, error.error)).collect();
                warn!(
                    change = seq,
                    within,
                    error = errors.join("; "),
                    "change not confirmed in time and only partly rolled back"
                );
            }
            Confirmation::RollbackFailed(error) => warn!(change = seq, within, error, "change not confirmed in time, and rollback failed"),
            Confirmation::Waiting | Confirmation::Confirmed => {}
        }
        self.confirmations.ended(seq, state);
    }

    /// Confirms the change with this sequence number. The change stays applied and is saved to disk, so it survives a restart.
    ///
    /// # Errors
    /// Fails if the change is not waiting for confirmation or cannot be saved.
    pub async fn confirm(self: &Arc<Self>, seq: u64) -> Result<(), ConfirmationError> {
        let clients = self.clients.lock().await;
        let (number, request) = self.confirmations.request(seq)?;
        let kept = ClientRequest {
            changes: self.unchanged_of(&request, number),
            ..request
        };
        self.keep(&clients, &kept).await?;
        self.confirmations.confirm(seq);
        Ok(())
    }

    /// Returns the changes to save when a request is confirmed. Changes that a client has overridden since the request are left out.
    fn unchanged_of(&self, request: &ClientRequest, number: u64) -> Vec<(Key, Option<ClientItem>)> {
        let merged = self.merge.lock().unwrap_or_else(PoisonError::into_inner);
        let now: BTreeMap<&Key, &Item> = merged.held_by(&request.source).collect();
        let still = |key: &Key, desired: bool| now.get(key).map_or(!desired, |item| item.request == number);
        let own = request.changes.iter().filter(|(key, item)| still(key, item.is_some())).cloned();
        if !request.replace {
            return own.collect();
        }
        // The request replaces all saved values of the source, so values of later requests must be saved again.
        let later = now.iter().filter(|(_, item)| item.request != number);
        let later = later.map(|(key, item)| ((*key).clone(), client_item(key, item)));
        own.chain(later).collect()
    }

    /// Returns the state of a change that requires confirmation; `None` if the sequence number is unknown or the state is no longer stored.
    pub fn confirmation(&self, seq: u64) -> Option<Confirmation> {
        self.confirmations.state(seq)
    }

    /// Returns all changes that wait for confirmation, oldest first.
    pub fn unconfirmed(&self) -> Vec<UnconfirmedChange> {
        self.confirmations.waiting()
    }
}

impl Confirmations {
    fn entries(&self) -> std::sync::MutexGuard<'_, BTreeMap<u64, Entry>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn insert(&self, seq: u64, entry: Entry) {
        let mut entries = self.entries();
        while entries.len() >= REMEMBERED {
            let over = entries.iter().find(|(_, entry)| entry.confirmed.is_none()).map(|(seq, _)| *seq);
            match over {
                Some(seq) => entries.remove(&seq),
                None => break,
            };
        }
        entries.insert(seq, entry);
    }

    fn waiting(&self) -> Vec<UnconfirmedChange> {
        let entries = self.entries();
        let waiting = entries.iter().filter_map(|(seq, entry)| {
            let request = entry.request.as_ref().filter(|_| entry.state == Confirmation::Waiting)?;
            Some(UnconfirmedChange {
                seq: *seq,
                source: request.source.clone(),
                description: request.description.clone(),
                keys: request.changes.iter().map(|(key, _)| key.clone()).collect(),
                deadline: entry.deadline,
            })
        });
        waiting.collect()
    }

    /// Updates the values that unconfirmed requests would restore. The value that request number `of` put under `key` is replaced with
    /// `previous`.
    fn inherit(&self, of: u64, key: &Key, previous: &Previous) {
        let entries = self.entries();
        for entry in entries.values().filter(|entry| entry.state == Confirmation::Waiting) {
            let mut before = entry.before.lock().unwrap_or_else(PoisonError::into_inner);
            if let Some(restored) = before.get_mut(key).filter(|restored| restored.request == of) {
                *restored = previous.clone();
            }
        }
    }

    fn state(&self, seq: u64) -> Option<Confirmation> {
        self.entries().get(&seq).map(|entry| entry.state.clone())
    }

    /// Returns the number and the content of the request that made the change, if it can still be confirmed.
    fn request(&self, seq: u64) -> Result<(u64, ClientRequest), ConfirmationError> {
        let entries = self.entries();
        let entry = entries.get(&seq).ok_or(ConfirmationError::Unknown(seq))?;
        match (&entry.state, &entry.request) {
            (Confirmation::Waiting, Some(request)) => Ok((entry.number, request.clone())),
            (Confirmation::Confirmed, _) => Err(ConfirmationError::Unknown(seq)),
            _ => Err(ConfirmationError::Late(seq)),
        }
    }

    fn confirm(&self, seq: u64) {
        if let Some(entry) = self.entries().get_mut(&seq) {
            (entry.state, entry.request) = (Confirmation::Confirmed, None);
            if let Some(confirmed) = entry.confirmed.take() {
                // The task that waits for the confirmation ends. If its deadline has just passed, it finds that the change is
                // confirmed and does not roll it back.
                let _ = confirmed.send(());
            }
        }
    }

    /// Makes later confirmations of a change fail. Returns true if the change has not been confirmed, so it must be rolled back.
    fn time_is_over(&self, seq: u64) -> bool {
        let mut entries = self.entries();
        let waiting = entries.get_mut(&seq).filter(|entry| entry.state == Confirmation::Waiting);
        waiting.map(|entry| entry.request = None).is_some()
    }

    fn ended(&self, seq: u64, state: Confirmation) {
        if let Some(entry) = self.entries().get_mut(&seq) {
            (entry.state, entry.confirmed) = (state, None);
        }
    }
}

pub(super) fn client_item(key: &Key, item: &Item) -> Option<ClientItem> {
    let model = model_of(key, item.message.as_deref()?)?;
    let labels = item.labels.as_ref().map(|labels| (**labels).clone()).unwrap_or_default();
    Some(ClientItem { model, labels })
}
