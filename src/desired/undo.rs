//! Rolls back a client's request because a part of it failed, or because it was not confirmed in time.
//!
//! Keeps the previous values as long as they may have to be restored. Values that clients have changed since the request are never rolled
//! back.
//!
//! A request that waits for confirmation is applied but not saved on disk. So if the agent stops in the meantime, the next start rolls it
//! back.

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

/// Maximum number of requests whose state is remembered.
const REMEMBERED: usize = 1000;

/// State of a request that must be confirmed.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Confirmation {
    /// The request is applied, and can still be confirmed.
    Waiting,
    /// The request was confirmed and stays.
    Confirmed,
    /// The request was not confirmed in time, and the previous values are restored.
    TakenBack,
    /// The request was not confirmed in time, and restoring some of the previous values failed. The failed values are retried like any
    /// others.
    TakenBackInPart(Vec<KeyError>),
    /// The request was not confirmed in time and could not be rolled back. It is still applied, but will not be after a restart.
    NotTakenBack(String),
}

/// Reason why a request cannot be confirmed.
#[derive(Debug, thiserror::Error)]
pub enum ConfirmationError {
    /// The confirmation came too late.
    #[error("request {0} was not confirmed in time and has been rolled back; apply it again")]
    Late(u64),
    /// No request with this number waits for confirmation.
    #[error("no request {0} waits for confirmation; it was already confirmed, or the agent was restarted and rolled it back")]
    Unknown(u64),
    /// The request could not be saved.
    #[error(transparent)]
    NotKept(#[from] RequestError),
}

/// Requests that wait for confirmation, and the outcome of former ones.
#[derive(Default)]
pub(super) struct Confirmations(Mutex<BTreeMap<u64, Entry>>);

struct Entry {
    state: Confirmation,
    /// Ends the wait; present while the request waits.
    confirmed: Option<oneshot::Sender<()>>,
    /// Request to save when it is confirmed.
    request: Option<ClientRequest>,
}

/// Values before a request, to roll it back.
pub(super) struct Undo {
    source: String,
    /// Number of the request.
    pub number: u64,
    before: Vec<(Key, Option<ClientItem>)>,
}

impl Desired {
    /// Returns the values that a request is about to change.
    pub(super) fn undo_of(&self, request: &ClientRequest, number: u64) -> Undo {
        let mut before: BTreeMap<Key, Option<ClientItem>> = request.changes.iter().map(|(key, _)| (key.clone(), None)).collect();
        let merged = self.merge.lock().unwrap_or_else(PoisonError::into_inner);
        for (key, item) in merged.held_by(&request.source) {
            if request.replace || before.contains_key(key) {
                before.insert(key.clone(), client_item(key, item));
            }
        }
        drop(merged);
        Undo {
            source: request.source.clone(),
            number,
            before: before.into_iter().collect(),
        }
    }

    /// Restores the values before a request, except those that a client has changed since.
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

    /// Returns the previous values of the keys that are still as the request left them.
    fn still_of(&self, undo: &Undo) -> Vec<(Key, Option<ClientItem>)> {
        let merged = self.merge.lock().unwrap_or_else(PoisonError::into_inner);
        let now: BTreeMap<&Key, &Item> = merged.held_by(&undo.source).collect();
        let untouched = |key: &Key| now.get(key).is_none_or(|item| item.request == undo.number);
        undo.before.iter().filter(|(key, _)| untouched(key)).cloned().collect()
    }

    /// Rolls a request back when its time for confirmation is over, if the request has one.
    pub(super) fn await_confirmation(self: &Arc<Self>, request: ClientRequest, result: TransactionResult, undo: Undo) -> Committed {
        let Some(within) = request.confirm_within else {
            return Committed::Applied(result);
        };
        let (number, (sender, confirmed)) = (undo.number, oneshot::channel());
        self.confirmations.insert(number, request, sender);
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

    /// Confirms a request: it stays, and is saved so that it survives a restart.
    ///
    /// # Errors
    /// Fails if the request no longer waits for confirmation, or cannot be saved.
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

    /// Returns the changes of a request that clients have not overridden since.
    fn unchanged_of(&self, request: &ClientRequest, number: u64) -> Vec<(Key, Option<ClientItem>)> {
        let merged = self.merge.lock().unwrap_or_else(PoisonError::into_inner);
        let now: BTreeMap<&Key, &Item> = merged.held_by(&request.source).collect();
        let still = |key: &Key, desired: bool| now.get(key).map_or(!desired, |item| item.request == number);
        let own = request.changes.iter().filter(|(key, item)| still(key, item.is_some())).cloned();
        if !request.replace {
            return own.collect();
        }
        // Values that others have put since must survive the replacement on disk as well.
        let later = now.iter().filter(|(_, item)| item.request != number);
        let later = later.map(|(key, item)| ((*key).clone(), client_item(key, item)));
        own.chain(later).collect()
    }

    /// Returns the state of a request that must be confirmed; `None` if there is no request with this number, or it was long ago.
    pub fn confirmation(&self, number: u64) -> Option<Confirmation> {
        self.confirmations.state(number)
    }
}

impl Confirmations {
    fn entries(&self) -> std::sync::MutexGuard<'_, BTreeMap<u64, Entry>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn insert(&self, number: u64, request: ClientRequest, confirmed: oneshot::Sender<()>) {
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
        };
        entries.insert(number, entry);
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
                // This ends the task of the request. If the task had already ended, the request would not be waiting.
                let _ = confirmed.send(());
            }
        }
    }

    /// Ends the time for confirmation. Returns whether the request was still waiting.
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
