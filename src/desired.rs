//! Desired state: decodes and validates the values of all sources, merges them, and submits them to the engine.
//!
//! An invalid value is never dropped silently: it becomes a rejection under its own key, and belongs to the source that it comes from. A
//! client's request is never applied before it is saved on disk. [`Desired`] is the entry point.

use std::{
    collections::BTreeMap,
    path::Path,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use futures::future::BoxFuture;
use models::{Model, document, key::Key};

use crate::scheduler::{Change, KeyError, Options, Planned, Rejection, Resync, Retry, Transaction, TransactionResult, ValueState};
use crate::{
    descriptors::{Network, convert::value_of, value::Value},
    engine::{Client, CommitError},
    sources::{
        clients::{ClientItem, ClientStore, ClientStoreError, Labels},
        etcd::{RawChange, RawItem, RawKey},
        merge::{CONFIG_FILE, DATASYNC, HELD, Merge, Update},
    },
};

mod foreign;
mod removals;
mod undo;

use foreign::Foreign;
pub use removals::{ACCEPT_KEY, Accepted, Held};
use tokio::sync::watch;
use undo::Confirmations;
pub use undo::{Confirmation, ConfirmationError};

/// Reason of a value that waits for the end of duplicate address detection.
pub const TENTATIVE: &str = "AddressTentative";
/// Maximum time that an atomic request waits for duplicate address detection.
///
/// The kernel needs two seconds unless it is configured otherwise.
const DETECTION_LIMIT: Duration = Duration::from_secs(10);

/// Prefix of configuration keys in the store, after the agent prefix.
pub const CONFIG: &str = "config/";

/// Value that a source has under a key. Large values are shared, so a clone is cheap.
#[derive(Clone, PartialEq)]
struct Item {
    /// Revision of the store; 0 for other sources.
    revision: i64,
    /// Number of the client's request, so that putting the same value again counts as a new request; 0 for other sources.
    request: u64,
    value: Result<Value, Rejection>,
    /// Message in binary form; `None` if it cannot be decoded.
    message: Option<Arc<[u8]>>,
    labels: Option<Arc<Labels>>,
}

impl Item {
    fn of(model: &Model, request: u64, labels: &Labels) -> Self {
        let value = usable(model);
        Item {
            revision: 0,
            request,
            message: Some(encoded(model, &value)),
            value,
            labels: (!labels.is_empty()).then(|| Arc::new(labels.clone())),
        }
    }
}

/// Changes requested by a client.
#[derive(Clone, Debug)]
pub struct ClientRequest {
    /// Name of the client's source. Values of other sources are not changed.
    pub source: String,
    /// Values of the source that are not named here are deleted.
    pub replace: bool,
    /// Values by key; `None` deletes the value. If a key occurs twice, the last occurrence counts.
    pub changes: Vec<(Key, Option<ClientItem>)>,
    /// All changes are rolled back if one of them fails.
    pub atomic: bool,
    /// The request is rolled back unless it is confirmed within this time. Until then it does not survive a restart.
    pub confirm_within: Option<Duration>,
    /// Text for the record of the transaction.
    pub description: String,
}

impl ClientRequest {
    /// Creates a request that changes values of a source, without further options.
    pub fn of(source: String, changes: Vec<(Key, Option<ClientItem>)>) -> Self {
        ClientRequest {
            source,
            replace: false,
            changes,
            atomic: false,
            confirm_within: None,
            description: String::new(),
        }
    }

    /// Returns whether the previous values may have to be restored.
    fn may_be_taken_back(&self) -> bool {
        self.atomic || self.confirm_within.is_some()
    }
}

/// Result of a client's request.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Committed {
    /// Applied. Values that failed are in the result, and are retried.
    Applied(TransactionResult),
    /// Like [`Self::Applied`], to be confirmed with this number.
    Unconfirmed(TransactionResult, u64),
    /// Saved. It will be applied with the rest of the desired state once the store has been read.
    Kept,
}

