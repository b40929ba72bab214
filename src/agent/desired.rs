//! From what sources tell to desired values.
//!
//! Owns decoding and validation on the way in, and the place where sources meet. Must never let an unusable value pass in silence:
//! it becomes a rejection under its own key, of the source that it comes from. Start reading at [`Desired`].

use std::sync::{
    Mutex, PoisonError,
    atomic::{AtomicBool, Ordering},
};

use models::{Model, key::Key};

use crate::{
    descriptors::{convert::value_of, value::Value},
    engine::Event,
    scheduler::{Change, Rejection, Resync, Retry, Transaction, ValueState},
    sources::{
        etcd::{RawChange, RawItem, RawKey},
        merge::{DATASYNC, Merge, Update},
    },
};

use super::AgentHandle;

/// Keys in the store are below this, after the agent prefix.
pub const CONFIG: &str = "config/";

/// What a source holds under a key. Large values are shared, so a clone costs little.
#[derive(Clone, PartialEq)]
struct Item {
    /// Revision of the store; 0 of other sources.
    revision: i64,
    value: Result<Value, Rejection>,
}

/// The desired state of all sources, on its way to the engine.
pub struct Desired {
    // A std mutex: held for map operations and the handing over, which never waits; so the engine hears of changes in their order.
    merge: Mutex<Merge<Item>>,
    /// All that is desired has been handed over once.
    begun: AtomicBool,
    handle: AgentHandle,
}

impl Desired {
    /// Nothing is desired until the store has been read.
    pub fn new(handle: AgentHandle) -> Self {
        Desired {
            merge: Mutex::new(Merge::new([DATASYNC], None)),
            begun: AtomicBool::new(false),
            handle,
        }
    }

    /// All that is in the store at a revision.
    pub fn stored(&self, revision: i64, items: Vec<RawItem>) {
        let decoded = items.into_iter().map(|raw| {
            let key = config_key(&raw.key);
            let value = decode(&raw.key, &key, &raw.value);
            let item = Item {
                revision: raw.mod_revision,
                value,
            };
            (key, item)
        });
        // Decoded before the lock is taken.
        let decoded: Vec<_> = decoded.collect();
        self.hand_over(revision, |merge| merge.replace(DATASYNC, decoded));
    }

    /// What changed in the store up to a revision.
    pub fn changed(&self, revision: i64, items: Vec<RawChange>) {
        let decoded = items.into_iter().map(|raw| {
            let key = config_key(&raw.key);
            let item = raw.value.map(|value| Item {
                revision: raw.mod_revision,
                value: decode(&raw.key, &key, &value),
            });
            (key, item)
        });
        let decoded: Vec<_> = decoded.collect();
        self.hand_over(revision, |merge| merge.change(DATASYNC, decoded));
    }

    /// `revision` is that of values that go away.
    fn hand_over(&self, revision: i64, merge: impl FnOnce(&mut Merge<Item>) -> Update<Item>) {
        let mut merged = self.merge.lock().unwrap_or_else(PoisonError::into_inner);
        let update = merge(&mut merged);
        if update.is_empty() {
            return;
        }
        let changes = update.changes.into_iter().map(|(key, item)| {
            let (revision, value) = item.map_or((revision, None), |item| (item.revision, Some(item.value)));
            Change { key, revision, value }
        });
        // Only at start can the kernel hold what nobody has told of; later, its changes are noticed.
        let resync = match update.full {
            true if self.begun.swap(true, Ordering::Relaxed) => Resync::Upstream,
            true => Resync::Full,
            false => Resync::None,
        };
        let mut transaction = Transaction::resync(resync, changes.collect());
        transaction.options.verbose = update.full;
        transaction.options.retry = Some(Retry::default());
        self.handle.send(Event::Desired { transaction, reply: None });
    }
}

/// The key of an item of the store. One that is no text keeps its readable parts.
fn config_key(raw: &RawKey) -> Key {
    Key::from(format!("{CONFIG}{raw}"))
}

/// One value, or why it cannot be used.
pub fn decode(raw: &RawKey, key: &Key, value: &[u8]) -> Result<Value, Rejection> {
    if raw.as_str().is_err() {
        return Err(invalid(
            "KeyNotText",
            "the key is not UTF-8 text; delete it and put the value under the key of its model".to_owned(),
            vec![],
        ));
    }
    let model = Model::decode(key.as_str(), value).map_err(|error| invalid(error.reason, error.message, Vec::new()))?;
    model
        .validate()
        .map_err(|error| invalid(error.reason, error.message, error.fields))?;
    value_of(&model)
}

fn invalid(reason: &'static str, message: String, fields: Vec<String>) -> Rejection {
    Rejection {
        state: ValueState::Invalid,
        reason,
        message,
        fields,
    }
}
