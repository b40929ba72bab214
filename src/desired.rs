//! From what sources tell to desired values.
//!
//! Owns decoding and validation on the way in, and the place where sources meet. Must never let an unusable value pass in silence:
//! it becomes a rejection under its own key, of the source that it comes from; and never act upon what a client asked for before that
//! is on disk. Start reading at [`Desired`].

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

/// Reason of a value that waits for the end of a search for duplicate addresses.
pub const TENTATIVE: &str = "AddressTentative";
/// How long an atomic request waits for that. The kernel needs two seconds, unless it was told otherwise.
const DETECTION_LIMIT: Duration = Duration::from_secs(10);

/// Keys in the store are below this, after the agent prefix.
pub const CONFIG: &str = "config/";

/// What a source holds under a key. Large values are shared, so a clone costs little.
#[derive(Clone, PartialEq)]
struct Item {
    /// Revision of the store; 0 of other sources.
    revision: i64,
    /// Of a client's: number of the request, so that asking again for the same counts as asking anew.
    request: u64,
    value: Result<Value, Rejection>,
    /// The message in binary form; `None` of one that cannot be decoded.
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

/// Changes that a client asks for.
#[derive(Clone, Debug)]
pub struct ClientRequest {
    /// Name of the client's source; those of other sources keep theirs.
    pub source: String,
    /// The source asks for nothing but what is named here.
    pub replace: bool,
    /// Values under their keys; `None` lets go of one. Of two with one key the last counts.
    pub changes: Vec<(Key, Option<ClientItem>)>,
    /// Nothing of it is to stay when a part of it fails.
    pub atomic: bool,
    /// It is taken back unless it is confirmed within this time; until then it is not kept over a restart.
    pub confirm_within: Option<Duration>,
    /// Text for the record of the transaction.
    pub description: String,
}

impl ClientRequest {
    /// Changes of what a source asks for, and nothing more.
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

    /// Whether what was asked for before may have to come back.
    fn may_be_taken_back(&self) -> bool {
        self.atomic || self.confirm_within.is_some()
    }
}

/// What came of a client's request.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Committed {
    /// It was applied; what failed is in the result, and is tried again.
    Applied(TransactionResult),
    /// As [`Self::Applied`], and is to be confirmed by this number.
    Unconfirmed(TransactionResult, u64),
    /// It is kept, and will be applied with all the rest as soon as the store has been read.
    Kept,
}

/// Why a client's request was not taken.
#[derive(Debug, thiserror::Error)]
pub enum RequestError {
    /// It could not be kept, so it was not applied either.
    #[error("the request was not taken: {0}")]
    NotKept(#[from] ClientStoreError),
    /// The name of the source belongs to one that is no client.
    #[error("the source {0:?} is not one of clients; leave the name out, or choose another")]
    ReservedSource(String),
    /// It is to be taken back if need be, and nothing can be applied yet.
    #[error(
        "the store has not been read yet, so nothing can be applied and taken back: ask again later, or without atomic and confirm-within"
    )]
    TooEarly,
    /// The engine refused it or has ended.
    #[error(transparent)]
    NotCommitted(#[from] CommitError),
}

/// A value that applies.
#[derive(Clone, PartialEq, Debug)]
pub struct DesiredItem {
    /// Key without the agent prefix.
    pub key: Key,
    /// The source that it comes from.
    pub source: String,
    /// The value; `None` if it cannot be decoded.
    pub model: Option<Model>,
    /// Labels that the client gave it.
    pub labels: Labels,
}

/// What becomes of values that wait for the kernel, such as for the end of a search for duplicate addresses.
pub trait Verdicts: Send + Sync {
    /// Waits until none of these values waits for the kernel any more. Returns each with its error, if it has failed.
    fn of(&self, keys: Vec<Key>) -> BoxFuture<'static, Vec<(Key, Option<KeyError>)>>;
}

/// The desired state of all sources, on its way to the engine.
pub struct Desired {
    // A std mutex: held for map operations and the handing over, which never waits; so the engine hears of changes in their order.
    merge: Mutex<Merge<Item>>,
    /// Held while a client's request is kept and handed over, so that both happen in the same order. It waits for the disk.
    clients: tokio::sync::Mutex<Arc<ClientStore>>,
    requests: AtomicU64,
    confirmations: Confirmations,
    /// Keys of the store that belong to no model.
    foreign: Mutex<Foreign>,
    /// Removals that are held.
    held: watch::Sender<Held>,
    /// All that is desired has been handed over once.
    begun: AtomicBool,
    engine: Client<Network>,
    verdicts: Arc<dyn Verdicts>,
}