/// Reason why a client's request was not accepted.
#[derive(Debug, thiserror::Error)]
pub enum RequestError {
    /// The request could not be saved, so it was not applied either.
    #[error("request not accepted: {0}")]
    NotKept(#[from] ClientStoreError),
    /// The name of the source is reserved for a source that is not a client.
    #[error("source {0:?} is reserved; omit the name, or choose another")]
    ReservedSource(String),
    /// The request may have to be rolled back, but nothing can be applied yet.
    #[error(
        "the store has not been read yet, so a change cannot be applied with rollback; retry later, or without atomic and confirm-within"
    )]
    TooEarly,
    /// The engine refused the request or has stopped.
    #[error(transparent)]
    NotCommitted(#[from] CommitError),
}

/// Desired value that is in effect.
#[derive(Clone, PartialEq, Debug)]
pub struct DesiredItem {
    /// Key without the agent prefix.
    pub key: Key,
    /// Source of the value.
    pub source: String,
    /// The value; `None` if it cannot be decoded.
    pub model: Option<Model>,
    /// Labels assigned by the client.
    pub labels: Labels,
}

/// Waits for the outcome of values that wait for the kernel, such as for the end of duplicate address detection.
pub trait Verdicts: Send + Sync {
    /// Waits until none of these values waits for the kernel any more.
    ///
    /// Returns each key, with the error of a value that has failed.
    fn of(&self, keys: Vec<Key>) -> BoxFuture<'static, Vec<(Key, Option<KeyError>)>>;
}

/// Desired state of all sources, on its way to the engine.
pub struct Desired {
    // A std mutex: it is held for map operations and for submitting, which never waits. So the engine receives changes in their order.
    merge: Mutex<Merge<Item>>,
    /// Held while a client's request is saved and submitted, so that both happen in the same order. The holder waits for the disk.
    clients: tokio::sync::Mutex<Arc<ClientStore>>,
    requests: AtomicU64,
    confirmations: Confirmations,
    /// Keys of the store that belong to no model.
    foreign: Mutex<Foreign>,
    /// Removals that are held.
    held: watch::Sender<Held>,
    /// The complete desired state has been submitted once.
    begun: AtomicBool,
    engine: Client<Network>,
    verdicts: Arc<dyn Verdicts>,
}

impl Desired {
    /// Reads the saved values of clients from `data_dir`. The engine receives nothing until the store has been read.
    ///
    /// # Errors
    /// Fails if the saved values cannot be read.
    pub fn open(engine: Client<Network>, verdicts: Arc<dyn Verdicts>, data_dir: &Path) -> Result<Self, ClientStoreError> {
        let (clients, mut kept) = ClientStore::open(data_dir)?;
        let held = Held {
            values: kept.get_mut(HELD).map(removals::take_dates).unwrap_or_default(),
            ..Held::default()
        };
        let mut merge = Merge::new([DATASYNC], None);
        for (source, items) in kept {
            merge.replace(
                &source,
                items
                    .iter()
                    .map(|(key, item)| (key.clone(), Item::of(&item.model, 0, &item.labels))),
            );
        }
        Ok(Desired {
            merge: Mutex::new(merge),
            clients: tokio::sync::Mutex::new(Arc::new(clients)),
            requests: AtomicU64::new(0),
            confirmations: Confirmations::default(),
            foreign: Mutex::default(),
            held: watch::Sender::new(held),
            begun: AtomicBool::new(false),
            engine,
            verdicts,
        })
    }

    /// Replaces the values of the store by its complete content at a revision.
    pub fn stored(&self, revision: i64, items: Vec<RawItem>) {
        // Decode before the lock is taken.
        let decoded = decoded(self.without_foreign(items));
        self.hand_over(revision, |merge| merge.stored(decoded));
        self.note_put_again();
    }

    /// Returns the items of a listing without the foreign keys that get no status.
    fn without_foreign(&self, mut items: Vec<RawItem>) -> Vec<RawItem> {
        let mut foreign = self.foreign.lock().unwrap_or_else(PoisonError::into_inner);
        foreign.clear();
        items.retain(|item| foreign.admits(&item.key, true));
        foreign.log();
        items
    }

