//! Decodes, validates and merges the desired values of all sources, and submits the result to the engine.
//!
//! An invalid value is recorded as a rejection under its key and still belongs to its source. A client's request is saved to disk before it is
//! applied. The only exception is a request that requires confirmation, which is saved when it is confirmed. [`Desired`] is the entry point.

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
use tracing::warn;

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
pub use undo::{Confirmation, ConfirmationError, UnconfirmedChange};

/// Status reason of a value that waits until duplicate address detection has finished.
pub const TENTATIVE: &str = "AddressTentative";
/// Maximum time that an atomic request waits for duplicate address detection.
///
/// With the kernel's default settings, duplicate address detection takes up to two seconds.
const DETECTION_LIMIT: Duration = Duration::from_secs(10);

/// Prefix of configuration keys in the store, relative to the agent prefix.
pub const CONFIG: &str = "config/";

/// Value that one source provides for a key. It is cheap to clone, because the large fields are shared.
#[derive(Clone, PartialEq)]
struct Item {
    /// Store revision at which the value was put; 0 if the value does not come from the store.
    revision: i64,
    /// Number of the client request that put the value; 0 if the source is not a client. Each request has a different number, so
    /// putting the same value again counts as a change.
    request: u64,
    value: Result<Value, Rejection>,
    /// Protobuf encoding of the value; `None` if the value cannot be decoded.
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
    /// True if the request also deletes all values of the source with keys that are not in `changes`.
    pub replace: bool,
    /// Keys with their new values; `None` deletes the value of the key. If a key occurs twice, the last change wins.
    pub changes: Vec<(Key, Option<ClientItem>)>,
    /// If true, all changes are rolled back if one of them fails.
    pub atomic: bool,
    /// Time within which the client must confirm the request; `None` if no confirmation is required. If the client does not
    /// confirm in time, or the agent restarts first, the request is rolled back.
    pub confirm_within: Option<Duration>,
    /// Description shown in the transaction history.
    pub description: String,
}

impl ClientRequest {
    /// Creates a request that changes values of a source, with default options.
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

    /// Returns true if the request may have to be rolled back, so the previous values must be kept.
    fn may_be_rolled_back(&self) -> bool {
        self.atomic || self.confirm_within.is_some()
    }

    /// Returns the last change of each key. `number` is the number of the request.
    fn items(&self, number: u64) -> BTreeMap<Key, Option<Item>> {
        let item = |item: &ClientItem| Item::of(&item.model, number, &item.labels);
        let items = self.changes.iter().map(|(key, value)| (key.clone(), value.as_ref().map(item)));
        items.collect()
    }
}

/// Result of a client's request.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Committed {
    /// The request was applied. The result lists the values that failed, which the agent retries.
    Applied(TransactionResult),
    /// The request was applied, but the client must still confirm it. The confirmation must contain the sequence number of the
    /// transaction.
    Unconfirmed(TransactionResult),
    /// The request was saved, but the store has not been read yet. The agent will apply the request together with the values of
    /// the store.
    Kept,
}

/// Reason why a client's request was not accepted.
#[derive(Debug, thiserror::Error)]
pub enum RequestError {
    /// The request was not applied, because it could not be saved to disk.
    #[error("request not accepted: {0}")]
    NotKept(#[from] ClientStoreError),
    /// The source name is empty, or reserved for a source that is not a client, such as the store.
    #[error("source {0:?} is reserved; omit the name, or choose another name")]
    ReservedSource(String),
    /// The request may have to be rolled back, which is not possible before the agent has read the store.
    #[error(
        "the agent has not read the store yet, so it cannot apply a change with rollback; retry later, or omit atomic and confirm-within"
    )]
    TooEarly,
    /// The engine rejected the request or has stopped.
    #[error(transparent)]
    NotCommitted(#[from] CommitError),
}

/// Desired value that is in effect for a key.
#[derive(Clone, PartialEq, Debug)]
pub struct DesiredItem {
    /// Key without the agent prefix.
    pub key: Key,
    /// Name of the source that provides the value.
    pub source: String,
    /// The value; `None` if it cannot be decoded.
    pub model: Option<Model>,
    /// Labels that the client assigned to the value; empty for other sources.
    pub labels: Labels,
}

/// Waits for results that the kernel reports some time after the operation, such as the result of duplicate address detection.
pub trait Verdicts: Send + Sync {
    /// Waits until the kernel has reported a result for each of these keys.
    ///
    /// Returns each key with the error of its value, or with `None` if the value has not failed.
    fn of(&self, keys: Vec<Key>) -> BoxFuture<'static, Vec<(Key, Option<KeyError>)>>;
}

