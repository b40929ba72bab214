//! Rolls back a client's request if a part of it failed or it was not confirmed in time.
//!
//! The previous values are kept as long as they may have to be restored. Values that clients have changed since the request are never
//! rolled back.
//!
//! A request that waits for confirmation is applied but not saved on disk. If the agent stops in the meantime, the next start rolls the
//! request back.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use models::key::Key;
use tokio::sync::oneshot;
use tracing::{info, warn};

use super::{ClientRequest, Committed, Desired, Item, RequestError, model_of};
use crate::scheduler::{KeyError, TransactionResult};
use crate::sources::clients::{ClientItem, ClientStore};

/// Maximum number of requests whose confirmation state is kept.
const REMEMBERED: usize = 1000;

/// State of a request that requires confirmation.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Confirmation {
    /// The request is applied and can still be confirmed.
    Waiting,
    /// The request was confirmed and stays applied.
    Confirmed,
    /// The request was not confirmed in time, and the previous values were restored.
    TakenBack,
    /// The request was not confirmed in time, and restoring some of the previous values failed. These values are retried like any others.
    TakenBackInPart(Vec<KeyError>),
    /// The request was not confirmed in time and could not be rolled back. It stays applied until the next restart.
    NotTakenBack(String),
}

/// Reason why a request cannot be confirmed.
#[derive(Debug, thiserror::Error)]
pub enum ConfirmationError {
    /// The request had already been rolled back when the confirmation arrived.
    #[error("request {0} was not confirmed in time and has been rolled back; apply it again")]
    Late(u64),
    /// No request with this number is waiting for confirmation.
    #[error("no request {0} waits for confirmation; it was already confirmed, or the agent was restarted and rolled it back")]
    Unknown(u64),
    /// The request could not be saved.
    #[error(transparent)]
    NotKept(#[from] RequestError),
}

/// Requests that are waiting for confirmation, and the outcomes of earlier ones.
#[derive(Default)]
pub(super) struct Confirmations(Mutex<BTreeMap<u64, Entry>>);

struct Entry {
    state: Confirmation,
    /// Sender that ends the wait; present while the request is waiting.
    confirmed: Option<oneshot::Sender<()>>,
    /// Request to save when it is confirmed.
    request: Option<ClientRequest>,
    before: Before,
}

/// Values before a request, needed to roll it back.
pub(super) struct Undo {
    source: String,
    /// Request number.
    pub number: u64,
    before: Before,
}

/// Values before a request, by key. Shared with the entry of a request that waits for confirmation: rolling back an earlier request changes
/// what a later one has to restore.
type Before = Arc<Mutex<BTreeMap<Key, Previous>>>;

/// Value of a key before a request.
#[derive(Clone)]
struct Previous {
    /// `None` if the key had no value.
    item: Option<ClientItem>,
    /// Number of the request that put it, or 0.
    request: u64,
}

impl Desired {
    /// Returns the current values of everything that a request is about to change.
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
            before: Arc::new(Mutex::new(before)),
        }
    }

    /// Restores the values before a request, except those that clients have changed since.
    pub(super) async fn take_back(&self, clients: &Arc<ClientStore>, undo: Undo) -> Result<Option<TransactionResult>, RequestError> {
        let changes = self.still_of(&undo);
        let back = ClientRequest {
            description: format!("rollback of request {}", undo.number),
            ..ClientRequest::of(undo.source, changes)
        };
        self.keep(clients, &back).await?;
        match self.transaction_of(&back, self.next_number()) {
            Some(transaction) => Ok(Some(transaction.await?)),
            None => Ok(None),
        }
    }

    /// Returns the previous values of the keys that have not changed since the request.
    ///
    /// If a later request that still waits for confirmation has put the same key, it restores the value before this request instead.
    fn still_of(&self, undo: &Undo) -> Vec<(Key, Option<ClientItem>)> {
        let merged = self.merge.lock().unwrap_or_else(PoisonError::into_inner);
        let now: BTreeMap<&Key, &Item> = merged.held_by(&undo.source).collect();
        // A copy, because the entry of this request shares the values.
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
        let (number, (sender, confirmed)) = (undo.number, oneshot::channel());
        self.confirmations.insert(number, request, sender, undo.before.clone());
        tokio::spawn(self.clone().take_back_unless(confirmed, within, undo));
        Committed::Unconfirmed(result, number)
    }

    async fn take_back_unless(self: Arc<Self>, confirmed: oneshot::Receiver<()>, within: Duration, undo: Undo) {
        if tokio::time::timeout(within, confirmed).await.is_ok() {
            return;
        }
        let number = undo.number;
        let clients = self.clients.lock().await;
        // A client may have confirmed the request while this task waited for the lock.
        if !self.confirmations.time_is_over(number) {
            return;
        }
        let state = match self.take_back(&clients, undo).await {
            Ok(Some(result)) if !result.errors.is_empty() => Confirmation::TakenBackInPart(result.errors),
            Ok(_) => Confirmation::TakenBack,
            Err(error) => Confirmation::NotTakenBack(error.to_string()),
        };
        match &state {
            Confirmation::TakenBack => info!(request = number, "not confirmed within {} s, and rolled back", within.as_secs_f32()),
            other => warn!(request = number, "not confirmed within {} s: {other:?}", within.as_secs_f32()),
        }
        self.confirmations.ended(number, state);
    }

    /// Confirms a request, so it stays applied and is saved to survive a restart.
    ///
    /// # Errors
    /// Fails if the request is not waiting for confirmation or cannot be saved.
    pub async fn confirm(self: &Arc<Self>, number: u64) -> Result<(), ConfirmationError> {
        let clients = self.clients.lock().await;
        let request = self.confirmations.request(number)?;
        let kept = ClientRequest {
            changes: self.unchanged_of(&request, number),
            ..request
        };
        self.keep(&clients, &kept).await?;
        self.confirmations.confirm(number);
        Ok(())
    }

    /// Returns the changes to save for a request: those that clients have not overridden since.
    fn unchanged_of(&self, request: &ClientRequest, number: u64) -> Vec<(Key, Option<ClientItem>)> {
        let merged = self.merge.lock().unwrap_or_else(PoisonError::into_inner);
        let now: BTreeMap<&Key, &Item> = merged.held_by(&request.source).collect();
        let still = |key: &Key, desired: bool| now.get(key).map_or(!desired, |item| item.request == number);
        let own = request.changes.iter().filter(|(key, item)| still(key, item.is_some())).cloned();
        if !request.replace {
            return own.collect();
        }
        // Values that later requests have put must survive the replacement on disk as well.
        let later = now.iter().filter(|(_, item)| item.request != number);
        let later = later.map(|(key, item)| ((*key).clone(), client_item(key, item)));
        own.chain(later).collect()
    }

    /// Returns the state of a request that requires confirmation; `None` if no such request is known or it has been forgotten.
    pub fn confirmation(&self, number: u64) -> Option<Confirmation> {
        self.confirmations.state(number)
    }
}