    /// Applies changes of the store up to a revision.
    pub fn changed(&self, revision: i64, mut items: Vec<RawChange>) {
        {
            let mut foreign = self.foreign.lock().unwrap_or_else(PoisonError::into_inner);
            items.retain(|item| foreign.admits(&item.key, item.value.is_some()));
            foreign.log();
        }
        let decoded = items.into_iter().map(|raw| {
            let item = raw.value.map(|value| stored(&raw.key, &value, raw.mod_revision));
            (config_key(&raw.key), item)
        });
        let decoded: Vec<_> = decoded.collect();
        self.hand_over(revision, |merge| merge.store_changed(decoded));
        self.note_put_again();
    }

    /// Replaces the values of the configuration file.
    pub fn in_file(&self, items: &[document::Item]) {
        let items = items
            .iter()
            .map(|item| (item.model.key(), Item::of(&item.model, 0, &Labels::new())));
        let items: Vec<_> = items.collect();
        self.hand_over(0, |merge| merge.replace(CONFIG_FILE, items));
    }

    /// Saves a client's request and applies it.
    ///
    /// Returns when all its operations have ended. The work continues if the caller stops waiting.
    ///
    /// # Errors
    /// The request was not accepted, and nothing was changed. Values of an accepted request that failed are in the result.
    pub async fn commit(self: &Arc<Self>, request: ClientRequest) -> Result<Committed, RequestError> {
        let desired = self.clone();
        let done = tokio::spawn(desired.take(request));
        // The task is cancelled only when the program ends.
        done.await.unwrap_or(Err(RequestError::NotCommitted(CommitError::Closed)))
    }

    async fn take(self: Arc<Self>, request: ClientRequest) -> Result<Committed, RequestError> {
        if [DATASYNC, CONFIG_FILE, HELD].contains(&request.source.as_str()) || request.source.is_empty() {
            return Err(RequestError::ReservedSource(request.source));
        }
        if request.may_be_taken_back() && !self.begun.load(Ordering::Relaxed) {
            return Err(RequestError::TooEarly);
        }
        let clients = self.clients.lock().await;
        if request.confirm_within.is_none() {
            self.keep(&clients, &request).await?;
        }
        let number = self.next_number();
        let undo = request.may_be_taken_back().then(|| self.undo_of(&request, number));
        let Some(transaction) = self.transaction_of(&request, number) else {
            return Ok(Committed::Kept);
        };
        let Some(undo) = undo else {
            // Other requests need not wait until this one is applied: the engine keeps the order.
            drop(clients);
            return Ok(Committed::Applied(transaction.await?));
        };
        if !request.atomic {
            drop(clients);
            let result = transaction.await?;
            return Ok(self.await_confirmation(request, result, undo));
        }
        let mut result = transaction.await?;
        if result.reverted {
            // The engine has rolled back, so the desired values are restored as well.
            self.take_back(&clients, undo).await?;
            return Ok(Committed::Applied(result));
        }
        drop(clients);
        if self.fails_later(&mut result).await {
            let clients = self.clients.lock().await;
            self.take_back(&clients, undo).await?;
            result.reverted = true;
            return Ok(Committed::Applied(result));
        }
        Ok(self.await_confirmation(request, result, undo))
    }

    /// Waits for duplicate address detection and adds the outcome to the result.
    ///
    /// Returns whether a value has failed.
    async fn fails_later(&self, result: &mut TransactionResult) -> bool {
        let undecided = result.waiting.iter().filter(|wait| wait.reason == TENTATIVE);
        let undecided: Vec<Key> = undecided.map(|wait| wait.key.clone()).collect();
        if undecided.is_empty() {
            return false;
        }
        // On a link without carrier the detection never ends.
        let Ok(verdicts) = tokio::time::timeout(DETECTION_LIMIT, self.verdicts.of(undecided)).await else {
            return false;
        };
        for (key, error) in verdicts {
            result.waiting.retain(|wait| wait.key != key);
            result.errors.extend(error);
        }
        !result.errors.is_empty()
    }

