//! Taking back what a client asked for: because a part of it failed, or because nobody confirmed it in time.
//!
//! Owns what was asked for before, as long as it may come back. Must never take back what somebody has asked for since. Start reading at
//! [`Desired::confirm`].
//!
//! A request that waits to be confirmed is in force and not on disk. So an agent that ends meanwhile takes it back by starting again.

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

/// How many ends of confirmations are remembered.
const REMEMBERED: usize = 1000;

/// What came of a request that was to be confirmed.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Confirmation {
    /// It is in force, and the time is not over.
    Waiting,
    /// It was confirmed, and stays.
    Confirmed,
    /// Nobody confirmed it in time: what was asked for before is in force again.
    TakenBack,
    /// Nobody confirmed it in time, and taking it back failed in part. The failed values are tried again like any others.
    TakenBackInPart(Vec<KeyError>),
    /// Nobody confirmed it in time, and it could not be taken back: it is still in force, but will not be after a restart.
    NotTakenBack(String),
}

/// Why something cannot be confirmed.
#[derive(Debug, thiserror::Error)]
pub enum ConfirmationError {
    /// Too late.
    #[error("request {0} was not confirmed in time and has been taken back; apply it again")]
    Late(u64),
    /// No such request waits.
    #[error("no request {0} waits to be confirmed; it was confirmed already, or the agent was started anew and took it back")]
    Unknown(u64),
    /// It could not be kept.
    #[error(transparent)]
    NotKept(#[from] RequestError),
}

/// Requests that wait, and what came of those that waited.
#[derive(Default)]
pub(super) struct Confirmations(Mutex<BTreeMap<u64, Entry>>);

struct Entry {
    state: Confirmation,
    /// Ends the wait; there while it waits.
    confirmed: Option<oneshot::Sender<()>>,
    /// What is put on disk then.
    request: Option<ClientRequest>,
}

/// What was asked for before a request.
pub(super) struct Undo {
    source: String,
    /// Number of the request.
    pub number: u64,
    before: Vec<(Key, Option<ClientItem>)>,
}

impl Desired {
    /// What a request is about to change.
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

    /// Asks for what was asked for before, where nobody has asked for anything else since.
    pub(super) async fn take_back(&self, clients: &Arc<ClientStore>, undo: Undo) -> Result<Option<TransactionResult>, RequestError> {
        let changes = self.still_of(&undo);
        let back = ClientRequest {
            description: format!("request {} is taken back", undo.number),
            ..ClientRequest::of(undo.source, changes)
        };
        self.keep(clients, &back).await?;
        match self.transaction_of(&back, self.next_number()) {
            Some(transaction) => Ok(Some(transaction.await?)),
            None => Ok(None),
        }
    }

    /// What was there before, of the keys that are still as the request left them.
    fn still_of(&self, undo: &Undo) -> Vec<(Key, Option<ClientItem>)> {
        let merged = self.merge.lock().unwrap_or_else(PoisonError::into_inner);
        let now: BTreeMap<&Key, &Item> = merged.held_by(&undo.source).collect();
        let untouched = |key: &Key| now.get(key).is_none_or(|item| item.request == undo.number);
        undo.before.iter().filter(|(key, _)| untouched(key)).cloned().collect()
    }

    /// Has a request taken back in time, if it asked for that.
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
        // Somebody may have confirmed it while this waited for the lock.
        if !self.confirmations.time_is_over(number) {
            return;
        }
        let state = match self.take_back(&clients, undo).await {
            Ok(Some(result)) if !result.errors.is_empty() => Confirmation::TakenBackInPart(result.errors),
            Ok(_) => Confirmation::TakenBack,
            Err(error) => Confirmation::NotTakenBack(error.to_string()),
        };
        match &state {
            Confirmation::TakenBack => info!(request = number, "not confirmed within {} s, and taken back", within.as_secs_f32()),
            other => warn!(request = number, "not confirmed within {} s: {other:?}", within.as_secs_f32()),
        }
        self.confirmations.ended(number, state);
    }

    /// Confirms a request: it stays, and is kept over a restart.
    ///
    /// # Errors
    /// It does not wait any more, or cannot be kept.
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

    /// The changes of a request that nobody has overridden since.
    fn unchanged_of(&self, request: &ClientRequest, number: u64) -> Vec<(Key, Option<ClientItem>)> {
        let merged = self.merge.lock().unwrap_or_else(PoisonError::into_inner);
        let now: BTreeMap<&Key, &Item> = merged.held_by(&request.source).collect();
        let still = |key: &Key, wanted: bool| now.get(key).map_or(!wanted, |item| item.request == number);
        let own = request.changes.iter().filter(|(key, item)| still(key, item.is_some())).cloned();
        if !request.replace {
            return own.collect();
        }
        // What others have put since must survive the replacement on disk, too.
        let later = now.iter().filter(|(_, item)| item.request != number);
        let later = later.map(|(key, item)| ((*key).clone(), client_item(key, item)));
        own.chain(later).collect()
    }

    /// What came of a request that was to be confirmed; `None` if there is none with this number, or it was long ago.
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
                // Its task ends by this; had it ended, the request would not be waiting.
                let _ = confirmed.send(());
            }
        }
    }

    /// Whether it still waits; from now on it cannot be confirmed.
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