impl Confirmations {
    fn entries(&self) -> std::sync::MutexGuard<'_, BTreeMap<u64, Entry>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn insert(&self, number: u64, request: ClientRequest, confirmed: oneshot::Sender<()>, before: Before) {
        let mut entries = self.entries();
        while entries.len() >= REMEMBERED {
            let over = entries
                .iter()
                .find(|(_, entry)| entry.confirmed.is_none())
                .map(|(number, _)| *number);
            match over {
                Some(number) => entries.remove(&number),
                None => break,
            };
        }
        let entry = Entry {
            state: Confirmation::Waiting,
            confirmed: Some(confirmed),
            request: Some(request),
            before,
        };
        entries.insert(number, entry);
    }

    /// Makes the waiting requests that would restore a value of the request `of` restore the value before that request.
    fn inherit(&self, of: u64, key: &Key, previous: &Previous) {
        let entries = self.entries();
        for entry in entries.values().filter(|entry| entry.state == Confirmation::Waiting) {
            let mut before = entry.before.lock().unwrap_or_else(PoisonError::into_inner);
            if let Some(restored) = before.get_mut(key).filter(|restored| restored.request == of) {
                *restored = previous.clone();
            }
        }
    }

    fn state(&self, number: u64) -> Option<Confirmation> {
        self.entries().get(&number).map(|entry| entry.state.clone())
    }

    fn request(&self, number: u64) -> Result<ClientRequest, ConfirmationError> {
        let entries = self.entries();
        let entry = entries.get(&number).ok_or(ConfirmationError::Unknown(number))?;
        match (&entry.state, &entry.request) {
            (Confirmation::Waiting, Some(request)) => Ok(request.clone()),
            (Confirmation::Confirmed, _) => Err(ConfirmationError::Unknown(number)),
            _ => Err(ConfirmationError::Late(number)),
        }
    }

    fn confirm(&self, number: u64) {
        if let Some(entry) = self.entries().get_mut(&number) {
            (entry.state, entry.request) = (Confirmation::Confirmed, None);
            if let Some(confirmed) = entry.confirmed.take() {
                // Ends the task that waits for the confirmation. If its time is over already, that task sees that the request was
                // confirmed.
                let _ = confirmed.send(());
            }
        }
    }

    /// Ends the confirmation period. Returns whether the request was still waiting.
    fn time_is_over(&self, number: u64) -> bool {
        let mut entries = self.entries();
        let waiting = entries.get_mut(&number).filter(|entry| entry.state == Confirmation::Waiting);
        waiting.map(|entry| entry.request = None).is_some()
    }

    fn ended(&self, number: u64, state: Confirmation) {
        if let Some(entry) = self.entries().get_mut(&number) {
            (entry.state, entry.confirmed) = (state, None);
        }
    }
}

pub(super) fn client_item(key: &Key, item: &Item) -> Option<ClientItem> {
    let model = model_of(key, item.message.as_deref()?)?;
    let labels = item.labels.as_ref().map(|labels| (**labels).clone()).unwrap_or_default();
    Some(ClientItem { model, labels })
}