    fn next_number(&self) -> u64 {
        self.requests.fetch_add(1, Ordering::Relaxed) + 1
    }

    async fn keep(&self, clients: &Arc<ClientStore>, request: &ClientRequest) -> Result<(), RequestError> {
        let (clients, request) = (clients.clone(), request.clone());
        let kept = tokio::task::spawn_blocking(move || clients.keep(&request.source, request.replace, &request.changes));
        // The task is cancelled only when the program ends. A request that is not on disk must not be applied.
        Ok(kept.await.map_err(|_| CommitError::Closed)??)
    }

    /// Submits a request to the engine; returns `None` as long as the store has not been read.
    fn transaction_of(
        &self,
        request: &ClientRequest,
        number: u64,
    ) -> Option<impl Future<Output = Result<TransactionResult, CommitError>> + use<>> {
        let item = |item: &ClientItem| Item::of(&item.model, number, &item.labels);
        let changes = request.changes.iter().map(|(key, value)| (key.clone(), value.as_ref().map(item)));
        let changes: Vec<_> = changes.collect();
        let mut merged = self.merge.lock().unwrap_or_else(PoisonError::into_inner);
        let update = match request.replace {
            true => merged.replace(&request.source, changes.into_iter().filter_map(|(key, item)| Some((key, item?)))),
            false => merged.change(&request.source, changes),
        };
        if !self.begun.load(Ordering::Relaxed) {
            return None;
        }
        // Submitted immediately, in the order of the lock. Only the result is awaited outside.
        Some(self.engine.begin(Transaction {
            changes: changes_of(update, 0),
            options: options_of(request),
        }))
    }

    /// Returns the operations that a request would cause, without performing them.
    ///
    /// The request gets a number that no real request has.
    ///
    /// # Errors
    /// Fails if the engine has stopped.
    pub async fn plan(&self, request: &ClientRequest) -> Result<Vec<Planned<Value>>, CommitError> {
        let item = |item: &ClientItem| Item::of(&item.model, u64::MAX, &item.labels);
        let named: BTreeMap<&Key, Option<Item>> = request.changes.iter().map(|(key, value)| (key, value.as_ref().map(item))).collect();
        let mut changes: Vec<Change<Value>> = Vec::new();
        {
            let merged = self.merge.lock().unwrap_or_else(PoisonError::into_inner);
            let mut tell = |key: &Key, item: Option<&Item>| {
                if let Some(item) = merged.would_apply(&request.source, key, item) {
                    let value = item.map(|item| item.value.clone());
                    let revision = item.map_or(0, |item| item.revision);
                    changes.push(Change {
                        key: key.clone(),
                        revision,
                        value,
                    });
                }
            };
            named.iter().for_each(|(key, item)| tell(key, item.as_ref()));
            let let_go = merged.held_by(&request.source).map(|(key, _)| key);
            let_go
                .filter(|key| request.replace && !named.contains_key(key))
                .for_each(|key| tell(key, None));
        }
        self.engine.simulate(Transaction::of(changes)).await
    }

    /// Returns all values in effect, in key order.
    pub fn items(&self) -> Vec<DesiredItem> {
        let merged = self.merge.lock().unwrap_or_else(PoisonError::into_inner);
        let applying: Vec<(Key, String, Item)> = merged
            .applying()
            .into_keys()
            .filter_map(|key| {
                let (source, item) = merged.holders(key).next()?;
                Some((key.clone(), source.to_owned(), item.clone()))
            })
            .collect();
        drop(merged);
        let item = |(key, source, item): (Key, String, Item)| DesiredItem {
            model: item.message.as_deref().and_then(|message| model_of(&key, message)),
            key,
            source,
            labels: item.labels.map(|labels| (*labels).clone()).unwrap_or_default(),
        };
        applying.into_iter().map(item).collect()
    }