impl Desired {
    /// Nothing is handed over until the store has been read; what clients asked for before a restart is read from `data_dir`.
    ///
    /// # Errors
    /// What they asked for cannot be read.
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

    /// All that is in the store at a revision.
    pub fn stored(&self, revision: i64, items: Vec<RawItem>) {
        // Decoded before the lock is taken.
        let decoded = decoded(self.without_foreign(items));
        self.hand_over(revision, |merge| merge.stored(decoded));
        self.note_put_again();
    }

    /// The items of a listing without those foreign keys that get no status.
    fn without_foreign(&self, mut items: Vec<RawItem>) -> Vec<RawItem> {
        let mut foreign = self.foreign.lock().unwrap_or_else(PoisonError::into_inner);
        foreign.clear();
        items.retain(|item| foreign.admits(&item.key, true));
        foreign.log();
        items
    }

    /// What changed in the store up to a revision.
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

    /// All that is in the configuration file.
    pub fn in_file(&self, items: &[document::Item]) {
        let items = items
            .iter()
            .map(|item| (item.model.key(), Item::of(&item.model, 0, &Labels::new())));
        let items: Vec<_> = items.collect();
        self.hand_over(0, |merge| merge.replace(CONFIG_FILE, items));
    }

    /// Takes changes of a client: they are kept, then applied. Ends when nothing of them is left to do; goes on although nobody waits.
    ///
    /// # Errors
    /// Nothing of it was taken. What fails of a request that was taken is in the result.
    pub async fn commit(self: &Arc<Self>, request: ClientRequest) -> Result<Committed, RequestError> {
        let desired = self.clone();
        let done = tokio::spawn(desired.take(request));
        // Ends early only when the program does.
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
            // Others need not wait until it is applied; the engine has the order.
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
            // The engine has gone back; so does what is asked for.
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

    /// Waits for the kernel's verdict on the values of a transaction, and adds it to the result. Returns whether a value has failed.
    async fn fails_later(&self, result: &mut TransactionResult) -> bool {
        let undecided = result.waiting.iter().filter(|wait| wait.reason == TENTATIVE);
        let undecided: Vec<Key> = undecided.map(|wait| wait.key.clone()).collect();
        if undecided.is_empty() {
            return false;
        }
        // A link without a carrier has no detection, and so no verdict.
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
        // It ends early only when the program does; what is not on disk must not be applied.
        Ok(kept.await.map_err(|_| CommitError::Closed)??)
    }

    /// Hands a request over; `None` as long as nothing is acted upon.
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
        // Sent at once, and so in the order of the lock; only the answer is waited for outside.
        Some(self.engine.begin(Transaction {
            changes: changes_of(update, 0),
            options: options_of(request),
        }))
    }

    /// What a request would do; nothing is done. A number that is given to no request stands for it.
    ///
    /// # Errors
    /// The engine has ended.
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

    /// Everything that applies, in key order.
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

    /// `revision` is that of values that go away.
    fn hand_over(&self, revision: i64, merge: impl FnOnce(&mut Merge<Item>) -> Update<Item>) {
        let mut merged = self.merge.lock().unwrap_or_else(PoisonError::into_inner);
        let mut update = merge(&mut merged);
        if update.is_empty() {
            return;
        }
        if update.full {
            self.begun.store(true, Ordering::Relaxed);
        } else if self.begun.load(Ordering::Relaxed) && !self.held.borrow().orphans.is_empty() {
            // A value that is put again may be a held orphan: it is to be found, and not created a second time.
            update = merged.everything();
        }
        let full = update.full;
        // Otherwise the kernel contains nothing that is not known; its changes are noticed.
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

/// An item of the store.
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

/// Items of the store under their keys.
fn decoded(items: Vec<RawItem>) -> Vec<(Key, Item)> {
    let item = |raw: RawItem| (config_key(&raw.key), stored(&raw.key, &raw.value, raw.mod_revision));
    items.into_iter().map(item).collect()
}

/// The key of an item of the store. One that is no text keeps its readable parts.
fn config_key(raw: &RawKey) -> Key {
    Key::from(format!("{CONFIG}{raw}"))
}

/// One value, or why it cannot be used.
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
