//! From store events to desired values.
//!
//! Owns decoding and validation on the way in. Must never let an unusable value pass in silence: it becomes a rejection under
//! its own key. Start reading at [`changes`].

use models::{Model, key::Key};

use crate::{
    descriptors::{convert::value_of, value::Value},
    scheduler::{Change, Rejection, ValueState},
    sources::etcd::{RawChange, RawItem, RawKey},
};

/// Keys in the store are below this, after the agent prefix.
pub const CONFIG: &str = "config/";

/// What changed, decoded. A key that is no text keeps its readable parts.
pub fn changes(items: Vec<RawChange>) -> Vec<Change<Value>> {
    items
        .into_iter()
        .map(|item| change(&item.key, item.mod_revision, item.value.as_deref()))
        .collect()
}

/// Everything that is desired, decoded.
pub fn snapshot(items: Vec<RawItem>) -> Vec<Change<Value>> {
    items
        .into_iter()
        .map(|item| change(&item.key, item.mod_revision, Some(&item.value)))
        .collect()
}

fn change(raw: &RawKey, revision: i64, value: Option<&[u8]>) -> Change<Value> {
    let key = Key::from(format!("{CONFIG}{raw}"));
    let value = value.map(|value| decode(raw, &key, value));
    Change { key, revision, value }
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