    /// Merges an update and submits it. `revision` is the revision of deleted values.
    fn hand_over(&self, revision: i64, merge: impl FnOnce(&mut Merge<Item>) -> Update<Item>) {
        let mut merged = self.merge.lock().unwrap_or_else(PoisonError::into_inner);
        let mut update = merge(&mut merged);
        if update.is_empty() {
            return;
        }
        if update.full {
            self.begun.store(true, Ordering::Relaxed);
        } else if self.begun.load(Ordering::Relaxed) && !self.held.borrow().orphans.is_empty() {
            // A value that is put again may be a held orphan. A full transaction makes the agent find it, so it is not created a second
            // time.
            update = merged.everything();
        }
        let full = update.full;
        // Without a full update no resync is needed: the kernel contains nothing unknown, and its changes are noticed.
        let resync = if full { Resync::Full } else { Resync::None };
        let mut transaction = Transaction::resync(resync, changes_of(update, revision));
        transaction.options.verbose = full;
        transaction.options.retry = Some(Retry::default());
        self.engine.submit(transaction);
    }
}

fn options_of(request: &ClientRequest) -> Options {
    Options {
        retry: Some(Retry::default()),
        revert: request.atomic,
        verify: request.atomic || request.confirm_within.is_some(),
        description: request.description.clone(),
        ..Options::default()
    }
}

fn changes_of(update: Update<Item>, revision: i64) -> Vec<Change<Value>> {
    let changes = update.changes.into_iter().map(|(key, item)| {
        let (revision, value) = item.map_or((revision, None), |item| (item.revision, Some(item.value)));
        Change { key, revision, value }
    });
    changes.collect()
}

fn model_of(key: &Key, message: &[u8]) -> Option<Model> {
    let info = models::registry::model_of_key(key.as_str())?;
    Model::from_protobuf(info.kind, message).ok()
}

/// Decodes an item of the store.
fn stored(raw: &RawKey, value: &[u8], revision: i64) -> Item {
    let (message, value) = match decode_model(raw, &config_key(raw), value) {
        Ok(model) => {
            let value = usable(&model);
            (Some(encoded(&model, &value)), value)
        }
        Err(rejection) => (None, Err(rejection)),
    };
    Item {
        revision,
        request: 0,
        value,
        message,
        labels: None,
    }
}

/// Returns a model in binary form, shared with the value that was made from it.
fn encoded(model: &Model, value: &Result<Value, Rejection>) -> Arc<[u8]> {
    let shared = value.as_ref().ok().and_then(|value| value.terms()?.original.bytes());
    shared.cloned().unwrap_or_else(|| model.to_protobuf().into())
}

/// Decodes items of the store, and returns them by key.
fn decoded(items: Vec<RawItem>) -> Vec<(Key, Item)> {
    let item = |raw: RawItem| (config_key(&raw.key), stored(&raw.key, &raw.value, raw.mod_revision));
    items.into_iter().map(item).collect()
}

/// Returns the key of an item of the store. If the key is not text, its readable parts are kept.
fn config_key(raw: &RawKey) -> Key {
    Key::from(format!("{CONFIG}{raw}"))
}

/// Decodes one value.
///
/// # Errors
/// Returns a [`Rejection`] if the value cannot be used.
pub fn decode(raw: &RawKey, key: &Key, value: &[u8]) -> Result<Value, Rejection> {
    usable(&decode_model(raw, key, value)?)
}

fn decode_model(raw: &RawKey, key: &Key, value: &[u8]) -> Result<Model, Rejection> {
    if raw.as_str().is_err() {
        return Err(invalid(
            "KeyNotText",
            "the key is not UTF-8 text; delete it and put the value under the key of its model".to_owned(),
            vec![],
        ));
    }
    Model::decode(key.as_str(), value).map_err(|error| invalid(error.reason, error.message, error.fields))
}

fn usable(model: &Model) -> Result<Value, Rejection> {
    model
        .validate()
        .map_err(|error| invalid(error.reason, error.message, error.fields))?;
    value_of(model)
}

fn invalid(reason: &'static str, message: String, fields: Vec<String>) -> Rejection {
    Rejection {
        state: ValueState::Invalid,
        reason,
        message,
        fields,
    }
}