/// The merged desired state of all sources. Every change is submitted to the engine.
pub struct Desired {
    // A std mutex suffices, because it is never locked across an await. Changes are submitted to the engine under the lock, so they stay in
    // order.
    merge: Mutex<Merge<Item>>,
    /// Locked while a client's request is saved and submitted, so that requests are applied in the order in which they are saved. This is a tokio
    /// mutex, because saving waits for the disk.
    clients: tokio::sync::Mutex<Arc<ClientStore>>,
    requests: AtomicU64,
    confirmations: Confirmations,
    /// Keys in the store that belong to no model.
    foreign: Mutex<Foreign>,
    /// Removals that are on hold because the store may have lost its contents.
    held: watch::Sender<Held>,
    /// True once the complete desired state has been submitted.
    begun: AtomicBool,
    engine: Client<Network>,
    verdicts: Arc<dyn Verdicts>,
}

impl Desired {
    /// Creates the desired state with the client values saved in `data_dir`.
    ///
    /// Nothing is submitted to the engine until the store has been read.
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

    /// Replaces all values that come from the store with the complete contents of the store at a revision.
    pub fn stored(&self, revision: i64, items: Vec<RawItem>) {
        // Decoding is slow, so it is done before the lock is taken.
        let decoded = decoded(self.without_foreign(items));
        self.hand_over(revision, |merge| merge.stored(decoded));
        self.note_put_again();
    }

    /// Records the foreign keys in a listing of the store. Returns the listing without the foreign keys that do not get a status.
    fn without_foreign(&self, mut items: Vec<RawItem>) -> Vec<RawItem> {
        let mut foreign = self.foreign.lock().unwrap_or_else(PoisonError::into_inner);
        foreign.clear();
        items.retain(|item| foreign.admits(&item.key, true));
        foreign.log();
        items
    }

    /// Processes the changes of the store up to and including a revision.
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
        self.hand_over(revision, |merge| {
            let put = decoded.iter().filter(|(_, item)| item.is_some()).map(|(key, _)| key);
            let overridden = merge.overridden(DATASYNC, put);
            if let Some((key, source)) = overridden.first() {
                let count = overridden.len();
                warn!(count, %key, source, "values from the store are not used, because another source has values under the same keys");
            }
            merge.store_changed(decoded)
        });
        self.note_put_again();
    }

    /// Replaces all values of the source "configuration file".
    pub fn in_file(&self, items: &[document::Item]) {
        let items = items
            .iter()
            .map(|item| (item.model.key(), Item::of(&item.model, 0, &Labels::new())));
        let items: Vec<_> = items.collect();
        self.hand_over(0, |merge| merge.replace(CONFIG_FILE, items));
    }

    /// Saves a client's request and applies it.
    ///
    /// Returns when all operations of the request have completed. If the caller stops waiting, the request continues.
    ///
    /// # Errors
    /// Fails if the request was not accepted or the engine has stopped. A value that cannot be applied is not an error; the
    /// result lists it.
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
        if request.may_be_rolled_back() && !self.begun.load(Ordering::Relaxed) {
            return Err(RequestError::TooEarly);
        }
        let clients = self.clients.lock().await;
        if request.confirm_within.is_none() {
            self.keep(&clients, &request).await?;
        }
        let number = self.next_number();
        let undo = request.may_be_rolled_back().then(|| self.undo_of(&request, number));
        let Some(transaction) = self.transaction_of(&request, number) else {
            return Ok(Committed::Kept);
        };
        let Some(undo) = undo else {
            // Later requests need not wait until this request is applied, because the engine applies requests in order.
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
            // The engine has rolled back the changes in the kernel. The desired values must be restored as well.
            self.roll_back(&clients, undo, result.seq).await?;
            return Ok(Committed::Applied(result));
        }
        drop(clients);
        if self.fails_later(&mut result).await {
            let clients = self.clients.lock().await;
            self.roll_back(&clients, undo, result.seq).await?;
            result.reverted = true;
            return Ok(Committed::Applied(result));
        }
        Ok(self.await_confirmation(request, result, undo))
    }

    /// Waits for duplicate address detection and adds its outcome to the result.
    ///
    /// Returns true if a value has failed.
    async fn fails_later(&self, result: &mut TransactionResult) -> bool {
        let undecided = result.waiting.iter().filter(|wait| wait.reason == TENTATIVE);
        let undecided: Vec<Key> = undecided.map(|wait| wait.key.clone()).collect();
        if undecided.is_empty() {
            return false;
        }
        // On a link without carrier, duplicate address detection never finishes.
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
        // The task is cancelled only when the program ends. The request may then not be on disk, so it must not be applied.
        Ok(kept.await.map_err(|_| CommitError::Closed)??)
    }

    /// Submits a request to the engine. Returns `None` if the store has not been read yet.
    fn transaction_of(
        &self,
        request: &ClientRequest,
        number: u64,
    ) -> Option<impl Future<Output = Result<TransactionResult, CommitError>> + use<>> {
        let changes = request.items(number);
        let mut merged = self.merge.lock().unwrap_or_else(PoisonError::into_inner);
        let update = match request.replace {
            true => merged.replace(&request.source, changes.into_iter().filter_map(|(key, item)| Some((key, item?)))),
            false => merged.change(&request.source, changes),
        };
        if !self.begun.load(Ordering::Relaxed) {
            return None;
        }
        // The transaction is submitted while the lock is held, so that changes stay in order. The caller awaits the result
        // without the lock.
        Some(self.engine.begin(Transaction {
            changes: changes_of(update, 0),
            options: options_of(request),
        }))
    }

    /// Returns the operations that a request would cause, without performing them.
    ///
    /// The plan uses a request number that no real request has. As in a real request, putting an unchanged value therefore counts as a change.
    ///
    /// # Errors
    /// Fails if the engine has stopped.
    pub async fn plan(&self, request: &ClientRequest) -> Result<Vec<Planned<Value>>, CommitError> {
        let named = request.items(u64::MAX);
        let mut changes: Vec<Change<Value>> = Vec::new();
        {
            let merged = self.merge.lock().unwrap_or_else(PoisonError::into_inner);
            let mut add = |key: &Key, item: Option<&Item>| {
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
            named.iter().for_each(|(key, item)| add(key, item.as_ref()));
            let held = merged.held_by(&request.source).map(|(key, _)| key);
            held.filter(|key| request.replace && !named.contains_key(*key))
                .for_each(|key| add(key, None));
        }
        self.engine.simulate(Transaction::of(changes)).await
    }

    /// Returns the names of the sources that have a value for a key. The value of the first source is in effect.
    pub fn sources_of(&self, key: &Key) -> Vec<String> {
        let merged = self.merge.lock().unwrap_or_else(PoisonError::into_inner);
        merged.holders(key).map(|(source, _)| source.to_owned()).collect()
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

    /// Merges an update of a source and submits the resulting changes. `revision` is the store revision to record for deletions.
    fn hand_over(&self, revision: i64, merge: impl FnOnce(&mut Merge<Item>) -> Update<Item>) {
        let mut merged = self.merge.lock().unwrap_or_else(PoisonError::into_inner);
        let mut update = merge(&mut merged);
        if update.is_empty() {
            return;
        }
        if update.full {
            self.begun.store(true, Ordering::Relaxed);
        } else if self.begun.load(Ordering::Relaxed) && !self.held.borrow().orphans.is_empty() {
            // A value can be put again while its old kernel object still exists as a held orphan. A full transaction makes the agent find this
            // object instead of creating a new one.
            update = merged.everything();
        }
        let full = update.full;
        // A partial update needs no resync, because the agent has already read the objects in the kernel and tracks changes to them.
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

/// Decodes a value that was read from the store.
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

/// Returns the protobuf encoding of a model. Shares the bytes with `value` if `value` contains them.
fn encoded(model: &Model, value: &Result<Value, Rejection>) -> Arc<[u8]> {
    let shared = value.as_ref().ok().and_then(|value| value.terms()?.original.bytes());
    shared.cloned().unwrap_or_else(|| model.to_protobuf().into())
}

/// Decodes values that were read from the store, and returns them with their keys.
fn decoded(items: Vec<RawItem>) -> Vec<(Key, Item)> {
    let item = |raw: RawItem| (config_key(&raw.key), stored(&raw.key, &raw.value, raw.mod_revision));
    items.into_iter().map(item).collect()
}

/// Returns the configuration key for a key in the store. Bytes that are not UTF-8 are escaped.
fn config_key(raw: &RawKey) -> Key {
    Key::from(format!("{CONFIG}{raw}"))
}

/// Decodes and validates one value from the store.
///
/// # Errors
/// Returns a [`Rejection`] if the key or the value is invalid.
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
